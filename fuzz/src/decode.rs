//! Any bytes as packets of every version and both directions.
//!
//! Invariants worth naming:
//! * what was decoded can be written, and what was written says the same when read again;
//! * writing is stable: what was read back is written with the same bytes;
//! * a packet cut short is unfinished or refused, never another packet.

use corelane::codec::{
    self, Ack, Connect, DecodeError, Frame, Packet, PacketType, Publish, PublishOut, QoS,
    ReasonCode, SubscribeOptions, SubscribeOut, UnsubscribeOut, Version,
};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Inputs up to this length are also cut at every byte.
const CUT_BYTES: usize = 48;

/// Checks one input: as a stream of packets, and as the first byte and body of one packet.
pub fn run(data: &[u8]) {
    stream(data);
    if let [first, body @ ..] = data {
        let mut packet = vec![*first];
        put_length(&mut packet, body.len());
        packet.extend_from_slice(body);
        stream(&packet);
    }
}

fn put_length(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn stream(mut input: &[u8]) {
    while let Ok(Some(frame)) = framed(input) {
        let (packet, rest) = input.split_at(frame.len);
        assert!(packet.ends_with(frame.body), "the body ends the packet");
        codec::connect_version_hint(frame.body);
        for version in VERSIONS {
            if let Ok(packet) = codec::decode(&frame, version) {
                check(&packet, version);
            }
        }
        input = rest;
    }
}

/// Frames the front of `input` and holds it against limits and cuts.
fn framed(input: &[u8]) -> Result<Option<Frame<'_>>, DecodeError> {
    let found = codec::frame(input, usize::MAX);
    if let Ok(Some(frame)) = found {
        assert!(frame.len <= input.len());
        assert_eq!(codec::frame(input, frame.len), found, "the limit is the largest size");
        assert!(codec::frame(input, frame.len - 1).is_err(), "larger than the limit");
        for end in 0..frame.len.min(CUT_BYTES) {
            assert_eq!(codec::frame(&input[..end], usize::MAX), Ok(None), "cut at {end}");
        }
    }
    found
}

fn check(packet: &Packet<'_>, version: Version) {
    let (written, version) = write(packet, version);
    let frame = codec::frame(&written, usize::MAX).expect("good").expect("whole");
    assert_eq!(frame.len, written.len(), "one packet");
    let again = codec::decode(&frame, version).expect("what was written can be read");
    compare(packet, &again);
    let (twice, _) = write(&again, version);
    assert_eq!(written, twice, "writing is stable");
}

/// The packet in the broker's own form, and the version it speaks.
fn write(packet: &Packet<'_>, version: Version) -> (Vec<u8>, Version) {
    let mut out = Vec::new();
    match packet {
        Packet::Connect(connect) => {
            connect.encode(&mut out);
            return (out, connect.version);
        }
        Packet::Connack(connack) => connack.encode(version, &mut out),
        Packet::Publish(publish) => write_publish(publish, version, &mut out),
        Packet::Puback(ack) => write_ack(PacketType::Puback, ack, version, &mut out),
        Packet::Pubrec(ack) => write_ack(PacketType::Pubrec, ack, version, &mut out),
        Packet::Pubrel(ack) => write_ack(PacketType::Pubrel, ack, version, &mut out),
        Packet::Pubcomp(ack) => write_ack(PacketType::Pubcomp, ack, version, &mut out),
        Packet::Subscribe(subscribe) => {
            let filters: Vec<(&str, SubscribeOptions)> = subscribe.filters().collect();
            assert!(!filters.is_empty(), "SUBSCRIBE for something");
            let (packet_id, subscription_id) = (subscribe.packet_id, subscribe.subscription_id);
            SubscribeOut { packet_id, subscription_id, filters: &filters }
                .encode(version, &mut out);
        }
        Packet::Suback(suback) => {
            let reasons: Vec<ReasonCode> = suback.reasons().collect();
            let text = suback.reason_string;
            codec::encode_suback(version, suback.packet_id, &reasons, text, &mut out);
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<&str> = unsubscribe.filters().collect();
            assert!(!filters.is_empty(), "UNSUBSCRIBE from something");
            let packet_id = unsubscribe.packet_id;
            UnsubscribeOut { packet_id, filters: &filters }.encode(version, &mut out);
        }
        Packet::Unsuback(unsuback) => {
            let reasons: Vec<ReasonCode> = unsuback.reasons().collect();
            let text = unsuback.reason_string;
            codec::encode_unsuback(version, unsuback.packet_id, &reasons, text, &mut out);
        }
        Packet::Pingreq => codec::encode_pingreq(&mut out),
        Packet::Pingresp => codec::encode_pingresp(&mut out),
        Packet::Disconnect(disconnect) => disconnect.encode(version, &mut out),
        Packet::Auth(auth) => auth.encode(&mut out),
    }
    (out, version)
}

