//! What a core holds for its clients, and what it does when that comes close to its bound.
//!
//! | used | what happens until it is less |
//! |---|---|
//! | 80 % | no new client is let in; QoS 0 waits only in small numbers |
//! | 95 % | QoS 1 and 2 messages for this core are refused with 0x97 |
//! | 100 % | who holds most loses its connection and what waits for it |
//!
//! Counted are stored messages (once per core), bytes received and not yet processed, bytes not
//! yet sent, topic aliases of both directions, and a flat sum for each connection and session.
//!
//! Invariants worth naming:
//! * whether this core is full is decided here alone, and other cores read one bit of it;
//! * nobody waits for memory: a message is accepted, refused or dropped at once.

use super::clients::Clients;
use super::connection::{Connection, ConnectionKey, Greeting};
use super::counters::DropCause;
use super::events::Ending;
use super::session::{Session, SessionSlot};
use super::{Settings, Shard};
use crate::base::Time;
use crate::codec::ReasonCode;
use crate::session::Message;

#[cfg(test)]
mod tests;

/// What a connection or session costs beside its bytes: its slot, maps and small tables.
const CONNECTION_BYTES: usize = size_of::<Connection>() + 256;
const SESSION_BYTES: usize = size_of::<Session>() + 512;

/// Above 80 % a connection may have this part of its usual out buffer waiting.
const SHED_PART: usize = 32;

/// Time between two disconnections: what the kernel is sending is not free at once.
const RELIEF_PAUSE_US: u64 = 10_000;

/// How much of its memory a core has used up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) enum Pressure {
    /// Below 80 %.
    #[default]
    Low,
    /// From 80 %, or with turns that are too long: who is not served yet has to wait outside.
    Shedding,
    /// From 95 %.
    Full,
    /// From 100 %.
    Over,
}

impl Pressure {
    fn of(held: usize, bound: usize) -> Pressure {
        // A bound below a hundred bytes makes no sense, so parts of it are exact enough.
        let percent = bound / 100;
        match held {
            _ if bound == 0 => Pressure::Low,
            _ if held >= bound => Pressure::Over,
            _ if held >= 95 * percent => Pressure::Full,
            _ if held >= 80 * percent => Pressure::Shedding,
            _ => Pressure::Low,
        }
    }
}

impl Clients {
    /// Bytes held for clients; see the module for what counts.
    pub(super) fn held_bytes(&self) -> usize {
        self.ledger.bytes()
            + self.output.bytes
            + self.output.aliases
            + self.unfinished
            + self.connections.len() * CONNECTION_BYTES
            + self.sessions.len() * SESSION_BYTES
    }

    /// Encoded bytes waiting on one connection above which messages wait unencoded.
    #[inline]
    pub(super) fn high_water(&self) -> usize {
        let usual = self.settings.limits.out_buffer_bytes;
        if self.pressure == Pressure::Low { usual } else { usual / SHED_PART }
    }

    /// Forgets what was encoded for a connection that is about to end: whole packets, because what
    /// the shell is sending ends with one.
    fn discard_output(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        self.output.bytes -= connection.discard_output();
        if connection.greeting == Greeting::Written {
            connection.greeting = Greeting::Owed;
        }
    }

    /// Takes over what has changed, and counts anew whose outbox is close to its bounds.
    pub(super) fn reconfigure(&mut self, live: &super::Live) {
        self.settings.take(live);
        self.full_outboxes = 0;
        let slots: Vec<SessionSlot> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(session) = self.sessions.get_mut(slot) {
                session.crowded = false;
            }
            self.note_crowd(slot);
        }
    }

    /// Notes whether the outbox of a session has come close to its bounds, or has left them.
    pub(super) fn note_crowd(&mut self, slot: SessionSlot) {
        if !self.settings.refuses() {
            return;
        }
        let limits = self.settings.outbox();
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let crowded = session.outbox.is_crowded(limits, session.crowded);
        if crowded != session.crowded {
            session.crowded = crowded;
            self.full_outboxes = self.full_outboxes + usize::from(crowded) - usize::from(!crowded);
        }
    }
}

impl Settings {
    /// Whether publishers are refused rather than messages dropped.
    #[inline]
    pub(super) fn refuses(&self) -> bool {
        self.session.overflow == crate::config::Overflow::Refuse
    }
}

impl Shard {
    /// Bytes that this core holds for its clients.
    pub fn held_bytes(&self) -> usize {
        self.clients.held_bytes()
    }

    /// Looks how much is held, tells the other cores when this one becomes full or ceases to be,
    /// and takes something back where it is too much.
    pub(super) fn weigh(&mut self) {
        let bound = self.clients.settings.limits.memory_bytes;
        let mut pressure = Pressure::of(self.clients.held_bytes(), bound);
        if self.clients.overloaded {
            pressure = pressure.max(Pressure::Shedding);
        }
        if pressure != self.clients.pressure {
            tracing::warn!(core = self.me.0, ?pressure, "the pressure on this core changed");
            self.clients.pressure = pressure;
        }
        if pressure == Pressure::Over && self.relief_after <= self.clients.now {
            self.relieve();
        }
        let full = pressure >= Pressure::Full || self.clients.full_outboxes > 0;
        if full != self.mesh.full().contains(self.me) {
            self.mesh.set_full(full);
        }
    }

    /// Disconnects the client that holds most and forgets what waits for it.
    fn relieve(&mut self) {
        let held = |session: &Session| {
            let connection = session.connection.and_then(|key| self.clients.connections.get(key));
            let sending =
                connection.map_or(0, |c| c.pending_bytes() + c.late.bytes() + c.alias_bytes());
            session.outbox.bytes() + sending
        };
        let sessions = self.clients.sessions.iter();
        let most = sessions.map(|(slot, session)| (held(session), slot)).max_by_key(|most| most.0);
        self.relief_after = Time(self.clients.now.0 + RELIEF_PAUSE_US);
        let Some((bytes, slot)) = most.filter(|(bytes, _)| *bytes > 0) else { return };
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        let waiting = std::mem::take(&mut session.outbox);
        let client_id = &*session.client_id;
        tracing::warn!(client_id, bytes, "disconnected: it held most of a core that is full");
        let connection = session.connection;
        let content = Message::contents(waiting.len(), waiting.bytes());
        self.clients.dropped(DropCause::Memory, waiting.len(), content);
        self.clients.note_crowd(slot);
        if let Some(key) = connection {
            self.clients.counters.over_budget += 1;
            self.clients.discard_output(key);
            self.say_goodbye(key, ReasonCode::QUOTA_EXCEEDED, None);
            self.end_connection(key, Ending::Closed(ReasonCode::QUOTA_EXCEEDED));
        }
    }
}
