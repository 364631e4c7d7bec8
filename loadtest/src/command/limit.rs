//! `limit`: a scenario's bytes through the bare relay, on the CPUs the broker would have.

use super::{Done, Result, relay, run};
use crate::args::LimitArgs;
use crate::broker::{Broker, Descriptor};
use crate::engine::Target;
use crate::scenario::{Scenario, Transport};
use corelane::runtime::Requests;

/// Runs and prints.
///
/// # Errors
/// The scenario is wrong, or more than a relay can carry.
pub fn limit(args: &LimitArgs, requests: &Requests) -> Result<Done> {
    let mut scenario = relay::relayed(&args.load.scenario()?)?;
    if scenario.cpus.is_empty() {
        scenario.cpus = vec![args.load_cpu];
    }
    let broker = Broker::start(&descriptor(&scenario)?, Transport::Tcp, &[args.broker_cpu])?;
    let name = "bare relay".into();
    let target = Target::new(name, broker.address, Some(broker.pid()), &scenario)?;
    let mut done = Done::Passed;
    run::series(&scenario, &target, requests, |outcome| {
        run::print(&outcome, args.json)?;
        done = done.max(Done::of(&outcome));
        Ok(())
    })?;
    Ok(done)
}

/// How the relay of a scenario is started.
///
/// # Errors
/// Our own program is not to be found.
pub fn descriptor(scenario: &Scenario) -> Result<Descriptor> {
    let program = std::env::current_exe()?.to_string_lossy().into_owned();
    let words = ["relay", "--scenario", "{config}", "--port", "{port}", "--cpu", "{cpu}"];
    let command = std::iter::once(program).chain(words.map(str::to_owned)).collect();
    Ok(Descriptor {
        // The braces of JSON are no places to fill: the names in them differ.
        config: Some(serde_json::to_string(scenario)?),
        ..Descriptor::new("limit".into(), command)
    })
}
