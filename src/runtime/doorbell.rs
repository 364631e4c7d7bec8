//! How one core wakes another that sleeps: a write to its eventfd.
//!
//! A core asleep in its ring learns of the write by a completion; nobody needs to read. A core
//! asleep in glommio reads.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one core. Share it between all cores behind an `Arc`; any thread may use it.
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
}

impl Waker {
    /// A waker whose core is yet to [watch](Waker::watched) it; wake-ups until then are kept.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Waker> {
        // Blocking, so that the sleeper's read waits.
        Ok(Waker { fd: eventfd(0, EventfdFlags::CLOEXEC)? })
    }

    /// The fd for [`Driver::watch`](crate::net::Driver::watch) of the core to be woken.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn watched(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Wakes the core: one system call, so ask first whether it sleeps.
    pub fn wake(&self) {
        // It would block only where 2^64 - 2 wake-ups are pending, and cannot fail otherwise.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }
}
