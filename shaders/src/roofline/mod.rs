//! Kernels that find an adapter's limits: what no kernel of a network can beat, and so the measure of each.

crate::kernels! {
    copy,
    multiply_add,
    packed_dot,
    read,
}

/// The kernels of this family, for checking them before they measure.
pub fn entries() -> &'static [crate::Entry] {
    FAMILY
}

/// Refuses what the kernels here do not take: anything but one tensor in `format`, not empty, with rows in fours.
pub(super) fn require(
    kernel: &'static str,
    inputs: &[crate::Desc],
    format: crate::Format,
) -> Result<(), crate::ShapeError> {
    match inputs {
        [x] if x.format == format && !x.is_empty() && x.last().is_multiple_of(4) => Ok(()),
        [x] => {
            let expected = format!("a tensor in {} with a last extent of a multiple of four", format.label());
            Err(crate::ShapeError::Input { kernel, position: 0, expected, found: x.clone() })
        }
        _ => Err(crate::ShapeError::Count { kernel, expected: "one tensor", found: inputs.len() }),
    }
}

/// Refuses a number of rounds that the unrolled loops cannot make.
pub(super) fn require_rounds(kernel: &'static str, rounds: u32, unroll: u32) -> Result<(), crate::ShapeError> {
    if rounds.is_multiple_of(unroll) {
        return Ok(());
    }
    let reason = format!("{rounds} rounds cannot be made {unroll} at a time; give a multiple");
    Err(crate::ShapeError::Parameter { kernel, reason })
}

#[cfg(test)]
mod tests {
    use crate::{Desc, HostTensor, Kernel, Noise};

    #[test]
    fn the_closed_form_is_the_chain() {
        let kernel = super::MultiplyAdd { rounds: 48 };
        let x = HostTensor::from_values(Desc::f32([4]), &[-1.0, 0.25, 0.5, 1.0]);
        let found = kernel.reference(&[&x], std::slice::from_ref(&x.desc))[0].values();
        for (x, found) in [-1.0f64, 0.25, 0.5, 1.0].into_iter().zip(found) {
            let chain = |mut v: f64| {
                for _ in 0..48 {
                    v = v * (1023.0 / 1024.0) + 1.0 / 1024.0;
                }
                v
            };
            let expected = chain(x) + chain(x + 0.125) + chain(x + 0.25);
            assert!((f64::from(found) - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }

    #[test]
    fn one_round_of_packed_products_by_hand() {
        // Bytes 1, 2, 3, 4 (lowest first) and their shifts by one, two, .. times the weights -127, 127, -1, 1.
        let kernel = super::PackedDot { rounds: 8 };
        let desc = Desc::new(crate::Format::Word, [4]);
        let x = HostTensor::from_words(desc.clone(), vec![0x0403_0201, 0, 5, u32::MAX]);
        let found = kernel.reference(&[&x], &[desc])[0].words.clone();
        let chain = |mut v: u32| {
            for _ in 0..8 {
                let bytes = v.to_le_bytes().map(|b| i32::from(b as i8));
                let dot = -127 * bytes[0] + 127 * bytes[1] - bytes[2] + bytes[3];
                v = v.wrapping_add(dot as u32);
            }
            v
        };
        for (start, found) in x.words.iter().zip(found) {
            let all = (0..8u32).map(|t| chain(start.wrapping_add(t * 0x0101_0101)));
            assert_eq!(found, all.reduce(|a, b| a ^ b).unwrap());
        }
    }

    #[test]
    fn the_sums_hold_every_value_once() {
        let kernel = super::ReadRows;
        let desc = Desc::f32([1, 16_400]);
        let mut noise = Noise::new(7);
        let values: Vec<f32> = (0..desc.len()).map(|_| noise.real(0.0, 1.0)).collect();
        let x = HostTensor::from_values(desc.clone(), &values);
        let outputs = kernel.outputs(&[desc]).unwrap();
        let sums = kernel.reference(&[&x], &outputs)[0].values();
        let (all, found) = (values.iter().map(|v| f64::from(*v)), sums.iter().map(|v| f64::from(*v)));
        let (all, found): (f64, f64) = (all.sum(), found.sum());
        assert!((all - found).abs() < 1e-2, "{found} for {all}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(super::CopyRows.outputs(&[Desc::f32([0])]).is_err());
        assert!(super::ReadRows.outputs(&[Desc::f32([3])]).is_err());
        assert!(super::MultiplyAdd { rounds: 17 }.outputs(&[Desc::f32([4])]).is_err());
        assert!(super::PackedDot { rounds: 8 }.outputs(&[Desc::f32([4])]).is_err());
    }
}
