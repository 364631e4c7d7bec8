//! Time as a value: the pure half never asks a clock, its callers say what time it is.

use std::ops::Add;
use std::time::Duration;

/// Microseconds of one monotonic clock that starts with the process (or with the simulation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The time that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// A time `seconds` after the origin.
    pub const fn from_secs(seconds: u64) -> Time {
        Time(seconds.saturating_mul(1_000_000))
    }

    /// A time `milliseconds` after the origin.
    pub const fn from_millis(milliseconds: u64) -> Time {
        Time(milliseconds.saturating_mul(1_000))
    }

    /// This time and `seconds` more; saturates at [`Time::NEVER`].
    pub const fn plus_secs(self, seconds: u64) -> Time {
        Time(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}
