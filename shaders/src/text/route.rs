//! Which experts a token goes to, decided on the device so that nobody waits for it.

use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, traffic,
};
use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::ROUTE;

/// The `chosen` experts of each token with the largest logits, and their shares `softmax(logits)` (Shazeer et al. 2017)
///
/// Input: logits `[m, experts]` in f32. Outputs: the experts `[m, chosen]` as words, the largest logit first and of equals the lower
/// expert, and their shares `[m, chosen]` in f32. A logit that is NaN counts as the lowest; the experts are different ones in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Experts of a token.
    pub chosen: usize,
    /// The shares of the chosen experts are divided by their sum.
    pub renormalized: bool,
}

impl Route {
    /// The most experts.
    pub const MAX_EXPERTS: usize = 1024;
    /// The most experts of a token.
    pub const MAX_CHOSEN: usize = 64;
}

impl Kernel for Route {
    fn name(&self) -> &'static str {
        "route"
    }

    fn summary(&self) -> String {
        format!("top {}{}", self.chosen, if self.renormalized { " renormalized" } else { "" })
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [logits] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "logits", found: inputs.len() });
        };
        let ([m, experts], Format::F32, false) = (&logits.shape[..], logits.format, logits.is_empty()) else {
            let (expected, found) = ("logits [tokens, experts] in f32, not empty".to_owned(), logits.clone());
            return Err(ShapeError::Input { kernel, position: 0, expected, found });
        };
        if *experts > Route::MAX_EXPERTS || self.chosen == 0 || self.chosen > Route::MAX_CHOSEN.min(*experts) {
            let reason = format!("{} of {experts} experts; of at most 1024 it chooses 1 to 64", self.chosen);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        let shape = [*m, self.chosen];
        Ok(vec![Desc::new(Format::Word, shape), Desc::f32(shape)])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software { "sweep" } else { "portable" };
        fitting(SOURCES, &[("path", path)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let (m, experts) = (call.inputs[0].rows() as u32, call.inputs[0].last());
        let four = |columns: usize| columns.div_ceil(4) as u32;
        let (e4, c4) = (four(experts), four(self.chosen));
        let params = vec![experts as u32, e4, self.chosen as u32, c4, u32::from(self.renormalized)];
        Launch::new(call, params, [m, 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (mut chosen, mut shares) = (Vec::new(), Vec::new());
        for logits in inputs[0].values().chunks(inputs[0].desc.last()) {
            let mut order: Vec<usize> = (0..logits.len()).collect();
            // The sort is stable, which leaves the lower of equals first.
            order.sort_by(|a, b| match (logits[*a].is_nan(), logits[*b].is_nan()) {
                (false, false) => logits[*b].partial_cmp(&logits[*a]).unwrap_or(Ordering::Equal),
                (a, b) => a.cmp(&b),
            });
            let top = f64::from(logits[order[0]]);
            let exponential = |expert: &usize| (f64::from(logits[*expert]) - top).exp();
            let among = if self.renormalized { &order[..self.chosen] } else { &order[..] };
            let total: f64 = among.iter().map(exponential).sum();
            chosen.extend(order[..self.chosen].iter().map(|expert| *expert as u32));
            shares.extend(order[..self.chosen].iter().map(|expert| (exponential(expert) / total) as f32));
        }
        vec![HostTensor::from_words(outputs[0].clone(), chosen), HostTensor::from_values(outputs[1].clone(), &shares)]
    }

    /// As the softmax of a list of classes; experts are whole words, so none may differ.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let sum = Tolerance::of_sum(call.inputs[0].last(), Format::F32).relative;
        Tolerance { relative: sum + 8.5 * f64::from(f32::EPSILON) }
    }

    fn work(&self, call: &Call<'_>) -> Work {
        let experts = call.inputs[0].last() as f64;
        Work { flops: call.inputs[0].len() as f64 * (experts + 2.0), bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Experts below, on and off the invocations, ties, all of the experts, one of one, and the routers of published models.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, what: &str, [m, experts, chosen]: [usize; 3], renormalized: bool, fill: Fill| {
        let kernel = Route { chosen, renormalized };
        let label = format!("{m}x{experts}.{what}.{}", kernel.summary().replace(' ', "."));
        let inputs = vec![(Desc::f32([m, experts]), fill)];
        cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier });
    };
    let wide = Fill::Range(-4.0, 4.0);
    // Few values, both zeros among them.
    let ties = |n: usize| Fill::Values((0..n).map(|i| [0.5, 0.0, -0.0, -2.0][i * i % 11 % 4]).collect());
    add(Tier::Short, "noise", [3, 6, 2], true, wide.clone());
    add(Tier::Short, "noise", [2, 13, 5], false, wide.clone());
    add(Tier::Short, "ties", [3, 11, 4], true, ties(33));
    add(Tier::Short, "equal", [2, 9, 3], false, Fill::Values(vec![-1.0; 18]));
    add(Tier::Short, "all", [2, 7, 7], false, wide.clone());
    add(Tier::Short, "one", [2, 1, 1], true, wide.clone());
    for experts in [2, 3, 4, 5, 8, 63, 64, 65, 512, 1024] {
        for renormalized in [true, false] {
            add(Tier::Full, "noise", [3, experts, 2], renormalized, wide.clone());
            add(Tier::Full, "ties", [2, experts, experts.min(Route::MAX_CHOSEN)], renormalized, ties(2 * experts));
        }
    }
    add(Tier::Model, "noise", [1, 128, 8], true, wide.clone());
    add(Tier::Model, "noise", [32, 128, 8], true, wide);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(kernel: Route, logits: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let logits = HostTensor::from_values(Desc::f32([1, logits.len()]), logits);
        let outputs = kernel.outputs(std::slice::from_ref(&logits.desc)).unwrap();
        let found = kernel.reference(&[&logits], &outputs);
        (found[0].words.clone(), found[1].values())
    }

    #[test]
    fn the_largest_come_first_and_shares_are_of_all_or_of_the_chosen() {
        let logits = [0.0, 3f32.ln(), 0.0, 4f32.ln()];
        let (chosen, shares) = route(Route { chosen: 2, renormalized: false }, &logits);
        assert_eq!(chosen, [3, 1]);
        assert!((shares[0] - 4.0 / 9.0).abs() < 1e-6 && (shares[1] - 3.0 / 9.0).abs() < 1e-6, "{shares:?}");
        let (_, shares) = route(Route { chosen: 2, renormalized: true }, &logits);
        assert!((shares[0] - 4.0 / 7.0).abs() < 1e-6 && (shares[1] - 3.0 / 7.0).abs() < 1e-6, "{shares:?}");
    }

    #[test]
    fn equals_go_to_the_lower_expert_and_no_number_is_the_last_choice() {
        let kernel = Route { chosen: 4, renormalized: true };
        assert_eq!(route(kernel, &[1.0, f32::NAN, -0.0, 1.0, 0.0]).0, [0, 3, 2, 4]);
        assert_eq!(route(kernel, &[f32::NAN, f32::NEG_INFINITY, f32::NAN, 2.0]).0, [3, 1, 0, 2]);
    }

    #[test]
    fn more_experts_than_there_are_cannot_be_chosen() {
        let refused = |chosen: usize, experts: usize| {
            Route { chosen, renormalized: true }.outputs(&[Desc::f32([1, experts])]).unwrap_err().to_string()
        };
        for (chosen, experts) in [(0, 4), (5, 4), (65, 100), (1, 1025)] {
            assert!(refused(chosen, experts).contains(&format!("{chosen} of {experts} experts")));
        }
    }
}
