//! Asks a hub for things by http: who is asked and with which token, what its refusals mean, and how long to wait.

use super::cache::home;
use super::listing::Listing;
use super::{HubError, HubName};
use std::ops::Range;
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body, config::RedirectAuthHeaders};

/// The hub that is asked unless `HF_ENDPOINT` names another.
const USUAL_ENDPOINT: &str = "https://huggingface.co";
/// The most bytes of a list of files.
const MOST_LISTING: u64 = 64 << 20;
/// How long a connection may take, and how long it may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often one request is made before its failure counts.
const TRIES: u32 = 5;
/// The first wait before a request is made again; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that a hub is granted.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// A hub with Hugging Face's paths.
pub(crate) struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    /// The first wait before a request is made again.
    first_wait: Duration,
}

/// What to do about an answer that is none.
enum Refused {
    /// Ask again, after some seconds if the hub says so.
    Wait(Option<u64>, HubError),
    /// Asking again would not help.
    For(HubError),
}

/// A variable's text, unless it is empty.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

impl Hub {
    /// The hub that the environment names: `HF_ENDPOINT`, `HF_TOKEN` or the file with a token that `hf auth login` writes.
    /// `first_wait` replaces the usual wait before a request is made again.
    pub(crate) fn of_environment(first_wait: Option<Duration>) -> Result<Hub, HubError> {
        if text("HF_HUB_OFFLINE")
            .is_some_and(|value| !["0", "false", "no", "off"].contains(&value.to_lowercase().as_str()))
        {
            return Err(HubError::Offline);
        }
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| USUAL_ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['@', ' '])) {
            return Err(HubError::Endpoint { endpoint });
        }
        let file = || home().and_then(|home| std::fs::read_to_string(home.join("token")).ok());
        let token = text("HF_TOKEN").or_else(|| Some(file()?.trim().to_owned())).filter(|token| is_token(token));
        // What is told in the clear is told to everybody on the way; this machine alone is no way.
        let local =
            host.is_some_and(|host| ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host.starts_with(name)));
        let secure = endpoint.starts_with("https://");
        if token.is_some() && !secure && !local {
            crate::output::note("HF_ENDPOINT is no https address, so the token is not sent");
        }
        let config = Agent::config_builder()
            .user_agent(concat!("lampyris/", env!("CARGO_PKG_VERSION")))
            .https_only(secure)
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE));
        let first_wait = first_wait.unwrap_or(FIRST_WAIT);
        Ok(Hub { agent: config.build().into(), endpoint, token: token.filter(|_| secure || local), first_wait })
    }

    /// The address that is asked.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What the model's revision is and which files it has.
    pub(crate) fn listing(&self, name: &HubName) -> Result<Listing, HubError> {
        self.listing_in(name, TRIES)
    }

    /// The same for somebody who only wants to know: asked once, without waiting.
    pub(crate) fn listing_at_once(&self, name: &HubName) -> Result<Listing, HubError> {
        self.listing_in(name, 1).map_err(|error| match error {
            HubError::Network { reason, .. } => {
                HubError::Unreached { name: name.to_string(), endpoint: self.endpoint.clone(), reason }
            }
            other => other,
        })
    }

    fn listing_in(&self, name: &HubName, tries: u32) -> Result<Listing, HubError> {
        let revision = encoded(name.revision(), false);
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, name.repo);
        let what = format!("the list of files of {}", name.repo);
        let answer = self.ask(&url, None, (name, &format!("revision {}", name.revision())), tries)?;
        let bytes = whole(answer, MOST_LISTING).map_err(|reason| HubError::Network { what, reason })?;
        Listing::read(&self.endpoint, &name.repo, &bytes)
    }

    /// Some bytes of a file, or from some byte on.
    pub(super) fn bytes(
        &self,
        name: &HubName,
        (commit, file): (&str, &str),
        range: Option<(u64, Option<u64>)>,
    ) -> Result<Response<Body>, HubError> {
        let url = format!("{}/{}/resolve/{commit}/{}", self.endpoint, name.repo, encoded(file, true));
        self.ask(&url, range, (name, &format!("file {file}")), TRIES)
    }

    /// Exactly these bytes of a file.
    pub(super) fn range(&self, name: &HubName, of: (&str, &str), range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let answer = self.bytes(name, of, Some((range.start, Some(range.end - 1))))?;
        let skipped = if answer.status() == 206 { 0 } else { range.start };
        let failed = |reason: String| HubError::Network { what: of.1.to_owned(), reason };
        let mut reader = answer.into_body().into_reader();
        let read = std::io::copy(&mut std::io::Read::take(&mut reader, skipped), &mut std::io::sink());
        read.map_err(|error| failed(error.to_string()))?;
        let mut bytes = Vec::new();
        let read = std::io::Read::read_to_end(&mut std::io::Read::take(reader, wanted), &mut bytes);
        read.map_err(|error| failed(error.to_string()))?;
        match bytes.len() as u64 == wanted {
            true => Ok(bytes),
            false => Err(failed(format!("{} bytes came where {wanted} were asked for", bytes.len()))),
        }
    }

    /// Asks, up to `most` times, until there is an answer that means yes, or waiting does not help.
    fn ask(
        &self,
        url: &str,
        range: Option<(u64, Option<u64>)>,
        (name, what): (&HubName, &str),
        most: u32,
    ) -> Result<Response<Body>, HubError> {
        let mut tries = 0;
        loop {
            let (asked, error) = match self.once(url, range, name, what) {
                Ok(answer) => return Ok(answer),
                Err(Refused::For(error)) => return Err(error),
                Err(Refused::Wait(seconds, error)) => (seconds.map(Duration::from_secs), error),
            };
            tries += 1;
            if tries == most || asked.is_some_and(|asked| asked > LONGEST_WAIT) {
                return Err(error);
            }
            self.wait(tries, asked, &error);
        }
    }

    /// Waits before the request is made again that has failed `tries` times, and says why.
    pub(super) fn wait(&self, tries: u32, asked: Option<Duration>, error: &HubError) {
        let pause = asked.unwrap_or(self.first_wait * (1 << (tries - 1)));
        crate::output::note(&format!("{error}; trying again in {} s", pause.as_secs_f64()));
        std::thread::sleep(pause);
    }

    fn once(
        &self,
        url: &str,
        range: Option<(u64, Option<u64>)>,
        name: &HubName,
        what: &str,
    ) -> Result<Response<Body>, Refused> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some((from, to)) = range {
            let to = to.map(|to| to.to_string()).unwrap_or_default();
            request = request.header("Range", format!("bytes={from}-{to}"));
        }
        let answer = match request.call() {
            Ok(answer) => answer,
            Err(error) => {
                let failed =
                    HubError::Network { what: format!("the {what} of {}", name.repo), reason: error.to_string() };
                return Err(match error {
                    // A name that nobody knows, or an address in the clear behind a safe one, stays what it is.
                    ureq::Error::HostNotFound | ureq::Error::RequireHttpsOnly(_) | ureq::Error::BadUri(_) => {
                        Refused::For(failed)
                    }
                    ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TooManyRedirects => {
                        Refused::For(failed)
                    }
                    _ => Refused::Wait(None, failed),
                });
            }
        };
        let (endpoint, status) = (self.endpoint.clone(), answer.status().as_u16());
        let (repo, what) = (name.repo.clone(), what.to_owned());
        let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Err(match status {
            200 | 206 | 416 => return Ok(answer),
            401 => Refused::For(HubError::Unauthorized { endpoint, name: repo, status }),
            403 => Refused::For(HubError::Forbidden { endpoint, name: repo }),
            404 => Refused::For(HubError::NotFound { endpoint, name: repo, what }),
            429 => Refused::Wait(asked, HubError::TooMany { endpoint, seconds: asked }),
            500.. => Refused::Wait(asked, HubError::Status { endpoint, what, status }),
            _ => Refused::For(HubError::Status { endpoint, what, status }),
        })
    }
}

/// All of a body of at most `most` bytes.
fn whole(answer: Response<Body>, most: u64) -> Result<Vec<u8>, String> {
    let body = answer.into_body().into_with_config().limit(most).read_to_vec();
    body.map_err(|error| error.to_string())
}

/// Whether a text can be a token: nothing that ends a header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A path or a revision as a part of an address.
fn encoded(text: &str, slashes: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slashes && byte == b'/');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_nothing_that_means_something_else() {
        assert_eq!(encoded("1_Pooling/a b#c?.json", true), "1_Pooling/a%20b%23c%3F.json");
        assert_eq!(encoded("refs/pr/3", false), "refs%2Fpr%2F3");
        assert!(is_token("hf_abc") && !is_token("hf\r\nHost: x") && !is_token(""));
    }
}
