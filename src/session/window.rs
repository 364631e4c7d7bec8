//! The inflight window: outbound QoS 1 and 2 messages that the client has not finished.
//!
//! ```text
//!   QoS 1:  Publish ──PUBACK──► (free)
//!   QoS 2:  Publish ──PUBREC──► Release ──PUBCOMP──► (free)
//! ```
//! Packet identifiers are consecutive along the queue, so the position of an identifier is a
//! subtraction and an identifier can't be in use twice. Finished entries in the middle stay as
//! holes until everything before them is finished.

use crate::base::PacketId;
use std::collections::VecDeque;

/// Packet identifiers run `1..=IDS` and then start again.
const IDS: u32 = 65_535;

#[derive(Debug)]
enum State<M> {
    Hole,
    Publish(M),
    Release,
}

/// What has to be sent again after a reconnect.
#[derive(Debug)]
pub enum Resend<'a, M> {
    /// The PUBLISH, with DUP set.
    Publish(PacketId, &'a M),
    /// The PUBREL.
    Release(PacketId),
}

/// What a PUBREC means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pubrec {
    /// Answer PUBREL.
    Release,
    /// The client refused the message; it is finished.
    Refused,
    /// The identifier is not in use.
    Unknown,
}

/// Outbound messages in flight of one session. Survives its connections.
#[derive(Debug)]
pub struct Window<M> {
    entries: VecDeque<State<M>>,
    /// Identifier of the front entry.
    front: u16,
    /// Entries that are not holes.
    used: usize,
    /// Entries before this position were sent on the present connection.
    sent: usize,
    /// Entries sent on the present connection and not finished.
    outstanding: usize,
}

impl<M> Default for Window<M> {
    fn default() -> Self {
        Window { entries: VecDeque::new(), front: 1, used: 0, sent: 0, outstanding: 0 }
    }
}

impl<M> Window<M> {
    fn id(&self, position: usize) -> PacketId {
        let id = (u32::from(self.front) - 1 + position as u32) % IDS + 1;
        PacketId::new(id as u16).expect("1..=65535")
    }

    fn position(&self, id: PacketId) -> Option<usize> {
        let position = (u32::from(id.get()) + IDS - u32::from(self.front)) % IDS;
        (position < self.entries.len() as u32).then_some(position as usize)
    }

    /// Whether a new message may be sent to a client that takes `limit` at a time.
    #[inline]
    pub fn has_room(&self, limit: usize) -> bool {
        // Holes are bounded too: a client that leaves one message unfinished for ever stalls
        // after four windows instead of growing the queue.
        self.outstanding < limit
            && self.sent == self.entries.len()
            && self.entries.len() < (4 * limit).min(IDS as usize)
    }

    /// Takes a message in flight. [`Window::has_room`] was asked before.
    #[inline]
    pub fn send(&mut self, message: M) -> PacketId {
        let id = self.id(self.entries.len());
        self.entries.push_back(State::Publish(message));
        self.used += 1;
        self.sent = self.entries.len();
        self.outstanding += 1;
        id
    }

    fn finish(&mut self, position: usize) {
        self.entries[position] = State::Hole;
        self.used -= 1;
        self.outstanding -= usize::from(position < self.sent);
        while matches!(self.entries.front(), Some(State::Hole)) {
            self.front = self.id(1).get();
            self.entries.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        if self.entries.is_empty() && self.entries.capacity() > 256 {
            self.entries = VecDeque::new();
        }
    }

    /// A PUBACK or a refusing PUBREC arrived: the message, unless the identifier is not in use.
    pub fn acknowledge(&mut self, id: PacketId) -> Option<M> {
        let position = self.position(id)?;
        if !matches!(self.entries[position], State::Publish(_)) {
            return None;
        }
        let state = std::mem::replace(&mut self.entries[position], State::Hole);
        self.finish(position);
        match state {
            State::Publish(message) => Some(message),
            State::Hole | State::Release => None,
        }
    }

    /// The message that is in flight under `id` and not yet acknowledged in any way.
    pub fn published(&self, id: PacketId) -> Option<&M> {
        match self.entries.get(self.position(id)?)? {
            State::Publish(message) => Some(message),
            State::Hole | State::Release => None,
        }
    }

    /// A PUBREC arrived; with a refusing reason code the message is finished [MQTT-4.3.3-4].
    pub fn received(&mut self, id: PacketId, refused: bool) -> Pubrec {
        let Some(position) = self.position(id) else { return Pubrec::Unknown };
        match self.entries[position] {
            State::Hole => Pubrec::Unknown,
            State::Publish(_) | State::Release if refused => {
                self.finish(position);
                Pubrec::Refused
            }
            State::Publish(_) | State::Release => {
                self.entries[position] = State::Release;
                Pubrec::Release
            }
        }
    }

    /// A PUBCOMP arrived; false when no PUBREL awaits it.
    pub fn complete(&mut self, id: PacketId) -> bool {
        let Some(position) = self.position(id) else { return false };
        let known = matches!(self.entries[position], State::Release);
        if known {
            self.finish(position);
        }
        known
    }

    /// Whether something may have to be sent again.
    #[inline]
    pub fn has_resend(&self) -> bool {
        self.sent < self.entries.len()
    }

    /// A new connection: everything in flight is to be sent again [MQTT-4.4.0-1].
    pub fn restart(&mut self) {
        self.sent = 0;
        self.outstanding = 0;
    }

    /// The next one to send again to a client that takes `limit` at a time, in original order.
    pub fn next_resend(&mut self, limit: usize) -> Option<Resend<'_, M>> {
        while matches!(self.entries.get(self.sent), Some(State::Hole)) {
            self.sent += 1;
        }
        if self.outstanding >= limit || self.sent >= self.entries.len() {
            return None;
        }
        let position = self.sent;
        self.sent += 1;
        self.outstanding += 1;
        let id = self.id(position);
        Some(match &self.entries[position] {
            State::Publish(message) => Resend::Publish(id, message),
            State::Hole | State::Release => Resend::Release(id),
        })
    }

    /// Messages in flight.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// All messages whose PUBLISH is not acknowledged, in order.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &M> {
        self.entries.iter().filter_map(|state| match state {
            State::Publish(message) => Some(message),
            State::Hole | State::Release => None,
        })
    }
}
