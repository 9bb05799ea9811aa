//! What is known of the frames so far: how long each took, which were missed, and how much the models had of them.

use serde_json::{Value, json};
use std::time::Instant;

/// Frames shown in the curve of the HUD.
pub const SHOWN: usize = 120;

/// Times in milliseconds.
#[derive(Debug)]
pub struct Frames {
    /// Of a frame, at the pace that is aimed at.
    pub period: f32,
    pub times: Vec<f32>,
    pub missed: usize,
    /// Of the GPU for the eye and for the talk, as the timestamps have it.
    pub models: Vec<[f32; 2]>,
    /// When the frame before began that the next one is measured from.
    last: Option<Instant>,
}

impl Frames {
    pub fn new(hz: f32) -> Frames {
        Frames { period: 1000.0 / hz, times: Vec::new(), missed: 0, models: Vec::new(), last: None }
    }

    /// Counts a frame.
    pub fn push(&mut self, time: f32, missed: bool) {
        self.times.push(time);
        self.missed += usize::from(missed);
    }

    /// Counts a frame of a window from the beginning of the one before to its own: one was missed when half a period or more went by without any.
    pub fn push_since_last(&mut self, begun: Instant) {
        if let Some(last) = self.last.replace(begun) {
            let between = 1000.0 * begun.duration_since(last).as_secs_f32();
            self.push(between, between > 1.5 * self.period);
        }
    }

    /// Nothing is drawn for a while, since nobody could see it: the next frame is measured from none before.
    pub fn rest(&mut self) {
        self.last = None;
    }

    /// The mean of the last second's worth of frames.
    pub fn recent(&self) -> f32 {
        let last = &self.times[self.times.len().saturating_sub(SHOWN / 2)..];
        mean(last.iter().copied())
    }

    /// The means of the models' last times.
    pub fn recent_models(&self) -> Option<[f32; 2]> {
        let last = &self.models[self.models.len().saturating_sub(SHOWN / 2)..];
        (!last.is_empty()).then(|| [0, 1].map(|k| mean(last.iter().map(|times| times[k]))))
    }

    /// Mean, median, 99th hundredth and longest of the frames and of the models' shares of them.
    pub fn report(&self) -> Value {
        let eye: Vec<f32> = self.models.iter().map(|times| times[0]).collect();
        let talk: Vec<f32> = self.models.iter().map(|times| times[1]).collect();
        json!({
            "frames": self.times.len(),
            "missed": self.missed,
            "period_ms": round(self.period),
            "frame_ms": spread(&self.times),
            "eye_gpu_ms": spread(&eye),
            "talk_gpu_ms": spread(&talk),
        })
    }
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count == 0.0 { 0.0 } else { sum / count }
}

fn round(value: f32) -> f64 {
    (f64::from(value) * 1000.0).round() / 1000.0
}

/// `null` where nothing was measured.
fn spread(values: &[f32]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f32| sorted.get((share * sorted.len() as f32) as usize).or(sorted.last()).copied();
    let Some(longest) = sorted.last() else { return Value::Null };
    json!({
        "mean": round(mean(sorted.iter().copied())),
        "median": at(0.5).map(round),
        "p99": at(0.99).map(round),
        "longest": round(*longest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_report_has_the_middle_and_the_ends() {
        let mut frames = Frames::new(100.0);
        (1..=101).for_each(|k| frames.push(k as f32, k > 10));
        let report = frames.report();
        assert_eq!(report["missed"], 91);
        assert_eq!(report["period_ms"], 10.0);
        assert_eq!(report["frame_ms"], json!({ "mean": 51.0, "median": 51.0, "p99": 100.0, "longest": 101.0 }));
        assert_eq!(report["eye_gpu_ms"], Value::Null);
    }

    #[test]
    fn frames_that_nobody_could_see_are_not_missed() {
        let (mut frames, begun) = (Frames::new(100.0), Instant::now());
        let draw = |frames: &mut Frames, at: u64| {
            frames.push_since_last(begun + Duration::from_millis(at));
            (frames.times.len(), frames.missed)
        };
        assert_eq!([0, 10, 40].map(|at| draw(&mut frames, at)), [(0, 0), (1, 0), (2, 1)]);
        frames.rest();
        assert_eq!([9000, 9010].map(|at| draw(&mut frames, at)), [(2, 1), (3, 1)]);
    }
}
