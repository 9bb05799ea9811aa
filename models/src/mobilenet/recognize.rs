//! Finds out which MobileNet a set of tensors is, and names everything that is wrong with it in one go.

use std::collections::{BTreeMap, HashSet};

use super::spec::{
    Activation, Architecture, BatchNormNames, BlockSpec, ConvKind, ConvSpec, LinearSpec, Naming, NetworkSpec,
    SqueezeExciteSpec,
};
use super::tables::{Stage, Table, tables};
use crate::error::{Error, Problem, Problems, Result, shown};

/// The names and shapes of a weights file: all that is needed to recognize a network.
pub trait TensorIndex {
    /// The shape of a tensor, `None` if there is no such tensor.
    fn shape(&self, name: &str) -> Option<&[usize]>;
    /// The names of all tensors, in any order.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;
}

impl TensorIndex for BTreeMap<String, Vec<usize>> {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(Vec::as_slice)
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.keys().map(String::as_str))
    }
}

/// Recognizes the MobileNet whose tensors `index` lists and describes it completely.
///
/// `file` names the weights in errors; `said` is the architecture a configuration claims, if it claims one. Widths come from the
/// shapes, strides and activations from the architecture's table. A tensor that the network has no place for is as much an error
/// as a missing one (only `num_batches_tracked`, which inference does not use, is passed over).
///
/// # Errors
/// [`Error::UnknownNetwork`] if the tensors are not those of a MobileNet, [`Error::Tensors`] with every missing, mis-shaped or
/// foreign tensor if they nearly are, [`Error::ArchitectureMismatch`] if they are another one than `said`.
pub fn recognize(file: &str, index: &dyn TensorIndex, said: Option<Architecture>) -> Result<NetworkSpec> {
    let mut best: Option<Candidate> = None;
    let mut best_as_said: Option<Candidate> = None;
    for naming in [Naming::Torchvision, Naming::Timm] {
        for architecture in Architecture::ALL {
            for table in tables(architecture, naming) {
                let candidate = Candidate::read(index, architecture, naming, &table);
                if said == Some(architecture) {
                    keep_better(&mut best_as_said, candidate.clone());
                }
                keep_better(&mut best, candidate);
            }
        }
    }
    let chosen = match (best, best_as_said) {
        (Some(best), Some(_)) if best.problems.is_empty() => best,
        (_, Some(as_said)) => as_said,
        (Some(best), None) => best,
        (None, None) => return Err(unknown(file, index)),
    };
    if chosen.found * 2 < chosen.asked {
        return Err(unknown(file, index));
    }
    if !chosen.problems.is_empty() {
        return Err(Error::Tensors {
            file: file.to_owned(),
            architecture: chosen.spec.architecture,
            naming: chosen.spec.naming,
            problems: Problems(chosen.problems),
        });
    }
    match said {
        Some(said) if said != chosen.spec.architecture => {
            Err(Error::ArchitectureMismatch { file: file.to_owned(), said, found: chosen.spec.architecture })
        }
        _ => Ok(chosen.spec),
    }
}

fn unknown(file: &str, index: &dyn TensorIndex) -> Error {
    let mut names: Vec<&str> = index.names().collect();
    names.sort_unstable();
    let sample: Vec<String> = names.iter().take(4).map(|name| format!("`{}`", shown(name))).collect();
    let sample = if sample.is_empty() { "none".to_owned() } else { sample.join(", ") };
    Error::UnknownNetwork { file: file.to_owned(), count: names.len(), sample }
}

fn keep_better(best: &mut Option<Candidate>, candidate: Candidate) {
    if best.as_ref().is_none_or(|best| candidate.problems.len() < best.problems.len()) {
        *best = Some(candidate);
    }
}

/// The tensors read as one particular network.
#[derive(Clone)]
struct Candidate {
    /// Meaningful only if there are no problems: sizes that are unknown are 0 in it.
    spec: NetworkSpec,
    problems: Vec<Problem>,
    /// Tensors that this network needs.
    asked: usize,
    /// Those of them that are there, whatever their shape.
    found: usize,
}

