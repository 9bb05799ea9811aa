//! Which model a job means: files on disk, a model that was pulled from a hub, or the one that is part of the program.

use crate::failure::Failure;
#[cfg(feature = "pull")]
use crate::hub::{HubError, HubName, Place};
use lampyris::text_model::TextModel;
use lampyris::{Classifier, ClassifierOptions, Gpu};
use std::path::{Path, PathBuf};

/// What is said of a bundled model where it answers because no other was named.
#[cfg(feature = "bundled")]
const SKETCHES_LIMITS: &str = "the bundled model answers, which takes every picture for a digit or for one of 22 simple drawings; for anything else name \
     a model with --model";
#[cfg(feature = "bundled")]
const STORYTELLER_LIMITS: &str = "the bundled storyteller answers, which knows short stories in simple English and what is asked about them; for anything \
     else name a model with --model";

/// A loaded model, what it is called, and what is to be said of it to people.
pub(crate) struct Loaded<M> {
    pub(crate) model: M,
    pub(crate) name: String,
    pub(crate) note: Option<&'static str>,
}

impl<M> Loaded<M> {
    fn named(model: M, path: &Path) -> Loaded<M> {
        Loaded { model, name: path.display().to_string(), note: None }
    }
}

/// Where the files of a model are: the path itself, or what was pulled by this name.
#[cfg(feature = "pull")]
pub(crate) fn find(model: &Path) -> Result<PathBuf, Failure> {
    if model.exists() {
        return Ok(model.to_owned());
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
    Ok(model.to_owned())
}

/// Loads the classifier that was named, or the bundled one.
pub(crate) fn classifier(
    named: Option<&Path>,
    gpu: &Gpu,
    options: ClassifierOptions,
) -> Result<Loaded<Classifier>, Failure> {
    match named {
        Some(path) => {
            let source = find(path)?;
            Ok(Loaded::named(gpu.block_on(Classifier::load_with(gpu, source, options, |_| ()))?, path))
        }
        None => bundled::classifier(gpu, options),
    }
}

/// Loads the language model that was named, or the bundled one.
pub(crate) fn text(named: Option<&Path>, gpu: &Gpu) -> Result<Loaded<TextModel>, Failure> {
    match named {
        Some(path) => Ok(Loaded::named(TextModel::load(gpu, find(path)?)?, path)),
        None => bundled::text(gpu),
    }
}

#[cfg(feature = "bundled")]
mod bundled {
    //! The models that are part of the program.

    use super::{Loaded, SKETCHES_LIMITS, STORYTELLER_LIMITS};
    use crate::failure::Failure;
    use lampyris::text_model::TextModel;
    use lampyris::{Classifier, ClassifierOptions, Gpu};

    pub(super) fn classifier(gpu: &Gpu, options: ClassifierOptions) -> Result<Loaded<Classifier>, Failure> {
        let source = lampyris::bundled::sketches()?;
        let model = gpu.block_on(Classifier::load_with(gpu, source, options, |_| ()))?;
        Ok(Loaded { model, name: lampyris::bundled::SKETCHES.to_owned(), note: Some(SKETCHES_LIMITS) })
    }

    pub(super) fn text(gpu: &Gpu) -> Result<Loaded<TextModel>, Failure> {
        let model = TextModel::bundled(gpu)?;
        Ok(Loaded { model, name: lampyris::bundled::STORYTELLER.to_owned(), note: Some(STORYTELLER_LIMITS) })
    }
}

#[cfg(not(feature = "bundled"))]
mod bundled {
    //! What stands in where no model is part of the program.

    use super::Loaded;
    use crate::failure::Failure;
    use lampyris::text_model::TextModel;
    use lampyris::{Classifier, ClassifierOptions, Gpu};

    pub(super) fn classifier(_: &Gpu, _: ClassifierOptions) -> Result<Loaded<Classifier>, Failure> {
        Err(Failure::NoBundled)
    }

    pub(super) fn text(_: &Gpu) -> Result<Loaded<TextModel>, Failure> {
        Err(Failure::NoBundled)
    }
}
