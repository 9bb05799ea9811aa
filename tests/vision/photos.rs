//! The whole path from a picture file to a class, against the reference's: decoding, preparing and the network in one.
//!
//! JPEG decoders differ by a few levels a pixel, so logits from a JPEG are only near the reference's; from the PNGs, which hold
//! what the reference decoded, they must be as near as the arithmetic is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::photos::{MODELS, Reference, SIDE, decode, input, json, names};
use crate::support::{Tensors, devices, full_tier, material, relative};
use lampyris::models::decode::Rgba8Image;
use lampyris::{Answer, Classifier, Gpu};
use std::path::Path;
use std::time::{Duration, Instant};

/// Logits from exactly the reference's pixels, relative to the largest: sums are taken in another order.
const SAME_PIXELS: f32 = 1e-3;
/// Logits from a JPEG that another decoder decoded, relative to the largest.
const OTHER_DECODER: f32 = 2e-2;
/// Levels by which one value of the prepared pixels may differ when another decoder decoded the JPEG.
const OTHER_DECODER_LEVELS: u8 = 8;
/// Photos in one run.
const BATCH: usize = 10;
/// Beside the eight photos with recorded pixels (the widest, tallest, smallest and the grayscale one among them), these make
/// the dozen of the short tier.
const OTHERS: [usize; 4] = [8, 34, 51, 95];

fn classify(gpu: &Gpu, classifier: &Classifier, pictures: &[&Rgba8Image]) -> Vec<Answer> {
    let batches = pictures.chunks(BATCH).flat_map(|batch| {
        let inputs: Vec<_> = batch.iter().map(|picture| input(picture)).collect();
        gpu.block_on(classifier.classify_batch(&inputs)).unwrap()
    });
    batches.collect()
}

/// How long one picture takes, once everything is made.
fn time(gpu: &Gpu, classifier: &Classifier, picture: &Rgba8Image) -> Duration {
    gpu.block_on(classifier.classify(input(picture))).unwrap();
    let start = Instant::now();
    gpu.block_on(classifier.classify(input(picture))).unwrap();
    start.elapsed()
}

/// The photos of `which` that are not classified as the reference classifies them, though it was sure.
fn disagreements(
    gpu: &Gpu,
    classifier: &Classifier,
    (photos, files): (&[Rgba8Image], &[String]),
    reference: &Reference,
    which: &[usize],
) -> (usize, Vec<String>) {
    let sure: Vec<usize> = which.iter().copied().filter(|at| reference.margin[*at] > 0.1).collect();
    let pictures: Vec<&Rgba8Image> = sure.iter().map(|at| &photos[*at]).collect();
    let answers = classify(gpu, classifier, &pictures);
    assert_eq!(answers.len(), sure.len());
    let wrong = sure.iter().zip(&answers).filter_map(|(at, answer)| {
        let top = answer.top(1)[0].index;
        let expected = reference.top[*at];
        (top != expected).then(|| format!("{}: {top} instead of {expected}", files[*at]))
    });
    (sure.len(), wrong.collect())
}

/// Indices of the eight photos with recorded pixels.
fn recorded(labels: &serde_json::Value) -> Vec<usize> {
    labels["pixels"]["index"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize).collect()
}

