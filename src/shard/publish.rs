//! A PUBLISH from a client of this core: checks, then acceptance here or a request to its owner.

use super::accept::Duty;
use super::connection::{ConnectionKey, TopicCache};
use super::entry::{self, AckTo, Scope};
use super::input::Flow;
use super::placement::Route;
use super::session::{SessionSlot, slot_of};
use super::waiting::Cause;
use super::{MessageId, Shard};
use crate::base::{PacketId, PublisherId, ShardId, Time};
use crate::codec::{DecodeError, Publish, QoS, ReasonCode, Version};
use crate::index::Matched;
use crate::session::{Arrival, MessageView, Payload};
use crate::topic::{AliasTable, TopicName};
use std::rc::Rc;

/// What became of a routed message.
pub(super) enum Routed {
    /// This shard accepted or refused it, as the reason code says.
    Decided(ReasonCode),
    /// Its owner will say.
    Forwarded,
}

/// Where a message goes, as the topic cache of its connection knows it.
pub(super) struct Destination {
    pub(super) owner: ShardId,
    pub(super) by_publisher: bool,
    pub(super) matched: Option<Rc<Matched>>,
}

impl Shard {
    /// Handles a PUBLISH. Nothing is changed when it stalls.
    pub(super) fn publish(&mut self, key: ConnectionKey, publish: &Publish<'_>) -> Flow {
        let mut aliased = String::new();
        let topic = match self.resolve_alias(key, publish, &mut aliased) {
            Ok(topic) => topic,
            Err(error) => return self.fault(key, &error),
        };
        let Some(destination) = self.destination(key, topic) else {
            return self.fault(
                key,
                &DecodeError { reason: ReasonCode::TOPIC_NAME_INVALID, what: "topic name" },
            );
        };
        if let Err(error) = self.check_publish(key, publish, topic) {
            return self.fault(key, &error);
        }
        let Some(slot) = self.session_of(key) else { return Flow::Stop };
        let flow = match publish.packet_id {
            Some(id) if publish.qos == QoS::ExactlyOnce => {
                self.publish_once(key, slot, publish, topic, destination, id)
            }
            id => self.publish_at_least(key, slot, publish, topic, destination, id),
        };
        if matches!(flow, Flow::Next) {
            self.clients.counters.publishes_received += 1;
            self.keep_alias(key, publish);
        }
        flow
    }

    pub(super) fn session_of(&self, key: ConnectionKey) -> Option<SessionSlot> {
        self.clients.connections.get(key)?.session.map(slot_of)
    }

