//! What has an exact time, size or number, under virtual time: one case after the other, at its
//! border.

use crate::rig::{LineId, Rig, packets};
use corelane::base::{PacketId, Time};
use corelane::codec::{
    self, ConnectOut, ConnectProperties, Disconnect, Packet, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, Version, Will,
};
use corelane::mesh::MeshSettings;
use corelane::shard::placement::Placement;
use corelane::shard::{DropCause, Settings};
use std::num::NonZeroU32;

const SECOND: u64 = 1_000_000;

/// Timers come late by this much at most.
const LATE: u64 = 20_000;

fn defaults(shards: usize) -> Settings {
    Settings::new(Placement::new(shards, [4, 2], 2))
}

fn rig(settings: &Settings) -> Rig {
    Rig::new(settings, MeshSettings::default())
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("identifiers are not zero")
}

/// A CONNECT of MQTT 5.
#[derive(Clone, Copy, Default)]
struct Coming<'a> {
    name: &'a str,
    clean: bool,
    expiry_s: u32,
    keep_alive: u16,
    will_delay_s: Option<u32>,
    maximum_packet: Option<u32>,
}

impl Coming<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let will = self.will_delay_s.map(|delay_s| Will {
            topic: "will",
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            delay_s,
            ..Will::default()
        });
        let properties = ConnectProperties {
            session_expiry: Some(self.expiry_s),
            maximum_packet_size: self.maximum_packet.and_then(NonZeroU32::new),
            ..ConnectProperties::default()
        };
        let (client_id, keep_alive) = (self.name, self.keep_alive);
        let (version, clean_start) = (Version::V5, self.clean);
        ConnectOut {
            version,
            client_id,
            clean_start,
            keep_alive,
            will,
            properties,
            ..Default::default()
        }
        .encode(&mut bytes);
        bytes
    }

    /// Connects at shard `at`; whether the session was there, and the name that was assigned.
    fn join(&self, rig: &mut Rig, at: usize) -> (LineId, bool, String) {
        let line = rig.open(at, &self.bytes());
        rig.settle();
        let mut told = None;
        packets(&rig.got(line), Version::V5, |packet, _| {
            if let Packet::Connack(connack) = packet {
                assert_eq!(connack.reason, ReasonCode::SUCCESS);
                let assigned = connack.assigned_client_id.unwrap_or_default().to_owned();
                told = Some((connack.session_present, assigned));
            }
        });
        let (present, assigned) = told.expect("there is a CONNACK");
        (line, present, assigned)
    }
}

fn subscribe(rig: &mut Rig, line: LineId, filter: &str, qos: QoS) {
    let filters = &[(filter, SubscribeOptions { qos, ..SubscribeOptions::default() })];
    let mut bytes = Vec::new();
    SubscribeOut { packet_id: id(1), subscription_id: None, filters }
        .encode(Version::V5, &mut bytes);
    rig.send(line, &bytes);
    rig.settle();
    rig.got(line);
}

fn publish(rig: &mut Rig, line: LineId, out: PublishOut<'_>) {
    let mut bytes = Vec::new();
    let packet_id = (out.qos > QoS::AtMostOnce).then(|| id(9));
    PublishOut { packet_id, ..out }.encode(Version::V5, &mut bytes);
    rig.send(line, &bytes);
    rig.settle();
}

fn disconnect(rig: &mut Rig, line: LineId, reason: ReasonCode, session_expiry: Option<u32>) {
    let mut bytes = Vec::new();
    Disconnect { reason, session_expiry, ..Disconnect::default() }.encode(Version::V5, &mut bytes);
    rig.send(line, &bytes);
    rig.settle();
}

/// Payloads and message expiries of what a client of MQTT 5 got.
fn messages(rig: &mut Rig, line: LineId) -> Vec<(Vec<u8>, Option<u32>)> {
    let mut found = Vec::new();
    packets(&rig.got(line), Version::V5, |packet, _| {
        if let Packet::Publish(publish) = packet {
            found.push((publish.payload.to_vec(), publish.properties.message_expiry));
        }
    });
    found
}

