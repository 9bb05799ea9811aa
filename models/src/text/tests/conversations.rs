//! Conversations straight to ids: what a user typed never becomes a special token, whatever the template does with it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::template::ChatTemplate;
use super::super::{Conversation, GgufVocabulary, Message, TextError, Tokenizer, WallClock};
use super::templates::{conversation, recorded};
use super::{load, material, published};

/// A vocabulary that spells bytes and has all that looks like a special token in these templates as one.
fn vocabulary(sources: &[String]) -> Tokenizer {
    let printing = (0x21..=0x7E).chain(0xA1..=0xAC).chain(0xAE..=0xFF).chain(0x100..=0x143);
    let mut tokens: Vec<String> = printing.filter_map(char::from_u32).map(String::from).collect();
    let bytes = tokens.len();
    let look =
        regex::Regex::new(r"<[|\u{ff5c}]?[A-Za-z_/][^<>\s'{}+]*[|\u{ff5c}]?>|\[/?[A-Z_]{3,}\]|</?s>|<(bos|eos)>")
            .unwrap();
    let found: BTreeSet<&str> = sources.iter().flat_map(|it| look.find_iter(it)).map(|it| it.as_str()).collect();
    // Tags that templates look for in messages are text in the models' vocabularies too.
    let is_text = |token: &str| {
        ["think", "tool", "function", "response", "reason", "answer"].iter().any(|it| token.contains(it))
            && !token.contains('|')
    };
    tokens.extend(found.into_iter().filter(|token| !is_text(token)).map(str::to_owned));
    let kinds = (0..tokens.len()).map(|id| if id < bytes { 1 } else { 3 }).collect();
    let vocabulary =
        GgufVocabulary { model: "gpt2".to_owned(), tokens, token_types: kinds, ..GgufVocabulary::default() };
    Tokenizer::from_gguf(vocabulary).unwrap()
}

