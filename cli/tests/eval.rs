//! `eval` of pictures in folders, of a text and of questions: the figures are what counting by hand gives.

#![cfg(feature = "bundled")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::{file, lampyris, root};

fn eval(arguments: &[&str]) -> Value {
    lampyris(&[&["eval", "--json", "--adapter", "cpu"], arguments].concat()).json().remove(0)
}

#[test]
fn pictures_count_by_the_names_of_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    let sample =
        |label: &str| std::fs::read(root().join(format!("models/bundled/sketches/samples/{label}.png"))).unwrap();
    for (path, label) in [("fish/a.png", "fish"), ("fish/b.png", "house"), ("house/c.png", "house"), ("7/d.png", "7")] {
        file(&folder, path, &sample(label));
    }
    let path = folder.path().to_str().unwrap();
    let report = eval(&["--images", path]);
    assert_eq!(report["model"], "bundled sketches");
    let images = &report["images"];
    assert_eq!((&images["right"], &images["count"], &images["accuracy"]), (&json!(3), &json!(4), &json!(0.75)));
    let class = |label: &str| images["classes"].as_array().unwrap().iter().find(|it| it["label"] == label).unwrap();
    assert_eq!(class("fish")["accuracy"], 0.5);
    assert_eq!(class("fish")["taken_for"], json!([{"label": "house", "count": 1}]));
    assert_eq!(class("house")["accuracy"], 1.0);
    let said = lampyris(&["eval", "--adapter", "cpu", "--images", path]);
    assert!(
        said.stdout.contains("75.00 % of 4 pictures") && said.stdout.contains("taken for: house 1"),
        "{}",
        said.stdout
    );

    std::fs::create_dir(folder.path().join("griffin")).unwrap();
    for (arguments, words) in
        [(path, "griffin is named by none of the model's labels"), ("no such folder", "no such folder")]
    {
        let said = lampyris(&["eval", "--adapter", "cpu", "--images", arguments]);
        assert!(said.code == 2 && said.stdout.is_empty() && said.stderr.contains(words), "{}", said.stderr);
    }
    let empty = tempfile::tempdir().unwrap();
    let said = lampyris(&["eval", "--adapter", "cpu", "--images", empty.path().to_str().unwrap()]);
    assert!(said.code == 2 && said.stderr.contains("holds no folder"), "{}", said.stderr);
}

/// What the bundled storyteller says to one request, by the likeliest tokens.
fn answer(request: &str, folder: &Path) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lampyris"))
        .args(["chat", "--adapter", "cpu", "--temperature", "0"])
        .env("XDG_CACHE_HOME", folder)
        .stdin(std::fs::File::open(support_file(folder, request)).unwrap())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn support_file(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("said.txt");
    std::fs::write(&path, format!("{text}\n")).unwrap();
    path
}

#[test]
fn texts_and_questions_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let hello = answer("Hello!", folder.path());
    assert!(!hello.is_empty());
    let line = |answers: &[&str], kind: Option<&str>| {
        let messages = json!([{"role": "user", "content": "Hello!"}]);
        json!({"messages": messages, "answers": answers, "kind": kind}).to_string()
    };
    let lines = [line(&["never", &hello], Some("known")), line(&["never"], Some("known")), line(&[&hello], None)];
    let questions = file(&folder, "questions.jsonl", lines.join("\n\n").as_bytes());
    let text = file(&folder, "text.txt", b"Once upon a time there was a fox. The fox had a lantern.");
    let report = eval(&["--text", &text, "--questions", &questions]);
    let asked = &report["questions"];
    assert_eq!((&asked["right"], &asked["count"]), (&json!(2), &json!(3)), "{asked}");
    assert_eq!(asked["kinds"]["known"]["share"], 0.5);
    let perplexity = report["text"]["perplexity"].as_f64().unwrap();
    assert!(perplexity > 1.0 && perplexity < 2000.0, "{perplexity}");
    // Another order of its words is no story.
    let shuffled = file(&folder, "shuffled.txt", b"fox lantern had. the was upon fox Once there a. The a time a");
    let worse = eval(&["--text", &shuffled])["text"]["perplexity"].as_f64().unwrap();
    assert!(worse > 2.0 * perplexity, "{worse} and {perplexity}");

    for (bytes, words) in [
        (&b"{\"messages\": []}"[..], "line 1"),
        (b"\n{\"messages\": [{\"role\": \"user\"}], \"answers\": []}", "no message or no answer"),
        (b"", "no question at all"),
        (b"\xff", "no UTF-8"),
    ] {
        let questions = file(&folder, "wrong.jsonl", bytes);
        let said = lampyris(&["eval", "--adapter", "cpu", "--questions", &questions]);
        assert!(said.code == 2 && said.stdout.is_empty() && said.stderr.contains(words), "{}", said.stderr);
    }
    let said = lampyris(&["eval", "--adapter", "cpu"]);
    assert!(said.code == 2 && said.stderr.contains("--images"), "{}", said.stderr);
}
