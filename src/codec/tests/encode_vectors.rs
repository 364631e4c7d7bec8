//! Encoding vectors: the exact bytes of what the broker writes.

use std::num::NonZeroU32;

use super::super::*;
use super::{bytes, whole};
use crate::base::PacketId;

const ID: PacketId = PacketId::new(0x102).expect("not zero");

fn check(name: &str, expected: &str, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut out = vec![0xee];
    encode(&mut out);
    assert_eq!(out[0], 0xee, "{name}: what stood before is kept");
    assert_eq!(out[1..], bytes(expected)[..], "{name}");
}

#[test]
fn publish() {
    let plain = PublishOut { topic: "a/b", payload: b"xy", ..PublishOut::default() };
    check("QoS 0", "30 07 s'a/b' 'xy'", |out| plain.encode(Version::V311, out));
    check("QoS 0", "30 08 s'a/b' 00 'xy'", |out| plain.encode(Version::V5, out));
    let full = PublishOut {
        dup: true,
        qos: QoS::ExactlyOnce,
        retain: true,
        packet_id: Some(ID),
        alias: Some(3),
        expiry_s: Some(9),
        subscription_ids: &[1, 200],
        forwarded: &[1, 1],
        ..plain
    };
    check("all", "3d 09 s'a/b' 0102 'xy'", |out| full.encode(Version::V31, out));
    let properties = "0f 23 0003 02 00000009 0b 01 0b c801 0101";
    check("all", &format!("3d | s'a/b' 0102 {properties} 'xy'"), |out| {
        full.encode(Version::V5, out);
    });
    assert_eq!(full.encoded_len(Version::V5), 27);
}

#[test]
fn every_width_of_the_remaining_length() {
    for len in [0, 120, 122, 123, 124, 16_378, 16_379, 16_380, 2_097_146, 2_097_147, 2_097_148] {
        let payload = vec![7; len];
        let publish = PublishOut { topic: "abc", payload: &payload, ..PublishOut::default() };
        let mut out = Vec::new();
        publish.encode(Version::V311, &mut out);
        assert_eq!(out.len(), publish.encoded_len(Version::V311));
        let found = whole(&out, usize::MAX);
        assert_eq!((found.len, found.body.len()), (out.len(), len + 5));
    }
}

#[test]
fn acknowledgements() {
    let text = Some("n");
    for (kind, first) in [
        (PacketType::Puback, "40"),
        (PacketType::Pubrec, "50"),
        (PacketType::Pubrel, "62"),
        (PacketType::Pubcomp, "70"),
    ] {
        let failed = ReasonCode::QUOTA_EXCEEDED;
        check("before 5.0", &format!("{first} 02 0102"), |out| {
            encode_ack(kind, Version::V311, ID, failed, text, out);
        });
        check("success", &format!("{first} 02 0102"), |out| {
            encode_ack(kind, Version::V5, ID, ReasonCode::SUCCESS, None, out);
        });
        check("failure", &format!("{first} 03 0102 97"), |out| {
            encode_ack(kind, Version::V5, ID, failed, None, out);
        });
        check("with text", &format!("{first} 08 0102 97 04 1f s'n'"), |out| {
            encode_ack(kind, Version::V5, ID, failed, text, out);
        });
    }
}

#[test]
fn connack() {
    let plain = ConnackOut::default();
    check("success", "20 02 00 00", |out| plain.encode(Version::V311, out));
    check("success", "20 03 00 00 00", |out| plain.encode(Version::V5, out));
    let resumed = ConnackOut { session_present: true, ..plain };
    check("no such flag in 3.1", "20 02 00 00", |out| resumed.encode(Version::V31, out));
    check("resumed", "20 02 01 00", |out| resumed.encode(Version::V311, out));
    let refused = ConnackOut { reason: ReasonCode::BANNED, ..resumed };
    check("[MQTT-3.2.2-4]", "20 02 00 05", |out| refused.encode(Version::V311, out));
    check("[MQTT-3.2.2-6]", "20 03 00 8a 00", |out| refused.encode(Version::V5, out));
    let limited = ConnackOut {
        receive_maximum: Some(10),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: false,
        server_keep_alive: Some(60),
        ..plain
    };
    check("limits", "20 | 00 00 0a 21 000a 24 01 25 00 13 003c", |out| {
        limited.encode(Version::V5, out);
    });
    let best = ConnackOut { maximum_qos: Some(QoS::ExactlyOnce), ..plain };
    check("[MQTT-3.2.2-9] QoS 2 goes unsaid", "20 03 00 00 00", |out| {
        best.encode(Version::V5, out);
    });
}

