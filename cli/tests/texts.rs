//! `generate` and `chat` with a model of noise made here, on the CPU executor and on an adapter where there is one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use serde_json::{Value, json};
use std::io::Write;
#[cfg(unix)]
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use support::noise::model;
use support::{adapters, command, file, fixture, keys, lampyris};

#[test]
fn generate_writes_the_same_on_every_adapter_streamed_or_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let prompt = file(&folder, "prompt.txt", "Every kernel has a twin".as_bytes());
    let mut first: Option<Value> = None;
    for adapter in adapters() {
        let arguments = ["generate", "--model", &model, "--adapter", adapter, "--max-tokens", "12"];
        let with = |more: &[&str]| lampyris(&[&arguments[..], more].concat());
        let lines = with(&["--prompt", "Every kernel has a twin", "--json"]).json();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let expected = [
            "adapter",
            "decode_tokens_per_s",
            "first_token_ms",
            "model",
            "new_tokens",
            "prefill_tokens_per_s",
            "prompt_tokens",
            "text",
            "token_ids",
        ];
        assert_eq!(keys(line), expected);
        assert_eq!(line["new_tokens"], line["token_ids"].as_array().unwrap().len());
        assert!(line["new_tokens"].as_u64().unwrap() <= 12 && line["prompt_tokens"].as_u64().unwrap() > 3);
        let streamed = with(&["--prompt-file", &prompt]);
        // What would steer a terminal is streamed as a replacement character.
        let printable =
            |c: char| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
        let text: String = line["text"].as_str().unwrap().chars().map(printable).collect();
        assert_eq!((streamed.code, streamed.stdout), (0, text + "\n"));
        let reference = first.get_or_insert_with(|| line.clone());
        assert_eq!(line["token_ids"], reference["token_ids"]);
    }
}

#[test]
fn chat_answers_through_a_pipe_and_obeys_its_commands() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = model(&folder, &[]);
    let mut chat = command(&cache);
    chat.args(["chat", "--model", &model, "--adapter", "cpu", "--max-tokens", "4", "--temperature", "0"]);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said = "Hello\n/stats\n/reset\n\nHello\n/nonsense\n/system Be brief.\nHello\n/quit\nnever read\n";
    chat.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
    let output = chat.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stderr}");
    for part in ["of 96 tokens", "(a new conversation)", "/reset, /system TEXT, /stats and /quit"] {
        assert!(stdout.contains(part), "{part:?} is not in: {stdout}");
    }
    // The conversation after the reset is the first one again.
    let answers: Vec<&str> = stdout.split("(a new conversation)\n").collect();
    let first = answers[0].split("(").next().unwrap();
    assert_eq!(answers[1].split("(commands").next().unwrap(), first);
}

/// An empty answer alone would look like a fault of the program.
#[test]
fn an_answer_without_a_visible_character_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let silent = |more: &[&str], words: &[&str]| {
        let arguments = ["generate", "--adapter", "cpu", "--prompt", "Every kernel"];
        let said = lampyris(&[&arguments[..], more].concat());
        assert_eq!((said.code, said.stdout.trim()), (0, ""), "{more:?}: {}", said.stderr);
        assert_eq!(said.stderr.matches("nothing was generated").count(), 1, "{more:?}: {}", said.stderr);
        words.iter().for_each(|word| assert!(said.stderr.contains(word), "{more:?}: no {word} in {}", said.stderr));
    };
    silent(&["--model", &model, "--max-tokens", "0"], &["--max-tokens 0"]);
    let said = lampyris(&["generate", "--adapter", "cpu", "--prompt", "Every kernel", "--model", &model, "--json"]);
    let first: String = said.json()[0]["text"].as_str().unwrap().chars().take(1).collect();
    silent(&["--model", &model, "--stop", &first], &["--stop"]);
    // The last token that it might have is the text's end, and no limit.
    silent(&["--model", &model, "--stop", &first, "--max-tokens", "1"], &["a text that ends it came first"]);
    // Whatever the first token is, it is an end.
    let ends = json!({"eos_token_id": (0..604).collect::<Vec<u32>>()}).to_string();
    file(&folder, "generation_config.json", ends.as_bytes());
    silent(&["--model", &model], &["the end of a text", "`lampyris chat`"]);
    let [stdout, stderr] = chat(&model, &["--temperature", "0"], "Hello\n");
    assert_eq!((stdout.as_str(), stderr.matches("the answer is empty").count()), ("\n", 1), "{stderr}");
    // With `--json` it is said as well, beside the line.
    let said = lampyris(&["generate", "--adapter", "cpu", "--prompt", "Every kernel", "--model", &model, "--json"]);
    assert!(said.json()[0]["text"] == "" && said.stderr.contains("nothing was generated"), "{}", said.stderr);
}

