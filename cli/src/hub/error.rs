//! What can keep a model from being fetched, each in one sentence.

use std::io;

/// Why a model, or a file of it, cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// The name is none.
    #[error("{name} is no model's name; name one as ORG/NAME, with @REVISION or /FILE behind it if need be")]
    Name { name: String },
    /// The revision is none.
    #[error("{revision} is no revision's name; give a branch, a tag or a commit")]
    Revision { revision: String },
    /// Only local files may be used.
    #[error("HF_HUB_OFFLINE is set, so nothing is fetched; unset it, or name a model that is on disk")]
    Offline,
    /// The endpoint is none.
    #[error("HF_ENDPOINT is {endpoint}, which is no http or https address")]
    Endpoint { endpoint: String },
    /// There is nowhere to put it.
    #[error("there is no folder for a cache; set HF_HOME to one")]
    NoCache,
    /// The hub wants to know who asks.
    #[error(
        "{endpoint} says that {name} does not exist or needs a token ({status}); check the name, or set HF_TOKEN to a token that may read it"
    )]
    Unauthorized { endpoint: String, name: String, status: u16 },
    /// The hub knows who asks and refuses.
    #[error(
        "{endpoint} refuses {name} to this token (403); accept the model's terms on its page, or set HF_TOKEN to another token"
    )]
    Forbidden { endpoint: String, name: String },
    /// There is no such model, revision or file.
    #[error("{endpoint} has no {what} of {name} (404); check name and revision")]
    NotFound { endpoint: String, name: String, what: String },
    /// The hub is asked too much.
    #[error("{endpoint} asks to wait{} (429); try again later", .seconds.map_or(String::new(), |seconds| format!(" {seconds} s")))]
    TooMany { endpoint: String, seconds: Option<u64> },
    /// Another answer that helps nobody.
    #[error("{endpoint} answered {what} with status {status}; try again later")]
    Status { endpoint: String, what: String, status: u16 },
    /// No answer at all.
    #[error("{what} cannot be fetched: {reason}; try again when there is a connection")]
    Network { what: String, reason: String },
    /// A file that broke off too often.
    #[error("{what} cannot be fetched: {reason}; what has arrived is kept, so the same command goes on from there")]
    Broken { what: String, reason: String },
    /// Nobody to ask about a model that is not on disk.
    #[error(
        "{name} is neither a file or folder nor a model that was pulled, and {endpoint} cannot be asked about it: {reason}; name a model that is on disk, or try again when there is a connection"
    )]
    Unreached { name: String, endpoint: String, reason: String },
    /// The list of files makes no sense.
    #[error("{endpoint} describes {name} in a way that cannot be used: {reason}")]
    Listing { endpoint: String, name: String, reason: String },
    /// A file's name leads out of the model's folder.
    #[error("{name} lists the file {file:?}, which does not stay in its folder; nothing was fetched")]
    Outside { name: String, file: String },
    /// A file without a hash cannot be checked.
    #[error("{endpoint} states no size or no hash of {file}, so it could not be checked; nothing was fetched")]
    Unstated { endpoint: String, file: String },
    /// Nothing is left to fetch.
    #[error("{name} has no file that {wanted}; it has {files}")]
    NoFiles { name: String, wanted: String, files: String },
    /// Several models in one place.
    #[error("{name} holds {count} GGUF models: {files}; name one as {name}/FILE, or choose with --include")]
    Several { name: String, count: usize, files: String },
    /// A file is not as long as was said.
    #[error("{file} has {found} bytes and not the {stated} that the hub states; it was thrown away")]
    Size { file: String, stated: u64, found: u64 },
    /// A file holds something else than was said.
    #[error("{file} has the hash {found} and not {stated}, which the hub states; it was thrown away")]
    Hash { file: String, stated: String, found: String },
    /// Another process fetches the same file.
    #[error("{path} is being written by another process; wait for it")]
    Locked { path: String },
    /// The cache cannot be read or written.
    #[error("{path} cannot be {action}: {source}")]
    Io { path: String, action: &'static str, source: io::Error },
    /// It would not run here.
    #[error("{name} was not fetched, because it does not fit this machine; --anyway fetches it all the same")]
    DoesNotFit { name: String },
    /// Something that was pulled lacks what was asked for.
    #[error("there is no file or folder {name}, and no such model was pulled{}; `lampyris pull {name}` fetches it", .others)]
    NotPulled { name: String, others: String },
}

impl HubError {
    /// Whether the network or the hub failed, which the caller cannot mend.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        matches!(
            self,
            HubError::Network { .. }
                | HubError::Broken { .. }
                | HubError::Unreached { .. }
                | HubError::TooMany { .. }
                | HubError::Status { .. }
        )
    }

    /// The same of a file whose bytes are kept as they arrive.
    pub(super) fn kept(self) -> HubError {
        match self {
            HubError::Network { what, reason } => HubError::Broken { what, reason },
            other => other,
        }
    }
}
