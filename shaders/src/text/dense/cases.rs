//! The cases of the fully connected layer: every scheme and ending, inputs in bytes, and products of 16-bit floats.

use super::super::Scheme;
use super::{Dense, Unit};
use crate::panel::Code;
use crate::{Case, Desc, Fill, Format, Kernel, Tier};
use std::sync::Arc;

/// The tensors of a matrix filled with noise, its weights within about 1.
pub(in crate::text) fn matrix(scheme: Scheme, n: usize, k: usize) -> Vec<(Desc, Fill)> {
    let fill = |desc: Desc| {
        let largest: f32 = match scheme {
            Scheme::Q8_0 | Scheme::Iq4Nl => 127.0,
            Scheme::Q4_0 => 8.0,
            Scheme::Q2K => 45.0,
            Scheme::Q3K => 128.0,
            Scheme::Q4K => 945.0,
            Scheme::Q5K => 1953.0,
            Scheme::Q6K | Scheme::Iq4Xs => 4096.0,
            _ => 16.0,
        };
        let fill = match desc.format {
            Format::Panel(Code::Exponent) => Fill::Range(118.0, 125.0),
            Format::Panel(Code::F32 | Code::F16 | Code::Bf16) => Fill::Noise,
            _ => Fill::Range(-1.0 / largest, 1.0 / largest),
        };
        (desc, fill)
    };
    scheme.descs(n, k).into_iter().map(fill).collect()
}

/// A case of `[m, k]` inputs in `format` and a matrix that gives `n` columns.
fn case(tier: Tier, scheme: Scheme, kernel: Dense, [m, k, n]: [usize; 3], format: Format) -> Case {
    let rows = kernel.gated.map_or(n, Dense::gated_rows);
    let mut inputs = vec![(Desc::new(format, [m, k]), Fill::Noise)];
    inputs.extend(matrix(scheme, rows, k));
    let extras = [
        (kernel.norm.is_some(), Desc::f32([k])),
        (kernel.bias, Desc::f32([rows])),
        (kernel.residual, Desc::f32([m, n])),
    ];
    inputs.extend(extras.into_iter().filter(|(there, _)| *there).map(|(_, desc)| (desc, Fill::Noise)));
    let of = if format == Format::F32 { String::new() } else { format!(".of-{}", format.label()) };
    let label = format!("{m}x{k}x{n}.{}{of}.{}", scheme.label(), kernel.summary().replace(' ', "."));
    Case { label, kernel: Arc::new(kernel), inputs, tier }
}

/// One of each kind of scheme. Tiles, and several tokens by several rows, take software adapters seconds to compile (through OpenGL up to a
/// minute), so that short cases of these are of no others, of tiles of bytes of one, and of several tokens of none.
const KINDS: [Scheme; 5] = [Scheme::F32, Scheme::Q4_0, Scheme::Q2K, Scheme::Q5K, Scheme::Mxfp4];

/// The tier of a case that is short for `kinds` only.
fn short_for(kinds: &[Scheme], scheme: Scheme) -> Tier {
    if kinds.contains(&scheme) { Tier::Short } else { Tier::Full }
}

/// Every scheme with every ending, sizes round the panels, blocks and tiles, inputs in bytes, and the shapes of small language models.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = [bytes_cases(), half_cases()].concat();
    let mut add = |tier: Tier, scheme: Scheme, kernel: Dense, shape: [usize; 3]| {
        cases.push(case(tier, scheme, kernel, shape, Format::F32));
    };
    let plain = Dense::default();
    let normed = Dense { norm: Some(1e-5), ..plain };
    for scheme in Scheme::ALL {
        let k = if scheme.is_wide() { 292 } else { 68 };
        add(Tier::Short, scheme, Dense { bias: true, residual: true, ..normed }, [1, k, 41]);
        let gated = Dense { gated: Some(37), unit: Unit::Silu, ..normed };
        add(Tier::Full, scheme, gated, [5, 36, 37]);
        add(short_for(&KINDS, scheme), scheme, gated, [33, k, 37]);
        add(Tier::Full, scheme, Dense { bias: true, residual: true, ..plain }, [8, 516, 70]);
        add(Tier::Full, scheme, Dense { bias: true, residual: true, ..plain }, [65, 516, 70]);
        add(Tier::Full, scheme, plain, [1, 32, 32]);
        add(short_for(&KINDS, scheme), scheme, normed, [17, k, 33]);
        add(Tier::Full, scheme, plain, [4, 256, 64]);
        add(Tier::Full, scheme, Dense { gated: Some(20), unit: Unit::Silu, ..normed }, [70, 40, 20]);
        add(Tier::Full, scheme, Dense { bias: true, residual: true, ..normed }, [3, 516, 37]);
        add(Tier::Full, scheme, Dense { gated: Some(16), unit: Unit::GeluTanh, bias: true, ..normed }, [1, 64, 16]);
        add(Tier::Model, scheme, Dense { residual: true, ..plain }, [1, 1536, 576]);
        add(Tier::Model, scheme, Dense { gated: Some(1536), unit: Unit::Silu, ..normed }, [1, 576, 1536]);
        add(Tier::Model, scheme, normed, [32, 576, 960]);
    }
    for unit in Unit::ALL {
        add(Tier::Short, Scheme::F32, Dense { unit, bias: true, ..plain }, [2, 20, 10]);
    }
    add(Tier::Short, Scheme::F32, Dense { softcap: Some(2.0), ..normed }, [2, 36, 21]);
    for k in [1, 3, 4, 5, 31, 33, 63, 64, 65, 255, 257] {
        add(Tier::Full, Scheme::F32, normed, [1, k, 20]);
        add(Tier::Full, Scheme::Q5_1, normed, [3, k, 20]);
    }
    // What a longer prompt is for tiles, and the least of it.
    for scheme in [Scheme::F16, Scheme::Q4_0, Scheme::Q4K] {
        add(Tier::Model, scheme, plain, [128, 576, 1536]);
        for m in [2, 7, 33, 63, 64, 66] {
            add(Tier::Full, scheme, plain, [m, 40, 20]);
        }
    }
    for n in [1, 2, 15, 16, 17, 31, 33, 63, 65] {
        add(Tier::Full, Scheme::F16, plain, [1, 24, n]);
        add(Tier::Full, Scheme::Q4_0, plain, [6, 24, n]);
        add(Tier::Full, Scheme::Q8_0, Dense { gated: Some(n), unit: Unit::Silu, ..plain }, [2, 40, n]);
    }
    cases
}

