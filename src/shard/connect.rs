//! CONNECT: whose it is, take-over, resumption, CONNACK.

use super::access::Unproven;
use super::admit::Refusal;
use super::connection::{Connection, ConnectionKey, Greeting, Phase, Standing};
use super::entry::{self, Entry};
use super::events::{Ending, Happening};
use super::input::Flow;
use super::quota::Quota;
use super::session::{Session, SessionSlot, Will, key_of};
use super::subscribe::News;
use super::timers::Timer;
use super::waiting::Cause;
use super::{Command, Shard};
use crate::base::{Key, PublisherId, ShardId, Time};
use crate::codec::{self, ConnackOut, Connect, Frame, PacketType, ReasonCode, Version};
use crate::mesh::{Attachment, Carried};
use crate::session::{MessageView, Outbox, Payload, Receiving, Window};
use crate::topic::Identity;
use hashbrown::HashMap;
use std::net::SocketAddr;

/// What goes with a connection to its home.
struct Luggage {
    transport: Carried,
    standing: Standing,
}

impl Shard {
    /// The first packet of a connection [MQTT-3.1.0-1].
    pub(super) fn connect(&mut self, key: ConnectionKey, frame: &Frame<'_>) -> Flow {
        if frame.packet_type() != PacketType::Connect {
            return self.violation(key, "a packet before CONNECT");
        }
        let will_topic;
        let mut connect = match Connect::decode(frame.body) {
            Ok(connect) => connect,
            Err(error) => {
                let version = codec::connect_version_hint(frame.body);
                // Before MQTT 5 only another version is answered; what breaks the rules of its own
                // version is closed without a word [MQTT-3.1.4-1].
                let unsupported = error.reason == ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
                if unsupported || version == Version::V5 {
                    let refusal = Refusal { reason: error.reason, what: error.what };
                    self.answer_refusal(key, version, refusal);
                }
                return self.fault(key, &error);
            }
        };
        let listener = self.clients.connections.get(key).map_or(0, |c| c.listener);
        if let Err(refusal) = self.admit_version(&connect, listener) {
            return self.turn_away(key, &connect, connect.client_id, refusal);
        }
        match self.identify(key, &connect) {
            Ok(()) => {}
            Err(Unproven::Waits) => return Flow::Stall(Cause::Verdict),
            Err(Unproven::Refused(refusal)) => {
                return self.turn_away(key, &connect, connect.client_id, refusal);
            }
        }
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
        if let Some(will) = &mut connect.will
            && self.has_rewrites()
        {
            let connection = self.clients.connections.get(key);
            let user_name = connection.and_then(Connection::user_name);
            let client = Identity { client_id, user_name };
            will_topic = self.rewrite_topic(&client, will.topic);
            will.topic = &will_topic;
        }
        let admitted = self.admit(&connect, client_id);
        let admitted =
            admitted.and_then(|()| self.admit_identity(key, client_id, connect.will.as_ref()));
        if let Err(refusal) = admitted {
            return self.turn_away(key, &connect, client_id, refusal);
        }
        let proof = self.take_proof_data(key);
        let answer = match self.connack(&connect, client_id, proof.as_deref()) {
            Ok(answer) => answer,
            Err(refusal) => return self.turn_away(key, &connect, client_id, refusal),
        };
        self.establish(key, &connect, client_id, answer);
        Flow::Next
    }

    /// A client identifier whose home is this shard; of another home if a rule takes all such
    /// identifiers away from here. The connection goes there then, and is given one there.
    fn assign_client_id(&mut self) -> String {
        /// Identifiers tried before a rule is taken to be for all of them.
        const TRIES: usize = 256;
        for tries in 0.. {
            let (high, low) = (self.random.next_u64(), self.random.next_u64());
            let id = format!("corelane-{high:016x}{low:016x}");
            let taken = self.clients.by_id.contains_key(&*id);
            let placement = &self.clients.settings.placement;
            let away = || tries >= TRIES && placement.pinned_home(&id).is_some();
            if !taken && (placement.home(&id) == self.me || away()) {
                return id;
            }
        }
        unreachable!("identifiers are drawn until one fits")
    }

