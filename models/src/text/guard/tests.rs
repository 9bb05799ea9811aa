//! What is rewritten in a template, to the letter, and what is refused before it is run.

#![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

use super::*;

/// `#` stands for the filter that counts, `~w`, `~s` and `~k` for what is walked over, searched and kept.
fn expected(text: &str) -> String {
    text.replace("|#", "|__counted").replace("|~w", "|__walked").replace("|~s", "|__sought").replace("|~k", "|__kept")
}

#[test]
fn what_operators_work_on_is_counted_and_nothing_else_is_changed() {
    for (source, rewritten) in [
        ("a {{ b }} c", "a {{ b }} c"),
        ("{{ a ~ b.c[0]('x') -}}", "{{ a|# ~ b.c[0]('x')|# -}}"),
        ("{{ a ~\n b }}", "{{ a|# ~\n b|# }}"),
        ("{%- if m['role'] == 'user' and not x in y -%}", "{%- if m['role']|# == 'user' and not x|# in y|~s -%}"),
        ("{% for a, b in c.items() if a not in d %}", "{% for a, b in c.items()|~w if a|# not in d|~s %}"),
        ("{% for a in b + c recursive %}", "{% for a in (b|~w + c|~w)|~w recursive %}"),
        ("{% set ns.l = ns.l + [a, 1] %}", "{% set ns.l = (ns.l|~w + [a|~k, 1]|~w)|~k %}"),
        ("{% set a = b %}{% set ns.a = true %}", "{% set a = b %}{% set ns.a = true %}"),
        ("{% set a = b, c, %}", "{% set a = b|~k, c|~k, %}"),
        ("{% set ns.a, b = c, d %}", "{% set ns.a, b = (c|~k, d|~k)|~k %}"),
        ("{{ f(a, b=c ~ d)|trim }}", "{{ f(a, b=c|# ~ d|#)|trim }}"),
        ("{{ a.f(b, c=d) }}", "{{ a.f(b|#, c=d|#) }}"),
        ("{{ f(*a, **b) }}", "{{ f(*a|~w, **b|~w) }}"),
        ("{{ {'a': {'b': c}} }}", "{{ {'a': {'b': c|~k}|~k} }}"),
        ("{{ [a or b, not c or d] }}", "{{ [(a or b)|~k, (not c or d)|~k] }}"),
        ("{{ [a if b else c] }}", "{{ [(a if b else c)|~k] }}"),
        ("{{ (a, b) ~ (c) }}", "{{ (a|~k, b|~k)|# ~ (c)|# }}"),
        ("{{ a is string and b }}", "{{ a is string and b }}"),
        ("{{ a is defined and a + b }}", "{{ a is defined and a|~w + b|~w }}"),
        ("{% macro f(a, b=c ~ d, e=1) %}", "{% macro f(a, b=c|# ~ d|#, e=1) %}"),
        ("{% call(a) f(b) %}", "{% call(a) f(b) %}"),
        ("{{ a if b == c else d }}", "{{ a if b|# == c|# else d }}"),
        ("{{ \"it\\\"s }}\" ~ a }}", "{{ \"it\\\"s }}\" ~ a|# }}"),
        ("{{ 1.5 + a.b }}{{ loop.index0 % 2 == 0 }}", "{{ 1.5 + a.b|~w }}{{ loop.index0 % 2 == 0 }}"),
        ("{# a ~ b #}{% raw %}{{ a ~ b }}{% endraw %}{{ a }}", "{# a ~ b #}{% raw %}{{ a ~ b }}{% endraw %}{{ a }}"),
    ] {
        let found = guarded(source).unwrap();
        assert_eq!((found.source, found.stopped), (expected(rewritten), None), "{source}");
    }
}

