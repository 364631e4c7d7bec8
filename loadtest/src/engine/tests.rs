//! The engine against a small server that can be told to misbehave.
//!
//! The server relays what a publisher sends to every other connection; it speaks as much MQTT
//! 3.1.1 as that needs. It does its wrong to every thousandth PUBLISH.

use super::*;
use crate::scenario::{Kind, Sizes, parse};
use corelane::codec::{
    Connack, Packet, PacketType, ReasonCode, Version, decode, encode_ack, encode_suback, frame,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vice {
    None,
    Drop,
    Repeat,
    Delay,
    Spoil,
    HangUp,
    Refuse,
    Silent,
    /// Once, in the middle: it stops for this many milliseconds.
    Stall(u64),
}

#[derive(Default)]
struct Server {
    subscribers: Mutex<Vec<TcpStream>>,
    published: AtomicU64,
    /// How long the one stall really took, nanoseconds.
    stalled_ns: AtomicU64,
}

fn serve(listener: &TcpListener, vice: Vice) -> Arc<Server> {
    let server = Arc::new(Server::default());
    let (listener, found) = (listener.try_clone().expect("a descriptor"), Arc::clone(&server));
    // The threads end with an error when the engine closes its connections.
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let server = Arc::clone(&server);
            thread::spawn(move || converse(&server, stream, vice));
        }
    });
    found
}

fn converse(server: &Server, mut stream: TcpStream, vice: Vice) -> io::Result<()> {
    let mut input = Vec::new();
    let mut held = None;
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 || vice == Vice::Refuse {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..count]);
        let mut at = 0;
        while let Some(found) = frame(&input[at..], 1 << 20).expect("the engine frames well") {
            let packet = &input[at..at + found.len];
            at += found.len;
            let mut out = Vec::new();
            match decode(&found, Version::V311).expect("the engine writes what it should") {
                Packet::Connect(_) if vice == Vice::Silent => {}
                Packet::Connect(_) => Connack::default().encode(Version::V311, &mut out),
                Packet::Subscribe(subscribe) => {
                    let id = subscribe.packet_id;
                    encode_suback(Version::V311, id, &[ReasonCode::SUCCESS], None, &mut out);
                    let mut all = server.subscribers.lock().expect("no thread panics");
                    all.push(stream.try_clone()?);
                }
                Packet::Publish(publish) => {
                    if let Some(id) = publish.packet_id {
                        let kind = PacketType::Puback;
                        encode_ack(kind, Version::V311, id, ReasonCode::SUCCESS, None, &mut out);
                    }
                    if !relay(server, packet, vice, &mut held)? {
                        return Ok(());
                    }
                }
                _ => {}
            }
            stream.write_all(&out)?;
        }
        input.drain(..at);
    }
}

/// Passes one packet on; false where the server hangs up.
fn relay(
    server: &Server,
    packet: &[u8],
    vice: Vice,
    held: &mut Option<Vec<u8>>,
) -> io::Result<bool> {
    let count = 1 + server.published.fetch_add(1, Relaxed);
    let mut packet = packet.to_vec();
    let mut times = 1;
    if let (Vice::Stall(ms), 500) = (vice, count) {
        let begin = Instant::now();
        thread::sleep(Duration::from_millis(ms));
        server.stalled_ns.store(begin.elapsed().as_nanos() as u64, Relaxed);
    }
    match vice {
        _ if !count.is_multiple_of(1000) => {}
        Vice::Drop => times = 0,
        Vice::Repeat => times = 2,
        Vice::Delay => {
            *held = Some(packet);
            return Ok(true);
        }
        Vice::Spoil => *packet.last_mut().expect("not empty") ^= 1,
        Vice::HangUp => return Ok(false),
        _ => {}
    }
    for mut subscriber in server.subscribers.lock().expect("no thread panics").iter() {
        for _ in 0..times {
            subscriber.write_all(&packet)?;
        }
        if let Some(late) = &held {
            subscriber.write_all(late)?;
        }
    }
    *held = None;
    Ok(true)
}

