//! `lampyris quantize` of a language model: a GGUF file in smaller blocks, and what that costs.

use crate::args::{DeviceArguments, Quantize};
use crate::failure::Failure;
use crate::{device, output, texts};
use lampyris::engine::weights::TensorFile;
use lampyris::engine::weights::gguf::MetadataValue;
use lampyris::models::decoder::{Conversion, Recipe};
use lampyris::models::source::read_small;
use lampyris::text_model::{TextFiles, TextModel};

use std::path::{Path, PathBuf};

/// The largest text that is measured on, in bytes.
const MOST_TEXT: u64 = 64 << 20;

/// Writes the model in blocks as `recipe` says, and reports.
pub(super) fn run(job: &Quantize, arguments: &DeviceArguments, recipe: Recipe) -> Result<(), Failure> {
    if job.images.is_some() {
        let (option, kind) = ("--images", "networks for pictures");
        return Err(Failure::OtherKind { option, kind, model: job.model.display().to_string() });
    }
    if let (None, Some(option)) = (&job.text, job.products.given()) {
        return Err(Failure::NoMeasure { option });
    }
    if job.out.extension().is_none_or(|ending| ending != "gguf") || job.out.is_dir() {
        return Err(Failure::NoGguf { path: job.out.display().to_string() });
    }
    let (files, more) = open(&job.model)?;
    for part in parts(&files.decoder.weights) {
        super::refuse_the_source(&part, &job.out)?;
    }
    let conversion = Conversion::new(&files.decoder, recipe, more)?;
    let text = job.text.as_deref().map(read).transpose()?;
    let products = job.products.products();
    // Measured first, so that a text that cannot be read leaves nothing behind.
    let measured = match (&text, &job.text) {
        (Some(text), Some(path)) => {
            let gpu = device::open(arguments)?;
            let before = texts::perplexity(&gpu, &TextModel::new(&gpu, files)?, (text, path), products)?.0;
            Some((gpu, text, path, before))
        }
        _ => None,
    };

    let (before, after) = conversion.bytes();
    let progress = output::progress(after as usize, "writing");
    let errors = conversion.write(&job.out, |bytes| progress.inc(bytes))?;
    progress.finish_and_clear();
    let mut report =
        format!("{}\n  bytes       {before} before, {after} after\n", output::one_line(&job.out.display().to_string()));
    if let Some((gpu, text, path, before)) = measured {
        let written = gpu.block_on(TextModel::load(&gpu, &job.out))?;
        let after = texts::perplexity(&gpu, &written, (text, path), products)?.0;
        let asked = job.products.given().map(|_| format!(", products asked for: {}", products.label()));
        report += &format!("  perplexity  {before:.4} before, {after:.4} after{}\n", asked.unwrap_or_default());
        device::say_kind(&gpu);
        texts::say_products(&gpu, &written, products, false)?;
    }
    report += "  error       rms, relative to that of the weights\n";
    let mut divided = 0;
    for (tensor, error) in conversion.tensors().iter().zip(errors) {
        let (name, error) = (output::one_line(&tensor.name), 100.0 * error);
        let mark = if tensor.divided { " *" } else { "" };
        divided += usize::from(tensor.divided);
        report +=
            &format!("  {error:7.4} %  {} -> {}{mark}  {name} {:?}\n", tensor.before.0, tensor.after, tensor.shape);
    }
    if divided > 0 {
        report += &format!("  * the rows of {divided} tensor(s) are no whole blocks of {recipe}\n");
    }
    output::print(&report)
}

/// The model's files, and what its GGUF file says beside the configuration.
fn open(model: &Path) -> Result<(TextFiles, Vec<(String, MetadataValue)>), Failure> {
    let files = TextFiles::open(model)?;
    if matches!(files.decoder.weights, TensorFile::Gguf(_)) {
        return Ok((files, Vec::new()));
    }
    let mut more = files.metadata()?;
    let name = model.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    more.extend(name.map(|name| ("general.name".to_owned(), MetadataValue::String(name))));
    Ok((files, more))
}

/// The files that are read: of a split GGUF file every part, by the names that they must have.
fn parts(weights: &TensorFile) -> Vec<PathBuf> {
    let first = Path::new(weights.file());
    let count = if let TensorFile::Gguf(gguf) = weights { gguf.parts() } else { 1 };
    let name = first.file_name().and_then(|name| name.to_str());
    match name.and_then(|name| name.strip_suffix(&format!("-00001-of-{count:05}.gguf"))) {
        Some(stem) => {
            (1..=count).map(|at| first.with_file_name(format!("{stem}-{at:05}-of-{count:05}.gguf"))).collect()
        }
        None => vec![first.to_owned()],
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = read_small(path, MOST_TEXT)?;
    String::from_utf8(bytes).map_err(|_| Failure::NoText { path: path.display().to_string() })
}
