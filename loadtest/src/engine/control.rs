//! What the threads of a run share: phase, window, progress of every flow, and each thread's meter.
//!
//! Invariants worth naming:
//! * a flow's `sent` has one writer (its publisher's thread); a plain audience's `progress` too;
//! * all values are counts that only grow, so relaxed order is enough: a late reader acts later.

use crate::outcome::BrokerVerdict;
use crate::plan::Plan;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Clients connect and subscribe.
    Connect,
    /// Publishers send.
    Load,
    /// Publishers are silent; what is under way arrives.
    Drain,
    /// Clients disconnect and threads end.
    Leave,
}

const PHASES: [Phase; 4] = [Phase::Connect, Phase::Load, Phase::Drain, Phase::Leave];

/// Counts of one generator thread since its start.
#[derive(Default)]
#[repr(align(128))]
pub struct Meter {
    /// Messages published.
    pub sent: AtomicU64,
    /// Deliveries received.
    pub received: AtomicU64,
    /// Payload bytes received.
    pub received_bytes: AtomicU64,
    /// Publications finally acknowledged.
    pub acknowledged: AtomicU64,
    /// Publications waiting for an acknowledgement.
    pub unacknowledged: AtomicU64,
    /// Connections completed.
    pub connects: AtomicU64,
    /// Those of them that came back.
    pub reconnects: AtomicU64,
    /// Sessions found again.
    pub resumed: AtomicU64,
    /// Clients that are connected and subscribed.
    pub ready: AtomicU64,
    /// Clients that are away because the load says so, or on their way back.
    pub away: AtomicU64,
    /// Clients of a replay that cannot take a step that is due.
    pub waiting: AtomicU64,
    /// Connections that were taken over and that the broker has not ended.
    pub old: AtomicU64,
    /// Connections taken over.
    pub takeovers: AtomicU64,
    /// Times that a client unsubscribed.
    pub unsubscribes: AtomicU64,
    /// Clients that were turned away, as they must be.
    pub refused: AtomicU64,
    /// Largest lag since the reader last took it, nanoseconds.
    pub lag_ns: AtomicU64,
    /// The thread's id.
    pub thread: AtomicU32,
}

/// Why a run ended before its time.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The broker did something wrong.
    Broker(BrokerVerdict),
    /// The generator or its host could not go on.
    Generator(String),
}

/// What the threads of a run share.
pub struct Control {
    clock: Instant,
    phase: AtomicU8,
    /// When publishers began, nanoseconds of the run's clock.
    pub load_ns: AtomicU64,
    /// When the window opens.
    pub begin_ns: AtomicU64,
    /// When it closes.
    pub end_ns: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// Messages sent, by flow.
    pub sent: Box<[AtomicU64]>,
    /// One more than the highest sequence received, by audience; `u64::MAX` while nothing is due.
    pub progress: Box<[AtomicU64]>,
    /// One for each thread.
    pub meters: Box<[Meter]>,
}

impl Control {
    /// For a run of `plan` on `threads` threads.
    pub fn new(plan: &Plan, threads: usize) -> Control {
        // In a replay a flow is due to an audience only while that has subscribed.
        let nothing_due = if plan.replay_ns.is_some() { u64::MAX } else { 0 };
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Control {
            clock: Instant::now(),
            phase: AtomicU8::new(Phase::Connect as u8),
            load_ns: AtomicU64::new(u64::MAX),
            begin_ns: AtomicU64::new(u64::MAX),
            end_ns: AtomicU64::new(u64::MAX),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            sent: zeros(plan.flows.len()),
            progress: plan.audiences.iter().map(|_| AtomicU64::new(nothing_due)).collect(),
            meters: (0..threads).map(|_| Meter::default()).collect(),
        }
    }

    /// Nanoseconds since the run's start; the same clock for all threads.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// The phase.
    #[inline]
    pub fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Relaxed))]
    }

    /// Moves on; never back.
    pub fn enter(&self, phase: Phase) {
        if phase == Phase::Load {
            self.load_ns.store(self.now_ns(), Relaxed);
        }
        self.phase.fetch_max(phase as u8, Relaxed);
    }

    /// Notes why the run cannot go on; the first word counts.
    pub fn fail(&self, why: Failure) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(why);
        self.failed.store(true, Relaxed);
    }

    /// Why the run cannot go on, if so.
    pub fn failure(&self) -> Option<Failure> {
        if !self.failed.load(Relaxed) {
            return None;
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sum of one count over all threads.
    pub fn sum(&self, pick: impl Fn(&Meter) -> &AtomicU64) -> u64 {
        self.meters.iter().map(|meter| pick(meter).load(Relaxed)).sum()
    }

    /// Whether everything sent was acknowledged and has reached every audience.
    pub fn settled(&self, plan: &Plan) -> bool {
        self.sum(|meter| &meter.unacknowledged) == 0
            && plan.flows.iter().zip(&self.sent).all(|(flow, sent)| {
                let range = flow.audiences.start as usize..flow.audiences.end as usize;
                let sent = sent.load(Relaxed);
                self.progress[range].iter().all(|progress| progress.load(Relaxed) >= sent)
            })
    }
}
