//! Whether the figures are the broker's or the generator's.

use super::sample::Moment;
use crate::outcome::{Distribution, GeneratorVerdict, Outcome};
use crate::process;
use crate::scenario::Scenario;

/// Share of a CPU from which a thread counts as busy.
const BUSY: f64 = 0.95;
/// Share of its CPUs below which the broker clearly has room.
const ROOM: f64 = 0.90;
/// Lag behind the schedule that never matters, nanoseconds.
const LAG_FREE_NS: u64 = 1_000_000;
/// Lag may be this share of the latency it is part of.
const LAG_SHARE: f64 = 0.2;
/// Share of time that other work may take from a generator's CPU unmentioned.
const WAITING_MAX: f64 = 0.2;

/// Judges the generator by the window between two moments; `outcome` has everything else already.
pub fn judge(
    outcome: &Outcome,
    lag: Distribution,
    (begin, end): (&Moment, &Moment),
) -> GeneratorVerdict {
    let span_ns = end.at_ns.saturating_sub(begin.at_ns).max(1) as f64;
    let shares = begin.threads.iter().zip(&end.threads).map(|(from, to)| {
        let cpu = to.0.saturating_sub(from.0) as f64 / span_ns;
        (cpu, to.1.saturating_sub(from.1) as f64 / span_ns)
    });
    let busiest =
        shares.fold(
            (0.0, 0.0),
            |best: (f64, f64), next| {
                if next.0 + next.1 > best.0 + best.1 { next } else { best }
            },
        );
    let cpu_s = outcome.totals.generator_cpu_s;
    let mut verdict = GeneratorVerdict {
        busiest_share: busiest.0,
        waiting_share: busiest.1,
        per_cpu_second: if cpu_s > 0.0 { outcome.moved() as f64 / cpu_s } else { 0.0 },
        lag,
        at_limit: busiest.0 + busiest.1 >= BUSY,
        ..GeneratorVerdict::default()
    };
    let found = late(outcome, &verdict).or_else(|| busy(outcome, &verdict));
    if let Some((why, remedy)) = found {
        verdict.bottleneck = true;
        verdict.why = Some(why);
        verdict.remedy = Some(remedy.into());
    }
    verdict
}

/// An open loop that did not keep to its schedule.
fn late(outcome: &Outcome, verdict: &GeneratorVerdict) -> Option<(String, &'static str)> {
    let lag_ns = verdict.lag.p99_ns;
    let allowed_ns = LAG_SHARE * outcome.latency.p99_ns as f64;
    if lag_ns <= LAG_FREE_NS || lag_ns as f64 <= allowed_ns {
        return None;
    }
    let why = format!(
        "1 % of the messages left the generator {:.1} ms or more behind its own schedule",
        lag_ns as f64 / 1e6
    );
    Some((why, remedy(verdict)))
}

/// A closed loop whose generator had no time left while the broker had.
fn busy(outcome: &Outcome, verdict: &GeneratorVerdict) -> Option<(String, &'static str)> {
    let share = verdict.busiest_share + verdict.waiting_share;
    if !verdict.at_limit || !closed(&outcome.scenario) || outcome.moved() == 0 {
        return None;
    }
    let cpus = outcome.place.broker_cpus.len().max(1) as f64;
    let broker = outcome.broker_share().map(|share| share / cpus);
    if broker.is_some_and(|share| share >= ROOM) {
        return None;
    }
    let told = broker.map_or("the broker's load is unknown (give --pid)".to_owned(), |share| {
        format!("the broker used {:.0} % of its CPUs", 100.0 * share)
    });
    let why = format!("a generator thread was busy for {:.0} % of the time; {told}", 100.0 * share);
    Some((why, remedy(verdict)))
}

fn closed(scenario: &Scenario) -> bool {
    scenario.publishers().any(|group| group.rate.is_none())
}

fn remedy(verdict: &GeneratorVerdict) -> &'static str {
    if verdict.waiting_share > WAITING_MAX {
        "other work took the generator's CPU: pin the generator to CPUs of its own with --cpus, \
         and leave them to it"
    } else {
        "give the generator more CPUs (--cpus 2,3), or run it on another host; for \"single\" \
         loads judge the broker by messages per broker CPU second instead"
    }
}

/// What the kernel calls itself.
pub fn kernel() -> String {
    process::line("/proc/sys/kernel/osrelease").unwrap_or_default()
}
