//! What a GGUF file says of a decoder that comes from Hugging Face's files: the metadata, and the tensors by their other names.

use super::super::model::DecoderFiles;
use super::super::weights::Tensors;
use super::super::{DecoderConfig, Rope};
use super::{Converted, Origin, Recipe, converted};
use crate::{Error, Result};
use lampyris_engine::weights::Storage;
use lampyris_engine::weights::blocks::BlockFormat;
use lampyris_engine::weights::gguf::{Gguf, MetadataValue, NewBlocks, gguf_bytes};

/// Entries of metadata.
type Metadata = Vec<(String, MetadataValue)>;

/// Metadata and tensors of a folder.
pub(super) fn of_folder(files: &DecoderFiles, recipe: Recipe) -> Result<(Metadata, Vec<Converted>)> {
    let config = DecoderConfig::read("config.json", files.config.as_deref().unwrap_or_default())?;
    let file = files.weights.file().to_owned();
    let architecture = match config.model_type.as_str() {
        "llama" | "mistral" => "llama",
        "gemma3_text" => "gemma3",
        "qwen3_moe" => "qwen3moe",
        same @ ("qwen2" | "qwen3" | "gemma2" | "phi3") => same,
        other => {
            let reason = format!("models of type {other} are written from GGUF files only");
            return Err(Error::NotGguf { file, reason });
        }
    };
    let tensors = Tensors::new(files.weights.clone(), config.clone())?;
    let config = tensors.config();
    let mut made: Vec<Converted> = Vec::new();
    for (names, gguf, shape) in tensors.names_for_gguf() {
        let turned = ["attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias"];
        let turned = architecture == "llama" && turned.iter().any(|ending| gguf.ends_with(ending));
        let offset = if gguf.ends_with("norm.weight") { config.gain_offset } else { 0.0 };
        let format = recipe.format(&gguf, config.layers, config.tied);
        let stored = names.iter().filter_map(|name| files.weights.get(name));
        let bytes = stored.clone().map(|it| it.bytes).sum();
        let before = stored.map(|it| it.storage).next().map_or((Storage::of(format), 0), |storage| (storage, bytes));
        let origin = Origin::Stored { names, head: turned.then_some(config.head), offset };
        made.push(converted(gguf, shape, before, format, origin));
    }
    let (metadata, factors) = described(config, architecture);
    for (name, values) in factors {
        let (shape, before) = (vec![values.len()], (Storage::of(BlockFormat::F32), 0));
        made.push(converted(name, shape, before, recipe.base(), Origin::Made(values)));
    }
    check(&file, config, &metadata, &made)?;
    Ok((metadata, made))
}

/// The configuration as metadata, and as tensors of one factor for each pair of a head.
fn described(config: &DecoderConfig, architecture: &str) -> (Metadata, Vec<(String, Vec<f32>)>) {
    let mut all: Metadata = vec![("general.architecture".to_owned(), MetadataValue::String(architecture.to_owned()))];
    let mut put = |key: &str, value: MetadataValue| all.push((format!("{architecture}.{key}"), value));
    for (key, value) in [
        ("vocab_size", config.vocabulary),
        ("context_length", config.context),
        ("embedding_length", config.hidden),
        ("block_count", config.layers),
        ("feed_forward_length", config.intermediate),
        ("attention.head_count", config.query_heads),
        ("attention.head_count_kv", config.key_heads),
        ("attention.key_length", config.head),
        ("attention.value_length", config.head),
        ("rope.dimension_count", config.turned),
    ] {
        put(key, MetadataValue::U32(value as u32));
    }
    if let Some(mixture) = &config.mixture {
        for (key, value) in [
            ("expert_count", mixture.experts),
            ("expert_used_count", mixture.chosen),
            ("expert_feed_forward_length", mixture.width),
        ] {
            put(key, MetadataValue::U32(value as u32));
        }
    }
    put("attention.layer_norm_rms_epsilon", MetadataValue::F32(config.epsilon));
    if let Some(window) = config.windows.iter().flatten().next() {
        put("attention.sliding_window", MetadataValue::U32(*window));
    }
    for (key, cap) in [("attn_logit_softcapping", config.score_cap), ("final_logit_softcapping", config.logit_cap)] {
        if let Some(cap) = cap {
            put(key, MetadataValue::F32(cap));
        }
    }
    let mut number = |key: &str, value: f64| put(key, MetadataValue::F32(value as f32));
    let mut factors = Vec::new();
    let mut scaling = None;
    match &config.rope {
        Rope::Plain { theta } => number("rope.freq_base", *theta),
        Rope::Linear { theta, factor } => {
            number("rope.freq_base", *theta);
            number("rope.scaling.factor", *factor);
            scaling = Some("linear");
        }
        Rope::Llama3 { theta, .. } => {
            number("rope.freq_base", *theta);
            let plain = Rope::Plain { theta: *theta }.speeds(config.turned, config.context);
            let slowed = config.rope.speeds(config.turned, config.context);
            let slower = plain.iter().zip(slowed).map(|(plain, slowed)| (plain / slowed) as f32);
            factors.push(("rope_freqs.weight".to_owned(), slower.collect()));
        }
        Rope::Yarn { theta, factor, fast, slow, original, attention, .. } => {
            number("rope.freq_base", *theta);
            number("rope.scaling.factor", *factor);
            let usual = Rope::yarn_attention(*factor, 1.0);
            if [*fast, *slow, *attention] != [32.0, 1.0, usual] {
                number("rope.scaling.yarn_beta_fast", *fast);
                number("rope.scaling.yarn_beta_slow", *slow);
                // llama.cpp takes this one for a factor beside its own, and passes over `yarn_attn_factor`.
                number("rope.scaling.attn_factor", *attention / usual);
            }
            put("rope.scaling.original_context_length", MetadataValue::U32(*original as u32));
            scaling = Some("yarn");
        }
        Rope::Long { theta, short, long, original, attention } => {
            number("rope.freq_base", *theta);
            number("rope.scaling.attn_factor", *attention);
            put("rope.scaling.original_context_length", MetadataValue::U32(*original as u32));
            for (name, values) in [("rope_factors_long.weight", long), ("rope_factors_short.weight", short)] {
                factors.push((name.to_owned(), values.iter().map(|value| *value as f32).collect()));
            }
            // Without it llama.cpp looks for them in Phi 3's files only.
            scaling = Some("longrope");
        }
    }
    if let Some(kind) = scaling {
        put("rope.scaling.type", MetadataValue::String(kind.to_owned()));
    }
    (all, factors)
}

