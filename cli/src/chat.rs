//! `lampyris chat`: a conversation with a model, at a terminal or through a pipe. Ctrl-C ends the answer, not the program.

use crate::args::{self, Chat, DeviceArguments};
use crate::failure::Failure;
use crate::model::{Chosen, Loaded};
use crate::{device, generate, output};
use lampyris::text::{Conversation, Message, Part, Thoughts};
use lampyris::text_model::TextSession;
use lampyris::{Error, Gpu, Sampling};
use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A conversation and how its last answer came.
struct Talk<'a> {
    gpu: &'a Gpu,
    job: &'a Chat,
    session: TextSession,
    system: Option<String>,
    turns: Vec<Message>,
    stopped: Arc<AtomicBool>,
    last: Option<Last>,
}

/// Tokens of an answer, the seconds they took and how they were chosen.
struct Last {
    tokens: usize,
    seconds: f64,
    sampling: Sampling,
}

/// Talks until the input ends.
pub(crate) fn run(job: &Chat, arguments: &DeviceArguments) -> Result<(), Failure> {
    let chosen = Chosen::text(job.text.model.as_deref())?;
    let gpu = device::open(arguments)?;
    let Loaded { model: session, note, .. } = generate::open(chosen, &job.text, &gpu)?;
    let Some(template) = session.model().template() else { return Err(Error::NoTemplate.into()) };
    job.text.choice.over(Sampling::greedy()).check()?;
    if job.no_think && !template.can_switch_thinking() {
        output::note("the model's template has no switch for thoughts, so --no-think changes nothing");
    }
    device::say_kind(&gpu);
    note.into_iter().for_each(output::note);
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
    let system = job.system.clone();
    let mut talk = Talk { gpu: &gpu, job, session, system, turns: Vec::new(), stopped, last: None };
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
            ("/reset", _) => self.begin_anew(),
            ("/system", text) => {
                self.system = (!text.is_empty()).then(|| text.to_owned());
                self.begin_anew()
            }
            ("/stats", _) => output::print(&self.stats()),
            (word, _) if word.starts_with('/') => {
                output::print("(commands are /reset, /system TEXT, /stats and /quit)\n")
            }
            _ => self.answer(line),
        }
    }

    /// Forgets what was said.
    fn begin_anew(&mut self) -> Result<(), Failure> {
        self.turns.clear();
        self.session.reset();
        output::print("(a new conversation)\n")
    }

    fn stats(&self) -> String {
        let session = self.session.tokens();
        let (used, context) = (session.tokens().len(), session.context());
        let speed = self.last.as_ref().map_or(String::new(), |last| {
            let Last { tokens, seconds, sampling } = last;
            let chosen = match sampling.is_random() {
                true => format!("drawn at temperature {} with seed {}", sampling.temperature, sampling.seed),
                false => "the likeliest each".to_owned(),
            };
            format!(
                ", {tokens} tokens in the last answer ({chosen}), {:.1} a second",
                generate::rate(*tokens, *seconds)
            )
        });
        format!("({used} of {context} tokens, {} bytes of cache{speed}, on {})\n", session.bytes(), self.gpu.summary())
    }

    fn conversation(&self) -> Conversation {
        let messages = self.system.iter().map(Message::system).chain(self.turns.iter().cloned());
        let conversation = Conversation::new(messages);
        if self.job.no_think { conversation.set("enable_thinking", false.into()) } else { conversation }
    }

    /// How many tokens the conversation is.
    fn length(&self) -> Result<usize, Error> {
        let model = self.session.model();
        let template = model.template().ok_or(Error::NoTemplate)?;
        Ok(template.encode(&self.conversation(), model.tokenizer())?.len())
    }

    /// Drops the oldest turns, whole, until an answer has room: as many tokens as it may have, or a quarter of the context.
    fn make_room(&mut self) -> Result<(), Error> {
        let context = self.session.tokens().context();
        let room = self.job.text.max_tokens.clamp(1, (context / 4).max(1));
        let mut dropped = 0;
        while self.turns.len() > 2 && self.length()? + room > context {
            self.turns.drain(..2);
            dropped += 1;
        }
        if dropped > 0 {
            let turns = if dropped == 1 { "turn was" } else { "turns were" };
            output::note(&format!(
                "the conversation was too long for a context of {context} tokens, so its {dropped} oldest {turns} dropped"
            ));
        }
        Ok(())
    }

    /// How this answer's tokens are chosen: with the seed given, or another one each time.
    fn sampling(&self) -> Sampling {
        let recommended = self.session.model().sampling().unwrap_or_else(Sampling::usual);
        self.job.text.choice.over(recommended.seed(args::any_seed()))
    }

    /// Answers `said` as it is written.
    fn answer(&mut self, said: &str) -> Result<(), Failure> {
        self.turns.push(Message::user(said));
        self.stopped.store(false, Ordering::Relaxed);
        match self.write_answer() {
            Ok(text) => self.turns.push(Message::assistant(text)),
            Err(Failure::Model(error @ (Error::Context { .. } | Error::Text(_)))) => {
                self.turns.pop();
                output::note(&error.to_string());
            }
            Err(failure) => return Err(failure),
        }
        self.stopped.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes an answer to the last turn and gives it without its thoughts, which belong to no later turn.
    fn write_answer(&mut self) -> Result<String, Failure> {
        self.make_room()?;
        let (gpu, sampling, start) = (self.gpu, self.sampling(), Instant::now());
        let conversation = self.conversation();
        let options = generate::options(&self.job.text, sampling);
        let mut answer = gpu.block_on(self.session.chat(&conversation, options))?;
        let mut thoughts = Thoughts::new(answer.opens_thought());
        let mut page = Page::new();
        while !self.stopped.load(Ordering::Relaxed)
            && let Some(piece) = gpu.block_on(answer.next())?
        {
            for part in thoughts.push(&piece) {
                page.write(&part)?;
            }
        }
        if let Some(part) = thoughts.finish() {
            page.write(&part)?;
        }
        let tokens = answer.ids().len();
        self.last = Some(Last { tokens, seconds: start.elapsed().as_secs_f64(), sampling });
        let text = page.end()?;
        let session = self.session.tokens();
        if session.tokens().len() == session.context() && tokens < self.job.text.max_tokens {
            output::note(
                "the context is full, so the answer ends here; the oldest turns will be dropped for the next one",
            );
        }
        Ok(text)
    }
}

/// An answer as it is shown: thoughts dimmed at a terminal, labelled elsewhere.
struct Page {
    terminal: bool,
    thinking: bool,
    answer: String,
}

impl Page {
    fn new() -> Page {
        Page { terminal: std::io::stdout().is_terminal(), thinking: false, answer: String::new() }
    }

    fn write(&mut self, part: &Part) -> Result<(), Failure> {
        if part.thought != self.thinking {
            self.thinking = part.thought;
            output::print(match (part.thought, self.terminal) {
                (true, true) => "\x1b[2m",
                (false, true) => "\x1b[0m\n\n",
                (true, false) => "(thinking) ",
                (false, false) => "\n(answer) ",
            })?;
        }
        if !part.thought {
            self.answer += &part.text;
        }
        output::print(&output::printable(&part.text))
    }

    /// Ends it and gives the text of the answer.
    fn end(self) -> Result<String, Failure> {
        output::print(if self.thinking && self.terminal { "\x1b[0m\n" } else { "\n" })?;
        Ok(self.answer)
    }
}
