//! Reports as a subscriber sees them, and what happens to those who would write them.

use super::super::tests::{Bench, publishes};
use super::super::{Board, DropCause};
use crate::base::PacketId;
use crate::codec::{self, ConnectOut, Packet, PublishOut, QoS, ReasonCode};
use crate::codec::{SubscribeOptions, SubscribeOut, Version, Will};
use crate::topic::TopicName;
use std::collections::BTreeMap;
use std::sync::Arc;

const INTERVAL_US: u64 = 250_000;

fn bench(shards: usize) -> Bench {
    let board = Arc::new(Board::new(shards));
    Bench::with(shards, |settings| {
        settings.sys_interval_us = INTERVAL_US;
        settings.board = board.clone();
    })
}

fn subscribe(bench: &mut Bench, client: (usize, crate::shard::ConnectionKey), filter: &str) {
    let packet_id = PacketId::new(1).expect("not zero");
    let filters = [(filter, SubscribeOptions::default())];
    let mut bytes = Vec::new();
    SubscribeOut { packet_id, subscription_id: None, filters: &filters }
        .encode(Version::V5, &mut bytes);
    bench.send(client, &bytes);
}

/// What a newcomer finds retained under `filter`.
fn retained(bench: &mut Bench, id: &str, filter: &str) -> BTreeMap<String, String> {
    let client = bench.connect(0, id, Version::V5);
    bench.output(client);
    subscribe(bench, client, filter);
    let bytes = bench.output(client);
    let (mut rest, mut found) = (&bytes[..], BTreeMap::new());
    while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
        // What came live is of a later round.
        if let Ok(Packet::Publish(publish)) = codec::decode(&frame, Version::V5)
            && publish.retain
        {
            let text = String::from_utf8(publish.payload.to_vec()).expect("text");
            found.insert(publish.topic.to_owned(), text);
        }
        rest = &rest[frame.len..];
    }
    found
}

#[test]
fn a_newcomer_finds_the_whole_tree_whichever_core_told_what() {
    for shards in [1, 3] {
        let mut bench = bench(shards);
        let mut steady = bench.connect(0, "steady", Version::V5);
        subscribe(&mut bench, steady, "a/#");
        // Long enough for the second round: it knows of the client.
        (0..12).for_each(|_| bench.settle(&mut steady));
        let tree = retained(&mut bench, "newcomer", "$SYS/#");
        assert_eq!(tree["$SYS/broker/clients/connected"], "1", "{shards} shards");
        assert_eq!(tree["$SYS/broker/clients/maximum"], "1");
        assert_eq!(tree["$SYS/broker/subscriptions"], "1");
        assert_eq!(tree["$SYS/broker/packets/received"], "2");
        let sent: f64 = tree["$SYS/broker/load/messages/received/1min"].parse().expect("a number");
        assert!(sent > 0.0);
        let connected = |core: usize| &tree[&format!("$SYS/broker/cores/{core}/clients/connected")];
        let all: u64 = (0..shards).map(|core| connected(core).parse::<u64>().expect("one")).sum();
        assert_eq!(all, 1);
        for core in 0..shards {
            assert_eq!(tree[&format!("$SYS/broker/cores/{core}/share/sleeping")], "0.7500");
        }
        assert!(!tree.contains_key(&format!("$SYS/broker/cores/{shards}/share/busy")));
        assert!(retained(&mut bench, "other", "#").is_empty(), "# does not match $SYS");
        let drops: u64 = bench.shards.iter().map(|s| s.counters().dropped_total()).sum();
        assert_eq!(drops, 0);
    }
}

#[test]
fn subscribers_get_a_round_per_interval_and_none_where_it_is_off() {
    for (interval_us, rounds) in [(INTERVAL_US, 2), (0, 0)] {
        let mut bench = Bench::with(1, |settings| settings.sys_interval_us = interval_us);
        let mut client = bench.connect(0, "reader", Version::V5);
        subscribe(&mut bench, client, "$SYS/broker/uptime");
        bench.output(client);
        // 550 ms; the first round came at 200 ms or comes now.
        (0..11).for_each(|_| bench.settle(&mut client));
        let got = publishes(&bench.output(client), Version::V5).len();
        assert!((rounds..=rounds + usize::from(rounds > 0)).contains(&got), "{got} rounds");
    }
}

