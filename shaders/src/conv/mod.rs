//! Convolutions of image networks.

mod padding;

pub use padding::Padding;

use crate::{Desc, Fill, Format, Noise};

crate::kernels! {
    conv,
    depthwise,
    depthwise_pointwise,
    pointwise,
    stem,
}

/// The option of the `storage` axis for activations stored as `values` and weights in rows stored as `weights`, when
/// they go together.
pub(crate) fn rows_choice(values: Format, weights: Format) -> Option<&'static str> {
    match (values, weights) {
        (Format::F32, Format::F32) => Some("f32"),
        (Format::F16, Format::F32) => Some("f16"),
        (Format::F32, Format::I8) => Some("i8"),
        _ => None,
    }
}

/// The affine input of a case: biases, and for weights in bytes the scales that bring them back to about one.
pub(crate) fn affine_of(weights: Format, channels: usize) -> (Desc, Fill) {
    if !matches!(weights, Format::I8 | Format::MatrixI8) {
        return (Desc::f32([1, channels]), Fill::Noise);
    }
    let mut noise = Noise::new(channels as u64);
    let mut values: Vec<f32> = (0..channels).map(|_| noise.real(-1.0, 1.0)).collect();
    values.extend((0..channels).map(|_| noise.real(0.5, 1.5) / 127.0));
    (Desc::f32([2, channels]), Fill::Values(values))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_variant_that_runs_anywhere() {
        for entry in super::FAMILY {
            let mut labels = HashSet::new();
            for case in (entry.cases)() {
                let (inputs, outputs) = (case.descs(), case.outputs().unwrap());
                let call = crate::Call { inputs: &inputs, outputs: &outputs };
                assert!(!case.kernel.candidates(&call, &crate::Caps::WEBGPU_DEFAULT).is_empty(), "{}", case.label);
                assert!(labels.insert(case.label.clone()), "{}: {} twice", entry.name, case.label);
            }
        }
    }
}
