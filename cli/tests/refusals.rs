//! What cannot be done is said in one sentence, with exit code 2, and nothing is printed to stdout.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use std::process::Stdio;
#[cfg(unix)]
use std::time::{Duration, Instant};
use support::noise::model;
use support::{command, file, fixture, lampyris, picture, root};

/// Runs the command and holds it to one sentence on stderr that contains `words`.
fn refused(arguments: &[&str], words: &[&str]) {
    let said = lampyris(arguments);
    assert_eq!(said.code, 2, "{arguments:?}: {}", said.stderr);
    assert_eq!(said.stdout, "", "{arguments:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{arguments:?}: {}", said.stderr);
    assert!(said.stderr.starts_with("lampyris: "), "{arguments:?}: {}", said.stderr);
    for word in words {
        assert!(said.stderr.contains(word), "{arguments:?}: no `{word}` in {}", said.stderr);
    }
}

#[test]
fn bad_usage() {
    let model = fixture("mobilenet_v2_w025");
    refused(&["clasify"], &["clasify", "lampyris help"]);
    refused(&["classify"], &["IMAGE"]);
    refused(&["classify", "--model", &model], &["IMAGE"]);
    refused(&["classify", "--model", &model, "--top", "0", &picture()], &["--top"]);
    refused(&["classify", "--model", &model, "--batch", "1000", &picture()], &["--batch"]);
    refused(&["classify", "--model", &model, "--features", &picture()], &["--json"]);
    refused(&["classify", "--model", &model, "--precision", "f64", &picture()], &["f64", "f16"]);
    for side in ["0", "33", "-32", "8224", "64.0"] {
        let side = format!("--side={side}");
        refused(&["classify", "--model", &model, &side, &picture()], &["--side", "a multiple of 32 from 32 to 8192"]);
        refused(&["bench", "--model", &model, &side], &["--side", "a multiple of 32 from 32 to 8192"]);
        refused(&["inspect", "--plan", &model, &side], &["--side", "a multiple of 32 from 32 to 8192"]);
    }
    for context in ["0", "-1", "1e3"] {
        let context = format!("--context={context}");
        refused(&["generate", "--model", &model, "--prompt", "a", &context], &["--context", "1 token or more"]);
    }
    refused(&["--adapter", "cpu", "generate", "--prompt", "a"], &["--adapter", "generate", "behind the command"]);
    refused(&["bench", "--roofline", "--side", "64"], &["--model"]);
    refused(&["inspect", &model, "--fused"], &["--plan"]);
    refused(&["bench"], &["--model"]);
    refused(&["bench", "--roofline", "--adapter", "cpu"], &["CPU executor", "--adapter"]);
    refused(&["inspect"], &["MODEL"]);
    refused(&["inspect", "--kernel", "nothing"], &["nothing", "pointwise"]);
    refused(&["inspect", "--kernel", "resize_columns", "--variant", "nothing"], &["nothing", "portable"]);
    refused(&["doctor", "--only", "nothing", "--adapter", "cpu"], &["nothing", "pointwise"]);
    refused(&["quantize", &model, "out"], &["--format"]);
    refused(&["doctor", "--adapter", "no such adapter"], &["no such adapter", "cpu"]);
    refused(&["classify", "--model", &model, "--adapter", "99", &picture()], &["99", "cpu"]);
}

/// Before a model is looked for, which takes as long as it is large.
#[test]
fn how_tokens_are_chosen_is_judged_first() {
    for (wrong, named) in [(["--temperature", "-1"], "temperature is -1"), (["--top-p", "0"], "top_p is 0")] {
        refused(&[&["generate", "--model", "missing", "--prompt", "a"], &wrong[..]].concat(), &[named]);
        refused(&[&["chat", "--model", "missing"], &wrong[..]].concat(), &[named]);
    }
    for (least, option) in [("0.000001", "--temperature"), ("0.01", "--repetition-penalty")] {
        refused(&["generate", "--model", "missing", "--prompt", "a", option, least], &["missing does not exist"]);
    }
    refused(&["generate"], &["--prompt <TEXT>", "--prompt-file <FILE>"]);
    refused(&["generate", "--prompt", "a", "--prompt-file", "-"], &["--prompt", "--prompt-file"]);
}

