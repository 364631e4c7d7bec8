//! Signals of the operator, turned into flags that every core reads and wake-ups that make it
//! look: SIGTERM and SIGINT drain, a second one stops at once, SIGHUP reloads. A reload gives the
//! cores settings, which each of them takes between two turns.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::doorbell::Waker;
use crate::shard::Live;

/// Whether and how the process is to end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stopping {
    /// It is not.
    No,
    /// Tell the clients, finish what is in flight, then end.
    Drain,
    /// End without waiting for anybody.
    Now,
}

/// What was asked of the process, by a signal or by its embedder. Whole process, any thread.
#[derive(Debug, Default)]
pub struct Requests {
    stops: AtomicU8,
    /// How often the configuration was read again; written after `live`.
    revision: AtomicU64,
    live: Mutex<Option<Arc<Live>>>,
    wakers: Vec<Arc<Waker>>,
}

impl Requests {
    /// No request; the wakers are those of all cores.
    pub fn new(wakers: Vec<Arc<Waker>>) -> Requests {
        Requests { wakers, ..Requests::default() }
    }

    /// How the process is to end by now.
    pub fn stopping(&self) -> Stopping {
        match self.stops.load(Ordering::Acquire) {
            0 => Stopping::No,
            1 => Stopping::Drain,
            _ => Stopping::Now,
        }
    }

    /// Asks to drain; asked again, to stop at once.
    pub fn stop(&self) {
        let more = |stops: u8| Some(stops.saturating_add(1));
        let _ = self.stops.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        self.wake_all();
    }

    /// Gives all cores other settings.
    pub fn reconfigure(&self, live: Live) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(live));
        self.revision.fetch_add(1, Ordering::Release);
        self.wake_all();
    }

    /// The latest settings, where there were others since `known`, which is brought up to date.
    /// Takes the lock only then.
    pub fn newer(&self, known: &mut u64) -> Option<Arc<Live>> {
        let revision = self.revision.load(Ordering::Acquire);
        if revision == *known {
            return None;
        }
        *known = revision;
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wake_all(&self) {
        for waker in &self.wakers {
            waker.wake();
        }
    }
}

/// The thread that waits for signals; ends when dropped.
pub struct SignalThread {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    /// Takes SIGTERM, SIGINT and SIGHUP of the process over; `reload` is called for each SIGHUP.
    ///
    /// # Errors
    /// When the handlers or the thread cannot be set up.
    pub fn start(
        requests: Arc<Requests>,
        mut reload: impl FnMut() + Send + 'static,
    ) -> io::Result<SignalThread> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        let thread = Builder::new().name("corelane-signal".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    reload();
                } else {
                    requests.stop();
                    tracing::info!(signal, stopping = ?requests.stopping(), "asked to stop");
                }
            }
        })?;
        Ok(SignalThread { handle, thread: Some(thread) })
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
