//! Says in words what a configuration means; `corelane check` prints it.

use super::key::Section;
use super::relation::fixed_bytes;
use super::{Config, Cpus, ListenerConfig, RewriteAction, Route};
use std::fmt::Write;

/// What `config` means: where clients connect, who owns which topics, what a core may hold, and
/// every value, those that differ from the default marked with `*`.
pub fn explain(config: &Config) -> String {
    let mut out = String::new();
    let written = cores(config, &mut out)
        .and_then(|()| listeners(config, &mut out))
        .and_then(|()| topics(config, &mut out))
        .and_then(|()| memory(config, &mut out))
        .and_then(|()| values(config, &mut out));
    written.expect("writing to a string can't fail");
    out
}

fn cores(config: &Config, out: &mut String) -> std::fmt::Result {
    let runtime = &config.runtime;
    let cpus = match &runtime.cpus {
        Cpus::Auto => "every CPU this process may use".into(),
        Cpus::Numa(nodes) => format!("the CPUs of NUMA nodes {nodes:?}"),
        Cpus::List(cpus) => format!("CPUs {cpus:?}"),
    };
    let shards = match runtime.shards {
        0 => "one shard for each".into(),
        shards => format!("shards: {shards}"),
    };
    let bound = if runtime.pin { "each bound to its CPU" } else { "not bound to CPUs" };
    writeln!(out, "Cores\n  {cpus}, {shards}, {bound}")?;
    if runtime.no_smt {
        writeln!(out, "  at most one shard on each physical core")?;
    }
    match runtime.housekeeping.as_slice() {
        [] => Ok(()),
        kept => writeln!(out, "  no shard on CPUs {kept:?}"),
    }
}

fn listeners(config: &Config, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nClients connect here")?;
    for listener in &config.listeners {
        let ListenerConfig { name, address, allow_anonymous, max_connections, .. } = listener;
        let anonymous = if *allow_anonymous { "are let in" } else { "are refused" };
        let name = name.as_str();
        writeln!(out, "  {name}: {address}, anonymous clients {anonymous},")?;
        writeln!(out, "    up to {max_connections} connections on each core")?;
        if !listener.shards.as_slice().is_empty() {
            writeln!(out, "    accepted on shards {:?}", listener.shards.as_slice())?;
        }
    }
    Ok(())
}

fn topics(config: &Config, out: &mut String) -> std::fmt::Result {
    let topics = &config.topics;
    writeln!(out, "\nTopics\n  the first {} levels decide which core owns a topic", topics.depth)?;
    for rule in &topics.r#override {
        writeln!(out, "  under {}: the first {} levels", rule.prefix.as_str(), rule.depth)?;
    }
    for rule in &topics.pin {
        writeln!(out, "  under {}: always shard {}", rule.prefix.as_str(), rule.shard)?;
    }
    for rule in &topics.route {
        let core = match rule.mode {
            Route::Owner => "the owner's core",
            Route::Publisher => "the publisher's core (order per publisher only)",
        };
        writeln!(out, "  under {}: routed by {core}", rule.prefix.as_str())?;
    }
    for rule in &topics.rewrite {
        let who = match rule.action {
            RewriteAction::Publish => "publishers",
            RewriteAction::Subscribe => "subscribers",
            RewriteAction::All => "everybody",
        };
        let (from, to) = (rule.filter.as_str(), rule.to.as_str());
        writeln!(out, "  {from} becomes {to} for {who}, unless an earlier rule fits")?;
    }
    for rule in &config.session.auto_subscribe {
        let (filter, clients) = (rule.filter.as_str(), rule.clients.as_str());
        writeln!(out, "  clients named {clients} are subscribed to {filter}")?;
    }
    for rule in &config.session.pin {
        let clients = rule.clients.as_str();
        writeln!(out, "  clients named {clients} live on shard {}", rule.shard)?;
    }
    Ok(())
}

fn memory(config: &Config, out: &mut String) -> std::fmt::Result {
    let limits = &config.limits;
    let runtime = &config.runtime;
    writeln!(out, "\nMemory of one core")?;
    let rows = [
        ("taken at the start", fixed_bytes(config)),
        ("  receive buffers", runtime.recv_buffers * runtime.recv_buffer_bytes),
        ("  pooled blocks", runtime.mesh_bytes),
        ("  match cache", limits.match_cache_bytes),
        ("unfinished packets", limits.unfinished_bytes),
        ("retained messages", limits.retained_bytes),
        ("delayed messages", limits.delayed_bytes),
    ];
    for (name, bytes) in rows {
        writeln!(out, "  {name:<20} {}", size(bytes))?;
    }
    let connection = limits.out_buffer_bytes + limits.answer_bytes;
    writeln!(out, "  one connection's out buffer at most {}", size(connection))?;
    writeln!(out, "  one session's outbox at most {}", size(config.session.outbox_bytes))
}

fn values(config: &Config, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nValues (* differs from the default)")?;
    section("[runtime]", &config.runtime, out)?;
    for listener in &config.listeners {
        section("[[listener]]", listener, out)?;
    }
    section("[access]", &config.access, out)?;
    for rule in &config.ban {
        section("[[ban]]", rule, out)?;
    }
    for rule in &config.acl {
        section("[[acl]]", rule, out)?;
    }
    section("[topics]", &config.topics, out)?;
    section("[session]", &config.session, out)?;
    section("[protocol]", &config.protocol, out)?;
    section("[limits]", &config.limits, out)?;
    section("[sys]", &config.sys, out)?;
    section("[log]", &config.log, out)
}

fn section<S: Section>(title: &str, section: &S, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  {title}")?;
    for (key, value) in S::keys().into_iter().zip(section.shown()) {
        match key.default {
            Some(default) if default != value => {
                writeln!(out, "  * {} = {value}  (default {default})", key.name)?;
            }
            _ => writeln!(out, "    {} = {value}", key.name)?,
        }
    }
    Ok(())
}

/// Bytes in the largest binary unit that keeps them above one.
fn size(bytes: usize) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && amount.fract() != 0.0);
    format!("{amount:.digits$} {}", UNITS[unit])
}
