//! `embed` with an encoder of noise made here, on the CPU executor and on an adapter where there is one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

#[path = "../../tests/support/bert.rs"]
mod bert;
mod support;

use serde_json::Value;
use std::io::Write;
use std::process::Stdio;
use support::{adapters, command, file, keys, lampyris};

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn vectors_and_cosines_are_printed_as_text_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    bert::write(folder.path());
    let model = folder.path().display().to_string();
    let texts = ["a fox", "", "A FOX", "search. a fox"];
    let mut first: Option<Vec<Value>> = None;
    for adapter in adapters() {
        let embed = |more: &[&str]| {
            let arguments = ["embed", "--model", &model, "--adapter", adapter];
            lampyris(&[&arguments[..], more].concat())
        };
        let lines = embed(&[&["--json"], &texts[..]].concat()).json();
        assert_eq!(lines.len(), 4);
        for (line, text) in lines.iter().zip(texts) {
            assert_eq!((keys(line), line["text"].as_str().unwrap()), (vec!["embedding", "text"], text));
            let length: f64 = numbers(&line["embedding"]).iter().map(|v| v * v).sum();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
        // The vocabulary has small letters only.
        assert_eq!(lines[0]["embedding"], lines[2]["embedding"]);
        let reference = first.get_or_insert_with(|| lines.clone());
        for (line, reference) in lines.iter().zip(reference) {
            let apart = numbers(&line["embedding"]).into_iter().zip(numbers(&reference["embedding"]));
            assert!(apart.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) < 1e-5);
        }
        let prompted = embed(&["--json", "--prompt", "query", "a fox"]).json();
        let near: f64 = numbers(&prompted[0]["embedding"])
            .into_iter()
            .zip(numbers(&lines[3]["embedding"]))
            .map(|(a, b)| a * b)
            .sum();
        assert!((near - 1.0).abs() < 1e-5, "{near}");

        let plain = embed(&texts);
        assert_eq!(plain.code, 0, "{}", plain.stderr);
        let rows: Vec<Vec<f64>> =
            plain.stdout.lines().map(|line| line.split(' ').map(|value| value.parse().unwrap()).collect()).collect();
        assert_eq!((rows.len(), rows[1].len()), (4, 24));

        let similar = embed(&[&["--similarity", "--json"], &texts[..]].concat()).json();
        let cosines: Vec<Vec<f64>> = similar.iter().map(|line| numbers(&line["cosines"])).collect();
        for (i, row) in cosines.iter().enumerate() {
            assert!((row[i] - 1.0).abs() < 1e-5 && (row[0] - row[2]).abs() < 1e-6);
            assert!((0..4).all(|j| (row[j] - cosines[j][i]).abs() < 1e-6));
        }
        assert!(cosines[0][1] < 0.999);
        let table = embed(&[&["--similarity"], &texts[..]].concat());
        assert_eq!((table.code, table.stdout.lines().count()), (0, 4));
        assert!(table.stdout.lines().next().unwrap().starts_with("   0   1.000"), "{}", table.stdout);
        assert!(table.stdout.contains("  search. a fox\n"), "{}", table.stdout);
    }
}

#[test]
fn texts_come_from_the_input_a_line_each() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    bert::write(folder.path());
    let run = |input: &[u8]| {
        let mut embed = command(&cache);
        embed.args(["embed", "--adapter", "cpu", "--json", "--model"]).arg(folder.path()).args(["first", "-"]);
        let mut embed = embed.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        embed.stdin.take().unwrap().write_all(input).unwrap();
        let output = embed.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stdout, stderr) = run(b"second\n\nthird and last");
    assert_eq!(code, Some(0), "{stderr}");
    let texts: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<&str> = texts.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["first", "second", "", "third and last"]);
    let (code, stdout, stderr) = run(b"\xff\xfe");
    assert!(code == Some(2) && stdout.is_empty() && stderr.contains("UTF-8"), "{stderr}");
}

