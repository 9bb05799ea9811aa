//! Joins the shards of a safetensors model by their index, and says what of it is missing, doubled or misplaced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::header::{self, Texts};
use super::shown::{Shown, shortened};
use super::{ByteSource, Inner, Shard, TensorInfo, Weights, WeightsError};

/// Why an index and its shards are not one model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The index is not what an index is.
    #[error("{index}: it is no index of shards ({reason}); it is damaged, download it again")]
    Index {
        /// The index.
        index: String,
        /// The parser's reason, with line and column.
        reason: String,
    },
    /// A shard's name that is more than a name.
    #[error("{index}: the shard {} is no plain file name; export the model again", Shown(.shard))]
    Name {
        /// The index.
        index: String,
        /// The name in it.
        shard: String,
    },
    /// A shard that is not there.
    #[error("{index}: the shard {} with {tensors} of the tensors is missing; download it into the same folder", Shown(.shard))]
    Missing {
        /// The index.
        index: String,
        /// The shard's name.
        shard: String,
        /// How many tensors the index says it has.
        tensors: usize,
    },
    /// A tensor in two shards.
    #[error("{index}: tensor {} is both in {} and in {}; export the model again", Shown(.tensor), Shown(.first), Shown(.second))]
    Twice {
        /// The index.
        index: String,
        /// The tensor.
        tensor: String,
        /// One shard that has it.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor in another shard than the index says.
    #[error("{index}: tensor {} is in {} and the index says {}; download index and shards of one model", Shown(.tensor), Shown(.found), Shown(.expected))]
    Misplaced {
        /// The index.
        index: String,
        /// The tensor.
        tensor: String,
        /// The shard that has it.
        found: String,
        /// The shard that should have it.
        expected: String,
    },
    /// A tensor of the index that no shard has.
    #[error("{index}: tensor {} should be in {} and no shard has it; download index and shards of one model", Shown(.tensor), Shown(.expected))]
    Absent {
        /// The index.
        index: String,
        /// The tensor.
        tensor: String,
        /// The shard that should have it.
        expected: String,
    },
}

/// The part of an index that says where tensors are.
#[derive(Deserialize)]
struct Index {
    weight_map: Texts,
}

impl Weights {
    /// Joins the shards that `index`, the bytes of a `model.safetensors.index.json`, names. `name` stands for the index in
    /// errors. `fetch` is given each shard's file name once and answers with what it is to be called in errors and a source of its
    /// bytes, of which only the header is read; a [`WeightsError::NotFound`] from it becomes [`ShardError::Missing`].
    ///
    /// A tensor that a shard has beside those of the index is part of the result.
    ///
    /// # Errors
    /// [`WeightsError::Shards`] if index and shards do not fit, everything [`Weights::from_bytes`] refuses of a shard, and
    /// whatever `fetch` fails with.
    pub fn from_shards(
        name: &str,
        index: &[u8],
        mut fetch: impl FnMut(&str) -> Result<(String, Box<dyn ByteSource>), WeightsError>,
    ) -> Result<Self, WeightsError> {
        let parsed: Result<Index, _> = serde_json::from_slice(index);
        let Texts(map) = parsed
            .map_err(|error| ShardError::Index { index: name.to_owned(), reason: shortened(&error.to_string()) })?
            .weight_map;
        let files: BTreeSet<&str> = map.values().map(String::as_str).collect();
        let files: Vec<&str> = files.into_iter().collect();
        let mut shards = Vec::with_capacity(files.len());
        let mut tensors: Vec<TensorInfo> = Vec::new();
        let mut metadata = BTreeMap::new();
        for (number, &file) in files.iter().enumerate() {
            if file.is_empty() || file.contains(['/', '\\', ':', '\0']) || file == "." || file == ".." {
                return Err(ShardError::Name { index: name.to_owned(), shard: file.to_owned() }.into());
            }
            let (shown, source) = fetch(file).map_err(|error| match error {
                WeightsError::NotFound { .. } => ShardError::Missing {
                    index: name.to_owned(),
                    shard: file.to_owned(),
                    tensors: map.values().filter(|shard| *shard == file).count(),
                }
                .into(),
                other => other,
            })?;
            let header = header::of_source(&shown, &*source)?;
            tensors.extend(header.tensors.into_iter().map(|tensor| TensorInfo { shard: number, ..tensor }));
            if number == 0 {
                metadata = header.metadata;
            }
            shards.push(Shard { name: shown, source });
        }
        // Sorting keeps the order of shards among tensors of one name.
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        check(name, &map, &files, &tensors)?;
        Ok(Self { file: Arc::new(Inner { name: name.to_owned(), tensors, metadata, shards }) })
    }
}

/// Holds what the shards have against what the index says.
fn check(
    index: &str,
    map: &BTreeMap<String, String>,
    files: &[&str],
    tensors: &[TensorInfo],
) -> Result<(), ShardError> {
    let index = || index.to_owned();
    let shard = |tensor: &TensorInfo| files[tensor.shard].to_owned();
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let (tensor, first, second) = (pair[0].name.clone(), shard(&pair[0]), shard(&pair[1]));
        return Err(ShardError::Twice { index: index(), tensor, first, second });
    }
    for (name, expected) in map {
        let (tensor, expected) = (name.clone(), expected.clone());
        match tensors.binary_search_by(|tensor| tensor.name.cmp(name)) {
            Err(_) => return Err(ShardError::Absent { index: index(), tensor, expected }),
            Ok(at) if files[tensors[at].shard] != expected => {
                return Err(ShardError::Misplaced { index: index(), tensor, found: shard(&tensors[at]), expected });
            }
            Ok(_) => {}
        }
    }
    Ok(())
}
