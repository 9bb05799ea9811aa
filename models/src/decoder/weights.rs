//! A decoder's tensors: which the file must have, and the constants that plans make of them.

use super::matrix::{Heads, Matrix, Piece, Rows, stored};
use super::names::{Naming, Part, bias_of};
use super::{DecoderConfig, Mixture};
use crate::error::{Problem, Problems};
use crate::{Error, Result};
use lampyris_engine::kernels::{Caps, Desc, HostTensor};
use lampyris_engine::plan::{Maker, PlanBuilder, TensorId};
use lampyris_engine::weights::{Feed, TensorFile};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// The most tensors that a refusal counts.
const MOST_PROBLEMS: usize = 1000;

/// In the names of a layer's tensors that no network needs: tables of angles and masks, which follow from the configuration.
const TABLES: [&str; 4] = [".rotary_emb.", ".attn_rot_embd.", ".attn.bias", ".masked_bias"];

/// About how many rows of two tables are compared to tell whether they are one.
const COMPARED_ROWS: usize = 256;

/// Of how many experts of a layer a row tells weights apart.
const HASHED_EXPERTS: usize = 3;

/// Most bytes of a constant where the file is not here but fetched by range.
const FED_BYTES: u64 = 16 << 20;

/// Bytes by which a constant made of several tensors may exceed the file's largest: it is made whole in memory, of which loading
/// takes less than 128 MiB beside that tensor, for the constant and for all else.
#[cfg(not(target_arch = "wasm32"))]
const JOINED_BYTES: u64 = 96 << 20;

/// A run of a layer's experts whose matrices lie in one stack.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    /// The first expert.
    pub(super) first: usize,
    /// How many there are.
    pub(super) count: usize,
    /// Their gates and units, or their gates alone.
    pub(super) gate_up: Matrix,
    /// Their units, where the file stores them unlike their gates.
    pub(super) up: Option<Matrix>,
    /// Their projections.
    pub(super) down: Matrix,
}

/// A piece that is all of a tensor.
fn whole_tensor(tensor: String, rows: usize) -> Piece {
    Piece { tensor, first: 0, rows, heads: None }
}

