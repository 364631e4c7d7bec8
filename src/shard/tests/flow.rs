//! Flow of messages under the limits of both sides: packet sizes, receive maximum, identifiers,
//! retransmission, message expiry.

use super::wire::{Client, Wire, acks, goodbye, id, message, publication, read, v5};
use crate::codec::{
    ConnectOut, ConnectProperties, Packet, PacketType, PublishOut, QoS, ReasonCode, Version,
};
use crate::shard::DropCause;
use std::num::{NonZeroU16, NonZeroU32};

/// A client that takes packets up to `largest` bytes and `most` messages at a time.
fn taker(clean_start: bool, largest: u32, most: u16) -> ConnectOut<'static> {
    let mut connect = v5("taker", clean_start, 1000);
    connect.properties.maximum_packet_size = NonZeroU32::new(largest);
    connect.properties.receive_maximum = NonZeroU16::new(most);
    connect
}

fn encoded(out: &PublishOut<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    out.encode(version, &mut bytes);
    bytes
}

fn too_large(wire: &Wire) -> u64 {
    wire.counters().drops[DropCause::TooLarge as usize]
}

/// The PUBLISH packets among `answers`: DUP, packet identifier, payload.
fn publishes(answers: &[Vec<u8>], version: Version) -> Vec<(bool, u16, Vec<u8>)> {
    let read = |bytes: &Vec<u8>| match read(bytes, version) {
        Packet::Publish(p) => {
            Some((p.dup, p.packet_id.map_or(0, |id| id.get()), p.payload.to_vec()))
        }
        _ => None,
    };
    answers.iter().filter_map(read).collect()
}

#[test]
fn a_packet_may_be_as_large_as_announced_and_no_byte_larger() {
    for version in [Version::V311, Version::V5] {
        let mut wire = Wire::new(|s| s.limits.packet_bytes = 1000);
        let client = if version == Version::V5 { wire.five("c") } else { wire.three("c") };
        let len = |payload: usize| {
            encoded(&message("t", QoS::AtLeastOnce, 1, &vec![0; payload]), version).len()
        };
        let payload = (0..1000).find(|payload| len(*payload) == 1000).expect("some payload fits");
        let answers = wire.publish(client, &message("t", QoS::AtLeastOnce, 1, &vec![0; payload]));
        assert_eq!(acks(&answers, version).len(), 1);
        let larger = vec![0; payload + 1];
        let bytes = encoded(&message("t", QoS::AtLeastOnce, 2, &larger), version);
        // Its header is enough to know.
        let answers = wire.send(client, &bytes[..3]);
        assert!(wire.is_closed(client));
        if version == Version::V5 {
            assert_eq!(goodbye(&answers), Some(ReasonCode::PACKET_TOO_LARGE));
        } else {
            assert!(answers.is_empty());
        }
    }
}

#[test]
fn a_message_too_large_for_its_client_is_as_good_as_sent() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut wire = Wire::new(|_| {});
        let fitting = message("t", qos, 1, b"12345678901234567890");
        let largest = encoded(&fitting, Version::V5).len() as u32;
        let client = wire.connect(&taker(true, largest, 1));
        wire.subscribe(client, "t", qos);
        let publisher = wire.five("publisher");
        for _ in 0..5 {
            wire.publish(publisher, &message("t", qos, 1, b"123456789012345678901"));
            wire.ack(publisher, PacketType::Pubrel, 1);
        }
        assert!(wire.take(client).is_empty(), "[MQTT-3.1.2-24]");
        assert_eq!(too_large(&wire), 5, "each is counted");
        wire.publish(publisher, &fitting);
        let got = wire.take(client);
        assert_eq!(
            publication(&got[0], Version::V5).payload,
            b"12345678901234567890",
            "to the byte"
        );
        assert!(!wire.is_closed(client));
    }
}

const ONE: &[u8] = b"one, and some more words";
const THREE: &[u8] = b"three, and some more words";

