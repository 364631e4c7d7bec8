//! Properties over whole packets: what is written can be read, cut anywhere it is incomplete, and
//! no bytes make the codec panic.

use std::num::{NonZeroU16, NonZeroU32};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::wire::{Reader, put_prefixed};
use super::super::*;
use super::whole;
use crate::base::PacketId;

/// What every kind of packet can be made of.
#[derive(Clone, Debug)]
struct Parts {
    kind: PacketType,
    version: Version,
    packet_id: PacketId,
    texts: Vec<String>,
    blob: Vec<u8>,
    numbers: [u32; 3],
    flags: u16,
    qos: QoS,
    users: Vec<(String, String)>,
    ids: Vec<u32>,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z/+#$ä€😀]{0,12}", 1 => "[a-z]{60,70}", 1 => "[a-zä]{200}"]
}

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![Version::V31, Version::V311, Version::V5])
}

fn parts() -> impl Strategy<Value = Parts> {
    let kind = (1u8..=15).prop_map(|kind| PacketType::from_u8(kind).expect("1..=15"));
    let qos = (0u8..3).prop_map(|qos| QoS::from_u8(qos).expect("0..3"));
    let head = (kind, version(), 1u16.., qos, any::<u16>(), any::<[u32; 3]>());
    let tail = (
        vec(text(), 4),
        vec(any::<u8>(), 0..200),
        vec((text(), text()), 0..3),
        vec(1u32..=268_435_455, 0..4),
    );
    (head, tail).prop_map(|(head, tail)| {
        let (kind, version, packet_id, qos, flags, numbers) = head;
        let (texts, blob, users, ids) = tail;
        let packet_id = PacketId::new(packet_id).expect("from 1");
        Parts { kind, version, packet_id, texts, blob, numbers, flags, qos, users, ids }
    })
}

impl Parts {
    fn flag(&self, bit: u8) -> bool {
        self.flags >> bit & 1 != 0
    }

    fn maybe<T>(&self, bit: u8, value: T) -> Option<T> {
        self.flag(bit).then_some(value)
    }

    fn maybe_text(&self, at: usize) -> Option<&str> {
        self.maybe(at as u8, self.texts[at].as_str())
    }

    /// User properties as raw bytes.
    fn user_section(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.users {
            put_property(&mut out, PropertyId::UserProperty, Value::Pair(name, value));
        }
        out
    }

