//! A game that lends its device: a robot goes round a lighthouse, a classifier names what it sees, and a language model
//! speaks for it, all within the game's own frames.

mod args;
mod bars;
mod drawings;
mod eyes;
mod frames;
mod game;
mod headless;
mod host;
mod hud;
mod mesh;
mod overlay;
mod scene;
mod stage;
mod talk;
mod timer;
mod window;

use args::{Args, USAGE};
use std::process::ExitCode;

/// What can go wrong: an adapter that refuses, a model that cannot be read, a file that cannot be written.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let run = |args: &Args| if args.headless { headless::run(args) } else { window::run(args) };
    match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => match run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("lampyris-game: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lampyris-game: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