/// A client that got three messages without acknowledging them, and has gone.
fn interrupted(qos: QoS) -> Wire {
    let mut wire = Wire::new(|_| {});
    let client = wire.connect(&taker(true, 1000, 10));
    wire.subscribe(client, "t", qos);
    let publisher = wire.five("publisher");
    for (number, payload) in [(1, ONE), (2, &[b'x'; 200][..]), (3, THREE)] {
        wire.publish(publisher, &message("t", qos, number, payload));
    }
    assert_eq!(publishes(&wire.take(client), Version::V5).len(), 3);
    wire.cut(client);
    wire
}

fn resumed(wire: &mut Wire, connect: &ConnectOut<'_>) -> (Client, Vec<Vec<u8>>) {
    let (client, answer) = wire.try_connect(connect);
    (client, super::wire::packets(&answer)[1..].to_vec())
}

#[test]
fn what_is_in_flight_is_sent_again_in_order_with_dup() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut wire = interrupted(qos);
        for _ in 0..2 {
            let (client, answers) = resumed(&mut wire, &taker(false, 1000, 10));
            let got = publishes(&answers, Version::V5);
            let ids: Vec<_> = got.iter().map(|(dup, id, _)| (*dup, *id)).collect();
            assert_eq!(ids, [(true, 1), (true, 2), (true, 3)], "[MQTT-4.4.0-1]");
            assert_eq!((&got[0].2[..], &got[2].2[..]), (ONE, THREE));
            wire.cut(client);
        }
        // A smaller receive maximum holds for these too, and keeps the order.
        let (client, answers) = resumed(&mut wire, &taker(false, 1000, 1));
        assert_eq!(publishes(&answers, Version::V5)[0].1, 1);
        assert_eq!(answers.len(), 1);
        let finish = |wire: &mut Wire, number| match qos {
            QoS::AtLeastOnce => wire.ack(client, PacketType::Puback, number),
            _ => {
                wire.ack(client, PacketType::Pubrec, number);
                wire.ack(client, PacketType::Pubcomp, number)
            }
        };
        for number in 1..3 {
            let answers = finish(&mut wire, number);
            let (dup, next, _) = publishes(&answers, Version::V5)[0];
            assert_eq!((dup, next), (true, number + 1));
        }
        assert!(finish(&mut wire, 3).is_empty());
    }
}

#[test]
fn pubrel_is_sent_again_where_pubrec_came() {
    let mut wire = interrupted(QoS::ExactlyOnce);
    let (client, _) = resumed(&mut wire, &taker(false, 1000, 10));
    wire.ack(client, PacketType::Pubrec, 2);
    wire.cut(client);
    let (_, answers) = resumed(&mut wire, &taker(false, 1000, 10));
    assert_eq!(publication(&answers[0], Version::V5).packet_id, Some(id(1)));
    assert_eq!(answers[1], [0x62, 2, 0, 2]);
    assert_eq!(publication(&answers[2], Version::V5).packet_id, Some(id(3)));
}

#[test]
fn a_smaller_packet_size_at_resumption_frees_what_no_longer_fits() {
    // With one message at a time, one that does not fit must not hold up the others.
    let mut wire = interrupted(QoS::AtLeastOnce);
    let (client, answers) = resumed(&mut wire, &taker(false, 50, 1));
    assert_eq!(publishes(&answers, Version::V5)[0].1, 1);
    let answers = wire.ack(client, PacketType::Puback, 1);
    assert_eq!(publishes(&answers, Version::V5)[0].1, 3, "the second is treated as sent");
    assert_eq!(too_large(&wire), 1);
    assert!(wire.ack(client, PacketType::Puback, 3).is_empty());
    let publisher = wire.five("publisher");
    wire.publish(publisher, &message("t", QoS::AtLeastOnce, 1, b"next"));
    assert_eq!(publishes(&wire.take(client), Version::V5)[0].1, 4);
}

