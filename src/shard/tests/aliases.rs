//! Aliases that the broker gives, read with a client's table: whatever was published, and however
//! connections end, each message has its topic.

use super::wire::{Client, Wire, id, message, packets, publication, read};
use crate::base::Prng;
use crate::codec::{
    self, ConnectOut, ConnectProperties, Packet, PacketType, Publish, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, Version,
};
use crate::topic::AliasTable;
use std::collections::{BTreeSet, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};

fn offering(client_id: &str, most: u16) -> ConnectOut<'_> {
    let properties = ConnectProperties {
        topic_alias_maximum: most,
        session_expiry: Some(1000),
        ..ConnectProperties::default()
    };
    ConnectOut { version: Version::V5, client_id, properties, ..ConnectOut::default() }
}

fn numbered(qos: u8) -> QoS {
    QoS::from_u8(qos).expect("below three")
}

/// Messages say in four digits which one they are.
fn number(payload: &[u8]) -> usize {
    let digits = std::str::from_utf8(&payload[..4]).expect("digits");
    digits.parse().expect("a number")
}

/// A client that accepts aliases, over many connections.
struct Reader {
    client: Client,
    connect: ConnectOut<'static>,
    known: AliasTable,
    got: BTreeSet<usize>,
    /// QoS 2 identifiers that are not released.
    open: BTreeSet<u16>,
    /// Messages that came under an alias alone.
    short: usize,
}

impl Reader {
    fn new(wire: &mut Wire, connect: ConnectOut<'static>) -> Reader {
        let client = wire.connect(&connect);
        let known = AliasTable::new(connect.properties.topic_alias_maximum);
        Reader { client, connect, known, got: BTreeSet::new(), open: BTreeSet::new(), short: 0 }
    }

    fn reconnect(&mut self, wire: &mut Wire, topics: &[String]) {
        if !wire.is_closed(self.client) {
            wire.cut(self.client);
        }
        wire.take(self.client);
        let (client, answers) = wire.try_connect(&self.connect);
        self.client = client;
        self.known = AliasTable::new(self.connect.properties.topic_alias_maximum);
        self.read_all(wire, packets(&answers), topics);
    }

    fn resolve<'a>(&'a mut self, publish: &Publish<'a>) -> &'a str {
        let Some(alias) = publish.properties.topic_alias else { return publish.topic };
        if !publish.topic.is_empty() {
            assert!(self.known.set(alias, publish.topic), "[MQTT-3.1.2-26] alias {alias}");
            return publish.topic;
        }
        self.short += 1;
        self.known.get(alias).expect("an alias that was given on this connection")
    }

    /// Reads `packets` and what its acknowledgements bring, in order.
    fn read_all(&mut self, wire: &mut Wire, packets: Vec<Vec<u8>>, topics: &[String]) {
        let largest = self.connect.properties.maximum_packet_size.map_or(u32::MAX, |n| n.get());
        let mut packets = VecDeque::from(packets);
        while let Some(bytes) = packets.pop_front() {
            assert!(bytes.len() <= largest as usize, "[MQTT-3.1.2-24]");
            let answer = match read(&bytes, Version::V5) {
                Packet::Publish(publish) => self.take(&publish, topics),
                Packet::Pubrel(ack) => {
                    self.open.remove(&ack.packet_id.get());
                    Some((PacketType::Pubcomp, ack.packet_id.get()))
                }
                _ => None,
            };
            if let Some((kind, number)) = answer {
                packets.extend(wire.ack(self.client, kind, number));
            }
        }
    }

    fn take(&mut self, publish: &Publish<'_>, topics: &[String]) -> Option<(PacketType, u16)> {
        let number = number(publish.payload);
        assert_eq!(self.resolve(publish), topics[number], "{publish:?}");
        let first = self.got.insert(number);
        let packet_id = publish.packet_id?.get();
        if publish.qos == QoS::AtLeastOnce {
            return Some((PacketType::Puback, packet_id));
        }
        assert!(self.open.insert(packet_id) == first || publish.dup, "exactly once");
        Some((PacketType::Pubrec, packet_id))
    }
}

fn topic(random: &mut Prng) -> String {
    match random.below(8) {
        0 => "short".to_owned(),
        1 => format!("long/{}", "x".repeat(random.below(400))),
        2 => format!("plant/rare/{}", random.below(1000)),
        _ => format!("plant/line/{}", random.below(9)),
    }
}

