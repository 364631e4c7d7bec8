//! Brokers side by side: the same shapes in turn, A B A B, medians and ratios.
//!
//! Invariants worth naming:
//! * each run has a fresh broker on the same CPU; never do two brokers live at once;
//! * the order within a round is the order given, so drift of the machine hits all alike;
//! * a broker that fails a run is shown as failed, its figures are not hidden.

use super::{Done, Result, limit, relay, run};
use crate::args::{CompareArgs, checked, shape_scenario};
use crate::broker::{Broker, Descriptor, LIMIT};
use crate::engine::Target;
use crate::measure::median;
use crate::outcome::Outcome;
use crate::report::{table, thousands, verdict};
use crate::scenario::{Scenario, canonical};
use corelane::runtime::{Requests, Stopping};
use serde::Serialize;

/// Compares and prints.
///
/// # Errors
/// The request is wrong; a broker that does not start is a failed run.
pub fn compare(args: &CompareArgs, requests: &Requests) -> Result<Done> {
    let parsed: std::result::Result<Vec<_>, _> =
        args.broker.iter().map(|text| Descriptor::parse(text, &args.corelane)).collect();
    let descriptors = parsed?;
    let mut rows = vec![heading()];
    let mut done = Done::Passed;
    for scenario in scenarios(args)? {
        let outcomes = rounds(args, &descriptors, &scenario, requests);
        done = done.max(worst(&outcomes));
        let reference = figure(&outcomes[0], per_cpu_second);
        for (descriptor, runs) in descriptors.iter().zip(&outcomes) {
            let row = Row::new(&scenario, descriptor, runs, reference);
            if args.json {
                println!("{}", serde_json::to_string(&row)?);
            } else {
                rows.push(row.cells(runs));
            }
        }
        if requests.stopping() != Stopping::No {
            break;
        }
    }
    if !args.json {
        print!("{}", table(&rows));
        println!(
            "medians of {} rounds, broker on CPU {}; G: generator-bound",
            args.rounds, args.broker_cpu
        );
    }
    Ok(done)
}

/// What every broker is to run.
fn scenarios(args: &CompareArgs) -> Result<Vec<Scenario>> {
    let mut scenarios = if args.all {
        let mut shapes = canonical();
        shapes.iter_mut().for_each(|shape| args.load.shape.refine(shape));
        shapes.iter().map(shape_scenario).collect()
    } else {
        vec![args.load.scenario()?]
    };
    for scenario in &mut scenarios {
        args.load.span.apply(scenario);
        if scenario.cpus.is_empty() {
            scenario.cpus = vec![args.load_cpu];
        }
        *scenario = checked(scenario.clone())?;
    }
    Ok(scenarios)
}

/// One run's outcome, or why it could not begin.
type Run = std::result::Result<Outcome, String>;

/// The runs of every broker with one scenario.
fn rounds(
    args: &CompareArgs,
    descriptors: &[Descriptor],
    scenario: &Scenario,
    requests: &Requests,
) -> Vec<Vec<Run>> {
    let mut outcomes: Vec<Vec<Run>> = descriptors.iter().map(|_| Vec::new()).collect();
    for round in 1..=args.rounds.max(1) {
        for (descriptor, runs) in descriptors.iter().zip(&mut outcomes) {
            if requests.stopping() != Stopping::No {
                return outcomes;
            }
            let label = format!("round {round} {}", descriptor.name);
            let run = once(descriptor, args.broker_cpu, scenario, requests, &label);
            let told = match &run {
                Ok(outcome) if outcome.passed() => {
                    format!("{} in+out per CPU s", thousands(per_cpu_second(outcome)))
                }
                Ok(outcome) => verdict(outcome),
                Err(reason) => format!("FAILED {reason}"),
            };
            eprintln!("{} | {label} | {told}", scenario.name);
            runs.push(run);
        }
    }
    outcomes
}

