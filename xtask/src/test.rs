//! The test command: adapters set up, every test run, one line at the end.

use crate::adapters::Found;
use crate::process::{Error, cargo, output, run as run_command};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How the tests are run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// All cases rather than the short tier.
    full: bool,
    /// Use what is here, install nothing.
    no_install: bool,
    /// Parts of test names; empty for all tests.
    filters: Vec<String>,
}

impl Options {
    /// Reads the arguments after `test`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--full" => options.full = true,
                "--no-install" => options.no_install = true,
                "--" => options.filters.extend(rest.by_ref().cloned()),
                other => return Err(Error::usage(format!("`test` does not know '{other}'"))),
            }
        }
        Ok(options)
    }

    /// What the tests read in `LAMPYRIS_TIER`.
    fn tier(&self) -> &'static str {
        if self.full { "full" } else { "short" }
    }
}

/// Runs every test; all parts run even if one fails, and the last line says how each went.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let started = Instant::now();
    if !options.no_install {
        crate::install::provide()?;
    }
    let found = Found::look()?;
    let adapters = found.summary();
    eprintln!("xtask: {} tier on {adapters}", options.tier());
    let runtime = RuntimeFolder::where_missing()?;
    let mut environment = found.environment();
    environment.extend(runtime.as_ref().map(|it| ("XDG_RUNTIME_DIR", OsString::from(&it.0))));
    environment.push(("LAMPYRIS_TIER", options.tier().into()));
    let required = found.required(&std::env::var("LAMPYRIS_REQUIRE").unwrap_or_default());
    environment.extend(required.map(|list| ("LAMPYRIS_REQUIRE", OsString::from(list))));
    for (name, value) in &environment {
        eprintln!("xtask: {name}={}", value.to_string_lossy());
    }

    let mut parts = vec![("tests", unit_tests(options))];
    // Documentation has no names worth filtering by.
    if options.filters.is_empty() {
        let mut documentation = cargo();
        documentation.args(["test", "--doc", "--workspace", "--no-fail-fast"]);
        parts.push(("documentation", documentation));
    }
    // Apart from the workspace, since they build a window and Bevy.
    if options.full && options.filters.is_empty() {
        let mut game = cargo();
        game.args(["test", "--manifest-path", "examples/game/Cargo.toml", "--target-dir", "target", "--no-fail-fast"]);
        parts.push(("game", game));
        for (part, verb, what) in [
            ("bevy's plugin", "test", &["--lib"][..]),
            ("bevy's page", "test", &["--doc"]),
            ("bevy", "run", &["--example", "sketches"]),
            ("bevy without its device", "run", &["--example", "sketches", "--", "--destroy"]),
        ] {
            let mut bevy = cargo();
            bevy.args([verb, "--manifest-path", "integrations/bevy/Cargo.toml", "--target-dir", "target"]);
            bevy.arg("--ignore-rust-version").args(what);
            parts.push((part, bevy));
        }
    }
    let mut failed = Vec::new();
    let mut words = Vec::new();
    for (part, mut command) in parts {
        let begun = Instant::now();
        let result = run_with(&mut command, &environment);
        let verdict = if result.is_ok() { "passed" } else { "FAILED" };
        words.push(format!("{part} {verdict} in {}", seconds(begun.elapsed())));
        failed.extend(result.err().map(|error| error.to_string()));
    }
    // The package's tests have names of their own.
    if options.filters.is_empty() {
        let (begun, mut driven) = (Instant::now(), false);
        let verdict = match package(options.full) {
            Ok(Tested::Passed) => {
                driven = true;
                format!("passed in {}", seconds(begun.elapsed()))
            }
            Ok(Tested::Skipped { why }) => {
                eprintln!("xtask: the browser package is neither built nor tested: {why}");
                "skipped".to_owned()
            }
            Err(error) => {
                failed.push(error.to_string());
                format!("FAILED in {}", seconds(begun.elapsed()))
            }
        };
        words.push(format!("browser package {verdict}"));
        // A second judge of every shader, in the browser that has just been driven.
        if driven {
            let begun = Instant::now();
            let result = crate::browser::check();
            let verdict = if result.is_ok() { "passed" } else { "FAILED" };
            words.push(format!("kernels in Chromium {verdict} in {}", seconds(begun.elapsed())));
            failed.extend(result.err().map(|error| error.to_string()));
        }
    }
    eprintln!("xtask: {} tier, {}; {adapters}; {}", options.tier(), words.join(", "), seconds(started.elapsed()));
    if failed.is_empty() { Ok(()) } else { Err(Error::Check { findings: failed }) }
}