#[test]
fn what_cannot_be_embedded_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    bert::write(folder.path());
    let model = folder.path().display().to_string();
    let refused = |model: &str, more: &[&str], named: &str| {
        let arguments = ["embed", "--adapter", "cpu", "--model", model];
        let said = lampyris(&[&arguments[..], more].concat());
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{named}: {}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{named}: {}", said.stderr);
        assert!(said.stderr.contains(named), "{named:?} is not in: {}", said.stderr);
    };
    refused(&model, &[], "TEXT");
    refused(&model, &["--prompt", "nothing", "a"], "passage, query");
    refused("nowhere", &["a"], "nowhere does not exist");
    let dense = br#"[{"type": "m.Transformer"}, {"type": "m.Pooling", "path": "1_Pooling"}, {"type": "m.Dense", "path": "2_Dense"}]"#;
    file(&folder, "modules.json", dense);
    refused(&model, &["a"], "m.Dense");
    // Whatever kind of network it is, nobody is sent with it to what continues texts.
    file(&folder, "modules.json", br#"[{"type": "m.Transformer"}, {"type": "m.Pooling", "path": "1_Pooling"}]"#);
    file(&folder, "config.json", br#"{"model_type": "mpnet", "vocab_size": 90, "hidden_size": 24}"#);
    refused(&model, &["a"], "bert, roberta, xlm-roberta and camembert");
    file(&folder, "config.json", br#"{"model_type": "llama"}"#);
    std::fs::remove_file(folder.path().join("modules.json")).unwrap();
    refused(&model, &["a"], "llama");
}

#[test]
fn an_encoder_is_shown_timed_and_weighed() {
    let folder = tempfile::tempdir().unwrap();
    bert::write(folder.path());
    let model = folder.path().display().to_string();
    let shown = lampyris(&["inspect", &model, "--plan", "--context", "30", "--json"]).json().remove(0);
    assert_eq!((&shown["architecture"], &shown["files"]), (&"bert".into(), &"safetensors".into()));
    let settings = &shown["settings"];
    let found = ["layers", "hidden", "intermediate", "heads", "context"].map(|key| settings[key].as_u64().unwrap());
    assert_eq!(found, [2, 24, 40, 3, 20]);
    assert_eq!((&settings["pooling"], &settings["normalize"]), (&"mean".into(), &true.into()));
    assert_eq!(shown["tensors"].as_array().unwrap().len(), bert::tensors().len());
    // Two steps before the layers, seven a layer, and the pooling.
    let plan = &shown["plan"];
    assert_eq!((&plan["tokens"], &plan["dispatches"]), (&32.into(), &17.into()));
    assert!(plan["text"].as_str().unwrap().contains("span_attention"), "{plan}");
    let said = lampyris(&["inspect", &model]);
    assert!(said.stdout.contains("mean of a text's rows, to length 1"), "{}", said.stdout);

    let weighed = lampyris(&["fits", &model, "--adapter", "cpu", "--context", "30", "--json"]).json().remove(0);
    for key in ["weight_bytes", "work_bytes", "total_bytes"] {
        assert_eq!(weighed[key], plan[key], "{key}");
    }
    assert_eq!((&weighed["fits"], &weighed["tokens"]), (&true.into(), &32.into()));
    let weights = weighed["weight_bytes"].as_u64().unwrap();
    let tight = lampyris(&["fits", &model, "--adapter", "cpu", "--context", "30", "--budget", "9"]);
    assert!(tight.code == 0 && tight.stdout.ends_with("it fits\n"), "{}", tight.stdout);
    for adapter in adapters().into_iter().filter(|adapter| *adapter != "cpu") {
        let fits = |more: &[&str]| {
            let arguments = ["fits", &model, "--adapter", adapter, "--context", "30"];
            lampyris(&[&arguments[..], more].concat())
        };
        let total = fits(&["--json"]).json()[0]["total_bytes"].as_u64().unwrap();
        let tight = fits(&["--budget", &(total - 1).to_string(), "--json"]).json();
        assert_eq!((&tight[0]["fits"], &tight[0]["instead"]["precision"]), (&false.into(), &"f16".into()));
        assert!(tight[0]["reasons"][0].as_str().unwrap().contains(&total.to_string()), "{}", tight[0]);
        let tight = fits(&["--budget", "9"]);
        assert!(
            tight.code == 0 && tight.stdout.ends_with("it does not fit; take a smaller model\n"),
            "{}",
            tight.stdout
        );
    }

    for adapter in adapters() {
        let arguments = ["bench", "--model", &model, "--adapter", adapter, "--prompt-tokens", "12", "--batch", "5"];
        let lines = lampyris(&[&arguments[..], &["--json", "--runs", "2"]].concat()).json();
        let expected = [
            "adapter",
            "dispatches",
            "first_result_ms",
            "gpu_bytes",
            "model",
            "submits",
            "text_tokens",
            "texts",
            "texts_per_s",
            "tokens_per_s",
            "weight_bytes",
        ];
        assert_eq!((lines.len(), keys(&lines[0])), (1, expected.to_vec()));
        let number = |key: &str| lines[0][key].as_f64().unwrap();
        assert_eq!((number("texts"), number("text_tokens"), number("weight_bytes")), (5.0, 12.0, weights as f64));
        assert!((number("tokens_per_s") / number("texts_per_s") - 12.0).abs() < 0.1, "{}", lines[0]);
        let on_device = adapter != "cpu";
        assert_eq!((number("dispatches"), number("submits")), if on_device { (17.0, 1.0) } else { (0.0, 0.0) });
        assert_eq!(number("gpu_bytes") > weights as f64, on_device, "{}", lines[0]);
    }
    if adapters().len() > 1 {
        let both = lampyris(&["bench", "--model", &model, "--compare", "--runs", "1", "--prompt-tokens", "99"]);
        assert!(
            both.code == 0 && both.stdout.contains("8 together with 20 tokens each"),
            "{}{}",
            both.stdout,
            both.stderr
        );
    }
}

#[test]
fn what_an_encoder_is_not_for_is_said() {
    let folder = tempfile::tempdir().unwrap();
    bert::write(folder.path());
    let model = folder.path().display().to_string();
    for (arguments, named) in [
        (&["quantize", &model, "out.gguf", "--format", "Q8_0"][..], "is a sentence encoder"),
        (&["bench", "--model", &model, "--profile", "--adapter", "cpu"], "--profile is for networks for pictures"),
        (&["generate", "--model", &model, "--prompt", "a", "--adapter", "cpu"], "lampyris embed"),
        (&["inspect", &model, "--adapter", "cpu"], "--adapter"),
    ] {
        let said = lampyris(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(named) && said.stderr.lines().count() == 1, "{arguments:?}: {}", said.stderr);
    }
}

#[test]
fn help_is_had_in_every_way_that_one_asks_for_it() {
    let general = lampyris(&["--help"]);
    for arguments in [&["help"][..], &["help", "--help"], &["help", "-h"]] {
        let said = lampyris(arguments);
        assert_eq!((said.code, said.stdout), (0, general.stdout.clone()), "{arguments:?}: {}", said.stderr);
    }
    let embed = lampyris(&["embed", "--help"]);
    assert!(embed.code == 0 && embed.stdout.contains("--similarity") && embed.stdout.contains("--adapter"));
    assert_eq!(lampyris(&["help", "embed"]).stdout, embed.stdout);
    assert!(!lampyris(&["inspect", "--help"]).stdout.contains("--adapter"));
}
