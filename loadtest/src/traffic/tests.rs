//! Lines, files, the veil, the decoder, the sink and the tap.

use super::*;
use corelane::base::{PacketId, Prng};
use corelane::codec::{
    Connect, PublishOut, QoS, ReasonCode, SubscribeOptions, SubscribeOut, UnsubscribeOut, Will,
    encode_disconnect, encode_pingreq,
};
use corelane::runtime::Requests;
use corelane::topic::{Subscription, TopicName};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

/// A text of a few levels out of a small alphabet, with `extra` levels among them.
fn levels(prng: &mut Prng, extra: &[&str]) -> String {
    let plain = ["a", "b", "", "$SYS", "$c", "ä ö", "50%"];
    let all: Vec<&str> = plain.iter().chain(extra).copied().collect();
    let count = 1 + prng.below(4);
    (0..count).map(|_| all[prng.below(all.len())]).collect::<Vec<_>>().join("/")
}

/// A valid topic.
fn topic(prng: &mut Prng) -> String {
    let made = levels(prng, &[]);
    if TopicName::new(&made).is_ok() { made } else { topic(prng) }
}

/// A valid filter, of a share group at times.
fn filter(prng: &mut Prng) -> String {
    let prefix = ["", "", "", "$share/g/", "$share/h i/", "$exclusive/"][prng.below(6)];
    let made = format!("{prefix}{}", levels(prng, &["+", "+", "#"]));
    if Subscription::parse(&made).is_ok() { made } else { filter(prng) }
}

fn matches(filter: &str, topic: &str) -> bool {
    let filter = Subscription::parse(filter).expect("a valid filter").filter();
    filter.matches(TopicName::new(topic).expect("a valid topic"))
}

#[test]
fn hashed_filters_match_hashed_topics_as_the_plain_ones_do() {
    let mut prng = Prng::new(4);
    let veil = Veil::hashed();
    let mut hits = 0;
    for _ in 0..20_000 {
        let (filter, topic) = (filter(&mut prng), topic(&mut prng));
        let (hidden, name) = (veil.filter(&filter), veil.topic(&topic));
        assert_eq!(matches(&filter, &topic), matches(&hidden, &name), "{filter} {topic}");
        hits += usize::from(matches(&filter, &topic));
        let shares =
            |text: &str| matches!(Subscription::parse(text), Ok(Subscription::Shared { .. }));
        assert_eq!(shares(&filter), shares(&hidden), "{filter}");
    }
    assert!(hits > 1000, "{hits}");
}

#[test]
fn a_veil_hides_every_name_and_another_veil_differs() {
    let (one, other) = (Veil::hashed(), Veil::hashed());
    let hidden = one.filter("$share/gang/home/+/kitchen/#");
    for name in ["gang", "home", "kitchen"] {
        assert!(!hidden.contains(name), "{hidden}");
    }
    assert!(hidden.starts_with("$share/") && hidden.contains("/+/") && hidden.ends_with("/#"));
    assert_eq!(one.topic("home/x"), one.topic("home/x"));
    assert_ne!(one.topic("home/x"), other.topic("home/x"));
    assert!(one.topic("$SYS/uptime").starts_with("$SYS/"));
    assert!(one.topic("$own/x").starts_with('$') && !one.topic("$own/x").contains("own"));
    assert_eq!(Veil::kept().topic("home/x"), "home/x");
}

