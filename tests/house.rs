//! The rules of the house that no compiler checks: who may depend on whom, what may be named where, and how a file begins.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of the longest file.
const LONGEST: usize = 600;

/// What each package of the workspace may depend on, besides packages from outside.
const MAY_DEPEND_ON: [(&str, &[&str]); 7] = [
    ("lampyris-shaders", &[]),
    ("lampyris-engine", &["lampyris-shaders"]),
    ("lampyris-models", &["lampyris-engine"]),
    ("lampyris", &["lampyris-shaders", "lampyris-engine", "lampyris-models"]),
    ("lampyris-cli", &["lampyris"]),
    ("lampyris-web", &["lampyris"]),
    ("xtask", &["lampyris-shaders", "lampyris"]),
];

/// The libraries: what compiles for browsers too, and what a program links.
const LIBRARIES: [&str; 5] = ["shaders/src", "engine/src", "models/src", "src", "web/src"];

/// The features that code may ask for, with the only crate that has each; none chooses a kernel.
const FEATURES: [(&str, &str); 13] = [
    ("shaders/", "parallel"),
    ("cli/", "bundled"),
    ("cli/", "pull"),
    ("models/", "bundled"),
    ("models/", "image"),
    ("models/", "text"),
    // Tokenizers without chat templates, for which the browser package has no room.
    ("models/", "tokens"),
    ("xtask/", "browser"),
    ("xtask/", "web"),
    ("src/", "bundled"),
    ("src/", "image"),
    ("src/", "text"),
    ("src/", "tokens"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
struct File {
    /// Its path from the root, with `/` between folders.
    path: String,
    text: String,
}

impl File {
    fn is_under(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Line number and text of each line that is not a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// Every file with one of these endings in the folders that hold what the project is made of; this file, which names what it
/// forbids, is left out.
fn files(endings: &[&str]) -> Vec<File> {
    let tops = [
        "shaders",
        "engine",
        "models",
        "cli",
        "web",
        "xtask",
        "src",
        "tests",
        "examples",
        "integrations",
        "benches",
        "docs",
    ];
    // What is made or fetched, not written.
    let others = ["target", "node_modules", "glue", "pkg", "dist"];
    let mut folders: Vec<PathBuf> = tops.iter().map(|top| root().join(top)).filter(|path| path.is_dir()).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let ends = path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending));
            if path.is_dir() && !others.iter().any(|other| path.ends_with(other)) {
                folders.push(path);
            } else if ends {
                let shown = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                if shown != "tests/house.rs" {
                    found.push(File { path: shown, text: std::fs::read_to_string(&path).unwrap() });
                }
            }
        }
    }
    assert!(found.len() >= 10, "only {} files end with {endings:?}", found.len());
    found
}

/// Stops with everything that is wrong.
fn none(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let allowed: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.into();
    let mut wrong = Vec::new();
    assert_eq!(packages.len(), allowed.len(), "every package of the workspace has its line in this file");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else { panic!("{name} has no line in this file") };
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            let ours = packages.iter().any(|package| package["name"] == other);
            let for_tests = dependency["kind"] == "dev";
            if ours && !for_tests && !allowed.contains(&other) {
                wrong.push(format!("{name} depends on {other}"));
            }
            if other == "wgpu" && !for_tests && name != "lampyris-engine" {
                wrong.push(format!("{name} depends on wgpu"));
            }
        }
    }
    none(wrong, "shaders, engine, models, facade, command: each knows those before it, and only the engine knows wgpu");
}

#[test]
fn wgpu_is_named_in_one_room() {
    let mut wrong = Vec::new();
    let mut inside = 0;
    for file in files(&["rs"]) {
        let named = file.code().filter(|(_, line)| line.contains("wgpu::")).map(|(at, _)| at).collect::<Vec<_>>();
        if file.is_under(&["engine/src/gpu"]) {
            inside += named.len();
        } else if file.path.contains("src/") && !file.is_under(&["examples", "integrations"]) {
            wrong.extend(named.into_iter().map(|at| format!("{}:{at}", file.path)));
        }
    }
    assert!(inside > 50, "wgpu is named {inside} times in engine/src/gpu; has the room moved?");
    none(
        wrong,
        "wgpu is named under engine/src/gpu, and in tests, benches and what shows a host: examples and integrations",
    );
}

