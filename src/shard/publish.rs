//! A PUBLISH from a client of this core: checks, then acceptance here or a request to its owner.

use super::accept::Duty;
use super::connection::{ConnectionKey, TopicCache, Verdicts};
use super::counters::DropCause;
use super::entry::{self, AckTo, Scope};
use super::input::Flow;
use super::placement::Route;
use super::session::{SessionSlot, slot_of};
use super::sys::is_reserved;
use super::waiting::Cause;
use super::{MessageId, Shard};
use crate::base::{PacketId, PublisherId, ShardId, Time};
use crate::codec::{DecodeError, Publish, QoS, ReasonCode, Version};
use crate::index::Matched;
use crate::session::{Arrival, MessageView, Payload};
use crate::topic::{AliasTable, Delayed, TopicName, delayed, level_count};
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
    /// The topic asks for a delay: its owner holds the message.
    pub(super) delayed: bool,
    pub(super) matched: Option<Rc<Matched>>,
}

/// What a topic is to a client.
#[derive(Default)]
struct Nature {
    levels: usize,
    /// Only the broker publishes there.
    reserved: bool,
    /// There are rules about the client.
    guarded: bool,
}

impl Shard {
    /// Handles a PUBLISH. Nothing is changed when it stalls.
    pub(super) fn publish(&mut self, key: ConnectionKey, publish: &Publish<'_>) -> Flow {
        let mut aliased = String::new();
        let topic = match self.resolve_alias(key, publish, &mut aliased) {
            Ok(topic) => topic,
            Err(error) => return self.fault(key, &error),
        };
        let flow = if self.has_rewrites() {
            let rewritten = self.rewrite_topic(&self.identity(key), topic);
            self.publish_rewritten(key, publish, topic, &rewritten)
        } else {
            self.publish_to(key, publish, topic)
        };
        if matches!(flow, Flow::Next) {
            self.clients.counters.publishes_received += 1;
            self.keep_alias(key, publish);
        }
        flow
    }

    /// A rule's fault is not the client's: what it makes unusable is refused, and that is all.
    fn publish_rewritten(
        &mut self,
        key: ConnectionKey,
        publish: &Publish<'_>,
        named: &str,
        topic: &str,
    ) -> Flow {
        if topic == named || TopicName::new(topic).is_ok() {
            return self.publish_to(key, publish, topic);
        }
        match self.check_publish(key, publish, level_count(delayed::target(named))) {
            Ok(()) => self.refuse_publish(key, publish, ReasonCode::TOPIC_NAME_INVALID),
            Err(error) => self.fault(key, &error),
        }
    }

    fn publish_to(&mut self, key: ConnectionKey, publish: &Publish<'_>, topic: &str) -> Flow {
        let Some(destination) = self.destination(key, topic) else {
            return self.fault(
                key,
                &DecodeError { reason: ReasonCode::TOPIC_NAME_INVALID, what: "topic name" },
            );
        };
        let Nature { levels, reserved, guarded } = self.nature_of(key);
        if let Err(error) = self.check_publish(key, publish, levels) {
            return self.fault(key, &error);
        }
        if publish.qos > QoS::AtMostOnce && self.is_swamped(key) {
            return Flow::Stall(Cause::Answers);
        }
        let Some(slot) = self.session_of(key) else { return Flow::Stop };
        let refused = if destination.delayed { self.refused_delay(topic) } else { None };
        match (refused, publish.packet_id) {
            (_, id) if reserved => self.publish_nowhere(key, publish, id, DropCause::Reserved),
            (_, id) if guarded && !self.may_publish(key, publish, topic) => {
                self.publish_nowhere(key, publish, id, DropCause::Denied)
            }
            _ if self.is_misformatted(slot, publish) => self.refuse_payload(key, publish),
            (Some(reason), _) => self.refuse_publish(key, publish, reason),
            (None, Some(id)) if publish.qos == QoS::ExactlyOnce => {
                self.publish_once(key, slot, publish, topic, destination, id)
            }
            (None, id) => self.publish_at_least(key, slot, publish, topic, destination, id),
        }
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
        let connection = self.clients.connections.get(key);
        if connection.is_none_or(|connection| alias > connection.promised.alias_maximum) {
            return Err(invalid);
        }
        if !publish.topic.is_empty() {
            return Ok(publish.topic);
        }
        let known = connection.and_then(|c| c.aliases.as_ref()?.get(alias));
        aliased.push_str(known.ok_or(DecodeError {
            reason: ReasonCode::PROTOCOL_ERROR,
            what: "a topic alias that was never given a topic",
        })?);
        Ok(aliased)
    }

