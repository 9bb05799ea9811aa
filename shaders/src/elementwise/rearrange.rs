//! Moving values without changing them: transpose, slice, expand, reverse, constant padding, all as one map of axes.

use super::layout::{MAX_AXES, coordinates, filled, grid, require_f32, strides};
use crate::{
    Call, Caps, Case, Desc, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting, parallel, traffic,
};
use std::any::Any;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::REARRANGE;

/// Where an axis of the result finds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Extent in the result.
    pub extent: usize,
    /// Axis of the input that it walks along; `None` repeats.
    pub source: Option<usize>,
    /// Place on that axis of the first value; outside the axis there is padding.
    pub start: i32,
    /// Step on that axis; negative walks back.
    pub step: i32,
}

impl Axis {
    /// All of axis `source`, which has `extent` values, in order.
    pub fn whole(source: usize, extent: usize) -> Axis {
        Axis { extent, source: Some(source), start: 0, step: 1 }
    }
}

/// `y[i0, i1, ..] = x[..]`, at `start + i * step` on the source of each axis, or `constant` where that lies outside
///
/// Input: F32 rows of at most six axes. Output: one axis for each entry; axes of the input that no entry names stay at 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Rearrange {
    /// The axes of the result, outermost first.
    pub axes: Vec<Axis>,
    /// What padding holds.
    pub constant: f32,
}

impl Rearrange {
    /// Axis `i` of the result is axis `order[i]` of the input, which has `shape`.
    ///
    /// # Errors
    /// [`ShapeError::Parameter`] when `order` names an axis that `shape` lacks, or not each once.
    pub fn transpose(shape: &[usize], order: &[usize]) -> Result<Rearrange, ShapeError> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..shape.len()) {
            let reason = format!("{order:?} does not name each of {} axes once", shape.len());
            return Err(ShapeError::Parameter { kernel: "rearrange", reason });
        }
        Ok(Rearrange { axes: order.iter().map(|axis| Axis::whole(*axis, shape[*axis])).collect(), constant: 0.0 })
    }

    /// `before` and `after` constants on each axis of an input of `shape`; negative amounts cut off.
    ///
    /// # Errors
    /// [`ShapeError::Parameter`] when an axis has no amounts, or when nothing would be left of it.
    pub fn pad(shape: &[usize], amounts: &[(i32, i32)], constant: f32) -> Result<Rearrange, ShapeError> {
        let axes = shape.iter().zip(amounts).enumerate().map(|(source, (extent, (before, after)))| {
            let extent = *extent as i64 + i64::from(*before) + i64::from(*after);
            let extent = usize::try_from(extent).ok().filter(|extent| *extent > 0)?;
            Some(Axis { extent, source: Some(source), start: -*before, step: 1 })
        });
        match axes.collect::<Option<Vec<_>>>() {
            Some(axes) if axes.len() == shape.len() && amounts.len() == shape.len() => Ok(Rearrange { axes, constant }),
            _ => {
                let reason = format!("{amounts:?} are not amounts to pad the axes of {shape:?} by");
                Err(ShapeError::Parameter { kernel: "rearrange", reason })
            }
        }
    }

    /// An input of `shape` repeated along its axes of extent one until it has the shape `to`, aligned at the last axis.
    ///
    /// # Errors
    /// [`ShapeError::Parameter`] when another extent would have to change.
    pub fn expand(shape: &[usize], to: &[usize]) -> Result<Rearrange, ShapeError> {
        let axes = to.iter().enumerate().map(|(axis, extent)| {
            match (axis + shape.len()).checked_sub(to.len()).map(|source| (source, shape[source])) {
                None | Some((_, 1)) => Some(Axis { extent: *extent, source: None, start: 0, step: 0 }),
                Some((source, own)) if own == *extent => Some(Axis::whole(source, own)),
                Some(_) => None,
            }
        });
        match axes.collect::<Option<Vec<_>>>() {
            Some(axes) if shape.len() <= to.len() => Ok(Rearrange { axes, constant: 0.0 }),
            _ => {
                let reason = format!("{shape:?} cannot be expanded to {to:?}");
                Err(ShapeError::Parameter { kernel: "rearrange", reason })
            }
        }
    }
}

