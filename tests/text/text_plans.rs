//! The plans of decoders as text, step by step, and what a layer costs: a change that means to leave them alone leaves
//! `tests/golden/*.plan.txt` alone.
//!
//! `UPDATE_GOLDEN=1 cargo test --test text text_plans` writes the files anew; the change then shows in review.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::cpu_as_gpu;
use crate::support::decoders::noise;
use lampyris::Gpu;
use lampyris::engine::Plan;
use lampyris::models::decoder::{CacheFormat, Decoder, Head, PlanRequest, Products};
use std::sync::Arc;

const SIZES: &str = r#""hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 61, "max_position_embeddings": 128"#;

/// A plan for runs of `tokens`, of noise that `more` and [`SIZES`] describe.
fn plan(more: &str, half: &[&str], tokens: usize, head: Head) -> Arc<Plan> {
    plan_of(more, half, PlanRequest { context: 64, cache: CacheFormat::F32, tokens, head, products: Products::Exact })
}

fn plan_of(more: &str, half: &[&str], request: PlanRequest) -> Arc<Plan> {
    plan_on(&Gpu::cpu_executor(), more, half, request)
}

fn plan_on(gpu: &Gpu, more: &str, half: &[&str], request: PlanRequest) -> Arc<Plan> {
    let files = noise(&format!("{{{SIZES}, {more}}}"), half, &[]);
    Decoder::new(gpu, files).unwrap().plan(request).unwrap()
}

/// The plans held still, by name.
fn plans() -> Vec<(&'static str, Arc<Plan>)> {
    let llama = r#""model_type": "llama", "tie_word_embeddings": false"#;
    let gemma = r#""model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 16,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0"#;
    let experts = r#""model_type": "qwen3_moe", "tie_word_embeddings": true, "num_experts": 6, "num_experts_per_tok": 2,
        "moe_intermediate_size": 24, "norm_topk_prob": true, "mlp_only_layers": [1]"#;
    let many =
        PlanRequest { context: 64, cache: CacheFormat::F32, tokens: 32, head: Head::Logits, products: Products::Exact };
    vec![
        ("llama", plan(llama, &[], 1, Head::Sample)),
        ("llama_prompt", plan(llama, &[], 32, Head::None)),
        (
            "llama_long_prompt",
            plan_of(
                llama,
                &[],
                PlanRequest {
                    context: 1024,
                    cache: CacheFormat::F16,
                    tokens: 512,
                    head: Head::None,
                    products: Products::Exact,
                },
            ),
        ),
        // Longer than a shader's loops may turn on a software adapter, so that attention is in parts: four, which keep its cores busy.
        (
            "llama_long",
            plan_of(
                llama,
                &[],
                PlanRequest {
                    context: 10_000,
                    cache: CacheFormat::F16,
                    tokens: 1,
                    head: Head::Sample,
                    products: Products::Exact,
                },
            ),
        ),
        ("llama_mixed_types", plan(llama, &["q_proj", "k_proj", "gate_proj", "up_proj"], 1, Head::Sample)),
        // Queries and gates in other types than what is joined to them; keys in another than queries and values.
        ("llama_unlike_types", plan(llama, &["q_proj", "gate_proj"], 1, Head::Sample)),
        ("llama_unlike_keys", plan(llama, &["k_proj"], 32, Head::Logits)),
        ("qwen3", plan(r#""model_type": "qwen3", "tie_word_embeddings": true"#, &["model."], 1, Head::Sample)),
        ("gemma2", plan(gemma, &[], 1, Head::Sample)),
        ("qwen3_moe", plan(experts, &[], 1, Head::Sample)),
        ("qwen3_moe_unlike_types", plan(experts, &["gate_proj", "experts.2.down"], 1, Head::Sample)),
        ("qwen3_moe_logits", plan(experts, &["experts"], 32, Head::Logits)),
        // As on a GPU, where the tokens of each expert are gathered.
        ("qwen3_moe_gathered", plan_on(&cpu_as_gpu().1, experts, &["experts"], many)),
    ]
}

#[test]
fn the_plans_are_the_recorded_ones() {
    crate::support::golden::check(plans().iter().map(|(name, plan)| (*name, &**plan)));
}

/// Queries, keys and values; positions and the cache; attention; its projection; gates and units; their projection. Values
/// stored unlike queries and keys cost one more, queries unlike keys two and gates unlike units two: a matrix of their own, and what
/// puts both together. Norms after the blocks cost two, and experts two: the router and the choice. Each run of experts that are stored
/// alike takes two, or four where gates are unlike units. In prompts the norms before matrices are steps of their own, but for the
/// experts' where these are not gathered; if they are, their tiles and their sums are steps too.
#[test]
fn a_layer_takes_the_dispatches_that_it_should() {
    let ends = 1 + 2;
    let expected = [
        ("llama", ends + 2 * 6),
        // The last layer's caches are all that a chunk of a prompt is for, so what follows them is left out.
        ("llama_prompt", 1 + 8 + 3),
        // As many as for a small chunk.
        ("llama_long_prompt", 1 + 8 + 3),
        // The parts of attention are made one.
        ("llama_long", ends + 2 * 7),
        ("llama_mixed_types", ends + 2 * 7),
        ("llama_unlike_types", ends + 2 * 10),
        ("llama_unlike_keys", ends + 2 * (6 + 3 + 2)),
        ("qwen3", ends + 2 * 6),
        ("gemma2", ends + 2 * 8),
        ("qwen3_moe", ends + 8 + 6),
        ("qwen3_moe_unlike_types", ends + (4 + 2 + 3 * 4) + 8),
        ("qwen3_moe_logits", ends + 9 + 8),
        ("qwen3_moe_gathered", ends + 9 + 3 + 8),
    ];
    let found: Vec<(&str, usize)> = plans().iter().map(|(name, plan)| (*name, plan.steps.len())).collect();
    assert_eq!(found, expected);
}
