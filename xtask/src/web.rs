//! The browser package: the libraries as one wasm module, the glue that JavaScript calls it by, and the TypeScript in front of it.
//!
//! Rust's side is done here, the rest by `web/build.mjs` with what `web/package-lock.json` names. The writer of the glue is a library
//! of the very version that the lock file has, so that no program has to be installed for it.

#[cfg(feature = "web")]
use crate::process::workspace;
use crate::process::{Error, output, run as run_command, which};
#[cfg(feature = "web")]
use std::path::PathBuf;
use std::process::Command;

/// The first Node.js that packs and tests the package: Vite asks for it.
const NODE: [u32; 3] = [20, 19, 0];

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Drive the package in a browser.
    test: bool,
    /// Take the package that is there.
    no_build: bool,
    /// Build fast rather than small.
    quick: bool,
    /// Every case of every kernel, which takes long.
    full: bool,
}

impl Options {
    /// The whole package, and its tests of a tier.
    pub(crate) fn tested(full: bool) -> Self {
        Self { test: true, full, ..Self::default() }
    }

    /// Reads the arguments after `web`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Error> {
        let mut options = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--test" => options.test = true,
                "--no-build" => options.no_build = true,
                "--quick" => options.quick = true,
                "--full" => options.full = true,
                other => return Err(Error::usage(format!("`web` does not know '{other}'"))),
            }
        }
        Ok(options)
    }

    /// The arguments again, for the program that is started in our place.
    #[cfg(not(feature = "web"))]
    fn arguments(&self) -> impl Iterator<Item = &'static str> {
        let given =
            [(self.test, "--test"), (self.no_build, "--no-build"), (self.quick, "--quick"), (self.full, "--full")];
        given.into_iter().filter_map(|(is, argument)| is.then_some(argument))
    }
}

/// What makes a build fast and the module large. The twins, which judge every kernel, would take minutes without optimization.
#[cfg(feature = "web")]
const QUICK: [&str; 8] = [
    "--config",
    "profile.web.opt-level=0",
    "--config",
    "profile.web.lto='off'",
    "--config",
    "profile.web.codegen-units=16",
    "--config",
    "profile.web.package.lampyris-shaders.opt-level=2",
];

/// Says what is missing where the package cannot be built or tested here.
pub(crate) fn look() -> Result<(), Error> {
    look_for_node()?;
    look_for_browser()?;
    crate::wasm::look()
}

pub(crate) fn look_for_node() -> Result<(), Error> {
    let [major, minor, _] = NODE;
    let has = output(Command::new("node").arg("--version"))
        .map(|text| crate::adapters::version(text.trim().trim_start_matches('v')));
    match has.filter(|has| *has >= NODE && which("npm").is_some()) {
        Some(_) => Ok(()),
        None => Err(Error::Missing {
            what: format!("Node.js {major}.{minor} or newer with npm"),
            remedy: "install it (Debian 13: apt-get install nodejs npm; where the distribution's is older, as in Debian 12, then also: npm install --global node@22)"
                .to_owned(),
        }),
    }
}

fn look_for_browser() -> Result<std::path::PathBuf, Error> {
    crate::adapters::browser().ok_or_else(|| Error::Missing {
        what: "Chromium".to_owned(),
        remedy: "install it (Debian: apt-get install chromium)".to_owned(),
    })
}

/// Starts this program again with the writer of the glue.
#[cfg(not(feature = "web"))]
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let mut command = crate::process::cargo();
    command.args(["run", "--quiet", "--package", "xtask", "--features", "web", "--", "web"]);
    run_command(command.args(options.arguments()))
}

/// Builds the package, and drives it.
#[cfg(feature = "web")]
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    look_for_node()?;
    run_command(
        Command::new("npm")
            .args(["ci", "--loglevel=error", "--prefer-offline", "--no-audit", "--no-fund"])
            .current_dir(folder()),
    )?;
    let more: &[&str] = if options.quick { &QUICK } else { &[] };
    if !options.no_build {
        let built = crate::wasm::build_package("lampyris-web", "web", more, true)?;
        glue(&built.folder.join("lampyris_web.wasm"), "lampyris")?;
        let how = match (options.quick, built.small) {
            (true, _) => Some("--quick"),
            (false, true) => None,
            (false, false) => {
                eprintln!(
                    "xtask: without the standard library's source the module is larger than its limit, which is not held; get it with `rustup component add rust-src`"
                );
                Some("--no-limit")
            }
        };
        run_command(Command::new("node").arg("build.mjs").args(how).current_dir(folder()))?;
    }
    if options.test {
        let browser = look_for_browser()?;
        // What the tests drive beside the package; a package alone is built without it.
        if !options.no_build || !folder().join("glue/guest.js").is_file() {
            let more = [&["--example", "guest"], more].concat();
            let built = crate::wasm::build_package("lampyris-web", "web", &more, true)?;
            glue(&built.folder.join("examples/guest.wasm"), "guest")?;
        }
        let mut tests = Command::new("node");
        // One after another: each starts a browser, and a software adapter takes every core.
        let (tier, limit) = if options.full { ("full", "14400000") } else { ("short", "600000") };
        tests.args(["--test", "--test-concurrency=1", "--test-timeout", limit]).args(test_files()?);
        tests.env("LAMPYRIS_TIER", tier).env("LAMPYRIS_BROWSER", browser);
        run_command(tests.current_dir(folder()))?;
    }
    Ok(())
}

/// The files of tests, in their order: what a folder means to Node.js depends on its version.
#[cfg(feature = "web")]
fn test_files() -> Result<Vec<PathBuf>, Error> {
    let tests = folder().join("test");
    let read = |source| Error::File { path: tests.clone(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&tests).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.to_string_lossy().ends_with(".test.mjs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Writes the glue of a module under a name, and the module as the glue wants it.
#[cfg(feature = "web")]
fn glue(wasm: &std::path::Path, name: &str) -> Result<(), Error> {
    let written = wasm_bindgen_cli_support::Bindgen::new()
        .input_path(wasm)
        .out_name(name)
        .typescript(true)
        .omit_default_module_path(false)
        .web(true)
        .and_then(|bindgen| bindgen.generate(folder().join("glue")));
    written.map_err(|error| Error::Check { findings: vec![format!("the glue of {}: {error:#}", wasm.display())] })
}

/// The folder of the package.
#[cfg(feature = "web")]
fn folder() -> PathBuf {
    workspace().join("web")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_unknown_ones_refused() {
        let parse = |words: &[&str]| Options::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&[]).unwrap(), Options::default());
        assert_eq!(parse(&["--test", "--no-build"]).unwrap(), Options { no_build: true, ..Options::tested(false) });
        assert_eq!(parse(&["--full", "--test"]).unwrap(), Options::tested(true));
        assert!(matches!(parse(&["--tests"]), Err(Error::Usage { .. })));
    }
}
