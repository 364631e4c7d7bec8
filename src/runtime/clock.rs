//! The one clock of the process.

use crate::base::Time;
use std::time::Instant;

/// Microseconds since the start of the process, monotonic, the same on every core.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now. One per process.
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// What time it is.
    #[inline]
    pub fn now(&self) -> Time {
        Time(self.origin.elapsed().as_micros() as u64)
    }
}
