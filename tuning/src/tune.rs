//! All checks of a host for one workload, as a table and as a value for programs.

use crate::host::{self, Check, Facts, Needs, Severity, Verdict};
use crate::topology::Topology;
use crate::{cgroup, device, memory, sysctl};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// What the broker is going to do on the host; comes from its configuration and its plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Shards that run.
    pub shards: usize,
    /// The CPUs that carry them, each once.
    pub cpus: Vec<usize>,
    /// Whether they are bound to these.
    pub pinned: bool,
    /// NUMA nodes of these CPUs.
    pub nodes: usize,
    /// Connections of all shards together.
    pub connections: u64,
    /// Largest backlog of a listener.
    pub backlog: u64,
    /// Bytes that the shards take before the first client connects.
    pub fixed_bytes: u64,
    /// Limits of the process.
    pub needs: Needs,
    /// Whether power counts for more than latency.
    pub frugal: bool,
    /// Whether a network device has fewer receive queues than there are shards.
    pub steering: bool,
}

/// Checks the host whose files stand below `root`.
pub fn checks(root: &Path, topology: &Topology, workload: &Workload) -> Vec<Check> {
    let mut checks = host::checks(&Facts::read(root), workload.needs);
    checks.extend(sysctl::checks(root, workload));
    checks.push(cpu_quota(root, workload));
    checks.push(memory_of(root, workload));
    checks.push(device::governor(root, workload));
    checks.push(device::huge_pages(root));
    checks.push(device::interrupts(&topology.nics, workload));
    checks.extend(device::steering(&topology.nics, workload));
    checks.push(device::mitigations(root));
    checks
}

fn cpu_quota(root: &Path, workload: &Workload) -> Check {
    let quota = cgroup::cpu_quota(root);
    Check {
        id: "cpu-quota",
        current: quota.map_or("none".into(), |cpus| format!("{cpus:.2} CPUs' worth of time")),
        required: format!("none, or {} CPUs' worth: one for each busy shard", workload.cpus.len()),
        verdict: Verdict::of(quota.is_none_or(|cpus| cpus >= workload.cpus.len() as f64)),
        severity: Severity::Limits,
        remedy: match quota {
            Some(_) => "CPUQuota= (empty) in the systemd unit, or --cpus of the container".into(),
            None => String::new(),
        },
        changes: Vec::new(),
    }
}

fn memory_of(root: &Path, workload: &Workload) -> Check {
    let usable = memory::usable(root);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    Check {
        id: "memory",
        current: usable.map_or("not readable".into(), mib),
        required: format!("{} at the start, twice that to serve", mib(workload.fixed_bytes)),
        verdict: match usable {
            Some(bytes) => Verdict::of(bytes / 2 >= workload.fixed_bytes),
            None => Verdict::Unknown,
        },
        severity: Severity::Limits,
        remedy: "MemoryMax= of the systemd unit, fewer runtime.shards, or smaller \
                 limits.match_cache_bytes, runtime.recv_buffers and runtime.mesh_bytes"
            .into(),
        changes: Vec::new(),
    }
}

/// Whether `checks` say that the broker can't start or will hit a limit.
pub fn falls_short(checks: &[Check]) -> bool {
    let hard = |check: &Check| check.severity <= Severity::Limits;
    checks.iter().any(|check| check.verdict == Verdict::Unmet && hard(check))
}

/// The checks as text: what is not met first, with its remedy.
pub fn show(checks: &[Check]) -> String {
    let mut out = String::new();
    let mut order: Vec<&Check> = checks.iter().collect();
    let rank = |verdict| match verdict {
        Verdict::Unmet => 0,
        Verdict::Unknown => 1,
        Verdict::Met => 2,
    };
    order.sort_by_key(|check| (rank(check.verdict), check.severity));
    for check in &order {
        show_one(check, &mut out).expect("strings take every line");
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (met, unmet) = (count(Verdict::Met), count(Verdict::Unmet));
    let unknown = count(Verdict::Unknown);
    writeln!(out, "{unmet} not met, {unknown} not known, {met} met").expect("strings take it");
    out
}

fn show_one(check: &Check, out: &mut String) -> std::fmt::Result {
    let mark = match check.verdict {
        Verdict::Unmet => check.severity.word(),
        Verdict::Unknown => "unknown",
        Verdict::Met => "met",
    };
    writeln!(out, "{mark:<8} {:<15} {}", check.id, check.current)?;
    if check.verdict == Verdict::Met {
        return Ok(());
    }
    writeln!(out, "{:24} needed: {}", "", check.required)?;
    if check.verdict == Verdict::Unmet {
        for (at, line) in check.remedy.lines().enumerate() {
            let word = if at == 0 { "do:" } else { "" };
            writeln!(out, "{:24} {word:<7} {line}", "")?;
        }
    }
    Ok(())
}

/// The checks as a value for programs.
pub fn as_json(checks: &[Check]) -> Value {
    let one = |check: &Check| {
        let changes: Vec<Value> = check
            .changes
            .iter()
            .map(|change| json!({ "file": format!("/{}", change.path), "value": change.value }))
            .collect();
        json!({
            "id": check.id, "current": check.current, "required": check.required,
            "verdict": check.verdict.word(), "severity": check.severity.word(),
            "remedy": check.remedy, "changes": changes,
        })
    };
    let all: Vec<Value> = checks.iter().map(one).collect();
    json!({ "checks": all, "falls_short": falls_short(checks) })
}
