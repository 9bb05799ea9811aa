//! Rewrites a template before it is run, so that what its operators work on is counted: a step of the engine may be `~` of two texts of any
//! length. What stands beside such an operator, is cut, walked over, or put into a list, a mapping or a call goes through a filter
//! that counts it ([`COUNTED`]), and a product becomes one that counts what it makes ([`TIMES`]). Nothing else is changed, and no line is
//! moved. It also refuses what would make the engine run out of stack, which works through an expression with a call for each of its parts.

use super::TextError;

/// The filter that counts a value and gives it back.
pub(super) const COUNTED: &str = "__counted";
/// The filter that multiplies.
pub(super) const TIMES: &str = "__times";
/// The filter that gives back numbers and refuses all else.
pub(super) const NUMBER: &str = "__number";

/// Words and signs of one tag.
const WORDS: u64 = 1000;
/// Brackets in one another.
const DEPTH: usize = 100;
/// Branches of all conditions of a template. The engine nests each `elif` in the one before.
const BRANCHES: u64 = 500;
/// Bytes between two tags of a template that can keep them.
const TEXT: usize = 32 << 10;
/// Bytes of a text in a template that are not worth counting.
const SHORT: usize = 32;

/// A template that counts, and what its text says of how much may come of a step.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) source: String,
    /// Bytes of the longest text between tags, of a template that can keep such texts; 0 for others.
    pub(super) longest: usize,
}

/// What stands to the left of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The beginning of an expression, a colon or an equals sign.
    Element,
    /// A comma.
    Comma,
    /// An operator whose operands are counted.
    Counted,
    /// A division, a power, or a product beside one.
    Mixed,
    /// Anything else.
    Other,
}

/// What stands to the right of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Counted,
    Times,
    Power,
    /// A comma, a colon, or the end of a bracket.
    Separator,
    /// The end of the tag.
    End,
    Other,
}

/// What the parts of an expression may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// Entries of a list, a mapping or a call.
    Elements,
    /// Names of parameters, and what they are by themselves.
    Parameters,
    /// Anything.
    Any,
}

/// Rewrites `source`.
///
/// # Errors
/// [`TextError::TemplateLimit`].
pub(super) fn guarded(source: &str) -> Result<Guarded, TextError> {
    let mut reader =
        Reader { rest: source, out: String::new(), words: 0, depth: 0, branches: 0, assigned: false, longest: 0 };
    let (mut whole, mut keeps) = (String::with_capacity(source.len() * 5 / 4), false);
    while let Some(at) = next_tag(reader.rest) {
        let (text, tag) = reader.rest.split_at(at);
        reader.longest = reader.longest.max(text.len());
        whole.push_str(text);
        reader.rest = tag;
        keeps |= reader.tag()?;
        whole.push_str(&std::mem::take(&mut reader.out));
    }
    let longest = if keeps { reader.longest.max(reader.rest.len()) } else { 0 };
    if longest > TEXT {
        return Err(TextError::TemplateLimit { what: "bytes of text between two tags", limit: TEXT as u64 });
    }
    whole.push_str(reader.rest);
    Ok(Guarded { source: whole, longest })
}

/// Where the next tag or comment begins.
fn next_tag(source: &str) -> Option<usize> {
    source.match_indices('{').map(|(at, _)| at).find(|at| source[at + 1..].starts_with(['{', '%', '#']))
}

/// A template on its way through: what is left of it, and the tag that is being written.
struct Reader<'a> {
    rest: &'a str,
    out: String,
    words: u64,
    depth: usize,
    branches: u64,
    /// The tag has an equals sign of its own.
    assigned: bool,
    /// Bytes of the longest text between tags so far.
    longest: usize,
}

fn of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

impl<'a> Reader<'a> {
    /// Moves `length` bytes over as they are.
    fn copy(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.out.push_str(taken);
        self.rest = rest;
    }

    fn space(&mut self) {
        self.copy(self.rest.len() - self.rest.trim_start().len());
    }

    fn count(&mut self) -> Result<(), TextError> {
        self.words += 1;
        match self.words > WORDS {
            true => Err(TextError::TemplateLimit { what: "words in one tag", limit: WORDS }),
            false => Ok(()),
        }
    }

