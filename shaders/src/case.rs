//! Cases are data beside the kernel: the device test, doctor and the benches all read the same list.

use crate::kernel::{Kernel, ShapeError};
use crate::panel::{Code, Value};
use crate::tensor::{Desc, Format, HostTensor};
use std::sync::Arc;

/// What an input of a case is filled with.
#[derive(Debug, Clone)]
pub enum Fill {
    /// Reals drawn evenly from `-1 ..= 1`; whole numbers from `-127 ..= 127` for byte formats, of all that a panel's code has; any
    /// pixel.
    Noise,
    /// Reals drawn evenly from the range; whole numbers of a panel as with noise, but for exponents.
    Range(f32, f32),
    /// Exactly these logical values.
    Values(Vec<f32>),
    /// Exactly these words.
    Words(Vec<u32>),
}

/// When a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// On every run and in the default `doctor`: small, and one of each kind.
    Short,
    /// In the full run: sizes below, on and off the workgroup, primes.
    Full,
    /// A real model's shape: in the full run, and a row of the benches.
    Model,
}

/// One use of a kernel, with inputs that can be made again anywhere.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name among the kernel's cases.
    pub label: String,
    /// The kernel with its parameters.
    pub kernel: Arc<dyn Kernel>,
    /// Shape and contents of each input.
    pub inputs: Vec<(Desc, Fill)>,
    /// When it runs.
    pub tier: Tier,
}

impl Case {
    /// A case whose inputs are all noise.
    pub fn noise(label: impl Into<String>, tier: Tier, kernel: impl Kernel, inputs: Vec<Desc>) -> Case {
        let inputs = inputs.into_iter().map(|desc| (desc, Fill::Noise)).collect();
        Case { label: label.into(), kernel: Arc::new(kernel), inputs, tier }
    }

    /// The inputs' descriptions.
    pub fn descs(&self) -> Vec<Desc> {
        self.inputs.iter().map(|(desc, _)| desc.clone()).collect()
    }

    /// The input tensors; the same every time.
    pub fn tensors(&self) -> Vec<HostTensor> {
        let seed = self
            .label
            .bytes()
            .fold(0x9E37_79B9_7F4A_7C15, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
        self.inputs
            .iter()
            .enumerate()
            .map(|(i, (desc, fill))| filled(desc, fill, seed.wrapping_add(i as u64 * 0x1234_5678_9ABC)))
            .collect()
    }

    /// The outputs' descriptions.
    ///
    /// # Errors
    /// [`ShapeError`] when the case does not fit its kernel.
    pub fn outputs(&self) -> Result<Vec<Desc>, ShapeError> {
        self.kernel.outputs(&self.descs())
    }

    /// The twin's answer.
    ///
    /// # Errors
    /// [`ShapeError`] when the case does not fit its kernel.
    pub fn expected(&self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, ShapeError> {
        let inputs: Vec<&HostTensor> = inputs.iter().collect();
        Ok(self.kernel.reference(&inputs, &self.outputs()?))
    }
}

/// A small counter-based generator (SplitMix64), so that cases need no crate and agree everywhere.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next real in `low .. high`.
    pub fn real(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.bits() >> 40) as f32 / (1u32 << 24) as f32)
    }
}

impl HostTensor {
    /// A tensor of noise, as [`Fill::Noise`] fills it; the same for the same seed.
    pub fn noise(desc: &Desc, seed: u64) -> HostTensor {
        filled(desc, &Fill::Noise, seed)
    }
}

/// Floats within a range, and whole numbers among all that a code has; exponents are taken from the range.
fn panel_values(desc: &Desc, code: Code, noise: &mut Noise, (low, high): (f32, f32)) -> Vec<f32> {
    let value = |i: usize| match code.value(i % desc.last()) {
        _ if code == Code::Exponent => noise.real(low, high).floor(),
        Value::Real => noise.real(low, high),
        Value::Signed => noise.real(-128.0, 128.0).floor(),
        Value::Whole(bits) => noise.real(0.0, (1u32 << bits) as f32).floor(),
    };
    (0..desc.len()).map(value).collect()
}