/// Whether the table of embeddings serves as the head too: the file has no head, or one that holds the same, by rows all over it, for heads that
/// were trained apart differ in all. Of a file that is fetched by range, of which nothing is here yet, the configuration is believed.
fn is_tied(file: &TensorFile, naming: Naming, config: &DecoderConfig) -> Result<bool> {
    let (table, head) = (naming.embedding(), naming.head());
    let (Some(stored), Some(beside)) = (file.get(&table), file.get(head)) else { return Ok(config.tied) };
    let known = [config.vocabulary, config.hidden] == *stored.shape;
    if !config.tied || !known || (stored.shape, stored.storage) != (beside.shape, beside.storage) {
        return Ok(false);
    }
    let apart = config.vocabulary.div_ceil(COMPARED_ROWS);
    let rows = (0..config.vocabulary).step_by(apart.max(1)).chain(config.vocabulary.checked_sub(1));
    for row in rows.filter(|_| file.feed().is_none()) {
        if file.rows(&table, row..row + 1)? != file.rows(head, row..row + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tensors of a matrix with their shapes, and those of its bias.
fn tensors_of(matrix: Matrix, bias: bool) -> Vec<(String, Vec<usize>)> {
    let columns = matrix.columns;
    let mut tensors: Vec<(String, usize)> = Vec::new();
    for piece in matrix.pieces {
        match tensors.last_mut().filter(|(tensor, _)| *tensor == piece.tensor) {
            Some((_, rows)) => *rows += piece.rows,
            None => tensors.push((piece.tensor, piece.rows)),
        }
    }
    let both = |(tensor, rows): (String, usize)| {
        let bias = bias.then(|| (bias_of(&tensor), vec![rows]));
        bias.into_iter().chain([(tensor, vec![rows, columns])])
    };
    tensors.into_iter().flat_map(both).collect()
}

/// A decoder's weights and what they are.
#[derive(Debug, Clone)]
pub(super) struct Tensors {
    file: TensorFile,
    naming: Naming,
    config: DecoderConfig,
}

impl Tensors {
    /// Joins the configuration with the weights it describes. A head of its own comes before what the configuration says of one.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with every tensor that is missing or mis-shaped, or of a layer and without a place; [`Error::Weights`] for
    /// what cannot be read.
    pub(super) fn new(file: TensorFile, mut config: DecoderConfig) -> Result<Tensors> {
        let naming = Naming::of_file(&file, config.post_norm);
        config.tied = is_tied(&file, naming, &config)?;
        let tensors = Tensors { file, naming, config };
        let problems = tensors.problems();
        if !problems.is_empty() {
            let (file, model) = (tensors.file.file().to_owned(), tensors.config.model_type.clone());
            return Err(Error::Incomplete { file, model, problems: Problems(problems) });
        }
        Ok(tensors)
    }

    /// What fetches the file, if it is not here.
    pub(super) fn feed(&self) -> Option<Feed> {
        self.file.feed().cloned()
    }

    pub(super) fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The most bytes of a constant: what a device with `caps` can bind; little more than the file's largest tensor, whatever is joined; and
    /// where the file is fetched piece by piece, what lets no more than a piece and its panel be in memory at once.
    pub(super) fn limit(&self, caps: &Caps) -> u64 {
        let limit = caps.max_binding_bytes.min(caps.max_buffer_bytes);
        #[cfg(not(target_arch = "wasm32"))]
        let limit = limit.min(self.largest() + JOINED_BYTES);
        if self.feed().is_some() { limit.min(FED_BYTES) } else { limit }
    }

    /// Bytes of the file's largest tensor.
    #[cfg(not(target_arch = "wasm32"))]
    fn largest(&self) -> u64 {
        self.file.tensors().map(|tensor| tensor.bytes).max().unwrap_or(0)
    }

    /// Every tensor of the network with its shape. One after another: a configuration may speak of far more than a file holds.
    fn expected(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let head = (!self.config.tied).then(|| self.head());
        let ends = [self.embedding()].into_iter().chain(head).flat_map(|matrix| tensors_of(matrix, false));
        let last = (self.naming.last_norm(), vec![self.config.hidden]);
        ends.chain((0..self.config.layers).flat_map(|layer| self.expected_in(layer))).chain([last])
    }

    /// The tensors of a layer with their shapes.
    fn expected_in(&self, layer: usize) -> Vec<(String, Vec<usize>)> {
        let c = &self.config;
        let mut all = tensors_of(self.qkv(layer), c.qkv_bias);
        all.extend(tensors_of(self.output(layer), c.output_bias));
        match self.mixture(layer) {
            None => {
                all.extend(tensors_of(self.gate_up(layer), c.mlp_bias));
                all.extend(tensors_of(self.down(layer), c.mlp_bias));
            }
            Some(mixture) => {
                all.extend(tensors_of(self.router(layer, mixture), false));
                let (gates, down) = ([mixture.width, c.hidden], [c.hidden, mixture.width]);
                for (part, shape) in [(Part::Gate, gates), (Part::Up, gates), (Part::Down, down)] {
                    let tensor = |expert: usize| self.naming.of_expert(layer, part, expert).0;
                    match self.naming {
                        Naming::HuggingFace { .. } => {
                            all.extend((0..mixture.experts).map(|expert| (tensor(expert), shape.to_vec())));
                        }
                        Naming::Gguf => all.push((tensor(0), [&[mixture.experts], &shape[..]].concat())),
                    }
                }
            }
        }
        let post = [Part::AfterAttention, Part::AfterUnits].into_iter().filter(|_| c.post_norm);
        let norms = [Part::AttentionNorm, Part::UnitsNorm].into_iter().chain(post);
        all.extend(norms.map(|norm| (self.naming.of(layer, norm), vec![c.hidden])));
        let heads = [Part::QueryNorm, Part::KeyNorm].into_iter().filter(|_| c.head_norm);
        all.extend(heads.map(|norm| (self.naming.of(layer, norm), vec![c.head])));
        all
    }

    /// Every tensor of the network once: its names in the file, its name in a GGUF file, and its shape there. It has several names where a
    /// GGUF file stacks what others have apart, the matrices of a layer's experts.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn names_for_gguf(&self) -> Vec<(Vec<String>, String, Vec<usize>)> {
        let gguf = Tensors { naming: Naming::Gguf, ..self.clone() };
        let alone = |tensors: &Tensors| {
            let experts: Vec<String> = (0..self.config.layers).flat_map(|layer| tensors.experts(layer)).collect();
            let experts: std::collections::BTreeSet<String> = experts.into_iter().collect();
            tensors.expected().filter(move |(name, _)| !experts.contains(name)).collect::<Vec<_>>()
        };
        let both = alone(self).into_iter().zip(alone(&gguf));
        let mut all: Vec<_> = both.map(|((name, shape), (gguf, _))| (vec![name], gguf, shape)).collect();
        for layer in 0..self.config.layers {
            let Some(mixture) = self.mixture(layer) else { continue };
            let (gates, down) = ([mixture.width, self.config.hidden], [self.config.hidden, mixture.width]);
            for (part, shape) in [(Part::Gate, gates), (Part::Up, gates), (Part::Down, down)] {
                let names = (0..mixture.experts).map(|expert| self.naming.of_expert(layer, part, expert).0).collect();
                let stack = Naming::Gguf.of_expert(layer, part, 0).0;
                all.push((names, stack, [&[mixture.experts], &shape[..]].concat()));
            }
        }
        all
    }

    /// The names of the tensors of a layer's experts.
    #[cfg(not(target_arch = "wasm32"))]
    fn experts(&self, layer: usize) -> Vec<String> {
        let count = self.mixture(layer).map_or(0, |mixture| mixture.experts);
        let name = |part: Part| move |expert: usize| self.naming.of_expert(layer, part, expert).0;
        [Part::Gate, Part::Up, Part::Down].into_iter().flat_map(|part| (0..count).map(name(part))).collect()
    }

    /// What is wrong with the tensors, up to [`MOST_PROBLEMS`]. Outside the layers a file may hold what it likes: other parts of a larger
    /// model, or heads of another use.
    fn problems(&self) -> Vec<Problem> {
        let mut placed = HashSet::new();
        let problem = |(name, shape): (String, Vec<usize>)| {
            let expected = shape.iter().copied().map(Some).collect();
            let Some(tensor) = self.file.get(&name) else {
                return Some(Problem::Missing { name, expected, or_batch_norm: None });
            };
            placed.insert(tensor.name);
            (tensor.shape != shape).then(|| Problem::Shape { expected, found: tensor.shape.to_vec(), name })
        };
        let mut problems: Vec<Problem> = self.expected().filter_map(problem).take(MOST_PROBLEMS).collect();
        let layers = self.naming.layers();
        let foreign = |name: &&str| {
            name.starts_with(&layers) && !placed.contains(name) && !TABLES.iter().any(|table| name.contains(table))
        };
        let foreign = self.file.names().filter(foreign).take(MOST_PROBLEMS - problems.len());
        problems.extend(foreign.map(|name| Problem::Unexpected { name: name.to_owned() }));
        problems
    }

    /// The table of embeddings.
    pub(super) fn embedding(&self) -> Matrix {
        self.whole("embedding", self.naming.embedding(), self.config.vocabulary, self.config.hidden)
    }

    /// The matrix of the logits.
    pub(super) fn head(&self) -> Matrix {
        if self.config.tied {
            return self.embedding();
        }
        self.whole("head", self.naming.head().to_owned(), self.config.vocabulary, self.config.hidden)
    }

    /// Queries, keys and values of a layer.
    pub(super) fn qkv(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let parts = [(Part::Queries, c.query_heads), (Part::Keys, c.key_heads), (Part::Values, c.key_heads)];
        let turned = match (c.interleaved, c.turned) {
            (true, _) => Some(Heads::Interleaved(c.head)),
            (false, turned) if turned < c.head => Some(Heads::Partial { head: c.head, turned }),
            _ => None,
        };
        let piece = |(part, heads): (Part, usize)| Piece {
            tensor: self.naming.of(layer, part),
            first: 0,
            rows: heads * c.head,
            heads: turned.filter(|_| part != Part::Values),
        };
        let fused = |(heads, before, order): (usize, usize, Option<Heads>)| Piece {
            tensor: self.naming.of(layer, Part::FusedAttention),
            first: before * c.head,
            rows: heads * c.head,
            heads: order,
        };
        let both = c.query_heads + c.key_heads;
        let pieces = match (c.fused, turned) {
            (true, None) => vec![fused((both + c.key_heads, 0, None))],
            (true, order) => [(both, 0, order), (c.key_heads, both, None)].map(fused).to_vec(),
            (false, _) => parts.map(piece).to_vec(),
        };
        Matrix { name: format!("layers.{layer}.qkv"), pieces, columns: c.hidden, rows: Rows::Stacked, stack: None }
    }

    /// [`Tensors::qkv`] in matrices that the file stores alike: one of all three, or of two of them, or of each.
    pub(super) fn qkv_parts(&self, layer: usize) -> Vec<Matrix> {
        self.alike(self.qkv(layer), |pieces| format!("layers.{layer}.{}", &"qkv"[pieces]))
    }

    /// [`Tensors::gate_up`], or gates and units in a matrix each where the file stores them unlike.
    pub(super) fn gate_up_parts(&self, layer: usize) -> Vec<Matrix> {
        self.alike(self.gate_up(layer), |pieces| format!("layers.{layer}.{}", ["gate", "up"][pieces.start]))
    }

    /// A matrix whole where the file stores its tensors alike, else in several, which `name` calls by the pieces that they have.
    fn alike(&self, whole: Matrix, name: impl Fn(Range<usize>) -> String) -> Vec<Matrix> {
        let runs = whole.alike(&self.file);
        if runs.len() == 1 {
            return vec![whole];
        }
        let named = |(first, run): (usize, Matrix)| Matrix { name: name(first..first + run.pieces.len()), ..run };
        runs.into_iter().map(named).collect()
    }

    /// The projection of a layer's attention.
    pub(super) fn output(&self, layer: usize) -> Matrix {
        let c = &self.config;
        self.whole(
            &format!("layers.{layer}.output"),
            self.naming.of(layer, Part::Output),
            c.hidden,
            c.query_heads * c.head,
        )
    }

    /// Gates and units of a layer.
    pub(super) fn gate_up(&self, layer: usize) -> Matrix {
        let c = &self.config;
        let piece = |part: Part, rows: usize| whole_tensor(self.naming.of(layer, part), rows);
        let pieces = match c.fused {
            true => vec![piece(Part::FusedUnits, 2 * c.intermediate)],
            false => vec![piece(Part::Gate, c.intermediate), piece(Part::Up, c.intermediate)],
        };
        Matrix { name: format!("layers.{layer}.gate_up"), pieces, columns: c.hidden, rows: Rows::Gated, stack: None }
    }

    /// The projection of a layer's units.
    pub(super) fn down(&self, layer: usize) -> Matrix {
        let c = &self.config;
        self.whole(&format!("layers.{layer}.down"), self.naming.of(layer, Part::Down), c.hidden, c.intermediate)
    }

    fn whole(&self, name: &str, tensor: String, rows: usize, columns: usize) -> Matrix {
        let pieces = vec![whole_tensor(tensor, rows)];
        Matrix { name: name.to_owned(), pieces, columns, rows: Rows::Stacked, stack: None }
    }

    /// What a layer's experts are, if it has any.
    pub(super) fn mixture(&self, layer: usize) -> Option<&Mixture> {
        let has = |mixture: &&Mixture| mixture.layers.get(layer).copied().unwrap_or(false);
        self.config.mixture.as_ref().filter(has)
    }

    /// The matrix whose results choose a layer's experts.
    pub(super) fn router(&self, layer: usize, mixture: &Mixture) -> Matrix {
        let tensor = self.naming.of(layer, Part::Router);
        self.whole(&format!("layers.{layer}.router"), tensor, mixture.experts, self.config.hidden)
    }

    /// The matrices of a layer's experts, in as few stacks as the file stores alike and as let no tensor take more than `limit` bytes, where
    /// one expert's do not.
    pub(super) fn stacks(&self, layer: usize, mixture: &Mixture, limit: u64) -> Vec<Stack> {
        let schemes = |expert: usize| {
            [Part::Gate, Part::Up, Part::Down]
                .map(|part| stored(&self.file, &self.naming.of_expert(layer, part, expert).0))
        };
        let experts: Vec<_> = (0..mixture.experts).map(|expert| (expert, schemes(expert))).collect();
        let runs = experts.chunk_by(|a, b| a.1 == b.1).map(|run| run[0].0..run[0].0 + run.len());
        runs.flat_map(|run| self.stacks_of(layer, mixture, run, limit)).collect()
    }

    /// As [`Tensors::stacks`], of experts that are stored alike.
    fn stacks_of(&self, layer: usize, mixture: &Mixture, run: Range<usize>, limit: u64) -> Vec<Stack> {
        let all = run.len();
        let whole = self.stack(layer, mixture, run.clone());
        let descs = |m: &Matrix| m.scheme(&self.file).descs(m.height(), m.columns);
        let tensors = [&whole.gate_up, &whole.down].into_iter().chain(&whole.up).flat_map(descs);
        let each = tensors.map(|desc| desc.bytes()).max().unwrap_or(0).div_ceil(all as u64).max(1);
        let stacks = (all as u64).div_ceil((limit / each).max(1)) as usize;
        if stacks == 1 {
            return vec![whole];
        }
        let share = all.div_ceil(stacks);
        let part = |first: usize| self.stack(layer, mixture, first..run.end.min(first + share));
        run.clone().step_by(share).map(part).collect()
    }

    /// The matrices of some of a layer's experts.
    fn stack(&self, layer: usize, mixture: &Mixture, experts: Range<usize>) -> Stack {
        let hidden = self.config.hidden;
        let piece = |expert: usize, part: Part, rows: usize| {
            let (tensor, before) = self.naming.of_expert(layer, part, expert);
            Piece { tensor, first: before * rows, rows, heads: None }
        };
        let gates = |expert: usize| [Part::Gate, Part::Up].map(|part| piece(expert, part, mixture.width));
        let (first, count) = (experts.start, experts.len());
        let run = if count == mixture.experts { String::new() } else { format!(".{first}-{}", experts.end - 1) };
        let matrix = |name: &str, pieces: Vec<Piece>, columns: usize, rows: Rows| Matrix {
            name: format!("layers.{layer}.experts{run}.{name}"),
            pieces,
            columns,
            rows,
            stack: Some(count),
        };
        let down = experts.clone().map(|expert| piece(expert, Part::Down, hidden)).collect();
        let down = matrix("down", down, mixture.width, Rows::Stacked);
        let gate_up = matrix("gate_up", experts.clone().flat_map(gates).collect(), hidden, Rows::Gated);
        let [gate, up] = gates(first).map(|piece| stored(&self.file, &piece.tensor));
        if gate == up {
            return Stack { first, count, gate_up, up: None, down };
        }
        let [gate_up, up] = [("gate", Part::Gate), ("up", Part::Up)].map(|(name, part)| {
            let pieces = experts.clone().map(|expert| piece(expert, part, mixture.width)).collect();
            matrix(name, pieces, hidden, Rows::Stacked)
        });
        Stack { first, count, gate_up, up: Some(up), down }
    }

    /// [`Matrix::parts`].
    pub(super) fn parts(&self, matrix: &Matrix, limit: u64) -> Vec<Matrix> {
        matrix.parts(&self.file, limit)
    }

    /// Whether a matrix can be multiplied with inputs in bytes.
    pub(super) fn is_bytes(&self, matrix: &Matrix) -> bool {
        matrix.scheme(&self.file).is_bytes()
    }

    /// The tensors of a matrix, as constants of a plan.
    pub(super) fn constants(&self, builder: &mut PlanBuilder, matrix: &Matrix) -> Vec<TensorId> {
        let descs = matrix.scheme(&self.file).descs(matrix.height(), matrix.columns);
        let constant = |desc: Desc| {
            let (file, matrix, made) = (self.file.clone(), matrix.clone(), desc.clone());
            let name = format!("{}.{}", matrix.name, desc.format.label());
            let make: Maker = Arc::new(move || matrix.tensor(&file, &made));
            builder.constant(name, desc, make)
        };
        descs.into_iter().map(constant).collect()
    }

    /// The bias of a matrix, its values in the order of the matrix's rows, as a constant of a plan.
    pub(super) fn bias(&self, builder: &mut PlanBuilder, matrix: &Matrix) -> TensorId {
        let (file, of, desc) = (self.file.clone(), matrix.clone(), Desc::f32([matrix.height()]));
        let made = desc.clone();
        let make: Maker = Arc::new(move || {
            let mut values = vec![0.0; of.height()];
            for (at, piece) in of.pieces.iter().enumerate() {
                let bias = file.f32(&bias_of(&piece.tensor)).map_err(|error| error.to_string())?;
                let own = bias.into_iter().skip(piece.first).take(piece.rows);
                own.enumerate().for_each(|(row, value)| values[of.place(at, row)] = value);
            }
            Ok(HostTensor::from_values(made.clone(), &values))
        });
        builder.constant(format!("{}.bias", matrix.name), desc, make)
    }

    /// The gain of a layer's norm, as a constant of a plan.
    pub(super) fn gain(&self, builder: &mut PlanBuilder, layer: usize, norm: Part) -> TensorId {
        self.gains(builder, vec![self.naming.of(layer, norm)], vec![self.config.hidden])
    }

    /// The gain of the norm before the head, as a constant of a plan.
    pub(super) fn last_gain(&self, builder: &mut PlanBuilder) -> TensorId {
        self.gains(builder, vec![self.naming.last_norm()], vec![self.config.hidden])
    }

    /// What tells these weights from others of their shapes: a hash of the network's tensors, how they are stored, and the middle row of each; of
    /// experts that of the first few. Of a file that is fetched by range only the gain before the head is read.
    ///
    /// # Errors
    /// [`Error::Weights`] for what cannot be read.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            bytes.iter().for_each(|byte| hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        };
        let last = self.naming.last_norm();
        for (name, shape) in self.expected() {
            let Some(tensor) = self.file.get(&name) else { continue };
            add(name.as_bytes());
            add(tensor.storage.to_string().as_bytes());
            let [.., columns] = shape[..] else { continue };
            let expert =
                name.split_once(".experts.").and_then(|(_, rest)| rest.split('.').next()?.parse::<usize>().ok());
            if expert.is_some_and(|expert| expert >= HASHED_EXPERTS) || self.file.feed().is_some() && name != last {
                continue;
            }
            let middle = shape.iter().product::<usize>() / columns.max(1) / 2;
            add(&self.file.rows(&name, middle..middle + 1)?);
        }
        Ok(format!("{hash:016x}"))
    }

    /// The gains of the heads of queries, and of keys, as a constant of a plan.
    pub(super) fn head_gains(&self, builder: &mut PlanBuilder, layer: usize) -> TensorId {
        let names = [Part::QueryNorm, Part::KeyNorm].map(|norm| self.naming.of(layer, norm));
        self.gains(builder, names.to_vec(), vec![2, self.config.head])
    }

    /// Gains of the file joined, each with what the model adds to it.
    fn gains(&self, builder: &mut PlanBuilder, names: Vec<String>, shape: Vec<usize>) -> TensorId {
        let (file, offset, desc) = (self.file.clone(), self.config.gain_offset, Desc::f32(shape));
        let (name, made) = (names.join("+"), desc.clone());
        let make: Maker = Arc::new(move || {
            let mut values = Vec::with_capacity(made.len());
            for name in &names {
                values.extend(file.f32(name).map_err(|error| error.to_string())?.into_iter().map(|v| v + offset));
            }
            Ok(HostTensor::from_values(made.clone(), &values))
        });
        builder.constant(name, desc, make)
    }
}

#[cfg(test)]
mod tests;
