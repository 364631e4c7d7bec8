//! Runs a scenario against a broker: one pinned thread per CPU sends and receives, the calling
//! thread leads through the phases and reads the meters.
//!
//! Invariants worth naming:
//! * a run ends: every wait is bounded by the scenario's patience;
//! * whatever happens, the figures so far come back as an [`Outcome`].

mod absence;
mod client;
mod connect;
mod control;
mod core;
mod dial;
mod inflight;
mod input;
mod lead;
mod player;
mod publisher;
mod result;
mod sample;
mod schedule;
mod storm;
#[cfg(test)]
mod tests;
mod verdict;
mod whim;
mod worker;

use crate::door::Door;
use crate::outcome::{BrokerVerdict, Outcome};
use crate::plan::Plan;
use crate::process;
use crate::scenario::Scenario;
use crate::truth::pattern;
use control::{Control, Failure};
use core::Shared;
use corelane::runtime::{Requests, Stopping};
use lead::Lead;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use worker::{Finished, Worker};

/// The broker under test.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process, for its CPU time and memory.
    pub pid: Option<u32>,
    /// What it is called.
    pub name: String,
    /// How clients get in.
    pub door: Door,
}

impl Target {
    /// A broker that clients get into as the scenario says.
    ///
    /// # Errors
    /// See [`Door::new`].
    pub fn new(
        name: String,
        address: SocketAddr,
        pid: Option<u32>,
        scenario: &Scenario,
    ) -> Result<Target, String> {
        Ok(Target { address, pid, name, door: Door::new(scenario, address)? })
    }
}

/// What is seen while a run goes on.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// What happens now, in words.
    pub doing: &'a str,
    /// How much of the window has passed, 0 to 1.
    pub share: f64,
    /// Clients that are ready, and all of them.
    pub clients: (u64, u64),
    /// Messages sent and received in the last second.
    pub rates: (u64, u64),
    /// 99 % latency of the last second, nanoseconds.
    pub p99_ns: u64,
}

/// How to run.
pub struct Conditions<'a> {
    /// The broker.
    pub target: &'a Target,
    /// Ends the run early when the operator asks.
    pub requests: &'a Requests,
    /// Is told what goes on, about every tenth of a second.
    pub watch: &'a mut dyn FnMut(Live<'_>),
    /// Tells this run from others of the same scenario.
    pub label: String,
}

/// Runs a checked scenario to its end.
pub fn run(scenario: &Scenario, with: &mut Conditions<'_>) -> Outcome {
    run_plan(scenario, Plan::new(scenario), with)
}

/// Runs a plan that was made for `scenario`, to its end.
pub fn run_plan(scenario: &Scenario, plan: Plan, with: &mut Conditions<'_>) -> Outcome {
    let began_unix_ms = result::unix_ms();
    let plan = Arc::new(plan);
    let cpus: Vec<Option<usize>> = match &scenario.cpus[..] {
        [] => vec![None],
        cpus => cpus.iter().copied().map(Some).collect(),
    };
    let largest = scenario.publishers().map(|group| group.payload.largest()).max();
    let shared = Shared {
        scenario: Arc::new(scenario.clone()),
        plan: Arc::clone(&plan),
        control: Arc::new(Control::new(&plan, cpus.len())),
        door: with.target.door.clone(),
        pattern: pattern(largest.unwrap_or(0)).into(),
        run: run_name(began_unix_ms).into(),
    };
    // Before the threads begin, so that what the broker was without them is known.
    let (sender, slices) = channel();
    let mut lead = Lead::new(&shared, with.target.pid, slices);
    let threads: Vec<_> = (0..cpus.len())
        .map(|at| start(&shared, at, &cpus, with.target.address, sender.clone()))
        .collect();
    drop(sender);
    lead.lead(with.requests, with.watch);
    let mut finished = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(Ok(done)) => finished.push(done),
            Ok(Err(error)) => shared.control.fail(Failure::Generator(remedy(&error))),
            Err(_) => shared.control.fail(Failure::Generator("a thread panicked".into())),
        }
    }
    let (samples, ended) = lead.end(with.target.pid);
    let drained = ended.is_none() && with.requests.stopping() == Stopping::No;
    let mut outcome = result::outcome(&shared, with, samples, finished, drained);
    outcome.began_unix_ms = began_unix_ms;
    outcome.place.generator_cpus = cpus;
    if let Some(why) = ended {
        let (broker, partial) = told(why);
        outcome.broker = broker;
        outcome.partial = Some(partial);
    }
    if with.requests.stopping() != Stopping::No && outcome.partial.is_none() {
        outcome.partial = Some("stopped by the operator".into());
    }
    outcome
}

/// What tells a run's clients from those of every other run at the same broker: the process, its
/// begin, and which run of the process it is, since two may begin in the same millisecond.
fn run_name(began_unix_ms: u64) -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Relaxed);
    format!("lt{}-{}-{run}", std::process::id(), began_unix_ms % 100_000_000)
}

/// The verdict, and why figures are partial.
fn told(failure: Failure) -> (BrokerVerdict, String) {
    match failure {
        Failure::Generator(why) => (BrokerVerdict::Stayed, why),
        Failure::Broker(verdict) => {
            let why = match &verdict {
                BrokerVerdict::Stayed => String::new(),
                BrokerVerdict::Unreachable(why) => format!("the broker cannot be reached: {why}"),
                BrokerVerdict::Refused(why) => format!("the broker refused: {why}"),
                BrokerVerdict::Died(why) => format!("the broker went away: {why}"),
                BrokerVerdict::Misbehaved(why) => format!("the broker broke the protocol: {why}"),
                BrokerVerdict::Stuck(why) => format!("the broker is stuck: {why}"),
            };
            (verdict, why)
        }
    }
}

/// An error of the generator's own, with what helps.
fn remedy(error: &io::Error) -> String {
    let hint = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
            "; raise the limit of open files (ulimit -n, LimitNOFILE=) or use fewer clients"
        }
        Some(rustix::io::Errno::PERM | rustix::io::Errno::NOSYS) => {
            "; io_uring is needed: `corelane check` tells what is missing"
        }
        Some(rustix::io::Errno::INVAL) => "; is the CPU one this process may use?",
        _ => "",
    };
    format!("the generator failed: {error}{hint}")
}

type Thread = JoinHandle<io::Result<Finished>>;

fn start(
    shared: &Shared,
    at: usize,
    cpus: &[Option<usize>],
    address: SocketAddr,
    slices: Sender<core::Slice>,
) -> Thread {
    let (shared, threads, cpu) = (shared.clone(), cpus.len(), cpus[at]);
    thread::spawn(move || {
        let control = Arc::clone(&shared.control);
        let ran = cpu
            .map_or(Ok(()), |cpu| process::pin(&[cpu]))
            .and_then(|()| Worker::new(shared, (at, threads), address, slices)?.run());
        if let Err(error) = &ran {
            // The others must not wait for this thread's clients.
            control.fail(Failure::Generator(remedy(error)));
        }
        ran
    })
}