#[test]
fn products_and_cuts_become_filters() {
    for (source, rewritten) in [
        ("{{ 'x' * n ~ '%}' }}", "{{ 'x' |__times( n)|__counted ~ '%}' }}"),
        ("{{ a*-b*2 }}", "{{ a|__times(-b)|__times(2) }}"),
        ("{{ a / b*c }}", "{{ (a / b)|__times(c) }}"),
        ("{{ a*b ** 2 }}", "{{ a|__times(b ** 2) }}"),
        ("{{ a*1e-5 + 1.5e+3*b }}", "{{ a|__times(1e-5)|__walked + 1.5e+3|__times(b)|__walked }}"),
        ("{{ a*0x1F*1_000*1.e5 }}", "{{ a|__times(0x1F)|__times(1_000)|__times(1.e5) }}"),
        ("{% set x = a[1:] %}", "{% set x = (a|__slice(1, none, none)) %}"),
        ("{{ a.b[-2:c[::-1]:2].d }}", "{{ (a.b|__slice(-2, (c|__slice(none, none, -1)), 2)).d }}"),
        ("{{ a[:b|int][0][c] }}", "{{ (a|__slice(none, b|int, none))[0][c] }}"),
        ("{{ x is in y[1:] }}", "{{ x is in ((y|__slice(1, none, none))) }}"),
        ("{{ x is in y[1:].z or w }}", "{{ x is in ((y|__slice(1, none, none)).z) or w }}"),
        ("{{ x is not in [1, y] }}", "{{ x is not in [1, y|__kept] }}"),
        ("{{ -x.n }}{{ -1.5 }}{{ -x }}", "{{ -(x.n) }}{{ -1.5 }}{{ -x }}"),
        ("{{ x is in(y[1:]) == z }}", "{{ x is in((y|__slice(1, none, none)))|__counted == z|__counted }}"),
    ] {
        let found = guarded(source).unwrap();
        assert_eq!((found.source.as_str(), found.stopped), (rewritten, None), "{source}");
    }
}

#[test]
fn what_the_engine_would_not_read_is_shown_to_it_no_further() {
    for (source, line) in [
        ("{{ a b }}", 1),
        ("a\n{{ x[1:2 3] }}", 2),
        ("{{ 'a }}", 1),
        ("{{ a", 1),
        ("{% for a b %}", 1),
        ("{% include 'a' %}", 1),
        ("{{ a[] }}", 1),
        ("\n\n{{ (a }}", 3),
    ] {
        let found = guarded(&format!("{source}{}", " ".repeat(1000))).unwrap();
        assert_eq!(found.stopped, Some(line), "{source}");
        assert!(found.source.len() < source.len() + 200 && found.source.starts_with(source), "{source}");
    }
}

#[test]
fn what_a_template_can_keep_is_measured() {
    assert_eq!(guarded("a long text{{ x }}").unwrap().longest, 0);
    assert_eq!(guarded("{% set x = 1 %}a long text").unwrap().longest, 0);
    assert_eq!(guarded("{% set x %}a long text{% endset %}").unwrap().longest, 11);
    assert_eq!(guarded("{% set x | trim %}a long text{% endset %}").unwrap().longest, 11);
    assert_eq!(guarded("{% macro f() %}a long text{% endmacro %}").unwrap().longest, 11);
}

#[test]
fn what_is_too_deep_is_refused_wherever_it_hides() {
    for source in [
        format!("{{{{ {{'a': {{}}}} {} }}}}", "+ 1 ".repeat(2000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(101), ")".repeat(101)),
        format!("{{{{ {}1 }}}}", "1 if 2 else ".repeat(101)),
        format!("{{{{ {}1 }}}}", "not ".repeat(1_000_000)),
        format!("{{{{ a is in {}1 }}}}", "-".repeat(1_000_000)),
        "{% macro m() %}{% endmacro %}".repeat(300),
        format!(
            "{{{{ {{'a': {{}}}} ~ '{{# ' }}}}{{% if x %}}{}{{% endif %}}{{{{ ' #}}' }}}}",
            "{% elif x %}".repeat(501)
        ),
    ] {
        assert!(matches!(guarded(&source), Err(TextError::TemplateLimit { .. })), "{source:.60}");
    }
    let long = format!("{{{{ [{}]|length }}}}", "'a', ".repeat(5000));
    assert_eq!(guarded(&long).unwrap().stopped, None);
}