/// An answer that a limit ended looks like one that the model ended.
#[test]
fn an_answer_in_a_conversation_has_all_room_and_a_limit_that_ends_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[("max_position_embeddings", json!(700))]);
    let [_, stderr] = chat(&model, &["--max-tokens", "3", "--temperature", "0"], "Hello\n");
    assert_eq!(stderr.matches("the answer was cut after 3 tokens; --max-tokens gives it more").count(), 1, "{stderr}");
    let [stdout, stderr] = chat(&model, &["--temperature", "0", "--seed", "1"], "Hello\n/stats\n");
    assert!(!stderr.contains("was cut"), "{stderr}");
    let used: usize = stdout.rsplit_once("\n(").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(used == 700 && stderr.contains("the context is full"), "{used} tokens: {stderr}");
}

/// A finished sentence is a whole text to the storyteller, which knows stories by their beginnings and requests from conversations.
#[cfg(feature = "bundled")]
#[test]
fn what_ends_a_story_at_once_is_said() {
    let said = lampyris(&["generate", "--adapter", "cpu", "--prompt", "Tell me a story about a fox."]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "\n"));
    for word in ["nothing was generated", "(<|im_end|>)", "`lampyris chat`"] {
        assert!(said.stderr.contains(word), "{}", said.stderr);
    }
}

/// What `chat` says to these lines, on stdout and stderr.
fn chat(model: &str, more: &[&str], said: &str) -> [String; 2] {
    talk("chat", model, more, said.as_bytes())
}

/// What a command says to this input, on stdout and stderr.
fn talk(job: &str, model: &str, more: &[&str], said: &[u8]) -> [String; 2] {
    let cache = tempfile::tempdir().unwrap();
    let mut chat = command(&cache);
    chat.args([job, "--model", model, "--adapter", "cpu"]).args(more);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(said).unwrap();
    let output = chat.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{}", said[1]);
    said
}

#[test]
fn draws_obey_the_seed_and_stop_strings_end_them() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let generate = |more: &[&str]| {
        let arguments = ["generate", "--model", &model, "--prompt", "Every kernel has a twin", "--max-tokens", "12"];
        lampyris(&[&arguments[..], more].concat())
    };
    let line = |more: &[&str]| generate(&[more, &["--json"]].concat()).json().remove(0);
    let likeliest = line(&["--adapter", "cpu"]);
    assert!(likeliest.get("seed").is_none());
    assert_eq!(line(&["--adapter", "cpu", "--temperature", "0", "--seed", "3"])["text"], likeliest["text"]);
    for adapter in adapters() {
        let drawn = |seed: &str| line(&["--adapter", adapter, "--temperature", "1.5", "--top-k", "50", "--seed", seed]);
        let (one, again, other) = (drawn("7"), drawn("7"), drawn("8"));
        assert_eq!((&one["token_ids"], one["seed"].as_u64()), (&again["token_ids"], Some(7)));
        assert_ne!(one["token_ids"], other["token_ids"]);
        // A drawn seed is reported and gives the same answer again.
        let any = line(&["--adapter", adapter, "--temperature", "1.5"]);
        let seed = any["seed"].to_string();
        let same = line(&["--adapter", adapter, "--temperature", "1.5", "--seed", &seed]);
        assert_eq!(any["token_ids"], same["token_ids"]);
    }
    // Two characters of the middle are a stop string that lies across tokens or within one.
    let text: Vec<char> = likeliest["text"].as_str().unwrap().chars().collect();
    let stop: String = text[text.len() / 2..][..2].iter().collect();
    let whole: String = text.iter().collect();
    let stopped = line(&["--adapter", "cpu", "--stop", "never said", "--stop", &stop]);
    assert_eq!(stopped["text"].as_str().unwrap(), whole.split(&stop).next().unwrap());
    assert!(stopped["new_tokens"].as_u64() < likeliest["new_tokens"].as_u64());
    for (wrong, named) in [
        (["--temperature", "NaN"], "temperature is NaN"),
        (["--top-p", "0"], "top_p is 0"),
        (["--min-p", "-1"], "min_p is -1"),
        (["--stop", ""], "empty"),
    ] {
        let said = generate(&[&wrong[..], &["--adapter", "cpu"]].concat());
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{named}: {}", said.stderr);
        assert!(said.stderr.contains(named) && said.stderr.lines().count() == 1, "{named}: {}", said.stderr);
    }
}

