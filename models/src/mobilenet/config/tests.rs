//! Every kind of json file that comes with a model, and what is said about a wrong one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first thing that is not as expected")]

use super::*;
use crate::mobilenet::{TensorIndex, recognize};

fn config(text: &str) -> Result<ModelConfig> {
    ModelConfig::read(Some(("config.json", text.as_bytes())), None)
}

fn preprocessor(text: &str) -> Result<ModelConfig> {
    ModelConfig::read(None, Some(("preprocessor_config.json", text.as_bytes())))
}

/// A folded MobileNetV2 of the narrowest kind with that many classes.
fn network(classes: usize) -> NetworkSpec {
    let mut index = std::collections::BTreeMap::new();
    let mut conv = |name: &str, shape: [usize; 4]| {
        index.insert(format!("{name}.weight"), shape.to_vec());
        index.insert(format!("{name}.bias"), vec![shape[0]]);
    };
    conv("features.0.0", [8, 3, 3, 3]);
    conv("features.1.conv.0.0", [8, 1, 3, 3]);
    conv("features.1.conv.1", [8, 8, 1, 1]);
    for block in 2..18 {
        conv(&format!("features.{block}.conv.0.0"), [48, 8, 1, 1]);
        conv(&format!("features.{block}.conv.1.0"), [48, 1, 3, 3]);
        conv(&format!("features.{block}.conv.2"), [8, 48, 1, 1]);
    }
    conv("features.18.0", [1280, 8, 1, 1]);
    index.insert("classifier.1.weight".to_owned(), vec![classes, 1280]);
    index.insert("classifier.1.bias".to_owned(), vec![classes]);
    assert_eq!(index.names().count(), 106);
    recognize("model.safetensors", &index, None).unwrap()
}

fn settings(said: &ModelConfig, classes: usize) -> Settings {
    Settings::new(said, &network(classes)).unwrap()
}

#[test]
fn nothing_said_means_torchvisions_defaults() {
    let settings = settings(&ModelConfig::default(), 1000);
    assert_eq!(settings.preprocess, Preprocess::default());
    assert_eq!((settings.padding, settings.batch_norm_epsilon, settings.label_offset), (Padding::Symmetric, 1e-5, 0));
    assert_eq!(settings.labels.get(999), Some("class 999"));
    assert_eq!(
        settings.assumed,
        ["symmetric padding", "an input of 224 x 224 pixels", "ImageNet's mean and deviation"]
    );
    assert_eq!(config("{}").unwrap(), ModelConfig { file: "config.json".to_owned(), ..ModelConfig::default() });
}

#[test]
fn a_background_class_shifts_labels() {
    let settings = settings(&ModelConfig::default(), 1001);
    assert_eq!(
        (settings.label_offset, settings.labels.get(0), settings.labels.get(1)),
        (1, Some("background"), Some("class 0"))
    );
}

#[test]
fn a_folder_of_our_own() {
    let said = config(
        r#"{"architecture": "mobilenet_v3_large_minimalistic", "width_mult": 1.0, "num_classes": 1001, "image_size": 224, "resize": 256,
            "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5], "padding": "tensorflow_same", "bn": "folded",
            "bn_eps": null, "label_offset": 1, "activation": "relu everywhere, classifier included", "squeeze_excite": false}"#,
    );
    let said = said.unwrap();
    assert_eq!(said.architecture, Some(Architecture::V3LargeMinimalistic));
    assert_eq!((said.width_multiplier, said.batch_norm_epsilon), (Some(1.0), None));
    let settings = settings(&said, 1001);
    assert_eq!(settings.preprocess, Preprocess { mean: [0.5; 3], std: [0.5, 0.25, 0.5], ..Preprocess::default() });
    assert_eq!((settings.padding, settings.label_offset), (Padding::TensorflowSame, 1));
    assert!(settings.assumed.is_empty());
}

