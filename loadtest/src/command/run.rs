//! `run`: a scenario against a running broker, with its search and its steps.

use super::findings::Findings;
use super::progress::Progress;
use super::{Done, Result};
use crate::args::RunArgs;
use crate::engine::{self, Conditions, Target};
use crate::outcome::{Outcome, Search, Try};
use crate::report;
use crate::scenario::{Goal, Scenario};
use corelane::runtime::{Requests, Stopping};

/// Runs and prints.
///
/// # Errors
/// The scenario is wrong.
pub fn run(args: &RunArgs, requests: &Requests) -> Result<Done> {
    let mut scenario = args.load.scenario()?;
    if let Some(cpu) = args.load_cpu {
        scenario.cpus = vec![cpu];
    }
    let mut findings = Findings::new(&args.output);
    let target = super::target(&args.target, &scenario)?;
    series(&scenario, &target, requests, |outcome| {
        print(&outcome, args.output.json)?;
        findings.take(outcome);
        Ok(())
    })?;
    findings.finish(&[])
}

/// Prints one outcome.
///
/// # Errors
/// It has no JSON form, which cannot be.
pub fn print(outcome: &Outcome, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(outcome)?);
    } else {
        println!("{}", report::text(outcome));
    }
    Ok(())
}

/// One run, shown on the terminal.
pub fn once(scenario: &Scenario, target: &Target, requests: &Requests, label: &str) -> Outcome {
    let title = format!("{} {label}", scenario.name);
    let progress = Progress::new(title.trim());
    let mut watch = |live: engine::Live<'_>| progress.show(live);
    let label = label.to_owned();
    engine::run(scenario, &mut Conditions { target, requests, watch: &mut watch, label })
}

/// Every run a scenario asks for: itself, or the search and then its steps.
///
/// # Errors
/// What `take` returns.
pub fn series(
    scenario: &Scenario,
    target: &Target,
    requests: &Requests,
    mut take: impl FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    let Some(goal) = &scenario.search else {
        return take(once(scenario, target, requests, ""));
    };
    let Some(best) = search(scenario, goal, target, requests) else { return Ok(()) };
    let rate = best.search.as_ref().map_or(0.0, |search| search.best_rate);
    take(best)?;
    for share in &scenario.steps {
        if rate <= 0.0 || requests.stopping() != Stopping::No {
            return Ok(());
        }
        let step = Scenario { search: None, ..scenario.at_rate(rate * share) };
        let label = format!("{:.0} % of the maximum", 100.0 * share);
        take(once(&step, target, requests, &label))?;
    }
    Ok(())
}

/// Looks for the largest rate that holds the goal: doubles until it does not, then halves the
/// interval. The outcome is that of the best try, or of the last where none held.
pub fn search(
    scenario: &Scenario,
    goal: &Goal,
    target: &Target,
    requests: &Requests,
) -> Option<Outcome> {
    let goal_text = format!("p{} ≤ {} ms and nothing lost", goal.percentile, goal.latency_ms);
    let mut found = Search { goal: goal_text, ..Search::default() };
    let (mut best, mut last) = (None, None);
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut rate = goal.start;
    for _ in 0..goal.tries {
        if requests.stopping() != Stopping::No {
            break;
        }
        let mut tried = scenario.at_rate(rate);
        (tried.search, tried.seconds) = (None, goal.seconds);
        let label = format!("at {rate:.0}/s");
        let outcome = once(&tried, target, requests, &label);
        let result = judge(&outcome, goal, rate);
        eprintln!("{} {label}: {}", scenario.name, report::told(&result));
        let held = result.held;
        found.tries.push(result);
        if held {
            low = rate;
            best = Some(outcome);
        } else {
            high = rate;
            let gone = outcome.partial.is_some();
            last = Some(outcome);
            if gone {
                break;
            }
        }
        rate = if high.is_infinite() { 2.0 * rate } else { f64::midpoint(low, high) };
        if high - low < 0.03 * high {
            break;
        }
    }
    found.best_rate = low;
    let mut outcome = best.or(last)?;
    outcome.label = "maximum".into();
    outcome.search = Some(found);
    Some(outcome)
}

/// Whether a try held the goal.
fn judge(outcome: &Outcome, goal: &Goal, rate: f64) -> Try {
    let latency = outcome.latency.histogram();
    let latency_ns = latency.value_at_percentile(goal.percentile);
    let achieved = outcome.totals.sent as f64 / outcome.window.seconds().max(1e-9);
    let why = if let Some(partial) = &outcome.partial {
        partial.clone()
    } else if !outcome.truth.faultless() {
        format!("{} lost", outcome.truth.lost_total())
    } else if outcome.generator.bottleneck {
        "the generator was the bottleneck".into()
    } else if latency_ns as f64 > goal.latency_ms * 1e6 {
        "latency".into()
    } else if achieved < 0.95 * rate {
        "the rate was not reached".into()
    } else {
        String::new()
    };
    Try { rate, held: why.is_empty(), latency_ns, why }
}
