//! The engine's one error type: what happened, where, and what to do about it.

use lampyris_shaders::{Desc, ShapeError};

/// Everything that can go wrong between a plan and its answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter matches what was asked for.
    #[error(
        "no adapter matches `{wanted}`; this machine has {}; choose an index, a part of a name, or `cpu`",
        if .found.is_empty() { "none".to_owned() } else { .found.join(", ") }
    )]
    NoAdapter {
        /// What the caller asked for.
        wanted: String,
        /// The adapters that exist, as `index: name (backend)`.
        found: Vec<String>,
    },
    /// The driver refused to open a device.
    #[error("adapter {adapter} refused to open a device: {reason}; try another with `--adapter`, or `--adapter cpu`")]
    NoDevice {
        /// The adapter's name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// A kernel refuses its inputs.
    #[error("step {step}: {source}")]
    Shape {
        /// The step being built.
        step: String,
        /// Why.
        source: ShapeError,
    },
    /// A constant could not be made from the weights.
    #[error("constant {name}: {reason}")]
    Constant {
        /// The constant's name in the plan.
        name: String,
        /// Why, with the file and the tensor.
        reason: String,
    },
    /// A run was given something else than the plan's input.
    #[error("input {name} takes {expected}, and was given {found}")]
    Input {
        /// The input's name.
        name: String,
        /// What the plan says.
        expected: String,
        /// What came.
        found: String,
    },
    /// No variant of a kernel runs on this adapter.
    #[error("no variant of {kernel} runs on {adapter} for {call}; run `lampyris doctor` for what this adapter can do")]
    NoVariant {
        /// The kernel.
        kernel: String,
        /// The adapter.
        adapter: String,
        /// The shapes.
        call: String,
    },
    /// A tensor is larger than the adapter can bind.
    #[error(
        "tensor {tensor} ({desc}) takes {bytes} bytes, and {adapter} binds at most {limit}; use a smaller input or batch, or for a session's cache a shorter context or a smaller format of it"
    )]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its shape.
        desc: Desc,
        /// Its bytes.
        bytes: u64,
        /// The adapter.
        adapter: String,
        /// The adapter's limit in bytes.
        limit: u64,
    },
    /// A dispatch needs more workgroups than the adapter starts.
    #[error(
        "step {step} needs a grid of {grid:?} workgroups, and {adapter} starts at most {limit} in a direction; use a smaller input or batch"
    )]
    Grid {
        /// The step.
        step: String,
        /// The grid.
        grid: [u32; 3],
        /// The adapter.
        adapter: String,
        /// The adapter's limit.
        limit: u32,
    },
    /// A kernel has more parameters than its block in the parameter buffer holds.
    #[error(
        "kernel {kernel} takes {bytes} bytes of parameters, and a step has {limit}; put what is larger in a constant"
    )]
    Params {
        /// The kernel and its variant.
        kernel: String,
        /// Bytes of its parameters.
        bytes: u64,
        /// Bytes that a step has for them.
        limit: u64,
    },
    /// A kernel's launch does not bind what its shader declares, or names a tensor that its step does not have.
    #[error(
        "kernel {kernel}, step {step}, binds {reason}; its launch must give one operand for each binding of its shader"
    )]
    Operands {
        /// The kernel and its variant.
        kernel: String,
        /// The step.
        step: String,
        /// What is wrong.
        reason: String,
    },
    /// The plan does not fit the memory budget.
    #[error(
        "{needed} bytes more of GPU memory are wanted ({weights} for weights, {activations} for activations, {states} for states such as caches), {held} are held already, and the budget is {budget}; raise the budget, drop other plans, or use a smaller batch, input size, context or weight format"
    )]
    Budget {
        /// Bytes that are not held yet.
        needed: u64,
        /// Bytes of constants among them.
        weights: u64,
        /// Bytes of slots, inputs and parameters among them.
        activations: u64,
        /// Bytes of states among them, which outlive a run.
        states: u64,
        /// Bytes that plans and constants of the device hold already.
        held: u64,
        /// The budget in bytes.
        budget: u64,
    },
    /// Several models do not fit the memory budget together.
    #[error(
        "together {} take {needed} bytes of GPU memory, {held} are held already, and the budget is {budget}; raise the budget, leave one out, or give one a smaller context, batch, chunk of a prompt or weight format",
        .models.iter().map(|(name, bytes)| format!("{name} ({bytes})")).collect::<Vec<_>>().join(", ")
    )]
    Together {
        /// Each model's name and bytes.
        models: Vec<(String, u64)>,
        /// Their sum.
        needed: u64,
        /// Bytes that plans and constants of the device hold already.
        held: u64,
        /// The budget in bytes.
        budget: u64,
    },
    /// The driver ran out of memory.
    #[error(
        "{adapter} is out of memory while {doing}; close other programs or use a smaller batch, input size or weight format"
    )]
    OutOfMemory {
        /// The adapter.
        adapter: String,
        /// What was being made.
        doing: String,
    },
    /// The driver refused something that should have been valid.
    #[error("{adapter} refused {doing}: {reason}; please report this with the output of `lampyris doctor --json`")]
    Driver {
        /// The adapter.
        adapter: String,
        /// What was being made.
        doing: String,
        /// The driver's words.
        reason: String,
    },
    /// The device is gone.
    #[error("the device of {adapter} was lost ({reason}); open a new one and load the model again")]
    DeviceLost {
        /// The adapter.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// A kernel gives something else than its twin.
    #[error(
        "{kernel} does not agree with its twin on {adapter}: case {case} has an error of {error:.1e}, and {tolerance:.1e} is allowed; run `lampyris doctor` and report what it says"
    )]
    Disagrees {
        /// The kernel and its variant.
        kernel: String,
        /// The adapter.
        adapter: String,
        /// The case.
        case: String,
        /// The largest difference relative to the twin's largest value.
        error: f64,
        /// What the kernel allows.
        tolerance: f64,
    },
    /// An adapter was asked for by a name that is empty or blank, which would match any.
    #[error("the name of an adapter is blank; give an index, a part of a name, `best` or `cpu`")]
    BlankAdapter,
    /// As many recorded runs of a plan are under way as there are places for results.
    #[error("{runs} recorded runs of this plan are under way already; take a result first, or record in a later frame")]
    Busy {
        /// How many.
        runs: usize,
    },
    /// The commands of a recorded run were dropped, or the submit that held them was refused.
    #[error(
        "the recorded run was cancelled: its encoder was dropped, or the submit that held it was refused; record it again"
    )]
    Cancelled,
    /// Something was to be recorded where nothing records commands.
    #[error("{adapter} has no commands that could be recorded; run the model by itself there")]
    NoCommands {
        /// The executor.
        adapter: String,
    },
    /// There is nothing to measure time with.
    #[error(
        "{adapter} has no timestamps and there is no clock here; measure with a native build, or on another adapter"
    )]
    NoTimer {
        /// The adapter.
        adapter: String,
    },
    /// A texture that the kernels cannot read as the picture it is said to be.
    #[error("the texture is {found}, which {adapter} cannot read as a picture; give {wanted}")]
    Texture {
        /// The adapter.
        adapter: String,
        /// What the texture is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// A plan gives one of its own texture inputs as a result.
    #[error("output {name} is a texture of the caller's, which is not read back; leave it out of the outputs")]
    TextureOutput {
        /// The output's name.
        name: String,
    },
    /// A run's result was asked for after it had been given.
    #[error("the result of this run was taken already; submit another run")]
    Taken,
    /// A texture or a buffer was given where the CPU executor runs.
    #[error("a texture or a buffer needs the device it lives on, and {adapter} has none; pass the pixels as bytes")]
    NoTexture {
        /// The executor's name.
        adapter: String,
    },
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
