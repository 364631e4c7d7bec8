//! Sockets of one core: an io_uring of its own with multishot accept and receive, one ring of
//! provided buffers, and one send in flight per socket.
//!
//! Nothing here knows MQTT or a shard. The owner of a [`Driver`] gives commands by [`SocketKey`],
//! calls [`Driver::submit`] once a tick and takes [`Event`]s out with [`Driver::reap`].
//!
//! Invariants worth naming:
//! * `unsafe` lives in `ring` and `buffers` alone; memory that the kernel may still touch is
//!   owned there until the completion is reaped;
//! * a socket's fd is closed after its last completion, and its index is free from then on;
//! * a provided buffer returns to the kernel before the next completion is looked at.

mod buffers;
mod completed;
mod driver;
mod event;
mod key;
mod listener;
mod probe;
mod ring;
mod socket;
#[cfg(test)]
mod tests;

pub use driver::Driver;
pub use event::{Counters, DriverSettings, Event};
pub use key::SocketKey;
pub use listener::{ListenerSettings, bind, bind_unix, peer_address};
pub use probe::{ProbeError, probe, raise_open_files};
pub use rustix::io::Errno;
