//! What the host looks like, whether it meets the broker's needs, and which cores the broker uses.
//!
//! Invariants worth naming:
//! * nothing here changes the host unasked: [`host::raise_open_files`] moves the process's own soft
//!   limit, and [`record`] writes through a function that its caller gives;
//! * every file is read below a root directory that is an argument, so that a captured tree stands
//!   for a host.

pub mod cpulist;
pub mod tree;
pub mod cgroup;
pub mod memory;
pub mod nic;
pub mod topology;
pub mod placement;
pub mod picture;
pub mod host;
pub mod sysctl;
pub mod device;
pub mod tune;
pub mod record;
pub mod profile;