    /// The word that is next.
    fn word(&self) -> &'a str {
        let rest = self.rest;
        &rest[..rest.find(|it| !of_word(it)).unwrap_or(rest.len())]
    }

    /// A comment, a statement or an expression. Says whether it can begin to keep what is written after it.
    fn tag(&mut self) -> Result<bool, TextError> {
        (self.words, self.assigned) = (0, false);
        if self.rest.starts_with("{#") {
            // `{#}` does not end what it begins.
            self.copy(self.rest[2..].find("#}").map_or(self.rest.len(), |at| at + 4));
            return Ok(false);
        }
        let statement = self.rest.starts_with("{%");
        self.copy(2);
        if self.rest.starts_with(['-', '+']) {
            self.copy(1);
        }
        self.space();
        if !statement {
            self.expression("}}", Parts::Any)?;
            self.copy(2);
            return Ok(false);
        }
        let first = self.word();
        self.copy(first.len());
        self.count()?;
        match first {
            "raw" => {
                self.raw();
                return Ok(false);
            }
            "elif" => {
                self.branches += 1;
                if self.branches > BRANCHES {
                    return Err(TextError::TemplateLimit { what: "branches of conditions", limit: BRANCHES });
                }
            }
            "for" => self.targets()?,
            "macro" | "call" => {
                self.space();
                let name = self.word();
                if first == "macro" {
                    self.copy(name.len());
                    self.space();
                }
                if self.rest.starts_with('(') {
                    self.bracket(")", Parts::Parameters)?;
                }
            }
            _ => {}
        }
        self.expression("%}", Parts::Any)?;
        self.copy(2);
        // A block of text is set where there is no equals sign.
        Ok(first == "set" && !self.assigned || ["macro", "call", "filter", "block"].contains(&first))
    }

    /// What follows the word `raw`, up to the end of the text that it begins.
    fn raw(&mut self) {
        let rest = self.rest;
        let spaceless = |text: &'a str| text.trim_start_matches(|it: char| it.is_ascii_whitespace());
        let signless = |text: &'a str| text.strip_prefix(['-', '+']).unwrap_or(text);
        for (at, _) in rest.match_indices("{%") {
            let word = spaceless(signless(&rest[at + 2..]));
            let after = word.strip_prefix("endraw").map(|after| signless(spaceless(after)));
            if let Some(behind) = after.and_then(|after| after.strip_prefix("%}")) {
                self.longest = self.longest.max(at);
                self.copy(rest.len() - behind.len());
                return;
            }
        }
        self.longest = self.longest.max(rest.len());
        self.copy(rest.len());
    }

    /// The names of a loop, and the word behind them.
    fn targets(&mut self) -> Result<(), TextError> {
        loop {
            self.space();
            let word = self.word();
            if self.rest.is_empty() || self.rest.starts_with("%}") || word == "in" {
                return Ok(());
            }
            self.count()?;
            let sign = self.rest.chars().next().map_or(0, char::len_utf8);
            self.copy(if word.is_empty() { sign } else { word.len() });
        }
    }

    /// A bracket with what is in it. Says whether there is a colon of its own.
    fn bracket(&mut self, close: &str, parts: Parts) -> Result<bool, TextError> {
        self.count()?;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(TextError::TemplateLimit { what: "brackets in one another", limit: DEPTH as u64 });
        }
        self.copy(1);
        let colon = self.expression(close, parts)?;
        self.copy(close.len());
        self.depth -= 1;
        Ok(colon)
    }

    /// Whether `close` comes next, behind the sign that takes away space where it is a tag's.
    fn closes(&self, close: &str) -> bool {
        let rest = if close.len() == 2 { self.rest.strip_prefix(['-', '+']).unwrap_or(self.rest) } else { self.rest };
        rest.starts_with(close) || self.rest.starts_with(close)
    }

    /// Everything up to `close`, which is left. Says whether there is a colon.
    fn expression(&mut self, close: &str, parts: Parts) -> Result<bool, TextError> {
        let (mut before, mut colon, mut elements) = (Before::Element, false, parts == Parts::Elements);
        loop {
            self.space();
            if self.rest.is_empty() {
                return Ok(colon);
            }
            if self.closes(close) {
                self.copy(usize::from(close.len() == 2 && !self.rest.starts_with(close)));
                return Ok(colon);
            }
            if let Some(literal) = self.operand()? {
                before = self.after(before, (literal, elements), close)?;
                continue;
            }
            self.count()?;
            let word = self.word();
            if !word.is_empty() {
                // `not` belongs to what follows.
                before = match word {
                    "in" => Before::Counted,
                    "not" => before,
                    _ => Before::Other,
                };
                self.copy(word.len());
                continue;
            }
            let two = ["==", "!=", "<=", ">=", "//", "**"].into_iter().find(|two| self.rest.starts_with(two));
            let sign = two.unwrap_or(&self.rest[..self.rest.chars().next().map_or(0, char::len_utf8)]);
            before = match sign {
                "==" | "!=" | "<=" | ">=" | "<" | ">" | "~" => Before::Counted,
                // The entries of a value in a call.
                "*" | "**" if matches!(before, Before::Element | Before::Comma) => Before::Counted,
                "//" | "**" | "/" | "%" | "*" => Before::Mixed,
                // A sign belongs to what follows.
                "-" | "+" if before == Before::Mixed => Before::Mixed,
                "+" => Before::Counted,
                "," => Before::Comma,
                ":" | "=" => Before::Element,
                _ => Before::Other,
            };
            colon |= sign == ":";
            self.assigned |= sign == "=" && close.len() == 2;
            elements |= sign == "=" && parts != Parts::Parameters;
            self.copy(sign.len());
        }
    }

    /// What is done to the operand that was read last, by what stands around it, and what then stands to the left of the next one.
    fn after(
        &mut self,
        before: Before,
        (mut literal, elements): (Option<usize>, bool),
        close: &str,
    ) -> Result<Before, TextError> {
        loop {
            let next = self.next(close);
            if next == Next::Times && before != Before::Mixed {
                // The other factor, unless a power takes it first.
                let end = self.out.len();
                self.space();
                self.count()?;
                self.copy(1);
                let times = self.out.len();
                self.space();
                while self.rest.starts_with(['-', '+']) {
                    self.count()?;
                    self.copy(1);
                    self.space();
                }
                if self.operand()?.is_some() && self.next(close) != Next::Power {
                    let factor = self.out[times..].trim_start().to_owned();
                    self.out.truncate(end);
                    self.out.push_str(&format!("|{TIMES}({factor})"));
                    literal = None;
                    continue;
                }
                self.out.push_str(&format!("|{NUMBER}"));
                self.out.insert_str(end, &format!("|{NUMBER}"));
                return Ok(Before::Other);
            }
            let short = literal.is_some_and(|length| length <= SHORT);
            let listed = before == Before::Comma || next == Next::Separator && before == Before::Element;
            let element = elements && listed && [Next::Separator, Next::End].contains(&next);
            let number = literal == Some(0);
            if next == Next::Times || (before == Before::Mixed && !number) {
                self.out.push_str(&format!("|{NUMBER}"));
            } else if !short && (before == Before::Counted || next == Next::Counted || element) {
                self.out.push_str(&format!("|{COUNTED}"));
            }
            return Ok(Before::Other);
        }
    }

    /// What stands behind an operand.
    fn next(&self, close: &str) -> Next {
        let rest = Reader { rest: self.rest.trim_start(), out: String::new(), ..*self };
        let word = rest.word();
        if rest.rest.is_empty() || rest.closes(close) && close.len() == 2 {
            return Next::End;
        }
        if rest.closes(close) || rest.rest.starts_with([',', ':']) {
            return Next::Separator;
        }
        let not = || rest.rest[word.len()..].trim_start();
        let not_in = word == "not" && not().strip_prefix("in").is_some_and(|after| !after.starts_with(of_word));
        match rest.rest {
            _ if word == "in" || not_in => Next::Counted,
            it if it.starts_with("**") => Next::Power,
            it if it.starts_with('*') => Next::Times,
            it if it.starts_with(['~', '+', '<', '>']) || it.starts_with("==") || it.starts_with("!=") => Next::Counted,
            _ => Next::Other,
        }
    }

    /// A name, a number, a text or a bracket, with the members, calls, cuts and filters behind it. Gives how long a text or a number is that
    /// is written out; `None` where there is no operand.
    fn operand(&mut self) -> Result<Option<Option<usize>>, TextError> {
        let start = self.out.len();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let word = self.word();
        let mut literal = None;
        match first {
            '"' | '\'' => {
                let length = text(self.rest, first);
                literal = Some(length);
                self.copy(length);
            }
            '(' | '[' | '{' => {
                let close = if first == '(' {
                    ")"
                } else if first == '[' {
                    "]"
                } else {
                    "}"
                };
                self.bracket(close, Parts::Elements)?;
            }
            it if it.is_ascii_digit() => {
                let point = self.rest[word.len()..].strip_prefix('.');
                let digits = point.map_or(0, |rest| rest.find(|it| !of_word(it)).unwrap_or(rest.len()));
                self.copy(word.len() + if digits > 0 { 1 + digits } else { 0 });
                literal = Some(0);
            }
            _ if ["", "and", "or", "not", "in", "is", "if", "else"].contains(&word) => return Ok(None),
            _ => {
                self.copy(word.len());
                literal = ["true", "false", "none", "True", "False", "None"].contains(&word).then_some(0);
            }
        }
        self.count()?;
        loop {
            let rest = self.rest.trim_start();
            let space = self.rest.len() - rest.len();
            match rest.chars().next() {
                Some('.') => {
                    self.copy(space + 1);
                    self.space();
                    self.copy(self.word().len());
                }
                Some('|') => {
                    self.copy(space + 1);
                    self.space();
                    let name = self.rest.find(|it| !of_word(it) && it != '.').unwrap_or(self.rest.len());
                    self.copy(name);
                }
                Some('(') => {
                    self.copy(space);
                    self.bracket(")", Parts::Elements)?;
                }
                Some('[') => {
                    self.copy(space);
                    let at = self.out.len();
                    if self.bracket("]", Parts::Any)? {
                        self.out.insert_str(at, &format!("|{COUNTED})"));
                        self.out.insert(start, '(');
                    }
                }
                _ => return Ok(Some(literal)),
            }
            self.count()?;
            literal = None;
        }
    }
}