fn write_ack(kind: PacketType, ack: &Ack<'_>, version: Version, out: &mut Vec<u8>) {
    codec::encode_ack(kind, version, ack.packet_id, ack.reason, ack.reason_string, out);
}

fn write_publish(publish: &Publish<'_>, version: Version, out: &mut Vec<u8>) {
    let properties = &publish.properties;
    let mut forwarded = Vec::new();
    properties.write_forwarded(&mut forwarded);
    assert_eq!(forwarded.len(), properties.forwarded_len());
    assert_eq!(forwarded.is_empty(), !properties.has_forwarded());
    let subscription_ids: Vec<u32> = properties.subscription_ids.iter().collect();
    assert_eq!(subscription_ids.len(), properties.subscription_ids.len());
    assert!(properties.user().iter().count() <= properties.iter().count());
    let written = PublishOut {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        alias: properties.topic_alias,
        expiry_s: properties.message_expiry,
        subscription_ids: &subscription_ids,
        forwarded: &forwarded,
        payload: publish.payload,
    };
    written.encode(version, out);
    assert_eq!(out.len(), written.encoded_len(version), "the size is known beforehand");
    assert!(publish.qos == QoS::AtMostOnce || publish.packet_id.is_some());
}

/// Holds what was read back against what was read first. Compared where one value has one form:
/// properties of messages may stand in another order, which the bytes written twice show.
fn compare(first: &Packet<'_>, again: &Packet<'_>) {
    match (first, again) {
        (Packet::Publish(old), Packet::Publish(new)) => {
            let head = |p: &Publish<'_>| (p.dup, p.qos, p.retain, p.packet_id);
            assert_eq!(head(old), head(new));
            assert_eq!((old.topic, old.payload), (new.topic, new.payload));
            let (old, new) = (&old.properties, &new.properties);
            assert_eq!(old.topic_alias, new.topic_alias);
            assert_eq!(old.message_expiry, new.message_expiry);
            assert_eq!(old.payload_format_utf8, new.payload_format_utf8);
            assert_eq!(old.response_topic, new.response_topic);
            assert!(old.user().iter().eq(new.user().iter()));
        }
        (Packet::Connect(old), Packet::Connect(new)) => {
            let (will, same) = (old.will, new.will);
            assert_eq!(will.map(|w| (w.topic, w.payload)), same.map(|w| (w.topic, w.payload)));
            assert_eq!(will.map(|w| (w.qos, w.retain)), same.map(|w| (w.qos, w.retain)));
            assert_eq!(will.map(|w| w.delay_s), same.map(|w| w.delay_s));
            let (old, new) = (Connect { will: None, ..*old }, Connect { will: None, ..*new });
            assert_eq!(old, new);
        }
        (Packet::Subscribe(old), Packet::Subscribe(new)) => {
            assert_eq!(old.subscription_id, new.subscription_id);
            assert!(old.filters().eq(new.filters()));
        }
        (Packet::Suback(old), Packet::Suback(new)) => assert!(old.reasons().eq(new.reasons())),
        (Packet::Unsubscribe(old), Packet::Unsubscribe(new)) => {
            assert!(old.filters().eq(new.filters()));
        }
        (Packet::Unsuback(old), Packet::Unsuback(new)) => assert!(old.reasons().eq(new.reasons())),
        (old, new) => assert_eq!(old, new),
    }
}