fn filled(desc: &Desc, fill: &Fill, seed: u64) -> HostTensor {
    let mut noise = Noise::new(seed);
    let values: Vec<f32> = match fill {
        Fill::Words(words) => return HostTensor::from_words(desc.clone(), words.clone()),
        Fill::Values(values) => values.clone(),
        Fill::Range(low, high) => match desc.format {
            Format::Panel(code) => panel_values(desc, code, &mut noise, (*low, *high)),
            _ => (0..desc.len()).map(|_| noise.real(*low, *high)).collect(),
        },
        Fill::Noise => match desc.format {
            format if format.is_word() => {
                let words = (0..desc.words()).map(|_| noise.bits() as u32).collect();
                return HostTensor::from_words(desc.clone(), words);
            }
            Format::Panel(code) => panel_values(desc, code, &mut noise, (-1.0, 1.0)),
            Format::I8 | Format::MatrixI8 => (0..desc.len()).map(|_| noise.real(-127.0, 127.0).round()).collect(),
            _ => (0..desc.len()).map(|_| noise.real(-1.0, 1.0)).collect(),
        },
    };
    HostTensor::from_values(desc.clone(), &values)
}

/// How two results of one call differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Largest difference relative to the largest magnitude of the reference.
    pub worst: f64,
    /// Output, logical index, reference value and found value of the worst element.
    pub at: (usize, usize, f64, f64),
}

/// Compares what a GPU gave with what the twin gave. A NaN on one side, or another number of tensors or values, counts as an
/// infinite difference.
pub fn difference(reference: &[HostTensor], found: &[HostTensor]) -> Difference {
    let mut result = Difference { worst: 0.0, at: (0, 0, 0.0, 0.0) };
    let alike = |(expected, got): (&HostTensor, &HostTensor)| expected.desc == got.desc;
    if reference.len() != found.len() || !reference.iter().zip(found).all(alike) {
        result.worst = f64::INFINITY;
        return result;
    }
    for (output, (expected, got)) in reference.iter().zip(found).enumerate() {
        if expected.desc.format.is_word() {
            for (i, (e, g)) in expected.words.iter().zip(&got.words).enumerate() {
                let error = f64::from(e.abs_diff(*g));
                if error > result.worst {
                    result = Difference { worst: error, at: (output, i, f64::from(*e), f64::from(*g)) };
                }
            }
            continue;
        }
        let (expected, got) = (expected.values(), got.values());
        let finite = expected.iter().filter(|v| v.is_finite());
        let largest = finite.fold(0.0f64, |m, v| m.max(f64::from(v.abs()))).max(1e-20);
        for (i, (e, g)) in expected.iter().zip(&got).enumerate() {
            let (e, g) = (f64::from(*e), f64::from(*g));
            let error = match e.is_finite() && g.is_finite() {
                true => (e - g).abs() / largest,
                false if e == g || (e.is_nan() && g.is_nan()) => 0.0,
                false => f64::INFINITY,
            };
            if error > result.worst {
                result = Difference { worst: error, at: (output, i, e, g) };
            }
        }
    }
    result
}

/// A kernel's place in the list of all kernels.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The kernel's name.
    pub name: &'static str,
    /// Its linked variants.
    pub sources: &'static [crate::Source],
    /// Its cases.
    pub cases: fn() -> Vec<Case>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(expected: &[f32], found: &[f32]) -> f64 {
        let tensor = |values: &[f32]| vec![HostTensor::from_values(Desc::f32([values.len()]), values)];
        difference(&tensor(expected), &tensor(found)).worst
    }

    #[test]
    fn what_is_not_a_number_only_agrees_with_its_like() {
        assert_eq!(worst(&[1.0, 4.0], &[1.0, 2.0]), 0.5);
        assert_eq!(worst(&[f32::NAN, f32::INFINITY, 1.0], &[f32::NAN, f32::INFINITY, 1.0]), 0.0);
        assert_eq!(worst(&[f32::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(worst(&[1.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(worst(&[f32::INFINITY], &[f32::NEG_INFINITY]), f64::INFINITY);
        assert_eq!(worst(&[1.0, 1.0], &[1.0]), f64::INFINITY);
    }
}
