//! Whole shards, driven by hand: what a newcomer would try first.

mod access;
mod capabilities;
mod connect;
mod exchange;
mod flow;
mod large;
mod offences;
mod quota;
mod retained;
mod sessions;
mod share;
mod wills;
pub(super) mod wire;
mod aliases;
mod auto_subscribe;
mod delayed;
mod exclusive;
mod explanation;
mod live;
mod rewrite;
mod runs;

use super::*;
use crate::base::{MAX_SHARDS, PacketId, Time};
use crate::codec::{
    ConnectOut, Packet, PublishOut, QoS, SubscribeOptions, SubscribeOut, UnsubscribeOut, Version,
};
use crate::mesh::{self, MeshSettings};

/// A connection and its shard.
pub(super) type Client = (usize, ConnectionKey);

/// Shards without network: what a connection is sent lands in `outputs`.
pub(super) struct Bench {
    pub(super) shards: Vec<Shard>,
    outputs: Vec<(usize, ConnectionKey, Vec<u8>)>,
    now: Time,
    /// Clients that take nothing of what they are sent.
    pub(super) deaf: Vec<(usize, ConnectionKey)>,
    /// Credentials are kept instead of being judged.
    pub(super) slow: bool,
    pub(super) asked: Vec<(usize, ConnectionKey, Credentials)>,
}

impl Bench {
    pub(super) fn new(count: usize) -> Bench {
        Bench::with(count, |_| {})
    }

    /// Shards whose settings `change` has changed.
    pub(super) fn with(count: usize, change: impl Fn(&mut Settings)) -> Bench {
        assert!(count <= MAX_SHARDS);
        let ends = mesh::build(count, MeshSettings::default());
        let placement = Placement::new(count, [1, 2], 2);
        let shards = ends.into_iter().map(|end| {
            let mut settings = Settings::new(placement.clone());
            change(&mut settings);
            Shard::new(settings, end, Time::default())
        });
        let (outputs, deaf) = (Vec::new(), Vec::new());
        let (slow, asked, now) = (false, Vec::new(), Time::default());
        Bench { shards: shards.collect(), outputs, now, deaf, slow, asked }
    }

    /// Lets time pass, then everything happen that is due.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus_secs(seconds);
        self.settle(&mut (0, ConnectionKey::from_parts(0, 0)));
    }

    /// The sum of a counter over all shards.
    pub(super) fn sum(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(|shard| counter(shard.counters())).sum()
    }

    /// Ticks everything until nothing happens any more; connections move to their homes.
    pub(super) fn settle(&mut self, client: &mut (usize, ConnectionKey)) {
        for _ in 0..50 {
            self.now = Time(self.now.0 + 1000);
            for at in 0..self.shards.len() {
                self.shards[at].begin(self.now);
                self.shards[at].tick();
                while let Some(command) = self.shards[at].next_command() {
                    match command {
                        Command::HandOver(key) => self.shards[at].hand_over(key, Box::new(())),
                        Command::Adopt(key, carried) => {
                            assert!(carried.is::<()>(), "what was given is what arrives");
                            *client = (at, key);
                        }
                        Command::Judge(key, credentials) if self.slow => {
                            self.asked.push((at, key, *credentials));
                        }
                        Command::Judge(key, credentials) => {
                            self.shards[at].judged(key, access::verdict(&credentials));
                        }
                        Command::Measure => {
                            let busy_us = self.now.0 / 4;
                            let asleep_us = self.now.0 - busy_us;
                            let measured = Measured { busy_us, asleep_us, ..Measured::default() };
                            self.shards[at].measured(&measured);
                        }
                        _ => {}
                    }
                }
                while let Some(key) = self.shards[at].next_output() {
                    if self.deaf.contains(&(at, key)) {
                        continue;
                    }
                    while let Some(out) = self.shards[at].take_output(key) {
                        self.outputs.push((at, key, out.to_vec()));
                        self.shards[at].sent(key, out);
                    }
                }
            }
        }
    }

    pub(super) fn connect(
        &mut self,
        at: usize,
        id: &str,
        version: Version,
    ) -> (usize, ConnectionKey) {
        self.connect_with(at, &ConnectOut { version, client_id: id, ..ConnectOut::default() })
    }

    pub(super) fn connect_with(
        &mut self,
        at: usize,
        connect: &ConnectOut<'_>,
    ) -> (usize, ConnectionKey) {
        self.shards[at].begin(self.now);
        let key = self.shards[at].open(0, None).expect("room in the lobby");
        let mut client = (at, key);
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        self.shards[at].receive(key, &bytes);
        self.settle(&mut client);
        client
    }

    /// Subscribes with MQTT 5; returns the reason codes of the SUBACK.
    pub(super) fn subscribe(&mut self, client: Client, filters: &[&str]) -> Vec<u8> {
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let filters: Vec<_> = filters.iter().map(|filter| (*filter, options)).collect();
        let mut bytes = Vec::new();
        SubscribeOut { packet_id: PacketId::MIN, subscription_id: None, filters: &filters }
            .encode(Version::V5, &mut bytes);
        self.send(client, &bytes);
        let answer = self.packets(client, |packet| match packet {
            Packet::Suback(suback) => Some(suback.reasons().map(|reason| reason.0).collect()),
            _ => None,
        });
        answer.into_iter().next().expect("a SUBACK")
    }

    /// Unsubscribes with MQTT 5; returns the reason code.
    pub(super) fn unsubscribe(&mut self, client: Client, filter: &str) -> u8 {
        let mut bytes = Vec::new();
        UnsubscribeOut { packet_id: PacketId::MIN, filters: &[filter] }
            .encode(Version::V5, &mut bytes);
        self.send(client, &bytes);
        let answer = self.packets(client, |packet| match packet {
            Packet::Unsuback(unsuback) => unsuback.reasons().next().map(|reason| reason.0),
            _ => None,
        });
        answer.into_iter().next().expect("an UNSUBACK")
    }

    /// Publishes; returns the reason code of the PUBACK or PUBREC if there is one.
    pub(super) fn publish(
        &mut self,
        client: Client,
        version: Version,
        out: &PublishOut<'_>,
    ) -> Option<u8> {
        let mut bytes = Vec::new();
        out.encode(version, &mut bytes);
        self.send(client, &bytes);
        self.packets_of(client, version, |packet| match packet {
            Packet::Puback(ack) | Packet::Pubrec(ack) => Some(ack.reason.0),
            _ => None,
        })
        .into_iter()
        .next()
    }

    /// Topics and payloads that an MQTT 5 client has got since it was last asked.
    pub(super) fn received(&mut self, client: Client) -> Vec<(String, String)> {
        self.packets(client, |packet| match packet {
            Packet::Publish(publish) => {
                let payload = String::from_utf8_lossy(publish.payload).into_owned();
                Some((publish.topic.to_owned(), payload))
            }
            _ => None,
        })
    }

    /// What `pick` takes of all that an MQTT 5 client was sent.
    pub(super) fn packets<T>(
        &mut self,
        client: Client,
        pick: impl Fn(Packet<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.packets_of(client, Version::V5, pick)
    }

    pub(super) fn packets_of<T>(
        &mut self,
        client: Client,
        version: Version,
        pick: impl Fn(Packet<'_>) -> Option<T>,
    ) -> Vec<T> {
        let bytes = self.output(client);
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
            found.extend(pick(codec::decode(&frame, version).expect("a valid packet")));
            rest = &rest[frame.len..];
        }
        found
    }

    pub(super) fn send(&mut self, client: (usize, ConnectionKey), bytes: &[u8]) {
        self.shards[client.0].receive(client.1, bytes);
        self.settle(&mut client.clone());
    }

    /// Lets time pass, second by second.
    pub(super) fn wait_s(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus_secs(1);
            for shard in &mut self.shards {
                shard.begin(self.now);
                shard.tick();
            }
        }
    }

    /// Whether the broker has ended the connection.
    pub(super) fn is_closing(&self, client: (usize, ConnectionKey)) -> bool {
        let connection = self.shards[client.0].clients.connections.get(client.1);
        connection.is_none_or(|connection| connection.phase == Phase::Draining)
    }

    /// All bytes sent to a client so far, taken.
    pub(super) fn output(&mut self, client: (usize, ConnectionKey)) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.outputs.retain(|(at, key, out)| {
            let own = (*at, *key) == client;
            if own {
                bytes.extend_from_slice(out);
            }
            !own
        });
        bytes
    }
}

