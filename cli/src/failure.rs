//! What can stop a job, and the exit code that says which kind it was.

#[cfg(feature = "pull")]
use crate::hub::HubError;
use clap::error::ErrorKind;
use lampyris::engine;
use lampyris::models::decode::DecodeError;

/// Why a job did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line cannot be read.
    #[error("{0}")]
    Usage(String),
    /// No model was named, and none is part of the program.
    #[cfg(not(feature = "bundled"))]
    #[error("this build has no bundled models; name one with --model")]
    NoBundled,
    /// Nothing was asked for, and there is no tour without bundled models.
    #[cfg(not(feature = "bundled"))]
    #[error("this build has no bundled models to show; say what to do, `lampyris help` explains")]
    NoTour,
    /// A folder holds nothing of a model, and folders in it do.
    #[error("{folder} holds no model itself; name one of the folders in it that do: {}", .inner.join(", "))]
    OuterFolder { folder: String, inner: Vec<String> },
    /// A model cannot be had from a hub.
    #[cfg(feature = "pull")]
    #[error(transparent)]
    Hub(HubError),
    /// A path names nothing.
    #[error("{path} does not exist; name a picture, or a folder of pictures")]
    NoPicture { path: String },
    /// A folder without pictures.
    #[error("{folder} holds no picture (jpeg, png, gif, webp or bmp); name another folder, or pictures one by one")]
    NoPictures { folder: String },
    /// A file or folder cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    /// The model's files are not in order, or a picture does not fit it.
    #[error(transparent)]
    Model(#[from] lampyris::Error),
    /// A picture cannot be prepared or run.
    #[error("{picture}: {source}")]
    OfPicture { picture: String, source: Box<lampyris::Error> },
    /// The engine or a driver.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A file is no picture.
    #[error(transparent)]
    Picture(#[from] DecodeError),
    /// No kernel has this name.
    #[error("no kernel is called {name}; the kernels are {}", .known.join(", "))]
    UnknownKernel { name: String, known: Vec<&'static str> },
    /// A kernel has no variant of this name.
    #[error("{kernel} has no variant {name}; its variants are {}", .known.join(", "))]
    UnknownVariant { kernel: &'static str, name: String, known: Vec<&'static str> },
    /// Something that only a device has was asked of the CPU executor.
    #[error("{what} need a device, and the CPU executor is none; choose an adapter with --adapter")]
    NeedsDevice { what: &'static str },
    /// The output would replace the input.
    #[error("{path} is the model that is read; name another file or folder to write to")]
    Overwrites { path: String },
    /// A configuration that belongs to something else is in the way.
    #[error("{path} belongs to another model and would be replaced; write to a folder of its own")]
    Replaces { path: String },
    /// A file or folder cannot be written.
    #[error("{path} cannot be written: {source}")]
    Unwritable { path: String, source: std::io::Error },
    /// A format that belongs to the other kind of model.
    #[error("{model} is {kind}, and {found} is no format for it; choose {known}")]
    Format { model: String, kind: &'static str, found: String, known: String },
    /// A name that does not say what is written.
    #[error("{path} is no name for a language model that is written; name a .gguf file")]
    NoGguf { path: String },
    /// A model that makes vectors of texts.
    #[error("{model} is a sentence encoder and continues no texts; `lampyris embed` makes vectors of texts with it")]
    IsEncoder { model: String },
    /// A model that was not made for conversations.
    #[error(
        "{model} has no chat template, so it knows no conversations; `--template` gives it one, `lampyris generate` continues texts with it, or name a model that was made to answer"
    )]
    NoTemplate { model: String },
    /// A model for something else than texts.
    #[error("{model} is no language model; name a .gguf file, or a folder whose config.json describes one")]
    NoLanguage { model: String },
    /// A model that continues texts.
    #[error(
        "{model} is a language model and makes no vectors of texts; name a sentence encoder, or continue texts with `lampyris generate`"
    )]
    IsLanguage { model: String },
    /// Encoders are not written.
    #[error(
        "{model} is a sentence encoder, and only language models are written as GGUF files; `lampyris embed --precision f16` holds its matrices in 16 bits"
    )]
    NotQuantized { model: String },
    /// An option that belongs to the other kind of model.
    #[error("{option} is for {kind}, and {model} is none; leave it out")]
    OtherKind { option: &'static str, kind: &'static str, model: String },
    /// An option says how a model is run, and there is none.
    #[error("{option} is about how a language model is run; name one with --model")]
    NoModel { option: &'static str },
    /// An option says how a text is measured on, and there is none.
    #[error("{option} is about how the perplexity of a text is measured; name one with --text")]
    NoMeasure { option: &'static str },
    /// A model is none for texts.
    #[error("{model} is no model for texts; name a .gguf file, or a folder with config.json and .safetensors files")]
    NoTexts { model: String },
    /// A folder's name is none of the model's labels.
    #[error("{folder} is named by none of the model's labels, which are {known}; rename it, or move it elsewhere")]
    UnknownLabel { folder: String, known: String },
    /// A folder without folders.
    #[error("{folder} holds no folder; put the pictures into folders named by what they show")]
    NoLabels { folder: String },
    /// A line of questions is none.
    #[error("{path}, line {line}: {reason}; a line is {{\"messages\": [...], \"answers\": [\"...\"]}}")]
    NoQuestion { path: String, line: usize, reason: String },
    /// A text is too short to be measured on.
    #[error("{path} has {tokens} tokens, and a perplexity needs 2 or more; name a longer text")]
    Short { path: String, tokens: usize },
    /// An adapter computes a model differently from the twins.
    #[error(
        "{adapter} gives logits that are {apart:.1e} of the largest one away from the CPU executor's, and {allowed:.1e} is allowed; a wrong answer has no speed, `lampyris doctor` finds the kernel"
    )]
    Differs { adapter: String, apart: f64, allowed: f64 },
    /// An adapter makes other vectors than the twins.
    #[error(
        "{adapter} gives a vector whose cosine with the CPU executor's is {near}, and 0.99999 is the least; a wrong answer has no speed, `lampyris doctor` finds the kernel"
    )]
    Apart { adapter: String, near: f32 },
    /// There is no room for temporary files.
    #[error("no temporary folder can be made: {0}; set TMPDIR to a folder that can be written")]
    Temporary(std::io::Error),
    /// A format of conversations that nobody knows.
    #[error("{named} is no file, and no format of conversations has that name; name a file with a template in Jinja, or one of {}", .known.join(", "))]
    NoFormat { named: String, known: Vec<&'static str> },
    /// A template that is no text.
    #[error("{path} is no UTF-8 text; name a file with a template in Jinja")]
    NoJinja { path: String },
    /// A prompt is no text.
    #[error("{path} is no UTF-8 text; name a text file, or give the prompt with --prompt")]
    NoPrompt { path: String },
    /// A file that something is measured on is no text.
    #[error("{path} is no UTF-8 text; name a text file")]
    NoText { path: String },
    /// The input is no text.
    #[error("the input is no UTF-8 text of at most {most} bytes; give texts one on a line")]
    NoLines { most: u64 },
    /// What a person typed cannot be read.
    #[error("the input cannot be read: {0}")]
    Input(std::io::Error),
    /// Kernels disagree with their twins.
    #[error(
        "{failed} of {total} checks failed, the first {first}; do not trust this adapter with these kernels, and please report the output of `lampyris doctor --json`"
    )]
    Certificate { failed: usize, total: usize, first: String },
    /// A model's logits lie too far from exact ones.
    #[error(
        "{adapter} gives logits with {products} products that are {apart:.1e} of the largest one away from the CPU executor's, and {allowed:.1e} is allowed; do not trust such products here, and please report the output of `lampyris doctor --full --json`"
    )]
    Products { adapter: String, products: &'static str, apart: f64, allowed: f64 },
    /// The answer cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(std::io::Error),
}

