//! `replay`: a recording against a running broker.

use super::findings::Findings;
use super::progress::Progress;
use super::{Done, Result, run};
use crate::args::ReplayArgs;
use crate::engine::{self, Conditions};
use crate::replay::{Scale, lay};
use crate::traffic;
use corelane::runtime::Requests;

/// Replays and prints.
///
/// # Errors
/// The file is no recording, or the scale is out of range.
pub fn replay(args: &ReplayArgs, requests: &Requests) -> Result<Done> {
    if !(args.patience.is_finite() && args.patience > 0.0) {
        return Err("--patience: use seconds above 0".into());
    }
    let recording = traffic::load(&args.file)?;
    let source = args.file.file_name().unwrap_or_default().to_string_lossy();
    let scale = Scale { rate: args.rate, copies: args.copies };
    let mut laid = lay(&source, &recording, scale)?;
    drop(recording);
    laid.scenario.patience_s = args.patience;
    laid.scenario.cpus = args.cpus.clone().unwrap_or_default();
    args.door.apply(&mut laid.scenario);
    let target = &super::target(&args.target, &crate::args::checked(laid.scenario.clone())?)?;
    let progress = Progress::new(&laid.scenario.name);
    let mut watch = |live: engine::Live<'_>| progress.show(live);
    let watch = &mut watch;
    let label = match (args.rate, args.copies) {
        (1.0, 1) => String::new(),
        (rate, copies) => format!("rate ×{rate}, {copies} copies"),
    };
    let with = &mut Conditions { target, requests, watch, label };
    let mut outcome = engine::run_plan(&laid.scenario, laid.plan, with);
    drop(progress);
    outcome.replayed = Some(laid.replayed);
    run::print(&outcome, args.output.json)?;
    let mut findings = Findings::new(&args.output);
    findings.take(outcome);
    findings.finish(&[])
}
