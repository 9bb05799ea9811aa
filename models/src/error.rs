//! The one error type of this crate, so that a caller can tell a wrong file from a wrong setting by the variant.

use std::fmt;

use crate::mobilenet::{Architecture, Naming};

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How many tensors an [`Error::Tensors`] names before it only counts.
const LISTED: usize = 20;

impl Error {
    /// Whether the device is gone. What was asked can be asked again: at once where the engine opened the device itself, else after the
    /// host has handed over another.
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Error::Engine(lampyris_engine::Error::DeviceLost { .. }))
    }

    /// Whether the same may do when it is asked again in a later frame: as many runs as may be are under way, the frame of this one was dropped or
    /// refused, what it needs is not made yet, or the device is gone and has not been replaced. What needs `ready` stays [`Error::NotReady`] until that
    /// was awaited, and what is cancelled in frame after frame is a mistake in the frames.
    pub fn is_transient(&self) -> bool {
        use lampyris_engine::Error::{Busy, Cancelled};
        matches!(self, Error::NotReady | Error::Engine(Busy { .. } | Cancelled)) || self.is_device_lost()
    }
}

/// Everything that can be wrong with a model's files or with a picture's size.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(lampyris_engine::Error),

    /// Something was recorded that can only be made later: in a browser, or because one frame compiles one pipeline.
    #[error("what this needs is not made yet, and cannot be at once; await `ready` for such an input first")]
    NotReady,

    /// A text is too short to be measured on.
    #[error("the text has {tokens} tokens, and a perplexity needs 2 or more")]
    Short {
        /// How many it has.
        tokens: usize,
    },

    /// A weights file is damaged or does not hold what it should.
    #[error(transparent)]
    Weights(#[from] lampyris_engine::weights::WeightsError),

    /// A tokenizer or a chat template cannot be used.
    #[cfg(feature = "tokens")]
    #[error(transparent)]
    Text(#[from] crate::text::TextError),

    /// A file that should be JSON is not.
    #[error("{file} is not valid JSON: {source}")]
    Json {
        /// The file, as the caller named it.
        file: String,
        /// Where and why the parser stopped.
        source: serde_json::Error,
    },

    /// There is nothing at a path.
    #[error(
        "{path} does not exist; a model is a .safetensors or .gguf file, or a folder with config.json and .safetensors files"
    )]
    Missing {
        /// The path.
        path: String,
    },

    /// A folder holds no weights.
    #[error(
        "{folder} holds no model.safetensors and no index of its shards; a model is a .safetensors file, or a folder with model.safetensors and config.json"
    )]
    NoWeights {
        /// The folder.
        folder: String,
    },

    /// A file exists and cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The path.
        path: String,
        /// The system's words.
        reason: String,
    },

    /// A picture's bytes do not match its size.
    #[error("a picture of {width} x {height} RGBA pixels has {expected} bytes, and {found} were given")]
    PixelBytes {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },

    /// A network's answer is no number, so that no class can be named.
    #[error(
        "{network} gave infinities or no numbers; if it was run in f16, run it in f32, and otherwise `lampyris doctor` tells whether the adapter computes right"
    )]
    NotFinite {
        /// The weights file.
        network: String,
    },

    /// A network does not give one answer a picture: its plan lacks an output, or an output has another shape.
    #[error(
        "{network} gave {answers} answers for {pictures} pictures; please report this with what `lampyris inspect` prints"
    )]
    Answers {
        /// The weights file.
        network: String,
        /// Pictures given.
        pictures: usize,
        /// Answers found.
        answers: usize,
    },

    /// There is nothing to choose from.
    #[error(
        "{}; offer one continuation or more, each of which adds to the prompt",
        .option.as_ref().map_or("no continuation was offered".to_owned(), |option| format!("the continuation \"{}\" adds nothing to the prompt", shown(option)))
    )]
    NoChoice {
        /// The continuation that adds nothing; `None` when there is none at all.
        option: Option<String>,
    },

    /// What was saved of a session cannot be used.
    #[error("the saved session cannot go on here: {reason}; begin a new one")]
    Saved {
        /// What is wrong with it.
        reason: String,
    },

    /// A crop reaches outside its picture, or is empty.
    #[error("the crop {area} does not lie within the picture's {width} x {height} pixels")]
    Crop {
        /// The crop, as width x height + x + y.
        area: String,
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },

    /// A model cannot be written as a GGUF file.
    #[error("{file} cannot be written as GGUF: {reason}")]
    NotGguf {
        /// The file, as the caller named it.
        file: String,
        /// What stands in the way, and the way out.
        reason: String,
    },

    /// A JSON file holds a value that cannot be used.
    #[error("{file}: `{key}` is {found}, expected {expected}")]
    Config {
        /// The file, as the caller named it.
        file: String,
        /// The key, with its parents before it and dots between.
        key: String,
        /// The value found, shortened.
        found: String,
        /// What would have been accepted.
        expected: &'static str,
    },

    /// A JSON file asks for something this crate does not do.
    #[error("{file}: `{key}` is {found}, which is not supported; {instead}")]
    Unsupported {
        /// The file, as the caller named it.
        file: String,
        /// The key, with its parents before it and dots between.
        key: String,
        /// The value found, shortened.
        found: String,
        /// What is supported.
        instead: &'static str,
    },

    /// No known naming of a MobileNet fits the tensors at all.
    #[error(
        "{file} holds no MobileNet this library knows: of its {count} tensors the first are {sample}; expected torchvision's names \
         (`features.0.0.weight`, ...) or timm's (`conv_stem.weight`, ...)"
    )]
    UnknownNetwork {
        /// The file, as the caller named it.
        file: String,
        /// How many tensors it holds.
        count: usize,
        /// A few of their names.
        sample: String,
    },

    /// Sessions that cannot share runs.
    #[error("these sessions cannot go on together: {reason}; continue them one by one")]
    Together {
        /// Why not.
        reason: String,
    },
    /// The tensors are those of a known network, except for the ones named here.
    #[error("{file} does not hold a complete {architecture} (with {naming}'s tensor names): {problems}")]
    Tensors {
        /// The file, as the caller named it.
        file: String,
        /// The network that fits best.
        architecture: Architecture,
        /// Whose tensor names it uses.
        naming: Naming,
        /// Every tensor that is missing, mis-shaped or out of place.
        problems: Problems,
    },

    /// The tensors are not those that the configuration describes.
    #[error("{file} does not hold the {model} that its configuration describes: {problems}{}", of_several(.file, .problems))]
    Incomplete {
        /// The file, as the caller named it.
        file: String,
        /// The model's type.
        model: String,
        /// Every tensor that is missing, mis-shaped or out of place.
        problems: Problems,
    },

    /// A session with more room than the model was made for, or less than it takes to slide.
    #[error(
        "a context of {asked} tokens cannot be had: with this model and these options it is from {least} to {most}"
    )]
    Room {
        /// Tokens that were to fit.
        asked: usize,
        /// The least that may be asked for.
        least: usize,
        /// The most that may be asked for.
        most: usize,
    },

    /// More tokens than there is room for, or none where one is needed.
    #[error("{}", tokens_and_room(*.tokens, *.context))]
    Context {
        /// Tokens that were to be in it.
        tokens: usize,
        /// Tokens it has room for.
        context: usize,
    },

    /// A setting of the choice of tokens has no meaning.
    #[error("{setting} is {found}; it may be {expected}")]
    Sampling {
        /// The setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },

    /// A model that was not made for conversations.
    #[error(
        "the model has no chat template, so it knows no conversations; give it one (`--template`, `TextModel::with_template`), or let `generate` continue a text instead"
    )]
    NoTemplate,

    /// A model without a tokenizer, where texts are wanted.
    #[error("beside {model} there is no tokenizer.json, without which no text can be read")]
    NoTokenizer {
        /// The weights.
        model: String,
    },

    /// No prompt has this name.
    #[error("the model has no prompt called `{}`; {}", shown(.name), listed(.known))]
    Prompt {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },

    /// A token that the model does not know.
    #[error("token {token} is not among the {vocabulary} that the model knows; the tokenizer belongs to another model")]
    Token {
        /// The token.
        token: u32,
        /// Rows of the embedding table.
        vocabulary: usize,
    },

    /// The configuration names one network, the tensors are another.
    #[error(
        "the configuration says {said}, but the tensors of {file} are those of {found}; correct `architecture` or take the matching weights"
    )]
    ArchitectureMismatch {
        /// The weights' file, as the caller named it.
        file: String,
        /// What the configuration says.
        said: Architecture,
        /// What the tensors are.
        found: Architecture,
    },

    /// The configuration and the last layer disagree on the number of classes.
    #[error("{file}: `num_classes` is {said}, but the last layer has {found} outputs")]
    ClassCount {
        /// The configuration's file.
        file: String,
        /// What it says.
        said: usize,
        /// The outputs of the last layer.
        found: usize,
    },

    /// A list of labels does not fit the number of classes.
    #[error(
        "{file} has {labels} labels for {classes} classes with a label offset of {offset}; there must be as many labels as classes, \
         or as many as the classes after the offset"
    )]
    LabelCount {
        /// Where the labels came from.
        file: String,
        /// How many there are.
        labels: usize,
        /// Outputs of the network.
        classes: usize,
        /// Outputs before the first label.
        offset: usize,
    },

    /// A label file cannot be read as one label a line.
    #[error("{file}, line {line}: {problem}; a label file is UTF-8 text with one label on each line")]
    LabelLine {
        /// The file, as the caller named it.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A slice does not have the length its stated shape needs.
    #[error("`{what}` has {found} values where its shape {shape:?} needs another number")]
    Length {
        /// The tensor or argument.
        what: String,
        /// The shape it should have.
        shape: Vec<usize>,
        /// The values it has.
        found: usize,
    },

    /// A value that must be finite (or, for a variance, not negative) is not.
    #[error("`{tensor}`, channel {channel}: {problem}")]
    Value {
        /// The tensor.
        tensor: String,
        /// The output channel.
        channel: usize,
        /// What is wrong.
        problem: &'static str,
    },

    /// A picture, or what should become of it, has a size that cannot be worked with.
    #[error("{what} is {width} x {height} pixels; {allowed}")]
    ImageSize {
        /// Whose size it is.
        what: &'static str,
        /// Pixels in a row.
        width: u64,
        /// Rows.
        height: u64,
        /// What would have been accepted.
        allowed: &'static str,
    },
}

