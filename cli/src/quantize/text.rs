//! `lampyris quantize` of a language model: a GGUF file in smaller blocks, and what that costs.

use crate::args::{DeviceArguments, Quantize};
use crate::failure::Failure;
use crate::{device, output, texts};
use lampyris::engine::weights::TensorFile;
use lampyris::engine::weights::gguf::MetadataValue;
use lampyris::models::decoder::{Conversion, DecoderConfig, Recipe};
use lampyris::models::source::read_small;
use lampyris::text::GgufVocabulary;
use lampyris::text_model::{TextFiles, TextModel};
use lampyris::{Gpu, models};
use std::path::Path;

/// The largest text that is measured on, in bytes.
const MOST_TEXT: u64 = 64 << 20;

/// Writes the model in blocks as `recipe` says, and reports.
pub(super) fn run(job: &Quantize, arguments: &DeviceArguments, recipe: Recipe) -> Result<(), Failure> {
    if job.images.is_some() {
        let (option, kind) = ("--images", "networks for pictures");
        return Err(Failure::OtherKind { option, kind, model: job.model.display().to_string() });
    }
    if job.out.extension().is_none_or(|ending| ending != "gguf") || job.out.is_dir() {
        return Err(Failure::NoGguf { path: job.out.display().to_string() });
    }
    let (files, more) = open(&job.model)?;
    super::refuse_the_source(Path::new(files.decoder.weights.file()), &job.out)?;
    let conversion = Conversion::new(&files.decoder, recipe, more)?;
    let text = job.text.as_deref().map(read).transpose()?;
    // Measured first, so that a text that cannot be read leaves nothing behind.
    let measured = match (&text, &job.text) {
        (Some(text), Some(path)) => {
            let gpu = device::open(arguments)?;
            let before = perplexity(&gpu, TextModel::new(&gpu, files)?, text, path)?;
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
        let after = perplexity(&gpu, gpu.block_on(TextModel::load(&gpu, &job.out))?, text, path)?;
        report += &format!("  perplexity  {before:.4} before, {after:.4} after\n");
        device::say_kind(&gpu);
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
    let config = DecoderConfig::read("config.json", files.decoder.config.as_deref().unwrap_or_default())?;
    let tokenizer = files.tokenizer.as_deref().unwrap_or_default();
    let vocabulary = GgufVocabulary::of_json(tokenizer, files.tokenizer_config.as_deref(), config.vocabulary);
    let mut vocabulary = vocabulary.map_err(models::Error::from)?;
    let said = [&files.generation, &files.decoder.config].into_iter().flatten();
    vocabulary.eos = vocabulary.eos.or_else(|| said.into_iter().find_map(|file| eos(file)));
    let mut more = vocabulary.metadata();
    let name = model.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    more.extend(name.map(|name| ("general.name".to_owned(), MetadataValue::String(name))));
    Ok((files, more))
}

/// The token that ends texts, by `eos_token_id` of a configuration: one, or the first of several.
fn eos(config: &[u8]) -> Option<u32> {
    let map: serde_json::Value = serde_json::from_slice(config).ok()?;
    let said = map.get("eos_token_id")?;
    u32::try_from(said.as_array().and_then(|all| all.first()).unwrap_or(said).as_u64()?).ok()
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = read_small(path, MOST_TEXT)?;
    String::from_utf8(bytes).map_err(|_| Failure::NoText { path: path.display().to_string() })
}

fn perplexity(gpu: &Gpu, model: TextModel, text: &str, path: &Path) -> Result<f64, Failure> {
    let ids = model.tokenizer().encode_document(text).map_err(models::Error::from)?;
    if ids.len() < 2 {
        return Err(Failure::Short { path: path.display().to_string(), tokens: ids.len() });
    }
    let progress = output::progress(ids.len(), "measuring");
    let found = texts::perplexity(gpu, model.decoder(), &ids, |tokens| progress.inc(tokens));
    progress.finish_and_clear();
    found
}
