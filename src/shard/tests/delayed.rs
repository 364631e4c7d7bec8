//! `$delayed/<seconds>/<topic>`: when, what and in which order, and what a refusal looks like.

use super::*;
use crate::codec::{Publish, Will};

fn out<'a>(topic: &'a str, qos: QoS, payload: &'a [u8]) -> PublishOut<'a> {
    let packet_id = (qos > QoS::AtMostOnce).then_some(PacketId::MIN);
    PublishOut { qos, topic, packet_id, payload, ..PublishOut::default() }
}

fn got(topic: &str, payload: &str) -> (String, String) {
    (topic.to_owned(), payload.to_owned())
}

#[test]
fn a_delayed_message_comes_when_it_is_due_on_every_shard() {
    for count in 1..5 {
        let mut bench = Bench::new(count);
        let subscriber = bench.connect(0, "s", Version::V5);
        bench.subscribe(subscriber, &["#"]);
        let publisher = bench.connect(count - 1, "p", Version::V5);
        for topic in ["a/b", "c/d", "e"] {
            let delayed = format!("$delayed/5/{topic}");
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let answer = bench.publish(publisher, Version::V5, &out(&delayed, qos, b"1"));
                assert_eq!(answer, Some(0), "{topic}");
                // The same packet identifier serves again.
                let mut release = Vec::new();
                let reason = ReasonCode::SUCCESS;
                let (kind, id) = (codec::PacketType::Pubrel, PacketId::MIN);
                codec::encode_ack(kind, Version::V5, id, reason, None, &mut release);
                bench.send(publisher, &release);
            }
        }
        bench.pass(4);
        assert_eq!(bench.received(subscriber), []);
        assert_eq!(bench.shards.iter().map(Shard::delayed_count).sum::<usize>(), 6);
        let due = bench.shards.iter().map(Shard::next_deadline).min().expect("shards");
        assert!(due < bench.now.plus_secs(2), "nobody would wake up for it: {due:?}");
        bench.pass(2);
        assert_eq!(bench.received(subscriber).len(), 6, "{count} shards");
        assert_eq!(bench.shards.iter().map(Shard::delayed_count).sum::<usize>(), 0);
    }
}

fn whole(publish: &Publish<'_>) -> (bool, Option<u32>, Vec<u8>) {
    let mut properties = Vec::new();
    publish.properties.write_forwarded(&mut properties);
    (publish.retain, publish.properties.message_expiry, properties)
}

#[test]
fn properties_retain_flag_and_the_rest_of_the_expiry_are_kept() {
    let mut bench = Bench::new(3);
    let publisher = bench.connect(0, "p", Version::V5);
    let early = bench.connect(1, "early", Version::V5);
    bench.subscribe(early, &["a/b"]);
    // Content type and a user property, as raw property bytes.
    let forwarded = b"\x03\0\x01t\x26\0\x01k\0\x01v";
    let sent = PublishOut {
        retain: true,
        expiry_s: Some(100),
        forwarded,
        ..out("$delayed/10/a/b", QoS::AtLeastOnce, b"x")
    };
    assert_eq!(bench.publish(publisher, Version::V5, &sent), Some(0));
    let retained = |bench: &Bench| bench.shards.iter().map(Shard::retained_count).sum::<usize>();
    assert_eq!(retained(&bench), 0);
    bench.pass(11);
    assert_eq!(retained(&bench), 1);
    let pick = |packet: Packet<'_>| match packet {
        Packet::Publish(publish) => Some(whole(&publish)),
        _ => None,
    };
    let [(retain, expiry_s, properties)] = &bench.packets(early, pick)[..] else {
        panic!("one message")
    };
    assert_eq!((*retain, &properties[..]), (false, &forwarded[..]));
    assert!(expiry_s.is_some_and(|seconds| (88..=90).contains(&seconds)), "{expiry_s:?}");
    let late = bench.connect(2, "late", Version::V5);
    bench.subscribe(late, &["a/#"]);
    assert_eq!(bench.sum(|counters| counters.retained_replayed), 1);
}

#[test]
fn a_message_that_expires_first_is_dropped_and_counted() {
    let mut bench = Bench::new(2);
    let subscriber = bench.connect(0, "s", Version::V5);
    bench.subscribe(subscriber, &["#"]);
    let publisher = bench.connect(1, "p", Version::V5);
    let sent = PublishOut { expiry_s: Some(5), ..out("$delayed/10/a", QoS::AtLeastOnce, b"late") };
    assert_eq!(bench.publish(publisher, Version::V5, &sent), Some(0));
    bench.pass(11);
    assert_eq!(bench.received(subscriber), []);
    assert_eq!(bench.sum(|c| c.drops[DropCause::Expired as usize]), 1);
}

#[test]
fn messages_of_one_delay_keep_their_order_when_paced() {
    let mut bench = Bench::with(2, |settings| settings.limits.delayed_per_tick = 2);
    let subscriber = bench.connect(0, "s", Version::V5);
    bench.subscribe(subscriber, &["a/#"]);
    let publisher = bench.connect(1, "p", Version::V5);
    for n in 0..30 {
        let payload = n.to_string();
        bench.publish(
            publisher,
            Version::V5,
            &out("$delayed/60/a/b", QoS::AtLeastOnce, payload.as_bytes()),
        );
    }
    bench.pass(61);
    let expected: Vec<_> = (0..30).map(|n| got("a/b", &n.to_string())).collect();
    assert_eq!(bench.received(subscriber), expected);
}

