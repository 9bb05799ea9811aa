//! Templates in the style of published ones, whole and with long conversations: none of what they do is refused, and the renderings are
//! those of Jinja2 with the settings that transformers gives it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{ChatTemplate, Conversation, Message, TextError, WallClock};

pub(super) const ALL: [(&str, &str); 6] = [
    ("llama", include_str!("../../../tests/fixtures/templates/llama.jinja")),
    ("qwen", include_str!("../../../tests/fixtures/templates/qwen.jinja")),
    ("gemma", include_str!("../../../tests/fixtures/templates/gemma.jinja")),
    ("phi", include_str!("../../../tests/fixtures/templates/phi.jinja")),
    ("mistral", include_str!("../../../tests/fixtures/templates/mistral.jinja")),
    ("deepseek", include_str!("../../../tests/fixtures/templates/deepseek.jinja")),
];

pub(super) fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source).unwrap().token("bos_token", "<s>").token("eos_token", "</s>")
}

#[test]
fn templates_in_the_style_of_published_ones_render_as_jinja_renders_them() {
    let recorded: Value = serde_json::from_str(include_str!("../../../tests/fixtures/templates.json")).unwrap();
    let recorded = recorded.as_array().unwrap();
    assert_eq!(recorded.len(), 12);
    for case in recorded {
        let name = case["template"].as_str().unwrap();
        let (_, source) = ALL.into_iter().find(|it| it.0 == name).unwrap();
        let messages = case["messages"].as_array().unwrap().iter();
        let messages = messages.map(|it| Message::from_object(it.as_object().unwrap().clone()));
        let mut conversation = Conversation::new(messages).now(WallClock::new(2024, 7, 26, 12, 0, 0).unwrap());
        if let Some(tools) = case["tools"].as_array() {
            conversation = conversation.tools(tools.clone());
        }
        let text = template(source).render(&conversation).unwrap();
        assert_eq!(text, case["text"].as_str().unwrap(), "{name}");
    }
}

/// 3,000 messages of 60 letters, which is more than the longest contexts hold.
#[test]
fn long_conversations_are_not_refused() {
    for (name, source) in ALL {
        let turn = |at: usize| {
            let said = format!("{at:5} of the many things that one of two people can say there.");
            if at.is_multiple_of(2) { Message::user(said) } else { Message::assistant(said) }
        };
        let long = Conversation::new((0..3001).map(turn)).now(WallClock::new(2024, 7, 26, 12, 0, 0).unwrap());
        let text = template(source).render(&long).unwrap();
        assert!(text.contains("2999 of") && text.len() > 3000 * 60, "{name}");
    }
}

/// What a template is made of, and what should not be where it is put.
const PIECES: &str = r#"{{¦}}¦{%¦%}¦{#¦#}¦-%}¦(¦)¦[¦]¦{¦}¦|¦~¦+¦-¦*¦**¦/¦//¦%¦==¦<¦:¦::-1¦[1:]¦,¦.¦=¦'¦"¦\¦ in ¦ is ¦ not ¦ if ¦ else ¦ or ¦messages¦loop¦namespace()¦|list¦|join¦.items()¦9223372036854775807¦1e-5¦é"#;

/// Published templates with a few pieces put in, taken out or doubled: each is refused or ends. What the fuzz target does for longer.
#[test]
fn damaged_published_templates_are_refused_or_work() {
    let full = std::env::var("LAMPYRIS_TIER").is_ok_and(|tier| tier == "full");
    let config =
        ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if full { 50_000 } else { 500 }) };
    let pieces: Vec<&str> = PIECES.split('¦').collect();
    let edit = (0.0..1.0f64, 0..30usize, 0..pieces.len(), any::<bool>());
    let edits = proptest::collection::vec(edit, 1..5);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&(0..ALL.len(), edits), |(which, edits)| {
        let mut source = ALL[which].1.to_owned();
        for (at, length, piece, double) in edits {
            let on_a_character = |at: usize| (at..=source.len()).find(|at| source.is_char_boundary(*at)).unwrap();
            let start = on_a_character((at * source.len() as f64) as usize);
            let end = on_a_character((start + length).min(source.len()));
            let taken = source[start..end].to_owned();
            let instead = if double { taken.clone() + pieces[piece] + &taken } else { pieces[piece].to_owned() };
            source.replace_range(start..end, &instead);
        }
        let said = [
            Message::system("Be brief."),
            Message::user(" a "),
            Message::assistant("<think>b</think>"),
            Message::user("c"),
        ];
        let error = ChatTemplate::new(&source).and_then(|template| template.render(&Conversation::new(said))).err();
        prop_assert!(error.is_none_or(|error| !error.to_string().is_empty()));
        Ok(())
    });
    outcome.unwrap();
}

