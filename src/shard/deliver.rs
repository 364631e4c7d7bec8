//! From a message and a subscriber to bytes in an out buffer, a place in the window, or a place in
//! the outbox. Policies act here, before anything is encoded.

use super::clients::Clients;
use super::connection::{ConnectionKey, Phase};
use super::counters::DropCause;
use super::memory::Pressure;
use super::session::{Identifiers, Outgoing, SessionSlot, list_identifiers, slot_of};
use crate::base::{PublisherId, Time};
use crate::codec::{self, PublishOut, QoS, ReasonCode, Version};
use crate::index::{GroupName, SessionKey, Subscriber};
use crate::session::{Message, MessageView, Pushed, Resend};
use crate::topic::Naming;
use std::num::NonZeroU32;
use std::rc::Rc;

/// What one fan-out shares between its subscribers: the stored message, made when the first one
/// has to wait, and the QoS 0 packet in each form, encoded when the first one needs it.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) stored: Option<Rc<Message>>,
    /// Encoded packets; the memory is borrowed from the shard for one fan-out.
    bytes: Vec<u8>,
    /// Where in `bytes` each form stands; without length where it was not needed yet.
    forms: [(u32, u32); 8],
    /// There is one subscriber: the packet is encoded where it goes.
    pub(super) single: bool,
}

impl Prepared {
    /// For a message that is `stored` already, or not; encodes into `bytes`.
    pub(super) fn new(stored: Option<Rc<Message>>, mut bytes: Vec<u8>) -> Prepared {
        bytes.clear();
        Prepared { stored, bytes, forms: [(0, 0); 8], single: false }
    }

    /// For one subscriber: there is nothing to share, so nothing is encoded here.
    pub(super) fn for_one(stored: Option<Rc<Message>>) -> Prepared {
        Prepared { stored, single: true, ..Prepared::default() }
    }

    /// Gives the memory back.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The QoS 0 packet of `view` without identifiers. It is encoded once for all aliases, and
    /// the two bytes that differ are set each time.
    #[inline]
    fn form(
        &mut self,
        view: &MessageView<'_>,
        version: Version,
        retain: bool,
        naming: Naming,
        now: Time,
    ) -> &[u8] {
        let (kind, alias) = match naming {
            Naming::Topic => (usize::from(version == Version::V5), None),
            Naming::Both(alias) => (2, Some(alias)),
            Naming::Alias(alias) => (3, Some(alias)),
        };
        let form = &mut self.forms[kind << 1 | usize::from(retain)];
        if form.1 == 0 {
            form.0 = self.bytes.len() as u32;
            let mut out = packet(view, now);
            (out.retain, out.alias) = (retain, alias);
            if let Naming::Alias(_) = naming {
                out.topic = "";
            }
            out.encode(version, &mut self.bytes);
            form.1 = self.bytes.len() as u32;
        }
        let bytes = &mut self.bytes[form.0 as usize..form.1 as usize];
        if let Some(number) = alias {
            let at = PublishOut { alias, ..packet(view, now) }.alias_position(bytes.len());
            bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// What a session may claim of a message. Nothing in it is owned, so that one that is served at
/// once costs no care for what it holds.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) qos: QoS,
    /// RETAIN flag of the outgoing PUBLISH.
    pub(super) retain: bool,
    /// The subscription identifier, or the first of several.
    pub(super) identifier: Option<NonZeroU32>,
    /// Those of other subscriptions; none where there is no first.
    pub(super) more: &'a [u32],
    /// The share group that it is for.
    pub(super) share: Option<&'a Rc<GroupName>>,
}

impl Claim<'_> {
    /// The claim of one subscriber on a live message [MQTT-3.3.1-12], [MQTT-3.3.1-13].
    #[inline]
    pub(super) fn of(subscriber: &Subscriber, view: &MessageView<'_>) -> Claim<'static> {
        Claim {
            qos: subscriber.qos.min(view.qos),
            retain: view.retain && subscriber.retain_as_published,
            identifier: subscriber.identifier,
            more: &[],
            share: None,
        }
    }

    /// Joins another subscription of the same session: one copy, the highest QoS, all identifiers,
    /// of which those behind the first go to `more`.
    pub(super) fn join(
        &mut self,
        subscriber: &Subscriber,
        view: &MessageView<'_>,
        more: &mut Vec<u32>,
    ) {
        self.qos = self.qos.max(subscriber.qos.min(view.qos));
        self.retain |= view.retain && subscriber.retain_as_published;
        match (self.identifier, subscriber.identifier) {
            (None, second) => self.identifier = second,
            (Some(_), second) => more.extend(second.map(NonZeroU32::get)),
        }
    }

    /// The message on its way to the session.
    fn outgoing(&self, message: &Rc<Message>) -> Outgoing {
        Outgoing {
            message: Rc::clone(message),
            qos: self.qos,
            retain: self.retain,
            identifiers: Identifiers::new(self.identifier, self.more),
            share: self.share.cloned(),
        }
    }
}

/// Seconds until `expires` as a PUBLISH carries them [MQTT-3.3.2-6].
fn expiry_s(expires: Time, now: Time) -> Option<u32> {
    if expires == Time::NEVER {
        return None;
    }
    let seconds = expires.0.saturating_sub(now.0).div_ceil(1_000_000);
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}

fn packet<'a>(view: &MessageView<'a>, now: Time) -> PublishOut<'a> {
    PublishOut {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: view.topic,
        packet_id: None,
        alias: None,
        expiry_s: expiry_s(view.expires, now),
        subscription_ids: &[],
        forwarded: view.properties,
        payload: view.payload.bytes(),
    }
}

