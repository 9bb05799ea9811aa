//! What a kernel declares: everything that validation, device tests, doctor, benches and plans derive from.

use crate::tensor::{Desc, HostTensor};
use crate::wgsl::Wgsl;
use std::any::Any;
use std::fmt;

/// How a binding of group 0 is declared in a linked shader. Binding 0 is always the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Binding {
    /// The uniform block of parameters.
    Params,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written.
    Write,
    /// A two-dimensional sampled texture of floats, read by `textureLoad`.
    Texture,
}

/// One linked variant of a kernel: complete WGSL and what the build reflected from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// The kernel's name, which is also the shader file's stem.
    pub kernel: &'static str,
    /// The variant's name: its choices joined by dots, such as `subgroup8.f16`.
    pub label: &'static str,
    /// The linked WGSL; its entry point is `main`.
    pub wgsl: Wgsl,
    /// The named choices that made it, such as `("path", "subgroup8")`.
    pub choices: &'static [(&'static str, &'static str)],
    /// The numbers its template was expanded with, such as `("TM", 28)`.
    pub numbers: &'static [(&'static str, u32)],
    /// Invocations of a workgroup in x, y and z.
    pub workgroup: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// The exact subgroup size it is right for; 0 when it uses no subgroup operation, and [`Source::ANY_SUBGROUP`] when it is right
    /// for all.
    pub subgroup: u32,
    /// It multiplies 16-bit floats.
    pub f16: bool,
    /// Bytes of its parameter block.
    pub params_bytes: u32,
    /// Bindings of group 0, in order.
    pub bindings: &'static [Binding],
}

impl Source {
    /// In the place of a subgroup size: any of at least four invocations, which may differ from one subgroup to the next.
    pub const ANY_SUBGROUP: u32 = 1;

    /// The option taken on `axis`, or the empty string when the kernel has no such axis.
    pub fn choice(&self, axis: &str) -> &'static str {
        self.choices.iter().find(|(name, _)| *name == axis).map_or("", |(_, option)| option)
    }

    /// A number of the template, or 0 when this variant has no such number.
    pub fn number(&self, name: &str) -> u32 {
        self.numbers.iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| *value)
    }

    /// Whether an adapter can run it at all.
    pub fn fits(&self, caps: &Caps) -> bool {
        let buffers = self.bindings.iter().filter(|b| matches!(b, Binding::Read | Binding::Write)).count();
        let invocations: u32 = self.workgroup.iter().product();
        let subgroups = match self.subgroup {
            0 => true,
            Source::ANY_SUBGROUP => caps.subgroup.is_some_and(|(least, _)| least >= 4),
            exact => caps.subgroup == Some((exact, exact)),
        };
        subgroups
            && (caps.f16 || !self.f16)
            && invocations <= caps.max_invocations
            && self.workgroup.iter().zip(caps.max_workgroup).all(|(have, limit)| *have <= limit)
            && self.workgroup_bytes <= caps.max_workgroup_bytes
            && buffers <= caps.max_storage_buffers as usize
    }
}

/// What an adapter can do, as values found at run time.
#[derive(Debug, Clone, PartialEq)]
pub struct Caps {
    /// Smallest and largest subgroup size, when subgroup operations are usable.
    pub subgroup: Option<(u32, u32)>,
    /// 16-bit floats in shaders.
    pub f16: bool,
    /// Integer dot products of packed bytes are native rather than emulated, as far as is known.
    pub packed_dot: bool,
    /// Timestamp queries.
    pub timestamps: bool,
    /// Bytes of immediate data; 0 when there are none.
    pub immediates: u32,
    /// The adapter is a program on the CPU (lavapipe, SwiftShader, WARP).
    pub software: bool,
    /// The driver's compiler is slow with arrays that belong to an invocation, and what becomes of it too (Mesa's software rasterizer before 23).
    pub slow_arrays: bool,
    /// Buffers live in the memory of the host.
    pub shared_memory: bool,
    /// Most invocations in a workgroup.
    pub max_invocations: u32,
    /// Most invocations in x, y and z.
    pub max_workgroup: [u32; 3],
    /// Most bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// Most storage buffers of a stage.
    pub max_storage_buffers: u32,
    /// Most bytes of one storage binding.
    pub max_binding_bytes: u64,
    /// Most bytes of one buffer.
    pub max_buffer_bytes: u64,
    /// Most workgroups in one direction of a dispatch.
    pub max_groups: u32,
}

impl Caps {
    /// WebGPU's default limits and no optional feature: what every kernel must run on.
    pub const WEBGPU_DEFAULT: Caps = Caps {
        subgroup: None,
        f16: false,
        packed_dot: false,
        timestamps: false,
        immediates: 0,
        software: false,
        slow_arrays: false,
        shared_memory: false,
        max_invocations: 256,
        max_workgroup: [256, 256, 64],
        max_workgroup_bytes: 16_384,
        max_storage_buffers: 8,
        max_binding_bytes: 128 << 20,
        max_buffer_bytes: 256 << 20,
        max_groups: 65_535,
    };
}

/// The shapes of one use of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// What goes in, in the kernel's order.
    pub inputs: &'a [Desc],
    /// What comes out, as [`Kernel::outputs`] gave it.
    pub outputs: &'a [Desc],
}

/// A tensor of a [`Call`], as bound after the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// Input by position.
    Input(usize),
    /// Output by position.
    Output(usize),
}