#[test]
fn runs_that_begin_at_once_have_clients_of_their_own() {
    assert_ne!(run_name(1), run_name(1));
}

/// A pipe whose publishers and subscribers take over and unsubscribe at random.
fn restless(qos: u8, seed: u64) -> Outcome {
    let text = format!(
        r#"
        seconds = 1
        warmup_s = 0
        patience_s = 20
        version = "5"
        seed = {seed}
        [[group]]
        name = "rivals"
        role = "subscribe"
        count = 4
        topics = ["restless/{qos}/{seed}/{{i}}"]
        qos = {qos}
        clean = false
        expiry_s = 60
        takeover_every_s = 0.05
        [[group]]
        name = "moody"
        role = "subscribe"
        count = 4
        topics = ["restless/{qos}/{seed}/{{i}}"]
        qos = {qos}
        unsubscribe_every_s = 0.05
        [[group]]
        name = "writers"
        role = "publish"
        count = 4
        topics = ["restless/{qos}/{seed}/{{i}}"]
        qos = {qos}
        clean = false
        expiry_s = 60
        rate = 500
        takeover_every_s = 0.1
        "#
    );
    drive(&parse("restless", &text).expect("valid"), crate::door::tests::broker().tcp)
}

#[test]
fn take_overs_and_unsubscribes_lose_and_repeat_nothing() {
    for qos in [1, 2] {
        let found = restless(qos, 3);
        assert!(found.passed(), "{:?} {:?} {:?}", found.partial, found.truth, found.totals);
        let totals = &found.totals;
        assert!(totals.takeovers > 10 && totals.unsubscribes > 10, "{totals:?}");
        assert_eq!(found.totals.reconnects, found.totals.takeovers);
        assert_eq!(found.totals.resumed, found.totals.takeovers);
        assert!(found.truth.checked > 500 && found.truth.duplicated[2] == 0);
    }
}

#[test]
fn a_server_that_keeps_the_old_connection_misbehaves() {
    let (listener, address) = listen();
    serve(&listener, Vice::None);
    let mut scenario = pipe(0);
    (scenario.messages, scenario.seconds) = (None, 0.5);
    scenario.groups[0].takeover_every_s = 0.05;
    scenario.groups[1].rate = Some(100.0);
    let found = drive(&scenario, address);
    assert!(matches!(found.broker, BrokerVerdict::Misbehaved(_)), "{:?}", found.broker);
    assert!(found.partial.is_some_and(|why| why.contains("taken over")));
}

