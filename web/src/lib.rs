//! What JavaScript sees of Lampyris: a device, and models on it. The package's own TypeScript (`web/js`) stands in front and
//! gives it its manners: sources of every kind, iterators, errors with codes.
//!
//! Nothing here panics on what a page hands over: a panic would end the whole module, because nothing unwinds in a browser.

mod breath;
pub mod device;
pub mod doctor;
pub mod embed;
mod failure;
pub mod files;
pub mod text;
pub mod vision;

use wasm_bindgen::prelude::*;

/// Bytes of the module's heap, which never shrinks: the most that was ever in use.
#[wasm_bindgen(js_name = heapBytes)]
pub fn heap_bytes() -> f64 {
    #[cfg(target_arch = "wasm32")]
    let pages = core::arch::wasm32::memory_size(0);
    #[cfg(not(target_arch = "wasm32"))]
    let pages = 0;
    pages as f64 * 65536.0
}
