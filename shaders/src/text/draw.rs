//! The draw of the next token, on the device, so that a session that samples never waits for the host either.

use super::{CURSOR_WORDS, DrawSettings, Sample};
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::DRAW;

/// `token = argmax (score + gumbel)` over the tokens that the filters of [`DrawSettings`] leave, which draws each with its probability
/// among them (Gumbel 1954)
///
/// `score` is the logit after the penalties and divided by the temperature. Then, in Hugging Face's order: top-k keeps what is at
/// least the k-th largest score, top-p what has less than p of the remaining mass above it, min-p what is at least p times as likely
/// as the likeliest. Equal scores share their fate; NaN and minus infinity are never drawn. `gumbel` is made of Philox4x32-10 (Salmon
/// et al. 2011) keyed by the seed, counting tokens and positions. At temperature 0 it is left out, and the lower of equals is taken.
///
/// Inputs: logits `[1, vocabulary]` in f32, at most 2^19 of them; the session's `tokens [context]` and cursor `[2]`, updated in place
/// as [`Sample`] does; settings `[10]`, see [`DrawSettings::words`]. Outputs: the token `[1]` as a word, [`Sample::NONE`] when none can be
/// drawn; tokens and cursor; the token's log-probability `[1]` by the logits as they came; the scores `[1, vocabulary]`, the lowest
/// number of f32 for tokens that are never drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draw;

/// Scores are held between this and its negative.
const LARGEST: f64 = 3e38;

impl Kernel for Draw {
    fn name(&self) -> &'static str {
        "draw"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [logits, tokens, cursor, settings] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "logits, tokens, cursor, settings", found: inputs.len() });
        };
        let refuse = |position: usize, expected: &str| {
            Err(ShapeError::Input { kernel, position, expected: expected.to_owned(), found: inputs[position].clone() })
        };
        let flat = logits.format == Format::F32 && logits.rows() == 1 && logits.shape.len() == 2;
        if !flat || logits.is_empty() || logits.len() > 1 << 19 {
            return refuse(0, "logits [1, vocabulary] in f32, at most 2^19");
        }
        if tokens.format != Format::Word || tokens.shape.len() != 1 || tokens.is_empty() {
            return refuse(1, "words [context]");
        }
        if *cursor != Desc::new(Format::Word, [CURSOR_WORDS]) {
            return refuse(2, "words [2]");
        }
        if *settings != Desc::new(Format::Word, [DrawSettings::WORDS]) {
            return refuse(3, "words [10]");
        }
        Ok(vec![Desc::new(Format::Word, [1]), tokens.clone(), cursor.clone(), Desc::f32([1]), logits.clone()])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let params = vec![call.inputs[0].last() as u32, call.inputs[1].len() as u32];
        let mut launch = Launch::new(call, params, [1, 1, 1]);
        use crate::Operand::{Input, Output};
        launch.operands = vec![Input(0), Input(3), Output(1), Output(2), Output(0), Output(3), Output(4)];
        launch
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(1, 1), (2, 2)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let (mut tokens, cursor) = (inputs[1].words.clone(), &inputs[2].words);
        let position = cursor[0].saturating_add(cursor[1]);
        let (logits, settings) = (inputs[0].values(), &inputs[3].words);
        let scores = scores(&logits, &tokens[..(position as usize).min(tokens.len())], settings);
        let drawn = choose(&scores, position, settings);
        let token = drawn.token.map_or(Sample::NONE, |token| token as u32);
        if let Some(place) = tokens.get_mut(position as usize) {
            *place = token;
        }
        let likely = drawn.token.map_or(0.0, |token| log_probability(&logits, token));
        vec![
            HostTensor::from_words(outputs[0].clone(), vec![token]),
            HostTensor::from_words(outputs[1].clone(), tokens),
            HostTensor::from_words(outputs[2].clone(), vec![position, 1]),
            HostTensor::from_values(outputs[3].clone(), &[likely as f32]),
            HostTensor::from_values(outputs[4].clone(), &scores),
        ]
    }

    /// Token and position are exact. A log-probability is a difference of logits and `ln(1 + rest)`, both negative; `rest` is a sum of
    /// `exp(v)` with errors of `3 + 2 abs(v)` units, down to `exp(-32)`. A score is six roundings.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance {
        let (sum, eps) = (Tolerance::of_sum(call.inputs[0].len(), Format::F32).relative, f64::from(f32::EPSILON));
        Tolerance { relative: sum + 71.0 * eps }
    }

    /// As much as the filters look at is not known before; a pass over the vocabulary is counted for scores, sums and draws each.
    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 20.0 * call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn real(settings: &[u32], at: usize) -> f64 {
    f64::from(f32::from_bits(settings[at]))
}

