//! Leads a run through its phases by what the meters show.
//!
//! Invariants worth naming:
//! * the window opens when the load has settled, or after twice the warm-up;
//! * nothing is waited for longer than the patience unless something moves.

use super::Live;
use super::control::{Control, Failure, Phase};
use super::core::{Shared, Slice};
use super::sample::{Moment, Sampler};
use crate::outcome::{BrokerVerdict, Window};
use crate::process;
use corelane::runtime::{Requests, Stopping};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How often the meters are read.
const TICK: Duration = Duration::from_millis(10);
/// Silence after the last delivery that was due: what is wrongly sent again would come in it.
const QUIET_NS: u64 = 100_000_000;

/// What was sampled, for the result.
pub struct Samples {
    /// Seconds, pulses and latencies.
    pub sampler: Sampler,
    /// The window.
    pub window: Window,
    /// When it was opened.
    pub begin: Moment,
    /// When it was closed.
    pub end: Moment,
}

/// The leader of one run.
pub struct Lead {
    shared: Shared,
    slices: Receiver<Slice>,
    samples: Samples,
    opened: bool,
    closed: bool,
    /// What had been done when something moved last, and when that was.
    progress: (u64, u64),
    settled_ns: Option<u64>,
    /// Clients that must not get in.
    unwelcome: u64,
}

impl Lead {
    /// For a run that has just been started.
    pub fn new(shared: &Shared, pid: Option<u32>, slices: Receiver<Slice>) -> Lead {
        let sampler = Sampler::new(pid);
        let (begin, end) = (Moment::default(), Moment::default());
        let groups = shared.scenario.groups.iter();
        let unwelcome = groups.filter(|group| group.expects_refusal).map(|group| group.count);
        Lead {
            shared: shared.clone(),
            slices,
            samples: Samples { sampler, window: Window::default(), begin, end },
            opened: false,
            closed: false,
            progress: (0, 0),
            settled_ns: None,
            unwelcome: unwelcome.sum::<usize>() as u64,
        }
    }

    fn control(&self) -> &Arc<Control> {
        &self.shared.control
    }

    /// Leads until everything was done or cannot go on.
    pub fn lead(&mut self, requests: &Requests, watch: &mut dyn FnMut(Live<'_>)) {
        let mut shown_ns = 0;
        while self.control().phase() != Phase::Leave {
            self.take_slices();
            self.samples.sampler.tick(&self.shared.control);
            let now_ns = self.control().now_ns();
            let stopped = requests.stopping() != Stopping::No;
            if stopped || self.control().failure().is_some() {
                self.close_window(now_ns);
                self.control().enter(Phase::Leave);
                return;
            }
            self.advance(now_ns);
            self.watch_progress(now_ns);
            if now_ns - shown_ns > 100_000_000 {
                shown_ns = now_ns;
                watch(self.live(now_ns));
            }
        }
    }

    /// What was sampled, and why the run ended early if it did; after all threads have ended.
    pub fn end(mut self, pid: Option<u32>) -> (Samples, Option<Failure>) {
        while let Ok(slice) = self.slices.try_recv() {
            self.samples.sampler.add(&slice);
        }
        self.samples.sampler.close_second(&self.shared.control);
        let window = &mut self.samples.window;
        (window.begin_s, window.end_s) =
            (self.samples.begin.at_ns as f64 / 1e9, self.samples.end.at_ns as f64 / 1e9);
        self.samples.sampler.judge(window);
        let gone = pid.filter(|pid| !process::lives(*pid));
        let failure = match (self.shared.control.failure(), gone) {
            (Some(Failure::Generator(why)), _) => Some(Failure::Generator(why)),
            (_, Some(pid)) => {
                Some(Failure::Broker(BrokerVerdict::Died(format!("process {pid} ended"))))
            }
            (failure, None) => failure,
        };
        (self.samples, failure)
    }

    fn take_slices(&mut self) {
        match self.slices.recv_timeout(TICK) {
            Ok(slice) => self.samples.sampler.add(&slice),
            Err(RecvTimeoutError::Timeout) => {}
            // All threads have ended: that cannot be before they were told to, unless they failed.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
        }
    }

    fn all_ready(&self) -> bool {
        let ready = self.control().sum(|meter| &meter.ready);
        ready + self.unwelcome == self.shared.plan.clients.len() as u64
    }

    /// Whether everybody who must not get in has been turned away.
    fn all_refused(&self) -> bool {
        self.control().sum(|meter| &meter.refused) == self.unwelcome
    }

    fn advance(&mut self, now_ns: u64) {
        match self.control().phase() {
            Phase::Connect if self.all_ready() => {
                if self.shared.plan.replay_ns.is_some() {
                    // A replay has no warm-up: all of it is measured.
                    self.samples.window.warmed_up = true;
                    self.open_window_now();
                }
                self.control().enter(Phase::Load);
            }
            Phase::Load if !self.opened => self.open_window(now_ns),
            Phase::Load if self.over(now_ns) => {
                self.close_window(now_ns);
                self.control().enter(Phase::Drain);
            }
            Phase::Drain => self.drain(now_ns),
            _ => {}
        }
    }

    fn open_window(&mut self, now_ns: u64) {
        let scenario = &self.shared.scenario;
        let loaded_s = (now_ns - self.control().load_ns.load(Relaxed)) as f64 / 1e9;
        let settled = self.samples.sampler.settled();
        if loaded_s < scenario.warmup_s || (!settled && loaded_s < 2.0 * scenario.warmup_s) {
            return;
        }
        self.samples.window.warmed_up = settled;
        self.open_window_now();
    }

    fn open_window_now(&mut self) {
        let scenario = &self.shared.scenario;
        self.opened = true;
        self.samples.begin = self.samples.sampler.moment(self.control());
        let begin_ns = self.samples.begin.at_ns;
        let end_ns = match scenario.messages {
            Some(_) => u64::MAX,
            None => begin_ns + (scenario.seconds * 1e9) as u64,
        };
        self.control().end_ns.store(end_ns, Relaxed);
        self.control().begin_ns.store(begin_ns, Relaxed);
    }

    fn over(&self, now_ns: u64) -> bool {
        match self.shared.scenario.messages {
            Some(messages) => {
                self.control().sum(|meter| &meter.sent) - self.samples.begin.sent >= messages
            }
            None => now_ns >= self.control().end_ns.load(Relaxed),
        }
    }

    fn close_window(&mut self, now_ns: u64) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.samples.end = self.samples.sampler.moment(self.control());
        if !self.opened {
            self.samples.begin = self.samples.end.clone();
            self.control().begin_ns.store(now_ns, Relaxed);
        }
        self.control().end_ns.store(self.samples.end.at_ns, Relaxed);
    }

