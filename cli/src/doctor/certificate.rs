//! The certificate of one adapter: every variant of every case held against the twin, and what came of it.

use crate::failure::Failure;
use crate::output;
use lampyris::Gpu;
use lampyris::engine::certify::{Prepared, Verdict};
use lampyris::engine::kernels::{Entry, Source, Tier};
use serde::Serialize;
use std::collections::HashSet;
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
    tolerance: f64,
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
    took: Duration,
}

/// Runs the cases of `entries` up to `tier`: the variants that `gpu` would choose in the short tier, all that it can run beyond.
pub(super) fn certify(gpu: &Gpu, entries: &[Entry], tier: Tier) -> Result<Checked, Failure> {
    let start = Instant::now();
    let cases: Vec<_> = entries.iter().flat_map(|entry| (entry.cases)()).filter(|case| case.tier <= tier).collect();
    let progress = output::progress(cases.len(), "running the twins");
    let mut checks = Vec::new();
    for case in &cases {
        let prepared = Prepared::new(case)?;
        // The short form checks what this adapter would run; what only others would choose is left to the full form.
        let variants = if tier == Tier::Short { prepared.candidates(gpu)? } else { prepared.variants(gpu)? };
        checks.push((prepared, variants));
        progress.inc(1);
    }
    progress.finish_and_clear();

    let all: Vec<&'static Source> = checks.iter().flat_map(|(_, variants)| variants).copied().collect();
    let distinct: HashSet<Source> = all.iter().map(|source| **source).collect();
    let distinct: Vec<Source> = distinct.into_iter().collect();
    let progress = output::progress(distinct.len(), "compiling");
    gpu.block_on(gpu.warm(&distinct, &|| progress.inc(1)))?;
    progress.finish_and_clear();

    let progress = output::progress(all.len(), "checking");
    let mut verdicts = Vec::with_capacity(all.len());
    for (prepared, variants) in &checks {
        for source in variants {
            let start = Instant::now();
            let verdict = gpu.block_on(prepared.check(gpu, source))?;
            verdicts.push((verdict, start.elapsed().as_secs_f64() * 1e3));
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(Checked { adapter: gpu.summary().to_string(), verdicts, took: start.elapsed() })
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
    /// The certificate as data; each line names the adapter when there may be several.
    pub(super) fn lines(&self, named: bool) -> impl Iterator<Item = Check> + '_ {
        self.verdicts.iter().map(move |(v, ms)| Check {
            adapter: named.then(|| self.adapter.clone()),
            kernel: v.kernel.clone(),
            variant: v.variant.clone(),
            case: v.case.clone(),
            worst_error: (v.failure.is_none() && v.worst_error.is_finite()).then_some(v.worst_error),
            tolerance: v.tolerance,
            verdict: if v.passed() { "pass" } else { "fail" },
            ms: (ms * 1e3).round() / 1e3,
            failure: v.failure.clone(),
        })
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
        let verdict = if failed == 0 { "all agree with their twins".to_owned() } else { format!("{failed} FAILED") };
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
