//! The command line, as it is read and as `--help` explains it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use lampyris::engine::weights::blocks::BlockFormat;
use lampyris::models::image_prep::MAX_TARGET_SIDE;
use lampyris::{ClassifierOptions, Sampling};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0, 1 for a failed check or a device that fails, 2 for bad usage or input. Answers go to stdout, and \
     only whole ones: when anything that was named cannot be used, nothing is printed but one sentence on stderr.";

/// Neural networks as WGSL compute shaders, on any GPU.
#[derive(Debug, Parser)]
#[command(name = "lampyris", version, after_help = EXIT_CODES, disable_help_subcommand = false)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
    #[command(subcommand)]
    pub(crate) job: Job,
}

/// Which device, and how it is used.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct DeviceArguments {
    /// Index or part of the name of an adapter, as `doctor` lists them, or `cpu` for the CPU executor [default: the best]
    #[arg(long, global = true, env = "LAMPYRIS_ADAPTER", value_name = "A")]
    pub(crate) adapter: Option<String>,
    /// Limits to ask of the device: all the adapter has, or WebGPU's defaults without any feature
    #[arg(long, global = true, value_enum, default_value_t = Limits::Adapter)]
    pub(crate) limits: Limits,
    /// Most bytes of GPU memory that weights and plans may take together
    #[arg(long, global = true, value_name = "BYTES")]
    pub(crate) budget: Option<u64>,
    /// Keep no compiled kernels and no measured choices in the user's cache folder, and use none
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Keep the run-time checks of shaders
    #[arg(long, global = true, hide = true)]
    pub(crate) checked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Limits {
    Adapter,
    Webgpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    F32,
    F16,
}

impl From<Precision> for lampyris::models::mobilenet::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Say what is in pictures
    Classify(Classify),
    /// Continue a text: by the likeliest tokens, or, where a temperature, a filter or a seed is given, by draws as the model's files
    /// recommend but for what is given
    Generate(Generate),
    /// Talk with a model; `/reset`, `/system TEXT`, `/stats` and `/quit` are commands of the conversation. Tokens are drawn as the
    /// model's files recommend; where they recommend nothing, at a temperature of 0.8 with top-k 40, top-p 0.95 and min-p 0.05
    Chat(Chat),
    /// Make a vector of each text, so that texts of like meaning lie close together
    Embed(Embed),
    /// List the adapters, and hold every kernel against its CPU twin on the chosen one; `--adapter all` for each of them
    Doctor(Doctor),
    /// Show what is in a model's files, its plan, and the WGSL of a kernel
    Inspect(Inspect),
    /// Measure a model's speed, or an adapter's limits
    Bench(Bench),
    /// Write a model with smaller weights: a language model as a .gguf file, a network for pictures with 8 bits
    Quantize(Quantize),
    /// Say what a language model will take on this machine, before anything of it is loaded
    Fits(Fits),
}

/// A model and how it is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArguments {
    /// A .safetensors file, or a folder with model.safetensors and config.json
    #[arg(long, value_name = "PATH")]
    pub(crate) model: PathBuf,
    /// How activations are stored
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Side of the network's input in pixels, a multiple of 32 [default: what the model's files say]
    #[arg(long, value_name = "N", value_parser = side)]
    pub(crate) side: Option<u32>,
}

impl ModelArguments {
    /// How the classifier is loaded.
    pub(crate) fn options(&self) -> ClassifierOptions {
        loading(self.precision, self.side)
    }
}

/// How a classifier is loaded with this precision, and this side unless its files decide.
pub(crate) fn loading(precision: Precision, side: Option<u32>) -> ClassifierOptions {
    let options = ClassifierOptions::default().precision(precision.into());
    match side {
        Some(pixels) => options.side(pixels),
        None => options,
    }
}

/// Reads the side of a network's input.
fn side(text: &str) -> Result<u32, String> {
    let side = text.parse().ok().filter(|side| (32..=MAX_TARGET_SIDE).contains(side) && side % 32 == 0);
    side.ok_or_else(|| format!("expected a multiple of 32 from 32 to {MAX_TARGET_SIDE}"))
}

/// Reads the room of a session.
fn context(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|tokens| *tokens > 0).ok_or_else(|| "expected 1 token or more".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Classify {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    /// How many classes to list for each picture
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) top: u16,
    /// Names of the classes, one on each line
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// One line of JSON for each picture; `latency_ms` is the time of the run that the picture was part of
    #[arg(long)]
    pub(crate) json: bool,
    /// With --json: the vector before the head as well
    #[arg(long, requires = "json")]
    pub(crate) features: bool,
    /// Pictures in one run
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) batch: u16,
    /// Pictures (jpeg, png, gif, webp, bmp); of a folder, the pictures in it by name
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
}