/// What the host does to start one dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The parameter block, word by word; floats as their bits.
    pub params: Vec<u32>,
    /// Workgroups in x, y and z.
    pub grid: [u32; 3],
    /// What each binding after the parameters holds.
    pub operands: Vec<Operand>,
}

impl Launch {
    /// A launch that binds all inputs, then all outputs.
    pub fn new(call: &Call<'_>, params: Vec<u32>, grid: [u32; 3]) -> Launch {
        let inputs = (0..call.inputs.len()).map(Operand::Input);
        let outputs = (0..call.outputs.len()).map(Operand::Output);
        Launch { params, grid, operands: inputs.chain(outputs).collect() }
    }
}

/// Arithmetic and traffic of one call, for rooflines.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Additions and multiplications, each counted once.
    pub flops: f64,
    /// Bytes of inputs read and outputs written, each counted once.
    pub bytes: f64,
}

/// How far a result may lie from the twin's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest allowed difference, relative to the largest magnitude of the twin's output.
    pub relative: f64,
}

impl Tolerance {
    /// Every word must be equal.
    pub const EXACT: Tolerance = Tolerance { relative: 0.0 };

    /// The tolerance of a sum of `terms` products accumulated in f32 and stored as `format`, derived in
    /// `docs/numerics.md`: rounding errors of a sum grow with the square root of its length.
    pub fn of_sum(terms: usize, format: crate::Format) -> Tolerance {
        let sum = f64::from(f32::EPSILON) * (8.0 + 4.0 * (terms as f64).sqrt());
        let stored = if format == crate::Format::F16 { 1.0 / 1024.0 } else { 0.0 };
        Tolerance { relative: sum + stored }
    }
}

/// Why a kernel refuses its inputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// The number of inputs is wrong.
    #[error("{kernel} takes {expected} inputs and was given {found}")]
    Count {
        /// Kernel name.
        kernel: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        found: usize,
    },
    /// One input's shape or format does not fit.
    #[error("{kernel}: input {position} is {found}, expected {expected}")]
    Input {
        /// Kernel name.
        kernel: &'static str,
        /// Position of the input.
        position: usize,
        /// What was expected, in words.
        expected: String,
        /// What was given.
        found: Desc,
    },
    /// A parameter has no meaning for these shapes.
    #[error("{kernel}: {reason}")]
    Parameter {
        /// Kernel name.
        kernel: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
}

/// A kernel with its static parameters: the WGSL variants and, beside them, the twin.
///
/// Implementations answer in this order: what goes out, which variants exist, which an adapter should try,
/// how one is launched, what it must compute, how exactly.
pub trait Kernel: fmt::Debug + Send + Sync + 'static {
    /// The one spelling: file stem, entry label, test id and bench id.
    fn name(&self) -> &'static str;

    /// Parameters in a few words for plans, such as `k3 s2 relu6`; empty when there are none.
    fn summary(&self) -> String {
        String::new()
    }

    /// Shapes of the outputs.
    ///
    /// # Errors
    /// [`ShapeError`] when the inputs do not fit the kernel.
    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError>;

    /// All linked variants.
    fn sources(&self) -> &'static [Source];

    /// The variants worth trying for this call on such an adapter, best guess first. What the adapter cannot run
    /// is left out; the portable baseline is always in.
    fn candidates(&self, call: &Call<'_>, caps: &Caps) -> Vec<&'static Source>;

    /// Parameters, grid and bindings for one variant.
    fn launch(&self, call: &Call<'_>, source: &Source) -> Launch;

    /// Inputs that outputs overwrite, as `(input, output)`: they are one tensor, which outlives the run. The launch binds
    /// it once, as the output, and what the shader does not write stays as it was; the twin gives it back whole.
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// The positions among the parameters of the first workgroup in x and of that in y, both 0 in [`Kernel::launch`], of a kernel whose
    /// workgroups along that axis each write outputs of their own. Such a launch may be cut along one of them into several of some workgroups
    /// each, and gives the same bits.
    fn first_group(&self) -> [Option<usize>; 2] {
        [None; 2]
    }

    /// The twin: the outputs, accumulated in f64 and sharing no code with the shader.
    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor>;

    /// How exactly a GPU must agree with the twin.
    fn tolerance(&self, call: &Call<'_>) -> Tolerance;

    /// Arithmetic and traffic.
    fn work(&self, call: &Call<'_>) -> Work;

    /// The share of that work which is there while only the first `positions` of its caches are in use; less than one for a kernel that
    /// reads a cache as far as it is filled.
    fn share(&self, _call: &Call<'_>, _positions: usize) -> f64 {
        1.0
    }

    /// Itself, so that a plan's fusion can recognize kernels it knows.
    fn as_any(&self) -> &dyn Any;
}

/// Bytes of all inputs and outputs of a call.
pub fn traffic(call: &Call<'_>) -> f64 {
    call.inputs.iter().chain(call.outputs).map(|d| d.bytes() as f64).sum()
}

/// Those of `sources` that have all `choices` and that the adapter can run, in their order.
pub fn fitting<'a>(
    sources: &'static [Source],
    choices: &'a [(&'a str, &'a str)],
    caps: &'a Caps,
) -> impl Iterator<Item = &'static Source> + 'a {
    sources.iter().filter(move |s| s.fits(caps) && choices.iter().all(|(axis, option)| s.choice(axis) == *option))
}
