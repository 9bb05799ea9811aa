//! `quantize`, `bench`, `fits` and `inspect` of language models: what they say, what they write, and what they refuse.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::engine::weights::gguf::{Gguf, MetadataValue, NewBlocks, gguf_bytes};
use serde_json::json;
use std::path::Path;
use support::noise::model;
use support::{adapters, file, fixture, keys, lampyris, material};

/// Tensors of a file by name, type and bytes.
fn tensors(path: &Path) -> Vec<(String, BlockFormat, Vec<u8>)> {
    let gguf = Gguf::open(path).unwrap();
    let bytes = |name: &str| gguf.bytes(name).unwrap().into_owned();
    gguf.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.format, bytes(&tensor.name))).collect()
}

#[test]
fn blocks_are_those_that_the_reference_writes() {
    let Some(material) = material() else { return };
    let (stories, folder) = (material.join("stories260k"), tempfile::tempdir().unwrap());
    let of = |name: &str| stories.join(format!("gguf/stories260K-{name}.gguf"));
    for name in ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] {
        let out = folder.path().join("out.gguf");
        let said = lampyris(&["quantize", of("F32").to_str().unwrap(), out.to_str().unwrap(), "--format", name]);
        assert_eq!(said.code, 0, "{name}: {}", said.stderr);
        assert!(tensors(&out) == tensors(&of(name)), "{name}: other bytes than the recorded file's");
        let value = |path: &Path, key: &str| Gguf::open(path).unwrap().value(key).map(MetadataValue::from);
        for key in ["general.file_type", "general.architecture", "tokenizer.ggml.tokens", "tokenizer.ggml.scores"] {
            assert_eq!(value(&out, key), value(&of(name), key), "{name}: {key}");
        }
    }
}

/// The perplexity of a text by all logits of one run on the CPU executor.
fn perplexity(model: &Path, text: &str) -> f64 {
    let gpu = lampyris::Gpu::cpu_executor();
    let model = gpu.block_on(lampyris::TextModel::load(&gpu, model)).unwrap();
    let (ids, decoder) = (model.tokenizer().encode_document(text).unwrap(), model.decoder());
    let mut session = gpu.block_on(decoder.session(ids.len())).unwrap();
    gpu.block_on(session.feed(&ids)).unwrap();
    let logits = gpu.block_on(session.logits()).unwrap();
    let rows = logits.chunks(decoder.config().vocabulary).zip(&ids[1..]);
    let share = |(row, next): (&[f32], &u32)| {
        let all: f64 = row.iter().map(|value| f64::from(*value).exp()).sum();
        f64::from(row[*next as usize]).exp() / all
    };
    let losses: Vec<f64> = rows.map(|row| -share(row).ln()).collect();
    (losses.iter().sum::<f64>() / losses.len() as f64).exp()
}

#[test]
fn perplexities_before_and_after_are_those_of_the_files() {
    let Some(material) = material() else { return };
    let (stories, folder) = (material.join("stories260k"), tempfile::tempdir().unwrap());
    let reference: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stories.join("reference.json")).unwrap()).unwrap();
    let text = reference["ppl_text"].as_str().unwrap().trim_start();
    let path = file(&folder, "text.txt", text.as_bytes());
    let recorded = |name: &str| reference["models"][name]["perplexity"].as_f64().unwrap();
    let out = folder.path().join("small.gguf");
    let [written, original] = [&out, &stories.join("hf")].map(|path| path.display().to_string());
    let expected = perplexity(Path::new(&original), text);
    let cases = [("hf", "Q8_0"), ("gguf/stories260K-F32.gguf", "Q8_0"), ("hf", "Q4_0")];
    for adapter in adapters() {
        // On a device, that its logits are summed: the files are the same.
        for (source, format) in cases.into_iter().take(if adapter == "cpu" { 3 } else { 1 }) {
            let source = stories.join(source).display().to_string();
            let arguments = ["quantize", &source, &written, "--format", format, "--text", &path, "--adapter", adapter];
            let said = lampyris(&arguments);
            assert_eq!(said.code, 0, "{}", said.stderr);
            let line = said.stdout.lines().find(|line| line.contains("perplexity")).unwrap();
            let found: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [before, after] = found[..] else { panic!("{line}") };
            assert!((before - expected).abs() < 1e-3, "{adapter}, {source}: {line}");
            assert!((after - perplexity(&out, text)).abs() < 1e-3, "{adapter}, {source}: {line}");
            // What the model wrote itself is spelled otherwise than its text is, so that it is a little less likely.
            assert!((before / recorded("F32") - 1.0).abs() < 0.05, "{adapter}, {source}: {line}");
            let ratio = recorded(format) / recorded("F32");
            assert!((after / before / ratio - 1.0).abs() < 0.01, "{adapter}, {source}: {line}, {ratio} recorded");
        }
    }
}

