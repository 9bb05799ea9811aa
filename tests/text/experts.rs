//! Mixtures of experts made here of noise: what must be equal however a text is cut, on every adapter and the CPU executor, and
//! what is refused. Needs no file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::{files, noise, tensors};
use crate::support::{as_gpus, cpu_as_gpu, devices, relative, taking};
use lampyris::Gpu;
use lampyris::engine::certify::Prepared;
use lampyris::engine::kernels::panel::Code;
use lampyris::engine::kernels::{Fill, Format};
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{Gguf, MetadataValue, NewBlocks, gguf_bytes};
use lampyris::models::decoder::{
    CacheFormat, Conversion, Decoder, DecoderFiles, Head, PlanRequest, Products, Session, SessionOptions,
};

/// Three layers, the middle one without experts.
const CONFIG: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 61, "max_position_embeddings": 128,
    "tie_word_embeddings": true, "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 18,
    "norm_topk_prob": true, "mlp_only_layers": [1]}"#;

fn generate(gpu: &Gpu, session: &mut Session, most: usize) -> Vec<u32> {
    let mut found = Vec::new();
    let mut generation = session.generate(most).unwrap();
    while let Some(token) = gpu.block_on(generation.next()).unwrap() {
        found.push(token);
    }
    found
}

/// Every adapter as what it is, and where a GPU would gather the tokens of each expert, as one.
fn everywhere() -> Vec<(String, Gpu)> {
    devices().into_iter().chain(as_gpus()).chain([cpu_as_gpu()]).collect()
}

/// The kernels of a run of `tokens`.
fn kernels(model: &Decoder, tokens: usize, products: Products) -> Vec<&'static str> {
    let (context, cache, head) = (128, CacheFormat::F32, Head::Logits);
    let plan = model.plan(PlanRequest { context, cache, tokens, head, products }).unwrap();
    plan.steps.iter().map(|step| step.kernel.name()).collect()
}

