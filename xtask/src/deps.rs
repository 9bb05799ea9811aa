//! What the libraries stand on, checked with cargo alone: nothing that can reach the network, and nothing large by default.
//!
//! The list of banned crates is the one in `deny.toml`, so that this check and cargo-deny cannot disagree.

use crate::process::{Error, cargo, output, read, spelled, workspace};
use std::collections::BTreeSet;
use std::path::Path;

/// What the library must not bring along unless asked: a command line, image decoders, progress bars.
const NOT_BY_DEFAULT: [&str; 3] = ["clap", "image", "indicatif"];

/// What has no place in a browser: threads and mapped files.
const NOT_ON_WASM: [&str; 2] = ["rayon", "memmap2"];

/// The libraries' own sources, where the standard library's sockets would need no crate at all.
const LIBRARIES: [&str; 5] = ["shaders/src", "engine/src", "models/src", "src", "web/src"];

/// Runs the checks and lists every finding at once.
pub(crate) fn check() -> Result<(), Error> {
    let banned = banned_crates(&read(&workspace().join("deny.toml"))?);
    let listed: Vec<&str> = banned.iter().map(String::as_str).collect();
    let everything =
        ["-p", "lampyris", "-p", "lampyris-cli", "-p", "lampyris-web", "--target", "all", "--all-features"];
    let tree = crates(&["-e", "normal,build"], &everything)?;
    let native = crates(&["-e", "normal"], &["-p", "lampyris", "--target", "all"])?;
    let wasm = crates(&["-e", "normal"], &["-p", "lampyris", "--target", "wasm32-unknown-unknown"])?;

    let mut findings = among(&tree, &listed, "can reach the network (deny.toml says why)");
    findings.extend(among(&native, &NOT_BY_DEFAULT, "is no default dependency of the library"));
    findings.extend(among(&wasm, &NOT_ON_WASM, "has no place in a browser"));
    for folder in LIBRARIES {
        findings.extend(sockets(&workspace().join(folder))?);
    }
    // A check that looked at nothing would pass: these must be there for the rest to mean something.
    let empty = banned.is_empty() || ![&tree, &native, &wasm].iter().all(|it| it.contains("wgpu"));
    if empty {
        findings.push("the ban list or the dependency tree could not be read, so nothing was proved".to_owned());
    }
    if !findings.is_empty() {
        return Err(Error::Check { findings });
    }
    println!(
        "xtask: {} crates in the tree, none of the {} that can reach the network; {} by default, {} in a browser",
        tree.len(),
        banned.len(),
        native.len(),
        wasm.len()
    );
    Ok(())
}

/// The names under `deny = [` in `deny.toml`, which keeps one crate a line.
fn banned_crates(text: &str) -> BTreeSet<String> {
    let entries = text.lines().filter_map(|line| line.trim().strip_prefix("{ crate = \""));
    entries.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
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
    let listed = std::fs::read_dir(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
    let mut findings = Vec::new();
    for entry in listed {
        let path = entry.map_err(|source| Error::File { path: folder.to_owned(), source })?.path();
        if path.is_dir() {
            findings.extend(sockets(&path)?);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let lines = read(&path)?;
            let named = lines.lines().enumerate().filter(|(_, line)| names_network(line));
            findings.extend(named.map(|(row, _)| format!("{}:{} names std's network module", path.display(), row + 1)));
        }
    }
    Ok(findings)
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
