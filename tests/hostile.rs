//! Connections that misbehave in every way, against the binary with two shards, while others work.
//!
//! `CORELANE_HOSTILE=100000 cargo test --test hostile` makes as many instead of 10,000.

use corelane::base::{PacketId, Prng};
use corelane::codec::{
    self, Connect, Disconnect, Packet, PacketType, PropertyId, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, UnsubscribeOut, Value, Version, Will,
};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ANSWER: Duration = Duration::from_secs(20);
const GOOD_CLIENTS: usize = 20;
const ATTACKERS: usize = 8;
/// Connections that an attacker leaves open behind it, the oldest making room for the next.
const LEFT_OPEN: usize = 200;
/// What a core keeps for reuse: empty buffers of its output (up to 64 MiB), the allocator's pages
/// and the tables of sessions and connections at their largest size, for two cores.
const RSS_KEPT: usize = 96 << 20;
const CONNECT_DEADLINE_MS: u64 = 1500;

struct Broker {
    address: SocketAddr,
    process: Child,
    log: Option<JoinHandle<Vec<String>>>,
}

impl Broker {
    fn start() -> Broker {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let path = std::env::temp_dir().join(format!("corelane-hostile-{}", address.port()));
        let text = format!(
            "[runtime]\nshards = 2\n[[listener]]\naddress = \"{address}\"\n\
             connect_deadline_ms = {CONNECT_DEADLINE_MS}\n"
        );
        std::fs::write(&path, text).expect("the configuration can be written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = process.stderr.take().expect("piped");
        let log = Some(std::thread::spawn(move || notable(stderr)));
        let mut broker = Broker { address, process, log };
        let deadline = Instant::now() + ANSWER;
        while TcpStream::connect(address).is_err() {
            let ended = broker.process.try_wait().expect("our own child");
            assert!(ended.is_none() && Instant::now() < deadline, "no broker: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::remove_file(&path).expect("written above");
        broker
    }

    fn rss(&self) -> usize {
        let path = format!("/proc/{}/statm", self.process.id());
        let text = std::fs::read_to_string(path).expect("the broker runs");
        let pages = text.split(' ').nth(1).expect("the second field");
        pages.parse::<usize>().expect("a number") * 4096
    }

    /// Stops the broker in order; gives its counters and what it complained about.
    fn stop(mut self) -> (BTreeMap<String, u64>, Vec<String>) {
        let pid = self.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(asked.success());
        let status = self.process.wait().expect("our own child");
        let log = self.log.take().expect("not taken before").join().expect("it reads to the end");
        assert!(status.success(), "the broker ended with {status}: {log:#?}");
        let totals = log.iter().find_map(|line| line.split_once("stopped: ")).expect("counters");
        let pairs = totals.1.split(' ').filter_map(|pair| pair.split_once('='));
        let counters =
            pairs.map(|(name, count)| (name.to_owned(), count.parse().expect("a count")));
        (counters.collect(), log)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// All lines that are not about a single connection.
fn notable(stderr: ChildStderr) -> Vec<String> {
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    lines.filter(|l| !l.contains("connection closed") && !l.contains("refused")).collect()
}

/// A connection with what has arrived and was not looked at yet.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    fn dial(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_read_timeout(Some(ANSWER)).expect("a timeout can be set");
        stream.set_write_timeout(Some(ANSWER)).expect("a timeout can be set");
        Client { stream, input: Vec::new() }
    }

    fn connected(address: SocketAddr, version: Version, client_id: &str) -> Client {
        let mut client = Client::dial(address);
        client.stream.write_all(&connect(version, client_id)).expect("written");
        client.next(|packet| assert!(matches!(packet, Some(Packet::Connack(_))), "{packet:?}"));
        client
    }

    /// Hands the next packet to `see`, or nothing at the end of the stream.
    fn next<T>(&mut self, see: impl FnOnce(Option<Packet<'_>>) -> T) -> T {
        loop {
            if let Some(frame) = codec::frame(&self.input, usize::MAX).expect("good packets") {
                let len = frame.len;
                let packet = codec::decode(&frame, Version::V5).expect("good packets");
                let seen = see(Some(packet));
                self.input.drain(..len);
                return seen;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return see(None),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                // Closed with bytes of ours unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return see(None);
                }
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    /// Reads to the end of the stream.
    fn expect_end(mut self, what: &str) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("{what}: the broker does not close: {error}"),
            }
        }
    }
}

fn connect(version: Version, client_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Connect { version, client_id, clean_start: true, ..Connect::default() }.encode(&mut out);
    out
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

/// One of those who do nothing wrong: publishes to its neighbour and hears from the other one.
fn exchange(address: SocketAddr, at: usize, stop: &AtomicBool, sent: &[AtomicU32]) {
    let mut client = Client::connected(address, Version::V5, &format!("good-{at}"));
    let (own, next) = (format!("good/{at}"), format!("good/{}", (at + 1) % GOOD_CLIENTS));
    let before = (at + GOOD_CLIENTS - 1) % GOOD_CLIENTS;
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let mut out = Vec::new();
    SubscribeOut { packet_id: id(1), subscription_id: None, filters: &[(&own, options)] }
        .encode(Version::V5, &mut out);
    client.stream.write_all(&out).expect("written");
    client.next(|packet| assert!(matches!(packet, Some(Packet::Suback(_))), "{packet:?}"));
    READY.fetch_add(1, Ordering::SeqCst);
    while READY.load(Ordering::SeqCst) < GOOD_CLIENTS {
        std::thread::yield_now();
    }
    let (mut heard, mut waits) = (0, false);
    loop {
        let stopping = stop.load(Ordering::SeqCst);
        if !waits && !stopping {
            let number = sent[at].fetch_add(1, Ordering::SeqCst) + 1;
            out.clear();
            PublishOut {
                qos: QoS::AtLeastOnce,
                topic: &next,
                packet_id: Some(id((number % 60_000 + 1) as u16)),
                payload: &number.to_be_bytes(),
                ..PublishOut::default()
            }
            .encode(Version::V5, &mut out);
            client.stream.write_all(&out).expect("written");
            waits = true;
        }
        // Neighbours stop at different times: nobody publishes after `DONE` counts all.
        if stopping && !waits {
            DONE.fetch_add(1, Ordering::SeqCst);
            break;
        }
        waits = !hear(&mut client, &mut heard);
    }
    while DONE.load(Ordering::SeqCst) < GOOD_CLIENTS {
        std::thread::yield_now();
    }
    while heard < sent[before].load(Ordering::SeqCst) {
        hear(&mut client, &mut heard);
    }
}

static READY: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Takes one packet; true for the acknowledgement of the own message.
fn hear(client: &mut Client, heard: &mut u32) -> bool {
    let answered = client.next(|packet| match packet {
        Some(Packet::Puback(ack)) => {
            assert_eq!(ack.reason, ReasonCode::SUCCESS, "a good message was refused");
            None
        }
        Some(Packet::Publish(publish)) => {
            *heard += 1;
            assert_eq!(publish.payload, heard.to_be_bytes(), "lost, doubled or out of order");
            publish.packet_id
        }
        other => panic!("a good client got {other:?}"),
    });
    let Some(packet_id) = answered else { return true };
    let mut out = Vec::new();
    let kind = PacketType::Puback;
    codec::encode_ack(kind, Version::V5, packet_id, ReasonCode::SUCCESS, None, &mut out);
    client.stream.write_all(&out).expect("written");
    false
}

/// How a misbehaving connection goes on after its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Closes at once.
    Close,
    /// Stays and says nothing more.
    Stay,
    /// Sends byte by byte, slower than the broker waits.
    Drip,
    /// The broker closes, for this reason.
    Closed(ReasonCode),
}

struct Attack {
    what: String,
    /// Sends a good CONNECT first.
    connects: bool,
    bytes: Vec<u8>,
    then: Then,
}

fn attack(what: &str, connects: bool, bytes: Vec<u8>, then: Then) -> Attack {
    Attack { what: what.to_owned(), connects, bytes, then }
}

/// A first byte and a body with its length.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut out, mut len) = (vec![first], body.len());
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(body);
    out
}

fn publish(topic: &str, alias: Option<u16>, forwarded: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let packet_id = Some(id(9));
    let qos = QoS::AtLeastOnce;
    PublishOut { qos, topic, alias, packet_id, forwarded, payload: b"x", ..PublishOut::default() }
        .encode(Version::V5, &mut out);
    out
}

fn subscribe(filters: &[(&str, SubscribeOptions)]) -> Vec<u8> {
    let mut out = Vec::new();
    SubscribeOut { packet_id: id(7), subscription_id: None, filters }.encode(Version::V5, &mut out);
    out
}

/// A good packet of each type, by name.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let will = Will { topic: "w/t", payload: b"gone", ..Will::default() };
    let mut full = Vec::new();
    let (username, password) = (Some("user"), Some(&b"secret"[..]));
    Connect {
        version: Version::V5,
        client_id: "sample",
        will: Some(will),
        username,
        password,
        ..Connect::default()
    }
    .encode(&mut full);
    let mut user = Vec::new();
    codec::put_property(&mut user, PropertyId::UserProperty, Value::Pair("k", "v"));
    let mut unsubscribe = Vec::new();
    UnsubscribeOut { packet_id: id(3), filters: &["a/b"] }.encode(Version::V5, &mut unsubscribe);
    let mut leave = Vec::new();
    let reason_string = Some("enough");
    let reason = ReasonCode::DISCONNECT_WITH_WILL;
    Disconnect { reason, reason_string, ..Disconnect::default() }.encode(Version::V5, &mut leave);
    let mut samples = vec![
        ("CONNECT", full),
        ("PUBLISH", publish("t/opic", None, &user)),
        ("SUBSCRIBE", subscribe(&[("a/+", SubscribeOptions::default())])),
        ("UNSUBSCRIBE", unsubscribe),
        ("DISCONNECT", leave),
        ("PINGREQ", vec![0xc0, 0]),
        ("AUTH", packet(0xf0, &[0x18, 6, 0x15, 0, 3, b'a', b'b', b'c'])),
        ("CONNACK", vec![0x20, 3, 0, 0, 0]),
    ];
    for (name, kind) in [
        ("PUBACK", PacketType::Puback),
        ("PUBREC", PacketType::Pubrec),
        ("PUBREL", PacketType::Pubrel),
        ("PUBCOMP", PacketType::Pubcomp),
    ] {
        let mut out = Vec::new();
        let reason = match kind {
            PacketType::Puback | PacketType::Pubrec => ReasonCode::UNSPECIFIED_ERROR,
            _ => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        };
        codec::encode_ack(kind, Version::V5, id(4), reason, Some("why"), &mut out);
        samples.push((name, out));
    }
    samples
}

/// Every sample cut at every byte.
fn truncations(attacks: &mut Vec<Attack>) {
    for (name, sample) in samples() {
        for end in 0..sample.len() {
            let bytes = sample[..end].to_vec();
            let connects = name != "CONNECT";
            let what = format!("{name} cut at {end}");
            attacks.push(attack(&what, connects, bytes.clone(), Then::Close));
            attacks.push(attack(&what, connects, bytes, Then::Stay));
        }
        // The same with a length that fits: the packet is whole and ends inside a field.
        for end in 0..sample.len() - 2 {
            let what = format!("{name} ending after {end}");
            let bytes = packet(sample[0], &sample[2..2 + end]);
            attacks.push(attack(&what, name != "CONNECT", bytes, Then::Close));
        }
    }
}

fn oversized(attacks: &mut Vec<Attack>) {
    use ReasonCode as R;
    let long = "t".repeat(65_535);
    let deep = "l/".repeat(200);
    let mut crowd = Vec::new();
    for _ in 0..10_000 {
        codec::put_property(&mut crowd, PropertyId::UserProperty, Value::Pair("key", "value"));
    }
    let names: Vec<String> = (0..10_000).map(|at| format!("many/{at}")).collect();
    let options = SubscribeOptions::default();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), options)).collect();
    let mut out = vec![
        ("length beyond four bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], R::MALFORMED_PACKET),
        ("needless length bytes", vec![0xc0, 0x80, 0], R::MALFORMED_PACKET),
        ("a quarter gigabyte", vec![0x30, 0xff, 0xff, 0xff, 0x7f], R::PACKET_TOO_LARGE),
        ("200 levels", publish(&deep, None, &[]), R::TOPIC_NAME_INVALID),
        ("alias 0", publish("t", Some(0), &[]), R::TOPIC_ALIAS_INVALID),
        ("alias out of range", publish("t", Some(60_000), &[]), R::TOPIC_ALIAS_INVALID),
        ("unknown alias", publish("", Some(3), &[]), R::PROTOCOL_ERROR),
        ("packet identifier 0", packet(0x32, &[0, 1, b't', 0, 0, 0]), R::PROTOCOL_ERROR),
        ("QoS 3", packet(0x36, &[0, 1, b't', 0, 1, 0]), R::MALFORMED_PACKET),
        ("a second CONNECT", connect(Version::V5, "second"), R::PROTOCOL_ERROR),
        ("SUBACK from a client", packet(0x90, &[0, 1, 0, 0]), R::PROTOCOL_ERROR),
        ("wildcard in a topic", publish("a/#", None, &[]), R::TOPIC_NAME_INVALID),
        ("topic that is not UTF-8", packet(0x30, &[0, 1, 0xff, 0]), R::MALFORMED_PACKET),
    ];
    for (what, bytes, reason) in out.drain(..) {
        attacks.push(attack(what, true, bytes, Then::Closed(reason)));
    }
    attacks.push(attack("65,535 bytes of topic", true, publish(&long, None, &[]), Then::Stay));
    attacks.push(attack("10,000 properties", true, publish("t", None, &crowd), Then::Stay));
    attacks.push(attack("10,000 filters", true, subscribe(&many), Then::Stay));
    let first = connect(Version::V5, "drip");
    attacks.push(attack("a dripping CONNECT", false, first, Then::Drip));
    let first = publish("t", None, &[]);
    attacks.push(attack("no CONNECT", false, first, Then::Closed(R::PROTOCOL_ERROR)));
    let other = packet(0x10, &[0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 0]);
    let reason = R::UNSUPPORTED_PROTOCOL_VERSION;
    attacks.push(attack("version 9", false, other, Then::Closed(reason)));
    // A reader that never reads, drowned in its own messages.
    let mut flood = subscribe(&[("flood/+", options)]);
    let payload = vec![7; 16 * 1024];
    for _ in 0..64 {
        PublishOut { topic: "flood/x", payload: &payload, ..PublishOut::default() }
            .encode(Version::V5, &mut flood);
    }
    attacks.push(attack("never reads", true, flood, Then::Stay));
}

