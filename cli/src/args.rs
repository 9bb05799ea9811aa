//! The command line, as it is read and as `--help` explains it.

mod files;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lampyris::models::image_prep::MAX_TARGET_SIDE;
use lampyris::{ClassifierOptions, Sampling};
use std::path::PathBuf;

#[cfg(feature = "pull")]
pub(crate) use files::Pull;
pub(crate) use files::{Eval, Fits, Format, Quantize};

const EXIT_CODES: &str = "Without a command: a tour of this machine's adapter and of the bundled models, in less than a minute.\n\nExit codes: 0, 1 for a failed check, or for a device or a connection that fails, 2 for bad usage or input. Answers go to stdout: \
     those of generate and chat as they are written, all others only whole. When anything that was named cannot be used, nothing is \
     printed but one sentence on stderr.";

/// Neural networks as WGSL compute shaders, on any GPU.
#[derive(Debug, Parser)]
#[command(name = "lampyris", version, after_help = EXIT_CODES, disable_help_subcommand = false, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
    #[command(subcommand)]
    pub(crate) job: Option<Job>,
}

/// A job that opens a device.
#[derive(Debug, Args)]
pub(crate) struct On<T: Args> {
    #[command(flatten)]
    pub(crate) job: T,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// Which device, and how it is used.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct DeviceArguments {
    /// Index or part of the name of an adapter, as `doctor` lists them, or `cpu` for the CPU executor [default: the best]
    #[arg(long, env = "LAMPYRIS_ADAPTER", value_name = "A")]
    pub(crate) adapter: Option<String>,
    /// Limits to ask of the device: all the adapter has, or WebGPU's defaults without any feature
    #[arg(long, value_enum, default_value_t = Limits::Adapter)]
    pub(crate) limits: Limits,
    /// Most bytes of GPU memory that weights and plans may take together
    #[arg(long, value_name = "BYTES")]
    pub(crate) budget: Option<u64>,
    /// Keep no compiled kernels and no measured choices in the user's cache folder, and use none
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Keep the run-time checks of shaders
    #[arg(long, hide = true)]
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
    Classify(On<Classify>),
    /// Continue a text: by the likeliest tokens, or, where a temperature, a filter or a seed is given, by draws as the model's files
    /// recommend but for what is given
    Generate(On<Generate>),
    /// Talk with a model; `/reset`, `/system TEXT`, `/stats` and `/quit` are commands of the conversation, and a line with a space
    /// before its `/` is none. Ctrl-C ends an answer, and twice at the prompt the program. Tokens are drawn as the model's files
    /// recommend; where they recommend nothing, at a temperature of 0.8 with top-k 40, top-p 0.95 and min-p 0.05. A template that asks
    /// for the time is told that of UTC at the beginning of the conversation
    Chat(On<Chat>),
    /// Make a vector of each text, so that texts of like meaning lie close together
    Embed(On<Embed>),
    /// List the adapters, and hold every kernel against its CPU twin on the chosen one; `--adapter all` for each of them
    Doctor(On<Doctor>),
    /// Show what is in a model's files, its plan, and the WGSL of a kernel
    Inspect(Inspect),
    /// Measure a model's speed, or an adapter's limits
    Bench(On<Bench>),
    /// Measure how often a model is right: on pictures in folders named by label, on a text, on questions with answers
    Eval(On<Eval>),
    /// Write a model with smaller weights: a language model as a .gguf file, a network for pictures with 8 bits
    Quantize(On<Quantize>),
    /// Say what a language model or an encoder will take on this machine, before anything of it is loaded
    Fits(On<Fits>),
    /// Fetch a model from a hub into the cache that Hugging Face's tools share, after saying how large it is and whether it fits;
    /// `--model ORG/NAME` finds it there. The only command that opens a connection, but for `fits` of a model that is not on disk
    #[cfg(feature = "pull")]
    #[command(after_help = files::PULLING)]
    Pull(On<Pull>),
}

/// A model and how it is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArguments {
    /// A .safetensors file, or a folder with model.safetensors and config.json [default: the bundled model of drawings]
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
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

/// More tokens than any model has room for, so that numbers of tokens can be added.
const MOST_TOKENS: usize = 1 << 30;

/// Reads a number of tokens that is not 0.
fn context(text: &str) -> Result<usize, String> {
    let tokens = text.parse().ok().filter(|tokens| (1..=MOST_TOKENS).contains(tokens));
    tokens.ok_or_else(|| format!("expected 1 token or more, and at most {MOST_TOKENS}"))
}

/// Reads a text that ends an answer.
fn stop(text: &str) -> Result<String, String> {
    match text {
        "" => Err("an empty text ends nothing; give one with a character".to_owned()),
        text => Ok(text.to_owned()),
    }
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

/// How products are computed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ProductArguments {
    /// Multiply a language model's weights and activations in whole numbers where the weights are such, prompts on every adapter and answers
    /// where it is fast at them: a little less exact
    #[arg(long)]
    packed: bool,
    /// Multiply a language model's weights in 16-bit floats where they are quantized and the adapter is faster with them: a little less exact
    #[arg(long, conflicts_with = "packed")]
    half: bool,
}

