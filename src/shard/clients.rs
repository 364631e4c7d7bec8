//! The sessions and connections of one core and the bytes on their way out. Kept apart from the
//! index so that a fan-out can walk the one while it writes to the other.

use super::connection::{Connection, ConnectionKey, Phase};
use super::counters::{Counters, DropCause};
use super::memory::Pressure;
use super::session::{Session, SessionSlot, Subscribed};
use super::settings::Settings;
use super::slow::Slow;
use crate::base::{ShardId, Slots, Time};
use crate::codec::{self, PublishOut, ReasonCode, Version};
use crate::session::{Ledger, MessageView, Payload};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Empty buffers kept for reuse, and the largest one worth keeping.
const SPARE_BUFFERS: usize = 1024;
const SPARE_BYTES: usize = 64 * 1024;

/// Connections with output, in rotation, and buffers without content.
#[derive(Default)]
pub(super) struct Output {
    pub(super) dirty: VecDeque<ConnectionKey>,
    pub(super) spare: Vec<Vec<u8>>,
    /// Encoded bytes that clients have not taken yet, but for each connection's last packet.
    pub(super) bytes: usize,
    /// Bytes of the topic aliases of all connections, in both directions.
    pub(super) aliases: usize,
}

impl Output {
    /// Keeps `buffer` for the next connection that needs one.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= SPARE_BYTES && self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

impl Connection {
    /// Where packets for this connection are appended; puts it on the dirty list.
    #[inline]
    pub(super) fn writer(&mut self, output: &mut Output) -> &mut Vec<u8> {
        if !self.dirty {
            self.dirty = true;
            output.dirty.push_back(self.key);
        }
        if self.out.capacity() == 0
            && let Some(buffer) = output.spare.pop()
        {
            self.out = buffer;
        }
        output.bytes += self.out.len() - self.counted;
        self.counted = self.out.len();
        &mut self.out
    }

    /// Writes a PUBLISH that [`Connection::fit`] has named and that carries `payload`.
    #[inline]
    pub(super) fn write(
        &mut self,
        packet: &PublishOut<'_>,
        payload: Payload<'_>,
        output: &mut Output,
    ) {
        match payload {
            Payload::Shared(bytes) if payload.is_large() => {
                packet.encode_head(self.version, 0, self.writer(output));
                output.bytes += self.push_shared(bytes.clone());
            }
            Payload::Inline(_) | Payload::Shared(_) => {
                packet.encode(self.version, self.writer(output));
            }
        }
        if let Some(alias) = packet.alias
            && !packet.topic.is_empty()
        {
            self.named(alias, packet.topic, output);
        }
    }
}

/// Sessions and connections of one core.
pub(super) struct Clients {
    pub(super) me: ShardId,
    pub(super) now: Time,
    pub(super) settings: Settings,
    pub(super) sessions: Slots<Session>,
    pub(super) by_id: HashMap<Box<str>, SessionSlot, RandomState>,
    pub(super) connections: Slots<Connection>,
    pub(super) output: Output,
    pub(super) counters: Counters,
    /// Connections to be closed as soon as nobody walks the index.
    pub(super) doomed: Vec<(ConnectionKey, ReasonCode)>,
    /// Sessions whose output shrank or whose window opened while replays wait.
    pub(super) drained: Vec<SessionSlot>,
    /// Scratch of the encoder.
    pub(super) scratch: Vec<u8>,
    pub(super) identifiers: Vec<u32>,
    /// Sessions with a connection, subscriptions of all sessions, and messages in their windows.
    pub(super) connected: usize,
    pub(super) subscriptions: usize,
    pub(super) inflight: usize,
    /// Bytes in all inboxes.
    pub(super) unfinished: usize,
    /// Bytes of all stored messages.
    pub(super) ledger: Ledger,
    /// How much of its memory this core has used up.
    pub(super) pressure: Pressure,
    /// Its turns have become too long.
    pub(super) overloaded: bool,
    /// Outboxes close to their bounds, where `overflow` is `refuse`.
    pub(super) full_outboxes: usize,
    /// Who does not keep up.
    pub(super) slow: Slow,
}

/// Appends a packet with `text`, or without it where the packet would be larger than `largest`.
#[inline]
fn encode_within(
    largest: usize,
    text: Option<&str>,
    out: &mut Vec<u8>,
    encode: impl Fn(Option<&str>, &mut Vec<u8>),
) {
    let before = out.len();
    encode(text, out);
    if text.is_some() && out.len() - before > largest {
        out.truncate(before);
        encode(None, out);
    }
}

impl Clients {
    pub(super) fn new(me: ShardId, settings: Settings, now: Time) -> Clients {
        Clients {
            me,
            now,
            settings,
            sessions: Slots::default(),
            by_id: HashMap::default(),
            connections: Slots::default(),
            output: Output::default(),
            counters: Counters::default(),
            doomed: Vec::new(),
            drained: Vec::new(),
            scratch: Vec::new(),
            identifiers: Vec::new(),
            connected: 0,
            subscriptions: 0,
            inflight: 0,
            unfinished: 0,
            ledger: Ledger::default(),
            pressure: Pressure::default(),
            overloaded: false,
            full_outboxes: 0,
            slow: Slow::default(),
        }
    }

