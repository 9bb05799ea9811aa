//! What was measured, as data and for people.

use crate::output;
use lampyris::engine::kernels::Work;
use lampyris::engine::measure::{Profile, Roofline};
use serde::Serialize;

/// Everything that was asked for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) speed: Option<Speed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<Profile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) roofline: Option<Roofline>,
}

/// A model's speed.
#[derive(Debug, Serialize)]
pub(super) struct Speed {
    pub(super) model: String,
    pub(super) adapter: String,
    /// From pixels in memory to the answer.
    pub(super) latency_ms: Latency,
    pub(super) images_per_s: f64,
    /// Of one run, its images' preparation included.
    pub(super) dispatches: u64,
    pub(super) submits: u64,
    /// Of the network's plan: weights, activations and parameters.
    pub(super) gpu_bytes: u64,
    pub(super) first_result_ms: FirstResult,
    #[serde(skip)]
    pub(super) images: usize,
    #[serde(skip)]
    pub(super) runs: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Latency {
    median: f64,
    p95: f64,
}

impl Latency {
    /// Of some milliseconds; the 95th percentile is the smallest that 95 in 100 do not exceed.
    pub(super) fn of(mut times: Vec<f64>) -> Latency {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * times.len() as f64).ceil() as usize;
            times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Latency { median: at(0.5), p95: at(0.95) }
    }
}

/// Milliseconds from opening the device to the first answer.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct FirstResult {
    /// With an empty cache folder; a cache of the driver's own may help.
    pub(super) cold: f64,
    /// With what the first left in it.
    pub(super) warm: f64,
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = self.speed.as_ref().map(Speed::text).unwrap_or_default();
        if let Some(profile) = &self.profile {
            text += &format!("\n{profile}\n");
        }
        if let Some(roofline) = &self.roofline {
            text += &format!("\n{roofline}\n");
        }
        if let (Some(profile), Some(roofline)) = (&self.profile, &self.roofline) {
            text += "\nshare of what the adapter could do at best\n";
            for step in &profile.steps {
                let bound = roofline.bound(Work { flops: step.flops, bytes: step.bytes }) * 1e6;
                let share = if step.micros > 0.0 { 100.0 * bound / step.micros } else { 0.0 };
                let named = format!("{}[{}]", step.kernel, step.variant);
                text += &format!("  {share:6.1} %  {:9.1} us  {:32} {named}\n", step.micros, step.step);
            }
        }
        text
    }
}

impl Speed {
    fn text(&self) -> String {
        format!(
            "{} on {}\n  latency       {:10.2} ms median, {:.2} ms p95, of {} runs with {} image(s) each\n  throughput    \
             {:10.1} images/s\n  a run is      {:10} dispatches in {} submit(s)\n  on the device {:10} bytes\n  first result  \
             {:10.0} ms with empty caches, {:.0} ms after\n",
            output::one_line(&self.model),
            self.adapter,
            self.latency_ms.median,
            self.latency_ms.p95,
            self.runs,
            self.images,
            self.images_per_s,
            self.dispatches,
            self.submits,
            self.gpu_bytes,
            self.first_result_ms.cold,
            self.first_result_ms.warm,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_times() {
        let of = |times: Vec<f64>| Latency::of(times);
        let hundred = of((1..=100).rev().map(f64::from).collect());
        assert_eq!((hundred.median, hundred.p95), (50.0, 95.0));
        let three = of(vec![3.0, 1.0, 2.0]);
        assert_eq!((three.median, three.p95), (2.0, 3.0));
        assert_eq!(of(vec![7.0]).median, 7.0);
    }
}
