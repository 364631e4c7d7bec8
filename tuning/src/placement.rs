//! Which shard runs on which CPU.
//!
//! Invariants worth naming:
//! * a plan names only CPUs that are online and that the process may use;
//! * shards are numbered from 0 without gaps, at most [`MAX_SHARDS`].

use crate::cpulist;
use crate::topology::Topology;
use std::fmt;

/// Largest number of shards in one process.
pub const MAX_SHARDS: usize = 64;

/// The CPUs asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CpuRequest {
    /// Every CPU that the process may use.
    Auto,
    /// These CPUs, in this order.
    List(Vec<usize>),
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacementRequest {
    /// The CPUs that carry shards.
    pub cpus: CpuRequest,
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

/// A request that the host can't meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacementError {
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
/// A CPU asked for is not online or not allowed, or the number of shards is out of range.
pub fn plan(
    request: &PlacementRequest,
    topology: &Topology,
) -> Result<PlacementPlan, PlacementError> {
    let cpus = usable(request, topology)?;
    let count = shard_count(request, cpus.len())?;
    let automatic = request.cpus == CpuRequest::Auto;
    let used = if automatic && count < cpus.len() {
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

/// The CPUs that the request names, each of them online and allowed.
fn usable(request: &PlacementRequest, topology: &Topology) -> Result<Vec<usize>, PlacementError> {
    let allowed = topology.allowed();
    let error = |message: String| {
        let remedy = format!("this process may use {}", cpulist::show(&allowed));
        Err(PlacementError { message, remedy })
    };
    let cpus = match &request.cpus {
        CpuRequest::Auto => allowed.clone(),
        CpuRequest::List(cpus) => cpus.clone(),
    };
    for cpu in &cpus {
        match topology.cpu(*cpu) {
            None => return error(format!("CPU {cpu} is not online")),
            Some(found) if !found.allowed => {
                let why = "its affinity or its cgroup's cpuset leaves it out";
                return error(format!("CPU {cpu} is not allowed to this process: {why}"));
            }
            Some(_) => {}
        }
    }
    if cpus.is_empty() { error("no CPU is left to run on".into()) } else { Ok(cpus) }
}

fn shard_count(request: &PlacementRequest, cpus: usize) -> Result<usize, PlacementError> {
    match (request.shards, &request.cpus) {
        (Some(shards), _) if (1..=MAX_SHARDS).contains(&shards) => Ok(shards),
        (None, CpuRequest::Auto) => Ok(cpus.min(MAX_SHARDS)),
        (None, _) if cpus <= MAX_SHARDS => Ok(cpus),
        (shards, _) => Err(PlacementError {
            message: format!("{} shards are out of range", shards.unwrap_or(cpus)),
            remedy: format!("use 1..={MAX_SHARDS}"),
        }),
    }
}

/// `count` of `cpus`, each on a core of its own as long as there are cores.
fn spread(cpus: &[usize], count: usize, topology: &Topology) -> Vec<usize> {
    let rank = |cpu: &usize| {
        let siblings = topology.cpu(*cpu).map_or(&[][..], |cpu| &cpu.siblings);
        siblings.iter().filter(|sibling| *sibling < cpu && cpus.contains(sibling)).count()
    };
    let mut spread = cpus.to_vec();
    spread.sort_by_key(|cpu| (rank(cpu), *cpu));
    spread.truncate(count);
    spread.sort_unstable();
    spread
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
    let paired = placed().filter(|cpu| {
        cpu.siblings.iter().any(|sibling| *sibling < cpu.id && used.contains(sibling))
    });
    let paired: Vec<usize> = paired.map(|cpu| cpu.id).collect();
    if !paired.is_empty() {
        let names = cpulist::show(&paired);
        notes.push(format!("CPUs {names} share their cores with other shards (SMT)"));
    }
    let mut nodes: Vec<usize> = placed().map(|cpu| cpu.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.len() > 1 {
        let names = cpulist::show(&nodes);
        notes.push(format!("shards span the NUMA nodes {names}; messages between them cost more"));
    }
    notes
}
