//! Which shard runs on which CPU.
//!
//! Invariants worth naming:
//! * a plan names only CPUs that are online and that the process may use;
//! * shards are numbered from 0 without gaps, at most [`MAX_SHARDS`].

use crate::cpulist;
use crate::topology::{Cpu, Topology};
use std::fmt;

/// Largest number of shards in one process.
pub const MAX_SHARDS: usize = 64;

/// The CPUs asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CpuRequest {
    /// Every CPU that the process may use.
    Auto,
    /// Those of these NUMA nodes that the process may use, node by node.
    Numa(Vec<usize>),
    /// These CPUs, in this order.
    List(Vec<usize>),
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacementRequest {
    /// The CPUs that carry shards.
    pub cpus: CpuRequest,
    /// Whether the second thread of each core is left alone.
    pub no_smt: bool,
    /// CPUs that carry no shard.
    pub housekeeping: Vec<usize>,
    /// How many shards run; `None` means one for each CPU.
    pub shards: Option<usize>,
    /// Whether each shard's thread is bound to its CPU.
    pub pin: bool,
}

/// Where one shard runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardPlace {
    /// The shard, counted from 0.
    pub shard: usize,
    /// The CPU that its thread is bound to; `None` where threads are not bound.
    pub cpu: Option<usize>,
}

/// Where every shard runs, and what is worth knowing about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacementPlan {
    /// The shards in the order of their numbers.
    pub shards: Vec<ShardPlace>,
    /// Sentences for the operator.
    pub notes: Vec<String>,
}

/// The part of a request that the host can't meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// [`PlacementRequest::cpus`].
    Cpus,
    /// [`PlacementRequest::no_smt`].
    NoSmt,
    /// [`PlacementRequest::housekeeping`].
    Housekeeping,
    /// [`PlacementRequest::shards`].
    Shards,
}

/// A request that the host can't meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacementError {
    /// Where the fault is.
    pub part: Part,
    /// What can't be met.
    pub message: String,
    /// What to ask for instead.
    pub remedy: String,
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for PlacementError {}

/// Places the shards of `request` on the CPUs of `topology`.
///
/// # Errors
/// A CPU or node asked for is not online or not allowed, none is left, or the number of shards is
/// out of range.
pub fn plan(
    request: &PlacementRequest,
    topology: &Topology,
) -> Result<PlacementPlan, PlacementError> {
    let cpus = usable(request, topology)?;
    let count = shard_count(request, cpus.len())?;
    let listed = matches!(request.cpus, CpuRequest::List(_));
    let used = if !listed && count < cpus.len() {
        spread(&cpus, count, topology)
    } else {
        cpus.iter().copied().take(count).collect()
    };
    let place = |shard: usize| {
        let cpu = request.pin.then(|| used[shard % used.len()]);
        ShardPlace { shard, cpu }
    };
    let notes = notes(request, &cpus, &used, count, topology);
    Ok(PlacementPlan { shards: (0..count).map(place).collect(), notes })
}

/// The CPUs that the request leaves, each of them online and allowed.
fn usable(request: &PlacementRequest, topology: &Topology) -> Result<Vec<usize>, PlacementError> {
    let mut cpus = match &request.cpus {
        CpuRequest::Auto => topology.allowed(),
        CpuRequest::Numa(nodes) => of_nodes(nodes, topology)?,
        CpuRequest::List(cpus) => {
            each_bindable(cpus, topology)?;
            cpus.clone()
        }
    };
    // Before the CPUs for housekeeping go: their second threads are to stay free as well.
    if request.no_smt {
        let second = |cpu: &usize| earlier_siblings(*cpu, &cpus, topology).next().is_some();
        let seconds: Vec<usize> = cpus.iter().copied().filter(second).collect();
        if let (CpuRequest::List(_), Some(cpu)) = (&request.cpus, seconds.first()) {
            let message = format!("CPU {cpu} shares its core with another CPU of the list");
            let remedy = format!("leave out {}", cpulist::show(&seconds));
            return Err(PlacementError { part: Part::NoSmt, message, remedy });
        }
        cpus.retain(|cpu| !seconds.contains(cpu));
    }
    if let Some(cpu) = request.housekeeping.iter().find(|cpu| topology.cpu(**cpu).is_none()) {
        let message = format!("CPU {cpu} is not online");
        return Err(refused(Part::Housekeeping, message, topology));
    }
    let before = cpus.len();
    cpus.retain(|cpu| !request.housekeeping.contains(cpu));
    if cpus.is_empty() && before > 0 {
        let message = "no CPU is left beside those for housekeeping".into();
        return Err(refused(Part::Housekeeping, message, topology));
    }
    if cpus.is_empty() {
        return Err(refused(Part::Cpus, "no CPU is left to run on".into(), topology));
    }
    Ok(cpus)
}

fn refused(part: Part, message: String, topology: &Topology) -> PlacementError {
    let remedy = format!("this process may use {}", cpulist::show(&topology.allowed()));
    PlacementError { part, message, remedy }
}

/// The CPUs of `nodes` that the process may use.
fn of_nodes(nodes: &[usize], topology: &Topology) -> Result<Vec<usize>, PlacementError> {
    let mut cpus = Vec::new();
    for node in nodes {
        let own: Vec<&Cpu> = topology.cpus.iter().filter(|cpu| cpu.node == *node).collect();
        if own.is_empty() {
            let message = format!("there is no NUMA node {node}");
            let remedy = format!("this host has {}", cpulist::show(&topology.nodes()));
            return Err(PlacementError { part: Part::Cpus, message, remedy });
        }
        let before = cpus.len();
        cpus.extend(own.iter().filter(|cpu| cpu.allowed).map(|cpu| cpu.id));
        if cpus.len() == before {
            let message = format!("no CPU of NUMA node {node} is allowed to this process");
            return Err(refused(Part::Cpus, message, topology));
        }
    }
    Ok(cpus)
}

