//! A look at a template's source: what its tags contain.

/// An expression or a statement of a template.
#[derive(Debug, Default)]
pub(super) struct Tag {
    /// Its first word, such as `if`.
    first: String,
    /// What its strings say.
    pub(super) literals: Vec<String>,
}

/// All tags of a template, but for comments and what stands in `raw` blocks.
pub(super) fn tags(source: &str) -> Vec<Tag> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let tag = &rest[at..];
        if let Some(comment) = tag.strip_prefix("{#") {
            rest = comment.split_once("#}").map_or("", |(_, after)| after);
        } else if let Some(inside) = tag.strip_prefix("{%") {
            let (tag, after) = read(inside, "%}");
            rest = if tag.first == "raw" { after_raw(after) } else { after };
            found.push(tag);
        } else if let Some(inside) = tag.strip_prefix("{{") {
            let (tag, after) = read(inside, "}}");
            found.push(tag);
            rest = after;
        } else {
            rest = &tag[1..];
        }
    }
    found
}

/// Reads a tag up to its end, which counts outside of strings only.
fn read<'a>(source: &'a str, end: &str) -> (Tag, &'a str) {
    let mut tag = Tag::default();
    let mut rest = source;
    let mut in_word = false;
    while let Some(character) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(end) {
            return (tag, after);
        }
        rest = &rest[character.len_utf8()..];
        let of_word = character.is_alphanumeric() || character == '_';
        if of_word && tag.literals.is_empty() && (in_word || tag.first.is_empty()) {
            tag.first.push(character);
        }
        in_word = of_word;
        if character == '\'' || character == '"' {
            let (literal, after) = string(rest, character);
            tag.literals.push(literal);
            rest = after;
        }
    }
    (tag, "")
}

/// What comes after the `endraw` tag.
fn after_raw(source: &str) -> &str {
    let mut rest = source;
    while let Some((_, tag)) = rest.split_once("{%") {
        if let Some((inside, after)) = tag.split_once("%}")
            && inside.trim_matches(|it: char| it.is_whitespace() || it == '-' || it == '+') == "endraw"
        {
            return after;
        }
        rest = tag;
    }
    ""
}

/// Reads a string up to its closing quote: what it says, and what comes after.
fn string(source: &str, quote: char) -> (String, &str) {
    let mut text = String::new();
    let mut characters = source.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, 'r')) => text.push('\r'),
                Some((_, other)) => text.push(other),
                None => break,
            },
            it if it == quote => return (text, &source[at + it.len_utf8()..]),
            it => text.push(it),
        }
    }
    (text, "")
}