/// The products that `--packed` asks for.
pub(crate) fn products(packed: bool) -> lampyris::models::decoder::Products {
    use lampyris::models::decoder::Products::{Exact, Packed};
    if packed { Packed } else { Exact }
}

/// A language model and how much it may write.
#[derive(Debug, Clone, Args)]
pub(crate) struct TextArguments {
    /// A folder with config.json, tokenizer.json and .safetensors files, or a .gguf file
    #[arg(long, value_name = "PATH")]
    pub(crate) model: PathBuf,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// Tokens that prompt and answers have room for [default: what the model was made for, at most 4096]
    #[arg(long, value_name = "N", value_parser = context)]
    pub(crate) context: Option<usize>,
    #[command(flatten)]
    pub(crate) choice: ChoiceArguments,
    /// A text that ends the answer and is not shown; can be given more than once
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// How keys and values are stored: exactly, or in half or little more than a quarter of the bytes
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    pub(crate) kv: Kv,
    /// Read prompts with weights and activations in whole numbers where the weights are such: often faster, a little less exact
    #[arg(long)]
    pub(crate) packed: bool,
    /// Go on when the context is full, with the first SINKS tokens and the newest, instead of ending or refusing there
    #[arg(long, value_name = "SINKS")]
    pub(crate) slide: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kv {
    F32,
    F16,
    Q8,
}

impl From<Kv> for lampyris::models::decoder::CacheFormat {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F32 => Self::F32,
            Kv::F16 => Self::F16,
            Kv::Q8 => Self::Q8,
        }
    }
}

/// How the next token is chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Choice of tokens")]
pub(crate) struct ChoiceArguments {
    /// What logits are divided by; 0 takes the likeliest token
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,
    /// Only the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<u32>,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,
    /// Only tokens at least this times as likely as the likeliest
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,
    /// A factor above 1 makes tokens that were said less likely
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub(crate) repetition_penalty: Option<f32>,
    /// Taken off the logits of tokens that were said
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<f32>,
    /// Taken off the logits of tokens for each time that they were said
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<f32>,
    /// Which of the possible answers, the same on every run [default: another one each time]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
}

impl ChoiceArguments {
    /// Whether a draw is asked for, and not the likeliest token.
    pub(crate) fn draws(&self) -> bool {
        let asked = [self.temperature, self.top_p, self.min_p].iter().any(Option::is_some);
        self.temperature != Some(0.0) && (asked || self.top_k.is_some() || self.seed.is_some())
    }

    /// What is asked for, and `otherwise` where nothing is. A filter or a seed asks for a draw, so the temperature is then not 0.
    pub(crate) fn over(&self, otherwise: Sampling) -> Sampling {
        let mut sampling = otherwise;
        if self.draws() && !sampling.is_random() {
            sampling.temperature = 1.0;
        }
        sampling.temperature = self.temperature.unwrap_or(sampling.temperature);
        sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
        sampling.top_p = self.top_p.unwrap_or(sampling.top_p);
        sampling.min_p = self.min_p.unwrap_or(sampling.min_p);
        sampling.repetition_penalty = self.repetition_penalty.unwrap_or(sampling.repetition_penalty);
        sampling.presence_penalty = self.presence_penalty.unwrap_or(sampling.presence_penalty);
        sampling.frequency_penalty = self.frequency_penalty.unwrap_or(sampling.frequency_penalty);
        sampling.seed = self.seed.unwrap_or(sampling.seed);
        sampling
    }
}

/// A seed that nobody chose: what the standard library keys its hash maps with. It has 32 bits, so that it can be typed.
pub(crate) fn any_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) >> 32
}

