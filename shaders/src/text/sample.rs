//! The choice of the next token, on the device, so that the next run reads it from a buffer and nobody waits.

use super::CURSOR_WORDS;
use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work, fitting,
    traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::SAMPLE;

/// `token = argmax logits`; among equals the lower token, and never one whose logit is NaN
///
/// Inputs: logits `[1, vocabulary]` in f32, and the session's `tokens [context]` and cursor `[2]` (position, tokens of the run) as
/// words, both updated in place: the token is written after the run's tokens if there is room, the position moves there, and the
/// next run adds one token. Outputs: the token `[1]` as a word, [`Sample::NONE`] when every logit is NaN, then tokens and cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample;

impl Sample {
    /// No token.
    pub const NONE: u32 = u32::MAX;
}

impl Kernel for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [logits, tokens, cursor] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "logits, tokens, cursor", found: inputs.len() });
        };
        let refuse = |position: usize, expected: &str| {
            Err(ShapeError::Input { kernel, position, expected: expected.to_owned(), found: inputs[position].clone() })
        };
        if logits.format != Format::F32 || logits.rows() != 1 || logits.shape.len() != 2 || logits.is_empty() {
            return refuse(0, "logits [1, vocabulary] in f32");
        }
        if tokens.format != Format::Word || tokens.shape.len() != 1 || tokens.is_empty() {
            return refuse(1, "words [context]");
        }
        if *cursor != Desc::new(Format::Word, [CURSOR_WORDS]) {
            return refuse(2, "words [2]");
        }
        Ok(vec![Desc::new(Format::Word, [1]), tokens.clone(), cursor.clone()])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        let path = if caps.software { "sweep" } else { "portable" };
        fitting(SOURCES, &[("path", path)], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let params = vec![call.inputs[0].last() as u32, call.inputs[1].len() as u32];
        let mut launch = Launch::new(call, params, [1, 1, 1]);
        use crate::Operand::{Input, Output};
        launch.operands = vec![Input(0), Output(1), Output(2), Output(0)];
        launch
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(1, 1), (2, 2)]
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let logits = inputs[0].values();
        let numbers = logits.iter().enumerate().filter(|(_, v)| !v.is_nan());
        let better = |best: Option<(usize, f32)>, (i, v): (usize, &f32)| match best {
            Some((_, top)) if *v <= top => best,
            _ => Some((i, *v)),
        };
        let token = numbers.fold(None, better).map_or(Sample::NONE, |(i, _)| i as u32);
        let (mut tokens, cursor) = (inputs[1].words.clone(), &inputs[2].words);
        let position = cursor[0].saturating_add(cursor[1]);
        if let Some(place) = tokens.get_mut(position as usize) {
            *place = token;
        }
        let words = [vec![token], tokens, vec![position, 1]];
        words.into_iter().zip(outputs).map(|(words, desc)| HostTensor::from_words(desc.clone(), words)).collect()
    }

    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: call.inputs[0].len() as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Vocabularies below, on and off the invocations, ties, negative logits, NaN, a full context.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, what: &str, vocabulary: usize, [position, count, context]: [u32; 3], fill: Fill| {
        let inputs = vec![
            (Desc::f32([1, vocabulary]), fill),
            (Desc::new(Format::Word, [context as usize]), Fill::Noise),
            (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![position, count])),
        ];
        let label = format!("{vocabulary}.{what}.{count}at{position}of{context}");
        cases.push(Case { label, kernel: Arc::new(Sample), inputs, tier });
    };
    let ties = |n: usize| Fill::Values((0..n).map(|i| ((i * 7) % 5) as f32 - 9.0).collect());
    add(Tier::Short, "noise", 1003, [4, 1, 9], Fill::Noise);
    add(Tier::Short, "ties", 41, [0, 3, 4], ties(41));
    add(Tier::Short, "full", 7, [3, 1, 4], Fill::Range(-3.0, -2.0));
    for n in [1, 2, 3, 4, 5, 31, 32, 33, 1023, 1024, 1025, 1028] {
        add(Tier::Full, "noise", n, [1, 2, 8], Fill::Noise);
        add(Tier::Full, "ties", n, [1, 2, 8], ties(n));
    }
    add(Tier::Model, "noise", 49_152, [1, 1, 256], Fill::Range(-10.0, 15.0));
    add(Tier::Model, "noise", 151_936, [1, 1, 256], Fill::Range(-10.0, 15.0));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_is_the_lowest_of_equals_and_never_nan() {
        for (logits, expected) in [
            (vec![f32::NAN, -2.0, -1.0, -1.0], 2),
            (vec![f32::NAN, f32::NAN], Sample::NONE),
            (vec![f32::NEG_INFINITY, f32::NAN], 0),
        ] {
            let logits = HostTensor::from_values(Desc::f32([1, logits.len()]), &logits);
            let tokens = HostTensor::from_words(Desc::new(Format::Word, [4]), vec![9; 4]);
            let cursor = HostTensor::from_words(Desc::new(Format::Word, [2]), vec![1, 2]);
            let outputs = Sample.outputs(&[logits.desc.clone(), tokens.desc.clone(), cursor.desc.clone()]).unwrap();
            let found = Sample.reference(&[&logits, &tokens, &cursor], &outputs);
            assert_eq!(found[0].words, [expected]);
            assert_eq!(found[1].words, [9, 9, 9, expected]);
            assert_eq!(found[2].words, [3, 1]);
        }
    }
}
