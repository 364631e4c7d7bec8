//! Telling what a core does: once per interval each core asks its shell how the time was spent,
//! writes its figures to the board and publishes its part of the `$SYS` tree. Shard 0 also sums.
//!
//! Invariants worth naming:
//! * at most one round of reports waits; a newer one takes its place;
//! * a round goes out in small portions, so that it holds nobody up.

use super::stats::{Gauges, Snapshot};
use super::sys::{self, HostFigures, Line, Loads, Overview};
use super::timers::Timer;
use super::{Command, Shard};
use crate::base::{PublisherId, Time};
use crate::codec::QoS;
use crate::session::{MessageView, Payload};

/// Messages of a round that wait to be accepted at a time.
const PORTION: usize = 16;

/// Shard 0 sums this long after the others have told, in microseconds.
const SUM_DELAY_US: u64 = 200_000;

/// What the shell has to say when it is asked by [`Command::Measure`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Measured {
    /// Microseconds of work since the core's start.
    pub busy_us: u64,
    /// Microseconds of looking for work and of gathering.
    pub polled_us: u64,
    /// Microseconds of sleep.
    pub asleep_us: u64,
    /// Longest turn since the last measurement, in microseconds.
    pub lag_us_max: u64,
    /// What is known of the process; only shard 0 looks at it.
    pub host: HostFigures,
}

/// How far a core has come with its reports.
#[derive(Default)]
pub(super) struct Reporting {
    /// Time and process at the start of the interval.
    before: Gauges,
    round: std::vec::IntoIter<Line>,
    load: Loads,
    clients_maximum: u64,
}

impl Reporting {
    /// Whether something is left of the round.
    pub(super) fn has_more(&self) -> bool {
        self.round.len() > 0
    }
}

impl Shard {
    /// Sets the timer of the next report, if there are any.
    pub(super) fn arm_report(&mut self, at: Time) {
        if self.clients.settings.sys_interval_us > 0 {
            self.wheel.insert(at, Timer::Report);
        }
    }

    /// When the first report is due: at once, at shard 0 a moment later.
    pub(super) fn first_report(&self, now: Time) -> Time {
        Time(now.0 + if self.me.0 == 0 { SUM_DELAY_US } else { 0 })
    }

    /// A report is due: ask the shell for its figures.
    pub(super) fn report_due(&mut self, now: Time) {
        if self.draining {
            return;
        }
        self.commands.push_back(Command::Measure);
        self.arm_report(Time(now.0.saturating_add(self.clients.settings.sys_interval_us)));
    }

    /// The shell's answer to [`Command::Measure`]: this core's figures go to the board, and a
    /// round of reports begins.
    pub fn measured(&mut self, measured: &Measured) {
        let snapshot = self.snapshot(measured);
        let board = self.clients.settings.board.clone();
        board.write(self.me, &snapshot);
        let slowest = self.clients.take_slowest();
        let mut lines = sys::core(self.me, &snapshot, &self.reporting.before, &slowest);
        lines.extend(sys::owned(self.me, &self.skew.take()));
        if self.me.0 == 0 {
            let (now, sum) = (self.clients.now, board.sum());
            let reporting = &mut self.reporting;
            reporting.load.advance(now, sys::loads(&sum.counters));
            reporting.clients_maximum = reporting.clients_maximum.max(sum.gauges.connected);
            lines.extend(sys::broker(&Overview {
                uptime_s: now.0 / 1_000_000,
                cores: board.shards(),
                host: measured.host,
                sum: &sum,
                clients_maximum: reporting.clients_maximum,
                load: &reporting.load,
            }));
        }
        self.reporting.before = snapshot.gauges;
        self.reporting.round = lines.into_iter();
    }

    /// What this core counts and holds.
    fn snapshot(&self, measured: &Measured) -> Snapshot {
        let clients = &self.clients;
        let (request_blocks, deliver_blocks) = self.mesh.blocks_in_use();
        let gauges = Gauges {
            connections: clients.connections.len() as u64,
            connected: clients.connected as u64,
            sessions: clients.sessions.len() as u64,
            subscriptions: clients.subscriptions as u64,
            inflight: clients.inflight as u64,
            retained: self.retained.len() as u64,
            retained_bytes: self.retained.bytes() as u64,
            unfinished_bytes: clients.unfinished as u64,
            unsent_bytes: clients.output.bytes as u64,
            held_bytes: clients.held_bytes() as u64,
            waiting: self.waiting.len() as u64,
            request_blocks: request_blocks as u64,
            deliver_blocks: deliver_blocks as u64,
            blocks_limit: self.mesh.blocks_limit() as u64,
            busy_us: measured.busy_us,
            polled_us: measured.polled_us,
            asleep_us: measured.asleep_us,
            lag_us_max: measured.lag_us_max,
            lag_us: self.lag.average_us(),
        };
        debug_assert_eq!(self.recount(), (gauges.connected, gauges.subscriptions, gauges.inflight));
        Snapshot { counters: clients.counters.clone(), gauges }
    }

    /// What the gauges kept along the way must be.
    fn recount(&self) -> (u64, u64, u64) {
        let sessions = || self.clients.sessions.iter().map(|(_, session)| session);
        let connected = sessions().filter(|session| session.connection.is_some()).count();
        let subscriptions: usize = sessions().map(|session| session.subscriptions.len()).sum();
        let inflight: usize = sessions().map(|session| session.window.len()).sum();
        (connected as u64, subscriptions as u64, inflight as u64)
    }

    /// Puts the next portion of the round with the broker's own messages.
    pub(super) fn go_on_with_report(&mut self) {
        while self.reporting.has_more() && self.own.len() < PORTION {
            let Some((topic, payload)) = self.reporting.round.next() else { return };
            let view = MessageView {
                id: self.next_message_id(),
                publisher: PublisherId::BROKER,
                expires: Time::NEVER,
                qos: QoS::AtMostOnce,
                retain: true,
                topic: &topic,
                properties: &[],
                payload: Payload::Inline(payload.as_bytes()),
            };
            self.own.push_back(view.store(&self.clients.ledger));
        }
    }
}

#[cfg(test)]
mod tests;
