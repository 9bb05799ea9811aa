//! What the metadata of a GGUF file says of a decoder.

use super::config::{HEADS, LAYERS, MOST_HEADS, MOST_LAYERS};
use super::{DecoderConfig, Mixture, Rope};
use crate::error::shown;
use crate::{Error, Result};
use lampyris_engine::kernels::text::{Attention, Route, Unit};
use lampyris_engine::weights::gguf::{Gguf, Value};

/// The metadata of one file, its keys below the architecture's name.
pub(crate) struct Metadata<'a> {
    /// The file.
    pub(crate) gguf: &'a Gguf,
    /// What its keys begin with.
    pub(crate) architecture: &'a str,
}

impl Metadata<'_> {
    pub(crate) fn value(&self, key: &str) -> Option<Value<'_>> {
        self.gguf.value(&format!("{}.{key}", self.architecture))
    }

    pub(crate) fn wrong(&self, key: &str, expected: &'static str) -> Error {
        let found = match self.value(key) {
            None => "missing".to_owned(),
            Some(Value::String(text)) => shown(text),
            Some(Value::Array(all)) => format!("an array of {}", all.len()),
            Some(value) => shown(&format!("{value:?}")),
        };
        Error::Config {
            file: self.gguf.file().to_owned(),
            key: format!("{}.{key}", self.architecture),
            found,
            expected,
        }
    }

    pub(crate) fn unsupported(&self, key: &str, found: &str, instead: &'static str) -> Error {
        Error::Unsupported { file: self.gguf.file().to_owned(), key: key.to_owned(), found: shown(found), instead }
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>> {
        let expected = "a whole number from 1 to 16777216";
        let read = |value: Value<'_>| value.integer().filter(|v| (1..=1 << 24).contains(v)).map(|v| v as usize);
        self.value(key).map(|value| read(value).ok_or_else(|| self.wrong(key, expected))).transpose()
    }

    pub(crate) fn needed(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.wrong(key, "a whole number from 1 to 16777216"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        let read = |value: Value<'_>| value.number().filter(|v| *v > 0.0 && *v < 1e12);
        self.value(key).map(|value| read(value).ok_or_else(|| self.wrong(key, "a number above 0"))).transpose()
    }

    /// As [`Metadata::number`], of a key for which llama.cpp reads 0 as if it were not there.
    fn unless_zero(&self, key: &str) -> Result<Option<f64>> {
        let zero = self.value(key).and_then(|value| value.number()) == Some(0.0);
        if zero { Ok(None) } else { self.number(key) }
    }

    /// The experts of a layer; a layer with gates of its own has none.
    fn mixture(&self, layers: usize) -> Result<Mixture> {
        let experts = self.needed("expert_count")?;
        if experts > Route::MAX_EXPERTS {
            return Err(self.wrong("expert_count", "a whole number from 1 to 1024"));
        }
        let chosen = self.needed("expert_used_count")?;
        if chosen > Route::MAX_CHOSEN.min(experts) {
            return Err(self.wrong("expert_used_count", "a whole number from 1 to expert_count, at most 64"));
        }
        if let Some(factor) = self.unless_zero("expert_weights_scale")?.filter(|factor| *factor != 1.0) {
            let (key, found) = (format!("{}.expert_weights_scale", self.architecture), factor.to_string());
            return Err(self.unsupported(&key, &found, "shares of experts are known as they are"));
        }
        let dense = |layer: usize| self.gguf.get(&format!("blk.{layer}.ffn_gate.weight")).is_some();
        let layers = (0..layers).map(|layer| !dense(layer)).collect();
        let width = self.needed("expert_feed_forward_length")?;
        // This architecture always divides the shares by their sum.
        Ok(Mixture { experts, chosen, width, renormalized: true, layers })
    }

    /// The positions that layers with a window see; 0 stands for all of them, and Gemma 2 of the first days says nothing of its own.
    fn window(&self) -> Result<Option<u32>> {
        let key = "attention.sliding_window";
        let none = self.value(key).is_some_and(|value| value.integer() == Some(0));
        let said = if none { None } else { self.size(key)? };
        let usual = (self.architecture == "gemma2" && self.value(key).is_none()).then_some(4096);
        Ok(said.or(usual).map(|window| window as u32))
    }

    /// Which layers have the window, where the file says it: every so many none, with 0 all of them, or layer by layer. llama.cpp reads
    /// truths and whole numbers alike there, 0 for none.
    fn pattern(&self, layers: usize) -> Result<Option<Vec<bool>>> {
        let (key, expected) =
            ("attention.sliding_window_pattern", "a whole number, or for each layer whether it has a window");
        let each = match self.value(key) {
            None => return Ok(None),
            Some(Value::Array(all)) => {
                let windowed = |value: Value<'_>| match value {
                    Value::Bool(it) => Some(it),
                    other => other.integer().map(|it| it != 0),
                };
                all.iter().map(windowed).collect::<Option<Vec<bool>>>().filter(|each| each.len() == layers)
            }
            Some(value) => {
                let every = value.integer().filter(|every| (0..1 << 24).contains(every));
                every.map(|every| (1..=layers).map(|layer| every == 0 || layer as i128 % every != 0).collect())
            }
        };
        each.map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    pub(crate) fn rows(&self, tensor: &str) -> Option<&[usize]> {
        self.gguf.get(tensor).map(|tensor| tensor.shape.as_slice())
    }

    /// Angles from the file's factors for each pair, or from what the metadata says of scaling.
    fn rope(&self, turned: usize, context: usize) -> Result<Rope> {
        let theta = self.number("rope.freq_base")?.unwrap_or(1e4);
        let original = self.number("rope.scaling.original_context_length")?.unwrap_or(context as f64);
        let factors = |tensor: &str| -> Result<Option<Vec<f64>>> {
            if self.gguf.get(tensor).is_none() {
                return Ok(None);
            }
            let factors: Vec<f64> = self.gguf.f32(tensor)?.into_iter().map(f64::from).collect();
            let fits = factors.len() == turned / 2 && factors.iter().all(|factor| *factor > 0.0);
            let instead = "it holds a number above 0 for each pair of a head";
            if fits {
                Ok(Some(factors))
            } else {
                let found = format!(
                    "{} numbers, the least {}",
                    factors.len(),
                    factors.iter().copied().fold(f64::NAN, f64::min)
                );
                Err(self.unsupported(tensor, &found, instead))
            }
        };
        // Files of the first days have another name for the factor, and none for its kind, which is linear then.
        let factor = self.unless_zero("rope.scaling.factor")?.or(self.unless_zero("rope.scale_linear")?);
        let kind = match self.value("rope.scaling.type") {
            Some(Value::String(kind)) => kind,
            _ if factor.is_some() => "linear",
            _ => "none",
        };
        if let Some(mut all) = factors("rope_freqs.weight")? {
            match (kind, factor) {
                // Both slow, as llama.cpp has it.
                ("linear", Some(factor)) => all.iter_mut().for_each(|slower| *slower *= factor),
                ("yarn", _) => return Err(self.unsupported("rope.scaling.type", kind, "rope_freqs is known without")),
                _ => {}
            }
            return Ok(Rope::Long { theta, short: all.clone(), long: all, original, attention: 1.0 });
        }
        if let (Some(short), Some(long)) = (factors("rope_factors_short.weight")?, factors("rope_factors_long.weight")?)
        {
            let known = || Rope::long_attention(context as f64 / original, original);
            let attention = self.number("rope.scaling.attn_factor")?.unwrap_or_else(known);
            return Ok(Rope::Long { theta, short, long, original, attention });
        }
        let factor = || factor.ok_or_else(|| self.wrong("rope.scaling.factor", "a number above 0"));
        match kind {
            "none" => Ok(Rope::Plain { theta }),
            "linear" => Ok(Rope::Linear { theta, factor: factor()? }),
            "yarn" => {
                let factor = factor()?;
                // Converters write these where a model has others than the usual ones.
                let number = |key: &str, usual: f64| -> Result<f64> { Ok(self.number(key)?.unwrap_or(usual)) };
                let usual = Rope::yarn_attention(factor, 1.0) * number("rope.scaling.attn_factor", 1.0)?;
                let attention = number("rope.scaling.yarn_attn_factor", usual)?;
                let fast = number("rope.scaling.yarn_beta_fast", 32.0)?;
                let slow = number("rope.scaling.yarn_beta_slow", 1.0)?;
                Ok(Rope::Yarn { theta, factor, fast, slow, original, attention, whole: true })
            }
            other => Err(self.unsupported("rope.scaling.type", other, "known are none, linear and yarn")),
        }
    }
}

impl DecoderConfig {
    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// [`Error::Config`] for what is missing or out of range; [`Error::Unsupported`] for an architecture or a setting this library
    /// does not know.
    pub fn of_gguf(gguf: &Gguf) -> Result<DecoderConfig> {
        let architecture = match gguf.value("general.architecture") {
            Some(Value::String(name)) => name,
            _ => "",
        };
        let of = Metadata { gguf, architecture };
        if !["llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3"].contains(&architecture) {
            let instead = "known are llama, qwen2, qwen3, qwen3moe, gemma2, gemma3 and phi3";
            return Err(of.unsupported("general.architecture", architecture, instead));
        }
        let sparse = architecture == "qwen3moe";
        if !sparse && of.size("expert_count")?.is_some_and(|experts| experts > 1) {
            let key = format!("{architecture}.expert_count");
            return Err(of.unsupported(&key, "more than one", "mixtures of experts are known as qwen3moe"));
        }
        let (hidden, query_heads) = (of.needed("embedding_length")?, of.needed("attention.head_count")?);
        let key_heads = of.size("attention.head_count_kv")?.unwrap_or(query_heads);
        let head = of.size("attention.key_length")?.unwrap_or(hidden / query_heads);
        if query_heads % key_heads != 0 {
            return Err(of.wrong("attention.head_count_kv", "a divisor of attention.head_count"));
        }
        if head == 0 || head % 4 != 0 || head > Attention::MAX_HEAD {
            return Err(of.wrong("attention.key_length", "a multiple of 4 up to 256"));
        }
        if query_heads > MOST_HEADS / head {
            return Err(of.wrong("attention.head_count", HEADS));
        }
        let turned = of.size("rope.dimension_count")?.unwrap_or(head);
        let part = architecture == "phi3" && turned < head && turned.is_multiple_of(2);
        if turned != head && !part {
            return Err(of.wrong("rope.dimension_count", "the size of a head; of phi3 an even number below it too"));
        }
        let Some([vocabulary, _]) = of.rows("token_embd.weight") else {
            return Err(of.unsupported("token_embd.weight", "missing or no matrix", "it is the table of embeddings"));
        };
        let (context, layers) = (of.size("context_length")?.unwrap_or(2048), of.needed("block_count")?);
        if layers > MOST_LAYERS {
            return Err(of.wrong("block_count", LAYERS));
        }
        let (gemma, rope) = (architecture.starts_with("gemma"), of.rope(turned, context)?);
        let pattern = of.pattern(layers)?;
        let sees_window = |layer: usize| match (architecture, &pattern) {
            (_, Some(windowed)) => windowed.get(layer).copied().unwrap_or(false),
            ("gemma2", _) => layer.is_multiple_of(2),
            ("gemma3", _) => !(layer + 1).is_multiple_of(6),
            ("llama" | "phi3", _) => true,
            _ => false,
        };
        let window = of.window()?.filter(|_| (0..layers).any(sees_window));
        // The caps of Gemma 2, where a file of the first days does not say them.
        let cap = |key: &str, usual: f64| -> Result<Option<f32>> {
            let usual = (architecture == "gemma2" && of.value(key).is_none()).then_some(usual);
            Ok(of.unless_zero(key)?.or(usual).map(|cap| cap as f32))
        };
        // The largest of each divides by this instead of the size of a head, and its files do not say so.
        let scored = match (architecture, layers) {
            ("gemma2", 46) | ("gemma3", 62) => hidden as f32 / query_heads as f32,
            _ => head as f32,
        };
        Ok(DecoderConfig {
            model_type: architecture.to_owned(),
            hidden,
            intermediate: of.needed("feed_forward_length")?,
            mixture: if sparse { Some(of.mixture(layers)?) } else { None },
            layers,
            query_heads,
            key_heads,
            head,
            turned,
            vocabulary: *vocabulary,
            context,
            epsilon: of.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6) as f32,
            unit: if gemma { Unit::GeluTanh } else { Unit::Silu },
            tied: gguf.get("output.weight").is_none(),
            fused: architecture == "phi3",
            interleaved: architecture == "llama",
            qkv_bias: gguf.get("blk.0.attn_q.bias").is_some(),
            output_bias: gguf.get("blk.0.attn_output.bias").is_some(),
            mlp_bias: gguf.get("blk.0.ffn_down.bias").is_some(),
            head_norm: ["qwen3", "qwen3moe", "gemma3"].contains(&architecture)
                || gguf.get("blk.0.attn_q_norm.weight").is_some(),
            post_norm: gemma,
            // The file's gains have the one that Gemma adds in them already.
            gain_offset: 0.0,
            embedding_factor: if gemma { (hidden as f32).sqrt() } else { 1.0 },
            score_factor: 1.0 / scored.sqrt(),
            score_cap: cap("attn_logit_softcapping", 50.0)?,
            logit_cap: cap("final_logit_softcapping", 30.0)?,
            windows: (0..layers).map(|layer| window.filter(|_| sees_window(layer))).collect(),
            local_rope: match architecture {
                "gemma3" => Rope::Plain { theta: of.number("rope.freq_base_swa")?.unwrap_or(1e4) },
                _ => rope.clone(),
            },
            rope,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;
    use lampyris_engine::weights::blocks::BlockFormat;
    use lampyris_engine::weights::gguf::{MetadataValue, NewBlocks, ValueType, gguf_bytes};

    fn read(architecture: &str, layers: u32, width: u32, more: Vec<(String, MetadataValue)>) -> Result<DecoderConfig> {
        let number = |key: &str, value: u32| (format!("{architecture}.{key}"), MetadataValue::U32(value));
        let mut all = vec![
            ("general.architecture".to_owned(), MetadataValue::String(architecture.to_owned())),
            number("embedding_length", width),
            number("block_count", layers),
            number("feed_forward_length", 64),
            number("attention.head_count", 32),
            number("attention.key_length", 128),
        ];
        all.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
        all.extend(more);
        let table = NewBlocks { name: "token_embd.weight", format: BlockFormat::F32, shape: &[8, 0], bytes: &[] };
        DecoderConfig::of_gguf(&Gguf::from_bytes("made", gguf_bytes("made", &all, &[table]).unwrap()).unwrap())
    }

    /// Gemma 2 of 27 billions says `query_pre_attn_scalar` 144 in its config.json, and Gemma 3 of 27 billions 168.
    #[test]
    fn the_largest_gemmas_scale_scores_by_another_number() {
        for (architecture, layers, width, scalar) in [
            ("gemma2", 46, 4608, 144.0),
            ("gemma2", 42, 3584, 128.0),
            ("gemma3", 62, 5376, 168.0),
            ("gemma3", 48, 3840, 128.0),
            ("llama", 46, 4608, 128.0),
        ] {
            let found = read(architecture, layers, width, Vec::new()).unwrap().score_factor;
            assert!((found - 1.0_f32 / f32::sqrt(scalar)).abs() < 1e-7, "{architecture}, {layers} layers: {found}");
        }
    }

    #[test]
    fn files_of_the_first_days_and_of_the_last_are_read_alike() {
        let with = |architecture: &str, more: &[(&str, MetadataValue)]| {
            let more = more.iter().map(|(key, value)| (format!("{architecture}.{key}"), value.clone()));
            read(architecture, 4, 64, more.collect())
        };
        use MetadataValue::{Array, Bool, F32, U32};
        let second = with("gemma2", &[]).unwrap();
        assert_eq!((second.score_cap, second.logit_cap), (Some(50.0), Some(30.0)));
        assert_eq!(second.windows, [Some(4096), None, Some(4096), None]);
        // The larger Phi models say 0 for no window.
        assert_eq!(with("phi3", &[("attention.sliding_window", U32(0))]).unwrap().windows, [None; 4]);
        assert_eq!(with("phi3", &[("attention.sliding_window", U32(7))]).unwrap().windows, [Some(7); 4]);
        let (window, linear) = (("attention.sliding_window", U32(9)), ("rope.scale_linear", F32(4.0)));
        let third = [window.clone(), ("attention.sliding_window_pattern", U32(2)), ("rope.freq_base_swa", F32(5e3))];
        let third = with("gemma3", &third).unwrap();
        assert_eq!(third.windows, [Some(9), None, Some(9), None]);
        assert_eq!(third.local_rope, Rope::Plain { theta: 5e3 });
        let each = Array(ValueType::Bool, [false, true, true, false].map(Bool).to_vec());
        let pattern = ("attention.sliding_window_pattern", each);
        let found = with("gemma3", &[window.clone(), pattern.clone()]).unwrap().windows;
        assert_eq!(found, [None, Some(9), Some(9), None]);
        assert_eq!(with("llama", &[linear]).unwrap().rope, Rope::Linear { theta: 1e4, factor: 4.0 });
        let factor = ("rope.scaling.factor", F32(4.0));
        let kind = |name: &str| ("rope.scaling.type", MetadataValue::String(name.to_owned()));
        let alone = with("llama", std::slice::from_ref(&factor)).unwrap().rope;
        assert_eq!(alone, Rope::Linear { theta: 1e4, factor: 4.0 });
        let none = with("llama", &[factor.clone(), kind("none")]).unwrap().rope;
        assert_eq!(none, Rope::Plain { theta: 1e4 });
        assert_eq!(with("llama", &[("rope.scaling.factor", F32(0.0))]).unwrap().rope, Rope::Plain { theta: 1e4 });
        let own = [("beta_fast", 16.0), ("beta_slow", 2.0), ("attn_factor", 0.7)];
        let own = own.map(|(key, value)| (format!("rope.scaling.yarn_{key}"), F32(value)));
        let all: Vec<(&str, MetadataValue)> = own.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let yarn = with("qwen2", &[&[factor, kind("yarn")], &all[..]].concat()).unwrap().rope;
        let (factor, original, attention) = (4.0, 2048.0, f64::from(0.7f32));
        assert_eq!(yarn, Rope::Yarn { theta: 1e4, factor, fast: 16.0, slow: 2.0, original, attention, whole: true });
        // Whole numbers in the place of truths, and 0 for a window in every layer.
        let key = "attention.sliding_window_pattern";
        let numbers = Array(ValueType::U32, [0, 1, 2, 0].map(U32).to_vec());
        assert_eq!(with("gemma3", &[window.clone(), (key, numbers)]).unwrap().windows, found);
        assert_eq!(with("gemma3", &[window.clone(), (key, U32(0))]).unwrap().windows, [Some(9); 4]);
        assert_eq!(with("gemma3", &[window.clone(), (key, U32(1))]).unwrap().windows, [None; 4]);
        let texts = Array(ValueType::String, vec![MetadataValue::String("yes".to_owned()); 4]);
        for wrong in [texts, F32(2.0), MetadataValue::I32(-1)] {
            let error = with("gemma3", &[window.clone(), (key, wrong)]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("whole number"), "{error}");
        }
        let few = ("attention.sliding_window_pattern", Array(ValueType::Bool, vec![Bool(true)]));
        let error = with("gemma3", &[window, few]).unwrap_err().to_string();
        assert!(error.contains("sliding_window_pattern") && error.contains("an array of 1"), "{error}");
    }

    /// Phi 4 in its small size: of 128 columns of a head, 96.
    #[test]
    fn positions_turn_a_part_of_a_head_of_phi_only() {
        let part = |architecture: &str, turned: u32| {
            read(
                architecture,
                1,
                64,
                vec![(format!("{architecture}.rope.dimension_count"), MetadataValue::U32(turned))],
            )
        };
        assert_eq!(part("phi3", 96).unwrap().turned, 96);
        assert_eq!(part("llama", 128).unwrap().turned, 128);
        for (architecture, turned) in [("phi3", 95), ("phi3", 130), ("llama", 96), ("qwen3", 64)] {
            let error = part(architecture, turned).unwrap_err().to_string();
            assert!(error.contains("rope.dimension_count"), "{error}");
        }
    }

    #[test]
    fn a_zero_stands_for_nothing_where_llama_cpp_takes_it_so() {
        use MetadataValue::{F32, U32};
        let with = |architecture: &str, more: &[(&str, MetadataValue)]| {
            let more = more.iter().map(|(key, value)| (format!("{architecture}.{key}"), value.clone()));
            read(architecture, 4, 64, more.collect())
        };
        let caps = ["attn_logit_softcapping", "final_logit_softcapping"].map(|key| (key, F32(0.0)));
        for architecture in ["gemma2", "gemma3"] {
            let config = with(architecture, &caps).unwrap();
            assert_eq!((config.score_cap, config.logit_cap), (None, None), "{architecture}");
        }
        let sizes = ["expert_count", "expert_used_count", "expert_feed_forward_length"].map(|key| (key, U32(4)));
        let scaled = |factor: f32| with("qwen3moe", &[&sizes[..], &[("expert_weights_scale", F32(factor))]].concat());
        assert_eq!(scaled(0.0).unwrap().mixture.unwrap().chosen, 4);
        assert!(scaled(2.5).unwrap_err().to_string().contains("expert_weights_scale"));
    }

    /// Before anything is made for each of them.
    #[test]
    fn sizes_that_no_model_has_are_refused_by_name() {
        for layers in [4097, 1 << 24] {
            let error = read("llama", layers, 64, Vec::new()).unwrap_err().to_string();
            assert!(error.contains(&format!("`llama.block_count` is U32({layers})")), "{error}");
        }
        let key = "llama.attention.head_count";
        let heads = |count: u32| read("llama", 1, 64, vec![(key.to_owned(), MetadataValue::U32(count))]);
        assert_eq!(heads(1 << 17).unwrap().query_heads, 1 << 17);
        let error = heads(1 << 24).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("columns in all"), "{error}");
    }

    #[test]
    fn a_list_in_a_numbers_place_is_told_by_its_length() {
        let list = MetadataValue::Array(ValueType::U32, vec![MetadataValue::U32(1); 1000]);
        let error = read("llama", 1, 64, vec![("llama.context_length".to_owned(), list)]).unwrap_err();
        assert!(matches!(&error, Error::Config { found, .. } if found == "an array of 1000"), "{error}");
    }
}