impl Clients {
    /// Delivers to one session of this core.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        view: &MessageView<'_>,
        session: SessionKey,
        claim: Claim<'_>,
        prepared: &mut Prepared,
    ) {
        let slot = slot_of(session);
        self.counters.deliveries += 1;
        if view.expires <= self.now {
            return self.drop_one(DropCause::Expired, view);
        }
        match claim.qos {
            QoS::AtMostOnce => self.deliver_at_most_once(view, slot, claim, prepared),
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let stored = prepared.stored.get_or_insert_with(|| view.store(&self.ledger));
                let outgoing = claim.outgoing(stored);
                self.deliver_acknowledged(slot, outgoing);
            }
        }
    }

    #[inline]
    fn deliver_at_most_once(
        &mut self,
        view: &MessageView<'_>,
        slot: SessionSlot,
        claim: Claim<'_>,
        prepared: &mut Prepared,
    ) {
        let (now, high_water) = (self.now, self.high_water());
        let key = self.sessions.get(slot).and_then(|session| session.connection);
        let Some(connection) = key.and_then(|key| self.connections.get_mut(key)) else {
            return self.drop_one(DropCause::Offline, view);
        };
        let late = connection.pending_bytes() >= high_water || !connection.late.is_empty();
        if late || view.payload.is_large() {
            let stored = prepared.stored.get_or_insert_with(|| view.store(&self.ledger));
            let outgoing = claim.outgoing(stored);
            let key = connection.key;
            if late {
                return self.deliver_late(slot, key, outgoing);
            }
            return self.send_stored(key, &outgoing);
        }
        let version = connection.version;
        if prepared.single || version == Version::V5 && claim.identifier.is_some() {
            let mut out = packet(view, now);
            out.retain = claim.retain;
            if claim.identifier.is_some() {
                out.subscription_ids =
                    list_identifiers(claim.identifier, claim.more, &mut self.identifiers);
            }
            if !connection.fit(&mut out) {
                return self.drop_one(DropCause::TooLarge, view);
            }
            connection.write(&out, view.payload, &mut self.output);
        } else {
            let largest = connection.maximum_packet as usize;
            let mut naming = connection.naming(view.topic);
            let mut bytes = prepared.form(view, version, claim.retain, naming, now);
            if bytes.len() > largest
                && let Naming::Both(_) = naming
            {
                naming = Naming::Topic;
                bytes = prepared.form(view, version, claim.retain, naming, now);
            }
            if bytes.len() > largest {
                return self.drop_one(DropCause::TooLarge, view);
            }
            connection.writer(&mut self.output).extend_from_slice(bytes);
            if let Naming::Both(alias) = naming {
                connection.named(alias, view.topic, &mut self.output);
            }
        }
        self.counters.deliveries_sent += 1;
        self.counters.publishes_sent += 1;
    }

    /// QoS 0 for a connection above its high water: a short queue of references.
    fn deliver_late(&mut self, slot: SessionSlot, key: ConnectionKey, outgoing: Outgoing) {
        let content = outgoing.message.content_bytes();
        if self.pressure > Pressure::Low {
            let cause = if self.overloaded { DropCause::Overload } else { DropCause::Memory };
            return self.dropped(cause, 1, content);
        }
        let (limits, policy) = (self.settings.late(), self.settings.late_overflow());
        let Some(connection) = self.connections.get_mut(key) else { return };
        let bytes = outgoing.message.bytes();
        match connection.late.push(outgoing, bytes, limits, policy) {
            Pushed::Queued => {}
            Pushed::Displaced(count, bytes) => {
                self.missed(slot, DropCause::LateOverflow, count, Message::contents(count, bytes));
            }
            Pushed::Dropped => self.missed(slot, DropCause::LateOverflow, 1, content),
            Pushed::Disconnect => {
                self.doomed.push((key, ReasonCode::QUOTA_EXCEEDED));
                self.missed(slot, DropCause::LateOverflow, 1, content);
            }
        }
    }

    /// QoS 1 and 2: into the window when the client can take it, else into the outbox.
    pub(super) fn deliver_acknowledged(&mut self, slot: SessionSlot, outgoing: Outgoing) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.outbox.is_empty()
            && let Some(connection) = session.connection.and_then(|k| self.connections.get_mut(k))
            && connection.phase == Phase::Open
            && connection.pending_bytes() < self.settings.limits.out_buffer_bytes
            && session.window.has_room(usize::from(connection.receive_maximum))
        {
            return self.send_acknowledged(slot, outgoing);
        }
        let (bytes, content) = (outgoing.message.bytes(), outgoing.message.content_bytes());
        let (limits, policy) = (self.settings.outbox(), self.settings.overflow());
        match session.outbox.push(outgoing, bytes, limits, policy) {
            Pushed::Queued => {}
            Pushed::Displaced(count, bytes) => {
                let content = Message::contents(count, bytes);
                self.missed(slot, DropCause::OutboxOverflow, count, content);
            }
            Pushed::Dropped => self.missed(slot, DropCause::OutboxOverflow, 1, content),
            Pushed::Disconnect => {
                self.doomed.extend(session.connection.map(|key| (key, ReasonCode::QUOTA_EXCEEDED)));
                self.missed(slot, DropCause::OutboxOverflow, 1, content);
            }
        }
        self.note_crowd(slot);
    }

    /// Sends a QoS 1 or 2 message now; the caller knows that the window has room.
    fn send_acknowledged(&mut self, slot: SessionSlot, outgoing: Outgoing) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(connection) = session.connection.and_then(|k| self.connections.get_mut(k)) else {
            return;
        };
        let message = Rc::clone(&outgoing.message);
        let (qos, retain) = (outgoing.qos, outgoing.retain);
        let ids = outgoing.identifiers.list(&mut self.identifiers);
        let view = message.view();
        let mut out = packet(&view, self.now);
        (out.qos, out.retain, out.subscription_ids) = (qos, retain, ids);
        out.packet_id = crate::base::PacketId::new(1);
        if !connection.fit(&mut out) {
            // Treated as sent [MQTT-3.1.2-25]: it takes no place in the window.
            return self.drop_one(DropCause::TooLarge, &view);
        }
        out.packet_id = Some(session.window.send(outgoing));
        self.inflight += 1;
        connection.write(&out, view.payload, &mut self.output);
        self.counters.publishes_sent += 1;
    }

    /// Sends what waits for a session, as far as its window and its out buffer have room:
    /// retransmissions first, then the outbox, then late QoS 0 messages.
    #[inline]
    pub(super) fn refill(&mut self, slot: SessionSlot) {
        let Some(session) = self.sessions.get(slot) else { return };
        let Some(connection) = session.connection.and_then(|key| self.connections.get(key)) else {
            return;
        };
        if session.has_waiting() || !connection.late.is_empty() {
            self.send_waiting(slot);
        }
    }

    fn send_waiting(&mut self, slot: SessionSlot) {
        self.resend(slot);
        let high_water = self.settings.limits.out_buffer_bytes;
        loop {
            let Some(session) = self.sessions.get_mut(slot) else { return };
            let Some(key) = session.connection else { return };
            let Some(connection) = self.connections.get_mut(key) else { return };
            if connection.phase != Phase::Open || connection.pending_bytes() >= high_water {
                return;
            }
            if session.window.has_room(usize::from(connection.receive_maximum))
                && let Some(outgoing) = session.outbox.pop()
            {
                if outgoing.message.expires() <= self.now {
                    self.drop_one(DropCause::Expired, &outgoing.message.view());
                } else {
                    self.send_acknowledged(slot, outgoing);
                }
                continue;
            }
            let Some(outgoing) = connection.late.pop() else { break };
            self.send_stored(key, &outgoing);
        }
        self.note_crowd(slot);
        if self.sessions.get(slot).is_some_and(|session| !session.replays.is_empty()) {
            self.drained.push(slot);
        }
    }

    fn send_stored(&mut self, key: ConnectionKey, outgoing: &Outgoing) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if outgoing.message.expires() <= self.now {
            return self.drop_one(DropCause::Expired, &outgoing.message.view());
        }
        let view = outgoing.message.view();
        let mut out = packet(&view, self.now);
        out.retain = outgoing.retain;
        out.subscription_ids = outgoing.identifiers.list(&mut self.identifiers);
        if !connection.fit(&mut out) {
            return self.drop_one(DropCause::TooLarge, &view);
        }
        connection.write(&out, view.payload, &mut self.output);
        self.counters.deliveries_sent += 1;
        self.counters.publishes_sent += 1;
    }

    /// Sends again what was in flight when the last connection ended [MQTT-4.4.0-1].
    fn resend(&mut self, slot: SessionSlot) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(connection) = session.connection.and_then(|k| self.connections.get_mut(k)) else {
            return;
        };
        let limit = usize::from(connection.receive_maximum);
        let high_water = self.settings.limits.out_buffer_bytes;
        let version = connection.version;
        let (mut too_large, mut bytes) = (0, 0);
        while connection.pending_bytes() < high_water
            && let Some(resend) = session.window.next_resend(limit)
        {
            let release = match resend {
                Resend::Release(id) => Some(id),
                Resend::Publish(id, outgoing) => {
                    let qos = outgoing.qos;
                    let view = outgoing.message.view();
                    let mut out = packet(&view, self.now);
                    (out.dup, out.qos, out.retain) = (true, qos, outgoing.retain);
                    out.packet_id = Some(id);
                    out.subscription_ids = outgoing.identifiers.list(&mut self.identifiers);
                    if connection.fit(&mut out) {
                        connection.write(&out, view.payload, &mut self.output);
                        self.counters.publishes_sent += 1;
                        continue;
                    }
                    // Treated as sent [MQTT-3.1.2-25].
                    too_large += 1;
                    bytes += outgoing.message.content_bytes();
                    if qos == QoS::AtLeastOnce {
                        self.inflight -= usize::from(session.window.acknowledge(id).is_some());
                        continue;
                    }
                    // The client may have got it on its last connection and hold the identifier
                    // until it is released.
                    session.window.received(id, false);
                    Some(id)
                }
            };
            if let Some(id) = release {
                let (kind, reason) = (codec::PacketType::Pubrel, ReasonCode::SUCCESS);
                let writer = connection.writer(&mut self.output);
                codec::encode_ack(kind, version, id, reason, None, writer);
                self.counters.answers_sent += 1;
            }
        }
        self.dropped(DropCause::TooLarge, too_large, bytes);
    }

    /// How many messages a member of a share group has not finished; none: it is not online.
    pub(super) fn load(&mut self, member: &Subscriber) -> Option<u32> {
        let slot = slot_of(member.session);
        self.open_connection(slot)?;
        let session = self.sessions.get(slot)?;
        Some((session.window.len() + session.outbox.len()) as u32)
    }

    /// Whether `publisher` is this session, for no-local [MQTT-3.8.3-3].
    #[inline]
    pub(super) fn is_own(&self, subscriber: &Subscriber, publisher: PublisherId) -> bool {
        subscriber.no_local
            && PublisherId::session(self.me, slot_of(subscriber.session)) == publisher
    }

    /// Whether a session has room for `count` more replayed messages.
    pub(super) fn takes_replay(&self, slot: SessionSlot, count: usize) -> bool {
        let Some(session) = self.sessions.get(slot) else { return false };
        let Some(connection) = session.connection.and_then(|key| self.connections.get(key)) else {
            return false;
        };
        connection.pending_bytes() < self.settings.limits.out_buffer_bytes / 2
            && session.outbox.len() + count <= self.settings.session.outbox_messages / 2 + 1
            && session.outbox.bytes() <= self.settings.session.outbox_bytes / 2
    }
}