#[test]
fn options_that_do_nothing_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (language, pictures) = (model(&folder, &[]), fixture("mobilenet_v2_w025"));
    let encoder = root().join("tests/fixtures/texts/bert").display().to_string();
    for model in [&language, &encoder] {
        for option in ["--roofline", "--compare"] {
            refused(
                &["bench", "--model", model, "--adapter", "cpu", option],
                &["--compare and --roofline", "CPU executor"],
            );
        }
        refused(&["inspect", model, "--batch", "4"], &["--batch is for networks for pictures"]);
        refused(&["inspect", model, "--plan", "--side", "64"], &["--side is for networks for pictures"]);
        refused(&["inspect", model, "--plan", "--fused"], &["--fused is for networks for pictures"]);
    }
    let both = ["--precision is for networks for pictures and encoders"];
    refused(&["bench", "--model", &language, "--adapter", "cpu", "--precision", "f16"], &both);
    refused(&["inspect", &language, "--precision", "f16"], &both);
    refused(&["inspect", &pictures, "--plan", "--context", "9"], &["--context is for language models and encoders"]);
    let kv = ["--kv is for language models"];
    refused(&["fits", &encoder, "--adapter", "cpu", "--kv", "q8"], &kv);
    refused(&["bench", "--model", &encoder, "--adapter", "cpu", "--kv", "f16"], &kv);
    refused(&["bench", "--model", &pictures, "--adapter", "cpu", "--kv", "f16"], &kv);
}

#[test]
fn a_text_that_is_none_and_a_folder_that_is_missing_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let text = file(&folder, "text.txt", b"\xff\xfe");
    let out = folder.path().join("missing/out.gguf").display().to_string();
    let quantize = ["quantize", model.as_str(), &out, "--format", "Q8_0"];
    for job in [[&quantize[..], &["--text", &text]].concat(), vec!["eval", "--model", &model, "--text", &text]] {
        let said = lampyris(&[&job[..], &["--adapter", "cpu"]].concat());
        assert!(said.code == 2 && said.stderr.contains("text.txt is no UTF-8 text"), "{job:?}: {}", said.stderr);
        assert!(!said.stderr.contains("--prompt"), "{job:?}: {}", said.stderr);
    }
    let prompt = ["generate", "--model", &model, "--adapter", "cpu", "--prompt-file", &text];
    refused(&prompt, &["text.txt is no UTF-8 text", "--prompt"]);
    let reason = std::fs::read("/nowhere/at/all").unwrap_err().to_string();
    refused(&quantize, &["missing/out.gguf", &reason, "check the folder"]);
}

/// Models often lie in folders of a folder, one a format or a size.
#[test]
fn a_folder_of_folders_names_those_with_models() {
    let outer = tempfile::tempdir().unwrap();
    for (folder, file) in [("small", "model.safetensors"), ("blocks", "a.gguf"), ("notes", "readme.txt")] {
        std::fs::create_dir(outer.path().join(folder)).unwrap();
        std::fs::write(outer.path().join(folder).join(file), b"").unwrap();
    }
    let path = outer.path().display().to_string();
    let words = ["holds no model itself", ": blocks, small"];
    refused(&["generate", "--prompt", "a", "--model", &path], &words);
    refused(&["quantize", &path, "out.gguf", "--format", "Q4_0"], &words);
    refused(&["embed", "--model", &path, "a"], &words);
    refused(&["inspect", &path], &words);
    refused(&["fits", &path], &words);
}

/// What lies beside a model is named more often than one thinks.
#[test]
fn a_file_that_is_no_model_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let readme = root().join("README.md").display().to_string();
    let json = file(&folder, "notes.json", b"{\"architectures\": []}");
    for (named, kind) in [(&readme, "this is text"), (&json, "this is JSON text"), (&picture(), "this is a picture")] {
        let words = [named.as_str(), kind, ".safetensors or .gguf file"];
        refused(&["generate", "--prompt", "a", "--adapter", "cpu", "--model", named], &words);
        refused(&["chat", "--adapter", "cpu", "--model", named], &words);
        refused(&["classify", "--adapter", "cpu", "--model", named, &picture()], &words);
        refused(&["embed", "--adapter", "cpu", "--model", named, "a"], &words);
        refused(&["inspect", named], &words);
        refused(&["quantize", named, "out.gguf", "--format", "Q4_0"], &words);
    }
}

#[test]
fn a_model_without_a_template_does_not_chat() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let path = folder.path().join("tokenizer.json");
    let tokenizer = std::fs::read_to_string(&path).unwrap().replace("<|im_start|>", "<|begin|>");
    std::fs::write(&path, tokenizer).unwrap();
    refused(&["chat", "--adapter", "cpu", "--model", &model], &[&model, "no chat template", "`lampyris generate`"]);
}

