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

/// Most browsers at once: each holds some hundred megabytes.
#[cfg(feature = "browser")]
const MOST: usize = 4;

/// What one browser's page has posted.
#[cfg(feature = "browser")]
struct Report {
    /// How many variants it was given.
    asked: usize,
    /// Its words, as JSON.
    text: String,
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

/// Compiles every variant of every kernel, in as many browsers at once as this machine has cores for; a finding for each that is
/// refused. One browser compiles all that it is given on one core.
#[cfg(feature = "browser")]
pub(crate) fn check() -> Result<(), Error> {
    let program = crate::adapters::browser().ok_or_else(|| Error::Missing {
        what: "Chromium".to_owned(),
        remedy: "install it (Debian: apt-get install chromium)".to_owned(),
    })?;
    let browsers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
    let mut shares = vec![Vec::new(); browsers];
    // The variants of a kernel lie side by side and cost about the same, so they are dealt out in turn.
    for (index, variant) in variants().into_iter().enumerate() {
        shares[index % browsers].push(variant);
    }
    let ask = |(index, share): (usize, &Vec<serde_json::Value>)| {
        Ok(Report { asked: share.len(), text: report_of(&program, index, share)? })
    };
    let ask = &ask;
    let reports: Result<Vec<Report>, Error> = std::thread::scope(|scope| {
        let asked: Vec<_> = shares.iter().enumerate().map(|it| scope.spawn(move || ask(it))).collect();
        asked.into_iter().map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    judge(&reports?)
}

/// What a browser of its own says of these variants.
#[cfg(feature = "browser")]
fn report_of(program: &Path, index: usize, variants: &[serde_json::Value]) -> Result<String, Error> {
    let profile = std::env::temp_dir().join(format!("lampyris-browser-{}-{index}", std::process::id()));
    let here = Path::new("127.0.0.1:0").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|source| Error::File { path: here.clone(), source })?;
    let address = listener.local_addr().map_err(|source| Error::File { path: here, source })?;
    let _browser = Browser::start(program, &profile, &format!("http://{address}/"))?;
    server::answer(&listener, &serde_json::json!(variants).to_string(), PATIENCE)
}

/// The pages' list: each variant with its text, as the browser wants it, and whether it needs subgroups.
#[cfg(feature = "browser")]
fn variants() -> Vec<serde_json::Value> {
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
    list.collect()
}

/// Turns the pages' reports into findings and one line of summary.
#[cfg(feature = "browser")]
fn judge(reports: &[Report]) -> Result<(), Error> {
    let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (mut findings, mut total, mut compiled, mut adapter) = (Vec::new(), 0, 0, String::new());
    for report in reports {
        let value: serde_json::Value = serde_json::from_str(&report.text).unwrap_or_default();
        let verdicts = value["variants"].as_array().map_or(&[][..], Vec::as_slice);
        for it in verdicts {
            let (variant, problem, skipped) = (text(it, "variant"), text(it, "problem"), text(it, "skipped"));
            compiled += usize::from(skipped.is_empty());
            if !problem.is_empty() {
                findings.push(format!("{variant} does not compile in the browser: {problem}"));
            }
            if !skipped.is_empty() {
                println!("xtask: {variant} not tried: {skipped}");
            }
        }
        let error = text(&value, "error");
        if !error.is_empty() {
            findings.push(format!("the page stopped: {error}"));
        } else if verdicts.len() != report.asked {
            findings.push(format!("the page told of {} of {} variants", verdicts.len(), report.asked));
        }
        total += report.asked;
        adapter = text(&value, "adapter");
    }
    if compiled == 0 {
        findings.push("no kernel was compiled, so nothing was proved".to_owned());
    }
    if !findings.is_empty() {
        return Err(Error::Check { findings });
    }
    println!("xtask: {compiled} of {total} variants compile on {adapter}");
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
    use super::{Report, judge};

    #[test]
    fn a_refused_kernel_an_error_and_a_report_that_lacks_something_are_findings() {
        let judge_all = |texts: &[&str]| {
            let reports: Vec<Report> = texts.iter().map(|&text| Report { asked: 1, text: text.to_owned() }).collect();
            judge(&reports)
        };
        let good = r#"{"adapter":"a","error":"","variants":[{"variant":"v","problem":"","skipped":""}]}"#;
        assert!(judge_all(&[good]).is_ok());
        assert!(judge_all(&[good, good]).is_ok());
        let refused = good.replace(r#""problem":"""#, r#""problem":"no such word""#);
        let stopped = good.replace(r#""error":"""#, r#""error":"no adapter""#);
        for bad in [&*refused, &*stopped, r#"{"adapter":"a","error":"","variants":[]}"#, ""] {
            assert!(judge_all(&[bad]).is_err(), "{bad}");
            assert!(judge_all(&[good, bad]).is_err() && judge_all(&[bad, good]).is_err(), "beside a good one: {bad}");
        }
        let skipped = good.replace(r#""skipped":"""#, r#""skipped":"no subgroups""#);
        assert!(judge_all(&[&skipped]).is_err(), "nothing was compiled");
        assert!(judge_all(&[good, &skipped]).is_ok());
    }
}
