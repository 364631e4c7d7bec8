//! CONNECT: whose it is, take-over, resumption, CONNACK.

use super::connection::{ConnectionKey, Phase};
use super::input::Flow;
use super::memory::Pressure;
use super::session::{Session, SessionSlot, Will, key_of};
use super::timers::Timer;
use super::waiting::Cause;
use super::{Command, Shard};
use crate::base::{Key, PublisherId, Time};
use crate::codec::{self, ConnackOut, Connect, Frame, PacketType, ReasonCode, Version};
use crate::session::{MessageView, Outbox, Payload, Receiving, Window};
use crate::topic::TopicName;
use hashbrown::HashMap;

/// Why a CONNECT is refused.
struct Refusal {
    reason: ReasonCode,
    what: &'static str,
}

impl Shard {
    /// The first packet of a connection [MQTT-3.1.0-1].
    pub(super) fn connect(&mut self, key: ConnectionKey, frame: &Frame<'_>) -> Flow {
        if frame.packet_type() != PacketType::Connect {
            return self.violation(key, "a packet before CONNECT");
        }
        let connect = match Connect::decode(frame.body) {
            Ok(connect) => connect,
            Err(error) => {
                let version = codec::connect_version_hint(frame.body);
                let known = error.reason != ReasonCode::MALFORMED_PACKET || version == Version::V5;
                if known {
                    self.refuse(key, version, &Refusal { reason: error.reason, what: error.what });
                }
                return self.fault(key, &error);
            }
        };
        let assigned;
        let client_id = if connect.client_id.is_empty() {
            assigned = self.assign_client_id();
            &assigned
        } else {
            connect.client_id
        };
        let home = self.clients.settings.placement.home(client_id);
        if home != self.me {
            if let Some(connection) = self.clients.connections.get_mut(key) {
                connection.phase = Phase::HandingOver(home);
            }
            self.commands.push_back(Command::HandOver(key));
            return Flow::Stall(Cause::HandOver);
        }
        let listener = self.clients.connections.get(key).map_or(0, |c| c.listener);
        if let Err(refusal) = self.admit(&connect, client_id, listener) {
            self.clients.counters.connects_refused += 1;
            self.refuse(key, connect.version, &refusal);
            self.end_connection(key, false);
            return Flow::Stop;
        }
        self.establish(key, &connect, client_id);
        Flow::Next
    }

    /// A client identifier whose home is this shard.
    fn assign_client_id(&mut self) -> String {
        loop {
            let (high, low) = (self.random.next_u64(), self.random.next_u64());
            let id = format!("corelane-{high:016x}{low:016x}");
            let taken = self.clients.by_id.contains_key(&*id);
            if !taken && self.clients.settings.placement.home(&id) == self.me {
                return id;
            }
        }
    }

    fn admit(&self, connect: &Connect<'_>, client_id: &str, listener: u16) -> Result<(), Refusal> {
        let refuse = |reason, what| Err(Refusal { reason, what });
        let settings = &self.clients.settings;
        let limits = &settings.limits;
        if self.draining {
            return refuse(ReasonCode::SERVER_SHUTTING_DOWN, "the server is shutting down");
        }
        if self.clients.pressure > Pressure::Low {
            return refuse(ReasonCode::SERVER_BUSY, "the server has no memory for another client");
        }
        if !settings.anonymous.get(usize::from(listener)).is_some_and(|anonymous| *anonymous) {
            // Nobody can prove who they are yet, so nobody comes in.
            let reason = ReasonCode::NOT_AUTHORIZED;
            return refuse(reason, "this listener takes no anonymous clients");
        }
        if connect.client_id.is_empty() && !connect.clean_start && connect.version != Version::V5 {
            // [MQTT-3.1.3-8]
            let reason = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
            return refuse(reason, "an empty client identifier needs a clean session");
        }
        if client_id.len() > limits.client_id_bytes {
            let reason = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
            return refuse(reason, "the client identifier is too long");
        }
        if connect.properties.authentication_method.is_some() {
            let reason = ReasonCode::BAD_AUTHENTICATION_METHOD;
            return refuse(reason, "no authentication method is offered");
        }
        if let Some(will) = &connect.will
            && (TopicName::new(will.topic).is_err()
                || will.topic.split('/').count() > limits.topic_levels)
        {
            return refuse(ReasonCode::TOPIC_NAME_INVALID, "the will topic is not valid");
        }
        if self.clients.sessions.len() >= limits.sessions
            && !self.clients.by_id.contains_key(client_id)
        {
            return refuse(ReasonCode::QUOTA_EXCEEDED, "no room for another session");
        }
        Ok(())
    }

