//! The `lampyris` command: reads the command line, runs one job, and says in one sentence what went wrong.

mod args;
mod bench;
mod chat;
mod classify;
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
#[cfg(feature = "bundled")]
mod terminal;
mod texts;
#[cfg(feature = "bundled")]
mod tour;

use args::{Arguments, Job};
use clap::Parser;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Arguments::try_parse() {
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

fn run(arguments: Arguments) -> Result<(), Failure> {
    let Some(job) = arguments.job else { return tour(&arguments.device) };
    match job {
        Job::Classify(job) => classify::run(&job, &arguments.device),
        Job::Generate(job) => generate::run(&job, &arguments.device),
        Job::Chat(job) => chat::run(&job, &arguments.device),
        Job::Embed(mut job) => {
            job.model = model::find(&job.model)?;
            embed::run(&job, &arguments.device)
        }
        Job::Doctor(job) => doctor::run(&job, &arguments.device),
        Job::Inspect(mut job) => {
            job.model = job.model.as_deref().map(model::find).transpose()?;
            inspect::run(&job)
        }
        Job::Bench(mut job) => {
            job.model = job.model.as_deref().map(model::find).transpose()?;
            bench::run(&job, &arguments.device)
        }
        Job::Quantize(mut job) => {
            job.model = model::find(&job.model)?;
            quantize::run(&job, &arguments.device)
        }
        Job::Eval(job) => eval::run(&job, &arguments.device),
        Job::Fits(job) => fits::run(&job, &arguments.device),
        #[cfg(feature = "pull")]
        Job::Pull(job) => pull::run(&job, &arguments.device),
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
