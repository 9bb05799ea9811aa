//! Every kernel put before a second judge: Chromium's WebGPU (Dawn and Tint), which shares no code with wgpu and naga.
//!
//! A page served on this machine's loopback address fetches the linked shaders, compiles each and makes a pipeline of it
//! under WebGPU's default limits, and posts back what the browser said.

#[cfg(feature = "browser")]
mod server;

use crate::process::Error;
#[cfg(feature = "browser")]
use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long the browser may take for everything; a software adapter compiles about ten pipelines a second, and one on a busy machine.
#[cfg(feature = "browser")]
const PATIENCE: Duration = Duration::from_secs(1200);

/// What the page says of one variant.
#[cfg(feature = "browser")]
struct Verdict {
    /// Kernel and variant.
    variant: String,
    /// Empty when it compiled.
    problem: String,
    /// Why it was not tried, empty when it was.
    skipped: String,
}

/// Starts this program again with the kernels linked in.
#[cfg(not(feature = "browser"))]
pub(crate) fn check() -> Result<(), Error> {
    let mut command = crate::process::cargo();
    crate::process::run(command.args([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--features",
        "browser",
        "--",
        "browser",
    ]))
}

/// Compiles every variant of every kernel in the browser; a finding for each that it refuses.
#[cfg(feature = "browser")]
pub(crate) fn check() -> Result<(), Error> {
    let program = crate::adapters::browser().ok_or_else(|| Error::Missing {
        what: "Chromium".to_owned(),
        remedy: "install it (Debian: apt-get install chromium)".to_owned(),
    })?;
    let profile = std::env::temp_dir().join(format!("lampyris-browser-{}", std::process::id()));
    let here = Path::new("127.0.0.1:0").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|source| Error::File { path: here.clone(), source })?;
    let address = listener.local_addr().map_err(|source| Error::File { path: here, source })?;
    let browser = Browser::start(&program, &profile, &format!("http://{address}/"))?;
    let report = server::answer(&listener, &kernels(), PATIENCE)?;
    drop(browser);
    judge(&report)
}

/// The page's list: each variant with its text, as the browser wants it, and whether it needs subgroups.
#[cfg(feature = "browser")]
fn kernels() -> String {
    let sources = lampyris_shaders::all().into_iter().flat_map(|entry| entry.sources);
    let list = sources.map(|source| {
        let (subgroups, text) = (source.subgroup > 0, source.wgsl.text());
        // A browser asks for this directive; wgpu's compiler refuses it and takes subgroup operations without it.
        let asked = if subgroups && !text.contains("enable subgroups;") { "enable subgroups;\n" } else { "" };
        serde_json::json!({
            "variant": format!("{}[{}]", source.kernel, source.label),
            "wgsl": format!("{asked}{text}"),
            "subgroups": subgroups,
        })
    });
    serde_json::Value::Array(list.collect()).to_string()
}

/// Turns the page's report into findings and one line of summary.
#[cfg(feature = "browser")]
fn judge(report: &str) -> Result<(), Error> {
    let value: serde_json::Value = serde_json::from_str(report).unwrap_or_default();
    let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let verdicts: Vec<Verdict> = value["variants"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| Verdict { variant: text(it, "variant"), problem: text(it, "problem"), skipped: text(it, "skipped") })
        .collect();
    let mut findings: Vec<String> = verdicts
        .iter()
        .filter(|it| !it.problem.is_empty())
        .map(|it| format!("{} does not compile in the browser: {}", it.variant, it.problem))
        .collect();
    let skipped: Vec<&Verdict> = verdicts.iter().filter(|it| !it.skipped.is_empty()).collect();
    for it in &skipped {
        println!("xtask: {} not tried: {}", it.variant, it.skipped);
    }
    let error = text(&value, "error");
    if !error.is_empty() {
        findings.push(format!("the page stopped: {error}"));
    } else if verdicts.len() == skipped.len() {
        findings.push("no kernel was compiled, so nothing was proved".to_owned());
    }
    if !findings.is_empty() {
        return Err(Error::Check { findings });
    }
    println!(
        "xtask: {} of {} variants compile on {}",
        verdicts.len() - skipped.len(),
        verdicts.len(),
        text(&value, "adapter")
    );
    Ok(())
}

/// A headless browser with a profile of its own; both end with it.
#[cfg(feature = "browser")]
struct Browser {
    /// The process.
    child: Child,
    /// Its throw-away profile.
    profile: std::path::PathBuf,
}

#[cfg(feature = "browser")]
impl Browser {
    /// Opens one page on the software adapter, with everything off that would look for a network.
    fn start(program: &Path, profile: &Path, page: &str) -> Result<Self, Error> {
        let mut command = Command::new(program);
        // The sandbox needs rights that containers withhold; the one page it shows is ours.
        command.args(["--headless", "--no-sandbox", "--no-first-run", "--disable-background-networking"]);
        command.args(["--disable-component-update", "--disable-sync", "--disable-quic"]);
        command.args(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]);
        command.arg(format!("--user-data-dir={}", profile.display())).arg(page);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Ok(Self { child, profile: profile.to_owned() }),
            Err(source) => Err(Error::Start { command: program.display().to_string(), source }),
        }
    }
}

#[cfg(feature = "browser")]
impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end shortly after it does and write to the profile until then.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        let mut removed = std::fs::remove_dir_all(&self.profile);
        for _ in 0..50 {
            if removed.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            removed = std::fs::remove_dir_all(&self.profile);
        }
        if let Some(error) = ended.err().or(removed.err()) {
            eprintln!("xtask: {} may stay behind: {error}", self.profile.display());
        }
    }
}

#[cfg(all(test, feature = "browser"))]
mod tests {
    use super::judge;

    #[test]
    fn a_refused_kernel_an_error_and_an_empty_report_are_findings() {
        let good = r#"{"adapter":"a","error":"","variants":[{"variant":"v","problem":"","skipped":""}]}"#;
        assert!(judge(good).is_ok());
        assert!(judge(&good.replace(r#""problem":"""#, r#""problem":"no such word""#)).is_err());
        assert!(judge(&good.replace(r#""skipped":"""#, r#""skipped":"no subgroups""#)).is_err());
        assert!(judge(&good.replace(r#""error":"""#, r#""error":"no adapter""#)).is_err());
        assert!(judge("").is_err());
    }
}
