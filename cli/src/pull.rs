//! `lampyris pull`: fetches a model from a hub into the cache that Hugging Face's tools share. The only job that opens a connection
//! by itself; it sends the model's name, and a token where one is set, and nothing else.

use crate::args::{DeviceArguments, Pull};
use crate::failure::Failure;
use crate::hub::{self, Hub, HubError, HubName, Listed, Listing, Place};
use crate::{device, fits, output};
use indicatif::{ProgressBar, ProgressStyle};
use lampyris::models::decoder::SessionOptions;
use std::sync::Arc;
use std::time::Duration;

/// A model's name as it was given, with the revision of the option.
fn name(job: &Pull) -> Result<HubName, HubError> {
    let mut name = HubName::parse(&job.model).ok_or_else(|| HubError::Name { name: job.model.clone() })?;
    if let Some(revision) = &job.revision {
        if !HubName::is_revision(revision) {
            return Err(HubError::Revision { revision: revision.clone() });
        }
        name.revision = Some(revision.clone());
    }
    Ok(name)
}

/// Fetches what `job` names and says where it is.
pub(crate) fn run(job: &Pull, arguments: &DeviceArguments) -> Result<(), Failure> {
    let name = name(job)?;
    let hub = Arc::new(Hub::of_environment(job.pause.map(Duration::from_millis))?);
    let place = Place::of(&name)?;
    let listing = hub.listing(&name)?;
    let files = hub::select(&name, &listing, &job.include)?;
    let missing: Vec<&Listed> = files.iter().filter(|file| !place.has(&listing.commit, file)).collect();
    output::print(&table(&name, &listing, &files, &missing, hub.endpoint()))?;
    if !missing.is_empty() && !said_to_fit(job, arguments, &hub, &name, &listing, &files)? && !job.anyway {
        return Err(HubError::DoesNotFit { name: name.to_string() }.into());
    }
    fetch_all(&hub, &name, &place, &listing.commit, &files)?;
    place.remember(&listing.commit)?;
    let folder = place.snapshot(&listing.commit);
    output::print(&format!(
        "all sizes and hashes are as the hub states them\nin {}\n{}",
        folder.display(),
        used(&name, &files)
    ))
}

/// What belongs to the model, how much that is, and how much of it is fetched.
fn table(name: &HubName, listing: &Listing, files: &[Listed], missing: &[&Listed], endpoint: &str) -> String {
    let mut text = format!("{name} from {endpoint}, commit {}\n", &listing.commit[..12]);
    for file in files {
        let there = if missing.contains(&file) { "" } else { "  (there already)" };
        text += &format!("  {:>10}  {}{there}\n", hub::bytes(file.size), output::one_line(&file.path));
    }
    let (all, more): (u64, u64) = (files.iter().map(|it| it.size).sum(), missing.iter().map(|it| it.size).sum());
    text + &format!("  {:>10}  in {} files, of which {} are fetched\n", hub::bytes(all), files.len(), hub::bytes(more))
}

/// Says of a language model what it will take here, and gives whether it fits; what is none always does.
fn said_to_fit(
    job: &Pull,
    arguments: &DeviceArguments,
    hub: &Arc<Hub>,
    name: &HubName,
    listing: &Listing,
    files: &[Listed],
) -> Result<bool, Failure> {
    let folder = tempfile::tempdir().map_err(Failure::Temporary)?;
    // A model that the engine does not know is fetched all the same: somebody asked for it by name.
    let decoder = match hub::headers(hub, name, &listing.commit, files, folder.path()) {
        Ok(Some(decoder)) => decoder,
        Ok(None) => return Ok(true),
        Err(Failure::Model(error)) => {
            output::note(&format!("this engine cannot run it as it is: {error}"));
            return Ok(job.anyway);
        }
        Err(failure) => return Err(failure),
    };
    let gpu = device::open(arguments)?;
    let options = SessionOptions::default();
    let report = match fits::report(&name.to_string(), options, &gpu, &decoder, None) {
        Ok(report) => report,
        Err(Failure::Model(error)) => {
            output::note(&format!("this engine cannot run it as it is: {error}"));
            return Ok(job.anyway);
        }
        Err(failure) => return Err(failure),
    };
    output::print(&report.summary())?;
    Ok(report.fits != Some(false))
}

/// Fetches the files, the small ones first, with one bar for all of them.
fn fetch_all(hub: &Hub, name: &HubName, place: &Place, commit: &str, files: &[Listed]) -> Result<(), Failure> {
    let bar = ProgressBar::new(files.iter().map(|file| file.size).sum());
    if let Ok(style) = ProgressStyle::with_template("{bytes}/{total_bytes} {wide_bar} {bytes_per_sec} {eta}  {msg}") {
        bar.set_style(style);
    }
    let mut order: Vec<&Listed> = files.iter().collect();
    order.sort_by_key(|file| file.size);
    let mut before = 0;
    for file in order {
        bar.set_message(output::one_line(&file.path));
        let fetched = hub::fetch(hub, name, place, commit, file, &mut |arrived| bar.set_position(before + arrived));
        if fetched.is_err() {
            bar.finish_and_clear();
        }
        fetched?;
        before += file.size;
    }
    bar.finish_and_clear();
    Ok(())
}

/// How it is used now.
fn used(name: &HubName, files: &[Listed]) -> String {
    let text = files.iter().any(|file| file.path.ends_with(".gguf") || file.path == "tokenizer.json");
    let job = if text { "chat" } else { "classify" };
    format!("use it as `lampyris {job} --model {name}`\n")
}