    /// Encodes a protocol answer for `key`. A client that never reads its answers is closed.
    pub(super) fn answer(
        &mut self,
        key: ConnectionKey,
        encode: impl FnOnce(Version, &mut Vec<u8>),
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase == Phase::Draining {
            return;
        }
        let (version, largest) = (connection.version, connection.maximum_packet as usize);
        let out = connection.writer(&mut self.output);
        let before = out.len();
        encode(version, out);
        if out.len() - before > largest {
            // It may not be sent [MQTT-3.1.2-24], and the client can't go on without it.
            out.truncate(before);
            return self.doomed.push((key, ReasonCode::PACKET_TOO_LARGE));
        }
        let added = connection.out.len() - before;
        connection.answered += added;
        self.counters.answers_sent += u64::from(added > 0);
        self.bound_answers(key);
    }

    /// Encodes an answer with a text that is left out where the packet would be larger than the
    /// client accepts [MQTT-3.2.2-19], [MQTT-3.6.2-2], [MQTT-3.7.2-2], [MQTT-3.9.2-1],
    /// [MQTT-3.11.2-1], [MQTT-3.14.2-3].
    pub(super) fn explain(
        &mut self,
        key: ConnectionKey,
        text: Option<&str>,
        encode: impl Fn(Version, Option<&str>, &mut Vec<u8>),
    ) {
        let largest = self.connections.get(key).map_or(u32::MAX, |c| c.maximum_packet) as usize;
        self.answer(key, |version, out| {
            encode_within(largest, text, out, |text, out| encode(version, text, out));
        });
    }

    /// Closes a connection that has far more answers waiting than it reads.
    fn bound_answers(&mut self, key: ConnectionKey) {
        let limits = &self.settings.limits;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.answered > limits.answer_bytes
            && connection.pending_bytes() > limits.out_buffer_bytes
        {
            self.counters.over_budget += 1;
            self.doomed.push((key, ReasonCode::QUOTA_EXCEEDED));
        }
    }

    /// Sends all acknowledgements that are settled and not behind an unsettled one.
    pub(super) fn flush_acks(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (version, largest) = (connection.version, connection.maximum_packet as usize);
        while let Some((packet_id, qos, reason)) = connection.acks.pop() {
            if reason.is_error() && version != Version::V5 {
                // MQTT 3.x can't refuse a message but by ending the connection.
                return self.doomed.push((key, reason));
            }
            let kind = match qos {
                codec::QoS::ExactlyOnce => codec::PacketType::Pubrec,
                codec::QoS::AtLeastOnce | codec::QoS::AtMostOnce => codec::PacketType::Puback,
            };
            let text = connection.explanation(kind, reason);
            let out = connection.writer(&mut self.output);
            let before = out.len();
            // [MQTT-3.4.2-2], [MQTT-3.5.2-2].
            encode_within(largest, text, out, |text, out| {
                codec::encode_ack(kind, version, packet_id, reason, text, out);
            });
            if out.len() - before > largest {
                out.truncate(before);
                return self.doomed.push((key, ReasonCode::PACKET_TOO_LARGE));
            }
            if qos == codec::QoS::ExactlyOnce && reason.is_error() {
                // The client may use the identifier again at once.
                connection.unreleased = connection.unreleased.saturating_sub(1);
            }
            connection.answered += connection.out.len() - before;
            self.counters.answers_sent += 1;
        }
        self.bound_answers(key);
    }

    /// Notes a subscription in its session.
    pub(super) fn keep_subscription(
        &mut self,
        slot: SessionSlot,
        text: impl Into<Box<str>>,
        place: Subscribed,
    ) {
        if let Some(session) = self.sessions.get_mut(slot) {
            let old = session.subscriptions.insert(text.into(), place);
            self.subscriptions += usize::from(old.is_none());
        }
    }

    /// Takes a subscription out of its session.
    pub(super) fn forget_subscription(
        &mut self,
        slot: SessionSlot,
        text: &str,
    ) -> Option<Subscribed> {
        let subscribed = self.sessions.get_mut(slot)?.subscriptions.remove(text);
        self.subscriptions -= usize::from(subscribed.is_some());
        subscribed
    }

    /// The connection of a session, if it is one that can be written to.
    #[inline]
    pub(super) fn open_connection(&mut self, slot: SessionSlot) -> Option<&mut Connection> {
        let key = self.sessions.get(slot)?.connection?;
        self.connections.get_mut(key).filter(|connection| connection.phase == Phase::Open)
    }

    /// Counts `count` deliveries of `bytes` in all that did not happen.
    pub(super) fn dropped(&mut self, cause: DropCause, count: usize, bytes: usize) {
        self.counters.dropped(cause, count, bytes);
    }

    /// Counts one delivery that did not happen. Apart, so that those that happen don't pay for it.
    #[cold]
    #[inline(never)]
    pub(super) fn drop_one(&mut self, cause: DropCause, view: &MessageView<'_>) {
        self.dropped(cause, 1, view.content_bytes());
    }
}
