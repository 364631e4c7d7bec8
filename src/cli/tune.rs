//! `corelane tune`: what the host lacks for a configuration, and how it is mended.
//!
//! Invariants worth naming:
//! * nothing is written without `--apply` or `--undo`; without root the command says what it could
//!   not read or do and does the rest.

use super::args::TuneArgs;
use super::effective::{self, Source};
use super::print;
use super::refusal::Refusal;
use super::serve::{EXECUTOR_LOCKED_BYTES, WORTHWHILE_FILES};
use crate::config::{self, Config, ListenerConfig, fixed_bytes};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use tuning::device;
use tuning::host::{Change, Needs};
use tuning::placement::PlacementPlan;
use tuning::profile::{self, Profile};
use tuning::record::{self, Outcome, Record};
use tuning::topology::Topology;
use tuning::tune::{self, Workload};

/// Files that the process and each of its shards hold beside those of connections.
const OWN_FILES: u64 = 64;

/// Bytes that each executor locks: its buffers for files three times, and room for its rings.
const LOCKED_BYTES: u64 = 256 * 1024;

/// Runs the checks, or applies or takes back what they ask for; gives whether all is well.
///
/// # Errors
/// The configuration has faults, the host has no such CPUs, or the record can't be used.
pub fn run(args: &TuneArgs) -> Result<bool, Refusal> {
    let root = Path::new("/");
    if let Some(profile) = args.show_profile.as_deref().and_then(profile::named) {
        return print(profile.text).map(|()| true);
    }
    if args.measure {
        return measure(args);
    }
    if args.undo {
        let outcomes =
            open(args, root)?.undo(&mut record::write).map_err(|e| unusable(args, &e))?;
        return told(args, &outcomes, "--undo");
    }
    let profile = args.profile.as_deref().and_then(profile::named);
    let config = effective::with_cores(configuration(args, profile)?, &args.cores)?;
    let source = Source { file: args.config.as_deref(), cores: &args.cores };
    let (topology, plan) = effective::place(&config, source)?;
    let workload = workload(args, &config, &plan, &topology, profile.is_some_and(|p| p.frugal));
    let checks = tune::checks(root, &topology, &workload);
    if args.apply {
        let changes: Vec<Change> = checks.into_iter().flat_map(|check| check.changes).collect();
        let mut record = open(args, root)?;
        let outcomes =
            record.apply(&changes, &mut record::write).map_err(|e| unusable(args, &e))?;
        return told(args, &outcomes, "--apply");
    }
    let fit = !tune::falls_short(&checks);
    let (proposed, why) = profile::proposed(root, &topology);
    if args.json {
        let mut value = tune::as_json(&checks);
        value["profile"] = proposed.name.into();
        print(&format!("{value:#}\n"))?;
        return Ok(fit);
    }
    print(&tune::show(&checks))?;
    let safe = checks.iter().map(|check| check.changes.len()).sum::<usize>();
    if safe > 0 {
        print(&format!(
            "`corelane tune --apply` can write {safe} of these values for this boot\n"
        ))?;
    }
    let name = proposed.name;
    print(&format!(
        "profile for this host: {name} ({why}); see corelane tune --show-profile {name}\n"
    ))?;
    Ok(fit)
}

/// Has the load generator search for a better configuration; it stands beside this program, or
/// where PATH leads.
fn measure(args: &TuneArgs) -> Result<bool, Refusal> {
    const GENERATOR: &str = "corelane-loadtest";
    let unknown = |error| Refusal::new(format!("this program: {error}"), "start it by its path");
    let ours = std::env::current_exe().map_err(unknown)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        ours.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&path));
    let generator = places.find_map(|place| {
        let file = place.join(GENERATOR);
        file.is_file().then_some(file)
    });
    let Some(generator) = generator else {
        let message = format!("{GENERATOR} is neither beside {} nor in PATH", ours.display());
        let remedy = "build it: cargo build --release -p corelane-loadtest";
        return Err(Refusal::new(message, remedy));
    };
    let mut command = Command::new(&generator);
    command.arg("tune").args(args.scenario.as_slice()).arg("--corelane").arg(&ours);
    for (option, value) in [("--config", &args.config), ("--out", &args.out)] {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    }
    if let Some(budget) = &args.budget {
        command.arg("--budget").arg(budget);
    }
    command.args(&args.more);
    // It takes the place of this process, so that signals and the exit code are its own.
    let error = command.exec();
    let message = format!("{} can't be started: {error}", generator.display());
    Err(Refusal::new(message, "build it anew"))
}

