//! `lampyris` alone: a minute's tour. This machine's adapter, three drawings named and a story told by the bundled models, and
//! where to go next.

use crate::args::DeviceArguments;
use crate::drawing;
use crate::failure::Failure;
use crate::terminal::{Style, Wrapped};
use crate::{device, generate, output};
use lampyris::models::decode::{Limits, Rgba8Image, decode_image};
use lampyris::text::{Conversation, Message};
use lampyris::text_model::TextModel;
use lampyris::{AdapterKind, Answer, AnswerOptions, Classifier, Gpu, Input, Sampling, bundled};
use std::time::Instant;

/// What the storyteller is asked for, and what it is asked about that.
const REQUEST: &str = "Write a story about Mia and a lantern.";
const QUESTION: &str = "What colour was the lantern?";
/// Most tokens of an answer, and the room for all of them.
const MOST: usize = 300;
const ROOM: usize = 400;
/// Characters of a line, margins included.
const WIDTH: usize = 78;
/// Classes of a drawing that are listed.
const LISTED: usize = 3;

/// Where to go from here: what to type, and what it does.
const NEXT: [(&str, &str); 6] = [
    ("lampyris classify PICTURE", "name a drawing of yours; with --model, a photo"),
    ("lampyris chat", "ask for a story, then ask about it"),
    ("lampyris doctor", "is every kernel right on this machine's adapter?"),
    ("lampyris pull ORG/NAME", "fetch a larger model; nothing else goes online"),
    ("lampyris bench --model MODEL", "how fast, and how near the adapter's limits"),
    ("lampyris help", "everything else"),
];

/// Shows the adapter and the bundled models at work.
pub(crate) fn run(arguments: &DeviceArguments) -> Result<(), Failure> {
    let (start, style) = (Instant::now(), Style::of_stdout());
    let gpu = device::open(arguments)?;
    let version = env!("CARGO_PKG_VERSION");
    output::print(&format!(
        "{} {version}: neural networks as shaders, on this machine, offline\n\n",
        style.bold("lampyris")
    ))?;
    output::print(&adapter(&gpu, style))?;
    drawings(&gpu, style)?;
    story(&gpu, style)?;
    let next: Vec<String> =
        NEXT.iter().map(|(typed, does)| format!("  {}{does}\n", style.bold(&format!("{typed:30}")))).collect();
    let seconds = start.elapsed().as_secs_f64();
    output::print(&format!(
        "{}\n{}\n{}\n",
        style.bold("where to go next"),
        next.concat(),
        style.dim(&format!("{seconds:.1} s in all, nothing downloaded, no picture and no text left this machine"))
    ))
}

/// What runs the models.
fn adapter(gpu: &Gpu, style: Style) -> String {
    let summary = gpu.summary();
    let kind = match summary.kind {
        AdapterKind::Software => "a program on the CPU that acts as a GPU; a real one is many times faster",
        AdapterKind::CpuExecutor => "no GPU in use: the kernels' twins in plain Rust, which are exact and slow",
        _ => "a GPU",
    };
    let name = output::one_line(&summary.to_string());
    let lines = [style.bold("adapter"), wrapped(&name), style.dim(&wrapped(kind))];
    lines.join("\n") + "\n\n"
}

/// `text` in lines with a margin.
fn wrapped(text: &str) -> String {
    let mut page = Wrapped::new(WIDTH);
    let mut lines = page.push(text);
    lines += &page.finish();
    lines
}

/// Three drawings and what the bundled classifier takes them for.
fn drawings(gpu: &Gpu, style: Style) -> Result<(), Failure> {
    let start = Instant::now();
    let classifier = gpu.block_on(Classifier::bundled(gpu))?;
    let loaded = start.elapsed().as_secs_f64();
    let classes = classifier.network().spec().classes;
    let kilobytes = classifier.network().weights().total_bytes().div_ceil(1000);
    output::print(&format!(
        "{}, named by a model of {kilobytes} kB that knows {classes} things\n\n",
        style.bold("three drawings")
    ))?;
    let (mut seen, mut times) = (Vec::new(), Vec::new());
    for sample in &bundled::SAMPLES {
        let picture = decode_image(sample.label, sample.png, &Limits::default())?;
        let start = Instant::now();
        let answer = gpu.block_on(classifier.classify(Input::from(&picture)))?;
        times.push(start.elapsed().as_secs_f64());
        seen.push((picture, answer));
    }
    let [first, rest @ ..] = &times[..] else { return Ok(()) };
    let later = rest.iter().sum::<f64>() / rest.len().max(1) as f64;
    let table = if style.draws { side_by_side(&seen) } else { listed(&seen) };
    let times =
        format!("{:.1} s until the first was named, {:.1} ms for each of the others", loaded + first, 1e3 * later);
    output::print(&format!("{table}\n{}\n\n", style.dim(&wrapped(&times))))
}

