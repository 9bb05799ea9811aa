//! The cache that Hugging Face's tools share: one folder a model with its files by hash, and a folder of names for each commit.
//!
//! ```text
//! models--ORG--NAME/blobs/HASH              a file's bytes; HASH.incomplete while they arrive
//! models--ORG--NAME/snapshots/COMMIT/FILE   a link to them
//! models--ORG--NAME/refs/REVISION           the commit that a branch or tag was at
//! ```

use super::{HubError, HubName, Listed};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::path::{Path, PathBuf};

/// Where one revision of a model lies, or would lie.
pub(crate) struct Place {
    repo: CacheRepo,
    name: HubName,
    root: PathBuf,
}

/// A variable's value, unless it is set to nothing.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The folder that holds the cache and the token, as `huggingface_hub` finds it.
pub(super) fn home() -> Option<PathBuf> {
    let user = || variable(if cfg!(windows) { "USERPROFILE" } else { "HOME" }).map(|home| home.join(".cache"));
    let caches = || variable("XDG_CACHE_HOME").or_else(user);
    variable("HF_HOME").or_else(|| Some(caches()?.join("huggingface")))
}

impl Place {
    /// The place of `name` in the user's cache.
    pub(crate) fn of(name: &HubName) -> Result<Place, HubError> {
        let hub = variable("HF_HUB_CACHE").or_else(|| Some(home()?.join("hub"))).ok_or(HubError::NoCache)?;
        let repo = Repo::with_revision(name.repo.clone(), RepoType::Model, name.revision().to_owned());
        let root = hub.join(repo.folder_name());
        Ok(Place { repo: Cache::new(hub).repo(repo), name: name.clone(), root })
    }

    /// What was pulled of it: the folder with its files, or the one that was named.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let file = self.name.file.as_deref().unwrap_or_default();
        // A commit has no ref, being one.
        let of_commit = || Some(self.snapshot(self.name.revision())).filter(|_| is_commit(self.name.revision()));
        let found = self.repo.get(file).or_else(|| of_commit().map(|folder| folder.join(file)))?;
        found.exists().then_some(found)
    }

    /// Revisions that were pulled, for a message to somebody who asks for another one.
    pub(crate) fn revisions(&self) -> Vec<String> {
        let refs = std::fs::read_dir(self.root.join("refs")).into_iter().flatten().flatten();
        let mut names: Vec<String> = refs.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// Where the bytes of a hash are.
    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.root.join("blobs").join(hash)
    }

    /// Remembers that the revision is this commit.
    pub(crate) fn remember(&self, commit: &str) -> Result<(), HubError> {
        if is_commit(self.name.revision()) {
            return Ok(());
        }
        let path = self.root.join("refs").join(self.name.revision());
        self.repo.create_ref(commit).map_err(|source| failed(&path, "written", source))
    }

    /// Puts a file's name into the folder of its commit: a link to its bytes, or, where links are not allowed, the bytes.
    pub(super) fn link(&self, commit: &str, file: &str, hash: &str) -> Result<(), HubError> {
        let (to, blob) = (self.snapshot(commit).join(file), self.blob(hash));
        let up = std::iter::repeat_n("..", 2 + file.matches('/').count());
        let target: PathBuf = up.chain(["blobs", hash]).collect();
        if std::fs::read_link(&to).is_ok_and(|there| there == target) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(|source| failed(folder, "made", source))?;
        }
        if to.symlink_metadata().is_ok() {
            std::fs::remove_file(&to).map_err(|source| failed(&to, "replaced", source))?;
        }
        if symlink(&target, &to).is_err() {
            std::fs::rename(&blob, &to).map_err(|source| failed(&to, "written", source))?;
        }
        Ok(())
    }

    /// Whether a file of a commit has arrived before, by its size.
    pub(crate) fn has(&self, commit: &str, file: &Listed) -> bool {
        let whole = |path: &Path| path.metadata().is_ok_and(|facts| facts.is_file() && facts.len() == file.size);
        let blob = self.blob(file.hash.digits());
        whole(&blob) || (!blob.exists() && whole(&self.snapshot(commit).join(&file.path)))
    }
}

/// Whether a revision is a commit's hash, which never moves.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn failed(path: &Path, action: &'static str, source: std::io::Error) -> HubError {
    HubError::Io { path: path.display().to_string(), action, source }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}