fn farewell(rig: &mut Rig, line: LineId) -> Option<ReasonCode> {
    let mut found = None;
    packets(&rig.got(line), Version::V5, |packet, _| {
        if let Packet::Disconnect(disconnect) = packet {
            found = Some(disconnect.reason);
        }
    });
    found
}

fn dropped(rig: &Rig, cause: DropCause) -> u64 {
    rig.shards.iter().map(|shard| shard.counters().drops[cause as usize]).sum()
}

/// The expiry of CONNECT, or the one that DISCONNECT puts in its place, to the second.
#[test]
fn a_session_lives_as_long_as_was_asked_for_last() {
    let cases = [(5, None, 5), (5, Some(60), 60), (60, Some(5), 5), (60, Some(0), 0), (0, None, 0)];
    for (asked, changed, lives) in cases {
        for early in [true, false] {
            let mut rig = rig(&defaults(2));
            let coming = Coming { name: "c", expiry_s: asked, ..Coming::default() };
            let (line, present, _) = coming.join(&mut rig, 0);
            assert!(!present);
            disconnect(&mut rig, line, ReasonCode::SUCCESS, changed);
            if early && lives == 0 {
                continue;
            }
            let wait = lives * SECOND;
            rig.wait_us(if early { wait - 1000 } else { wait + LATE });
            let (_, present, _) = coming.join(&mut rig, 1);
            assert_eq!(present, early, "asked {asked}, changed {changed:?}");
        }
    }
}

#[test]
fn an_expiry_where_connect_had_none_is_a_protocol_error() {
    let mut rig = rig(&defaults(1));
    let (line, ..) = Coming { name: "c", ..Coming::default() }.join(&mut rig, 0);
    disconnect(&mut rig, line, ReasonCode::SUCCESS, Some(10));
    assert_eq!(farewell(&mut rig, line), Some(ReasonCode::PROTOCOL_ERROR));
    assert_eq!(rig.shards[0].session_count(), 0);
}

/// A message of ten seconds, read after so many microseconds by a client that was away, by one
/// whose window was full, and from the retained store.
#[test]
fn a_message_tells_what_is_left_of_its_time_and_is_gone_after_it() {
    let cases =
        [(0, Some(10)), (1, Some(10)), (3 * SECOND + SECOND / 2, Some(7)), (9 * SECOND, Some(1))];
    let cases = cases.into_iter().chain([(10 * SECOND - 1, Some(1)), (10 * SECOND, None)]);
    for (wait, left) in cases {
        for retained in [false, true] {
            let mut rig = rig(&defaults(3));
            let away = Coming { name: "away", expiry_s: 100, ..Coming::default() };
            let (line, ..) = away.join(&mut rig, 0);
            if !retained {
                subscribe(&mut rig, line, "t/x", QoS::AtLeastOnce);
            }
            disconnect(&mut rig, line, ReasonCode::SUCCESS, None);
            let (source, ..) = Coming { name: "source", ..Coming::default() }.join(&mut rig, 1);
            publish(
                &mut rig,
                source,
                PublishOut {
                    qos: QoS::AtLeastOnce,
                    topic: "t/x",
                    payload: b"m",
                    retain: retained,
                    expiry_s: Some(10),
                    ..PublishOut::default()
                },
            );
            // Without turns in between: nothing has removed it before it is asked for.
            rig.now = Time(rig.now.0 + wait);
            let line = rig.open(2, &away.bytes());
            rig.settle();
            if retained {
                let filters = &[("t/+", SubscribeOptions::default())];
                let mut bytes = Vec::new();
                SubscribeOut { packet_id: id(1), subscription_id: None, filters }
                    .encode(Version::V5, &mut bytes);
                rig.send(line, &bytes);
                rig.settle();
            }
            let expected: Vec<_> = left.iter().map(|left| (b"m".to_vec(), Some(*left))).collect();
            assert_eq!(messages(&mut rig, line), expected, "after {wait} us, retained {retained}");
            let expired = u64::from(left.is_none() && !retained);
            assert_eq!(dropped(&rig, DropCause::Expired), expired, "after {wait} us");
        }
    }
}

