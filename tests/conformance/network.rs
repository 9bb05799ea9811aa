//! A network of a few steps under construction, with the tensors that go into it.

use lampyris_engine::kernels::elementwise::{Axis, Binary, Concat, Operation, Rearrange, Reshape};
use lampyris_engine::kernels::{Desc, Format, HostTensor, Kernel};
use lampyris_engine::plan::{Plan, TensorId};
use lampyris_engine::{PlanBuilder, Result};
use std::sync::Arc;

/// An output in logical form.
pub(crate) struct Answer {
    /// `None` for a list of indices, which no operator gives another shape; its order is the recorded one.
    pub(crate) shape: Option<Vec<usize>>,
    pub(crate) values: Vec<f64>,
}

impl Answer {
    /// The values of a host tensor; words as the whole numbers they are.
    pub(crate) fn of(tensor: &HostTensor) -> Answer {
        let shape = (tensor.desc.format != Format::Word).then(|| tensor.desc.shape.clone());
        let values = match tensor.desc.format {
            Format::Word => tensor.words.iter().map(|word| f64::from(*word)).collect(),
            _ => tensor.values().iter().map(|value| f64::from(*value)).collect(),
        };
        Answer { shape, values }
    }
}

/// What a host makes of places that a kernel lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// All outputs are the answers.
    Plain,
    /// The first output is rows, the second lists places of each: the answers are what lies there, and the places.
    ValuesAtPlaces,
    /// The places are counted from the last of so many.
    FromTheEnd(usize),
}

impl Reading {
    /// The answers, from the outputs.
    fn answers(self, mut outputs: Vec<Answer>) -> Vec<Answer> {
        match self {
            Reading::Plain => {}
            Reading::ValuesAtPlaces => {
                let (rows, places) = (&outputs[0], &outputs[1]);
                let count = rows.shape.as_ref().map_or(1, |shape| shape[0]);
                let (columns, each) = (rows.values.len() / count, places.values.len() / count);
                let value = |(at, place): (usize, &f64)| rows.values[at / each * columns..][..columns][*place as usize];
                let values = places.values.iter().enumerate().map(value).collect();
                outputs[0] = Answer { shape: None, values };
            }
            Reading::FromTheEnd(count) => {
                let places = outputs.iter_mut().flat_map(|output| &mut output.values);
                places.for_each(|place| *place = (count - 1) as f64 - *place);
            }
        }
        outputs
    }
}

/// A finished plan and its inputs.
pub(crate) struct Network {
    plan: Arc<Plan>,
    inputs: Vec<HostTensor>,
    reading: Reading,
}

impl Network {
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.clone()
    }

    pub(crate) fn inputs(&self) -> &[HostTensor] {
        &self.inputs
    }

    /// The same network, whose places a host reads so.
    pub(crate) fn read(self, reading: Reading) -> Network {
        Network { reading, ..self }
    }

    /// The answers, from what a run gave.
    pub(crate) fn answers(&self, outputs: &[HostTensor]) -> Vec<Answer> {
        self.reading.answers(outputs.iter().map(Answer::of).collect())
    }
}

/// Collects steps and inputs.
#[derive(Default)]
pub(crate) struct Sketch {
    builder: PlanBuilder,
    inputs: Vec<HostTensor>,
    constants: usize,
}

impl Sketch {
    /// A tensor that is given at every run.
    pub(crate) fn input(&mut self, shape: &[usize], values: &[f32]) -> TensorId {
        let tensor = HostTensor::from_values(Desc::f32(shape), values);
        let id = self.builder.input(format!("in{}", self.inputs.len()), tensor.desc.clone());
        self.inputs.push(tensor);
        id
    }

    /// A tensor that is given once, as weights are.
    pub(crate) fn constant(&mut self, desc: Desc, values: &[f32]) -> TensorId {
        let tensor = HostTensor::from_values(desc.clone(), values);
        self.constants += 1;
        self.builder.constant(format!("constant{}", self.constants), desc, Arc::new(move || Ok(tensor.clone())))
    }

