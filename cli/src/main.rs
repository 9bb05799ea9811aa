//! The `lampyris` command: reads the command line, runs one job, and says in one sentence what went wrong.

mod args;
mod bench;
mod chat;
mod classify;
mod clock;
mod device;
mod doctor;
#[cfg(feature = "bundled")]
mod drawing;
mod embed;
mod eval;
mod failure;
mod fits;
mod generate;
#[cfg(feature = "pull")]
mod hub;
mod inspect;
mod model;
mod output;
mod pictures;
#[cfg(feature = "pull")]
mod pull;
mod quantize;
mod silence;
#[cfg(feature = "bundled")]
mod terminal;
mod texts;
#[cfg(feature = "bundled")]
mod tour;

use args::{Arguments, Job};
use clap::Parser;
use failure::Failure;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Arguments::try_parse_from(words()) {
        Ok(arguments) => run(arguments),
        Err(error) if error.use_stderr() => Err(Failure::usage(&error)),
        Err(help) => output::print(&help.render().to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has read enough of it.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

/// The words of the command line. Whoever asks for help with help gets help.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "help") {
        words.retain(|word| word != "--help" && word != "-h");
    }
    words
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let Some(job) = arguments.job else { return tour(&arguments.device) };
    match job {
        Job::Classify(on) => classify::run(&on.job, &on.device),
        Job::Generate(on) => generate::run(&on.job, &on.device),
        Job::Chat(on) => chat::run(&on.job, &on.device),
        Job::Embed(mut on) => {
            on.job.model = model::find(&on.job.model)?;
            embed::run(&on.job, &on.device)
        }
        Job::Doctor(on) => doctor::run(&on.job, &on.device),
        Job::Inspect(mut job) => {
            job.model = job.model.as_deref().map(model::find).transpose()?;
            inspect::run(&job)
        }
        Job::Bench(mut on) => {
            on.job.model = on.job.model.as_deref().map(model::find).transpose()?;
            bench::run(&on.job, &on.device)
        }
        Job::Quantize(mut on) => {
            on.job.model = model::find(&on.job.model)?;
            quantize::run(&on.job, &on.device)
        }
        Job::Eval(on) => eval::run(&on.job, &on.device),
        Job::Fits(on) => fits::run(&on.job, &on.device),
        #[cfg(feature = "pull")]
        Job::Pull(on) => pull::run(&on.job, &on.device),
    }
}

#[cfg(feature = "bundled")]
fn tour(arguments: &args::DeviceArguments) -> Result<(), Failure> {
    tour::run(arguments)
}

/// Without bundled models there is nothing to show.
#[cfg(not(feature = "bundled"))]
fn tour(_: &args::DeviceArguments) -> Result<(), Failure> {
    Err(Failure::NoTour)
}
