//! Brings one file of a model into the cache: it goes on where it stopped, and counts as there only when size and hash are right.

use super::cache::failed;
use super::client::Hub;
use super::listing::Hash;
use super::{HubError, HubName, Listed, Place};
use sha2::Digest;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// How often in a row a connection may end without having brought anything.
const TRIES: u32 = 5;

/// Either hash, as it is computed.
enum Hasher {
    Sha256(sha2::Sha256),
    Git(sha1::Sha1),
}

impl Hasher {
    fn new(file: &Listed) -> Hasher {
        match file.hash {
            Hash::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            // What git hashes begins with the file's kind and size.
            Hash::Git(_) => Hasher::Git(sha1::Sha1::new_with_prefix(format!("blob {}\0", file.size))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    fn digits(self) -> String {
        let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => digits(&hasher.finalize()),
            Hasher::Git(hasher) => digits(&hasher.finalize()),
        }
    }
}

/// A file that is not all there yet.
struct Part<'a> {
    file: File,
    path: PathBuf,
    listed: &'a Listed,
    /// Bytes that are there, and their hash so far.
    have: u64,
    hasher: Hasher,
}

/// How one request went.
enum Got {
    /// All bytes are there.
    All,
    /// The connection ended before.
    Cut(String),
}

/// Fetches `file` of the model's `commit` unless it is there, and names it in the folder of that commit. `arrived` is told how many
/// of its bytes are there, whenever that changes.
///
/// # Errors
/// [`HubError::Size`] and [`HubError::Hash`] when it is not what the hub states; [`HubError::Broken`] when the connection breaks off
/// too often; [`HubError::Io`] and [`HubError::Locked`] for the cache; those of the hub.
pub(crate) fn fetch(
    hub: &Hub,
    name: &HubName,
    place: &Place,
    commit: &str,
    file: &Listed,
    arrived: &mut dyn FnMut(u64),
) -> Result<(), HubError> {
    let hash = file.hash.digits();
    let blob = place.blob(hash);
    if !place.has(commit, file) {
        let mut part = Part::open(&blob, file)?;
        let resumed = part.have > 0;
        part.complete(hub, name, commit, arrived)?;
        match part.check() {
            // What an earlier run has left may be the fault; once more, all of it.
            Err(HubError::Hash { .. }) if resumed => {
                part.restart()?;
                part.complete(hub, name, commit, arrived)?;
                part.check()?;
            }
            checked => checked?,
        }
        part.file.sync_all().map_err(|source| failed(&part.path, "written", source))?;
        std::fs::rename(&part.path, &blob).map_err(|source| failed(&blob, "written", source))?;
    }
    arrived(file.size);
    if blob.exists() { place.link(commit, &file.path, hash) } else { Ok(()) }
}

impl<'a> Part<'a> {
    /// Opens what an earlier run has left, or begins.
    fn open(blob: &Path, listed: &'a Listed) -> Result<Part<'a>, HubError> {
        let path = blob.with_file_name(format!("{}.incomplete", listed.hash.digits()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| failed(folder, "made", source))?;
        }
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(|source| failed(&path, "written", source))?;
        if let Err(std::fs::TryLockError::WouldBlock) = file.try_lock() {
            return Err(HubError::Locked { path: path.display().to_string() });
        }
        let mut part = Part { file, path, listed, have: 0, hasher: Hasher::new(listed) };
        part.rehash()?;
        Ok(part)
    }

    fn failed(&self, source: std::io::Error) -> HubError {
        failed(&self.path, "written", source)
    }

    /// Hashes what is there already; more than there should be is thrown away.
    fn rehash(&mut self) -> Result<(), HubError> {
        let there = self.file.metadata().map_err(|source| self.failed(source))?.len();
        if there > self.listed.size {
            return self.restart();
        }
        let mut piece = vec![0; PIECE];
        loop {
            let read = self.file.read(&mut piece).map_err(|source| failed(&self.path, "read", source))?;
            if read == 0 {
                return Ok(());
            }
            self.hasher.update(&piece[..read]);
            self.have += read as u64;
        }
    }

    /// Forgets what is there.
    fn restart(&mut self) -> Result<(), HubError> {
        (self.have, self.hasher) = (0, Hasher::new(self.listed));
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(|_| ()).map_err(|source| self.failed(source))
    }

    /// Asks until all bytes are there.
    fn complete(
        &mut self,
        hub: &Hub,
        name: &HubName,
        commit: &str,
        arrived: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let mut tries = 0;
        loop {
            let before = self.have;
            let reason = match self.once(hub, name, commit, arrived)? {
                Got::All => return Ok(()),
                Got::Cut(reason) => reason,
            };
            tries = if self.have > before { 1 } else { tries + 1 };
            let there = format!("{reason} after {} of {} bytes", self.have, self.listed.size);
            let error = HubError::Broken { what: self.listed.path.clone(), reason: there };
            if tries == TRIES {
                return Err(error);
            }
            hub.wait(tries, None, &error);
        }
    }

    fn once(&mut self, hub: &Hub, name: &HubName, commit: &str, arrived: &mut dyn FnMut(u64)) -> Result<Got, HubError> {
        arrived(self.have);
        if self.have == self.listed.size {
            return Ok(Got::All);
        }
        let range = (self.have > 0).then_some((self.have, None));
        let answer = hub.bytes(name, (commit, &self.listed.path), range).map_err(HubError::kept)?;
        match answer.status().as_u16() {
            206 => {
                let header = answer.headers().get("content-range").and_then(|value| value.to_str().ok());
                let (start, total) = header.and_then(content_range).unwrap_or((self.have, None));
                if let Some(found) = total.filter(|total| *total != self.listed.size) {
                    return Err(self.wrong_size(found));
                }
                if start != self.have {
                    return Ok(Got::Cut(format!("the answer begins with byte {start}")));
                }
            }
            416 => {
                self.restart()?;
                return Ok(Got::Cut("the hub has no bytes there, so all is asked for again".to_owned()));
            }
            _ => {
                // The whole file: the hub knows no ranges.
                self.restart()?;
                if let Some(found) = answer.body().content_length().filter(|found| *found != self.listed.size) {
                    return Err(self.wrong_size(found));
                }
            }
        }
        let mut reader = answer.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read = match reader.read(&mut piece) {
                Ok(0) if self.have == self.listed.size => return Ok(Got::All),
                Ok(0) => return Ok(Got::Cut("the connection ended".to_owned())),
                Ok(read) => read,
                Err(error) => return Ok(Got::Cut(error.to_string())),
            };
            let found = self.have + read as u64;
            if found > self.listed.size {
                return Err(self.wrong_size(found));
            }
            self.file.write_all(&piece[..read]).map_err(|source| self.failed(source))?;
            self.hasher.update(&piece[..read]);
            self.have = found;
            arrived(found);
        }
    }