#[derive(Debug, Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) text: TextArguments,
    /// The text to continue
    #[arg(long, value_name = "TEXT", required_unless_present = "prompt_file")]
    pub(crate) prompt: Option<String>,
    /// A file with the text to continue
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// One line of JSON at the end instead of the text as it comes
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) text: TextArguments,
    /// What the model should know and obey before anything is said
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Ask the model to answer without thinking first, where its template can
    #[arg(long)]
    pub(crate) no_think: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// A folder of sentence-transformers or transformers (config.json, tokenizer.json, .safetensors files), or a .gguf file
    #[arg(long, value_name = "PATH")]
    pub(crate) model: PathBuf,
    /// How matrices are held that the files store in 32 bits
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Put the prompt of this name, which the model's files have, before each text
    #[arg(long, value_name = "NAME")]
    pub(crate) prompt: Option<String>,
    /// The cosines of all pairs of texts instead of their vectors
    #[arg(long)]
    pub(crate) similarity: bool,
    /// One line of JSON for each text
    #[arg(long)]
    pub(crate) json: bool,
    /// Texts; `-` stands for the lines of the input
    #[arg(required = true, value_name = "TEXT")]
    pub(crate) texts: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Every case with every variant that the adapter can run, which takes minutes. Without it: the short cases, with the
    /// variants that the engine chooses from on this adapter, likeliest first, as far as half a minute goes
    #[arg(long)]
    pub(crate) full: bool,
    /// One line of JSON: the adapters and the certificate
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this kernel
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) only: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A .safetensors or .gguf file, or a folder with config.json and .safetensors files
    #[arg(value_name = "MODEL", required_unless_present = "kernel")]
    pub(crate) model: Option<PathBuf>,
    /// The plan that runs it: every dispatch, and the bytes on the device. Of a language model, the plan of one token. Of a network
    /// for pictures, in the form in which each convolution has its own dispatch: software adapters and the CPU executor run that
    /// one
    #[arg(long, requires = "model")]
    pub(crate) plan: bool,
    /// With --plan: the form whose depthwise convolutions are computed where their projections load. A GPU is timed with
    /// both forms, and runs the faster one
    #[arg(long, requires = "plan")]
    pub(crate) fused: bool,
    /// The linked WGSL of a kernel's variants
    #[arg(long, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// Only this variant of the kernel
    #[arg(long, value_name = "LABEL", requires = "kernel")]
    pub(crate) variant: Option<String>,
    /// How the plan stores activations
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Side of the plan's input in pixels, a multiple of 32 [default: what the model's files say]
    #[arg(long, value_name = "N", requires = "plan", value_parser = side)]
    pub(crate) side: Option<u32>,
    /// Of a language model: tokens that the plan has room for [default: what the model was made for, at most 4096]
    #[arg(long, value_name = "N", requires = "plan", value_parser = context)]
    pub(crate) context: Option<usize>,
    /// Pictures in one run of the plan
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) batch: u16,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// A .safetensors or .gguf file, or a folder with config.json and .safetensors files
    #[arg(long, value_name = "PATH", required_unless_present = "roofline")]
    pub(crate) model: Option<PathBuf>,
    /// How activations are stored
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Side of the network's input in pixels, a multiple of 32 [default: what the model's files say]
    #[arg(long, value_name = "N", requires = "model", value_parser = side)]
    pub(crate) side: Option<u32>,
    /// Of a language model: tokens of the prompt, which are made up
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = context)]
    pub(crate) prompt_tokens: usize,
    /// Of a language model: tokens that are generated
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = context)]
    pub(crate) new_tokens: usize,
    /// Of a language model: how keys and values are stored
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    pub(crate) kv: Kv,
    /// Of a language model: prompts in whole numbers where the weights are such
    #[arg(long)]
    pub(crate) packed: bool,
    /// Of a language model: the CPU executor beside the adapter
    #[arg(long, requires = "model")]
    pub(crate) compare: bool,
    /// Runs that are timed [default: 50 of pictures and 5 of texts, on the CPU executor 3 and 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) runs: Option<u16>,
    /// Pictures in one run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) batch: u16,
    /// The time of each step as well
    #[arg(long, requires = "model")]
    pub(crate) profile: bool,
    /// Write the time of each step as a trace, for chrome://tracing and ui.perfetto.dev
    #[arg(long, value_name = "FILE", requires = "model")]
    pub(crate) trace: Option<PathBuf>,
    /// What the adapter can do at best; with --model also each step's share of it
    #[arg(long)]
    pub(crate) roofline: bool,
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
    Blocks(BlockFormat),
}

/// Reads the name of a format; case does not matter.
fn format(text: &str) -> Result<Format, String> {
    if text.eq_ignore_ascii_case("int8") {
        return Ok(Format::Int8);
    }
    let known = BlockFormat::ENCODED.into_iter().find(|known| known.name().eq_ignore_ascii_case(text));
    known.map(Format::Blocks).ok_or_else(|| {
        let names: Vec<&str> = BlockFormat::ENCODED.iter().map(|known| known.name()).collect();
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
    /// Q5_K, Q6_K or IQ4_NL for language models. Norms and biases stay F32; a matrix whose rows are no whole blocks takes the next format that fits,
    /// and the report says so
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Format,
    /// Pictures on which both networks are compared
    #[arg(long, value_name = "FOLDER")]
    pub(crate) images: Option<PathBuf>,
    /// A text on which the perplexity of both language models is measured
    #[arg(long, value_name = "FILE", conflicts_with = "images")]
    pub(crate) text: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Fits {
    /// A language model: a .gguf file, or a folder with config.json and .safetensors files
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Tokens that a session has room for [default: what the model was made for, at most 4096]
    #[arg(long, value_name = "N", value_parser = context)]
    pub(crate) context: Option<usize>,
    /// How keys and values are stored
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    pub(crate) kv: Kv,
    /// One line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}
