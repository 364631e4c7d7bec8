//! Draws a host and the shards on it as text.

use crate::cpulist;
use crate::nic::{Interrupt, Nic};
use crate::placement::{PlacementPlan, ShardPlace};
use crate::topology::{Cpu, Topology};
use serde_json::{Value, json};
use std::fmt::Write;

/// What the configuration puts on chosen shards.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ownership {
    /// What is meant, such as `topics under plant/#`, with the shards that have it.
    pub rows: Vec<(String, Vec<usize>)>,
}

/// What each shard of `plan` owns by a rule, one line for each shard with something; then what all
/// shards share.
pub fn draw_ownership(plan: &PlacementPlan, ownership: &Ownership) -> String {
    let mut out = String::from("what is where\n");
    for place in &plan.shards {
        let own = ownership.rows.iter().filter(|(_, shards)| shards.contains(&place.shard));
        let own: Vec<&str> = own.map(|(what, _)| what.as_str()).collect();
        let cpu = place.cpu.map_or("not bound".into(), |cpu| format!("cpu {cpu}"));
        let own = if own.is_empty() { "nothing by a rule".into() } else { own.join(", ") };
        line(&mut out, 1, &format!("shard-{:<3} {cpu:<9} {own}", place.shard));
    }
    let by_hash = "clients and topics without a rule are spread over all shards by a keyed hash";
    line(&mut out, 1, by_hash);
    out
}

/// Host, plan and ownership as a value for programs.
pub fn as_json(topology: &Topology, plan: &PlacementPlan, ownership: &Ownership) -> Value {
    let cpu = |cpu: &Cpu| {
        let here = plan.shards.iter().filter(|place| place.cpu == Some(cpu.id));
        json!({
            "cpu": cpu.id, "package": cpu.package, "core": cpu.core, "node": cpu.node,
            "siblings": cpu.siblings, "l2": cpu.near_cache, "l3": cpu.cache,
            "efficient": cpu.efficient, "isolated": cpu.isolated, "nohz_full": cpu.tickless,
            "allowed": cpu.allowed, "shards": here.map(|place| place.shard).collect::<Vec<_>>(),
        })
    };
    let nic = |nic: &Nic| {
        let interrupt = |interrupt: &Interrupt| {
            let Interrupt { number, name, cpus } = interrupt;
            json!({ "irq": number, "name": name, "cpus": cpus })
        };
        let interrupts: Vec<Value> = nic.interrupts.iter().map(interrupt).collect();
        json!({
            "name": nic.name, "node": nic.node, "receive_queues": nic.queues.len(),
            "interrupts": interrupts,
        })
    };
    let shard = |place: &ShardPlace| {
        let own = ownership.rows.iter().filter(|(_, shards)| shards.contains(&place.shard));
        let own: Vec<&str> = own.map(|(what, _)| what.as_str()).collect();
        json!({ "shard": place.shard, "cpu": place.cpu, "owns": own })
    };
    json!({
        "cpus": topology.cpus.iter().map(cpu).collect::<Vec<_>>(),
        "cpuset": topology.cpuset,
        "nics": topology.nics.iter().map(nic).collect::<Vec<_>>(),
        "shards": plan.shards.iter().map(shard).collect::<Vec<_>>(),
        "notes": plan.notes,
    })
}

/// The packages, NUMA nodes, caches and cores of `topology`, with the shards of `plan` beside their
/// CPUs, and the plan's notes below.
pub fn draw(topology: &Topology, plan: &PlacementPlan) -> String {
    let mut out = String::new();
    let mut cpus: Vec<&Cpu> = topology.cpus.iter().collect();
    cpus.sort_by_key(|cpu| (cpu.package, cpu.node, cpu.cache.first().copied(), cpu.core, cpu.id));
    for package in cpus.chunk_by(|left, right| left.package == right.package) {
        line(&mut out, 0, &format!("package {}", package[0].package));
        for node in package.chunk_by(|left, right| left.node == right.node) {
            line(&mut out, 1, &format!("NUMA node {}", node[0].node));
            for cache in node.chunk_by(|left, right| left.cache == right.cache) {
                line(&mut out, 2, &cache_title(cache[0]));
                for core in cache.chunk_by(|left, right| left.core == right.core) {
                    let cells: Vec<String> = core.iter().map(|cpu| cell(cpu, plan)).collect();
                    let title = format!("core {:<3}", core[0].core);
                    line(&mut out, 3, &format!("{title} {}", cells.join("  ")));
                }
            }
        }
    }
    floating(&mut out, plan);
    for nic in &topology.nics {
        line(&mut out, 0, &interrupts(nic));
    }
    for note in &plan.notes {
        line(&mut out, 0, &format!("note: {note}"));
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    let text = text.trim_end();
    writeln!(out, "{:indent$}{text}", "", indent = depth * 2).expect("strings take every line");
}

fn cache_title(cpu: &Cpu) -> String {
    match cpu.cache.as_slice() {
        [] => "no shared L3 cache known".into(),
        cpus => format!("L3 cache of CPUs {}", cpulist::show(cpus)),
    }
}

/// One CPU and what runs on it.
fn cell(cpu: &Cpu, plan: &PlacementPlan) -> String {
    let here = plan.shards.iter().filter(|place| place.cpu == Some(cpu.id));
    let shards: Vec<String> = here.map(|place| format!("shard-{}", place.shard)).collect();
    let content = match shards.is_empty() {
        false => shards.join("+"),
        true if cpu.isolated => "(isolated)".into(),
        true if cpu.allowed => "-".into(),
        true => "(not allowed)".into(),
    };
    let content = if cpu.efficient { format!("{content} E") } else { content };
    format!("[cpu {:<3} {content:<9}]", cpu.id)
}

/// A network device and the CPUs that take its interrupts.
fn interrupts(nic: &Nic) -> String {
    let node = nic.node.map_or(String::new(), |node| format!(" on NUMA node {node}"));
    let cpus = nic.interrupt_cpus();
    let taken = match (nic.interrupts.len(), cpus.is_empty()) {
        (0, _) => "no interrupts known".into(),
        (count, true) => format!("{count} interrupts, on CPUs not known"),
        (count, false) => format!("{count} interrupts on CPUs {}", cpulist::show(&cpus)),
    };
    format!("{}{node}: {} receive queues, {taken}", nic.name, nic.queues.len())
}

/// Shards that are bound to no CPU.
fn floating(out: &mut String, plan: &PlacementPlan) {
    let unbound = plan.shards.iter().filter(|place| place.cpu.is_none()).count();
    if unbound > 0 {
        line(out, 0, &format!("{unbound} shards, not bound to CPUs"));
    }
}
