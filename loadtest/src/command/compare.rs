//! Brokers side by side: the same shapes in turn, A B A B, medians and ratios.
//!
//! Invariants worth naming:
//! * each run has a fresh broker on the same CPU; never do two brokers live at once;
//! * the order within a round is the order given, so drift of the machine hits all alike;
//! * a broker that fails a run is shown as failed, its figures are not hidden.

use super::findings::Findings;
use super::{Done, Result, limit, relay, run};
use crate::args::{CompareArgs, checked, shape_scenario};
use crate::broker::{Broker, Descriptor, LIMIT, Running};
use crate::comparison::{self, Row, Run};
use crate::door::INSECURE;
use crate::engine::Target;
use crate::outcome::Outcome;
use crate::report::{thousands, verdict};
use crate::scenario::{SHIPPED, Scenario, canonical, find};
use corelane::runtime::{Requests, Stopping};

/// Compares and prints.
///
/// # Errors
/// The request is wrong; a broker that does not start is a failed run.
pub fn compare(args: &CompareArgs, requests: &Requests) -> Result<Done> {
    let descriptors = present(args)?;
    if args.load.door.insecure && !args.against.is_empty() {
        eprintln!("WARNING: {INSECURE}");
    }
    let findings = Findings::new(&args.output);
    let mut comparison = Comparison { args, descriptors, requests, findings, rows: Vec::new() };
    for scenario in scenarios(args)? {
        comparison.scenario(&scenario)?;
        if requests.stopping() != Stopping::No {
            break;
        }
    }
    let Comparison { findings, rows, .. } = comparison;
    if !args.output.json {
        print!("{}", comparison::text(&rows));
        println!(
            "medians of {} rounds, broker on CPU {}; a ratio above 1 is better than the first \
             (↓: less of the figure is better); \
             [a–b]: its 95 % interval; G: generator-bound",
            args.rounds, args.broker_cpu
        );
    }
    findings.finish(&rows)
}

/// A comparison that goes on.
struct Comparison<'a> {
    args: &'a CompareArgs,
    descriptors: Vec<Descriptor>,
    requests: &'a Requests,
    findings: Findings<'a>,
    rows: Vec<Row>,
}

impl Comparison<'_> {
    /// One scenario; where it looks for a maximum, then its steps at shares of the smallest
    /// maximum, so that every broker gets the same load.
    fn scenario(&mut self, scenario: &Scenario) -> Result<()> {
        let maximum = self.side_by_side(scenario)?;
        if scenario.search.is_none() {
            return Ok(());
        }
        for share in &scenario.steps {
            if maximum <= 0.0 || self.requests.stopping() != Stopping::No {
                eprintln!("{}: no load to take shares of", scenario.name);
                return Ok(());
            }
            let name = format!("{} {:.0} %", scenario.name, 100.0 * share);
            let step = Scenario { search: None, name, ..scenario.at_rate(maximum * share) };
            self.side_by_side(&step)?;
        }
        Ok(())
    }

    /// All rounds of one load. Returns the smallest of the brokers' largest rates, 0 where none
    /// was looked for or found.
    fn side_by_side(&mut self, scenario: &Scenario) -> Result<f64> {
        let descriptors = self.speaking(scenario);
        let outcomes = rounds(self.args, &descriptors, scenario, self.requests);
        let named = descriptors.iter().map(|one| one.name.as_str()).zip(&outcomes);
        let compared = comparison::rows(&scenario.name, &named.collect::<Vec<_>>());
        let maxima =
            outcomes.iter().map(|runs| comparison::maximum(runs)).filter(|rate| *rate > 0.0);
        let smallest = maxima.reduce(f64::min).unwrap_or(0.0);
        for run in outcomes.into_iter().flatten() {
            match run {
                Ok(outcome) => self.findings.take_side(outcome),
                Err(_) => self.findings.note(Done::Failed),
            }
        }
        for row in compared {
            if self.args.output.json {
                println!("{}", serde_json::to_string(&row)?);
            }
            self.rows.push(row);
        }
        Ok(smallest)
    }

    /// The brokers that can be told to listen for the scenario's transport; the others are named.
    fn speaking(&self, scenario: &Scenario) -> Vec<Descriptor> {
        let (mut speaking, transport) = (self.descriptors.clone(), scenario.transport);
        speaking.retain(|descriptor| {
            let speaks = descriptor.speaking(transport).is_some();
            if !speaks {
                let (name, transport) = (&descriptor.name, transport.name());
                eprintln!("{name} skipped: nothing says how it listens for {transport}");
            }
            speaks
        });
        speaking
    }
}

/// The brokers that can be run here; the others are named.
fn present(args: &CompareArgs) -> Result<Vec<Descriptor>> {
    let parsed: std::result::Result<Vec<_>, _> =
        args.broker.iter().map(|text| Descriptor::parse(text, &args.corelane)).collect();
    let mut present = Vec::new();
    for descriptor in parsed? {
        match descriptor.absent() {
            Some(why) => eprintln!("{} skipped: {why}", descriptor.name),
            None => present.push(descriptor),
        }
    }
    present.extend(args.against.iter().copied().map(Descriptor::running));
    if present.is_empty() {
        return Err("no broker of those named is there".into());
    }
    Ok(present)
}

/// What every broker is to run.
fn scenarios(args: &CompareArgs) -> Result<Vec<Scenario>> {
    let mut scenarios = if args.shipped {
        SHIPPED.iter().map(|(name, _)| find(name)).collect::<std::result::Result<_, _>>()?
    } else if args.all {
        let mut shapes = canonical();
        shapes.iter_mut().for_each(|shape| args.load.shape.refine(shape));
        shapes.iter().map(shape_scenario).collect()
    } else {
        vec![args.load.scenario()?]
    };
    for scenario in &mut scenarios {
        args.load.span.apply(scenario);
        args.load.door.apply(scenario);
        if scenario.cpus.is_empty() {
            scenario.cpus = vec![args.load_cpu];
        }
        *scenario = checked(scenario.clone())?;
    }
    Ok(scenarios)
}

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
            let run = once(descriptor, &[args.broker_cpu], scenario, requests, &label);
            let told = match &run {
                Ok(Outcome { search: Some(search), .. }) => {
                    format!("largest rate {}/s", thousands(search.best_rate))
                }
                Ok(outcome) if outcome.passed() => comparison::told(outcome),
                Ok(outcome) => verdict(outcome),
                Err(reason) => format!("FAILED {reason}"),
            };
            eprintln!("{} | {label} | {told}", scenario.name);
            runs.push(run);
        }
    }
    outcomes
}

/// One scenario, or its search for the largest rate, against one fresh broker.
pub(super) fn once(
    descriptor: &Descriptor,
    cpus: &[usize],
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
    if let Some(Running { address, pid }) = descriptor.running {
        let target = Target::new(descriptor.name, address, pid, &scenario)?;
        return tried(&scenario, &target, requests, label);
    }
    let broker = Broker::start(&descriptor, scenario.transport, cpus);
    let broker = broker.map_err(|error| error.to_string())?;
    let scenario = broker.believed(scenario);
    let name = descriptor.name.clone();
    let target = Target::new(name, broker.address, Some(broker.pid()), &scenario)?;
    tried(&scenario, &target, requests, label)
}

fn tried(scenario: &Scenario, target: &Target, requests: &Requests, label: &str) -> Run {
    match &scenario.search {
        None => Ok(run::once(scenario, target, requests, label)),
        Some(goal) => run::search(scenario, goal, target, requests)
            .ok_or_else(|| "stopped before the first try".to_owned()),
    }
}
