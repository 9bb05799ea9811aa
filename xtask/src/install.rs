//! Installing what the tests need, where apt is at hand and we may use it; elsewhere saying what to install.

use crate::adapters::{Found, SWIFTSHADER_VARIABLE};
use crate::process::{Error, output, run, which};
use std::fmt;
use std::process::Command;

/// Something the tests want and this machine lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lack {
    /// What it is for.
    what: &'static str,
    /// The Debian packages that bring it.
    packages: &'static [&'static str],
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (Debian: {})", self.what, self.packages.join(" "))
    }
}

/// What the tests would use and cannot find. Only Linux lacks anything: Windows has WARP, macOS has Metal.
pub(crate) fn missing() -> Result<Vec<Lack>, Error> {
    if !cfg!(target_os = "linux") {
        return Ok(Vec::new());
    }
    let found = Found::look()?;
    let wanted = [
        (found.loader.is_some(), "the Vulkan loader", ["libvulkan1"].as_slice()),
        (found.lavapipe().is_some(), "lavapipe, Mesa's software Vulkan", &["mesa-vulkan-drivers"]),
        (found.opengl, "llvmpipe, Mesa's software OpenGL", &["libegl1", "libgl1-mesa-dri"]),
        (found.swiftshader.is_some(), "SwiftShader, the software Vulkan inside Chromium", &["chromium"]),
        (which("spirv-val").is_some(), "spirv-val, which checks cross-compiled kernels", &["spirv-tools"]),
        (
            crate::web::look_for_node().is_ok(),
            "Node.js 20.19 or newer with npm, which packs the browser package (Debian 12's is older)",
            &["nodejs", "npm"],
        ),
        (which("strace").is_some(), "strace, which proves that no socket is opened", &["strace"]),
    ];
    Ok(wanted.iter().filter(|(here, ..)| !here).map(|&(_, what, packages)| Lack { what, packages }).collect())
}

/// Installs what is missing if it may, and says what is left to do by hand. The tests themselves decide whether a
/// missing adapter is a skip or a failure.
pub(crate) fn provide() -> Result<(), Error> {
    let lacks = missing()?;
    if lacks.is_empty() {
        return Ok(());
    }
    for lack in &lacks {
        eprintln!("xtask: missing {lack}");
    }
    let packages: Vec<&str> = lacks.iter().flat_map(|lack| lack.packages).copied().collect();
    match privileged(&["apt-get"]) {
        Some(apt) => install(&apt, &packages),
        None => eprintln!("xtask: apt-get or the right to use it is not here, so nothing is installed"),
    }
    let left = missing()?;
    if !left.is_empty() {
        let names: Vec<&str> = left.iter().flat_map(|lack| lack.packages).copied().collect();
        eprintln!("xtask: the tests run without {}", left.iter().map(|lack| lack.what).collect::<Vec<_>>().join("; "));
        eprintln!("xtask: install by hand (Debian's names): apt-get install {}", names.join(" "));
        if names.contains(&"chromium") {
            eprintln!(
                "xtask: or let {SWIFTSHADER_VARIABLE} name the vk_swiftshader_icd.json of any Chromium or Chrome"
            );
        }
    }
    Ok(())
}

/// Installs packages together, and one by one where that fails, so that one unknown name does not cost the others.
pub(crate) fn install(apt: &[&str], packages: &[&str]) {
    let go = |words: &[&str]| {
        let all: Vec<&str> = apt.iter().chain(words).copied().collect();
        let (program, arguments) = all.split_first()?;
        run(Command::new(program).args(arguments).env("DEBIAN_FRONTEND", "noninteractive")).ok()
    };
    // An outdated list may still serve, so a failed update is not the end.
    go(&["update", "-q"]);
    let flags = ["install", "-q", "-y", "--no-install-recommends"];
    if go(&[flags.as_slice(), packages].concat()).is_none() {
        for package in packages {
            go(&[flags.as_slice(), &[*package]].concat());
        }
    }
}

/// A command as somebody who may install: as it is for root, through `sudo -n` where that needs no password.
pub(crate) fn privileged<'a>(command: &[&'a str]) -> Option<Vec<&'a str>> {
    which(command.first()?)?;
    if is_root() {
        return Some(command.to_vec());
    }
    output(Command::new("sudo").args(["-n", "true"])).map(|_| [["sudo", "-n"].as_slice(), command].concat())
}

/// Whether this process is the superuser's.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_names_its_purpose_and_its_packages() {
        let lack = Lack { what: "a loader", packages: &["one", "two"] };
        assert_eq!(lack.to_string(), "a loader (Debian: one two)");
    }
}
