//! What the broker needs of the host before it can start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io;
use std::path::Path;

/// What a failed check means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The broker can't start.
    Blocks,
    /// The broker starts and may hit the limit.
    Limits,
    /// The broker is slower, or its latency less even, than on this host it could be.
    Costs,
    /// Worth knowing; nothing is asked for.
    Tells,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Blocks => "blocks",
            Severity::Limits => "limits",
            Severity::Costs => "costs",
            Severity::Tells => "tells",
        }
    }
}

/// Whether a need is met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is.
    Met,
    /// It is not.
    Unmet,
    /// The host does not tell: the file is absent, or hidden from this process.
    Unknown,
}

impl Verdict {
    /// The verdict on what could be looked at.
    pub fn of(met: bool) -> Verdict {
        if met { Verdict::Met } else { Verdict::Unmet }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Unmet => "unmet",
            Verdict::Unknown => "unknown",
        }
    }
}

/// One value to be written to one file of the kernel, safe to write and to write back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The file, relative to the root: `proc/sys/net/core/somaxconn`.
    pub path: String,
    /// What is written.
    pub value: String,
}

/// One need, and whether the host meets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Name of the check.
    pub id: &'static str,
    /// What the host has.
    pub current: String,
    /// What is needed.
    pub required: String,
    /// Whether the need is met.
    pub verdict: Verdict,
    /// What it means if it is not.
    pub severity: Severity,
    /// What mends it: a command where one does.
    pub remedy: String,
    /// What `corelane tune --apply` may write; empty where it keeps its hands off.
    pub changes: Vec<Change>,
}

/// What the host has. Limits are `None` where there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Open files now allowed.
    pub open_files: Option<u64>,
    /// Open files the process may allow itself.
    pub open_files_most: Option<u64>,
    /// Bytes of memory that may be locked.
    pub locked_bytes: Option<u64>,
    /// Kernel release, such as `6.1.0-13-amd64`.
    pub release: String,
    /// The sysctl `kernel.io_uring_disabled`; `None` on kernels that have none.
    pub io_uring_disabled: Option<u32>,
}

/// What the broker is going to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// Open files: connections and the broker's own.
    pub open_files: u64,
    /// Bytes that an executor must be allowed to lock.
    pub locked_bytes: u64,
}

/// Oldest kernel with everything the socket path uses (DEFER_TASKRUN came with 6.1).
pub const OLDEST_KERNEL: (u32, u32) = (6, 1);

impl Facts {
    /// Reads this process's limits and the kernel's files below `root`.
    pub fn read(root: &Path) -> Facts {
        let kernel = root.join("proc/sys/kernel");
        let text = |name: &str| fs::read_to_string(kernel.join(name)).ok();
        let limits = fs::read_to_string(root.join("proc/self/limits")).unwrap_or_default();
        let own = |resource, name| {
            let own = getrlimit(resource);
            limit_of(&limits, name).unwrap_or((own.current, own.maximum))
        };
        let (open_files, open_files_most) = own(Resource::Nofile, "Max open files");
        Facts {
            open_files,
            open_files_most,
            locked_bytes: own(Resource::Memlock, "Max locked memory").0,
            release: text("osrelease").unwrap_or_default().trim().into(),
            io_uring_disabled: text("io_uring_disabled").and_then(|text| text.trim().parse().ok()),
        }
    }
}

/// Soft and hard limit called `name` in the text of `/proc/self/limits`.
fn limit_of(limits: &str, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = rest.split_whitespace();
    let mut next = || -> Option<Option<u64>> {
        let word = words.next()?;
        if word == "unlimited" { Some(None) } else { word.parse().ok().map(Some) }
    };
    Some((next()?, next()?))
}

/// Compares what the host has with what the broker needs.
pub fn checks(facts: &Facts, needs: Needs) -> Vec<Check> {
    vec![
        kernel(facts),
        io_uring(facts),
        open_files(facts, needs.open_files),
        locked(facts, needs.locked_bytes),
    ]
}

fn kernel(facts: &Facts) -> Check {
    let (major, minor) = OLDEST_KERNEL;
    // A release that can't be read is left to the setup probe.
    let met = version(&facts.release).is_none_or(|version| version >= OLDEST_KERNEL);
    Check {
        id: "kernel-release",
        current: facts.release.clone(),
        required: format!("{major}.{minor} or newer"),
        verdict: Verdict::of(met),
        severity: Severity::Blocks,
        remedy: "boot a newer kernel".into(),
        changes: Vec::new(),
    }
}

/// Major and minor number of a kernel release.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn io_uring(facts: &Facts) -> Check {
    let current = match facts.io_uring_disabled {
        None => "no such sysctl, io_uring is on".into(),
        Some(value) => format!("kernel.io_uring_disabled = {value}"),
    };
    Check {
        id: "io-uring",
        current,
        required: "kernel.io_uring_disabled = 0".into(),
        verdict: Verdict::of(facts.io_uring_disabled.is_none_or(|value| value == 0)),
        // 1 still lets privileged processes and one group in; the setup probe tells.
        severity: match facts.io_uring_disabled {
            Some(1) => Severity::Limits,
            _ => Severity::Blocks,
        },
        remedy: "sysctl -w kernel.io_uring_disabled=0".into(),
        // A switch for safety: whoever set it is asked, not overruled.
        changes: Vec::new(),
    }
}

fn open_files(facts: &Facts, needed: u64) -> Check {
    let hard = facts.open_files_most;
    Check {
        id: "open-files",
        current: format!("{} (at most {})", limit(facts.open_files), limit(hard)),
        required: needed.to_string(),
        verdict: Verdict::of(hard.is_none_or(|most| most >= needed)),
        severity: Severity::Limits,
        remedy: format!("LimitNOFILE={needed} in the systemd unit, or ulimit -Hn {needed}"),
        changes: Vec::new(),
    }
}

fn locked(facts: &Facts, needed: u64) -> Check {
    Check {
        id: "locked-memory",
        current: limit(facts.locked_bytes),
        required: format!("{needed} bytes"),
        verdict: Verdict::of(facts.locked_bytes.is_none_or(|most| most >= needed)),
        // Executors refuse to be built below their need.
        severity: Severity::Blocks,
        remedy: "LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited".into(),
        changes: Vec::new(),
    }
}

fn limit(limit: Option<u64>) -> String {
    limit.map_or("unlimited".into(), |limit| limit.to_string())
}

/// Raises the process's soft limit of open files to its hard limit; gives the limit that holds
/// then, `None` for no limit.
///
/// # Errors
/// The kernel refuses.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum)
}