    /// Throws the file away and says why.
    fn wrong_size(&self, found: u64) -> HubError {
        self.forget();
        HubError::Size { file: self.listed.path.clone(), stated: self.listed.size, found }
    }

    fn forget(&self) {
        // What cannot be removed is found out again by its hash.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Holds the hash of all bytes against the stated one.
    fn check(&mut self) -> Result<(), HubError> {
        let found = std::mem::replace(&mut self.hasher, Hasher::new(self.listed)).digits();
        let stated = self.listed.hash.digits();
        if found == stated {
            return Ok(());
        }
        self.file.set_len(0).map_err(|source| self.failed(source))?;
        Err(HubError::Hash { file: self.listed.path.clone(), stated: stated.to_owned(), found })
    }
}

/// The first byte of `bytes FIRST-LAST/TOTAL`, and the total unless it is not stated.
fn content_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_of_large_files() {
        let of = |hash: Hash| {
            let mut hasher = Hasher::new(&Listed { path: "f".to_owned(), size: 12, hash });
            hasher.update(b"what is ");
            hasher.update(b"up, ");
            hasher.digits()
        };
        // `printf 'what is up, ' | git hash-object --stdin`, and `| sha256sum`.
        assert_eq!(of(Hash::Git(String::new())), GIT);
        assert_eq!(of(Hash::Sha256(String::new())), SHA256);
    }

    const GIT: &str = "43af3f278166a8824c23cb65d5e31c387aae5523";
    const SHA256: &str = "36309f5c15410ecefddd98476d04a264442795b2bcbbed4de62d243ba5f312d3";

    #[test]
    fn ranges_are_read_as_they_are_written() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
        assert_eq!(content_range("pages 1-2/3"), None);
    }
}
