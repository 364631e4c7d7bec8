//! Limits of filters, and how fast a connection may send.

use super::super::Command;
use super::wire::{Client, Wire, message};
use crate::base::Rate;
use crate::codec::{QoS, ReasonCode, Version};

#[test]
fn wildcards_may_be_kept_from_the_first_levels() {
    let refused = ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED;
    for (least, filter, fine) in [
        (1, "#", true),
        (1, "+/+", true),
        (2, "#", false),
        (2, "+/a", false),
        (2, "a/#", true),
        (2, "/+", true),
        (3, "a/#", false),
        (3, "a/+/b", false),
        (3, "a/b/+", true),
        (3, "a", true),
        (3, "$share/g/a/#", false),
        (3, "$share/g/a/b/#", true),
    ] {
        let mut wire = Wire::new(move |s| s.limits.wildcard_min_level = least);
        let client = wire.five("c");
        let answer = wire.subscribe(client, filter, QoS::AtMostOnce);
        let expected = if fine { ReasonCode::SUCCESS } else { refused };
        assert_eq!(answer, expected, "{least} {filter}");
        assert!(!wire.is_closed(client), "a filter is refused, not the client");
    }
}

#[test]
fn filters_of_nothing_but_wildcards_may_be_refused() {
    for (filter, broad) in [
        ("#", true),
        ("+/#", true),
        ("+/+/#", true),
        ("$share/g/#", true),
        ("+", false),
        ("+/+", false),
        ("a/#", false),
        ("/#", false),
        ("+/a/#", false),
        ("$SYS/#", false),
    ] {
        for deny in [true, false] {
            let mut wire = Wire::new(move |s| s.limits.deny_broad_wildcards = deny);
            let (five, three) = (wire.five("five"), wire.three("three"));
            let refused = deny && broad;
            let expected = if refused { ReasonCode::NOT_AUTHORIZED } else { ReasonCode::SUCCESS };
            assert_eq!(wire.subscribe(five, filter, QoS::AtMostOnce), expected, "{filter}");
            let expected = if refused { 0x80 } else { 0 };
            assert_eq!(wire.subscribe(three, filter, QoS::AtMostOnce).0, expected, "{filter}");
        }
    }
}

#[test]
fn filters_may_have_so_many_levels_and_no_more() {
    let mut wire = Wire::new(|s| s.limits.filter_levels = 3);
    let client = wire.five("c");
    let invalid = ReasonCode::TOPIC_FILTER_INVALID;
    for (filter, expected) in [
        ("a/b/c", ReasonCode::SUCCESS),
        ("a/b/#", ReasonCode::SUCCESS),
        ("a/b/c/d", invalid),
        ("a/b/c/#", invalid),
        ("$share/g/a/b/c", ReasonCode::SUCCESS),
        ("$share/g/a/b/c/d", invalid),
    ] {
        assert_eq!(wire.subscribe(client, filter, QoS::AtMostOnce), expected, "{filter}");
    }
}

/// A broker with these rates, a reader of `t` and a writer.
fn metered(messages: Option<Rate>, bytes: Option<Rate>) -> (Wire, Client, Client) {
    let mut wire = Wire::new(move |s| {
        s.doors.rules[0].messages = messages;
        s.doors.rules[0].bytes = bytes;
    });
    let reader = wire.five("reader");
    wire.subscribe(reader, "t", QoS::AtMostOnce);
    let writer = wire.three("writer");
    (wire, reader, writer)
}

fn burst(count: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        message("t", QoS::AtMostOnce, 1, payload).encode(Version::V311, &mut bytes);
    }
    bytes
}

#[test]
fn a_client_over_its_message_rate_is_read_more_slowly() {
    let (mut wire, reader, writer) = metered(Rate::new(1, 5), None);
    let mut bytes = burst(12, b"x");
    bytes.extend([0xc0, 0]);
    assert!(wire.send(writer, &bytes).is_empty(), "PINGREQ waits behind the messages");
    assert_eq!(wire.take(reader).len(), 5, "the burst");
    assert!(wire.counters().throttled > 0);
    wire.wait_s(2);
    let got = wire.take(reader).len();
    assert!((2..=3).contains(&got), "one a second: {got}");
    wire.wait_s(10);
    assert_eq!(wire.take(reader).len(), 7 - got, "none is lost");
    assert_eq!(wire.take(writer), [[0xd0, 0].to_vec()]);
    assert!(!wire.is_closed(writer));
    // Who sends no messages is not held up by a rate of messages.
    assert_eq!(wire.send(reader, &[0xc0, 0].repeat(50)).len(), 50);
}

#[test]
fn a_client_over_its_byte_rate_is_read_more_slowly() {
    let len = burst(1, &[0; 93]).len();
    assert_eq!(len, 98);
    let (mut wire, reader, writer) = metered(None, Rate::new(98, 3 * 98));
    wire.send(writer, &burst(10, &[0; 93]));
    assert_eq!(wire.take(reader).len(), 3, "the burst");
    wire.wait_s(20);
    assert_eq!(wire.take(reader).len(), 7);
    // A packet larger than the burst passes, and is paid for afterwards.
    wire.wait_s(10);
    wire.send(writer, &burst(1, &[0; 1000]));
    assert_eq!(wire.take(reader).len(), 1);
    wire.send(writer, &burst(1, b"x"));
    assert!(wire.take(reader).is_empty());
    wire.wait_s(8);
    assert_eq!(wire.take(reader).len(), 1);
}

#[test]
fn waiting_for_a_quota_stops_the_reading_and_not_the_keep_alive() {
    let (mut wire, reader, _) = metered(Rate::new(1, 1), None);
    let connect = crate::codec::ConnectOut {
        client_id: "w",
        clean_start: true,
        keep_alive: 2,
        ..Default::default()
    };
    let writer = wire.connect(&connect);
    let shard = &mut wire.bench.shards[0];
    let key = writer.at.1;
    for _ in 0..30 {
        shard.receive(key, &burst(1, &[0; 8000]));
    }
    let pauses = |shard: &mut crate::shard::Shard| {
        std::iter::from_fn(|| shard.next_command())
            .filter(|command| matches!(command, Command::Pause(paused) if *paused == key))
            .count()
    };
    assert_eq!(pauses(shard), 1, "its reading stops");
    wire.wait_s(15);
    assert!(!wire.is_closed(writer), "its silence is the broker's doing");
    assert!(wire.counters().keep_alive_timeouts == 0);
    wire.wait_s(16);
    assert_eq!(wire.take(reader).len(), 30);
    wire.wait_s(10);
    assert!(wire.is_closed(writer), "and then it has to speak again");
}

#[test]
fn what_waits_for_a_quota_outlives_its_connection() {
    let (mut wire, reader, writer) = metered(Rate::new(1, 1), None);
    wire.send(writer, &burst(4, b"x"));
    wire.bench.shards[0].end_of_input(writer.at.1);
    wire.wait_s(1);
    assert!(!wire.is_closed(writer));
    wire.wait_s(5);
    assert_eq!(wire.take(reader).len(), 4);
    assert!(wire.is_closed(writer));
}
