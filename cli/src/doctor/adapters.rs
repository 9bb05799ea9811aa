//! What a report says of an adapter: its name, and what it can do, as figures.

use crate::output;
use lampyris::AdapterSummary;
use serde::Serialize;

/// One adapter of a report.
#[derive(Debug, Serialize)]
pub(super) struct Adapter {
    index: usize,
    name: String,
    driver: String,
    backend: String,
    kind: &'static str,
    features: Vec<String>,
    limits: Limits,
    /// Why it cannot be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// The limits that decide what fits.
#[derive(Debug, Serialize)]
struct Limits {
    max_invocations: u32,
    max_workgroup: [u32; 3],
    max_workgroup_bytes: u32,
    max_storage_buffers: u32,
    max_binding_bytes: u64,
    max_buffer_bytes: u64,
    max_groups: u32,
}

impl Adapter {
    pub(super) fn new(index: usize, summary: &AdapterSummary) -> Adapter {
        let caps = &summary.caps;
        let flags = [
            (caps.f16, "f16"),
            (caps.packed_dot, "packed_dot"),
            (caps.timestamps, "timestamps"),
            (caps.immediates > 0, "immediates"),
            (caps.shared_memory, "shared_memory"),
        ];
        let subgroup = caps.subgroup.map(|(low, high)| match low == high {
            true => format!("subgroup {low}"),
            false => format!("subgroup {low}..{high}"),
        });
        let named = flags.into_iter().filter(|(has, _)| *has).map(|(_, name)| name.to_owned());
        Adapter {
            index,
            name: summary.name.clone(),
            driver: summary.driver.clone(),
            backend: summary.backend.clone(),
            kind: summary.kind.label(),
            features: subgroup.into_iter().chain(named).collect(),
            limits: Limits {
                max_invocations: caps.max_invocations,
                max_workgroup: caps.max_workgroup,
                max_workgroup_bytes: caps.max_workgroup_bytes,
                max_storage_buffers: caps.max_storage_buffers,
                max_binding_bytes: caps.max_binding_bytes,
                max_buffer_bytes: caps.max_buffer_bytes,
                max_groups: caps.max_groups,
            },
            failure: None,
        }
    }

    /// Notes that it cannot be opened.
    pub(super) fn failed(&mut self, error: &lampyris::engine::Error) {
        self.failure = Some(error.to_string());
    }
}

/// The adapters for people.
pub(super) fn table(adapters: &[Adapter]) -> String {
    if adapters.is_empty() {
        return "no adapter on this machine: the CPU executor runs everything\n".to_owned();
    }
    let mut text = "adapters\n".to_owned();
    for a in adapters {
        let features = if a.features.is_empty() { "none".to_owned() } else { a.features.join(", ") };
        let [name, driver] = [&a.name, &a.driver].map(|t| output::one_line(t));
        text += &format!("  {}  {name} ({}, {})\n     driver    {driver}\n", a.index, a.backend, a.kind);
        text += &format!("     features  {features}\n");
        let (mib, limits) = (1 << 20, &a.limits);
        text += &format!(
            "     limits    {} invocations and {} KiB a workgroup, {} storage buffers, bindings of {} MiB, buffers of {} MiB\n",
            limits.max_invocations,
            limits.max_workgroup_bytes >> 10,
            limits.max_storage_buffers,
            limits.max_binding_bytes / mib,
            limits.max_buffer_bytes / mib,
        );
        if let Some(failure) = &a.failure {
            text += &format!("     FAILED    {}\n", output::one_line(failure));
        }
    }
    text
}