/// What ends a connection, and what comes then.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Trigger {
    Breaks,
    LeavesWithWill,
    Leaves,
    FallsSilent,
    TakenOver,
    TakenOverClean,
    BreaksTheProtocol,
    Stops,
    BreaksAndResumes,
    BreaksAndStartsClean,
}

/// Runs one trigger; when the will came, in microseconds after the connection's end.
fn will_after(trigger: Trigger, delay_s: u32, expiry_s: u32) -> Option<u64> {
    let mut rig = rig(&defaults(2));
    let watcher = Coming { name: "watcher", ..Coming::default() };
    let (watcher, ..) = watcher.join(&mut rig, 0);
    subscribe(&mut rig, watcher, "will", QoS::AtMostOnce);
    let keep_alive = if trigger == Trigger::FallsSilent { 10 } else { 0 };
    let will_delay_s = Some(delay_s);
    let own = Coming { name: "c", expiry_s, keep_alive, will_delay_s, ..Coming::default() };
    let (line, ..) = own.join(&mut rig, 1);
    let again = Coming { will_delay_s: None, ..own };
    let clean = Coming { clean: true, ..again };
    match trigger {
        Trigger::Breaks | Trigger::BreaksAndResumes | Trigger::BreaksAndStartsClean => {
            rig.hang_up(line);
        }
        Trigger::LeavesWithWill => {
            disconnect(&mut rig, line, ReasonCode::DISCONNECT_WITH_WILL, None);
        }
        Trigger::Leaves => disconnect(&mut rig, line, ReasonCode::SUCCESS, None),
        Trigger::FallsSilent => rig.now = Time(rig.now.0 + 15 * SECOND),
        Trigger::TakenOver => drop(again.join(&mut rig, 0)),
        Trigger::TakenOverClean => drop(clean.join(&mut rig, 0)),
        Trigger::BreaksTheProtocol => rig.send(line, &[0xf0, 0x01, 0x19]),
        Trigger::Stops => {
            // The watcher hears what comes before its own end only.
            rig.shards.iter_mut().for_each(corelane::shard::Shard::drain);
        }
    }
    rig.settle();
    assert!(rig.lines[line].closed);
    let start = rig.now.0;
    let mut waited = 0;
    loop {
        if !messages(&mut rig, watcher).is_empty() {
            return Some(waited);
        }
        if waited == SECOND {
            match trigger {
                Trigger::BreaksAndResumes => drop(again.join(&mut rig, 0)),
                Trigger::BreaksAndStartsClean => drop(clean.join(&mut rig, 0)),
                _ => {}
            }
            if !messages(&mut rig, watcher).is_empty() {
                return Some(waited);
            }
        }
        if waited > 100 * SECOND {
            return None;
        }
        // To the millisecond around whole seconds, else in seconds.
        rig.wait_us(if waited % SECOND == 0 { SECOND - 1000 } else { 1000 });
        waited = rig.now.0 - start;
    }
}

#[test]
fn a_will_comes_when_its_delay_or_its_session_ends() {
    use Trigger::{
        Breaks, BreaksAndResumes, BreaksAndStartsClean, BreaksTheProtocol, FallsSilent, Leaves,
        LeavesWithWill, Stops, TakenOver, TakenOverClean,
    };
    // Trigger, will delay, session expiry, seconds until the will comes.
    let cases = [
        (Breaks, 0, 50, Some(0)),
        (Breaks, 5, 50, Some(5)),
        (Breaks, 50, 5, Some(5)),
        (Breaks, 5, 0, Some(0)),
        (LeavesWithWill, 0, 50, Some(0)),
        (LeavesWithWill, 5, 50, Some(5)),
        (LeavesWithWill, 50, 5, Some(5)),
        (Leaves, 0, 50, None),
        (Leaves, 5, 50, None),
        (Leaves, 5, 0, None),
        (FallsSilent, 0, 50, Some(0)),
        (FallsSilent, 5, 50, Some(5)),
        (TakenOver, 0, 50, Some(0)),
        (TakenOver, 5, 50, None),
        (TakenOver, 5, 0, Some(0)),
        (TakenOverClean, 5, 50, Some(0)),
        (BreaksTheProtocol, 0, 50, Some(0)),
        (BreaksTheProtocol, 5, 50, Some(5)),
        (BreaksAndResumes, 5, 50, None),
        (BreaksAndResumes, 0, 50, Some(0)),
        (BreaksAndStartsClean, 5, 50, Some(1)),
        (BreaksAndStartsClean, 5, 0, Some(0)),
        (Stops, 5, 50, None),
    ];
    for (trigger, delay_s, expiry_s, due_s) in cases {
        let came = will_after(trigger, delay_s, expiry_s);
        let what = format!("{trigger:?}, delay {delay_s}, expiry {expiry_s}: {came:?} us");
        match (came, due_s) {
            (Some(came), Some(due)) => {
                assert!((due * SECOND..=due * SECOND + LATE).contains(&came), "{what}");
            }
            (came, due) => assert_eq!(came, due, "{what}"),
        }
    }
}

