//! A session as its home shard holds it: the protocol state of [`crate::session`] with the topics,
//! the connection and the will that belong to it.

use super::connection::ConnectionKey;
use super::replay::ReplayKey;
use crate::base::{Key, PublisherId, Time};
use crate::codec::{QoS, Version};
use crate::index::{GroupKey, GroupName, NodeKey, SessionKey};
use crate::session::{Message, Outbox, Receiving, Window};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;

/// Slot of a session; [`SessionKey`] is the same name in the index's terms.
pub(super) type SessionSlot = Key<Session>;

/// The slot that the index knows as `key`.
pub(super) fn slot_of(key: SessionKey) -> SessionSlot {
    Key::from_bits(key.to_bits())
}

/// The index's name for `slot`.
pub(super) fn key_of(slot: SessionSlot) -> SessionKey {
    Key::from_bits(slot.to_bits())
}

/// Subscription identifiers of one delivery; mostly none or one.
#[derive(Clone, Default, Debug)]
pub struct Identifiers {
    first: Option<NonZeroU32>,
    more: Vec<u32>,
}

impl Identifiers {
    /// One or none, and others behind it.
    pub(super) fn new(first: Option<NonZeroU32>, more: &[u32]) -> Identifiers {
        Identifiers { first, more: more.to_vec() }
    }

    /// The identifiers, through `scratch`.
    pub(super) fn list<'a>(&self, scratch: &'a mut Vec<u32>) -> &'a [u32] {
        list_identifiers(self.first, &self.more, scratch)
    }
}

/// `first` and `more`, through `scratch`.
pub(super) fn list_identifiers<'a>(
    first: Option<NonZeroU32>,
    more: &[u32],
    scratch: &'a mut Vec<u32>,
) -> &'a [u32] {
    scratch.clear();
    scratch.extend(first.map(NonZeroU32::get));
    scratch.extend(more);
    scratch
}

/// A message on its way to one session.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub(super) message: Rc<Message>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Identifiers,
    /// The share group that the session got it for.
    pub(super) share: Option<Rc<GroupName>>,
}

/// Where a subscription of the session stands in the index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subscribed {
    Plain(NodeKey),
    Shared(GroupKey),
    /// Exclusive: the arbiter granted it under this serial.
    Exclusive {
        node: NodeKey,
        serial: u64,
    },
    /// Exclusive: the arbiter was asked under this serial and has not answered.
    Reserving {
        serial: u64,
    },
}

impl Subscribed {
    /// Whether it was asked for as `$exclusive/<filter>`.
    pub(super) fn is_exclusive(self) -> bool {
        matches!(self, Subscribed::Exclusive { .. } | Subscribed::Reserving { .. })
    }
}

/// A will that waits for its connection to end badly.
#[derive(Debug)]
pub(super) struct Will {
    pub(super) message: Rc<Message>,
    /// Seconds of message expiry, counted from publication.
    pub(super) expiry_s: Option<u32>,
    pub(super) delay_s: u32,
}

/// One session. Lives on its home shard from creation to end.
pub struct Session {
    pub(super) client_id: Box<str>,
    /// Who made it, if that was proven.
    pub(super) user: Option<Box<str>>,
    pub(super) connection: Option<ConnectionKey>,
    pub(super) version: Version,
    /// Seconds that the session outlives its connection; `u32::MAX` is for ever.
    pub(super) expiry_s: u32,
    /// What the last CONNECT asked for; zero forbids a later change [MQTT-3.14.2-2].
    pub(super) asked_expiry_s: u32,
    /// When a timer will look whether it has ended; [`Time::NEVER`]: none is set.
    pub(super) looked_at: Time,
    /// When it ends, while it has no connection.
    pub(super) ends: Time,
    pub(super) publisher: PublisherId,
    pub(super) subscriptions: HashMap<Box<str>, Subscribed, RandomState>,
    pub(super) receiving: Receiving,
    pub(super) window: Window<Outgoing>,
    pub(super) outbox: Outbox<Outgoing>,
    /// The outbox is close to its bounds and publishers are refused for it.
    pub(super) crowded: bool,
    pub(super) will: Option<Box<Will>>,
    /// When the will is due, once its connection is gone.
    pub(super) will_due: Time,
    pub(super) replays: Vec<ReplayKey>,
}

impl Session {
    /// Whether anything may have to be done once its client can take more.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        !self.outbox.is_empty()
            || self.window.has_resend()
            || !self.replays.is_empty()
            || self.crowded
    }
}
