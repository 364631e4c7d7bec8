//! How much memory this process may use.

use crate::{cgroup, tree};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that the process whose files stand under `root` may use: the smallest of the host's
/// memory and the limits of its control groups. `None` where neither can be read.
pub fn usable(root: &Path) -> Option<u64> {
    let host = meminfo_total(&fs::read_to_string(root.join("proc/meminfo")).ok()?);
    let groups = cgroup::chain(root, "memory");
    // The word "max" stands for no limit.
    let names = ["memory.max", "memory.limit_in_bytes"];
    let limit = |group: &PathBuf| names.iter().find_map(|name| tree::number(&group.join(name)));
    host.into_iter().chain(groups.iter().filter_map(limit)).min()
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
