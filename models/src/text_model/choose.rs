//! Which of some given continuations a model finds likeliest: a decision instead of a text.

use super::TextSession;
use crate::{Error, Result};

/// One of the continuations that were offered.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// Its place among those offered.
    pub index: usize,
    /// The continuation as it was offered.
    pub text: String,
    /// The natural logarithm of the probability that the prompt goes on with exactly this text.
    pub log_probability: f64,
    /// Its share of the probabilities of all that were offered; these sum to 1.
    pub probability: f64,
}

impl TextSession {
    /// How likely each of `options` is as what follows `prompt`, the likeliest first. Longer texts are less likely than short ones:
    /// offer options of about the same length. What the session held before is forgotten.
    ///
    /// # Errors
    /// [`Error::NoChoice`] when nothing is offered, or a continuation that adds no token to the prompt; [`Error::Context`] when the
    /// prompt with one of them does not fit, even where the session slides;
    /// [`Error::NotFinite`] when a logit is no number; as [`TextSession::generate`].
    pub async fn choose(&mut self, prompt: &str, options: &[impl AsRef<str>]) -> Result<Vec<Choice>> {
        let tokenizer = self.model.tokenizer.clone();
        // Together with the prompt, because a token may span where the two meet.
        let encode = |option: &str| tokenizer.encode_prompt(&format!("{prompt}{option}"));
        let texts: Vec<Vec<u32>> = options.iter().map(|option| encode(option.as_ref())).collect::<Result<_, _>>()?;
        let Some(first) = texts.first() else { return Err(Error::NoChoice { option: None }) };
        let agree = |text: &Vec<u32>| text.iter().zip(first).take_while(|(a, b)| a == b).count();
        let prompt = tokenizer.encode_prompt(prompt)?;
        let meant = texts.iter().map(|text| text.iter().zip(&prompt).take_while(|(a, b)| a == b).count());
        let shared = texts.iter().map(agree).chain(meant).min().unwrap_or_default();
        if let Some(at) = texts.iter().position(|text| text.len() == shared) {
            return Err(Error::NoChoice { option: Some(options[at].as_ref().to_owned()) });
        }
        let context = self.session.context();
        if let Some(long) = texts.iter().find(|text| text.len() > context) {
            return Err(Error::Context { tokens: long.len(), context });
        }
        if shared == 0 {
            return Err(Error::Context { tokens: 0, context });
        }
        let mut choices = Vec::with_capacity(texts.len());
        for (index, (text, option)) in texts.iter().zip(options).enumerate() {
            let kept = self.session.tokens().iter().zip(text).take_while(|(a, b)| a == b).count();
            self.session.rewind(kept);
            self.session.feed(&text[kept..]).await?;
            let log_probability = self.log_probability(shared).await?;
            let text = option.as_ref().to_owned();
            choices.push(Choice { index, text, log_probability, probability: 0.0 });
        }
        let top = choices.iter().fold(f64::NEG_INFINITY, |top, choice| top.max(choice.log_probability));
        let total: f64 = choices.iter().map(|choice| (choice.log_probability - top).exp()).sum();
        for choice in &mut choices {
            choice.probability = (choice.log_probability - top).exp() / total;
        }
        choices.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        Ok(choices)
    }

    /// The logarithm of the probability of the session's tokens from `first` on, given those before.
    async fn log_probability(&mut self, first: usize) -> Result<f64> {
        let vocabulary = self.model.decoder.config().vocabulary;
        let logits = self.session.logits_from(first - 1).await?;
        let mut sum = 0.0;
        for (row, token) in logits.chunks_exact(vocabulary).zip(&self.session.tokens()[first..]) {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = row.iter().map(|logit| f64::from(logit - top).exp()).sum();
            sum += f64::from(row[*token as usize] - top) - total.ln();
        }
        if sum.is_nan() {
            return Err(Error::NotFinite { network: self.model.decoder.config().model_type.clone() });
        }
        Ok(sum)
    }
}
