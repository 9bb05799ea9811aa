//! Constants on the device, or in memory for the twins: each made from the weights once, uploaded in bounded pieces, and shared by
//! every plan of a model.

use super::Gpu;
use super::pace;

use super::allocate::Wanted;
use super::memory::Held;
use crate::plan::{Constant, PlanBytes};
use crate::weights::Feed;
use crate::{Error, Result};
use lampyris_shaders::{Desc, HostTensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most bytes that wait in the driver's staging memory before the queue is drained. In a browser the page's thread copies them there in
/// one go, and draws again while it waits.
const STAGING_BYTES: u64 = if cfg!(target_arch = "wasm32") { 1 << 20 } else { 16 << 20 };

/// Constants by their names and descriptions.
type ByName<T> = HashMap<(String, Desc), T>;

/// The constants of one model on one device. Cheap to clone. When another device has taken the place of a lost one, they are made again
/// there, from where they came.
#[derive(Debug, Clone, Default)]
pub struct ConstantStore {
    buffers: Arc<Mutex<OnDevice>>,
    hosts: Arc<Mutex<ByName<Arc<HostTensor>>>>,
    /// What fetches the files that constants are made of, if they are not here.
    feed: Option<Feed>,
}

/// Constants that lie on a device, and its number.
#[derive(Debug, Default)]
struct OnDevice {
    number: u64,
    named: ByName<Shared>,
}

/// A constant's buffer, which lives and counts as long as the store or a plan has it.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) buffer: wgpu::Buffer,
    _held: Arc<Held>,
}

impl ConstantStore {
    /// An empty store.
    pub fn new() -> ConstantStore {
        ConstantStore::default()
    }

    /// An empty store for constants made of files that `feed` fetches.
    pub fn fed_by(feed: Option<Feed>) -> ConstantStore {
        ConstantStore { feed, ..ConstantStore::default() }
    }

    /// Bytes of all constants, on the device or in memory for the twins.
    pub fn bytes(&self) -> u64 {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts: u64 = hosts.values().map(|tensor| tensor.desc.bytes()).sum();
        hosts + self.lock().named.values().map(|shared| shared.buffer.size()).sum::<u64>()
    }

    /// Makes `constants` before any plan asks for them; `progress` is told the bytes of each.
    ///
    /// # Errors
    /// [`Error::Budget`] before anything is made, when the budget does not leave room for them; [`Error::Constant`] for one that
    /// cannot be made; what the driver says.
    pub async fn load(&self, gpu: &Gpu, constants: &[Constant], mut progress: impl FnMut(u64)) -> Result<()> {
        if gpu.is_cpu_executor() {
            for constant in constants {
                self.on_host(constant)?;
                progress(constant.desc.bytes());
            }
            return Ok(());
        }
        let weights = self.missing(gpu, constants);
        let mut held = gpu.account().take(PlanBytes { weights, ..PlanBytes::default() })?;
        self.upload(gpu, constants, &mut held, progress).await.map(drop)
    }

    /// A constant in memory, made when it is first asked for.
    pub(crate) fn on_host(&self, constant: &Constant) -> Result<Arc<HostTensor>> {
        let key = (constant.name.clone(), constant.desc.clone());
        let hosts = || self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = hosts().get(&key) {
            return Ok(tensor.clone());
        }
        let made = Arc::new(constant.tensor()?);
        // Another thread may have made it meanwhile.
        Ok(hosts().entry(key).or_insert(made).clone())
    }

    fn lock(&self) -> MutexGuard<'_, OnDevice> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The constants on this device. Those of an earlier one are let go; there are none on one that has been replaced.
    fn on(&self, gpu: &Gpu) -> Option<MutexGuard<'_, OnDevice>> {
        let mut buffers = self.lock();
        if buffers.number < gpu.inner.number {
            *buffers = OnDevice { number: gpu.inner.number, named: HashMap::new() };
        }
        Some(buffers).filter(|buffers| buffers.number == gpu.inner.number)
    }

    /// Bytes of those of `constants` that are not on the device yet.
    pub fn missing(&self, gpu: &Gpu, constants: &[Constant]) -> u64 {
        let buffers = self.on(gpu);
        let there =
            |c: &&Constant| buffers.as_ref().is_some_and(|it| it.named.contains_key(&(c.name.clone(), c.desc.clone())));
        constants.iter().filter(|constant| !there(constant)).map(|constant| constant.desc.bytes()).sum()
    }

    /// The buffers of `constants`, uploading those that are new on the account of `held`; `progress` is told the bytes of each.
    pub(super) async fn upload(
        &self,
        gpu: &Gpu,
        constants: &[Constant],
        held: &mut Held,
        mut progress: impl FnMut(u64),
    ) -> Result<Vec<Shared>> {
        let mut found = Vec::with_capacity(constants.len());
        let mut waiting = 0;
        for constant in constants {
            let key = (constant.name.clone(), constant.desc.clone());
            let known = self.on(gpu).and_then(|buffers| buffers.named.get(&key).cloned());
            let shared = match known {
                Some(shared) => shared,
                None => {
                    let buffer = self.make(gpu, constant, &mut waiting).await?;
                    let made = Shared { buffer, _held: Arc::new(held.split(constant.desc.bytes())) };
                    // Another thread may have made it meanwhile.
                    match self.on(gpu) {
                        Some(mut buffers) => buffers.named.entry(key).or_insert(made).clone(),
                        None => made,
                    }
                }
            };
            progress(shared.buffer.size());
            found.push(shared);
        }
        Ok(found)
    }

    async fn make(&self, gpu: &Gpu, constant: &Constant, waiting: &mut u64) -> Result<wgpu::Buffer> {
        let tensor = match &self.feed {
            Some(feed) => feed.until_there(|| constant.tensor()).await?,
            None => constant.tensor()?,
        };
        let [label, doing] = ["lampyris.", "allocating "].map(|before| format!("{before}{}", constant.name));
        let buffer = gpu
            .guarded(&doing, |device| {
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
                gpu.buffer(device, &doing, Wanted { label: &label, size: constant.desc.bytes().max(4), usage })
            })
            .await??;
        let (Some(device), Some(queue)) = (gpu.device(), gpu.queue()) else {
            return Err(Error::NoDevice { adapter: gpu.summary().name.clone(), reason: "no queue".to_owned() });
        };
        let bytes: &[u8] = bytemuck::cast_slice(&tensor.words);
        let most = if pace::is_set() { pace::PIECE } else { STAGING_BYTES };
        for (i, piece) in bytes.chunks(most as usize).enumerate() {
            pace::bytes(piece.len() as u64).await;
            if *waiting + piece.len() as u64 > STAGING_BYTES {
                queue.submit([]);
                gpu.idle().await?;
                *waiting = 0;
            }
            let to = (&buffer, i as u64 * most);
            gpu.hearing(device, &doing, || gpu.write(queue, &doing, to, piece))?;
            *waiting += piece.len() as u64;
        }
        Ok(buffer)
    }
}