/// Publishes at random to readers that offer `most` aliases; messages that came short.
fn exchange(seed: u64, ours: u16, most: u16) -> usize {
    let mut random = Prng::new(seed);
    let high_water = [40, 300, 100_000][random.below(3)];
    let mut wire = Wire::new(|s| {
        s.limits.topic_alias_maximum_out = ours;
        s.limits.out_buffer_bytes = high_water;
    });
    let mut connect = offering("first", most);
    let small = random.one_in(3);
    connect.properties.maximum_packet_size = small.then(|| NonZeroU32::new(60)).flatten();
    connect.properties.receive_maximum = NonZeroU16::new(1 + random.below(5) as u16);
    let mut readers =
        [Reader::new(&mut wire, connect), Reader::new(&mut wire, offering("second", 3))];
    let plain = [wire.five("no aliases"), wire.three("three")];
    let publisher = wire.five("publisher");
    for (n, reader) in readers.iter().enumerate() {
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        let subscription_id = NonZeroU32::new(300).filter(|_| n == 0 && random.one_in(2));
        let mut bytes = Vec::new();
        SubscribeOut { packet_id: id(1), subscription_id, filters: &[("#", options)] }
            .encode(Version::V5, &mut bytes);
        wire.send(reader.client, &bytes);
    }
    for client in plain {
        wire.subscribe(client, "#", QoS::AtMostOnce);
    }
    let (mut topics, mut bytes) = (Vec::new(), Vec::new());
    for number in 0..300 {
        topics.push(topic(&mut random));
        let qos = numbered(random.below(3) as u8);
        let text = format!("{number:04}{}", "-".repeat(random.below(30)));
        let expiry_s = random.one_in(3).then_some(500);
        let out = message(&topics[number], qos, 1 + number as u16, text.as_bytes());
        PublishOut { expiry_s, ..out }.encode(Version::V5, &mut bytes);
        if qos == QoS::ExactlyOnce {
            let (kind, done) = (PacketType::Pubrel, ReasonCode::SUCCESS);
            codec::encode_ack(kind, Version::V5, id(1 + number as u16), done, None, &mut bytes);
        }
        if random.one_in(4) {
            continue;
        }
        wire.send(publisher, &std::mem::take(&mut bytes));
        for reader in &mut readers {
            if random.one_in(12) {
                reader.reconnect(&mut wire, &topics);
            } else {
                let packets = wire.take(reader.client);
                reader.read_all(&mut wire, packets, &topics);
            }
        }
    }
    for client in plain {
        for bytes in wire.take(client) {
            if let Packet::Publish(publish) = read(&bytes, client.version) {
                assert_eq!(publish.topic, topics[number(publish.payload)]);
                assert_eq!(publish.properties.topic_alias, None, "nobody offered");
            }
        }
    }
    assert!(readers.iter().all(|reader| reader.got.len() > 100), "messages arrived");
    readers[0].short
}

#[test]
fn topics_are_what_was_published() {
    for seed in 0..40 {
        let (ours, most) = ([16, 2, 255][seed as usize % 3], [1, 5, 16, 65_535][seed as usize % 4]);
        assert!(exchange(seed, ours, most) > 0, "seed {seed}: aliases are used");
    }
    assert_eq!(exchange(100, 0, 10), 0);
    assert_eq!(exchange(101, 10, 0), 0);
}

#[test]
fn a_packet_too_large_gives_no_alias() {
    for (qos, largest) in [(QoS::AtMostOnce, 19), (QoS::AtLeastOnce, 21)] {
        let mut wire = Wire::new(|_| {});
        let mut connect = offering("c", 5);
        // Four bytes of payload fit with the topic, one with topic and alias, 11 with the alias.
        connect.properties.maximum_packet_size = NonZeroU32::new(largest);
        let client = wire.connect(&connect);
        wire.subscribe(client, "plant/+", qos);
        let mut send = |payload: &[u8]| {
            let answers = wire.publish(client, &message("plant/line", qos, 7, payload));
            let publish = answers.iter().find(|bytes| bytes[0] >> 4 == 3)?;
            let publish = publication(publish, Version::V5);
            Some((publish.topic.to_owned(), publish.properties.topic_alias))
        };
        let named = |alias| Some(("plant/line".to_owned(), alias));
        assert_eq!(send(b"1"), named(None), "met the first time");
        assert_eq!(send(b"1234"), named(None), "an alias beside the topic is too much");
        assert_eq!(send(b"12345"), None);
        assert_eq!(send(b"1"), named(Some(1)));
        assert_eq!(send(b"12345678901"), Some((String::new(), Some(1))));
        assert_eq!(send(b"123456789012"), None);
    }
}
