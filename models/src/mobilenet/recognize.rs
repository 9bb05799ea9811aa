//! Finds out which MobileNet a set of tensors is, and names everything that is wrong with it in one go.

use std::collections::BTreeMap;

use super::reader::Reader;
use super::spec::{Architecture, Naming, NetworkSpec};
use super::tables::{Table, tables};
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
    let mut namings = [Naming::Torchvision, Naming::Timm];
    if index.shape("conv_stem.weight").is_some() {
        namings.reverse();
    }
    'networks: for naming in namings {
        for architecture in Architecture::ALL {
            for table in tables(architecture, naming) {
                let candidate = Candidate::read(index, architecture, naming, &table);
                if said == Some(architecture) {
                    keep_better(&mut best_as_said, candidate.clone());
                }
                let fits = candidate.problems.is_empty();
                keep_better(&mut best, candidate);
                if fits {
                    // None of the others could be better.
                    break 'networks;
                }
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
        let mut reader = Reader::new(index, naming);
        let spec = reader.network(architecture, table);
        let foreign = |name: &&str| !reader.used.contains(*name) && !name.ends_with(".num_batches_tracked");
        let mut unexpected: Vec<&str> = index.names().filter(foreign).collect();
        unexpected.sort_unstable();
        let mut problems = reader.problems;
        problems.extend(unexpected.into_iter().map(|name| Problem::Unexpected { name: name.to_owned() }));
        Self { spec, problems, asked: reader.asked, found: reader.found }
    }
}
