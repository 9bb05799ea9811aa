//! The command line, as it is read and as `--help` explains it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0, 1 for a failed check or a device that fails, 2 for bad usage or input. Answers go to stdout, and \
     only whole ones: when anything that was named cannot be used, nothing is printed but one sentence on stderr.";

/// Neural networks as WGSL compute shaders, on any GPU.
#[derive(Debug, Parser)]
#[command(name = "lampyris", version, after_help = EXIT_CODES, disable_help_subcommand = false)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
    #[command(subcommand)]
    pub(crate) job: Job,
}

/// Which device, and how it is used.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct DeviceArguments {
    /// Index or part of the name of an adapter, as `doctor` lists them, or `cpu` for the CPU executor [default: the best]
    #[arg(long, global = true, env = "LAMPYRIS_ADAPTER", value_name = "A")]
    pub(crate) adapter: Option<String>,
    /// Limits to ask of the device: all the adapter has, or WebGPU's defaults without any feature
    #[arg(long, global = true, value_enum, default_value_t = Limits::Adapter)]
    pub(crate) limits: Limits,
    /// Most bytes of GPU memory that a plan may take
    #[arg(long, global = true, value_name = "BYTES")]
    pub(crate) budget: Option<u64>,
    /// Keep no compiled kernels in the user's cache folder, and use none
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Keep the run-time checks of shaders
    #[arg(long, global = true, hide = true)]
    pub(crate) checked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Limits {
    Adapter,
    Webgpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    F32,
    F16,
}

impl From<Precision> for lampyris::models::mobilenet::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Say what is in pictures
    Classify(Classify),
    /// List the adapters, and hold every kernel against its CPU twin on one of them
    Doctor(Doctor),
}

/// A model and how it is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArguments {
    /// A .safetensors file, or a folder with model.safetensors and config.json
    #[arg(long, value_name = "PATH")]
    pub(crate) model: PathBuf,
    /// How activations are stored
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
}

#[derive(Debug, Args)]
pub(crate) struct Classify {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    /// How many classes to list for each picture
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) top: u16,
    /// Names of the classes, one on each line
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// One line of JSON for each picture; `latency_ms` is the time of the run that the picture was part of
    #[arg(long)]
    pub(crate) json: bool,
    /// With --json: the vector before the head as well
    #[arg(long, requires = "json")]
    pub(crate) features: bool,
    /// Pictures in one run
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) batch: u16,
    /// Pictures (jpeg, png, gif, webp, bmp); of a folder, the pictures in it by name
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Every case of every kernel, which takes minutes, rather than the short ones
    #[arg(long)]
    pub(crate) full: bool,
    /// One line of JSON: the adapters and the certificate
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this kernel
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) only: Option<String>,
}
