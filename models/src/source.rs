//! Where a model comes from: a file or folder on native, bytes anywhere.

#[cfg(not(target_arch = "wasm32"))]
use crate::Error;
use crate::Result;
#[cfg(feature = "tokens")]
use crate::encoder::EncoderFiles;
use crate::mobilenet::ModelConfig;
#[cfg(feature = "tokens")]
use crate::text_model::TextFiles;
use lampyris_engine::weights::Weights;
#[cfg(not(target_arch = "wasm32"))]
use lampyris_engine::weights::WeightsError;
#[cfg(feature = "tokens")]
use lampyris_engine::weights::gguf::Gguf;
#[cfg(not(target_arch = "wasm32"))]
use std::path::{Path, PathBuf};

/// The largest configuration file that is read, in bytes.
#[cfg(not(target_arch = "wasm32"))]
const MOST_CONFIG: u64 = 16 << 20;

/// A model's files.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Source {
    /// A `.safetensors` file, the index of several (`model.safetensors.index.json`), or a folder with either; `config.json` and
    /// `preprocessor_config.json` are read from the same folder where they exist.
    #[cfg(not(target_arch = "wasm32"))]
    Path(PathBuf),
    /// Files that are in memory already.
    Files {
        /// The weights.
        weights: Weights,
        /// `config.json`.
        config: Option<Vec<u8>>,
        /// `preprocessor_config.json`.
        preprocessor: Option<Vec<u8>>,
    },
}

#[cfg(not(target_arch = "wasm32"))]
impl<T: AsRef<Path> + ?Sized> From<&T> for Source {
    fn from(path: &T) -> Source {
        Source::Path(path.as_ref().to_owned())
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::Path(path)
    }
}

/// Where the files of a language model or a sentence encoder come from: a path on native, [`TextFiles`] or
/// [`EncoderFiles`] in memory anywhere, or a GGUF file alone, which holds everything.
#[cfg(feature = "tokens")]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FilesFrom<F> {
    /// A folder, or a file of weights with the others beside it.
    #[cfg(not(target_arch = "wasm32"))]
    Path(PathBuf),
    /// Files that are in memory already.
    Memory(F),
}

#[cfg(all(feature = "tokens", not(target_arch = "wasm32")))]
impl<F, T: AsRef<Path> + ?Sized> From<&T> for FilesFrom<F> {
    fn from(path: &T) -> FilesFrom<F> {
        FilesFrom::Path(path.as_ref().to_owned())
    }
}

#[cfg(all(feature = "tokens", not(target_arch = "wasm32")))]
impl<F> From<PathBuf> for FilesFrom<F> {
    fn from(path: PathBuf) -> FilesFrom<F> {
        FilesFrom::Path(path)
    }
}

#[cfg(all(feature = "tokens", not(target_arch = "wasm32")))]
impl<F> From<String> for FilesFrom<F> {
    fn from(path: String) -> FilesFrom<F> {
        FilesFrom::Path(path.into())
    }
}

#[cfg(feature = "tokens")]
impl From<TextFiles> for FilesFrom<TextFiles> {
    fn from(files: TextFiles) -> FilesFrom<TextFiles> {
        FilesFrom::Memory(files)
    }
}

#[cfg(feature = "tokens")]
impl From<EncoderFiles> for FilesFrom<EncoderFiles> {
    fn from(files: EncoderFiles) -> FilesFrom<EncoderFiles> {
        FilesFrom::Memory(files)
    }
}

#[cfg(feature = "tokens")]
impl From<Gguf> for FilesFrom<TextFiles> {
    fn from(gguf: Gguf) -> FilesFrom<TextFiles> {
        FilesFrom::Memory(TextFiles::new(gguf.into(), None))
    }
}

#[cfg(feature = "tokens")]
impl From<Gguf> for FilesFrom<EncoderFiles> {
    fn from(gguf: Gguf) -> FilesFrom<EncoderFiles> {
        FilesFrom::Memory(EncoderFiles::new(gguf.into(), None))
    }
}

impl Source {
    /// Opens the weights and reads the configuration.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Unreadable`] with the path and what it should hold; [`Error::Weights`]; those of
    /// [`ModelConfig::read`].
    pub fn open(&self) -> Result<(Weights, ModelConfig)> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Source::Path(path) => open(path),
            Source::Files { weights, config, preprocessor } => {
                let config = config.as_deref().map(|bytes| ("config.json", bytes));
                let preprocessor = preprocessor.as_deref().map(|bytes| ("preprocessor_config.json", bytes));
                Ok((weights.clone(), ModelConfig::read(config, preprocessor)?))
            }
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn open(path: &Path) -> Result<(Weights, ModelConfig)> {
    let shown = path.display().to_string();
    if !path.exists() {
        return Err(Error::Missing { path: shown });
    }
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let weights = match Weights::open(path) {
        Err(WeightsError::NoWeights { .. }) => return Err(Error::NoWeights { folder: shown }),
        opened => opened?,
    };
    let [config, preprocessor] = ["config.json", "preprocessor_config.json"].map(|name| {
        let beside = folder.join(name);
        beside.exists().then(|| (beside.display().to_string(), read(&beside)))
    });
    let unpack =
        |entry: Option<(String, Result<Vec<u8>>)>| entry.map(|(name, bytes)| bytes.map(|b| (name, b))).transpose();
    let (config, preprocessor) = (unpack(config)?, unpack(preprocessor)?);
    let said = ModelConfig::read(
        config.as_ref().map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
        preprocessor.as_ref().map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
    )?;
    Ok((weights, said))
}

#[cfg(not(target_arch = "wasm32"))]
fn read(path: &Path) -> Result<Vec<u8>> {
    read_small(path, MOST_CONFIG)
}

/// Reads an ordinary file of at most `limit` bytes; a pipe or a device, which may never end, is refused before it is opened.
///
/// # Errors
/// [`Error::Unreadable`] with the path and why.
#[cfg(not(target_arch = "wasm32"))]
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let unreadable = |reason: String| Error::Unreadable { path: path.display().to_string(), reason };
    let facts = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !facts.is_file() {
        return Err(unreadable("it is no ordinary file".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(unreadable(format!("it is larger than the {limit} bytes that such a file may have")));
    }
    Ok(bytes)
}