/// Random bytes, half of them behind a good first byte.
fn noise(random: &mut Prng, attacks: &mut Vec<Attack>) {
    for round in 0..200 {
        let mut bytes: Vec<u8> =
            (0..1 + random.below(64)).map(|_| random.below(256) as u8).collect();
        if round % 2 == 0 {
            bytes = packet(bytes[0] & 0xf0 | 0x02, &bytes);
        }
        let then = if round % 5 == 0 { Then::Stay } else { Then::Close };
        attacks.push(attack("noise", round % 3 != 0, bytes, then));
    }
}

/// Runs one misbehaving connection; gives it back when it stays open.
fn misbehave(address: SocketAddr, attack: &Attack, number: usize) -> Option<Client> {
    let mut client = match attack.connects {
        true => Client::connected(address, Version::V5, &format!("bad-{number}")),
        false => Client::dial(address),
    };
    match attack.then {
        Then::Drip => {
            let pace = Duration::from_millis(2 * CONNECT_DEADLINE_MS / attack.bytes.len() as u64);
            for byte in &attack.bytes {
                std::thread::sleep(pace);
                if client.stream.write_all(&[*byte]).is_err() {
                    break;
                }
            }
            client.expect_end(&attack.what);
            return None;
        }
        // The broker may close, or stop reading, before everything was taken.
        Then::Stay => {
            client.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("set");
            client.stream.write_all(&attack.bytes).ok();
            return Some(client);
        }
        Then::Close | Then::Closed(_) => client.stream.write_all(&attack.bytes).ok(),
    };
    if let Then::Closed(_) = attack.then {
        client.expect_end(&attack.what);
    }
    None
}