#[test]
fn chat_draws_as_the_files_recommend_and_drops_the_oldest_turns() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let few = ["--max-tokens", "3"];
    let [stdout, _] = chat(&model, &few, "Hello\n/stats\n");
    assert!(stdout.contains("drawn at temperature 0.8 with seed "), "{stdout}");
    let recommended = r#"{"eos_token_id": 603, "do_sample": true, "temperature": 0.25, "top_k": 20}"#;
    file(&folder, "generation_config.json", recommended.as_bytes());
    let [stdout, _] = chat(&model, &few, "Hello\n/stats\n");
    assert!(stdout.contains("drawn at temperature 0.25 with seed "), "{stdout}");
    let asked = ["--max-tokens", "3", "--temperature", "2", "--seed", "9"];
    let [stdout, stderr] = chat(&model, &asked, &("Tell me more about it.\n".repeat(12) + "/stats\n"));
    assert!(stdout.contains("drawn at temperature 2 with seed 9"), "{stdout}");
    assert!(stderr.contains("oldest turn was dropped"), "{stderr}");
    // What cannot fit at all is said, takes no turn from what was said, and the conversation goes on.
    let [stdout, stderr] = chat(&model, &few, &format!("{}\nHello\n/stats\n", "many words ".repeat(200)));
    assert!(stderr.contains("do not fit a context of 96") && stdout.contains("of 96 tokens"), "{stdout} {stderr}");
    let [_, stderr] = chat(&model, &few, &format!("Hello\nHello\n{}\n", "many words ".repeat(200)));
    assert!(stderr.contains("do not fit a context of 96") && !stderr.contains("dropped"), "{stderr}");
}

#[test]
fn a_conversation_outlives_what_is_no_text_and_no_command() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let few = ["--max-tokens", "3", "--temperature", "0"];
    let said = b"Hello\n\xff\xfe\n/stats\n/reset\n/stats\n/etc/hosts is a file\n /etc/hosts is a file\n/stats\n/quit now\nHello\n";
    let [stdout, stderr] = talk("chat", &model, &few, said);
    assert!(stderr.contains("no UTF-8"), "{stderr}");
    let stats: Vec<&str> = stdout.lines().filter(|line| line.contains("of 96 tokens")).collect();
    assert_eq!(stats.len(), 3, "{stdout}");
    assert!(stats[0].contains("in the last answer") && stats[2].contains("in the last answer"), "{stdout}");
    assert!(stats[1].starts_with("(0 of 96") && !stats[1].contains("in the last answer"), "{stdout}");
    assert!(stdout.contains("with a space before it") && stdout.trim_end().ends_with(stats[2]), "{stdout}");
    let line = [&vec![b'a'; (16 << 20) + 1][..], b"\n/stats\n"].concat();
    let [stdout, stderr] = talk("chat", &model, &few, &line);
    assert!(stderr.contains("16777216 bytes was passed over") && stdout.starts_with("(0 of 96"), "{stdout} {stderr}");
}

#[cfg(unix)]
#[test]
fn the_first_press_at_the_prompt_says_how_to_leave() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = model(&folder, &[]);
    let mut chat = command(&cache);
    chat.args(["chat", "--model", &model, "--adapter", "cpu", "--max-tokens", "3"]);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    let press = |id: u32| {
        let sent = std::process::Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap();
        assert!(sent.success());
    };
    input.write_all(b"Hello\n/stats\n").unwrap();
    let mut answers = BufReader::new(chat.stdout.take().unwrap()).lines();
    assert!(answers.any(|line| line.unwrap().contains("of 96 tokens")));
    press(chat.id());
    let mut notes = BufReader::new(chat.stderr.take().unwrap()).lines();
    assert!(notes.any(|line| line.unwrap().contains("once more ends the program")));
    // It goes on, and what is answered meanwhile takes the press back.
    input.write_all(b"Hello\n/stats\n").unwrap();
    assert!(answers.any(|line| line.unwrap().contains("of 96 tokens")));
    press(chat.id());
    assert!(notes.any(|line| line.unwrap().contains("once more ends the program")));
    press(chat.id());
    assert_eq!(chat.wait().unwrap().code(), Some(130));
}