#[test]
fn an_unstated_resize_keeps_the_usual_proportion() {
    let resize = |text: &str| settings(&config(text).unwrap(), 10).preprocess.resize;
    assert_eq!(resize(r#"{"image_size": 96}"#), Resize::Shorter(109));
    assert_eq!(resize(r#"{"image_size": [192, 192]}"#), Resize::Shorter(219));
    assert_eq!(resize(r#"{"image_size": 64, "resize": 64.0}"#), Resize::Shorter(64));
    // Nothing is resized to more than 8192 pixels.
    assert_eq!(resize(r#"{"image_size": 8192}"#), Resize::Shorter(8192));
    assert_eq!(resize(r#"{"pretrained_cfg": {"crop_pct": 0.5}}"#), Resize::Shorter(448));
}

#[test]
fn timms_hub_config() {
    let said = config(
        r#"{"architecture": "tf_mobilenetv3_small_minimal_100", "num_classes": 3, "num_features": 1024, "global_pool": "avg",
            "label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "tench", "n3": "shark"},
            "pretrained_cfg": {"tag": "in1k", "custom_load": false, "input_size": [3, 256, 256], "fixed_input_size": false,
              "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
              "num_classes": 3, "pool_size": [8, 8], "first_conv": "conv_stem", "classifier": "classifier"}}"#,
    );
    let said = said.unwrap();
    assert_eq!(said.architecture, Some(Architecture::V3SmallMinimalistic));
    let settings = settings(&said, 3);
    let expected =
        Preprocess { resize: Resize::Shorter(269), crop: 256, mean: [0.5; 3], std: [0.5; 3], filter: Filter::Bicubic };
    assert_eq!(settings.preprocess, expected);
    assert_eq!((settings.padding, settings.batch_norm_epsilon), (Padding::TensorflowSame, 1e-3));
    assert_eq!([0, 1, 2].map(|index| settings.labels.get(index).unwrap()), ["tench", "n2", "shark"]);
    assert!(settings.assumed.is_empty());
}

#[test]
fn hugging_face_config_and_preprocessor() {
    let said = ModelConfig::read(
        Some((
            "config.json",
            br#"{"architectures": ["MobileNetV2ForImageClassification"], "model_type": "mobilenet_v2", "depth_multiplier": 1.0,
                 "image_size": 224, "id2label": {"1": "goldfish", "0": "tench"}, "layer_norm_eps": 0.001, "tf_padding": true}"#,
        )),
        Some((
            "preprocessor_config.json",
            br#"{"crop_size": {"height": 192, "width": 192}, "do_center_crop": true, "do_normalize": true, "do_rescale": true,
                 "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2,
                 "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 200}}"#,
        )),
    )
    .unwrap();
    assert_eq!(said.architecture, Some(Architecture::V2));
    let settings = settings(&said, 2);
    let expected =
        Preprocess { resize: Resize::Shorter(200), crop: 192, mean: [0.5; 3], std: [0.5; 3], filter: Filter::Bilinear };
    assert_eq!(settings.preprocess, expected);
    assert_eq!((settings.padding, settings.batch_norm_epsilon), (Padding::TensorflowSame, 1e-3));
    assert_eq!([0, 1].map(|index| settings.labels.get(index).unwrap()), ["tench", "goldfish"]);
}

#[test]
fn preprocessors_that_leave_steps_out() {
    let read = |text: &str| settings(&preprocessor(text).unwrap(), 10).preprocess;
    let exact = Resize::Exact { width: 160, height: 160 };
    assert_eq!(
        read(r#"{"size": {"height": 160, "width": 160}}"#),
        Preprocess { resize: exact, crop: 160, ..Preprocess::default() }
    );
    assert_eq!(read(r#"{"size": {"height": 160, "width": 160}, "crop_size": 96, "do_center_crop": false}"#).crop, 160);
    assert_eq!(read(r#"{"size": {"height": 160, "width": 160}, "crop_size": 96}"#).crop, 96);
    assert_eq!(read(r#"{"size": 288, "crop_size": 256}"#).resize, Resize::Shorter(288));
    assert_eq!(read(r#"{"do_resize": false}"#).resize, Resize::Keep);
    let plain = read(r#"{"do_normalize": false}"#);
    assert_eq!((plain.mean, plain.std), ([0.0; 3], [1.0; 3]));
    // Mean and deviation of pixels from 0 to 255, and from 0 to 2.
    let raw = read(r#"{"do_rescale": false, "image_mean": [127.5, 127.5, 127.5], "image_std": [127.5, 127.5, 127.5]}"#);
    assert_eq!((raw.mean, raw.std), ([0.5; 3], [0.5; 3]));
    let double = read(r#"{"rescale_factor": 0.00784313725490196, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}"#);
    assert!(double.mean.iter().chain(&double.std).all(|value| (value - 0.5).abs() < 1e-6), "{double:?}");
}

#[test]
fn wrong_values_are_named_with_file_and_key() {
    let cases = [
        (r#"[1]"#, "config.json: `(top level)` is [1], expected an object"),
        (
            r#"{"image_size": 100}"#,
            "config.json: `image_size` is 100, expected a square whose side is a multiple of 32, at most 8192",
        ),
        (r#"{"image_size": [224, 192]}"#, "`image_size` is [224,192]"),
        (r#"{"image_size": -32}"#, "`image_size` is -32"),
        (r#"{"image_size": 4294967296}"#, "`image_size` is 4294967296"),
        (r#"{"image_size": "224"}"#, "`image_size` is \"224\""),
        (r#"{"image_size": [1, 32, 32]}"#, "`image_size` is [1,32,32]"),
        (r#"{"image_size": {"height": 32}}"#, "`image_size` is an object with 1 keys"),
        (r#"{"resize": 0}"#, "`resize` is 0, expected a whole number of pixels from 1 to 8192"),
        (r#"{"resize": 22.5}"#, "`resize` is 22.5"),
        (r#"{"mean": [0.5, 0.5]}"#, "`mean` is [0.5,0.5]"),
        (r#"{"mean": [0.5, 0.5, "x"]}"#, "`mean` is"),
        (r#"{"mean": [0, 0, 1e300]}"#, "`mean` is"),
        (r#"{"mean": [1, 2, 3, 4, 5, 6, 7, 8, 9]}"#, "`mean` is a list of 9 values"),
        (r#"{"std": [0.5, 0, 0.5]}"#, "`std` is [0.5,0,0.5], expected three numbers from 1e-6 to 1e6"),
        (r#"{"padding": "valid"}"#, "`padding` is \"valid\", expected `symmetric` or `tensorflow_same`"),
        (r#"{"bn_eps": -1}"#, "`bn_eps` is -1"),
        (r#"{"num_classes": 0}"#, "`num_classes` is 0"),
        (r#"{"label_offset": 1.5}"#, "`label_offset` is 1.5"),
        (r#"{"architecture": 7}"#, "`architecture` is 7"),
        (r#"{"width_mult": 0}"#, "`width_mult` is 0"),
        (
            r#"{"interpolation": "lanczos"}"#,
            "`interpolation` is \"lanczos\", which is not supported; `bilinear` and `bicubic` are",
        ),
        (r#"{"pretrained_cfg": 3}"#, "`pretrained_cfg` is 3"),
        (r#"{"pretrained_cfg": {"crop_pct": 0}}"#, "`pretrained_cfg.crop_pct` is 0"),
        (r#"{"pretrained_cfg": {"crop_pct": 1e-3}}"#, "`pretrained_cfg.crop_pct` is 0.001, expected a share"),
        (r#"{"pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 1e-9}}"#, "`pretrained_cfg.crop_pct` is 1e-9"),
        (
            r#"{"pretrained_cfg": {"crop_mode": "squash"}}"#,
            "`pretrained_cfg.crop_mode` is \"squash\", which is not supported",
        ),
        (r#"{"id2label": {"0": "a", "2": "b"}}"#, "`id2label.2` is \"b\""),
        (r#"{"id2label": {"0": "a", "00": "b"}}"#, "`id2label` is an object with 2 keys"),
        (r#"{"id2label": {"0": 5}}"#, "`id2label.0` is 5, expected a text"),
        (r#"{"id2label": {"x\u001b": "a"}}"#, "`id2label.x\\u{1b}` is \"a\""),
        (r#"{"label_names": "n1"}"#, "`label_names` is \"n1\""),
        (r#"{"label_names": ["n1"], "label_descriptions": {"n1": 1}}"#, "`label_descriptions.n1` is 1"),
    ];
    for (text, expected) in cases {
        let message = config(text).unwrap_err().to_string();
        assert!(message.starts_with("config.json: "), "{message}");
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn wrong_preprocessors_are_named_with_file_and_key() {
    let cases = [
        (
            r#"{"size": {"longest_edge": 9}}"#,
            "`size` is an object with 1 keys, expected an object with `shortest_edge`",
        ),
        (r#"{"size": {"shortest_edge": 0}}"#, "`size.shortest_edge` is 0"),
        (
            r#"{"size": {"height": 200, "width": 200}}"#,
            "`size` is an object with 2 keys, expected a square whose side is a multiple of 32",
        ),
        (r#"{"crop_size": {"height": 200, "width": 200}}"#, "`crop_size` is 200"),
        (r#"{"do_center_crop": false}"#, "`do_center_crop` is false, which is not supported"),
        (r#"{"do_resize": "no"}"#, "`do_resize` is \"no\", expected true or false"),
        (r#"{"resample": 1}"#, "`resample` is 1, which is not supported; 2 (bilinear) and 3 (bicubic) are"),
        (r#"{"rescale_factor": 0}"#, "`rescale_factor` is 0"),
        (r#"{"rescale_factor": 1e-300}"#, "`rescale_factor` is 1e-300, expected a number from 1e-6 to 1e6"),
        (r#"{"rescale_factor": 1e300}"#, "`rescale_factor` is 1e+300, expected a number from 1e-6 to 1e6"),
        (r#"{"rescale_offset": true}"#, "`rescale_offset` is true, which is not supported"),
    ];
    for (text, expected) in cases {
        let message = preprocessor(text).unwrap_err().to_string();
        assert!(message.starts_with("preprocessor_config.json: "), "{message}");
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for text in ["", "{", "{\"a\": NaN}", "\u{0}", &"[".repeat(100_000)] {
        let error = config(text).unwrap_err();
        assert!(matches!(error, Error::Json { .. }), "{error}");
        assert!(error.to_string().starts_with("config.json is not valid JSON: "), "{error}");
    }
}

#[test]
fn counts_must_fit_the_last_layer() {
    let refused = |text: &str| Settings::new(&config(text).unwrap(), &network(10)).unwrap_err().to_string();
    assert_eq!(
        refused(r#"{"num_classes": 11}"#),
        "config.json: `num_classes` is 11, but the last layer has 10 outputs"
    );
    assert_eq!(
        refused(r#"{"label_offset": 10}"#),
        "config.json: `label_offset` is 10, expected fewer than the last layer has outputs"
    );
    assert!(refused(r#"{"id2label": {"0": "a"}}"#).starts_with("config.json has 1 labels for 10 classes"));
}
