//! The angles of rotary position embeddings, and the ways in which models stretch them over longer contexts.

/// How far a position turns each pair of columns of a head. (Su et al. 2021; the stretched forms as in the reference
/// implementation, Hugging Face transformers' `modeling_rope_utils`.)
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Rope {
    /// Pair `i` of `head / 2` turns by `theta^(-2 i / head)` a position.
    Plain {
        /// The base.
        theta: f64,
    },
    /// As plain, `factor` times slower (Chen et al. 2023).
    Linear {
        /// The base.
        theta: f64,
        /// How many times slower.
        factor: f64,
    },
    /// Slow pairs turn `factor` times slower, fast pairs as they did, those between in between (Llama 3.1).
    Llama3 {
        /// The base.
        theta: f64,
        /// How many times slower the slow pairs turn.
        factor: f64,
        /// Pairs that turn less often than this in the original context are slow.
        low: f64,
        /// Pairs that turn more often than this in the original context are fast.
        high: f64,
        /// Positions the model was first trained on.
        original: f64,
    },
    /// As Llama 3's with a ramp over the pairs, and cosines and sines scaled (Peng et al. 2023).
    Yarn {
        /// The base.
        theta: f64,
        /// How many times slower the slow pairs turn.
        factor: f64,
        /// Pairs that turn more often than this in the original context are fast.
        fast: f64,
        /// Pairs that turn less often than this in the original context are slow.
        slow: f64,
        /// Positions the model was first trained on.
        original: f64,
        /// What cosines and sines are multiplied by.
        attention: f64,
        /// The ramp begins and ends at whole pairs.
        whole: bool,
    },
    /// Each pair has a factor of its own, another in sessions longer than the original context (Ding et al. 2024).
    Long {
        /// The base.
        theta: f64,
        /// How many times slower each pair turns in short sessions.
        short: Vec<f64>,
        /// How many times slower each pair turns in long sessions.
        long: Vec<f64>,
        /// Positions the model was first trained on.
        original: f64,
        /// What cosines and sines are multiplied by.
        attention: f64,
    },
}

impl Rope {
    /// What cosines and sines of [`Rope::Yarn`] are multiplied by where a file does not say; `scale` is 1 unless it says that.
    pub(super) fn yarn_attention(factor: f64, scale: f64) -> f64 {
        if factor > 1.0 { 0.1 * scale * factor.ln() + 1.0 } else { 1.0 }
    }

    /// What cosines and sines of [`Rope::Long`] are multiplied by where a file does not say; `factor` is how many times longer contexts are.
    pub(super) fn long_attention(factor: f64, original: f64) -> f64 {
        if factor > 1.0 { (1.0 + factor.ln() / original.ln()).sqrt() } else { 1.0 }
    }

    /// Radians a position turns each pair of a head of which `head` columns are turned, fastest first, in a session of `context` tokens.
    pub(super) fn speeds(&self, head: usize, context: usize) -> Vec<f64> {
        let (Rope::Plain { theta }
        | Rope::Linear { theta, .. }
        | Rope::Llama3 { theta, .. }
        | Rope::Yarn { theta, .. }
        | Rope::Long { theta, .. }) = self;
        let plain = |i: usize| theta.powf(-2.0 * i as f64 / head as f64);
        let tau = std::f64::consts::TAU;
        let speed = |i: usize| match *self {
            Rope::Plain { .. } => plain(i),
            Rope::Long { ref short, ref long, original, .. } => {
                let factors = if context as f64 > original { long } else { short };
                plain(i) / factors.get(i).copied().unwrap_or(1.0)
            }
            Rope::Linear { factor, .. } => plain(i) / factor,
            Rope::Llama3 { factor, low, high, original, .. } => {
                let turns = original * plain(i) / tau;
                let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                plain(i) * (share + (1.0 - share) / factor)
            }
            Rope::Yarn { theta, factor, fast, slow, original, whole, .. } => {
                let pair = |turns: f64| head as f64 * (original / (turns * tau)).ln() / (2.0 * theta.ln());
                let (first, last) = (pair(fast), pair(slow));
                let (first, last) = if whole { (first.floor(), last.ceil()) } else { (first, last) };
                let (first, last) = (first.max(0.0), last.min(head as f64 - 1.0));
                let width = if first == last { 0.001 } else { last - first };
                let share = 1.0 - ((i as f64 - first) / width).clamp(0.0, 1.0);
                plain(i) * (share + (1.0 - share) / factor)
            }
        };
        (0..head / 2).map(speed).collect()
    }