    fn keep_alias(&mut self, key: ConnectionKey, publish: &Publish<'_>) {
        let Some(alias) = publish.properties.topic_alias else { return };
        if let Some(connection) = self.clients.connections.get_mut(key)
            && !publish.topic.is_empty()
        {
            let maximum = connection.promised.alias_maximum;
            let table =
                connection.aliases.get_or_insert_with(|| Box::new(AliasTable::new(maximum)));
            let before = table.bytes();
            table.set(alias, publish.topic);
            self.clients.output.aliases += table.bytes() - before;
        }
    }

    /// Looks the topic up, through the connection's cache. `None`: not a valid topic name.
    #[inline]
    fn destination(&mut self, key: ConnectionKey, topic: &str) -> Option<Destination> {
        let cache = self.look_up(key, topic)?;
        let TopicCache { owner, by_publisher, delayed, .. } = *cache;
        Some(Destination { owner, by_publisher, delayed, matched: cache.matched.clone() })
    }

    /// Brings the connection's cache up to date for `topic`. `None`: not a valid topic name.
    #[inline]
    pub(super) fn look_up(&mut self, key: ConnectionKey, topic: &str) -> Option<&TopicCache> {
        let connection = self.clients.connections.get_mut(key)?;
        let cache = connection.topic.get_or_insert_default();
        if cache.topic != topic {
            let name = TopicName::new(topic).ok()?;
            let placement = &self.clients.settings.placement;
            cache.owner = placement.owner(name.as_str());
            cache.delayed = Delayed::is_asked(topic);
            cache.by_publisher = cache.owner != self.me
                && !cache.delayed
                && placement.route(topic) == Route::Publisher;
            let target = delayed::target(topic);
            cache.levels = level_count(target);
            cache.reserved = is_reserved(target);
            cache.matched = None;
            cache.verdicts = Verdicts::default();
            cache.topic.clear();
            cache.topic.push_str(topic);
        }
        let elsewhere = cache.owner != self.me && !cache.by_publisher;
        if elsewhere && !self.index.has_crowds() || cache.delayed {
            cache.matched = None;
            return Some(cache);
        }
        if !cache.matched.as_ref().is_some_and(|matched| self.index.is_current(matched)) {
            cache.matched = Some(self.index.matches(TopicName::assume_checked(topic)));
        }
        Some(cache)
    }

    /// What must be known of the topic that was looked up last before anything is published to it.
    #[inline]
    fn nature_of(&self, key: ConnectionKey) -> Nature {
        let connection = self.clients.connections.get(key);
        let cached = connection.and_then(|c| Some((c.guarded, c.topic.as_ref()?)));
        cached.map_or(Nature::default(), |(guarded, cache)| Nature {
            levels: cache.levels,
            reserved: cache.reserved,
            guarded,
        })
    }

    fn check_publish(
        &mut self,
        key: ConnectionKey,
        publish: &Publish<'_>,
        levels: usize,
    ) -> Result<(), DecodeError> {
        let limits = &self.clients.settings.limits;
        if !publish.properties.subscription_ids.is_empty() {
            let what = "a subscription identifier in a PUBLISH of a client";
            return Err(DecodeError { reason: ReasonCode::PROTOCOL_ERROR, what });
        }
        if levels > limits.topic_levels {
            let what = "too many topic levels";
            return Err(DecodeError { reason: ReasonCode::TOPIC_NAME_INVALID, what });
        }
        self.check_capabilities(publish)?;
        if publish.qos == QoS::AtMostOnce {
            return Ok(());
        }
        let Some(connection) = self.clients.connections.get(key) else { return Ok(()) };
        let in_use = connection.acks.at_least_once() + usize::from(connection.unreleased);
        let maximum = usize::from(connection.promised.receive_maximum);
        if in_use >= maximum && connection.version == Version::V5 {
            // [MQTT-3.3.4-7]
            let what = "more messages in flight than the receive maximum";
            return Err(DecodeError { reason: ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, what });
        }
        Ok(())
    }

    /// Whether the message uses only what is offered.
    fn check_capabilities(&self, publish: &Publish<'_>) -> Result<(), DecodeError> {
        let protocol = &self.clients.settings.protocol;
        if publish.properties.response_topic.is_some_and(|topic| TopicName::new(topic).is_err()) {
            // [MQTT-3.3.2-14]
            let what = "the response topic is no topic name";
            return Err(DecodeError { reason: ReasonCode::PROTOCOL_ERROR, what });
        }
        if publish.qos as u16 > protocol.maximum_qos {
            // [MQTT-3.2.2-11]
            let what = "the QoS is not offered";
            return Err(DecodeError { reason: ReasonCode::QOS_NOT_SUPPORTED, what });
        }
        if publish.retain && !protocol.retain_available {
            // [MQTT-3.2.2-14]
            let what = "retained messages are not offered";
            return Err(DecodeError { reason: ReasonCode::RETAIN_NOT_SUPPORTED, what });
        }
        Ok(())
    }

