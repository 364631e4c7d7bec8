//! What the kernel says of this process and of those who connect to it.

use crate::shard::HostFigures;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// Asks the kernel and the wall clock; what can't be known is 0. Some ten microseconds.
pub fn figures() -> HostFigures {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    HostFigures {
        unix_s: since_epoch.as_secs(),
        memory_bytes: field(&status, "VmRSS:") * 1024,
        threads: field(&status, "Threads:"),
    }
}

/// Where a connection comes from; `None` where it has gone already.
pub fn peer(fd: impl AsFd) -> Option<SocketAddr> {
    rustix::net::getpeername(fd).ok()?.and_then(|address| address.try_into().ok())
}

/// The number behind `name` in the text of `/proc/<pid>/status`.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_threads_and_memory() {
        let figures = figures();
        assert!(figures.threads >= 1 && figures.memory_bytes > 100_000);
        assert!(figures.unix_s > 1_600_000_000);
        assert_eq!(field("VmRSS:\t  12 kB\nThreads:\t7\n", "Threads:"), 7);
        assert_eq!(field("", "VmRSS:"), 0);
    }
}