/// Works through the attacks; `next` deals them out.
fn attacker(address: SocketAddr, attacks: &[Attack], count: usize, next: &AtomicUsize) {
    let mut open = std::collections::VecDeque::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        let attack = &attacks[number % attacks.len()];
        // Those that take long need not come in every round.
        let seldom = attack.then == Then::Drip || attack.what == "never reads";
        if seldom && !(number / attacks.len()).is_multiple_of(4) {
            continue;
        }
        if let Then::Closed(reason) = attack.then {
            *EXPECTED.lock().expect("nobody panics with it").entry(reason.0).or_default() += 1;
        }
        open.extend(misbehave(address, attack, number));
        if open.len() > LEFT_OPEN {
            open.pop_front();
        }
    }
}

/// How many were closed for which reason.
static EXPECTED: Mutex<BTreeMap<u8, u64>> = Mutex::new(BTreeMap::new());

#[test]
fn those_who_misbehave_harm_nobody() {
    let count = std::env::var("CORELANE_HOSTILE").map_or(10_000, |n| n.parse().expect("a number"));
    let mut attacks = Vec::new();
    truncations(&mut attacks);
    oversized(&mut attacks);
    noise(&mut Prng::new(1), &mut attacks);
    let broker = Broker::start();
    let address = broker.address;
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let sent: Vec<AtomicU32> = (0..GOOD_CLIENTS).map(|_| AtomicU32::new(0)).collect();
    let before = std::thread::scope(|scope| {
        for at in 0..GOOD_CLIENTS {
            let (stop, sent) = (&stop, &sent);
            scope.spawn(move || exchange(address, at, stop, sent));
        }
        while sent.iter().any(|count| count.load(Ordering::Relaxed) < 100) {
            std::thread::yield_now();
        }
        let before = broker.rss();
        let run = || attacker(address, &attacks, count, &next);
        let attackers: Vec<_> = (0..ATTACKERS).map(|_| scope.spawn(run)).collect();
        let ended: Vec<bool> = attackers.into_iter().map(|a| a.join().is_ok()).collect();
        stop.store(true, Ordering::SeqCst);
        assert!(ended.into_iter().all(|well| well), "an attacker met what it did not expect");
        before
    });
    let deadline = Instant::now() + ANSWER;
    while broker.rss() > before + RSS_KEPT {
        assert!(Instant::now() < deadline, "{before} bytes before, {} after", broker.rss());
        std::thread::sleep(Duration::from_millis(100));
    }
    let exchanged: u32 = sent.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    println!(
        "{exchanged} good messages; {} KiB before, {} KiB after",
        before >> 10,
        broker.rss() >> 10
    );
    let (counters, log) = broker.stop();
    println!("{counters:#?}");
    let panics = log.iter().filter(|line| line.contains("panicked"));
    assert_eq!(panics.count(), 0, "{log:#?}");
    let counted = |name: &str| counters.get(name).copied().unwrap_or(0);
    for (code, expected) in EXPECTED.lock().expect("nobody panics with it").iter() {
        let name = ReasonCode(*code).name().expect("a known code").to_lowercase().replace(' ', "_");
        let found = counted(&format!("protocol_errors_{name}"));
        assert!(found >= *expected, "{name}: {found} counted, {expected} made");
    }
    assert!(counted("connect_timeouts") > 0, "dripping is counted");
    assert_eq!(counted("connections_opened"), counted("connections_closed"));
}
