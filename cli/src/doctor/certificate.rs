//! The certificate of one adapter: every variant of every case held against the twin, and what came of it.

use crate::failure::Failure;
use crate::output;
use lampyris::engine::certify::{Prepared, Verdict};
use lampyris::engine::kernels::{Entry, Source, Tier};
use lampyris::{AdapterKind, Gpu, engine};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One line of a certificate.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<String>,
    kernel: String,
    variant: String,
    case: String,
    /// Absent when there is no result to compare, or a result that is no number.
    worst_error: Option<f64>,
    /// Absent when there was no time for the check.
    tolerance: Option<f64>,
    verdict: &'static str,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// All checks on one adapter.
#[derive(Debug)]
pub(super) struct Checked {
    adapter: String,
    verdicts: Vec<(Verdict, f64)>,
    /// Kernel, variant and case of what there was no time for.
    unreached: Vec<(String, String, String)>,
    /// The device was lost so often that the checks ended.
    given_up: bool,
    took: Duration,
}

/// How a lost device is replaced.
pub(super) type Reopen<'a> = &'a (dyn Fn() -> Result<Gpu, engine::Error> + Sync);

/// How long the short form goes on starting checks. Drivers that compile slowly, as software adapters do at first, reach the
/// variants that the engine is likeliest to choose, and the rest is reported as not reached.
const SHORT: Duration = Duration::from_secs(15);

/// Most devices of one software adapter that work side by side.
const MOST_DEVICES: usize = 8;

/// How many lost devices are replaced before no check is started any more. Each may cost a driver's patience of seconds.
const MOST_LOSSES: usize = 3;

/// What is certified.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// The short cases, with the variants that the engine chooses from on this adapter.
    Short,
    /// Every case, with every variant that the adapter can run.
    Full,
}

/// A variant with the cases to check it on.
struct Group<'a> {
    source: &'static Source,
    /// How many variants the engine likes better for the case where it is liked best.
    rank: usize,
    /// Positions among the checks, and the cases.
    cases: Vec<(usize, &'a Prepared)>,
}

/// Holds the kernels of `entries` against their twins on `gpu`. A check that loses the device has failed; the others go on with
/// the one that `reopen` gives.
pub(super) fn certify(gpu: &Gpu, reopen: Reopen<'_>, entries: &[Entry], extent: Extent) -> Result<Checked, Failure> {
    let start = Instant::now();
    let tier = match extent {
        Extent::Short => Tier::Short,
        Extent::Full => Tier::Model,
    };
    let cases: Vec<_> = entries.iter().flat_map(|entry| (entry.cases)()).filter(|case| case.tier <= tier).collect();
    let progress = output::progress(cases.len(), "running the twins");
    let mut prepared = Vec::with_capacity(cases.len());
    for case in &cases {
        prepared.push(Prepared::new(case)?);
        progress.inc(1);
    }
    progress.finish_and_clear();

    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut total = 0;
    for case in &prepared {
        let variants = match extent {
            Extent::Short => case.candidates(gpu),
            Extent::Full => case.variants(gpu)?,
        };
        for (rank, source) in variants.into_iter().enumerate() {
            match groups.iter_mut().find(|group| group.source == source) {
                Some(group) => {
                    group.rank = group.rank.min(rank);
                    group.cases.push((total, case));
                }
                None => groups.push(Group { source, rank, cases: vec![(total, case)] }),
            }
            total += 1;
        }
    }
    // Every kernel is reached with one variant before any with two; long shaders compile slowly, so short ones come first.
    groups.sort_by_cached_key(|group| (group.rank, group.source.wgsl.text().len()));
    let mut seen: HashMap<&str, usize> = HashMap::new();
    groups.sort_by_cached_key(|group| {
        let nth = seen.entry(group.source.kernel).or_default();
        *nth += 1;
        (group.rank, *nth)
    });
    let until = match extent {
        Extent::Short => Some(start + SHORT),
        Extent::Full => None,
    };
    let (mut outcomes, given_up) = check_all(gpu, reopen, &groups, total, until)?;
    outcomes.sort_by_key(|(at, ..)| *at);
    let verdicts: Vec<(Verdict, f64)> = outcomes.iter().map(|(_, verdict, ms)| (verdict.clone(), *ms)).collect();
    let reached: HashSet<usize> = outcomes.iter().map(|(at, ..)| *at).collect();
    let all = groups.iter().flat_map(|group| group.cases.iter().map(|(at, case)| (at, group.source, case)));
    let unreached = all
        .filter(|(at, ..)| !reached.contains(at))
        .map(|(_, source, case)| (source.kernel.to_owned(), source.label.to_owned(), case.case().label.clone()));
    let unreached = unreached.collect();
    Ok(Checked { adapter: gpu.summary().to_string(), verdicts, unreached, given_up, took: start.elapsed() })
}

