//! The grid of grouped, dilated and unevenly padded convolutions that PyTorch computed: what the ONNX vectors lack.

use crate::network::Sketch;
use crate::{devices, windows};
use lampyris_engine::kernels::conv::{Conv, Padding};
use lampyris_engine::kernels::{Format, Tolerance};
use lampyris_engine::weights::Weights;
use serde_json::Value;
use std::path::PathBuf;

fn numbers<const N: usize>(case: &Value, key: &str) -> [u32; N] {
    let values: Vec<u32> = case[key].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
    values.try_into().unwrap()
}

#[test]
fn recorded_convolutions() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let weights = std::fs::read(folder.join("convolutions.safetensors")).unwrap();
    let weights = Weights::from_bytes("convolutions.safetensors", weights).unwrap();
    let cases: Value = serde_json::from_slice(&std::fs::read(folder.join("convolutions.json")).unwrap()).unwrap();
    let devices = devices::all();
    let mut failures = Vec::new();
    let cases = cases.as_array().unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let tensor = |part: &str| {
            let name = format!("{name}.{part}");
            (weights.get(&name).unwrap().shape.clone(), weights.f32(&name).unwrap())
        };
        let ((input_shape, input), (shape, values), (result, recorded)) =
            (tensor("input"), tensor("weight"), tensor("output"));
        let bias = if case["bias"].as_bool().unwrap() { tensor("bias").1 } else { vec![0.0; shape[0]] };
        let [top, left, bottom, right] = numbers(case, "pads");
        let kernel = Conv {
            stride: numbers(case, "stride"),
            dilation: numbers(case, "dilation"),
            padding: Padding { top, left, bottom, right },
            groups: case["groups"].as_u64().unwrap() as u32,
            ..Conv::default()
        };
        let mut sketch = Sketch::default();
        let x = sketch.input(&input_shape, &input);
        let y = windows::convolve(&mut sketch, kernel, x, &shape, &values, &bias).unwrap();
        let network = sketch.finish(&[y]);
        let allowed = Tolerance::of_sum(shape[1..].iter().product(), Format::F32).relative;
        let largest = recorded.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
        for device in &devices {
            let found = device.run(&network).unwrap().remove(0);
            let differs = |(a, b): (&f64, &f32)| !a.is_finite() || (a - f64::from(*b)).abs() > allowed * largest;
            if found.shape.as_ref() != Some(&result) {
                failures.push(format!("{name} on {}: {:?}, recorded is {result:?}", device.name, found.shape));
            } else if let Some(at) = found.values.iter().zip(&recorded).position(differs) {
                let (found, recorded) = (found.values[at], recorded[at]);
                failures.push(format!("{name} on {} at {at}: {found}, recorded {recorded}", device.name));
            }
        }
    }
    eprintln!("{} convolutions on {} executors", cases.len(), devices.len());
    assert!(cases.len() >= 40, "only {} convolutions were recorded", cases.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
