//! `pull` against a hub on this machine that is in order, breaks off, lies, refuses and redirects; and what is pulled, used by name.

#![cfg(feature = "pull")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;
use support::hub::{Asked, COMMIT, Files, Reply, Server, answer, hashes, listing};
use support::{Said, command};
use tempfile::TempDir;

/// Runs the command with this hub and this cache.
fn with(server: &str, home: &TempDir, more: &[(&str, &str)], arguments: &[&str]) -> Said {
    let mut command = command(home);
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", server).env("HF_HOME", home.path().join("hf")).envs(more.iter().copied());
    let Output { status, stdout, stderr } = command.args(arguments).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!stderr.contains("panicked"), "{stderr}");
    Said { code: status.code().unwrap(), stdout, stderr }
}

/// Pulls with short waits, on the CPU executor.
fn pull(server: &Server, home: &TempDir, more: &[&str]) -> Said {
    let arguments = [&["pull", "o/n", "--pause", "1", "--adapter", "cpu"], more].concat();
    with(&server.address, home, &[], &arguments)
}

/// A language model of noise, as the hub has it, and where it lies on this machine.
fn model() -> (TempDir, Files) {
    let folder = tempfile::tempdir().unwrap();
    support::noise::model(&folder, &[]);
    let files = ["config.json", "model.safetensors", "tokenizer.json"];
    let read = |name: &str| (name.to_owned(), std::fs::read(folder.path().join(name)).unwrap());
    let mut files: Files = files.into_iter().map(read).collect();
    files.insert("pytorch_model.bin".to_owned(), vec![1; 5000]);
    files.insert("README.md".to_owned(), b"# A model".to_vec());
    (folder, files)
}

fn root(home: &TempDir) -> PathBuf {
    home.path().join("hf/hub/models--o--n")
}

fn snapshot(home: &TempDir) -> PathBuf {
    root(home).join("snapshots").join(COMMIT)
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Fails unless the files of the model lie in the cache as the hub's own tools put them there, and nothing else does.
fn assert_whole(home: &TempDir, files: &Files) {
    let expected = ["config.json", "model.safetensors", "tokenizer.json"];
    assert_eq!(names(&snapshot(home)), expected);
    for name in expected {
        assert_eq!(&std::fs::read(snapshot(home).join(name)).unwrap(), &files[name], "{name}");
    }
    let mut blobs: Vec<String> = expected
        .iter()
        .map(|name| hashes(&files[*name]))
        .zip(expected)
        .map(|((git, sha256), name)| if files[name].len() < 1000 { git } else { sha256 })
        .collect();
    blobs.sort();
    assert_eq!(names(&root(home).join("blobs")), blobs);
    assert_eq!(std::fs::read_to_string(root(home).join("refs/main")).unwrap(), COMMIT);
}

/// Requests that brought bytes of this file, without those for its header.
fn asked_for<'a>(asked: &'a [Asked], file: &str) -> Vec<&'a Asked> {
    asked.iter().filter(|it| it.file() == Some(file) && it.range().is_none_or(|(_, last)| last.is_none())).collect()
}

/// Fails unless it was refused in one sentence, the last one, with these words.
fn refused(said: &Said, words: &[&str]) {
    failed(said, 2, words);
}

/// Fails unless it ended with this code and one sentence, the last one, with these words.
fn failed(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{}", said.stderr);
    let last = said.stderr.lines().last().unwrap();
    assert!(last.starts_with("lampyris: "), "{last}");
    for word in words {
        assert!(last.contains(word), "no `{word}` in {last}");
    }
}

