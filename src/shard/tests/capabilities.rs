//! What is switched off: announced, and refused with the reason code of the specification.

use super::wire::{Client, Wire, acks, connack, goodbye, id, message, publication, v5};
use crate::codec::{
    ConnectOut, PacketType, QoS, ReasonCode, SubscribeOptions, SubscribeOut, Version, Will,
};
use std::num::NonZeroU32;

const ANNOUNCED: [u8; 2] = [0xc0, 0];

fn versions(wire: &mut Wire) -> [Client; 2] {
    [wire.five("five"), wire.three("three")]
}

/// Expects that `answers` end the connection of an MQTT 5 client with `reason`, and that of an
/// MQTT 3.x client without a word.
fn ended(wire: &Wire, client: Client, answers: &[Vec<u8>], reason: ReasonCode) {
    assert!(wire.is_closed(client), "{client:?} {reason}");
    match client.version {
        Version::V5 => assert_eq!(goodbye(answers), Some(reason)),
        _ => assert!(answers.is_empty(), "{answers:?}"),
    }
}

#[test]
fn everything_is_offered_unless_switched_off() {
    let mut wire = Wire::new(|_| {});
    let (client, answer) = wire.try_connect(&v5("c", true, 0));
    let connack = connack(&answer);
    assert_eq!(connack.maximum_qos, None);
    assert!(connack.retain_available && connack.wildcard_available && connack.shared_available);
    assert!(connack.subscription_ids_available && connack.topic_alias_maximum > 0);
    assert_eq!(wire.send(client, &ANNOUNCED), [[0xd0, 0].to_vec()], "and the connection works");
}

#[test]
fn a_highest_qos_holds_for_messages_wills_and_grants() {
    for (highest, number) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1)] {
        let mut wire = Wire::new(move |s| s.protocol.maximum_qos = number);
        let (_, answer) = wire.try_connect(&v5("c", true, 0));
        assert_eq!(connack(&answer).maximum_qos, Some(highest), "[MQTT-3.2.2-9]");
        for client in versions(&mut wire) {
            for asked in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let granted = wire.subscribe(client, "t", asked);
                assert_eq!(granted.0, asked.min(highest) as u8, "[MQTT-3.2.2-10]");
            }
            wire.publish(client, &message("t", highest, 7, b"x"));
            assert!(!wire.is_closed(client));
            wire.take(client);
            let answers = wire.publish(client, &message("t", QoS::ExactlyOnce, 8, b"x"));
            ended(&wire, client, &answers, ReasonCode::QOS_NOT_SUPPORTED);
        }
        let will = Some(Will { topic: "w", qos: QoS::ExactlyOnce, ..Will::default() });
        let refused = wire.refused(&ConnectOut { will, ..v5("c", true, 0) });
        assert_eq!(refused, ReasonCode::QOS_NOT_SUPPORTED, "[MQTT-3.2.2-12]");
        let three = ConnectOut { client_id: "w", will, clean_start: true, ..Default::default() };
        assert_eq!(wire.refused(&three), ReasonCode::SERVER_UNAVAILABLE);
    }
}

#[test]
fn without_retained_messages_nothing_is_retained() {
    let mut wire = Wire::new(|s| s.protocol.retain_available = false);
    let (_, answer) = wire.try_connect(&v5("c", true, 0));
    assert!(!connack(&answer).retain_available);
    for client in versions(&mut wire) {
        let mut retained = message("t", QoS::AtMostOnce, 1, b"x");
        retained.retain = true;
        let answers = wire.publish(client, &retained);
        ended(&wire, client, &answers, ReasonCode::RETAIN_NOT_SUPPORTED);
    }
    let will = Some(Will { topic: "w", retain: true, ..Will::default() });
    let refused = wire.refused(&ConnectOut { will, ..v5("c", true, 0) });
    assert_eq!(refused, ReasonCode::RETAIN_NOT_SUPPORTED, "[MQTT-3.2.2-13]");
    assert_eq!(wire.bench.shards[0].retained_count(), 0);
}

