//! A core that comes close to its bound of memory, and publishers that are refused.

use super::super::tests::{Bench, publishes};
use super::super::{ConnectionKey, DropCause};
use super::*;
use crate::base::PacketId;
use crate::codec::{self, ConnectOut, ConnectProperties, Packet, PublishOut, QoS};
use crate::codec::{SubscribeOptions, SubscribeOut, Version};
use crate::config::Overflow;

type Client = (usize, ConnectionKey);

fn subscribe(bench: &mut Bench, client: Client, filter: &str, qos: QoS) {
    let packet_id = PacketId::new(1).expect("not zero");
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    let mut bytes = Vec::new();
    SubscribeOut { packet_id, subscription_id: None, filters: &[(filter, options)] }
        .encode(Version::V5, &mut bytes);
    bench.send(client, &bytes);
    bench.output(client);
}

fn publish(bench: &mut Bench, client: Client, version: Version, qos: QoS, payload: &[u8]) {
    let packet_id = PacketId::new(7).filter(|_| qos != QoS::AtMostOnce);
    let mut bytes = Vec::new();
    PublishOut { qos, topic: "t", packet_id, payload, ..PublishOut::default() }
        .encode(version, &mut bytes);
    bench.send(client, &bytes);
}

/// Reason codes of the PUBACKs and PUBRECs that a client got.
fn answers(bench: &mut Bench, client: Client) -> Vec<ReasonCode> {
    let bytes = bench.output(client);
    let (mut rest, mut found) = (&bytes[..], Vec::new());
    while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
        match codec::decode(&frame, Version::V5).expect("a valid packet") {
            Packet::Puback(ack) | Packet::Pubrec(ack) => found.push(ack.reason),
            Packet::Disconnect(packet) => found.push(packet.reason),
            other => panic!("unexpected {other:?}"),
        }
        rest = &rest[frame.len..];
    }
    found
}

/// Connects with a session that outlives the connection.
fn come(bench: &mut Bench, client_id: &str, clean_start: bool) -> Client {
    let properties = ConnectProperties { session_expiry: Some(1000), ..Default::default() };
    let version = Version::V5;
    let connect = ConnectOut { version, client_id, clean_start, properties, ..Default::default() };
    bench.connect_with(0, &connect)
}

/// A persistent session that is away, with a subscription to `t`.
fn absentee(bench: &mut Bench, id: &str) {
    let mut client = come(bench, id, true);
    subscribe(bench, client, "t", QoS::ExactlyOnce);
    leave(bench, &mut client);
}

fn leave(bench: &mut Bench, client: &mut Client) {
    bench.shards[client.0].end_of_input(client.1);
    bench.settle(client);
    bench.shards[client.0].released(client.1);
}

#[test]
fn publishers_are_refused_while_an_outbox_is_crowded() {
    for shards in 1..4 {
        let mut bench = Bench::with(shards, |settings| {
            settings.session.overflow = Overflow::Refuse;
            settings.session.outbox_messages = 16;
        });
        absentee(&mut bench, "absent");
        let five = bench.connect(0, "five", Version::V5);
        let three = bench.connect(0, "three", Version::V311);
        bench.output(five);
        for _ in 0..14 {
            publish(&mut bench, five, Version::V5, QoS::AtLeastOnce, b"kept");
            assert_eq!(answers(&mut bench, five), [ReasonCode::SUCCESS]);
        }
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publish(&mut bench, five, Version::V5, qos, b"refused");
            assert_eq!(answers(&mut bench, five), [ReasonCode::QUOTA_EXCEEDED]);
        }
        bench.output(three);
        publish(&mut bench, three, Version::V311, QoS::AtLeastOnce, b"refused");
        assert!(bench.output(three).is_empty(), "no PUBACK");
        assert!(bench.is_closing(three), "MQTT 3.x has no other refusal");
        let drops: u64 = bench.shards.iter().map(|s| s.counters().dropped_total()).sum();
        assert_eq!(drops, 0, "nothing that was acknowledged is dropped");
        let refused: u64 = bench.shards.iter().map(|s| s.counters().messages_refused).sum();
        assert_eq!(refused, 3);
        // The absentee comes back, takes what waits, and everybody may publish again.
        let back = come(&mut bench, "absent", false);
        let connack = codec::frame(&bench.output(back), usize::MAX).map(|frame| frame.is_some());
        assert_eq!(connack, Ok(true));
        publish(&mut bench, five, Version::V5, QoS::AtLeastOnce, b"taken");
        assert_eq!(answers(&mut bench, five), [ReasonCode::SUCCESS]);
    }
}