/// Whether the attributes right above a line keep what it begins out of browsers or out of the library.
fn gated(lines: &[&str], at: usize) -> bool {
    let above = lines[..at].iter().rev().map(|line| line.trim());
    let attributes = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    attributes.into_iter().any(|line| {
        line.starts_with("#[cfg(not(target_arch = \"wasm32\"))]")
            || line.starts_with("#[cfg(test)]")
            || line.starts_with("#[cfg(all(test,")
            || (line.starts_with("#[cfg(all(") && line.contains("not(target_arch = \"wasm32\")"))
    })
}

/// Whether a line, or any block round it, is [`gated`].
fn gated_in_file(lines: &[&str], at: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut depth = indent(lines[at]) + 1;
    (0..=at).rev().filter(|i| !lines[*i].trim().is_empty()).any(|i| {
        if indent(lines[i]) >= depth {
            return false;
        }
        depth = indent(lines[i]);
        gated(lines, i)
    })
}

/// Whether a module is declared under a gate, itself or a module that it belongs to.
fn gated_as_module(path: &Path) -> bool {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem().and_then(|stem| stem.to_str())) else {
        return false;
    };
    if stem == "lib" {
        return false;
    }
    // `folder/mod.rs` is the module `folder` of the folder above.
    let (home, name) = match stem {
        "mod" => (folder.parent().unwrap(), folder.file_name().unwrap().to_str().unwrap()),
        _ => (folder, stem),
    };
    let parents = [home.join("mod.rs"), home.join("lib.rs"), home.with_extension("rs")];
    let Some(parent) = parents.iter().find(|parent| parent.is_file() && *parent != path) else {
        return false;
    };
    let text = std::fs::read_to_string(parent).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let declared =
        lines.iter().position(|line| line.trim().trim_start_matches("pub ").starts_with(&format!("mod {name};")));
    let declared = declared.unwrap_or_else(|| panic!("{} does not declare {name}", parent.display()));
    gated(&lines, declared) || gated_as_module(parent)
}

#[test]
fn browsers_get_no_files_clocks_or_threads() {
    let natives = ["std::fs", "std::thread", "Instant::now", "time::Instant", "SystemTime", "rayon::", "memmap2::"];
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files(&["rs"]).iter().filter(|file| file.is_under(&LIBRARIES)) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in file.code().filter(|(_, line)| natives.iter().any(|native| line.contains(native))) {
            seen += 1;
            // Rayon is behind a feature of the shaders that only native targets turn on.
            let rayon = file.path == "shaders/src/parallel.rs";
            if !rayon && !gated_in_file(&lines, at - 1) && !gated_as_module(&root().join(&file.path)) {
                wrong.push(format!("{}:{at}: {}", file.path, line.trim()));
            }
        }
    }
    assert!(seen > 10, "only {seen} uses of files and threads found");
    none(
        wrong,
        "what compiles for browsers uses files, clocks and threads only under `cfg(not(target_arch = \"wasm32\"))`",
    );
}

#[test]
fn the_gates_are_seen() {
    let text = "#[cfg(not(target_arch = \"wasm32\"))]\n/// Doc.\nfn a() {\n    std::fs::b();\n}\n\nfn c() {\n    std::fs::d();\n}\n";
    let lines: Vec<&str> = text.lines().collect();
    assert!(gated_in_file(&lines, 3));
    assert!(!gated_in_file(&lines, 7));
    assert!(gated_as_module(&root().join("engine/src/gpu/cache.rs")));
    assert!(gated_as_module(&root().join("engine/src/weights/tests/values.rs")));
    assert!(!gated_as_module(&root().join("engine/src/gpu/device.rs")));
}

