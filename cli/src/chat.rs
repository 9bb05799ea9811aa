//! `lampyris chat`: a conversation with a model, at a terminal or through a pipe. Ctrl-C ends the answer, not the program.

use crate::args::{Chat, DeviceArguments};
use crate::failure::Failure;
use crate::{device, generate, output};
use lampyris::text::{Conversation, Message};
use lampyris::text_model::TextSession;
use lampyris::{Error, Gpu};
use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A conversation and how fast its last answer came.
struct Talk<'a> {
    gpu: &'a Gpu,
    session: TextSession,
    system: Option<String>,
    turns: Vec<Message>,
    most: usize,
    stopped: Arc<AtomicBool>,
    last: Option<(usize, f64)>,
}

/// Talks until the input ends.
pub(crate) fn run(job: &Chat, arguments: &DeviceArguments) -> Result<(), Failure> {
    let gpu = device::open(arguments)?;
    let session = generate::open(&job.text, &gpu)?;
    if session.model().template().is_none() {
        return Err(Error::NoTemplate.into());
    }
    device::say_kind(&gpu);
    let stopped = Arc::new(AtomicBool::new(false));
    let (signal, input) = (stopped.clone(), std::io::stdin());
    let terminal = input.is_terminal();
    let handler = move || {
        // The second time nobody has listened to the first: no answer is being written.
        if signal.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        output::note(&format!("Ctrl-C will end the program: {error}"));
    }
    let (system, most) = (job.system.clone(), job.text.max_tokens);
    let mut talk = Talk { gpu: &gpu, session, system, turns: Vec::new(), most, stopped, last: None };
    let mut lines = input.lock().lines();
    loop {
        if terminal {
            output::print("> ")?;
        }
        let Some(line) = lines.next() else { break };
        let line = line.map_err(Failure::Input)?;
        if line.trim() == "/quit" {
            break;
        }
        if !line.trim().is_empty() {
            talk.hear(line.trim())?;
        }
    }
    Ok(())
}

impl Talk<'_> {
    /// A command of the conversation, or something said.
    fn hear(&mut self, line: &str) -> Result<(), Failure> {
        match line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim())) {
            ("/reset", _) => {
                self.turns.clear();
                output::print("(a new conversation)\n")
            }
            ("/system", text) => {
                self.system = (!text.is_empty()).then(|| text.to_owned());
                self.turns.clear();
                output::print("(a new conversation)\n")
            }
            ("/stats", _) => output::print(&self.stats()),
            (word, _) if word.starts_with('/') => {
                output::print("(commands are /reset, /system TEXT, /stats and /quit)\n")
            }
            _ => self.answer(line),
        }
    }

    fn stats(&self) -> String {
        let session = self.session.tokens();
        let (used, context) = (session.tokens().len(), session.context());
        let speed = self.last.map_or(String::new(), |(tokens, seconds)| {
            format!(", {tokens} tokens in the last answer, {:.1} a second", generate::rate(tokens, seconds))
        });
        format!("({used} of {context} tokens, {} bytes of cache{speed}, on {})\n", session.bytes(), self.gpu.summary())
    }

    /// Answers `said` as it is written. The oldest turns go, whole and announced, while the conversation is too long.
    fn answer(&mut self, said: &str) -> Result<(), Failure> {
        self.turns.push(Message::user(said));
        self.stopped.store(false, Ordering::Relaxed);
        let (mut dropped, mut text) = (0, String::new());
        loop {
            let messages = self.system.iter().map(Message::system).chain(self.turns.iter().cloned());
            let conversation = Conversation::new(messages);
            let gpu = self.gpu;
            let start = Instant::now();
            let mut answer = match gpu.block_on(self.session.chat(&conversation, self.most)) {
                Err(Error::Context { .. }) if self.turns.len() > 2 => {
                    self.turns.drain(..2);
                    dropped += 1;
                    continue;
                }
                Err(error) => {
                    self.turns.pop();
                    output::note(&error.to_string());
                    return Ok(());
                }
                Ok(answer) => answer,
            };
            if dropped > 0 {
                output::note(&format!("the conversation was too long, so its {dropped} oldest turns were dropped"));
            }
            while !self.stopped.load(Ordering::Relaxed)
                && let Some(piece) = gpu.block_on(answer.next())?
            {
                output::print(&output::printable(&piece))?;
                text += &piece;
            }
            self.last = Some((answer.ids().len(), start.elapsed().as_secs_f64()));
            break;
        }
        self.stopped.store(false, Ordering::Relaxed);
        self.turns.push(Message::assistant(text));
        output::print("\n")
    }
}