impl Kernel for Rearrange {
    fn name(&self) -> &'static str {
        "rearrange"
    }

    fn summary(&self) -> String {
        let axis = |axis: &Axis| match axis.source {
            Some(source) => format!("{source}[{}+{}i]", axis.start, axis.step),
            None => "-".to_owned(),
        };
        self.axes.iter().map(axis).collect::<Vec<_>>().join(" ")
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [x] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "one tensor", found: inputs.len() });
        };
        require_f32(kernel, inputs)?;
        if self.axes.len() > MAX_AXES {
            let reason = format!("a result of {} axes is more than the {MAX_AXES} there can be", self.axes.len());
            return Err(ShapeError::Parameter { kernel, reason });
        }
        for (place, axis) in self.axes.iter().enumerate() {
            let reach = (axis.extent as i64 - 1) * i64::from(axis.step) + i64::from(axis.start);
            if axis.extent == 0 || i32::try_from(reach).is_err() || axis.source.is_some_and(|source| source >= x.shape.len()) {
                let reason = format!("axis {place} of the result, {axis:?}, does not fit an input {x}");
                return Err(ShapeError::Parameter { kernel, reason });
            }
        }
        Ok(vec![Desc::f32(self.axes.iter().map(|axis| axis.extent).collect::<Vec<_>>())])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch {
        let (x, y) = (&call.inputs[0], &call.outputs[0]);
        let (grid, width) = grid(y.words().div_ceil(64), source);
        let strides = strides(x);
        let (mut axes, mut steps) = (Vec::new(), Vec::new());
        for place in 0..MAX_AXES {
            let axis = self.axes.iter().rev().nth(place);
            let (extent, start, step) = axis.map_or((1, 0, 0), |a| (a.extent, a.start, a.step));
            let along = axis.and_then(|a| a.source);
            axes.extend(match along {
                Some(along) => [extent as u32, start as u32, step as u32, x.shape[along] as u32],
                None => [extent as u32, 0, 0, 1],
            });
            steps.extend([along.map_or(0, |along| strides[along] as u32), 0, 0, 0]);
        }
        axes.extend(steps);
        axes.extend([y.words() as u32, width, y.last() as u32, self.constant.to_bits()]);
        filled(Launch::new(call, axes, grid), source)
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (x, shape) = (inputs[0].values(), &inputs[0].desc.shape);
        let mut y = vec![0.0; outputs[0].len()];
        parallel::rows(&mut y, 1, |i, value| {
            let mut from = vec![0i64; shape.len()];
            for (axis, at) in self.axes.iter().zip(coordinates(&outputs[0].shape, i)) {
                if let Some(source) = axis.source {
                    from[source] += i64::from(axis.start) + at as i64 * i64::from(axis.step);
                }
            }
            let inside = from.iter().zip(shape).all(|(at, extent)| (0..*extent as i64).contains(at));
            value[0] = if inside {
                x[from.iter().zip(shape).fold(0, |index, (at, extent)| index * extent + *at as usize)]
            } else {
                self.constant
            };
        });
        vec![HostTensor::from_values(outputs[0].clone(), &y)]
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 0.0, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// One use of each kind, with every number of axes.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, what: &str, shape: &[usize], kernel: Rearrange| {
        let size = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        cases.push(Case::noise(format!("{what}.{size}"), tier, kernel, vec![Desc::f32(shape)]));
    };
    let cut = |extent, start, step| Axis { extent, source: Some(1), start, step };
    add(Tier::Short, "cut", &[3, 9], Rearrange { axes: vec![Axis::whole(0, 3), cut(4, 1, 2)], constant: 0.0 });
    add(Tier::Short, "back", &[3, 9], Rearrange { axes: vec![cut(5, 8, -2), Axis::whole(0, 3)], constant: 0.0 });
    for (tier, shape, order) in [
        (Tier::Short, &[2, 3, 4, 5][..], &[0, 3, 1, 2][..]),
        (Tier::Full, &[1, 7, 7, 30], &[0, 3, 1, 2]),
        (Tier::Full, &[33, 17], &[1, 0]),
        (Tier::Full, &[2, 3, 2, 3, 2, 3], &[5, 4, 3, 2, 1, 0]),
    ] {
        if let Ok(kernel) = Rearrange::transpose(shape, order) {
            add(tier, "transpose", shape, kernel);
        }
    }
    for (tier, shape, amounts) in [
        (Tier::Short, &[2, 3, 5][..], &[(1, 0), (0, 2), (3, -1)][..]),
        (Tier::Full, &[7], &[(-2, 64)]),
    ] {
        if let Ok(kernel) = Rearrange::pad(shape, amounts, 1.5) {
            add(tier, "pad", shape, kernel);
        }
    }
    for (tier, shape, to) in [(Tier::Short, &[3, 1][..], &[2, 3, 6][..]), (Tier::Full, &[], &[2, 2])] {
        if let Ok(kernel) = Rearrange::expand(shape, to) {
            add(tier, "expand", shape, kernel);
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kernel: &Rearrange, shape: &[usize], values: &[f32]) -> (Vec<usize>, Vec<f32>) {
        let x = HostTensor::from_values(Desc::f32(shape), values);
        let y = kernel.reference(&[&x], &kernel.outputs(std::slice::from_ref(&x.desc)).unwrap()).remove(0);
        (y.desc.shape.clone(), y.values())
    }

    #[test]
    fn hand_made_moves() {
        let transpose = Rearrange::transpose(&[2, 3], &[1, 0]).unwrap();
        assert_eq!(run(&transpose, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), (vec![3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        let pad = Rearrange::pad(&[3], &[(1, -1)], 9.0).unwrap();
        assert_eq!(run(&pad, &[3], &[1.0, 2.0, 3.0]), (vec![3], vec![9.0, 1.0, 2.0]));
        let expand = Rearrange::expand(&[2, 1], &[2, 2]).unwrap();
        assert_eq!(run(&expand, &[2, 1], &[1.0, 2.0]), (vec![2, 2], vec![1.0, 1.0, 2.0, 2.0]));
    }

    #[test]
    fn every_case_was_built() {
        assert_eq!(cases().len(), 10);
    }

    #[test]
    fn refuses_what_has_no_meaning() {
        assert!(Rearrange::transpose(&[2, 3], &[0, 0]).is_err());
        assert!(Rearrange::pad(&[3], &[(-3, 0)], 0.0).is_err());
        assert!(Rearrange::pad(&[3], &[], 0.0).is_err());
        assert!(Rearrange::expand(&[2], &[3]).is_err());
        assert!(Rearrange::expand(&[1, 1], &[1]).is_err());
        let beyond = Rearrange { axes: vec![Axis::whole(1, 3)], constant: 0.0 };
        assert!(beyond.outputs(&[Desc::f32([3])]).is_err());
    }
}
