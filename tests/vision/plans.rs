//! The plans of whole networks as text, step by step, and what they cost: a change that means to leave them alone leaves
//! `tests/golden/*.plan.txt` alone.
//!
//! `UPDATE_GOLDEN=1 cargo test --test vision plans` writes the files anew; the change then shows in review.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use lampyris::Source;
use lampyris::engine::Plan;
use lampyris::engine::plan::Place;
use lampyris::engine::weights::Weights;
use lampyris::models::classifier::open_network;
use lampyris::models::mobilenet::{Network, Pixels, PlanRequest, Precision};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mobilenet")
}

/// A full-size network of which only names and shapes are recorded; every value is zero.
fn recorded_shapes(name: &str, architecture: &str) -> Network {
    let text = std::fs::read_to_string(fixtures().join("tensor-names.json")).unwrap();
    let networks: Value = serde_json::from_str(&text).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (tensor, shape) in networks[name]["tensors"].as_object().unwrap() {
        let elements: u64 = shape.as_array().unwrap().iter().map(|extent| extent.as_u64().unwrap()).product();
        let begin = end;
        end += elements * 2;
        header.insert(tensor.clone(), json!({ "dtype": "F16", "shape": shape, "data_offsets": [begin, end] }));
    }
    assert!(header.len() > 100, "{name} has {} tensors", header.len());
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(&header);
    bytes.resize(bytes.len() + end as usize, 0);
    let weights = Weights::from_bytes(name, bytes).unwrap();
    let config = Some(serde_json::to_vec(&json!({ "architecture": architecture })).unwrap());
    open_network(&Source::Files { weights, config, preprocessor: None }).unwrap()
}

fn request() -> PlanRequest {
    PlanRequest {
        images: 1,
        side: 224,
        pixels: Pixels::Rgba8,
        precision: Precision::F32,
        top: 5,
        fuse_depthwise: false,
    }
}

/// The plans held still, by name.
fn plans() -> Vec<(&'static str, Plan)> {
    let v2 = recorded_shapes("timm/mobilenetv2_100", "mobilenetv2_100");
    let large = recorded_shapes("timm/mobilenetv3_large_100", "mobilenetv3_large_100");
    let small = open_network(&Source::from(&fixtures().join("mobilenet_v3_small_w025"))).unwrap();
    let minimal = open_network(&Source::from(&fixtures().join("timm_tf_mobilenetv3_small_minimal_100"))).unwrap();
    let half = PlanRequest { precision: Precision::F16, ..request() };
    let four = PlanRequest { images: 4, pixels: Pixels::Normalized, ..request() };
    vec![
        ("mobilenet_v2", v2.plan(request()).unwrap()),
        ("mobilenet_v2_f16", v2.plan(half).unwrap()),
        ("mobilenet_v3_large", large.plan(request()).unwrap()),
        ("mobilenet_v3_small_w025", small.plan(request()).unwrap()),
        ("mobilenet_v3_small_w025_batch4", small.plan(four).unwrap()),
        ("mobilenet_v3_small_minimal", minimal.plan(request()).unwrap()),
    ]
}

#[test]
fn the_plans_are_the_recorded_ones() {
    crate::support::golden::check(plans().iter().map(|(name, plan)| (*name, plan)));
}

/// Every convolution is one dispatch and so is every squeeze-excite, the pool, a layer of the head, the softmax; activations,
/// residuals and batch norms are none.
#[test]
fn nothing_takes_a_dispatch_that_another_kernel_can_do() {
    let expected = [
        ("mobilenet_v2", 52 + 3),
        ("mobilenet_v2_f16", 52 + 3),
        ("mobilenet_v3_large", 46 + 8 + 4),
        ("mobilenet_v3_small_w025", 34 + 9 + 4),
        ("mobilenet_v3_small_w025_batch4", 34 + 9 + 4),
        ("mobilenet_v3_small_minimal", 34 + 4),
    ];
    let found: Vec<(&str, usize)> = plans().iter().map(|(name, plan)| (*name, plan.steps.len())).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_bytes_a_plan_states_are_those_of_its_buffers() {
    for (name, plan) in plans() {
        let stated = plan.bytes();
        let constants: HashMap<&str, u64> = plan.constants.iter().map(|c| (c.name.as_str(), c.desc.bytes())).collect();
        assert_eq!(constants.len(), plan.constants.len(), "{name}: two constants of one name");
        let inputs: u64 = plan.inputs.iter().map(|id| plan.tensor(*id).desc.bytes()).sum();
        assert_eq!(stated.weights, constants.values().sum::<u64>(), "{name}");
        assert_eq!(stated.activations, inputs + plan.slots.iter().sum::<u64>(), "{name}");
        assert_eq!(stated.total(), stated.weights + stated.activations + stated.params, "{name}");
        // A slot is as large as the largest tensor in it, and no larger.
        let mut largest = vec![0; plan.slots.len()];
        for id in plan.steps.iter().flat_map(|step| &step.outputs) {
            let tensor = plan.tensor(*id);
            let Place::Slot(slot) = tensor.place else { panic!("{name}: {} lies in {:?}", tensor.name, tensor.place) };
            largest[slot] = tensor.desc.bytes().max(largest[slot]);
        }
        assert_eq!(plan.slots, largest, "{name}");
    }
}

/// The bytes of results alive at the same time, at the worst step.
fn most_alive(plan: &Plan) -> u64 {
    let alive = |at: usize| -> u64 {
        let made = plan.steps[..=at].iter().flat_map(|step| &step.outputs);
        let wanted = |id| {
            let read = plan.steps[at..].iter().any(|step| step.inputs.contains(id));
            read || plan.steps[at].outputs.contains(id) || plan.outputs.iter().any(|(_, output)| output == id)
        };
        made.filter(|id| wanted(*id)).map(|id| plan.tensor(*id).desc.bytes()).sum()
    };
    (0..plan.steps.len()).map(alive).max().unwrap()
}

#[test]
fn slots_take_little_more_than_what_is_alive_at_once() {
    for (name, plan) in plans() {
        let (alive, taken) = (most_alive(&plan), plan.slots.iter().sum::<u64>());
        assert!((alive..=alive * 3 / 2).contains(&taken), "{name}: {taken} bytes of slots for {alive} alive");
    }
}

#[test]
fn a_step_never_reads_and_writes_one_buffer() {
    for (name, plan) in plans() {
        for step in &plan.steps {
            let slot = |id| match plan.tensor(id).place {
                Place::Slot(slot) => Some(slot),
                _ => None,
            };
            let written: Vec<Option<usize>> = step.outputs.iter().map(|id| slot(*id)).collect();
            for (i, place) in written.iter().enumerate() {
                assert!(place.is_some() && !written[..i].contains(place), "{name} {}: {written:?}", step.name);
                assert!(step.inputs.iter().all(|id| slot(*id) != *place), "{name} {}", step.name);
            }
        }
    }
}
