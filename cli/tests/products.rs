//! Products that are asked for and products that are computed: what a report says ran, and options where they mean nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use support::noise::model;
use support::{adapters, file, fixture, lampyris, root};

/// A language model whose weights are quantized.
fn storyteller() -> String {
    root().join("models/bundled/storyteller/storyteller.gguf").display().to_string()
}

/// What the adapter at `index` can do, as doctor lists it.
fn features(adapter: &str) -> Vec<String> {
    let Ok(index) = adapter.parse::<usize>() else { return Vec::new() };
    let report = lampyris(&["doctor", "--only", "copy", "--json", "--adapter", "cpu"]).json().remove(0);
    let features = report["adapters"][index]["features"].as_array().unwrap();
    features.iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[test]
fn bench_says_what_ran_and_not_what_was_asked() {
    let (folder, quantized) = (tempfile::tempdir().unwrap(), storyteller());
    let floats = model(&folder, &[]);
    let bench = |model: &str, adapter: &str, more: &[&str]| {
        let arguments = ["bench", "--model", model, "--adapter", adapter, "--prompt-tokens", "33", "--new-tokens", "2"];
        let said = lampyris(&[&arguments[..], &["--runs", "1", "--json"], more].concat());
        (said.json().remove(0), said.stderr)
    };
    for adapter in adapters() {
        let has = |feature: &str| features(adapter).iter().any(|it| it == feature);
        let (line, said) = bench(&quantized, adapter, &[]);
        assert_eq!(
            (&line["products_asked"], &line["products"], &line["decode_products"]),
            (&"exact".into(), &"exact".into(), &"exact".into())
        );
        assert!(!said.contains("exact"), "{said}");

        let (line, said) = bench(&quantized, adapter, &["--packed"]);
        let (prompt, token) = (line["products"].as_str().unwrap(), line["decode_products"].as_str().unwrap());
        assert!(line["products_asked"] == "packed" && prompt.starts_with("packed"), "{adapter}: {line}");
        assert_eq!(token.starts_with("packed"), has("packed_dot"), "{adapter}: {line}");
        assert_eq!(said.contains("no instructions for products of bytes"), !has("packed_dot"), "{adapter}: {said}");

        // Where no adapter is a GPU, 16-bit floats are never faster.
        let (line, said) = bench(&quantized, adapter, &["--half"]);
        let ran = line["products"].as_str().unwrap();
        assert!(line["products_asked"] == "half" && (ran == "exact" || ran.starts_with("half")), "{adapter}: {line}");
        assert_eq!(
            said.contains("all products are exact"),
            ran == "exact" && line["decode_products"] == "exact",
            "{adapter}: {said}"
        );
        assert!(has("f16") || ran == "exact", "{adapter}: {line}");

        // Weights that are no whole numbers.
        for option in ["--packed", "--half"] {
            let (line, said) = bench(&floats, adapter, &[option]);
            assert_eq!((&line["products"], &line["decode_products"]), (&"exact".into(), &"exact".into()), "{adapter}");
            assert!(said.contains("all products are exact"), "{adapter}, {option}: {said}");
        }
    }
}

#[test]
fn a_text_is_measured_with_the_products_asked_for() {
    let (folder, model) = (tempfile::tempdir().unwrap(), storyteller());
    let text = file(
        &folder,
        "text.txt",
        b"Once there lived a quiet girl, and her name was Mia. One day she heard a puppy cry.",
    );
    let eval = |more: &[&str]| {
        let arguments = ["eval", "--model", &model, "--adapter", "cpu", "--json", "--text", &text];
        let said = lampyris(&[&arguments[..], more].concat());
        (said.json().remove(0), said.stderr)
    };
    let (exact, packed) = (eval(&[]).0, eval(&["--packed"]).0);
    let [a, b] = [&exact, &packed].map(|report| report["text"]["perplexity"].as_f64().unwrap());
    assert!(a != b && (a / b - 1.0).abs() < 0.05, "{a} and {b}");
    assert_eq!((exact.get("products_asked"), packed["products_asked"].as_str()), (None, Some("packed")));
    let (half, said) = eval(&["--half"]);
    assert!(
        half["text"] == exact["text"] && said.contains("the CPU executor has no products of 16-bit floats"),
        "{said}"
    );

    let out = folder.path().join("small.gguf").display().to_string();
    let quantize = |more: &[&str]| {
        let arguments = ["quantize", &model, &out, "--format", "Q4_0", "--adapter", "cpu", "--text", &text];
        let said = lampyris(&[&arguments[..], more].concat());
        assert_eq!(said.code, 0, "{}", said.stderr);
        said.stdout.lines().find(|line| line.contains("perplexity")).unwrap().to_owned()
    };
    let (exact, packed) = (quantize(&[]), quantize(&["--packed"]));
    assert!(exact != packed && packed.ends_with("products asked for: packed"), "{exact}\n{packed}");
}

#[test]
fn products_of_what_has_none_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (language, pictures) = (model(&folder, &[]), fixture("mobilenet_v2_w025"));
    let encoder = root().join("tests/fixtures/texts/bert").display().to_string();
    let out = folder.path().join("out.gguf").display().to_string();
    let int8 = folder.path().join("out.safetensors").display().to_string();
    let cases: [(&[&str], &str); 9] = [
        (&["bench", "--model", &pictures, "--adapter", "cpu", "--chunk", "64"], "--chunk is for language models"),
        (&["bench", "--model", &pictures, "--adapter", "cpu", "--packed"], "--packed is for language models"),
        (&["bench", "--model", &pictures, "--adapter", "cpu", "--half"], "--half is for language models"),
        (&["bench", "--model", &encoder, "--adapter", "cpu", "--packed"], "--packed is for language models"),
        (&["bench", "--model", &encoder, "--adapter", "cpu", "--half"], "--half is for language models"),
        (&["bench", "--roofline", "--adapter", "cpu", "--half"], "--half is about how a language model is run"),
        (&["quantize", &language, &out, "--format", "Q8_0", "--packed"], "name one with --text"),
        (&["quantize", &pictures, &int8, "--format", "int8", "--half"], "--half is for language models"),
        (&["eval", "--images", ".", "--adapter", "cpu", "--packed"], "--packed"),
    ];
    for (arguments, named) in cases {
        let said = lampyris(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments:?}: {}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(named), "{named:?} is not in: {}", said.stderr);
    }
}
