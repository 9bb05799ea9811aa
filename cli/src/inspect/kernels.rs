//! A kernel's variants and their linked WGSL.

use crate::failure::Failure;
use lampyris::engine::kernels::{Source, all};
use serde::Serialize;
use std::borrow::Cow;

/// A kernel and those of its variants that were asked for.
#[derive(Debug, Serialize)]
pub(super) struct Kernel {
    name: &'static str,
    variants: Vec<Variant>,
}

#[derive(Debug, Serialize)]
struct Variant {
    label: &'static str,
    workgroup: [u32; 3],
    workgroup_bytes: u32,
    /// The subgroup size that it needs; 0 for any.
    subgroup: u32,
    wgsl: Cow<'static, str>,
}

/// The kernel called `name`, with one variant or all.
pub(super) fn find(name: &str, variant: Option<&str>) -> Result<Kernel, Failure> {
    let entries = all();
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        let known = entries.iter().map(|entry| entry.name).collect();
        return Err(Failure::UnknownKernel { name: name.to_owned(), known });
    };
    let wanted = |source: &&Source| variant.is_none_or(|label| source.label == label);
    let variants: Vec<Variant> = entry.sources.iter().filter(wanted).map(Variant::new).collect();
    match (variants.is_empty(), variant) {
        (true, Some(label)) => Err(Failure::UnknownVariant {
            kernel: entry.name,
            name: label.to_owned(),
            known: entry.sources.iter().map(|source| source.label).collect(),
        }),
        _ => Ok(Kernel { name: entry.name, variants }),
    }
}

impl Variant {
    fn new(source: &Source) -> Variant {
        Variant {
            label: source.label,
            workgroup: source.workgroup,
            workgroup_bytes: source.workgroup_bytes,
            subgroup: source.subgroup,
            wgsl: source.wgsl.text(),
        }
    }
}

impl Kernel {
    /// The shaders one after the other, each complete, with comments between.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for v in &self.variants {
            let subgroup = if v.subgroup > 0 { format!(", subgroups of {}", v.subgroup) } else { String::new() };
            text += &format!(
                "// {} {}: workgroup {:?}, {} bytes of workgroup memory{subgroup}\n{}\n",
                self.name,
                v.label,
                v.workgroup,
                v.workgroup_bytes,
                v.wgsl.trim_end(),
            );
        }
        text
    }
}
