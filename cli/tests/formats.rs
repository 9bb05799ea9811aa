//! `chat --template`: a way in for models whose files have no chat template, by a format's name or a file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use std::io::Write;
use std::process::Stdio;
use support::noise::model;
use support::{Said, command, file};
use tempfile::TempDir;

/// A folder with a model of noise whose vocabulary has no token of ChatML.
fn without_template(folder: &TempDir) -> String {
    let model = model(folder, &[]);
    let path = folder.path().join("tokenizer.json");
    let tokenizer = std::fs::read_to_string(&path).unwrap();
    assert!(tokenizer.contains("<|im_start|>"));
    std::fs::write(path, tokenizer.replace("<|im_", "<|xx_")).unwrap();
    model
}

/// Says `Hello` to a model, and more arguments.
fn chat(model: &str, more: &[&str]) -> Said {
    let cache = tempfile::tempdir().unwrap();
    let mut chat = command(&cache);
    chat.args(["chat", "--model", model, "--adapter", "cpu", "--max-tokens", "4", "--temperature", "0"]).args(more);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A chat that is refused reads nothing.
    let _ = chat.stdin.take().unwrap().write_all(b"Hello\n/stats\n");
    let output = chat.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!stderr.contains("panicked"), "{stderr}");
    Said { code: output.status.code().unwrap(), stdout, stderr }
}

/// Tokens that conversation and answer have together, as `/stats` says.
fn tokens(said: &Said) -> usize {
    assert_eq!(said.code, 0, "{}", said.stderr);
    let line = said.stdout.lines().find(|line| line.contains(" tokens, ")).unwrap();
    line.trim_start_matches('(').split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_model_without_a_template_can_be_given_one() {
    let folder = tempfile::tempdir().unwrap();
    let model = without_template(&folder);
    let refused = chat(&model, &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    for part in ["--template", "generate"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    let alpaca = chat(&model, &["--template", "alpaca"]);
    assert!(!alpaca.stderr.contains("vocabulary"), "{}", alpaca.stderr);
    // A format whose tokens the vocabulary lacks is taken, and said to suit it badly.
    let chatml = chat(&model, &["--template", "ChatML"]);
    assert!(chatml.stderr.contains("no <|im_end|>") && chatml.stderr.contains("chatml"), "{}", chatml.stderr);
    let path = file(&folder, "mine.jinja", b"{% for m in messages %}{{ m['content'] }}{% endfor %}");
    let mine = chat(&model, &["--template", &path]);
    // Each writes more than the one before: nothing, two headings, spelled marks.
    assert!(tokens(&mine) < tokens(&alpaca) && tokens(&mine) < tokens(&chatml), "{}", mine.stdout);
}

#[test]
fn what_is_no_template_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let model = without_template(&folder);
    let (broken, binary) =
        (file(&folder, "broken.jinja", b"{% for m in %}"), file(&folder, "binary.jinja", &[0xff; 9]));
    for (template, words) in [
        ("vicuna", &["vicuna is no file", "chatml, llama2, llama3, mistral, gemma, phi3, alpaca"][..]),
        (&broken, &["the chat template is not valid"]),
        (&binary, &["binary.jinja", "no UTF-8"]),
    ] {
        let said = chat(&model, &["--template", template]);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{template}: {}", said.stderr);
        for word in words {
            assert!(said.stderr.contains(word), "{word:?} is not in: {}", said.stderr);
        }
    }
}
