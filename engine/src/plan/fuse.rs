//! Fusion: neighbouring steps that one kernel can do become one step, by an ordered list of small rules.
//!
//! A rule looks at one step and those that make its inputs. It may only replace steps whose results nobody else reads, and
//! whatever it puts in their place must give what they gave, shape for shape: [`Draft::replace`] asks the new kernel.

use super::{PlanTensor, Step, TensorId};
use lampyris_shaders::conv::{Conv, Depthwise, DepthwisePointwise, Pointwise, Stem};
use lampyris_shaders::elementwise::{Binary, Function, Operation, Unary};
use lampyris_shaders::head::{GlobalPool, Linear, Pooling, SqueezeExcite};
use lampyris_shaders::{Activation, Desc, Kernel};
use std::any::Any;
use std::sync::Arc;

/// Which steps of a network may become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FusionOptions {
    /// Activations, residuals, gates and pooling move into the kernels before or after them. On unless asked otherwise: it
    /// saves whole tensors and computes nothing twice.
    pub neighbours: bool,
    /// A depthwise convolution moves into the loads of the pointwise one after it. Off unless asked for: it saves the tensor
    /// between them and computes it once for each column of workgroups, which pays on some adapters only.
    pub depthwise_into_pointwise: bool,
}

impl Default for FusionOptions {
    fn default() -> FusionOptions {
        FusionOptions { neighbours: true, depthwise_into_pointwise: false }
    }
}

impl FusionOptions {
    /// Every step stays what the network said it is.
    pub const NONE: FusionOptions = FusionOptions { neighbours: false, depthwise_into_pointwise: false };
}

/// Tries one thing on the step at a position and says whether it changed anything.
type Rule = fn(&mut Draft<'_>, usize) -> bool;

/// In this order: the gate of a squeeze-excite is only known as one once it scales a convolution.
const NEIGHBOURS: [Rule; 5] =
    [activation_into_producer, sum_into_pointwise, gate_into_pointwise, squeeze_excite, pooling_into_depthwise];

/// Applies the rules that `options` name to `steps`.
pub(super) fn fuse(
    tensors: &mut Vec<PlanTensor>,
    steps: &mut Vec<Step>,
    outputs: &[(String, TensorId)],
    options: FusionOptions,
) {
    let mut draft = Draft { tensors, steps, outputs };
    let neighbours = NEIGHBOURS.into_iter().filter(|_| options.neighbours);
    let depthwise = options.depthwise_into_pointwise.then_some(depthwise_into_pointwise as Rule);
    for rule in neighbours.chain(depthwise) {
        let mut at = 0;
        while at < draft.steps.len() {
            // A rule that fired took a step away, or left one that it does not fire on again.
            if !rule(&mut draft, at) {
                at += 1;
            }
        }
    }
}

/// A plan being rewritten.
struct Draft<'a> {
    tensors: &'a mut Vec<PlanTensor>,
    steps: &'a mut Vec<Step>,
    outputs: &'a [(String, TensorId)],
}

impl Draft<'_> {
    fn desc(&self, id: TensorId) -> &Desc {
        &self.tensors[id.0].desc
    }

    /// The kernel of a step, if it is a `K`.
    fn kernel<K: Kernel + Copy>(&self, at: usize) -> Option<K> {
        self.steps.get(at)?.kernel.as_any().downcast_ref::<K>().copied()
    }

    /// The step before `at` that makes `id` as its first output.
    fn producer(&self, id: TensorId, at: usize) -> Option<usize> {
        self.steps[..at].iter().rposition(|step| step.outputs.first() == Some(&id))
    }

    /// How often `id` is read, by steps and by the caller.
    fn reads(&self, id: TensorId) -> usize {
        let steps = self.steps.iter().flat_map(|step| &step.inputs).filter(|input| **input == id).count();
        steps + self.outputs.iter().filter(|(_, output)| *output == id).count()
    }

    /// The step that makes `id` for the step at `at` and for nothing else.
    fn only_for(&self, id: TensorId, at: usize) -> Option<usize> {
        self.producer(id, at).filter(|_| self.reads(id) == 1)
    }

    /// Puts `kernel` over `inputs` in the place of the step at `at`, takes the steps `gone` away, and names the step after
    /// `named`; does nothing and gives false when the kernel would not take the inputs or give what the step gave.
    fn replace(
        &mut self,
        at: usize,
        kernel: Arc<dyn Kernel>,
        inputs: Vec<TensorId>,
        gone: &[usize],
        named: usize,
    ) -> bool {
        let given: Vec<Desc> = inputs.iter().map(|id| self.desc(*id).clone()).collect();
        let wanted: Vec<Desc> = self.steps[at].outputs.iter().map(|id| self.desc(*id).clone()).collect();
        if kernel.outputs(&given).ok() != Some(wanted) {
            return false;
        }
        let outputs = self.steps[at].outputs.clone();
        let name = self.steps[named].name.clone();
        for id in &outputs {
            self.tensors[id.0].name.clone_from(&name);
        }
        self.steps[at] = Step { name, kernel, inputs, outputs };
        let mut position = 0;
        self.steps.retain(|_| {
            position += 1;
            !gone.contains(&(position - 1))
        });
        true
    }
}

