//! Other programs: finding them, running them, and saying plainly which one failed.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a task stopped.
#[derive(Debug)]
pub(crate) enum Error {
    /// The arguments make no sense.
    Usage {
        /// What is wrong with them.
        problem: String,
    },
    /// A program could not be started.
    Start {
        /// The command line.
        command: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program ran and failed.
    Failed {
        /// The command line.
        command: String,
        /// Its exit status in words.
        status: String,
    },
    /// A file or folder could not be read or made.
    File {
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Something that a task needs is not here.
    Missing {
        /// What is not here.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A check found something that must not be.
    Check {
        /// Each finding, one a line.
        findings: Vec<String>,
    },
}

impl Error {
    /// A mistake in the arguments.
    pub(crate) fn usage(problem: impl Into<String>) -> Self {
        Self::Usage { problem: problem.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { problem } => write!(f, "{problem}"),
            Self::Start { command, source } => write!(f, "cannot start `{command}`: {source}"),
            Self::Failed { command, status } => write!(f, "`{command}` failed ({status})"),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Missing { what, remedy } => write!(f, "{what} is missing; {remedy}"),
            Self::Check { findings } => write!(f, "{}", findings.join("\n       ")),
        }
    }
}

/// The command line as one would type it.
pub(crate) fn spelled(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Prints the command line, runs it with our output as its own, and turns a failure into an error.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let line = spelled(command);
    eprintln!("xtask: running {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Failed { command: line, status: status.to_string() }),
        Err(source) => Err(Error::Start { command: line, source }),
    }
}

/// What a program printed on its standard output, if it ran and succeeded; what it complained about is not shown.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Where a program is on the `PATH`, links not yet followed.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|candidate| candidate.is_file())
}

/// The cargo that started us, so that the same toolchain does the work.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// The root of the workspace: the folder above this crate's.
pub(crate) fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A file's text.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
