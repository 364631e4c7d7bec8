//! From what was typed to what is used: the file, then the flags that replace its values, then the
//! CPUs of this host.

use super::args::{CoreArgs, ServeArgs};
use super::refusal::Refusal;
use crate::base::MAX_SHARDS;
use crate::config::{self, Choice, Config, Cpus, Fault, ListenerConfig, LogLevel};
use std::path::Path;
use tuning::placement::{self, CpuRequest, PlacementPlan, PlacementRequest};
use tuning::topology::Topology;

const _: () = assert!(MAX_SHARDS == placement::MAX_SHARDS, "both crates mean the same shards");

/// Reads the file at `path`; without one, the defaults.
pub fn file(path: Option<&Path>) -> Result<Config, Refusal> {
    let Some(path) = path else { return Ok(Config::default()) };
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Refusal::new(format!("{name} can't be read: {error}"), "name a readable TOML file")
    })?;
    config::parse(&text).map_err(|faults| Refusal::faulty(&name.to_string(), &faults))
}

/// The configuration that `serve` uses.
pub fn serve(args: &ServeArgs) -> Result<Config, Refusal> {
    let mut config = file(args.config.as_deref())?;
    let mut faults = Vec::new();
    cores(&args.cores, &mut config, &mut faults);
    if !args.listen.is_empty() {
        config.listeners = listeners(args, &mut faults);
    }
    if let Some(level) = args.log_level.as_deref().and_then(LogLevel::from_word) {
        config.log.level = level;
    }
    refuse(&faults).map(|()| config)
}

/// The listeners that `--listen` names.
fn listeners(args: &ServeArgs, faults: &mut Vec<Fault>) -> Vec<ListenerConfig> {
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for (at, text) in args.listen.iter().enumerate() {
        match config::listener(at, text, args.allow_anonymous) {
            Ok(new) if new.address.port() != 0 && listeners.iter().any(|old| same(old, &new)) => {
                let (reason, remedy) = ("the address is named twice", "name it once");
                let key = format!("--listen {text}");
                faults.push(Fault {
                    line: None,
                    key,
                    reason: reason.into(),
                    remedy: remedy.into(),
                });
            }
            Ok(listener) => listeners.push(listener),
            Err(fault) => faults.push(fault),
        }
    }
    listeners
}

fn same(left: &ListenerConfig, right: &ListenerConfig) -> bool {
    left.address == right.address
}

/// The configuration that `topology` draws.
pub fn topology(path: Option<&Path>, args: &CoreArgs) -> Result<Config, Refusal> {
    let mut config = file(path)?;
    let mut faults = Vec::new();
    cores(args, &mut config, &mut faults);
    refuse(&faults).map(|()| config)
}

fn refuse(faults: &[Fault]) -> Result<(), Refusal> {
    if faults.is_empty() { Ok(()) } else { Err(Refusal::faulty("the command line", faults)) }
}

fn cores(args: &CoreArgs, config: &mut Config, faults: &mut Vec<Fault>) {
    let mut fault = |flag: &str, reason: String, remedy: String| {
        faults.push(Fault { line: None, key: flag.into(), reason, remedy });
    };
    match args.cpus.as_deref().map(str::parse::<Cpus>) {
        Some(Ok(cpus)) => config.runtime.cpus = cpus,
        Some(Err((reason, remedy))) => fault("--cpus", reason, remedy),
        None => {}
    }
    match args.shards {
        Some(shards) if shards > MAX_SHARDS => {
            fault("--shards", format!("{shards} is too many"), format!("use 0..={MAX_SHARDS}"));
        }
        Some(shards) => config.runtime.shards = shards,
        None => {}
    }
}

/// Places the shards of `config` on this host.
pub fn place(config: &Config) -> Result<(Topology, PlacementPlan), Refusal> {
    let topology = Topology::discover().map_err(|error| {
        let message = format!("the host's CPUs can't be read: {error}");
        Refusal::new(message, "mount /proc and /sys")
    })?;
    let request = PlacementRequest {
        cpus: match &config.runtime.cpus {
            Cpus::Auto => CpuRequest::Auto,
            Cpus::List(cpus) => CpuRequest::List(cpus.clone()),
        },
        shards: Some(config.runtime.shards).filter(|shards| *shards != 0),
        pin: config.runtime.pin,
    };
    let plan = placement::plan(&request, &topology)?;
    let shards = plan.shards.len();
    if let Some(rule) = config.topics.pin.iter().find(|rule| rule.shard >= shards) {
        let prefix = rule.prefix.as_str();
        return Err(Refusal::new(
            format!("topics.pin names shard {} for {prefix}, and {shards} run here", rule.shard),
            format!("pin it to one of 0..={} or raise runtime.shards", shards - 1),
        ));
    }
    Ok((topology, plan))
}
