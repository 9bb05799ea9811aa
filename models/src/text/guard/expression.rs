//! Expressions by the engine's grammar, from what binds least to what binds most, with what counts written between their parts.

use super::literal::{number, quoted};
use super::{COUNTED, DEPTH, KEPT, PARTS, Read, Reader, SHORT, SLICE, SOUGHT, Stop, TIMES, WALKED, of_word, spaceless};

/// A part of an expression, as it has been written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Where it begins in what has been written. It ends where that ends, until more is written.
    start: usize,
    kind: Kind,
    /// Parts in one another.
    depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number, a truth or a short text, which is not worth counting.
    Small,
    /// One operand: a filter behind it is a filter of it.
    Operand,
    /// Operands with something between them.
    Compound,
}

impl Part {
    /// The same as one among others.
    pub(super) fn compound(self) -> Self {
        Self { kind: Kind::Compound, ..self }
    }
}

impl Reader<'_> {
    /// What is made of `one` and `other`, or of `one` and something in it.
    fn joined(one: Part, other: usize, kind: Kind) -> Read<Part> {
        let depth = one.depth.max(other) + 1;
        if depth > PARTS {
            return Err(Stop::Limit("operators on one another", PARTS));
        }
        Ok(Part { start: one.start, kind, depth })
    }

    /// Sends a part, which was written last, through a filter.
    pub(super) fn through(&mut self, part: Part, filter: &str) {
        match part.kind {
            Kind::Small => return,
            Kind::Operand => {}
            Kind::Compound => {
                self.out.insert(part.start, '(');
                self.out.push(')');
            }
        }
        self.out.push('|');
        self.out.push_str(filter);
    }

    /// Sends one operand through a filter. Those of a compound have been.
    fn operand_through(&mut self, part: Part, filter: &str) {
        if part.kind == Kind::Operand {
            self.through(part, filter);
        }
    }

    /// Any expression.
    pub(super) fn expression(&mut self) -> Read<Part> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Stop::Limit("brackets in one another", DEPTH));
        }
        let mut part = self.either()?;
        while self.skip("if") {
            let condition = self.either()?;
            part = Self::joined(part, condition.depth, Kind::Compound)?;
            if self.skip("else") {
                let other = self.expression()?;
                part = Self::joined(part, other.depth, Kind::Compound)?;
            }
        }
        self.depth -= 1;
        Ok(part)
    }

    /// Everything but a choice by `if`.
    pub(super) fn either(&mut self) -> Read<Part> {
        let mut part = self.both()?;
        while self.skip("or") {
            let other = self.both()?;
            part = Self::joined(part, other.depth, Kind::Compound)?;
        }
        Ok(part)
    }

    fn both(&mut self) -> Read<Part> {
        let mut part = self.negated()?;
        while self.skip("and") {
            let other = self.negated()?;
            part = Self::joined(part, other.depth, Kind::Compound)?;
        }
        Ok(part)
    }

    fn negated(&mut self) -> Read<Part> {
        self.space();
        let (start, mut signs) = (self.out.len(), 0);
        while self.skip("not") {
            signs += 1;
        }
        let part = self.comparison()?;
        match signs {
            0 => Ok(part),
            _ => Self::joined(Part { start, ..part }, part.depth + signs - 1, Kind::Small),
        }
    }

    fn comparison(&mut self) -> Read<Part> {
        let mut part = self.sum()?;
        loop {
            let (sign, word) = (self.sign(), self.word());
            let within = word == "in" || word == "not";
            if !within && !["==", "!=", "<", "<=", ">", ">="].contains(&sign) {
                return Ok(part);
            }
            self.operand_through(part, COUNTED);
            match word {
                "not" => {
                    self.take(word);
                    if !self.skip("in") {
                        return Err(Stop::Syntax);
                    }
                }
                "in" => self.take(word),
                _ => self.take(sign),
            }
            let other = self.sum()?;
            self.operand_through(other, if within { SOUGHT } else { COUNTED });
            part = Self::joined(part, other.depth, Kind::Small)?;
        }
    }

    fn sum(&mut self) -> Read<Part> {
        let mut part = self.text()?;
        loop {
            let sign = self.sign();
            if sign != "+" && sign != "-" {
                return Ok(part);
            }
            if sign == "+" {
                self.operand_through(part, WALKED);
            }
            self.take(sign);
            let other = self.text()?;
            if sign == "+" {
                self.operand_through(other, WALKED);
            }
            part = Self::joined(part, other.depth, Kind::Compound)?;
        }
    }

    fn text(&mut self) -> Read<Part> {
        let mut part = self.product()?;
        while self.sign() == "~" {
            self.operand_through(part, COUNTED);
            self.take("~");
            let other = self.product()?;
            self.operand_through(other, COUNTED);
            part = Self::joined(part, other.depth, Kind::Compound)?;
        }
        Ok(part)
    }

    fn product(&mut self) -> Read<Part> {
        let mut part = self.power()?;
        loop {
            match self.sign() {
                "*" => {
                    if part.kind == Kind::Compound {
                        self.out.insert(part.start, '(');
                        self.out.push(')');
                    }
                    self.instead("*", &format!("|{TIMES}("));
                    let other = self.power()?;
                    self.out.push(')');
                    part = Self::joined(part, other.depth, Kind::Operand)?;
                }
                sign @ ("/" | "//" | "%") => {
                    self.take(sign);
                    let other = self.power()?;
                    part = Self::joined(part, other.depth, Kind::Compound)?;
                }
                _ => return Ok(part),
            }
        }
    }

    fn power(&mut self) -> Read<Part> {
        let mut part = self.operand()?;
        while self.sign() == "**" {
            self.take("**");
            let other = self.operand()?;
            part = Self::joined(part, other.depth, Kind::Compound)?;
        }
        Ok(part)
    }

    /// A name, a number, a text or a bracket, with the signs before it, and the members, calls, cuts, filters and tests behind it.
    fn operand(&mut self) -> Read<Part> {
        let mut part = self.bare_operand()?;
        loop {
            if self.sign() == "|" {
                self.take("|");
                self.dotted()?;
                let inside = if self.sign() == "(" { self.arguments(None)? } else { 0 };
                part = Self::joined(part, inside, Kind::Operand)?;
            } else if self.skip("is") {
                self.skip("not");
                self.dotted()?;
                let inside = self.test_argument()?;
                part = Self::joined(part, inside, Kind::Operand)?;
            } else {
                return Ok(part);
            }
        }
    }

    /// What a test is given: something in brackets, or an operand without filters, which is put into brackets if it is cut.
    fn test_argument(&mut self) -> Read<usize> {
        if self.sign() == "(" {
            return self.arguments(None);
        }
        let (word, next) = (self.word(), self.ahead());
        let other = !word.is_empty() && !["and", "or", "else", "is"].contains(&word);
        if !other && !next.starts_with(|it: char| it.is_ascii_digit() || "\"'+-[{".contains(it)) {
            return Ok(0);
        }
        let part = self.bare_operand()?;
        if self.out[part.start..].starts_with('(') {
            self.out.insert(part.start, '(');
            self.out.push(')');
        }
        Ok(part.depth)
    }

    /// An operand without filters and tests.
    fn bare_operand(&mut self) -> Read<Part> {
        self.space();
        let (start, mut signs) = (self.out.len(), 0);
        while self.sign() == "-" {
            self.take("-");
            signs += 1;
        }
        self.space();
        let first = self.out.len();
        let mut part = self.primary()?;
        let (mut method, mut followed) = (self.out[first..].contains(|it| !of_word(it)), false);
        loop {
            match self.sign() {
                "." => {
                    self.take(".");
                    match number(spaceless(self.rest)) {
                        (0, _) => self.name()?,
                        (_, true) => return Err(Stop::Syntax),
                        (length, false) => {
                            self.space();
                            self.copy(length);
                        }
                    }
                    part = Self::joined(part, 0, Kind::Operand)?;
                }
                "[" => {
                    let inside = self.subscript(first)?;
                    part = Self::joined(part, inside, Kind::Operand)?;
                }
                "(" => {
                    // A macro can take anything; a method works on it, and this one keeps it.
                    let name =
                        self.out[first..].rsplit(|it| !of_word(it)).find(|it| !it.is_empty()).unwrap_or_default();
                    let (keeps, cycles) = (method && name == "changed", method && name == "cycle");
                    let begin = self.out.len();
                    let inside = self.arguments(if keeps { Some(KEPT) } else { method.then_some(COUNTED) })?;
                    // The engine divides by how many there are.
                    let given = self.out[begin..].trim_matches(|it: char| it.is_whitespace() || "()".contains(it));
                    if cycles && (given.is_empty() || given.starts_with('*')) {
                        return Err(Stop::Syntax);
                    }
                    part = Self::joined(part, inside, Kind::Operand)?;
                }
                _ => break,
            }
            (method, followed) = (true, true);
        }
        // To the engine a sign is of the name alone, to those who write templates of all that follows.
        if signs > 0 && followed {
            self.out.insert(first, '(');
            self.out.push(')');
        }
        let depth = part.depth + signs;
        Self::joined(Part { start, ..part }, depth.saturating_sub(1), part.kind)
    }

    fn primary(&mut self) -> Read<Part> {
        let start = self.out.len();
        let small = Part { start, kind: Kind::Small, depth: 1 };
        let next = self.ahead();
        match next.chars().next() {
            Some('"' | '\'') => {
                let mut length = 0;
                while self.ahead().starts_with(['"', '\'']) {
                    self.space();
                    let text = quoted(self.rest).ok_or(Stop::Syntax)?;
                    length += text;
                    self.copy(text);
                }
                Ok(if length <= SHORT { small } else { Part { kind: Kind::Operand, ..small } })
            }
            Some(digit) if digit.is_ascii_digit() => {
                self.copy(number(next).0);
                Ok(small)
            }
            Some('(') => self.round(start),
            Some('[') => self.entries(start, "[", "]"),
            Some('{') => self.entries(start, "{", "}"),
            _ => {
                let word = self.word();
                self.name()?;
                let known = ["true", "false", "none", "True", "False", "None"].contains(&word);
                Ok(if known { small } else { Part { kind: Kind::Operand, ..small } })
            }
        }
    }

    /// An expression in brackets, or a list without square ones.
    fn round(&mut self, start: usize) -> Read<Part> {
        self.take("(");
        self.open += 1;
        let mut inside = 0;
        if self.sign() != ")" {
            let first = self.expression()?;
            inside = first.depth;
            let list = self.sign() == ",";
            if list {
                self.through(first, KEPT);
            }
            while list && self.sign() == "," {
                self.take(",");
                if self.sign() == ")" {
                    break;
                }
                let entry = self.expression()?;
                self.through(entry, KEPT);
                inside = inside.max(entry.depth);
            }
        }
        self.expect(")")?;
        self.open -= 1;
        Self::joined(Part { start, kind: Kind::Operand, depth: 0 }, inside, Kind::Operand)
    }

    /// A list or a mapping.
    fn entries(&mut self, start: usize, open: &str, close: &str) -> Read<Part> {
        self.take(open);
        self.open += 1;
        let mut inside = 0;
        while self.sign() != close {
            let entry = self.expression()?;
            self.through(entry, KEPT);
            inside = inside.max(entry.depth);
            if open == "{" {
                self.expect(":")?;
                let value = self.expression()?;
                self.through(value, KEPT);
                inside = inside.max(value.depth);
            }
            if self.sign() != close {
                self.expect(",")?;
            }
        }
        self.take(close);
        self.open -= 1;
        Self::joined(Part { start, kind: Kind::Operand, depth: 0 }, inside, Kind::Operand)
    }

    /// What a call is given, in brackets, each of it through the filter that counts it if the call does not count it itself. Gives how deep it is.
    pub(super) fn arguments(&mut self, counted: Option<&str>) -> Read<usize> {
        self.expect("(")?;
        self.open += 1;
        let mut inside = 0;
        while self.sign() != ")" {
            let all = self.sign();
            if ["*", "**"].contains(&all) {
                self.take(all);
            }
            let mut value = self.expression()?;
            let named = self.sign() == "=" && !self.out[value.start..].contains(|it| !of_word(it));
            if named {
                self.take("=");
                value = self.expression()?;
            }
            if ["*", "**"].contains(&all) {
                self.through(value, WALKED);
            } else if let Some(filter) = counted {
                self.through(value, filter);
            }
            inside = inside.max(value.depth);
            if self.sign() != ")" {
                self.expect(",")?;
            }
        }
        self.take(")");
        self.open -= 1;
        Ok(inside)
    }

    /// One entry of a value, or a cut of it, which becomes a filter. The value was written from `start` on. Gives how deep it is.
    fn subscript(&mut self, start: usize) -> Read<usize> {
        self.space();
        let bracket = self.out.len();
        self.copy(1);
        self.open += 1;
        let mut inside = 0;
        if self.sign() != ":" {
            inside = self.expression()?.depth;
            if self.sign() == "]" {
                self.take("]");
                self.open -= 1;
                return Ok(inside);
            }
        } else {
            self.out.push_str("none");
        }
        for last in [false, true] {
            match self.sign() {
                ":" => self.instead(":", ", "),
                "]" if last => self.out.push_str(", "),
                _ => return Err(Stop::Syntax),
            }
            if ["]", ":"].contains(&self.sign()) {
                self.out.push_str("none");
            } else {
                inside = inside.max(self.expression()?.depth);
            }
        }
        if self.sign() != "]" {
            return Err(Stop::Syntax);
        }
        self.instead("]", "))");
        self.open -= 1;
        self.out.replace_range(bracket..=bracket, &format!("|{SLICE}("));
        self.out.insert(start, '(');
        Ok(inside)
    }

    /// Writes something in the place of a sign that is next.
    fn instead(&mut self, sign: &str, text: &str) {
        self.space();
        self.rest = self.rest.get(sign.len()..).unwrap_or_default();
        self.out.push_str(text);
    }

    /// The name of a filter or a test.
    pub(super) fn dotted(&mut self) -> Read<()> {
        self.name()?;
        while self.sign() == "." {
            self.take(".");
            self.name()?;
        }
        Ok(())
    }
}
