//! Resampling as products: along each axis every result is a sum of values whose weights are known when the plan is built, so
//! that a whole axis is a product with the matrix of these weights.

use crate::express::{Failure, axis};
use crate::network::{Network, Sketch};
use crate::vector::{Tensor, Vector};
use lampyris_engine::kernels::Desc;
use lampyris_engine::kernels::elementwise::{Matmul, Operation};

/// How one axis is resampled.
struct Along {
    extent: usize,
    results: usize,
    scale: f64,
    /// The part of the axis that is resampled, from 0 to 1.
    region: [f64; 2],
}

/// The last two axes are resampled; none of the vectors changes another.
pub(crate) fn resize(vector: &Vector) -> Result<Vec<Network>, Failure> {
    let x = vector.given(0)?;
    let all = axes(vector, x)?;
    let [.., height, width] = &all[..] else { return Err("fewer than two axes".into()) };
    if all[..all.len() - 2].iter().any(|along| along.extent != along.results) {
        return Err("an outer axis is resampled".into());
    }
    let mut sketch = Sketch::default();
    let given = sketch.input(&x.shape, &x.values());
    let [rows, columns] = [height, width].map(|along| {
        let weights: Vec<f32> = along.weights(vector).concat().iter().map(|weight| *weight as f32).collect();
        sketch.constant(Desc::f32([along.results, along.extent]), &weights)
    });
    let y = sketch.apply(Matmul::default(), &[rows, given])?;
    let mut y = sketch.apply(Matmul { transpose_b: true, ..Matmul::default() }, &[y, columns])?;
    if let Some(outside) = vector.real("extrapolation_value") {
        let inside = |along: &Along| (0..along.results).map(|i| along.is_inside(vector, i)).collect::<Vec<_>>();
        let (rows, columns) = (inside(height), inside(width));
        let added: Vec<f32> =
            rows.iter().flat_map(|row| columns.iter().map(move |c| if *row && *c { 0.0 } else { outside })).collect();
        let added = sketch.constant(Desc::f32([rows.len(), columns.len()]), &added);
        y = sketch.binary(Operation::Add, y, added)?;
    }
    Ok(vec![sketch.finish(&[y])])
}

/// Every axis of `x`, from scales or sizes that are listed for all of them or some.
fn axes(vector: &Vector, x: &Tensor) -> Result<Vec<Along>, Failure> {
    let listed: Vec<usize> = match vector.list("axes") {
        Some(axes) => axes.iter().map(|number| axis(*number as i64, x.shape.len())).collect(),
        None => (0..x.shape.len()).collect(),
    };
    let mut all: Vec<Along> = x
        .shape
        .iter()
        .map(|extent| Along { extent: *extent, results: *extent, scale: 1.0, region: [0.0, 1.0] })
        .collect();
    if let Some(scales) = vector.optional(2) {
        for (at, scale) in listed.iter().zip(scales.numbers()) {
            (all[*at].scale, all[*at].results) = (scale, (all[*at].extent as f64 * scale).floor() as usize);
        }
    } else {
        let sizes = vector.given(3)?.integers();
        let ratios = listed.iter().zip(&sizes).map(|(at, size)| *size as f64 / all[*at].extent as f64);
        let common = match vector.text("keep_aspect_ratio_policy") {
            Some("not_larger") => ratios.reduce(f64::min),
            Some("not_smaller") => ratios.reduce(f64::max),
            _ => None,
        };
        for (at, size) in listed.iter().zip(sizes) {
            let own = size as f64 / all[*at].extent as f64;
            let results = common.map_or(size, |scale| (scale * all[*at].extent as f64 + 0.5).floor() as i64);
            (all[*at].scale, all[*at].results) = (common.unwrap_or(own), results as usize);
        }
    }
    if let Some(region) = vector.optional(1) {
        let region = region.numbers();
        for (place, at) in listed.iter().enumerate() {
            all[*at].region = [region[place], region[listed.len() + place]];
        }
    }
    Ok(all)
}

