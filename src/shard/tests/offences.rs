//! Illegal packets: each costs its connection, with the reason code of the specification.

use super::wire::{Wire, acks, goodbye};
use crate::codec::{PacketType, ReasonCode, Version};

/// Offences of an MQTT 5 client: bytes, and the reason code they earn.
const OFFENCES: &[(&str, &[u8], u8)] = &[
    ("a second CONNECT", b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01a", 0x82),
    (
        "a second CONNECT of no known level",
        b"\x10\x0e\x00\x04MQTT\x07\x02\x00\x00\x00\x00\x01a",
        0x82,
    ),
    ("a second CONNECT cut short", b"\x10\x02\x00\x04", 0x82),
    ("CONNACK", b"\x20\x03\x00\x00\x00", 0x82),
    ("SUBACK", b"\x90\x04\x00\x01\x00\x00", 0x82),
    ("UNSUBACK", b"\xb0\x04\x00\x01\x00\x00", 0x82),
    ("PINGRESP", b"\xd0\x00", 0x82),
    ("AUTH without method", b"\xf0\x02\x18\x00", 0x82),
    ("AUTH without an exchange", b"\xf0\x06\x19\x04\x15\x00\x01x", 0x82),
    ("an empty AUTH", b"\xf0\x00", 0x82),
    ("packet type 0", b"\x00\x00", 0x81),
    ("QoS 3", b"\x36\x06\x00\x01t\x00\x01\x00", 0x81),
    ("DUP with QoS 0", b"\x38\x04\x00\x01t\x00", 0x81),
    ("reserved flags of SUBSCRIBE", b"\x80\x07\x00\x01\x00\x00\x01t\x00", 0x81),
    ("reserved flags of PUBREL", b"\x60\x02\x00\x01", 0x81),
    ("reserved flags of PINGREQ", b"\xc1\x00", 0x81),
    ("PINGREQ with a body", b"\xc0\x01\x00", 0x81),
    ("a length of five bytes", b"\x30\xff\xff\xff\xff\x01", 0x81),
    ("a length with needless bytes", b"\xc0\x80\x00", 0x81),
    ("packet identifier 0", b"\x32\x06\x00\x01t\x00\x00\x00", 0x82),
    ("SUBSCRIBE with packet identifier 0", b"\x82\x07\x00\x00\x00\x00\x01t\x00", 0x82),
    ("SUBSCRIBE without filters", b"\x82\x03\x00\x01\x00", 0x82),
    ("UNSUBSCRIBE without filters", b"\xa2\x03\x00\x01\x00", 0x82),
    ("reserved subscription options", b"\x82\x07\x00\x01\x00\x00\x01t\xc0", 0x81),
    ("a subscription with QoS 3", b"\x82\x07\x00\x01\x00\x00\x01t\x03", 0x82),
    ("retain handling 3", b"\x82\x07\x00\x01\x00\x00\x01t\x30", 0x82),
    ("subscription identifier 0", b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01t\x00", 0x82),
    ("two subscription identifiers", b"\x82\x0b\x00\x01\x04\x0b\x01\x0b\x02\x00\x01t\x00", 0x82),
    ("no local in a share group", b"\x82\x10\x00\x01\x00\x00\x0a$share/g/t\x04", 0x82),
    ("a topic with #", b"\x30\x06\x00\x03a/#\x00", 0x90),
    ("a topic with +", b"\x30\x06\x00\x03+/a\x00", 0x90),
    ("a topic with NUL", b"\x30\x04\x00\x01\x00\x00", 0x81),
    ("a topic that is not UTF-8", b"\x30\x04\x00\x01\xff\x00", 0x81),
    ("a surrogate in a topic", b"\x30\x06\x00\x03\xed\xa0\x80\x00", 0x81),
    ("no topic and no alias", b"\x30\x03\x00\x00\x00", 0x82),
    ("an alias that is not set", b"\x30\x06\x00\x00\x03\x23\x00\x01", 0x82),
    ("alias 0", b"\x30\x07\x00\x01t\x03\x23\x00\x00", 0x94),
    ("an alias above the maximum", b"\x30\x07\x00\x01t\x03\x23\xff\xff", 0x94),
    ("a subscription identifier from a client", b"\x30\x06\x00\x01t\x02\x0b\x05", 0x82),
    ("a response topic with #", b"\x30\x09\x00\x01t\x05\x08\x00\x02a#", 0x82),
    ("a response topic with +", b"\x30\x08\x00\x01t\x04\x08\x00\x01+", 0x82),
    ("an empty response topic", b"\x30\x07\x00\x01t\x03\x08\x00\x00", 0x82),
    ("two content types", b"\x30\x0c\x00\x01t\x08\x03\x00\x01a\x03\x00\x01b", 0x82),
    ("payload format 2", b"\x30\x06\x00\x01t\x02\x01\x02", 0x82),
    ("a property of other packets", b"\x30\x07\x00\x01t\x03\x21\x00\x01", 0x81),
    ("an unknown property", b"\x30\x06\x00\x01t\x02\x7f\x00", 0x81),
    ("properties longer than the packet", b"\x30\x04\x00\x01t\x05", 0x81),
    ("PUBACK with a reason of others", b"\x40\x03\x00\x01\x8e", 0x82),
    ("DISCONNECT with a reason of others", b"\xe0\x01\x01", 0x82),
    ("an expiry out of nothing", b"\xe0\x07\x00\x05\x11\x00\x00\x00\x05", 0x82),
];

#[test]
fn every_offence_costs_its_connection_and_nothing_else() {
    for (what, bytes, reason) in OFFENCES {
        let mut wire = Wire::new(|_| {});
        let bystander = wire.five("bystander");
        let client = wire.five("offender");
        let answers = wire.send(client, bytes);
        assert_eq!(goodbye(&answers), Some(ReasonCode(*reason)), "{what}");
        assert_eq!(answers.len(), 1, "{what}");
        assert!(wire.is_closed(client), "{what}");
        assert_eq!(wire.counters().protocol_errors, 1, "{what}");
        // Nothing that follows is looked at.
        let puback = wire.send(client, &[0xc0, 0]);
        assert!(puback.is_empty(), "{what}");
        assert_eq!(wire.send(bystander, &[0xc0, 0]), [[0xd0, 0].to_vec()], "{what}");
    }
}

#[test]
fn every_offence_is_found_however_its_bytes_arrive() {
    for (what, bytes, reason) in OFFENCES {
        let mut wire = Wire::new(|_| {});
        let client = wire.five("offender");
        let mut answers = Vec::new();
        for byte in *bytes {
            answers.extend(wire.send(client, &[*byte]));
        }
        assert_eq!(goodbye(&answers), Some(ReasonCode(*reason)), "{what}, byte by byte");
        let mut wire = Wire::new(|_| {});
        let client = wire.five("offender");
        let answers = wire.send(client, &[&[0xc0, 0], *bytes].concat());
        assert_eq!(goodbye(&answers), Some(ReasonCode(*reason)), "{what}, behind a PINGREQ");
        assert_eq!(answers[0], [0xd0, 0], "{what}");
    }
}

#[test]
fn mqtt_3_is_closed_without_a_word() {
    let offences: [&[u8]; 9] = [
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a",
        b"\x30\x03\x00\x01#",
        b"\x30\x02\x00\x00",
        b"\x82\x02\x00\x01",
        b"\x82\x06\x00\x01\x00\x01t\x03",
        b"\x82\x06\x00\x01\x00\x01t\x04",
        b"\xf0\x00",
        b"\xd0\x00",
        b"\x32\x05\x00\x01t\x00\x00",
    ];
    for bytes in offences {
        let mut wire = Wire::new(|_| {});
        let client = wire.three("offender");
        assert!(wire.send(client, bytes).is_empty(), "{bytes:?}");
        assert!(wire.is_closed(client), "{bytes:?}");
    }
}

#[test]
fn what_comes_before_connect_is_closed_without_a_word() {
    for bytes in
        [&b"\xc0\x00"[..], b"\x30\x04\x00\x01t\x00", b"\xe0\x00", b"GET / HTTP/1.1\r\n\r\n"]
    {
        let mut wire = Wire::new(|_| {});
        let client = wire.open(Version::V311);
        assert!(wire.send(client, bytes).is_empty(), "[MQTT-3.1.0-1]");
        assert!(wire.is_closed(client));
    }
}

#[test]
fn connects_that_are_refused_say_why() {
    let will = |properties: &[u8], topic: &[u8]| {
        let mut body = b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01w".to_vec();
        body.push(properties.len() as u8);
        body.extend(properties);
        body.extend([0, topic.len() as u8]);
        body.extend(topic);
        body.extend([0, 0]);
        [&[0x10, body.len() as u8][..], &body].concat()
    };
    for (bytes, reason) in [
        (will(b"", b"a/+"), 0x90),
        (will(b"", b""), 0x90),
        (will(b"\x08\x00\x01#", b"t"), 0x82),
        (will(b"\x23\x00\x01", b"t"), 0x81),
        (will(b"\x01\x02", b"t"), 0x82),
        (b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01a".to_vec(), 0x81),
        (b"\x10\x0e\x00\x04MQTT\x05\x1a\x00\x00\x00\x00\x01a".to_vec(), 0x81),
        (b"\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x00\x00\x01a".to_vec(), 0x82),
        (b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01x\x00\x01a".to_vec(), 0x8c),
        (b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x16\x00\x01x\x00\x01a".to_vec(), 0x82),
    ] {
        let mut wire = Wire::new(|_| {});
        let client = wire.open(Version::V5);
        let answers = wire.send(client, &bytes);
        assert_eq!(super::wire::connack(&answers[0]).reason, ReasonCode(reason), "{bytes:?}");
        assert_eq!(answers.len(), 1);
        assert!(wire.is_closed(client));
    }
}

#[test]
fn acknowledgements_of_nothing_are_answered_or_passed_over() {
    let mut wire = Wire::new(|_| {});
    let five = wire.five("five");
    let three = wire.three("three");
    let unknown = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
    assert_eq!(
        acks(&wire.ack(five, PacketType::Pubrel, 9), Version::V5),
        [(PacketType::Pubcomp, 9, unknown)]
    );
    assert_eq!(
        acks(&wire.ack(five, PacketType::Pubrec, 9), Version::V5),
        [(PacketType::Pubrel, 9, unknown)]
    );
    assert_eq!(wire.ack(three, PacketType::Pubrel, 9), [[0x70, 2, 0, 9].to_vec()]);
    assert_eq!(wire.ack(three, PacketType::Pubrec, 9), [[0x62, 2, 0, 9].to_vec()]);
    for client in [five, three] {
        assert!(wire.ack(client, PacketType::Puback, 9).is_empty());
        assert!(wire.ack(client, PacketType::Pubcomp, 9).is_empty());
        assert!(!wire.is_closed(client));
    }
}