/// A text of 71 tokens: more than two chunks of a prompt.
fn text() -> Vec<u32> {
    (0..71).map(|i| (i * i + 3 * i) % 61).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn logits_of(gpu: &Gpu, files: DecoderFiles, text: &[u32]) -> Vec<f32> {
    let model = Decoder::new(gpu, files).unwrap();
    let mut session = gpu.block_on(model.session(text.len())).unwrap();
    gpu.block_on(session.feed(text)).unwrap();
    gpu.block_on(session.logits()).unwrap()
}

#[test]
fn a_text_gives_the_same_however_it_is_cut() {
    let text = text();
    for (name, gpu) in everywhere() {
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let session = || gpu.block_on(model.session(100)).unwrap();
        let mut whole = session();
        gpu.block_on(whole.feed(&text)).unwrap();
        let expected = generate(&gpu, &mut whole, 20);
        for cut in [1, 33] {
            let mut pieces = session();
            for piece in text.chunks(cut) {
                gpu.block_on(pieces.feed(piece)).unwrap();
            }
            assert_eq!(generate(&gpu, &mut pieces, 20), expected, "{name}, cut at {cut}");
        }
    }
}

/// One expert with a share of one, all of the experts, and some of them.
#[test]
fn a_device_gives_the_logits_of_the_twins() {
    let text = &text()[..40];
    let of = |experts: usize, chosen: usize| {
        let config = CONFIG.replace("\"num_experts\": 7", &format!("\"num_experts\": {experts}"));
        config.replace("_tok\": 3", &format!("_tok\": {chosen}"))
    };
    let logits = |gpu: &Gpu, config: &str| logits_of(gpu, noise(config, &[], &[]), text);
    let configs = [of(7, 3), of(1, 1), of(5, 5), of(7, 3).replace("\"norm_topk_prob\": true, ", "")];
    for (case, config) in configs.into_iter().enumerate() {
        let expected = logits(&Gpu::cpu_executor(), &config);
        assert_eq!(expected.len(), text.len() * 61);
        for (name, gpu) in taking(case, everywhere()) {
            let error = relative(&logits(&gpu, &config), &expected);
            assert!(error < 1e-4, "{name}: {error:e} with {config}");
        }
    }
}

/// Of seven experts three a token: ten tokens are four for each on average, and nine are fewer.
#[test]
fn tokens_are_gathered_where_a_gpu_has_many() {
    for (name, gpu) in everywhere() {
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        for (tokens, many) in [(1, false), (9, false), (10, true), (128, true)] {
            let found = kernels(&model, tokens, Products::Exact);
            let count = |kernel: &str| found.iter().filter(|it| **it == kernel).count();
            let singly = [2 * 2, 0, 0, 0];
            let expected = if many && !gpu.caps().software { [0, 2, 2 * 2, 2] } else { singly };
            let counted = ["experts", "expert_tiles", "grouped_experts", "expert_sum"].map(count);
            assert_eq!(counted, expected, "{name}, {tokens} tokens");
        }
    }
}

/// Whole numbers, by tiles and one token after another: the same bytes go in, so that what comes out differs by rounding alone until a byte
/// is rounded the other way.
#[test]
fn gathered_tokens_in_whole_numbers_give_what_single_ones_give() {
    let (folder, text) = (tempfile::tempdir().unwrap(), &text()[..40]);
    let config = CONFIG.replace("\"hidden_size\": 24", "\"hidden_size\": 256").replace("_size\": 18", "_size\": 256");
    // All of the experts, so that none is another one's neighbour.
    let config = config.replace("\"num_experts\": 7", "\"num_experts\": 3");
    for format in [BlockFormat::Q8_0, BlockFormat::Q4K] {
        let path = folder.path().join(format!("{format}.gguf"));
        Conversion::new(&noise(&config, &[], &[]), format, Vec::new()).unwrap().write(&path, |_| ()).unwrap();
        let logits = |gpu: &Gpu, products: Products| {
            let model = Decoder::new(gpu, DecoderFiles::open(&path).unwrap()).unwrap();
            let options = SessionOptions::from(text.len()).products(products);
            let mut session = gpu.block_on(model.session(options)).unwrap();
            gpu.block_on(session.feed(text)).unwrap();
            (gpu.block_on(session.logits()).unwrap(), kernels(&model, 32, products))
        };
        let singly = Gpu::cpu_executor();
        let (exact, _) = logits(&singly, Products::Exact);
        let moved = relative(&logits(&singly, Products::Packed).0, &exact);
        // One format on devices: their compilers take long for tiles of bytes.
        let devices = if format == BlockFormat::Q8_0 { as_gpus() } else { Vec::new() };
        for (name, gpu) in devices.into_iter().chain([cpu_as_gpu()]) {
            let (found, kernels) = logits(&gpu, Products::Packed);
            let count = |kernel: &str| kernels.iter().filter(|it| **it == kernel).count();
            assert_eq!((count("grouped_experts"), count("experts")), (4, 0), "{name}");
            let gathered = relative(&found, &exact);
            eprintln!("{format} on {name}: moved by {gathered:e}, singly by {moved:e}");
            assert!(gathered < Products::Packed.tolerance(), "{format} on {name}: {gathered:e}");
            assert!(gathered > 1e-3 && gathered < 2.0 * moved, "{format} on {name}: {gathered:e} and {moved:e}");
        }
    }
}

/// The numbers of [`noise`], of which `half` are stored in 16 bits there, all in 32 bits.
fn alike(half: &[&str]) -> DecoderFiles {
    let stored = tensors(CONFIG).into_iter().map(|(name, shape, values)| {
        let kept = if half.iter().any(|part| name.contains(part)) { 0xffff_0000 } else { u32::MAX };
        let bytes = values.iter().flat_map(|value| (value.to_bits() & kept).to_le_bytes()).collect();
        (name, "F32", shape, bytes)
    });
    files(CONFIG, stored)
}

/// A GGUF file has the experts of a layer in one tensor.
#[test]
fn a_folder_written_as_a_file_is_the_same_mixture() {
    let (folder, gpu) = (tempfile::tempdir().unwrap(), Gpu::cpu_executor());
    let path = folder.path().join("mixture.gguf");
    // Experts of one layer may be stored unlike.
    for half in [&[][..], &["layers.2.mlp.experts.3.", "layers.0.mlp.experts.0.up"]] {
        let files = noise(CONFIG, half, &[]);
        let conversion = Conversion::new(&files, BlockFormat::F32, Vec::new()).unwrap();
        let stacks = conversion.tensors().iter().filter(|tensor| tensor.shape.len() == 3).count();
        assert_eq!((stacks, conversion.tensors().len()), (2 * 3, 2 + 3 * 8 + 2 + 6 + 3));
        let errors = conversion.write(&path, |_| ()).unwrap();
        assert!(errors.iter().all(|error| *error == 0.0));
        let written = DecoderFiles::open(&path).unwrap();
        let [written, alike, own] = [written, alike(half), files].map(|files| logits_of(&gpu, files, &text()[..20]));
        assert_eq!(written, alike);
        // The folder's unlike experts are in stacks of their own, whose sums come in another order; the file has one type.
        let apart = relative(&written, &own);
        assert!(if half.is_empty() { written == own } else { apart < 2e-6 }, "{half:?}: {apart:e}");
    }
    // Shares that are not divided by their sum have no words in such a file.
    let files = noise(&CONFIG.replace("\"norm_topk_prob\": true, ", ""), &[], &[]);
    let error = Conversion::new(&files, BlockFormat::F32, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("norm_topk_prob"), "{error}");
}

/// One expert that every token meets is a layer of gated units.
#[test]
fn a_single_expert_is_no_mixture() {
    let gpu = Gpu::cpu_executor();
    let sparse = CONFIG.replace("\"num_experts\": 7", "\"num_experts\": 1").replace("_tok\": 3", "_tok\": 1");
    let sparse = sparse.replace(", \"mlp_only_layers\": [1]", "");
    let run = |files: DecoderFiles| logits_of(&gpu, files, &[3, 1, 4, 1, 5, 9, 2, 6]);
    // The same tensors under the names of a model without experts.
    let dense = sparse.replace("qwen3_moe", "qwen3").replace("\"intermediate_size\": 20", "\"intermediate_size\": 18");
    let there = tensors(&sparse).into_iter().filter(|(name, ..)| !name.ends_with("mlp.gate.weight"));
    let renamed = there.map(|(name, shape, values)| (name.replace("experts.0.", ""), "F32", shape, bytes(&values)));
    let error = relative(&run(files(&dense, renamed)), &run(noise(&sparse, &[], &[])));
    assert!(error < 1e-6, "{error:e}");
}

/// What a GGUF file calls a tensor; the experts of a layer are one.
fn gguf_name(name: &str) -> String {
    let name = name.replace("model.embed_tokens", "token_embd").replace("model.norm", "output_norm");
    let name = name.replace("model.layers", "blk").replace("input_layernorm", "attn_norm");
    let name = name.replace("post_attention_layernorm", "ffn_norm").replace("mlp.gate.", "ffn_gate_inp.");
    let mut name = name.replace("self_attn.o_proj", "attn_output");
    for (part, of) in [("q", "attn"), ("k", "attn"), ("v", "attn"), ("gate", "ffn"), ("up", "ffn"), ("down", "ffn")] {
        let kind = if of == "ffn" { "_exps" } else { "" };
        name = name.replace(&format!("self_attn.{part}_norm"), &format!("attn_{part}_norm"));
        name = name.replace(&format!("{part}_proj"), &format!("{of}_{part}{kind}"));
    }
    let words = name.split('.').filter(|word| !["self_attn", "mlp", "experts"].contains(word)).collect::<Vec<_>>();
    // The number of an expert follows that of the layer.
    let expert = words.get(2).is_some_and(|word| word.parse::<usize>().is_ok());
    words.iter().enumerate().filter(|(at, _)| !expert || *at != 2).map(|(_, word)| *word).collect::<Vec<_>>().join(".")
}

/// Blocks of all experts in one tensor give what their numbers give, expert by expert, in f32.
#[test]
fn stacks_of_blocks_hold_the_numbers_of_their_experts() {
    let gpu = Gpu::cpu_executor();
    let config = CONFIG.replace("\"hidden_size\": 24", "\"hidden_size\": 64").replace("_size\": 18", "_size\": 32");
    let config = config.replace(", \"mlp_only_layers\": [1]", "");
    for format in [BlockFormat::Q8_0, BlockFormat::Q4_1, BlockFormat::Q5_0] {
        let (mut plain, mut stacked) = (Vec::new(), Vec::<(String, BlockFormat, Vec<usize>, Vec<u8>)>::new());
        for (name, shape, mut values) in tensors(&config) {
            let expert = name.contains("experts");
            let format = if expert { format } else { BlockFormat::F32 };
            let blocks = format.quantize(&values).unwrap().bytes;
            format.dequantize(&blocks, &mut values).unwrap();
            plain.push((name.clone(), "F32", shape.clone(), bytes(&values)));
            let name = gguf_name(&name);
            match stacked.iter_mut().find(|(other, ..)| *other == name) {
                Some((.., shape, all)) => {
                    shape[0] += 1;
                    all.extend(blocks);
                }
                None => {
                    let shape = if expert { [vec![1], shape].concat() } else { shape };
                    stacked.push((name, format, shape, blocks));
                }
            }
        }
        let number = |key: &str, value: u32| (format!("qwen3moe.{key}"), MetadataValue::U32(value));
        let metadata = [
            ("general.architecture".to_owned(), MetadataValue::String("qwen3moe".to_owned())),
            number("embedding_length", 64),
            number("feed_forward_length", 20),
            number("block_count", 3),
            number("attention.head_count", 4),
            number("attention.head_count_kv", 2),
            number("attention.key_length", 12),
            number("context_length", 128),
            number("expert_count", 7),
            number("expert_used_count", 3),
            number("expert_feed_forward_length", 32),
        ];
        let tensors: Vec<NewBlocks<'_>> = stacked
            .iter()
            .map(|(name, format, shape, bytes)| NewBlocks { name, format: *format, shape, bytes })
            .collect();
        let made = |metadata: &[(String, MetadataValue)]| {
            let gguf = Gguf::from_bytes("noise.gguf", gguf_bytes("noise.gguf", metadata, &tensors).unwrap()).unwrap();
            DecoderFiles { weights: gguf.into(), config: None }
        };
        let text = &text()[..9];
        let found = logits_of(&gpu, made(&metadata), text);
        let error = relative(&found, &logits_of(&gpu, files(&config, plain), text));
        assert!(error < 1e-6, "{format}: {error:e}");

        for (at, key) in
            [(8, "qwen3moe.expert_count"), (9, "qwen3moe.expert_used_count"), (10, "expert_feed_forward_length")]
        {
            let mut wrong = metadata.clone();
            wrong[at].1 = MetadataValue::U32(2000 * u32::from(at < 10));
            let error = Decoder::new(&gpu, made(&wrong)).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("noise.gguf"), "{error}");
        }
        let mut fewer = metadata.clone();
        fewer[8].1 = MetadataValue::U32(5);
        let error = Decoder::new(&gpu, made(&fewer)).unwrap_err().to_string();
        assert!(error.contains("`blk.2.ffn_down_exps.weight` is [7, 64, 32] where [5, 64, 32] is needed"), "{error}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let gpu = Gpu::cpu_executor();
    let error = Decoder::new(&gpu, noise(CONFIG, &[], &["layers.2.mlp.experts.6.up_proj", "layers.0.mlp.gate."]));
    let error = error.unwrap_err().to_string();
    for name in [
        "model.layers.2.mlp.experts.6.up_proj.weight` [18, 24]",
        "model.layers.0.mlp.gate.weight` [7, 24]",
        "qwen3_moe",
    ] {
        assert!(error.contains(name), "{name} is not in: {error}");
    }
    let error = Decoder::new(&gpu, noise(&CONFIG.replace("_tok\": 3", "_tok\": 8"), &[], &[])).unwrap_err().to_string();
    assert!(error.contains("`num_experts_per_tok` is 8, expected a whole number from 1 to num_experts"), "{error}");
}

/// The weights of the other three are no numbers, and whoever takes in one of them gives none.
#[test]
fn no_expert_is_read_that_was_not_chosen() {
    let entry = lampyris::engine::kernels::all().into_iter().find(|entry| entry.name == "experts").unwrap();
    let (mut cases, mut tried) = (0, 0);
    for mut case in (entry.cases)().into_iter().filter(|case| case.label.starts_with("1x1of4.24x33.")) {
        cases += 1;
        let chosen = case.inputs.iter().find_map(|(_, fill)| match fill {
            Fill::Words(words) => Some(words[0] as usize),
            _ => None,
        });
        let (desc, fill) = &mut case.inputs[1];
        assert_eq!(desc.format, Format::Panel(Code::F16), "{}", case.label);
        let of_one = desc.len() / 4;
        let weight = |at: usize| if Some(at / of_one) == chosen { (at * 37 % 23) as f32 / 23.0 } else { f32::NAN };
        *fill = Fill::Values((0..desc.len()).map(weight).collect());
        let prepared = Prepared::new(&case).unwrap();
        let expected = case.expected(&case.tensors()).unwrap()[0].values();
        assert!(expected.iter().all(|value| value.is_finite()), "{}: the twin reads more", case.label);
        for (name, gpu) in devices().into_iter().filter(|(_, gpu)| !gpu.is_cpu_executor()) {
            for source in prepared.variants(&gpu).unwrap() {
                let found = gpu.block_on(prepared.run(&gpu, source)).unwrap()[0].values();
                let error = relative(&found, &expected);
                assert!(error < 1e-3, "{} of {} on {name}: {error:e}", source.label, case.label);
                tried += 1;
            }
        }
    }
    assert!(cases > 1 && (tried > 1 || devices().len() == 1), "{tried} of {cases} cases");
}

#[test]
fn only_the_chosen_experts_count_as_read_for_a_token() {
    let gpu = Gpu::cpu_executor();
    let needs = |chosen: usize| {
        let config = CONFIG.replace("_tok\": 3", &format!("_tok\": {chosen}"));
        Decoder::new(&gpu, noise(&config, &[], &[])).unwrap().needs(16).unwrap()
    };
    let [one, three, seven] = [1, 3, 7].map(needs);
    assert_eq!(one.weights, seven.weights);
    let [one, three, seven] = [one, three, seven].map(|needs| needs.read_per_token);
    assert!(one < three && 2 * (three - one) <= seven - three + 16, "{one}, {three}, {seven}");
    assert!(seven - three <= 2 * (three - one) + 16, "{one}, {three}, {seven}");
}