#[test]
fn all_too_large_at_resumption_leaves_nothing_behind() {
    let mut wire = interrupted(QoS::AtLeastOnce);
    let (client, answers) = resumed(&mut wire, &taker(false, 20, 1));
    assert!(answers.is_empty());
    assert_eq!(too_large(&wire), 3);
    let publisher = wire.five("publisher");
    wire.publish(publisher, &message("t", QoS::AtLeastOnce, 1, b"x"));
    assert_eq!(publishes(&wire.take(client), Version::V5).len(), 1, "the window is free");
}

#[test]
fn a_qos_2_message_that_no_longer_fits_is_released() {
    let mut wire = interrupted(QoS::ExactlyOnce);
    let (client, answers) = resumed(&mut wire, &taker(false, 50, 10));
    // The client may hold identifier 2 from its last connection. It is told to let it go before a
    // new message can have it.
    assert_eq!(acks(&answers, Version::V5), [(PacketType::Pubrel, 2, ReasonCode::SUCCESS)]);
    assert_eq!(publishes(&answers, Version::V5).len(), 2);
    assert_eq!(too_large(&wire), 1);
    wire.cut(client);
    let (client, answers) = resumed(&mut wire, &taker(false, 1000, 10));
    assert_eq!(acks(&answers, Version::V5).len(), 1, "until it is answered");
    assert_eq!(publishes(&answers, Version::V5).len(), 2, "and never sent again");
    assert_eq!(too_large(&wire), 1, "counted once");
    let unknown = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
    wire.ack_with(client, PacketType::Pubcomp, 2, unknown);
    wire.cut(client);
    let (_, answers) = resumed(&mut wire, &taker(false, 1000, 10));
    assert!(acks(&answers, Version::V5).is_empty());
}

#[test]
fn an_answer_that_does_not_fit_ends_the_connection() {
    let mut wire = Wire::new(|_| {});
    let client = wire.connect(&taker(true, 40, 10));
    let filters = ["f"; 40];
    let answers = wire.subscribe_all(client, &filters[..34], QoS::AtMostOnce);
    assert_eq!(answers[0].len(), 39);
    wire.subscribe_all(client, &filters[..35], QoS::AtMostOnce);
    assert!(!wire.is_closed(client), "to the byte");
    let answers = wire.subscribe_all(client, &filters[..36], QoS::AtMostOnce);
    assert_eq!(goodbye(&answers), Some(ReasonCode::PACKET_TOO_LARGE));
    assert!(wire.is_closed(client));
}

#[test]
fn a_goodbye_leaves_its_text_out_where_it_does_not_fit() {
    for largest in [200, 20] {
        let mut wire = Wire::new(|_| {});
        let client = wire.connect(&taker(true, largest, 10));
        let answers = wire.send(client, &[0xd0, 0]);
        assert!(answers[0].len() <= largest as usize, "[MQTT-3.14.2-3]");
        assert_eq!(answers[0].len() > 3, largest == 200);
        assert_eq!(goodbye(&answers), Some(ReasonCode::PROTOCOL_ERROR));
    }
}

