//! Connections that misbehave in every way, against the binary with two shards, while others work.
//!
//! `CORELANE_HOSTILE=100000 cargo test --test hostile` makes as many instead of 10,000.

mod attack;
mod broker;
mod doors;
mod judge;
mod overflow;

use attack::{Attack, Then};
use broker::{ANSWER, Broker, Client, id};
use corelane::codec::{
    self, Packet, PacketType, PublishOut, QoS, ReasonCode, SubscribeOptions, SubscribeOut, Version,
};
use judge::{Judge, Verdict};
use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const GOOD_CLIENTS: usize = 20;
const ATTACKERS: usize = 8;
/// Connections that an attacker leaves open behind it, the oldest making room for the next.
const LEFT_OPEN: usize = 200;
/// What a core keeps for reuse: empty buffers of its output (up to 64 MiB), the allocator's pages
/// and the tables of sessions and connections at their largest size, for two cores.
const RSS_KEPT: usize = 96 << 20;
const CONNECT_DEADLINE_MS: u64 = 1000;

/// Those who do nothing wrong, in a ring.
struct Crowd {
    stop: AtomicBool,
    sent: Vec<AtomicU32>,
    ready: AtomicUsize,
    done: AtomicUsize,
}

impl Crowd {
    fn new() -> Crowd {
        let sent = (0..GOOD_CLIENTS).map(|_| AtomicU32::new(0)).collect();
        let (ready, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Crowd { stop: AtomicBool::new(false), sent, ready, done }
    }

    /// Waits until all of them are at work.
    fn await_work(&self) {
        while self.sent.iter().any(|count| count.load(Ordering::Relaxed) < 100) {
            std::thread::yield_now();
        }
    }

    fn exchanged(&self) -> u32 {
        self.sent.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// One of them: publishes to its neighbour and hears from the other one.
fn exchange(address: SocketAddr, at: usize, crowd: &Crowd) {
    let Crowd { stop, sent, ready, done } = crowd;
    let mut client = Client::connected(address, Version::V5, &format!("good-{at}"));
    let (own, next) = (format!("good/{at}"), format!("good/{}", (at + 1) % GOOD_CLIENTS));
    let before = (at + GOOD_CLIENTS - 1) % GOOD_CLIENTS;
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let mut out = Vec::new();
    SubscribeOut { packet_id: id(1), subscription_id: None, filters: &[(&own, options)] }
        .encode(Version::V5, &mut out);
    client.stream.write_all(&out).expect("written");
    client.next(|packet| assert!(matches!(packet, Some(Packet::Suback(_))), "{packet:?}"));
    ready.fetch_add(1, Ordering::SeqCst);
    while ready.load(Ordering::SeqCst) < GOOD_CLIENTS {
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
        // Neighbours stop at different times: nobody publishes after `done` counts all.
        if stopping && !waits {
            done.fetch_add(1, Ordering::SeqCst);
            break;
        }
        waits = !hear(&mut client, &mut heard);
    }
    while done.load(Ordering::SeqCst) < GOOD_CLIENTS {
        std::thread::yield_now();
    }
    while heard < sent[before].load(Ordering::SeqCst) {
        hear(&mut client, &mut heard);
    }
}

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

/// Runs one misbehaving connection; gives it back when it stays open.
fn misbehave(address: SocketAddr, attack: &Attack, number: usize) -> Option<Client> {
    let mut client = match attack.connects {
        true => Client::connected(address, Version::V5, &format!("bad-{number}")),
        false => Client::dial(address),
    };
    if attack.then == Then::Drip {
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
    if attack.seldom {
        // The broker may stop reading for good.
        client.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("set");
    }
    // The broker may close before everything was taken.
    client.stream.write_all(&attack.bytes).ok();
    match attack.then {
        Then::Stay => return Some(client),
        Then::Closed(_) => client.expect_end(&attack.what),
        Then::Close | Then::Drip => {}
    }
    None
}

/// Works through the attacks; `next` deals them out. Gives what they made the broker count.
fn attacker(
    address: SocketAddr,
    attacks: &[(Attack, Verdict)],
    count: usize,
    next: &AtomicUsize,
) -> Verdict {
    let (mut open, mut expected) = (VecDeque::new(), Verdict::new());
    // Gone in order, so that the broker reads to the end what was sent.
    let leave = |(client, attack): (Client, &Attack)| match attack.connects {
        true => client.leave(&attack.what),
        false => client.expect_end(&attack.what),
    };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            break;
        }
        let (attack, verdict) = &attacks[number % attacks.len()];
        if attack.seldom && !(number / attacks.len()).is_multiple_of(4) {
            continue;
        }
        for (name, costs) in verdict {
            *expected.entry(name.clone()).or_default() += costs;
        }
        open.extend(misbehave(address, attack, number).map(|client| (client, attack)));
        if open.len() > LEFT_OPEN {
            open.pop_front().into_iter().for_each(leave);
        }
    }
    open.into_iter().for_each(leave);
    expected
}

#[test]
fn those_who_misbehave_harm_nobody() {
    let count = std::env::var("CORELANE_HOSTILE").map_or(10_000, |n| n.parse().expect("a number"));
    let mut judge = Judge::new();
    let judged = |attack: Attack| {
        let verdict = judge.verdict(&attack);
        (attack, verdict)
    };
    let attacks: Vec<_> = attack::all().into_iter().map(judged).collect();
    let broker = Broker::start(
        "runtime.shards = 2",
        &format!("connect_deadline_ms = {CONNECT_DEADLINE_MS}"),
    );
    let address = broker.address;
    let (crowd, next) = (Crowd::new(), AtomicUsize::new(0));
    let (before, expected) = std::thread::scope(|scope| {
        for at in 0..GOOD_CLIENTS {
            let crowd = &crowd;
            scope.spawn(move || exchange(address, at, crowd));
        }
        crowd.await_work();
        let before = broker.rss();
        let run = || attacker(address, &attacks, count, &next);
        let attackers: Vec<_> = (0..ATTACKERS).map(|_| scope.spawn(run)).collect();
        let ended: Vec<_> = attackers.into_iter().map(|attacker| attacker.join()).collect();
        crowd.stop.store(true, Ordering::SeqCst);
        let mut expected = Verdict::new();
        for (name, costs) in ended.into_iter().flat_map(|e| e.expect("nothing unexpected met it")) {
            *expected.entry(name).or_default() += costs;
        }
        (before, expected)
    });
    let after = settled(&broker, before);
    let exchanged = crowd.exchanged();
    println!("{exchanged} good messages; {} KiB before, {} KiB after", before >> 10, after >> 10);
    let (counters, log) = broker.stop();
    println!("{counters:#?}");
    let panics = log.iter().filter(|line| line.contains("panicked"));
    assert_eq!(panics.count(), 0, "{log:#?}");
    let counted = counters.iter().filter(|(name, _)| {
        name.starts_with("protocol_errors") || name.as_str() == "connect_timeouts"
    });
    let counted: Verdict = counted.map(|(name, count)| (name.clone(), *count)).collect();
    assert_eq!(counted, expected, "each offence under its reason, and none besides");
    let count = |name: &str| counters.get(name).copied().unwrap_or(0);
    assert_eq!(count("connections_opened"), count("connections_closed"));
    overflow::balanced(&counters);
}

/// Waits until the memory that the attacks took is back; gives what is left.
fn settled(broker: &Broker, before: usize) -> usize {
    let deadline = Instant::now() + ANSWER;
    while broker.rss() > before + RSS_KEPT {
        assert!(Instant::now() < deadline, "{before} bytes before, {} after", broker.rss());
        std::thread::sleep(Duration::from_millis(100));
    }
    broker.rss()
}