fn watch_nothing(_: Live<'_>) {}

fn drive(scenario: &Scenario, address: SocketAddr) -> Outcome {
    crate::scenario::check(scenario).expect("the scenario is valid");
    let target = Target { address, pid: None, name: "test".into(), door: Door::default() };
    let requests = Requests::new(Vec::new());
    let watch = &mut watch_nothing;
    let label = String::new();
    run(scenario, &mut Conditions { target: &target, requests: &requests, watch, label })
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// 5,000 messages of a pipe in a closed loop.
fn pipe(qos: u8) -> Scenario {
    let shape = crate::scenario::Shape { qos, ..crate::scenario::Shape::new(Kind::Pipe) };
    Scenario { messages: Some(5_000), warmup_s: 0.0, patience_s: 1.0, ..shape.scenario() }
}

fn outcome(vice: Vice) -> Outcome {
    let (listener, address) = listen();
    serve(&listener, vice);
    drive(&pipe(0), address)
}

#[test]
fn an_honest_server_passes() {
    let found = outcome(Vice::None);
    assert!(found.passed(), "{found:?}");
    assert!(found.truth.checked >= 5_000 && found.totals.sent >= 5_000);
    assert!(found.latency.p50_ns > 0 && found.latency.p50_ns <= found.latency.max_ns);
    assert_eq!(found.totals.connects, 2);
}

#[test]
fn acknowledgements_are_timed() {
    let (listener, address) = listen();
    serve(&listener, Vice::None);
    let mut scenario = pipe(1);
    scenario.groups[0].qos = 1;
    scenario.groups[1].qos = 1;
    let found = drive(&scenario, address);
    assert!(found.passed(), "{found:?}");
    assert!(found.ack.count > 0 && found.totals.acknowledged > 0);
}

#[test]
fn a_dropped_message_is_lost() {
    let found = outcome(Vice::Drop);
    assert!(found.truth.lost[0] >= 5 && !found.passed(), "{found:?}");
    assert_eq!(found.truth.duplicated_total() + found.truth.reordered, 0);
}

#[test]
fn a_repeated_message_is_a_duplicate() {
    let found = outcome(Vice::Repeat);
    assert!(found.truth.duplicated[0] >= 5 && found.truth.lost_total() == 0, "{found:?}");
    assert!(!found.passed());
}

#[test]
fn an_overtaken_message_is_reordered_not_lost() {
    let found = outcome(Vice::Delay);
    assert!(found.truth.reordered >= 5, "{found:?}");
    // The last one held has no successor to overtake it.
    assert!(found.truth.lost_total() <= 1 && !found.passed(), "{found:?}");
}

#[test]
fn a_spoiled_payload_is_corrupt() {
    let found = outcome(Vice::Spoil);
    assert!(found.truth.corrupted >= 5 && !found.passed(), "{found:?}");
}

#[test]
fn a_hang_up_keeps_the_figures_until_then() {
    let found = outcome(Vice::HangUp);
    assert!(matches!(found.broker, BrokerVerdict::Died(_)), "{:?}", found.broker);
    assert!(found.partial.is_some() && !found.passed());
    assert!(found.truth.checked > 0, "{:?}", found.truth);
    assert_eq!(found.truth.lost_total(), 0, "what was under way is not lost");
}

#[test]
fn a_server_that_turns_clients_away_is_told_from_one_that_is_not_there() {
    let found = outcome(Vice::Refuse);
    assert!(matches!(found.broker, BrokerVerdict::Refused(_)), "{:?}", found.broker);
    let (listener, address) = listen();
    drop(listener);
    let found = drive(&pipe(0), address);
    assert!(matches!(found.broker, BrokerVerdict::Unreachable(_)), "{:?}", found.broker);
}

#[test]
fn a_server_that_says_nothing_is_stuck() {
    let found = outcome(Vice::Silent);
    assert!(matches!(found.broker, BrokerVerdict::Stuck(_)), "{:?}", found.broker);
}

#[test]
fn a_stall_shows_at_its_true_size_in_an_open_loop() {
    let (listener, address) = listen();
    let server = serve(&listener, Vice::Stall(300));
    let mut scenario = pipe(0);
    scenario.messages = Some(2_000);
    scenario.groups[1].rate = Some(1_000.0);
    let found = drive(&scenario, address);
    let stall_ns = server.stalled_ns.load(Relaxed);
    assert!(stall_ns >= 300_000_000 && found.truth.faultless(), "{found:?}");
    // At 1,000/s a stall of 300 ms delays 300 messages, the first by all of it. A closed loop
    // would have seen one. p99.9 of 2,000 messages is the third largest latency.
    let p999_ns = found.latency.p999_ns;
    assert!(p999_ns as f64 >= 0.97 * stall_ns as f64, "{p999_ns} of {stall_ns}");
    assert!(found.latency.max_ns >= stall_ns, "{} of {stall_ns}", found.latency.max_ns);
    let late = found.latency.histogram();
    let above = 1.0 - late.quantile_below(stall_ns / 2);
    let expected = 0.5 * stall_ns as f64 / 1e6 / found.latency.count as f64;
    assert!(above >= 0.8 * expected, "{above} of {expected} are above half the stall");
}

#[test]
fn sizes_and_topics_of_every_kind_arrive_whole() {
    let (listener, address) = listen();
    serve(&listener, Vice::None);
    let text = r##"
        seconds = 0.5
        warmup_s = 0
        patience_s = 2
        cpus = []
        [[group]]
        name = "s"
        role = "subscribe"
        topics = ["#"]
        [[group]]
        name = "p"
        role = "publish"
        topics = ["t/{n}"]
        topic_count = 50
        zipf = 1.0
        payload = { sizes = [24, 64, 9000], weights = [5, 4, 1] }
        window = 64
        batch = 8
        think_ms = 1
    "##;
    let found = drive(&parse("kinds", text).expect("valid"), address);
    assert!(found.passed() && found.truth.checked > 100, "{found:?}");
}

/// 3,000 messages of one client to another, recorded in 0.3 s.
fn replay_outcome(vice: Vice) -> Outcome {
    let (listener, address) = listen();
    serve(&listener, vice);
    let greeting = "version=3.1.1 clean=1 keep_alive=60 expiry=0 will=0";
    let mut text = format!(
        "corelane-traffic 1 topics=kept\n0 0 connect client=0 {greeting}\n0 0 subscribe 0 a/+\n\
         0 1 connect client=1 {greeting}\n"
    );
    for at in 0..3_000 {
        text += &format!("{} 1 publish 0 0 64 a/b\n", 100 * at);
    }
    let recording = crate::traffic::read("made", &text).expect("valid");
    let scale = crate::replay::Scale { rate: 1.0, copies: 1 };
    let mut laid = crate::replay::lay("made", &recording, scale).expect("it can be laid out");
    laid.scenario.patience_s = 1.0;
    let target = Target { address, pid: None, name: "test".into(), door: Door::default() };
    let requests = Requests::new(Vec::new());
    let (watch, label) = (&mut watch_nothing, String::new());
    let with = &mut Conditions { target: &target, requests: &requests, watch, label };
    run_plan(&laid.scenario, laid.plan, with)
}

#[test]
fn a_replay_finds_what_a_scenario_finds() {
    let found = replay_outcome(Vice::None);
    assert!(found.passed() && found.truth.checked == 3_000, "{found:?}");
    assert_eq!(replay_outcome(Vice::Drop).truth.lost, [3, 0, 0]);
    assert_eq!(replay_outcome(Vice::Repeat).truth.duplicated, [3, 0, 0]);
    assert_eq!(replay_outcome(Vice::Spoil).truth.corrupted, 3);
    let found = replay_outcome(Vice::Delay);
    // The last one held has no successor.
    assert_eq!((found.truth.reordered, found.truth.lost), (2, [1, 0, 0]), "{found:?}");
    let found = replay_outcome(Vice::HangUp);
    assert!(matches!(found.broker, BrokerVerdict::Died(_)) && !found.passed(), "{found:?}");
    let found = replay_outcome(Vice::Silent);
    assert!(matches!(found.broker, BrokerVerdict::Stuck(_)), "{:?}", found.broker);
}

#[test]
fn the_operator_can_stop_a_run() {
    let (listener, address) = listen();
    serve(&listener, Vice::None);
    let scenario = Scenario { messages: None, seconds: 1000.0, ..pipe(0) };
    let target = Target { address, pid: None, name: "test".into(), door: Door::default() };
    let requests = Requests::new(Vec::new());
    let mut watch = |live: Live<'_>| {
        if live.doing == "measuring" {
            requests.stop();
        }
    };
    let label = String::new();
    let watch: &mut dyn FnMut(Live<'_>) = &mut watch;
    let with = &mut Conditions { target: &target, requests: &requests, watch, label };
    let found = run(&scenario, with);
    assert_eq!(found.partial.as_deref(), Some("stopped by the operator"));
    assert_eq!(found.broker, BrokerVerdict::Stayed);
    assert_eq!(found.scenario.groups[1].payload, Sizes::Fixed(64));
}
