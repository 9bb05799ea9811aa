//! What a developer runs: one command that tests on every adapter of the machine, and the few that stand beside it.
//!
//! Only the standard library is used (but for `browser` and `web`), so that `cargo xtask` answers seconds after a clean checkout.

mod adapters;
mod browser;
mod deps;
mod install;
mod process;
mod test;
mod wasm;
mod web;

use process::Error;
use std::process::ExitCode;

/// What is printed for `--help` and beside a mistake in the arguments.
const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--full] [--no-install] [-- FILTER...]
             run the tests on every adapter of this machine, and those of the browser package in headless
             Chromium, installing what is missing for that;
             --full runs all cases instead of the short tier, FILTER picks tests by name
  adapters   say which adapters and tools the tests will find here, and what is missing
  browser    compile every kernel in headless Chromium, whose WebGPU shares no code with wgpu
  wasm       build the libraries for wasm32-unknown-unknown
  web [--test [--full]] [--no-build | --quick]
             build the npm package in web/pkg and say how large it is; --test drives it in headless Chromium, with --full
             every case of every kernel; --no-build takes the package that was built before, --quick builds a large one fast
  deps       prove that the libraries' dependencies are small and cannot reach the network";

/// Runs the command named by the arguments.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Usage { .. }) => {
            eprintln!("xtask: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Picks the task; what a task does not know is an error before anything runs.
fn dispatch(arguments: &[String]) -> Result<(), Error> {
    let (command, rest) = arguments.split_first().ok_or_else(|| Error::usage("no command given"))?;
    match command.as_str() {
        "test" => test::run(&test::Options::parse(rest)?),
        "adapters" => no_arguments(rest).and_then(|()| adapters::report()),
        "browser" => no_arguments(rest).and_then(|()| browser::check()),
        "wasm" => no_arguments(rest).and_then(|()| wasm::build()),
        "web" => web::run(&web::Options::parse(rest)?),
        "deps" => no_arguments(rest).and_then(|()| deps::check()),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Error::usage(format!("there is no command '{other}'"))),
    }
}

/// Refuses arguments where a task takes none.
fn no_arguments(rest: &[String]) -> Result<(), Error> {
    match rest.first() {
        Some(extra) => Err(Error::usage(format!("unexpected argument '{extra}'"))),
        None => Ok(()),
    }
}