/// Whether a token can be drawn at all.
fn possible(logit: f32) -> bool {
    f64::from(logit) >= -LARGEST
}

/// The logits after penalties and temperature.
fn scores(logits: &[f32], seen: &[u32], settings: &[u32]) -> Vec<f32> {
    let mut counts = vec![0.0; logits.len()];
    for token in seen {
        if let Some(count) = counts.get_mut(*token as usize) {
            *count += 1.0;
        }
    }
    let factor = if real(settings, 0) == 0.0 { 1.0 } else { real(settings, 0) };
    let score = |(logit, count): (&f32, f64)| {
        if !possible(*logit) {
            return f32::MIN;
        }
        let mut score = f64::from(*logit).min(LARGEST);
        if count > 0.0 {
            score *= real(settings, if score > 0.0 { 5 } else { 4 });
            score -= real(settings, 6) + real(settings, 7) * count;
        }
        let score = (score * factor).clamp(-LARGEST, LARGEST) as f32;
        if score.abs() < f32::MIN_POSITIVE { 0.0 } else { score }
    };
    logits.iter().zip(counts).map(score).collect()
}

/// A token, and how far it was from another one.
struct Drawn {
    token: Option<usize>,
    /// The smallest change of a score, of a share of the mass or of a threshold that would have changed what is kept or drawn.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests ask whether cases are decided clearly"))]
    margin: f64,
}

/// Filters and draws by the definitions, on the sorted tokens.
fn choose(scores: &[f32], position: u32, settings: &[u32]) -> Drawn {
    let mut kept: Vec<(usize, f64)> =
        scores.iter().enumerate().filter(|(_, s)| possible(**s)).map(|(i, s)| (i, f64::from(*s))).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some(&(_, top)) = kept.first() else { return Drawn { token: None, margin: f64::INFINITY } };
    let mut margin = f64::INFINITY;

    let k = settings[1] as usize;
    if k > 0 && k < kept.len() {
        let last = kept[k - 1].1;
        let first_out = kept.iter().position(|(_, s)| *s < last).unwrap_or(kept.len());
        if let Some((_, out)) = kept.get(first_out) {
            margin = margin.min(last - out);
        }
        kept.truncate(first_out);
    }

    let share = real(settings, 2);
    if share < 1.0 {
        let total: f64 = kept.iter().map(|(_, s)| (s - top).exp()).sum();
        let (mut above, mut end) = (0.0, 0);
        while end < kept.len() && above < share * total {
            margin = margin.min((share - above / total).abs());
            let equal = kept[end..].iter().take_while(|(_, s)| *s == kept[end].1).count();
            above += equal as f64 * (kept[end].1 - top).exp();
            end += equal;
        }
        margin = margin.min((share - above / total).abs());
        kept.truncate(end);
    }

    let floor = top + real(settings, 3);
    let near = kept.iter().map(|(_, s)| (s - floor).abs()).fold(f64::INFINITY, f64::min);
    margin = margin.min(near);
    kept.retain(|(_, s)| *s >= floor);

    let greedy = real(settings, 0) == 0.0;
    let seed = [settings[8], settings[9]];
    let value = |token: usize, score: f64| match greedy {
        true => score,
        false => score - top + gumbel(philox([token as u32, position, 0, 0], seed)),
    };
    let mut values: Vec<(usize, f64)> = kept.iter().map(|(token, score)| (*token, value(*token, *score))).collect();
    values.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if let [first, second, ..] = values[..] {
        // Equals are decided by their number, clearly.
        margin = margin.min(if first.1 == second.1 { f64::INFINITY } else { first.1 - second.1 });
    }
    Drawn { token: values.first().map(|(token, _)| *token), margin }
}

/// The log-probability of `token` by the logits alone.
fn log_probability(logits: &[f32], token: usize) -> f64 {
    let held = |logit: f32| f64::from(logit).min(LARGEST);
    let real = || logits.iter().copied().filter(|logit| possible(*logit)).map(held);
    let top = real().fold(f64::MIN, f64::max);
    held(logits[token]) - top - real().map(|logit| (logit - top).exp()).sum::<f64>().ln()
}

