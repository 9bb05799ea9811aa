//! A list of which up to two lie in line, so that what is mostly one or two of takes no memory of its own in every frame.

use std::ops::Deref;

/// Some of `T`, in their order.
#[derive(Debug)]
pub(super) enum Few<T> {
    None,
    One([T; 1]),
    Two([T; 2]),
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub(super) fn push(&mut self, item: T) {
        *self = match std::mem::replace(self, Few::None) {
            Few::None => Few::One([item]),
            Few::One([first]) => Few::Two([first, item]),
            Few::Two([first, second]) => Few::Many(vec![first, second, item]),
            Few::Many(mut all) => {
                all.push(item);
                Few::Many(all)
            }
        };
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Few::None => &[],
            Few::One(all) => all,
            Few::Two(all) => all,
            Few::Many(all) => all,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Few<T> {
        let mut few = Few::None;
        items.into_iter().for_each(|item| few.push(item));
        few
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_stay_in_their_order() {
        for count in 0..6 {
            let few: Few<usize> = (0..count).collect();
            assert!(few.iter().copied().eq(0..count));
            assert_eq!(matches!(few, Few::Many(_)), count > 2, "two of them take no memory");
        }
    }
}
