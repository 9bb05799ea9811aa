//! Chat templates: every recorded rendering of every recorded template, and the environment they expect.

use serde_json::{Map, Value, json};

use super::super::{ChatTemplate, Conversation, Message, TextError, WallClock};
use super::{bytes, json, material};

/// What Python says of a loop over tools that were not given.
const NO_TOOLS: &str = "TypeError: 'NoneType' object is not iterable";

/// The templates of the test data, ready to use, with the record of each.
pub(super) fn recorded(folder: &std::path::Path) -> (Value, Vec<(String, ChatTemplate)>) {
    let cases = json(folder, "chat-templates/cases.json");
    let templates = cases["templates"].as_object().unwrap().iter().map(|(name, record)| {
        let source = bytes(folder, &format!("chat-templates/{}", record["file"].as_str().unwrap()));
        let template = ChatTemplate::new(std::str::from_utf8(&source).unwrap()).unwrap();
        let template = template.token("bos_token", record["bos_token"].as_str().unwrap());
        (name.clone(), template.token("eos_token", record["eos_token"].as_str().unwrap()))
    });
    let templates = templates.collect();
    (cases, templates)
}

/// A conversation of the test data, at the time of day of the record.
pub(super) fn conversation(record: &Value) -> Conversation {
    let messages = record["messages"].as_array().unwrap().iter();
    let messages = messages.map(|message| Message::from_object(message.as_object().unwrap().clone()));
    let mut conversation = Conversation::new(messages).now(WallClock::new(2024, 7, 26, 12, 0, 0).unwrap());
    let mut answer = false;
    for (name, value) in record["kwargs"].as_object().unwrap() {
        conversation = match name.as_str() {
            "add_generation_prompt" => {
                answer = value == &Value::Bool(true);
                conversation
            }
            "continue_final_message" => {
                answer = true;
                conversation.continuing()
            }
            "tools" => conversation.tools(value.as_array().unwrap().clone()),
            name => conversation.set(name, value.clone()),
        };
    }
    if answer { conversation } else { conversation.without_answer() }
}

