//! rumqttc, a client library that others wrote, against the binary with two shards.
//!
//! `CORELANE_TEST_ADDRESS=127.0.0.1:1883` tests a running broker instead.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const ANSWER: Duration = Duration::from_secs(10);
const MESSAGES: usize = 50;

/// A broker process of our own, or the one that the environment names.
struct Broker {
    address: SocketAddr,
    process: Option<Child>,
}

impl Broker {
    fn start() -> Broker {
        if let Ok(address) = std::env::var("CORELANE_TEST_ADDRESS") {
            return Broker { address: address.parse().expect("an address"), process: None };
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let process = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["--listen", &address.to_string(), "--shards", "2"])
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut broker = Broker { address, process: Some(process) };
        broker.wait_for_port();
        broker
    }

    fn wait_for_port(&mut self) {
        let deadline = Instant::now() + ANSWER;
        while TcpStream::connect(self.address).is_err() {
            let process = self.process.as_mut().expect("our own");
            let ended = process.try_wait().expect("our own child");
            assert!(ended.is_none(), "the broker ended: {ended:?}");
            assert!(Instant::now() < deadline, "the broker does not listen on {}", self.address);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().expect("our own child");
            process.wait().expect("our own child");
        }
    }
}

/// What a client saw, in the words of both versions.
#[derive(Debug)]
enum Seen {
    Connected { session_present: bool },
    Subscribed,
    Acknowledged,
    Message(Message),
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
    user_properties: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug)]
enum Version {
    V311,
    V5,
}

enum Sender {
    V311(rumqttc::Client),
    V5(rumqttc::v5::Client),
}

/// What a connection is opened with.
#[derive(Default)]
struct Options {
    lasting: bool,
    will: Option<String>,
}

/// One connection, its events read by a thread of its own. Dropped, it ends without a DISCONNECT.
struct Client {
    sender: Sender,
    seen: Receiver<Seen>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Client {
    /// Connects and says whether the broker had a session.
    fn open(broker: &Broker, version: Version, id: &str, options: Options) -> (Client, bool) {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, seen, reader) = match version {
            Version::V311 => plain::open(broker, id, options, Arc::clone(&stop)),
            Version::V5 => modern::open(broker, id, options, Arc::clone(&stop)),
        };
        let client = Client { sender, seen, stop, reader: Some(reader) };
        match client.next() {
            Seen::Connected { session_present } => (client, session_present),
            other => panic!("{other:?} before CONNACK"),
        }
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(ANSWER).expect("an answer in time")
    }

    fn message(&self) -> Message {
        loop {
            if let Seen::Message(message) = self.next() {
                return message;
            }
        }
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        match &self.sender {
            Sender::V311(client) => client.subscribe(filter, plain::qos(qos)).expect("queued"),
            Sender::V5(client) => client.subscribe(filter, modern::qos(qos)).expect("queued"),
        }
        while !matches!(self.next(), Seen::Subscribed) {}
    }

    /// Publishes; above QoS 0 returns when the broker has taken the message.
    fn publish(&self, topic: &str, qos: u8, retain: bool, payload: &str) {
        match &self.sender {
            Sender::V311(client) => {
                client.publish(topic, plain::qos(qos), retain, payload).expect("queued");
            }
            Sender::V5(client) => modern::publish(client, topic, qos, retain, payload),
        }
        while qos > 0 && !matches!(self.next(), Seen::Acknowledged) {}
    }

    /// Ends the connection as a failing network does.
    fn lose(mut self) {
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

    fn disconnect(mut self) {
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
    use super::{Arc, AtomicBool, Broker, JoinHandle, Message, Options, Ordering, Receiver, Seen};
    use super::{Sender, mpsc, thread};
    use rumqttc::{Client, Event, LastWill, MqttOptions, Packet, QoS};

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
            Packet::SubAck(_) => Some(Seen::Subscribed),
            Packet::PubAck(_) | Packet::PubComp(_) => Some(Seen::Acknowledged),
            Packet::Publish(p) => Some(Seen::Message(Message {
                topic: p.topic,
                payload: String::from_utf8_lossy(&p.payload).into_owned(),
                qos: p.qos as u8,
                retain: p.retain,
                user_properties: Vec::new(),
            })),
            _ => None,
        }
    }
}

/// MQTT 5.
mod modern {
    use super::{Arc, AtomicBool, Broker, JoinHandle, Message, Options, Ordering, Receiver, Seen};
    use super::{Sender, mpsc, thread};
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{ConnectProperties, LastWill, Packet, PublishProperties};
    use rumqttc::v5::{Client, Event, MqttOptions};

