//! `corelane topology`: the host and the shards on it, as a picture or as JSON.

use super::args::TopologyArgs;
use super::effective::{self, Source};
use super::refusal::Refusal;
use super::{load, print};
use crate::config::Config;
use crate::shard::placement_of;
use tuning::picture::{self, Ownership};

/// Prints the picture.
///
/// # Errors
/// The configuration has faults, or the host has no such CPUs.
pub fn run(args: &TopologyArgs) -> Result<(), Refusal> {
    let file = args.config.as_deref();
    let config = effective::with_cores(effective::file(file)?, &args.cores)?;
    if args.load {
        return load::run(&args.broker, |cores| placement_of(&config, cores, [0, 0]));
    }
    let (topology, plan) = effective::place(&config, Source { file, cores: &args.cores })?;
    let ownership = ownership(&config, plan.shards.len());
    if args.json {
        return print(&format!("{:#}\n", picture::as_json(&topology, &plan, &ownership)));
    }
    print(&picture::draw(&topology, &plan))?;
    if args.plan { print(&picture::draw_ownership(&plan, &ownership)) } else { Ok(()) }
}

/// What `config` puts on chosen ones of `shards`.
fn ownership(config: &Config, shards: usize) -> Ownership {
    let listeners = config.listeners.iter().map(|listener| {
        let own = listener.shards.as_slice();
        let all = || (0..shards).collect();
        let shards = if own.is_empty() { all() } else { own.to_vec() };
        (format!("listener {} ({})", listener.name.as_str(), listener.place()), shards)
    });
    let topics = config.topics.pin.iter();
    let topics =
        topics.map(|rule| (format!("topics {}/#", rule.prefix.as_str()), vec![rule.shard]));
    let clients = config.session.pin.iter();
    let clients =
        clients.map(|rule| (format!("clients {}", rule.clients.as_str()), vec![rule.shard]));
    Ownership { rows: listeners.chain(topics).chain(clients).collect() }
}
