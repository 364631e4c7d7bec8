//! Where shards run: one executor per core, its reactor, and what stops, wakes and watches it.
//!
//! Invariant worth naming: everything here is set up once, before the first connection; nothing
//! in it is touched per message.

mod clock;
mod executor;
mod heartbeat;
mod reactor;
mod signal;

pub use clock::Clock;
pub use executor::{CoreFailure, Place, run_cores};
pub use heartbeat::{Pulse, Watch, watch};
pub use reactor::{Reactor, ReactorSettings};
pub use signal::{Stop, stop_on_signals};