/// Any event.
fn event(prng: &mut Prng) -> Event {
    let version = [Version::V31, Version::V311, Version::V5][prng.below(3)];
    match prng.below(6) {
        0 => Event::Connect {
            client: prng.next_u64() as u32,
            greeting: Greeting {
                version,
                clean: prng.one_in(2),
                keep_alive_s: prng.next_u64() as u16,
                expiry_s: prng.next_u64() as u32,
            },
            will: prng.one_in(2),
        },
        1 => {
            let mut wish = |_| Wish {
                qos: prng.below(3) as u8,
                no_local: prng.one_in(2),
                filter: filter(prng),
            };
            Event::Subscribe((0..3).map(&mut wish).collect())
        }
        2 => Event::Unsubscribe((0..2).map(|_| filter(prng)).collect()),
        3 => Event::Publish {
            qos: prng.below(3) as u8,
            retain: prng.one_in(2),
            size: prng.next_u64() as u32,
            topic: format!("{}\u{1}\r\n\u{7f}é", topic(prng)),
        },
        4 => Event::Disconnect { clean: prng.one_in(2) },
        _ => Event::Undecoded("a packet, that nobody sends: 5 % \"quoted\"".into()),
    }
}

#[test]
fn what_is_printed_is_read_again() {
    let mut prng = Prng::new(9);
    for _ in 0..5_000 {
        let (at_us, connection) = (prng.next_u64(), prng.next_u64() as u32);
        let moment = Moment { at_us, connection, event: event(&mut prng) };
        let mut line = String::new();
        print(&moment, &mut line);
        let line = line.strip_suffix('\n').expect("a line ends");
        assert!(line.bytes().all(|byte| byte >= b' ' && byte != 0x7f), "{line:?}");
        assert_eq!(parse(line).as_ref(), Ok(&moment), "{line}");
    }
}

const WHOLE: &str = "corelane-traffic 1 topics=kept
0 0 connect client=0 version=3.1.1 clean=1 keep_alive=60 expiry=0 will=0
5 0 subscribe 1 a/ö/+ 0n c/#
7 1 undecoded not MQTT: this looks like TLS
9 0 publish 2 1 64 a/%20b/%25
9 0 unsubscribe c/#
20 0 disconnect 1
25 end 3
";

