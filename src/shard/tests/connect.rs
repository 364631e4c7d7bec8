//! CONNECT: versions, client identifiers, what CONNACK says, refusals.

use super::wire::{Wire, connack, goodbye, message, packets, read, v5};
use crate::base::{Rate, ShardId};
use crate::codec::{
    ConnectOut, ConnectProperties, Packet, PublishOut, QoS, ReasonCode, Version, Will,
};
use crate::config::{ClientPattern, Text};
use crate::shard::Placement;
use std::num::NonZeroU32;
use std::sync::Arc;

fn connect(version: Version, client_id: &str) -> ConnectOut<'_> {
    ConnectOut { version, client_id, clean_start: true, ..ConnectOut::default() }
}

fn text(text: &str) -> Text {
    Text::new(text).expect("valid")
}

#[test]
fn a_listener_serves_only_its_versions() {
    let all = [Version::V31, Version::V311, Version::V5];
    for (least, most) in [(0, 2), (1, 1), (2, 2), (0, 1), (1, 2)] {
        let mut wire = Wire::new(|s| s.doors.rules[0].versions = all[least]..=all[most]);
        for (at, version) in all.into_iter().enumerate() {
            if (least..=most).contains(&at) {
                wire.connect(&connect(version, "c"));
            } else {
                let (client, answer) = wire.try_connect(&connect(version, "c"));
                let expected: &[u8] =
                    if version == Version::V5 { &[0x20] } else { &[0x20, 2, 0, 1] };
                assert!(answer.starts_with(expected), "{version:?}: {answer:?}");
                if version == Version::V5 {
                    let reason = connack(&answer).reason;
                    assert_eq!(reason, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
                }
                assert!(wire.is_closed(client));
            }
        }
    }
}

#[test]
fn unknown_levels_and_names_are_answered_with_the_reason_for_versions() {
    let cases: [(&[u8], &[u8]); 4] = [
        // Level 6, in the form of MQTT 5.
        (b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00", &[0x84]),
        (b"\x10\x0c\x00\x04MQTT\x03\x02\x00\x00\x00\x00", &[0x20, 2, 0, 1]),
        (b"\x10\x0e\x00\x06MQIsdp\x04\x02\x00\x00\x00\x00", &[0x20, 2, 0, 1]),
        (b"\x10\x0c\x00\x04HTTP\x04\x02\x00\x00\x00\x00", &[0x20, 2, 0, 1]),
    ];
    for (bytes, expected) in cases {
        let mut wire = Wire::new(|_| {});
        let client = wire.open(Version::V311);
        let answers = wire.send(client, bytes);
        match expected {
            [code] => assert_eq!(connack(&answers[0]).reason, ReasonCode(*code)),
            _ => assert_eq!(answers, [expected.to_vec()]),
        }
        assert!(wire.is_closed(client));
    }
}

#[test]
fn a_broken_connect_of_mqtt_3_is_closed_without_a_word() {
    // The reserved flag is set; a password without a user name.
    for flags in [0x03, 0x42] {
        let mut wire = Wire::new(|_| {});
        let client = wire.open(Version::V311);
        let mut bytes = b"\x10\x0f\x00\x04MQTT\x04_\x00\x00\x00\x01a\x00\x00".to_vec();
        bytes[9] = flags;
        assert_eq!(wire.send(client, &bytes), [] as [Vec<u8>; 0]);
        assert!(wire.is_closed(client));
        assert_eq!(wire.counters().protocol_errors, 1);
    }
}

#[test]
fn mqtt_31_has_its_own_client_identifiers() {
    let mut wire = Wire::new(|_| {});
    // Its CONNACK has no session present flag.
    let (_, answer) = wire.try_connect(&connect(Version::V31, "c"));
    assert_eq!(answer, [0x20, 2, 0, 0]);
    let reason = wire.refused(&connect(Version::V31, ""));
    assert_eq!(reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, "0x02, clean or not");
    let long = "x".repeat(24);
    wire.connect(&connect(Version::V31, &long));
    let mut wire = Wire::new(|s| s.protocol.short_client_ids = true);
    let reason = wire.refused(&connect(Version::V31, &long));
    assert_eq!(reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    // Characters, not bytes; and no other version minds.
    wire.connect(&connect(Version::V31, &"ü".repeat(23)));
    wire.connect(&connect(Version::V311, &long));
}

#[test]
fn mqtt_31_repeats_with_dup_what_later_versions_may_not() {
    let subscribe = |first: u8| [first, 6, 0, 1, 0, 1, b'a', 1];
    let unsubscribe = |first: u8| [first, 5, 0, 2, 0, 1, b'a'];
    let pubrel = |first: u8| [first, 2, 0, 3];
    let mut wire = Wire::new(|_| {});
    let old = wire.connect(&connect(Version::V31, "old"));
    assert_eq!(wire.send(old, &subscribe(0x8a)), [[0x90, 3, 0, 1, 1].to_vec()]);
    assert_eq!(wire.send(old, &unsubscribe(0xaa)), [[0xb0, 2, 0, 2].to_vec()]);
    assert_eq!(wire.send(old, &pubrel(0x6a)), [[0x70, 2, 0, 3].to_vec()]);
    // In one segment with the CONNECT, and split behind every byte.
    let mut bytes = Vec::new();
    connect(Version::V31, "one").encode(&mut bytes);
    bytes.extend(subscribe(0x8a));
    let one = wire.open(Version::V31);
    assert_eq!(wire.send(one, &bytes).len(), 2);
    let drop = wire.open(Version::V31);
    let answers: usize = bytes.iter().map(|byte| wire.send(drop, &[*byte]).len()).sum();
    assert_eq!(answers, 2);
    // Other bits stay reserved in 3.1, and all of them later.
    for (version, first) in
        [(Version::V31, 0x8b), (Version::V31, 0x88), (Version::V311, 0x8a), (Version::V5, 0x8a)]
    {
        let client = wire.connect(&connect(version, "other"));
        wire.send(client, &subscribe(first));
        assert!(wire.is_closed(client), "{version:?} {first:#x}");
    }
}

#[test]
fn an_empty_identifier_is_replaced_and_announced() {
    let mut wire = Wire::new(|_| {});
    let (_, answer) = wire.try_connect(&v5("", true, 0));
    let first = connack(&answer).assigned_client_id.expect("an identifier").to_owned();
    let (_, answer) = wire.try_connect(&v5("", false, 0));
    let second = connack(&answer).assigned_client_id.expect("an identifier").to_owned();
    assert_ne!(first, second, "[MQTT-3.1.3-6]");
    let unclean = ConnectOut { clean_start: false, ..connect(Version::V311, "") };
    assert_eq!(wire.refused(&unclean), ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    wire.connect(&connect(Version::V311, ""));
}

#[test]
fn a_redirecting_listener_says_where_to_go() {
    let redirect = |reason| {
        Wire::new(move |s| {
            s.doors.rules[0].redirect = Some(reason);
            s.protocol.server_reference = text("other.example:1883");
        })
    };
    for reason in [ReasonCode::USE_ANOTHER_SERVER, ReasonCode::SERVER_MOVED] {
        let mut wire = redirect(reason);
        let (client, answer) = wire.try_connect(&v5("c", true, 0));
        assert_eq!(connack(&answer).reason, reason);
        assert_eq!(connack(&answer).server_reference, Some("other.example:1883"));
        assert!(wire.is_closed(client));
        let (_, answer) = wire.try_connect(&connect(Version::V311, "c"));
        assert_eq!(answer, [0x20, 2, 0, 3], "server unavailable");
        assert_eq!(wire.counters().connects_refused, 2);
    }
    // Nobody else is told.
    let mut wire = Wire::new(|s| s.protocol.server_reference = text("other.example:1883"));
    let (_, answer) = wire.try_connect(&v5("c", true, 0));
    assert_eq!(connack(&answer).server_reference, None);
}

#[test]
fn the_keep_alive_of_the_server_is_announced_and_used() {
    // (longest, forced, asked) → announced.
    let cases = [
        (u16::MAX, 0, 60, None),
        (u16::MAX, 0, 0, None),
        (30, 0, 60, Some(30)),
        (30, 0, 20, None),
        (30, 0, 0, Some(30)),
        (u16::MAX, 45, 60, Some(45)),
        (u16::MAX, 45, 10, Some(45)),
        (u16::MAX, 45, 45, None),
    ];
    for (longest, forced, asked, announced) in cases {
        let mut wire = Wire::new(move |s| {
            s.session.max_keep_alive_s = longest;
            s.protocol.server_keep_alive_s = forced;
        });
        let asking = ConnectOut { keep_alive: asked, ..v5("c", true, 0) };
        let (client, answer) = wire.try_connect(&asking);
        assert_eq!(connack(&answer).server_keep_alive, announced, "{longest} {forced} {asked}");
        let Some(seconds) = announced else { continue };
        wire.wait_s(u64::from(seconds) * 3 / 2 - 2);
        assert!(!wire.is_closed(client), "[MQTT-3.1.2-21]");
        wire.wait_s(4);
        assert_eq!(goodbye(&wire.take(client)), Some(ReasonCode::KEEP_ALIVE_TIMEOUT));
        assert!(wire.is_closed(client), "[MQTT-3.1.2-22]");
    }
}

#[test]
fn response_information_is_for_those_who_ask() {
    let asking = |request_response_information| {
        let properties =
            ConnectProperties { request_response_information, ..ConnectProperties::default() };
        ConnectOut { properties, ..v5("c", true, 0) }
    };
    let mut wire = Wire::new(|s| s.protocol.response_topic_prefix = text("replies/"));
    let (_, answer) = wire.try_connect(&asking(true));
    assert_eq!(connack(&answer).response_information, Some("replies/"));
    let (_, answer) = wire.try_connect(&asking(false));
    assert_eq!(connack(&answer).response_information, None, "[MQTT-3.1.2-28]");
    let mut wire = Wire::new(|_| {});
    let (_, answer) = wire.try_connect(&asking(true));
    assert_eq!(connack(&answer).response_information, None);
}

#[test]
fn a_connack_keeps_to_the_largest_packet_of_its_client() {
    let asking = |largest: usize| {
        let maximum_packet_size = NonZeroU32::new(largest as u32);
        let request_response_information = true;
        let properties = ConnectProperties {
            maximum_packet_size,
            request_response_information,
            ..Default::default()
        };
        ConnectOut { properties, ..v5("c", true, 0) }
    };
    let mut wire = Wire::new(|s| s.protocol.response_topic_prefix = text("replies/"));
    let (_, full) = wire.try_connect(&asking(1000));
    let (_, same) = wire.try_connect(&asking(full.len()));
    let goodbyes = |bytes: &[u8]| packets(bytes).len() - 1;
    assert_eq!((same.len(), goodbyes(&same)), (full.len(), 0), "to the byte");
    let (client, less) = wire.try_connect(&asking(full.len() - 1));
    assert!(less.len() < full.len());
    assert_eq!(connack(&less).response_information, None);
    assert!(!wire.is_closed(client));
    // What can't be said at all ends the connection, and nothing comes before CONNACK
    // [MQTT-3.2.0-1], DISCONNECT included.
    let (client, least) = wire.try_connect(&asking(4));
    assert!(wire.is_closed(client));
    assert!(least.is_empty());
}

#[test]
fn a_connack_leaves_out_what_may_be_and_does_not_fit() {
    let asking = |client_id, largest: u32| {
        let maximum_packet_size = NonZeroU32::new(largest);
        let properties = ConnectProperties { maximum_packet_size, ..Default::default() };
        ConnectOut { properties, ..v5(client_id, true, 0) }
    };
    let mut wire = Wire::new(|s| s.session.receive_maximum = 2);
    for largest in 5..40 {
        let (client, answer) = wire.try_connect(&asking("c", largest));
        let told = connack(&answer);
        let told = (told.maximum_packet_size, told.receive_maximum, told.topic_alias_maximum);
        let expected = match largest {
            5..=9 => (5, (None, None, 0)),
            10..=12 => (10, (Some(1_048_576), None, 0)),
            13..=15 => (13, (Some(1_048_576), Some(2), 0)),
            _ => (16, (Some(1_048_576), Some(2), 32)),
        };
        assert_eq!((answer.len(), told), expected, "at most {largest} bytes");
        assert!(!wire.is_closed(client));
    }
    // What was not said holds as the standard has it: 65,535 messages and no alias.
    let (client, answer) = wire.try_connect(&asking("c", 5));
    assert_eq!(answer, [0x20, 3, 0, 0, 0]);
    for number in 1..=3 {
        let mut bytes = Vec::new();
        message("t", QoS::ExactlyOnce, number, b"").encode(Version::V5, &mut bytes);
        let answers = wire.send(client, &bytes);
        assert_eq!(answers.len(), 1, "a PUBREC");
    }
    let mut bytes = Vec::new();
    let alias = Some(1);
    PublishOut { alias, ..message("t", QoS::AtMostOnce, 0, b"") }.encode(Version::V5, &mut bytes);
    wire.send(client, &bytes);
    assert!(wire.is_closed(client), "[MQTT-3.3.2-9]");
}

#[test]
fn who_takes_no_connack_that_says_what_it_must_is_refused() {
    let mut wire = Wire::new(|s| s.session.max_expiry_s = 100);
    let old = wire.connect(&v5("c", true, 50));
    let asking = |client_id, largest: u32| {
        let full = v5(client_id, true, 101);
        let maximum_packet_size = NonZeroU32::new(largest);
        ConnectOut {
            properties: ConnectProperties { maximum_packet_size, ..full.properties },
            ..full
        }
    };
    let (client, answer) = wire.try_connect(&asking("c", 9));
    assert_eq!(answer, [0x20, 3, 0, 0x95, 0], "the session expiry in force needs five bytes");
    assert!(wire.is_closed(client) && !wire.is_closed(old), "nothing was taken over");
    let (_, answer) = wire.try_connect(&asking("", 42));
    assert_eq!(answer, [0x20, 3, 0, 0x95, 0], "nor is there room for an assigned identifier");
    let (_, answer) = wire.try_connect(&asking("c", 10));
    assert_eq!(answer, [0x20, 8, 0, 0, 5, 0x11, 0, 0, 0, 100]);
    assert!(wire.is_closed(old));
}

#[test]
fn a_refusal_leaves_its_text_out_where_it_does_not_fit() {
    let mut wire = Wire::new(|_| {});
    let will = Will { topic: "a/#", ..Will::default() };
    let asking = |largest: u32| {
        let maximum_packet_size = NonZeroU32::new(largest);
        let properties = ConnectProperties { maximum_packet_size, ..Default::default() };
        ConnectOut { properties, will: Some(will), ..v5("c", true, 0) }
    };
    let (_, full) = wire.try_connect(&asking(1000));
    assert!(connack(&full).reason_string.is_some());
    let (_, same) = wire.try_connect(&asking(full.len() as u32));
    assert_eq!(same, full);
    let (_, short) = wire.try_connect(&asking(full.len() as u32 - 1));
    assert_eq!(short, [0x20, 3, 0, 0x90, 0], "[MQTT-3.2.2-19]");
}

#[test]
fn connections_over_the_rate_are_closed_at_once() {
    let mut wire = Wire::new(|s| s.doors.rules[0].connects = Rate::new(5, 0));
    let shard = &mut wire.bench.shards[0];
    let accepted = (0..20).filter(|_| shard.open(0, None).is_some()).count();
    assert_eq!(accepted, 5);
    assert_eq!(wire.counters().connects_over_rate, 15);
    wire.wait_s(2);
    let shard = &mut wire.bench.shards[0];
    assert_eq!((0..20).filter(|_| shard.open(0, None).is_some()).count(), 5);
}

#[test]
fn session_expiry_is_announced_where_it_differs() {
    let mut wire = Wire::new(|s| s.session.max_expiry_s = 100);
    for (asked, announced) in [(50, None), (100, None), (101, Some(100)), (u32::MAX, Some(100))] {
        let (_, answer) = wire.try_connect(&v5("c", true, asked));
        assert_eq!(connack(&answer).session_expiry, announced);
    }
    let present = |bytes: &[u8], version| match read(bytes, version) {
        Packet::Connack(connack) => connack.session_present,
        other => panic!("no CONNACK: {other:?}"),
    };
    // The session of MQTT 3.x lives as long as configured.
    let mut wire = Wire::new(|s| s.session.v3_expiry_s = 10);
    let unclean = ConnectOut { clean_start: false, ..connect(Version::V311, "three") };
    for (seconds, expected) in [(0, false), (9, true), (12, false)] {
        wire.wait_s(seconds);
        let (client, answer) = wire.try_connect(&unclean);
        assert_eq!(present(&answer, Version::V311), expected, "after {seconds} s");
        wire.cut(client);
    }
}

#[test]
fn clients_of_a_rule_live_on_its_shard_named_or_not() {
    let homes = vec![(ClientPattern::new("*"), ShardId(1))];
    let placement = Arc::new(Placement::new(3, [1, 2], 2).with_homes(homes));
    let mut bench = super::Bench::with(3, |s| s.placement = placement.clone());
    for at in 0..3 {
        for id in ["gate", ""] {
            assert_eq!(bench.connect(at, id, Version::V5).0, 1, "{id:?} accepted on {at}");
        }
    }
    assert_eq!(bench.shards[1].counters().connects, 6);
    assert_eq!(bench.sum(|counters| counters.connects), 6);
}
