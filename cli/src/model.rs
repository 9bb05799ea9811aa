//! Which model a job means: files on disk, a model that was pulled from a hub, or the one that is part of the program.

use crate::failure::Failure;
#[cfg(feature = "pull")]
use crate::hub::{HubError, HubName, Place};
use crate::{output, texts};
use lampyris::text_model::{TextFiles, TextModel};
use lampyris::{Classifier, ClassifierOptions, Gpu, Source};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What is said of a bundled model where it answers because no other was named.
#[cfg(feature = "bundled")]
const SKETCHES_LIMITS: &str = "the bundled model answers, which takes every picture for a digit or for one of 22 simple drawings; for anything else name \
     a model with --model";
#[cfg(feature = "bundled")]
const STORYTELLER_LIMITS: &str = "the bundled storyteller answers, which knows short stories in simple English and what is asked about them; for anything \
     else name a model with --model";

/// The model that a job means, found before a device is opened.
pub(crate) struct Chosen {
    /// As it was named.
    name: String,
    /// Where it lies; nowhere if it is part of the program.
    path: Option<PathBuf>,
    /// What is to be said of it to people.
    note: Option<&'static str>,
}

/// A loaded model, what it is called, and what is to be said of it to people.
pub(crate) struct Loaded<M> {
    pub(crate) model: M,
    pub(crate) name: String,
    pub(crate) note: Option<&'static str>,
}

impl Chosen {
    /// The classifier that was named, or the bundled one.
    pub(crate) fn classifier(named: Option<&Path>) -> Result<Chosen, Failure> {
        Chosen::at(named).unwrap_or_else(bundled::classifier)
    }

    /// The language model that was named, or the bundled one.
    pub(crate) fn text(named: Option<&Path>) -> Result<Chosen, Failure> {
        Chosen::at(named).unwrap_or_else(bundled::text)
    }

    fn at(named: Option<&Path>) -> Option<Result<Chosen, Failure>> {
        let chosen = |path: &Path| Ok(Chosen { name: path.display().to_string(), path: Some(find(path)?), note: None });
        named.map(chosen)
    }

    /// Loads the classifier.
    pub(crate) fn load_classifier(self, gpu: &Gpu, options: ClassifierOptions) -> Result<Loaded<Classifier>, Failure> {
        let source = match self.path {
            Some(path) => Source::from(path),
            None => bundled::sketches()?,
        };
        let model = gpu.block_on(Classifier::load_with(gpu, source, options, |_| ()))?;
        Ok(Loaded { model, name: self.name, note: self.note })
    }

    /// Loads the language model, or what `changed` makes of it by its small files and its name; it may refuse it before weights are read.
    pub(crate) fn load_text(
        self,
        gpu: &Gpu,
        changed: impl FnOnce(TextModel, &str) -> Result<TextModel, Failure>,
    ) -> Result<Loaded<TextModel>, Failure> {
        let files = match self.path {
            Some(path) => {
                texts::language(&path)?;
                TextFiles::open(path)?
            }
            None => bundled::storyteller()?,
        };
        let model = changed(TextModel::new(gpu, files)?, &self.name)?;
        gpu.block_on(model.decoder().load(output::arriving()))?;
        Ok(Loaded { model, name: self.name, note: self.note })
    }
}

/// Where the files of a model are: the path itself, or what was pulled by this name.
#[cfg(feature = "pull")]
pub(crate) fn find(model: &Path) -> Result<PathBuf, Failure> {
    if model.exists() {
        return refuse_outer(model).map(|()| model.to_owned());
    }
    let Some(name) = model.to_str().and_then(HubName::parse) else { return Ok(model.to_owned()) };
    let place = Place::of(&name)?;
    place.find().ok_or_else(|| {
        let others = place.revisions();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(" (of this model there is {})", others.join(", ")),
        };
        HubError::NotPulled { name: name.to_string(), others }.into()
    })
}

/// Where the files of a model are: the path itself.
#[cfg(not(feature = "pull"))]
pub(crate) fn find(model: &Path) -> Result<PathBuf, Failure> {
    refuse_outer(model).map(|()| model.to_owned())
}

/// Refuses a folder that holds nothing of a model where folders in it do.
fn refuse_outer(folder: &Path) -> Result<(), Failure> {
    /// How many are named.
    const MOST: usize = 8;
    let inside = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    };
    let of_model = |path: &PathBuf| {
        let named =
            |names: [&str; 2], name: Option<&OsStr>| name.is_some_and(|name| names.iter().any(|it| name == *it));
        named(["safetensors", "gguf"], path.extension()) || named(["config.json", "modules.json"], path.file_name())
    };
    let all = inside(folder);
    if all.iter().any(of_model) {
        return Ok(());
    }
    let holds = |path: &&PathBuf| path.is_dir() && inside(path).iter().any(of_model);
    let name = |path: &PathBuf| path.file_name().map(|name| output::one_line(&name.to_string_lossy()));
    let mut inner: Vec<String> = all.iter().filter(holds).filter_map(name).collect();
    inner.sort();
    inner.truncate(MOST);
    match inner.is_empty() {
        true => Ok(()),
        false => Err(Failure::OuterFolder { folder: folder.display().to_string(), inner }),
    }
}

#[cfg(feature = "bundled")]
mod bundled {
    //! The models that are part of the program.

    use super::{Chosen, SKETCHES_LIMITS, STORYTELLER_LIMITS};
    use crate::failure::Failure;
    use lampyris::bundled::{SKETCHES, STORYTELLER};
    use lampyris::{Source, text_model::TextFiles};

    pub(super) fn classifier() -> Result<Chosen, Failure> {
        Ok(Chosen { name: SKETCHES.to_owned(), path: None, note: Some(SKETCHES_LIMITS) })
    }

    pub(super) fn text() -> Result<Chosen, Failure> {
        Ok(Chosen { name: STORYTELLER.to_owned(), path: None, note: Some(STORYTELLER_LIMITS) })
    }

    pub(super) fn sketches() -> Result<Source, Failure> {
        Ok(lampyris::bundled::sketches()?)
    }

    pub(super) fn storyteller() -> Result<TextFiles, Failure> {
        Ok(lampyris::bundled::storyteller()?)
    }
}

#[cfg(not(feature = "bundled"))]
mod bundled {
    //! What is said where no model is part of the program.

    use super::Chosen;
    use crate::failure::Failure;
    use lampyris::{Source, text_model::TextFiles};

    pub(super) fn classifier() -> Result<Chosen, Failure> {
        Err(Failure::NoBundled)
    }

    pub(super) fn text() -> Result<Chosen, Failure> {
        Err(Failure::NoBundled)
    }

    pub(super) fn sketches() -> Result<Source, Failure> {
        Err(Failure::NoBundled)
    }

    pub(super) fn storyteller() -> Result<TextFiles, Failure> {
        Err(Failure::NoBundled)
    }
}