#[test]
fn without_wildcards_or_share_groups_such_filters_are_refused() {
    let off = |wildcard: bool| {
        Wire::new(move |s| {
            s.protocol.wildcard_available = !wildcard;
            s.protocol.shared_available = wildcard;
        })
    };
    for (wildcard, refused, taken, reason) in [
        (true, ["a/+", "a/#"], "a/b", ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        (false, ["$share/g/a", "$share/g/#"], "#", ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
    ] {
        let mut wire = off(wildcard);
        let (_, answer) = wire.try_connect(&v5("c", true, 0));
        assert_eq!(connack(&answer).wildcard_available, !wildcard);
        assert_eq!(connack(&answer).shared_available, wildcard);
        for filter in refused {
            let five = wire.five("five");
            assert_eq!(wire.subscribe(five, taken, QoS::AtLeastOnce).0, 1);
            let answers = wire.subscribe_all(five, &["x", filter], QoS::AtLeastOnce);
            ended(&wire, five, &answers, reason);
            let three = wire.three("three");
            let answers = wire.subscribe_all(three, &["x", filter, taken], QoS::AtLeastOnce);
            assert_eq!(answers, [[0x90, 5, 0, 1, 1, 0x80, 1].to_vec()]);
        }
    }
}

#[test]
fn without_subscription_identifiers_one_is_a_protocol_error() {
    let mut wire = Wire::new(|s| s.protocol.subscription_ids_available = false);
    let (client, answer) = wire.try_connect(&v5("c", true, 0));
    assert!(!connack(&answer).subscription_ids_available);
    let mut bytes = Vec::new();
    let filters = [("t", SubscribeOptions::default())];
    SubscribeOut { packet_id: id(1), subscription_id: NonZeroU32::new(5), filters: &filters }
        .encode(Version::V5, &mut bytes);
    let answers = wire.send(client, &bytes);
    ended(&wire, client, &answers, ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED);
}

#[test]
fn aliases_above_the_maximum_are_refused() {
    for (most, alias, fine) in [(2, 2, true), (2, 3, false), (0, 1, false)] {
        let mut wire = Wire::new(move |s| s.limits.topic_alias_maximum = most);
        let (client, answer) = wire.try_connect(&v5("c", true, 0));
        assert_eq!(connack(&answer).topic_alias_maximum, most);
        let mut out = message("t", QoS::AtMostOnce, 1, b"x");
        out.alias = Some(alias);
        let answers = wire.publish(client, &out);
        if fine {
            assert!(!wire.is_closed(client));
        } else {
            ended(&wire, client, &answers, ReasonCode::TOPIC_ALIAS_INVALID);
        }
    }
}

/// A PUBLISH of MQTT 5 to `t` with the payload format indicator set.
fn text_message(qos: QoS, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = message("t", qos, 5, payload);
    out.forwarded = &[1, 1];
    out.encode(Version::V5, &mut bytes);
    bytes
}

#[test]
fn an_announced_text_is_checked_only_where_that_is_asked_for() {
    let broken = [0x66, 0xff, 0x66];
    let mut wire = Wire::new(|s| s.protocol.validate_payload_format = true);
    let reader = wire.five("reader");
    wire.subscribe(reader, "t", QoS::AtMostOnce);
    let client = wire.five("c");
    for (qos, kind) in
        [(QoS::AtLeastOnce, PacketType::Puback), (QoS::ExactlyOnce, PacketType::Pubrec)]
    {
        let answers = wire.send(client, &text_message(qos, &broken));
        let reason = ReasonCode::PAYLOAD_FORMAT_INVALID;
        assert_eq!(acks(&answers, Version::V5), [(kind, 5, reason)]);
        // The identifier is free again.
        let answers = wire.send(client, &text_message(qos, "für".as_bytes()));
        assert_eq!(acks(&answers, Version::V5), [(kind, 5, ReasonCode::SUCCESS)]);
        let got = wire.take(reader);
        let got = publication(&got[0], Version::V5);
        assert!(got.properties.payload_format_utf8, "[MQTT-3.3.2-4]");
        assert_eq!(got.payload, "für".as_bytes());
    }
    let answers = wire.send(client, &text_message(QoS::AtMostOnce, &broken));
    ended(&wire, client, &answers, ReasonCode::PAYLOAD_FORMAT_INVALID);
    assert!(wire.take(reader).is_empty());
    // What is not announced, or not to be checked, passes.
    let plain = wire.five("plain");
    wire.publish(plain, &message("t", QoS::AtMostOnce, 1, &broken));
    assert_eq!(wire.take(reader).len(), 1);
    let mut wire = Wire::new(|_| {});
    let client = wire.five("c");
    let answers = wire.send(client, &text_message(QoS::AtLeastOnce, &broken));
    assert!(!acks(&answers, Version::V5)[0].2.is_error());
}

#[test]
fn a_wills_text_is_checked_at_connect() {
    let connect = |payload: &[u8]| {
        let mut body = b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01w\x02\x01\x01\x00\x01t".to_vec();
        body.extend([0, payload.len() as u8]);
        body.extend(payload);
        [&[0x10, body.len() as u8][..], &body].concat()
    };
    let mut wire = Wire::new(|s| s.protocol.validate_payload_format = true);
    let client = wire.open(Version::V5);
    let answers = wire.send(client, &connect(&[0xff]));
    assert_eq!(connack(&answers[0]).reason, ReasonCode::PAYLOAD_FORMAT_INVALID);
    let client = wire.open(Version::V5);
    let answers = wire.send(client, &connect(b"fine"));
    assert_eq!(connack(&answers[0]).reason, ReasonCode::SUCCESS);
}
