//! `lampyris classify`: what is in pictures. Answers are kept until all of them are there, so that none is printed in vain.

use crate::args::{Classify, DeviceArguments};
use crate::failure::Failure;
use crate::model::{Chosen, Loaded};
use crate::{device, output, pictures};
use lampyris::models::decode::{DecodeError, Rgba8Image};
use lampyris::models::labels::parse_labels;
use lampyris::models::mobilenet::Pixels;
use lampyris::{Answer, Classifier, Gpu, Input};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// Characters of a bar.
const BAR: usize = 24;

/// What is said of one picture.
#[derive(Debug, Serialize)]
struct Line {
    image: String,
    model: String,
    adapter: String,
    backend: String,
    latency_ms: f64,
    predictions: Vec<Prediction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Vec<f32>>,
}

#[derive(Debug, Serialize)]
struct Prediction {
    index: usize,
    label: String,
    probability: f32,
}

/// Classifies the pictures that `job` names and prints what is in them.
pub(crate) fn run(job: &Classify, arguments: &DeviceArguments) -> Result<(), Failure> {
    let files = pictures::files(&job.images)?;
    let labels = job.labels.as_deref().map(read_labels).transpose()?;
    let chosen = Chosen::classifier(job.model.model.as_deref())?;
    let gpu = device::open(arguments)?;
    let Loaded { model: classifier, name, note } = chosen.load_classifier(&gpu, job.model.options())?;
    if let Some((file, labels)) = labels {
        classifier.set_labels(&file, labels)?;
    }
    let lines = classify(job, &classifier, &name, &files)?;
    note.into_iter().for_each(output::note);
    device::say_kind(&gpu);
    let text = if job.json { as_json(&lines)? } else { as_text(&lines, &gpu) };
    output::print(&text)
}

/// The largest file of labels that is read, in bytes.
const MOST_LABELS: u64 = 16 << 20;

fn read_labels(path: &Path) -> Result<(String, Vec<String>), Failure> {
    let file = path.display().to_string();
    let bytes = lampyris::models::source::read_small(path, MOST_LABELS)?;
    let labels = parse_labels(&file, &bytes)?;
    Ok((file, labels))
}

/// All answers, in the order of `files`; the next pictures are decoded while the device works.
fn classify(job: &Classify, classifier: &Classifier, model: &str, files: &[PathBuf]) -> Result<Vec<Line>, Failure> {
    let batch = usize::from(job.batch);
    let progress = output::progress(files.len(), "classifying");
    warm_up(classifier)?;
    let lines = std::thread::scope(|scope| {
        // Without room: a decoded group waits for the one before it, and no third is begun.
        let (sender, decoded) = sync_channel(0);
        scope.spawn(move || pictures::decode_all(files, batch, &sender));
        answer_all((job, model), classifier, files, decoded, &|images| progress.inc(images as u64))
    });
    progress.finish_and_clear();
    lines
}

/// Compiles what prepares pictures before the first run is timed.
fn warm_up(classifier: &Classifier) -> Result<(), Failure> {
    let gpu = classifier.gpu();
    if !gpu.is_cpu_executor() {
        gpu.block_on(classifier.classify(Input::rgba8(vec![128; 8 * 8 * 4], 8, 8)))?;
    }
    Ok(())
}

fn answer_all(
    (job, model): (&Classify, &str),
    classifier: &Classifier,
    files: &[PathBuf],
    decoded: Receiver<Result<Vec<Rgba8Image>, DecodeError>>,
    done: &dyn Fn(usize),
) -> Result<Vec<Line>, Failure> {
    let gpu = classifier.gpu();
    let mut lines = Vec::with_capacity(files.len());
    let mut rest = files;
    for group in decoded {
        let group = group?;
        let (names, after) = rest.split_at(group.len().min(rest.len()));
        rest = after;
        let inputs: Vec<Input<'_>> = group.iter().map(Input::from).collect();
        // A group of a size that is new is compiled before it is timed.
        gpu.block_on(classifier.executor(group.len(), Pixels::Rgba8))?;
        let start = Instant::now();
        let answers = pictures::classify(classifier, &inputs, names)?;
        let latency_ms = start.elapsed().as_secs_f64() * 1e3;
        for (answer, file) in answers.iter().zip(names) {
            lines.push(line((job, model), gpu, file, answer, latency_ms));
        }
        done(group.len());
    }
    Ok(lines)
}

fn line((job, model): (&Classify, &str), gpu: &Gpu, file: &Path, answer: &Answer, latency_ms: f64) -> Line {
    let top = answer.top(usize::from(job.top)).into_iter();
    Line {
        image: file.display().to_string(),
        model: model.to_owned(),
        adapter: gpu.summary().name.clone(),
        backend: gpu.summary().backend.clone(),
        latency_ms: (latency_ms * 1e3).round() / 1e3,
        predictions: top.map(|p| Prediction { index: p.index, label: p.label, probability: p.probability }).collect(),
        features: job.features.then(|| answer.features.clone()),
    }
}

fn as_json(lines: &[Line]) -> Result<String, Failure> {
    lines.iter().map(output::json).collect()
}

fn as_text(lines: &[Line], gpu: &Gpu) -> String {
    let mut text = String::new();
    if let Some(first) = lines.first() {
        text += &format!("{} on {}\n", output::one_line(&first.model), gpu.summary());
    }
    for line in lines {
        text += &format!("\n{}  ({:.1} ms)\n", output::one_line(&line.image), line.latency_ms);
        for p in &line.predictions {
            let (percent, bar) = (100.0 * p.probability, output::bar(p.probability, BAR));
            text += &format!("  {percent:5.1} %  {bar}  {}\n", output::one_line(&p.label));
        }
    }
    text
}
