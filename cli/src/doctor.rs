//! `lampyris doctor`: which adapters there are, and whether every kernel agrees with its CPU twin on them.

mod adapters;
mod certificate;
mod products;
#[cfg(test)]
mod tests;

use crate::args::{DeviceArguments, Doctor};
use crate::failure::Failure;
use crate::{device, output};
use adapters::Adapter;
use certificate::{Check, Checked, Extent};
use lampyris::engine::kernels::{Entry, all};
use lampyris::{AdapterChoice, AdapterSummary, Gpu, engine};
use products::OnAdapter;
use serde::Serialize;

/// Everything that doctor found out.
#[derive(Debug, Serialize)]
struct Report {
    adapters: Vec<Adapter>,
    certificate: Vec<Check>,
    /// How language models are multiplied, and how far their logits may move.
    products: Vec<products::Line>,
}

/// Lists the adapters, certifies those that `arguments` choose, and fails when a check failed or an adapter cannot be opened.
pub(crate) fn run(job: &Doctor, arguments: &DeviceArguments) -> Result<(), Failure> {
    let entries = entries(job.only.as_deref())?;
    let found = pollster::block_on(lampyris::adapters());
    let every = arguments.adapter.as_deref() == Some("all");
    let choices = match every {
        true => (0..found.len()).map(AdapterChoice::Index).collect(),
        false => vec![device::choice(arguments)],
    };
    let mut adapters: Vec<Adapter> = found.iter().enumerate().map(|(i, summary)| Adapter::new(i, summary)).collect();
    let (devices, unopened) = open(choices, &found, &mut adapters, &|choice| {
        pollster::block_on(Gpu::with(device::options(arguments, choice)))
    })?;
    let extent = if job.full { Extent::Full } else { Extent::Short };
    let (mut checked, mut asked) = (Vec::new(), Vec::new());
    for gpu in &devices {
        if gpu.is_cpu_executor() {
            device::say_kind(gpu);
            output::note("the CPU executor runs the twins themselves, so there is nothing to certify");
            continue;
        }
        let again = || pollster::block_on(Gpu::with(gpu.options().clone()));
        checked.push(certificate::certify(gpu, &again, &entries, extent)?);
        if job.only.is_none() {
            asked.push(OnAdapter::of(gpu, extent)?);
        }
        device::say_kind(gpu);
    }
    let text = if job.json {
        let certificate = checked.iter().flat_map(|c| c.lines(every)).collect();
        let products = asked.iter().flat_map(|on| on.lines(every)).collect();
        output::json(&Report { adapters, certificate, products })?
    } else {
        let tables: String = checked.iter().map(Checked::table).collect();
        let products: String = asked.iter().map(|on| on.table(every)).collect();
        format!("{}{tables}{products}", adapters::table(&adapters))
    };
    output::print(&text)?;
    checked.iter().filter_map(Checked::unreached).for_each(|said| output::note(&said));
    certificate::verdict(&checked)?;
    asked.iter().try_for_each(OnAdapter::verdict)?;
    unopened.map_or(Ok(()), |error| Err(error.into()))
}

/// Opens the adapters that are chosen. One that cannot be opened stays in the list with the reason, and does not keep the others
/// from being checked; the first such error is given beside the devices.
///
/// # Errors
/// When a choice means none of the adapters.
fn open(
    choices: Vec<AdapterChoice>,
    found: &[AdapterSummary],
    adapters: &mut [Adapter],
    with: &dyn Fn(AdapterChoice) -> Result<Gpu, engine::Error>,
) -> Result<(Vec<Gpu>, Option<engine::Error>), Failure> {
    let (mut devices, mut unopened) = (Vec::new(), None);
    for choice in choices {
        let position = choice.position(found);
        match (with(choice), position.and_then(|position| adapters.get_mut(position))) {
            (Ok(gpu), _) => devices.push(gpu),
            (Err(error), Some(adapter)) => {
                adapter.failed(&error);
                unopened.get_or_insert(error);
            }
            (Err(error), None) => return Err(error.into()),
        }
    }
    Ok((devices, unopened))
}

fn entries(only: Option<&str>) -> Result<Vec<Entry>, Failure> {
    let mut entries = all();
    let Some(only) = only else { return Ok(entries) };
    let known = entries.iter().map(|entry| entry.name).collect();
    entries.retain(|entry| entry.name == only);
    match entries.is_empty() {
        true => Err(Failure::UnknownKernel { name: only.to_owned(), known }),
        false => Ok(entries),
    }
}
