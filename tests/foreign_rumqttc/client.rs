//! One connection of rumqttc, in the words of both versions.

use crate::{ANSWER, Broker};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Largest packet that the clients take.
const PACKET_MAX: u32 = 4 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V311,
    V5,
}

impl Version {
    /// As the matrix calls it.
    pub fn name(self) -> &'static str {
        match self {
            Version::V311 => "3.1.1",
            Version::V5 => "5",
        }
    }
}

/// What a client saw.
#[derive(Debug)]
enum Seen {
    Connected {
        session_present: bool,
    },
    /// The granted QoS; nothing when it was refused.
    Subscribed(Option<u8>),
    Acknowledged,
    Message(Box<Message>),
}

/// A message that arrived, or with `topic`, `payload`, `qos`, `retain` and properties one to be
/// sent.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub retain: bool,
    pub user: Vec<(String, String)>,
    pub identifiers: Vec<usize>,
    pub alias: Option<u16>,
    pub expiry_s: Option<u32>,
    pub response_topic: Option<String>,
    pub correlation: Option<Vec<u8>>,
}

/// How to subscribe.
#[derive(Clone, Copy, Default)]
pub struct Wish {
    pub qos: u8,
    pub identifier: Option<usize>,
    pub no_local: bool,
    /// Retained messages: 0 always, 1 if it is new, 2 never.
    pub handling: u8,
}

/// What a connection is opened with.
#[derive(Clone, Default)]
pub struct Options {
    /// Keeps its session: 60 seconds, or as told.
    pub lasting: bool,
    pub expiry_s: Option<u32>,
    pub will: Option<String>,
    pub will_delay_s: Option<u32>,
    pub aliases: Option<u16>,
    pub keep_alive_s: Option<u64>,
}

enum Sender {
    V311(rumqttc::Client),
    V5(rumqttc::v5::Client),
}

/// One connection, its events read by a thread of its own. Dropped, it ends without a DISCONNECT.
pub struct Client {
    sender: Sender,
    seen: Receiver<Seen>,
    /// Messages that came while something else was waited for.
    early: RefCell<VecDeque<Message>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Client {
    /// Connects and says whether the broker had a session.
    pub fn open(broker: &Broker, version: Version, id: &str, options: Options) -> (Client, bool) {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, seen, reader) = match version {
            Version::V311 => plain::open(broker, id, options, Arc::clone(&stop)),
            Version::V5 => modern::open(broker, id, options, Arc::clone(&stop)),
        };
        let early = RefCell::default();
        let client = Client { sender, seen, early, stop, reader: Some(reader) };
        match client.seen.recv_timeout(ANSWER).expect("a CONNACK in time") {
            Seen::Connected { session_present } => (client, session_present),
            other => panic!("{other:?} before CONNACK"),
        }
    }

    /// What comes next that is no message.
    fn answer(&self) -> Seen {
        loop {
            match self.seen.recv_timeout(ANSWER).expect("an answer in time") {
                Seen::Message(message) => self.early.borrow_mut().push_back(*message),
                other => return other,
            }
        }
    }

    /// The next message.
    pub fn message(&self) -> Message {
        self.message_within(ANSWER)
    }

    /// The next message, for which `limit` is time.
    pub fn message_within(&self, limit: Duration) -> Message {
        if let Some(message) = self.early.borrow_mut().pop_front() {
            return message;
        }
        loop {
            if let Seen::Message(message) = self.seen.recv_timeout(limit).expect("one in time") {
                return *message;
            }
        }
    }

    /// Waits until the broker has ended the connection.
    pub fn expect_end(&self) {
        loop {
            match self.seen.recv_timeout(ANSWER) {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("the connection does not end"),
                Ok(_) => {}
            }
        }
    }

    /// Subscribes; gives what was granted.
    pub fn try_subscribe(&self, filter: &str, wish: Wish) -> Option<u8> {
        match &self.sender {
            Sender::V311(client) => client.subscribe(filter, plain::qos(wish.qos)).expect("queued"),
            Sender::V5(client) => modern::subscribe(client, filter, wish),
        }
        loop {
            if let Seen::Subscribed(granted) = self.answer() {
                return granted;
            }
        }
    }

    pub fn subscribe(&self, filter: &str, qos: u8) {
        let granted = self.try_subscribe(filter, Wish { qos, ..Wish::default() });
        assert_eq!(granted, Some(qos), "{filter}");
    }

