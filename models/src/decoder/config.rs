//! What `config.json` says of a decoder: sizes, heads, norms and positions, each read with the file's and the key's name at hand.

use super::config_rope::{ropes, turned};
use super::{Products, Rope};
use crate::json::{self, Object};
use crate::{Error, Result};
use lampyris_engine::kernels::text::{Attention, Route, Unit};

/// Layers whose gated units are many small blocks, the experts, of which each token meets a few.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mixture {
    /// Experts of a layer.
    pub experts: usize,
    /// Experts that a token meets.
    pub chosen: usize,
    /// Gated units of an expert.
    pub width: usize,
    /// The shares of the chosen experts are divided by their sum.
    pub renormalized: bool,
    /// Which layers have experts; the others have gated units as without a mixture.
    pub layers: Vec<bool>,
}

/// A decoder of the Llama family, complete.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DecoderConfig {
    /// The file's `model_type`.
    pub model_type: String,
    /// Columns of the residual stream.
    pub hidden: usize,
    /// Gated units of a layer without experts.
    pub intermediate: usize,
    /// The experts, when there are any.
    pub mixture: Option<Mixture>,
    /// Layers.
    pub layers: usize,
    /// Heads of queries.
    pub query_heads: usize,
    /// Heads of keys and values; they divide those of queries.
    pub key_heads: usize,
    /// Columns of a head.
    pub head: usize,
    /// Columns of a head, the first ones, that positions turn.
    pub turned: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// Added to the mean square in norms.
    pub epsilon: f32,
    /// What gates compute.
    pub unit: Unit,
    /// The head is the embedding table.
    pub tied: bool,
    /// Queries, keys and values come from one tensor, and so do gates and units.
    pub fused: bool,
    /// The rows of query and key heads come as pairs that turn together, not as halves.
    pub interleaved: bool,
    /// Queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// The attention's output has a bias.
    pub output_bias: bool,
    /// Gates, units and their projection have a bias.
    pub mlp_bias: bool,
    /// Each head of queries and keys is normalized.
    pub head_norm: bool,
    /// What attention and gated units give is normalized before it is added.
    pub post_norm: bool,
    /// Added to the gains of all norms.
    pub gain_offset: f32,
    /// Embeddings are multiplied by it.
    pub embedding_factor: f32,
    /// Scores of attention are multiplied by it.
    pub score_factor: f32,
    /// The bound of the scores, when they have one.
    pub score_cap: Option<f32>,
    /// The bound of the logits, when they have one.
    pub logit_cap: Option<f32>,
    /// Positions a query sees in each layer, its own included; all when absent.
    pub windows: Vec<Option<u32>>,
    /// Angles of positions in layers that see all of them.
    pub rope: Rope,
    /// Angles of positions in layers with a window.
    pub local_rope: Rope,
}

/// The most any size may be: far above every model, far below what overflows.
const MOST: u64 = 1 << 24;

/// The most layers there may be, for each of which something is kept: far more than any model has.
pub(super) const MOST_LAYERS: usize = 4096;
pub(super) const LAYERS: &str = "a whole number from 1 to 4096";

/// The most columns that a layer's heads of queries may have in all, which can be counted in 32 bits.
pub(super) const MOST_HEADS: usize = 1 << 24;
pub(super) const HEADS: &str = "so many heads that they have at most 16777216 columns in all";

fn sane(value: u64) -> bool {
    (1..=MOST).contains(&value)
}

impl DecoderConfig {
    /// [`Products::tolerance`] of this model. `None` where experts are chosen by what such products round: between two that are nearly
    /// equal the choice may turn, and what another expert gives is not bounded by rounding.
    pub fn tolerance(&self, products: Products) -> Option<f32> {
        let chooses = self.mixture.as_ref().is_some_and(|mixture| mixture.chosen < mixture.experts);
        (products == Products::Exact || !chooses).then(|| products.tolerance())
    }

