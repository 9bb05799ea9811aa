//! Twins fill their outputs row by row: on every core where there are threads, in order where there are none.

/// Calls `fill(row, values)` for every row of `width` values of `out`.
#[cfg(feature = "parallel")]
pub fn rows(out: &mut [f32], width: usize, fill: impl Fn(usize, &mut [f32]) + Send + Sync) {
    use rayon::prelude::*;
    out.par_chunks_mut(width.max(1)).enumerate().for_each(|(row, values)| fill(row, values));
}

/// Calls `fill(row, values)` for every row of `width` values of `out`.
#[cfg(not(feature = "parallel"))]
pub fn rows(out: &mut [f32], width: usize, fill: impl Fn(usize, &mut [f32])) {
    out.chunks_mut(width.max(1)).enumerate().for_each(|(row, values)| fill(row, values));
}
