//! Shapes and parameters that nobody thought of: whatever a kernel accepts, every variant gives what the twin gives, twice
//! the same to the bit, and a batch is its images one by one.
//!
//! A run tries a few of each on the best adapter; `LAMPYRIS_TIER=full` tries as many on every adapter, and ten times as many on
//! the best one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris_engine::Gpu;
use lampyris_engine::certify::Prepared;
use lampyris_engine::kernels::conv::{Conv, Depthwise, Padding, Pointwise, Stem};
use lampyris_engine::kernels::head::{GlobalPool, Linear, Pooling, SoftmaxTopK};
use lampyris_engine::kernels::image::{PRECISION_BITS, ResizeColumns, ResizeRows, corner, table};
use lampyris_engine::kernels::{
    Activation, Call, Case, Desc, Fill, Format, HostTensor, Kernel, Noise, Tier, difference,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use std::sync::Arc;

/// Runs `check` on what `strategy` makes; the seed is fixed, so that a failure is the same everywhere.
fn try_some<S: Strategy>(strategy: &S, check: impl Fn(&[Gpu], S::Value) -> Result<(), TestCaseError>) {
    let (full, devices) = (std::env::var("LAMPYRIS_TIER").is_ok_and(|tier| tier == "full"), support::devices());
    let best = &devices[..devices.len().min(1)];
    let rounds = if full { vec![(24, &devices[..]), (240, best)] } else { vec![(24, best)] };
    for (cases, devices) in rounds {
        try_on(devices, cases, strategy, &check);
    }
}

fn try_on<S: Strategy>(
    devices: &[Gpu],
    cases: u32,
    strategy: &S,
    check: impl Fn(&[Gpu], S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(20_171_204),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new(config).run(strategy, |made| check(devices, made)).unwrap_or_else(|error| panic!("{error}"));
}

fn case(kernel: impl Kernel, inputs: Vec<(Desc, Fill)>) -> Case {
    let shapes: Vec<String> = inputs.iter().map(|(desc, _)| desc.to_string()).collect();
    let label = format!("{} of {}", kernel.summary(), shapes.join(", "));
    Case { label, kernel: Arc::new(kernel), inputs, tier: Tier::Full }
}

/// Every variant gives the twin's answer, and the same words again.
fn agrees(devices: &[Gpu], case: &Case) -> Result<(), TestCaseError> {
    let prepared = Prepared::new(case).map_err(|error| TestCaseError::fail(format!("{}: {error}", case.label)))?;
    let tensors = case.tensors();
    let expected = case.expected(&tensors).unwrap();
    let outputs = case.outputs().unwrap();
    let descs = case.descs();
    let tolerance = case.kernel.tolerance(&Call { inputs: &descs, outputs: &outputs }).relative;
    let on_each = |gpu| prepared.variants(gpu).unwrap().into_iter().map(move |source| (gpu, source));
    for (gpu, source) in devices.iter().flat_map(on_each) {
        let first = gpu.block_on(prepared.run(gpu, source)).unwrap();
        let again = gpu.block_on(prepared.run(gpu, source)).unwrap();
        let words = |tensors: &[HostTensor]| tensors.iter().map(|tensor| tensor.words.clone()).collect::<Vec<_>>();
        prop_assert_eq!(
            words(&first),
            words(&again),
            "{} {} differs from itself on {}",
            case.label,
            source.label,
            gpu.summary()
        );
        let found = difference(&expected, &first);
        prop_assert!(
            found.worst <= tolerance,
            "{} {} on {}: {found:?} of {tolerance:e}",
            case.label,
            source.label,
            gpu.summary()
        );
    }
    Ok(())
}

/// Image `image` of a tensor whose first axis is the batch.
fn image_of(tensor: &HostTensor, image: usize) -> HostTensor {
    let mut desc = tensor.desc.clone();
    let images = std::mem::replace(&mut desc.shape[0], 1);
    let words = tensor.words.len() / images;
    HostTensor::from_words(desc, tensor.words[image * words..(image + 1) * words].to_vec())
}

/// The case agrees with its twin, and so does each image of its batch alone. Inputs of four axes are the batched ones.
fn agrees_image_by_image(devices: &[Gpu], case: &Case) -> Result<(), TestCaseError> {
    agrees(devices, case)?;
    let images = case.inputs[0].0.shape[0];
    let tensors = case.tensors();
    let together = case.expected(&tensors).unwrap();
    for image in 0..images {
        let alone: Vec<HostTensor> = tensors
            .iter()
            .map(|tensor| match tensor.desc.shape.len() {
                2 => tensor.clone(),
                _ => image_of(tensor, image),
            })
            .collect();
        let inputs = alone.iter().map(|tensor| (tensor.desc.clone(), Fill::Words(tensor.words.clone()))).collect();
        let label = format!("image {image} of {}", case.label);
        let one = Case { label, kernel: case.kernel.clone(), inputs, tier: Tier::Full };
        let expected: Vec<HostTensor> = together.iter().map(|tensor| image_of(tensor, image)).collect();
        let apart = one.expected(&alone).unwrap();
        prop_assert_eq!(expected, apart, "the twin of {} sees its neighbours", one.label);
        agrees(devices, &one)?;
    }
    Ok(())
}

fn activation() -> impl Strategy<Value = Activation> {
    proptest::sample::select(Activation::ALL.to_vec())
}

/// How activations are stored, and weights in rows and in matrices.
fn storage() -> impl Strategy<Value = (Format, Format, Format)> {
    proptest::sample::select(vec![
        (Format::F32, Format::F32, Format::MatrixF32),
        (Format::F16, Format::F32, Format::MatrixF16),
        (Format::F32, Format::I8, Format::MatrixI8),
    ])
}

/// Biases, and the scales that bring quantized weights back to about one.
fn affine(weights: Format, channels: usize) -> (Desc, Fill) {
    if !matches!(weights, Format::I8 | Format::MatrixI8) {
        return (Desc::f32([1, channels]), Fill::Noise);
    }
    let mut noise = Noise::new(channels as u64);
    let mut values: Vec<f32> = (0..channels).map(|_| noise.real(-1.0, 1.0)).collect();
    values.extend((0..channels).map(|_| noise.real(0.5, 1.5) / 127.0));
    (Desc::f32([2, channels]), Fill::Values(values))
}

fn padding(most: u32) -> impl Strategy<Value = Padding> {
    [0..=most, 0..=most, 0..=most, 0..=most].prop_map(|[top, left, bottom, right]| Padding { top, left, bottom, right })
}

#[test]
fn pointwise() {
    let shape = (1usize..4, 1usize..8, 1usize..8, 1usize..40, 1usize..40);
    try_some(
        &(shape, storage(), activation(), any::<[bool; 2]>()),
        |devices, (shape, formats, activation, options)| {
            let ((images, height, width, k, n), (values, _, matrix), [residual, scaled]) = (shape, formats, options);
            let noise = |format, shape: Vec<usize>| (Desc::new(format, shape), Fill::Noise);
            let mut inputs =
                vec![noise(values, vec![images, height, width, k]), noise(matrix, vec![k, n]), affine(matrix, n)];
            inputs.extend(residual.then(|| noise(values, vec![images, height, width, n])));
            inputs.extend(scaled.then(|| noise(values, vec![images, 1, 1, k])));
            agrees_image_by_image(devices, &case(Pointwise { activation, residual, scaled }, inputs))
        },
    );
}

#[test]
fn depthwise() {
    let window = (proptest::sample::select(vec![1u32, 3, 5, 7]), 1u32..4, padding(3));
    let shape = (1usize..3, 0usize..9, 0usize..9, 1usize..24);
    try_some(
        &(window, shape, storage(), activation(), any::<bool>()),
        |devices, (window, shape, formats, activation, pool)| {
            let ((kernel, stride, padding), (images, rows, columns, c), (values, weights, _)) =
                (window, shape, formats);
            // The window lies in the image at least once, without its padding too.
            let (height, width) = (kernel as usize + rows, kernel as usize + columns);
            let inputs = vec![
                (Desc::new(values, [images, height, width, c]), Fill::Noise),
                (Desc::new(weights, [(kernel * kernel) as usize, c]), Fill::Noise),
                affine(weights, c),
            ];
            agrees_image_by_image(devices, &case(Depthwise { kernel, stride, padding, activation, pool }, inputs))
        },
    );
}

#[test]
fn conv() {
    let window = (1usize..5, 1usize..5, [1u32..4, 1u32..4], [1u32..3, 1u32..3], padding(2));
    let shape = (1usize..3, 0usize..6, 0usize..6, 1usize..4, 1usize..6, 1usize..6);
    try_some(&(window, shape, activation()), |devices, (window, shape, activation)| {
        let (kh, kw, stride, dilation, padding) = window;
        let (images, rows, columns, groups, k, n) = shape;
        let reach = |taps: usize, step: u32| (taps - 1) * step as usize + 1;
        let x = Desc::f32([images, reach(kh, dilation[0]) + rows, reach(kw, dilation[1]) + columns, groups * k]);
        let inputs = vec![
            (x, Fill::Noise),
            (Desc::f32([kh, kw, k, groups * n]), Fill::Noise),
            (Desc::f32([1, groups * n]), Fill::Noise),
        ];
        agrees(devices, &case(Conv { stride, dilation, padding, groups: groups as u32, activation }, inputs))
    });
}

#[test]
fn stem() {
    let window = (proptest::sample::select(vec![3u32, 5]), 1u32..4, padding(2));
    let shape = (0usize..9, 0usize..9, 1usize..36);
    try_some(
        &(window, shape, storage(), activation(), any::<bool>()),
        |devices, (window, shape, formats, activation, pixels)| {
            let ((kernel, stride, padding), (rows, columns, n), (storage, weights, _)) = (window, shape, formats);
            let (height, width) = (kernel as usize + rows, kernel as usize + columns);
            let x = match pixels {
                true => Desc::new(Format::Rgba8, [2, height, width]),
                false => Desc::f32([2, height, width, 3]),
            };
            let inputs = vec![
                (x, Fill::Noise),
                (Desc::new(weights, [(kernel * kernel * 3) as usize, n]), Fill::Noise),
                affine(weights, n),
            ];
            let stem =
                Stem { kernel, stride, padding, activation, storage, mean: [0.485, 0.456, 0.406], std: [0.25; 3] };
            agrees_image_by_image(devices, &case(stem, inputs))
        },
    );
}

#[test]
fn linear() {
    try_some(
        &(1usize..10, 1usize..90, 1usize..90, storage(), activation()),
        |devices, (rows, k, n, formats, activation)| {
            let (values, _, matrix) = formats;
            let inputs = vec![
                (Desc::new(values, [rows, 1, 1, k]), Fill::Noise),
                (Desc::new(matrix, [k, n]), Fill::Noise),
                affine(matrix, n),
            ];
            agrees_image_by_image(devices, &case(Linear { activation }, inputs))
        },
    );
}

#[test]
fn global_pool() {
    let formats = proptest::sample::select(vec![Format::F32, Format::F16]);
    let pooling = proptest::sample::select(vec![Pooling::Mean, Pooling::Max]);
    let shape = (1usize..4, 1usize..12, 1usize..12, 1usize..50);
    try_some(&(shape, formats, pooling), |devices, ((images, height, width, c), format, pooling)| {
        let inputs = vec![(Desc::new(format, [images, height, width, c]), Fill::Noise)];
        agrees_image_by_image(devices, &case(GlobalPool { pooling, pixels: None }, inputs))
    });
}

#[test]
fn softmax_top_k() {
    let formats = proptest::sample::select(vec![Format::F32, Format::F16]);
    // Few different logits, so that many are equal and the order among them matters.
    try_some(&(1usize..4, 1usize..300, 1usize..17, formats, 1u32..60), |devices, (images, c, k, format, kinds)| {
        let mut noise = Noise::new((c * 31 + k) as u64);
        let values = (0..images * c).map(|_| (noise.bits() % u64::from(kinds)) as f32 * 0.25 - 4.0).collect();
        let inputs = vec![(Desc::new(format, [images, 1, 1, c]), Fill::Values(values))];
        agrees_image_by_image(devices, &case(SoftmaxTopK { k: k.min(c) }, inputs))
    });
}

/// A table that reads anywhere in `input` pixels, with coefficients of either sign that sum to one.
fn any_table(input: usize, outputs: usize, taps: usize) -> HostTensor {
    let mut noise = Noise::new((input * 977 + outputs * 31 + taps) as u64);
    let (mut first, mut count, mut coefficients) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..outputs {
        let used = taps.min(input);
        first.push((noise.bits() % (input - used + 1) as u64) as u32);
        count.push(used as u32);
        let weights: Vec<f32> = (0..used).map(|_| noise.real(-0.2, 1.0)).collect();
        let total: f32 = weights.iter().map(|weight| weight.abs()).sum();
        let unit = (1u32 << PRECISION_BITS) as f32;
        coefficients.extend(weights.iter().map(|weight| (weight / total * unit) as i32));
        coefficients.resize(first.len() * taps, 0);
    }
    table(&first, &count, &coefficients, taps)
}

#[test]
fn resize() {
    let formats = proptest::sample::select(vec![Format::Rgba8, Format::Texture, Format::TextureSrgb]);
    let source = (1u32..30, 1u32..30, [0u32..5, 0u32..5, 0u32..5, 0u32..5]);
    try_some(&(source, formats, 1usize..20, 1usize..6), |devices, (source, format, outputs, taps)| {
        let (width, height, [left, top, right, bottom]) = source;
        let picture = Desc::new(format, [1, (top + height + bottom) as usize, (left + width + right) as usize]);
        let columns = any_table(width as usize, outputs, taps);
        let first_row = height / 3;
        let rows = ResizeRows::new([width, height], first_row, height - first_row);
        let begins = corner(left, top);
        let inputs = vec![
            (picture, Fill::Noise),
            (columns.desc, Fill::Words(columns.words)),
            (begins.desc, Fill::Words(begins.words)),
        ];
        agrees(devices, &case(rows, inputs))?;
        let lines = any_table(height as usize, outputs, taps);
        let picture = Desc::new(Format::Rgba8, [1, (height - first_row) as usize, width as usize]);
        let inputs = vec![(picture, Fill::Noise), (lines.desc, Fill::Words(lines.words))];
        agrees(devices, &case(ResizeColumns { first_row }, inputs))
    });
}
