//! Holds the recognizer against what torchvision's and timm's own modules say about themselves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first thing that is not as expected")]

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::error::{Error, Problem};
use crate::test_material::{bytes, material};

type Index = BTreeMap<String, Vec<usize>>;

fn networks() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../tests/fixtures/networks.json")).unwrap();
    all["networks"].as_array().unwrap().clone()
}

fn network(name: &str) -> Value {
    networks().into_iter().find(|network| network["name"] == name).unwrap()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn shape(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn rows<'a>(network: &'a Value, part: &str) -> &'a Vec<Value> {
    network[part].as_array().unwrap()
}

/// The tensors of a recorded network, as its library stores them.
fn separate(network: &Value) -> Index {
    let mut index = Index::new();
    for layer in rows(network, "layers") {
        let (name, weight) = (layer[0].as_str().unwrap(), shape(&layer[1]));
        if layer[2] == true {
            index.insert(format!("{name}.bias"), vec![weight[0]]);
        }
        index.insert(format!("{name}.weight"), weight);
    }
    for norm in rows(network, "norms") {
        let (name, channels) = (norm[0].as_str().unwrap(), number(&norm[1]));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            index.insert(format!("{name}.{part}"), vec![channels]);
        }
        index.insert(format!("{name}.num_batches_tracked"), vec![]);
    }
    index
}

/// The tensors of a recorded network after its batch norms are folded.
fn folded(network: &Value) -> Index {
    let mut index = Index::new();
    for layer in rows(network, "layers") {
        let (name, weight) = (layer[0].as_str().unwrap(), shape(&layer[1]));
        index.insert(format!("{name}.bias"), vec![weight[0]]);
        index.insert(format!("{name}.weight"), weight);
    }
    index
}

fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::None => "none",
        Activation::Relu => "relu",
        Activation::Relu6 => "relu6",
        Activation::HardSwish => "hard_swish",
    }
}

/// Name, stride, rows of the output and activation of every layer in the order in which it runs.
fn layers(spec: &NetworkSpec, size: usize) -> Vec<(String, usize, usize, String)> {
    let mut found = Vec::new();
    let mut side = size;
    let mut conv = |found: &mut Vec<_>, conv: &ConvSpec| {
        side = conv.output_size(side);
        let name = conv.weight.strip_suffix(".weight").unwrap().to_owned();
        found.push((name, conv.stride, side, activation(conv.activation).to_owned()));
    };
    let linear = |layer: &LinearSpec, then: &str| {
        (layer.weight.strip_suffix(".weight").unwrap().to_owned(), 1, 1, then.to_owned())
    };
    conv(&mut found, &spec.stem);
    for block in &spec.blocks {
        block.expand.iter().for_each(|expand| conv(&mut found, expand));
        conv(&mut found, &block.depthwise);
        if let Some(squeeze) = &block.squeeze_excite {
            found.push(linear(&squeeze.fc1, activation(squeeze.fc1.activation)));
            found.push(linear(&squeeze.fc2, "hard_sigmoid"));
        }
        conv(&mut found, &block.project);
    }
    conv(&mut found, &spec.last);
    found.extend(spec.head.iter().map(|layer| linear(layer, activation(layer.activation))));
    found
}

