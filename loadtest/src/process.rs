//! Processes and threads as the kernel accounts for them; pins; limits.
//!
//! Invariants worth naming:
//! * CPU time is the scheduler's own account in nanoseconds, summed over the process's threads
//!   (io_uring workers are among them);
//! * a thread's waiting time is what it was ready to run and did not: other work had its CPU.

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Descriptors asked for, for ourselves and the brokers started here.
const DESCRIPTORS: u64 = 1 << 20;

/// The CPU account of a process.
#[derive(Clone, Debug)]
pub struct Cpu {
    tasks: PathBuf,
}

impl Cpu {
    /// The account of process `pid`.
    pub fn new(pid: u32) -> Cpu {
        Cpu { tasks: PathBuf::from(format!("/proc/{pid}/task")) }
    }

    /// CPU time used by all threads that live, nanoseconds; `None` when the process is gone.
    pub fn used_ns(&self) -> Option<u64> {
        let mut total = 0;
        for task in fs::read_dir(&self.tasks).ok()? {
            // A thread may end between listing and reading.
            let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
                continue;
            };
            total += text.split(' ').next()?.parse::<u64>().ok()?;
        }
        Some(total)
    }
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident pages, shared ones included.
    pub resident: u64,
    /// Resident pages of its own: heap, stacks, anonymous maps.
    pub anonymous: u64,
}

impl Memory {
    /// What process `pid` uses now.
    pub fn of(pid: u32) -> io::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {name} in smaps")))
        };
        Ok(Memory { resident: field("Rss:")?, anonymous: field("Anonymous:")? })
    }
}

/// Pins the calling thread, and what it starts from now on, to these CPUs.
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets this process and those it starts open as many descriptors as the host allows.
pub fn raise_descriptors() {
    let current = rustix::process::getrlimit(Resource::Nofile).maximum;
    let wanted = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        // Not privileged: as far as the hard limit goes; what is short fails loudly later.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum: current });
    }
}

/// CPU time and waiting time of a thread of this process, nanoseconds.
pub fn thread_times(thread: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let mut fields = text.split_whitespace().map_while(|field| field.parse().ok());
    Some((fields.next()?, fields.next()?))
}

/// Resident memory of a process, bytes; cheaper than [`Memory::of`].
pub fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The CPUs a process may use.
pub fn allowed_cpus(pid: u32) -> Vec<usize> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.and_then(|line| tuning::cpulist::parse(line).ok()).unwrap_or_default()
}

/// Whether the process lives; a zombie does not.
pub fn lives(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// What stands in a one-line file.
pub fn line(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_accounts_are_readable() {
        let pid = std::process::id();
        assert!(Cpu::new(pid).used_ns().is_some());
        let memory = Memory::of(pid).expect("own smaps are readable");
        assert!(memory.resident >= memory.anonymous && memory.anonymous > 0);
        assert!(resident(pid).is_some_and(|bytes| bytes > 0));
        assert!(thread_times(pid).is_some());
        assert!(!allowed_cpus(pid).is_empty());
        assert!(lives(pid) && !lives(u32::MAX));
    }
}