#[test]
fn more_than_the_receive_maximum_is_too_much_for_mqtt_5() {
    // QoS 2 messages that are not released count, whatever became of others.
    let mut wire = Wire::new(|s| s.session.receive_maximum = 3);
    let client = wire.connect(&v5("c", true, 1000));
    for number in 1..4 {
        wire.publish(client, &message("t", QoS::ExactlyOnce, number, b""));
    }
    wire.ack(client, PacketType::Pubrel, 2);
    wire.publish(client, &message("t", QoS::ExactlyOnce, 2, b""));
    assert!(!wire.is_closed(client), "[MQTT-3.3.4-7]");
    let mut repeated = message("t", QoS::ExactlyOnce, 4, b"");
    repeated.dup = true;
    let answers = wire.publish(client, &repeated);
    assert_eq!(goodbye(&answers), Some(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED), "DUP or not");
    // A new connection counts anew: the three are still in use, and may be sent again.
    let client = wire.connect(&v5("c", false, 1000));
    for number in 1..4 {
        let mut repeated = message("t", QoS::ExactlyOnce, number, b"");
        repeated.dup = true;
        let answers = wire.publish(client, &repeated);
        assert_eq!(acks(&answers, Version::V5)[0].0, PacketType::Pubrec);
    }
    for number in 1..4 {
        wire.ack(client, PacketType::Pubrel, number);
    }
    let answers = wire.publish(client, &message("t", QoS::ExactlyOnce, 9, b""));
    assert_eq!(acks(&answers, Version::V5).len(), 1);
}

#[test]
fn a_refused_qos_2_message_gives_its_place_back() {
    let mut wire = Wire::new(|s| {
        s.session.receive_maximum = 1;
        s.protocol.validate_payload_format = true;
    });
    let client = wire.five("c");
    let mut broken = message("t", QoS::ExactlyOnce, 1, &[0xff]);
    broken.forwarded = &[1, 1];
    for _ in 0..3 {
        let answers = wire.publish(client, &broken);
        assert!(acks(&answers, Version::V5)[0].2.is_error());
    }
    assert!(!wire.is_closed(client));
}

#[test]
fn mqtt_3_knows_no_receive_maximum() {
    let mut wire = Wire::new(|s| s.session.receive_maximum = 2);
    let client = wire.three("c");
    for number in 1..50 {
        wire.publish(client, &message("t", QoS::ExactlyOnce, number, b""));
    }
    assert!(!wire.is_closed(client));
}

#[test]
fn mqtt_3_waits_while_many_answers_are_due() {
    // Two shards: the answers of the other one are due until it has its turn.
    let mut bench = super::Bench::with(2, |s| s.session.receive_maximum = 2);
    let client = bench.connect(0, "c", Version::V311);
    bench.output(client);
    let placement = crate::shard::Placement::new(2, [1, 2], 2);
    let mut topics = (0..).map(|n| format!("t/{n}"));
    let topic = topics.find(|topic| placement.owner(topic).index() != client.0).expect("one");
    let mut bytes = Vec::new();
    for number in 1..100 {
        message(&topic, QoS::AtLeastOnce, number, b"").encode(Version::V311, &mut bytes);
    }
    let shard = &mut bench.shards[client.0];
    shard.receive(client.1, &bytes);
    assert_eq!(shard.counters().stalls, 1);
    assert_eq!(shard.counters().publishes_received, 8, "four times the receive maximum");
    bench.settle(&mut client.clone());
    assert_eq!(bench.output(client).len(), 99 * 4);
    assert!(!bench.is_closing(client));
}