/// The bytes of a text in quotes, with them.
fn text(source: &str, quote: char) -> usize {
    let mut characters = source.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            it if it == quote => return at + 1,
            _ => {}
        }
    }
    source.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;

    #[test]
    fn what_operators_work_on_is_counted_and_nothing_else_is_changed() {
        for (source, expected) in [
            ("a {{ b }} c", "a {{ b }} c"),
            ("{{ a ~ b.c[0]('x') -}}", "{{ a|# ~ b.c[0]('x')|# -}}"),
            ("{%- if m['role'] == 'user' and not x in y -%}", "{%- if m['role']|# == 'user' and not x|# in y|# -%}"),
            ("{% for a, b in c.items() if a not in d %}", "{% for a, b in c.items()|# if a|# not in d|# %}"),
            ("{% set x = a[1:] %}", "{% set x = (a|#)[1:] %}"),
            ("{% set ns.l = ns.l + [a, 1] %}", "{% set ns.l = ns.l|# + [a|#, 1]|# %}"),
            ("{{ f(a, b=c)|trim }}", "{{ f(a|#, b=c|#)|trim }}"),
            ("{{ {'a': {'b': c}} }}", "{{ {'a': {'b': c|#}|#} }}"),
            ("{{ a is string and b }}", "{{ a is string and b }}"),
            ("{% macro f(a, b=c ~ d, e=1) %}", "{% macro f(a, b=c|# ~ d|#, e=1) %}"),
            ("{% call(a) f(b) %}", "{% call(a) f(b|#) %}"),
            ("{{ 'x' * n ~ '%}' }}", "{{ 'x'|__times(n)|# ~ '%}' }}"),
            ("{{ a * -b * 2 }}", "{{ a|__times(-b)|__times(2) }}"),
            ("{{ a / b * c }}", "{{ a / b|__number * c|__number }}"),
            ("{{ a * b ** 2 }}", "{{ a|__number * b|__number ** 2 }}"),
            (
                "{# a ~ b #}{% raw %}{{ a ~ b }}{% endraw %}{{ a }}",
                "{# a ~ b #}{% raw %}{{ a ~ b }}{% endraw %}{{ a }}",
            ),
            ("{{ a if b == c else d }}", "{{ a if b|# == c|# else d }}"),
            ("{{ \"it\\\"s }}\" ~ a", "{{ \"it\\\"s }}\" ~ a|#"),
            ("{{ 1.5 + a.b }}{{ loop.index0 % 2 == 0 }}", "{{ 1.5 + a.b|# }}{{ loop.index0 % 2 == 0 }}"),
        ] {
            assert_eq!(guarded(source).unwrap().source, expected.replace("|#", "|__counted"), "{source}");
        }
    }

    #[test]
    fn what_a_template_can_keep_is_measured() {
        assert_eq!(guarded("a long text{{ x }}").unwrap().longest, 0);
        assert_eq!(guarded("{% set x = 1 %}a long text").unwrap().longest, 0);
        assert_eq!(guarded("{% set x %}a long text{% endset %}").unwrap().longest, 11);
        assert_eq!(guarded("{% macro f() %}a long text{% endmacro %}").unwrap().longest, 11);
    }

    #[test]
    fn what_is_too_deep_is_refused_wherever_it_hides() {
        for source in [
            format!("{{{{ {{'a': {{}}}} {} }}}}", "+ 1 ".repeat(2000)),
            format!("{{{{ {}1{} }}}}", "(".repeat(101), ")".repeat(101)),
            format!(
                "{{{{ {{'a': {{}}}} ~ '{{# ' }}}}{{% if x %}}{}{{% endif %}}{{{{ ' #}}' }}}}",
                "{% elif x %}".repeat(501)
            ),
        ] {
            assert!(matches!(guarded(&source), Err(TextError::TemplateLimit { .. })), "{source:.60}");
        }
    }
}