#[test]
fn bad_pictures() {
    let (folder, model) = (tempfile::tempdir().unwrap(), fixture("mobilenet_v2_w025"));
    let empty = file(&folder, "empty.png", b"");
    let text = file(&folder, "text.jpg", b"This is no picture.\n");
    let cut = file(&folder, "cut.png", &std::fs::read(picture()).unwrap()[..5000]);
    let bare = folder.path().join("bare").display().to_string();
    std::fs::create_dir(&bare).unwrap();
    let with = |image: &str, words: &[&str]| {
        refused(&["classify", "--model", &model, "--adapter", "cpu", image], words);
        // The pictures before it are good; nothing is said of them.
        refused(&["classify", "--model", &model, "--adapter", "cpu", "--batch", "1", &picture(), image], words);
    };
    with(&empty, &["empty.png is empty"]);
    with(&text, &["text.jpg is not a picture"]);
    with(&cut, &["cut.png"]);
    with(&bare, &["bare holds no picture"]);
    with("missing.png", &["missing.png does not exist"]);
}

#[test]
fn a_picture_that_cannot_be_prepared_is_named() {
    let (folder, model) = (tempfile::tempdir().unwrap(), fixture("mobilenet_v2_w025"));
    // One row, longer than the sides of pictures may be.
    let long = file(&folder, "pictures/long.png", b"");
    image::RgbImage::new(65_536, 1).save(&long).unwrap();
    for adapter in support::adapters() {
        let classify = ["classify", "--model", &model, "--adapter", adapter, &picture(), &long, &picture()];
        refused(&classify, &["long.png: the picture is 65536 x 1 pixels"]);
    }
    let [pictures, out] = ["pictures", "out"].map(|name| folder.path().join(name).display().to_string());
    let quantize = ["quantize", &model, &out, "--format", "int8", "--images", &pictures, "--adapter", "cpu"];
    refused(&quantize, &["long.png: the picture is 65536 x 1 pixels"]);
    assert!(!folder.path().join("out").exists());
}

/// Fails where the command does not end in time.
#[cfg(unix)]
fn ends_within(limit: Duration, arguments: &[&str]) {
    let cache = tempfile::tempdir().unwrap();
    let mut child = command(&cache).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > limit {
            child.kill().unwrap();
            panic!("{arguments:?} did not end in {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn what_may_never_end_is_refused_at_once() {
    let (folder, model) = (tempfile::tempdir().unwrap(), fixture("mobilenet_v2_w025"));
    let good = std::fs::read(format!("{model}/model.safetensors")).unwrap();
    file(&folder, "config/model.safetensors", &good);
    file(&folder, "preprocessor/model.safetensors", &good);
    file(&folder, "weights/config.json", b"{}");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let pipe = |name: &str| {
        assert!(std::process::Command::new("mkfifo").arg(path(name)).status().unwrap().success());
        path(name)
    };
    let (pictures, labels) = (pipe("pipe.png"), pipe("labels.txt"));
    pipe("config/config.json");
    pipe("preprocessor/preprocessor_config.json");
    pipe("weights/model.safetensors");
    let classify = |model: &str, more: &[&str], words: &[&str]| {
        let arguments = [&["classify", "--model", model, "--adapter", "cpu"], more].concat();
        ends_within(Duration::from_secs(60), &arguments);
        refused(&arguments, words);
    };
    for picture in [pictures.as_str(), "/dev/zero"] {
        classify(&model, &[picture], &[picture, "no ordinary file"]);
    }
    for labels in [labels.as_str(), "/dev/zero"] {
        classify(&model, &["--labels", labels, &picture()], &[labels, "no ordinary file"]);
    }
    classify(&path("config"), &[&picture()], &["config/config.json", "no ordinary file"]);
    classify(&path("preprocessor"), &[&picture()], &["preprocessor_config.json", "no ordinary file"]);
    for model in [path("weights"), path("weights/model.safetensors"), "/dev/zero".to_owned()] {
        classify(&model, &[&picture()], &["a device or a pipe"]);
    }
}

#[test]
fn settings_that_cannot_be_used_are_named_with_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(format!("{}/model.safetensors", fixture("mobilenet_v2_w025"))).unwrap();
    file(&folder, "model.safetensors", &good);
    let model = folder.path().display().to_string();
    let mut cases = Vec::new();
    for value in ["0", "-32", "16384", "33", "1e30", "\"64\"", "[64, 32]"] {
        cases.extend([("config.json", "image_size", value), ("preprocessor_config.json", "crop_size", value)]);
    }
    for value in ["0", "-1", "8193", "1.5", "\"64\""] {
        cases.extend([("config.json", "resize", value), ("preprocessor_config.json", "size", value)]);
    }
    for value in ["[0, 0]", "\"0\"", "[0, 0, 1e300]", "[0, 0, null]"] {
        cases.extend([("config.json", "mean", value), ("preprocessor_config.json", "image_mean", value)]);
        cases.extend([("config.json", "std", value), ("preprocessor_config.json", "image_std", value)]);
    }
    cases.extend([("config.json", "std", "[0, 1, 1]"), ("preprocessor_config.json", "image_std", "[1, 1e-40, 1]")]);
    cases.extend([("config.json", "crop_pct", "0.001"), ("preprocessor_config.json", "rescale_factor", "1e-300")]);
    cases.extend([("config.json", "label_offset", "10"), ("config.json", "num_classes", "11")]);
    for (name, key, value) in cases {
        let path = file(&folder, name, format!("{{\"{key}\": {value}}}").as_bytes());
        refused(&["inspect", "--plan", &model], &[name, &format!("`{key}` is ")]);
        std::fs::remove_file(path).unwrap();
    }
    // No number at all is not JSON.
    file(&folder, "config.json", b"{\"mean\": [NaN, 0, 0]}");
    refused(&["inspect", "--plan", &model], &["config.json", "JSON"]);
}

#[test]
fn bad_models() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().display().to_string();
    let good = std::fs::read(format!("{}/model.safetensors", fixture("mobilenet_v2_w025"))).unwrap();
    let empty = file(&folder, "empty.safetensors", b"");
    let text = file(&folder, "text.safetensors", b"This is no model, whatever its name says.\n");
    let cut = file(&folder, "cut.safetensors", &good[..good.len() / 2]);
    let config = file(&folder, "odd/config.json", b"{ \"padding\": ");
    let odd = config.strip_suffix("/config.json").unwrap();
    file(&folder, "odd/model.safetensors", &good);
    for (model, words) in [
        ("missing", ["missing does not exist", ".safetensors"]),
        (&bare, ["holds no model.safetensors", "config.json"]),
        (&empty, ["empty.safetensors", ""]),
        (&text, ["text.safetensors", ""]),
        (&cut, ["cut.safetensors", ""]),
        (odd, ["config.json", "JSON"]),
    ] {
        refused(&["classify", "--model", model, "--adapter", "cpu", &picture()], &words);
        refused(&["bench", "--model", model, "--adapter", "cpu"], &words);
        refused(&["inspect", model], &words);
        refused(&["quantize", model, &format!("{bare}/out"), "--format", "int8"], &words);
    }
    assert!(!folder.path().join("out").exists());
}