impl Failure {
    /// What clap says, in one sentence.
    pub(crate) fn usage(error: &clap::Error) -> Failure {
        let said = error.render().to_string();
        let said = said.split("\n\n").next().unwrap_or(&said);
        let said = said.strip_prefix("error: ").unwrap_or(said);
        let words: Vec<&str> = said.split_whitespace().collect();
        let way = match error.kind() {
            ErrorKind::ArgumentConflict if said.contains("subcommand") => {
                " before it; write the option behind the command"
            }
            _ => "; `lampyris help` shows what can be asked",
        };
        Failure::Usage(format!("{}{way}", words.join(" ")))
    }

    /// 1 for a failed check and for a machine or a connection that fails, 2 for what the caller can mend on the command line or in a file.
    pub(crate) fn code(&self) -> u8 {
        let error = match self {
            Failure::Certificate { .. }
            | Failure::Products { .. }
            | Failure::Differs { .. }
            | Failure::Apart { .. }
            | Failure::Output(_) => return 1,
            #[cfg(feature = "pull")]
            Failure::Hub(error) => return if error.is_of_the_connection() { 1 } else { 2 },
            Failure::Engine(error) | Failure::Model(lampyris::Error::Engine(error)) => error,
            Failure::OfPicture { source, .. } => match &**source {
                lampyris::Error::Engine(error) => error,
                _ => return 2,
            },
            _ => return 2,
        };
        match error {
            engine::Error::DeviceLost { .. }
            | engine::Error::Driver { .. }
            | engine::Error::OutOfMemory { .. }
            | engine::Error::NoDevice { .. } => 1,
            _ => 2,
        }
    }
}