#[test]
fn libraries_print_nothing() {
    let mut wrong = Vec::new();
    for file in files(&["rs"]).iter().filter(|file| file.is_under(&LIBRARIES)) {
        let lines: Vec<&str> = file.text.lines().collect();
        let prints = |line: &str| ["println!", "eprintln!", "print!("].iter().any(|word| line.contains(word));
        for (at, _) in file.code().filter(|(_, line)| prints(line)) {
            if !gated_in_file(&lines, at - 1) && !gated_as_module(&root().join(&file.path)) {
                wrong.push(format!("{}:{at}", file.path));
            }
        }
    }
    none(wrong, "libraries report by values and `tracing`");
}

/// The first paragraph of the comment that a file begins with.
fn opening(text: &str) -> String {
    let mut words = String::new();
    for line in text.lines() {
        let line = line.trim().trim_start_matches("<#-").trim_start_matches("//!").trim_start_matches("//");
        let line = line.trim_end_matches("-#>").trim();
        if line.is_empty() {
            break;
        }
        words.push_str(line);
        words.push(' ');
        if line.ends_with('.') {
            break;
        }
    }
    words.trim().to_owned()
}

#[test]
fn every_file_begins_with_why_it_exists() {
    let mut wrong = Vec::new();
    for file in files(&["rs", "wgsl", "py", "ts", "mjs"]) {
        let comment = match file.path.rsplit('.').next() {
            Some("rs") => file.text.starts_with("//! "),
            Some("py") => file.text.starts_with("\"\"\"") || file.text.starts_with('#'),
            _ => file.text.starts_with("// ") || file.text.starts_with("<#- "),
        };
        let said = opening(&file.text);
        let sentence = said.split_whitespace().count() >= 4 || said.contains('`');
        if !comment || !sentence {
            wrong.push(format!("{}: {said}", file.path));
        }
    }
    none(wrong, "every file begins with a sentence on why it exists");
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = files(&["rs", "wgsl", "py", "ts", "mjs", "css"]).into_iter().filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > LONGEST).then(|| format!("{}: {lines} lines", file.path))
    });
    none(long.collect(), &format!("a file has at most {LONGEST} lines"));
}

#[test]
fn nothing_is_left_over() {
    let marks = ["todo!", "TODO", "FIXME", "XXX", "HACK", "dbg!(", "unimplemented!", "<<<<<<<", ">>>>>>>"];
    let mut wrong = Vec::new();
    for file in files(&["rs", "wgsl", "md", "toml", "py", "html", "ts", "mjs", "css"]) {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(*mark)) {
                wrong.push(format!("{}:{}: {mark}", file.path, at + 1));
            }
        }
    }
    none(wrong, "no mark of unfinished work is left in the repository");
}

#[test]
fn no_feature_chooses_a_kernel() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files(&["rs"]) {
        for (at, line) in file.code().filter(|(_, line)| line.contains("cfg") && line.contains("feature =")) {
            seen += 1;
            let known = FEATURES.iter().any(|(crate_folder, feature)| {
                file.path.starts_with(crate_folder) && line.contains(&format!("feature = \"{feature}\""))
            });
            if !known {
                wrong.push(format!("{}:{at}: {}", file.path, line.trim()));
            }
        }
    }
    assert!(seen > 0, "the features of `models` are not seen");
    none(wrong, "what an adapter can do is found when the program runs, not when it is built");
}

/// Kernels are reached by the list of all kernels, so every one of them is tested, certified and measured.
#[test]
fn every_kernel_of_the_shaders_crate_is_in_the_list() {
    let listed: Vec<&str> = lampyris::engine::kernels::all().iter().map(|entry| entry.name).collect();
    let mut implemented = Vec::new();
    for file in files(&["rs"]).iter().filter(|file| file.is_under(&["shaders/src"])) {
        for (_, line) in file.code().filter(|(_, line)| line.starts_with("impl Kernel for ")) {
            implemented.push(file.path.clone());
            let stem = Path::new(&file.path).file_stem().unwrap().to_str().unwrap();
            assert!(listed.contains(&stem), "{line} in {} is not in the list", file.path);
        }
    }
    assert_eq!(implemented.len(), listed.len(), "{implemented:?} and {listed:?}");
}

