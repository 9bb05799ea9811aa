//! What the command says when all is well: on the CPU executor, and on an adapter where there is one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use serde_json::Value;
use support::{adapters, command, file, fixture, keys, lampyris, picture};

#[test]
fn classify_says_the_same_of_a_picture_on_every_adapter() {
    let model = fixture("mobilenet_v3_small_w025");
    let mut first: Option<Value> = None;
    for adapter in adapters() {
        let arguments = [
            "classify",
            "--model",
            &model,
            "--adapter",
            adapter,
            "--json",
            "--top",
            "3",
            "--features",
            &picture(),
            &picture(),
        ];
        let said = lampyris(&arguments);
        assert!(said.stderr.lines().count() <= 1, "{}", said.stderr);
        let lines = said.json();
        assert_eq!(lines.len(), 2);
        for line in &lines {
            let expected = ["adapter", "backend", "features", "image", "latency_ms", "model", "predictions"];
            assert_eq!(keys(line), expected);
            assert_eq!((&line["image"], &line["model"]), (&picture().into(), &model.as_str().into()));
            assert!(line["latency_ms"].as_f64().unwrap() > 0.0);
            assert_eq!(line["backend"] == "cpu", adapter == "cpu");
            let predictions = line["predictions"].as_array().unwrap();
            assert_eq!(predictions.len(), 3);
            assert!(predictions.iter().all(|p| keys(p) == ["index", "label", "probability"]));
            let probability = |at: usize| predictions[at]["probability"].as_f64().unwrap();
            assert!(probability(0) >= probability(1) && probability(1) >= probability(2) && probability(2) > 0.0);
            let reference = first.get_or_insert_with(|| line.clone());
            assert_eq!(predictions[0]["index"], reference["predictions"][0]["index"]);
            assert!((probability(0) - reference["predictions"][0]["probability"].as_f64().unwrap()).abs() < 1e-3);
            assert_eq!(line["features"].as_array().unwrap().len(), reference["features"].as_array().unwrap().len());
        }
    }
}

