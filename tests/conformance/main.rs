//! Operators against what others recorded: the ONNX node tests, and a grid of convolutions from PyTorch. Every vector goes
//! through the plan builder and runs on every adapter of this machine and on the CPU executor.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod attention;
mod convolutions;
mod devices;
mod express;
mod lookups;
mod network;
mod operators;
mod passed_over;
mod quantized;
mod resize;
mod shaping;
mod vector;
mod windows;

use devices::Device;
use network::Network;
use vector::Vector;

/// Runs `network` on one device; what differs from what was recorded, in words.
fn mismatch(device: &Device, network: &Network, vector: &Vector) -> Option<String> {
    let found = match device.run(network) {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let recorded = vector.outputs();
    if found.len() != recorded.len() {
        return Some(format!("{} outputs, recorded are {}", found.len(), recorded.len()));
    }
    for (position, (found, recorded)) in found.iter().zip(recorded).enumerate() {
        let (shape, recorded) = (&recorded.shape, recorded.numbers());
        if found.shape.as_ref().is_some_and(|own| own != shape) || found.values.len() != recorded.len() {
            let (own, count) = (&found.shape, found.values.len());
            return Some(format!("output {position} has {count} values of shape {own:?}, recorded is {shape:?}"));
        }
        for (place, (found, recorded)) in found.values.iter().copied().zip(recorded).enumerate() {
            let allowed = vector.atol + vector.rtol * recorded.abs();
            // An infinity, which only the scores of what attention does not see have, must be the same.
            let close = found.is_finite() && recorded.is_finite() && (found - recorded).abs() <= allowed;
            let unseen = found == f64::NEG_INFINITY && recorded == f64::NEG_INFINITY;
            if !close && !unseen {
                return Some(format!("output {position} at {place}: {found}, recorded {recorded} within {allowed:e}"));
            }
        }
    }
    None
}

/// Each vector is run or listed in `passed_over` with its reason, never both and never neither.
#[test]
fn onnx_node_tests() {
    let Some(folder) = vector::material("onnx-node-tests") else { return };
    let devices = devices::all();
    let names = vector::names(&folder);
    let (mut ran, mut plans, mut failures) = (0, 0, Vec::new());
    let mut reasons = passed_over::Reasons::new();
    for name in &names {
        let vector = Vector::read(&folder, name);
        if reasons.of(&vector).is_some() {
            continue;
        }
        match express::networks(&vector) {
            Ok(networks) => {
                ran += 1;
                for network in &networks {
                    plans += 1;
                    for device in &devices {
                        if let Some(difference) = mismatch(device, network, &vector) {
                            failures.push(format!("{name} ({}) on {}: {difference}", vector.op, device.name));
                        }
                    }
                }
            }
            Err(error) => failures.push(format!("{name} ({}) is neither run nor passed over: {error}", vector.op)),
        }
    }
    failures.extend(reasons.unused().map(|entry| format!("nothing is passed over as {entry}")));
    eprintln!("{ran} of {} vectors ran as {plans} plans on {} executors", names.len(), devices.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(names.len(), 439, "the vectors are not the ones this list was made for");
    assert_eq!(ran, 419, "the number of vectors that run has changed");
}
