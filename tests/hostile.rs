//! Files, pictures and wishes that cannot be: each is refused with its own error, and the engine works on as before.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

#[allow(clippy::expect_used, reason = "a fuzz target fails by a panic")]
#[path = "../fuzz/entry.rs"]
mod fuzzed;

use lampyris::engine::Error as EngineError;
use lampyris::engine::kernels::image::Area;
use lampyris::engine::weights::{Dtype, WeightsError};
use lampyris::models::decode::{DecodeError, Limits, decode_file, decode_image};
use lampyris::models::error::Problem;
use lampyris::models::mobilenet::Pixels;
use lampyris::{AdapterChoice, Classifier, ClassifierOptions, Error, Gpu, GpuOptions, Input};
use std::path::Path;
use support::bent::{self, NETWORK, SIDE};
use support::{devices, fixture, required};

/// A convolution of the network in the middle, its last layer's weight, and a batch norm's variance.
const MIDDLE: &str = "features.3.conv.1.0.weight";
const LAST: &str = "classifier.1.weight";
const VARIANCE: &str = "features.3.conv.1.1.running_var";

/// A picture that is not all of one colour.
fn picture() -> Vec<u8> {
    (0..SIDE * SIDE * 4).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// A loaded network, and what it says of the picture: after every refusal it must say the same.
struct Healthy {
    gpu: Gpu,
    classifier: Classifier,
    logits: Vec<f32>,
}

impl Healthy {
    fn new(gpu: &Gpu) -> Healthy {
        let classifier = gpu.block_on(Classifier::load(gpu, &fixture(NETWORK))).unwrap();
        let logits = gpu.block_on(classifier.classify(Input::rgba8(picture(), SIDE, SIDE))).unwrap().logits;
        assert!(logits.len() == 10 && logits.iter().all(|value| value.is_finite()));
        Healthy { gpu: gpu.clone(), classifier, logits }
    }

    fn check(&self, after: &str) {
        let answer = self.gpu.block_on(self.classifier.classify(Input::rgba8(picture(), SIDE, SIDE)));
        assert_eq!(answer.unwrap().logits, self.logits, "another answer after {after}");
    }

    fn load(&self, path: &Path) -> Error {
        match self.gpu.block_on(Classifier::load(&self.gpu, path)) {
            Err(error) => error,
            Ok(_) => panic!("{} was loaded", path.display()),
        }
    }

    fn classify(&self, input: Input<'_>) -> Error {
        self.gpu.block_on(self.classifier.classify(input)).unwrap_err()
    }
}

/// A case: what it is, the file, and whether the error is the right one.
type Case = (&'static str, Vec<u8>, fn(&Error) -> bool);

/// Whether a constant could not be made, with these words in the reason.
fn constant(error: &Error, words: &[&str]) -> bool {
    matches!(error, Error::Engine(EngineError::Constant { reason, .. }) if words.iter().all(|w| reason.contains(w)))
}

fn cases() -> Vec<Case> {
    let good = bent::good();
    vec![
        ("an empty file", vec![], |e| matches!(e, Error::Weights(WeightsError::Empty { .. }))),
        ("five bytes", good[..5].to_vec(), |e| matches!(e, Error::Weights(WeightsError::TooShort { .. }))),
        ("a cut header", good[..200].to_vec(), |e| matches!(e, Error::Weights(WeightsError::HeaderPastEnd { .. }))),
        (
            "cut data",
            good[..good.len() - 3].to_vec(),
            |e| matches!(e, Error::Weights(WeightsError::Truncated { tensor, .. }) if !tensor.is_empty()),
        ),
        ("appended bytes", [&good[..], &[0; 9]].concat(), |e| {
            matches!(e, Error::Weights(WeightsError::TrailingBytes { .. }))
        }),
        ("a header of 2^64 - 1 bytes", [&[0xff; 8], &good[8..]].concat(), |e| {
            matches!(e, Error::Weights(WeightsError::HeaderTooLarge { declared: u64::MAX, .. }))
        }),
        ("a picture for weights", bent::png(64, 64), |e| matches!(e, Error::Weights(_))),
        (
            "overlapping tensors",
            bent::header(|h| {
                let twin = h["features.3.conv.1.1.bias"]["data_offsets"].clone();
                h["features.3.conv.1.1.weight"]["data_offsets"] = twin;
            }),
            |e| matches!(e, Error::Weights(WeightsError::Overlap { .. })),
        ),
        (
            "a lie about the type",
            bent::header(|h| h[MIDDLE]["dtype"] = "F64".into()),
            |e| matches!(e, Error::Weights(WeightsError::SizeMismatch { tensor, .. }) if tensor == MIDDLE),
        ),
        (
            "a shape beyond counting",
            bent::header(|h| h[MIDDLE]["shape"] = serde_json::json!([u64::MAX, u64::MAX])),
            |e| matches!(e, Error::Weights(WeightsError::ShapeOverflow { tensor, .. }) if tensor == MIDDLE),
        ),
        ("a transposed weight", bent::tensor(LAST, |t| t.shape.reverse()), |e| match e {
            Error::Tensors { problems, .. } => {
                problems.0.iter().any(|p| matches!(p, Problem::Shape { name, .. } if name == LAST))
            }
            _ => false,
        }),
        ("a renamed weight", bent::tensor(LAST, |t| t.name = "head.weight".to_owned()), |e| match e {
            Error::Tensors { problems, .. } => {
                let missing = |p: &Problem| matches!(p, Problem::Missing { name, .. } if name == LAST);
                let foreign = |p: &Problem| matches!(p, Problem::Unexpected { name } if name == "head.weight");
                problems.0.iter().any(missing) && problems.0.iter().any(foreign)
            }
            _ => false,
        }),
        ("not a number", bent::element(MIDDLE, 5, 0x7e00), |e| constant(e, &[MIDDLE, "NaN", "element 5"])),
        ("an infinite weight", bent::element(LAST, 77, 0xfc00), |e| constant(e, &[LAST, "-inf", "element 77"])),
        ("a negative variance", bent::element(VARIANCE, 2, 0xbc00), |e| {
            constant(e, &["features.3.conv.1", "variance", "channel 2"])
        }),
        (
            "bytes without a scale",
            bent::tensor(LAST, |t| {
                let half = t.bytes.len() / 2;
                t.dtype = Dtype::I8;
                t.bytes.to_mut().truncate(half);
            }),
            |e| constant(e, &[LAST, "I8"]),
        ),
    ]
}

#[test]
fn bad_weights_are_refused_by_name() {
    let parent = tempfile::tempdir().unwrap();
    let cases: Vec<_> = cases()
        .into_iter()
        .enumerate()
        .map(|(at, (what, bytes, right))| (what, bent::folder(parent.path(), &at.to_string(), &bytes), right))
        .collect();
    for (name, gpu) in devices() {
        let healthy = Healthy::new(&gpu);
        for (what, folder, right) in &cases {
            let error = healthy.load(folder);
            assert!(right(&error), "{what} on {name}: {error:?}");
            healthy.check(what);
        }
    }
}

#[test]
fn missing_files_are_told_apart() {
    let parent = tempfile::tempdir().unwrap();
    let healthy = Healthy::new(&Gpu::cpu_executor());
    let nowhere = parent.path().join("nowhere");
    assert!(matches!(healthy.load(&nowhere), Error::Missing { path } if path.ends_with("nowhere")));
    assert!(matches!(healthy.load(parent.path()), Error::NoWeights { .. }));
    let nested = parent.path().join("nested");
    std::fs::create_dir_all(nested.join("model.safetensors")).unwrap();
    assert!(matches!(healthy.load(&nested), Error::Weights(WeightsError::NotAFile { .. })));
    let folder = bent::folder(parent.path(), "config", &bent::good());
    std::fs::write(folder.join("config.json"), b"{\"num_classes\": ").unwrap();
    let error = healthy.load(&folder);
    assert!(error.to_string().contains("config.json is not valid JSON"), "{error:?}");
    healthy.check("missing files");
}

#[test]
fn bad_pictures_are_refused() {
    let limits = Limits::default();
    let huge = decode_image("huge.png", &bent::png(60_000, 60_000), &limits);
    assert!(matches!(huge, Err(DecodeError::Pixels { width: 60_000, height: 60_000, .. })), "{huge:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        decode_file(&path, &limits)
    };
    assert!(matches!(file("empty.jpg", b""), Err(DecodeError::Empty { .. })));
    assert!(matches!(file("text.jpg", b"The quick brown fox."), Err(DecodeError::NotAPicture { .. })));
    assert!(matches!(file("model.png", &bent::good()), Err(DecodeError::NotAPicture { .. })));
    assert!(matches!(file("cut.png", &bent::png(8, 8)), Err(DecodeError::Truncated { .. })));
    assert!(matches!(decode_file(folder.path(), &limits), Err(DecodeError::Folder { .. })));
    assert!(matches!(decode_file(&folder.path().join("none.jpg"), &limits), Err(DecodeError::Read { .. })));

    for (name, gpu) in devices() {
        let healthy = Healthy::new(&gpu);
        let bytes = healthy.classify(Input::rgba8(vec![0u8; 15], 2, 2));
        assert!(matches!(bytes, Error::PixelBytes { expected: 16, found: 15, .. }), "{name}: {bytes:?}");
        let claim = healthy.classify(Input::rgba8(vec![0u8; 16], u32::MAX, u32::MAX));
        assert!(matches!(claim, Error::PixelBytes { found: 16, .. }), "{name}: {claim:?}");
        for (x, y, width, height) in [(1, 0, 2, 2), (0, 2, 1, 1), (0, 0, 0, 1), (u32::MAX, 0, u32::MAX, 1)] {
            let area = Area { x, y, width, height };
            let crop = healthy.classify(Input::rgba8(vec![0u8; 16], 2, 2).crop(area));
            assert!(matches!(crop, Error::Crop { width: 2, height: 2, .. }), "{name}: {crop:?}");
        }
        let none = healthy.classify(Input::rgba8(Vec::new(), 0, 0));
        assert!(matches!(none, Error::Crop { width: 0, height: 0, .. }), "{name}: {none:?}");
        let inputs = [Input::rgba8(picture(), SIDE, SIDE), Input::rgba8(vec![0u8; 3], 1, 1)];
        let batch = gpu.block_on(healthy.classifier.classify_batch(&inputs)).unwrap_err();
        assert!(matches!(batch, Error::PixelBytes { expected: 4, found: 3, .. }), "{name}: {batch:?}");
        let values = gpu.block_on(healthy.classifier.classify_normalized(&[0.5; 1000])).unwrap_err();
        assert!(matches!(values, Error::Length { found: 1000, .. }), "{name}: {values:?}");
        assert!(gpu.block_on(healthy.classifier.classify_batch(&[])).unwrap().is_empty());
        healthy.check("bad pictures");
    }
}

#[test]
fn wishes_that_cannot_be_are_refused() {
    for (name, gpu) in devices() {
        let healthy = Healthy::new(&gpu);
        for side in [0, 100, 1 << 20] {
            let options = ClassifierOptions::default().side(side);
            let error = gpu.block_on(Classifier::load_with(&gpu, &fixture(NETWORK), options, |_| ())).unwrap_err();
            let right = matches!(&error, Error::Unsupported { key, .. } if key == "side");
            assert!(right, "a side of {side} on {name}: {error:?}");
        }
        let labels = ["one", "two"].map(str::to_owned).to_vec();
        let error = healthy.classifier.set_labels("labels.txt", labels).unwrap_err();
        assert!(matches!(error, Error::LabelCount { labels: 2, classes: 10, .. }), "{name}: {error:?}");
        healthy.check("wrong wishes");

        if gpu.is_cpu_executor() {
            continue;
        }
        let limit = gpu.caps().max_binding_bytes.min(gpu.caps().max_buffer_bytes);
        let images = (limit / u64::from(SIDE * SIDE * 4)) as usize + 1;
        let error = gpu.block_on(healthy.classifier.executor(images, Pixels::Rgba8)).unwrap_err();
        let right = matches!(&error, Error::Engine(EngineError::TooLarge { bytes, limit: l, .. }) if *l == limit && *bytes > limit);
        assert!(right, "{images} images on {name}: {error:?}");
        healthy.check("too large a batch");
    }
}

#[test]
fn a_budget_is_kept_before_anything_is_allocated() {
    let open = |options: GpuOptions| pollster::block_on(Gpu::with(options.adapter(AdapterChoice::Best))).unwrap();
    let gpu = open(GpuOptions::default());
    if gpu.is_cpu_executor() {
        assert!(!required("adapters"), "LAMPYRIS_REQUIRE asks for adapters and there are none");
        eprintln!("SKIPPED: no adapter; `cargo xtask test` installs software adapters");
        return;
    }
    let plan = Healthy::new(&gpu).classifier.plan(1, Pixels::Rgba8).unwrap();
    let needed = plan.bytes().total();

    let poor = open(GpuOptions::default().budget(needed - 1));
    let allocated = |gpu: &Gpu| gpu.device().unwrap().generate_allocator_report().map(|r| r.total_allocated_bytes);
    let before = allocated(&poor);
    let mut told = 0;
    let path = fixture(NETWORK);
    let load = Classifier::load_with(&poor, &path, ClassifierOptions::default(), |_| told += 1);
    let error = poor.block_on(load).unwrap_err();
    match &error {
        Error::Engine(EngineError::Budget { needed: n, weights, activations, held, budget, .. }) => {
            assert_eq!((*n, *budget, weights + activations, *held), (needed, needed - 1, needed, 0));
        }
        _ => panic!("{error:?}"),
    }
    for figure in [needed, needed - 1, plan.bytes().weights] {
        assert!(error.to_string().contains(&figure.to_string()), "{error}");
    }
    assert_eq!((told, allocated(&poor)), (0, before), "weights were uploaded, or memory was taken");
    // Just enough for the network leaves no room for the plan that prepares its pictures.
    let tight = open(GpuOptions::default().budget(needed));
    let classifier = tight.block_on(Classifier::load(&tight, &path)).unwrap();
    assert_eq!(tight.held_bytes(), needed);
    let picture = || Input::rgba8(vec![7; 40 * 30 * 4], 40, 30);
    let error = tight.block_on(classifier.classify(picture())).unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::Budget { held, .. }) if held == needed), "{error:?}");
    // What both take together is enough, and given back with the classifier.
    let classifier = gpu.block_on(Classifier::load(&gpu, &path)).unwrap();
    gpu.block_on(classifier.classify(picture())).unwrap();
    let all = gpu.held_bytes();
    drop(classifier);
    assert_eq!((all > needed, gpu.held_bytes()), (true, 0));
    let rich = open(GpuOptions::default().budget(all));
    let classifier = rich.block_on(Classifier::load(&rich, &path)).unwrap();
    rich.block_on(classifier.classify(picture())).unwrap();
    // Another batch takes the room of what can be made again.
    let larger = classifier.plan(2, Pixels::Rgba8).unwrap().bytes();
    let fits = larger.total() <= all;
    assert_eq!(rich.block_on(classifier.executor(2, Pixels::Rgba8)).is_ok(), fits, "{larger:?} of {all}");
    rich.block_on(classifier.classify(picture())).unwrap();
}

/// The files that fuzzing starts from, through what the fuzz targets do with them: as they are, and cut off at every byte.
#[test]
fn the_corpus_of_the_fuzz_targets_is_read() {
    type Entry = fn(&[u8]) -> bool;
    let targets: [(&str, Entry, usize); 4] = [
        ("gguf", fuzzed::gguf, 5),
        ("safetensors", fuzzed::safetensors, 3),
        ("model", fuzzed::model, 2),
        ("template", fuzzed::template, 9),
    ];
    // One of the GGUF files is a part of two, which is refused alone.
    for (target, entry, least) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut read = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            read += usize::from(entry(&bytes));
            (0..bytes.len()).for_each(|end| _ = entry(&bytes[..end]));
        }
        assert!(read >= least, "{target}: {read} files of the corpus are read");
    }
}