#[test]
fn a_folder_and_the_file_made_of_it_write_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let out = folder.path().join("made/model.gguf");
    std::fs::create_dir(out.parent().unwrap()).unwrap();
    let out = out.display().to_string();
    let said = lampyris(&["quantize", &model, &out, "--format", "F32"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("F32 -> F32  blk.0.attn_k.weight [8, 16]"), "{}", said.stdout);
    let ids = |model: &str| {
        let arguments = ["generate", "--model", model, "--adapter", "cpu", "--max-tokens", "12", "--json", "--prompt"];
        lampyris(&[&arguments[..], &["Every kernel has 2 twins"]].concat()).json()[0]["token_ids"].clone()
    };
    assert_eq!(ids(&model), ids(&out));
    // Rows of 16 and 20 are no blocks of 32.
    let small = folder.path().join("small.gguf").display().to_string();
    let said = lampyris(&["quantize", &out, &small, "--format", "Q6_K"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("F32 -> F16 *  blk.0.ffn_down.weight [16, 20]"), "{}", said.stdout);
    assert!(said.stdout.contains("are no whole blocks of Q6_K"), "{}", said.stdout);
    let listed = lampyris(&["inspect", &small, "--plan", "--json"]).json();
    assert_eq!(listed[0]["settings"]["layers"], 1);
    assert_eq!(listed[0]["tensors"][0]["dtype"], "F16");
    let plan = &listed[0]["plan"];
    let sum = ["weight_bytes", "cache_bytes", "work_bytes"].map(|key| plan[key].as_u64().unwrap()).iter().sum::<u64>();
    assert_eq!(plan["total_bytes"], sum);
    assert!(plan["dispatches"].as_u64().unwrap() >= 8 && plan["text"].as_str().unwrap().contains("layers.0.attention"));
}

#[test]
fn no_part_of_a_split_file_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let made = folder.path().join("made.gguf");
    assert_eq!(lampyris(&["quantize", &model, made.to_str().unwrap(), "--format", "F32"]).code, 0);
    let whole = Gguf::open(&made).unwrap();
    let bytes: Vec<_> = whole.tensors().iter().map(|tensor| whole.bytes(&tensor.name).unwrap()).collect();
    let tensors: Vec<NewBlocks<'_>> = (whole.tensors().iter().zip(&bytes))
        .map(|(it, bytes)| NewBlocks { name: &it.name, format: it.format, shape: &it.shape, bytes })
        .collect();
    let (one, two) = tensors.split_at(tensors.len() / 2);
    let parts = [(0, one), (1, two)].map(|(number, tensors)| {
        let mut metadata: Vec<(&str, MetadataValue)> =
            whole.metadata().filter(|_| number == 0).map(|(key, value)| (key, value.into())).collect();
        let count = i32::try_from(whole.tensors().len()).unwrap();
        metadata.extend([("split.no", MetadataValue::U16(number)), ("split.count", MetadataValue::U16(2))]);
        metadata.push(("split.tensors.count", MetadataValue::I32(count)));
        let name = format!("m-0000{}-of-00002.gguf", number + 1);
        file(&folder, &name, &gguf_bytes(&name, &metadata, tensors).unwrap())
    });
    let before = parts.each_ref().map(|path| std::fs::read(path).unwrap());
    for from in &parts {
        for to in &parts {
            let said = lampyris(&["quantize", from, to, "--format", "Q8_0"]);
            assert!(
                said.code == 2 && said.stderr.contains("is the model that is read"),
                "{from} {to}: {}",
                said.stderr
            );
        }
    }
    assert_eq!(parts.each_ref().map(|path| std::fs::read(path).unwrap()), before);
    let out = folder.path().join("m-00003-of-00003.gguf").display().to_string();
    assert_eq!(lampyris(&["quantize", &parts[1], &out, "--format", "Q8_0"]).code, 0);
}

