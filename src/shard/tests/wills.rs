//! Wills: what sets them free, what cancels them, and when; session expiry at DISCONNECT.

use super::wire::{Client, Wire, goodbye, publication, v5};
use crate::codec::{ConnectOut, PublishProperties, QoS, ReasonCode, Version, Will};

fn will(delay_s: u32) -> Option<Will<'static>> {
    Some(Will { topic: "will", payload: b"gone", delay_s, ..Will::default() })
}

fn mortal(clean_start: bool, expiry_s: u32, delay_s: u32) -> ConnectOut<'static> {
    ConnectOut { will: will(delay_s), ..v5("mortal", clean_start, expiry_s) }
}

fn watched() -> (Wire, Client) {
    let mut wire = Wire::new(|_| {});
    let watcher = wire.five("watcher");
    wire.subscribe(watcher, "will", QoS::AtMostOnce);
    (wire, watcher)
}

/// How many wills the watcher got since the last look.
fn wills(wire: &mut Wire, watcher: Client) -> usize {
    let got = wire.take(watcher);
    for bytes in &got {
        assert_eq!(publication(bytes, Version::V5).payload, b"gone");
    }
    got.len()
}

#[test]
fn every_end_but_a_plain_disconnect_publishes_the_will() {
    type End = fn(&mut Wire, Client);
    let ends: [(&str, End, usize); 11] = [
        ("the network", |wire, client| wire.cut(client), 1),
        ("a malformed packet", |wire, client| drop(wire.send(client, &[0xf0, 1, 0xff])), 1),
        ("a protocol error", |wire, client| drop(wire.send(client, &[0xd0, 0])), 1),
        (
            "a second CONNECT",
            |wire, client| {
                let mut bytes = Vec::new();
                v5("mortal", true, 0).encode(&mut bytes);
                wire.send(client, &bytes);
            },
            1,
        ),
        ("keep alive", |wire, _| wire.wait_s(16), 1),
        (
            "take-over",
            |wire, _| {
                wire.connect(&v5("mortal", false, 0));
            },
            1,
        ),
        (
            "DISCONNECT 0x04",
            |wire, client| {
                wire.leave(client, ReasonCode::DISCONNECT_WITH_WILL, None);
            },
            1,
        ),
        (
            "DISCONNECT 0x80",
            |wire, client| {
                wire.leave(client, ReasonCode::UNSPECIFIED_ERROR, None);
            },
            1,
        ),
        (
            "DISCONNECT 0x98",
            |wire, client| {
                wire.leave(client, ReasonCode::ADMINISTRATIVE_ACTION, None);
            },
            1,
        ),
        (
            "an expiry that may not be",
            |wire, client| {
                wire.leave(client, ReasonCode::SUCCESS, Some(5));
            },
            1,
        ),
        ("DISCONNECT 0x00", |wire, client| drop(wire.leave(client, ReasonCode::SUCCESS, None)), 0),
    ];
    for (what, end, expected) in ends {
        let (mut wire, watcher) = watched();
        let client = wire.connect(&ConnectOut { keep_alive: 10, ..mortal(true, 0, 0) });
        end(&mut wire, client);
        assert_eq!(wills(&mut wire, watcher), expected, "{what}");
        assert!(wire.is_closed(client), "{what}");
        wire.wait_s(100);
        assert_eq!(wills(&mut wire, watcher), 0, "{what}: once");
    }
}

#[test]
fn a_disconnect_of_mqtt_3_deletes_the_will() {
    for (version, bytes, expected) in [
        (Version::V311, &[0xe0, 0][..], 0),
        (Version::V31, &[0xe0, 0], 0),
        // Malformed, so it is none.
        (Version::V311, &[0xe0, 1, 0], 1),
    ] {
        let (mut wire, watcher) = watched();
        let connect = ConnectOut {
            version,
            client_id: "m",
            clean_start: true,
            will: will(0),
            ..Default::default()
        };
        let client = wire.connect(&connect);
        wire.send(client, bytes);
        assert_eq!(wills(&mut wire, watcher), expected);
    }
}

#[test]
fn a_delayed_will_waits_for_its_delay_or_the_end_of_the_session() {
    for (expiry_s, delay_s, due_s) in [(100, 10, 10), (5, 100, 5), (u32::MAX, 7, 7), (8, 8, 8)] {
        let (mut wire, watcher) = watched();
        let client = wire.connect(&mortal(true, expiry_s, delay_s));
        wire.cut(client);
        wire.wait_s(due_s - 1);
        assert_eq!(wills(&mut wire, watcher), 0, "{expiry_s} {delay_s}");
        wire.wait_s(2);
        assert_eq!(wills(&mut wire, watcher), 1, "{expiry_s} {delay_s}");
        wire.wait_s(200);
        assert_eq!(wills(&mut wire, watcher), 0);
    }
    // Without a session to wait in it is due at once.
    let (mut wire, watcher) = watched();
    let client = wire.connect(&mortal(true, 0, 100));
    wire.cut(client);
    assert_eq!(wills(&mut wire, watcher), 1);
}

