//! What is said to a model, and by whom, before a template makes text of it.

use serde_json::{Map, Value, json};

use super::WallClock;

/// One message: a role, a content, and whatever else a template knows (tool calls, reasoning, ...).
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A message of any role, in the spelling of the model's template.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self(Map::from_iter([
            ("role".to_owned(), Value::from(role)),
            ("content".to_owned(), Value::from(content.into())),
        ]))
    }

    /// What the model should know and obey before anything is said. Some templates refuse it.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What a person said.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// What a tool answered.
    pub fn tool(content: impl Into<String>) -> Self {
        Self::new("tool", content)
    }

    /// A message as chat interfaces send it: an object with `role` and, mostly, `content`.
    pub fn from_object(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// Adds what else a template reads of a message: `tool_calls`, `name`, `reasoning_content`, ...
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }

    /// The message as an object.
    pub fn object(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// A conversation, and how it should be rendered.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    pub(super) messages: Vec<Message>,
    pub(super) tools: Option<Value>,
    pub(super) documents: Option<Value>,
    pub(super) extra: Map<String, Value>,
    pub(super) answer: Answer,
    pub(super) now: Option<WallClock>,
}

/// What the rendering ends with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// The beginning of an answer, for the model to write.
    #[default]
    Begin,
    /// The last message, without its end.
    Continue,
    /// The last message with its end.
    Nothing,
}

impl Conversation {
    /// The messages in their order. The rendering ends with the beginning of the model's answer.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Self { messages: messages.into_iter().collect(), ..Self::default() }
    }

    /// The functions that the model may call: a list of objects as chat interfaces describe them.
    #[must_use]
    pub fn tools(mut self, tools: Vec<Value>) -> Self {
        self.tools = Some(Value::Array(tools));
        self
    }

    /// The texts that the model should answer from: a list of objects with `title` and `text`.
    #[must_use]
    pub fn documents(mut self, documents: Vec<Value>) -> Self {
        self.documents = Some(Value::Array(documents));
        self
    }

    /// Another variable of the template, such as `enable_thinking`. The value is the program's own: special tokens in it are
    /// recognized. It takes the place of a variable of the same name.
    #[must_use]
    pub fn set(mut self, name: &str, value: Value) -> Self {
        self.extra.insert(name.to_owned(), value);
        self
    }

    /// What `strftime_now` tells a template. Without it templates do not see this function; some then use a date of their own,
    /// others fail.
    #[must_use]
    pub fn now(mut self, now: WallClock) -> Self {
        self.now = Some(now);
        self
    }

    /// Ends with the last message instead of beginning an answer (`add_generation_prompt` is false).
    #[must_use]
    pub fn without_answer(mut self) -> Self {
        self.answer = Answer::Nothing;
        self
    }

    /// Ends inside of the last message, for the model to go on with it (prefill).
    #[must_use]
    pub fn continuing(mut self) -> Self {
        self.answer = Answer::Continue;
        self
    }

    /// The variables of the template.
    pub(super) fn variables(&self) -> Map<String, Value> {
        let messages = self.messages.iter().map(|message| Value::Object(message.0.clone())).collect();
        let mut variables = Map::from_iter([
            ("messages".to_owned(), Value::Array(messages)),
            ("tools".to_owned(), self.tools.clone().unwrap_or(Value::Null)),
            ("documents".to_owned(), self.documents.clone().unwrap_or(Value::Null)),
            ("add_generation_prompt".to_owned(), json!(self.answer == Answer::Begin)),
        ]);
        variables.extend(self.extra.clone());
        variables
    }
}