/// Inputs in bytes, and scales so small that 16-bit floats have few digits left.
fn bytes_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let (plain, bytes) = (Dense::default(), Format::BlockI8);
    for scheme in Scheme::ALL.into_iter().filter(|scheme| scheme.is_bytes()) {
        let k = if scheme.is_wide() { 292 } else { 68 };
        let gated = Dense { gated: Some(37), unit: Unit::Silu, ..plain };
        let ends = Dense { bias: true, residual: true, ..plain };
        cases.push(case(Tier::Short, scheme, gated, [5, k, 37], bytes));
        cases.push(case(short_for(&KINDS[1..2], scheme), scheme, gated, [33, k, 37], bytes));
        cases.push(case(Tier::Short, scheme, ends, [1, k, 41], bytes));
        cases.push(case(Tier::Full, scheme, ends, [1, 31, 41], bytes));
        cases.push(case(Tier::Model, scheme, plain, [1, 1536, 576], bytes));
        cases.push(case(Tier::Full, scheme, ends, [8, 516, 70], bytes));
        cases.push(case(Tier::Full, scheme, ends, [9, 516, 70], bytes));
        cases.push(case(Tier::Full, scheme, ends, [65, 516, 70], bytes));
        cases.push(case(Tier::Full, scheme, plain, [64, 31, 33], bytes));
        cases.push(case(Tier::Model, scheme, plain, [32, 576, 960], bytes));
        let mut tiny = case(Tier::Short, scheme, plain, [1, k, 33], Format::F32);
        let scales = tiny.inputs.iter_mut().filter(|(_, fill)| matches!(fill, Fill::Range(..)));
        scales.for_each(|(_, fill)| *fill = Fill::Range(-4e-5, 4e-5));
        tiny.label.push_str(".tiny");
        cases.push(tiny);
    }
    cases
}

/// Products of 16-bit floats, with a norm and without, and inputs so large and so small that they have no place in 16 bits as they are.
fn half_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let plain = Dense { half: true, ..Dense::default() };
    let normed = Dense { norm: Some(1e-5), ..plain };
    for scheme in Scheme::ALL.into_iter().filter(|scheme| scheme.is_bytes()) {
        let k = if scheme.is_wide() { 292 } else { 68 };
        let gated = Dense { gated: Some(37), unit: Unit::Silu, ..normed };
        let ends = Dense { bias: true, residual: true, ..normed };
        let mut add = |tier: Tier, kernel: Dense, shape: [usize; 3], most: Option<f32>| {
            let mut case = case(tier, scheme, kernel, shape, Format::F32);
            if let Some(most) = most {
                case.inputs[0].1 = Fill::Range(-most, most);
                case.label += &format!(".within{most:e}");
            }
            cases.push(case);
        };
        add(Tier::Short, ends, [1, k, 41], None);
        add(short_for(&KINDS, scheme), gated, [17, k, 37], None);
        add(Tier::Full, gated, [1, 516, 37], None);
        add(Tier::Full, plain, [70, 516, 40], None);
        for most in [1e6, 1e-6] {
            add(Tier::Full, plain, [1, k, 33], Some(most));
            add(Tier::Full, plain, [33, k, 33], Some(most));
        }
        add(Tier::Model, plain, [1, 1536, 576], None);
        add(Tier::Model, plain, [32, 576, 960], None);
    }
    cases
}
