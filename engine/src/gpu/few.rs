//! A list of which up to two lie in line, so that what is mostly one or two of takes no memory of its own in every frame.

use std::ops::Deref;

/// Some of `T`, in their order.
#[derive(Debug, Clone)]
pub enum Few<T> {
    /// None of them.
    None,
    /// One, in line.
    One([T; 1]),
    /// Two, in line.
    Two([T; 2]),
    /// Any number, elsewhere.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Adds one behind the others.
    pub fn push(&mut self, item: T) {
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

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Few<T>) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T> From<Vec<T>> for Few<T> {
    fn from(all: Vec<T>) -> Few<T> {
        Few::Many(all)
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Few<T> {
        let mut few = Few::None;
        items.into_iter().for_each(|item| few.push(item));
        few
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::iter::Flatten<std::array::IntoIter<Option<T>, 2>>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (in_line, elsewhere) = match self {
            Few::None => ([None, None], Vec::new()),
            Few::One([first]) => ([Some(first), None], Vec::new()),
            Few::Two([first, second]) => ([Some(first), Some(second)], Vec::new()),
            Few::Many(all) => ([None, None], all),
        };
        in_line.into_iter().flatten().chain(elsewhere)
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
            let all: Vec<usize> = (0..count).collect();
            assert_eq!(few, Few::from(all.clone()), "equal wherever they lie");
            assert!(few.into_iter().eq(all));
        }
    }
}
