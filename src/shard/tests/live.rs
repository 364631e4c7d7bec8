//! Settings that change while the shard runs.

use super::super::Live;
use super::wire::{Client, Wire, message, read, v5};
use crate::codec::{Packet, PublishOut, QoS, ReasonCode, Version};
use crate::config::{ListenerConfig, Overflow, parse};
use crate::shard::settings::{Doors, ListenerRules};

/// Gives the shard what `change` makes of its settings.
fn change(wire: &mut Wire, change: impl Fn(&mut Live)) {
    for shard in &mut wire.bench.shards {
        let mut live = shard.clients.settings.live();
        change(&mut live);
        shard.reconfigure(&live);
    }
}

fn publish(wire: &mut Wire, client: Client, out: &PublishOut<'_>) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    out.encode(client.version, &mut bytes);
    wire.send(client, &bytes)
}

/// Why the client was disconnected, if it was.
fn goodbye(answers: &[Vec<u8>]) -> Option<ReasonCode> {
    answers.iter().find_map(|bytes| match read(bytes, Version::V5) {
        Packet::Disconnect(packet) => Some(packet.reason),
        _ => None,
    })
}

#[test]
fn a_new_limit_holds_from_the_next_packet_on() {
    let mut wire = Wire::new(|_| {});
    let client = wire.five("c");
    let deep = message("a/b/c/d", QoS::AtMostOnce, 0, b"");
    assert_eq!(goodbye(&publish(&mut wire, client, &deep)), None);
    change(&mut wire, |live| live.limits.topic_levels = 3);
    let why = goodbye(&publish(&mut wire, client, &deep));
    assert_eq!(why, Some(ReasonCode::TOPIC_NAME_INVALID));
    change(&mut wire, |live| live.limits.topic_levels = 4);
    let client = wire.five("c");
    assert_eq!(goodbye(&publish(&mut wire, client, &deep)), None);
    // Of retained messages what is there stays, and no other comes.
    let keep = |topic| PublishOut { retain: true, ..message(topic, QoS::AtMostOnce, 0, b"x") };
    publish(&mut wire, client, &keep("one"));
    publish(&mut wire, client, &keep("two"));
    change(&mut wire, |live| live.limits.retained_messages = 1);
    publish(&mut wire, client, &keep("three"));
    assert_eq!(wire.bench.shards[0].retained_count(), 2);
    // What shapes the core stays as it was built.
    let built = wire.bench.shards[0].clients.settings.limits.clone();
    change(&mut wire, |live| {
        (live.limits.memory_bytes, live.limits.match_cache_bytes) = (1, 1);
    });
    assert_eq!(wire.bench.shards[0].clients.settings.limits, built);
}

#[test]
fn connections_keep_what_their_connack_told_them() {
    let mut wire = Wire::new(|s| s.session.receive_maximum = 3);
    let old = wire.five("old");
    change(&mut wire, |live| {
        live.session.receive_maximum = 1;
        live.limits.packet_bytes = 128;
        live.limits.topic_alias_maximum = 0;
    });
    let new = wire.five("new");
    let large = [0; 200];
    let hold = |number| message("t", QoS::ExactlyOnce, number, b"");
    let aliased = PublishOut { alias: Some(32), ..message("t", QoS::AtMostOnce, 0, b"") };
    assert_eq!(goodbye(&publish(&mut wire, old, &aliased)), None);
    assert_eq!(goodbye(&publish(&mut wire, old, &message("t", QoS::AtMostOnce, 0, &large))), None);
    for number in 1..=3 {
        assert_eq!(goodbye(&publish(&mut wire, old, &hold(number))), None, "message {number}");
    }
    let why = goodbye(&publish(&mut wire, old, &hold(4)));
    assert_eq!(why, Some(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED), "and no more than that");
    assert_eq!(goodbye(&publish(&mut wire, new, &hold(1))), None);
    let why = goodbye(&publish(&mut wire, new, &hold(2)));
    assert_eq!(why, Some(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED));
    let new = wire.five("new");
    let why = goodbye(&publish(&mut wire, new, &aliased));
    assert_eq!(why, Some(ReasonCode::TOPIC_ALIAS_INVALID));
    let new = wire.five("new");
    let why = goodbye(&publish(&mut wire, new, &message("t", QoS::AtMostOnce, 0, &large)));
    assert_eq!(why, Some(ReasonCode::PACKET_TOO_LARGE));
}

#[test]
fn publishers_are_refused_no_longer_when_outboxes_may_overflow() {
    let refusing = |s: &mut super::Settings| {
        s.session.overflow = Overflow::Refuse;
        s.session.outbox_messages = 4;
    };
    let mut wire = Wire::new(refusing);
    let away = wire.connect(&v5("away", true, 100));
    wire.bench.subscribe(away.at, &["t"]);
    wire.cut(away);
    let publisher = wire.five("p");
    let answer = |wire: &mut Wire, number| {
        let out = message("t", QoS::AtLeastOnce, number, b"");
        wire.bench.publish(publisher.at, Version::V5, &out)
    };
    let refused = Some(ReasonCode::QUOTA_EXCEEDED.0);
    let taken = Some(ReasonCode::SUCCESS.0);
    let answers: Vec<_> = (1..=6).map(|number| answer(&mut wire, number)).collect();
    assert_eq!((answers[0], answers[5]), (taken, refused));
    change(&mut wire, |live| live.session.overflow = Overflow::DropOldest);
    assert_eq!(answer(&mut wire, 7), taken);
    change(&mut wire, |live| live.session.overflow = Overflow::Refuse);
    assert_eq!(answer(&mut wire, 8), refused, "the outbox was full before");
    change(&mut wire, |live| live.session.outbox_messages = 40);
    assert_eq!(answer(&mut wire, 9), taken);
}

#[test]
fn doors_open_close_and_slow_down_while_the_shard_runs() {
    let mut wire = Wire::new(|s| s.doors.rules = vec![ListenerRules::default()]);
    let early = wire.five("early");
    let peer = Some("192.0.2.1:5000".parse().expect("an address"));
    let open = |wire: &mut Wire| wire.bench.shards[0].open(0, peer).is_some();
    assert!(open(&mut wire));
    let text = "[[listener]]\ndeny_networks = [\"192.0.2.0/24\"]\nmessages_per_s = 1\n\
                allow_anonymous = false\n";
    let config = parse(text).expect("valid");
    change(&mut wire, |live| live.doors = Doors::from(&config.listeners[..]));
    assert!(!open(&mut wire), "the address is kept out");
    assert_eq!(wire.refused(&v5("late", true, 0)), ReasonCode::NOT_AUTHORIZED, "anonymous");
    // Who is there stays, and is held to the new rate.
    for _ in 0..3 {
        publish(&mut wire, early, &message("a", QoS::AtMostOnce, 0, b"x"));
    }
    assert_eq!(wire.counters().throttled, 1);
    change(&mut wire, |live| live.doors = Doors::from(&[ListenerConfig::default()][..]));
    wire.wait_s(2);
    assert!(open(&mut wire));
    wire.five("late");
}