/// A core of 256 KiB with an absent QoS 1 subscriber to `t`.
fn small_core() -> Bench {
    let mut bench = Bench::with(1, |settings| {
        settings.limits.memory_bytes = 256 * 1024;
        settings.session.outbox_bytes = 16 << 20;
    });
    absentee(&mut bench, "absent");
    bench
}

/// Publishes QoS 1 until this much is held, in parts of the bound.
fn fill(bench: &mut Bench, publisher: Client, percent: usize) {
    while bench.shards[0].held_bytes() < 256 * 1024 / 100 * percent {
        publish(bench, publisher, Version::V5, QoS::AtLeastOnce, &[0; 2000]);
        assert_eq!(answers(bench, publisher), [ReasonCode::SUCCESS]);
    }
}

#[test]
fn a_core_at_four_fifths_lets_nobody_in_and_lets_nobody_be_slow() {
    let mut bench = small_core();
    let publisher = bench.connect(0, "publisher", Version::V5);
    let reader = bench.connect(0, "reader", Version::V5);
    subscribe(&mut bench, reader, "t", QoS::AtMostOnce);
    bench.output(publisher);
    fill(&mut bench, publisher, 80);
    let late = bench.connect(0, "late", Version::V311);
    assert_eq!(bench.output(late), [0x20, 2, 0, 3], "server unavailable");
    bench.output(reader);
    publish(&mut bench, publisher, Version::V5, QoS::AtMostOnce, b"x");
    assert_eq!(publishes(&bench.output(reader), Version::V5).len(), 1, "who reads is served");
    bench.deaf.push(reader);
    bench.shards[0].clients.settings.limits.out_buffer_bytes = 1000 * SHED_PART;
    for _ in 0..4 {
        publish(&mut bench, publisher, Version::V5, QoS::AtMostOnce, &[1; 600]);
    }
    let shed = bench.shards[0].counters().drops[DropCause::Memory as usize];
    assert_eq!(shed, 2, "two packets fill the smaller buffer");
}

#[test]
fn a_full_core_refuses_and_an_overfull_one_disconnects_who_holds_most() {
    let mut bench = small_core();
    let publisher = bench.connect(0, "publisher", Version::V5);
    let deaf = bench.connect(0, "deaf", Version::V5);
    bench.output(publisher);
    bench.output(deaf);
    fill(&mut bench, publisher, 95);
    publish(&mut bench, publisher, Version::V5, QoS::AtLeastOnce, b"refused");
    assert_eq!(answers(&mut bench, publisher), [ReasonCode::QUOTA_EXCEEDED]);
    // Bytes of an unfinished packet come in whatever the core holds.
    let held = bench.shards[0].held_bytes();
    let mut bytes = vec![0x30, 0x80, 0x80, 0x20, 0, 1, b'u', 0];
    bytes.resize(256 * 1024 - held + 4096, 0);
    bench.send(deaf, &bytes);
    let counters = bench.shards[0].counters().clone();
    assert!(counters.drops[DropCause::Memory as usize] > 0, "the absentee's messages went");
    assert!(bench.shards[0].held_bytes() < 256 * 1024 / 100 * 80);
    assert_eq!(bench.shards[0].session_count(), 3, "its session stays");
    publish(&mut bench, publisher, Version::V5, QoS::AtLeastOnce, b"taken");
    assert_eq!(answers(&mut bench, publisher), [ReasonCode::SUCCESS]);
}

#[test]
fn all_that_is_held_is_given_back() {
    let mut bench = small_core();
    let publisher = bench.connect(0, "publisher", Version::V5);
    let reader = bench.connect(0, "reader", Version::V5);
    subscribe(&mut bench, reader, "t", QoS::AtMostOnce);
    bench.deaf.push(reader);
    for _ in 0..20 {
        publish(&mut bench, publisher, Version::V5, QoS::AtMostOnce, &[1; 600]);
        publish(&mut bench, publisher, Version::V5, QoS::AtLeastOnce, &[1; 600]);
    }
    assert!(bench.shards[0].held_bytes() > 40 * 600);
    for mut client in [publisher, reader] {
        leave(&mut bench, &mut client);
    }
    bench.wait_s(2000);
    assert_eq!(bench.shards[0].session_count(), 0);
    assert_eq!(bench.shards[0].held_bytes(), 0);
}