/// The drawings beside each other, each above its likeliest classes.
fn side_by_side(seen: &[(Rgba8Image, Answer)]) -> String {
    let drawn: Vec<Vec<String>> = seen.iter().map(|(picture, _)| drawing::braille(picture)).collect();
    let bars: Vec<Vec<String>> = seen.iter().map(|(_, answer)| bars(answer, drawing::COLUMNS)).collect();
    let row = |columns: &[Vec<String>], at: usize| {
        let cells: Vec<&str> = columns.iter().filter_map(|column| column.get(at)).map(String::as_str).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    let drawn = (0..drawing::ROWS).map(|at| row(&drawn, at));
    let bars = (0..LISTED).map(|at| row(&bars, at));
    drawn.chain(["\n".to_owned()]).chain(bars).collect()
}

/// The likeliest classes, a line of `width` characters each.
fn bars(answer: &Answer, width: usize) -> Vec<String> {
    let line = |p: lampyris::Prediction| {
        let (label, percent) = (output::one_line(&p.label), format!("{:.1} %", 100.0 * p.probability));
        let bar = output::bar(p.probability, width - 10 - 8);
        format!("{label:9} {bar}{percent:>8}")
    };
    answer.top(LISTED).into_iter().map(line).collect()
}

/// The likeliest classes of each drawing, below its name.
fn listed(seen: &[(Rgba8Image, Answer)]) -> String {
    let mut text = String::new();
    for (sample, (_, answer)) in bundled::SAMPLES.iter().zip(seen) {
        text += &format!("  drawn: {}\n", sample.label);
        for p in answer.top(LISTED) {
            let (percent, bar) = (100.0 * p.probability, output::bar(p.probability, 24));
            text += &format!("    {percent:5.1} %  {bar}  {}\n", output::one_line(&p.label));
        }
    }
    text
}

/// A story by the bundled storyteller, as it is written, and an answer about it.
fn story(gpu: &Gpu, style: Style) -> Result<(), Failure> {
    let start = Instant::now();
    let model = TextModel::bundled(gpu)?;
    let kilobytes = bundled::storyteller()?.decoder.weights.tensors().map(|it| it.bytes).sum::<u64>().div_ceil(1000);
    output::print(&format!("{}, told by a model of {kilobytes} kB, token by token\n\n", style.bold("a story")))?;
    let mut session = gpu.block_on(model.session(ROOM))?;
    let (mut turns, mut first) = (Vec::new(), None);
    let (mut tokens, mut seconds) = (0, 0.0);
    for asked in [REQUEST, QUESTION] {
        output::print(&format!("{}\n\n", style.dim(&wrapped(&format!("> {asked}")))))?;
        turns.push(Message::user(asked));
        let options = AnswerOptions::new(MOST).sampling(Sampling::greedy());
        let mut answer = gpu.block_on(session.chat(&Conversation::new(turns.iter().cloned()), options))?;
        let (mut page, mut said, mut begun) = (Wrapped::new(WIDTH), String::new(), Instant::now());
        while let Some(piece) = gpu.block_on(answer.next())? {
            if said.is_empty() {
                // What comes before the first word is no part of the speed.
                begun = Instant::now();
            }
            first.get_or_insert_with(|| start.elapsed().as_secs_f64());
            output::print(&page.push(&output::printable(&piece)))?;
            said += &piece;
        }
        tokens += answer.ids().len().saturating_sub(1);
        seconds += begun.elapsed().as_secs_f64();
        output::print(&format!("{}\n\n", page.finish()))?;
        turns.push(Message::assistant(said));
    }
    let rate = generate::rate(tokens, seconds);
    let times = format!("{:.1} s until the first word, then {rate:.1} tokens/s", first.unwrap_or_default());
    output::print(&format!("{}\n\n", style.dim(&wrapped(&times))))
}