#[test]
fn answers_to_subscriptions() {
    let reasons = [ReasonCode::GRANTED_QOS_1, ReasonCode::TOPIC_FILTER_INVALID];
    check("SUBACK", "90 04 0102 01 80", |out| {
        encode_suback(Version::V311, ID, &reasons, None, out);
    });
    check("SUBACK", "90 05 0102 00 01 8f", |out| {
        encode_suback(Version::V5, ID, &reasons, None, out);
    });
    let text = Some("n");
    check("with text", "90 09 0102 04 1f s'n' 01 8f", |out| {
        encode_suback(Version::V5, ID, &reasons, text, out);
    });
    check("no text", "90 04 0102 01 80", |out| {
        encode_suback(Version::V31, ID, &reasons, text, out);
    });
    let reasons = [ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED];
    check("UNSUBACK", "b0 02 0102", |out| encode_unsuback(Version::V31, ID, &reasons, None, out));
    check("UNSUBACK", "b0 05 0102 00 00 11", |out| {
        encode_unsuback(Version::V5, ID, &reasons, None, out);
    });
    check("with text", "b0 09 0102 04 1f s'n' 00 11", |out| {
        encode_unsuback(Version::V5, ID, &reasons, text, out);
    });
}

#[test]
fn small_packets() {
    check("PINGREQ", "c0 00", encode_pingreq);
    check("PINGRESP", "d0 00", encode_pingresp);
    let busy = ReasonCode::SERVER_BUSY;
    check("DISCONNECT", "e0 00", |out| encode_disconnect(Version::V311, busy, None, None, out));
    check("DISCONNECT", "e0 01 89", |out| encode_disconnect(Version::V5, busy, None, None, out));
    check("DISCONNECT", "e0 00", |out| {
        encode_disconnect(Version::V5, ReasonCode::NORMAL_DISCONNECTION, None, None, out);
    });
    check("DISCONNECT", "e0 | 89 09 11 00000007 1f s'b'", |out| {
        encode_disconnect(Version::V5, busy, Some("b"), Some(7), out);
    });
    let auth =
        Auth { reason: ReasonCode::CONTINUE_AUTHENTICATION, method: Some("m"), ..Auth::default() };
    check("AUTH", "f0 | 18 04 15 s'm'", |out| auth.encode(out));
}

#[test]
fn requests_of_clients() {
    let connect = ConnectOut { client_id: "c", keep_alive: 60, ..ConnectOut::default() };
    check("CONNECT", "10 | s'MQTT' 04 00 003c s'c'", |out| connect.encode(out));
    let oldest = ConnectOut { version: Version::V31, ..connect };
    check("CONNECT", "10 | s'MQIsdp' 03 00 003c s'c'", |out| oldest.encode(out));
    let newest = ConnectOut { version: Version::V5, clean_start: true, ..connect };
    check("CONNECT", "10 | s'MQTT' 05 02 003c 00 s'c'", |out| newest.encode(out));
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let filters = [("a/#", options)];
    let subscription_id = NonZeroU32::new(300);
    let subscribe = SubscribeOut { packet_id: ID, subscription_id, filters: &filters };
    check("SUBSCRIBE", "82 | 0102 s'a/#' 01", |out| subscribe.encode(Version::V311, out));
    check("SUBSCRIBE", "82 | 0102 03 0bac02 s'a/#' 2d", |out| subscribe.encode(Version::V5, out));
    let unsubscribe = UnsubscribeOut { packet_id: ID, filters: &["a", "b"] };
    check("UNSUBSCRIBE", "a2 | 0102 s'a' s'b'", |out| unsubscribe.encode(Version::V311, out));
    check("UNSUBSCRIBE", "a2 | 0102 00 s'a' s'b'", |out| unsubscribe.encode(Version::V5, out));
}

#[test]
fn what_is_forwarded_keeps_its_order() {
    let input = bytes("30 | s't' 1b 26 s'b' s'1' 0b 05 02 00000001 09 s'c' 26 s'a' s'2' 01 01 'p'");
    let found = whole(&input, usize::MAX);
    let publish = Publish::decode(found.first, found.body, Version::V5).expect("a good packet");
    let properties = publish.properties;
    assert_eq!(publish.payload, b"p");
    assert!(properties.has_forwarded() && properties.payload_format_utf8);
    assert_eq!(properties.message_expiry, Some(1));
    assert_eq!(properties.subscription_ids.iter().collect::<Vec<_>>(), [5]);
    assert_eq!(properties.user().iter().collect::<Vec<_>>(), [("b", "1"), ("a", "2")]);
    let mut out = Vec::new();
    properties.write_forwarded(&mut out);
    assert_eq!(out, bytes("26 s'b' s'1' 09 s'c' 26 s'a' s'2' 01 01"));
    assert_eq!(out.len(), properties.forwarded_len());
}

#[test]
fn reasons_have_names_and_return_codes() {
    assert_eq!(ReasonCode::KEEP_ALIVE_TIMEOUT.to_string(), "Keep Alive timeout");
    assert_eq!(ReasonCode(0x7f).to_string(), "reason code 0x7f");
    for code in 0..=5 {
        let reason = ReasonCode::from_connect_return_code(code).expect("0..=5");
        assert_eq!(reason.connect_return_code(), code);
        assert!(reason.is_for(PacketType::Connack));
    }
    for code in (0..=255).map(ReasonCode) {
        let assigned = (1..=15).filter_map(PacketType::from_u8).any(|kind| code.is_for(kind));
        assert_eq!(code.name().is_some(), assigned, "{code}");
        assert!(code.connect_return_code() <= 5);
    }
}
