//! What a newcomer meets: `lampyris` alone, and its jobs without a model of the user's, on the CPU executor and an adapter.

#![cfg(feature = "bundled")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use std::io::Write;
use std::process::Stdio;
use support::{adapters, command, lampyris, root};

/// A drawing of the repository.
fn drawing(label: &str) -> String {
    root().join("models/bundled/sketches/samples").join(format!("{label}.png")).display().to_string()
}

#[test]
fn the_tour_needs_nothing_and_says_everything() {
    for adapter in adapters() {
        let said = lampyris(&["--adapter", adapter]);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{}", said.stderr);
        let parts = [
            "three drawings",
            "drawn: fish",
            "drawn: house",
            "drawn: 7",
            "a story",
            "tokens/s",
            "where to go next",
            "lampyris pull",
            "nothing downloaded",
        ];
        for part in parts {
            assert!(said.stdout.contains(part), "no {part} in {}", said.stdout);
        }
        // Each drawing is named first by what it shows.
        for label in ["fish", "house", "7"] {
            let after = said.stdout.split(&format!("drawn: {label}\n")).nth(1).unwrap();
            assert!(after.lines().next().unwrap().ends_with(&format!("  {label}")), "{}", said.stdout);
        }
        assert!(said.stdout.lines().all(|line| line.chars().count() <= 80), "{}", said.stdout);
        assert!(!said.stdout.contains('\x1b'), "a pipe gets plain text");
    }
    let said = lampyris(&["--adapter", "no such adapter"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{}", said.stderr);
}

#[test]
fn the_tour_ends_with_whoever_reads_it() {
    let cache = tempfile::tempdir().unwrap();
    let mut tour =
        command(&cache).args(["--adapter", "cpu"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(tour.stdout.take());
    let output = tour.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn help_tells_of_the_tour() {
    let said = lampyris(&["--help"]);
    assert_eq!(said.code, 0);
    assert!(said.stdout.contains("Without a command") && said.stdout.contains("tour"), "{}", said.stdout);
}

#[test]
fn classify_without_a_model_says_which_one_answers() {
    for adapter in adapters() {
        let said = lampyris(&["classify", "--adapter", adapter, "--json", &drawing("house"), &drawing("fish")]);
        assert!(
            said.stderr.contains("the bundled model answers") && said.stderr.contains("--model"),
            "{}",
            said.stderr
        );
        let lines = said.json();
        let found: Vec<_> = lines.iter().map(|it| it["predictions"][0]["label"].as_str().unwrap()).collect();
        assert_eq!(found, ["house", "fish"]);
        assert!(lines.iter().all(|it| it["model"] == "bundled sketches"));
    }
}

#[test]
fn generate_and_chat_without_a_model_say_which_one_answers() {
    let arguments = ["generate", "--adapter", "cpu", "--prompt", "Once upon a time", "--max-tokens", "8", "--json"];
    let said = lampyris(&arguments);
    assert!(said.stderr.contains("the bundled storyteller answers"), "{}", said.stderr);
    assert_eq!(said.json()[0]["model"], "bundled storyteller");

    let cache = tempfile::tempdir().unwrap();
    let mut chat = command(&cache);
    chat.args(["chat", "--adapter", "cpu", "--max-tokens", "12", "--temperature", "0"]);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"Tell me a story.\n").unwrap();
    let output = chat.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success() && stderr.contains("the bundled storyteller answers"), "{stderr}");
    assert!(stdout.split_whitespace().count() > 4, "{stdout}");
}
