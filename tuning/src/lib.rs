//! What the host looks like, whether it meets the broker's needs, and which cores the broker uses.
//!
//! Invariants worth naming:
//! * nothing here changes the host, except [`host::raise_open_files`], which moves the process's
//!   own soft limit;
//! * every file is read below a root directory that is an argument, so that a captured tree stands
//!   for a host.

pub mod cpulist;
pub mod host;
pub mod memory;
pub mod picture;
pub mod placement;
pub mod topology;