    /// Whether so many answers are due that the client has to wait. MQTT 3.x knows no receive
    /// maximum; with MQTT 5 it never comes so far.
    pub(super) fn is_swamped(&self, key: ConnectionKey) -> bool {
        self.clients.connections.get(key).is_some_and(|connection| {
            connection.acks.len() >= 4 * usize::from(connection.promised.receive_maximum)
        })
    }

    /// Whether the payload is announced as UTF-8 and is not. A repetition is judged as the
    /// original was.
    fn is_misformatted(&self, slot: SessionSlot, publish: &Publish<'_>) -> bool {
        if !publish.properties.payload_format_utf8
            || !self.clients.settings.protocol.validate_payload_format
        {
            return false;
        }
        let known =
            publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce).is_some_and(|id| {
                self.clients.sessions.get(slot).is_some_and(|s| s.receiving.holds(id))
            });
        !known && simdutf8::basic::from_utf8(publish.payload).is_err()
    }

    fn refuse_payload(&mut self, key: ConnectionKey, publish: &Publish<'_>) -> Flow {
        let reason = ReasonCode::PAYLOAD_FORMAT_INVALID;
        let Some(id) = publish.packet_id else {
            let what = "the payload is not UTF-8 as announced";
            return self.fault(key, &DecodeError { reason, what });
        };
        self.owe_ack(key, id, publish.qos, Some(reason));
        Flow::Next
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
                if id.is_none() && reason.is_error() {
                    self.drop_publish(DropCause::Refused, publish);
                }
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

    /// Refuses a message and lets the connection live, as far as an acknowledgement can say so: a
    /// refused QoS 0 message is counted as dropped, an MQTT 3 client is closed instead of told that
    /// all is well [MQTT-3.3.5-2].
    fn refuse_publish(
        &mut self,
        key: ConnectionKey,
        publish: &Publish<'_>,
        reason: ReasonCode,
    ) -> Flow {
        match publish.packet_id {
            None => self.drop_publish(DropCause::Refused, publish),
            Some(id) => {
                self.clients.counters.messages_refused += 1;
                self.owe_ack(key, id, publish.qos, Some(reason));
            }
        }
        Flow::Next
    }

    /// Notes an acknowledgement and sends what may leave.
    pub(super) fn owe_ack(
        &mut self,
        key: ConnectionKey,
        id: PacketId,
        qos: QoS,
        reason: Option<ReasonCode>,
    ) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        connection.acks.push(id, qos, reason);
        if qos == QoS::ExactlyOnce {
            connection.unreleased = connection.unreleased.saturating_add(1);
        }
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
        let Destination { owner, by_publisher, delayed, matched } = destination;
        if owner == self.me {
            if let Some(Ok(delayed)) = Delayed::parse(view.topic).filter(|_| delayed) {
                return self.hold(view, delayed).map(Routed::Decided);
            }
            let matched = matched
                .unwrap_or_else(|| self.index.matches(TopicName::assume_checked(view.topic)));
            return self.accept(view, &matched, Duty::Owner).map(Routed::Decided);
        }
        if let Some(matched) = matched.as_ref().filter(|_| by_publisher && !view.retain) {
            let (_, groups, _) = self.index.survey(matched);
            if groups {
                self.check_request(owner, view, ack)?;
            }
            let reason = self.accept(view, matched, Duty::Publisher)?;
            if !groups || reason.is_error() {
                return Ok(Routed::Decided(reason));
            }
            self.request_publish(owner, view, (Scope::Groups, 0), ack);
            return Ok(Routed::Forwarded);
        }
        self.check_request(owner, view, ack)?;
        let crowd = self.largest_crowd(matched, view.topic);
        self.check_crowd_at_owner(owner, crowd)?;
        self.request_publish(owner, view, (Scope::Whole, crowd), ack);
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
        (scope, crowd): (Scope, usize),
        ack: Option<AckTo>,
    ) {
        let len = entry::message_entry_len(view, 0);
        self.turn_left = self.turn_left.saturating_sub(len);
        let block = self.mesh.request(owner, len, usize::from(ack.is_some()));
        block.crowd += crowd;
        entry::write_publish(block, view, scope, ack);
        self.clients.counters.forwarded += 1;
    }

    /// Counts a PUBLISH that nothing was made of: its topic and payload as they came.
    #[cold]
    #[inline(never)]
    pub(super) fn drop_publish(&mut self, cause: DropCause, publish: &Publish<'_>) {
        self.clients.dropped(cause, 1, publish.topic.len() + publish.payload.len());
    }
}
