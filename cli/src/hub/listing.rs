//! What a hub says of a model: its commit and its files, with the size and the hash of each.

use super::HubError;
use super::cache::is_commit;
use super::name::is_inside;
use serde::Deserialize;

/// A model's commit and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The commit that the revision is at.
    pub(crate) commit: String,
    /// Its files, by their paths.
    pub(crate) files: Vec<Listed>,
}

/// A file as the hub states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its path, with `/` between folders.
    pub(crate) path: String,
    /// Its bytes.
    pub(crate) size: u64,
    /// What they are checked against; its hexadecimal digits name them in the cache.
    pub(super) hash: Hash,
}

/// A hash as the hub states it: of a large file its SHA-256, of a small one that which git has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256(String),
    Git(String),
}

impl Hash {
    pub(super) fn digits(&self) -> &str {
        match self {
            Hash::Sha256(digits) | Hash::Git(digits) => digits,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    #[serde(alias = "oid")]
    sha256: String,
    size: u64,
}

impl Listing {
    /// Reads the answer to `/api/models/ORG/NAME/revision/REVISION?blobs=true`.
    ///
    /// # Errors
    /// [`HubError::Listing`] for what is no such answer; [`HubError::Outside`] for a path that leaves the model's folder;
    /// [`HubError::Unstated`] for a file that could not be checked.
    pub(super) fn read(endpoint: &str, name: &str, bytes: &[u8]) -> Result<Listing, HubError> {
        let wrong = |reason: String| HubError::Listing { endpoint: endpoint.to_owned(), name: name.to_owned(), reason };
        let answer: Answer = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if !is_commit(&answer.sha) {
            return Err(wrong("its commit is no hash".to_owned()));
        }
        let file = |it: Sibling| {
            if !is_inside(&it.rfilename) {
                return Err(HubError::Outside { name: name.to_owned(), file: it.rfilename });
            }
            let stated = match (it.lfs, it.size, it.blob) {
                (Some(large), _, _) => Some((large.size, Hash::Sha256(large.sha256.to_lowercase()), 64)),
                (None, Some(size), Some(blob)) => Some((size, Hash::Git(blob.to_lowercase()), 40)),
                _ => None,
            };
            let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            match stated {
                Some((size, hash, length)) if hash.digits().len() == length && hexadecimal(hash.digits()) => {
                    Ok(Listed { path: it.rfilename, size, hash })
                }
                _ => Err(HubError::Unstated { endpoint: endpoint.to_owned(), file: it.rfilename }),
            }
        };
        let mut files: Vec<Listed> = answer.siblings.into_iter().map(file).collect::<Result<_, _>>()?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(twice) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(wrong(format!("it lists {:?} twice", twice[0].path)));
        }
        Ok(Listing { commit: answer.sha.to_lowercase(), files })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should stop at once")]

    use super::*;

    fn read(siblings: &str) -> Result<Listing, HubError> {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        Listing::read("http://hub", "o/n", format!(r#"{{"sha":"{sha}","siblings":[{siblings}]}}"#).as_bytes())
    }

    #[test]
    fn sizes_and_hashes_are_read() {
        let (git, sha256) = ("a".repeat(40), "B".repeat(64));
        let small = format!(r#"{{"rfilename":"config.json","size":2,"blobId":"{git}"}}"#);
        let large = format!(
            r#"{{"rfilename":"b.gguf","size":9,"blobId":"{git}","lfs":{{"sha256":"{sha256}","size":9,"pointerSize":130}}}}"#
        );
        let listing = read(&format!("{small},{large}")).unwrap();
        let found: Vec<_> = listing.files.iter().map(|it| (it.path.as_str(), it.size, it.hash.clone())).collect();
        let expected = [("b.gguf", 9, Hash::Sha256("b".repeat(64))), ("config.json", 2, Hash::Git("a".repeat(40)))];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_cannot_be_checked_or_placed_is_refused() {
        let git = "a".repeat(40);
        let file = |path: &str| format!(r#"{{"rfilename":"{path}","size":2,"blobId":"{git}"}}"#);
        for path in ["../x", "/etc/passwd", "a/../../b", "C:/x", "a\\\\b"] {
            assert!(matches!(read(&file(path)), Err(HubError::Outside { .. })), "{path}");
        }
        for bare in [r#"{"rfilename":"a"}"#, r#"{"rfilename":"a","size":1,"blobId":"../../x"}"#] {
            assert!(matches!(read(bare), Err(HubError::Unstated { .. })), "{bare}");
        }
        let twice = format!("{},{}", file("a"), file("a"));
        assert!(read(&twice).unwrap_err().to_string().contains("twice"));
        for answer in ["", "{}", "[]", r#"{"sha":"../x","siblings":[]}"#] {
            assert!(matches!(Listing::read("e", "n", answer.as_bytes()), Err(HubError::Listing { .. })), "{answer}");
        }
    }
}