fn each_bindable(cpus: &[usize], topology: &Topology) -> Result<(), PlacementError> {
    let error = |message| Err(refused(Part::Cpus, message, topology));
    for cpu in cpus {
        match topology.cpu(*cpu) {
            None => return error(format!("CPU {cpu} is not online")),
            Some(found) if !topology.bindable(found) => {
                let why = "its affinity or its cgroup's cpuset leaves it out";
                return error(format!("CPU {cpu} is not allowed to this process: {why}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The siblings of `cpu` that stand before it in `cpus`.
fn earlier_siblings<'a>(
    cpu: usize,
    cpus: &'a [usize],
    topology: &'a Topology,
) -> impl Iterator<Item = usize> + 'a {
    let siblings = topology.cpu(cpu).map_or(&[][..], |cpu| &cpu.siblings);
    let before = cpus.iter().copied().take_while(move |other| *other != cpu);
    before.filter(move |other| siblings.contains(other))
}

fn shard_count(request: &PlacementRequest, cpus: usize) -> Result<usize, PlacementError> {
    match (request.shards, &request.cpus) {
        (Some(shards), _) if (1..=MAX_SHARDS).contains(&shards) => Ok(shards),
        (None, CpuRequest::Auto | CpuRequest::Numa(_)) => Ok(cpus.min(MAX_SHARDS)),
        (None, _) if cpus <= MAX_SHARDS => Ok(cpus),
        (shards, _) => Err(PlacementError {
            part: if shards.is_some() { Part::Shards } else { Part::Cpus },
            message: format!("{} shards are out of range", shards.unwrap_or(cpus)),
            remedy: format!("use 1..={MAX_SHARDS}"),
        }),
    }
}

/// `count` of `cpus`, each on a core of its own as long as there are cores, on fast cores first.
fn spread(cpus: &[usize], count: usize, topology: &Topology) -> Vec<usize> {
    let rank = |cpu: &usize| {
        let efficient = topology.cpu(*cpu).is_some_and(|cpu| cpu.efficient);
        (earlier_siblings(*cpu, cpus, topology).count(), efficient)
    };
    // Stable: CPUs of one rank stay in the order of the request.
    let mut order: Vec<usize> = (0..cpus.len()).collect();
    order.sort_by_key(|at| rank(&cpus[*at]));
    order.truncate(count);
    order.sort_unstable();
    order.into_iter().map(|at| cpus[at]).collect()
}

fn notes(
    request: &PlacementRequest,
    cpus: &[usize],
    used: &[usize],
    count: usize,
    topology: &Topology,
) -> Vec<String> {
    let mut notes = Vec::new();
    if count > used.len() {
        let names = cpulist::show(used);
        notes.push(format!("{count} shards share the CPUs {names} in rotation"));
    }
    if request.shards.is_none() && cpus.len() > count {
        notes.push(format!("{} CPUs stay free: at most {MAX_SHARDS} shards", cpus.len() - count));
    }
    if !request.pin {
        notes.push("shards are not bound to CPUs; the kernel moves them".into());
        return notes;
    }
    let placed = || used.iter().filter_map(|cpu| topology.cpu(*cpu));
    let paired: Vec<usize> = used
        .iter()
        .copied()
        .filter(|cpu| earlier_siblings(*cpu, used, topology).next().is_some())
        .collect();
    if !paired.is_empty() {
        let names = cpulist::show(&paired);
        notes.push(format!("CPUs {names} share their cores with other shards (SMT)"));
    }
    let slow: Vec<usize> = placed().filter(|cpu| cpu.efficient).map(|cpu| cpu.id).collect();
    if !slow.is_empty() && slow.len() < used.len() {
        let names = cpulist::show(&slow);
        notes.push(format!("CPUs {names} are slower cores (E); their shards carry as much"));
    }
    let mut nodes: Vec<usize> = placed().map(|cpu| cpu.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.len() > 1 {
        let names = cpulist::show(&nodes);
        notes.push(format!("shards span the NUMA nodes {names}; messages between them cost more"));
    }
    far_nics(&nodes, topology, &mut notes);
    idle_isolated(used, topology, &mut notes);
    notes
}

/// Notes the network devices on other NUMA nodes than all shards.
fn far_nics(nodes: &[usize], topology: &Topology, notes: &mut Vec<String>) {
    for nic in &topology.nics {
        if let Some(node) = nic.node.filter(|node| !nodes.contains(node)) {
            notes.push(format!("{} is attached to NUMA node {node}, no shard is", nic.name));
        }
    }
}

/// Notes the isolated CPUs that no shard uses.
fn idle_isolated(used: &[usize], topology: &Topology, notes: &mut Vec<String>) {
    let free = topology.cpus.iter().filter(|cpu| cpu.isolated && topology.bindable(cpu));
    let free: Vec<usize> = free.map(|cpu| cpu.id).filter(|cpu| !used.contains(cpu)).collect();
    if !free.is_empty() {
        let names = cpulist::show(&free);
        notes.push(format!("CPUs {names} are isolated by the kernel; a list of CPUs may use them"));
    }
}