#[test]
fn ends_and_recommended_sampling_survive_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let said = br#"{"eos_token_id": [603, 7, 9], "do_sample": true, "temperature": 0.25, "top_k": 20}"#;
    file(&folder, "generation_config.json", said);
    let out = folder.path().join("made.gguf");
    assert_eq!(lampyris(&["quantize", &model, out.to_str().unwrap(), "--format", "F32"]).code, 0);
    let gpu = lampyris::Gpu::cpu_executor();
    let open = |path: &Path| gpu.block_on(lampyris::TextModel::load(&gpu, path)).unwrap();
    let (before, after) = (open(folder.path()), open(&out));
    assert_eq!(after.sampling(), before.sampling());
    assert!([603, 7, 9].iter().all(|id| after.stops().contains(id)), "{:?}", after.stops());
    assert_eq!(after.sampling().unwrap().temperature, 0.25);
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    let named = Gguf::open(&out).unwrap().value("general.name").map(MetadataValue::from);
    assert_eq!(named, Some(MetadataValue::String(name.to_owned())));
}

#[test]
fn speed_is_told_on_every_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    for adapter in adapters() {
        let arguments =
            ["bench", "--model", &model, "--adapter", adapter, "--prompt-tokens", "40", "--new-tokens", "8"];
        let lines = lampyris(&[&arguments[..], &["--json", "--runs", "2"]].concat()).json();
        let expected = [
            "adapter",
            "decode_products",
            "decode_tokens_per_s",
            "dispatches_per_token",
            "first_token_ms",
            "gpu_bytes",
            "longest_prompt_submit_ms",
            "model",
            "prefill_tokens_per_s",
            "products",
            "products_asked",
            "prompt_chunk",
            "read_share",
            "submits_per_token",
            "weight_bytes",
        ];
        assert_eq!((lines.len(), keys(&lines[0])), (1, expected.to_vec()));
        assert_eq!(keys(&lines[0]["first_token_ms"]), ["cold", "warm"]);
        for key in ["prefill_tokens_per_s", "decode_tokens_per_s", "weight_bytes"] {
            assert!(lines[0][key].as_f64().unwrap() > 0.0, "{adapter}: {key}");
        }
        let on_device = adapter != "cpu";
        assert_eq!(lines[0]["prompt_chunk"], 32);
        assert_eq!(lines[0]["read_share"].is_number(), on_device);
        assert_eq!(lines[0]["longest_prompt_submit_ms"].is_number(), on_device);
        assert_eq!(lines[0]["submits_per_token"], if on_device { 1.0 } else { 0.0 });
        assert_eq!(lines[0]["gpu_bytes"].as_u64().unwrap() > lines[0]["weight_bytes"].as_u64().unwrap(), on_device);
    }
    if adapters().len() > 1 {
        let both = lampyris(&["bench", "--model", &model, "--prompt-tokens", "8", "--new-tokens", "4", "--compare"]);
        assert_eq!(both.code, 0, "{}", both.stderr);
    }
    let sizes = ["--prompt-tokens", "60", "--new-tokens", "4", "--runs", "1", "--chunk", "512", "--json"];
    let large = lampyris(&[&["bench", "--model", &model, "--adapter", "cpu"], &sizes[..]].concat()).json();
    assert_eq!(large[0]["prompt_chunk"], 64, "no more than the context");
}

#[test]
fn what_a_model_takes_is_what_a_session_takes() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let fits = |more: &[&str]| {
        let arguments = ["fits", &model, "--adapter", "cpu", "--context", "32", "--json"];
        lampyris(&[&arguments[..], more].concat()).json().remove(0)
    };
    let found = fits(&[]);
    assert_eq!((&found["fits"], &found["context"], &found["kv"]), (&json!(true), &json!(32), &json!("f32")));
    // Keys and values of 32 tokens and 8 columns, the tokens, and the cursor.
    assert!(found["cache_bytes"].as_u64().unwrap() >= 2 * 32 * 8 * 4 + 32 * 4, "{found}");
    let total = found["total_bytes"].as_u64().unwrap();
    assert!(fits(&["--kv", "f16"])["cache_bytes"].as_u64() < found["cache_bytes"].as_u64());
    // Nothing holds the CPU executor to a budget.
    assert!(total > 9 && fits(&["--budget", "9"])["fits"] == true);
    assert!(found["tokens_per_s_expected"].is_null() && found["read_gbytes"].is_null(), "{found}");
    for adapter in adapters().into_iter().filter(|adapter| *adapter != "cpu") {
        let within = |context: &str, more: &[&str]| {
            let arguments = ["fits", &model, "--adapter", adapter, "--context", context, "--json"];
            lampyris(&[&arguments[..], more].concat()).json().remove(0)
        };
        let fits = |more: &[&str]| within("32", more);
        let whole = fits(&[]);
        // A step takes no less than its weights take to be read, nor than a dispatch, of which there are nine.
        let speed = |key: &str| whole[key].as_f64().unwrap();
        assert!(speed("tokens_per_s_expected") > 0.1 && speed("tokens_per_s_expected") < 1e6, "{whole}");
        assert!(speed("tokens_per_s_expected") <= speed("tokens_per_s_at_most"), "{whole}");
        let total = whole["total_bytes"].as_u64().unwrap();
        let found = fits(&["--budget", &(total - 1).to_string()]);
        assert_eq!(found["fits"], false);
        assert!(found["reasons"][0].as_str().unwrap().contains(&total.to_string()), "{found}");
        assert!(found["instead"]["total_bytes"].as_u64().unwrap() < total, "{found}");
        assert_eq!(found["instead"]["format"], "Q8_0");
        // Angles of positions take what they take in every format.
        let less = within("16", &[])["total_bytes"].as_u64().unwrap() - 1;
        let shorter = within("16", &["--budget", &less.to_string()]);
        let [short, long] = [&shorter, &found].map(|found| found["instead"]["weight_bytes"].as_u64().unwrap());
        assert!(short < long, "{shorter} {found}");
        assert_eq!(fits(&["--budget", &total.to_string()])["fits"], true);
        // The cache alone is more, which no format of the weights helps.
        let found = fits(&["--budget", &fits(&[])["cache_bytes"].to_string()]);
        assert_eq!((&found["fits"], &found["instead"]), (&json!(false), &serde_json::Value::Null));
    }
}

