//! The drawings on the boards: eight of the thirty-two things that the bundled classifier knows, each a few strokes.

use glam::{Vec2, vec2};

/// A drawing and the classifier's word for it.
#[derive(Debug)]
pub struct Drawing {
    pub label: &'static str,
    /// Lines in a square from 0 to 1, x to the right and y downwards.
    pub strokes: Vec<Vec<Vec2>>,
}

/// What hangs on the boards, in the order in which they are visited.
pub fn all() -> Vec<Drawing> {
    let drawing = |label, strokes| Drawing { label, strokes };
    vec![
        drawing("house", house()),
        drawing("fish", fish()),
        drawing("star", star()),
        drawing("umbrella", umbrella()),
        drawing("boat", boat()),
        drawing("key", key()),
        drawing("tree", tree()),
        drawing("7", seven()),
    ]
}

fn line(points: &[(f32, f32)]) -> Vec<Vec2> {
    points.iter().map(|(x, y)| vec2(*x, *y)).collect()
}

/// Straight pieces back to the first point.
fn closed(points: &[(f32, f32)]) -> Vec<Vec2> {
    let mut points = line(points);
    points.extend(points.first().copied());
    points
}

/// Part of an ellipse between two angles in degrees, clockwise from the right.
fn arc(centre: (f32, f32), radii: (f32, f32), from: f32, to: f32) -> Vec<Vec2> {
    let count = ((to - from).abs() / 10.0).ceil().max(3.0);
    let at = |k: f32| Vec2::from_angle((from + (to - from) * k / count).to_radians());
    (0..=count as usize).map(|k| Vec2::from(centre) + Vec2::from(radii) * at(k as f32)).collect()
}

fn house() -> Vec<Vec<Vec2>> {
    vec![
        closed(&[(0.16, 0.46), (0.84, 0.46), (0.84, 0.92), (0.16, 0.92)]),
        closed(&[(0.1, 0.46), (0.5, 0.12), (0.9, 0.46)]),
        line(&[(0.42, 0.92), (0.42, 0.66), (0.58, 0.66), (0.58, 0.92)]),
    ]
}

fn fish() -> Vec<Vec<Vec2>> {
    vec![
        arc((0.42, 0.5), (0.35, 0.24), 0.0, 360.0),
        closed(&[(0.75, 0.5), (0.95, 0.33), (0.95, 0.67)]),
        arc((0.23, 0.44), (0.025, 0.025), 0.0, 360.0),
    ]
}

fn star() -> Vec<Vec<Vec2>> {
    let at = |k: usize| {
        let reach = if k.is_multiple_of(2) { 0.46 } else { 0.2 };
        vec2(0.5, 0.53) + reach * Vec2::from_angle((-90.0 + 36.0 * k as f32).to_radians())
    };
    vec![(0..=10).map(at).collect()]
}

fn umbrella() -> Vec<Vec<Vec2>> {
    let scallops = (0..3).map(|k| arc((0.2 + 0.3 * k as f32, 0.5), (0.15, 0.07), 180.0, 360.0));
    let mut strokes = vec![arc((0.5, 0.5), (0.45, 0.4), 180.0, 360.0)];
    strokes.extend(scallops);
    let mut handle = line(&[(0.5, 0.06), (0.5, 0.84)]);
    handle.extend(arc((0.42, 0.84), (0.08, 0.09), 0.0, 180.0));
    strokes.push(handle);
    strokes
}

fn boat() -> Vec<Vec<Vec2>> {
    vec![
        closed(&[(0.06, 0.7), (0.94, 0.7), (0.77, 0.92), (0.23, 0.92)]),
        line(&[(0.49, 0.7), (0.49, 0.06)]),
        closed(&[(0.49, 0.08), (0.87, 0.6), (0.49, 0.6)]),
        closed(&[(0.46, 0.16), (0.15, 0.6), (0.46, 0.6)]),
    ]
}

fn key() -> Vec<Vec<Vec2>> {
    vec![
        arc((0.22, 0.5), (0.17, 0.17), 0.0, 360.0),
        line(&[(0.39, 0.5), (0.96, 0.5)]),
        line(&[(0.94, 0.5), (0.94, 0.65)]),
        line(&[(0.8, 0.5), (0.8, 0.64)]),
    ]
}

fn tree() -> Vec<Vec<Vec2>> {
    vec![
        closed(&[(0.5, 0.04), (0.74, 0.34), (0.26, 0.34)]),
        closed(&[(0.5, 0.2), (0.82, 0.58), (0.18, 0.58)]),
        closed(&[(0.5, 0.4), (0.9, 0.8), (0.1, 0.8)]),
        line(&[(0.44, 0.8), (0.44, 0.96), (0.56, 0.96), (0.56, 0.8)]),
    ]
}

fn seven() -> Vec<Vec<Vec2>> {
    vec![line(&[(0.22, 0.08), (0.78, 0.08), (0.62, 0.42), (0.5, 0.7), (0.44, 0.95)])]
}
