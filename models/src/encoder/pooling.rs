//! What follows the network: the modules that sentence-transformers lists in `modules.json`, and how their files say that a text's
//! rows become one.

use crate::json::{self, Object};
use crate::{Error, Result};
use lampyris_engine::kernels::text::{Pooling, SpanPool};
use serde_json::Value;

/// What is made of the rows of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pooled {
    /// How the rows become one.
    pub pooling: Pooling,
    /// The embedding has length one.
    pub normalize: bool,
}

impl Default for Pooled {
    /// What sentence-transformers does with a network that says nothing: the mean, as long as it is.
    fn default() -> Self {
        Pooled { pooling: Pooling::Mean, normalize: false }
    }
}

impl From<Pooled> for SpanPool {
    fn from(pooled: Pooled) -> SpanPool {
        SpanPool { pooling: pooled.pooling, normalize: pooled.normalize }
    }
}

/// The modules of a model: a network, how its rows become one, and perhaps a normalization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Modules {
    /// The folder of the network's files, below the model's; the model's own when empty.
    pub(super) network: String,
    /// The folder of the pooling's file.
    pub(super) pooling: String,
    /// Whether embeddings are normalized.
    pub(super) normalize: bool,
}

impl Modules {
    /// Reads `modules.json`, whose name in errors is `file`.
    ///
    /// # Errors
    /// [`Error::Json`] or [`Error::Config`] for what cannot be read; [`Error::Unsupported`] for modules this library does not know.
    pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Modules> {
        let list = json::list(file, bytes)?;
        let instead = "known are a Transformer, a Pooling after it, and a Normalize at the end if there is one";
        let mut kinds = Vec::new();
        for map in &list {
            let module = Object::top(file, map);
            let kind = module.text("type")?.unwrap_or_default();
            let folder = module.text("path")?.unwrap_or_default();
            let inside = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
            if !folder.is_empty() && !folder.split('/').all(inside) {
                return Err(module.wrong("path", &folder.into(), "a folder below the model's"));
            }
            kinds.push((module, kind.rsplit('.').next().unwrap_or_default(), folder));
        }
        let normalize = kinds.len() == 3;
        for (at, (module, kind, _)) in kinds.iter().enumerate() {
            if ["Transformer", "Pooling", "Normalize"].get(at) != Some(kind) {
                return Err(module.unsupported("type", module.get("type").unwrap_or(&Value::Null), instead));
            }
        }
        let [(_, _, network), (_, _, pooling), ..] = &kinds[..] else {
            let (file, key) = (file.to_owned(), "(top level)".to_owned());
            return Err(Error::Unsupported { file, key, found: format!("a list of {}", kinds.len()), instead });
        };
        Ok(Modules { network: (*network).to_owned(), pooling: (*pooling).to_owned(), normalize })
    }
}

/// The keys of a pooling's file that stand for what is known.
const KNOWN: [(&str, Pooling); 5] = [
    ("pooling_mode_mean_tokens", Pooling::Mean),
    ("pooling_mode_cls_token", Pooling::First),
    ("pooling_mode_lasttoken", Pooling::Last),
    ("pooling_mode_max_tokens", Pooling::Max),
    ("pooling_mode_mean_sqrt_len_tokens", Pooling::RootMean),
];

