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
    /// [`Error::Short`] for fewer than two tokens; [`Error::NotFinite`] when a logit is no number, or logits lie so far apart that
    /// the perplexity is none; as [`Session::feed`].
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
        finite(&session, (loss / count as f64).exp())
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
    finite(session, loss)
}

/// Refuses what is no number.
fn finite(session: &Session, found: f64) -> Result<f64> {
    match found.is_finite() {
        true => Ok(found),
        false => Err(Error::NotFinite { network: session.model().config().model_type.clone() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::super::DecoderFiles;
    use super::*;
    use lampyris_engine::Gpu;
    use lampyris_engine::weights::Weights;

    /// A model that gives the token 0 a logit of eight times `large` and all others 0, whatever comes before.
    fn sure(large: f32) -> Decoder {
        const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 32, "rms_norm_eps": 1e-9}"#;
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        let mut put = |name: &str, shape: &[usize], first: usize, value: f32| {
            let (begin, count) = (data.len(), shape.iter().product::<usize>());
            data.extend((0..count).flat_map(|at| if at < first { value } else { 0.0 }.to_le_bytes()));
            let offsets = [begin, data.len()];
            let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets });
            header.insert(format!("{name}.weight"), entry);
        };
        put("model.embed_tokens", &[32, 8], 256, 1.0);
        put("model.norm", &[8], 8, 1.0);
        put("lm_head", &[32, 8], 8, large);
        let layer = |name: &str| format!("model.layers.0.{name}");
        ["q", "k", "v", "o"].iter().for_each(|it| put(&layer(&format!("self_attn.{it}_proj")), &[8, 8], 0, 0.0));
        [("gate", [4, 8]), ("up", [4, 8]), ("down", [8, 4])]
            .iter()
            .for_each(|(it, shape)| put(&layer(&format!("mlp.{it}_proj")), shape, 0, 0.0));
        ["input", "post_attention"].iter().for_each(|it| put(&layer(&format!("{it}_layernorm")), &[8], 8, 1.0));
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        let weights = Weights::from_bytes("sure", file).unwrap().into();
        Decoder::new(&Gpu::cpu_executor(), DecoderFiles { weights, config: Some(CONFIG.into()) }).unwrap()
    }

    #[test]
    fn a_perplexity_that_is_no_number_is_refused() {
        let measure = |large: f32| {
            let (model, gpu) = (sure(large), Gpu::cpu_executor());
            gpu.block_on(model.perplexity(&[1, 2, 3], Products::Exact, |_| ()))
        };
        let found = measure(1.0).unwrap();
        assert!((found - (8_f64.exp() + 31.0)).abs() < 1.0, "{found}");
        assert!(matches!(measure(100.0), Err(Error::NotFinite { .. })));
    }
}