/// What became of the browser package.
enum Tested {
    /// Built within its limits, and every test passed.
    Passed,
    /// This machine cannot.
    Skipped {
        /// What it lacks.
        why: String,
    },
}

/// Builds the browser package and drives it; where something for that is missing, it is skipped unless `LAMPYRIS_REQUIRE` names `browser`.
fn package(full: bool) -> Result<Tested, Error> {
    let required = std::env::var("LAMPYRIS_REQUIRE").is_ok_and(|list| list.split(',').any(|it| it.trim() == "browser"));
    match crate::web::look() {
        Err(lack) if !required => Ok(Tested::Skipped { why: lack.to_string() }),
        Err(lack) => Err(lack),
        Ok(()) => crate::web::run(&crate::web::Options::tested(full)).map(|()| Tested::Passed),
    }
}

/// The command for all tests but the documentation's.
fn unit_tests(options: &Options) -> Command {
    let mut command = cargo();
    let separator = if output(cargo().args(["nextest", "--version"])).is_some() {
        // The full tier has time limits of its own (.config/nextest.toml).
        let profile = if options.full { "full" } else { "default" };
        command.args(["nextest", "run", "--workspace", "--no-fail-fast", "--profile", profile]);
        None
    } else {
        command.args(["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"]);
        Some("--")
    };
    if !options.filters.is_empty() {
        command.args(separator).args(&options.filters);
    }
    command
}

/// Runs a command with these variables beside our own.
fn run_with(command: &mut Command, environment: &[(&'static str, OsString)]) -> Result<(), Error> {
    run_command(command.envs(environment.iter().map(|(name, value)| (name, value))))
}

/// Whole seconds, as a person says them.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// A private folder for `XDG_RUNTIME_DIR`, which Mesa and EGL ask for loudly; removed when the tests are done.
struct RuntimeFolder(PathBuf);

impl RuntimeFolder {
    /// Makes one where the session has none; only Unix systems know the variable.
    fn where_missing() -> Result<Option<Self>, Error> {
        if !cfg!(target_os = "linux") || std::env::var_os("XDG_RUNTIME_DIR").is_some() {
            return Ok(None);
        }
        Self::create(std::env::temp_dir().join(format!("lampyris-xtask-{}", std::process::id()))).map(Some)
    }

    /// Makes a folder that only we may enter.
    fn create(path: PathBuf) -> Result<Self, Error> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(Error::File { path, source }),
        }
    }
}

impl Drop for RuntimeFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("xtask: {} stays behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses words as the shell would give them.
    fn parse(words: &[&str]) -> Result<Options, Error> {
        Options::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read_and_unknown_ones_refused() {
        assert_eq!(parse(&[]).unwrap(), Options::default());
        let all = parse(&["--full", "--no-install", "--", "pool", "--full"]).unwrap();
        assert!(all.full && all.no_install && all.filters == ["pool", "--full"]);
        assert!(matches!(parse(&["--ful"]), Err(Error::Usage { .. })));
    }

    #[test]
    fn a_runtime_folder_is_private_and_goes_away() {
        let path = std::env::temp_dir().join(format!("lampyris-xtask-test-{}", std::process::id()));
        let folder = RuntimeFolder::create(path.clone()).unwrap();
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o777, 0o700);
        assert!(RuntimeFolder::create(path.clone()).is_err(), "a folder of somebody else's must not be taken over");
        drop(folder);
        assert!(!path.exists());
    }
}
