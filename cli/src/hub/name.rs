//! How a model on a hub is named on the command line.

use std::fmt;

/// `ORG/NAME`, `ORG/NAME@REVISION`, and with `/FILE` behind either one of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubName {
    /// `ORG/NAME`.
    pub(crate) repo: String,
    /// A branch, a tag or a commit; the main branch where none is named.
    pub(crate) revision: Option<String>,
    /// One of its files, by its path there.
    pub(crate) file: Option<String>,
}

impl HubName {
    /// The most characters of an organization's or a model's name.
    const LONGEST: usize = 96;
    /// The branch that is meant where none is named.
    pub(crate) const MAIN: &str = "main";

    /// Reads a name; `None` for what can be none, as most paths.
    pub(crate) fn parse(text: &str) -> Option<HubName> {
        let mut parts = text.splitn(3, '/');
        let (org, name) = (parts.next()?, parts.next()?);
        let file = parts.next().map(str::to_owned);
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (name, None),
        };
        let sound = [org, name].into_iter().all(HubName::is_part)
            && revision.is_none_or(|revision| HubName::is_revision(revision) && !revision.contains('/'))
            && file.as_deref().is_none_or(is_inside);
        sound.then(|| HubName { repo: format!("{org}/{name}"), revision: revision.map(str::to_owned), file })
    }

    fn is_part(part: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        part.len() <= HubName::LONGEST
            && part.chars().all(plain)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !part.ends_with(['.', '-'])
            && !part.contains("..")
            && !part.contains("--")
    }

    /// Whether a text can name a branch, a tag or a commit.
    pub(crate) fn is_revision(text: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        !text.is_empty() && text.chars().all(plain) && !text.starts_with(['/', '-', '.']) && is_inside(text)
    }

    /// The revision, the main branch where none is named.
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(HubName::MAIN)
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        self.file.iter().try_for_each(|file| write!(f, "/{file}"))
    }
}

/// Whether a path with `/` between its parts stays inside the folder that it starts from, on every system.
pub(super) fn is_inside(path: &str) -> bool {
    let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.ends_with(['.', ' ']);
    !path.contains(['\\', ':', '\0', '<', '>', '"', '|', '?', '*'])
        && !path.chars().any(char::is_control)
        && path.split('/').all(sound)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        let name = HubName::parse("Qwen/Qwen3-0.6B").unwrap();
        assert_eq!((name.repo.as_str(), name.revision(), name.file.as_deref()), ("Qwen/Qwen3-0.6B", "main", None));
        let name = HubName::parse("org/name@v1.0/sub/model-Q8_0.gguf").unwrap();
        assert_eq!((name.repo.as_str(), name.revision()), ("org/name", "v1.0"));
        assert_eq!(name.file.as_deref(), Some("sub/model-Q8_0.gguf"));
        assert_eq!(name.to_string(), "org/name@v1.0/sub/model-Q8_0.gguf");
        for path in [
            "",
            "name",
            "./name",
            "../name",
            "/org/name",
            "org/",
            "org//file",
            "org/name/",
            "org/name/../x",
            "C:/name",
            "org\\name",
            "a b/c",
            "org/na--me",
            "org/name@",
            "org/name@../x",
            "-o/n",
            "org/.n",
            "~/models",
            "org/n\u{e9}",
        ] {
            assert_eq!(HubName::parse(path), None, "{path}");
        }
        assert_eq!(HubName::parse(&format!("org/{}", "n".repeat(97))), None);
    }

    #[test]
    fn paths_of_a_hub_stay_where_they_belong() {
        for fine in ["config.json", "1_Pooling/config.json", "a/b c/d.gguf"] {
            assert!(is_inside(fine), "{fine}");
        }
        for out in ["", "/etc/passwd", "a//b", "../x", "a/../../x", "a\\b", "C:x", "a/.", "x\0", "a\nb", "con ."] {
            assert!(!is_inside(out), "{out:?}");
        }
        assert!(HubName::is_revision("refs/pr/3") && !HubName::is_revision("../x") && !HubName::is_revision("a b"));
    }
}
