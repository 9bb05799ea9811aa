//! The smallest web server that can talk to one page: it gives the page and the kernels, and takes one report.

use crate::process::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The page that compiles the kernels.
const PAGE: &str = include_str!("page.html");

/// The largest report that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// Serves until the report arrives, and gives it; an error when it does not come in time.
pub(super) fn answer(listener: &TcpListener, kernels: &str, patience: Duration) -> Result<String, Error> {
    let failed = |source| Error::File { path: PathBuf::from("the loopback address"), source };
    listener.set_nonblocking(true).map_err(failed)?;
    let begun = Instant::now();
    while begun.elapsed() < patience {
        match listener.accept() {
            // A connection that says nothing or breaks off is the browser's business: it asks again.
            Ok((stream, _)) => {
                if let Ok(Some(report)) = serve(stream, kernels) {
                    return Ok(report);
                }
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    Err(Error::Missing {
        what: "the browser's report".to_owned(),
        remedy: format!("it did not come within {} s; is the browser able to start here?", patience.as_secs()),
    })
}

/// Answers one request; gives the body of a posted report.
fn serve(stream: TcpStream, kernels: &str) -> std::io::Result<Option<String>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut reader = BufReader::new(&stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? <= 2 {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut words = first.split(' ');
    match (words.next(), words.next()) {
        (Some("GET"), Some("/")) => reply(&stream, "200 OK", "text/html", PAGE)?,
        (Some("GET"), Some("/kernels.json")) => reply(&stream, "200 OK", "application/json", kernels)?,
        (Some("POST"), Some("/report")) => {
            let mut body = String::new();
            reader.take(LARGEST.min(length)).read_to_string(&mut body)?;
            reply(&stream, "200 OK", "text/plain", "")?;
            return Ok(Some(body));
        }
        _ => reply(&stream, "404 Not Found", "text/plain", "")?,
    }
    Ok(None)
}

/// Writes a whole answer and lets the connection end with it.
fn reply(mut stream: &TcpStream, status: &str, kind: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