#[cfg(unix)]
#[test]
fn a_press_during_an_answer_ends_the_answer_and_not_the_program() {
    const MOST: u64 = 20_000;
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = model(&folder, &[("max_position_embeddings", json!(30_000))]);
    let mut chat = command(&cache);
    chat.args(["chat", "--model", &model, "--adapter", "cpu", "--temperature", "0", "--context", "30000"]);
    chat.args(["--max-tokens", &MOST.to_string()]);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (chat.stdin.take().unwrap(), BufReader::new(chat.stdout.take().unwrap()));
    let mut turn = || {
        input.write_all(b"Hello\n").unwrap();
        // The answer is being written, of which the last piece would be seconds away.
        assert!(!output.fill_buf().unwrap().is_empty());
        let sent = std::process::Command::new("kill").args(["-INT", &chat.id().to_string()]).status().unwrap();
        assert!(sent.success());
        input.write_all(b"/stats\n").unwrap();
        let stats =
            output.by_ref().lines().map(Result::unwrap).find(|line| line.contains("in the last answer")).unwrap();
        let number =
            |before: &str| stats.split_once(before).unwrap().0.rsplit([' ', '(']).next().unwrap().parse().unwrap();
        [number(" of 30000 tokens"), number(" tokens in the last answer")]
    };
    let [used, first]: [u64; 2] = turn();
    // What was written counts as said, and the next turn is answered and can be stopped as well.
    let [more, second]: [u64; 2] = turn();
    assert!((1..MOST).contains(&first) && (1..MOST).contains(&second), "{first} and {second} tokens");
    assert!(used > first && more >= used + second, "{used}, then {more} tokens of a conversation");
    input.write_all(b"/quit\n").unwrap();
    let ended = chat.wait_with_output().unwrap();
    let notes = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && !notes.contains("once more"), "{notes}");
}

#[test]
fn templates_are_told_the_time_and_damaged_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let template = |source: &str| {
        file(&folder, "tokenizer_config.json", json!({ "chat_template": source }).to_string().as_bytes());
    };
    template(
        "{% if not strftime_now is defined or strftime_now('%Y')|int < 2025 %}{{ raise_exception('no clock') }}{% endif %}{{ messages[0]['content'] }}",
    );
    let [stdout, stderr] = chat(&model, &["--max-tokens", "3"], "Hello\n/stats\n");
    assert!(stdout.contains("3 tokens in the last answer") && !stderr.contains("clock"), "{stdout} {stderr}");
    template("{% if %}");
    let said = lampyris(&["chat", "--model", &model, "--adapter", "cpu"]);
    assert!(said.code == 2 && said.stderr.contains("syntax"), "{}", said.stderr);
    let said = lampyris(&["chat", "--model", &model, "--adapter", "cpu", "--stop", ""]);
    assert!(said.code == 2 && said.stderr.contains("--stop") && said.stderr.contains("empty"), "{}", said.stderr);
}

