//! The matrices of language models as cases of their kernel: every scheme at the shapes of Qwen3-0.6B and Llama-3.2-1B, of inputs in floats
//! and in bytes.

use lampyris::engine::kernels::text::{Dense, Scheme, Unit};
use lampyris::engine::kernels::{self, Case, Desc, Fill, Format, Tier, panel};
use std::sync::Arc;

/// A model's columns, columns of its attention, rows of its queries, keys and values, units, and vocabulary.
const MODELS: [(&str, [usize; 5]); 2] =
    [("qwen3-0.6b", [1024, 2048, 4096, 3072, 151_936]), ("llama-3.2-1b", [2048, 2048, 3072, 8192, 128_256])];

/// Tokens of a run: one, as in generation, and a chunk of a prompt.
const TOKENS: [usize; 2] = [1, 32];

/// Tokens of a prompt in one run, which only tiles of a large GPU are made for, and the schemes that are timed with so many.
const LONG: (usize, [Scheme; 3]) = (512, [Scheme::Q8_0, Scheme::Q4_0, Scheme::Q4K]);

/// The largest tensor that WebGPU's default limits bind, in bytes; a larger matrix is cut by rows when it is used.
const MOST: u64 = 128 << 20;

/// Rows of the first part of a matrix that is cut so that no tensor of it exceeds [`MOST`], whole panels of them, and how many parts there are.
fn part(scheme: Scheme, rows: usize, columns: usize) -> (usize, usize) {
    let bytes = scheme.descs(rows, columns).iter().map(Desc::bytes).max().unwrap_or(0);
    if bytes <= MOST {
        return (rows, 1);
    }
    let share = (MOST / bytes.div_ceil(rows as u64)) as usize / panel::ROWS * panel::ROWS;
    (share, rows.div_ceil(share))
}

/// Every matrix of the models in every scheme: of a layer for one token and for a prompt, and the head for one token. Of a head that no
/// binding holds whole, the first part, as it runs; its label says of how many, and all but the last are as large.
pub(crate) fn cases() -> Vec<Case> {
    let entries = kernels::all();
    let known: Vec<Case> =
        entries.iter().find(|entry| entry.name == "dense").map_or(Vec::new(), |dense| (dense.cases)());
    let mut cases = Vec::new();
    for scheme in Scheme::ALL {
        let same = |case: &&Case| Scheme::of(&case.descs()[1..]).is_some_and(|(its, ..)| its == scheme);
        // What the kernel's own cases fill a matrix of the scheme with, so that sums stay small.
        let filled: Vec<(Desc, Fill)> = known.iter().filter(same).flat_map(|case| case.inputs.clone()).collect();
        for (model, [hidden, attended, qkv, units, vocabulary]) in MODELS {
            let mut add = |part: &str, kernel: Dense, format: Format, [m, k, n]: [usize; 3]| {
                let rows = kernel.gated.map_or(n, Dense::gated_rows);
                let mut inputs = vec![(Desc::new(format, [m, k]), Fill::Noise)];
                for desc in scheme.descs(rows, k) {
                    let of = filled.iter().find(|(known, _)| known.format == desc.format);
                    inputs.push((desc, of.map_or(Fill::Noise, |(_, fill)| fill.clone())));
                }
                let extras = [(kernel.norm.is_some(), Desc::f32([k])), (kernel.residual, Desc::f32([m, n]))];
                inputs.extend(extras.into_iter().filter(|(there, _)| *there).map(|(_, desc)| (desc, Fill::Noise)));
                let of = if format == Format::F32 { "" } else { ".of-bytes" };
                let label = format!("{model}.{part}.{m}.{}{of}", scheme.label());
                cases.push(Case { label, kernel: Arc::new(kernel), inputs, tier: Tier::Model });
            };
            let normed = Dense { norm: Some(1e-6), ..Dense::default() };
            let added = Dense { residual: true, ..Dense::default() };
            let gated = Dense { gated: Some(units), unit: Unit::Silu, ..Dense::default() };
            for m in TOKENS {
                add("qkv", normed, Format::F32, [m, hidden, qkv]);
                add("output", added, Format::F32, [m, attended, hidden]);
            }
            let long = LONG.1.contains(&scheme).then_some(LONG.0);
            for m in TOKENS.into_iter().chain(long) {
                add("gate_up", Dense { norm: normed.norm, ..gated }, Format::F32, [m, hidden, units]);
                add("down", added, Format::F32, [m, units, hidden]);
                if scheme.is_bytes() {
                    add("gate_up", gated, Format::BlockI8, [m, hidden, units]);
                    add("down", added, Format::BlockI8, [m, units, hidden]);
                }
            }
            match part(scheme, vocabulary, hidden) {
                (rows, 1) => add("head", normed, Format::F32, [1, hidden, rows]),
                (rows, parts) => add(&format!("head.first-of-{parts}"), normed, Format::F32, [1, hidden, rows]),
            }
        }
    }
    cases
}