#[test]
fn every_sure_photo_is_classified_as_the_reference_does() {
    let Some(material) = material() else { return };
    let labels = json(&material.join("images/labels.json"));
    let files = names(&labels["images"], "file");
    let photos = decode(&material.join("images"), &files);
    assert_eq!(photos.len(), 100);
    let all: Vec<usize> = (0..photos.len()).collect();
    let dozen: Vec<usize> = recorded(&labels).into_iter().chain(OTHERS).collect();

    let devices = devices();
    let mut wrong = Vec::new();
    for model in MODELS {
        let folder = material.join(model);
        let reference = Reference::open(&folder);
        let start = Instant::now();
        let load = |(_, gpu): &(String, Gpu)| gpu.block_on(Classifier::load(gpu, &folder)).unwrap();
        let loaded: Vec<Classifier> = devices.iter().map(load).collect();
        let times: Vec<Duration> =
            devices.iter().zip(&loaded).map(|((_, gpu), classifier)| time(gpu, classifier, &photos[0])).collect();
        let fastest = (0..devices.len()).min_by_key(|at| times[*at]);
        eprintln!("{model}: loaded everywhere in {:.1} s", start.elapsed().as_secs_f32());
        for (at, ((name, gpu), classifier)) in devices.iter().zip(&loaded).enumerate() {
            let whole = full_tier() || (model == MODELS[0] && fastest == Some(at));
            let which = if whole { &all } else { &dozen };
            let start = Instant::now();
            let (sure, found) = disagreements(gpu, classifier, (&photos, &files), &reference, which);
            assert!(sure * 10 >= which.len() * 9, "the reference is sure of {sure} of {} only", which.len());
            eprintln!(
                "{model} on {name}: {} of {sure} as the reference, {:.1} s, {:?} for one",
                sure - found.len(),
                start.elapsed().as_secs_f32(),
                times[at]
            );
            wrong.extend(found.into_iter().map(|line| format!("{model} on {name}: {line}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn odd_files_give_the_reference_logits() {
    let Some(material) = material() else { return };
    let labels = json(&material.join("images/labels.json"));
    let images = material.join("images");
    let odd = names(&labels["odd"], "file");
    assert_eq!(odd.len(), 6);
    let pictures = decode(&images, &odd);
    let decoded = names(&labels["decoded"], "file").into_iter().zip(names(&labels["decoded"], "decoded"));
    let decoded: Vec<(String, String)> = decoded.filter(|(file, _)| odd.contains(file)).collect();
    assert_eq!(decoded.len(), 4);
    let exact = decode(&images, &decoded.iter().map(|(_, png)| png.clone()).collect::<Vec<_>>());

    let models = if full_tier() { &MODELS[..] } else { &MODELS[..1] };
    for model in models {
        let folder = material.join(model);
        let reference = Reference::open(&folder);
        for (name, gpu) in devices() {
            let classifier = gpu.block_on(Classifier::load(&gpu, &folder)).unwrap();
            let both: Vec<&Rgba8Image> = pictures.iter().chain(&exact).collect();
            let answers = classify(&gpu, &classifier, &both);
            let (mut same, mut other) = (0.0f32, 0.0f32);
            for (at, file) in odd.iter().enumerate() {
                let what = format!("{model} on {name}: {file}");
                match file.ends_with(".png") {
                    true => same = same.max(check(&what, &answers[at], &reference.odd[at], SAME_PIXELS)),
                    false => other = other.max(check(&what, &answers[at], &reference.odd[at], OTHER_DECODER)),
                }
            }
            for (answer, (file, png)) in answers[odd.len()..].iter().zip(&decoded) {
                let at = odd.iter().position(|other| other == file).unwrap();
                let what = format!("{model} on {name}: {png}");
                same = same.max(check(&what, answer, &reference.odd[at], SAME_PIXELS));
            }
            eprintln!("{model} on {name}: logits {same:e} off from lossless files, {other:e} from JPEGs");
        }
    }
}

/// Logits within a tolerance of the reference's, and the same top class where the reference is sure; gives how far off.
fn check(what: &str, answer: &Answer, reference: &[f32], tolerance: f32) -> f32 {
    let error = relative(&answer.logits, reference);
    let mut order: Vec<usize> = (0..reference.len()).collect();
    order.sort_by(|a, b| reference[*b].total_cmp(&reference[*a]));
    let margin = reference[order[0]] - reference[order[1]];
    assert!(error <= tolerance, "{what}: logits are {error:e} off, more than {tolerance:e}");
    if margin > 0.1 {
        assert_eq!(answer.top(1)[0].index, order[0], "{what}: another class");
    }
    error
}

/// The largest difference of a red, green or blue value, and the mean of all.
fn levels(prepared: &[u8], crop: &[u8]) -> (u8, f64) {
    assert_eq!((prepared.len(), crop.len()), (SIDE * SIDE * 4, SIDE * SIDE * 3));
    let colours = prepared.chunks_exact(4).flat_map(|pixel| &pixel[..3]);
    let apart: Vec<u8> = colours.zip(crop).map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = apart.iter().copied().map(f64::from).sum();
    (apart.iter().copied().max().unwrap(), sum / apart.len() as f64)
}

#[test]
fn prepared_pixels_are_the_reference_bit_for_bit() {
    let Some(material) = material() else { return };
    let images = material.join("images");
    let labels = json(&images.join("labels.json"));
    let files: Vec<String> = {
        let all = names(&labels["images"], "file");
        recorded(&labels).into_iter().map(|at| all[at].clone()).collect()
    };
    let crops = crops(&images);
    assert_eq!(crops.len(), files.len());
    let photos = decode(&images, &files);
    let lossless = names(&labels["decoded"], "file").into_iter().zip(names(&labels["decoded"], "decoded"));
    let lossless: Vec<(usize, String)> =
        lossless.filter_map(|(file, png)| files.iter().position(|other| *other == file).map(|at| (at, png))).collect();
    assert_eq!(lossless.len(), 2);
    let exact = decode(&images, &lossless.iter().map(|(_, png)| png.clone()).collect::<Vec<_>>());

    for (name, gpu) in devices() {
        let classifier = gpu.block_on(Classifier::load(&gpu, &material.join(MODELS[0]))).unwrap();
        let prepared = |picture| gpu.block_on(classifier.prepared_pixels(input(picture))).unwrap();
        for ((at, png), picture) in lossless.iter().zip(&exact) {
            let (most, _) = levels(&prepared(picture), &crops[*at]);
            assert_eq!(most, 0, "{png} on {name}: a value differs by {most} levels");
        }
        let mut worst = (0, 0.0f64);
        for ((file, photo), crop) in files.iter().zip(&photos).zip(&crops) {
            let (most, mean) = levels(&prepared(photo), crop);
            worst = (worst.0.max(most), worst.1.max(mean));
            assert!(
                most <= OTHER_DECODER_LEVELS && mean < 0.5,
                "{file} on {name}: {most} levels off, {mean} on average"
            );
        }
        eprintln!("{name}: JPEGs at most {} levels off, {:.3} on average in the worst", worst.0, worst.1);
    }
}

/// The reference's prepared pixels, RGB, of each photo that has them.
fn crops(images: &Path) -> Vec<Vec<u8>> {
    let bytes = Tensors::open(&images.join("pixels.safetensors")).bytes("crop_u8");
    bytes.chunks(SIDE * SIDE * 3).map(<[u8]>::to_vec).collect()
}
