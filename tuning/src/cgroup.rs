//! The control groups that this process stands in.

use crate::tree;
use std::fs;
use std::path::{Path, PathBuf};

/// The directories of the process's group for `controller` below `root`, the innermost first. On a
/// host with the unified hierarchy (version 2) there is one for all controllers; else the one that
/// version 1 mounts under the controller's name.
pub fn chain(root: &Path, controller: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mount = root.join("sys/fs/cgroup");
    let old = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(group)
    });
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let (base, group) = match (old, unified) {
        (Some(group), _) => (mount.join(controller), group),
        (None, Some(group)) => (mount, group),
        (None, None) => return Vec::new(),
    };
    let own = base.join(group.trim_start_matches('/'));
    own.ancestors().take_while(|path| path.starts_with(&base)).map(Path::to_owned).collect()
}

/// CPUs' worth of time that the groups allow; `None` where nothing bounds it.
pub fn cpu_quota(root: &Path) -> Option<f64> {
    let quota = |group: &PathBuf| -> Option<f64> {
        let (quota, period) = match tree::text(&group.join("cpu.max")) {
            Some(text) => {
                let (quota, period) = text.split_once(' ')?;
                (quota.parse().ok()?, period.parse().ok()?)
            }
            None => (
                tree::number::<f64>(&group.join("cpu.cfs_quota_us"))?,
                tree::number::<f64>(&group.join("cpu.cfs_period_us"))?,
            ),
        };
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    };
    chain(root, "cpu").iter().filter_map(quota).reduce(f64::min)
}

/// The CPUs that the innermost group with a cpuset leaves; `None` where none tells.
pub fn cpuset(root: &Path) -> Option<Vec<usize>> {
    let names = ["cpuset.cpus.effective", "cpuset.effective_cpus"];
    let groups = chain(root, "cpuset").into_iter();
    let mut lists = groups.flat_map(|group| names.map(|name| group.join(name)));
    lists.find_map(|path| tree::list(&path).ok().flatten().filter(|cpus| !cpus.is_empty()))
}