#[test]
fn topic_aliases_of_both_directions_are_held_bytes() {
    let mut bench = Bench::new(1);
    let properties = ConnectProperties { topic_alias_maximum: 16, ..Default::default() };
    let connect = |client_id| ConnectOut {
        version: Version::V5,
        client_id,
        clean_start: true,
        properties,
        ..ConnectOut::default()
    };
    let publisher = bench.connect_with(0, &connect("p"));
    let subscriber = bench.connect_with(0, &connect("s"));
    subscribe(&mut bench, subscriber, "#", QoS::AtMostOnce);
    let before = bench.shards[0].held_bytes();
    let topic = "x".repeat(200);
    for alias in 1..=8 {
        let topic = format!("{topic}{alias}");
        for _ in 0..2 {
            let alias = Some(alias);
            let mut bytes = Vec::new();
            PublishOut { topic: &topic, alias, ..PublishOut::default() }
                .encode(Version::V5, &mut bytes);
            bench.send(publisher, &bytes);
        }
    }
    let held = bench.shards[0].held_bytes() - before;
    assert!((2 * 8 * 201..2 * 8 * 201 + 3000).contains(&held), "{held} bytes");
    // Another topic under an alias that is there takes nothing more.
    let mut bytes = Vec::new();
    PublishOut { topic: "short", alias: Some(1), ..PublishOut::default() }
        .encode(Version::V5, &mut bytes);
    bench.send(publisher, &bytes);
    assert_eq!(bench.shards[0].held_bytes() - before, held);
    for client in [publisher, subscriber] {
        bench.send(client, &[0xe0, 0]);
        bench.shards[0].released(client.1);
    }
    assert_eq!(bench.shards[0].clients.output.aliases, 0);
}

#[test]
fn drops_are_counted_in_bytes_too() {
    let mut bench = Bench::with(1, |settings| settings.session.outbox_messages = 2);
    let properties = ConnectProperties { session_expiry: Some(100), ..Default::default() };
    let absent = bench.connect_with(
        0,
        &ConnectOut { version: Version::V5, client_id: "s", properties, ..ConnectOut::default() },
    );
    subscribe(&mut bench, absent, "t", QoS::AtLeastOnce);
    bench.send(absent, &[0xe0, 0]);
    let publisher = bench.connect(0, "p", Version::V5);
    for size in 1..=5 {
        publish(&mut bench, publisher, Version::V5, QoS::AtLeastOnce, &vec![0; 100 * size]);
    }
    publish(&mut bench, publisher, Version::V5, QoS::AtMostOnce, &[0; 50]);
    let counters = bench.shards[0].counters();
    let dropped =
        |cause: DropCause| (counters.drops[cause as usize], counters.drop_bytes[cause as usize]);
    assert_eq!(dropped(DropCause::OutboxOverflow), (3, 600 + 3), "the oldest, with their topics");
    assert_eq!(dropped(DropCause::Offline), (1, 50 + 1));
    let named = counters.entries().find(|(name, _)| name == "dropped_bytes_outbox_overflow");
    assert_eq!(named.map(|(_, bytes)| bytes), Some(603));
}

#[test]
fn a_core_whose_turns_are_too_long_sheds_until_they_are_short() {
    let mut bench = Bench::with(1, |settings| settings.limits.overload_lag_ms = 100);
    let publisher = bench.connect(0, "publisher", Version::V5);
    let reader = bench.connect(0, "reader", Version::V5);
    subscribe(&mut bench, reader, "t", QoS::AtMostOnce);
    let turns = |bench: &mut Bench, count: usize, turn_us: u64| {
        for _ in 0..count {
            bench.pass(1);
            bench.shards[0].lagged(turn_us);
        }
    };
    turns(&mut bench, 20, 1_000_000);
    let late = bench.connect(0, "late", Version::V311);
    assert_eq!(bench.output(late), [0x20, 2, 0, 3], "server unavailable");
    publish(&mut bench, publisher, Version::V5, QoS::AtMostOnce, b"x");
    assert_eq!(publishes(&bench.output(reader), Version::V5).len(), 1, "who reads is served");
    bench.deaf.push(reader);
    bench.shards[0].clients.settings.limits.out_buffer_bytes = 1000 * SHED_PART;
    for _ in 0..4 {
        publish(&mut bench, publisher, Version::V5, QoS::AtMostOnce, &[1; 600]);
    }
    let counters = bench.shards[0].counters();
    assert_eq!(counters.drops[DropCause::Overload as usize], 2, "two fill the smaller buffer");
    assert_eq!((counters.drops[DropCause::Memory as usize], counters.overloads), (0, 1));
    turns(&mut bench, 2, 1000);
    let late = bench.connect(0, "late", Version::V311);
    assert_eq!(bench.output(late), [0x20, 2, 0, 0], "let in");
    assert_eq!(bench.shards[0].counters().overloads, 1);
}
