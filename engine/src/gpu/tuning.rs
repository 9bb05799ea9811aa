//! What was measured on an adapter, by step shape and by network: kept in memory, and in a file that several processes share.

use super::adapter::AdapterSummary;
use super::options::GpuOptions;
use std::collections::BTreeMap;
#[cfg(not(target_arch = "wasm32"))]
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Choices by what they hold for.
type Choices = BTreeMap<String, String>;

/// Most bytes of a tuning file that are read: some ten thousand choices.
#[cfg(not(target_arch = "wasm32"))]
const MOST_BYTES: u64 = 4 << 20;

/// The choices of one adapter and driver.
#[derive(Debug, Default)]
pub(super) struct Tuning {
    choices: Mutex<Held>,
    #[cfg(not(target_arch = "wasm32"))]
    file: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Held {
    known: Choices,
    /// Those of `known` that were measured here.
    measured: Choices,
}

impl Tuning {
    /// Reads what earlier processes measured on this adapter and driver; a damaged or endless file is ignored.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn open(summary: &AdapterSummary, options: &GpuOptions) -> Tuning {
        let file = options.cache.as_ref().map(|folder| {
            let name = format!("{}|{}|{}", summary.name, summary.driver, summary.backend);
            folder.join(format!("tuning-{:016x}.json", super::disk::checksum(name.as_bytes())))
        });
        let tuning = Tuning { choices: Mutex::default(), file };
        tuning.choices().known = tuning.on_disk();
        tuning
    }

    /// Browsers have no such folder.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn open(_: &AdapterSummary, _: &GpuOptions) -> Tuning {
        Tuning::default()
    }

    fn choices(&self) -> MutexGuard<'_, Held> {
        self.choices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.choices().known.get(key).cloned()
    }

    pub(super) fn put(&self, key: String, label: &str) {
        let mut choices = self.choices();
        choices.measured.insert(key.clone(), label.to_owned());
        choices.known.insert(key, label.to_owned());
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn on_disk(&self) -> Choices {
        let bytes = self.file.as_ref().and_then(|file| super::disk::read(file, MOST_BYTES));
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Adds what was measured here to the file, as others have left it; failing to is no failure of the run. What another
    /// process adds between the reading and the replacing is lost, and will be measured again.
    pub(super) fn save(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(file) = &self.file {
            let mut all = self.on_disk();
            all.extend(self.choices().measured.clone());
            let text = serde_json::to_vec_pretty(&all).unwrap_or_default();
            if let Err(error) = super::disk::replace(file, &text) {
                tracing::debug!(%error, file = %file.display(), "the tuning cache was not written");
            }
        }
    }
}

impl super::Gpu {
    /// Writes what was measured on this device to the folder of [`GpuOptions::cache`], so that the next start knows it: variants and
    /// the times of steps. Measuring does so by itself. What ticks have learnt of steps that were not measured is written here, or with what is
    /// measured next: of what is driven once it is dropped or has become a session again, so call it at the end, when that is gone.
    /// Writes a file on the calling thread, and does nothing without such a folder.
    pub fn save_measurements(&self) {
        if let Some(tuning) = self.tuning() {
            tuning.save();
        }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    fn open(folder: &std::path::Path) -> Tuning {
        Tuning::open(&AdapterSummary::cpu_executor(), &GpuOptions::default().cache(folder))
    }

    #[test]
    fn what_two_processes_measure_is_kept_of_both() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (open(folder.path()), open(folder.path()));
        for (tuning, key, label) in [(&first, "a", "tiled"), (&second, "b", "portable"), (&first, "c", "tiled")] {
            tuning.put(key.to_owned(), label);
            tuning.save();
        }
        let third = open(folder.path());
        let found = ["a", "b", "c"].map(|key| third.get(key));
        assert_eq!(found, ["tiled", "portable", "tiled"].map(|label| Some(label.to_owned())));
        // What was only read does not overwrite what another has measured since.
        second.put("a".to_owned(), "portable");
        second.save();
        third.put("d".to_owned(), "tiled");
        third.save();
        assert_eq!(open(folder.path()).get("a").as_deref(), Some("portable"));
    }

    #[test]
    fn an_endless_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let tuning = open(folder.path());
        tuning.put("a".to_owned(), "tiled");
        tuning.save();
        let file = tuning.file.clone().unwrap();
        let mut text = std::fs::read(&file).unwrap();
        text.resize(MOST_BYTES as usize + 1, b' ');
        std::fs::write(&file, &text).unwrap();
        assert_eq!(open(folder.path()).get("a"), None);
        text.pop();
        std::fs::write(&file, &text).unwrap();
        assert_eq!(open(folder.path()).get("a").as_deref(), Some("tiled"));
    }
}