impl Candidate {
    fn read(index: &dyn TensorIndex, architecture: Architecture, naming: Naming, table: &Table) -> Self {
        let mut reader = Reader { index, naming, used: HashSet::new(), problems: Vec::new(), asked: 0, found: 0 };
        let spec = reader.network(architecture, table);
        let foreign = |name: &&str| !reader.used.contains(*name) && !name.ends_with(".num_batches_tracked");
        let mut unexpected: Vec<&str> = index.names().filter(foreign).collect();
        unexpected.sort_unstable();
        let mut problems = reader.problems;
        problems.extend(unexpected.into_iter().map(|name| Problem::Unexpected { name: name.to_owned() }));
        Self { spec, problems, asked: reader.asked, found: reader.found }
    }
}

/// What is asked of one convolution; `None` is a width that only the tensors can tell.
struct ConvRequest {
    /// The prefix of `.weight`, `.weight_scale` and `.bias`.
    name: String,
    /// The prefix of the batch norm's tensors.
    norm: String,
    kind: ConvKind,
    kernel: usize,
    stride: usize,
    cin: Option<usize>,
    cout: Option<usize>,
    activation: Activation,
}

struct Reader<'a> {
    index: &'a dyn TensorIndex,
    naming: Naming,
    used: HashSet<String>,
    problems: Vec<Problem>,
    asked: usize,
    found: usize,
}

