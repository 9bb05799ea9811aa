//! What the libraries and the command stand on, checked with cargo alone: nothing that can reach the network but what the feature
//! `pull` brings to the command, and nothing large by default.
//!
//! The list of banned crates is the one in `deny.toml`, so that this check and cargo-deny cannot disagree.

use crate::process::{Error, cargo, output, read, spelled, workspace};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What the library must not bring along unless asked: a command line, image decoders, progress bars.
const NOT_BY_DEFAULT: [&str; 3] = ["clap", "image", "indicatif"];

/// What has no place in a browser: threads and mapped files.
const NOT_ON_WASM: [&str; 2] = ["rayon", "memmap2"];

/// The libraries' own sources, where the standard library's sockets would need no crate at all.
const LIBRARIES: [&str; 5] = ["shaders/src", "engine/src", "models/src", "src", "web/src"];

/// The one file that may name what opens connections.
const CLIENT: &str = "cli/src/hub/client.rs";

/// Runs the checks and lists every finding at once.
pub(crate) fn check() -> Result<(), Error> {
    let list = read(&workspace().join("deny.toml"))?;
    let banned = banned_crates(&list);
    let listed: Vec<&str> = banned.iter().map(String::as_str).collect();
    let all = ["--target", "all"];
    let edges = ["-e", "normal,build"];
    let libraries = crates(&edges, &[&["-p", "lampyris", "-p", "lampyris-web", "--all-features"][..], &all].concat())?;
    let without = ["-p", "lampyris-cli", "--no-default-features", "--features", "bundled"];
    let without = crates(&edges, &[&without[..], &all].concat())?;
    let command = crates(&edges, &[&["-p", "lampyris-cli", "--all-features"][..], &all].concat())?;
    let native = crates(&["-e", "normal"], &["-p", "lampyris", "--target", "all"])?;
    let wasm = crates(&["-e", "normal"], &["-p", "lampyris", "--target", "wasm32-unknown-unknown"])?;

    let reaches = "can reach the network (deny.toml says why)";
    let mut findings = among(&libraries, &listed, &format!("is in a library's tree and {reaches}"));
    findings.extend(among(&without, &listed, &format!("is in the command's tree without `pull` and {reaches}")));
    // With the feature, those that name their dependants may be there, and `ureq` must: it is what opens the connection.
    let (wrapped, others) = listed.iter().partition::<Vec<&str>, _>(|name| is_wrapped(&list, name));
    findings.extend(among(&command, &others, &format!("is in the command's tree and {reaches}")));
    if !wrapped.contains(&"ureq") || !command.contains("ureq") {
        findings.push("the feature `pull` brings no ureq, so the exception in deny.toml has no reason".to_owned());
    }
    for path in named_outside(&workspace().join("cli/src"), &workspace().join(CLIENT), "ureq::")? {
        findings.push(format!("{path} names ureq, which belongs to {CLIENT}"));
    }
    findings.extend(among(&native, &NOT_BY_DEFAULT, "is no default dependency of the library"));
    findings.extend(among(&wasm, &NOT_ON_WASM, "has no place in a browser"));
    for folder in LIBRARIES.into_iter().chain(["cli/src"]) {
        findings.extend(sockets(&workspace().join(folder))?);
    }
    // A check that looked at nothing would pass: these must be there for the rest to mean something.
    let empty =
        banned.is_empty() || ![&libraries, &without, &command, &native, &wasm].iter().all(|it| it.contains("wgpu"));
    if empty {
        findings.push("the ban list or the dependency tree could not be read, so nothing was proved".to_owned());
    }
    if !findings.is_empty() {
        return Err(Error::Check { findings });
    }
    println!(
        "xtask: {} crates in the libraries' tree with all features, {} by default, {} in a browser, none of the {} that can reach the \
         network; {} in the command's without `pull`, none of them either; {} with it",
        libraries.len(),
        native.len(),
        wasm.len(),
        banned.len(),
        without.len(),
        command.len()
    );
    Ok(())
}