#[test]
fn wrong_forms_and_delays_out_of_bounds_are_refused() {
    let mut bench = Bench::with(2, |settings| settings.topics.max_delay_s = 100);
    for wrong in ["$delayed/x/a", "$delayed/5", "$delayed/101/a", "$delayed/5/$delayed/5/a"] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let client = bench.connect(0, "p", Version::V5);
            let answer = bench.publish(client, Version::V5, &out(wrong, qos, b""));
            assert_eq!(answer, Some(0x90), "{wrong}");
            // The connection lives on, and the packet identifier is free.
            assert_eq!(bench.publish(client, Version::V5, &out("a", qos, b"")), Some(0x10));
        }
        let dropped = bench.sum(|c| c.drops[DropCause::Refused as usize]);
        let client = bench.connect(0, "p", Version::V5);
        bench.publish(client, Version::V5, &out(wrong, QoS::AtMostOnce, b""));
        assert_eq!(bench.sum(|c| c.drops[DropCause::Refused as usize]), dropped + 1);
        // MQTT 3 has no word for it, so nothing is acknowledged.
        let old = bench.connect(1, "old", Version::V311);
        let refused = bench.sum(|c| c.messages_refused);
        assert_eq!(bench.publish(old, Version::V311, &out(wrong, QoS::AtLeastOnce, b"")), None);
        assert_eq!(bench.sum(|c| c.messages_refused), refused + 1);
        assert!(bench.is_closing(old));
    }
    let client = bench.connect(0, "p", Version::V5);
    let longest = out("$delayed/100/a", QoS::AtLeastOnce, b"");
    assert_eq!(bench.publish(client, Version::V5, &longest), Some(0));
}

#[test]
fn over_the_bounds_nothing_is_held_and_nothing_acknowledged() {
    type Change = fn(&mut Settings);
    let bounds: [Change; 2] =
        [|s| s.limits.delayed_messages = 2, |s| s.limits.delayed_bytes = 2 * (64 + 150)];
    for (count, change) in [(1, bounds[0]), (1, bounds[1]), (3, bounds[0]), (3, bounds[1])] {
        let mut bench = Bench::with(count, change);
        let publisher = bench.connect(0, "p", Version::V5);
        let sent = |qos| out("$delayed/60/a/b", qos, b"0123456789");
        let answer = |bench: &mut Bench, qos| bench.publish(publisher, Version::V5, &sent(qos));
        assert_eq!(answer(&mut bench, QoS::AtLeastOnce), Some(0));
        while bench.shards.iter().map(Shard::delayed_count).sum::<usize>() < 2 {
            assert_eq!(answer(&mut bench, QoS::AtLeastOnce), Some(0));
        }
        assert_eq!(answer(&mut bench, QoS::AtLeastOnce), Some(0x97));
        assert_eq!(answer(&mut bench, QoS::ExactlyOnce), Some(0x97));
        assert_eq!(answer(&mut bench, QoS::AtMostOnce), None);
        assert_eq!(bench.sum(|c| c.drops[DropCause::Refused as usize]), 1);
        assert_eq!(bench.sum(|c| c.messages_refused), 2);
        let old = bench.connect(count - 1, "old", Version::V311);
        assert_eq!(bench.publish(old, Version::V311, &sent(QoS::AtLeastOnce)), None);
        assert_eq!(bench.sum(|c| c.messages_refused), 3);
        assert!(bench.is_closing(old));
        // Room comes back with the time.
        bench.pass(61);
        assert_eq!(answer(&mut bench, QoS::AtLeastOnce), Some(0));
    }
}

#[test]
fn switched_off_it_is_refused() {
    let mut bench = Bench::with(1, |settings| settings.topics.delayed = false);
    let client = bench.connect(0, "p", Version::V5);
    let sent = out("$delayed/5/a", QoS::AtLeastOnce, b"");
    assert_eq!(bench.publish(client, Version::V5, &sent), Some(0x90));
}

#[test]
fn nobody_subscribes_to_what_is_delayed() {
    let mut bench = Bench::new(2);
    let client = bench.connect(0, "s", Version::V5);
    let filters = ["$delayed/#", "$delayed/5/a", "$share/g/$delayed/+/a", "a"];
    assert_eq!(bench.subscribe(client, &filters), [0x8f, 0x8f, 0x8f, 1]);
}

#[test]
fn a_will_can_be_delayed() {
    for count in [1, 3] {
        let mut bench = Bench::new(count);
        let subscriber = bench.connect(0, "s", Version::V5);
        bench.subscribe(subscriber, &["#"]);
        let will = Will { topic: "$delayed/7/w/x", payload: b"gone", ..Will::default() };
        let connect = ConnectOut {
            version: Version::V5,
            client_id: "w",
            will: Some(will),
            ..ConnectOut::default()
        };
        let client = bench.connect_with(0, &connect);
        bench.shards[client.0].end_of_input(client.1);
        bench.pass(0);
        bench.pass(5);
        assert_eq!(bench.received(subscriber), []);
        bench.pass(3);
        assert_eq!(bench.received(subscriber), [got("w/x", "gone")], "{count} shards");
        let will = Will { topic: "$delayed/x/w", ..Will::default() };
        let client = bench.connect_with(0, &ConnectOut { will: Some(will), ..connect });
        let refused = bench.packets(client, |packet| match packet {
            Packet::Connack(connack) => Some(connack.reason),
            _ => None,
        });
        assert_eq!(refused, [ReasonCode::TOPIC_NAME_INVALID]);
    }
}
