//! `--template`: the format of conversations where a model's files do not say it.

use crate::failure::Failure;
use crate::output;
use lampyris::models::source::read_small;
use lampyris::text::ChatFormat;
use lampyris::text_model::TextModel;
use std::path::Path;

/// The largest template that is read, in bytes. Published ones have some kilobytes.
const MOST: u64 = 4 << 20;

/// What `--template` names.
pub(super) enum Template {
    /// A format with a name.
    Format(ChatFormat),
    /// The text of a file.
    Source(String),
}

impl Template {
    /// Reads it before a device is opened. What is a format's name is no file's; `./NAME` is.
    pub(super) fn read(named: &Path) -> Result<Template, Failure> {
        if let Some(format) = named.to_str().and_then(ChatFormat::from_name) {
            return Ok(Template::Format(format));
        }
        let path = named.display().to_string();
        if !named.exists() {
            return Err(Failure::NoFormat { named: path, known: ChatFormat::ALL.map(ChatFormat::name).to_vec() });
        }
        String::from_utf8(read_small(named, MOST)?).map(Template::Source).map_err(|_| Failure::NoJinja { path })
    }

    /// `model` with it.
    pub(super) fn given_to(&self, model: TextModel) -> Result<TextModel, Failure> {
        let format = match self {
            Template::Source(source) => return Ok(model.with_template(source)?),
            Template::Format(format) => *format,
        };
        if let Some(missing) = format.marks().iter().find(|mark| model.tokenizer().id(mark).is_none()) {
            output::note(&format!(
                "the model's vocabulary has no {missing}, so it was hardly made for {}; another --template may suit it better",
                format.name()
            ));
        }
        Ok(model.with_format(format)?)
    }
}