    /// Reads `config.json`, whose name in errors is `file`. Of a model that sees pictures too, Gemma 3 in its larger sizes, the part that
    /// continues texts is meant.
    ///
    /// # Errors
    /// [`Error::Json`] or [`Error::Config`] for what cannot be read; [`Error::Unsupported`] for a model or a setting this library
    /// does not know.
    pub fn read(file: &str, bytes: &[u8]) -> Result<DecoderConfig> {
        let map = json::parse(file, bytes)?;
        let mut top = Object::top(file, &map);
        let mut model_type = top.text("model_type")?.unwrap_or("llama").to_owned();
        if let ("gemma3", Some(text)) = (model_type.as_str(), top.object("text_config")?) {
            (top, model_type) = (text, text.text("model_type")?.unwrap_or("gemma3_text").to_owned());
        }
        const KNOWN: [&str; 8] = ["llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "phi3"];
        if !KNOWN.contains(&model_type.as_str()) {
            let found = model_type;
            let (file, key) = (file.to_owned(), "model_type".to_owned());
            let instead = "known are llama, mistral, qwen2, qwen3, qwen3_moe, gemma2, gemma3_text and phi3";
            return Err(Error::Unsupported { file, key, found, instead });
        }
        for (object, key, instead) in [
            (
                Object::top(file, &map),
                "quantization_config",
                "known are weights as they were trained, and the blocks of GGUF files",
            ),
            (top, "use_bidirectional_attention", "known are decoders, whose tokens see those before them only"),
        ] {
            if let Some(value) = object.get(key).filter(|value| **value != serde_json::Value::Bool(false)) {
                return Err(object.unsupported(key, value, instead));
            }
        }
        let gemma = model_type.starts_with("gemma");
        let needed = |key: &str| -> Result<usize> {
            let value = top.count(key, sane, "a whole number from 1 to 16777216")?;
            value
                .map(|v| v as usize)
                .ok_or_else(|| top.wrong(key, &serde_json::Value::Null, "a whole number from 1 to 16777216"))
        };
        let or = |key: &str, otherwise: usize| -> Result<usize> {
            Ok(top.count(key, sane, "a whole number from 1 to 16777216")?.map_or(otherwise, |v| v as usize))
        };
        // What transformers leaves out of a configuration that is part of another, because it is the same in all of them.
        let usual = |key: &str, gemmas: usize| if gemma { or(key, gemmas) } else { needed(key) };
        let (hidden, query_heads) = (needed("hidden_size")?, usual("num_attention_heads", 8)?);
        let key_heads = or("num_key_value_heads", if gemma { 4 } else { query_heads })?;
        let head = match model_type.as_str() {
            _ if gemma => or("head_dim", 256)?,
            "qwen3" => or("head_dim", 128)?,
            _ => or("head_dim", hidden / query_heads.max(1))?,
        };
        if query_heads % key_heads != 0 {
            return Err(top.wrong("num_key_value_heads", &key_heads.into(), "a divisor of num_attention_heads"));
        }
        if head == 0 || head % 4 != 0 || head > Attention::MAX_HEAD {
            return Err(top.wrong("head_dim", &head.into(), "a multiple of 4 up to 256"));
        }
        if query_heads > MOST_HEADS / head {
            return Err(top.wrong("num_attention_heads", &query_heads.into(), HEADS));
        }
        // Gemma's first files say `hidden_act` too, and another function than they mean.
        let (key, usual_act) = if gemma { ("hidden_activation", "gelu_pytorch_tanh") } else { ("hidden_act", "silu") };
        let unit = match top.text(key)?.unwrap_or(usual_act) {
            "silu" | "swish" => Unit::Silu,
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Unit::GeluTanh,
            "gelu" | "gelu_python" => Unit::Gelu,
            "relu" => Unit::Relu,
            other => {
                let instead = "known are silu, gelu, gelu_new, gelu_pytorch_tanh and relu";
                return Err(top.unsupported(key, &other.into(), instead));
            }
        };
        let flag = |key: &str, otherwise: bool| -> Result<bool> { Ok(top.flag(key)?.unwrap_or(otherwise)) };
        let positive = |key: &str| top.number(key, |v| v > 0.0 && v < 1e12, "a number above 0");
        // The others have no such biases, whatever their files say.
        let bias = !["mistral", "qwen2", "phi3"].contains(&model_type.as_str()) && flag("attention_bias", false)?;
        let epsilon = top.number("rms_norm_eps", |v| v > 0.0 && v < 1.0, "a number above 0 and below 1")?;
        let epsilon = epsilon.unwrap_or(if model_type == "phi3" { 1e-5 } else { 1e-6 });
        let third = model_type == "gemma3_text";
        let context = or("max_position_embeddings", if third { 131_072 } else { 2048 })?;
        let layers = needed("num_hidden_layers")?;
        if layers > MOST_LAYERS {
            return Err(top.wrong("num_hidden_layers", &layers.into(), LAYERS));
        }
        let turned = turned(top, &model_type, head)?;
        let (rope, local_rope) = ropes(top, &model_type, (context, turned))?;
        let scalar =
            positive("query_pre_attn_scalar")?.filter(|_| gemma).unwrap_or(if gemma { 256.0 } else { head as f64 });
        // Gemma 2 has caps where it says nothing of them, and none where it says `null`; Gemma 3 one of the logits where it says so.
        let cap = |key: &str, has: bool, usual: f64| -> Result<Option<f32>> {
            let said = positive(key)?.or((model_type == "gemma2" && !top.names(key)).then_some(usual));
            Ok(said.filter(|_| has).map(|cap| cap as f32))
        };
        Ok(DecoderConfig {
            hidden,
            intermediate: needed("intermediate_size")?,
            mixture: if model_type == "qwen3_moe" { Some(mixture(top, layers)?) } else { None },
            layers,
            query_heads,
            key_heads,
            head,
            turned,
            vocabulary: usual("vocab_size", 262_208)?,
            context,
            epsilon: epsilon as f32,
            unit,
            tied: flag("tie_word_embeddings", gemma)?,
            fused: model_type == "phi3",
            interleaved: false,
            qkv_bias: bias || model_type == "qwen2",
            output_bias: bias,
            mlp_bias: model_type == "llama" && flag("mlp_bias", false)?,
            head_norm: ["qwen3", "qwen3_moe", "gemma3_text"].contains(&model_type.as_str()),
            post_norm: gemma,
            gain_offset: if gemma { 1.0 } else { 0.0 },
            embedding_factor: if gemma { (hidden as f32).sqrt() } else { 1.0 },
            score_factor: (1.0 / scalar.sqrt()) as f32,
            score_cap: cap("attn_logit_softcapping", model_type == "gemma2", 50.0)?,
            logit_cap: cap("final_logit_softcapping", gemma, 30.0)?,
            windows: windows(top, &model_type, layers)?,
            rope,
            local_rope,
            model_type,
        })
    }
}

/// The experts of Qwen3's sparse models: all layers have them but those that `mlp_only_layers` names and those that
/// `decoder_sparse_step` passes over.
fn mixture(top: Object<'_>, layers: usize) -> Result<Mixture> {
    let needed = |key: &str, most: u64, expected: &'static str| -> Result<usize> {
        let value = top.count(key, |v| (1..=most).contains(&v), expected)?;
        value.map(|v| v as usize).ok_or_else(|| top.wrong(key, &serde_json::Value::Null, expected))
    };
    // Newer files say `num_local_experts`.
    let key = if top.get("num_experts").is_none() && top.get("num_local_experts").is_some() {
        "num_local_experts"
    } else {
        "num_experts"
    };
    let experts = needed(key, Route::MAX_EXPERTS as u64, "a whole number from 1 to 1024")?;
    let most = Route::MAX_CHOSEN.min(experts) as u64;
    let chosen = needed("num_experts_per_tok", most, "a whole number from 1 to num_experts, at most 64")?;
    let width = needed("moe_intermediate_size", MOST, "a whole number from 1 to 16777216")?;
    let step = top.count("decoder_sparse_step", sane, "a whole number from 1 to 16777216")?.unwrap_or(1) as usize;
    let mut sparse: Vec<bool> = (1..=layers).map(|layer| layer.is_multiple_of(step)).collect();
    if let Some(value) = top.get("mlp_only_layers") {
        let wrong = || top.wrong("mlp_only_layers", value, "a list of layers, counted from 0");
        for layer in value.as_array().ok_or_else(wrong)? {
            let place = layer.as_u64().and_then(|layer| sparse.get_mut(usize::try_from(layer).ok()?));
            *place.ok_or_else(wrong)? = false;
        }
    }
    let renormalized = top.flag("norm_topk_prob")?.unwrap_or(false);
    Ok(Mixture { experts, chosen, width, renormalized, layers: sparse })
}