    /// Publishes; above QoS 0 returns when the broker has taken the message.
    pub fn send(&self, message: &Message) {
        let Message { topic, payload, qos, retain, .. } = message;
        match &self.sender {
            Sender::V311(client) => {
                let payload = payload.as_bytes();
                client.publish(topic, plain::qos(*qos), *retain, payload).expect("queued");
            }
            Sender::V5(client) => modern::publish(client, message),
        }
        while *qos > 0 && !matches!(self.answer(), Seen::Acknowledged) {}
    }

    pub fn publish(&self, topic: &str, qos: u8, payload: &str) {
        let (topic, payload) = (topic.to_owned(), payload.to_owned());
        self.send(&Message { topic, payload, qos, ..Message::default() });
    }

    /// Ends the connection as a failing network does.
    pub fn lose(mut self) {
        self.stop_reading();
        self.join();
    }

    /// Makes the reader drop its socket at its next event, and gives it one: a message that nobody
    /// gets. A connection that has ended needs none.
    fn stop_reading(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = match &self.sender {
            Sender::V311(client) => client.try_publish("nobody", plain::qos(0), false, "").is_ok(),
            Sender::V5(client) => client.try_publish("nobody", modern::qos(0), false, "").is_ok(),
        };
    }

    fn join(&mut self) {
        let reader = self.reader.take().expect("joined once");
        reader.join().expect("the reader does not panic");
    }

    pub fn disconnect(mut self) {
        match &self.sender {
            Sender::V311(client) => client.disconnect().expect("queued"),
            Sender::V5(client) => client.disconnect().expect("queued"),
        }
        self.join();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop_reading();
    }
}

/// Reads events until told to stop or until the connection ends. Never with a time-out: that would
/// abandon a CONNECT under way and send another, and the broker may serve the abandoned one last,
/// as a take-over.
macro_rules! read_events {
    ($connection:ident, $stop:ident, $seen:ident, $translate:path) => {
        thread::spawn(move || {
            while let Ok(Ok(event)) = $connection.recv() {
                if $stop.load(Ordering::Relaxed) {
                    return;
                }
                $translate(event).into_iter().for_each(|s| drop($seen.send(s)));
            }
        })
    };
}

/// MQTT 3.1.1.
mod plain {
    use super::{Arc, AtomicBool, Broker, Duration, JoinHandle, Message, Options, Ordering};
    use super::{PACKET_MAX, Receiver, Seen, Sender, mpsc, thread};
    use rumqttc::{Client, Event, LastWill, MqttOptions, Packet, QoS, SubscribeReasonCode};

    pub fn qos(level: u8) -> QoS {
        rumqttc::qos(level).expect("0, 1 or 2")
    }

    pub fn open(
        broker: &Broker,
        id: &str,
        options: Options,
        stop: Arc<AtomicBool>,
    ) -> (Sender, Receiver<Seen>, JoinHandle<()>) {
        let address = broker.address;
        let mut given = MqttOptions::new(id, address.ip().to_string(), address.port());
        given.set_clean_session(!options.lasting);
        given.set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize);
        if let Some(seconds) = options.keep_alive_s {
            given.set_keep_alive(Duration::from_secs(seconds));
        }
        if let Some(topic) = options.will {
            given.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false));
        }
        let (client, mut connection) = Client::new(given, 100);
        let (seen, receiver) = mpsc::channel();
        let reader = read_events!(connection, stop, seen, translate);
        (Sender::V311(client), receiver, reader)
    }

    fn translate(event: Event) -> Option<Seen> {
        let Event::Incoming(packet) = event else { return None };
        match packet {
            Packet::ConnAck(a) => Some(Seen::Connected { session_present: a.session_present }),
            Packet::SubAck(suback) => match suback.return_codes.first() {
                Some(SubscribeReasonCode::Success(qos)) => Some(Seen::Subscribed(Some(*qos as u8))),
                _ => Some(Seen::Subscribed(None)),
            },
            Packet::PubAck(_) | Packet::PubComp(_) => Some(Seen::Acknowledged),
            Packet::Publish(p) => Some(Seen::Message(Box::new(Message {
                topic: p.topic,
                payload: String::from_utf8_lossy(&p.payload).into_owned(),
                qos: p.qos as u8,
                retain: p.retain,
                ..Message::default()
            }))),
            _ => None,
        }
    }
}