    /// `[context, head]`: for each position the cosines of all pairs, then the sines. Of heads that have more columns than the `turned` ones
    /// the last pairs stay as they are.
    pub(super) fn turns(&self, context: usize, (turned, head): (usize, usize)) -> Vec<f32> {
        let speeds = self.speeds(turned, context);
        let scale =
            if let Rope::Yarn { attention, .. } | Rope::Long { attention, .. } = self { *attention } else { 1.0 };
        let angles = |position: usize| speeds.iter().map(move |speed| position as f64 * speed);
        let still = |value: f64| std::iter::repeat_n(value as f32, (head - turned) / 2);
        (0..context)
            .flat_map(|p| {
                let cosines = angles(p).map(|angle| (angle.cos() * scale) as f32).chain(still(1.0));
                let sines = angles(p).map(|angle| (angle.sin() * scale) as f32).chain(still(0.0));
                cosines.chain(sines).collect::<Vec<_>>()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pair_turns_a_radian_a_position_and_position_zero_not_at_all() {
        let turns = Rope::Plain { theta: 1e4 }.turns(3, (4, 4));
        assert_eq!(turns[..4], [1.0, 1.0, 0.0, 0.0]);
        let part = Rope::Plain { theta: 1e4 }.turns(3, (4, 8));
        assert_eq!(part[8..12], [turns[4], turns[5], 1.0, 1.0]);
        assert_eq!(part[12..16], [turns[6], turns[7], 0.0, 0.0]);
        assert_eq!(turns[4..8], [1f32.cos(), (0.01f64).cos() as f32, 1f64.sin() as f32, (0.01f64).sin() as f32]);
    }

    #[test]
    fn stretched_forms_slow_the_slow_pairs_and_leave_the_fast_ones() {
        let plain = Rope::Plain { theta: 1e4 }.speeds(64, 100);
        for rope in [
            Rope::Llama3 { theta: 1e4, factor: 8.0, low: 1.0, high: 4.0, original: 2048.0 },
            Rope::Yarn {
                theta: 1e4,
                factor: 8.0,
                fast: 32.0,
                slow: 1.0,
                original: 2048.0,
                attention: 1.2,
                whole: true,
            },
        ] {
            let speeds = rope.speeds(64, 100);
            assert_eq!(speeds[0], plain[0], "{rope:?}");
            assert!((speeds[31] * 8.0 - plain[31]).abs() < 1e-12, "{rope:?}");
            assert!(speeds.windows(2).all(|pair| pair[1] < pair[0]), "{rope:?}");
        }
        assert_eq!(Rope::Linear { theta: 1e4, factor: 2.0 }.speeds(8, 100)[0], 0.5);
    }

    /// The second and third pair are on the ramp: figures of transformers 5.24 for 32 columns turned over 32 positions, eight times stretched.
    #[test]
    fn a_ramp_may_begin_and_end_between_pairs() {
        let speeds = |whole: bool| {
            let (factor, fast, slow, original, attention) = (8.0, 32.0, 1.0, 32.0, 1.2);
            Rope::Yarn { theta: 1e4, factor, fast, slow, original, attention, whole }.speeds(32, 100)
        };
        for (whole, second, third) in [(true, 0.398_325_09, 0.131_761_57), (false, 0.388_342_23, 0.120_533_99)] {
            let speeds = speeds(whole);
            assert!((speeds[1] - second).abs() < 1e-7 && (speeds[2] - third).abs() < 1e-7, "{whole}: {speeds:?}");
            assert!((speeds[3] - 0.022_228_492).abs() < 1e-8, "{whole}: {speeds:?}");
        }
    }
}
