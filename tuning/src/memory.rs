//! How much memory this process may use.

use std::fs;
use std::path::Path;

/// Bytes that the process whose files stand under `root` may use: the smallest of the host's
/// memory and the limits of its control groups (cgroup v2). `None` where neither can be read.
pub fn usable(root: &Path) -> Option<u64> {
    let host = meminfo_total(&fs::read_to_string(root.join("proc/meminfo")).ok()?);
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let base = root.join("sys/fs/cgroup");
    let path = base.join(group);
    let chain = path.ancestors().take_while(|path| path.starts_with(&base));
    // The word "max" stands for no limit.
    let limit = |path: &Path| fs::read_to_string(path.join("memory.max")).ok()?.trim().parse().ok();
    host.into_iter().chain(chain.filter_map(limit)).min()
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
