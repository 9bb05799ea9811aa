//! Files that are broken or hostile: every one ends in a typed error, none in a panic or without an end.

use proptest::prelude::*;
use serde_json::json;

use super::super::{ChatTemplate, Conversation, Message, TextError, Tokenizer};

const SMALL: &str = include_str!("../../../tests/fixtures/tokenizer.json");

fn render(source: &str) -> Result<String, TextError> {
    ChatTemplate::new(source)?.render(&Conversation::new([Message::user("a")]).set("x", json!("y")))
}

#[test]
fn a_template_without_an_end_runs_out_of_steps() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
    assert!(matches!(render(loops), Err(TextError::TemplateLimit { what: "steps", .. })));
}

#[test]
fn a_template_that_calls_itself_is_stopped() {
    let deep = |open: &str, close: &str| format!("{{{{ {}1{} }}}}", open.repeat(20_000), close.repeat(20_000));
    for source in [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        format!("{}{}", "{% if x %}".repeat(5000), "{% endif %}".repeat(5000)),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(20_000)),
        format!("{{% raw %}}{{{{ ' {{% endraw %}}{} '", deep("not ", "")),
        deep("(", ")"),
        deep("[", "]"),
        deep("not ", ""),
        deep("-", ""),
        deep("1 * -", ""),
        format!("{{{{ 1 * {}1 }}}}", "-".repeat(1_000_000)),
        format!("{{#}}{{{{ '#}}{{% if x %}}{}{{% endif %}}' }}}}", "{% elif x %}".repeat(20_000)),
        format!(
            "{{% raw %}}{{% endrawx %}}{{{{ '{{% endraw %}}{{% if x %}}{}{{% endif %}}' }}}}",
            "{% elif x %}".repeat(20_000)
        ),
        format!(
            "{{% raw %}}{{%-- endraw %}}{{{{ '{{% endraw %}}{{% if x %}}{}{{% endif %}}' }}}}",
            "{% elif x %}".repeat(20_000)
        ),
        deep("1 + ", ""),
        deep("", "|abs"),
        deep("", "[0]"),
        deep("", " is defined"),
    ] {
        match render(&source) {
            Err(TextError::Template { .. } | TextError::TemplateSyntax { .. } | TextError::TemplateLimit { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Each would end the engine in a panic.
#[test]
fn what_the_engine_does_not_check_is_refused() {
    for source in [
        "{% for a in [1] %}{{ loop.cycle() }}{% endfor %}",
        "{% for a in [1] %}{{ loop.cycle(*[]) }}{% endfor %}",
        "{% for a in [1] %}{{ loop . cycle ( ) }}{% endfor %}",
        "{{ 1 is divisibleby 0 }}",
        "{{ 1 is divisibleby(0) }}",
        "{{ [1]|select('divisibleby', 0) }}",
        "{{ [1]|batch(18446744073709551615) }}",
        "{{ [1]|slice(18446744073709551615) }}",
        "{{ 'a'|indent(18446744073709551615) }}",
        "{{ 'a'|indent(width=18446744073709551615) }}",
        "{{ '%.70000f'|format(1.5) }}",
        "{{ '%.*f'|format(70000, 1.5) }}",
        "{{ '{:.70000f}'.format(1.5) }}",
        "{{ '{:.70000e}'.format(1) }}",
        "{% for a in [1] %}{{ loop.changed(loop) }}{% endfor %}",
    ] {
        match render(source) {
            Err(TextError::Template { .. } | TextError::TemplateSyntax { .. } | TextError::TemplateLimit { .. }) => {}
            other => panic!("{source}: {other:?}"),
        }
    }
    for (source, wanted) in [
        ("{% for a in [1, 2, 3] %}{{ loop.cycle('x', 'y') }}{% endfor %}", "xyx"),
        ("{% for a in [1, 1, 2] %}{{ 'c' if loop.changed(a) else '-' }}{% endfor %}", "c-c"),
        ("{{ 6 is divisibleby 3 }}{{ 7 is divisibleby(3) }}", "TrueFalse"),
        ("{{ '%.2f'|format(1.5) }}", "1.50"),
    ] {
        assert_eq!(render(source).unwrap(), wanted, "{source}");
    }
}

/// Tags without an end are not looked for again and again.
#[test]
fn tags_without_an_end_are_read_once() {
    assert!(render(&"{%".repeat(2_000_000)).is_err());
}

#[test]
fn a_template_that_writes_too_much_is_stopped() {
    let source = "{% set a = 'x' * 1000000 %}{% for b in range(100) %}{{ a }}{% endfor %}";
    assert!(matches!(render(source), Err(TextError::TemplateLimit { what: "bytes of output", .. })));
}

#[test]
fn a_template_that_works_on_too_much_text_is_stopped() {
    for source in [
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% set c = a.replace('x', 'y') %}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% set c = a|upper %}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{{ a|replace('', a)|length }}",
        "{% set a = 'x' * 4000000 %}{{ a.replace('x', a)|length }}",
        "{% set a = 'x' * 4000000 %}{{ range(99999)|join(a)|length }}",
        "{% set a = 'x' * 4000000 %}{{ a.join(range(99999)|list)|length }}",
        "{{ 'a'|indent(9000000000)|length }}",
        "{{ 'a'|indent(width=9000000000)|length }}",
        "{{ [1]|slice(9000000000)|length }}",
        "{{ [1]|batch(9000000000)|length }}",
        "{{ '%9000000000s'|format('a')|length }}",
        "{{ 'x' * 2000000000 }}",
        "{#}{{ '#}{{ 'x' * 2000000000 }}' }}",
        "{% raw %}{% endraw x %}{{ '{% endraw %}{{ 'x' * 2000000000 }}' }}",
        "{% set ns = namespace(a='x') %}{% for b in range(99999) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
        "{% set ns = namespace(a='x') %}{% for b in range(99999) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
        "{% set ns = namespace(a=['x']) %}{% for b in range(99999) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
        "{% set ns = namespace(a=['x']) %}{% for b in range(99999) %}{% set ns.a = ns.a * 2 %}{% endfor %}",
        "{% set ns = namespace(a=[]) %}{% for b in range(99999) %}{% set ns.a = ns.a + ['x' * 1000000] %}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% set c = a[1:] %}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% if a == a ~ 'x' %}{% endif %}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% if 'y' in a %}{% endif %}{% endfor %}",
        "{% set ns = namespace(a=[1]) %}{% for b in range(20) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{% for b in range(99999) %}{% if ns.a is equalto ns.a %}{% endif %}{% endfor %}",
        "{% set ns = namespace(a=[1]) %}{% for b in range(20) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{% set c = [ns.a] %}{% for b in range(99999) %}{{ c.count(ns.a) }}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% if a is equalto a %}{% endif %}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% for c in a %}{% break %}{% endfor %}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% set c %}{{ a }}{% endset %}{% endfor %}",
        "{% macro m(a) %}{{ a }}{{ a }}{% endmacro %}{% set ns = namespace(a='x') %}{% for b in range(99999) %}{% set ns.a = m(ns.a) %}{% endfor %}",
        "{% set a = 'x' * 4000000 %}{% for b in range(99999) %}{% set c = [a, a]|select('equalto', a)|list %}{% endfor %}",
    ] {
        let stopped = render(source).unwrap_err();
        let right = matches!(stopped, TextError::TemplateLimit { what: "bytes in operators, filters and methods", .. });
        assert!(right, "{source}: {stopped}");
    }
    assert!(render("{{ x|tojson(indent=9000000000) }}").unwrap_err().to_string().contains("indent"));
    assert_eq!(render("{{ x|indent(width=2, first=true)|upper|replace('Y', 'z') }}").unwrap(), "  z");
}

/// What a step keeps of the template's own text is limited by fewer steps.
#[test]
fn a_template_that_keeps_long_texts_has_fewer_steps() {
    let text = "x".repeat(30_000);
    let source = format!("{{% for a in range(99999) %}}{{% set b %}}{text}{{% endset %}}{{% endfor %}}");
    assert!(matches!(render(&source), Err(TextError::TemplateLimit { what: "steps", limit: 35_791 })));
    let source = format!("{{% set b %}}{text}{text}{{% endset %}}");
    assert!(matches!(render(&source), Err(TextError::TemplateLimit { what: "bytes of text between two tags", .. })));
}

/// Values in one another are dropped with a call for each.
#[test]
fn a_template_that_nests_values_is_stopped() {
    let looped = |set: &str| {
        format!("{{% set ns = namespace(a=[1]) %}}{{% for b in range(99999) %}}{{% set ns.a = {set} %}}{{% endfor %}}")
    };
    for set in [
        "[ns.a]",
        "{'a': ns.a}",
        "1, ns.a",
        "dict(a=ns.a)",
        "ns.a|batch(1)|list",
        "[ns.a if true else 1]",
        "[ns.a or 1]",
        "[(ns.a)]",
        "{ns.a|tojson: ns.a}",
        "{'a': ns.a}.items()",
        "dict(a=ns.a)|items",
        "[ns.a]|map('list')",
        "[ns.a][0:]",
        "[ns.a]|reverse|list",
        "(ns.a, 1)",
        "[1] + [ns.a]",
    ] {
        match render(&looped(set)) {
            Err(TextError::Template { reason }) => assert!(reason.contains("too deep"), "{set}: {reason}"),
            Err(TextError::TemplateLimit { .. }) => {}
            other => panic!("{set}: {other:?}"),
        }
    }
}

/// Cuts and turns of lists that wait to be walked over lie in one another like lists do.
#[test]
fn a_template_that_cuts_cuts_is_no_deeper_for_it() {
    for set in ["ns.a[0:]", "ns.a[::-1]", "ns.a|reverse", "ns.a + []", "ns.a|list", "[1] + ns.a[1:]"] {
        let source = format!(
            "{{% set ns = namespace(a=[1]) %}}{{% for b in range(20000) %}}{{% set ns.a = {set} %}}{{% endfor %}}{{{{ ns.a|length }}}}"
        );
        assert_eq!(render(&source).unwrap(), "1", "{set}");
    }
}

/// Namespaces and macros hold values in ways of their own, and could hold each other.
#[test]
fn a_template_that_chains_namespaces_or_macros_is_stopped() {
    let looped =
        |each: &str| format!("{{% set ns = namespace(a=1) %}}{{% for b in range(99999) %}}{each}{{% endfor %}}");
    for each in [
        "{% set n = namespace() %}{% set n.a = ns %}{% set ns = n %}",
        "{% set n = namespace() %}{% set n.a = ns.a %}{% set ns.a = n %}",
        "{% set ns.a = namespace(a=ns.a) %}",
        "{% set n = namespace(a=ns) %}",
        "{% set n = [ns] %}",
        "{% set n = {'a': ns} %}",
        "{% set n, ns.a = 1, [ns] %}",
        "{% set p = ns.a %}{% macro m() %}{{ p }}{% endmacro %}{% set ns.a = m %}",
        "{% set p = ns.a %}{% macro m() %}{{ p }}{% endmacro %}{% set ns.a = [m] %}",
    ] {
        match render(&looped(each)) {
            Err(TextError::Template { reason }) => assert!(reason.contains("is put into"), "{each}: {reason}"),
            other => panic!("{each}: {other:?}"),
        }
    }
    let chain = "{% set p = m %}{% macro m() %}{{ p }}{% endmacro %}".repeat(20_000);
    assert!(matches!(render(&chain), Err(TextError::TemplateLimit { what: "macros", .. })));
}

/// What the engine of these versions does not come back from: a search that never gets on, and bounds that stop the program.
#[test]
fn a_template_cannot_reach_what_never_returns() {
    for (source, text) in [
        ("{{ 'abc'.count('') }}", "4"),
        ("{{ ''[::-1] }}{{ []|list }}{{ [][::-1] }}", "[][]"),
        ("{{ 'abc'[1:3:-1] }}{{ [1, 2, 3][0:9:-1] }}", "[]"),
        ("{{ 'abc'[::-9223372036854775807] }}{{ 'abc'[-9223372036854775807:] }}", "cabc"),
    ] {
        assert_eq!(render(source).unwrap(), text, "{source}");
    }
    for source in
        ["{{ range(0, 5, -9223372036854775807 - 1) }}", "{{ range(9223372036854775807, -2, -1) }}", "{{ 'a'[::0] }}"]
    {
        assert!(matches!(render(source), Err(TextError::Template { .. })), "{source}");
    }
}

#[test]
fn operators_give_what_they_give_elsewhere() {
    for (source, text) in [
        ("{{ 2 * 3 + 4 * -5 }} {{ 7 // 2 * 2 }} {{ 2 * 3 ** 2 }} {{ 1.5 * 2 }} {{ 6 / 3 * 2 }}", "-14 6 18 3.0 4.0"),
        ("{{ 6 / -3 * 2 }} {{ 2.0 ** -1 * 4 }} {{ 2 ** 2 * 'x' }}", "-4.0 2.0 xxxx"),
        ("{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*['c', 'd']) }}", "cd"),
        ("a{#}b#}c{% raw %}{{ d }}{%-  endraw +%}e", "ac{{ d }}e"),
        ("{{ 'ab' * 2 ~ 'c' }}{{ [1] * 2 }}{{ 'x' * 0 }}{{ 'x' * -1 }}", "ababc[1, 1]"),
        ("{{ [1, 2] + [3] }}{{ 'a' + 'b' }}{{ (1, 2)|length }}", "[1, 2, 3]ab2"),
        ("{{ 'b' in 'abc' }}{{ 'b' not in ['a'] }}{{ 1 < 2 and not 2 <= 1 }}", "TrueTrueTrue"),
        ("{{ 'abcd'[1:3] }}{{ [1, 2, 3][::-1] }}", "bc[3, 2, 1]"),
        ("{{ {'a': {'b': 1}}['a'].b + 1 }}{{ 'a' if x == 'y' else 'b' }}", "2a"),
        ("{{ 5 is in [5] }}{{ 'a' is equalto 'a' }}{{ ['a', 'b']|select('equalto', 'b')|list }}", "TrueTrue['b']"),
        ("{{ missing == 'a' }}{{ missing ~ 'a' }}{{ missing is defined }}", "FalseaFalse"),
    ] {
        assert_eq!(render(source).unwrap(), text, "{source}");
    }
    for source in ["{{ 'a' * 'b' }}", "{{ 'x' / 2 * 3 }}", "{{ debug() }}"] {
        assert!(matches!(render(source), Err(TextError::Template { .. })), "{source}");
    }
}

#[test]
fn a_text_of_typed_special_tokens_is_spelled_one_after_another() {
    let piece = |text: &str, score: f64| json!([text, score]);
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false})
    };
    let file = json!({"version": "1.0", "added_tokens": [added(0, "<unk>"), added(1, "<s>")], "model": {"type": "Unigram", "unk_id": 0,
        "vocab": [piece("<unk>", 0.0), piece("<s>", 0.0), piece("<", -9.0), piece("s", -9.0), piece(">", -9.0), piece("s>", -12.0),
        piece("a", -9.0)]}});
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes(), None).unwrap();
    assert_eq!(tokenizer.encode("a<s>a", true).unwrap(), [6, 1, 6]);
    assert_eq!(tokenizer.encode("a<s>a", false).unwrap(), [6, 2, 5, 6]);
    let count = 200_000;
    assert_eq!(tokenizer.encode(&"<s>".repeat(count), false).unwrap(), [2, 5].repeat(count));
}

