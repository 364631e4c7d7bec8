//! CPUs, cores, packages, NUMA nodes and shared caches, as sysfs and the process's own status tell.
//!
//! Invariants worth naming:
//! * the CPUs stand in ascending order, online ones only;
//! * a host that hides its sysfs (some containers do) is one package whose CPUs are cores of their
//!   own.

use crate::nic::Nic;
use crate::tree::{self, list, number, numbered};
use crate::{cgroup, cpulist};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// One online CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// The kernel's number.
    pub id: usize,
    /// Its package (socket).
    pub package: usize,
    /// Its core, counted within the package.
    pub core: usize,
    /// Its NUMA node.
    pub node: usize,
    /// The CPUs of the same core, this one included.
    pub siblings: Vec<usize>,
    /// The CPUs that share its last-level (L3) cache, this one included; empty if unknown.
    pub cache: Vec<usize>,
    /// The CPUs that share its L2 cache, this one included; empty if unknown.
    pub near_cache: Vec<usize>,
    /// Whether it is one of the slower cores of a host with two kinds (E cores).
    pub efficient: bool,
    /// Whether the kernel keeps ordinary work off it (`isolcpus`).
    pub isolated: bool,
    /// Whether the kernel spares it the timer tick while one thread runs (`nohz_full`).
    pub tickless: bool,
    /// Whether this process may run on it.
    pub allowed: bool,
}

/// The CPUs and network devices of a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Online CPUs in ascending order.
    pub cpus: Vec<Cpu>,
    /// What the innermost cpuset leaves to this process; `None` where no cpuset tells.
    pub cpuset: Option<Vec<usize>>,
    /// Network devices in the order of their names.
    pub nics: Vec<Nic>,
}

impl Topology {
    /// Reads this host.
    ///
    /// # Errors
    /// `/proc/self/status` can't be read, or the kernel wrote what is no list of CPUs.
    pub fn discover() -> io::Result<Topology> {
        Topology::read(Path::new("/"))
    }

    /// Reads the host whose `sys` and `proc` stand below `root`.
    ///
    /// # Errors
    /// `proc/self/status` can't be read, or a file holds what is no list of CPUs.
    pub fn read(root: &Path) -> io::Result<Topology> {
        let allowed = allowed(&root.join("proc/self/status"))?;
        let directory = root.join("sys/devices/system/cpu");
        let online = list(&directory.join("online"))?.unwrap_or_else(|| allowed.clone());
        let nodes = nodes(&root.join("sys/devices/system/node"))?;
        let named = |name: &str| list(&directory.join(name)).map(Option::unwrap_or_default);
        let (isolated, tickless) = (named("isolated")?, named("nohz_full").unwrap_or_default());
        let slow = slow_cpus(root, &online)?;
        let cpu = |id: usize| -> io::Result<Cpu> {
            let directory = directory.join(format!("cpu{id}"));
            let topology = directory.join("topology");
            Ok(Cpu {
                id,
                package: number(&topology.join("physical_package_id")).unwrap_or(0),
                core: number(&topology.join("core_id")).unwrap_or(id),
                node: nodes.get(&id).copied().unwrap_or(0),
                siblings: list(&topology.join("thread_siblings_list"))?.unwrap_or(vec![id]),
                cache: cache(&directory.join("cache"), 3)?,
                near_cache: cache(&directory.join("cache"), 2)?,
                efficient: slow.contains(&id),
                isolated: isolated.contains(&id),
                tickless: tickless.contains(&id),
                allowed: allowed.contains(&id),
            })
        };
        let cpus = online.iter().copied().map(cpu).collect::<io::Result<_>>()?;
        Ok(Topology { cpus, cpuset: cgroup::cpuset(root), nics: Nic::read_all(root) })
    }

    /// The CPU with number `id`, if it is online.
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.id == id)
    }

    /// Whether a thread of this process may be bound to `cpu` when it is asked for by number: an
    /// isolated CPU is left out of the affinity that processes inherit, and may be bound to.
    pub fn bindable(&self, cpu: &Cpu) -> bool {
        let inside = || self.cpuset.as_ref().is_none_or(|cpus| cpus.contains(&cpu.id));
        cpu.allowed || (cpu.isolated && inside())
    }

    /// Physical cores among the CPUs that this process may use.
    pub fn allowed_cores(&self) -> usize {
        let allowed = self.cpus.iter().filter(|cpu| cpu.allowed);
        let cores: std::collections::BTreeSet<_> =
            allowed.map(|cpu| (cpu.package, cpu.siblings.first().copied())).collect();
        cores.len()
    }

    /// Numbers of the NUMA nodes that hold a CPU, in ascending order.
    pub fn nodes(&self) -> Vec<usize> {
        let nodes: std::collections::BTreeSet<_> = self.cpus.iter().map(|cpu| cpu.node).collect();
        nodes.into_iter().collect()
    }

    /// Numbers of the CPUs that this process may use.
    pub fn allowed(&self) -> Vec<usize> {
        self.cpus.iter().filter(|cpu| cpu.allowed).map(|cpu| cpu.id).collect()
    }
}

/// The CPUs that `Cpus_allowed_list` names: affinity and cgroup cpuset together.
fn allowed(status: &Path) -> io::Result<Vec<usize>> {
    let text = fs::read_to_string(status)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let line = line.ok_or_else(|| tree::invalid(status, &"no Cpus_allowed_list"))?;
    cpulist::parse(line).map_err(|error| tree::invalid(status, &error))
}

/// The NUMA node of each CPU.
fn nodes(directory: &Path) -> io::Result<BTreeMap<usize, usize>> {
    let mut nodes = BTreeMap::new();
    for (node, path) in numbered(directory, "node") {
        let cpus = list(&path.join("cpulist"))?.unwrap_or_default();
        nodes.extend(cpus.into_iter().map(|cpu| (cpu, node)));
    }
    Ok(nodes)
}

/// The CPUs that share the cache of this level described below `directory`; level 1 is
/// not asked for, which would have two.
fn cache(directory: &Path, level: usize) -> io::Result<Vec<usize>> {
    let mut caches = numbered(directory, "index").into_iter();
    let shared = caches.find(|(_, path)| number(&path.join("level")) == Some(level));
    let Some((_, path)) = shared else { return Ok(Vec::new()) };
    Ok(list(&path.join("shared_cpu_list"))?.unwrap_or_default())
}

/// The slower ones of `online` on a host with two kinds of cores: those that the kernel lists as
/// such, or those of a smaller capacity.
fn slow_cpus(root: &Path, online: &[usize]) -> io::Result<Vec<usize>> {
    if let Some(slow) = list(&root.join("sys/devices/cpu_atom/cpus"))? {
        return Ok(slow);
    }
    let directory = root.join("sys/devices/system/cpu");
    let capacity = |id: &usize| -> Option<(usize, u64)> {
        Some((*id, number(&directory.join(format!("cpu{id}/cpu_capacity")))?))
    };
    let capacities: Vec<(usize, u64)> = online.iter().filter_map(capacity).collect();
    let largest = capacities.iter().map(|(_, capacity)| *capacity).max().unwrap_or(0);
    // Cores of one kind differ by a few percent where the firmware names favoured ones.
    let slow = capacities.iter().filter(|(_, capacity)| *capacity * 5 < largest * 4);
    Ok(slow.map(|(id, _)| *id).collect())
}
