//! What is due when. Entries are not cancelled; each one looks whether it still means something.

use super::Shard;
use super::connection::{Connection, ConnectionKey, Phase};
use super::events::Ending;
use super::session::SessionSlot;
use crate::base::Time;
use crate::codec::ReasonCode;
use crate::index::GroupKey;

/// Longest time between two looks at a keep-alive, so that entries of closed connections go soon.
const KEEP_ALIVE_HOP_S: u64 = 64;
const SECOND_US: u64 = 1_000_000;

/// Something that becomes due.
pub(super) enum Timer {
    /// The CONNECT must have arrived.
    ConnectDeadline(ConnectionKey),
    /// The client must have sent a packet, or a part of a large one.
    KeepAlive(ConnectionKey),
    /// The session has been without a connection for its expiry interval.
    SessionEnd(SessionSlot),
    /// The will's delay is over.
    WillDue(SessionSlot),
    /// The connection may send again.
    Quota(ConnectionKey),
    /// The client's proof of who it is ends.
    IdentityEnd(ConnectionKey),
    /// A held message is due; the tick looks for it.
    DelayedDue,
    /// The next round of `$SYS` messages.
    Report,
    /// A look at how much a share group has to do.
    Burden(GroupKey),
}

/// When to look at the keep-alive of `connection` next; whole seconds, so that ten thousand
/// connections don't wake an idle core ten thousand times.
pub(super) fn keep_alive_due(connection: &Connection) -> Time {
    let allowed = u64::from(connection.keep_alive_s) * 3 / 2 * SECOND_US
        + u64::from(connection.keep_alive_s % 2) * SECOND_US / 2;
    let due = connection.last_seen.0.saturating_add(allowed);
    let hop = connection.last_seen.0.saturating_add(KEEP_ALIVE_HOP_S * SECOND_US);
    Time(due.min(hop).div_ceil(SECOND_US) * SECOND_US)
}

fn is_silent(connection: &Connection, now: Time) -> bool {
    let allowed_ms = u64::from(connection.keep_alive_s) * 1500;
    connection.last_seen.0.saturating_add(allowed_ms * 1000) <= now.0
}

impl Shard {
    /// Handles what is due, at most a budget of it.
    pub(super) fn expire_timers(&mut self) {
        let (now, budget) = (self.clients.now, self.clients.settings.limits.expiries_per_tick);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, budget, &mut due);
        for timer in due.drain(..) {
            self.expired(&timer, now);
        }
        self.due = due;
        self.retained.expire(now, budget);
    }

    fn expired(&mut self, timer: &Timer, now: Time) {
        match *timer {
            Timer::ConnectDeadline(key) => {
                let connection = self.clients.connections.get(key);
                if connection
                    .is_some_and(|c| matches!(c.phase, Phase::Lobby | Phase::HandingOver(_)))
                {
                    self.clients.counters.connect_timeouts += 1;
                    self.end_connection(key, Ending::ConnectDeadline);
                }
            }
            Timer::KeepAlive(key) => self.check_keep_alive(key, now),
            Timer::Quota(key) => self.quota_grown(key),
            Timer::IdentityEnd(key) => self.identity_ended(key),
            Timer::DelayedDue => {}
            Timer::SessionEnd(slot) => self.check_session_end(slot, now),
            Timer::Report => self.report_due(now),
            Timer::Burden(group) => self.burden_due(group, now),
            Timer::WillDue(slot) => {
                if self.clients.sessions.get(slot).is_some_and(|session| session.will_due <= now) {
                    self.publish_will(slot);
                }
            }
        }
    }

    /// One entry per session looks when it ends, however often it disconnects meanwhile.
    fn check_session_end(&mut self, slot: SessionSlot, now: Time) {
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        if session.looked_at > now {
            return;
        }
        session.looked_at = Time::NEVER;
        if session.connection.is_some() || session.ends == Time::NEVER {
            return;
        }
        if session.ends <= now {
            return self.end_session(slot);
        }
        session.looked_at = session.ends;
        self.wheel.insert(session.ends, Timer::SessionEnd(slot));
    }

    fn check_keep_alive(&mut self, key: ConnectionKey, now: Time) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        if connection.stalled.is_some() {
            connection.last_seen = now;
        }
        if is_silent(connection, now) {
            self.clients.counters.keep_alive_timeouts += 1;
            self.say_goodbye(key, ReasonCode::KEEP_ALIVE_TIMEOUT, None);
            return self.end_connection(key, Ending::KeepAlive);
        }
        let mut due = keep_alive_due(connection);
        if due <= now {
            due = Time(now.0 + SECOND_US);
        }
        // After a hop with traffic the next look counts from now.
        let hop = Time((now.0 + KEEP_ALIVE_HOP_S * SECOND_US).div_ceil(SECOND_US) * SECOND_US);
        self.wheel.insert(due.min(hop), Timer::KeepAlive(key));
    }
}
