//! How a running broker is told to stop: a flag that every core reads once per turn.

use crate::mesh::Bell;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const RUN: u8 = 0;
const DRAIN: u8 = 1;
const NOW: u8 = 2;

/// The wish to stop, shared by all cores.
#[derive(Clone)]
pub struct Stop {
    wish: Arc<AtomicU8>,
    bells: Arc<Vec<Arc<Bell>>>,
}

impl Stop {
    /// Nobody wants to stop; `bells` wake the cores when somebody does.
    pub fn new(bells: Vec<Arc<Bell>>) -> Stop {
        Stop { wish: Arc::new(AtomicU8::new(RUN)), bells: Arc::new(bells) }
    }

    /// Asks for an orderly end; asked twice, for an end at once.
    pub fn request(&self) {
        let next = if self.is_requested() { NOW } else { DRAIN };
        self.wish.store(next, Ordering::Relaxed);
        self.wake();
    }

    /// Asks for an end without a drain.
    pub fn request_now(&self) {
        self.wish.store(NOW, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        self.bells.iter().for_each(|bell| bell.wake());
    }

    /// Whether the broker should end.
    #[inline]
    pub fn is_requested(&self) -> bool {
        self.wish.load(Ordering::Relaxed) != RUN
    }

    /// Whether it should end without a drain.
    #[inline]
    pub fn is_immediate(&self) -> bool {
        self.wish.load(Ordering::Relaxed) == NOW
    }
}

/// Turns SIGTERM and SIGINT into requests to stop, on a thread of its own.
///
/// # Errors
/// When the handlers can't be installed.
pub fn stop_on_signals(stop: Stop) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("corelane-signal".into()).spawn(move || {
        for signal in signals.forever() {
            let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            let how = if stop.is_requested() { "stopping at once" } else { "draining" };
            tracing::info!("{name}: {how}");
            stop.request();
        }
    })?;
    Ok(())
}