#[test]
fn bad_labels() {
    let (folder, model) = (tempfile::tempdir().unwrap(), fixture("mobilenet_v2_w025"));
    let labels = file(&folder, "three.txt", b"a\nb\nc\n");
    let classify = |labels: &str| {
        ["classify", "--model", &model, "--adapter", "cpu", "--labels", labels, &picture()].map(str::to_owned)
    };
    for (labels, words) in
        [(labels.as_str(), ["three.txt has 3 labels", "10 classes"]), ("missing.txt", ["missing.txt", ""])]
    {
        let arguments = classify(labels);
        refused(&arguments.each_ref().map(String::as_str), &words);
    }
}

#[test]
fn a_budget_that_is_too_small_is_refused_with_the_figures() {
    for adapter in support::adapters().into_iter().filter(|adapter| *adapter != "cpu") {
        let model = fixture("mobilenet_v2_w025");
        let arguments = ["classify", "--model", &model, "--adapter", adapter, "--budget", "1000", &picture()];
        refused(&arguments, &["the budget is 1000", "bytes more of GPU memory"]);
        // The kernels are not to blame for it.
        let arguments = ["doctor", "--only", "copy", "--adapter", adapter, "--budget", "1000"];
        refused(&arguments, &["the budget is 1000"]);
    }
}

#[test]
fn a_trace_that_cannot_be_written_is_refused() {
    for adapter in support::adapters().into_iter().filter(|adapter| *adapter != "cpu") {
        let model = fixture("mobilenet_v2_w025");
        let arguments =
            ["bench", "--model", &model, "--adapter", adapter, "--runs", "1", "--trace", "/nowhere/trace.json"];
        refused(&arguments, &["/nowhere/trace.json cannot be written"]);
    }
}

#[test]
fn a_model_is_not_quantized_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(format!("{}/model.safetensors", fixture("mobilenet_v2_w025"))).unwrap();
    let path = file(&folder, "model.safetensors", &good);
    let bare = folder.path().display().to_string();
    refused(&["quantize", &path, &path, "--format", "int8"], &["is the model that is read"]);
    refused(&["quantize", &bare, &bare, "--format", "int8"], &["is the model that is read"]);
    assert_eq!(std::fs::read(&path).unwrap(), good);
}

#[test]
fn a_reader_that_leaves_early_ends_it_quietly() {
    let cache = tempfile::tempdir().unwrap();
    let mut child = command(&cache)
        .args(["inspect", "--kernel", "pointwise"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
