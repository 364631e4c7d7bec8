//! Bytes from connections: framing, unfinished packets, and what happens when a source must wait.

use super::connection::{Connection, ConnectionKey, Phase};
use super::events::Ending;
use super::waiting::{Cause, Source};
use super::{Command, Shard};
use crate::base::Time;
use crate::codec::{
    self, DecodeError, Frame, PLAIN_PUBLISH, Packet, PacketType, Publish, ReasonCode, Version,
};
use std::net::SocketAddr;

/// What to do after a packet.
pub(super) enum Flow {
    /// Go on with the next one.
    Next,
    /// Leave the packet where it is and wait.
    Stall(Cause),
    /// The connection takes no more input.
    Stop,
}

impl Shard {
    /// A connection was accepted on `listener`. `None`: refused, close it.
    pub fn open(&mut self, listener: u16, peer: Option<SocketAddr>) -> Option<ConnectionKey> {
        let settings = &self.clients.settings;
        let at = usize::from(listener);
        let full =
            settings.doors.max_connections.get(at).is_some_and(|most| self.open[at] >= *most);
        let refusal = match () {
            () if self.draining => Some("the server is shutting down"),
            () if full => Some("max_connections of the listener are open"),
            () if self.lobby >= settings.doors.lobby => {
                Some("too many connections without CONNECT")
            }
            () => None,
        };
        if let Some(what) = refusal {
            self.clients.counters.over_budget += 1;
            self.tell_turned_away(listener, peer, what);
            return None;
        }
        if !self.lets_in(listener, peer) {
            self.tell_turned_away(listener, peer, super::access::ADDRESS_REFUSED);
            return None;
        }
        if !self.admits_address(listener, peer) || !self.admits_connection(listener) {
            return None;
        }
        self.lobby += 1;
        self.clients.counters.connections_opened += 1;
        Some(self.insert_connection(listener, peer))
    }