/// A check's position, what it gave, and the milliseconds it took.
type Outcome = (usize, Verdict, f64);

/// Checks all groups, starting none after `until`, and says whether it gave up on losing devices. A real GPU's driver compiles
/// on all threads ahead of the checks; a software adapter compiles when a kernel first runs, one after the other on a device, so
/// several devices share the groups.
fn check_all(
    gpu: &Gpu,
    reopen: Reopen<'_>,
    groups: &[Group<'_>],
    total: usize,
    until: Option<Instant>,
) -> Result<(Vec<Outcome>, bool), Failure> {
    let software = gpu.summary().kind == AdapterKind::Software;
    // OpenGL's contexts take turns, so a second device gains nothing there.
    let several = software && gpu.summary().backend != "gl";
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_DEVICES).min(groups.len());
    let mut devices = vec![gpu.clone()];
    if several {
        for _ in 1..threads {
            // Fewer devices take longer, and check the same.
            devices.extend(reopen().ok());
        }
    } else if !software {
        let sources: Vec<Source> = groups.iter().map(|group| *group.source).collect();
        let progress = output::progress(sources.len(), "compiling");
        match gpu.block_on(gpu.warm(&sources, &|| progress.inc(1))) {
            Ok(()) => {}
            // Which kernel it was, the check that compiles it again tells.
            Err(engine::Error::DeviceLost { .. }) => devices = vec![reopen()?],
            Err(error) => return Err(error.into()),
        }
        progress.finish_and_clear();
    }
    let progress = output::progress(total, "checking");
    let (next, losses) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |gpu: &Gpu| -> Result<Vec<Outcome>, Failure> {
        let mut gpu = gpu.clone();
        let mut outcomes = Vec::new();
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            for (at, case) in &group.cases {
                let start = Instant::now();
                if until.is_some_and(|until| start > until) {
                    break;
                }
                if losses.load(Ordering::Relaxed) > MOST_LOSSES {
                    return Ok(outcomes);
                }
                let verdict = match gpu.block_on(case.check(&gpu, group.source)) {
                    Err(error @ engine::Error::DeviceLost { .. }) => {
                        losses.fetch_add(1, Ordering::Relaxed);
                        // The best adapter may be another one by now.
                        gpu = reopen().ok().filter(|fresh| fresh.summary() == gpu.summary()).unwrap_or(gpu);
                        case.failed(group.source, &error)
                    }
                    verdict => verdict?,
                };
                outcomes.push((*at, verdict, start.elapsed().as_secs_f64() * 1e3));
                progress.inc(1);
            }
        }
        Ok(outcomes)
    };
    let outcomes = std::thread::scope(|scope| {
        let workers: Vec<_> = devices.iter().map(|gpu| scope.spawn(|| work(gpu))).collect();
        let mut all = Vec::with_capacity(total);
        for worker in workers {
            match worker.join() {
                Ok(outcomes) => all.extend(outcomes?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    });
    progress.finish_and_clear();
    outcomes.map(|outcomes| (outcomes, losses.into_inner() > MOST_LOSSES))
}

/// An error that names the first failed check, if any failed.
pub(super) fn verdict(checked: &[Checked]) -> Result<(), Failure> {
    let all = || checked.iter().flat_map(|c| c.verdicts.iter().map(move |(verdict, _)| (verdict, &c.adapter)));
    let mut failed = all().filter(|(verdict, _)| !verdict.passed());
    let Some((first, adapter)) = failed.next() else { return Ok(()) };
    let what = match &first.failure {
        Some(failure) => output::one_line(failure),
        None => format!("is off by {:.1e} where {:.1e} is allowed", first.worst_error, first.tolerance),
    };
    let first = format!("{} ({}, case {}) on {adapter}: {what}", first.kernel, first.variant, first.case);
    Err(Failure::Certificate { failed: 1 + failed.count(), total: all().count(), first })
}

impl Checked {
    /// What there was no time for, in words.
    pub(super) fn unreached(&self) -> Option<String> {
        let variants: HashSet<_> = self.unreached.iter().map(|(kernel, variant, _)| (kernel, variant)).collect();
        let why = match self.given_up {
            true => format!("because the device was lost {} times", MOST_LOSSES + 1),
            false => format!(
                "in {} s, because the driver is still compiling kernels; run it again, or with --full",
                SHORT.as_secs()
            ),
        };
        let (checks, variants) = (self.unreached.len(), variants.len());
        (checks > 0).then(|| format!("{checks} checks of {variants} variants were not reached {why}"))
    }

    /// The certificate as data; each line names the adapter when there may be several.
    pub(super) fn lines(&self, named: bool) -> impl Iterator<Item = Check> + '_ {
        let adapter = move || named.then(|| self.adapter.clone());
        let reached = self.verdicts.iter().map(move |(v, ms)| Check {
            adapter: adapter(),
            kernel: v.kernel.clone(),
            variant: v.variant.clone(),
            case: v.case.clone(),
            worst_error: (v.failure.is_none() && v.worst_error.is_finite()).then_some(v.worst_error),
            tolerance: Some(v.tolerance),
            verdict: if v.passed() { "pass" } else { "fail" },
            ms: (ms * 1e3).round() / 1e3,
            failure: v.failure.clone(),
        });
        let unreached = self.unreached.iter().map(move |(kernel, variant, case)| Check {
            adapter: adapter(),
            kernel: kernel.clone(),
            variant: variant.clone(),
            case: case.clone(),
            worst_error: None,
            tolerance: None,
            verdict: "not reached",
            ms: 0.0,
            failure: None,
        });
        reached.chain(unreached)
    }

    /// The certificate for people: a line for each variant, with its worst case.
    pub(super) fn table(&self) -> String {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (verdict, ms) in &self.verdicts {
            let known = rows.iter_mut().find(|r| (r.kernel, r.variant) == (&verdict.kernel, &verdict.variant));
            match known {
                Some(row) => row.add(verdict, *ms),
                None => rows.push(Row::new(verdict, *ms)),
            }
        }
        let head = ("kernel", "variant", "cases", "worst error", "of allowed", "ms");
        let mut text = format!("\ncertificate of {}\n", output::one_line(&self.adapter));
        text +=
            &format!("  {:18} {:26} {:>5}  {:>11}  {:>10}  {:>8}\n", head.0, head.1, head.2, head.3, head.4, head.5);
        rows.iter().for_each(|row| text += &row.text());
        for (v, _) in self.verdicts.iter().filter(|(v, _)| !v.passed()) {
            let said = v.failure.as_deref().map(output::one_line).unwrap_or_default();
            let (error, allowed) = (v.worst_error, v.tolerance);
            text += &format!("  FAILED {} {} {}: {error:.1e} of {allowed:.1e} {said}\n", v.kernel, v.variant, v.case);
        }
        let failed = self.verdicts.iter().filter(|(v, _)| !v.passed()).count();
        let kernels: HashSet<&str> = rows.iter().map(|row| row.kernel.as_str()).collect();
        let verdict = match (failed, self.unreached.len()) {
            (0, 0) => "all agree with their twins".to_owned(),
            (0, unreached) => format!("these agree with their twins, and {unreached} checks were not reached"),
            (failed, _) => format!("{failed} FAILED"),
        };
        text += &format!(
            "  {} checks of {} variants of {} kernels in {:.1} s: {verdict}\n",
            self.verdicts.len(),
            rows.len(),
            kernels.len(),
            self.took.as_secs_f64(),
        );
        text
    }
}

/// One variant's checks together.
struct Row<'a> {
    kernel: &'a String,
    variant: &'a String,
    cases: usize,
    failed: usize,
    worst: f64,
    /// Largest share of what is allowed.
    share: f64,
    ms: f64,
}

impl<'a> Row<'a> {
    fn new(verdict: &'a Verdict, ms: f64) -> Row<'a> {
        let (kernel, variant) = (&verdict.kernel, &verdict.variant);
        let mut row = Row { kernel, variant, cases: 0, failed: 0, worst: 0.0, share: 0.0, ms: 0.0 };
        row.add(verdict, ms);
        row
    }

    fn add(&mut self, verdict: &Verdict, ms: f64) {
        self.cases += 1;
        self.failed += usize::from(!verdict.passed());
        self.worst = self.worst.max(verdict.worst_error);
        self.share =
            self.share.max(if verdict.worst_error > 0.0 { verdict.worst_error / verdict.tolerance } else { 0.0 });
        self.ms += ms;
    }

    fn text(&self) -> String {
        let failed = if self.failed > 0 { format!("  {} FAILED", self.failed) } else { String::new() };
        format!(
            "  {:18} {:26} {:5}  {:11.1e}  {:8.0} %  {:8.1}{failed}\n",
            self.kernel,
            self.variant,
            self.cases,
            self.worst,
            100.0 * self.share,
            self.ms
        )
    }
}