#[test]
fn what_a_file_says_cannot_steer_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = [
        ("general.architecture", MetadataValue::String("mam\u{1b}ba".to_owned())),
        ("evil\u{1b}[2J", MetadataValue::String(format!("\u{7}{}", "long ".repeat(99)))),
    ];
    let tensor = NewBlocks { name: "t\u{1b}", format: BlockFormat::F32, shape: &[1], bytes: &[0; 4] };
    let path = file(&folder, "evil.gguf", &gguf_bytes("evil", &metadata, &[tensor]).unwrap());
    let said = lampyris(&["inspect", &path]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("not recognized") && said.stdout.contains("(496 bytes)"), "{}", said.stdout);
    assert!(!said.stdout.chars().any(|c| c.is_control() && c != '\n'), "{:?}", said.stdout);
    let said = lampyris(&["inspect", &path, "--plan"]);
    assert!(said.code == 2 && said.stderr.contains("general.architecture"), "{}", said.stderr);
}

#[test]
fn what_cannot_be_done_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (model, pictures) = (model(&folder, &[]), fixture("mobilenet_v2_w025"));
    let made = folder.path().join("made.gguf").display().to_string();
    assert_eq!(lampyris(&["quantize", &model, &made, "--format", "Q8_0"]).code, 0);
    let before = std::fs::read(&made).unwrap();
    let out = folder.path().join("out.gguf").display().to_string();
    let empty = file(&folder, "empty.txt", b"");
    let cases: [(&[&str], &str); 15] = [
        (&["quantize", &made, &made, "--format", "Q4_0"], "is the model that is read"),
        (&["quantize", &made, "out.bin", "--format", "Q4_0"], "name a .gguf file"),
        (&["quantize", &made, &out, "--format", "int8"], "Q8_0"),
        (&["quantize", &made, &out, "--format", "Q9_9"], "Q4_K"),
        (&["quantize", &made, &out, "--format", "Q4_0", "--images", "."], "--images"),
        (&["quantize", &made, &out, "--format", "Q4_0", "--text", &empty, "--adapter", "cpu"], "longer text"),
        (&["quantize", &pictures, &out, "--format", "Q4_0"], "int8"),
        (&["quantize", &pictures, &out, "--format", "int8", "--text", &empty], "--text"),
        (&["fits", &pictures], "is no model for texts"),
        (&["fits", &made, "--adapter", "cpu", "--context", "97"], "a context of 97 tokens cannot be had"),
        (&["bench", "--model", &made, "--adapter", "cpu", "--side", "64"], "--side"),
        (
            &["bench", "--model", &made, "--adapter", "cpu", "--new-tokens", "90"],
            "a context of 218 tokens cannot be had",
        ),
        (&["bench", "--model", &made, "--prompt-tokens", "18446744073709551615"], "--prompt-tokens"),
        (&["bench", "--model", &made, "--new-tokens", "18446744073709551615"], "--new-tokens"),
        (&["bench", "--model", &made, "--adapter", "cpu", "--prompt-tokens", "1073741824"], "1073741888"),
    ];
    for (arguments, named) in cases {
        let said = lampyris(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments:?}: {}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(named), "{named:?} is not in: {}", said.stderr);
        assert!(!Path::new(&out).exists(), "{arguments:?} left a file");
    }
    assert_eq!(std::fs::read(&made).unwrap(), before);
}
