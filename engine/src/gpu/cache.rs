//! The pipeline cache on disk: what the driver compiled once need not be compiled again. A damaged or stale file is ignored.

use super::adapter::AdapterSummary;
use super::disk::{self, checksum};
use super::options::GpuOptions;
use super::scope::now;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// First bytes of a cache file: a damaged or foreign file is not handed to the driver.
const MAGIC: &[u8; 8] = b"LAMPPC01";

/// Most bytes of a cache file that are read.
const MOST_BYTES: u64 = 256 << 20;

/// The driver's cache object and the file it came from.
#[derive(Debug)]
pub(super) struct PipelineCache {
    cache: Option<wgpu::PipelineCache>,
    file: Option<PathBuf>,
    saved: AtomicU64,
}

impl PipelineCache {
    pub(super) fn open(device: &wgpu::Device, summary: &AdapterSummary, options: &GpuOptions) -> PipelineCache {
        let file = match &options.cache {
            Some(folder) if device.features().contains(wgpu::Features::PIPELINE_CACHE) => {
                let key = checksum(format!("{}|{}|{}", summary.name, summary.driver, summary.backend).as_bytes());
                folder.join(format!("pipelines-{key:016x}.bin"))
            }
            _ => return PipelineCache { cache: None, file: None, saved: AtomicU64::new(0) },
        };
        let data = read(&file);
        let saved = AtomicU64::new(data.as_deref().map_or(0, checksum));
        PipelineCache { cache: create(device, data.as_deref()), file: Some(file), saved }
    }

    pub(super) fn handle(&self) -> Option<&wgpu::PipelineCache> {
        self.cache.as_ref()
    }

    /// Writes the cache back when it has changed; failing to is no failure of the run.
    pub(super) fn save(&self) {
        let (Some(cache), Some(file)) = (&self.cache, &self.file) else { return };
        let Some(data) = cache.get_data() else { return };
        let sum = checksum(&data);
        if self.saved.swap(sum, Ordering::Relaxed) == sum {
            return;
        }
        if let Err(error) = write(file, &data, sum) {
            tracing::debug!(%error, file = %file.display(), "the pipeline cache was not written");
        }
    }
}

/// None where the driver refuses it, of which a host's handler of errors hears nothing. Where that was for want of memory wgpu 30 gives the device up
/// as well, and the host's callback hears of that.
#[allow(unsafe_code, reason = "the driver's own bytes, given back to it")]
fn create(device: &wgpu::Device, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
    use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
    let scopes = [OutOfMemory, Internal, Validation].map(|filter| device.push_error_scope(filter));
    // SAFETY: the bytes were written by `get_data` on the same adapter and driver, and carry their checksum; the driver
    // validates its own header besides, and falls back to an empty cache.
    let cache = unsafe {
        device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
            label: Some("lampyris.pipelines"),
            data,
            fallback: true,
        })
    };
    // The one opened last closes first.
    let refused = scopes.into_iter().rev().filter_map(|scope| now(scope.pop())).count() > 0;
    (!refused).then_some(cache)
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let bytes = disk::read(file, MOST_BYTES)?;
    let (magic, rest) = bytes.split_at_checked(8)?;
    let (sum, data) = rest.split_at_checked(8)?;
    (magic == MAGIC && sum == checksum(data).to_le_bytes()).then(|| data.to_vec())
}

fn write(file: &Path, data: &[u8], sum: u64) -> std::io::Result<()> {
    disk::replace(file, &[MAGIC.as_slice(), &sum.to_le_bytes(), data].concat())
}
