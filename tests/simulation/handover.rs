//! A connection is handed to its home shard wherever its first bytes happen to be split: what its
//! client gets must not depend on it.

use crate::rig::{LineId, Rig};
use corelane::base::{PacketId, ShardId};
use corelane::codec::{
    self, Ack, ConnectOut, Disconnect, Packet, PacketType, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, UnsubscribeOut, Version,
};
use corelane::mesh::MeshSettings;
use corelane::shard::Settings;
use corelane::shard::placement::{Placement, Rule};

/// The shard of the client's session, and one that owns topics elsewhere.
const HOME: usize = 1;
const ELSEWHERE: u8 = 2;

/// How segments follow each other.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Pace {
    /// The next one is there before the broker has done anything about the last one.
    AtOnce,
    /// Everything comes to rest in between.
    Leisurely,
}

fn settings() -> Settings {
    let pins = vec![
        Rule::new("here", ShardId(HOME as u8)),
        Rule::new("there", ShardId(ELSEWHERE)),
        Rule::new("arrival", ShardId(0)),
    ];
    Settings::new(Placement::new(3, [7, 8], 1).with_rules(vec![], pins, vec![]))
}

fn client_id() -> String {
    let placement = settings().placement;
    let mut names = (0..).map(|n| format!("client-{n}"));
    names.find(|name| placement.home(name).index() == HOME).expect("some name has this home")
}

/// All that a client says first, about topics below `root`.
fn first_words(version: Version, root: &str) -> Vec<u8> {
    let client_id = client_id();
    let mut bytes = Vec::new();
    let topic = format!("{root}/x");
    ConnectOut { version, client_id: &client_id, clean_start: true, ..ConnectOut::default() }
        .encode(&mut bytes);
    let id = |n| PacketId::new(n).expect("not zero");
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
    let filters: &[(&str, SubscribeOptions)] = &[(&format!("{root}/#"), options)];
    SubscribeOut { packet_id: id(1), subscription_id: None, filters }.encode(version, &mut bytes);
    let mut publish = |qos, n: u16, payload: &[u8]| {
        let packet_id = PacketId::new(n);
        let out = PublishOut { qos, topic: &topic, packet_id, payload, ..PublishOut::default() };
        out.encode(version, &mut bytes);
    };
    publish(QoS::AtLeastOnce, 2, b"first");
    publish(QoS::AtMostOnce, 0, b"second");
    // Its length takes two bytes.
    publish(QoS::ExactlyOnce, 3, &[b'3'; 150]);
    codec::encode_pingreq(&mut bytes);
    let success = ReasonCode::SUCCESS;
    codec::encode_ack(PacketType::Pubrel, version, id(3), success, None, &mut bytes);
    codec::encode_ack(PacketType::Puback, version, id(1), success, None, &mut bytes);
    codec::encode_ack(PacketType::Pubrec, version, id(2), success, None, &mut bytes);
    UnsubscribeOut { packet_id: id(4), filters: &[&format!("{root}/#")] }
        .encode(version, &mut bytes);
    bytes
}

/// What a client gets that sends `segments` to a shard that is not its home.
fn answer(segments: &[&[u8]], mesh: MeshSettings, pace: Pace) -> Vec<u8> {
    let mut rig = Rig::new(&settings(), mesh);
    let mut line: Option<LineId> = None;
    for segment in segments {
        match line {
            None => line = Some(rig.open(0, segment)),
            Some(line) => rig.send(line, segment),
        }
        if pace == Pace::Leisurely {
            rig.settle();
        }
    }
    rig.settle();
    let line = line.expect("there is a segment");
    assert!(!rig.lines[line].closed, "the connection stays");
    let handed: u64 = rig.shards.iter().map(|shard| shard.counters().handed_over).sum();
    assert_eq!(handed, 1, "the connection was handed over");
    let answer = rig.got(line);
    assert_eq!(rig.shards[HOME].session_count(), 1);
    let opened: usize = rig.shards.iter().map(|shard| shard.connection_count()).sum();
    assert_eq!(opened, 1, "no slot is left behind");
    let unfinished: usize = rig.shards.iter().map(|s| s.inventory().unfinished_bytes).sum();
    assert_eq!(unfinished, 0, "no byte is left behind");
    answer
}

