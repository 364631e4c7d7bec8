//! Brokers side by side: the same shapes in turn, A B A B, medians and ratios.
//!
//! Invariants worth naming:
//! * each run has a fresh broker on the same CPU; never do two brokers live at once;
//! * the order within a round is the order given, so drift of the machine hits all alike;
//! * a broker that fails a run is shown as failed, its figures are not hidden.

use crate::args::CompareArgs;
use crate::broker::{self, Broker, Cpu, Descriptor};
use crate::engine::Engine;
use crate::measure::{Limits, Outcome, median};
use crate::report::{Object, table, thousands};
use crate::shape::Shape;
use std::io;

/// Compares and prints; tells whether every run passed.
pub fn compare(args: &CompareArgs) -> io::Result<bool> {
    let parsed: Result<Vec<_>, _> =
        args.broker.iter().map(|text| Descriptor::parse(text, &args.corelane)).collect();
    let descriptors = parsed.map_err(io::Error::other)?;
    let shapes = if args.all {
        let mut shapes = Shape::canonical();
        shapes.iter_mut().for_each(|shape| args.shape.refine(shape));
        shapes
    } else {
        vec![args.shape.shape()]
    };
    broker::pin(args.load_cpu)?;
    let mut rows = vec![heading()];
    let mut passed = true;
    for shape in &shapes {
        let outcomes = rounds(args, &descriptors, shape);
        passed &= outcomes.iter().flatten().all(|run| matches!(run, Ok(run) if run.passed()));
        let reference = figure(&outcomes[0], per_cpu_second);
        for (descriptor, runs) in descriptors.iter().zip(&outcomes) {
            if args.json {
                println!("{}", json(shape, descriptor, runs, reference));
            } else {
                rows.push(row(shape, descriptor, runs, reference));
            }
        }
    }
    if !args.json {
        print!("{}", table(&rows));
        println!(
            "medians of {} rounds, broker on CPU {}, generator on CPU {}; G: generator-bound",
            args.rounds, args.broker_cpu, args.load_cpu
        );
    }
    Ok(passed)
}

/// One run's outcome, or why it could not begin.
type Run = Result<Outcome, String>;

/// The runs of every broker with one shape.
fn rounds(args: &CompareArgs, descriptors: &[Descriptor], shape: &Shape) -> Vec<Vec<Run>> {
    let mut outcomes: Vec<Vec<Run>> = descriptors.iter().map(|_| Vec::new()).collect();
    let limits = args.limits.limits();
    for round in 1..=args.rounds.max(1) {
        for (descriptor, runs) in descriptors.iter().zip(&mut outcomes) {
            let run = once(descriptor, args.broker_cpu, shape, limits);
            let told = match &run {
                Ok(outcome) if outcome.passed() => {
                    format!("{} in+out per CPU s", thousands(per_cpu_second(outcome)))
                }
                Ok(outcome) => format!("FAILED {:?} {:?}", outcome.broken, outcome.faults),
                Err(reason) => format!("FAILED {reason}"),
            };
            eprintln!("{} | round {round} | {} | {told}", shape.name(), descriptor.name);
            runs.push(run);
        }
    }
    outcomes
}

/// One shape against one fresh broker.
fn once(descriptor: &Descriptor, cpu: usize, shape: &Shape, limits: Limits) -> Run {
    let broker = Broker::start(descriptor, cpu).map_err(|error| error.to_string())?;
    let account = Cpu::new(broker.pid());
    let engine = Engine::connect(shape, broker.address, limits, Some(account))
        .map_err(|error| format!("cannot connect: {error}"))?;
    Ok(engine.run())
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
    runs.iter().find_map(|run| match run {
        Err(reason) => Some(reason.clone()),
        Ok(outcome) if outcome.passed() => None,
        Ok(outcome) => Some(outcome.broken.clone().unwrap_or_else(|| {
            let faults = outcome.faults;
            format!(
                "lost {} duplicated {} late {} corrupt {}",
                faults.lost, faults.duplicated, faults.late, faults.corrupt
            )
        })),
    })
}

fn generator_bound(runs: &[Run]) -> bool {
    let bound = runs.iter().flatten().filter(|outcome| outcome.generator_bound()).count();
    2 * bound > runs.len()
}

fn heading() -> Vec<String> {
    let names = ["shape", "broker", "ratio", "in+out/CPU s", "min–max", "in+out/s"];
    let more = ["broker CPU", "load CPU", "p50 µs", "p99 µs", "verdict"];
    names.into_iter().chain(more).map(str::to_owned).collect()
}

fn row(shape: &Shape, descriptor: &Descriptor, runs: &[Run], reference: f64) -> Vec<String> {
    let merit = figure(runs, per_cpu_second);
    let values = || runs.iter().flatten().map(per_cpu_second);
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let micros = |value: f64| format!("{:.0}", value / 1000.0);
    let bound = if generator_bound(runs) { " G" } else { "" };
    vec![
        shape.name(),
        descriptor.name.clone(),
        format!("×{:.2}", merit / reference.max(1.0)),
        thousands(merit),
        format!("{}–{}", thousands(low.min(high)), thousands(high)),
        thousands(figure(runs, Outcome::per_second)),
        percent(figure(runs, |outcome| outcome.broker_share().unwrap_or(0.0))),
        percent(figure(runs, Outcome::generator_share)) + bound,
        micros(figure(runs, |outcome| outcome.latency.p50_ns as f64)),
        micros(figure(runs, |outcome| outcome.latency.p99_ns as f64)),
        failure(runs).map_or("passed".to_owned(), |reason| format!("FAILED: {reason}")),
    ]
}

fn json(shape: &Shape, descriptor: &Descriptor, runs: &[Run], reference: f64) -> String {
    let merit = figure(runs, per_cpu_second);
    Object::new()
        .text("shape", &shape.name())
        .text("broker", &descriptor.name)
        .plain("rounds", runs.len())
        .real("ratio", Some(merit / reference.max(1.0)))
        .real("per_broker_cpu_second", Some(merit))
        .real("per_second", Some(figure(runs, Outcome::per_second)))
        .real("broker_cpu", Some(figure(runs, |run| run.broker_share().unwrap_or(0.0))))
        .real("generator_cpu", Some(figure(runs, Outcome::generator_share)))
        .plain("generator_bound", generator_bound(runs))
        .real("p50_ns", Some(figure(runs, |run| run.latency.p50_ns as f64)))
        .real("p99_ns", Some(figure(runs, |run| run.latency.p99_ns as f64)))
        .real("p999_ns", Some(figure(runs, |run| run.latency.p999_ns as f64)))
        .plain("passed", failure(runs).is_none())
        .text("failure", &failure(runs).unwrap_or_default())
        .finish()
}
