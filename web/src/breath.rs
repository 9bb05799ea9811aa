//! Between pieces of work the page has its turn, so that no task keeps its thread for long.

use crate::failure::Outcome;
use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// Lets the page have its turn.
pub(crate) async fn breathe(breath: &Function) -> Outcome<()> {
    let back: JsValue = breath.call0(&JsValue::NULL)?;
    JsFuture::from(Promise::resolve(&back)).await.map(|_| ())
}
