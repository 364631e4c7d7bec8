//! Sessions: what survives a connection, what a clean start forgets, take-over.

use super::wire::{Client, Wire, acks, goodbye, message, packets, publication, read, v5};
use crate::codec::{ConnectOut, Packet, PacketType, QoS, ReasonCode, Version};
use crate::shard::DropCause;

fn present(bytes: &[u8], version: Version) -> bool {
    match read(&packets(bytes)[0], version) {
        Packet::Connack(connack) => connack.session_present,
        other => panic!("no CONNACK: {other:?}"),
    }
}

/// CONNECTs of one client that keeps its session.
fn lasting(version: Version, clean_start: bool) -> ConnectOut<'static> {
    match version {
        Version::V5 => v5("lasting", clean_start, 1000),
        _ => ConnectOut { version, client_id: "lasting", clean_start, ..Default::default() },
    }
}

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

#[test]
fn a_session_outlives_its_connection_with_subscriptions_and_messages() {
    for version in VERSIONS {
        let mut wire = Wire::new(|_| {});
        let (client, answer) = wire.try_connect(&lasting(version, false));
        assert!(!present(&answer, version), "[MQTT-3.2.2-3]");
        wire.subscribe(client, "t", QoS::AtLeastOnce);
        wire.cut(client);
        let publisher = wire.five("publisher");
        for number in 1..6 {
            let payload = [number as u8];
            wire.publish(publisher, &message("t", QoS::AtLeastOnce, number, &payload));
        }
        wire.publish(publisher, &message("t", QoS::AtMostOnce, 1, b"q0"));
        assert_eq!(wire.counters().drops[DropCause::Offline as usize], 1);
        let (client, answer) = wire.try_connect(&lasting(version, false));
        assert!(present(&answer, version), "[MQTT-3.2.2-2]");
        let got = packets(&answer)[1..].to_vec();
        let got: Vec<_> = got.iter().map(|bytes| publication(bytes, version)).collect();
        let payloads: Vec<_> = got.iter().map(|publish| publish.payload[0]).collect();
        assert_eq!(payloads, [1, 2, 3, 4, 5]);
        assert!(got.iter().all(|publish| !publish.dup), "sent for the first time");
        wire.cut(client);
    }
}

#[test]
fn a_clean_start_forgets_everything() {
    for version in VERSIONS {
        let mut wire = Wire::new(|_| {});
        let client = wire.connect(&lasting(version, false));
        wire.subscribe(client, "t", QoS::AtLeastOnce);
        wire.cut(client);
        let publisher = wire.five("publisher");
        wire.publish(publisher, &message("t", QoS::AtLeastOnce, 1, b"x"));
        let (client, answer) = wire.try_connect(&lasting(version, true));
        assert!(!present(&answer, version), "[MQTT-3.1.2-4]");
        assert_eq!(packets(&answer).len(), 1);
        wire.publish(publisher, &message("t", QoS::AtLeastOnce, 1, b"x"));
        assert!(wire.take(client).is_empty());
        assert_eq!(wire.counters().drops[DropCause::SessionEnded as usize], 1);
    }
}

#[test]
fn a_second_connection_takes_the_session_over() {
    for (old, new) in [
        (Version::V5, Version::V5),
        (Version::V5, Version::V311),
        (Version::V311, Version::V5),
        (Version::V31, Version::V311),
    ] {
        let mut wire = Wire::new(|_| {});
        let first = wire.connect(&lasting(old, false));
        wire.subscribe(first, "t", QoS::AtLeastOnce);
        let (second, answer) = wire.try_connect(&lasting(new, false));
        assert!(present(&answer, new), "{old:?} {new:?}");
        let answers = wire.take(first);
        match old {
            Version::V5 => assert_eq!(goodbye(&answers), Some(ReasonCode::SESSION_TAKEN_OVER)),
            _ => assert!(answers.is_empty()),
        }
        assert!(wire.is_closed(first), "[MQTT-3.1.4-3]");
        assert_eq!(wire.counters().taken_over, 1);
        // What the old connection still sends counts for nothing.
        wire.publish(first, &message("t", QoS::AtMostOnce, 1, b"late"));
        assert!(wire.take(second).is_empty());
        let publisher = wire.five("publisher");
        wire.publish(publisher, &message("t", QoS::AtMostOnce, 1, b"x"));
        assert_eq!(wire.take(second).len(), 1);
    }
}

fn qos_two(wire: &mut Wire, client: Client, number: u16, dup: bool) -> Vec<Vec<u8>> {
    let mut out = message("t", QoS::ExactlyOnce, number, b"x");
    out.dup = dup;
    wire.publish(client, &out)
}

#[test]
fn a_qos_2_message_is_forwarded_once_over_several_connections() {
    for version in VERSIONS {
        let mut wire = Wire::new(|_| {});
        let reader = wire.five("reader");
        wire.subscribe(reader, "t", QoS::AtMostOnce);
        let client = wire.connect(&lasting(version, false));
        qos_two(&mut wire, client, 7, false);
        for _ in 0..3 {
            wire.cut(client);
            let client = wire.connect(&lasting(version, false));
            let answers = qos_two(&mut wire, client, 7, true);
            let expected = (PacketType::Pubrec, 7, ReasonCode::SUCCESS);
            assert_eq!(acks(&answers, version), [expected], "[MQTT-4.3.3-10]");
        }
        assert_eq!(wire.take(reader).len(), 1);
        let client = wire.connect(&lasting(version, false));
        assert_eq!(acks(&wire.ack(client, PacketType::Pubrel, 7), version).len(), 1);
        qos_two(&mut wire, client, 7, false);
        assert_eq!(wire.take(reader).len(), 1, "a new message under the old identifier");
    }
}

#[test]
fn acknowledgements_leave_in_the_order_of_the_publishes() {
    for version in VERSIONS {
        let mut wire = Wire::new(|_| {});
        let client = wire.connect(&lasting(version, true));
        let mut bytes = Vec::new();
        for number in [9, 3, 12, 4] {
            let qos = if number % 3 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            message("t", qos, number, b"").encode(version, &mut bytes);
        }
        let answers = wire.send(client, &bytes);
        let ids: Vec<_> = acks(&answers, version).iter().map(|ack| ack.1).collect();
        assert_eq!(ids, [9, 3, 12, 4], "[MQTT-4.6.0-2], [MQTT-4.6.0-3]");
    }
}
