//! A watcher for cores that stop turning: a broker that lost a core must not look alive.

use super::clock::Clock;
use super::signal::Stop;
use crate::base::Time;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a sleeping core shows instead of a time.
const ASLEEP: u64 = u64::MAX;
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Last sign of life of one core. Written by the core, read by the watcher.
#[repr(align(128))]
#[derive(Debug)]
pub struct Pulse {
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse { last: AtomicU64::new(ASLEEP) }
    }
}

impl Pulse {
    /// The core begins a turn.
    #[inline]
    pub fn beat(&self, now: Time) {
        self.last.store(now.0, Ordering::Relaxed);
    }

    /// The core goes to sleep of its own will.
    pub fn sleeps(&self) {
        self.last.store(ASLEEP, Ordering::Relaxed);
    }

    /// How long the core has been in its present turn.
    fn stuck(&self, now: Time) -> Duration {
        match self.last.load(Ordering::Relaxed) {
            ASLEEP => Duration::ZERO,
            last => now.since(Time(last)),
        }
    }
}

/// When to complain and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// A turn longer than this is logged.
    pub warn_after: Duration,
    /// A turn longer than this ends the process; `None` never does.
    pub abort_after: Option<Duration>,
}

/// Watches the pulses on a thread of its own until the broker is told to stop.
///
/// # Errors
/// When the thread can't be made.
pub fn watch(pulses: Arc<Vec<Pulse>>, clock: Clock, limits: Watch, stop: Stop) -> io::Result<()> {
    std::thread::Builder::new().name("corelane-watch".into()).spawn(move || {
        let mut warned = vec![false; pulses.len()];
        while !stop.is_requested() {
            std::thread::sleep(LOOK_EVERY);
            for (shard, pulse) in pulses.iter().enumerate() {
                let stuck = pulse.stuck(clock.now());
                if limits.abort_after.is_some_and(|limit| stuck >= limit) {
                    tracing::error!("shard {shard} has not turned for {stuck:?}: ending");
                    std::process::abort();
                }
                let late = stuck >= limits.warn_after;
                if late && !warned[shard] {
                    tracing::error!("shard {shard} has not turned for {stuck:?}");
                }
                warned[shard] = late;
            }
        }
    })?;
    Ok(())
}