/// Which layers see a window only: those that `layer_types` names, or those that the model type is known for.
fn windows(top: Object<'_>, model_type: &str, layers: usize) -> Result<Vec<Option<u32>>> {
    // Llama has no windows, and Phi 3 none that it does not name.
    let usual = (!["llama", "phi3"].contains(&model_type) && !top.names("sliding_window")).then_some(4096);
    let window = top.count("sliding_window", sane, "a whole number from 1 to 16777216")?;
    let window = window.map(|window| window as u32).or(usual);
    if let Some(value) = top.get("layer_types") {
        let kinds = value.as_array().filter(|kinds| kinds.len() == layers);
        let Some(kinds) = kinds else {
            return Err(top.wrong("layer_types", value, "a list with a type for each layer"));
        };
        let kind = |kind: &serde_json::Value| match kind.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") if window.is_some() => Ok(window),
            _ => Err(top.unsupported(
                "layer_types",
                kind,
                "known are full_attention, and sliding_attention with sliding_window",
            )),
        };
        return kinds.iter().map(kind).collect();
    }
    let pattern = top.count("sliding_window_pattern", sane, "a whole number from 1 to 16777216")?.unwrap_or(6) as usize;
    let first = top.count("max_window_layers", |v| v <= MOST, "a whole number")?.unwrap_or(28) as usize;
    let uses = top.flag("use_sliding_window")?.unwrap_or(false);
    let sees_window = |layer: usize| match model_type {
        "gemma2" => layer.is_multiple_of(2),
        "gemma3_text" => !(layer + 1).is_multiple_of(pattern),
        "qwen2" | "qwen3" => uses && layer >= first,
        "qwen3_moe" => uses,
        "mistral" | "phi3" => true,
        _ => false,
    };
    Ok((0..layers).map(|layer| window.filter(|_| sees_window(layer))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 5,
        "num_attention_heads": 8, "vocab_size": 512"#;

    fn read(more: &str) -> Result<DecoderConfig> {
        DecoderConfig::read("config.json", format!("{SMALL}{more}}}").as_bytes())
    }

    #[test]
    fn what_is_not_said_has_the_published_defaults() {
        let config = read("").unwrap();
        assert_eq!((config.key_heads, config.head, config.tied), (8, 8, false));
        assert_eq!(config.rope, Rope::Plain { theta: 1e4 });
    }

    /// The configuration of Gemma 3 with 4 billions, which says of its texts only what differs from the other sizes.
    #[test]
    fn a_part_of_a_larger_model_has_the_usual_settings_of_its_family() {
        const PART: &str = r#"{"model_type": "gemma3", "eos_token_id": [1, 106], "vision_config": {"hidden_size": 1152},
            "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}}"#;
        let config = DecoderConfig::read("config.json", PART.as_bytes()).unwrap();
        assert_eq!((config.query_heads, config.key_heads, config.head), (8, 4, 256));
        assert_eq!((config.vocabulary, config.context, config.unit), (262_208, 131_072, Unit::GeluTanh));
        assert_eq!(config.rope, Rope::Linear { theta: 1e6, factor: 8.0 });
        assert_eq!(config.local_rope, Rope::Plain { theta: 1e4 });
        assert_eq!((config.score_factor, config.score_cap, config.tied), (1.0 / 16.0, None, true));
        assert_eq!(config.windows[..7], [Some(1024), Some(1024), Some(1024), Some(1024), Some(1024), None, Some(1024)]);
    }

    #[test]
    fn gemma_2_has_caps_unless_it_says_null() {
        let read = |more: &str| {
            let text = format!("{SMALL}{more}}}").replace("llama", "gemma2");
            DecoderConfig::read("config.json", text.as_bytes()).unwrap()
        };
        let (usual, none) = (read(""), read(r#", "attn_logit_softcapping": null, "sliding_window": null"#));
        assert_eq!((usual.score_cap, usual.logit_cap, usual.windows[0]), (Some(50.0), Some(30.0), Some(4096)));
        assert_eq!((none.score_cap, none.logit_cap, none.windows[0]), (None, Some(30.0), None));
    }

    /// What transformers' own classes have where a file says nothing, found by models of noise that lack the keys.
    #[test]
    fn families_differ_in_what_goes_without_saying() {
        let of = |kind: &str, more: &str| {
            let text = format!("{SMALL}{more}}}").replace("llama", kind);
            DecoderConfig::read("config.json", text.as_bytes()).unwrap()
        };
        assert_eq!((of("qwen3", "").head, of("qwen2", "").head), (128, 8));
        assert_eq!((of("phi3", "").epsilon, of("mistral", "").epsilon), (1e-5, 1e-6));
        assert_eq!((of("mistral", "").windows[0], of("phi3", "").windows[0]), (Some(4096), None));
        assert_eq!(of("mistral", r#", "sliding_window": null"#).windows, [None; 5]);
        let window = r#", "use_sliding_window": true, "sliding_window": 6"#;
        for kind in ["qwen2", "qwen3"] {
            // From layer 28 on.
            assert_eq!(of(kind, window).windows, [None; 5]);
            let some = of(kind, &format!(r#"{window}, "max_window_layers": 3"#)).windows;
            assert_eq!(some, [None, None, None, Some(6), Some(6)]);
        }
        assert_eq!(of("qwen3_moe", &format!("{window}{SPARSE}")).windows, [Some(6); 5]);
        assert_eq!(of("qwen3_moe", SPARSE).windows, [None; 5]);
        let biases = r#", "attention_bias": true, "mlp_bias": true"#;
        let has = |kind: &str| {
            let config = of(kind, biases);
            [config.qkv_bias, config.output_bias, config.mlp_bias]
        };
        assert_eq!([has("llama"), has("qwen2"), has("qwen3")], [[true; 3], [true, false, false], [true, true, false]]);
        assert_eq!([has("mistral"), has("phi3"), has("gemma2")], [[false; 3], [false; 3], [true, true, false]]);
        let caps = r#", "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0"#;
        let caps = |kind: &str| (of(kind, caps).score_cap, of(kind, caps).logit_cap);
        assert_eq!((caps("gemma2"), caps("gemma3_text")), ((Some(5.0), Some(4.0)), (None, Some(4.0))));
        assert_eq!(caps("llama"), (None, None));
        assert_eq!(of("gemma2", r#", "hidden_act": "gelu""#).unit, Unit::GeluTanh);
        assert_eq!(of("gemma2", r#", "hidden_activation": "gelu""#).unit, Unit::Gelu);
        assert_eq!((of("llama", r#", "hidden_act": "swish""#).unit, of("llama", "").unit), (Unit::Silu, Unit::Silu));
        assert_eq!(of("llama", r#", "hidden_act": "relu""#).unit, Unit::Relu);
    }

    #[test]
    fn angles_may_differ_by_the_kind_of_layer() {
        let both = r#", "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}}"#;
        let config = read(both).unwrap();
        assert_eq!(config.rope, Rope::Linear { theta: 1e6, factor: 8.0 });
        assert_eq!(config.local_rope, Rope::Plain { theta: 2e4 });
        let old =
            r#", "rope_theta": 1e6, "rope_local_base_freq": 2e4, "rope_scaling": {"type": "linear", "factor": 8.0}"#;
        let old = read(old).unwrap();
        assert_eq!((old.rope, old.local_rope), (config.rope, config.local_rope));
        let one = |kind: &str| {
            let text =
                format!(r#"{SMALL}, "rope_parameters": {{"{kind}": {{"rope_type": "linear", "factor": 8.0}}}}}}"#);
            let config = DecoderConfig::read("config.json", text.replace("llama", "gemma3_text").as_bytes()).unwrap();
            (config.rope, config.local_rope)
        };
        assert_eq!(one("full_attention"), (Rope::Linear { theta: 1e6, factor: 8.0 }, Rope::Plain { theta: 1e4 }));
        assert_eq!(one("sliding_attention"), (Rope::Plain { theta: 1e6 }, Rope::Linear { theta: 1e4, factor: 8.0 }));
    }

    const SPARSE: &str = r#", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24"#;

    fn read_sparse(more: &str) -> Result<DecoderConfig> {
        let text = format!("{SMALL}{more}}}").replace("llama", "qwen3_moe");
        DecoderConfig::read("config.json", text.as_bytes())
    }

    #[test]
    fn layers_have_experts_but_those_that_the_file_leaves_out() {
        let layers = |more: &str| read_sparse(&format!("{SPARSE}{more}")).unwrap().mixture.unwrap().layers;
        assert_eq!(layers(""), [true; 5]);
        assert_eq!(layers(r#", "decoder_sparse_step": 2"#), [false, true, false, true, false]);
        let more = r#", "decoder_sparse_step": 2, "mlp_only_layers": [1, 2]"#;
        assert_eq!(layers(more), [false, false, false, true, false]);
        let mixture = read_sparse(SPARSE).unwrap().mixture.unwrap();
        assert_eq!((mixture.experts, mixture.chosen, mixture.width, mixture.renormalized), (4, 2, 24, false));
        assert_eq!(read(SPARSE).unwrap().mixture, None);
        assert_eq!(
            read_sparse(&SPARSE.replace("num_experts\"", "num_local_experts\"")).unwrap().mixture,
            Some(mixture)
        );
    }

    #[test]
    fn what_is_wrong_with_experts_is_named() {
        for (more, named) in [
            ("", "num_experts"),
            (r#", "num_experts": 1025"#, "num_experts"),
            (r#", "num_experts": 4, "num_experts_per_tok": 5"#, "num_experts_per_tok"),
            (r#", "num_experts": 4, "num_experts_per_tok": 2"#, "moe_intermediate_size"),
            (&format!(r#"{SPARSE}, "mlp_only_layers": [5]"#), "mlp_only_layers"),
            (&format!(r#"{SPARSE}, "mlp_only_layers": 1"#), "mlp_only_layers"),
            (&format!(r#"{SPARSE}, "decoder_sparse_step": 0"#), "decoder_sparse_step"),
            (&format!(r#"{SPARSE}, "norm_topk_prob": 1"#), "norm_topk_prob"),
        ] {
            let error = read_sparse(more).unwrap_err().to_string();
            assert!(error.contains(&format!("`{named}`")) && error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_or_unknown_is_named() {
        for (more, named) in [
            (r#", "num_key_value_heads": 3"#, "num_key_value_heads"),
            (r#", "head_dim": 6"#, "head_dim"),
            (r#", "hidden_act": "relu2""#, "hidden_act"),
            (r#", "rope_scaling": {"rope_type": "spiral"}"#, "rope_scaling.rope_type"),
            (r#", "partial_rotary_factor": 0.75"#, "partial_rotary_factor"),
            (r#", "rope_parameters": {"partial_rotary_factor": 0.5}"#, "rope_parameters.partial_rotary_factor"),
            (r#", "rope_parameters": {"full_attention": 3}"#, "rope_parameters.full_attention"),
            (r#", "rope_scaling": {"rope_type": "linear"}"#, "rope_scaling.factor"),
            (r#", "rms_norm_eps": -1"#, "rms_norm_eps"),
            (r#", "layer_types": ["full_attention"]"#, "layer_types"),
            (r#", "quantization_config": {"quant_method": "gptq", "bits": 4}"#, "quantization_config"),
            (r#", "use_bidirectional_attention": true"#, "use_bidirectional_attention"),
        ] {
            let error = read(more).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("config.json"), "{error}");
        }
        for (from, to, named) in [
            ("_layers\": 5", "_layers\": 4097", "`num_hidden_layers` is 4097"),
            ("_layers\": 5", "_layers\": 16777216", "`num_hidden_layers`"),
            ("_layers\": 5", "_layers\": 99999999999", "`num_hidden_layers`"),
            ("_heads\": 8", "_heads\": 16777216, \"head_dim\": 256", "`num_attention_heads` is 16777216"),
        ] {
            let error = DecoderConfig::read("config.json", (SMALL.replace(from, to) + "}").as_bytes()).unwrap_err();
            assert!(error.to_string().contains(named), "{named} is not in: {error}");
        }
        let other = SMALL.replace("llama", "mamba") + "}";
        assert!(DecoderConfig::read("config.json", other.as_bytes()).unwrap_err().to_string().contains("mamba"));
    }
}