    /// Whole numbers that are given at every run: tokens, a cursor.
    pub(crate) fn words(&mut self, words: Vec<u32>) -> TensorId {
        let tensor = HostTensor::from_words(Desc::new(Format::Word, [words.len()]), words);
        let id = self.builder.input(format!("in{}", self.inputs.len()), tensor.desc.clone());
        self.inputs.push(tensor);
        id
    }

    /// A single number, that stretches to any shape.
    pub(crate) fn number(&mut self, value: f32) -> TensorId {
        self.constant(Desc::f32([1]), &[value])
    }

    /// An operation on two tensors.
    pub(crate) fn binary(&mut self, operation: Operation, a: TensorId, b: TensorId) -> Result<TensorId> {
        self.apply(Binary { operation }, &[a, b])
    }

    /// `extent` places of an axis from `start` on, `step` apart.
    pub(crate) fn cut(&mut self, x: TensorId, along: usize, [start, step, extent]: [usize; 3]) -> Result<TensorId> {
        let shape = self.shape(x);
        let mut axes: Vec<Axis> = shape.iter().enumerate().map(|(axis, all)| Axis::whole(axis, *all)).collect();
        axes[along] = Axis { extent, source: Some(along), start: start as i32, step: step as i32 };
        self.apply(Rearrange { axes, constant: 0.0 }, &[x])
    }

    /// An axis in the other direction.
    pub(crate) fn reverse(&mut self, x: TensorId, along: usize) -> Result<TensorId> {
        let shape = self.shape(x);
        let mut axes: Vec<Axis> = shape.iter().enumerate().map(|(axis, all)| Axis::whole(axis, *all)).collect();
        axes[along] = Axis { extent: shape[along], source: Some(along), start: shape[along] as i32 - 1, step: -1 };
        self.apply(Rearrange { axes, constant: 0.0 }, &[x])
    }

    /// Tensors one after another along an axis.
    pub(crate) fn join(&mut self, parts: &[TensorId], axis: usize) -> Result<TensorId> {
        let mut all = parts[0];
        for part in &parts[1..] {
            all = self.apply(Concat { axis }, &[all, *part])?;
        }
        Ok(all)
    }

    /// A tensor that outlives a run, zeros at first.
    pub(crate) fn state(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.builder.state(name, Desc::f32(shape))
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, id: TensorId) -> Vec<usize> {
        self.builder.desc(id).shape.clone()
    }

    /// Applies a kernel and gives its first output.
    pub(crate) fn apply(&mut self, kernel: impl Kernel, inputs: &[TensorId]) -> Result<TensorId> {
        self.builder.apply(kernel.name(), kernel, inputs)
    }

    /// Applies a kernel and gives all outputs.
    pub(crate) fn apply_all(&mut self, kernel: impl Kernel, inputs: &[TensorId]) -> Result<Vec<TensorId>> {
        self.builder.apply_all(kernel.name(), kernel, inputs)
    }

    /// Axis `i` of the result is axis `order[i]` of `x`.
    pub(crate) fn transpose(&mut self, x: TensorId, order: &[usize]) -> Result<TensorId> {
        let shape = self.shape(x);
        let axes = order.iter().map(|axis| Axis::whole(*axis, shape[*axis])).collect();
        self.apply(Rearrange { axes, constant: 0.0 }, &[x])
    }

    /// The same values under another shape.
    pub(crate) fn reshape(&mut self, x: TensorId, shape: &[usize]) -> Result<TensorId> {
        self.apply(Reshape { shape: shape.to_vec() }, &[x])
    }

    /// The finished plan.
    pub(crate) fn finish(mut self, outputs: &[TensorId]) -> Network {
        for (position, id) in outputs.iter().enumerate() {
            self.builder.output(format!("out{position}"), *id);
        }
        Network { plan: Arc::new(self.builder.finish()), inputs: self.inputs, reading: Reading::Plain }
    }
}