/// Closed after one and a half keep-alives, at most a second late, never early; anything the
/// client sends counts, zero means never.
#[test]
fn silence_is_borne_for_one_and_a_half_keep_alives() {
    for keep_alive in [1u16, 2, 7, 60, 600] {
        let mut rig = rig(&defaults(1));
        let (line, ..) = Coming { name: "c", keep_alive, ..Coming::default() }.join(&mut rig, 0);
        let (other, ..) = Coming { name: "other", ..Coming::default() }.join(&mut rig, 0);
        let allowed = u64::from(keep_alive) * 3 * SECOND / 2;
        // Twice almost too late, each time at another part of a second.
        for (at, spare) in [1000, 300_000].into_iter().enumerate() {
            rig.wait_us(allowed - spare);
            assert!(!rig.lines[line].closed, "keep-alive {keep_alive}, silence {at}");
            let mut bytes = Vec::new();
            codec::encode_pingreq(&mut bytes);
            rig.send(line, &bytes);
            rig.settle();
            assert_eq!(rig.got(line), [0xd0, 0], "PINGRESP");
        }
        rig.wait_us(allowed - 1000);
        assert!(!rig.lines[line].closed, "keep-alive {keep_alive}: too early");
        rig.wait_us(SECOND + LATE);
        assert!(rig.lines[line].closed, "keep-alive {keep_alive}: too late");
        assert_eq!(farewell(&mut rig, line), Some(ReasonCode::KEEP_ALIVE_TIMEOUT));
        assert_eq!(rig.shards[0].counters().keep_alive_timeouts, 1);
        rig.wait_us(1_000_000 * SECOND);
        assert!(!rig.lines[other].closed, "no keep-alive, no end");
    }
}

#[test]
fn a_stop_tells_everybody_and_takes_nobody_in() {
    let mut rig = rig(&defaults(3));
    let names: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
    let mut lines = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let coming = Coming { name, expiry_s: 50, ..Coming::default() };
        lines.push(coming.join(&mut rig, n % 3).0);
    }
    // Some are on their way between two shards.
    let late: Vec<LineId> = (0..6)
        .map(|n| rig.open(n % 3, &Coming { name: "late", ..Coming::default() }.bytes()))
        .collect();
    rig.shards.iter_mut().for_each(corelane::shard::Shard::drain);
    assert!((0..3).all(|at| rig.shards[at].open(0, None).is_none()));
    rig.settle();
    for line in &lines {
        assert_eq!(farewell(&mut rig, *line), Some(ReasonCode::SERVER_SHUTTING_DOWN));
    }
    for line in lines.iter().chain(&late) {
        assert!(rig.lines[*line].closed, "line {line}");
    }
    let connections: usize = rig.shards.iter().map(|shard| shard.connection_count()).sum();
    let sessions: usize = rig.shards.iter().map(|shard| shard.session_count()).sum();
    assert_eq!((connections, sessions), (0, 30), "sessions outlive the stop");
}

