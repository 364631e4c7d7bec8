//! CPUs, cores, packages, NUMA nodes and shared caches, as sysfs and the process's own status tell.
//!
//! Invariants worth naming:
//! * the CPUs stand in ascending order, online ones only;
//! * a host that hides its sysfs (some containers do) is one package whose CPUs are cores of their
//!   own.

use crate::cpulist;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    /// Whether this process may run on it.
    pub allowed: bool,
}

/// The CPUs of a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Online CPUs in ascending order.
    pub cpus: Vec<Cpu>,
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
        let cpu = |id: usize| -> io::Result<Cpu> {
            let directory = directory.join(format!("cpu{id}"));
            let topology = directory.join("topology");
            Ok(Cpu {
                id,
                package: number(&topology.join("physical_package_id")).unwrap_or(0),
                core: number(&topology.join("core_id")).unwrap_or(id),
                node: nodes.get(&id).copied().unwrap_or(0),
                siblings: list(&topology.join("thread_siblings_list"))?.unwrap_or(vec![id]),
                cache: last_level_cache(&directory.join("cache"))?,
                allowed: allowed.contains(&id),
            })
        };
        Ok(Topology { cpus: online.into_iter().map(cpu).collect::<io::Result<_>>()? })
    }

    /// The CPU with number `id`, if it is online.
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.id == id)
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
    let line = line.ok_or_else(|| invalid(status, &"no Cpus_allowed_list"))?;
    cpulist::parse(line).map_err(|error| invalid(status, &error))
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

/// The CPUs that share the level 3 cache described below `directory`.
fn last_level_cache(directory: &Path) -> io::Result<Vec<usize>> {
    let mut caches = numbered(directory, "index").into_iter();
    let shared = caches.find(|(_, path)| number(&path.join("level")) == Some(3));
    let Some((_, path)) = shared else { return Ok(Vec::new()) };
    Ok(list(&path.join("shared_cpu_list"))?.unwrap_or_default())
}

/// Entries of `directory` named `prefix` and a number, in the order of their numbers.
fn numbered(directory: &Path, prefix: &str) -> Vec<(usize, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<(usize, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    found.sort();
    found
}

fn number(path: &Path) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The list in the file at `path`; `None` if there is no such file.
fn list(path: &Path) -> io::Result<Option<Vec<usize>>> {
    match fs::read_to_string(path) {
        Ok(text) => cpulist::parse(&text).map(Some).map_err(|error| invalid(path, &error)),
        Err(_) => Ok(None),
    }
}

fn invalid(path: &Path, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}