/// The names under `deny = [` in `deny.toml`, which keeps one crate a line.
fn banned_crates(text: &str) -> BTreeSet<String> {
    let entries = text.lines().filter_map(|line| line.trim().strip_prefix("{ crate = \""));
    entries.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// Whether the list says which crates alone may depend on `name`.
fn is_wrapped(list: &str, name: &str) -> bool {
    let entry = format!("{{ crate = \"{name}\", wrappers = [");
    list.lines().any(|line| line.trim().starts_with(&entry))
}

/// The files of Rust below a folder, but for `home`, that name `what` in code.
fn named_outside(folder: &Path, home: &Path, what: &str) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for path in sources(folder)?.into_iter().filter(|path| path != home) {
        let named = read(&path)?.lines().any(|line| line.split("//").next().unwrap_or_default().contains(what));
        found.extend(named.then(|| path.display().to_string()));
    }
    Ok(found)
}

/// The names of the crates that `cargo tree` lists.
fn crates(edges: &[&str], selection: &[&str]) -> Result<BTreeSet<String>, Error> {
    let mut command = cargo();
    command.args(["tree", "--prefix", "none", "--format", "{p}"]).args(edges).args(selection);
    let line = spelled(&command);
    match output(&mut command) {
        Some(text) => Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()),
        None => Err(Error::Failed { command: line, status: "run it to see why".to_owned() }),
    }
}

/// A finding for each of the `unwanted` that is in a tree.
fn among(tree: &BTreeSet<String>, unwanted: &[&str], verdict: &str) -> Vec<String> {
    unwanted.iter().filter(|name| tree.contains(**name)).map(|name| format!("the crate {name} {verdict}")).collect()
}

/// Every line of Rust below a folder that names the standard library's network module.
fn sockets(folder: &Path) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    for path in sources(folder)? {
        let lines = read(&path)?;
        let named = lines.lines().enumerate().filter(|(_, line)| names_network(line));
        findings.extend(named.map(|(row, _)| format!("{}:{} names std's network module", path.display(), row + 1)));
    }
    Ok(findings)
}

/// The files of Rust below a folder.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = std::fs::read_dir(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
    let mut found = Vec::new();
    for entry in listed {
        let path = entry.map_err(|source| Error::File { path: folder.to_owned(), source })?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether a line of code names the standard library's network module or one of its sockets.
fn names_network(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["std::net", "core::net", "TcpStream", "TcpListener", "UdpSocket", "UnixStream"].iter().any(|it| code.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ban_list_is_read_from_the_file_that_cargo_deny_reads() {
        let ours = banned_crates(&read(&workspace().join("deny.toml")).unwrap());
        for name in ["reqwest", "ureq", "hyper", "curl", "rustls", "openssl", "hf-hub", "mio"] {
            assert!(ours.contains(name), "{name} is not banned");
        }
        assert!(banned_crates("allow = [\"MIT\"]").is_empty());
    }

    #[test]
    fn only_what_pull_needs_names_its_dependants() {
        let list = read(&workspace().join("deny.toml")).unwrap();
        let wrapped: Vec<String> = banned_crates(&list).into_iter().filter(|name| is_wrapped(&list, name)).collect();
        assert_eq!(wrapped, ["hf-hub", "rustls", "ureq"]);
    }

    #[test]
    fn what_opens_connections_is_seen_outside_its_home() {
        let (folder, home) = (workspace().join("cli/src"), workspace().join(CLIENT));
        assert!(named_outside(&folder, &home, "ureq::").unwrap().is_empty());
        assert_eq!(named_outside(&folder, Path::new("nowhere"), "ureq::").unwrap().len(), 1);
    }

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        let tree = BTreeSet::from(["hyper".to_owned(), "curling".to_owned()]);
        assert_eq!(among(&tree, &["hyper", "curl"], "is banned"), ["the crate hyper is banned"]);
    }

    #[test]
    fn sockets_of_the_standard_library_are_seen_in_code_only() {
        assert!(names_network("use std::net::ToSocketAddrs;"));
        assert!(names_network("let peer = TcpStream::connect(host)?;"));
        assert!(!names_network("// std::net is never used"));
        assert!(!names_network("let internet = network(4);"));
    }
}
