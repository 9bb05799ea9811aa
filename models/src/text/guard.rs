//! Rewrites a template before it is run, so that what its operators work on is counted: a step of the engine may be `~` of two texts of any
//! length. It reads templates by the engine's own grammar ([`expression`]). What stands beside such an operator, is walked over, searched,
//! put into a list or a mapping or kept in a namespace goes through a filter that counts it ([`COUNTED`] and its kin), a product becomes
//! one that counts what it makes ([`TIMES`]), and a cut one that makes what it cuts at once ([`SLICE`]). Nothing else is changed, and no
//! line is moved. It also refuses what would make the engine run out of stack, which works through an expression with a call for each of
//! its parts.

mod expression;
mod literal;

use super::TextError;

/// The filter that counts a value with all that is in it and gives it back.
pub(super) const COUNTED: &str = "__counted";
/// The filter that counts what it takes to walk over a value or to append to it.
pub(super) const WALKED: &str = "__walked";
/// The filter that counts what it takes to look for something in a value.
pub(super) const SOUGHT: &str = "__sought";
/// The filter that refuses what a list, a mapping or a namespace cannot keep.
pub(super) const KEPT: &str = "__kept";
/// The filter that multiplies.
pub(super) const TIMES: &str = "__times";
/// The filter that cuts texts and lists.
pub(super) const SLICE: &str = "__slice";

/// Brackets in one another. The engine itself takes some seventy.
const DEPTH: usize = 100;
/// Operators, members and filters of one expression that wait for one another.
const PARTS: usize = 500;
/// Branches of all conditions of a template. The engine nests each `elif` in the one before.
const BRANCHES: usize = 500;
/// Macros of a template. One can hold the one before.
const MACROS: usize = 250;
/// Bytes between two tags of a template that can keep them.
const TEXT: usize = 32 << 10;
/// Bytes of a text in a template that are not worth counting.
const SHORT: usize = 32;
/// Bytes that are shown to the engine behind a place that it will not like.
const BEHIND: usize = 100;

/// A template that counts, and what its text says of how much may come of a step.
#[derive(Debug)]
pub(super) struct Guarded {
    /// What to run; where `stopped` says so, the beginning of the template up to what is wrong.
    pub(super) source: String,
    /// Bytes of the longest text between tags, of a template that can keep such texts; 0 for others.
    pub(super) longest: usize,
    /// The line, from 1, with something that is not of the engine's grammar.
    pub(super) stopped: Option<usize>,
}

/// Why reading stops.
#[derive(Debug)]
enum Stop {
    /// So many of these at most.
    Limit(&'static str, usize),
    /// What comes next is not of the grammar.
    Syntax,
}

type Read<T> = Result<T, Stop>;

/// Rewrites `source`.
///
/// # Errors
/// [`TextError::TemplateLimit`].
pub(super) fn guarded(source: &str) -> Result<Guarded, TextError> {
    let mut reader = Reader {
        rest: source,
        out: String::with_capacity(source.len() * 5 / 4),
        close: "",
        open: 0,
        depth: 0,
        branches: 0,
        macros: 0,
        longest: 0,
    };
    match reader.template() {
        Ok(keeps) => {
            let longest = if keeps { reader.longest } else { 0 };
            if longest > TEXT {
                return Err(TextError::TemplateLimit { what: "bytes of text between two tags", limit: TEXT as u64 });
            }
            Ok(Guarded { source: reader.out, longest, stopped: None })
        }
        Err(Stop::Limit(what, limit)) => Err(TextError::TemplateLimit { what, limit: limit as u64 }),
        Err(Stop::Syntax) => {
            let at = source.len() - reader.rest.len();
            let end = (at + BEHIND..source.len()).find(|end| source.is_char_boundary(*end)).unwrap_or(source.len());
            let line = source[..at].matches('\n').count() + 1;
            Ok(Guarded { source: source[..end].to_owned(), longest: 0, stopped: Some(line) })
        }
    }
}

/// Where the next tag or comment begins.
fn next_tag(source: &str) -> Option<usize> {
    source.match_indices('{').map(|(at, _)| at).find(|at| source[at + 1..].starts_with(['{', '%', '#']))
}

fn of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Without the spaces and line ends at its beginning that the engine skips in tags.
fn spaceless(text: &str) -> &str {
    text.trim_start_matches(|it: char| it.is_ascii_whitespace())
}

/// Without one sign that says what becomes of the space around a tag.
fn signless(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// A template on its way through: what is left of it, and what has been written.
struct Reader<'a> {
    rest: &'a str,
    out: String,
    /// What ends the tag.
    close: &'static str,
    /// Brackets around what is next. In brackets no tag ends.
    open: usize,
    /// Expressions around what is next.
    depth: usize,
    branches: usize,
    macros: usize,
    /// Bytes of the longest text between tags so far.
    longest: usize,
}

impl<'a> Reader<'a> {
    /// Everything. Says whether some of the template's text can be kept.
    fn template(&mut self) -> Read<bool> {
        let mut keeps = false;
        while let Some(at) = next_tag(self.rest) {
            self.longest = self.longest.max(at);
            self.copy(at);
            keeps |= self.tag()?;
        }
        self.longest = self.longest.max(self.rest.len());
        self.copy(self.rest.len());
        Ok(keeps)
    }