#[test]
fn what_is_pulled_is_used_by_its_name() {
    let (home, (local, files)) = (tempfile::tempdir().unwrap(), model());
    let server = Server::of(files.clone());
    let said = pull(&server, &home, &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    for part in ["model.safetensors", "in 3 files", "here it will take", "as the hub states", "chat --model o/n"] {
        assert!(said.stdout.contains(part), "no {part} in {}", said.stdout);
    }
    assert_whole(&home, &files);
    assert!(server.asked().iter().all(|it| it.headers["user-agent"].starts_with("lampyris/")));

    // The hub is gone from here on.
    let generate = |model: &str| {
        let arguments = ["generate", "--model", model, "--prompt", "a", "--max-tokens", "6", "--adapter", "cpu"];
        let said = with("http://127.0.0.1:1", &home, &[], &arguments);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said.stdout
    };
    let expected = generate(local.path().to_str().unwrap());
    for name in ["o/n", "o/n@main", &format!("o/n@{COMMIT}")] {
        assert_eq!(generate(name), expected, "{name}");
    }
    for arguments in [&["inspect", "o/n"][..], &["fits", "o/n", "--adapter", "cpu"]] {
        let said = with("http://127.0.0.1:1", &home, &[], arguments);
        assert_eq!(said.code, 0, "{}", said.stderr);
    }

    // The second time nothing but the list is asked for.
    let before = server.asked().len();
    let said = pull(&server, &home, &[]);
    assert!(said.code == 0 && said.stdout.contains("there already"), "{}{}", said.stdout, said.stderr);
    assert_eq!(server.asked().len(), before + 1);
}

#[test]
fn a_connection_that_breaks_off_goes_on_where_it_did() {
    let (home, (_local, files)) = (tempfile::tempdir().unwrap(), model());
    let whole = files["model.safetensors"].len();
    let served = files.clone();
    let server = Server::new(move |asked, _| {
        let mut reply = answer(&served, asked);
        let body = asked.file() == Some("model.safetensors") && asked.range().is_none_or(|(_, last)| last.is_none());
        reply.cut = body.then_some(20_000);
        reply
    });
    let said = pull(&server, &home, &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_whole(&home, &files);
    let asked = server.asked();
    let firsts: Vec<usize> =
        asked_for(&asked, "model.safetensors").iter().map(|it| it.range().map_or(0, |(first, _)| first)).collect();
    assert!(firsts.len() > 2 && firsts[0] == 0, "{firsts:?} of {whole}");
    assert!(firsts.windows(2).all(|pair| pair[0] < pair[1] && pair[1] <= pair[0] + 20_000), "{firsts:?}");
    assert!(said.stderr.contains("trying again"), "{}", said.stderr);
}

#[test]
fn an_interrupted_run_is_gone_on_with_and_a_damaged_one_begun_anew() {
    let (_local, files) = model();
    let weights = files["model.safetensors"].clone();
    for (left, resumes) in [(weights[..30_000].to_vec(), true), (vec![7; 30_000], false), (vec![7; 900_000], false)] {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root(&home).join("blobs")).unwrap();
        let part = root(&home).join("blobs").join(format!("{}.incomplete", hashes(&weights).1));
        std::fs::write(&part, &left).unwrap();
        let server = Server::of(files.clone());
        let said = pull(&server, &home, &[]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_whole(&home, &files);
        let asked = server.asked();
        let ranges: Vec<_> = asked_for(&asked, "model.safetensors").iter().map(|it| it.range()).collect();
        let begun = Some((30_000, None));
        let expected = match (resumes, left.len()) {
            (true, _) => vec![begun],
            (false, 30_000) => vec![begun, None],
            _ => vec![None],
        };
        assert_eq!(ranges, expected);
    }
}

#[test]
fn a_hub_that_knows_no_ranges_is_asked_for_all_of_it() {
    let (home, (_local, files)) = (tempfile::tempdir().unwrap(), model());
    let served = files.clone();
    let server = Server::new(move |asked, before| {
        let mut plain = asked.clone();
        plain.headers.remove("range");
        let mut reply = answer(&served, &plain);
        // The first one that is asked for whole breaks off.
        reply.cut = (asked.file() == Some("model.safetensors") && asked.range().is_none()).then_some(9_000 + before);
        reply
    });
    let said = pull(&server, &home, &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_whole(&home, &files);
}

#[test]
fn what_is_not_as_stated_is_thrown_away() {
    let (_local, files) = model();
    let weights = files["model.safetensors"].clone();
    let flipped: Vec<u8> = weights.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 40_000)).collect();
    let longer = [&weights[..], b"and more"].concat();
    let shorter = weights[..weights.len() - 10].to_vec();
    for (sent, chunked, words) in [
        (flipped, false, ["has the hash", "which the hub states"]),
        (shorter, false, ["bytes and not the", "thrown away"]),
        (longer.clone(), false, ["bytes and not the", "thrown away"]),
        (longer, true, ["bytes and not the", "thrown away"]),
    ] {
        let (home, served) = (tempfile::tempdir().unwrap(), files.clone());
        let server = Server::new(move |asked, _| {
            if asked.file() != Some("model.safetensors") || asked.range().is_some() {
                return answer(&served, asked);
            }
            match chunked {
                false => Reply::new(200, sent.as_slice()),
                true => {
                    let body = [format!("{:x}\r\n", sent.len()).as_bytes(), &sent, b"\r\n0\r\n\r\n"].concat();
                    Reply::new(200, body).header("Transfer-Encoding", "chunked")
                }
            }
        });
        let said = pull(&server, &home, &[]);
        refused(&said, &words);
        assert!(!snapshot(&home).join("model.safetensors").exists());
        let left = names(&root(&home).join("blobs"));
        assert!(!left.contains(&hashes(&weights).1), "{left:?}");
        let part = root(&home).join("blobs").join(format!("{}.incomplete", hashes(&weights).1));
        assert_eq!(part.metadata().map_or(0, |facts| facts.len()), 0);
        assert!(!root(&home).join("refs/main").exists());
        refused(&with("http://127.0.0.1:1", &home, &[], &["inspect", "o/n"]), &["lampyris pull o/n"]);
    }
}

#[test]
fn refusals_are_told_apart() {
    let cases: [(u16, &[&str]); 5] = [
        (401, &["does not exist or needs a token", "HF_TOKEN"]),
        (403, &["accept the model's terms"]),
        (404, &["has no revision main of o/n"]),
        (418, &["status 418"]),
        (503, &["status 503"]),
    ];
    for (status, words) in cases {
        let home = tempfile::tempdir().unwrap();
        let server = Server::new(move |_, _| Reply::new(status, ""));
        let said = pull(&server, &home, &[]);
        failed(&said, if status >= 418 { 1 } else { 2 }, words);
        assert_eq!(said.stdout, "");
        assert_eq!(server.asked().len(), if status >= 500 { 5 } else { 1 }, "{status}");
        assert!(names(home.path()).iter().all(|name| name != "hf"), "nothing is written for a refusal");
    }
    let home = tempfile::tempdir().unwrap();
    let nobody = with("http://127.0.0.1:1", &home, &[], &["pull", "o/n", "--pause", "1"]);
    failed(&nobody, 1, &["cannot be fetched", "when there is a connection"]);
    for (endpoint, words) in [("ftp://x", "no http or https"), ("https://", "no http or https")] {
        refused(&with(endpoint, &home, &[], &["pull", "o/n"]), &[words]);
    }
    refused(&with("http://127.0.0.1:1", &home, &[("HF_HUB_OFFLINE", "1")], &["pull", "o/n"]), &["HF_HUB_OFFLINE"]);
    refused(&with("http://127.0.0.1:1", &home, &[], &["pull", "../n"]), &["ORG/NAME"]);
    refused(&with("http://127.0.0.1:1", &home, &[], &["pull", "o/n", "--revision", "../x"]), &["revision"]);
}

#[test]
fn a_busy_hub_is_waited_for_as_long_as_it_asks() {
    let (_local, files) = model();
    for (seconds, waits) in [(1, true), (100_000, false)] {
        let (home, served) = (tempfile::tempdir().unwrap(), files.clone());
        let server = Server::new(move |asked, before| match before {
            0 | 2 => Reply::new(429, "").header("Retry-After", seconds),
            _ => answer(&served, asked),
        });
        let begun = std::time::Instant::now();
        let said = pull(&server, &home, &[]);
        if waits {
            assert_eq!(said.code, 0, "{}", said.stderr);
            assert!(
                begun.elapsed().as_secs_f64() >= 2.0 && said.stderr.contains("asks to wait 1 s"),
                "{}",
                said.stderr
            );
            assert_whole(&home, &files);
        } else {
            failed(&said, 1, &["asks to wait 100000 s", "later"]);
        }
    }
}

#[test]
fn a_token_goes_to_the_hub_and_to_nobody_else() {
    let (home, (_local, files)) = (tempfile::tempdir().unwrap(), model());
    let storage = Server::of(files.clone());
    // Another name of this machine is another host.
    let elsewhere = storage.address.replace("127.0.0.1", "localhost");
    let served = files.clone();
    let server = Server::new(move |asked, _| match asked.file() {
        Some("model.safetensors") => Reply::new(302, "").header("Location", format!("{elsewhere}{}", asked.path)),
        _ => answer(&served, asked),
    });
    let said = with(&server.address, &home, &[("HF_TOKEN", "hf_secret")], &["pull", "o/n", "--adapter", "cpu"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_whole(&home, &files);
    assert!(server.asked().iter().all(|it| it.headers["authorization"] == "Bearer hf_secret"));
    assert!(!storage.asked().is_empty());
    assert!(storage.asked().iter().all(|it| !it.headers.contains_key("authorization")));
}

#[test]
fn a_list_that_leads_out_of_the_cache_is_refused() {
    let (home, (_local, files)) = (tempfile::tempdir().unwrap(), model());
    for path in ["../../../escaped.json", "/tmp/escaped.json", "a/../../b.json"] {
        let mut list = listing(&files);
        list["siblings"][0]["rfilename"] = path.into();
        let server = Server::new(move |_, _| Reply::new(200, list.to_string()));
        refused(&pull(&server, &home, &[]), &["does not stay in its folder", "nothing was fetched"]);
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn what_does_not_fit_is_said_before_it_is_fetched() {
    let (home, (_local, files)) = (tempfile::tempdir().unwrap(), model());
    let server = Server::of(files.clone());
    // The CPU executor has no budget.
    let Some(adapter) = support::adapters().into_iter().find(|adapter| *adapter != "cpu") else { return };
    let tight = |more: &[&str]| {
        let arguments = ["pull", "o/n", "--pause", "1", "--adapter", adapter, "--budget", "20000"];
        with(&server.address, &home, &[], &[&arguments[..], more].concat())
    };
    let said = tight(&[]);
    refused(&said, &["does not fit", "--anyway"]);
    assert!(said.stdout.contains("the budget is 20000"), "{}", said.stdout);
    assert!(asked_for(&server.asked(), "model.safetensors").is_empty());
    let weights = files["model.safetensors"].len();
    let header: usize = server
        .asked()
        .iter()
        .filter(|it| it.file() == Some("model.safetensors"))
        .map(|it| {
            let (first, last) = it.range().unwrap();
            last.unwrap() + 1 - first
        })
        .sum();
    assert!(header > 8 && header < weights / 4, "{header} of {weights}");
    let said = tight(&["--anyway"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_whole(&home, &files);
}

#[test]
fn fits_describes_what_is_on_the_hub_and_fetches_nothing() {
    let (home, (local, files)) = (tempfile::tempdir().unwrap(), model());
    let server = Server::of(files);
    let weigh = |model: &str| {
        let arguments = ["fits", model, "--adapter", "cpu", "--context", "64", "--json"];
        let said = with(&server.address, &home, &[], &arguments);
        let mut report = said.json().remove(0);
        report["model"] = "".into();
        assert!(report["memory_bytes"].take().as_u64().is_some_and(|bytes| bytes > 1 << 20), "of the machine's own");
        report
    };
    assert_eq!(weigh("o/n"), weigh(local.path().to_str().unwrap()));
    assert!(!root(&home).exists() && asked_for(&server.asked(), "model.safetensors").is_empty());
}

/// Whoever only asks does not wait for a hub that is not there.
#[test]
fn fits_without_a_connection_says_so_at_once() {
    let (home, start) = (tempfile::tempdir().unwrap(), std::time::Instant::now());
    let said = with("http://127.0.0.1:1", &home, &[], &["fits", "o/n", "--adapter", "cpu"]);
    failed(&said, 1, &["o/n is neither a file", "http://127.0.0.1:1 cannot be asked", "when there is a connection"]);
    assert_eq!((said.stdout.as_str(), said.stderr.lines().count()), ("", 1), "{}", said.stderr);
    assert!(!said.stderr.contains("is kept") && !said.stderr.contains("trying again"), "{}", said.stderr);
    // The first wait between two questions would be a second.
    assert!(start.elapsed().as_secs_f64() < 10.0, "{:?}", start.elapsed());
}

#[test]
fn a_name_that_is_nowhere_says_how_to_fetch_it() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &["classify", "--model", "o/n", &support::picture()][..],
        &["chat", "--model", "o/n"],
        &["generate", "--model", "o/n@v1", "--prompt", "a"],
        &["embed", "--model", "o/n", "a"],
        &["bench", "--model", "o/n"],
        &["inspect", "o/n"],
    ] {
        let said = with("http://127.0.0.1:1", &home, &[], arguments);
        refused(&said, &["no file or folder o/n", "`lampyris pull o/n"]);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    }
}