#[test]
fn a_session_that_goes_on_cancels_its_delayed_will() {
    for by_take_over in [false, true] {
        let (mut wire, watcher) = watched();
        let client = wire.connect(&mortal(true, 100, 10));
        if !by_take_over {
            wire.cut(client);
            wire.wait_s(5);
        }
        let back = wire.connect(&v5("mortal", false, 100));
        wire.wait_s(50);
        assert_eq!(wills(&mut wire, watcher), 0, "[MQTT-3.1.3-9]");
        // The new connection has no will.
        wire.cut(back);
        wire.wait_s(50);
        assert_eq!(wills(&mut wire, watcher), 0);
    }
}

#[test]
fn a_take_over_publishes_a_will_without_delay_and_one_whose_session_ends() {
    // (clean start of the newcomer, delay, expected).
    for (clean_start, delay_s, expected) in
        [(false, 0, 1), (true, 0, 1), (true, 50, 1), (false, 50, 0)]
    {
        let (mut wire, watcher) = watched();
        let old = wire.connect(&mortal(true, 100, delay_s));
        wire.connect(&v5("mortal", clean_start, 100));
        assert_eq!(goodbye(&wire.take(old)), Some(ReasonCode::SESSION_TAKEN_OVER));
        assert_eq!(wills(&mut wire, watcher), expected, "{clean_start} {delay_s}");
    }
    // A session that was away and is begun anew.
    let (mut wire, watcher) = watched();
    let old = wire.connect(&mortal(true, 100, 50));
    wire.cut(old);
    assert_eq!(wills(&mut wire, watcher), 0);
    wire.connect(&v5("mortal", true, 100));
    assert_eq!(wills(&mut wire, watcher), 1);
}

#[test]
fn the_expiry_of_a_will_counts_from_its_publication_and_its_properties_come_along() {
    let (mut wire, watcher) = watched();
    let mut properties = PublishProperties::default();
    properties.message_expiry = Some(9);
    let will = will(20).map(|will| Will { properties, ..will });
    let client = wire.connect(&ConnectOut { will, ..v5("mortal", true, 100) });
    wire.cut(client);
    wire.wait_s(20);
    let got = wire.take(watcher);
    assert_eq!(publication(&got[0], Version::V5).properties.message_expiry, Some(9));
    // Content type, response topic, correlation data, two user properties.
    let forwarded =
        b"\x03\x00\x01c\x08\x00\x01r\x09\x00\x01d\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w";
    let mut body = b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01w".to_vec();
    body.push(forwarded.len() as u8);
    body.extend(forwarded);
    body.extend(b"\x00\x04will\x00\x04gone");
    let bytes = [&[0x10, body.len() as u8][..], &body].concat();
    let client = wire.open(Version::V5);
    wire.send(client, &bytes);
    wire.cut(client);
    let got = wire.take(watcher);
    let got = publication(&got[0], Version::V5).properties;
    assert_eq!(got.raw, forwarded, "unaltered and in order");
}

#[test]
fn session_expiry_can_be_changed_at_disconnect_but_not_out_of_nothing() {
    // (at CONNECT, at DISCONNECT, seconds it lives).
    for (asked, changed, lives_s) in
        [(100, Some(5), 5), (5, Some(50), 50), (50, None, 50), (50, Some(0), 0)]
    {
        let mut wire = Wire::new(|_| {});
        let client = wire.connect(&v5("c", true, asked));
        assert_eq!(wire.leave(client, ReasonCode::SUCCESS, changed), [] as [Vec<u8>; 0]);
        assert_eq!(wire.bench.shards[0].session_count(), usize::from(lives_s > 0));
        wire.wait_s(u64::max(lives_s, 2) - 2);
        assert_eq!(wire.bench.shards[0].session_count(), usize::from(lives_s > 0));
        wire.wait_s(4);
        assert_eq!(wire.bench.shards[0].session_count(), 0);
    }
    let mut wire = Wire::new(|_| {});
    let client = wire.connect(&v5("c", true, 0));
    let answers = wire.leave(client, ReasonCode::SUCCESS, Some(1));
    assert_eq!(goodbye(&answers), Some(ReasonCode::PROTOCOL_ERROR));
    let client = wire.connect(&v5("c", true, 0));
    assert_eq!(wire.leave(client, ReasonCode::SUCCESS, Some(0)), [] as [Vec<u8>; 0], "0 is fine");
    // The server's bound holds here too.
    let mut wire = Wire::new(|s| s.session.max_expiry_s = 10);
    let client = wire.connect(&v5("c", true, 5));
    wire.leave(client, ReasonCode::SUCCESS, Some(u32::MAX));
    wire.wait_s(12);
    assert_eq!(wire.bench.shards[0].session_count(), 0);
}
