//! The certificate of the browser's adapter: every kernel against its twin, one check after another, with room for the page between.

use crate::device::Device;
use crate::failure::{self, Outcome};
use js_sys::{Function, Promise};
use lampyris::engine::certify::Prepared;
use lampyris::engine::kernels::{self, Tier};
use serde_json::json;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
impl Device {
    /// Holds every kernel against its CPU twin on this adapter and gives what came of it as JSON, a line for each variant and case.
    ///
    /// The short form takes small cases and the variants that are chosen here; the `full` one every case and every variant that the
    /// adapter can run. `progress` is called with the checks done and those there are; when it gives a promise, that is waited for,
    /// so that a page can draw meanwhile. `only` is the name of the one kernel that is checked; refused with `bad-input` when there is none.
    pub async fn doctor(&self, full: bool, only: Option<String>, progress: Function) -> Outcome<String> {
        let mut entries = kernels::all();
        if let Some(only) = only.as_deref() {
            entries.retain(|entry| entry.name == only);
            if entries.is_empty() {
                let message = format!("no kernel is called '{only}'; leave `only` out to check all of them");
                return Err(failure::error("bad-input", &message));
            }
        }
        let gpu = self.alive().await?;
        let tier = if full { Tier::Model } else { Tier::Short };
        let cases: Vec<_> = entries.iter().flat_map(|entry| (entry.cases)()).filter(|case| case.tier <= tier).collect();
        let mut verdicts = Vec::new();
        for (done, case) in cases.iter().enumerate() {
            let (done, all) = (JsValue::from(done as f64), JsValue::from(cases.len() as f64));
            let answer: JsValue = progress.call2(&JsValue::NULL, &done, &all)?;
            JsFuture::from(Promise::resolve(&answer)).await?;
            let prepared = Prepared::new(case).map_err(|error| failure::engine(&error))?;
            let variants = match full {
                true => prepared.variants(&gpu).map_err(|error| failure::engine(&error))?,
                false => prepared.candidates(&gpu),
            };
            for source in variants {
                let verdict = prepared.check(&gpu, source).await.map_err(|error| failure::engine(&error))?;
                verdicts.push(json!({
                    "kernel": verdict.kernel,
                    "variant": verdict.variant,
                    "case": verdict.case,
                    "passed": verdict.passed(),
                    "worstError": verdict.worst_error,
                    "tolerance": verdict.tolerance,
                    "failure": verdict.failure,
                }));
            }
        }
        Ok(serde_json::Value::Array(verdicts).to_string())
    }
}
