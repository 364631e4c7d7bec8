//! The doorbell of a core: who has written to it, and whether it must be woken.
//!
//! Invariant worth naming: the ringer writes `rang`, then reads `asleep`; the sleeper writes
//! `asleep`, then reads `rang`; both with sequentially consistent order, so at least one of them
//! sees the other and no ring is slept through.

use crate::base::{CoreSet, ShardId};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How a sleeping core is woken; called by other cores.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Doorbell of one core, shared by all. One cache line of its own.
#[repr(align(128))]
#[derive(Default)]
pub struct Bell {
    rang: AtomicU64,
    asleep: AtomicBool,
    wake: OnceLock<Wake>,
}

impl Bell {
    /// Says how the core is woken. Without it (simulation) nobody is.
    pub fn set_wake(&self, wake: Wake) {
        // A second waker would be a programming error of the shell; the first one stays.
        let _ = self.wake.set(wake);
    }

    /// `from` has written something for this core. Called by `from`'s core.
    pub fn ring(&self, from: ShardId) {
        self.rang.fetch_or(1 << from.0, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Wakes the core without a message, for shutdown.
    pub fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Who rang since the last call. Called by the core that owns the bell.
    pub fn answer(&self) -> CoreSet {
        if self.rang.load(Ordering::Relaxed) == 0 {
            return CoreSet::EMPTY;
        }
        CoreSet(self.rang.swap(0, Ordering::SeqCst))
    }

    /// Announces sleep. False: somebody rang in the meantime and the core must not sleep.
    pub fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if self.rang.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.wake_up();
        false
    }

    /// Ends sleep, whatever woke the core.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}
