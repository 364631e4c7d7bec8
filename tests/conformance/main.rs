//! Conformance as data: the vectors of `vectors/*.txt` (notation: `notation.rs`, steps:
//! `script.rs`) against shards under virtual time and against the live broker over sockets, and
//! the page docs/CONFORMANCE.md, which is generated from them.
//!
//! `CONFORM=name` runs the vectors whose name contains this.

mod bench;
mod live;
mod notation;
mod play;
mod report;

mod script;

use bench::Bench;
use play::{Cut, play};
use script::Vector;
use std::panic::{AssertUnwindSafe, catch_unwind};

const CUTS: [Cut; 3] = [Cut::Whole, Cut::Split, Cut::Coalesced];

fn asked() -> Vec<Vector> {
    let asked = std::env::var("CONFORM").unwrap_or_default();
    script::vectors().into_iter().filter(|vector| vector.name.contains(&asked)).collect()
}

/// Calls a run and makes an error of a panic.
fn guarded(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn on_shards(vector: &Vector) -> Vec<String> {
    let mut failures = Vec::new();
    for version in &vector.versions {
        for (shards, cut) in CUTS.iter().flat_map(|cut| [(1, *cut), (2, *cut)]) {
            let config = vector.config("127.0.0.1:1883");
            let run = || play(&mut Bench::new(shards, &config), vector, *version, cut, "v00000");
            if let Err(what) = guarded(run) {
                failures.push(format!("{} {version:?} {shards} {cut:?}: {what}", vector.name));
            }
        }
    }
    failures
}

/// What is wrong with the outcome of a vector.
fn verdict(vector: &Vector, failures: Vec<String>) -> Option<String> {
    match &vector.pending {
        None => failures.into_iter().next(),
        Some(_) if failures.is_empty() => Some(format!("{}: passes, yet pending", vector.name)),
        Some(_) => None,
    }
}

#[test]
fn shards_conform() {
    let faults: Vec<String> =
        asked().iter().filter_map(|vector| verdict(vector, on_shards(vector))).collect();
    assert!(faults.is_empty(), "{} vectors fail:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_live_broker_conforms() {
    let faults = live::run(&asked());
    assert!(faults.is_empty(), "{} vectors fail:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn names_are_unique() {
    let mut names: Vec<String> = script::vectors().into_iter().map(|vector| vector.name).collect();
    names.sort();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert!(twice.is_none(), "{twice:?}");
}

#[test]
fn statements_are_covered() {
    let (faults, coverage) = report::judge(&script::vectors());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(coverage >= report::COVERAGE_MIN, "only {coverage:.1} % are proven");
}

#[test]
fn the_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFORMANCE.md");
    let page = report::page(&script::vectors());
    if std::env::var_os("CORELANE_BLESS").is_some() {
        std::fs::write(path, &page).expect("docs/CONFORMANCE.md can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == page, "docs/CONFORMANCE.md is stale; run the test with CORELANE_BLESS=1");
}