/// The activation that an elementwise function is, if kernels have it in their epilogues.
fn epilogue(function: Function) -> Option<Activation> {
    match function {
        Function::Activation(activation) => Some(activation),
        Function::Clip { low: 0.0, high: 6.0 } => Some(Activation::Relu6),
        Function::HardSigmoid { alpha, beta: 0.5 } if alpha == 1.0 / 6.0 => Some(Activation::HardSigmoid),
        _ => None,
    }
}

/// `kernel` with an activation at its end, if it has none yet and a place for one.
fn activated(kernel: &dyn Any, activation: Activation) -> Option<Arc<dyn Kernel>> {
    let plain = Activation::None;
    if let Some(k) = kernel.downcast_ref::<Pointwise>() {
        // It adds the residual after the activation.
        (k.activation == plain && !k.residual).then(|| Arc::new(Pointwise { activation, ..*k }) as Arc<dyn Kernel>)
    } else if let Some(k) = kernel.downcast_ref::<Depthwise>() {
        (k.activation == plain && !k.pool).then(|| Arc::new(Depthwise { activation, ..*k }) as Arc<dyn Kernel>)
    } else if let Some(k) = kernel.downcast_ref::<Stem>() {
        (k.activation == plain).then(|| Arc::new(Stem { activation, ..*k }) as Arc<dyn Kernel>)
    } else if let Some(k) = kernel.downcast_ref::<Conv>() {
        (k.activation == plain).then(|| Arc::new(Conv { activation, ..*k }) as Arc<dyn Kernel>)
    } else if let Some(k) = kernel.downcast_ref::<Linear>() {
        (k.activation == plain).then(|| Arc::new(Linear { activation }) as Arc<dyn Kernel>)
    } else {
        None
    }
}

/// `act(conv(x))` is a convolution with an activation.
fn activation_into_producer(draft: &mut Draft<'_>, at: usize) -> bool {
    let Some(activation) = draft.kernel::<Unary>(at).and_then(|unary| epilogue(unary.function)) else {
        return false;
    };
    let Some(producer) = draft.only_for(draft.steps[at].inputs[0], at) else {
        return false;
    };
    match activated(draft.steps[producer].kernel.as_any(), activation) {
        Some(kernel) => draft.replace(at, kernel, draft.steps[producer].inputs.clone(), &[producer], producer),
        None => false,
    }
}

/// `pointwise(x) + r` is a pointwise convolution with a residual.
fn sum_into_pointwise(draft: &mut Draft<'_>, at: usize) -> bool {
    if draft.kernel::<Binary>(at).is_none_or(|binary| binary.operation != Operation::Add) {
        return false;
    }
    let (a, b) = (draft.steps[at].inputs[0], draft.steps[at].inputs[1]);
    let made = |sum: TensorId, residual: TensorId| draft.only_for(sum, at).map(|producer| (producer, residual));
    // Where both are such convolutions, the later one takes the sum: the other's result is there by then.
    let Some((producer, residual)) = made(a, b).into_iter().chain(made(b, a)).max_by_key(|(producer, _)| {
        (draft.kernel::<Pointwise>(*producer).is_some_and(|pointwise| !pointwise.residual), *producer)
    }) else {
        return false;
    };
    let Some(pointwise) = draft.kernel::<Pointwise>(producer).filter(|pointwise| !pointwise.residual) else {
        return false;
    };
    let mut inputs = draft.steps[producer].inputs.clone();
    inputs.insert(3, residual);
    let kernel = Arc::new(Pointwise { residual: true, ..pointwise });
    draft.replace(at, kernel, inputs, &[producer], producer)
}

/// `pointwise(x * gate)` is a pointwise convolution that scales what it loads.
fn gate_into_pointwise(draft: &mut Draft<'_>, at: usize) -> bool {
    let Some(pointwise) = draft.kernel::<Pointwise>(at).filter(|pointwise| !pointwise.scaled) else {
        return false;
    };
    let Some(product) = draft.only_for(draft.steps[at].inputs[0], at) else {
        return false;
    };
    if draft.kernel::<Binary>(product).is_none_or(|binary| binary.operation != Operation::Mul) {
        return false;
    }
    let (a, b) = (draft.steps[product].inputs[0], draft.steps[product].inputs[1]);
    let kernel = Arc::new(Pointwise { scaled: true, ..pointwise });
    [(a, b), (b, a)].into_iter().any(|(x, gate)| {
        let mut inputs = draft.steps[at].inputs.clone();
        inputs[0] = x;
        inputs.push(gate);
        draft.replace(at, kernel.clone(), inputs, &[product], at)
    })
}

