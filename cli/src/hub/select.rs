//! Which of a model's files are fetched: those that the engine reads, or those that somebody asks for.

use super::{HubError, HubName, Listed, Listing};

/// Files that a message lists before it only counts.
const SHOWN: usize = 12;

/// The files of `name` that match one of the globs, or, without any, those that the engine reads: weights in safetensors with
/// the json files and texts beside them, or else the one GGUF model that is there.
///
/// # Errors
/// [`HubError::NoFiles`] where nothing is left; [`HubError::Several`] where only the user can say which of several models.
pub(crate) fn select(name: &HubName, listing: &Listing, include: &[String]) -> Result<Vec<Listed>, HubError> {
    let matching = |wanted: &dyn Fn(&str) -> bool| -> Vec<Listed> {
        listing.files.iter().filter(|file| wanted(&file.path)).cloned().collect()
    };
    if let Some(file) = &name.file {
        return found(matching(&|path| path == file || parts_of(file, path)), name, listing, format!("is {file}"));
    }
    if !include.is_empty() {
        let wanted = |path: &str| include.iter().any(|glob| matches(glob, path));
        return found(matching(&wanted), name, listing, format!("matches {}", include.join(" or ")));
    }
    let root = |path: &str, ending: &str| path.ends_with(ending) && !path.contains('/');
    // Mistral's own layout lies beside the usual one, with the same weights once more.
    let weights = |path: &str| root(path, ".safetensors") && !path.starts_with("consolidated");
    if listing.files.iter().any(|file| weights(&file.path)) {
        return Ok(matching(&|path| weights(path) || is_beside(path)));
    }
    let models = matching(&|path| root(path, ".gguf") && (!path.contains("-of-") || path.contains("-00001-of-")));
    match models.as_slice() {
        [only] => Ok(matching(&|path| path == only.path || parts_of(&only.path, path) || is_licence(path))),
        [] => found(Vec::new(), name, listing, "is .safetensors or .gguf in its folder".to_owned()),
        several => {
            let files = several.iter().take(SHOWN).map(|it| format!("{} ({})", it.path, bytes(it.size)));
            let files = files.collect::<Vec<_>>().join(", ");
            Err(HubError::Several { name: name.repo.clone(), count: several.len(), files })
        }
    }
}

fn found(files: Vec<Listed>, name: &HubName, listing: &Listing, wanted: String) -> Result<Vec<Listed>, HubError> {
    if !files.is_empty() {
        return Ok(files);
    }
    let mut all: Vec<&str> = listing.files.iter().take(SHOWN).map(|it| it.path.as_str()).collect();
    if listing.files.len() > SHOWN {
        all.push("more");
    }
    let files = if all.is_empty() { "none at all".to_owned() } else { all.join(", ") };
    Err(HubError::NoFiles { name: name.repo.clone(), wanted, files })
}

/// What lies beside weights and is read, or should go with them: configurations, tokenizers, templates, licences; and the
/// configurations of sentence-transformers' modules, in folders of their own.
fn is_beside(path: &str) -> bool {
    let module = |folder: &str| folder.starts_with(|c: char| c.is_ascii_digit()) && folder.contains('_');
    match path.split_once('/') {
        None => path.ends_with(".json") || path.ends_with(".jinja") || path == "vocab.txt" || is_licence(path),
        Some((folder, file)) => module(folder) && file == "config.json",
    }
}

fn is_licence(path: &str) -> bool {
    ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY"].iter().any(|name| path.to_uppercase().starts_with(name))
        && !path.contains('/')
}

/// Whether `path` is another part of the split file `first` (`name-00001-of-00003.gguf`).
fn parts_of(first: &str, path: &str) -> bool {
    let split = |text: &str| {
        let (stem, rest) = text.rsplit_once("-of-")?;
        let (stem, number) = stem.rsplit_once('-')?;
        let numbered = number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit());
        numbered.then(|| (stem.to_owned(), rest.to_owned()))
    };
    split(first).is_some_and(|of| split(path) == Some(of))
}

/// Whether a path matches a glob: `*` stands for any characters, `/` among them, and `?` for one.
pub(super) fn matches(glob: &str, path: &str) -> bool {
    let (glob, path): (Vec<char>, Vec<char>) = (glob.chars().collect(), path.chars().collect());
    let (mut g, mut p, mut back) = (0, 0, None);
    while p < path.len() {
        match glob.get(g) {
            Some('*') => {
                back = Some((g, p));
                g += 1;
            }
            Some(c) if *c == '?' || *c == path[p] => (g, p) = (g + 1, p + 1),
            _ => match back {
                // The last star takes one character more.
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (g, p) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

/// A size for people.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::super::listing::Hash;
    use super::*;

    fn chosen(files: &[&str], name: &str, include: &[&str]) -> Result<Vec<String>, HubError> {
        let file = |path: &&str| Listed { path: (*path).to_owned(), size: 1, hash: Hash::Git("0".repeat(40)) };
        let listing = Listing { commit: "0".repeat(40), files: files.iter().map(file).collect() };
        let include: Vec<String> = include.iter().map(|glob| (*glob).to_owned()).collect();
        let selected = select(&HubName::parse(name).unwrap(), &listing, &include)?;
        Ok(selected.into_iter().map(|file| file.path).collect())
    }

    #[test]
    fn what_the_engine_reads_is_fetched() {
        let files = [
            "1_Pooling/config.json",
            "LICENSE",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model.safetensors",
            "onnx/config.json",
            "onnx/model.onnx",
            "onnx/model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let expected = ["1_Pooling/config.json", "LICENSE", "config.json", "model.safetensors", "tokenizer.json"];
        assert_eq!(chosen(&files, "o/n", &[]).unwrap(), expected);
        assert_eq!(chosen(&files, "o/n", &["onnx/*"]).unwrap().len(), 3);
        assert!(chosen(&files, "o/n", &["*.gguf"]).unwrap_err().to_string().contains("no file that matches *.gguf"));
        assert!(chosen(&["a.bin"], "o/n", &[]).unwrap_err().to_string().contains("it has a.bin"));
    }

    #[test]
    fn of_several_gguf_models_one_is_asked_for() {
        let files = ["m-Q4_K.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf", "README.md"];
        let error = chosen(&files, "o/n", &[]).unwrap_err().to_string();
        assert!(error.contains("2 GGUF models") && error.contains("m-Q4_K.gguf (0.0 kB)"), "{error}");
        assert_eq!(chosen(&files, "o/n/m-Q4_K.gguf", &[]).unwrap(), ["m-Q4_K.gguf"]);
        assert_eq!(chosen(&files, "o/n/m-Q8_0-00001-of-00002.gguf", &[]).unwrap(), files[1..3]);
        assert_eq!(chosen(&files[..1], "o/n", &[]).unwrap(), ["m-Q4_K.gguf"]);
    }

    #[test]
    fn globs_match_whole_paths() {
        for (glob, path) in [("*", ""), ("*.json", "a/b.json"), ("a?c*", "abcdef"), ("*a*b", "xxaxaxb"), ("", "")] {
            assert!(matches(glob, path), "{glob} {path}");
        }
        for (glob, path) in [("*.json", "a.jsonl"), ("a", "ab"), ("?", ""), ("*b", "abc")] {
            assert!(!matches(glob, path), "{glob} {path}");
        }
    }
}
