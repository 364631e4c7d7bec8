//! Notices a core that no longer ticks: a broker that lost a core looks alive and does nothing.
//!
//! Each core writes the time and its stage to its own [`Heart`]; one thread reads them all, logs
//! a stall with core and stage, and ends the process when it lasts, so that a supervisor starts
//! it again.
//!
//! Invariants worth naming:
//! * a core that sleeps is not stalled, however long; one that never began is;
//! * if the watcher itself did not run, the process was stopped, and nobody is blamed.

use crossbeam_channel::{RecvTimeoutError, Sender, unbounded as channel};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::clock::Clock;
use crate::base::Time;

/// What a core is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    /// Waiting in its ring or executor; also after the last tick.
    Asleep,
    /// Started, and not run yet by its executor.
    Begin,
    /// Taking completions and handling what they bring.
    Reap,
    /// The tick of its shard: other cores, waiting sources, timers, doorbells.
    Serve,
    /// Sending to connections.
    Flush,
}

const STAGES: [Stage; 5] = [Stage::Asleep, Stage::Begin, Stage::Reap, Stage::Serve, Stage::Flush];

/// The sign of life of one core: written by the core, read by the watcher. Alone on its cache
/// lines, so that no other core's writes slow this one's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Heart {
    /// Time of the tick in microseconds, shifted by 8, and the stage.
    beat: AtomicU64,
}

impl Heart {
    /// Says that the tick of `now` has come to `stage`: one relaxed store.
    #[inline]
    pub fn beat(&self, now: Time, stage: Stage) {
        self.beat.store(now.0 << 8 | stage as u64, Ordering::Relaxed);
    }

    /// Time of the last tick, and its stage.
    pub fn last(&self) -> (Time, Stage) {
        let beat = self.beat.load(Ordering::Relaxed);
        (Time(beat >> 8), STAGES[(beat & 0xff) as usize % STAGES.len()])
    }
}

/// How long a core may go without a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatSettings {
    /// Logged from here on.
    pub warn_after: Duration,
    /// The process aborts from here on; `None` never aborts.
    pub abort_after: Option<Duration>,
}

impl Default for HeartbeatSettings {
    fn default() -> HeartbeatSettings {
        HeartbeatSettings {
            warn_after: Duration::from_secs(1),
            abort_after: Some(Duration::from_secs(10)),
        }
    }
}

/// What the watcher thinks of a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Fine,
    Stalled,
    Lost,
}

impl HeartbeatSettings {
    pub(super) fn judge(&self, now: Time, (tick, stage): (Time, Stage)) -> Verdict {
        let silent = now.since(tick);
        match self.abort_after {
            _ if stage == Stage::Asleep => Verdict::Fine,
            Some(limit) if silent >= limit => Verdict::Lost,
            _ if silent >= self.warn_after => Verdict::Stalled,
            _ => Verdict::Fine,
        }
    }

    fn interval(&self) -> Duration {
        (self.warn_after / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

/// The thread that reads the hearts; ends when dropped.
pub struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches one heart per core, in the order of the shards.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        settings: HeartbeatSettings,
        clock: Clock,
        hearts: Vec<Arc<Heart>>,
    ) -> io::Result<Watcher> {
        let (stop, stopped) = channel::<()>();
        let interval = settings.interval();
        let thread = Builder::new().name("corelane-watch".to_owned()).spawn(move || {
            let mut stalled = vec![false; hearts.len()];
            let mut last = clock.now();
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let now = clock.now();
                let overslept = now.since(last) > interval * 3;
                last = now;
                if !overslept {
                    look(&settings, now, &hearts, &mut stalled);
                }
            }
        })?;
        Ok(Watcher { stop: Some(stop), thread: Some(thread) })
    }
}

fn look(settings: &HeartbeatSettings, now: Time, hearts: &[Arc<Heart>], stalled: &mut [bool]) {
    for (core, (heart, was_stalled)) in hearts.iter().zip(stalled).enumerate() {
        let (tick, stage) = heart.last();
        let silent_ms = now.since(tick).as_millis() as u64;
        let verdict = settings.judge(now, (tick, stage));
        match verdict {
            Verdict::Lost => {
                tracing::error!(core, ?stage, silent_ms, "a core is lost; the process aborts");
                std::process::abort();
            }
            Verdict::Stalled if !*was_stalled => {
                tracing::error!(core, ?stage, silent_ms, "a core has stopped ticking");
            }
            Verdict::Fine if *was_stalled => tracing::warn!(core, "the core ticks again"),
            _ => {}
        }
        *was_stalled = verdict == Verdict::Stalled;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
