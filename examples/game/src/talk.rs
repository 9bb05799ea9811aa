//! What the robot says: the bundled teller of stories, run by ticks within the frame's budget.

use crate::Result;
use lampyris::models::text::{Conversation, Message};
use lampyris::text_model::DrivenText;
use lampyris::{AnswerOptions, Budget, Gpu, Sampling, TextModel, Tick, wgpu};
use serde_json::{Value, json};

/// Room for a story and questions about it, in tokens, and the most of one answer.
const CONTEXT: usize = 768;
const MOST: usize = 220;

/// What it is asked, one after the other; a request for a story begins a new conversation.
const QUESTIONS: [&str; 6] = [
    "Tell me a story about a fox and a lantern.",
    "What colour was the lantern?",
    "Tell me a story about a boat.",
    "Who was it about?",
    "Tell me a story about a rabbit and a key.",
    "What did they find?",
];

/// How words are chosen: the same story in every run, so that pictures can be compared.
fn sampling() -> Sampling {
    Sampling::at(0.7).top_k(40).seed(7)
}

/// What was said to one question.
#[derive(Debug)]
struct Turn {
    question: &'static str,
    answer: String,
    /// The frame in which it was asked, the one that brought the first word, and the last.
    asked: usize,
    first: Option<usize>,
    done: Option<usize>,
}

/// A conversation that goes on whenever it is ticked.
#[derive(Debug)]
pub struct Talk {
    session: DrivenText,
    turns: Vec<Turn>,
    /// Where in [`Talk::turns`] the conversation began that is going on.
    since: usize,
}

impl Talk {
    /// Loads the bundled model, makes room for a conversation and measures how long its steps take: on the loading thread, so that the
    /// first tick knows what it can afford.
    pub async fn load(gpu: &Gpu) -> Result<Talk> {
        let session = TextModel::bundled(gpu)?.session(CONTEXT).await?.driven().measured(&sampling()).await?;
        Ok(Talk { session, turns: Vec::new(), since: 0 })
    }

    /// Asks the next question, unless an answer is still under way.
    pub fn ask(&mut self, frame: usize) {
        if !self.is_silent() {
            return;
        }
        let question = QUESTIONS[self.turns.len() % QUESTIONS.len()];
        if question.starts_with("Tell") {
            self.since = self.turns.len();
        }
        let (answer, first, done) = (String::new(), None, None);
        self.turns.push(Turn { question, answer, asked: frame, first, done });
        let mut messages = Vec::new();
        for turn in &self.turns[self.since..] {
            messages.push(Message::user(turn.question));
            if turn.done.is_some() {
                messages.push(Message::assistant(&turn.answer));
            }
        }
        let options = AnswerOptions::new(MOST).sampling(sampling());
        self.session.chat(&Conversation::new(messages), options);
    }

    /// Whether every question has been answered.
    pub fn is_silent(&self) -> bool {
        self.turns.last().is_none_or(|turn| turn.done.is_some())
    }

    /// Records as much of the answer as the budget pays for, and takes what has arrived of it.
    pub fn tick(&mut self, encoder: &mut wgpu::CommandEncoder, budget: &mut Budget, frame: usize) -> Result<()> {
        let tick = self.session.tick(encoder, budget)?;
        let Some(turn) = self.turns.last_mut() else { return Ok(()) };
        match tick {
            Tick::Pieces(text) => {
                turn.answer += &text;
                turn.first.get_or_insert(frame);
            }
            Tick::Done(_) => turn.done = Some(frame),
            Tick::Working(_) | Tick::Idle | Tick::Lost => {}
        }
        Ok(())
    }

    /// The last question, and what has been said to it so far.
    pub fn speech(&self) -> Option<(&str, &str)> {
        self.turns.last().map(|turn| (turn.question, turn.answer.as_str()))
    }

    /// Questions and answers, with the frames that they took.
    pub fn report(&self) -> Value {
        let turn = |turn: &Turn| {
            json!({
                "question": turn.question,
                "answer": turn.answer,
                "first_word_after_frames": turn.first.map(|first| first - turn.asked),
                "frames": turn.done.map(|done| done - turn.asked),
            })
        };
        Value::Array(self.turns.iter().map(turn).collect())
    }
}
