//! Inbound QoS 2: which packet identifiers the client has in use, and how far each has come.
//!
//! ```text
//!   PUBLISH ──► Forwarded ──owner accepted──► Accepted ──PUBREL──► (free)
//!                   └──────owner refused──────────────────────────► (free)
//! ```

use crate::base::PacketId;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Forwarded,
    Accepted,
}

/// What an inbound QoS 2 PUBLISH is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Seen for the first time: forward it.
    New,
    /// A repetition of one that the owner has not answered yet: wait for that answer.
    Awaiting,
    /// A repetition of one that was accepted: answer PUBREC again.
    Accepted,
}

/// Inbound QoS 2 states of one session. Survives its connections.
#[derive(Default, Debug)]
pub struct Receiving {
    states: HashMap<PacketId, State, RandomState>,
}

impl Receiving {
    /// A PUBLISH with `id` arrived [MQTT-4.3.3-2].
    pub fn publish(&mut self, id: PacketId) -> Arrival {
        match self.states.get(&id) {
            Some(State::Forwarded) => Arrival::Awaiting,
            Some(State::Accepted) => Arrival::Accepted,
            None => {
                self.states.insert(id, State::Forwarded);
                Arrival::New
            }
        }
    }

    /// The owner answered: the message is accepted, or refused and its identifier free again.
    pub fn settle(&mut self, id: PacketId, accepted: bool) {
        if accepted {
            if let Some(state) = self.states.get_mut(&id) {
                *state = State::Accepted;
            }
        } else {
            self.states.remove(&id);
        }
    }

    /// A PUBREL arrived; false when the identifier is not in use.
    pub fn release(&mut self, id: PacketId) -> bool {
        self.states.remove(&id).is_some()
    }

    /// Whether `id` is in use.
    pub fn holds(&self, id: PacketId) -> bool {
        self.states.contains_key(&id)
    }

    /// Identifiers in use.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether no identifier is in use.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}