#[test]
fn recorded_networks_are_described_as_they_are() {
    let networks = networks();
    assert_eq!(networks.len(), 18);
    for network in &networks {
        let name = network["name"].as_str().unwrap();
        let spec = recognize(name, &separate(network), None).unwrap();
        assert_eq!(Some(spec.architecture), Architecture::from_name(name), "{name}");
        assert_eq!(spec.naming.to_string(), network["library"], "{name}");
        let recorded = rows(network, "layers").iter().map(|layer| {
            (
                layer[0].as_str().unwrap().to_owned(),
                number(&layer[3]),
                number(&layer[4]),
                layer[5].as_str().unwrap().to_owned(),
            )
        });
        assert_eq!(layers(&spec, 64), recorded.collect::<Vec<_>>(), "{name}");
        let additions: Vec<&str> =
            spec.blocks.iter().filter(|block| block.residual).map(|block| block.name.as_str()).collect();
        let recorded: Vec<&str> = rows(network, "additions").iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(additions, recorded, "{name}");
        let shapes: BTreeMap<&str, Vec<usize>> =
            rows(network, "layers").iter().map(|layer| (layer[0].as_str().unwrap(), shape(&layer[1]))).collect();
        for conv in spec.convolutions() {
            let shape = &shapes[conv.weight.strip_suffix(".weight").unwrap()];
            assert_eq!(shape, &[conv.cout, conv.cin / conv.groups(), conv.kernel, conv.kernel], "{}", conv.weight);
        }
        for layer in spec.linears() {
            let shape = &shapes[layer.weight.strip_suffix(".weight").unwrap()];
            assert_eq!(shape[..2], [layer.cout, layer.cin], "{}", layer.weight);
        }
        assert_eq!((spec.classes, spec.feature_size), (10, spec.head[0].cin), "{name}");
        assert!(spec.has_batch_norm() && !spec.is_quantized());
    }
}

