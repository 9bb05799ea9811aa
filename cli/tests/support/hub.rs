//! A hub on this machine: it serves a model as Hugging Face's hub lays one out, remembers what it was asked, and fails as it is told.

use serde_json::{Value, json};
use sha1::Digest;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The commit that the main branch is at.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Files from this size on are large ones, which have a SHA-256.
const LARGE: usize = 1000;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Asked {
    /// The first byte asked for, and the last where it is named.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse().ok()))
    }

    /// The file that is asked for, if one is.
    pub(crate) fn file(&self) -> Option<&str> {
        Some(self.path.split_once("/resolve/")?.1.split_once('/')?.1)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body after which the connection is closed.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// The files of the model `o/n`.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The hash of a small file, and of a large one.
pub(crate) fn hashes(bytes: &[u8]) -> (String, String) {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let git = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
    (digits(&git), digits(&sha2::Sha256::digest(bytes)))
}

/// The hub's list of files.
pub(crate) fn listing(files: &Files) -> Value {
    let file = |(path, bytes): (&String, &Vec<u8>)| {
        let (git, sha256) = hashes(bytes);
        let mut entry = json!({"rfilename": path, "size": bytes.len(), "blobId": git});
        if bytes.len() >= LARGE {
            entry["lfs"] = json!({"sha256": sha256, "size": bytes.len(), "pointerSize": 130});
        }
        entry
    };
    json!({"id": "o/n", "sha": COMMIT, "siblings": files.iter().map(file).collect::<Vec<_>>()})
}

/// What a hub in order answers.
pub(crate) fn answer(files: &Files, asked: &Asked) -> Reply {
    if asked.path.starts_with("/api/models/o/n/revision/main?") {
        return Reply::new(200, listing(files).to_string());
    }
    let there = asked.path.starts_with(&format!("/o/n/resolve/{COMMIT}/"));
    let Some(bytes) = asked.file().filter(|_| there).and_then(|file| files.get(file)) else {
        return Reply::new(404, "");
    };
    let Some((first, last)) = asked.range() else { return Reply::new(200, bytes.as_slice()) };
    let last = last.unwrap_or(usize::MAX).min(bytes.len() - 1);
    match bytes.get(first..=last) {
        Some(part) => Reply::new(206, part).header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len())),
        None => Reply::new(416, ""),
    }
}

/// A server that runs until the test ends.
pub(crate) struct Server {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers every request by `answer`, which is also told how many came before.
    pub(crate) fn new(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (known, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (known, answer) = (known.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &known, &*answer));
            }
        });
        Server { address, asked }
    }

    /// A server of these files without faults.
    pub(crate) fn of(files: Files) -> Server {
        Server::new(move |asked, _| answer(&files, asked))
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, known: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked, usize) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.by_ref().take(1 << 16).read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    };
    let asked = Asked { path, headers: lines[1..].iter().filter_map(header).collect() };
    let before = {
        let mut known = known.lock().unwrap();
        known.push(asked.clone());
        known.len() - 1
    };
    let reply = answer(&asked, before);
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "Content-Length" || name == "Transfer-Encoding") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let body = &reply.body[..reply.cut.unwrap_or(usize::MAX).min(reply.body.len())];
    // Whoever has heard enough hangs up.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(b"\r\n"))
        .and_then(|()| stream.write_all(body));
}
