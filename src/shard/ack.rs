//! Acknowledgements from clients, and the owners' answers about their publishes.

use super::Shard;
use super::connection::ConnectionKey;
use super::session::SessionSlot;
use super::waiting::Cause;
use crate::base::PacketId;
use crate::codec::{self, Ack, PacketType, QoS, ReasonCode};
use crate::session::Pubrec;

impl Shard {
    /// PUBACK: the QoS 1 message is the client's.
    pub(super) fn puback(&mut self, key: ConnectionKey, ack: &Ack<'_>) {
        let Some(slot) = self.session_of(key) else { return };
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        let at_least_once = session
            .window
            .published(ack.packet_id)
            .is_some_and(|outgoing| outgoing.qos == codec::QoS::AtLeastOnce);
        if at_least_once && session.window.acknowledge(ack.packet_id).is_some() {
            self.clients.counters.deliveries_acknowledged += 1;
            self.clients.inflight -= 1;
            self.clients.refill(slot);
        }
    }

    /// PUBREC: answer PUBREL, or drop what the client refused [MQTT-4.3.3-4].
    pub(super) fn pubrec(&mut self, key: ConnectionKey, ack: &Ack<'_>) {
        let Some(slot) = self.session_of(key) else { return };
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        let published = session.window.published(ack.packet_id);
        let first = published.is_some_and(|outgoing| outgoing.qos == codec::QoS::ExactlyOnce);
        let outcome = if first || published.is_none() {
            self.clients.counters.deliveries_acknowledged += u64::from(first);
            session.window.received(ack.packet_id, ack.reason.is_error())
        } else {
            Pubrec::Unknown
        };
        match outcome {
            Pubrec::Release => self.acknowledge(key, PacketType::Pubrel, ack.packet_id, None),
            Pubrec::Refused => {
                self.clients.inflight -= 1;
                self.clients.refill(slot);
            }
            Pubrec::Unknown => self.acknowledge(
                key,
                PacketType::Pubrel,
                ack.packet_id,
                Some(ReasonCode::PACKET_IDENTIFIER_NOT_FOUND),
            ),
        }
    }

    /// PUBCOMP: the QoS 2 message is finished.
    pub(super) fn pubcomp(&mut self, key: ConnectionKey, ack: &Ack<'_>) {
        let Some(slot) = self.session_of(key) else { return };
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        if session.window.complete(ack.packet_id) {
            self.clients.inflight -= 1;
            self.clients.refill(slot);
        }
    }

    /// PUBREL: the client's identifier is free again; always answered [MQTT-4.3.3-11].
    pub(super) fn pubrel(&mut self, key: ConnectionKey, ack: &Ack<'_>) {
        let Some(slot) = self.session_of(key) else { return };
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        let known = session.receiving.release(ack.packet_id);
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.unreleased = connection.unreleased.saturating_sub(1);
        }
        let unknown = (!known).then_some(ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
        self.acknowledge(key, PacketType::Pubcomp, ack.packet_id, unknown);
    }

    fn acknowledge(
        &mut self,
        key: ConnectionKey,
        kind: PacketType,
        id: PacketId,
        reason: Option<ReasonCode>,
    ) {
        let reason = reason.unwrap_or(ReasonCode::SUCCESS);
        let connection = self.clients.connections.get(key);
        let text = connection.and_then(|connection| connection.explanation(kind, reason));
        self.clients.explain(key, text, |version, text, out| {
            codec::encode_ack(kind, version, id, reason, text, out);
        });
    }

    /// The owner of a forwarded PUBLISH has spoken. A session that has gone in the meantime
    /// misses it; a new connection of the session gets it.
    pub(super) fn settle(&mut self, slot: SessionSlot, id: PacketId, qos: QoS, reason: ReasonCode) {
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        if qos == QoS::ExactlyOnce {
            session.receiving.settle(id, !reason.is_error());
        }
        let Some(key) = session.connection else { return };
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.acks.settle(id, qos, reason);
            let waits = connection.stalled == Some(Cause::Answers);
            self.clients.flush_acks(key);
            if waits && !self.is_swamped(key) {
                self.resume(key);
            }
        }
    }
}