/// What is wrong with one tensor of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The network needs it and the file does not have it.
    Missing {
        /// The tensor.
        name: String,
        /// The shape it should have; `None` where any size will do.
        expected: Vec<Option<usize>>,
        /// The prefix of the batch norm that could stand in for a missing bias.
        or_batch_norm: Option<String>,
    },
    /// It is there with a shape that does not fit.
    Shape {
        /// The tensor.
        name: String,
        /// The shape it should have; `None` where any size will do.
        expected: Vec<Option<usize>>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// The network has no place for it: computing without it would give another network's answer.
    Unexpected {
        /// The tensor.
        name: String,
    },
}

/// All problems of one file, in the order of the network; prints the first twenty and counts the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().take(LISTED).enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        if self.0.len() > LISTED {
            write!(f, "; and {} more", self.0.len() - LISTED)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, expected, or_batch_norm } => {
                write!(f, "`{}` {} is missing", shown(name), Wanted(expected))?;
                match or_batch_norm {
                    Some(norm) => write!(f, ", and so is the batch norm `{}.*`", shown(norm)),
                    None => Ok(()),
                }
            }
            Self::Shape { name, expected, found } => {
                write!(f, "`{}` is {found:?} where {} is needed", shown(name), Wanted(expected))
            }
            Self::Unexpected { name } => write!(f, "`{}` is no part of it", shown(name)),
        }
    }
}

