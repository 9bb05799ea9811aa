//! Global pooling: what stands between the last feature map and the classifier.

use crate::{
    Call, Caps, Case, Desc, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, parallel,
    traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::GLOBAL_POOL;

/// What is kept of all pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The largest value.
    Max,
}

impl Pooling {
    /// The name in plans and of the variant.
    pub fn label(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Max => "max",
        }
    }
}

/// `y[image, 0, 0, c] = mean or max over h, w of x[image, h, w, c]`
///
/// Input: `[images, h, w, c]` as F32 or F16. Output: `[images, 1, 1, c]` stored as the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GlobalPool {
    /// What is kept.
    pub pooling: Pooling,
    /// What the sum of a mean is divided by, when that is not `h * w`: inputs that are sums over several pixels already, as a
    /// pooling epilogue writes them, need the number of pixels. Without meaning for a maximum.
    pub pixels: Option<usize>,
}

impl Kernel for GlobalPool {
    fn name(&self) -> &'static str {
        "global_pool"
    }

    fn summary(&self) -> String {
        match self.pixels {
            Some(pixels) => format!("{} of {pixels}", self.pooling.label()),
            None => self.pooling.label().to_owned(),
        }
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "one activation", found: inputs.len() });
        };
        match (x.nhwc(), x.format) {
            (Some(_), Format::F32 | Format::F16) if !x.is_empty() => {}
            _ => {
                let expected = "an activation [images, height, width, channels] in f32 or f16, not empty".to_owned();
                return Err(ShapeError::Input { kernel, position: 0, expected, found: x.clone() });
            }
        }
        if self.pixels == Some(0) {
            return Err(ShapeError::Parameter { kernel, reason: "a mean of 0 pixels does not exist".into() });
        }
        Ok(vec![Desc::new(x.format, [x.shape[0], 1, 1, x.last()])])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software { "sweep" } else { "portable" };
        let choices = [("path", path), ("op", self.pooling.label()), ("storage", call.inputs[0].format.label())];
        fitting(SOURCES, &choices, caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let x = &call.inputs[0];
        let pixels = x.rows() / x.shape[0].max(1);
        let weight = (1.0 / self.pixels.unwrap_or(pixels) as f64) as f32;
        let c4 = x.last().div_ceil(4) as u32;
        let grid = [c4.div_ceil(source.number("CW")), x.shape[0] as u32, 1];
        Launch::new(call, vec![c4, pixels as u32, weight.to_bits()], grid)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, c) = (inputs[0].values(), outputs[0].last());
        let pixels = inputs[0].desc.rows() / outputs[0].shape[0];
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, c, |image, row| {
            for (channel, out) in row.iter_mut().enumerate() {
                let values = (0..pixels).map(|p| f64::from(x[(image * pixels + p) * c + channel]));
                *out = match self.pooling {
                    Pooling::Mean => values.sum::<f64>() / self.pixels.unwrap_or(pixels) as f64,
                    Pooling::Max => values.fold(f64::NEG_INFINITY, f64::max),
                } as f32;
            }
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        match self.pooling {
            Pooling::Mean => Tolerance::of_sum(call.inputs[0].rows() / call.inputs[0].shape[0], call.outputs[0].format),
            Pooling::Max => Tolerance::EXACT,
        }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Pixels below, on and off the slices, channels round the columns, and the last feature maps of the MobileNets.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, kernel: GlobalPool, format: Format, shape: [usize; 4]| {
        let [images, h, w, c] = shape;
        let label = format!("{images}x{h}x{w}x{c}.{}.{}", format.label(), kernel.summary().replace(' ', "_"));
        cases.push(Case::noise(label, tier, kernel, vec![Desc::new(format, shape)]));
    };
    let mean = GlobalPool::default();
    let max = GlobalPool { pooling: Pooling::Max, pixels: None };
    for format in [Format::F32, Format::F16] {
        for kernel in [mean, max] {
            add(Tier::Short, kernel, format, [2, 5, 7, 37]);
            for [h, w] in [[1, 1], [1, 31], [4, 8], [3, 11], [8, 9], [13, 17]] {
                add(Tier::Full, kernel, format, [1, h, w, 20]);
            }
            for c in [1, 3, 4, 31, 32, 33, 67] {
                add(Tier::Full, kernel, format, [3, 3, 3, c]);
            }
        }
        add(Tier::Short, GlobalPool { pixels: Some(196), ..mean }, format, [1, 4, 1, 24]);
        for [side, c] in [[7, 1280], [7, 576], [7, 960], [112, 16]] {
            add(Tier::Model, mean, format, [1, side, side, c]);
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_a_hand_computed_image() {
        let x = HostTensor::from_values(Desc::f32([1, 2, 2, 2]), &[1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0]);
        let y = Desc::f32([1, 1, 1, 2]);
        let of = |kernel: GlobalPool| kernel.reference(&[&x], std::slice::from_ref(&y))[0].values();
        assert_eq!(of(GlobalPool::default()), [3.0, -3.0]);
        assert_eq!(of(GlobalPool { pixels: Some(12), ..GlobalPool::default() }), [1.0, -1.0]);
        assert_eq!(of(GlobalPool { pooling: Pooling::Max, pixels: None }), [6.0, -1.0]);
    }
}