#[test]
fn identifiers_are_never_in_use_twice_however_many_wait() {
    let mut wire = Wire::new(|s| {
        s.session.max_inflight = 5;
        s.session.outbox_messages = 1000;
    });
    let client = wire.connect(&taker(true, 1000, 100));
    wire.subscribe(client, "t", QoS::AtLeastOnce);
    let publisher = wire.five("publisher");
    for _ in 0..30 {
        wire.publish(publisher, &message("t", QoS::AtLeastOnce, 1, b""));
    }
    let got = publishes(&wire.take(client), Version::V5);
    assert_eq!(got.iter().map(|got| got.1).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    // The first is never acknowledged: what comes later stalls rather than reuses it.
    let mut seen = 5;
    let mut next = 2;
    while next <= seen {
        for (_, id, _) in publishes(&wire.ack(client, PacketType::Puback, next), Version::V5) {
            assert_eq!(id, seen + 1);
            seen = id;
        }
        next += 1;
    }
    assert_eq!(seen, 20, "four windows");
    let answers = wire.ack(client, PacketType::Puback, 1);
    assert_eq!(publishes(&answers, Version::V5).len(), 5, "then all goes on");
}

#[test]
fn message_expiry_counts_down_wherever_a_message_waits() {
    let mut wire = Wire::new(|_| {});
    let away = wire.connect(&taker(true, 1000, 1));
    wire.subscribe(away, "t/#", QoS::AtLeastOnce);
    let publisher = wire.five("publisher");
    let publish = |wire: &mut Wire, topic: &str, expiry_s, retain| {
        let mut out = message(topic, QoS::AtLeastOnce, 1, b"x");
        (out.expiry_s, out.retain) = (Some(expiry_s), retain);
        wire.publish(publisher, &out);
    };
    // The first fills the window, the others wait in the outbox.
    publish(&mut wire, "t/inflight", 100, false);
    wire.take(away);
    for expiry_s in [20, 100] {
        publish(&mut wire, "t/queued", expiry_s, false);
    }
    publish(&mut wire, "r/short", 20, true);
    publish(&mut wire, "r/long", 100, true);
    wire.cut(away);
    wire.wait_s(30);
    let (away, answers) = resumed(&mut wire, &taker(false, 1000, 1));
    let first = publication(&answers[0], Version::V5);
    let left = first.properties.message_expiry.expect("an expiry");
    assert!((68..=70).contains(&left), "in flight: {left}");
    let answers = wire.ack(away, PacketType::Puback, 1);
    let left = publication(&answers[0], Version::V5).properties.message_expiry.expect("one");
    assert!((68..=70).contains(&left), "queued: {left} [MQTT-3.3.2-6]");
    assert!(wire.ack(away, PacketType::Puback, 2).is_empty());
    assert_eq!(wire.counters().drops[DropCause::Expired as usize], 1, "[MQTT-3.3.2-5]");
    let reader = wire.five("reader");
    let answers = wire.subscribe_all(reader, &["r/#"], QoS::AtMostOnce);
    assert_eq!(answers.len(), 2, "SUBACK and one retained message");
    let retained = publication(&answers[1], Version::V5);
    let left = retained.properties.message_expiry.expect("an expiry");
    assert_eq!(retained.topic, "r/long");
    assert!((68..=70).contains(&left), "retained: {left}");
}

#[test]
fn an_expired_message_in_flight_is_finished_all_the_same() {
    let mut wire = Wire::new(|_| {});
    let client = wire.connect(&taker(true, 1000, 1));
    wire.subscribe(client, "t", QoS::AtLeastOnce);
    let publisher = wire.five("publisher");
    let mut out = message("t", QoS::AtLeastOnce, 1, b"x");
    out.expiry_s = Some(5);
    wire.publish(publisher, &out);
    wire.cut(client);
    wire.wait_s(10);
    // Its delivery had begun.
    let (_, answers) = resumed(&mut wire, &taker(false, 1000, 1));
    let again = publication(&answers[0], Version::V5);
    assert_eq!((again.dup, again.properties.message_expiry), (true, Some(0)));
}

#[test]
fn properties_arrive_unaltered_and_in_order() {
    let mut wire = Wire::new(|_| {});
    let reader = wire.five("reader");
    wire.subscribe(reader, "t", QoS::AtLeastOnce);
    let publisher = wire.connect(&ConnectOut {
        properties: ConnectProperties::default(),
        ..v5("publisher", true, 0)
    });
    let forwarded = [
        &b"\x26\x00\x01k\x00\x01v\x01\x01\x03\x00\x01c"[..],
        b"\x26\x00\x01k\x00\x01w\x08\x00\x01r\x09\x00\x01\xff",
    ]
    .concat();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut out = message("t", qos, 1, b"x");
        out.forwarded = &forwarded;
        wire.publish(publisher, &out);
        let got = wire.take(reader);
        assert_eq!(publication(&got[0], Version::V5).properties.raw, forwarded);
    }
}