pub(super) fn publishes(bytes: &[u8], version: Version) -> Vec<(String, Vec<u8>, QoS)> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
        if let Packet::Publish(publish) = codec::decode(&frame, version).expect("a valid packet") {
            found.push((publish.topic.to_owned(), publish.payload.to_vec(), publish.qos));
        }
        rest = &rest[frame.len..];
    }
    found
}

#[test]
fn a_message_reaches_subscribers_on_every_shard_for_every_count_of_shards() {
    for count in 1..6 {
        let mut bench = Bench::new(count);
        let subscribers: Vec<_> =
            (0..10).map(|n| bench.connect(n % count, &format!("s{n}"), Version::V5)).collect();
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        for (n, subscriber) in subscribers.iter().enumerate() {
            let filter = ["room/+/light", "room/#", "room/1/light"][n % 3];
            let mut bytes = Vec::new();
            let packet_id = crate::base::PacketId::new(1).expect("not zero");
            SubscribeOut { packet_id, subscription_id: None, filters: &[(filter, options)] }
                .encode(Version::V5, &mut bytes);
            bench.send(*subscriber, &bytes);
            bench.output(*subscriber);
        }
        let publisher = bench.connect(0, "p", Version::V311);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut bytes = Vec::new();
            let packet_id =
                if qos == QoS::AtMostOnce { None } else { crate::base::PacketId::new(9) };
            let out = PublishOut {
                qos,
                topic: "room/1/light",
                packet_id,
                payload: b"on",
                ..PublishOut::default()
            };
            out.encode(Version::V311, &mut bytes);
            bench.send(publisher, &bytes);
            for subscriber in &subscribers {
                let got = publishes(&bench.output(*subscriber), Version::V5);
                assert_eq!(
                    got,
                    [("room/1/light".to_owned(), b"on".to_vec(), qos)],
                    "{count} shards"
                );
            }
        }
    }
}

#[test]
fn an_idle_connection_is_small() {
    // A slot of each, the client identifier twice with its map entry, two timers and the driver's
    // socket have to fit in one KiB.
    let (connection, session) = (size_of::<Connection>(), size_of::<session::Session>());
    assert!(connection + session <= 656, "connection {connection} B, session {session} B");
}
