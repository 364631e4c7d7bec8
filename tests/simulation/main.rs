//! A seeded simulation: several shards, their rings, a network and model clients in one thread
//! under virtual time. Bytes come in random pieces, cores turn in random order and sleep for as
//! long as their doorbells let them, connections break anywhere. What the clients see is held
//! against the protocol and against what the broker promises.
//!
//! ```text
//! cargo test --test simulation                               the default seeds
//! SIM_SEED=7 cargo test --test simulation seeds              one seed
//! SIM_SEED=7 SIM_TRACE=1 cargo test --test simulation seeds -- --nocapture   with a trace
//! SIM_SEED=1000007 cargo test --test simulation seeds        one whose broker reports itself
//! SIM_SEEDS=1000..9000 cargo test --test simulation seeds    many seeds
//! ```
//!
//! Beside the seeds there are directed tests on the same shards without a random network: `exact`
//! (times and sizes at their borders), `accounts` (which cause counts what), `handover` (splits at
//! every byte), `storms` (many clients at once), `directed` (shares of a full lane) and
//! `starvation` (a trickle client beside everything that is large).
//!
//! Invariants worth naming: everything is drawn from the seed, so a seed that fails fails again;
//! a core that said it may sleep is not called until its bell rings, its deadline comes or bytes
//! move, so a lost wake-up is a stall.

mod accounts;
mod actor;
mod client;
mod delivery;
mod directed;
mod exact;
mod handover;
mod ledger;
mod network;
mod plan;
mod rig;
mod starvation;
mod storms;
mod topic_rules;
mod verdict;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many seeds run when nothing else is asked for.
const SEEDS: Range<u64> = 0..3000;

/// Seeds whose broker publishes what it tells of itself.
const REPORTING: Range<u64> = 1_000_000..1_000_500;

static TRACE: AtomicBool = AtomicBool::new(false);

/// Prints one line of a trace, when a trace was asked for.
pub(crate) fn trace(line: std::fmt::Arguments<'_>) {
    if TRACE.load(Ordering::Relaxed) {
        println!("{line}");
    }
}

fn asked_seeds() -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("SIM_SEED(S): a number");
    if let Ok(one) = std::env::var("SIM_SEED") {
        let seed = number(&one);
        TRACE.store(std::env::var("SIM_TRACE").is_ok(), Ordering::Relaxed);
        return seed..seed + 1;
    }
    match std::env::var("SIM_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("SIM_SEEDS=from..to");
            number(from)..number(to)
        }
        Err(_) => SEEDS,
    }
}

fn run_seed(seed: u64) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| world::World::new(seed).run())) {
        Ok(outcome) => outcome.map_err(|what| format!("seed {seed}, {what}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
            Err(format!("seed {seed}, panic: {}", text.unwrap_or_default()))
        }
    }
}

#[test]
fn seeds() {
    run_seeds(asked_seeds());
}

#[test]
fn seeds_with_reports() {
    run_seeds(REPORTING);
}

fn run_seeds(seeds: Range<u64>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return failures;
            }
            failures.extend(run_seed(seed).err());
        }
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker ends")).collect()
    });
    let shown: Vec<&str> = failures.iter().take(20).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), shown.join("\n"));
}