/// A mean over the pixels and two layers whose result scales the channels of a convolution are a squeeze-excite.
fn squeeze_excite(draft: &mut Draft<'_>, at: usize) -> bool {
    let Some(outer) = draft.kernel::<Linear>(at) else {
        return false;
    };
    let gate = draft.steps[at].outputs[0];
    let scales = |step: &Step| {
        let scaled = step.kernel.as_any().downcast_ref::<Pointwise>().is_some_and(|pointwise| pointwise.scaled);
        scaled && step.inputs.iter().filter(|id| **id == gate).count() == 1 && step.inputs.last() == Some(&gate)
    };
    if draft.reads(gate) != draft.steps.iter().filter(|step| scales(step)).count() || draft.reads(gate) == 0 {
        return false;
    }
    let Some(hidden) = draft.only_for(draft.steps[at].inputs[0], at) else {
        return false;
    };
    let Some(inner) = draft.kernel::<Linear>(hidden) else {
        return false;
    };
    let Some(mean) = draft.only_for(draft.steps[hidden].inputs[0], hidden) else {
        return false;
    };
    let Some(pool) = draft.kernel::<GlobalPool>(mean).filter(|pool| pool.pooling == Pooling::Mean) else {
        return false;
    };
    let kernel = SqueezeExcite { inner: inner.activation, outer: outer.activation, pixels: pool.pixels };
    let x = draft.steps[mean].inputs[0];
    let layers = [hidden, at].into_iter().flat_map(|step| draft.steps[step].inputs[1..].iter().copied());
    let inputs = [x].into_iter().chain(layers).collect();
    draft.replace(at, Arc::new(kernel), inputs, &[mean, hidden], at)
}

/// A squeeze-excite over a depthwise convolution reads the sums that the convolution can leave, not the whole image.
fn pooling_into_depthwise(draft: &mut Draft<'_>, at: usize) -> bool {
    let Some(gate) = draft.kernel::<SqueezeExcite>(at).filter(|gate| gate.pixels.is_none()) else {
        return false;
    };
    let x = draft.steps[at].inputs[0];
    let Some(producer) = draft.producer(x, at) else {
        return false;
    };
    let (Some(depthwise), Some((_, height, width, _))) = (draft.kernel::<Depthwise>(producer), draft.desc(x).nhwc())
    else {
        return false;
    };
    if depthwise.pool {
        return false;
    }
    let pooled = Depthwise { pool: true, ..depthwise };
    let given: Vec<Desc> = draft.steps[producer].inputs.iter().map(|id| draft.desc(*id).clone()).collect();
    let Some(sums) = pooled.outputs(&given).ok().and_then(|outputs| outputs.into_iter().nth(1)) else {
        return false;
    };
    let name = draft.steps[producer].name.clone();
    draft.tensors.push(PlanTensor { name, desc: sums, place: super::Place::Slot(usize::MAX) });
    let sums = TensorId(draft.tensors.len() - 1);
    let mut inputs = draft.steps[at].inputs.clone();
    inputs[0] = sums;
    let kernel = SqueezeExcite { pixels: Some(height * width), ..gate };
    if !draft.replace(at, Arc::new(kernel), inputs, &[], at) {
        draft.tensors.pop();
        return false;
    }
    draft.steps[producer].kernel = Arc::new(pooled);
    draft.steps[producer].outputs.push(sums);
    true
}

/// `pointwise(depthwise(x))` is one kernel that never stores what lies between.
fn depthwise_into_pointwise(draft: &mut Draft<'_>, at: usize) -> bool {
    let plain = |pointwise: &Pointwise| !pointwise.scaled && pointwise.activation == Activation::None;
    let Some(pointwise) = draft.kernel::<Pointwise>(at).filter(plain) else {
        return false;
    };
    let Some(producer) = draft.only_for(draft.steps[at].inputs[0], at) else {
        return false;
    };
    let Some(depthwise) = draft.kernel::<Depthwise>(producer).filter(|depthwise| !depthwise.pool) else {
        return false;
    };
    let Depthwise { kernel, stride, padding, activation, .. } = depthwise;
    let kernel = DepthwisePointwise { kernel, stride, padding, activation, residual: pointwise.residual };
    let mut inputs = draft.steps[producer].inputs.clone();
    inputs.extend(&draft.steps[at].inputs[1..]);
    draft.replace(at, Arc::new(kernel), inputs, &[producer], at)
}
