//! Draws a host and the shards on it as text.

use crate::cpulist;
use crate::placement::PlacementPlan;
use crate::topology::{Cpu, Topology};
use std::fmt::Write;

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
    let content = match (shards.is_empty(), cpu.allowed) {
        (false, _) => shards.join("+"),
        (true, true) => "-".into(),
        (true, false) => "(not allowed)".into(),
    };
    format!("[cpu {:<3} {content:<9}]", cpu.id)
}

/// Shards that are bound to no CPU.
fn floating(out: &mut String, plan: &PlacementPlan) {
    let unbound = plan.shards.iter().filter(|place| place.cpu.is_none()).count();
    if unbound > 0 {
        line(out, 0, &format!("{unbound} shards, not bound to CPUs"));
    }
}