    pub fn qos(level: u8) -> QoS {
        rumqttc::v5::mqttbytes::qos(level).expect("0, 1 or 2")
    }

    /// Publishes with two user properties.
    pub fn publish(client: &Client, topic: &str, level: u8, retain: bool, payload: &str) {
        let properties = PublishProperties { user_properties: marks(), ..Default::default() };
        let payload = payload.to_owned();
        let done = client.publish_with_properties(topic, qos(level), retain, payload, properties);
        done.expect("queued");
    }

    pub fn marks() -> Vec<(String, String)> {
        [("b", "1"), ("a", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
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
        if options.lasting {
            let mut properties = ConnectProperties::new();
            properties.session_expiry_interval = Some(60);
            given.set_connect_properties(properties);
        }
        if let Some(topic) = options.will {
            given.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None));
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
            Packet::SubAck(_) => Some(Seen::Subscribed),
            Packet::PubAck(_) | Packet::PubComp(_) => Some(Seen::Acknowledged),
            Packet::Publish(p) => Some(Seen::Message(Message {
                topic: String::from_utf8_lossy(&p.topic).into_owned(),
                payload: String::from_utf8_lossy(&p.payload).into_owned(),
                qos: p.qos as u8,
                retain: p.retain,
                user_properties: p.properties.map(|p| p.user_properties).unwrap_or_default(),
            })),
            _ => None,
        }
    }
}

/// A name that no other test and no earlier run used.
fn unique(name: &str) -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{serial}", std::process::id())
}

fn open(broker: &Broker, version: Version) -> Client {
    Client::open(broker, version, &unique("client"), Options::default()).0
}

fn expected(version: Version, topic: &str, payload: String, qos: u8, retain: bool) -> Message {
    let user_properties = match version {
        Version::V311 => Vec::new(),
        Version::V5 => modern::marks(),
    };
    Message { topic: topic.to_owned(), payload, qos, retain, user_properties }
}

fn every_quality_arrives_exactly_and_in_order(broker: &Broker, version: Version) {
    for qos in 0..=2 {
        let topic = format!("rumqttc/{}/{qos}", unique("topic"));
        let (subscriber, publisher) = (open(broker, version), open(broker, version));
        subscriber.subscribe(&topic, qos);
        for number in 0..MESSAGES {
            publisher.publish(&topic, qos, false, &number.to_string());
        }
        for number in 0..MESSAGES {
            let sent = expected(version, &topic, number.to_string(), qos, false);
            assert_eq!(subscriber.message(), sent);
        }
    }
}

fn a_retained_message_is_kept(broker: &Broker, version: Version) {
    let topic = format!("rumqttc/{}/kept", unique("topic"));
    open(broker, version).publish(&topic, 1, true, "kept");
    let late = open(broker, version);
    late.subscribe(&topic.replace("kept", "+"), 1);
    assert_eq!(late.message(), expected(version, &topic, "kept".to_owned(), 1, true));
}

fn a_session_waits_for_its_client(broker: &Broker, version: Version) {
    let topic = format!("rumqttc/{}/queued", unique("topic"));
    let id = unique("lasting");
    let lasting = || Options { lasting: true, will: None };
    let (client, present) = Client::open(broker, version, &id, lasting());
    assert!(!present, "a session of a new client id");
    client.subscribe(&topic, 2);
    client.disconnect();
    let publisher = open(broker, version);
    for number in 0..MESSAGES {
        publisher.publish(&topic, 2, false, &number.to_string());
    }
    let (client, present) = Client::open(broker, version, &id, lasting());
    assert!(present, "the session is gone");
    for number in 0..MESSAGES {
        let sent = expected(version, &topic, number.to_string(), 2, false);
        assert_eq!(client.message(), sent);
    }
}

fn a_lost_client_leaves_its_will(broker: &Broker, version: Version) {
    let topic = format!("rumqttc/{}/will", unique("topic"));
    let watcher = open(broker, version);
    watcher.subscribe(&topic, 1);
    let options = Options { lasting: false, will: Some(topic.clone()) };
    Client::open(broker, version, &unique("lost"), options).0.lose();
    let will = watcher.message();
    assert_eq!((will.topic, will.payload, will.qos), (topic, "gone".to_owned(), 1));
}

#[test]
fn rumqttc_is_served() {
    let broker = Broker::start();
    for version in [Version::V311, Version::V5] {
        every_quality_arrives_exactly_and_in_order(&broker, version);
        a_retained_message_is_kept(&broker, version);
        a_session_waits_for_its_client(&broker, version);
        a_lost_client_leaves_its_will(&broker, version);
    }
}