#[test]
fn clients_can_not_write_what_the_broker_tells() {
    let mut bench = bench(2);
    for (version, qos) in [
        (Version::V5, QoS::AtMostOnce),
        (Version::V5, QoS::AtLeastOnce),
        (Version::V5, QoS::ExactlyOnce),
        (Version::V311, QoS::AtLeastOnce),
        (Version::V311, QoS::ExactlyOnce),
    ] {
        let client = bench.connect(0, "forger", version);
        bench.output(client);
        let packet_id = PacketId::new(9).filter(|_| qos != QoS::AtMostOnce);
        let (topic, payload) = ("$SYS/broker/version", &b"forged"[..]);
        let mut bytes = Vec::new();
        PublishOut { qos, topic, packet_id, payload, retain: true, ..PublishOut::default() }
            .encode(version, &mut bytes);
        bench.send(client, &bytes);
        let answer = bench.output(client);
        let frame = codec::frame(&answer, usize::MAX).expect("a packet or none");
        let told = frame.map(|frame| match codec::decode(&frame, version).expect("a packet") {
            Packet::Puback(ack) | Packet::Pubrec(ack) => ack.reason,
            other => panic!("unexpected {other:?}"),
        });
        let expected = match version {
            Version::V5 => ReasonCode::NOT_AUTHORIZED,
            Version::V31 | Version::V311 => ReasonCode::SUCCESS,
        };
        assert_eq!(told, packet_id.map(|_| expected), "{version:?} {qos:?}");
        assert!(!bench.is_closing(client), "the connection stays");
    }
    let lost = |cause: DropCause| -> u64 {
        bench.shards.iter().map(|shard| shard.counters().drops[cause as usize]).sum()
    };
    assert_eq!(lost(DropCause::Reserved), 5);
    let tree = retained(&mut bench, "newcomer", "$SYS/broker/version");
    assert!(tree.values().all(|version| version != "forged"));
}

#[test]
fn a_will_under_sys_is_refused_with_its_client() {
    let mut bench = bench(1);
    let will = Will { topic: "$SYS/broker/uptime", ..Will::default() };
    let connect = ConnectOut { client_id: "forger", will: Some(will), ..ConnectOut::default() };
    let client = bench.connect_with(0, &connect);
    assert_eq!(bench.output(client), [0x20, 2, 0, 5], "not authorized");
}

#[test]
fn who_does_not_keep_up_is_named_for_one_interval() {
    let mut bench = bench(1);
    bench.shards[0].clients.settings.limits.out_buffer_bytes = 1;
    bench.shards[0].clients.settings.session.late_messages = 0;
    let publisher = bench.connect(0, "publisher", Version::V5);
    let deaf = bench.connect(0, "deaf one", Version::V5);
    subscribe(&mut bench, deaf, "a/#");
    bench.deaf.push(deaf);
    for _ in 0..5 {
        let mut bytes = Vec::new();
        PublishOut { topic: "a/b", payload: b"x", ..PublishOut::default() }
            .encode(Version::V5, &mut bytes);
        bench.send(publisher, &bytes);
    }
    let mut steady = publisher;
    let mut seen = Vec::new();
    for _ in 0..20 {
        bench.settle(&mut steady);
        let topic = TopicName::new("$SYS/broker/cores/0/slow/1").expect("valid");
        let line = bench.shards[0].retained.get(topic).map(|line| line.value.view());
        let text = line.map_or(&b""[..], |view| view.payload.bytes());
        seen.push(String::from_utf8_lossy(text).into_owned());
    }
    assert!(seen.contains(&"4 deaf one".to_owned()), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some(""), "it is not slow for ever");
}
