//! The libraries built for browsers, with whichever toolchain on this machine can do it.
//!
//! rustup's own target is the usual way. Where it cannot be fetched, Debian's compiler together with its copy of the
//! standard library's source builds that library too.

use crate::adapters::version;
use crate::install::{install, is_root, privileged};
use crate::process::{Error, cargo, output, read, run, which, workspace};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The platform of every browser.
const TARGET: &str = "wasm32-unknown-unknown";

/// What makes the standard library small with the rest: a panic ends the module without composing a message, which in a browser nobody
/// would read, and what has a small and a fast form is small. Stable compilers do this when they are told that it is wanted all the same.
const SMALL: [&str; 2] = ["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"];

/// The compiler's part of it; of a value's inside, what is for programmers shows the name only.
const SMALL_FLAGS: &str = "-Zunstable-options -Cpanic=immediate-abort -Zfmt-debug=shallow";

/// Debian's compiler, cargo, standard library source and linker.
const DEBIAN: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];

/// A compiler outside rustup that has the standard library's source beside it.
struct Distribution {
    /// The compiler.
    rustc: PathBuf,
    /// Its cargo.
    cargo: PathBuf,
    /// A linker for wasm, where there is one.
    linker: Option<PathBuf>,
}

/// Builds the facade, and with it every library, in release mode.
pub(crate) fn build() -> Result<(), Error> {
    let built = build_package("lampyris", "release", &[], false)?.folder.join("liblampyris.rlib");
    eprintln!("xtask: built {}", built.display());
    Ok(())
}

/// Says what is missing where nothing here can build for browsers, after an attempt to install it.
pub(crate) fn look() -> Result<(), Error> {
    if own_root().is_some() { Ok(()) } else { provided().map(|_| ()) }
}

/// The compiler of the distribution, installed if we may.
fn provided() -> Result<Distribution, Error> {
    if distribution().is_none() && is_root() {
        match privileged(&["apt-get"]) {
            Some(apt) => install(&apt, &DEBIAN),
            None => eprintln!("xtask: apt-get is not here, so nothing is installed"),
        }
    }
    distribution().ok_or_else(|| Error::Missing {
        what: format!("the standard library for {TARGET}"),
        remedy: format!(
            "run `rustup target add {TARGET}`, or on Debian as root `apt-get install {}`",
            DEBIAN.join(" ")
        ),
    })
}

/// The folder of the compiler that cargo uses, if that has the target's standard library.
fn own_root() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    sysroot(Path::new(&rustc)).filter(|root| root.join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

/// What came of a build.
pub(crate) struct Built {
    /// Where it is.
    pub(crate) folder: PathBuf,
    /// Whether the standard library was built with it, and made small.
    #[cfg_attr(not(feature = "web"), expect(dead_code, reason = "only the package has a size to be held"))]
    pub(crate) small: bool,
}

/// Builds a package with a profile and `more` arguments of cargo's; `small` where the compiler has the standard library's source.
pub(crate) fn build_package(package: &str, profile: &str, more: &[&str], small: bool) -> Result<Built, Error> {
    let own = own_root();
    let small = small && own.as_deref().is_none_or(has_source);
    let mut command = if own.is_some() {
        eprintln!("xtask: building with this toolchain's own {TARGET}");
        let mut command = cargo();
        if small {
            command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", SMALL_FLAGS).args(SMALL);
        }
        command.arg("build");
        command
    } else {
        let found = provided()?;
        eprintln!("xtask: this toolchain lacks {TARGET}; building with {}", found.rustc.display());
        found.command(small)?
    };
    let target_folder = workspace().join("target").join("wasm");
    command.args(["--profile", profile, "--package", package, "--target", TARGET, "--target-dir"]);
    run(command.arg(&target_folder).args(more))?;
    Ok(Built { folder: target_folder.join(TARGET).join(profile), small })
}

impl Distribution {
    /// A `cargo build` that builds the standard library as well and knows nothing of the toolchain we run under.
    fn command(&self, small: bool) -> Result<Command, Error> {
        let mut command = Command::new(&self.cargo);
        command.current_dir(workspace()).env("RUSTC", &self.rustc);
        for inherited in ["CARGO", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "RUSTDOC", "RUSTFLAGS"] {
            command.env_remove(inherited);
        }
        // Building the standard library is not a stable feature of cargo; this says that it is wanted all the same.
        command.env("RUSTC_BOOTSTRAP", "1");
        if small {
            command.env("RUSTFLAGS", SMALL_FLAGS).args(SMALL);
        } else {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        command.arg("build");
        if let Some(linker) = &self.linker {
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        let wanted = minimum_version(&read(&workspace().join("Cargo.toml"))?);
        let printed = output(Command::new(&self.rustc).arg("--version")).unwrap_or_default();
        let has = version(printed.split(' ').nth(1).unwrap_or_default());
        if has < wanted {
            eprintln!("xtask: that compiler is older than rust-version asks for; trying it all the same");
            command.arg("--ignore-rust-version");
        }
        Ok(command)
    }
}

/// Whether a compiler's folder has the standard library's source.
fn has_source(root: &Path) -> bool {
    root.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
}

/// A compiler's own folder.
fn sysroot(rustc: &Path) -> Option<PathBuf> {
    output(Command::new(rustc).args(["--print", "sysroot"])).map(|path| PathBuf::from(path.trim()))
}

/// The first compiler on the `PATH` that is not rustup's and has the standard library's source.
fn distribution() -> Option<Distribution> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|folder| {
        let (rustc, cargo) = (folder.join("rustc"), folder.join("cargo"));
        // rustup's stand-ins are one program under many names, beside `rustup` itself.
        let real = rustc.is_file() && cargo.is_file() && !folder.join("rustup").exists();
        (real && sysroot(&rustc).is_some_and(|root| has_source(&root))).then(|| Distribution {
            linker: ["wasm-ld", "wasm-ld-19", "rust-lld"].into_iter().find_map(which),
            rustc,
            cargo,
        })
    })
}

/// The workspace's `rust-version`.
fn minimum_version(manifest: &str) -> [u32; 3] {
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("rust-version"));
    version(line.unwrap_or_default().trim_matches([' ', '=', '"']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_version_is_read_from_the_manifest() {
        assert_eq!(minimum_version("[workspace.package]\nrust-version = \"1.95\"\n"), [1, 95, 0]);
        let ours = read(&workspace().join("Cargo.toml")).unwrap();
        assert!(minimum_version(&ours) >= [1, 85, 0], "the edition needs as much");
    }
}