    /// Moves `length` bytes over as they are.
    fn copy(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.out.push_str(taken);
        self.rest = rest;
    }

    /// Moves spaces and line ends over.
    fn space(&mut self) {
        self.copy(self.rest.len() - spaceless(self.rest).len());
    }

    /// Whether the tag ends at the beginning of `rest`.
    fn ends(&self, rest: &str) -> bool {
        self.open == 0 && (rest.starts_with(self.close) || signless(rest).starts_with(self.close))
    }

    /// What comes next in the tag; nothing where it ends.
    fn ahead(&self) -> &'a str {
        let rest = spaceless(self.rest);
        if self.ends(rest) { "" } else { rest }
    }

    /// The sign that is next; nothing where there is none.
    fn sign(&self) -> &'a str {
        let rest = self.ahead();
        let two = ["//", "**", "==", "!=", ">=", "<="].into_iter().any(|two| rest.starts_with(two));
        let one = rest.starts_with(|it| "+-*/%.,:~|=><()[]{}".contains(it));
        &rest[..if two { 2 } else { usize::from(one) }]
    }

    /// The word that is next; nothing where there is none.
    fn word(&self) -> &'a str {
        let rest = self.ahead();
        let end = rest.find(|it| !of_word(it)).unwrap_or(rest.len());
        if rest.starts_with(|it: char| it.is_ascii_digit()) { "" } else { &rest[..end] }
    }

    /// Moves over what is known to be next, with the space before it.
    fn take(&mut self, token: &str) {
        self.space();
        self.copy(token.len());
    }

    /// Moves over a sign that must be next.
    fn expect(&mut self, sign: &str) -> Read<()> {
        if self.sign() != sign {
            return Err(Stop::Syntax);
        }
        self.take(sign);
        Ok(())
    }

    /// Moves over a word that must be next.
    fn name(&mut self) -> Read<()> {
        match self.word() {
            "" => Err(Stop::Syntax),
            word => {
                self.take(word);
                Ok(())
            }
        }
    }

    /// Moves over a word if it is next.
    fn skip(&mut self, word: &str) -> bool {
        let there = self.word() == word;
        if there {
            self.take(word);
        }
        there
    }

    /// A comment, a statement or an expression. Says whether it can begin to keep what is written after it.
    fn tag(&mut self) -> Read<bool> {
        if self.rest.starts_with("{#") {
            // `{#}` does not end what it begins.
            self.copy(self.rest[2..].find("#}").map_or(self.rest.len(), |at| at + 4));
            return Ok(false);
        }
        self.close = if self.rest.starts_with("{%") { "%}" } else { "}}" };
        (self.open, self.depth) = (0, 0);
        self.copy(2);
        self.copy(self.rest.len() - signless(self.rest).len());
        let keeps = match self.close {
            "%}" => match self.raw() {
                true => return Ok(false),
                false => self.statement()?,
            },
            _ => self.expression().map(|_| false)?,
        };
        if !self.ends(spaceless(self.rest)) {
            return Err(Stop::Syntax);
        }
        self.space();
        self.copy(if self.rest.starts_with(self.close) { 2 } else { 3 });
        Ok(keeps)
    }

    /// Moves over a tag `raw` with the text up to its end, if that is what comes.
    fn raw(&mut self) -> bool {
        let end = |text: &'a str, word: &str| -> Option<&'a str> {
            signless(spaceless(spaceless(text).strip_prefix(word)?)).strip_prefix("%}")
        };
        let Some(text) = end(self.rest, "raw") else { return false };
        let behind = text.match_indices("{%").find_map(|(at, _)| Some((at, end(signless(&text[at + 2..]), "endraw")?)));
        let (length, rest) = behind.unwrap_or((text.len(), ""));
        self.longest = self.longest.max(length);
        self.copy(self.rest.len() - rest.len());
        true
    }

    /// What stands in a tag of a statement. Says whether it can begin to keep what is written after it.
    fn statement(&mut self) -> Read<bool> {
        let first = self.word();
        self.name()?;
        match first {
            "if" => {
                self.either()?;
            }
            "elif" => {
                self.branches += 1;
                if self.branches > BRANCHES {
                    return Err(Stop::Limit("branches of conditions", BRANCHES));
                }
                self.either()?;
            }
            "for" => self.walk()?,
            "set" => return self.set(),
            "with" => self.with()?,
            "do" | "autoescape" => {
                self.expression()?;
            }
            "macro" | "call" => {
                self.macros += 1;
                if self.macros > MACROS {
                    return Err(Stop::Limit("macros", MACROS));
                }
                if first == "macro" {
                    self.name()?;
                }
                if first == "macro" || self.sign() == "(" {
                    self.parameters()?;
                }
                if first == "call" {
                    self.expression()?;
                }
            }
            "filter" => self.chain()?,
            "block" => {
                self.name()?;
                self.skip("scoped");
                self.skip("required");
            }
            "endblock" => {
                self.skip(self.word());
            }
            "else" | "endif" | "endfor" | "endwith" | "endset" | "endautoescape" | "endfilter" | "endmacro"
            | "endcall" | "continue" | "break" => {}
            _ => return Err(Stop::Syntax),
        }
        Ok(["macro", "call", "filter", "block"].contains(&first))
    }

    /// Names that values are given to, with commas, brackets and members. Says whether there are members.
    fn targets(&mut self) -> bool {
        let start = self.out.len();
        loop {
            match (self.word(), self.sign()) {
                ("in", _) => break,
                ("", sign) if [",", ".", "(", ")"].contains(&sign) => self.take(sign),
                ("", _) => break,
                (word, _) => self.take(word),
            }
        }
        self.out[start..].contains('.')
    }

    /// What follows the word `for`.
    fn walk(&mut self) -> Read<()> {
        self.targets();
        if !self.skip("in") {
            return Err(Stop::Syntax);
        }
        let walked = self.either()?;
        self.through(walked, WALKED);
        if self.skip("if") {
            self.expression()?;
        }
        self.skip("recursive");
        Ok(())
    }

    /// What follows the word `set`. Says whether it is the text after the tag that is set.
    fn set(&mut self) -> Read<bool> {
        let members = self.targets();
        match self.sign() {
            "=" => self.take("="),
            "|" => {
                self.take("|");
                return self.chain().map(|()| true);
            }
            _ => return Ok(true),
        }
        self.space();
        let mut value = self.expression()?;
        if self.sign() == "," {
            self.through(value, KEPT);
            while self.sign() == "," {
                self.take(",");
                if self.ahead().is_empty() {
                    break;
                }
                let entry = self.expression()?;
                self.through(entry, KEPT);
            }
            value = value.compound();
        }
        if members {
            self.through(value, KEPT);
        }
        Ok(false)
    }

    /// What follows the word `with`.
    fn with(&mut self) -> Read<()> {
        while !self.ahead().is_empty() {
            self.targets();
            self.expect("=")?;
            self.expression()?;
            if self.sign() != "," {
                break;
            }
            self.take(",");
        }
        Ok(())
    }

    /// The names of a macro's parameters, and what they are by themselves.
    fn parameters(&mut self) -> Read<()> {
        self.expect("(")?;
        self.open += 1;
        while self.sign() != ")" {
            self.name()?;
            if self.sign() == "=" {
                self.take("=");
                self.expression()?;
            }
            if self.sign() != ")" {
                self.expect(",")?;
            }
        }
        self.take(")");
        self.open -= 1;
        Ok(())
    }

    /// Filters one after another.
    fn chain(&mut self) -> Read<()> {
        loop {
            self.dotted()?;
            if self.sign() == "(" {
                self.arguments(None)?;
            }
            if self.sign() != "|" {
                return Ok(());
            }
            self.take("|");
        }
    }
}

#[cfg(test)]
mod tests;
