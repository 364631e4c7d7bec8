//! What a core stands on: an executor with a place, a clock, a doorbell and two ways to sleep;
//! and what watches over all cores: signals and heartbeats.
//!
//! glommio hosts each core and gives it files and background tasks; the sockets are driven by
//! [`net`](crate::net) inside one long-lived task of that executor.

pub mod clock;
pub mod doorbell;
pub mod executor;
pub mod heartbeat;
pub mod process;
pub mod reactor;
pub mod signal;
pub mod sleep;
pub mod transport;
pub mod usage;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use doorbell::Waker;
pub use executor::{ExecutorError, ExecutorSettings, Executors, Seat};
pub use heartbeat::{Heart, HeartbeatSettings, Stage, Watcher};
pub use reactor::{Reactor, ReactorSettings};
pub use signal::{Requests, SignalThread, Stopping};
pub use sleep::{Sleeper, Way};
pub use transport::Door;