/// A shape in which some sizes are free.
struct Wanted<'a>(&'a [Option<usize>]);

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, size) in self.0.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            match size {
                Some(size) => write!(f, "{size}")?,
                None => f.write_str("any")?,
            }
        }
        f.write_str("]")
    }
}

/// What else a file may be that lacks tensors and is named like one of several, `model-00001-of-00002.safetensors`.
fn of_several(file: &str, problems: &Problems) -> &'static str {
    let count = file.strip_suffix(".safetensors").and_then(|name| name.rsplit_once("-of-"));
    let several = count.is_some_and(|(before, count)| {
        before.ends_with(|last: char| last.is_ascii_digit()) && count.parse::<u32>().is_ok_and(|count| count > 1)
    });
    let lacks = problems.0.iter().any(|problem| matches!(problem, Problem::Missing { .. }));
    if several && lacks { "; this file is one of several, open the folder that has all" } else { "" }
}

/// Why so many tokens do not go into so much room.
fn tokens_and_room(tokens: usize, context: usize) -> String {
    match tokens {
        0 => "there is no token to go on from, because the text is empty; begin with a word".to_owned(),
        _ => format!(
            "{tokens} tokens do not fit a context of {context}; shorten the text, or ask for a longer context where the model was made for one"
        ),
    }
}

/// The names of prompts, as a sentence's end.
fn listed(known: &[String]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) }
}

/// Text from a file, made safe for a terminal: whatever does not print is escaped, at most 80 characters are shown.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::new();
    for (position, character) in text.chars().enumerate() {
        match (position, character) {
            (80, _) => {
                safe.push_str("...");
                break;
            }
            (_, '"' | '\'' | '\\') => safe.push(character),
            _ => safe.extend(character.escape_debug()),
        }
    }
    safe
}
