//! Models on a hub with Hugging Face's layout: their names, the cache that all of its tools share, and the way to fetch them.
//!
//! This module and the feature `pull` are the only ones in the workspace with a crate that can open a connection, and of the jobs
//! only `pull` and, for a model that is not on disk, `fits` come here with a network in hand. Looking a name up in the cache reads
//! the disk alone.

mod cache;
mod client;
mod error;
mod listing;
mod name;
mod remote;
mod select;
mod transfer;

pub(crate) use cache::Place;
pub(crate) use client::Hub;
pub(crate) use error::HubError;
pub(crate) use listing::{Listed, Listing};
pub(crate) use name::HubName;
pub(crate) use remote::headers;
pub(crate) use select::{bytes, select};
pub(crate) use transfer::fetch;