impl Along {
    /// The place on the axis that result `i` is read at.
    fn place(&self, vector: &Vector, i: usize) -> f64 {
        let (i, extent, results) = (i as f64, self.extent as f64, self.results as f64);
        let half_pixel = (i + 0.5) / self.scale - 0.5;
        let exact = self.scale * extent;
        match vector.text("coordinate_transformation_mode").unwrap_or("half_pixel") {
            "half_pixel_symmetric" => extent / 2.0 * (1.0 - results / exact) + half_pixel,
            "pytorch_half_pixel" if self.results == 1 => 0.0,
            "align_corners" if self.results == 1 => 0.0,
            "align_corners" => i * (extent - 1.0) / (exact - 1.0),
            "asymmetric" => i / self.scale,
            "tf_crop_and_resize" => {
                let [start, end] = self.region;
                match self.results {
                    1 => 0.5 * (start + end) * (extent - 1.0),
                    _ => start * (extent - 1.0) + i * (end - start) * (extent - 1.0) / (results - 1.0),
                }
            }
            _ => half_pixel,
        }
    }

    /// Whether result `i` is read within the axis; outside of it a crop has a constant.
    fn is_inside(&self, vector: &Vector, i: usize) -> bool {
        let crops = vector.text("coordinate_transformation_mode") == Some("tf_crop_and_resize");
        !crops || (0.0..=(self.extent - 1) as f64).contains(&self.place(vector, i))
    }

    /// For each result, the weights of the axis's values; beyond its ends the outermost values go on.
    fn weights(&self, vector: &Vector) -> Vec<Vec<f64>> {
        (0..self.results)
            .map(|i| {
                let mut row = vec![0.0; self.extent];
                if !self.is_inside(vector, i) {
                    return row;
                }
                let leaves_out = vector.integer("exclude_outside") == Some(1);
                for (at, weight) in self.taps(vector, self.place(vector, i)) {
                    let inside = at.clamp(0, self.extent as i64 - 1);
                    if inside == at || !leaves_out {
                        row[inside as usize] += weight;
                    }
                }
                let total: f64 = row.iter().sum();
                row.iter_mut().for_each(|weight| *weight /= total);
                row
            })
            .collect()
    }

    /// Values round a place and their weights, which need not sum to one.
    fn taps(&self, vector: &Vector, place: f64) -> Vec<(i64, f64)> {
        let smoothed = vector.integer("antialias") == Some(1);
        let shrink = if smoothed { self.scale.min(1.0) } else { 1.0 };
        let reach = |radius: f64| (radius / shrink).ceil() as i64;
        let around = |reach: i64| (place.floor() as i64 - reach + 1)..=(place.floor() as i64 + reach);
        let distance = |at: i64| ((at as f64 - place) * shrink).abs();
        match vector.text("mode").unwrap_or("nearest") {
            "linear" => around(reach(1.0)).map(|at| (at, (1.0 - distance(at)).max(0.0))).collect(),
            "cubic" => {
                let a = vector.real("cubic_coeff_a").map_or(-0.75, f64::from);
                around(reach(2.0)).map(|at| (at, cubic(a, distance(at)))).collect()
            }
            _ => {
                let nearest = match vector.text("nearest_mode").unwrap_or("round_prefer_floor") {
                    "round_prefer_ceil" => (place + 0.5).floor(),
                    "floor" => place.floor(),
                    "ceil" => place.ceil(),
                    _ => (place - 0.5).ceil(),
                };
                vec![(nearest as i64, 1.0)]
            }
        }
    }
}

/// The cubic convolution kernel of Keys 1981.
fn cubic(a: f64, v: f64) -> f64 {
    if v <= 1.0 {
        ((a + 2.0) * v - (a + 3.0)) * v * v + 1.0
    } else if v < 2.0 {
        ((a * v - 5.0 * a) * v + 8.0 * a) * v - 4.0 * a
    } else {
        0.0
    }
}
