//! From what was typed to what is used: the file, then the flags that replace its values, then the
//! CPUs of this host.

use super::args::{CoreArgs, ServeArgs};
use super::refusal::Refusal;
use crate::auth::Provisions;
use crate::base::MAX_SHARDS;
use crate::config::{self, Choice, Config, Cpus, Fault, ListenerConfig, LogLevel};
use std::path::Path;
use tuning::placement::{self, CpuRequest, Part, PlacementError, PlacementPlan, PlacementRequest};
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

/// What the files say that `config`, read from `file`, names.
pub fn provisions(config: &Config, file: Option<&Path>) -> Result<Provisions, Refusal> {
    let directory = file.and_then(Path::parent).unwrap_or(Path::new(""));
    Ok(Provisions::read(config, directory)?)
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

/// `config` with the values that were typed instead of its own.
pub fn with_cores(mut config: Config, args: &CoreArgs) -> Result<Config, Refusal> {
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

/// What a configuration was made from, so that a refusal can name the line.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The file, if there was one.
    pub file: Option<&'a Path>,
    /// What was typed instead of its values.
    pub cores: &'a CoreArgs,
}

impl Source<'_> {
    /// The refusal of a value that this host can't serve.
    fn refuse(&self, key: &str, reason: String, remedy: String) -> Refusal {
        let typed = match key {
            "runtime.cpus" => self.cores.cpus.is_some(),
            "runtime.shards" => self.cores.shards.is_some(),
            _ => false,
        };
        let text = self.file.filter(|_| !typed).map(std::fs::read_to_string);
        let line = text.and_then(Result::ok).and_then(|text| config::line_of(&text, key));
        let fault = Fault { line, key: key.into(), reason, remedy };
        match self.file.filter(|_| line.is_some()) {
            Some(file) => Refusal::faulty(&file.display().to_string(), &[fault]),
            None if typed => Refusal::new(fault.reason, fault.remedy),
            None => Refusal::new(format!("{key}: {}", fault.reason), fault.remedy),
        }
    }
}

/// Places the shards of `config` on this host.
pub fn place(config: &Config, source: Source<'_>) -> Result<(Topology, PlacementPlan), Refusal> {
    let topology = Topology::discover().map_err(|error| {
        let message = format!("the host's CPUs can't be read: {error}");
        Refusal::new(message, "mount /proc and /sys")
    })?;
    let plan = placement::plan(&placement_request(config), &topology).map_err(|error| {
        let PlacementError { part, message, remedy } = error;
        source.refuse(key_of(part), message, remedy)
    })?;
    let shards = plan.shards.len();
    if let Some((key, shard)) =
        config::named_shards(config).into_iter().find(|(_, shard)| *shard >= shards)
    {
        let reason = format!("there is no shard {shard}, {shards} run here");
        let remedy = format!("use one of 0..={} or raise runtime.shards", shards - 1);
        return Err(source.refuse(&key, reason, remedy));
    }
    Ok((topology, plan))
}

fn key_of(part: Part) -> &'static str {
    match part {
        Part::Cpus => "runtime.cpus",
        Part::NoSmt => "runtime.no_smt",
        Part::Housekeeping => "runtime.housekeeping",
        Part::Shards => "runtime.shards",
    }
}

/// What `config` asks for of the host's CPUs.
pub fn placement_request(config: &Config) -> PlacementRequest {
    let runtime = &config.runtime;
    PlacementRequest {
        cpus: match &runtime.cpus {
            Cpus::Auto => CpuRequest::Auto,
            Cpus::Numa(nodes) => CpuRequest::Numa(nodes.clone()),
            Cpus::List(cpus) => CpuRequest::List(cpus.clone()),
        },
        no_smt: runtime.no_smt,
        housekeeping: runtime.housekeeping.as_slice().to_vec(),
        shards: Some(runtime.shards).filter(|shards| *shards != 0),
        pin: runtime.pin,
    }
}

#[cfg(test)]
#[path = "../../tuning/tests/hosts/machine.rs"]
mod machine;

#[cfg(test)]
mod tests {
    use super::machine::{Host, hybrid_laptop, large_dual_socket, single_socket};
    use super::*;
    use tuning::profile::PROFILES;

    #[test]
    fn every_profile_plans_on_the_host_that_it_names() {
        let host = |name: &str| -> (Host, usize) {
            match name {
                "laptop" => (hybrid_laptop(name), 2),
                "two-core-vm" => (single_socket(name, 2, 0), 2),
                "eight-core-vm" => (single_socket(name, 8, 0), 7),
                "sixteen-core" => (single_socket(name, 16, 16), 15),
                "thirty-two-core" => (single_socket(name, 32, 32), 30),
                "sixty-four-core" => (single_socket(name, 64, 64), 60),
                "dual-socket" => (large_dual_socket(name), 30),
                "low-latency" => (single_socket(name, 12, 12), 11),
                "power-saving" => (single_socket(name, 4, 0), 1),
                other => panic!("which host is {other} for?"),
            }
        };
        for profile in PROFILES {
            let config = config::parse(profile.text)
                .unwrap_or_else(|faults| panic!("{}: {faults:?}", profile.name));
            let (host, shards) = host(profile.name);
            let plan = placement::plan(&placement_request(&config), &host.topology());
            let plan = plan.unwrap_or_else(|error| panic!("{}: {error}", profile.name));
            assert_eq!(plan.shards.len(), shards, "{}: {:?}", profile.name, plan.notes);
            let smt = plan.notes.iter().any(|note| note.contains("SMT"));
            assert!(!smt, "{}: {:?}", profile.name, plan.notes);
        }
    }

    #[test]
    fn every_key_of_a_profile_has_its_reason_above_it() {
        for profile in PROFILES {
            let lines: Vec<&str> = profile.text.lines().collect();
            let keys = lines.windows(2).filter(|pair| pair[1].contains(" = "));
            let mut keys = keys.filter(|pair| !pair[1].starts_with('#')).peekable();
            assert!(keys.peek().is_some(), "{} sets nothing", profile.name);
            for pair in keys {
                assert!(pair[0].starts_with("# "), "{}: {}", profile.name, pair[1]);
            }
        }
    }
}