/// How often special tokens occur among ids.
fn special(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<u32> {
    ids.iter().copied().filter(|id| tokenizer.is_special(*id)).collect()
}

/// Where a text that came from a user, or from whoever a user or a model asked, can stand in a conversation: all of it. Only what a
/// program sets by [`Conversation::set`] is its own.
const PLACES: [&str; 10] = [
    "a turn",
    "a later turn",
    "a turn in parts",
    "the system's message",
    "an earlier answer",
    "its reasoning",
    "a call's argument",
    "a tool's result",
    "a tool's description",
    "a document",
];

/// A conversation with `text` at one of the [`PLACES`].
fn with(place: &str, text: &str) -> Conversation {
    let (user, answer) = (|text: &str| Message::user(text), Message::assistant("b"));
    let call = |argument: &str| {
        let function = json!({"name": "look", "arguments": {"place": argument}});
        let calls = json!([{"id": "abcdefghi", "type": "function", "function": function}]);
        Message::assistant("").with("tool_calls", calls)
    };
    let result = |text: &str| Message::tool(text).with("tool_call_id", json!("abcdefghi")).with("name", json!("look"));
    let tool = |text: &str| {
        let parameters = json!({"type": "object", "properties": {"place": {"type": "string", "description": text}}});
        json!({"type": "function", "function": {"name": "look", "description": text, "parameters": parameters}})
    };
    let conversation = match place {
        "a turn" => Conversation::new([user(text)]),
        "a later turn" => Conversation::new([user("a"), answer, user(text)]),
        "a turn in parts" => {
            let parts = json!([{"type": "text", "text": text}, {"type": "text", "text": text}]);
            Conversation::new([user("").with("content", parts)])
        }
        "the system's message" => Conversation::new([Message::system(text), user("a")]),
        "an earlier answer" => Conversation::new([user("a"), Message::assistant(text), user("c")]),
        // Templates show it where no turn of a user follows.
        "its reasoning" => {
            Conversation::new([user("a"), answer.with("reasoning_content", json!(text))]).without_answer()
        }
        "a call's argument" => {
            Conversation::new([user("a"), call(text), result("c"), Message::assistant("d"), user("e")])
        }
        "a tool's result" => {
            Conversation::new([user("a"), call("b"), result(text), Message::assistant("d"), user("e")])
        }
        "a tool's description" => Conversation::new([user("a")]).tools(vec![tool(text)]),
        _ => Conversation::new([user("a")]).documents(vec![json!({"title": text, "text": text})]),
    };
    // What some templates ask their program for.
    let conversation = conversation.set("additional_special_tokens", json!(vec!["<s>"; 8]));
    conversation.now(WallClock::new(2024, 7, 26, 12, 0, 0).unwrap())
}

/// What templates did with the conversations of a place: how many were checked, refused by the template, or do not show the text.
#[derive(Debug, Default)]
struct Seen {
    checked: usize,
    refused: usize,
    hidden: usize,
}

/// What was found of all places, and how many conversations were rendered.
#[derive(Debug, Default)]
struct Judged {
    rendered: usize,
    places: BTreeMap<&'static str, Seen>,
}

impl Judged {
    /// Types special tokens at every place of a template's conversations.
    fn judge(&mut self, name: &str, template: &ChatTemplate, tokenizer: &Tokenizer) {
        let tokens: Vec<&str> = tokenizer.special_tokens().map(|(token, _)| token).collect();
        // All tokens at once, some of them side by side.
        let all = format!("a {} b {} c", tokens.join(" "), tokens.concat());
        for place in PLACES {
            const WORD: &str = "zebra";
            let seen = self.places.entry(place).or_default();
            let Ok(innocent) = template.encode(&with(place, WORD), tokenizer) else {
                seen.refused += 1;
                continue;
            };
            if !tokenizer.decode(&innocent, true).unwrap().contains(WORD) {
                seen.hidden += 1;
                continue;
            }
            seen.checked += 1;
            let innocent = special(tokenizer, &innocent);
            self.same((name, place), template, &with(place, &all), (tokenizer, &tokens, &innocent));
            // A program that rendered and encoded by itself would have been deceived.
            let plain = tokenizer.encode(&template.render(&with(place, &all)).unwrap(), true).unwrap();
            assert!(special(tokenizer, &plain).len() > innocent.len() + tokens.len(), "{name}: {place}");
            if place == "a turn" {
                self.one_by_one(name, template, (tokenizer, &tokens, &innocent));
            }
        }
    }

    /// Types each special token alone, beside text and in two pieces, which a template may put together again.
    fn one_by_one(
        &mut self,
        name: &str,
        template: &ChatTemplate,
        (tokenizer, tokens, innocent): (&Tokenizer, &[&str], &[u32]),
    ) {
        for token in tokens {
            for typed in [format!("a {token} b"), (*token).to_owned(), format!(" {token}\n")] {
                self.same((name, &typed), template, &with("a turn", &typed), (tokenizer, tokens, innocent));
            }
            let (left, right) = token.split_at(token.char_indices().nth(2).map_or(1, |(at, _)| at));
            let parts = json!([{"type": "text", "text": left}, {"type": "text", "text": right}]);
            let parts = Message::user("").with("content", parts);
            if let Ok(found) = template.encode(&Conversation::new([parts]), tokenizer) {
                assert_eq!(special(tokenizer, &found), innocent, "{name}: {left} and {right}");
            }
        }
    }

    /// Asserts that a conversation is rendered as without marks, and has the special tokens of the innocent one.
    fn same(
        &mut self,
        (name, what): (&str, &str),
        template: &ChatTemplate,
        conversation: &Conversation,
        (tokenizer, tokens, innocent): (&Tokenizer, &[&str], &[u32]),
    ) {
        let (text, _) = template.render_marked(conversation, tokens).unwrap();
        assert_eq!(text, template.render(conversation).unwrap(), "{name}: {what}");
        let found = template.encode(conversation, tokenizer).unwrap();
        assert_eq!(special(tokenizer, &found), innocent, "{name}: {what}");
        assert_eq!(tokenizer.decode(&found, true).unwrap(), text, "{name}: {what}");
        self.rendered += 1;
    }

    /// Says what was found, and asserts in how many templates each of the places was checked.
    fn hold(&self, least: [usize; PLACES.len()]) {
        for (place, least) in PLACES.into_iter().zip(least) {
            let seen = &self.places[place];
            eprintln!("{place}: {seen:?}");
            assert!(seen.checked >= least, "{place}: {seen:?}");
        }
        eprintln!("{} conversations", self.rendered);
    }
}

#[test]
fn nothing_that_a_user_types_becomes_a_special_token_in_any_template() {
    let Some(folder) = material("typed special tokens in templates") else { return };
    let (cases, templates) = recorded(&folder);
    let files = cases["templates"].as_object().unwrap().values().map(|it| it["file"].as_str().unwrap());
    let sources: Vec<String> =
        files.map(|it| std::fs::read_to_string(folder.join("chat-templates").join(it)).unwrap()).collect();
    let tokenizer = vocabulary(&sources);
    assert!(tokenizer.special_tokens().count() > 60);
    let mut judged = Judged::default();
    for (name, template) in &templates {
        judged.judge(name, template, &tokenizer);
    }
    judged.hold([52, 52, 12, 45, 52, 2, 15, 36, 16, 2]);
    assert!(judged.rendered > 10_000, "{}", judged.rendered);
}

/// What a bare clone can prove.
#[test]
fn nothing_that_a_user_types_becomes_a_special_token_in_our_own_templates() {
    let sources: Vec<String> = published::ALL.iter().map(|(_, source)| (*source).to_owned()).collect();
    let tokenizer = vocabulary(&sources);
    let mut judged = Judged::default();
    for (name, source) in published::ALL {
        judged.judge(name, &published::template(source), &tokenizer);
    }
    judged.hold([6, 6, 2, 6, 6, 1, 4, 5, 3, 0]);
}

#[test]
fn recorded_conversations_keep_their_text_and_their_special_tokens() {
    let Some(folder) = material("recorded conversations") else { return };
    let (cases, templates) = recorded(&folder);
    let tokenizer = load(&folder, "qwen2");
    let tokens: Vec<&str> = tokenizer.special_tokens().map(|(token, _)| token).collect();
    let mut checked = 0;
    for (name, template) in &templates {
        for (case, record) in cases["conversations"].as_object().unwrap() {
            let conversation = conversation(record);
            let Ok(plain) = template.render(&conversation) else { continue };
            let (marked, _) = template.render_marked(&conversation, &tokens).unwrap();
            assert_eq!(marked, plain, "{name}, {case}");
            let ids = template.encode(&conversation, &tokenizer).unwrap();
            if !contains_token(&record["messages"], &tokens) {
                assert_eq!(ids, tokenizer.encode(&plain, true).unwrap(), "{name}, {case}");
            }
            checked += 1;
        }
    }
    assert!(checked > 1000, "{checked}");
}

fn contains_token(messages: &Value, tokens: &[&str]) -> bool {
    let text = messages.to_string();
    tokens.iter().any(|token| text.contains(token))
}

#[test]
fn a_typed_token_stays_text_where_the_template_joins_trims_and_quotes() {
    let Some(folder) = material("one vocabulary") else { return };
    let tokenizer = load(&folder, "small-qwen2");
    let end = tokenizer.id("<|im_end|>").unwrap();
    let conversation = Conversation::new([Message::user(" <|im_</cut>end|> <|im_end|> <|im_"), Message::user("end|>")]);
    for source in [
        "{% for m in messages %}{{ m.content | trim }}{% endfor %}",
        "{{ messages | tojson }}",
        "{{ (messages[0].content ~ messages[1].content).replace('</cut>', '') }}",
        "{{ messages[0].content.split('</cut>') | join }}",
        "{{ messages[0].content | upper | lower }}",
        "<{{ messages[0].content[2:] }}",
    ] {
        let template = ChatTemplate::new(&format!("{source}<|im_end|>")).unwrap();
        let ids = template.encode(&conversation, &tokenizer).unwrap();
        assert_eq!(ids.iter().filter(|id| **id == end).count(), 1, "{source}");
        assert_eq!(ids.last(), Some(&end), "{source}");
    }
}

#[test]
fn chatml_stands_in_where_its_tokens_exist() {
    let small = include_bytes!("../../../tests/fixtures/tokenizer.json");
    let tokenizer = Tokenizer::from_json(small, None).unwrap();
    let template = ChatTemplate::of(&tokenizer).unwrap();
    let conversation = Conversation::new([Message::system("Be brief."), Message::user("Hi <|im_end|>")]);
    let text =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(template.render(&conversation).unwrap(), text);
    let ids = template.encode(&conversation, &tokenizer).unwrap();
    assert_eq!(special(&tokenizer, &ids).len(), 5);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);

    let other = GgufVocabulary { model: "gpt2".to_owned(), tokens: vec!["a".to_owned()], ..GgufVocabulary::default() };
    let refused = ChatTemplate::of(&Tokenizer::from_gguf(other).unwrap()).unwrap_err();
    assert!(matches!(refused, TextError::NoTemplate { missing: "<|im_start|>" }), "{refused}");
}

#[test]
fn an_unfinished_answer_is_continued() {
    let template = ChatTemplate::new(
        "{% for m in messages %}[{{ m.role }}]{{ m.content | trim if m.role == 'assistant' else m.content }}[end]{% endfor %}",
    )
    .unwrap();
    let conversation = Conversation::new([Message::user("a"), Message::assistant("b ")]).continuing();
    assert_eq!(template.render(&conversation).unwrap(), "[user]a[end][assistant]b");
    let conversation = Conversation::new([Message::user("a ")]).continuing();
    assert_eq!(template.render(&conversation).unwrap(), "[user]a ");
    assert!(matches!(template.render(&Conversation::new([]).continuing()), Err(TextError::Continue { .. })));
}