#[test]
fn a_folder_is_its_pictures_by_name_and_batches_do_not_change_them() {
    let (folder, model) = (tempfile::tempdir().unwrap(), fixture("mobilenet_v2_w025"));
    let bytes = std::fs::read(picture()).unwrap();
    for name in ["pictures/c.png", "pictures/a.PNG", "pictures/b.png"] {
        file(&folder, name, &bytes);
    }
    file(&folder, "pictures/notes.txt", b"no picture");
    let pictures = folder.path().join("pictures").display().to_string();
    for adapter in adapters() {
        let run = |batch: &str| {
            lampyris(&["classify", "--model", &model, "--adapter", adapter, "--json", "--batch", batch, &pictures])
                .json()
        };
        let (one, two) = (run("1"), run("2"));
        let names = |lines: &[Value]| -> Vec<String> {
            lines
                .iter()
                .map(|line| line["image"].as_str().unwrap().rsplit(['/', '\\']).next().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(&one), ["a.PNG", "b.png", "c.png"]);
        assert_eq!(names(&two), names(&one));
        for (a, b) in one.iter().zip(&two) {
            assert_eq!(a["predictions"][0]["index"], b["predictions"][0]["index"]);
        }
    }
}

#[test]
fn labels_name_the_classes_and_software_is_said_out_loud() {
    let (folder, model) = (tempfile::tempdir().unwrap(), fixture("mobilenet_v2_w025"));
    let names: Vec<String> = (0..10).map(|class| format!("creature {class}")).collect();
    let labels = file(&folder, "labels.txt", names.join("\n").as_bytes());
    let said = lampyris(&["classify", "--model", &model, "--adapter", "cpu", "--labels", &labels, &picture()]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("  creature ") && said.stdout.contains(" %  "), "{}", said.stdout);
    assert!(said.stderr.contains("no GPU"), "{}", said.stderr);
}

#[test]
fn a_variable_that_is_set_to_nothing_asks_for_no_adapter() {
    let cache = tempfile::tempdir().unwrap();
    let mut doctor = command(&cache);
    let output = doctor.env("LAMPYRIS_ADAPTER", "").args(["doctor", "--only", "copy", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn doctor_lists_adapters_and_certifies_a_kernel() {
    for adapter in adapters() {
        let report = lampyris(&["doctor", "--adapter", adapter, "--json", "--only", "copy"]).json().swap_remove(0);
        assert_eq!(keys(&report), ["adapters", "certificate", "products"]);
        for listed in report["adapters"].as_array().unwrap() {
            assert_eq!(keys(listed), ["backend", "driver", "features", "index", "kind", "limits", "name"]);
        }
        let certificate = report["certificate"].as_array().unwrap();
        assert_eq!(certificate.is_empty(), adapter == "cpu");
        for check in certificate {
            assert_eq!(keys(check), ["case", "kernel", "ms", "tolerance", "variant", "verdict", "worst_error"]);
            assert_eq!((&check["kernel"], &check["verdict"]), (&"copy".into(), &"pass".into()));
        }
    }
}

#[test]
fn another_side_is_another_answer_of_the_same_form() {
    let model = fixture("mobilenet_v2_w025");
    for adapter in adapters() {
        let run = |side: &str| {
            let arguments = ["classify", "--model", &model, "--adapter", adapter, "--json", "--side", side];
            lampyris(&[arguments.as_slice(), &[&picture()]].concat()).json().swap_remove(0)["predictions"].clone()
        };
        let usual = lampyris(&["classify", "--model", &model, "--adapter", adapter, "--json", &picture()]).json();
        assert_eq!(run("64"), usual[0]["predictions"]);
        assert_ne!(run("96"), usual[0]["predictions"]);
    }
    // A resize in proportion never comes to nothing.
    let folder = tempfile::tempdir().unwrap();
    let weights = std::fs::read(format!("{model}/model.safetensors")).unwrap();
    let tiny = file(&folder, "model.safetensors", &weights);
    file(&folder, "config.json", b"{\"image_size\": 64, \"resize\": 1}");
    let arguments = ["classify", "--model", &tiny, "--adapter", "cpu", "--json", "--side", "32", &picture()];
    assert_eq!(lampyris(&arguments).json().len(), 1);
    let arguments = ["bench", "--model", &model, "--adapter", "cpu", "--json", "--runs", "1", "--side", "32"];
    assert_eq!(lampyris(&arguments).json().len(), 1);
}

#[test]
fn bench_measures() {
    let model = fixture("mobilenet_v2_w025");
    for adapter in adapters() {
        let arguments = ["bench", "--model", &model, "--adapter", adapter, "--json", "--runs", "3", "--batch", "2"];
        let report = lampyris(&arguments).json().swap_remove(0);
        let expected =
            ["adapter", "dispatches", "first_result_ms", "gpu_bytes", "images_per_s", "latency_ms", "model", "submits"];
        assert_eq!(keys(&report), expected);
        assert_eq!(keys(&report["latency_ms"]), ["median", "p95"]);
        assert_eq!(keys(&report["first_result_ms"]), ["cold", "warm"]);
        let number = |value: &Value| value.as_f64().unwrap();
        assert!(number(&report["latency_ms"]["p95"]) >= number(&report["latency_ms"]["median"]));
        assert!(number(&report["images_per_s"]) > 0.0 && number(&report["first_result_ms"]["warm"]) > 0.0);
        let counted = [&report["dispatches"], &report["submits"], &report["gpu_bytes"]].map(|n| n.as_u64().unwrap());
        match adapter {
            "cpu" => assert_eq!(counted, [0, 0, 0]),
            _ => assert!(counted[0] > 20 && counted[1] == 1 && counted[2] > 100_000, "{counted:?}"),
        }
    }
}

#[test]
fn inspect_shows_tensors_plan_and_shader() {
    let model = fixture("mobilenet_v2_w025");
    let report = lampyris(&["inspect", &model, "--plan", "--kernel", "resize_columns", "--json"]).json().swap_remove(0);
    assert_eq!((&report["architecture"], &report["settings"]["classes"]), (&"mobilenet_v2".into(), &10.into()));
    assert!(
        report["tensors"].as_array().unwrap().iter().any(|t| t["name"] == "features.0.0.weight" && t["dtype"] == "F16")
    );
    let (dispatches, text) = (report["plan"]["dispatches"].as_u64().unwrap(), report["plan"]["text"].as_str().unwrap());
    assert!(text.starts_with(&format!("plan: {dispatches} steps")) && dispatches > 20, "{text}");
    assert!(report["kernel"]["variants"][0]["wgsl"].as_str().unwrap().contains("@compute"));
    assert_eq!((&report["plan"]["fused"], &report["plan"]["side"]), (&false.into(), &64.into()));
    let arguments = ["inspect", &model, "--plan", "--fused", "--side", "96"];
    let fused = lampyris(&[arguments.as_slice(), &["--json"]].concat()).json().swap_remove(0);
    assert_eq!((&fused["plan"]["fused"], &fused["plan"]["side"]), (&true.into(), &96.into()));
    assert!(fused["plan"]["dispatches"].as_u64().unwrap() < dispatches, "{}", fused["plan"]);
    let said = lampyris(&arguments).stdout;
    assert!(said.contains("depthwise convolutions in their projections") && said.contains("96 x 96 pixels"), "{said}");
    let text = lampyris(&["inspect", &model, "--plan"]).stdout;
    assert!(text.contains("depthwise convolutions apart") && text.contains("--fused"), "{text}");
    let text = lampyris(&["inspect", &model]);
    assert!(text.code == 0 && text.stdout.contains("features.0.0.weight"), "{}", text.stdout);
}

#[test]
fn quantize_writes_a_model_that_loads() {
    let (folder, model) = (tempfile::tempdir().unwrap(), fixture("mobilenet_v3_large_w025"));
    file(&folder, "pictures/picture.png", &std::fs::read(picture()).unwrap());
    let pictures = folder.path().join("pictures").display().to_string();
    let out = folder.path().join("small").display().to_string();
    let arguments = ["quantize", &model, &out, "--format", "int8", "--images", &pictures, "--adapter", "cpu"];
    let said = lampyris(&arguments);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("of 1 pictures") && said.stdout.contains("features.0.0.weight"), "{}", said.stdout);
    let report = lampyris(&["inspect", &out, "--json"]).json().swap_remove(0);
    assert_eq!(report["settings"]["quantized"], true);
    assert_eq!(report["architecture"], "mobilenet_v3_large");
    let lines = lampyris(&["classify", "--model", &out, "--adapter", "cpu", "--json", &picture()]).json();
    assert_eq!(lines.len(), 1);
}