#[test]
fn a_recording_cut_anywhere_is_read_up_to_its_last_whole_line() {
    let whole = read("whole", WHOLE).expect("valid");
    assert_eq!((whole.moments.len(), whole.lost, whole.cut), (6, 3, false));
    let first = WHOLE.find('\n').expect("a first line") + 1;
    let directory = std::env::temp_dir().join(format!("cltr-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("cut.cltr");
    for end in 0..WHOLE.len() {
        let bytes = &WHOLE.as_bytes()[..end];
        std::fs::write(&file, bytes).expect("written");
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        match load(&file) {
            Ok(found) => {
                assert!(found.cut && found.moments == whole.moments[..lines - 1], "{end}");
            }
            Err(error) => assert!(end < first && error.line == 1, "{end}: {error}"),
        }
    }
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line() {
    let connect = "0 0 connect client=0 version=5 clean=1 keep_alive=60 expiry=0 will=0";
    for (lines, line, word) in [
        ("corelane-traffic 2 topics=kept", 1, "no recording of this version"),
        ("", 1, "no recording"),
        ("corelane-traffic 1 topics=kept\nx 0 disconnect 1", 2, "microseconds"),
        ("corelane-traffic 1 topics=kept\n0 0 dance", 2, "`dance` is no event"),
        ("corelane-traffic 1 topics=kept\n0 0", 2, "no event follows"),
        ("corelane-traffic 1 topics=kept\n0 0 disconnect 1", 2, "has not connected"),
        ("corelane-traffic 1 topics=kept\n5 end 0\n6 end 0", 3, "follows the end mark"),
        ("C\n1 0 publish 3 0 5 a", 3, "`3` is no QoS"),
        ("C\n1 0 publish 1 2 5 a", 3, "neither 0 nor 1"),
        ("C\n1 0 publish 1 0 -5 a", 3, "`-5` is no number"),
        ("C\n1 0 publish 1 0 5000000000 a", 3, "is no number in range"),
        ("C\n1 0 publish 1 0 5 a/+", 3, "topic `a/+`"),
        ("C\n1 0 publish 1 0 5 a%2", 3, "two hex digits"),
        ("C\n1 0 publish 1 0 5 a%é", 3, "two hex digits"),
        ("C\n1 0 publish 1 0 5", 3, "topic is missing"),
        ("C\n1 0 publish 1 0 5 a b", 3, "`b` stands behind"),
        ("C\n1 0 subscribe", 3, "names no filter"),
        ("C\n1 0 subscribe 1", 3, "filter is missing"),
        ("C\n1 0 subscribe 1 a/#/b", 3, "filter `a/#/b`"),
        ("C\n1 0 disconnect 1\n1 0 disconnect 1", 4, "has ended"),
        ("C\n1 0 connect client=0", 3, "`version=` is missing"),
        ("C\n1 0 connect client=0 version=4", 3, "3.1, 3.1.1 or 5"),
        ("C\nD", 3, "connects again"),
        ("C\n7 0 subscribe 0 a\n6 0 subscribe 0 a", 4, "runs back from 7"),
    ] {
        let text = lines.replace('C', &format!("corelane-traffic 1 topics=kept\n{connect}"));
        let text = format!("{}\n", text.replace('D', connect));
        let told = read("x.cltr", &text).expect_err(lines).to_string();
        assert!(told.starts_with(&format!("x.cltr:{line}: ")), "{lines}: {told}");
        assert!(told.contains(word), "{lines}: {told}");
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

/// Everything a client may say, in one version; payloads of 7 and 300,000 bytes.
fn conversation(version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    let will = Will { topic: "last/words", payload: b"secret will", ..Will::default() };
    let connect = Connect {
        version,
        keep_alive: 30,
        client_id: "secret-id",
        will: Some(will),
        username: Some("secret-user"),
        password: Some(b"secret-word"),
        ..Connect::default()
    };
    connect.encode(&mut out);
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let filters = [("room/+", options), ("$share/g/all/#", SubscribeOptions::default())];
    SubscribeOut { packet_id: id(1), subscription_id: None, filters: &filters }
        .encode(version, &mut out);
    encode_pingreq(&mut out);
    let small = PublishOut { topic: "room/1", payload: b"secret1", ..PublishOut::default() };
    small.encode(version, &mut out);
    let large = vec![b's'; 300_000];
    let qos = QoS::ExactlyOnce;
    let large = PublishOut { qos, retain: true, packet_id: Some(id(2)), payload: &large, ..small };
    large.encode(version, &mut out);
    UnsubscribeOut { packet_id: id(3), filters: &["room/+"] }.encode(version, &mut out);
    encode_disconnect(version, ReasonCode::SUCCESS, None, None, &mut out);
    out
}

/// What `bytes` mean, fed in pieces of `step` bytes.
fn decoded(bytes: &[u8], step: usize, veil: &Veil) -> Vec<Event> {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for piece in bytes.chunks(step) {
        decoder.feed(piece, veil, &mut |_| 5, &mut events);
    }
    decoder.end(&mut events);
    events
}

fn expected(version: Version) -> Vec<Event> {
    let expiry_s = if version == Version::V5 { 0 } else { u32::MAX };
    let greeting = Greeting { version, clean: false, keep_alive_s: 30, expiry_s };
    let wish = |qos, filter: &str| Wish { qos, no_local: false, filter: filter.into() };
    let publish = |qos, retain, size| Event::Publish { qos, retain, size, topic: "room/1".into() };
    vec![
        Event::Connect { client: 5, greeting, will: true },
        Event::Subscribe(vec![wish(1, "room/+"), wish(0, "$share/g/all/#")]),
        publish(0, false, 7),
        publish(2, true, 300_000),
        Event::Unsubscribe(vec!["room/+".into()]),
        Event::Disconnect { clean: true },
    ]
}

#[test]
fn every_version_is_understood_however_it_is_cut() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let bytes = conversation(version);
        for step in [1, 7, 1000, 16 << 10, bytes.len()] {
            let found = decoded(&bytes, step, &Veil::kept());
            assert_eq!(found, expected(version), "{version:?} in pieces of {step}");
        }
    }
}

#[test]
fn nothing_said_in_confidence_is_recorded() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut text = String::new();
        for event in decoded(&conversation(version), 4096, &Veil::hashed()) {
            print(&Moment { at_us: 0, connection: 0, event }, &mut text);
        }
        for word in ["secret", "room", "last", "sss", "all"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn topic_aliases_stand_for_their_topics() {
    let mut bytes = Vec::new();
    Connect { version: Version::V5, ..Connect::default() }.encode(&mut bytes);
    for topic in ["a/b", "", "c", ""] {
        let alias = Some(3);
        PublishOut { topic, alias, ..PublishOut::default() }.encode(Version::V5, &mut bytes);
    }
    let found = decoded(&bytes, 5, &Veil::kept());
    let topics: Vec<&str> = found
        .iter()
        .filter_map(|event| match event {
            Event::Publish { topic, .. } => Some(topic.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(topics, ["a/b", "a/b", "c", "c"]);
    assert_eq!(found.last(), Some(&Event::Disconnect { clean: false }));
}

#[test]
fn what_is_not_understood_is_noted_once_and_ends_the_decoding() {
    let mut after = Vec::new();
    Connect::default().encode(&mut after);
    let connects = after.len();
    after.extend_from_slice(&[0x36, 2, 0, 0]);
    after.extend_from_slice(&conversation(Version::V311));
    for (bytes, events, word) in [
        (&b"\x16\x03\x01"[..], 1, "TLS"),
        (b"GET / HTTP/1.1", 1, "WebSocket"),
        (b"\x30\x05hello", 1, "does not begin with CONNECT"),
        (&after, 3, "QoS 3"),
    ] {
        let found = decoded(bytes, 3, &Veil::kept());
        assert_eq!(found.len(), events, "{found:?}");
        let why = found.iter().find_map(|event| match event {
            Event::Undecoded(why) => Some(why.as_str()),
            _ => None,
        });
        assert!(why.is_some_and(|why| why.contains(word)), "{found:?}");
    }
    assert!(connects > 0);
}

#[test]
fn a_full_file_takes_no_more_and_counts_what_it_lost() {
    let sink = Sink::new(Veil::kept(), 400);
    let mut decoder = Decoder::default();
    let mut bytes = Vec::new();
    Connect::default().encode(&mut bytes);
    for _ in 0..100 {
        PublishOut { topic: "a", ..PublishOut::default() }.encode(Version::V311, &mut bytes);
    }
    sink.heard(0, &mut decoder, Instant::now(), &bytes);
    sink.gone(0, &mut decoder);
    sink.close();
    let mut file = Vec::new();
    sink.write(&mut file).expect("memory takes all");
    let found = read("full", std::str::from_utf8(&file).expect("text")).expect("valid");
    let tally = sink.tally();
    assert!(tally.full && file.len() < 420 && tally.lost > 50, "{tally:?}");
    assert_eq!(found.lost + found.moments.len() as u64, 102);
    assert_eq!((tally.events, found.cut), (found.moments.len() as u64, false));
}

/// Runs a tap to `to` around `work`, which gets its address; what it recorded.
fn tapped(to: SocketAddr, work: impl FnOnce(SocketAddr, &Tap<'_>)) -> Recording {
    let sink = Sink::new(Veil::kept(), u64::MAX);
    let tap = Tap::new(to, &sink);
    let requests = Requests::new(Vec::new());
    let (listener, address) = listen();
    thread::scope(|scope| {
        let run = scope.spawn(|| tap.run(&listener, &requests, None, &mut |_| {}));
        work(address, &tap);
        requests.stop();
        run.join().expect("no panic").expect("the listener is whole");
    });
    sink.close();
    let mut file = Vec::new();
    sink.write(&mut file).expect("memory takes all");
    read("tapped", std::str::from_utf8(&file).expect("text")).expect("valid")
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut prng = Prng::new(seed);
    (0..len).map(|_| prng.next_u64() as u8).collect()
}

#[test]
fn the_tap_changes_no_byte_either_way_and_keeps_half_closed_connections() {
    let (listener, broker) = listen();
    // Not MQTT, so that what is not understood is passed on too; more than all buffers hold.
    let (up, down) = (noise(1, 3 << 20), noise(2, 3 << 20));
    let found = tapped(broker, |address, _| {
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut stream = listener.accept().expect("the tap connects").0;
                let mut all = Vec::new();
                stream.read_to_end(&mut all).expect("up to the client's end");
                // The client has said all it has to say; it still listens.
                stream.write_all(&down).expect("the tap takes it");
                all
            });
            let mut client = TcpStream::connect(address).expect("the tap listens");
            client.write_all(&up).expect("the tap takes it");
            client.shutdown(Shutdown::Write).expect("still open");
            let mut all = Vec::new();
            client.read_to_end(&mut all).expect("up to the server's end");
            assert!(all == down, "the way down");
            assert!(server.join().expect("no panic") == up, "the way up");
        });
    });
    assert!(matches!(found.moments[..], [Moment { event: Event::Undecoded(_), .. }]), "{found:?}");
}

/// Reads until the connection ends, in whatever way.
fn until_end(mut stream: &TcpStream) -> io::Result<usize> {
    io::copy(&mut stream, &mut io::sink()).map(|count| count as usize)
}

#[test]
fn the_tap_survives_a_broker_that_refuses_and_one_that_dies() {
    let (gone, nobody) = listen();
    drop(gone);
    let found = tapped(nobody, |address, tap| {
        for _ in 0..3 {
            let client = TcpStream::connect(address).expect("the tap listens");
            assert!(until_end(&client).unwrap_or(0) == 0);
        }
        assert_eq!(tap.connections().1, 3);
    });
    assert_eq!(found.moments, []);
    let (listener, broker) = listen();
    let found = tapped(broker, |address, tap| {
        let mut client = TcpStream::connect(address).expect("the tap listens");
        let mut connect = Vec::new();
        Connect::default().encode(&mut connect);
        client.write_all(&connect).expect("the tap takes it");
        let mut server = listener.accept().expect("the tap connects").0;
        let mut came = vec![0; connect.len()];
        server.read_exact(&mut came).expect("passed on");
        drop(server);
        assert_eq!(until_end(&client).unwrap_or(0), 0, "the client learns of it");
        drop(client);
        // Another connection is not touched by that.
        let mut client = TcpStream::connect(address).expect("the tap listens");
        client.write_all(&connect).expect("the tap takes it");
        let mut server = listener.accept().expect("the tap connects").0;
        server.read_exact(&mut came).expect("passed on");
        assert_eq!((came, tap.connections()), (connect, (2, 0)));
    });
    let ends = found.moments.iter().filter(|one| one.event == Event::Disconnect { clean: false });
    assert_eq!((found.moments.len(), ends.count()), (4, 2), "{found:?}");
}

#[test]
fn clients_are_known_again_by_their_identifier_and_only_then() {
    let sink = Sink::new(Veil::hashed(), u64::MAX);
    for (connection, name) in (0..).zip(["one", "two", "one", "", ""]) {
        let mut bytes = Vec::new();
        Connect { client_id: name, clean_start: true, ..Connect::default() }.encode(&mut bytes);
        sink.heard(connection, &mut Decoder::default(), Instant::now(), &bytes);
    }
    sink.close();
    let mut file = Vec::new();
    sink.write(&mut file).expect("memory takes all");
    let found = read("file", std::str::from_utf8(&file).expect("text")).expect("valid");
    let numbers: Vec<u32> = found
        .moments
        .iter()
        .filter_map(|moment| match moment.event {
            Event::Connect { client, .. } => Some(client),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [0, 1, 0, 2, 3]);
}