/// How many lines of a file there are before its module of tests, if that is in the file itself.
fn before_tests(code: &[(usize, &str)]) -> usize {
    let begins = |pair: &[(usize, &str)]| {
        (pair[0].1.contains("#[cfg(test)]") || pair[0].1.contains("#[cfg(all(test"))
            && pair[1].1.contains("mod ")
            && pair[1].1.ends_with('{')
    };
    code.windows(2).position(begins).unwrap_or(code.len())
}

/// What makes an object of wgpu that can have a label.
const MADE: [&str; 14] = [
    "request_device(",
    "create_buffer(",
    "create_bind_group(",
    "create_bind_group_layout(",
    "create_pipeline_layout(",
    "create_shader_module",
    "create_compute_pipeline(",
    "create_pipeline_cache(",
    "create_query_set(",
    "create_command_encoder(",
    "create_texture(",
    "create_view(",
    "create_sampler(",
    "begin_compute_pass(",
];

/// A host that looks at its frame in a debugger sees whose each object is.
#[test]
fn whatever_we_make_on_a_device_says_that_it_is_ours() {
    let mut unnamed = Vec::new();
    let ours =
        |file: &File| file.is_under(&["engine/src", "integrations/bevy/src"]) && !file.path.ends_with("tests.rs");
    for file in files(&["rs"]).into_iter().filter(ours) {
        let code: Vec<(usize, &str)> = file.code().collect();
        for (at, (number, line)) in code.iter().enumerate().take(before_tests(&code)) {
            if line.contains("fn ") || !MADE.iter().any(|made| line.contains(&format!(".{made}"))) {
                continue;
            }
            // The label is given here, by a caller of a closure a few lines away, or is made just before.
            let (from, to) = (at.saturating_sub(30), (at + 8).min(code.len()));
            let here: String = code[at..to].iter().map(|(_, line)| *line).collect();
            let around: String = code[from..(at + 30).min(code.len())].iter().map(|(_, line)| *line).collect();
            let own = here.contains("label: Some(\"lampyris.") || here.contains("label: Some(&format!(\"lampyris.");
            let named = here.contains("label: Some(label)") || here.contains("label: Some(&label)");
            let checked = named && around.contains("debug_assert!(label.starts_with(\"lampyris.\")");
            let just_before = here.contains("(&descriptor)")
                && code[at.saturating_sub(2)..at].iter().any(|(_, line)| line.contains("label: Some(\"lampyris."));
            let descriptor = here.contains("(descriptor");
            let given =
                named && around.contains("\"lampyris.") || descriptor && file.text.contains("label: Some(&label)");
            if !own && !given && !checked && !just_before {
                unnamed.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
        // A closure that passes a label on is given ours only.
        for (number, line) in &code {
            let given = line.split("buffer(\"").skip(1).filter(|rest| !rest.starts_with("lampyris."));
            let passes = file.text.contains("label: Some(label)");
            unnamed.extend(given.filter(|_| passes).map(|_| format!("{}:{number}: {}", file.path, line.trim())));
        }
    }
    assert!(unnamed.is_empty(), "a label that does not begin with `lampyris.`:\n{}", unnamed.join("\n"));
}

/// Nobody but a program that blocks on purpose waits for a device.
#[test]
fn the_device_is_waited_for_in_one_place() {
    let libraries = files(&["rs"])
        .into_iter()
        .filter(|file| file.is_under(&["engine/src", "models/src", "src"]) && !file.path.ends_with("tests.rs"));
    let mut waits = Vec::new();
    for file in libraries {
        let code: Vec<(usize, &str)> = file.code().collect();
        for (_, line) in &code[..before_tests(&code)] {
            let waits_here = ["PollType::Wait", "wait_indefinitely", "park(", "sleep(", ".block_on("];
            if waits_here.iter().any(|word| line.contains(word)) {
                waits.push(format!("{}: {}", file.path, line.trim()));
            }
        }
    }
    assert_eq!(waits.len(), 1, "{waits:#?}");
    assert!(waits[0].starts_with("engine/src/gpu/poll.rs"), "{waits:?}");
}