    /// What a server forwards, as raw bytes.
    fn forwarded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.flag(9) {
            let format = Value::Number(u32::from(self.flag(10)));
            put_property(&mut out, PropertyId::PayloadFormatIndicator, format);
        }
        if self.flag(11) {
            put_property(&mut out, PropertyId::ResponseTopic, Value::Text(&self.texts[2]));
        }
        out.extend(self.user_section());
        if self.flag(12) {
            put_property(&mut out, PropertyId::CorrelationData, Value::Binary(&self.blob));
        }
        out
    }

    fn publish<'a>(&'a self, forwarded: &'a [u8]) -> PublishOut<'a> {
        let alias = self.maybe(4, self.packet_id.get());
        let nameless = alias.is_some() && self.flag(5) && self.version == Version::V5;
        let topic = if nameless { "" } else { self.texts[0].as_str() };
        PublishOut {
            dup: self.flag(6) && self.qos != QoS::AtMostOnce,
            qos: self.qos,
            retain: self.flag(7),
            topic: if topic.is_empty() && !nameless { "t" } else { topic },
            packet_id: (self.qos != QoS::AtMostOnce).then_some(self.packet_id),
            alias,
            expiry_s: self.maybe(8, self.numbers[0]),
            subscription_ids: &self.ids,
            forwarded,
            payload: &self.blob,
        }
    }

    fn connect<'a>(&'a self, users: &'a [u8], will_section: &'a [u8]) -> Connect<'a> {
        let five = self.version == Version::V5;
        let will = || {
            let mut reader = Reader::new(will_section);
            let (properties, delay_s) =
                PublishProperties::decode_will(&mut reader, self.version).expect("good properties");
            Will {
                qos: self.qos,
                retain: self.flag(1),
                topic: &self.texts[1],
                payload: &self.blob,
                delay_s,
                properties,
            }
        };
        let properties = ConnectProperties {
            session_expiry: self.maybe(4, self.numbers[0]),
            receive_maximum: NonZeroU16::new(self.numbers[1] as u16),
            maximum_packet_size: NonZeroU32::new(self.numbers[2]),
            topic_alias_maximum: self.numbers[2] as u16,
            request_response_information: self.flag(5),
            request_problem_information: self.flag(6),
            authentication_method: self.maybe_text(3),
            authentication_data: self.maybe_text(3).map(str::as_bytes),
            user: UserProperties::of(users),
        };
        let username = self.maybe_text(2);
        Connect {
            version: self.version,
            clean_start: self.flag(7),
            keep_alive: self.packet_id.get(),
            client_id: &self.texts[0],
            will: self.flag(0).then(will),
            username,
            password: self.maybe(8, &self.blob[..]).filter(|_| five || username.is_some()),
            properties: if five { properties } else { ConnectProperties::default() },
        }
    }

    fn will_section(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_prefixed(&mut out, |out| {
            if self.numbers[1] != 0 {
                put_property(out, PropertyId::WillDelayInterval, Value::Number(self.numbers[1]));
            }
            if self.flag(13) {
                let expiry = Value::Number(self.numbers[0]);
                put_property(out, PropertyId::MessageExpiryInterval, expiry);
            }
            out.extend(self.forwarded());
        });
        out
    }

    fn connack<'a>(&'a self, users: &'a [u8]) -> Connack<'a> {
        if self.version < Version::V5 {
            let session_present = self.flag(4) && self.version == Version::V311;
            return Connack { session_present, ..Connack::default() };
        }
        let limit = NonZeroU32::new(self.numbers[1]).map(NonZeroU32::get);
        Connack {
            session_present: false,
            reason: ReasonCode::NOT_AUTHORIZED,
            session_expiry: self.maybe(4, self.numbers[0]),
            receive_maximum: self.maybe(5, self.packet_id.get()),
            maximum_qos: Some(self.qos).filter(|qos| *qos < QoS::ExactlyOnce),
            retain_available: self.flag(6),
            maximum_packet_size: limit,
            assigned_client_id: self.maybe_text(0),
            topic_alias_maximum: self.numbers[2] as u16,
            reason_string: self.maybe_text(1),
            wildcard_available: self.flag(7),
            subscription_ids_available: self.flag(8),
            shared_available: self.flag(9),
            server_keep_alive: self.maybe(10, self.numbers[0] as u16),
            response_information: self.maybe_text(2),
            server_reference: self.maybe_text(3),
            authentication_method: self.maybe_text(2),
            authentication_data: self.maybe(11, &self.blob[..]),
            user: UserProperties::of(users),
        }
    }

    /// A code that the packet may carry in its version.
    fn reason(&self) -> ReasonCode {
        let old = self.version < Version::V5;
        let codes: Vec<u8> = match self.kind {
            PacketType::Suback if old => vec![0, 1, 2, 0x80],
            _ if old => vec![0],
            kind => (0..=255).filter(|code| ReasonCode(*code).is_for(kind)).collect(),
        };
        // Packets that carry no code have nothing to choose from.
        let at = usize::from(self.flags) % codes.len().max(1);
        ReasonCode(codes.get(at).copied().unwrap_or(0))
    }

    fn disconnect(&self) -> Disconnect<'_> {
        if self.version < Version::V5 {
            return Disconnect::default();
        }
        Disconnect {
            reason: self.reason(),
            session_expiry: self.maybe(4, self.numbers[0]),
            reason_string: self.maybe_text(0),
            server_reference: self.maybe_text(1),
        }
    }

    fn auth(&self) -> Auth<'_> {
        Auth {
            reason: self.reason(),
            method: Some(&self.texts[0]),
            data: self.maybe(4, &self.blob[..]),
            reason_string: self.maybe_text(1),
        }
    }

    fn filters(&self) -> Vec<(&str, SubscribeOptions)> {
        let five = self.version == Version::V5;
        let options = SubscribeOptions {
            qos: self.qos,
            no_local: five && self.flag(4),
            retain_as_published: five && self.flag(5),
            retain_handling: match self.flags >> 6 & 3 {
                1 if five => RetainHandling::SendIfNew,
                2 if five => RetainHandling::DoNotSend,
                _ => RetainHandling::Send,
            },
        };
        self.texts.iter().map(|text| (text.as_str(), options)).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let (version, id, mut out) = (self.version, self.packet_id, Vec::new());
        let users = self.user_section();
        let filters = self.filters();
        let reasons = [self.reason(); 3];
        match self.kind {
            PacketType::Connect => self.connect(&users, &self.will_section()).encode(&mut out),
            PacketType::Connack => self.connack(&users).encode(version, &mut out),
            PacketType::Publish => self.publish(&self.forwarded()).encode(version, &mut out),
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
                encode_ack(self.kind, version, id, reasons[0], self.maybe_text(0), &mut out);
            }
            PacketType::Subscribe => {
                let subscription_id = self.ids.first().and_then(|id| NonZeroU32::new(*id));
                let filters = &filters[..];
                SubscribeOut { packet_id: id, subscription_id, filters }.encode(version, &mut out);
            }
            PacketType::Suback => {
                encode_suback(version, id, &reasons, self.maybe_text(0), &mut out);
            }
            PacketType::Unsubscribe => {
                let filters: Vec<&str> = self.texts.iter().map(String::as_str).collect();
                UnsubscribeOut { packet_id: id, filters: &filters }.encode(version, &mut out);
            }
            PacketType::Unsuback => {
                encode_unsuback(version, id, &reasons, self.maybe_text(0), &mut out);
            }
            PacketType::Pingreq => encode_pingreq(&mut out),
            PacketType::Pingresp => encode_pingresp(&mut out),
            PacketType::Disconnect => self.disconnect().encode(version, &mut out),
            PacketType::Auth if version == Version::V5 => self.auth().encode(&mut out),
            PacketType::Auth => encode_pingreq(&mut out),
        }
        out
    }

    /// Asserts that `packet` says what the parts say.
    fn check(&self, packet: &Packet<'_>) {
        let users = self.user_section();
        match packet {
            Packet::Connect(connect) => {
                assert_eq!(*connect, self.connect(&users, &self.will_section()));
            }
            Packet::Connack(connack) => assert_eq!(*connack, self.connack(&users)),
            Packet::Publish(publish) => self.check_publish(publish),
            Packet::Puback(ack) | Packet::Pubrec(ack) => self.check_ack(ack),
            Packet::Pubrel(ack) | Packet::Pubcomp(ack) => self.check_ack(ack),
            Packet::Subscribe(subscribe) => {
                assert_eq!(subscribe.packet_id, self.packet_id);
                let id = subscribe.subscription_id.map(NonZeroU32::get);
                assert_eq!(id, self.five(self.ids.first().copied()));
                assert_eq!(subscribe.filters().collect::<Vec<_>>(), self.filters());
            }
            Packet::Suback(suback) => {
                let text = self.five(self.maybe_text(0));
                assert_eq!((suback.packet_id, suback.reason_string), (self.packet_id, text));
                assert!(suback.reasons().eq([self.reason(); 3]));
            }
            Packet::Unsubscribe(unsubscribe) => {
                assert_eq!(unsubscribe.packet_id, self.packet_id);
                assert!(unsubscribe.filters().eq(self.texts.iter().map(String::as_str)));
            }
            Packet::Unsuback(unsuback) => {
                let text = self.five(self.maybe_text(0));
                assert_eq!((unsuback.packet_id, unsuback.reason_string), (self.packet_id, text));
                let count = if self.version == Version::V5 { 3 } else { 0 };
                assert!(unsuback.reasons().eq(std::iter::repeat_n(self.reason(), count)));
            }
            Packet::Disconnect(disconnect) => assert_eq!(*disconnect, self.disconnect()),
            Packet::Auth(auth) => assert_eq!(*auth, self.auth()),
            Packet::Pingreq | Packet::Pingresp => {}
        }
    }

    /// The value in version 5, none before.
    fn five<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| self.version == Version::V5)
    }

    fn check_ack(&self, ack: &Ack<'_>) {
        assert_eq!((ack.packet_id, ack.reason), (self.packet_id, self.reason()));
        assert_eq!(ack.reason_string, self.five(self.maybe_text(0)));
    }

    fn check_publish(&self, publish: &Publish<'_>) {
        let sent_forwarded = self.forwarded();
        let sent = self.publish(&sent_forwarded);
        assert_eq!((publish.dup, publish.qos, publish.retain), (sent.dup, sent.qos, sent.retain));
        assert_eq!((publish.topic, publish.payload), (sent.topic, sent.payload));
        assert_eq!(publish.packet_id, sent.packet_id);
        let found = publish.properties;
        assert_eq!(found.topic_alias, self.five(sent.alias));
        assert_eq!(found.message_expiry, self.five(sent.expiry_s));
        let mut forwarded = Vec::new();
        found.write_forwarded(&mut forwarded);
        assert_eq!(found.forwarded_len(), forwarded.len());
        if self.version == Version::V5 {
            assert_eq!(forwarded, sent_forwarded);
            assert!(found.subscription_ids.iter().eq(self.ids.iter().copied()));
            assert_eq!(found.subscription_ids.len(), self.ids.len());
            assert_eq!(found.payload_format_utf8, self.flag(9) && self.flag(10));
            assert_eq!(found.response_topic, self.maybe(11, self.texts[2].as_str()));
        } else {
            assert_eq!(found, PublishProperties::default());
        }
    }
}