    /// Makes a slot for a connection in the lobby.
    pub(super) fn insert_connection(
        &mut self,
        listener: u16,
        peer: Option<SocketAddr>,
    ) -> ConnectionKey {
        let (now, packet_bytes) = (self.clients.now, self.packet_bytes());
        let vacant = Connection::new(ConnectionKey::from_parts(0, 0), listener, peer, now);
        let key = self.clients.connections.insert(vacant);
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.key = key;
            connection.promised.packet_bytes = packet_bytes;
        }
        if let Some(open) = self.open.get_mut(usize::from(listener)) {
            *open += 1;
        }
        let deadlines = &self.clients.settings.doors.connect_deadlines_us;
        let deadline = deadlines.get(usize::from(listener)).copied().unwrap_or(10_000_000);
        self.wheel.insert(
            Time(now.0.saturating_add(deadline)),
            super::timers::Timer::ConnectDeadline(key),
        );
        key
    }

    /// Whether a connection has sent no whole CONNECT and is not waiting for anything.
    pub fn awaits_connect(&self, key: ConnectionKey) -> bool {
        let connection = self.clients.connections.get(key);
        connection.is_some_and(|c| c.phase == Phase::Lobby && c.stalled.is_none())
    }

    /// The peer broke the rules of what its connection comes through, below MQTT.
    pub fn transport_failed(&mut self, key: ConnectionKey, what: &str) {
        self.clients.counters.transport_faults += 1;
        self.tell_transport(key, what);
        self.end_connection(key, Ending::Lost);
    }

    /// Bytes arrived on a connection.
    pub fn receive(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let now = self.clients.now;
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        connection.count_input(bytes.len(), now);
        self.clients.counters.bytes_received += bytes.len() as u64;
        if connection.phase == Phase::Draining {
            return;
        }
        if connection.stalled.is_some() {
            self.keep(key, bytes);
            self.take_auth(key);
            return self.pause_if_full(key);
        }
        let rest = if connection.inbox.is_empty() { bytes } else { self.complete(key, bytes) };
        if !rest.is_empty() {
            let used = self.parse(key, rest);
            self.keep(key, &rest[used..]);
        }
        self.after_input(key);
    }

    /// After input of a connection in the lobby: it is read piece by piece until its CONNECT.
    fn after_input(&mut self, key: ConnectionKey) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        if let Some(buffer) = connection.inbox.release() {
            self.clients.output.recycle(buffer);
        }
        if connection.phase == Phase::Lobby && connection.stalled.is_none() {
            self.commands.push_back(Command::ReadMore(key));
        }
    }

    /// Appends to the inbox, within the budget of the core.
    fn keep(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        if bytes.is_empty() || connection.phase == Phase::Draining {
            return;
        }
        connection.inbox.append(bytes, &mut self.clients.output.spare);
        self.clients.unfinished += bytes.len();
        if self.clients.unfinished > self.clients.settings.limits.unfinished_bytes {
            self.clients.counters.over_budget += 1;
            self.clients.doomed.push((key, ReasonCode::QUOTA_EXCEEDED));
        }
    }

    fn consume(&mut self, key: ConnectionKey, count: usize) {
        if let Some(connection) = self.clients.connections.get_mut(key) {
            let count = count.min(connection.inbox.len());
            connection.inbox.consume(count);
            self.clients.unfinished -= count;
        }
    }

    /// Completes the unfinished packet in the inbox with as few of `bytes` as it needs, so that
    /// the rest is parsed where it lies. Returns what is left.
    fn complete<'b>(&mut self, key: ConnectionKey, mut bytes: &'b [u8]) -> &'b [u8] {
        loop {
            let Some(connection) = self.clients.connections.get_mut(key) else { return &[] };
            if connection.inbox.is_empty() {
                return bytes;
            }
            let max = connection.promised.packet_bytes as usize;
            let missing = missing_bytes(connection.inbox.bytes()).min(max);
            let taken = missing.min(bytes.len());
            self.keep(key, &bytes[..taken]);
            bytes = &bytes[taken..];
            if taken == missing {
                self.parse_inbox(key);
                let Some(connection) = self.clients.connections.get_mut(key) else { return &[] };
                if connection.stalled.is_some() || connection.phase == Phase::Draining {
                    self.keep(key, bytes);
                    return &[];
                }
            }
            if bytes.is_empty() {
                return bytes;
            }
        }
    }

    /// Parses what waits in the inbox.
    pub(super) fn parse_inbox(&mut self, key: ConnectionKey) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        let inbox = std::mem::take(&mut connection.inbox);
        let used = self.parse(key, inbox.bytes());
        match self.clients.connections.get_mut(key) {
            Some(connection) => {
                debug_assert!(connection.inbox.is_empty());
                connection.inbox = inbox;
                self.consume(key, used);
            }
            None => self.clients.unfinished -= inbox.len(),
        }
    }

    /// Processes whole packets at the front of `bytes`; returns how many bytes they were.
    fn parse(&mut self, key: ConnectionKey, bytes: &[u8]) -> usize {
        let mut framing = self.framing_of(key);
        let mut used = 0;
        while used < bytes.len() {
            let flow = match codec::frame_of(framing.0, &bytes[used..], framing.1) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if frame.first == PLAIN_PUBLISH {
                        let taken = self.publish_run(key, &frame, &bytes[used..], framing);
                        used += taken;
                        if taken > 0 {
                            continue;
                        }
                    }
                    let len = frame.len;
                    let flow = self.packet(key, &frame);
                    if matches!(flow, Flow::Next) {
                        used += len;
                        if frame.first >> 4 == codec::PacketType::Connect as u8 {
                            framing = self.framing_of(key);
                        }
                    }
                    flow
                }
                Err(error) => {
                    self.fault(key, &error);
                    Flow::Stop
                }
            };
            if !matches!(flow, Flow::Stall(_)) {
                self.clients.counters.packets_received += 1;
            }
            match flow {
                Flow::Next => {}
                Flow::Stall(cause) => {
                    self.stall(key, cause);
                    break;
                }
                Flow::Stop => return bytes.len(),
            }
        }
        if used > 0
            && let Some(connection) = self.clients.connections.get_mut(key)
        {
            connection.last_seen = self.clients.now;
            connection.packet_start += used as u64;
        }
        used
    }

    fn packet(&mut self, key: ConnectionKey, frame: &Frame<'_>) -> Flow {
        let Some(connection) = self.clients.connections.get(key) else { return Flow::Stop };
        let version = connection.version;
        match connection.phase {
            Phase::Lobby => return self.connect(key, frame),
            Phase::HandingOver(_) | Phase::Draining => return Flow::Stop,
            Phase::Open if connection.quota.is_some() => return self.serve_metered(key, frame),
            Phase::Open => {}
        }
        self.serve(key, frame, version)
    }

    /// Handles a packet of a client that is connected.
    #[inline]
    pub(super) fn serve(
        &mut self,
        key: ConnectionKey,
        frame: &Frame<'_>,
        version: Version,
    ) -> Flow {
        if frame.packet_type() == PacketType::Publish {
            return match Publish::decode(frame.first, frame.body, version) {
                Ok(publish) => self.publish(key, &publish),
                Err(error) => self.fault(key, &error),
            };
        }
        // Whatever it holds: faults of a CONNECT have reasons that only a CONNACK may carry.
        if frame.packet_type() == PacketType::Connect {
            return self.violation(key, "a second CONNECT");
        }
        match codec::decode(frame, version) {
            Ok(packet) => self.control(key, packet),
            Err(error) => self.fault(key, &error),
        }
    }

    fn control(&mut self, key: ConnectionKey, packet: Packet<'_>) -> Flow {
        match packet {
            Packet::Puback(ack) => self.puback(key, &ack),
            Packet::Pubrec(ack) => self.pubrec(key, &ack),
            Packet::Pubrel(ack) => self.pubrel(key, &ack),
            Packet::Pubcomp(ack) => self.pubcomp(key, &ack),
            Packet::Subscribe(subscribe) => return self.subscribe(key, &subscribe),
            Packet::Unsubscribe(unsubscribe) => return self.unsubscribe(key, &unsubscribe),
            Packet::Pingreq => {
                self.clients.answer(key, |_, out| codec::encode_pingresp(out));
            }
            Packet::Disconnect(disconnect) => return self.disconnected(key, &disconnect),
            Packet::Auth(auth) => return self.authenticate_again(key, &auth),
            Packet::Connect(_) | Packet::Publish(_) => unreachable!("served on their own"),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return self.violation(key, "a packet that only servers send");
            }
        }
        Flow::Next
    }

    /// The peer broke the protocol.
    pub(super) fn violation(&mut self, key: ConnectionKey, what: &'static str) -> Flow {
        self.fault(key, &DecodeError { reason: ReasonCode::PROTOCOL_ERROR, what })
    }

    /// The peer sent something that can't stand: say why and close.
    pub(super) fn fault(&mut self, key: ConnectionKey, error: &DecodeError) -> Flow {
        self.clients.counters.fault(error.reason);
        let Some(connection) = self.clients.connections.get(key) else { return Flow::Stop };
        let what = connection.problem_information.then_some(error.what);
        self.say_goodbye(key, error.reason, what);
        self.end_connection(key, Ending::Fault { reason: error.reason, what: error.what });
        Flow::Stop
    }

    /// Puts a connection into the queue for `cause`.
    fn stall(&mut self, key: ConnectionKey, cause: Cause) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        connection.stalled = Some(cause);
        match cause {
            Cause::HandOver | Cause::Verdict => {}
            Cause::Quota => self.clients.counters.throttled += 1,
            Cause::Answers => self.clients.counters.stalls += 1,
            Cause::Deliver(_)
            | Cause::Request(_)
            | Cause::FanOut
            | Cause::CrowdDeliver
            | Cause::CrowdRequest
            | Cause::Budget => {
                self.clients.counters.stalls += 1;
                self.waiting.add(cause, Source::Connection(key));
            }
        }
    }

    fn pause_if_full(&mut self, key: ConnectionKey) {
        let most = self.clients.settings.limits.staging_bytes;
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        // A connection before its CONNACK is read piece by piece.
        let reads = connection.phase != Phase::Lobby && !connection.read_paused;
        if connection.inbox.len() > most && reads {
            connection.read_paused = true;
            self.commands.push_back(Command::Pause(key));
        }
    }

    /// Lets a connection that waited try again; false when it waits again.
    pub(super) fn resume(&mut self, key: ConnectionKey) -> bool {
        let now = self.clients.now;
        let Some(connection) = self.clients.connections.get_mut(key) else { return true };
        connection.stalled = None;
        // Time spent waiting for the broker is not silence of the client.
        connection.last_seen = now;
        self.parse_inbox(key);
        let Some(connection) = self.clients.connections.get_mut(key) else { return true };
        if connection.stalled.is_some() {
            self.pause_if_full(key);
            return false;
        }
        if connection.ended {
            self.end_connection(key, Ending::Lost);
            return true;
        }
        if connection.read_paused && connection.phase == Phase::Open {
            connection.read_paused = false;
            self.commands.push_back(Command::Resume(key));
        }
        self.after_input(key);
        true
    }

    /// The version of a connection's packets, and how large they may be.
    fn framing_of(&self, key: ConnectionKey) -> (Version, usize) {
        let connection = self.clients.connections.get(key);
        connection.map_or((Version::V311, 0), |connection| {
            (connection.version, connection.promised.packet_bytes as usize)
        })
    }

    pub(super) fn version_of(&self, key: ConnectionKey) -> Version {
        self.clients.connections.get(key).map_or(Version::V311, |connection| connection.version)
    }
}

/// How many bytes the unfinished packet at the front of `inbox` lacks, as far as can be seen.
fn missing_bytes(inbox: &[u8]) -> usize {
    let mut length = 0;
    for (at, byte) in inbox.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (length + at + 2).saturating_sub(inbox.len()).max(1);
        }
    }
    1
}