impl ProductArguments {
    /// The option that asks for other products than exact ones, where one is given.
    pub(crate) fn given(self) -> Option<&'static str> {
        match (self.packed, self.half) {
            (true, _) => Some("--packed"),
            (_, true) => Some("--half"),
            _ => None,
        }
    }

    /// The products asked for.
    pub(crate) fn products(self) -> lampyris::models::decoder::Products {
        use lampyris::models::decoder::Products::{Exact, Half, Packed};
        match (self.packed, self.half) {
            (true, _) => Packed,
            (_, true) => Half,
            _ => Exact,
        }
    }
}

/// A language model and how much it may write.
#[derive(Debug, Clone, Args)]
pub(crate) struct TextArguments {
    /// A folder with config.json, tokenizer.json and .safetensors files, or a .gguf file [default: the bundled storyteller]
    #[arg(long, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    /// Most tokens of an answer [default: 256 of a text that goes on; in a conversation as many as there is room for]
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,
    /// Tokens that prompt and answers have room for [default: what the model was made for, at most 4096]
    #[arg(long, value_name = "N", value_parser = context)]
    pub(crate) context: Option<usize>,
    /// A text that ends the answer and is not shown; can be given more than once
    #[arg(long, value_name = "TEXT", value_parser = stop)]
    pub(crate) stop: Vec<String>,
    /// How keys and values are stored: exactly, or in half or little more than a quarter of the bytes
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    pub(crate) kv: Kv,
    #[command(flatten)]
    pub(crate) products: ProductArguments,
    /// Go on when the context is full, with the first SINKS tokens and the newest, instead of ending or refusing there
    #[arg(long, value_name = "SINKS")]
    pub(crate) slide: Option<usize>,
    // Last, because options after it would be listed under its heading.
    #[command(flatten)]
    pub(crate) choice: ChoiceArguments,
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
#[command(group = clap::ArgGroup::new("beginning").required(true))]
pub(crate) struct Generate {
    /// The text to continue
    #[arg(long, value_name = "TEXT", group = "beginning")]
    pub(crate) prompt: Option<String>,
    /// A file with the text to continue, or `-` for the input, of at most 64 MiB; a line break at its very end is left out
    #[arg(long, value_name = "FILE", group = "beginning")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// One line of JSON at the end instead of the text as it comes
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) text: TextArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// What the model should know and obey before anything is said
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// The format of conversations, for a model whose files have no chat template or a wrong one: a file with a template in Jinja, or one
    /// of chatml, llama2, llama3, mistral, gemma, phi3 and alpaca
    #[arg(long, value_name = "FILE|NAME")]
    pub(crate) template: Option<PathBuf>,
    /// Ask the model to answer without thinking first, where its template can
    #[arg(long)]
    pub(crate) no_think: bool,
    #[command(flatten)]
    pub(crate) text: TextArguments,
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
    /// Every case with every variant that the adapter can run, which takes about 12 minutes and 2.3 GB on a software adapter
    /// of two cores. Without it: the short cases, with the
    /// variants that the engine chooses from on this adapter, likeliest first, as far as 15 seconds go
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
    /// The plan that runs it: every dispatch, and the bytes on the device. Of a language model, the plan of one token; of an
    /// encoder, that of a run. Of a network for pictures, in the form in which each convolution has its own dispatch: software adapters and the CPU executor run that
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
    /// How the plan stores activations, or an encoder's matrices
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Side of the plan's input in pixels, a multiple of 32 [default: what the model's files say]
    #[arg(long, value_name = "N", requires = "plan", value_parser = side)]
    pub(crate) side: Option<u32>,
    /// Of a language model: tokens that the plan has room for [default: what the model was made for, at most 4096]; of an
    /// encoder, tokens of a run [default: 128]
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
    /// How activations of a network for pictures are stored, or how an encoder's matrices are held that the files store in 32 bits
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
    /// Side of the network's input in pixels, a multiple of 32 [default: what the model's files say]
    #[arg(long, value_name = "N", requires = "model", value_parser = side)]
    pub(crate) side: Option<u32>,
    /// Of a language model: tokens of the prompt, which are made up; of an encoder, tokens of each text
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = context)]
    pub(crate) prompt_tokens: usize,
    /// Of a language model: tokens that are generated
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = context)]
    pub(crate) new_tokens: usize,
    /// Of a language model: how keys and values are stored
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    pub(crate) kv: Kv,
    /// Of a language model: most tokens of the prompt in one run [default: what suits the adapter's kind]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(32..=512))]
    pub(crate) chunk: Option<u16>,
    #[command(flatten)]
    pub(crate) products: ProductArguments,
    /// Of a language model or an encoder: the CPU executor beside the adapter
    #[arg(long, requires = "model")]
    pub(crate) compare: bool,
    /// Runs that are timed [default: 50 of pictures and 5 of texts, on the CPU executor 3 and 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) runs: Option<u16>,
    /// Pictures in one run, or texts that are handed over together [default: 1 picture, 8 texts]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) batch: Option<u16>,
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