/// Ten rounds of Philox on four words (Salmon, Moraes, Dror and Shaw 2011: Parallel random numbers: as easy as 1, 2, 3).
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        let high = |product: u64| (product >> 32) as u32;
        counter = [high(second) ^ counter[1] ^ key[0], second as u32, high(first) ^ counter[3] ^ key[1], first as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// A number of the standard Gumbel distribution. The first word's leading zeros say between which powers of two the even number
/// lies, the second word where.
fn gumbel(words: [u32; 4]) -> f64 {
    let fraction = 1.0 + f64::from(words[1] >> 9) / f64::from(1 << 23);
    let even = fraction * 0.5f64.powi(words[0].leading_zeros() as i32 + 1);
    -(-(-even).ln_1p()).ln()
}

/// Vocabularies below, on and off the invocations; tokens beyond a session's eights; each filter alone and all together; ties, NaN, infinities, a full context.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, what: &str, vocabulary: usize, seen: &[u32], settings: DrawSettings, fill: Fill| {
        let context = (seen.len() + 1).max(8);
        let tokens = (0..context).map(|i| seen.get(i).copied().unwrap_or(7)).collect();
        let inputs = vec![
            (Desc::f32([1, vocabulary]), fill),
            (Desc::new(Format::Word, [context]), Fill::Words(tokens)),
            (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![seen.len() as u32, 0])),
            (Desc::new(Format::Word, [DrawSettings::WORDS]), Fill::Words(settings.words().to_vec())),
        ];
        cases.push(Case { label: format!("{vocabulary}.{what}"), kernel: Arc::new(Draw), inputs, tier });
    };
    let plain = DrawSettings { temperature: 1.0, seed: 0x0123_4567_89AB_CDEF, ..DrawSettings::GREEDY };
    let penalties =
        DrawSettings { repetition_penalty: 1.3, presence_penalty: 0.4, frequency_penalty: 0.3, ..DrawSettings::GREEDY };
    let all = DrawSettings { top_k: 40, top_p: 0.9, min_p: 0.02, temperature: 0.7, seed: 5, ..penalties };
    let wide = Fill::Range(-6.0, 6.0);
    let seen = [3, 5, 3, 1_000_000, 2, 3, 8, 3, 11, 40, 5];
    let ties = |n: usize| Fill::Values((0..n).map(|i| ((i * 7) % 5) as f32 - 9.0).collect());
    add(Tier::Short, "greedy", 1003, &seen, penalties, wide.clone());
    add(Tier::Short, "plain", 1003, &[1], plain, wide.clone());
    add(Tier::Short, "top_k", 77, &[1], DrawSettings { top_k: 5, ..plain }, wide.clone());
    add(Tier::Short, "top_p", 77, &[1], DrawSettings { top_p: 0.8, temperature: 2.0, ..plain }, wide.clone());
    add(Tier::Short, "min_p", 77, &[1], DrawSettings { min_p: 0.1, ..plain }, wide.clone());
    add(Tier::Short, "all", 1003, &seen, all, wide.clone());
    add(Tier::Short, "ties", 41, &[1, 2], DrawSettings { top_k: 3, ..plain }, ties(41));
    let odd = vec![f32::NAN, -2.0, f32::NEG_INFINITY, -1.5, -2.5, f32::NAN, 0.0];
    add(Tier::Short, "odd", 7, &[1, 4], DrawSettings { top_p: 0.95, ..plain }, Fill::Values(odd));
    add(Tier::Short, "none", 3, &[1], plain, Fill::Values(vec![f32::NAN, f32::NEG_INFINITY, f32::NAN]));
    for n in [1, 2, 3, 4, 5, 31, 32, 33, 1023, 1024, 1025, 1028] {
        add(Tier::Full, "all", n, &seen, all, wide.clone());
        add(Tier::Full, "flat", n, &[1], DrawSettings { top_p: 0.55, ..plain }, Fill::Noise);
        add(Tier::Full, "ties", n, &[1], DrawSettings { top_p: 0.55, ..plain }, ties(n));
        add(Tier::Full, "huge", n, &[1], DrawSettings { top_k: 9, ..plain }, Fill::Range(-2e38, 2e38));
        add(Tier::Full, "cold", n, &seen, DrawSettings { temperature: 1e-3, ..all }, wide.clone());
    }
    let large = Fill::Range(-10.0, 15.0);
    add(Tier::Model, "all", 49_152, &seen, all, large.clone());
    let steep = DrawSettings { top_p: 0.9, temperature: 0.2, ..plain };
    add(Tier::Model, "top_p", 151_936, &seen, steep, large.clone());
    add(Tier::Model, "top_k", 262_144, &seen, DrawSettings { top_k: 64, top_p: 0.95, ..plain }, large.clone());
    add(Tier::Model, "plain", 262_144, &seen, plain, large);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: DrawSettings = DrawSettings { temperature: 1.0, ..DrawSettings::GREEDY };

    fn draw(logits: &[f32], seen: &[u32], settings: DrawSettings) -> Option<usize> {
        let words = settings.words();
        choose(&scores(logits, seen, &words), seen.len() as u32, &words).token
    }

    /// How often each of `n` tokens is drawn, in `draws` draws with a seed each.
    fn frequencies(logits: &[f32], settings: DrawSettings, draws: u64) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for seed in 0..draws {
            counts[draw(logits, &[], DrawSettings { seed, ..settings }).unwrap()] += 1.0 / draws as f64;
        }
        counts
    }

    /// The known answers of Random123, the authors' own implementation.
    #[test]
    fn philox_gives_the_published_words() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344, 0xa409_3822, 0x299f_31d0];
        for (words, expected) in [
            ([0; 6], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 6], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ] {
            let [a, b, c, d, k, l] = words;
            assert_eq!(philox([a, b, c, d], [k, l]), expected);
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [0.5, -1.0, 2.0, f32::NEG_INFINITY, 1.0, 0.0];
        let draws = 40_000;
        for settings in [PLAIN, DrawSettings { temperature: 0.6, ..PLAIN }, DrawSettings { top_k: 3, ..PLAIN }] {
            let weight = |l: &f32| (f64::from(*l) / f64::from(settings.temperature)).exp();
            let kept = |l: &&f32| settings.top_k == 0 || **l >= 0.5;
            let total: f64 = logits.iter().filter(kept).map(weight).sum();
            for (logit, found) in logits.iter().zip(frequencies(&logits, settings, draws)) {
                let expected = if kept(&logit) { weight(logit) / total } else { 0.0 };
                // Five standard deviations of a binomial frequency.
                let allowed = 5.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
                assert!((found - expected).abs() <= allowed, "{logit}: {found} and not {expected}");
            }
        }
    }

    #[test]
    fn each_filter_keeps_what_it_says() {
        // Probabilities 0.4, 0.3, 0.2, 0.1.
        let logits = [0.4f32, 0.3, 0.2, 0.1].map(f32::ln);
        let kept = |settings: DrawSettings| frequencies(&logits, settings, 300).iter().filter(|f| **f > 0.0).count();
        assert_eq!(kept(PLAIN), 4);
        for (top_p, expected) in [(0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.95, 4)] {
            assert_eq!(kept(DrawSettings { top_p, ..PLAIN }), expected, "{top_p}");
        }
        for (min_p, expected) in [(0.2, 4), (0.3, 3), (0.7, 2), (1.0, 1)] {
            assert_eq!(kept(DrawSettings { min_p, ..PLAIN }), expected, "{min_p}");
        }
        // Top-k comes first: of 0.4 and 0.3, 4 / 7 is the likelier one's share.
        assert_eq!(kept(DrawSettings { top_k: 2, top_p: 0.5, ..PLAIN }), 1);
        assert_eq!(kept(DrawSettings { top_k: 2, top_p: 0.6, ..PLAIN }), 2);
        assert_eq!(kept(DrawSettings { top_k: 9, ..PLAIN }), 4);
    }

    #[test]
    fn penalties_are_those_of_the_papers() {
        let settings = DrawSettings {
            temperature: 0.5,
            repetition_penalty: 2.0,
            presence_penalty: 0.25,
            frequency_penalty: 0.125,
            ..DrawSettings::GREEDY
        };
        let found = scores(&[3.0, -3.0, 1.0, f32::NAN], &[0, 1, 0, 3, 99], &settings.words());
        assert_eq!(found, [2.0 * (1.5 - 0.5), 2.0 * (-6.0 - 0.375), 2.0, f32::MIN]);
        assert_eq!(draw(&[3.0, 0.0, 1.75], &[0], DrawSettings { temperature: 0.0, ..settings }), Some(2));
    }

    #[test]
    fn the_likeliest_is_the_lowest_of_equals_and_impossible_ones_are_never_drawn() {
        assert_eq!(draw(&[f32::NAN, -2.0, -1.0, -1.0], &[], DrawSettings::GREEDY), Some(2));
        assert_eq!(draw(&[f32::NAN, f32::NEG_INFINITY], &[], PLAIN), None);
        assert_eq!(draw(&[0.0, f32::INFINITY], &[], PLAIN), Some(1));
    }

    #[test]
    fn the_log_probability_is_of_the_logits_as_they_came() {
        let logits = [0.4f32, 0.3, 0.2, 0.1].map(f32::ln);
        assert!((log_probability(&logits, 2) - 0.2f64.ln()).abs() < 1e-7);
    }

    /// A device's rounding moves a score, a threshold or a share by some 1e-6; no case may turn on that.
    #[test]
    fn every_case_is_decided_clearly() {
        for case in cases() {
            let inputs = case.tensors();
            let (position, settings) = (inputs[2].words[0], &inputs[3].words);
            let scores = scores(&inputs[0].values(), &inputs[1].words[..position as usize], settings);
            let margin = choose(&scores, position, settings).margin;
            assert!(margin > 1e-5, "{}: {margin:e}", case.label);
        }
    }
}