fn kinds(bytes: &[u8], version: Version) -> Vec<PacketType> {
    let (mut rest, mut kinds) = (bytes, Vec::new());
    while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
        let packet = codec::decode(&frame, version).expect("a valid packet");
        if let Packet::Pubcomp(Ack { reason, .. }) = &packet {
            assert_eq!(*reason, ReasonCode::SUCCESS);
        }
        assert!(!matches!(packet, Packet::Disconnect(Disconnect { .. })), "{packet:?}");
        kinds.push(frame.packet_type());
        rest = &rest[frame.len..];
    }
    assert!(rest.is_empty(), "whole packets");
    kinds
}

/// Packets without regard to their order: with owners elsewhere that depends on when they answer.
fn sorted(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut packets) = (bytes, Vec::new());
    while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
        packets.push(rest[..frame.len].to_vec());
        rest = &rest[frame.len..];
    }
    packets.sort_unstable();
    packets
}

/// Lanes that hold little, so that entries are larger than blocks.
fn narrow() -> MeshSettings {
    MeshSettings {
        block_bytes: 64,
        ring_blocks: 4,
        pool_bytes: 64 * 8,
        reply_slots: 64,
        ..MeshSettings::default()
    }
}

/// Splits at each byte, once between two segments and once with every byte on its own.
fn splits(bytes: &[u8], mut each: impl FnMut(&[&[u8]], &str)) {
    for at in 1..bytes.len() {
        each(&[&bytes[..at], &bytes[at..]], &format!("split at {at}"));
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    each(&single, "byte by byte");
}

#[test]
fn a_split_anywhere_changes_no_byte_of_the_answer() {
    for version in [Version::V311, Version::V5] {
        let bytes = first_words(version, "here");
        let whole = answer(&[&bytes], MeshSettings::default(), Pace::Leisurely);
        assert_eq!(
            kinds(&whole, version),
            [
                PacketType::Connack,
                PacketType::Suback,
                PacketType::Publish,
                PacketType::Puback,
                PacketType::Publish,
                PacketType::Publish,
                PacketType::Pubrec,
                PacketType::Pingresp,
                PacketType::Pubcomp,
                PacketType::Pubrel,
                PacketType::Unsuback,
            ]
        );
        for mesh in [MeshSettings::default(), narrow()] {
            for pace in [Pace::AtOnce, Pace::Leisurely] {
                splits(&bytes, |segments, how| {
                    let got = answer(segments, mesh, pace);
                    assert_eq!(got, whole, "{version:?} {pace:?} {how}");
                });
            }
        }
    }
}

/// As before, with topics whose owner is neither the shard of arrival nor the home, or is the
/// former: the same packets, in an order that depends on the owner's answers.
#[test]
fn a_split_anywhere_loses_no_packet_between_three_shards() {
    for (version, root) in [
        (Version::V311, "there"),
        (Version::V5, "there"),
        (Version::V311, "arrival"),
        (Version::V5, "arrival"),
    ] {
        // The acknowledgements at the end would come before what they acknowledge.
        let all = first_words(version, root);
        let mut at = 0;
        let ends: Vec<usize> = std::iter::from_fn(|| {
            at += codec::frame(&all[at..], usize::MAX).expect("whole packets")?.len;
            Some(at)
        })
        .collect();
        let bytes = &all[..ends[6]];
        let whole = answer(&[bytes], MeshSettings::default(), Pace::Leisurely);
        assert_eq!(sorted(&whole).len(), 9, "{:?}", kinds(&whole, version));
        for mesh in [MeshSettings::default(), narrow()] {
            for pace in [Pace::AtOnce, Pace::Leisurely] {
                splits(bytes, |segments, how| {
                    let got = answer(segments, mesh, pace);
                    assert_eq!(sorted(&got), sorted(&whole), "{version:?} {pace:?} {how}");
                });
            }
        }
    }
}