impl Reader<'_> {
    fn network(&mut self, architecture: Architecture, table: &Table) -> NetworkSpec {
        let timm = self.naming == Naming::Timm;
        let stem = self.conv(ConvRequest {
            name: if timm { "conv_stem" } else { "features.0.0" }.to_owned(),
            norm: if timm { "bn1" } else { "features.0.1" }.to_owned(),
            kind: ConvKind::Dense,
            kernel: 3,
            stride: 2,
            cin: Some(3),
            cout: None,
            activation: table.activation,
        });
        let mut width = known(stem.cout);
        let mut blocks = Vec::new();
        for (stage_number, stage) in table.stages.iter().enumerate() {
            let mut stage_width = None;
            for repeat in 0..stage.repeats {
                let stride = if repeat == 0 { stage.stride } else { 1 };
                let name = if timm {
                    format!("blocks.{stage_number}.{repeat}")
                } else {
                    format!("features.{}", blocks.len() + 1)
                };
                let block = self.block(name, architecture, stage, stride, width, stage_width);
                width = known(block.project.cout).or(stage_width);
                stage_width = stage_width.or(width);
                blocks.push(block);
            }
        }
        let (last, norm) = match (self.naming, architecture) {
            (Naming::Torchvision, _) => {
                (format!("features.{}.0", blocks.len() + 1), format!("features.{}.1", blocks.len() + 1))
            }
            (Naming::Timm, Architecture::V2) => ("conv_head".to_owned(), "bn2".to_owned()),
            (Naming::Timm, _) => {
                (format!("blocks.{}.0.conv", table.stages.len()), format!("blocks.{}.0.bn1", table.stages.len()))
            }
        };
        let last = self.conv(ConvRequest {
            name: last,
            norm,
            kind: ConvKind::Pointwise,
            kernel: 1,
            stride: 1,
            cin: width,
            cout: None,
            activation: table.activation,
        });
        let head = self.head(table, known(last.cout));
        let classes = head.last().map_or(0, |layer| layer.cout);
        let feature_size = last.cout;
        NetworkSpec { architecture, naming: self.naming, stem, blocks, last, head, classes, feature_size }
    }

    fn head(&mut self, table: &Table, features: Option<usize>) -> Vec<LinearSpec> {
        let timm = self.naming == Naming::Timm;
        if !table.hidden {
            let name = if timm { "classifier" } else { "classifier.1" };
            return vec![self.linear(name, features, None, false, Activation::None)];
        }
        let (first, second) = if timm { ("conv_head", "classifier") } else { ("classifier.0", "classifier.3") };
        let hidden = self.linear(first, features, None, timm, table.activation);
        let output = self.linear(second, known(hidden.cout), None, false, Activation::None);
        vec![hidden, output]
    }

    fn block(
        &mut self,
        name: String,
        architecture: Architecture,
        stage: &Stage,
        stride: usize,
        cin: Option<usize>,
        cout: Option<usize>,
    ) -> BlockSpec {
        let names = self.block_names(&name, architecture, stage);
        let conv = |(name, norm): (String, String), kind, cin, cout, activation| ConvRequest {
            name,
            norm,
            kind,
            kernel: if kind == ConvKind::Depthwise { stage.kernel } else { 1 },
            stride: if kind == ConvKind::Depthwise { stride } else { 1 },
            cin,
            cout,
            activation,
        };
        let expand =
            names.expand.map(|prefixes| self.conv(conv(prefixes, ConvKind::Pointwise, cin, None, stage.activation)));
        let middle = expand.as_ref().map_or(cin, |expand| known(expand.cout));
        let depthwise = self.conv(conv(names.depthwise, ConvKind::Depthwise, middle, middle, stage.activation));
        let middle = middle.or(known(depthwise.cout));
        let squeeze_excite = names.squeeze_excite.map(|(first, second)| {
            let fc1 = self.linear(&first, middle, None, true, Activation::Relu);
            let fc2 = self.linear(&second, known(fc1.cout), middle, true, Activation::None);
            SqueezeExciteSpec { channels: fc2.cout, squeezed: fc1.cout, fc1, fc2 }
        });
        let project = self.conv(conv(names.project, ConvKind::Pointwise, middle, cout, Activation::None));
        let residual = stride == 1 && cin == known(project.cout);
        BlockSpec { name, expand, depthwise, squeeze_excite, project, residual }
    }

    fn block_names(&self, block: &str, architecture: Architecture, stage: &Stage) -> BlockNames {
        let pair = |conv: &str, norm: &str| (format!("{block}.{conv}"), format!("{block}.{norm}"));
        match (self.naming, architecture) {
            (Naming::Timm, _) => BlockNames {
                expand: stage.expand.then(|| pair("conv_pw", "bn1")),
                depthwise: if stage.expand { pair("conv_dw", "bn2") } else { pair("conv_dw", "bn1") },
                squeeze_excite: stage.squeeze_excite.then(|| pair("se.conv_reduce", "se.conv_expand")),
                project: if stage.expand { pair("conv_pwl", "bn3") } else { pair("conv_pw", "bn2") },
            },
            (Naming::Torchvision, Architecture::V2) => BlockNames {
                expand: stage.expand.then(|| pair("conv.0.0", "conv.0.1")),
                depthwise: if stage.expand { pair("conv.1.0", "conv.1.1") } else { pair("conv.0.0", "conv.0.1") },
                squeeze_excite: None,
                project: if stage.expand { pair("conv.2", "conv.3") } else { pair("conv.1", "conv.2") },
            },
            (Naming::Torchvision, _) => {
                // At tiny widths rounding makes the middle as narrow as the input, and torchvision then leaves the expansion
                // out: its first layer is the depthwise one, recognizable by its single input channel and several taps.
                let first = self.index.shape(&format!("{block}.block.0.0.weight"));
                let expand = stage.expand && !matches!(first, Some([_, 1, taps, _]) if *taps > 1);
                let depthwise = usize::from(expand);
                let project = depthwise + 1 + usize::from(stage.squeeze_excite);
                let layer = |number: usize| pair(&format!("block.{number}.0"), &format!("block.{number}.1"));
                let squeeze = |number: usize| pair(&format!("block.{number}.fc1"), &format!("block.{number}.fc2"));
                BlockNames {
                    expand: expand.then(|| layer(0)),
                    depthwise: layer(depthwise),
                    squeeze_excite: stage.squeeze_excite.then(|| squeeze(depthwise + 1)),
                    project: layer(project),
                }
            }
        }
    }

    fn conv(&mut self, request: ConvRequest) -> ConvSpec {
        let ConvRequest { name, norm, kind, kernel, stride, cin, cout, activation } = request;
        let weight = format!("{name}.weight");
        let inputs = if kind == ConvKind::Depthwise { Some(1) } else { cin };
        let shape = self.tensor(&weight, &[cout, inputs, Some(kernel), Some(kernel)], None);
        let cout =
            shape.and_then(|shape| shape.first().copied()).or(cout).or_else(|| self.length(&format!("{name}.bias")));
        let weight_scale = self.scale(&name, cout);
        let (bias, batch_norm) = self.bias_or_batch_norm(&name, &norm, cout);
        let cout = cout.unwrap_or(0);
        let cin = cin.unwrap_or(if kind == ConvKind::Depthwise { cout } else { 0 });
        ConvSpec { weight, weight_scale, bias, batch_norm, kind, kernel, stride, cin, cout, activation }
    }

    fn bias_or_batch_norm(
        &mut self,
        name: &str,
        norm: &str,
        cout: Option<usize>,
    ) -> (Option<String>, Option<BatchNormNames>) {
        let bias = format!("{name}.bias");
        let names = BatchNormNames {
            weight: format!("{norm}.weight"),
            bias: format!("{norm}.bias"),
            running_mean: format!("{norm}.running_mean"),
            running_var: format!("{norm}.running_var"),
        };
        let parts = [&names.weight, &names.bias, &names.running_mean, &names.running_var];
        if !parts.iter().any(|part| self.index.shape(part).is_some()) {
            self.tensor(&bias, &[cout], Some(norm));
            return (Some(bias), None);
        }
        for part in parts {
            self.tensor(part, &[cout], None);
        }
        let biased = self.index.shape(&bias).is_some();
        if biased {
            self.tensor(&bias, &[cout], None);
        }
        (biased.then_some(bias), Some(names))
    }

    /// `as_conv` says that the weight is stored as that of a 1x1 convolution.
    fn linear(
        &mut self,
        name: &str,
        cin: Option<usize>,
        cout: Option<usize>,
        as_conv: bool,
        activation: Activation,
    ) -> LinearSpec {
        let weight = format!("{name}.weight");
        let bias = format!("{name}.bias");
        let expected = [cout, cin, Some(1), Some(1)];
        let shape = self.tensor(&weight, if as_conv { &expected } else { &expected[..2] }, None);
        let cout = shape.and_then(|shape| shape.first().copied()).or(cout).or_else(|| self.length(&bias));
        let weight_scale = self.scale(name, cout);
        self.tensor(&bias, &[cout], None);
        LinearSpec { weight, weight_scale, bias, cin: cin.unwrap_or(0), cout: cout.unwrap_or(0), activation }
    }

    /// The scale of an 8-bit weight, if there is one.
    fn scale(&mut self, name: &str, cout: Option<usize>) -> Option<String> {
        let scale = format!("{name}.weight_scale");
        self.index.shape(&scale)?;
        self.tensor(&scale, &[cout], None);
        Some(scale)
    }

    /// The length of a vector that may be there, without asking for it.
    fn length(&self, name: &str) -> Option<usize> {
        match self.index.shape(name) {
            Some(&[length]) if length > 0 => Some(length),
            _ => None,
        }
    }

    /// Asks for a tensor: its shape if it fits, else `None` and a problem on the list.
    fn tensor(&mut self, name: &str, expected: &[Option<usize>], or_batch_norm: Option<&str>) -> Option<Vec<usize>> {
        self.asked += 1;
        let Some(shape) = self.index.shape(name) else {
            self.problems.push(Problem::Missing {
                name: name.to_owned(),
                expected: expected.to_vec(),
                or_batch_norm: or_batch_norm.map(str::to_owned),
            });
            return None;
        };
        self.found += 1;
        self.used.insert(name.to_owned());
        let fits = shape.len() == expected.len()
            && shape
                .iter()
                .zip(expected)
                .all(|(&size, expected)| size > 0 && expected.is_none_or(|expected| size == expected));
        if !fits {
            self.problems.push(Problem::Shape {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: shape.to_vec(),
            });
            return None;
        }
        Some(shape.to_vec())
    }
}

/// The prefixes of a block's tensors: convolution and batch norm, or the two layers of squeeze-excite.
struct BlockNames {
    expand: Option<(String, String)>,
    depthwise: (String, String),
    squeeze_excite: Option<(String, String)>,
    project: (String, String),
}

/// Sizes that could not be found out are 0 in a specification under construction.
fn known(size: usize) -> Option<usize> {
    (size > 0).then_some(size)
}
