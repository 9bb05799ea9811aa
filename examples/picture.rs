//! Draws `picture.png`, so that the first thing to classify is nobody else's photo: a daisy before a meadow.
//!
//! `cargo run --example picture [FILE]` writes it, by default beside this file. A pixel is the mean of nine points, and a
//! point is a stack of shapes, each with a colour and a cover from 0 to 1.

use std::error::Error;
use std::f64::consts::PI;

/// Pixels of a side, and points of a pixel's side.
const SIDE: u32 = 320;
const POINTS: u32 = 3;
const CENTRE: f64 = 160.0;
const PETALS: u32 = 21;

type Colour = [f64; 3];

fn main() -> Result<(), Box<dyn Error>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/picture.png");
    let file = std::env::args().nth(1).unwrap_or_else(|| beside.to_owned());
    let spots = spots();
    let picture = image::RgbImage::from_fn(SIDE, SIDE, |x, y| image::Rgb(pixel(x, y, &spots)));
    picture.save(&file)?;
    Ok(())
}

fn pixel(x: u32, y: u32, spots: &[Spot]) -> [u8; 3] {
    let at = |pixel: u32, point: u32| f64::from(pixel) + (f64::from(point) + 0.5) / f64::from(POINTS);
    let points = (0..POINTS * POINTS).map(|i| point(at(x, i % POINTS), at(y, i / POINTS), spots));
    let sum = points.fold([0.0; 3], |sum: Colour, colour| [0, 1, 2].map(|c| sum[c] + colour[c]));
    sum.map(|value| (value / f64::from(POINTS * POINTS)).round().clamp(0.0, 255.0) as u8)
}

/// The colour of one point.
fn point(x: f64, y: f64, spots: &[Spot]) -> Colour {
    let far = y / f64::from(SIDE);
    let mut colour = mix([70.0, 120.0, 50.0], [40.0, 85.0, 30.0], far);
    for spot in spots {
        let blurred = cover((distance(x - spot.x, y - spot.y) - spot.radius) / 8.0);
        colour = mix(colour, spot.colour, 0.6 * blurred);
    }
    if y > CENTRE {
        let stem = (x - CENTRE - 6.0 * (y / 60.0).sin()).abs() - 5.0;
        colour = mix(colour, [80.0, 140.0, 50.0], cover(stem));
    }
    // The petals behind are longer and darker.
    for (length, light, turn) in [(128.0, 225.0, 0.0), (122.0, 250.0, 0.5)] {
        for petal in 0..PETALS {
            let angle = 2.0 * PI * (f64::from(petal) + turn) / f64::from(PETALS);
            let (shade, covered) = self::petal(x - CENTRE, y - CENTRE, angle, length, light);
            colour = mix(colour, [shade, shade, 0.98 * shade], covered);
        }
    }
    let lit = (1.0 - distance(x - CENTRE + 10.0, y - CENTRE + 12.0) / 60.0).clamp(0.0, 1.0);
    let grain = 10.0 * (1.3 * x).sin() * (1.3 * y).sin();
    let disc = [215.0 + 40.0 * lit + grain, 150.0 + 60.0 * lit + grain, 10.0 + 20.0 * lit];
    mix(colour, disc, cover(distance(x - CENTRE, y - CENTRE) - 38.0))
}

/// How light a petal that points along `angle` is at a point counted from the flower's centre, and how much it covers.
fn petal(x: f64, y: f64, angle: f64, length: f64, light: f64) -> (f64, f64) {
    let along = x * angle.cos() + y * angle.sin();
    let across = y * angle.cos() - x * angle.sin();
    let way = (along / length).clamp(0.0, 1.0);
    let width = 14.0 * (PI * way.powf(0.7)).sin().max(0.0).powf(0.6) + 1.0;
    let outside = (across.abs() - width).max(-along).max(along - length);
    let groove = 8.0 * (1.2 * across).cos() - 30.0 * (across / width).powi(2);
    (light - 40.0 * (1.0 - way) + groove, cover(outside))
}

/// A blurred leaf of the meadow.
struct Spot {
    x: f64,
    y: f64,
    radius: f64,
    colour: Colour,
}

/// Sixty leaves that are the same on every machine.
fn spots() -> Vec<Spot> {
    let mut state = 1u32;
    // Numerical Recipes' generator of 32 bits; the upper 16 are good enough for leaves.
    let mut between = |low: f64, high: f64| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        low + (high - low) * f64::from(state >> 16) / 65_536.0
    };
    let side = f64::from(SIDE);
    let spot = |_| {
        let (x, y, radius) = (between(0.0, side), between(0.0, side), between(8.0, 40.0));
        let light = between(0.6, 1.3);
        Spot { x, y, radius, colour: [50.0, 110.0, 40.0].map(|value| value * light) }
    };
    (0..60).map(spot).collect()
}

fn distance(x: f64, y: f64) -> f64 {
    (x * x + y * y).sqrt()
}

/// How much of a point lies within a shape whose edge is `outside` pixels away, negative within it.
fn cover(outside: f64) -> f64 {
    (0.5 - outside).clamp(0.0, 1.0)
}

fn mix(below: Colour, above: Colour, covered: f64) -> Colour {
    [0, 1, 2].map(|c| below[c] + (above[c] - below[c]) * covered)
}
