//! `lampyris quantize`: a model with smaller weights, and what that costs: bytes, errors, and answers that change.

mod text;

use crate::args::{DeviceArguments, Format, Quantize};
use crate::failure::Failure;
use crate::texts::{self, Kind};
use crate::{device, output, pictures};
use lampyris::engine::weights::{TensorFile, write_safetensors};
use lampyris::models::classifier::open_network;
use lampyris::models::decode::{Limits, decode_file};
use lampyris::models::decoder::Recipe;
use lampyris::models::mobilenet::quantize::{Quantized, quantize_int8};
use lampyris::models::source::read_small;
use lampyris::{Classifier, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest configuration that is copied, in bytes.
const MOST_CONFIG: u64 = 16 << 20;

/// The files beside the weights.
const BESIDE: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// Writes the model in the format that was asked for, which must be one for its kind.
pub(crate) fn run(job: &Quantize, arguments: &DeviceArguments) -> Result<(), Failure> {
    let model = job.model.display().to_string();
    if let (Kind::Pictures, Some(option)) = (texts::kind(&job.model), job.products.given()) {
        return Err(Failure::OtherKind { option, kind: "language models", model });
    }
    match (texts::kind(&job.model), job.format) {
        (Kind::Encoder, _) => Err(Failure::NotQuantized { model }),
        (Kind::Language, Format::Blocks(recipe)) => text::run(job, arguments, recipe),
        (Kind::Language, Format::Int8) => {
            let known: Vec<&str> = Recipe::known().map(Recipe::name).collect();
            let (kind, found) = ("a language model", "int8".to_owned());
            Err(Failure::Format { model, kind, found, known: known.join(", ") })
        }
        (Kind::Pictures, Format::Blocks(format)) if job.model.exists() => {
            if job.model.is_file() {
                TensorFile::open(&job.model).map_err(lampyris::Error::from)?;
            }
            let (kind, known) = ("a network for pictures, or none", "int8".to_owned());
            Err(Failure::Format { model, kind, found: format.to_string(), known })
        }
        (Kind::Pictures, _) if job.text.is_some() => {
            Err(Failure::OtherKind { option: "--text", kind: "language models", model })
        }
        (Kind::Pictures, _) => of_pictures(job, arguments),
    }
}

/// Quantizes a network for pictures, compares it on pictures when there are any, writes it, and reports.
fn of_pictures(job: &Quantize, arguments: &DeviceArguments) -> Result<(), Failure> {
    let network = open_network(&Source::from(&job.model))?;
    let files = job.images.as_ref().map(|folder| pictures::files(std::slice::from_ref(folder))).transpose()?;
    let file = target(&job.out);
    refuse_the_source(Path::new(network.weights().file()), &file)?;
    let quantized = quantize_int8(&network)?;
    // Compared first, so that a picture that cannot be read leaves nothing behind.
    let agreement = files.map(|files| agreement(job, arguments, &quantized, &files)).transpose()?;
    write(&quantized, &job.model, &file)?;

    let before = network.weights().total_bytes();
    let mut text = format!("{}\n  bytes   {before} before, {} after\n", file.display(), quantized.bytes());
    if let Some((same, all)) = agreement {
        let percent = 100.0 * same as f64 / all as f64;
        text += &format!("  top-1   the same for {same} of {all} pictures ({percent:.1} %)\n");
    }
    text += "  error   worst, relative to the largest weight; rms, relative to that of the weights\n";
    for e in &quantized.errors {
        let (worst, rms) = (100.0 * e.worst, 100.0 * e.rms);
        text += &format!("  {worst:6.3} %  {rms:6.3} %  {} {:?}\n", output::one_line(&e.name), e.shape);
    }
    output::print(&text)
}

/// The weights file that `out` means: itself, or `model.safetensors` in a folder.
fn target(out: &Path) -> PathBuf {
    match out.extension().is_some_and(|ending| ending == "safetensors") && !out.is_dir() {
        true => out.to_owned(),
        false => out.join("model.safetensors"),
    }
}

fn refuse_the_source(source: &Path, target: &Path) -> Result<(), Failure> {
    match (source.canonicalize(), target.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => Err(Failure::Overwrites { path: target.display().to_string() }),
        _ => Ok(()),
    }
}

/// Writes the weights to `file`, and beside it the configuration that is beside the original.
fn write(quantized: &Quantized, model: &Path, file: &Path) -> Result<(), Failure> {
    let unwritable = |path: &Path| {
        let path = path.display().to_string();
        move |source| Failure::Unwritable { path, source }
    };
    let parent = |path: &Path| match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_owned(),
        None => PathBuf::from("."),
    };
    let (from, to) = (if model.is_dir() { model.to_owned() } else { parent(model) }, parent(file));
    // All that goes beside the weights is read, and what would be replaced is looked for, before anything is written.
    let mut copies = Vec::new();
    for (source, copy) in BESIDE.map(|name| (from.join(name), to.join(name))) {
        let same = source.canonicalize().ok() == copy.canonicalize().ok();
        if !source.exists() || same {
            continue;
        }
        let bytes = said_folded(&read_small(&source, MOST_CONFIG)?);
        if copy.exists() && read_small(&copy, MOST_CONFIG)? != bytes {
            return Err(Failure::Replaces { path: copy.display().to_string() });
        }
        copies.push((copy, bytes));
    }
    std::fs::create_dir_all(&to).map_err(unwritable(&to))?;
    let metadata = [
        ("format", "pt"),
        (
            "weights",
            "int8 symmetric per output channel: multiply each by its channel's weight_scale; batch norm folded",
        ),
    ];
    let metadata: BTreeMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    write_safetensors(file, &quantized.tensors, &metadata).map_err(lampyris::Error::from)?;
    for (copy, bytes) in copies {
        std::fs::write(&copy, bytes).map_err(unwritable(&copy))?;
    }
    Ok(())
}

/// A configuration whose batch norms are folded; what says nothing of them is left as it is.
fn said_folded(bytes: &[u8]) -> Vec<u8> {
    let Ok(serde_json::Value::Object(mut map)) = serde_json::from_slice(bytes) else { return bytes.to_vec() };
    if !map.contains_key("bn") {
        return bytes.to_vec();
    }
    map.insert("bn".to_owned(), "folded".into());
    serde_json::to_vec_pretty(&map).unwrap_or_else(|_| bytes.to_vec())
}

/// For how many of the pictures both models say the same, and how many there are.
fn agreement(
    job: &Quantize,
    arguments: &DeviceArguments,
    quantized: &Quantized,
    files: &[PathBuf],
) -> Result<(usize, usize), Failure> {
    let folder = tempfile::tempdir().map_err(Failure::Temporary)?;
    write(quantized, &job.model, &folder.path().join("model.safetensors"))?;
    let gpu = device::open(arguments)?;
    let original = gpu.block_on(Classifier::load(&gpu, &job.model))?;
    let small = gpu.block_on(Classifier::load(&gpu, folder.path()))?;
    let progress = output::progress(files.len(), "comparing");
    let mut same = 0;
    for file in files {
        let picture = decode_file(file, &Limits::default())?;
        let mut top = Vec::with_capacity(2);
        for classifier in [&original, &small] {
            let answers = pictures::classify(classifier, &[(&picture).into()], std::slice::from_ref(file))?;
            top.extend(answers.iter().flat_map(|answer| answer.top(1)).map(|p| p.index));
        }
        same += usize::from(top[0] == top[1]);
        progress.inc(1);
    }
    progress.finish_and_clear();
    device::say_kind(&gpu);
    Ok((same, files.len()))
}
