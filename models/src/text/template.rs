//! Chat templates: the Jinja programs that models are published with, run on a conversation.

use std::io;
use std::sync::Arc;

use minijinja::ErrorKind;
use serde_json::{Map, Value};

use super::added::Special;
use super::conversation::{Answer, Conversation};
use super::error::printable;
use super::escape::{Escape, free_characters};
use super::guard::guarded;
use super::methods::{environment, without_generation_marks};
use super::work::Work;
use super::{ChatFormat, TextError, Tokenizer, WallClock};

/// Steps that a template may take. The longest of the published ones takes some hundreds a message.
const STEPS: u64 = 10_000_000;

/// Bytes of its own text that a template may keep, a piece of it a step, and the steps that it may take at least.
const KEPT: u64 = 1 << 30;
const FEWEST_STEPS: u64 = 20_000;

/// Bytes that a template may write.
const BYTES: usize = 16 << 20;

/// A chat template, and the special tokens it knows by name.
///
/// A template is a program from somebody else's file. It sees nothing but the conversation; its steps, its recursion, the depth of its
/// lists, the bytes that its operators, filters, methods and tests work on and its output are limited, to some
/// hundreds of megabytes at once and some ten seconds. A program that runs templates of unknown origin and cannot spare that should limit its own.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    /// The same as it is run.
    program: String,
    steps: u64,
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Takes a template's source, after a look at its syntax.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`], and [`TextError::TemplateLimit`] for one that is too deep to be parsed.
    pub fn new(source: &str) -> Result<Self, TextError> {
        let source = without_generation_marks(source);
        let guarded = guarded(&source)?;
        let steps = (KEPT / guarded.longest.max(1) as u64).clamp(FEWEST_STEPS, STEPS);
        let program = guarded.source;
        let parsed = environment(None, steps, &Arc::default()).template_from_str(&program).map(|_| ());
        let wrong = parsed.err().map(|error| error.to_string());
        let wrong = wrong.or(guarded.stopped.map(|line| format!("a tag on line {line} is not understood")));
        if let Some(reason) = wrong {
            return Err(TextError::TemplateSyntax { reason: printable(&reason) });
        }
        Ok(Self { source, program, steps, tokens: Map::new() })
    }

    /// The template that a tokenizer's files came with, or ChatML if they have none and the vocabulary has its tokens.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`TextError::NoTemplate`] where ChatML cannot stand in.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let source = tokenizer.template_source(None);
        if source.is_none() {
            let missing = ["<|im_start|>", "<|im_end|>"].into_iter().find(|token| tokenizer.id(token).is_none());
            if let Some(missing) = missing {
                return Err(TextError::NoTemplate { missing });
            }
        }
        Self::with(source.unwrap_or(ChatFormat::ChatMl.source()), tokenizer)
    }

    /// A template's source with the special tokens that a tokenizer names.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(source: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let mut template = Self::new(source)?;
        let named = [
            ("bos_token", tokenizer.bos()),
            ("eos_token", tokenizer.eos()),
            ("unk_token", tokenizer.unknown()),
            ("pad_token", tokenizer.padding()),
        ];
        for (name, id) in named {
            if let Some(token) = id.and_then(|id| tokenizer.token(id)) {
                template = template.token(name, &token);
            }
        }
        Ok(template)
    }

    /// Gives a special token a name that the template knows, such as `bos_token`.
    #[must_use]
    pub fn token(mut self, name: &str, text: &str) -> Self {
        self.tokens.insert(name.to_owned(), Value::from(text));
        self
    }

    /// The text of a conversation. To hand it to a model, use [`encode`](Self::encode): in the text alone, special tokens that
    /// a user typed look like those of the template.
    ///
    /// # Errors
    /// [`TextError::Template`] where the template refuses the conversation or fails, [`TextError::TemplateLimit`], and
    /// [`TextError::Continue`].
    pub fn render(&self, conversation: &Conversation) -> Result<String, TextError> {
        self.run(conversation, self.variables(conversation))
    }

    /// Whether the beginning of the answer, as the template writes it, is the beginning of a thought; see
    /// [`Thoughts`](super::Thoughts).
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn opens_thought(&self, conversation: &Conversation) -> Result<bool, TextError> {
        Ok(conversation.answer == Answer::Begin && self.render(conversation)?.trim_end().ends_with("<think>"))
    }

    /// Whether the template knows the variable `enable_thinking`, with which a conversation switches thoughts off; see
    /// [`Conversation::set`].
    pub fn can_switch_thinking(&self) -> bool {
        self.source.contains("enable_thinking")
    }

    /// The ids of a conversation. Special tokens are recognized where the template wrote them, and are plain characters in
    /// messages, tools and documents.
    ///
    /// # Errors
    /// As [`render`](Self::render), and [`TextError::Encode`].
    pub fn encode(&self, conversation: &Conversation, tokenizer: &Tokenizer) -> Result<Vec<u32>, TextError> {
        let special: Vec<&str> = tokenizer.special_tokens().map(|(token, _)| token).collect();
        let (text, breaks) = self.render_marked(conversation, &special)?;
        tokenizer.ids(&text, Special::Across(&breaks))
    }

    /// The text of a conversation, and the bytes of it across which no special token may lie.
    pub(super) fn render_marked(
        &self,
        conversation: &Conversation,
        special: &[&str],
    ) -> Result<(String, Vec<usize>), TextError> {
        let mut variables = self.variables(conversation);
        let [mark] = free_characters(&self.source, &variables)?;
        let escape = Escape::new(mark, special, &self.source);
        for name in ["messages", "tools", "documents"] {
            if let Some(value) = variables.get_mut(name) {
                escape.value(value);
            }
        }
        Ok(escape.undo(&self.run(conversation, variables)?))
    }

    fn variables(&self, conversation: &Conversation) -> Map<String, Value> {
        let mut variables = self.tokens.clone();
        variables.extend(conversation.variables());
        variables
    }

    /// Renders, and ends inside of the last message if that should be continued.
    fn run(&self, conversation: &Conversation, mut variables: Map<String, Value>) -> Result<String, TextError> {
        if conversation.answer != Answer::Continue {
            return self.execute(&variables, conversation.now);
        }
        let [_, end] = free_characters(&self.source, &variables)?;
        let content = last_content(&mut variables).ok_or(TextError::Continue { reason: "it has no text" })?;
        // The space tells a template that trims from one that does not.
        content.extend([end, ' ']);
        let mut text = self.execute(&variables, conversation.now)?;
        let at = text.rfind(end).ok_or(TextError::Continue { reason: "the template does not show it" })?;
        let kept = text[at + end.len_utf8()..].starts_with(' ');
        text.truncate(at);
        if !kept {
            text.truncate(text.trim_end().len());
        }
        // A template may show a message more than once.
        text.retain(|character| character != end);
        Ok(text)
    }

    fn execute(&self, variables: &Map<String, Value>, now: Option<WallClock>) -> Result<String, TextError> {
        let work = Arc::default();
        let environment = environment(now, self.steps, &work);
        let failed = |error: minijinja::Error| TextError::Template { reason: printable(&error.to_string()) };
        let template = environment.template_from_str(&self.program).map_err(failed)?;
        let mut output = Limited::default();
        match template.render_captured_to(variables, &mut output) {
            Ok(_) => String::from_utf8(output.bytes).map_err(|error| TextError::Template { reason: error.to_string() }),
            Err(_) if work.is_over() => Err(TextError::TemplateLimit {
                what: "bytes in operators, filters and methods",
                limit: Work::MOST as u64,
            }),
            Err(_) if output.full => Err(TextError::TemplateLimit { what: "bytes of output", limit: BYTES as u64 }),
            Err(error) if error.kind() == ErrorKind::OutOfFuel => {
                Err(TextError::TemplateLimit { what: "steps", limit: self.steps })
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// The text of the last message: its content, or the last text among the parts of its content.
fn last_content(variables: &mut Map<String, Value>) -> Option<&mut String> {
    let message = variables.get_mut("messages")?.as_array_mut()?.last_mut()?;
    match message.get_mut("content")? {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts.iter_mut().rev().find_map(|part| match part.get_mut("text") {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }),
        _ => None,
    }
}

/// Takes no more than so many bytes.
#[derive(Default)]
struct Limited {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > BYTES {
            self.full = true;
            return Err(io::Error::other("the output is full"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