#[test]
fn prompts_come_through_a_pipe_and_what_is_lost_of_them_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let generate = |more: &[&str], said: &str| talk("generate", &model, more, said.as_bytes());
    let few = ["--max-tokens", "5"];
    let [expected, _] = generate(&[&few[..], &["--prompt", "Every kernel has a twin"]].concat(), "");
    for piped in ["Every kernel has a twin", "Every kernel has a twin\n", "Every kernel has a twin\r\n"] {
        assert_eq!(generate(&[&few[..], &["--prompt-file", "-"]].concat(), piped)[0], expected);
    }
    let blank = generate(&[&few[..], &["--prompt-file", "-", "--json"]].concat(), "Every kernel has a twin\n\n");
    let plain = generate(&[&few[..], &["--prompt-file", "-", "--json"]].concat(), "Every kernel has a twin");
    let tokens = |said: &[String; 2]| serde_json::from_str::<Value>(&said[0]).unwrap()["prompt_tokens"].as_u64();
    assert!(tokens(&blank) > tokens(&plain), "only one line break is left out");
    let long = "Every kernel has a twin. ".repeat(30);
    let slide = ["--prompt-file", "-", "--json", "--slide", "4", "--max-tokens", "60"];
    let slid = generate(&slide, &long);
    let line: Value = serde_json::from_str(&slid[0]).unwrap();
    assert!(line["prompt_tokens"].as_u64().unwrap() > 96 && line["first_token_ms"].as_f64().unwrap() > 0.0, "{line}");
    assert!(slid[1].contains("tokens were dropped") && !slid[1].contains("is full"), "{}", slid[1]);
    let full = generate(&["--prompt-file", "-", "--max-tokens", "500"], "Every kernel has a twin");
    assert!(full[1].contains("the context of 96 tokens is full") && !full[1].contains("dropped"), "{}", full[1]);
}

#[test]
fn thoughts_are_labelled_and_can_be_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    let template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}model:\
        {% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}";
    file(&folder, "tokenizer_config.json", json!({ "chat_template": template }).to_string().as_bytes());
    let few = ["--max-tokens", "6", "--temperature", "0"];
    let [stdout, _] = chat(&model, &few, "Hello\n");
    assert!(stdout.starts_with("(thinking) "), "{stdout}");
    let [stdout, stderr] = chat(&model, &[&few[..], &["--no-think"]].concat(), "Hello\n");
    assert!(
        !stdout.contains("(thinking)") && !stdout.trim().is_empty() && !stderr.contains("switch"),
        "{stdout} {stderr}"
    );
    let [_, stderr] = chat(&model, &few, "Hello\n");
    assert!(stderr.contains("room for thoughts alone") && stderr.contains("--no-think leaves them out"), "{stderr}");
    let always = "{% for m in messages %}{{ m['content'] }}{% endfor %}<think>\n";
    file(&folder, "tokenizer_config.json", json!({ "chat_template": always }).to_string().as_bytes());
    let [_, stderr] = chat(&model, &few, "Hello\n");
    assert!(stderr.contains("room for thoughts alone") && !stderr.contains("--no-think"), "{stderr}");
    file(&folder, "tokenizer_config.json", b"{}");
    let [_, stderr] = chat(&model, &[&few[..], &["--no-think"]].concat(), "Hello\n");
    assert!(stderr.contains("no switch for thoughts"), "{stderr}");
}

/// What is wrong in `config.json`, more arguments, and what the refusal names.
type Wrong<'a> = (&'a [(&'a str, Value)], &'a [&'a str], &'a str);

#[test]
fn what_cannot_be_run_is_refused_in_a_sentence() {
    let cases: [Wrong<'_>; 6] = [
        (&[("model_type", json!("mamba"))], &[], "mamba"),
        (&[("num_attention_heads", json!(3))], &[], "head_dim"),
        (&[("hidden_size", json!(24))], &[], "model.embed_tokens.weight"),
        (&[], &["--context", "97"], "a context of 97 tokens cannot be had"),
        (&[], &["--context", "2"], "do not fit a context of 2"),
        (&[("vocab_size", json!(500))], &[], "500"),
    ];
    for (wrong, more, named) in cases {
        let folder = tempfile::tempdir().unwrap();
        let model = model(&folder, wrong);
        let arguments = ["generate", "--model", &model, "--adapter", "cpu", "--prompt", "Every kernel has a twin"];
        let said = lampyris(&[&arguments[..], more].concat());
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{named}: {}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{named}: {}", said.stderr);
        assert!(said.stderr.contains(named), "{named:?} is not in: {}", said.stderr);
    }
    let folder = tempfile::tempdir().unwrap();
    let model = model(&folder, &[]);
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let said = lampyris(&["chat", "--model", &model, "--adapter", "cpu"]);
    assert!(said.code == 2 && said.stderr.contains("tokenizer.json"), "{}", said.stderr);
    // Of a network that writes no texts, it is not the tokenizer that is missing.
    let said = lampyris(&["generate", "--model", &fixture("mobilenet_v2_w025"), "--adapter", "cpu", "--prompt", "A"]);
    assert!(said.code == 2 && !said.stderr.contains("tokenizer.json"), "{}", said.stderr);
}
