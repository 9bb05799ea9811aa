//! Moving values about: everything that changes shapes and not numbers.

use crate::express::{Failure, axis};
use crate::network::{Network, Sketch};
use crate::vector::{Tensor, Vector};
use lampyris_engine::kernels::elementwise::{Axis, Concat, Rearrange};

type Networks = Result<Vec<Network>, Failure>;

/// A network of one rearrangement of the first input.
fn rearranged(x: &Tensor, kernels: Vec<Rearrange>) -> Networks {
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let results = kernels.into_iter().map(|kernel| sketch.apply(kernel, &[given])).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![sketch.finish(&results)])
}

pub(crate) fn transpose(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let order = vector.list("perm").unwrap_or_else(|| (0..x.shape.len()).rev().collect());
    rearranged(x, vec![Rearrange::transpose(&x.shape, &order)?])
}

/// Shapes are aligned at the last axis and stretched both ways.
pub(crate) fn expand(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let asked: Vec<usize> = vector.given(1)?.integers().iter().map(|extent| *extent as usize).collect();
    let axes = asked.len().max(x.shape.len());
    let extent = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(axes).map_or(1, |at| shape[at]);
    let to: Vec<usize> = (0..axes).map(|at| extent(&asked, at).max(extent(&x.shape, at))).collect();
    rearranged(x, vec![Rearrange::expand(&x.shape, &to)?])
}

/// The listed axes have amounts before all of them, then after.
pub(crate) fn pad(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let listed: Vec<usize> = match vector.optional(3) {
        Some(axes) => axes.integers().iter().map(|number| axis(*number, x.shape.len())).collect(),
        None => (0..x.shape.len()).collect(),
    };
    let amounts = vector.given(1)?.integers();
    let mut all = vec![(0, 0); x.shape.len()];
    for (position, axis) in listed.iter().enumerate() {
        all[*axis] = (i32::try_from(amounts[position])?, i32::try_from(amounts[position + listed.len()])?);
    }
    let constant = vector.optional(2).map_or(0.0, |tensor| tensor.values()[0]);
    rearranged(x, vec![Rearrange::pad(&x.shape, &all, constant)?])
}

pub(crate) fn slice(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let (starts, ends) = (vector.given(1)?.integers(), vector.given(2)?.integers());
    let axes = vector.optional(3).map_or_else(|| (0..starts.len() as i64).collect(), Tensor::integers);
    let steps = vector.optional(4).map_or_else(|| vec![1; starts.len()], Tensor::integers);
    let mut cut: Vec<Axis> = x.shape.iter().enumerate().map(|(axis, extent)| Axis::whole(axis, *extent)).collect();
    for (i, number) in axes.iter().enumerate() {
        let along = axis(*number, x.shape.len());
        let (extent, step) = (x.shape[along] as i64, steps[i]);
        let from_end = |place: i64| if place < 0 { place + extent } else { place };
        let (start, end) = if step > 0 {
            (from_end(starts[i]).clamp(0, extent), from_end(ends[i]).clamp(0, extent))
        } else {
            (from_end(starts[i]).clamp(0, extent - 1), from_end(ends[i]).clamp(-1, extent - 1))
        };
        let reach = if step > 0 { end - start } else { start - end };
        let count = (reach + step.abs() - 1) / step.abs();
        cut[along] = Axis {
            extent: usize::try_from(count)?,
            source: Some(along),
            start: i32::try_from(start)?,
            step: i32::try_from(step)?,
        };
    }
    rearranged(x, vec![Rearrange { axes: cut, constant: 0.0 }])
}

/// Into parts of listed extents, or of equal ones of which the last may be smaller.
pub(crate) fn split(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let along = axis(vector.integer("axis").unwrap_or(0), x.shape.len());
    let parts = vector.outputs().len();
    let extents: Vec<usize> = match vector.optional(1) {
        Some(listed) => listed.integers().iter().map(|extent| *extent as usize).collect(),
        None => {
            let part = x.shape[along].div_ceil(parts);
            (0..parts).map(|i| part.min(x.shape[along] - i * part)).collect()
        }
    };
    let mut start = 0;
    let mut kernels = Vec::new();
    for extent in extents {
        let mut axes: Vec<Axis> = x.shape.iter().enumerate().map(|(axis, all)| Axis::whole(axis, *all)).collect();
        axes[along] = Axis { extent, source: Some(along), start, step: 1 };
        start += i32::try_from(extent)?;
        kernels.push(Rearrange { axes, constant: 0.0 });
    }
    rearranged(x, kernels)
}

pub(crate) fn concat(vector: &Vector) -> Networks {
    let [a, b] = [vector.given(0)?, vector.given(1)?];
    if vector.optional(2).is_some() {
        return Err("a third tensor to join".into());
    }
    let along = axis(vector.integer("axis").ok_or("no axis")?, a.shape.len());
    let mut sketch = Sketch::default();
    let (x, z) = (sketch.input(&a.shape, &a.values()), sketch.input(&b.shape, &b.values()));
    let y = sketch.apply(Concat { axis: along }, &[x, z])?;
    Ok(vec![sketch.finish(&[y])])
}

/// Every operator that keeps the values in order.
pub(crate) fn reshape(vector: &Vector) -> Networks {
    let x = vector.given(0)?;
    let listed = vector.optional(1).map(Tensor::integers);
    let shape = match (vector.op.as_str(), listed) {
        ("Flatten", _) => {
            let at = axis(vector.integer("axis").unwrap_or(1), x.shape.len());
            vec![x.shape[..at].iter().product(), x.shape[at..].iter().product()]
        }
        ("Reshape", Some(listed)) => reshaped(&x.shape, &listed)?,
        ("Squeeze", Some(listed)) => {
            let gone: Vec<usize> = listed.iter().map(|number| axis(*number, x.shape.len())).collect();
            let kept = x.shape.iter().enumerate().filter(|(axis, _)| !gone.contains(axis));
            kept.map(|(_, extent)| *extent).collect()
        }
        ("Unsqueeze", Some(listed)) => {
            let axes = x.shape.len() + listed.len();
            let new: Vec<usize> = listed.iter().map(|number| axis(*number, axes)).collect();
            let mut old = x.shape.iter().copied();
            (0..axes).map(|at| if new.contains(&at) { 1 } else { old.next().unwrap_or(1) }).collect()
        }
        (op, _) => return Err(format!("{op} without its second input").into()),
    };
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let y = sketch.reshape(given, &shape)?;
    Ok(vec![sketch.finish(&[y])])
}

/// 0 keeps an extent, and at most one -1 takes what is left.
fn reshaped(from: &[usize], listed: &[i64]) -> Result<Vec<usize>, Failure> {
    let known = |(at, extent): (usize, &i64)| if *extent == 0 { from[at] } else { *extent as usize };
    let mut shape: Vec<usize> = listed.iter().enumerate().map(known).collect();
    if let Some(free) = listed.iter().position(|extent| *extent == -1) {
        shape[free] = 1;
        shape[free] = from.iter().product::<usize>() / shape.iter().product::<usize>();
    }
    Ok(shape)
}
