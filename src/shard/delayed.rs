//! Messages that wait for their time: `$delayed/<seconds>/<topic>`.
//!
//! They are held by the core that owns the topic they will be published to, and travel there as
//! any publish does. When due, they are messages of the broker's own, as wills are.
//!
//! Invariants worth naming:
//! * a message is acknowledged when it is held, and it is held only within the bounds;
//! * messages of one delay leave in the order in which they came.

use super::Shard;
use super::counters::DropCause;
use super::entry;
use super::timers::Timer;
use super::waiting::Cause;
use crate::base::Time;
use crate::codec::{QoS, ReasonCode};
use crate::session::{Message, MessageView};
use crate::topic::Delayed;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Memory that a held message takes beside itself, roughly.
const PLACE_BYTES: usize = 64;

/// The held messages of one core.
pub(super) struct Held {
    /// By the time they are due, then in the order of their coming.
    messages: BTreeMap<(Time, u64), Rc<Message>>,
    coming: u64,
    bytes: usize,
    /// When the first one is due, for which a timer is set.
    armed: Time,
}

impl Default for Held {
    fn default() -> Held {
        Held { messages: BTreeMap::new(), coming: 0, bytes: 0, armed: Time::NEVER }
    }
}

impl Held {
    /// How many messages are held.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// When the first one is due.
    pub(super) fn next_due(&self) -> Time {
        self.messages.first_key_value().map_or(Time::NEVER, |((due, _), _)| *due)
    }

    fn push(&mut self, due: Time, message: Rc<Message>) {
        self.coming += 1;
        self.bytes += message.bytes() + PLACE_BYTES;
        self.messages.insert((due, self.coming), message);
    }

    fn pop_due(&mut self, now: Time) -> Option<Rc<Message>> {
        let first = self.messages.first_entry().filter(|first| first.key().0 <= now)?;
        let message = first.remove();
        self.bytes -= message.bytes() + PLACE_BYTES;
        Some(message)
    }
}

impl Shard {
    /// Why a topic can't be published to although it is well formed as a name: it asks for a delay
    /// that is malformed, too long, or not offered.
    #[inline]
    pub(super) fn refused_delay(&self, topic: &str) -> Option<ReasonCode> {
        let rules = &self.clients.settings.topics;
        let offered = match Delayed::parse(topic)? {
            Ok(delayed) => rules.delayed && delayed.seconds <= rules.max_delay_s,
            Err(_) => false,
        };
        (!offered).then_some(ReasonCode::TOPIC_NAME_INVALID)
    }

    /// Holds a message as the owner of the topic that it is for. The expiry counts from its
    /// reception, the delay from now.
    pub(super) fn hold(
        &mut self,
        view: &MessageView<'_>,
        delayed: Delayed<'_>,
    ) -> Result<ReasonCode, Cause> {
        self.check_budget()?;
        let limits = &self.clients.settings.limits;
        self.turn_left = self.turn_left.saturating_sub(entry::message_entry_len(view, 0));
        let view = MessageView { topic: delayed.topic, ..*view };
        let message = view.store(&self.clients.ledger);
        if self.held.len() >= limits.delayed_messages
            || self.held.bytes + message.bytes() + PLACE_BYTES > limits.delayed_bytes
            || self.mesh.full().contains(self.me)
        {
            self.clients.counters.messages_refused += u64::from(view.qos > QoS::AtMostOnce);
            return Ok(ReasonCode::QUOTA_EXCEEDED);
        }
        let due = self.clients.now.plus_secs(u64::from(delayed.seconds));
        self.held.push(due, message);
        self.clients.counters.delayed_held += 1;
        self.arm_delayed();
        Ok(ReasonCode::SUCCESS)
    }

    /// Sets a timer for the first held message, unless an earlier one is set.
    fn arm_delayed(&mut self) {
        let due = self.held.next_due();
        if due < self.held.armed {
            self.held.armed = due;
            self.wheel.insert(due, Timer::DelayedDue);
        }
    }

    /// Whether a held message is due and may leave in the next tick.
    pub(super) fn has_due_delayed(&self) -> bool {
        self.own_waits.is_none() && self.held.armed <= self.clients.now
    }

    /// Hands due messages on for publication, as many as one tick allows and no more than can
    /// leave soon: what still waits stays under the bounds.
    pub(super) fn release_delayed(&mut self) {
        let now = self.clients.now;
        if self.held.armed > now {
            return;
        }
        let most = self.clients.settings.limits.delayed_per_tick;
        for _ in 0..most {
            if self.own.len() >= most {
                break;
            }
            let Some(message) = self.held.pop_due(now) else { break };
            if message.expires() <= now {
                self.clients.dropped(DropCause::Expired, 1, message.content_bytes());
            } else {
                self.own.push_back(message);
            }
        }
        if self.held.next_due() > now {
            self.held.armed = Time::NEVER;
            self.arm_delayed();
        }
    }
}