    /// The topic of a PUBLISH, through its alias if it has no name [MQTT-3.3.2-7].
    fn resolve_alias<'t>(
        &mut self,
        key: ConnectionKey,
        publish: &Publish<'t>,
        aliased: &'t mut String,
    ) -> Result<&'t str, DecodeError> {
        let Some(alias) = publish.properties.topic_alias else { return Ok(publish.topic) };
        let invalid = DecodeError { reason: ReasonCode::TOPIC_ALIAS_INVALID, what: "topic alias" };
        if alias > self.clients.settings.limits.topic_alias_maximum {
            return Err(invalid);
        }
        if !publish.topic.is_empty() {
            return Ok(publish.topic);
        }
        let connection = self.clients.connections.get(key);
        let known = connection.and_then(|c| c.aliases.as_ref()?.get(alias));
        aliased.push_str(known.ok_or(DecodeError {
            reason: ReasonCode::PROTOCOL_ERROR,
            what: "a topic alias that was never given a topic",
        })?);
        Ok(aliased)
    }

    fn keep_alias(&mut self, key: ConnectionKey, publish: &Publish<'_>) {
        let Some(alias) = publish.properties.topic_alias else { return };
        let maximum = self.clients.settings.limits.topic_alias_maximum;
        if let Some(connection) = self.clients.connections.get_mut(key)
            && !publish.topic.is_empty()
        {
            let table =
                connection.aliases.get_or_insert_with(|| Box::new(AliasTable::new(maximum)));
            table.set(alias, publish.topic);
        }
    }

    /// Looks the topic up, through the connection's cache. `None`: not a valid topic name.
    #[inline]
    fn destination(&mut self, key: ConnectionKey, topic: &str) -> Option<Destination> {
        let connection = self.clients.connections.get_mut(key)?;
        let cache = connection.topic.get_or_insert_default();
        if cache.topic != topic {
            let name = TopicName::new(topic).ok()?;
            let placement = &self.clients.settings.placement;
            cache.owner = placement.owner(name.as_str());
            cache.by_publisher =
                cache.owner != self.me && placement.route(topic) == Route::Publisher;
            cache.matched = None;
            cache.topic.clear();
            cache.topic.push_str(topic);
        }
        let TopicCache { owner, by_publisher, .. } = **cache;
        if owner != self.me && !by_publisher {
            return Some(Destination { owner, by_publisher, matched: None });
        }
        if !cache.matched.as_ref().is_some_and(|matched| self.index.is_current(matched)) {
            cache.matched = Some(self.index.matches(TopicName::assume_checked(topic)));
        }
        Some(Destination { owner, by_publisher, matched: cache.matched.clone() })
    }

    fn check_publish(
        &mut self,
        key: ConnectionKey,
        publish: &Publish<'_>,
        topic: &str,
    ) -> Result<(), DecodeError> {
        let limits = &self.clients.settings.limits;
        if !publish.properties.subscription_ids.is_empty() {
            let what = "a subscription identifier in a PUBLISH of a client";
            return Err(DecodeError { reason: ReasonCode::PROTOCOL_ERROR, what });
        }
        if topic.bytes().filter(|byte| *byte == b'/').count() >= limits.topic_levels {
            let what = "too many topic levels";
            return Err(DecodeError { reason: ReasonCode::TOPIC_NAME_INVALID, what });
        }
        if publish.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let Some(connection) = self.clients.connections.get(key) else { return Ok(()) };
        let session = connection.session.and_then(|s| self.clients.sessions.get(slot_of(s)));
        let in_use =
            connection.acks.at_least_once() + session.map_or(0, |session| session.receiving.len());
        let maximum = usize::from(self.clients.settings.session.receive_maximum);
        // Repetitions of a QoS 2 message don't add to what is in use.
        let repeats = connection.acks.len() > 4 * maximum;
        if repeats || in_use >= maximum && connection.version == Version::V5 && !publish.dup {
            let what = "more messages in flight than the receive maximum";
            return Err(DecodeError { reason: ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, what });
        }
        Ok(())
    }

    fn view<'v>(
        &self,
        slot: SessionSlot,
        publish: &Publish<'v>,
        topic: &'v str,
        properties: &'v [u8],
    ) -> MessageView<'v> {
        let expiry = publish.properties.message_expiry;
        let now = self.clients.now;
        MessageView {
            id: MessageId {
                origin: self.me,
                epoch: self.clients.settings.epoch,
                sequence: self.message_sequence + 1,
            },
            publisher: PublisherId::session(self.me, slot),
            expires: expiry.map_or(Time::NEVER, |seconds| now.plus_secs(u64::from(seconds))),
            qos: publish.qos,
            retain: publish.retain,
            topic,
            properties,
            payload: Payload::Inline(publish.payload),
        }
    }

    /// QoS 0 and 1.
    fn publish_at_least(
        &mut self,
        key: ConnectionKey,
        slot: SessionSlot,
        publish: &Publish<'_>,
        topic: &str,
        destination: Destination,
        id: Option<PacketId>,
    ) -> Flow {
        match self.route_publish(slot, publish, topic, destination) {
            Err(cause) => return Flow::Stall(cause),
            Ok(Routed::Forwarded) => {
                if let Some(id) = id {
                    self.owe_ack(key, id, QoS::AtLeastOnce, None);
                }
            }
            Ok(Routed::Decided(reason)) => {
                if let Some(id) = id {
                    self.owe_ack(key, id, QoS::AtLeastOnce, Some(reason));
                }
            }
        }
        Flow::Next
    }

    /// QoS 2: forwarded once, however often it is repeated.
    fn publish_once(
        &mut self,
        key: ConnectionKey,
        slot: SessionSlot,
        publish: &Publish<'_>,
        topic: &str,
        destination: Destination,
        id: PacketId,
    ) -> Flow {
        let Some(session) = self.clients.sessions.get_mut(slot) else { return Flow::Stop };
        match session.receiving.publish(id) {
            Arrival::Awaiting => self.owe_ack(key, id, QoS::ExactlyOnce, None),
            Arrival::Accepted => {
                self.owe_ack(key, id, QoS::ExactlyOnce, Some(ReasonCode::SUCCESS));
            }
            Arrival::New => match self.route_publish(slot, publish, topic, destination) {
                Err(cause) => {
                    if let Some(session) = self.clients.sessions.get_mut(slot) {
                        session.receiving.settle(id, false);
                    }
                    return Flow::Stall(cause);
                }
                Ok(Routed::Forwarded) => self.owe_ack(key, id, QoS::ExactlyOnce, None),
                Ok(Routed::Decided(reason)) => {
                    if let Some(session) = self.clients.sessions.get_mut(slot) {
                        session.receiving.settle(id, !reason.is_error());
                    }
                    self.owe_ack(key, id, QoS::ExactlyOnce, Some(reason));
                }
            },
        }
        Flow::Next
    }

    /// Notes an acknowledgement and sends what may leave.
    fn owe_ack(&mut self, key: ConnectionKey, id: PacketId, qos: QoS, reason: Option<ReasonCode>) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        connection.acks.push(id, qos, reason);
        self.clients.flush_acks(key);
    }

    fn route_publish(
        &mut self,
        slot: SessionSlot,
        publish: &Publish<'_>,
        topic: &str,
        destination: Destination,
    ) -> Result<Routed, Cause> {
        let mut properties = Vec::new();
        if publish.properties.has_forwarded() {
            publish.properties.write_forwarded(&mut properties);
        }
        let view = self.view(slot, publish, topic, &properties);
        let ack = publish.packet_id.map(|packet_id| AckTo { session: slot.to_bits(), packet_id });
        let routed = self.route(&view, destination, ack)?;
        self.message_sequence += 1;
        Ok(routed)
    }

    /// Routes a message: accepts it here, or asks its owner.
    pub(super) fn route(
        &mut self,
        view: &MessageView<'_>,
        destination: Destination,
        ack: Option<AckTo>,
    ) -> Result<Routed, Cause> {
        let Destination { owner, by_publisher, matched } = destination;
        if owner == self.me {
            let matched = matched
                .unwrap_or_else(|| self.index.matches(TopicName::assume_checked(view.topic)));
            return self.accept(view, &matched, Duty::Owner).map(Routed::Decided);
        }
        if let Some(matched) = matched.filter(|_| by_publisher && !view.retain) {
            let groups = self.index.has_groups(&matched);
            if groups {
                self.check_request(owner, view, ack)?;
            }
            let reason = self.accept(view, &matched, Duty::Publisher)?;
            if !groups || reason.is_error() {
                return Ok(Routed::Decided(reason));
            }
            self.request_publish(owner, view, Scope::Groups, ack);
            return Ok(Routed::Forwarded);
        }
        self.check_request(owner, view, ack)?;
        self.request_publish(owner, view, Scope::Whole, ack);
        Ok(Routed::Forwarded)
    }

    fn check_request(
        &mut self,
        owner: ShardId,
        view: &MessageView<'_>,
        ack: Option<AckTo>,
    ) -> Result<(), Cause> {
        let cause = Cause::Request(owner);
        if self.turn_left == 0 {
            return Err(Cause::Budget);
        }
        let len = entry::message_entry_len(view, 0);
        if self.waiting.must_queue(cause)
            || !self.mesh.request_room(owner, len, usize::from(ack.is_some()))
        {
            return Err(cause);
        }
        Ok(())
    }

    fn request_publish(
        &mut self,
        owner: ShardId,
        view: &MessageView<'_>,
        scope: Scope,
        ack: Option<AckTo>,
    ) {
        let len = entry::message_entry_len(view, 0);
        self.turn_left = self.turn_left.saturating_sub(len);
        let block = self.mesh.request(owner, len, usize::from(ack.is_some()));
        entry::write_publish(block, view, scope, ack);
        self.clients.counters.forwarded += 1;
    }
}