/// One scenario against one fresh broker. A search is not made here: the load is as it stands.
fn once(
    descriptor: &Descriptor,
    cpu: usize,
    scenario: &Scenario,
    requests: &Requests,
    label: &str,
) -> Run {
    let told = |error: Box<dyn std::error::Error>| error.to_string();
    let relayed = descriptor.command.first().is_some_and(|word| word == LIMIT);
    let (scenario, descriptor) = if relayed {
        let scenario = relay::relayed(scenario)?;
        let descriptor = limit::descriptor(&scenario).map_err(told)?;
        (scenario, descriptor)
    } else {
        (scenario.clone(), descriptor.clone())
    };
    let broker = Broker::start(&descriptor, cpu).map_err(|error| error.to_string())?;
    let name = descriptor.name.clone();
    let target = Target { address: broker.address, pid: Some(broker.pid()), name };
    Ok(run::once(&scenario, &target, requests, label))
}

fn worst(outcomes: &[Vec<Run>]) -> Done {
    let of = |run: &Run| run.as_ref().map_or(Done::Failed, Done::of);
    let all = || outcomes.iter().flatten().map(of);
    if all().any(|done| done == Done::Failed) {
        return Done::Failed;
    }
    // The table marks generator-bound rows; the figure of merit does not suffer from them.
    Done::Passed
}

fn per_cpu_second(outcome: &Outcome) -> f64 {
    outcome.per_cpu_second().unwrap_or(0.0)
}

/// The median of one figure over the runs that took place.
fn figure(runs: &[Run], pick: impl Fn(&Outcome) -> f64) -> f64 {
    median(runs.iter().flatten().map(pick))
}

/// Why the first failed run failed.
fn failure(runs: &[Run]) -> Option<String> {
    if runs.is_empty() {
        return Some("not run".into());
    }
    runs.iter().find_map(|run| match run {
        Err(reason) => Some(reason.clone()),
        Ok(outcome) if outcome.passed() => None,
        Ok(outcome) => Some(verdict(outcome)),
    })
}

fn generator_bound(runs: &[Run]) -> bool {
    let bound = runs.iter().flatten().filter(|outcome| outcome.generator.bottleneck).count();
    2 * bound > runs.len()
}

fn heading() -> Vec<String> {
    let names = ["shape", "broker", "ratio", "in+out/CPU s", "min–max", "in+out/s"];
    let more = ["broker CPU", "load CPU", "p50 µs", "p99 µs", "verdict"];
    names.into_iter().chain(more).map(str::to_owned).collect()
}

/// One broker with one scenario: medians over the rounds.
#[derive(Serialize)]
struct Row {
    shape: String,
    broker: String,
    rounds: usize,
    ratio: f64,
    per_broker_cpu_second: f64,
    per_second: f64,
    broker_cpu: f64,
    generator_cpu: f64,
    generator_bound: bool,
    p50_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
    failure: Option<String>,
}

impl Row {
    fn new(scenario: &Scenario, descriptor: &Descriptor, runs: &[Run], reference: f64) -> Row {
        let merit = figure(runs, per_cpu_second);
        Row {
            shape: scenario.name.clone(),
            broker: descriptor.name.clone(),
            rounds: runs.len(),
            ratio: merit / reference.max(1.0),
            per_broker_cpu_second: merit,
            per_second: figure(runs, Outcome::per_second),
            broker_cpu: figure(runs, |outcome| outcome.broker_share().unwrap_or(0.0)),
            generator_cpu: figure(runs, |outcome| outcome.generator.busiest_share),
            generator_bound: generator_bound(runs),
            p50_ns: figure(runs, |outcome| outcome.latency.p50_ns as f64),
            p99_ns: figure(runs, |outcome| outcome.latency.p99_ns as f64),
            p999_ns: figure(runs, |outcome| outcome.latency.p999_ns as f64),
            failure: failure(runs),
        }
    }

    fn cells(&self, runs: &[Run]) -> Vec<String> {
        let values = || runs.iter().flatten().map(per_cpu_second);
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let bound = if self.generator_bound { " G" } else { "" };
        vec![
            self.shape.clone(),
            self.broker.clone(),
            format!("×{:.2}", self.ratio),
            thousands(self.per_broker_cpu_second),
            format!("{}–{}", thousands(low.min(high)), thousands(high)),
            thousands(self.per_second),
            percent(self.broker_cpu),
            percent(self.generator_cpu) + bound,
            format!("{:.0}", self.p50_ns / 1000.0),
            format!("{:.0}", self.p99_ns / 1000.0),
            self.failure.clone().unwrap_or_else(|| "passed".into()),
        ]
    }
}
