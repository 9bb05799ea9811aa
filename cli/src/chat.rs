//! `lampyris chat`: a conversation with a model, at a terminal or through a pipe. Ctrl-C ends the answer, not the program.

mod input;
mod template;

use crate::args::{self, Chat, DeviceArguments};
use crate::failure::Failure;
use crate::model::{Chosen, Loaded};
use crate::silence::Ended;
use crate::{clock, device, generate, output};
use input::Presses;
use lampyris::text::{Conversation, Message, Part, Thoughts, WallClock};
use lampyris::text_model::{Ending, TextModel, TextSession};
use lampyris::{Error, Gpu, Sampling};
use std::future::Future;
use std::io::IsTerminal;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;
use template::Template;

/// Tokens that most answers have at most.
const USUAL: usize = 256;

/// A conversation and how its last answer came.
struct Talk<'a> {
    gpu: &'a Gpu,
    job: &'a Chat,
    session: TextSession,
    system: Option<String>,
    turns: Vec<Message>,
    /// When it began, for templates that ask.
    began: Option<WallClock>,
    presses: Arc<Presses>,
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
    job.text.choice.over(Sampling::greedy()).check()?;
    let chosen = Chosen::text(job.text.model.as_deref())?;
    let template = job.template.as_deref().map(Template::read).transpose()?;
    let gpu = device::open(arguments)?;
    let with = |model: TextModel, name: &str| match &template {
        Some(template) => template.given_to(model),
        None => match model.chat_template().map(|_| ()) {
            Ok(()) => Ok(model),
            Err(Error::NoTemplate) => Err(Failure::NoTemplate { model: name.to_owned() }),
            Err(error) => Err(error.into()),
        },
    };
    let Loaded { model: session, note, .. } = generate::open(chosen, &job.text, &gpu, with)?;
    let own = session.model().chat_template()?;
    if job.no_think && !own.can_switch_thinking() {
        output::note("the model's template has no switch for thoughts, so --no-think changes nothing");
    }
    device::say_kind(&gpu);
    session.tokens().multiplied_otherwise().into_iter().for_each(output::note);
    note.into_iter().for_each(output::note);
    let presses = Arc::new(Presses::default());
    let (pressed, input) = (presses.clone(), std::io::stdin());
    let terminal = input.is_terminal();
    if let Err(error) = ctrlc::set_handler(move || pressed.press()) {
        output::note(&format!("Ctrl-C will end the program: {error}"));
    }
    let (system, began) = (job.system.clone(), clock::now());
    let mut talk = Talk { gpu: &gpu, job, session, system, turns: Vec::new(), began, presses, last: None };
    let mut input = input.lock();
    loop {
        if terminal {
            output::print("> ")?;
        }
        match input::line(&mut input).map_err(Failure::Input)? {
            None => break,
            Some(Err(reason)) => output::note(&reason),
            Some(Ok(line)) if line.trim().is_empty() => {}
            Some(Ok(line)) => {
                if !talk.hear(line.trim_end())? {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Drives `future` to its end; `None` where Ctrl-C came first.
fn unless_stopped<T>(gpu: &Gpu, presses: &Presses, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    gpu.block_on(std::future::poll_fn(|context| match presses.stopped() {
        true => Poll::Ready(None),
        false => future.as_mut().poll(context).map(Some),
    }))
}

impl Talk<'_> {
    /// A command of the conversation, or something said. Gives whether the conversation goes on.
    fn hear(&mut self, line: &str) -> Result<bool, Failure> {
        match line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim())) {
            ("/quit", _) => return Ok(false),
            ("/reset", _) => self.begin_anew()?,
            ("/system", text) => {
                self.system = (!text.is_empty()).then(|| text.to_owned());
                self.begin_anew()?;
            }
            ("/stats", _) => output::print(&self.stats())?,
            (word, _) if word.starts_with('/') => output::print(
                "(commands are /reset, /system TEXT, /stats and /quit; with a space before it, the line is said to the model)\n",
            )?,
            _ => self.answer(line.trim())?,
        }
        Ok(true)
    }

    /// Forgets what was said.
    fn begin_anew(&mut self) -> Result<(), Failure> {
        self.turns.clear();
        self.session.reset();
        (self.last, self.began) = (None, clock::now());
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

    /// What was said from turn number `from` on.
    fn conversation(&self, from: usize) -> Conversation {
        let turns = self.turns.get(from..).unwrap_or_default();
        let messages = self.system.iter().map(Message::system).chain(turns.iter().cloned());
        let mut conversation = Conversation::new(messages);
        if let Some(began) = self.began {
            conversation = conversation.now(began);
        }
        if self.job.no_think { conversation.set("enable_thinking", false.into()) } else { conversation }
    }

    /// How many tokens the conversation is from turn number `from` on.
    fn length(&self, from: usize) -> Result<usize, Error> {
        let model = self.session.model();
        Ok(model.chat_template()?.encode(&self.conversation(from), model.tokenizer())?.len())
    }

    /// Most tokens of an answer: as many as were asked for, or whatever the context leaves.
    fn most(&self) -> usize {
        self.job.text.max_tokens.unwrap_or(self.session.tokens().context())
    }

    /// Drops the oldest turns, whole, until an answer has room: as many tokens as it may have, or a quarter of the context. Where the last
    /// turn does not fit alone, nothing is dropped for it. Of an answer that may have all that the context leaves it is what most take.
    fn make_room(&mut self) -> Result<(), Error> {
        let context = self.session.tokens().context();
        let room = self.job.text.max_tokens.unwrap_or(USUAL).clamp(1, (context / 4).max(1));
        let last = self.turns.len().saturating_sub(1);
        // Drops of a turn and its answer, up to the last turn.
        let drops = last.div_ceil(2);
        let from = |dropped: usize| (2 * dropped).min(last);
        if drops > 0 && self.length(0)? + room > context && self.session.tokens().slides().is_none() {
            let tokens = self.length(last)?;
            if tokens > context {
                return Err(Error::Context { tokens, context });
            }
        }
        let from = from(fewest(drops, |dropped| Ok(self.length(from(dropped))? + room <= context))?);
        self.turns.drain(..from);
        if from > 0 {
            let dropped = from.div_ceil(2);
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
        self.presses.answering(true);
        let written = self.write_answer();
        self.presses.answering(false);
        match written {
            Ok(Some(text)) => self.turns.push(Message::assistant(text)),
            Ok(None) => {
                self.turns.pop();
                output::note("stopped before there was an answer, so it counts as not said");
            }
            Err(Failure::Model(error @ (Error::Context { .. } | Error::Text(_)))) => {
                self.turns.pop();
                output::note(&error.to_string());
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Writes an answer to the last turn and gives it without its thoughts, which belong to no later turn; `None` where it was stopped
    /// before its first token.
    fn write_answer(&mut self) -> Result<Option<String>, Failure> {
        self.make_room()?;
        let (gpu, sampling, start) = (self.gpu, self.sampling(), Instant::now());
        let (conversation, presses) = (self.conversation(0), self.presses.clone());
        let most = self.most();
        let options = generate::options(&self.job.text, most, sampling);
        let before = self.session.tokens().dropped();
        let Some(answer) = unless_stopped(gpu, &presses, self.session.chat(&conversation, options)) else {
            return Ok(None);
        };
        let mut answer = answer?;
        let mut thoughts = Thoughts::new(answer.opens_thought());
        let mut page = Page::new();
        while let Some(next) = unless_stopped(gpu, &presses, answer.next())
            && let Some(piece) = next?
        {
            for part in thoughts.push(&piece) {
                page.write(&part)?;
            }
        }
        if let Some(part) = thoughts.finish() {
            page.write(&part)?;
        }
        let (ids, why) = (answer.ids().to_vec(), answer.ending());
        let tokens = ids.len();
        if tokens == 0 && presses.stopped() {
            return Ok(None);
        }
        self.last = Some(Last { tokens, seconds: start.elapsed().as_secs_f64(), sampling });
        let (text, thought) = page.end()?;
        let ended = Ended { model: self.session.model(), ids: &ids, text: &text, most, why };
        let session = self.session.tokens();
        if session.dropped() > before {
            let dropped = session.dropped() - before;
            output::note(&format!(
                "the context was full, so {dropped} tokens of the conversation were dropped for others"
            ));
        }
        if why == Some(Ending::Full) {
            output::note(
                "the context is full, so the answer ends here; the oldest turns will be dropped for the next one",
            );
        } else if !presses.stopped()
            && let Some(why) = ended.of_turn(thought)
        {
            output::note(&why);
        }
        Ok(Some(text))
    }
}

/// The fewest, up to `most`, that are `enough`, where more of what is enough is too; `most` where nothing less is. Asks as often as halving
/// takes, once where nothing is needed.
fn fewest(most: usize, mut enough: impl FnMut(usize) -> Result<bool, Error>) -> Result<usize, Error> {
    if most == 0 || enough(0)? {
        return Ok(0);
    }
    let (mut too_few, mut found) = (0, most);
    while found - too_few > 1 {
        let middle = too_few + (found - too_few) / 2;
        if enough(middle)? { found = middle } else { too_few = middle }
    }
    Ok(found)
}

/// An answer as it is shown: thoughts dimmed at a terminal, labelled elsewhere.
struct Page {
    terminal: bool,
    thinking: bool,
    /// Whether there were thoughts.
    thought: bool,
    answer: String,
}

impl Page {
    fn new() -> Page {
        Page { terminal: std::io::stdout().is_terminal(), thinking: false, thought: false, answer: String::new() }
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
        self.thought |= part.thought;
        if !part.thought {
            self.answer += &part.text;
        }
        output::print(&output::printable(&part.text))
    }

    /// Ends it and gives the text of the answer, and whether there were thoughts.
    fn end(self) -> Result<(String, bool), Failure> {
        output::print(if self.thinking && self.terminal { "\x1b[0m\n" } else { "\n" })?;
        Ok((self.answer, self.thought))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_that_are_enough_are_found_by_halving() {
        for most in [0_usize, 1, 2, 7, 1000] {
            for needed in [0, 1, 2, most / 2, most.saturating_sub(1), most, most + 5] {
                let mut asked = 0;
                let found = fewest(most, |count| {
                    asked += 1;
                    Ok(count >= needed)
                });
                assert_eq!(found.ok(), Some(needed.min(most)), "{needed} of {most}");
                assert!(asked <= 11, "{asked} times for {needed} of {most}");
            }
        }
    }
}