fn configuration(args: &TuneArgs, profile: Option<&Profile>) -> Result<Config, Refusal> {
    match profile {
        Some(profile) => {
            config::parse(profile.text).map_err(|faults| Refusal::faulty(profile.name, &faults))
        }
        None => effective::file(args.config.as_deref()),
    }
}

/// What `config` is going to do on this host.
fn workload(
    args: &TuneArgs,
    config: &Config,
    plan: &PlacementPlan,
    topology: &Topology,
    frugal: bool,
) -> Workload {
    let shards = plan.shards.len();
    let bound: BTreeSet<usize> = plan.shards.iter().filter_map(|place| place.cpu).collect();
    let cpus: Vec<usize> = match bound.is_empty() {
        true => topology.allowed(),
        false => bound.into_iter().collect(),
    };
    let nodes: BTreeSet<usize> =
        cpus.iter().filter_map(|cpu| topology.cpu(*cpu)).map(|cpu| cpu.node).collect();
    let connections = args.connections.unwrap_or_else(|| let_in(config, shards));
    let mut workload = Workload {
        shards,
        pinned: config.runtime.pin,
        nodes: nodes.len(),
        connections,
        backlog: config.listeners.iter().map(|one| u64::from(one.backlog)).max().unwrap_or(0),
        fixed_bytes: fixed_bytes(config) as u64 * shards as u64,
        needs: Needs {
            open_files: connections + OWN_FILES * (shards as u64 + 1),
            locked_bytes: EXECUTOR_LOCKED_BYTES.max(LOCKED_BYTES * shards as u64),
        },
        frugal,
        steering: false,
        cpus,
    };
    workload.steering = topology.nics.iter().any(|nic| device::is_narrow(nic, &workload));
    workload
}

/// Connections that the listeners let in; where nobody chose a bound, as many as make a broker of
/// this kind worth its while.
fn let_in(config: &Config, shards: usize) -> u64 {
    let standard = ListenerConfig::default().max_connections;
    let chosen = config.listeners.iter().all(|one| one.max_connections != standard);
    let one: u64 = config.listeners.iter().map(|one| one.max_connections as u64).sum();
    if chosen { one * shards as u64 } else { WORTHWHILE_FILES }
}

fn open(args: &TuneArgs, root: &Path) -> Result<Record, Refusal> {
    Record::open(root, &args.state).map_err(|error| unusable(args, &error))
}

fn unusable(args: &TuneArgs, error: &io::Error) -> Refusal {
    let message = format!("the record {}: {error}", args.state.display());
    Refusal::new(message, "run as root, or name another file with --state")
}

/// Prints what became of each file; gives whether all was done.
fn told(args: &TuneArgs, outcomes: &[Outcome], what: &str) -> Result<bool, Refusal> {
    let undone = |outcome: &&Outcome| matches!(outcome, Outcome::Foreign(..) | Outcome::Failed(..));
    let undone = outcomes.iter().filter(undone).count();
    if args.json {
        let value = record::as_json(outcomes);
        print(&format!("{value:#}\n"))?;
    } else {
        for outcome in outcomes {
            print(&format!("{}\n", record::sentence(outcome, what == "--undo")))?;
        }
        if outcomes.is_empty() {
            print(&format!("{what}: there is nothing to do\n"))?;
        }
    }
    Ok(undone == 0)
}