/// Decodes under every version, walking whatever can be walked.
fn exercise(input: &[u8]) {
    let Ok(Some(found)) = frame(input, usize::MAX) else { return };
    for version in [Version::V31, Version::V311, Version::V5] {
        match decode(&found, version) {
            Ok(Packet::Publish(publish)) => {
                let mut out = Vec::new();
                publish.properties.write_forwarded(&mut out);
                assert_eq!(out.len(), publish.properties.forwarded_len());
                let ids = publish.properties.subscription_ids;
                assert_eq!(ids.iter().count(), ids.len());
            }
            Ok(Packet::Subscribe(subscribe)) => assert!(subscribe.filters().count() > 0),
            Ok(Packet::Unsubscribe(unsubscribe)) => assert!(unsubscribe.filters().count() > 0),
            Ok(Packet::Connect(connect)) => connect.encode(&mut Vec::new()),
            Ok(Packet::Connack(connack)) => connack.encode(version, &mut Vec::new()),
            Ok(_) | Err(_) => {}
        }
    }
    connect_version_hint(found.body);
}

fn config() -> Config {
    Config { cases: 1000, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_written_can_be_read(parts in parts()) {
        let written = parts.encode();
        let found = whole(&written, written.len());
        prop_assert_eq!(found.len, written.len());
        parts.check(&decode(&found, parts.version).expect("a good packet"));
        if parts.kind == PacketType::Publish {
            let forwarded = parts.forwarded();
            let publish = parts.publish(&forwarded);
            prop_assert_eq!(publish.encoded_len(parts.version), written.len());
        }
        prop_assert!(frame(&written, written.len() - 1).is_err());
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_packets(
        all in vec(parts(), 1..4),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let packets: Vec<Vec<u8>> = all.iter().map(Parts::encode).collect();
        for packet in &packets {
            for end in 0..packet.len() {
                prop_assert_eq!(frame(&packet[..end], usize::MAX), Ok(None));
            }
        }
        let stream = packets.concat();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        ends.sort_unstable();
        ends.push(stream.len());
        let (mut at, mut found) = (0, Vec::new());
        for end in ends {
            while let Some(packet) = frame(&stream[at..end], usize::MAX).expect("good") {
                found.push(stream[at..at + packet.len].to_vec());
                at += packet.len;
            }
        }
        prop_assert_eq!(found, packets);
    }

    #[test]
    fn changed_packets_do_no_harm(
        parts in parts(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut written = parts.encode();
        for (at, byte) in changes {
            let at = at.index(written.len());
            written[at] = byte;
        }
        exercise(&written);
        // The same with a remaining length that fits, so that the change reaches the decoder.
        if let [first, _, body @ ..] = &written[..] {
            let (mut refit, body) = (vec![*first], &body[..end.index(body.len() + 1)]);
            put_prefixed(&mut refit, |out| out.extend_from_slice(body));
            exercise(&refit);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(first in any::<u8>(), body in vec(any::<u8>(), 0..64)) {
        exercise(&body);
        let mut packet = vec![first];
        put_prefixed(&mut packet, |out| out.extend_from_slice(&body));
        exercise(&packet);
    }
}