    fn establish(
        &mut self,
        key: ConnectionKey,
        connect: &Connect<'_>,
        client_id: &str,
        answer: ConnackOut<'_>,
    ) {
        let (slot, present) = self.claim_session(connect, client_id);
        let promised = self.promises(&answer);
        self.lobby = self.lobby.saturating_sub(1);
        self.clients.counters.connects += 1;
        let keep_alive_s = self.keep_alive_s(connect);
        let properties = &connect.properties;
        let listener = self.clients.connections.get(key).map_or(0, |c| c.listener);
        let rules = self.clients.settings.rules(listener);
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        connection.phase = Phase::Open;
        connection.version = connect.version;
        connection.session = Some(key_of(slot));
        connection.quota = Quota::under(&rules);
        connection.problem_information = properties.request_problem_information;
        connection.keep_alive_s = keep_alive_s;
        connection.promised = promised;
        let maximum = properties.receive_maximum.map_or(u16::MAX, std::num::NonZeroU16::get);
        connection.receive_maximum = maximum.min(self.clients.settings.session.max_inflight);
        let ours = self.clients.settings.limits.topic_alias_maximum_out;
        connection.alias_maximum = properties.topic_alias_maximum.min(ours);
        connection.maximum_packet =
            properties.maximum_packet_size.map_or(u32::MAX, std::num::NonZeroU32::get);
        self.attach(slot, key, connect);
        self.settle_identity(key, slot);
        self.arm_keep_alive(key);
        self.acknowledge_connect(key, connect, ConnackOut { session_present: present, ..answer });
        self.commands.push_back(Command::Established(key));
        let (version, session_present) = (connect.version, present);
        self.tell_of(
            key,
            client_id,
            Happening::Connected { version, session_present, keep_alive_s },
        );
        if present {
            self.recheck_subscriptions(slot);
            self.clients.refill(slot);
        }
        self.tell_group_presence(slot);
        self.auto_subscribe(key);
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
            user: None,
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
            self.end_connection(old, Ending::TakenOver);
        }
        // A will whose delay runs is published when the session is discarded and cancelled when
        // it is resumed [MQTT-3.1.3-9].
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        session.will_due = Time::NEVER;
        if !clean_start {
            session.will = None;
        }
    }

    /// The session expiry that a client asks for, in seconds.
    fn asked_expiry_s(&self, connect: &Connect<'_>) -> u32 {
        match connect.version {
            Version::V5 => connect.properties.session_expiry.unwrap_or(0),
            Version::V31 | Version::V311 if connect.clean_start => 0,
            Version::V31 | Version::V311 => self.clients.settings.session.v3_expiry_s,
        }
    }

    /// The session expiry that it gets.
    pub(super) fn expiry_s(&self, connect: &Connect<'_>) -> u32 {
        self.asked_expiry_s(connect).min(self.clients.settings.session.max_expiry_s)
    }

    /// Joins session and connection.
    fn attach(&mut self, slot: SessionSlot, key: ConnectionKey, connect: &Connect<'_>) {
        let will = connect.will.as_ref().map(|will| self.make_will(slot, will));
        let (asked, expiry_s) = (self.asked_expiry_s(connect), self.expiry_s(connect));
        if let Some(session) = self.clients.sessions.get_mut(slot) {
            session.connection = Some(key);
            self.clients.connected += 1;
            session.version = connect.version;
            session.expiry_s = expiry_s;
            session.asked_expiry_s = asked;
            session.ends = Time::NEVER;
            session.will = will;
            session.will_due = Time::NEVER;
            session.window.restart();
        }
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

    /// The keep alive in force; MQTT 5 clients are told where it differs from what they ask for.
    pub(super) fn keep_alive_s(&self, connect: &Connect<'_>) -> u16 {
        let settings = &self.clients.settings;
        let (most, fixed) =
            (settings.session.max_keep_alive_s, settings.protocol.server_keep_alive_s);
        if fixed > 0 && connect.version == Version::V5 {
            return fixed;
        }
        let caps = most < u16::MAX && connect.version == Version::V5;
        match connect.keep_alive {
            0 if caps => most,
            asked if caps => asked.min(most),
            asked => asked,
        }
    }

    /// Writes the CONNACK, with what else was asked for where that fits.
    fn acknowledge_connect(
        &mut self,
        key: ConnectionKey,
        connect: &Connect<'_>,
        answer: ConnackOut<'_>,
    ) {
        let protocol = &self.clients.settings.protocol;
        // [MQTT-3.1.2-28]
        let wanted = connect.properties.request_response_information;
        let information = protocol.response_topic_prefix.clone();
        let information = information.given().filter(|_| wanted);
        self.clients.explain(key, information, |version, information, out| {
            ConnackOut { response_information: information, ..answer }.encode(version, out);
        });
        if let Some(connection) = self.clients.connections.get_mut(key) {
            debug_assert!(!connection.out.is_empty(), "it was made to fit");
            connection.greeting = Greeting::Written;
        }
    }

    /// Sets the keep-alive timer of a connection [MQTT-3.1.2-22].
    fn arm_keep_alive(&mut self, key: ConnectionKey) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        // Its CONNECT is not counted as processed yet.
        connection.last_seen = self.clients.now;
        if connection.keep_alive_s > 0 {
            let due = super::timers::keep_alive_due(connection);
            self.wheel.insert(due, Timer::KeepAlive(key));
        }
    }

    /// The connection with this key was detached by the shell: send it home.
    pub fn hand_over(&mut self, key: ConnectionKey, carried: Carried) {
        let Some(connection) = self.clients.connections.get(key) else { return };
        let Phase::HandingOver(home) = connection.phase else { return };
        let listener = connection.listener;
        self.untold.push_back(News::HandOver { key, home, listener, carried });
        self.tell_owners();
    }

    /// Sends a connection home; gives it back with what it waits for.
    pub(super) fn send_home(
        &mut self,
        key: ConnectionKey,
        home: ShardId,
        listener: u16,
        carried: Carried,
    ) -> Option<(News, Cause)> {
        let connection = self.clients.connections.get_mut(key)?;
        let unparsed = connection.inbox.bytes();
        let len = entry::text_entry_len(unparsed.len());
        let cause = Cause::Request(home);
        if self.waiting.must_queue(cause) || !self.mesh.request_room(home, len, 0) {
            return Some((News::HandOver { key, home, listener, carried }, cause));
        }
        let block = self.mesh.request(home, len, 0);
        entry::write(block, &Entry::HandOver { listener, peer: connection.peer, unparsed });
        let standing = std::mem::take(&mut connection.standing);
        let luggage = Luggage { transport: carried, standing };
        block.attachments.push(Attachment::Carried(Box::new(luggage)));
        self.clients.counters.handed_over += 1;
        self.end_connection(key, Ending::Moved);
        self.released(key);
        None
    }

    /// Takes in a connection that another shard handed over.
    pub(super) fn adopt(
        &mut self,
        (listener, peer): (u16, Option<SocketAddr>),
        unparsed: &[u8],
        carried: Carried,
    ) {
        self.lobby += 1;
        self.clients.counters.connections_opened += 1;
        let key: Key<super::Connection> = self.insert_connection(listener, peer);
        let Ok(luggage) = carried.downcast::<Luggage>() else { return };
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.standing = luggage.standing;
        }
        self.commands.push_back(Command::Adopt(key, luggage.transport));
        self.receive(key, unparsed);
        // They were counted where they came in.
        self.clients.counters.bytes_received -= unparsed.len() as u64;
    }
}
