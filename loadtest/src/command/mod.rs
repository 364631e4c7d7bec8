//! The subcommands.

mod compare;
mod findings;
mod idle;
mod limit;
mod progress;
mod record;
mod relay;
mod replay;
mod run;
mod soak;
mod tune;

use crate::args::{Action, ScenariosArgs, TargetArgs};
use crate::door::INSECURE;
use crate::engine::Target;
use crate::outcome::Outcome;
use crate::scenario::{SHIPPED, SHIPPED_NAMES, Scenario, find};
use corelane::runtime::{Requests, SignalThread};
use std::error::Error;
use std::sync::Arc;

/// How a command ended, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Done {
    /// Everything was as it should be.
    Passed,
    /// The broker did not fail, but the generator was the bottleneck: no verdict.
    NoVerdict,
    /// A broker failed, or a requirement did not hold.
    Failed,
}

impl Done {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Done::Passed => 0,
            Done::Failed => 1,
            Done::NoVerdict => 2,
        }
    }

    /// What an outcome amounts to.
    pub fn of(outcome: &Outcome) -> Done {
        let lost_allowed = outcome.scenario.loss_allowed && {
            let mut truth = outcome.truth;
            truth.lost[0] = 0;
            truth.faultless() && outcome.partial.is_none()
        };
        match outcome.passed() || lost_allowed {
            false => Done::Failed,
            true if outcome.generator.bottleneck => Done::NoVerdict,
            true => Done::Passed,
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Does what the user asked for.
///
/// # Errors
/// The request cannot be carried out; the text says why and what helps.
pub fn perform(action: &Action) -> Result<Done> {
    if let Action::Relay(args) = action {
        return relay::relay(args);
    }
    if let Action::Scenarios(args) = action {
        return scenarios(args);
    }
    let requests = Arc::new(Requests::new(Vec::new()));
    let _signals = SignalThread::start(Arc::clone(&requests), || {})?;
    match action {
        Action::Run(args) => run::run(args, &requests),
        Action::Compare(args) => compare::compare(args, &requests),
        Action::Limit(args) => limit::limit(args, &requests),
        Action::Idle(args) => idle::idle(args, &requests),
        Action::Soak(args) => soak::soak(args, &requests),
        Action::Tune(args) => tune::tune(args, &requests),
        Action::Record(args) => record::record(args, &requests),
        Action::Replay(args) => replay::replay(args, &requests),
        Action::Scenarios(_) | Action::Relay(_) => Ok(Done::Passed),
    }
}

/// A running broker to be entered as the scenario says; warns where nobody looks at who it is.
fn target(args: &TargetArgs, scenario: &Scenario) -> Result<Target> {
    if scenario.insecure {
        eprintln!("WARNING: {INSECURE}");
    }
    Ok(args.target(scenario)?)
}

fn scenarios(args: &ScenariosArgs) -> Result<Done> {
    let Some(name) = &args.name else {
        for (name, _) in SHIPPED {
            println!("{name:<7} {}", find(name)?.about);
        }
        return Ok(Done::Passed);
    };
    let known = SHIPPED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let unknown = || format!("{name}: no shipped scenario; use {SHIPPED_NAMES}");
    let (_, text) = known.ok_or_else(unknown)?;
    print!("{text}");
    Ok(Done::Passed)
}
