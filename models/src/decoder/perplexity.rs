//! The text on which language models are compared: how well each of its tokens is foreseen.

use super::{Decoder, Products, Session, SessionOptions};
use crate::{Error, Result};

/// Tokens of a window of a text: each begins anew.
const WINDOW: usize = 512;
/// Logits that are held at once.
const MOST_LOGITS: usize = 8 << 20;

impl Decoder {
    /// The perplexity of a text of `ids`: the exponential of what its tokens cost on average, in natural logarithms. Every token but
    /// the first of each window of 512, or of the context where that is smaller, is guessed from those before it. Tokens are multiplied as
    /// those of a prompt with `products`. Tells `progress` the tokens that were read.
    ///
    /// # Errors
    /// [`Error::Short`] for fewer than two tokens; [`Error::NotFinite`] when a logit is no number; as [`Session::feed`].
    pub async fn perplexity(&self, ids: &[u32], products: Products, mut progress: impl FnMut(u64)) -> Result<f64> {
        if ids.len() < 2 {
            return Err(Error::Short { tokens: ids.len() });
        }
        let window = WINDOW.min(self.config().context).min(ids.len()).max(2);
        let step = (MOST_LOGITS / self.config().vocabulary).clamp(1, window);
        // The logits are computed in small runs, and what larger ones had computed would be computed anew.
        let options = SessionOptions::from(window).products(products).chunk(Decoder::CHUNK);
        let mut session = self.session(options).await?;
        let (mut loss, mut count) = (0.0, 0_usize);
        for text in ids.chunks(window).filter(|text| text.len() > 1) {
            session.rewind(0);
            let mut at = 0;
            for part in text.chunks(step) {
                loss += losses(&mut session, (part, at), &text[1..]).await?;
                at += part.len();
                progress(part.len() as u64);
            }
            count += text.len() - 1;
        }
        Ok((loss / count as f64).exp())
    }
}

/// Feeds some tokens of a window, the first of them number `at`, and sums what the tokens after each cost.
async fn losses(session: &mut Session, (part, at): (&[u32], usize), next: &[u32]) -> Result<f64> {
    let vocabulary = session.model().config().vocabulary;
    session.feed(part).await?;
    let logits = session.logits_from(at).await?;
    let loss = |(row, next): (&[f32], &u32)| {
        let top = f64::from(row.iter().fold(f32::MIN, |most, value| most.max(*value)));
        let total: f64 = row.iter().map(|value| (f64::from(*value) - top).exp()).sum();
        top + total.ln() - f64::from(row.get(*next as usize).copied().unwrap_or(f32::NAN))
    };
    let loss: f64 = logits.chunks(vocabulary).zip(next.get(at..).unwrap_or_default()).map(loss).sum();
    match loss.is_finite() {
        true => Ok(loss),
        false => Err(Error::NotFinite { network: session.model().config().model_type.clone() }),
    }
}
