//! How often a language model's likeliest answer to a question is, word for word, one that is right.

use super::{percent, read};
use crate::failure::Failure;
use crate::output;
use lampyris::models::decoder::{Products, SessionOptions};
use lampyris::text::{Conversation, Message};
use lampyris::text_model::TextModel;
use lampyris::{AnswerOptions, Error, Gpu, Sampling};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Tokens that an answer may have beyond those of the right one.
const MORE: usize = 8;

/// A line of the file.
#[derive(Debug, Deserialize)]
struct Question {
    /// The conversation, as chat interfaces send it; its last message is answered.
    messages: Vec<Map<String, Value>>,
    /// What is right.
    answers: Vec<String>,
    /// What sort of question it is.
    kind: Option<String>,
}

/// What was right.
#[derive(Debug, Serialize)]
pub(super) struct Score {
    file: String,
    share: f64,
    right: usize,
    count: usize,
    /// The same for each kind of question.
    kinds: BTreeMap<String, Kind>,
}

#[derive(Debug, Default, Serialize)]
struct Kind {
    share: f64,
    right: usize,
    count: usize,
}

/// Answers every question of the file at `path`.
pub(super) fn score(gpu: &Gpu, model: &TextModel, path: &Path, products: Products) -> Result<Score, Failure> {
    let file = path.display().to_string();
    let text = read(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let question = |(at, line): (usize, &str)| {
        let wrong = |reason: String| Failure::NoQuestion { path: file.clone(), line: at + 1, reason };
        let question: Question = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        match question.answers.is_empty() || question.messages.is_empty() {
            true => Err(wrong("it has no message or no answer".to_owned())),
            false => Ok(question),
        }
    };
    let questions = lines.map(question).collect::<Result<Vec<_>, _>>()?;
    if questions.is_empty() {
        return Err(Failure::NoQuestion { path: file, line: 1, reason: "there is no question at all".to_owned() });
    }
    let context = model.decoder().config().context.min(SessionOptions::USUAL_CONTEXT);
    let mut session = gpu.block_on(model.session(SessionOptions::from(context).products(products)))?;
    let progress = output::progress(questions.len(), "asking");
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    for question in questions {
        let tokens = |answer: &String| Ok(model.tokenizer().encode(answer, false).map_err(Error::from)?.len());
        let lengths = question.answers.iter().map(tokens).collect::<Result<Vec<_>, Error>>()?;
        let options = AnswerOptions::new(lengths.into_iter().max().unwrap_or(0) + MORE).sampling(Sampling::greedy());
        let messages = question.messages.into_iter().map(Message::from_object);
        let mut answer = gpu.block_on(session.chat(&Conversation::new(messages), options))?;
        let mut said = String::new();
        while let Some(piece) = gpu.block_on(answer.next())? {
            said += &piece;
        }
        let right = question.answers.iter().any(|answer| answer.trim() == said.trim());
        let kind = kinds.entry(question.kind.unwrap_or_default()).or_default();
        kind.count += 1;
        kind.right += usize::from(right);
        progress.inc(1);
    }
    progress.finish_and_clear();
    for kind in kinds.values_mut() {
        kind.share = percent(kind.right, kind.count) / 100.0;
    }
    let [right, count] = [kinds.values().map(|it| it.right).sum(), kinds.values().map(|it| it.count).sum()];
    Ok(Score { file, share: percent(right, count) / 100.0, right, count, kinds })
}

impl Score {
    /// For people.
    pub(super) fn shown(&self) -> String {
        let (right, count, file) = (self.right, self.count, output::one_line(&self.file));
        let mut text =
            format!("{:.2} % of {count} answers to {file} are right, word for word ({right})\n", percent(right, count));
        for (kind, it) in self.kinds.iter().filter(|(kind, _)| !kind.is_empty()) {
            text += &format!("  {:14} {:6.2} % of {}\n", output::one_line(kind), percent(it.right, it.count), it.count);
        }
        text
    }
}