#[test]
fn every_recorded_template_renders_every_recorded_conversation() {
    let Some(folder) = material("chat templates") else { return };
    let (cases, templates) = recorded(&folder);
    assert_eq!(templates.len(), 52);
    let (mut agreed, mut lenient, mut wrong) = (0, 0, Vec::new());
    for (name, template) in &templates {
        for (case, record) in cases["conversations"].as_object().unwrap() {
            let expected = &cases["templates"][name]["cases"][case];
            let found = template.render(&conversation(record));
            match (expected["expected"].as_str(), found) {
                (Some(text), Ok(found)) if text == found => agreed += 1,
                (None, Err(TextError::Template { .. } | TextError::Continue { .. })) => agreed += 1,
                // A template that walks through the tools without asking whether there are any: Python refuses to walk through
                // None, here there is nothing to walk through.
                (None, Ok(_)) if name == "hermes-3-tool" && expected["error"] == NO_TOOLS => lenient += 1,
                (_, found) => wrong.push(format!("{name}, {case}: {expected}\n    found {found:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{agreed} agree, {} do not:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((agreed, lenient), (52 * 25 - 19, 19));
}

/// What a template makes of the variable `x`.
fn rendered(source: &str, x: Value) -> Result<String, TextError> {
    ChatTemplate::new(source)?.render(&Conversation::new([]).set("x", x))
}

#[test]
fn values_are_written_as_python_writes_them() {
    let x = json!({"b": [1, 2.5, true, null, "q'\"\\\n\u{e9}<&>"], "a": {}, "n": 1e20, "m": 1e-7});
    let line = r#"{"b": [1, 2.5, true, null, "q'\"\\\né<&>"], "a": {}, "n": 1e+20, "m": 1e-07}"#;
    assert_eq!(rendered("{{ x|tojson }}", x.clone()).unwrap(), line);
    assert_eq!(rendered("{{ x.a|tojson(indent=2) }}{{ [1]|tojson(indent=2) }}", x.clone()).unwrap(), "{}[\n  1\n]");
    assert_eq!(rendered("{{ x|tojson(sort_keys=true) }}", json!({"b": 1, "a": 2})).unwrap(), r#"{"a": 2, "b": 1}"#);
    assert_eq!(
        rendered("{{ x|tojson(ensure_ascii=true) }}", json!("\u{e9}\u{1F600}")).unwrap(),
        r#""\u00e9\ud83d\ude00""#
    );
    assert_eq!(
        rendered("{{ x }} {{ x.b[2] }} {{ none }} {{ x.n|string }}", x).unwrap(),
        r#"{'b': [1, 2.5, True, None, 'q\'"\\\né<&>'], 'a': {}, 'n': 1e+20, 'm': 1e-07} True None 1e+20"#
    );
    assert!(rendered("{{ y|tojson }}", json!(1)).is_err());
}

#[test]
fn the_python_that_templates_rely_on_is_there() {
    let x = json!(["  one two ", {"k": "v"}, [1, 2, 3]]);
    for (source, text) in [
        ("{{ x[0].strip().split(' ')[-1] }}", "two"),
        ("{{ x[0].lstrip().startswith('one') }}", "True"),
        ("{{ x[1:]|length }}{{ x[-1][::-1][0] }}", "23"),
        ("{% for k, v in x[1].items() %}{{ k ~ '=' ~ v }}{% endfor %}", "k=v"),
        ("{{ x[1].get('z', 'default') }}{{ x[1] is mapping }}{{ x[0] is iterable }}", "defaultTrueTrue"),
        (
            "{% set n = namespace(c=0) %}{% for i in x[2] %}{% if i == 2 %}{% continue %}{% endif %}{% set n.c = n.c + i %}{% endfor %}{{ n.c }}",
            "4",
        ),
        ("{% for i in x[2] %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "12"),
        (
            "a\n  {%- generation %}b{% endgeneration -%}\n c {% if nothing is defined %}d{% endif %}{{ nothing }}",
            "abc ",
        ),
        ("  {% if true %}\nkept\n  {% endif %}\nend", "kept\nend"),
    ] {
        assert_eq!(rendered(source, x.clone()).unwrap(), text, "{source}");
    }
}

#[test]
fn the_time_is_the_callers() {
    let template = ChatTemplate::new("{{ strftime_now('%A %d %B %Y %H:%M:%S') if strftime_now is defined }}").unwrap();
    let conversation = Conversation::new([]);
    assert_eq!(template.render(&conversation).unwrap(), "");
    let now = WallClock::new(2024, 2, 29, 7, 5, 9).unwrap();
    assert_eq!(template.render(&conversation.now(now)).unwrap(), "Thursday 29 February 2024 07:05:09");
    assert!(matches!(WallClock::new(2023, 2, 29, 0, 0, 0), Err(TextError::Time { .. })));
}

#[test]
fn a_message_is_an_object_that_templates_read() {
    let message = Message::assistant("4").with("reasoning_content", json!("add them"));
    let expected = Map::from_iter([
        ("role".to_owned(), json!("assistant")),
        ("content".to_owned(), json!("4")),
        ("reasoning_content".to_owned(), json!("add them")),
    ]);
    assert_eq!(message.object(), &expected);
}

#[test]
fn a_template_says_whether_an_answer_begins_in_a_thought() {
    let source = "{{ messages[0]['content'] }}{% if add_generation_prompt %}{% if enable_thinking is defined and not enable_thinking %}\
                  <think>\n\n</think>\n\n{% else %}<think>\n{% endif %}{% endif %}";
    let (switched, plain) =
        (ChatTemplate::new(source).unwrap(), ChatTemplate::new("{{ messages[0]['content'] }}").unwrap());
    assert!(switched.can_switch_thinking() && !plain.can_switch_thinking());
    let said = || Conversation::new([Message::user("Hello")]);
    assert!(switched.opens_thought(&said()).unwrap());
    assert!(!switched.opens_thought(&said().set("enable_thinking", json!(false))).unwrap());
    assert!(!switched.opens_thought(&said().without_answer()).unwrap());
    assert!(!plain.opens_thought(&said()).unwrap());
}
