//! The command line of the jobs that judge, write, weigh or fetch a model's files.

use super::{Kv, ProductArguments, context};
use clap::Args;
use lampyris::models::decoder::Recipe;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("measure").required(true).multiple(true))]
pub(crate) struct Eval {
    /// The model [default: the bundled one]
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    /// A folder with a folder of pictures for each label: the share of right answers, for each label as well
    #[arg(long, value_name = "FOLDER", group = "measure", conflicts_with_all = ["text", "questions", "packed", "half"])]
    pub(crate) images: Option<PathBuf>,
    /// A text: the perplexity of its tokens, in windows of 512 that each begin anew
    #[arg(long, value_name = "FILE", group = "measure")]
    pub(crate) text: Option<PathBuf>,
    /// Lines of JSON, each with `messages`, a conversation whose last turn is answered by the likeliest tokens, and `answers`, of which
    /// one must be given word for word; `kind` may sort them
    #[arg(long, value_name = "FILE", group = "measure")]
    pub(crate) questions: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) products: ProductArguments,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How the weights of a smaller model are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Signed bytes, with a scale for each output channel: networks for pictures.
    Int8,
    /// Blocks of a GGUF file: language models.
    Blocks(Recipe),
}

/// Reads the name of a format; case does not matter.
fn format(text: &str) -> Result<Format, String> {
    if text.eq_ignore_ascii_case("int8") {
        return Ok(Format::Int8);
    }
    Recipe::from_name(text).map(Format::Blocks).ok_or_else(|| {
        let names: Vec<&str> = Recipe::known().map(Recipe::name).collect();
        format!("expected int8, or one of {}", names.join(", "))
    })
}

#[derive(Debug, Args)]
pub(crate) struct Quantize {
    /// A language model (a .gguf file, or a folder with config.json, tokenizer.json and .safetensors files), or a network for
    /// pictures (a .safetensors file, or a folder with model.safetensors and config.json)
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Where to write: of a language model a .gguf file, else a .safetensors file or a folder
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// How weights are stored: int8 for networks for pictures; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K,
    /// Q5_K, Q6_K, IQ4_NL, IQ4_XS or MXFP4 for language models, or llama.cpp's mixes Q4_K_S, Q4_K_M, Q5_K_S and Q5_K_M. Norms and biases stay F32; a matrix whose rows are no whole blocks takes the next format that fits,
    /// and the report says so
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Format,
    /// Pictures on which both networks are compared
    #[arg(long, value_name = "FOLDER")]
    pub(crate) images: Option<PathBuf>,
    /// A text on which the perplexity of both language models is measured
    #[arg(long, value_name = "FILE", conflicts_with = "images")]
    pub(crate) text: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) products: ProductArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Fits {
    /// A language model or a sentence encoder: a .gguf file, or a folder with config.json and .safetensors files
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Tokens that a session has room for [default: what the model was made for, at most 4096]; of an encoder, tokens of a run
    /// [default: 512]
    #[arg(long, value_name = "N", value_parser = context)]
    pub(crate) context: Option<usize>,
    /// How keys and values of a language model are stored
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    pub(crate) kv: Kv,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(feature = "pull")]
pub(super) const PULLING: &str = "HF_ENDPOINT names another hub, HF_HOME (or HF_HUB_CACHE) another cache, HF_TOKEN a token. What an interrupted run has \
     fetched is kept, and the next goes on from there. A file counts as fetched when its size and its hash are those that the hub states.";

#[cfg(feature = "pull")]
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// The model: ORG/NAME, with @REVISION behind it if it is not the main branch's; ORG/NAME/FILE for one file of it
    #[arg(value_name = "ORG/NAME")]
    pub(crate) model: String,
    /// A branch, a tag or a commit [default: main]
    #[arg(long, value_name = "R")]
    pub(crate) revision: Option<String>,
    /// Only files whose paths match; `*` and `?` stand for characters. Can be given more than once [default: what the engine reads]
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Fetch it even if it does not fit this machine
    #[arg(long)]
    pub(crate) anyway: bool,
    /// Milliseconds before a request is made again
    #[arg(long, value_name = "MS", hide = true)]
    pub(crate) pause: Option<u64>,
}