/// MQTT 5.
mod modern {
    use super::{Arc, AtomicBool, Broker, Duration, JoinHandle, Message, Options, Ordering};
    use super::{PACKET_MAX, Receiver, Seen, Sender, Wish, mpsc, thread};
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{
        ConnectProperties, Filter, LastWill, LastWillProperties, Packet, PublishProperties,
        RetainForwardRule, SubscribeProperties, SubscribeReasonCode,
    };
    use rumqttc::v5::{Client, Event, MqttOptions};

    pub fn qos(level: u8) -> QoS {
        rumqttc::v5::mqttbytes::qos(level).expect("0, 1 or 2")
    }

    pub fn subscribe(client: &Client, path: &str, wish: Wish) {
        let filter = Filter {
            nolocal: wish.no_local,
            retain_forward_rule: match wish.handling {
                0 => RetainForwardRule::OnEverySubscribe,
                1 => RetainForwardRule::OnNewSubscribe,
                _ => RetainForwardRule::Never,
            },
            ..Filter::new(path, qos(wish.qos))
        };
        let done = match wish.identifier {
            None => client.subscribe_many([filter]),
            id => {
                let properties = SubscribeProperties { id, user_properties: Vec::new() };
                client.subscribe_many_with_properties([filter], properties)
            }
        };
        done.expect("queued");
    }

    pub fn publish(client: &Client, message: &Message) {
        let properties = PublishProperties {
            user_properties: message.user.clone(),
            topic_alias: message.alias,
            message_expiry_interval: message.expiry_s,
            response_topic: message.response_topic.clone(),
            correlation_data: message.correlation.clone().map(Into::into),
            ..PublishProperties::default()
        };
        let (topic, payload) = (message.topic.as_str(), message.payload.clone());
        let level = qos(message.qos);
        let retain = message.retain;
        let done = client.publish_with_properties(topic, level, retain, payload, properties);
        done.expect("queued");
    }

    pub fn open(
        broker: &Broker,
        id: &str,
        options: Options,
        stop: Arc<AtomicBool>,
    ) -> (Sender, Receiver<Seen>, JoinHandle<()>) {
        let address = broker.address;
        let mut given = MqttOptions::new(id, address.ip().to_string(), address.port());
        given.set_clean_start(!options.lasting);
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = options.expiry_s.or(options.lasting.then_some(60));
        properties.topic_alias_max = options.aliases;
        properties.max_packet_size = Some(PACKET_MAX);
        given.set_connect_properties(properties);
        if let Some(seconds) = options.keep_alive_s {
            given.set_keep_alive(Duration::from_secs(seconds));
        }
        if let Some(topic) = options.will {
            let properties = options.will_delay_s.map(|seconds| LastWillProperties {
                delay_interval: Some(seconds),
                payload_format_indicator: None,
                message_expiry_interval: None,
                content_type: None,
                response_topic: None,
                correlation_data: None,
                user_properties: Vec::new(),
            });
            given.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false, properties));
        }
        let (client, mut connection) = Client::new(given, 100);
        let (seen, receiver) = mpsc::channel();
        let reader = read_events!(connection, stop, seen, translate);
        (Sender::V5(client), receiver, reader)
    }

    fn translate(event: Event) -> Option<Seen> {
        let Event::Incoming(packet) = event else { return None };
        match packet {
            Packet::ConnAck(a) => Some(Seen::Connected { session_present: a.session_present }),
            Packet::SubAck(suback) => match suback.return_codes.first() {
                Some(SubscribeReasonCode::Success(qos)) => Some(Seen::Subscribed(Some(*qos as u8))),
                _ => Some(Seen::Subscribed(None)),
            },
            Packet::PubAck(_) | Packet::PubComp(_) => Some(Seen::Acknowledged),
            Packet::Publish(p) => {
                let properties = p.properties.unwrap_or_default();
                Some(Seen::Message(Box::new(Message {
                    topic: String::from_utf8_lossy(&p.topic).into_owned(),
                    payload: String::from_utf8_lossy(&p.payload).into_owned(),
                    qos: p.qos as u8,
                    retain: p.retain,
                    user: properties.user_properties,
                    identifiers: properties.subscription_identifiers,
                    alias: properties.topic_alias,
                    expiry_s: properties.message_expiry_interval,
                    response_topic: properties.response_topic,
                    correlation: properties.correlation_data.map(|data| data.to_vec()),
                })))
            }
            _ => None,
        }
    }
}