#[test]
fn usual_epsilon_is_each_librarys() {
    for network in networks() {
        let name = network["name"].as_str().unwrap();
        let spec = recognize(name, &separate(&network), None).unwrap();
        let config = format!(r#"{{"architecture": "{name}"}}"#);
        let said = ModelConfig::read(Some(("config.json", config.as_bytes())), None).unwrap();
        let settings = Settings::new(&said, &spec).unwrap();
        for norm in rows(&network, "norms") {
            assert_eq!(settings.batch_norm_epsilon, norm[2].as_f64().unwrap(), "{name}");
        }
        assert_eq!(settings.padding == Padding::TensorflowSame, name.starts_with("tf_"));
    }
}

#[test]
fn folded_networks_differ_only_in_their_batch_norms() {
    for network in networks() {
        let name = network["name"].as_str().unwrap();
        let mut separate = recognize(name, &separate(&network), None).unwrap();
        let folded = recognize(name, &folded(&network), None).unwrap();
        assert!(!folded.has_batch_norm());
        let mut convs: Vec<&mut ConvSpec> = vec![&mut separate.stem, &mut separate.last];
        for block in &mut separate.blocks {
            convs.extend(block.expand.iter_mut().chain([&mut block.depthwise, &mut block.project]));
        }
        for conv in convs {
            conv.batch_norm = None;
            conv.bias = Some(conv.weight.replace(".weight", ".bias"));
        }
        assert_eq!(separate, folded, "{name}");
    }
}

#[test]
fn scales_are_recorded_and_checked() {
    let network = network("mobilenet_v3_small");
    let mut index = folded(&network);
    for layer in rows(&network, "layers") {
        index.insert(format!("{}.weight_scale", layer[0].as_str().unwrap()), vec![number(&layer[1][0])]);
    }
    let spec = recognize("m", &index, None).unwrap();
    assert!(spec.is_quantized());
    assert!(spec.convolutions().all(|conv| conv.weight_scale == Some(format!("{}_scale", conv.weight))));
    assert!(spec.linears().all(|layer| layer.weight_scale == Some(format!("{}_scale", layer.weight))));
    index.insert("classifier.3.weight_scale".to_owned(), vec![1]);
    let message = recognize("m", &index, None).unwrap_err().to_string();
    assert!(message.ends_with("`classifier.3.weight_scale` is [1] where [10] is needed"), "{message}");
}

#[test]
fn all_damage_is_named_at_once() {
    for name in ["mobilenet_v3_large", "tf_mobilenetv3_large_100", "mobilenetv2_100"] {
        let index = separate(&network(name));
        let mut damaged = index.clone();
        let weights: Vec<&String> =
            index.keys().filter(|name| name.ends_with(".weight") && index[*name].len() == 4).collect();
        let (removed, turned, added) = (weights[3], weights[9], "blocks.99.extra".to_owned());
        damaged.remove(removed);
        damaged.insert(turned.clone(), vec![3, 3]);
        damaged.insert(added.clone(), vec![1]);
        let Err(Error::Tensors { architecture, problems, .. }) = recognize("m", &damaged, None) else {
            panic!("{name}")
        };
        assert_eq!(Some(architecture), Architecture::from_name(name));
        assert_eq!(problems.0.len(), 3, "{problems}");
        assert!(problems.0.iter().any(|problem| matches!(problem, Problem::Missing { name, .. } if name == removed)));
        assert!(problems.0.iter().any(
            |problem| matches!(problem, Problem::Shape { name, found, .. } if name == turned && *found == [3, 3])
        ));
        assert_eq!(problems.0[2], Problem::Unexpected { name: added });
    }
}

#[test]
fn every_single_missing_tensor_is_named() {
    for network in networks() {
        let index = separate(&network);
        for removed in index.keys().filter(|name| !name.ends_with("num_batches_tracked")) {
            let mut damaged = index.clone();
            damaged.remove(removed);
            let Err(Error::Tensors { problems, .. }) = recognize("m", &damaged, None) else { panic!("{removed}") };
            assert!(problems.to_string().contains(removed), "{removed}: {problems}");
        }
    }
}

#[test]
fn many_problems_are_counted() {
    let mut index = folded(&network("mobilenet_v2"));
    index.retain(|name, _| !name.ends_with(".bias"));
    let message = recognize("m.safetensors", &index, None).unwrap_err().to_string();
    assert!(message.starts_with("m.safetensors does not hold a complete mobilenet_v2 (with torchvision's tensor names): `features.0.0.bias` [8] is missing, and so is the batch norm `features.0.1.*`; "), "{message}");
    assert!(message.ends_with("; and 33 more"), "{message}");
}

#[test]
fn a_block_of_another_width_is_a_wrong_shape() {
    // Within a stage all blocks are equally wide: a network that only resembles a MobileNet is not taken for one.
    let mut index = folded(&network("mobilenet_v2"));
    index.insert("features.4.conv.2.weight".to_owned(), vec![16, 48, 1, 1]);
    index.insert("features.4.conv.2.bias".to_owned(), vec![16]);
    assert!(matches!(recognize("m", &index, None), Err(Error::Tensors { .. })));
}

#[test]
fn claims_are_checked() {
    let index = separate(&network("mobilenet_v3_large"));
    assert!(recognize("m", &index, Some(Architecture::V3Large)).is_ok());
    let error = recognize("m", &index, Some(Architecture::V2)).unwrap_err();
    assert!(
        matches!(error, Error::ArchitectureMismatch { said: Architecture::V2, found: Architecture::V3Large, .. }),
        "{error}"
    );
    // What is broken is held against what was claimed.
    let mut index = folded(&network("tf_mobilenetv3_small_minimal_100"));
    index.remove("classifier.bias");
    let Err(Error::Tensors { architecture, problems, .. }) = recognize("m", &index, Some(Architecture::V3Small)) else {
        panic!()
    };
    assert_eq!(architecture, Architecture::V3Small);
    assert!(problems.to_string().contains("se.conv_reduce.weight"), "{problems}");
}

#[test]
fn foreign_files_are_unknown() {
    let index: Index = [("encoder.0.weight".to_owned(), vec![3, 3]), ("odd\u{1b}[2J".to_owned(), vec![])].into();
    let message = recognize("m", &index, None).unwrap_err().to_string();
    assert!(message.contains("of its 2 tensors the first are `encoder.0.weight`, `odd\\u{1b}[2J`"), "{message}");
    assert!(matches!(
        recognize("m", &Index::new(), Some(Architecture::V2)),
        Err(Error::UnknownNetwork { count: 0, .. })
    ));
}

#[test]
fn empty_tensors_are_refused() {
    let mut index = folded(&network("mobilenet_v2"));
    for (name, shape) in &mut index {
        if name.starts_with("classifier") {
            shape[0] = 0;
        }
    }
    assert!(matches!(recognize("m", &index, None), Err(Error::Tensors { .. })));
}

#[test]
fn names_of_architectures() {
    for architecture in Architecture::ALL {
        assert_eq!(Architecture::from_name(architecture.name()), Some(architecture));
    }
    let named = [
        ("mobilenetv2_110d", Some(Architecture::V2)),
        ("mobilenetv3_small_050", Some(Architecture::V3Small)),
        ("tf_mobilenetv3_large_minimal_100", Some(Architecture::V3LargeMinimalistic)),
        ("mobilenet_v1", None),
        ("mobilenetv3_rw", None),
        ("mobilenetv4_conv_small", None),
        ("mobilenet_v3", None),
        ("resnet50", None),
        ("", None),
    ];
    for (name, architecture) in named {
        assert_eq!(Architecture::from_name(name), architecture, "{name}");
    }
}

/// The tensors a safetensors file lists.
fn listed(data: &[u8]) -> Index {
    let (_, header) = safetensors::SafeTensors::read_metadata(data).unwrap();
    header.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect()
}

#[test]
fn real_models_are_recognized() {
    let Some(folder) = material("real_models_are_recognized") else {
        return;
    };
    let models = [
        ("mobilenet_v2", "model.safetensors"),
        ("mobilenet_v2", "model-int8.safetensors"),
        ("mobilenet_v3_small", "model.safetensors"),
        ("mobilenet_v3_small", "model-int8.safetensors"),
        ("mobilenet_v3_large_minimalistic", "model.safetensors"),
        ("mobilenet_tiny/mobilenet_v2_w025", "model.safetensors"),
        ("mobilenet_tiny/mobilenet_v3_small_w025", "model.safetensors"),
        ("mobilenet_tiny/mobilenet_v3_large_w025", "model.safetensors"),
    ];
    for (model, file) in models {
        let config = bytes(&folder, &format!("{model}/config.json"));
        let said = ModelConfig::read(Some(("config.json", &config)), None).unwrap();
        let index = listed(&bytes(&folder, &format!("{model}/{file}")));
        let spec = recognize(file, &index, None).unwrap();
        assert_eq!(said.architecture, Some(spec.architecture), "{model}");
        let json: Value = serde_json::from_slice(&config).unwrap();
        let settings = Settings::new(&said, &spec).unwrap();
        assert_eq!(spec.is_quantized(), file.contains("int8"));
        assert_eq!(spec.has_batch_norm(), json["bn"] == "separate");
        assert_eq!(settings.label_offset, usize::from(spec.classes == 1001));
        assert_eq!(settings.padding == Padding::TensorflowSame, json["padding"] == "tensorflow_same");
        assert_eq!(settings.preprocess.crop as u64, json["image_size"].as_u64().unwrap());
        assert_eq!(f64::from(settings.preprocess.std[1]) as f32, json["std"][1].as_f64().unwrap() as f32);
        assert!(settings.assumed.is_empty(), "{model}: {:?}", settings.assumed);
        if spec.has_batch_norm() {
            assert_eq!(settings.batch_norm_epsilon, json["bn_eps"].as_f64().unwrap());
        } else {
            let trace: Value = serde_json::from_slice(&bytes(&folder, &format!("{model}/trace.json"))).unwrap();
            let shapes: BTreeMap<&str, Vec<usize>> = trace["modules"]
                .as_array()
                .unwrap()
                .iter()
                .map(|module| (module["module"].as_str().unwrap(), shape(&module["shape"])))
                .collect();
            for (name, _, side, _) in layers(&spec, 224) {
                assert_eq!(shapes[name.as_str()].get(2).copied().unwrap_or(1), side, "{model}: {name}");
            }
        }
    }
}