    fn refuse(&mut self, key: ConnectionKey, version: Version, refusal: &Refusal) {
        tracing::info!(reason = %refusal.reason, what = refusal.what, "CONNECT refused");
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.version = version;
        }
        let answer = ConnackOut {
            reason: refusal.reason,
            reason_string: Some(refusal.what),
            ..ConnackOut::default()
        };
        self.clients.answer(key, |version, out| answer.encode(version, out));
    }

    fn establish(&mut self, key: ConnectionKey, connect: &Connect<'_>, client_id: &str) {
        let (slot, present) = self.claim_session(connect, client_id);
        self.lobby = self.lobby.saturating_sub(1);
        self.clients.counters.connects += 1;
        let keep_alive_s = self.keep_alive_s(connect);
        let properties = &connect.properties;
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        connection.phase = Phase::Open;
        connection.version = connect.version;
        connection.session = Some(key_of(slot));
        connection.problem_information = properties.request_problem_information;
        connection.keep_alive_s = keep_alive_s;
        let maximum = properties.receive_maximum.map_or(u16::MAX, std::num::NonZeroU16::get);
        connection.receive_maximum = maximum.min(self.clients.settings.session.max_inflight);
        connection.maximum_packet =
            properties.maximum_packet_size.map_or(u32::MAX, std::num::NonZeroU32::get);
        let expiry_s = self.attach(slot, key, connect);
        self.arm_keep_alive(key);
        self.acknowledge_connect(key, connect, client_id, present, expiry_s);
        self.commands.push_back(Command::Established(key));
        tracing::debug!(client_id, version = ?connect.version, present, "connected");
        if present {
            self.clients.refill(slot);
        }
        self.tell_group_presence(slot);
    }

    /// Finds or makes the session; ends its old connection [MQTT-3.1.4-3] and, with clean start,
    /// the old session [MQTT-3.1.2-4].
    fn claim_session(&mut self, connect: &Connect<'_>, client_id: &str) -> (SessionSlot, bool) {
        if let Some(slot) = self.clients.by_id.get(client_id).copied() {
            self.take_over(slot, connect.clean_start);
            if self.clients.sessions.get(slot).is_some() {
                if !connect.clean_start {
                    return (slot, true);
                }
                self.end_session(slot);
            }
        }
        self.clients.counters.sessions_created += 1;
        let vacant = Session {
            client_id: client_id.into(),
            connection: None,
            version: connect.version,
            expiry_s: 0,
            asked_expiry_s: 0,
            looked_at: Time::NEVER,
            ends: Time::NEVER,
            publisher: PublisherId::BROKER,
            subscriptions: HashMap::default(),
            receiving: Receiving::default(),
            window: Window::default(),
            outbox: Outbox::default(),
            crowded: false,
            will: None,
            will_due: Time::NEVER,
            replays: Vec::new(),
        };
        let slot = self.clients.sessions.insert(vacant);
        if let Some(session) = self.clients.sessions.get_mut(slot) {
            session.publisher = PublisherId::session(self.me, slot);
        }
        self.clients.by_id.insert(client_id.into(), slot);
        (slot, false)
    }

    fn take_over(&mut self, slot: SessionSlot, clean_start: bool) {
        let Some(session) = self.clients.sessions.get(slot) else { return };
        if let Some(old) = session.connection {
            self.clients.counters.taken_over += 1;
            self.say_goodbye(old, ReasonCode::SESSION_TAKEN_OVER, None);
            self.end_connection(old, true);
        }
        // A will whose delay runs is published when the session is discarded and cancelled when
        // it is resumed [MQTT-3.1.3-9].
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        session.will_due = Time::NEVER;
        if !clean_start {
            session.will = None;
        }
    }

    /// Joins session and connection; returns the session expiry in force.
    fn attach(&mut self, slot: SessionSlot, key: ConnectionKey, connect: &Connect<'_>) -> u32 {
        let will = connect.will.as_ref().map(|will| self.make_will(slot, will));
        let settings = &self.clients.settings.session;
        let asked = match connect.version {
            Version::V5 => connect.properties.session_expiry.unwrap_or(0),
            Version::V31 | Version::V311 if connect.clean_start => 0,
            Version::V31 | Version::V311 => settings.v3_expiry_s,
        };
        let expiry_s = asked.min(settings.max_expiry_s);
        if let Some(session) = self.clients.sessions.get_mut(slot) {
            session.connection = Some(key);
            session.version = connect.version;
            session.expiry_s = expiry_s;
            session.asked_expiry_s = asked;
            session.ends = Time::NEVER;
            session.will = will;
            session.will_due = Time::NEVER;
            session.window.restart();
        }
        expiry_s
    }

    fn make_will(&mut self, slot: SessionSlot, will: &codec::Will<'_>) -> Box<Will> {
        let mut properties = Vec::new();
        will.properties.write_forwarded(&mut properties);
        let view = MessageView {
            id: self.next_message_id(),
            publisher: PublisherId::session(self.me, slot),
            expires: Time::NEVER,
            qos: will.qos,
            retain: will.retain,
            topic: will.topic,
            properties: &properties,
            payload: Payload::Inline(will.payload),
        };
        let delay_s = will.delay_s.min(self.clients.settings.session.max_will_delay_s);
        let expiry_s = will.properties.message_expiry;
        Box::new(Will { message: view.store(&self.clients.ledger), expiry_s, delay_s })
    }

    fn keep_alive_s(&self, connect: &Connect<'_>) -> u16 {
        let most = self.clients.settings.session.max_keep_alive_s;
        let caps = most < u16::MAX && connect.version == Version::V5;
        match connect.keep_alive {
            0 if caps => most,
            asked if caps => asked.min(most),
            asked => asked,
        }
    }

    fn acknowledge_connect(
        &mut self,
        key: ConnectionKey,
        connect: &Connect<'_>,
        client_id: &str,
        present: bool,
        expiry_s: u32,
    ) {
        let settings = &self.clients.settings;
        let asked = connect.properties.session_expiry.unwrap_or(0);
        let keep_alive = self.clients.connections.get(key).map_or(0, |c| c.keep_alive_s);
        let answer = ConnackOut {
            session_present: present,
            session_expiry: (expiry_s != asked).then_some(expiry_s),
            receive_maximum: Some(settings.session.receive_maximum),
            maximum_packet_size: u32::try_from(settings.limits.packet_bytes).ok(),
            assigned_client_id: connect.client_id.is_empty().then_some(client_id),
            topic_alias_maximum: settings.limits.topic_alias_maximum,
            server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
            ..ConnackOut::default()
        };
        self.clients.answer(key, |version, out| answer.encode(version, out));
    }

    /// Sets the keep-alive timer of a connection [MQTT-3.1.2-22].
    fn arm_keep_alive(&mut self, key: ConnectionKey) {
        let Some(connection) = self.clients.connections.get(key) else { return };
        if connection.keep_alive_s > 0 {
            let due = super::timers::keep_alive_due(connection);
            self.wheel.insert(due, Timer::KeepAlive(key));
        }
    }

    /// The connection with this key was detached by the shell: send it home.
    pub fn hand_over(&mut self, key: ConnectionKey, carried: crate::mesh::Carried) {
        let Some(connection) = self.clients.connections.get(key) else { return };
        let Phase::HandingOver(home) = connection.phase else { return };
        let listener = connection.listener;
        self.untold.push_back(super::subscribe::News::HandOver { key, home, listener, carried });
        self.tell_owners();
    }

    /// Takes in a connection that another shard handed over.
    pub(super) fn adopt(&mut self, listener: u16, unparsed: &[u8], carried: crate::mesh::Carried) {
        self.lobby += 1;
        self.clients.counters.connections_opened += 1;
        let key: Key<super::Connection> = self.insert_connection(listener);
        self.commands.push_back(Command::Adopt(key, carried));
        self.receive(key, unparsed);
    }
}
