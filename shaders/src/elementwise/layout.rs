//! Strides, broadcasting and grids: what the operators on whole tensors compute before they launch.

use crate::{Desc, Format, Launch, ShapeError, Source, pad4};

/// Most axes of a tensor here.
pub(super) const MAX_AXES: usize = 6;

/// Storage words between neighbours along each axis of a tensor in F32 rows, outermost first.
pub(super) fn strides(desc: &Desc) -> Vec<usize> {
    let mut strides = vec![1; desc.shape.len()];
    let mut step = pad4(desc.last());
    for axis in (0..desc.shape.len().saturating_sub(1)).rev() {
        strides[axis] = step;
        step *= desc.shape[axis];
    }
    strides
}

/// The shape that all `shapes` are stretched to, or `None` when they do not go together.
pub(super) fn broadcast(shapes: &[&[usize]]) -> Option<Vec<usize>> {
    let axes = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    (0..axes)
        .map(|axis| {
            let extents = shapes.iter().filter_map(|shape| shape.get((axis + shape.len()).checked_sub(axes)?));
            extents.copied().try_fold(1, |all, extent| match (all, extent) {
                (all, 1) => Some(all),
                (1, extent) => Some(extent),
                (all, extent) if all == extent => Some(all),
                _ => None,
            })
        })
        .collect()
}

/// Entry `axis` of an operand's strides when it is stretched to `axes` axes, counted from the innermost: 0 where it repeats.
pub(super) fn stretched(shape: &[usize], strides: &[usize], axis: usize) -> usize {
    match shape.len().checked_sub(axis + 1) {
        Some(at) if shape[at] > 1 => strides[at],
        _ => 0,
    }
}

/// Coordinates of logical value `index` in a tensor of `shape`; what the twins walk by.
pub(super) fn coordinates(shape: &[usize], mut index: usize) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        place[axis] = index % shape[axis];
        index /= shape[axis];
    }
    place
}

/// Logical index of `place`, which is given in as many or more axes than `shape` has and repeats where an extent is one.
pub(super) fn index_of(shape: &[usize], place: &[usize]) -> usize {
    let skip = place.len() - shape.len();
    shape.iter().zip(&place[skip..]).fold(0, |index, (extent, at)| index * extent + if *extent == 1 { 0 } else { *at })
}

/// A grid of `groups` workgroups folded into two directions, and the invocations in one row of it.
pub(crate) fn grid(groups: usize, source: &Source) -> ([u32; 3], u32) {
    let columns = groups.clamp(1, 32_768);
    let rows = groups.div_ceil(columns);
    ([columns as u32, rows as u32, 1], columns as u32 * source.workgroup[0])
}

/// Appends zeros until the words fill the parameter block, whose size is rounded up to that of its widest member.
pub(crate) fn filled(mut launch: Launch, source: &Source) -> Launch {
    launch.params.resize(source.params_bytes as usize / 4, 0);
    launch
}

/// Refuses an input that is empty, has too many axes or is not stored in F32 rows.
pub(super) fn require_f32(kernel: &'static str, inputs: &[Desc]) -> Result<(), ShapeError> {
    for (position, input) in inputs.iter().enumerate() {
        if input.format != Format::F32 || input.is_empty() || input.shape.len() > MAX_AXES {
            let expected = format!("a tensor in f32 of at most {MAX_AXES} axes, not empty");
            return Err(ShapeError::Input { kernel, position, expected, found: input.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_stretch_as_in_numpy() {
        assert_eq!(broadcast(&[&[3, 4, 5], &[5]]), Some(vec![3, 4, 5]));
        assert_eq!(broadcast(&[&[3, 1, 5], &[4, 1], &[]]), Some(vec![3, 4, 5]));
        assert_eq!(broadcast(&[&[3, 4], &[3]]), None);
        assert_eq!(broadcast(&[&[], &[]]), Some(vec![]));
    }

    #[test]
    fn strides_skip_the_padding_of_rows() {
        assert_eq!(strides(&Desc::f32([2, 3, 5])), [24, 8, 1]);
        assert_eq!(strides(&Desc::f32([7])), [1]);
        assert_eq!(strides(&Desc::f32([])), [] as [usize; 0]);
    }

    #[test]
    fn places_and_indices_are_inverse() {
        let shape = [2, 3, 4];
        for index in 0..24 {
            assert_eq!(index_of(&shape, &coordinates(&shape, index)), index);
        }
        assert_eq!(index_of(&[3, 1], &[1, 2, 3]), 2);
    }
}