/// Reads a pooling's `config.json`, whose name in errors is `file`, for a network of `hidden` columns.
///
/// # Errors
/// As [`Modules::read`].
pub(super) fn read_pooling(file: &str, bytes: &[u8], hidden: usize) -> Result<Pooling> {
    let map = json::parse(file, bytes)?;
    let top = Object::top(file, &map);
    let instead = "known are one of mean, cls, lasttoken, max and mean_sqrt_len";
    top.count("word_embedding_dimension", |columns| columns == hidden as u64, "the network's hidden_size")?;
    if top.flag("include_prompt")? == Some(false) {
        return Err(top.unsupported("include_prompt", &false.into(), "prompts are part of what is pooled"));
    }
    let mut asked = None;
    for (key, value) in top.entries().filter(|(key, _)| key.starts_with("pooling_mode_")) {
        if top.flag(key)? != Some(true) {
            continue;
        }
        let known = KNOWN.iter().find(|(known, _)| *known == key);
        match known {
            Some((_, pooling)) if asked.is_none() => asked = Some(*pooling),
            Some(_) => return Err(top.unsupported(key, value, "several ways of pooling joined are not known; one is")),
            None => return Err(top.unsupported(key, value, instead)),
        }
    }
    if asked.is_none()
        && let Some(name) = top.text("pooling_mode")?
    {
        asked = match name {
            "mean" => Some(Pooling::Mean),
            "cls" => Some(Pooling::First),
            "lasttoken" => Some(Pooling::Last),
            "max" => Some(Pooling::Max),
            "mean_sqrt_len_tokens" => Some(Pooling::RootMean),
            other => return Err(top.unsupported("pooling_mode", &other.into(), instead)),
        };
    }
    asked.ok_or_else(|| top.unsupported("pooling_mode", &Value::Null, instead))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(types: &[&str]) -> Result<Modules> {
        let path = |kind: &str| if kind.ends_with("Transformer") { String::new() } else { format!("1_{kind}") };
        let module = |kind: &&str| serde_json::json!({"type": format!("sentence_transformers.models.{kind}"), "path": path(kind)});
        let list: Vec<Value> = types.iter().map(module).collect();
        Modules::read("modules.json", Value::from(list).to_string().as_bytes())
    }

    #[test]
    fn the_usual_modules_are_read_and_others_named() {
        let read = modules(&["Transformer", "Pooling", "Normalize"]).unwrap();
        assert_eq!(read, Modules { network: String::new(), pooling: "1_Pooling".to_owned(), normalize: true });
        assert!(!modules(&["Transformer", "Pooling"]).unwrap().normalize);
        for (types, named) in [
            (&["Transformer", "Pooling", "Dense", "Normalize"][..], "Dense"),
            (&["Pooling", "Transformer"][..], "Pooling"),
            (&["Transformer", "Pooling", "Normalize", "Normalize"][..], "Normalize"),
            (&["Transformer"][..], "Pooling after it"),
            (&[][..], "Pooling after it"),
            (&["WordEmbeddings", "Pooling"][..], "WordEmbeddings"),
        ] {
            let error = modules(types).unwrap_err().to_string();
            assert!(error.contains("modules.json") && error.contains(named), "{named} is not in: {error}");
        }
        for bytes in [&b"{}"[..], b"[1]", b"[", b"[{\"type\": 3}]"] {
            assert!(Modules::read("modules.json", bytes).unwrap_err().to_string().contains("modules.json"));
        }
    }

    #[test]
    fn a_module_lies_below_its_model() {
        for path in ["..", "a/../../b", "/etc", "a//b", "c:", "a\\b", "./a"] {
            let list = serde_json::json!([{"type": "Transformer", "path": ""}, {"type": "Pooling", "path": path}]);
            let error = Modules::read("modules.json", list.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains("a folder below the model's"), "{error}");
        }
    }

    #[test]
    fn one_way_of_pooling_is_read_and_the_rest_named() {
        let read = |text: &str| read_pooling("1_Pooling/config.json", text.as_bytes(), 48);
        for (key, pooling) in KNOWN {
            let off = KNOWN.map(|(other, _)| format!("\"{other}\": {}", other == key)).join(", ");
            assert_eq!(read(&format!("{{\"word_embedding_dimension\": 48, {off}}}")).unwrap(), pooling);
        }
        assert_eq!(read(r#"{"pooling_mode": "cls"}"#).unwrap(), Pooling::First);
        for (text, named) in [
            (r#"{"pooling_mode_weightedmean_tokens": true}"#, "pooling_mode_weightedmean_tokens"),
            (r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#, "joined"),
            (r#"{"pooling_mode_mean_tokens": true, "word_embedding_dimension": 47}"#, "word_embedding_dimension"),
            (r#"{"pooling_mode_mean_tokens": "yes"}"#, "pooling_mode_mean_tokens"),
            (r#"{"pooling_mode_mean_tokens": true, "include_prompt": false}"#, "include_prompt"),
            (r#"{"pooling_mode": "median"}"#, "median"),
            ("{}", "pooling_mode"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("1_Pooling/config.json") && error.contains(named), "{named} is not in: {error}");
        }
    }
}