#[test]
fn templates_see_no_files_and_no_other_templates() {
    for source in ["{% include '/etc/hostname' %}", "{% extends 'a' %}", "{% import 'a' as b %}"] {
        assert!(
            matches!(render(source), Err(TextError::Template { .. } | TextError::TemplateSyntax { .. })),
            "{source}"
        );
    }
}

#[test]
fn a_refusal_is_told_in_the_templates_words_and_cannot_steer_a_terminal() {
    let refused = render("{{ raise_exception('no \x1b[2J here') }}").unwrap_err().to_string();
    assert!(refused.contains("no \\u{1b}[2J here"), "{refused}");
}

#[test]
fn merges_that_give_no_token_are_refused() {
    let mut file: serde_json::Value = serde_json::from_str(SMALL).unwrap();
    file["model"]["merges"] = json!([["a", "\u{120}\u{120}\u{120}\u{120}\u{120}"]]);
    let refused = Tokenizer::from_json(file.to_string().as_bytes(), None).unwrap_err();
    assert!(matches!(&refused, TextError::TokenizerFile { reason } if reason.contains("merge")), "{refused}");
}

#[test]
fn a_damaged_table_of_a_normalizer_is_refused() {
    // A trie of one unit, from which every first byte leads outside; then a length beyond the table; then no table.
    for table in ["BAAAAAAAAABhYmMA", "/////w==", "!", ""] {
        let mut file: serde_json::Value = serde_json::from_str(SMALL).unwrap();
        file["normalizer"] =
            json!({"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": table}]});
        let refused = Tokenizer::from_json(file.to_string().as_bytes(), None);
        assert!(matches!(refused, Err(TextError::TokenizerFile { .. })), "{table}");
    }
    let mut file: serde_json::Value = serde_json::from_str(SMALL).unwrap();
    file["normalizer"] = json!({"type": "Precompiled"});
    assert!(Tokenizer::from_json(file.to_string().as_bytes(), None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_tokenizer_file_is_refused_or_works(at in 0.0..1.0f64, instead in any::<u8>(), cut in any::<bool>()) {
        let mut file = SMALL.as_bytes().to_vec();
        let at = (at * file.len() as f64) as usize;
        file[at] = instead;
        if cut {
            file.truncate(at);
        }
        if let Ok(tokenizer) = Tokenizer::from_json(&file, None)
            && let Ok(ids) = tokenizer.encode("Some text, <|im_end|> \u{1F600}", true)
        {
            prop_assert!(tokenizer.decode(&ids, true).is_ok());
        }
    }

    #[test]
    fn a_damaged_template_is_refused_or_works(source in "(\\{\\{|\\}\\}|\\{%|%\\}|-| |'|\"|messages|if|for|in|endfor|endif|generation|\\[|\\]|0|\\.|\\|tojson|\u{e9}){0,40}") {
        if let Err(error) = render(&source) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