#[test]
fn a_client_without_a_name_is_given_one_that_lasts() {
    let mut rig = rig(&defaults(3));
    let mut names = Vec::new();
    for n in 0..30 {
        let nameless = Coming { name: "", expiry_s: 50, ..Coming::default() };
        let (line, present, assigned) = nameless.join(&mut rig, n % 3);
        assert!(!present && !assigned.is_empty() && !names.contains(&assigned), "{assigned:?}");
        disconnect(&mut rig, line, ReasonCode::SUCCESS, None);
        let named = Coming { name: &assigned, ..nameless };
        let (_, present, again) = named.join(&mut rig, (n + 1) % 3);
        assert!(present && again.is_empty());
        names.push(assigned);
    }
    // MQTT 3.1.1: nobody could tell the client its name [MQTT-3.1.3-8].
    for (clean_start, answer) in [(true, [0x20, 2, 0, 0]), (false, [0x20, 2, 0, 2])] {
        let mut bytes = Vec::new();
        ConnectOut { version: Version::V311, clean_start, ..ConnectOut::default() }
            .encode(&mut bytes);
        let line = rig.open(1, &bytes);
        rig.settle();
        assert_eq!(rig.got(line), answer);
        assert_eq!(rig.lines[line].closed, !clean_start);
    }
}

#[test]
fn a_full_store_keeps_what_it_has() {
    for by_count in [true, false] {
        let mut settings = defaults(1);
        if by_count {
            settings.limits.retained_messages = 3;
        } else {
            settings.limits.retained_bytes = 3000;
        }
        let mut rig = rig(&settings);
        let (line, ..) = Coming { name: "c", ..Coming::default() }.join(&mut rig, 0);
        let put = |rig: &mut Rig, topic: &str, len: usize| {
            let payload = &vec![b'x'; len];
            let (qos, retain) = (QoS::AtLeastOnce, true);
            publish(rig, line, PublishOut { qos, retain, topic, payload, ..PublishOut::default() });
            (rig.shards[0].retained_count(), dropped(rig, DropCause::RetainedLimit))
        };
        for (topic, stored) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_eq!(put(&mut rig, topic, 800), (stored, 0));
        }
        assert_eq!(put(&mut rig, "d", 800), (3, 1), "no room");
        assert_eq!(put(&mut rig, "b", 800), (3, 1), "one in the place of another");
        assert_eq!(put(&mut rig, "a", 0), (2, 1), "one goes");
        assert_eq!(put(&mut rig, "d", 800), (3, 1), "and leaves room");
    }
}

/// Neither side gets a larger packet than it takes [MQTT-3.1.2-24].
#[test]
fn a_packet_at_the_limit_passes_and_one_byte_more_does_not() {
    let mut settings = defaults(2);
    settings.limits.packet_bytes = 200;
    let mut rig = rig(&settings);
    // First byte, length, topic with its length, packet identifier, no properties.
    let overhead = 1 + 1 + 3 + 2 + 1;
    let small =
        Coming { name: "small", expiry_s: 9, maximum_packet: Some(100), ..Coming::default() };
    let (small, ..) = small.join(&mut rig, 0);
    subscribe(&mut rig, small, "t", QoS::AtLeastOnce);
    let (source, ..) = Coming { name: "source", ..Coming::default() }.join(&mut rig, 1);
    for (len, fits) in [(100, true), (101, false)] {
        let payload = &vec![b'x'; len - overhead];
        let (qos, topic) = (QoS::AtLeastOnce, "t");
        publish(&mut rig, source, PublishOut { qos, topic, payload, ..PublishOut::default() });
        let got: Vec<usize> = messages(&mut rig, small).iter().map(|m| m.0.len()).collect();
        assert_eq!(got, if fits { vec![len - overhead] } else { vec![] }, "{len} bytes");
        assert_eq!(dropped(&rig, DropCause::TooLarge), u64::from(!fits));
    }
    // The length of what the broker takes needs two bytes.
    for (len, fits) in [(200, true), (201, false)] {
        rig.got(source);
        let payload = &vec![b'x'; len - overhead - 1];
        let (qos, topic) = (QoS::AtLeastOnce, "u");
        publish(&mut rig, source, PublishOut { qos, topic, payload, ..PublishOut::default() });
        let reason = farewell(&mut rig, source);
        assert_eq!(reason, (!fits).then_some(ReasonCode::PACKET_TOO_LARGE), "{len} bytes");
        assert_eq!(rig.lines[source].closed, !fits);
    }
}