    /// Waits for what is under way, and a little longer for what should not be.
    fn drain(&mut self, now_ns: u64) {
        let old = self.control().sum(|meter| &meter.old);
        let here = self.all_ready() && self.all_refused();
        if !(here && old == 0 && self.control().settled(&self.shared.plan)) {
            self.settled_ns = None;
            return;
        }
        let since_ns = *self.settled_ns.get_or_insert(now_ns);
        if now_ns - since_ns.max(self.progress.1) >= QUIET_NS {
            self.control().enter(Phase::Leave);
        }
    }

    fn watch_progress(&mut self, now_ns: u64) {
        let control = self.control();
        let done = control.sum(|meter| &meter.received)
            + control.sum(|meter| &meter.acknowledged)
            + control.sum(|meter| &meter.connects)
            + control.sum(|meter| &meter.ready)
            + control.sum(|meter| &meter.refused);
        if done != self.progress.0 {
            self.progress = (done, now_ns);
            return;
        }
        let patience_ns = (self.shared.scenario.patience_s * 1e9) as u64;
        if now_ns - self.progress.1 <= patience_ns {
            return;
        }
        let phase = control.phase();
        let unacknowledged = control.sum(|meter| &meter.unacknowledged);
        let waiting = control.sum(|meter| &meter.waiting);
        // A recording may be silent for long; only what the broker owes is waited for.
        let silent = self.shared.plan.replay_ns.is_some()
            && phase < Phase::Drain
            && waiting + unacknowledged == 0;
        let idle = phase >= Phase::Load
            && control.sum(|meter| &meter.old) == 0
            && control.settled(&self.shared.plan)
            && self.all_ready()
            && self.all_refused();
        if silent || (idle && waiting == 0) {
            self.progress.1 = now_ns;
            return;
        }
        let old = control.sum(|meter| &meter.old);
        if phase == Phase::Drain && old > 0 {
            let what = format!("{old} connections that were taken over were not ended");
            control.fail(Failure::Broker(BrokerVerdict::Misbehaved(what)));
            return;
        }
        let here = self.all_ready() && self.all_refused();
        if phase == Phase::Drain && unacknowledged == 0 && here {
            // What has not come by now is lost; the truth says so.
            control.enter(Phase::Leave);
            return;
        }
        if phase == Phase::Leave || self.everyone_is_away() {
            return;
        }
        let (ready, all) = (control.sum(|meter| &meter.ready), self.shared.plan.clients.len());
        let what = format!(
            "nothing moved for {:.1} s: {ready} of {} clients ready, {unacknowledged} \
             publications unacknowledged, {} turned away of {}",
            self.shared.scenario.patience_s,
            all as u64 - self.unwelcome,
            control.sum(|meter| &meter.refused),
            self.unwelcome,
        );
        control.fail(Failure::Broker(BrokerVerdict::Stuck(what)));
    }

    /// Whether clients are away because the load says so.
    fn everyone_is_away(&self) -> bool {
        let longest = self.shared.scenario.groups.iter().map(|group| group.offline_s);
        let longest_ns = (longest.fold(0.0, f64::max) * 1e9) as u64;
        let away = self.control().sum(|meter| &meter.away) > 0;
        let since_ns = self.progress.1;
        away && self.control().now_ns() - since_ns < longest_ns + 1_000_000_000
    }

    fn live(&self, now_ns: u64) -> Live<'static> {
        let control = self.control();
        let (begin, end) = (control.begin_ns.load(Relaxed), control.end_ns.load(Relaxed));
        let passed = now_ns.saturating_sub(begin) as f64;
        let share = match self.shared.scenario.messages {
            Some(most) if self.opened => {
                let sent = control.sum(|meter| &meter.sent) - self.samples.begin.sent;
                sent as f64 / most.max(1) as f64
            }
            _ if self.opened => passed / (end - begin).max(1) as f64,
            _ => 0.0,
        };
        let doing = match control.phase() {
            Phase::Connect => "connecting",
            Phase::Load if !self.opened => "warming up",
            Phase::Load => "measuring",
            Phase::Drain => "draining",
            Phase::Leave => "leaving",
        };
        let last = self.samples.sampler.series.last();
        Live {
            doing,
            share: share.min(1.0),
            clients: (
                control.sum(|meter| &meter.ready),
                self.shared.plan.clients.len() as u64 - self.unwelcome,
            ),
            rates: last.map_or((0, 0), |second| (second.sent, second.received)),
            p99_ns: last.map_or(0, |second| second.p99_ns),
        }
    }
}

use std::sync::atomic::Ordering::Relaxed;