/// Refuses a configuration that reads differently from the metadata made of it: a GGUF file has no words for it.
fn check(file: &str, config: &DecoderConfig, metadata: &Metadata, tensors: &[Converted]) -> Result<()> {
    // A file of the same names and metadata, with empty matrices.
    let kept: Vec<(Vec<usize>, Vec<u8>)> = tensors.iter().map(shell).collect();
    let shells: Vec<NewBlocks<'_>> = tensors
        .iter()
        .zip(&kept)
        .map(|(it, (shape, bytes))| NewBlocks { name: &it.name, format: BlockFormat::F32, shape, bytes })
        .collect();
    let read = DecoderConfig::of_gguf(&Gguf::from_bytes(file, gguf_bytes(file, metadata, &shells)?)?)?;
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * a.abs();
    let same_rope = |a: &Rope, b: &Rope| {
        [1, config.context].into_iter().all(|context| {
            let heads = (config.turned, config.head);
            let speeds = a.speeds(config.turned, context).into_iter().zip(b.speeds(config.turned, context));
            let sizes = a.turns(1, heads).into_iter().zip(b.turns(1, heads));
            speeds.into_iter().all(|(a, b)| near(a, b)) && sizes.into_iter().all(|(a, b)| near(a.into(), b.into()))
        })
    };
    let local = config.windows.iter().any(Option::is_some);
    let settings = [
        ("hidden_act", read.unit == config.unit),
        ("query_pre_attn_scalar", near(config.score_factor.into(), read.score_factor.into())),
        ("sliding_window or layer_types", read.windows == config.windows),
        ("partial_rotary_factor", read.turned == config.turned),
        ("rope_scaling", same_rope(&read.rope, &config.rope)),
        ("rope_local_base_freq", !local || same_rope(&read.local_rope, &config.local_rope)),
        ("attention_bias", (read.qkv_bias, read.output_bias) == (config.qkv_bias, config.output_bias)),
        ("mlp_bias", read.mlp_bias == config.mlp_bias),
        ("its experts (num_experts, norm_topk_prob and the like)", read.mixture == config.mixture),
        ("tie_word_embeddings", read.tied == config.tied),
        ("its norms", (read.head_norm, read.post_norm) == (config.head_norm, config.post_norm)),
        ("attn_logit_softcapping", read.score_cap == config.score_cap),
        ("final_logit_softcapping", read.logit_cap == config.logit_cap),
    ];
    match settings.into_iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((key, _)) => {
            let reason = format!("the format has no words for what config.json says of {key}; run the folder as it is");
            Err(Error::NotGguf { file: file.to_owned(), reason })
        }
    }
}

/// A tensor without rows' contents, unless they are made here.
fn shell(tensor: &Converted) -> (Vec<usize>, Vec<u8>) {
    match (&tensor.origin, tensor.shape.split_last()) {
        (Origin::Made(values), _) => (tensor.shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        (_, Some((_, outer))) => ([outer, &[0]].concat(), Vec::new()),
        (_, None) => (vec![0], Vec::new()),
    }
}