/// What templates are written with, each beside what refused it once or could.
#[test]
fn expressions_of_published_templates_are_taken_as_they_are() {
    let x = json!({"a": ["b", "c", "d"], "n": 2, "t": "text", "m": {"k": [1, 2]}});
    for (source, expected) in [
        ("{{ 'c' is in x.a[1:] }}{{ 'b' is not in x.a[1:] }}{{ 'b' is in x.a[1:] or false }}", "TrueTrueFalse"),
        ("{{ x.n * 1e-5 }} {{ 1.5e3*x.n }} {{ x.n*0x10 }} {{ 1_000 * x.n }}", "2e-05 3000.0 32 2000"),
        ("{{ x.a[-2:][0] }}{{ x.t[1:-1] ~ x.t[::-1] }}{{ (x.a + ['e'])[1:]|join('-') }}", "cextxetc-d-e"),
        ("{{ ''[::-1] }}{{ [][::-1]|length }}{{ 'abc'[1:3:-1] }}{{ 'abc'[2:0:-1] }}{{ missing[1:] }}", "0cb[]"),
        ("{{ x.m.items()|list|length }}{{ x.m.keys()|list }}{{ x.a|reverse|list }}", "1['k']['d', 'c', 'b']"),
        ("{{ 'a' 'b' ~ 1 }}{{ 'banana'.count('an') }}{{ 'abc'.count('') }}", "ab124"),
        ("{{ (1, 2)[0] }}{{ {'a': x.n}['a'] }}{{ [not x.n or 'y'][0] }}{{ [x.n if x.t else 1][0] }}", "12y2"),
        (
            "{% set a, b = 1, x.t %}{{ a }}{{ b }}{% set n = namespace(l=[]) %}{% set n.l = n.l + [x.t] %}{{ n.l }}",
            "1text['text']",
        ),
        (
            "{% for k, v in x.m|dictsort %}{{ k }}{{ v }}{% endfor %}{% for i in range(3, 0, -1) %}{{ i }}{% endfor %}",
            "k[1, 2]321",
        ),
        ("{% macro f(a, b=x.n ~ '!') %}{{ a|length }}{{ b }}{% endmacro %}{{ f(x.a) }}{{ f(x.t, b='?') }}", "32!4?"),
        ("{% with a = x.n, b = 1 %}{{ a - b * 3 }}{% endwith %}{% set c | upper %}d{% endset %}{{ c }}", "-1D"),
        ("{{ 2 ** 2 * 'x' }}{{ 7 // 2 * 2 }}{{ -x.n * -1 }}{{ 7 % 4 }}", "xxxx623"),
        ("{% if x.n is defined and x.n is not none and x.n is number %}{{ x.a|map('upper')|join }}{% endif %}", "BCD"),
        ("{%- if x.t is string -%} {{ x.t[0]|upper + x.t[1:] }} {%- endif -%}", "Text"),
    ] {
        let found = ChatTemplate::new(source).unwrap().render(&Conversation::new([]).set("x", x.clone()));
        assert_eq!(found.unwrap(), expected, "{source}");
    }
    let refused = ChatTemplate::new("{{ 'a' }}\n{{ x[1:2 3] }}").unwrap_err();
    assert!(
        matches!(&refused, TextError::TemplateSyntax { reason } if reason.contains("line 2") || reason.contains(":2")),
        "{refused}"
    );
}
