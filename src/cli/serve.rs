//! `corelane serve`: checks the host, says what is about to run and runs it.

use super::args::ServeArgs;
use super::effective::{self, Source};
use super::log::Log;
use super::refusal::Refusal;
use crate::auth::Provisions;
use crate::broker;
use crate::config::{self, Config, ListenerConfig};
use std::path::Path;
use std::sync::Arc;
use tracing::{error, info, warn};
use tuning::cpulist;
use tuning::host::{self, Facts, Needs, Severity, Verdict};
use tuning::placement::PlacementPlan;

/// Below this many open files a broker of this kind is felt to be limited.
pub const WORTHWHILE_FILES: u64 = 65_536;

/// What glommio demands before it builds an executor.
pub const EXECUTOR_LOCKED_BYTES: u64 = 512 * 1024;

/// Serves until told to stop.
///
/// # Errors
/// The configuration has faults, or the host does not allow a start.
pub fn run(args: &ServeArgs) -> Result<(), Refusal> {
    let config = effective::serve(args)?;
    let provisions = effective::provisions(&config, args.config.as_deref())?;
    let log = Arc::new(Log::start(&config.log));
    let source = Source { file: args.config.as_deref(), cores: &args.cores };
    let (_, plan) = effective::place(&config, source)?;
    check_host(&config, plan.shards.len())?;
    greet(&config, &plan);
    let (args, mut running) = (args.clone(), config.clone());
    broker::serve(&config, &provisions, &plan.shards, move || reload(&args, &log, &mut running))?;
    Ok(())
}

/// Reads the configuration and the files that it names again. Gives what runs from then on: its
/// live keys taken over; says which those are, and which others differ from what runs.
fn reload(args: &ServeArgs, log: &Log, running: &mut Config) -> Option<(Config, Provisions)> {
    let read = effective::serve(args).and_then(|new| {
        let merged = config::taken_over(running, &new);
        let merged = merged.map_err(|faults| Refusal::faulty("with what runs, the file", &faults));
        let merged = merged?;
        let provisions = effective::provisions(&merged, args.config.as_deref())?;
        Ok((merged, provisions, new))
    });
    let (merged, provisions, new) = match read {
        Ok(read) => read,
        Err(refusal) => {
            for line in refusal.to_string().lines() {
                error!("nothing was taken over: {}", line.trim());
            }
            return None;
        }
    };
    log.apply(&merged.log);
    let list = |old: &Config, new: &Config| {
        let paths: Vec<_> = config::differences(old, new).into_iter().map(|d| d.path).collect();
        (!paths.is_empty()).then(|| paths.join(", "))
    };
    let taken = list(running, &merged).unwrap_or("none".into());
    info!(changed = taken, "the configuration was read again");
    if let Some(waiting) = list(&merged, &new) {
        warn!("these changes need a restart: {waiting}");
    }
    running.clone_from(&merged);
    Some((merged, provisions))
}

/// Raises the limit of open files, refuses a host that blocks the start and logs what limits it.
fn check_host(config: &Config, shards: usize) -> Result<(), Refusal> {
    let connections: u64 = config.listeners.iter().map(|one| one.max_connections as u64).sum();
    let files = connections.saturating_mul(shards as u64).min(WORTHWHILE_FILES);
    let needs = Needs { open_files: files, locked_bytes: EXECUTOR_LOCKED_BYTES };
    if let Err(error) = host::raise_open_files() {
        warn!("the limit of open files could not be raised: {error}");
    }
    for check in host::checks(&Facts::read(Path::new("/")), needs) {
        let text = format!("{}: {}, needed: {}", check.id, check.current, check.required);
        match (check.verdict, check.severity) {
            (Verdict::Met | Verdict::Unknown, _) => {}
            (Verdict::Unmet, Severity::Blocks) => return Err(Refusal::new(text, check.remedy)),
            (Verdict::Unmet, _) => warn!("{text}; {}", check.remedy),
        }
    }
    Ok(())
}

/// Logs what is about to run and how to try it.
fn greet(config: &Config, plan: &PlacementPlan) {
    let cpus: Vec<usize> = plan.shards.iter().filter_map(|place| place.cpu).collect();
    let place = match cpus.as_slice() {
        [] => "not bound to CPUs".into(),
        cpus => format!("on CPUs {}", cpulist::show(cpus)),
    };
    info!("corelane {}, {} shards {place}", env!("CARGO_PKG_VERSION"), plan.shards.len());
    for note in &plan.notes {
        info!("{note}");
    }
    for listener in &config.listeners {
        let anonymous = if listener.allow_anonymous { "let in" } else { "refused" };
        let name = listener.name.as_str();
        info!("listener {name} at {}, anonymous clients {anonymous}", listener.place());
    }
    let plain = |one: &&ListenerConfig| {
        let tls = !one.tls_certificate.as_slice().is_empty();
        let behind = !one.proxy_from.as_slice().is_empty() || one.unix_path.given().is_some();
        one.address.port() != 0 && !tls && !one.websocket && !behind
    };
    if let Some(first) = config.listeners.iter().find(plain) {
        let host = match first.address.ip() {
            ip if !ip.is_unspecified() => ip.to_string(),
            ip if ip.is_ipv4() => "127.0.0.1".into(),
            _ => "::1".into(),
        };
        let port = first.address.port();
        info!("try it: mosquitto_sub -h {host} -p {port} -t 'hello/#' -v");
        info!("   and: mosquitto_pub -h {host} -p {port} -t hello/world -m hi");
    }
}
