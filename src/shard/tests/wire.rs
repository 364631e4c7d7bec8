//! One shard and its clients, in packets: what a test sends and what comes back.

use super::super::{ConnectionKey, Counters, Settings};
use super::Bench;
use crate::base::PacketId;
use crate::codec::{
    self, Connack, ConnectOut, ConnectProperties, Disconnect, Packet, PacketType, Publish,
    PublishOut, QoS, ReasonCode, SubscribeOptions, SubscribeOut, Version,
};

/// A client of the shard: its connection and the version it speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    pub at: (usize, ConnectionKey),
    pub version: Version,
}

/// One shard; clients come and go.
pub struct Wire {
    pub bench: Bench,
}

pub fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

/// A CONNECT of MQTT 5 whose session outlives the connection by `expiry_s`.
pub fn v5<'a>(client_id: &'a str, clean_start: bool, expiry_s: u32) -> ConnectOut<'a> {
    let session_expiry = (expiry_s > 0).then_some(expiry_s);
    let properties = ConnectProperties { session_expiry, ..ConnectProperties::default() };
    ConnectOut { version: Version::V5, client_id, clean_start, properties, ..Default::default() }
}

/// A PUBLISH with everything else as it usually is.
pub fn message<'a>(topic: &'a str, qos: QoS, number: u16, payload: &'a [u8]) -> PublishOut<'a> {
    let packet_id = PacketId::new(number).filter(|_| qos != QoS::AtMostOnce);
    PublishOut { topic, qos, packet_id, payload, ..PublishOut::default() }
}

/// The packets in `bytes`, in order, each as its own bytes.
pub fn packets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(frame) = codec::frame(bytes, usize::MAX).expect("whole packets") {
        found.push(bytes[..frame.len].to_vec());
        bytes = &bytes[frame.len..];
    }
    found
}

/// Reads one packet that a server of `version` sent.
pub fn read(bytes: &[u8], version: Version) -> Packet<'_> {
    let frame = codec::frame(bytes, usize::MAX).expect("a packet").expect("a whole one");
    assert_eq!(frame.len, bytes.len(), "one packet");
    codec::decode(&frame, version).expect("a valid packet")
}

impl Wire {
    pub fn new(change: impl Fn(&mut Settings)) -> Wire {
        Wire { bench: Bench::with(1, change) }
    }

    pub fn counters(&self) -> Counters {
        self.bench.shards[0].counters().clone()
    }

    /// Sends a CONNECT and expects success; the CONNACK is taken.
    pub fn connect(&mut self, connect: &ConnectOut<'_>) -> Client {
        let (client, answer) = self.try_connect(connect);
        let first = &packets(&answer)[0];
        let Packet::Connack(connack) = read(first, connect.version) else {
            panic!("no CONNACK: {answer:?}")
        };
        assert_eq!(connack.reason, ReasonCode::SUCCESS);
        client
    }

    /// Sends a CONNECT; the answer is as it came, with what follows it.
    pub fn try_connect(&mut self, connect: &ConnectOut<'_>) -> (Client, Vec<u8>) {
        let at = self.bench.connect_with(0, connect);
        (Client { at, version: connect.version }, self.bench.output(at))
    }

    /// Sends a CONNECT and expects a refusal.
    pub fn refused(&mut self, connect: &ConnectOut<'_>) -> ReasonCode {
        let (client, answer) = self.try_connect(connect);
        assert!(self.bench.is_closing(client.at), "a refusal closes");
        let Packet::Connack(connack) = read(&answer, connect.version) else {
            panic!("no CONNACK: {answer:?}")
        };
        connack.reason
    }

    /// An MQTT 3.1.1 client with a clean session.
    pub fn three(&mut self, client_id: &str) -> Client {
        let version = Version::V311;
        self.connect(&ConnectOut { version, client_id, clean_start: true, ..Default::default() })
    }

    /// An MQTT 5 client whose session ends with its connection.
    pub fn five(&mut self, client_id: &str) -> Client {
        self.connect(&v5(client_id, true, 0))
    }

    /// Opens a connection that has sent nothing.
    pub fn open(&mut self, version: Version) -> Client {
        let key = self.bench.shards[0].open(0, None).expect("room in the lobby");
        Client { at: (0, key), version }
    }

    /// Sends bytes; what comes back, packet by packet.
    pub fn send(&mut self, client: Client, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.bench.send(client.at, bytes);
        self.take(client)
    }

    /// What came for `client` since it was last looked at.
    pub fn take(&mut self, client: Client) -> Vec<Vec<u8>> {
        packets(&self.bench.output(client.at))
    }

    pub fn publish(&mut self, client: Client, out: &PublishOut<'_>) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        out.encode(client.version, &mut bytes);
        self.send(client, &bytes)
    }

    /// Subscribes to one filter; the reason code in the SUBACK.
    pub fn subscribe(&mut self, client: Client, filter: &str, qos: QoS) -> ReasonCode {
        let answers = self.subscribe_all(client, &[filter], qos);
        let Packet::Suback(suback) = read(&answers[0], client.version) else {
            panic!("no SUBACK: {answers:?}")
        };
        suback.reasons().next().expect("a reason code")
    }

    /// Subscribes; whatever comes back.
    pub fn subscribe_all(&mut self, client: Client, filters: &[&str], qos: QoS) -> Vec<Vec<u8>> {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let filters: Vec<_> = filters.iter().map(|filter| (*filter, options)).collect();
        let mut bytes = Vec::new();
        SubscribeOut { packet_id: id(1), subscription_id: None, filters: &filters }
            .encode(client.version, &mut bytes);
        self.send(client, &bytes)
    }

    /// Sends an acknowledgement without a reason.
    pub fn ack(&mut self, client: Client, kind: PacketType, number: u16) -> Vec<Vec<u8>> {
        self.ack_with(client, kind, number, ReasonCode::SUCCESS)
    }

    pub fn ack_with(
        &mut self,
        client: Client,
        kind: PacketType,
        number: u16,
        reason: ReasonCode,
    ) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        codec::encode_ack(kind, client.version, id(number), reason, None, &mut bytes);
        self.send(client, &bytes)
    }

    /// Sends a DISCONNECT.
    pub fn leave(
        &mut self,
        client: Client,
        reason: ReasonCode,
        expiry_s: Option<u32>,
    ) -> Vec<Vec<u8>> {
        let packet = Disconnect { reason, session_expiry: expiry_s, ..Disconnect::default() };
        let mut bytes = Vec::new();
        packet.encode(client.version, &mut bytes);
        self.send(client, &bytes)
    }

    /// The network takes the connection away.
    pub fn cut(&mut self, client: Client) {
        self.bench.shards[0].end_of_input(client.at.1);
        self.bench.settle(&mut client.at.clone());
        self.bench.shards[0].released(client.at.1);
    }

    /// Lets time pass, and what it brings arrive.
    pub fn wait_s(&mut self, seconds: u64) {
        self.bench.wait_s(seconds);
        let mut nobody = (0, ConnectionKey::from_parts(0, 0));
        self.bench.settle(&mut nobody);
    }

    pub fn is_closed(&self, client: Client) -> bool {
        self.bench.is_closing(client.at)
    }
}

/// The DISCONNECT with which the server ended a connection, if it sent one.
pub fn goodbye(answers: &[Vec<u8>]) -> Option<ReasonCode> {
    match read(answers.last()?, Version::V5) {
        Packet::Disconnect(packet) => Some(packet.reason),
        _ => None,
    }
}

/// The CONNACK in `bytes`.
pub fn connack(bytes: &[u8]) -> Connack<'_> {
    match read(bytes, Version::V5) {
        Packet::Connack(connack) => connack,
        other => panic!("no CONNACK: {other:?}"),
    }
}

/// The PUBLISH in `bytes`.
pub fn publication(bytes: &[u8], version: Version) -> Publish<'_> {
    match read(bytes, version) {
        Packet::Publish(publish) => publish,
        other => panic!("no PUBLISH: {other:?}"),
    }
}

/// Reason codes of the acknowledgements among `answers`, with their packet types.
pub fn acks(answers: &[Vec<u8>], version: Version) -> Vec<(PacketType, u16, ReasonCode)> {
    let ack = |kind, ack: codec::Ack<'_>| Some((kind, ack.packet_id.get(), ack.reason));
    let read = |answer: &Vec<u8>| match read(answer, version) {
        Packet::Puback(found) => ack(PacketType::Puback, found),
        Packet::Pubrec(found) => ack(PacketType::Pubrec, found),
        Packet::Pubrel(found) => ack(PacketType::Pubrel, found),
        Packet::Pubcomp(found) => ack(PacketType::Pubcomp, found),
        _ => None,
    };
    answers.iter().filter_map(read).collect()
}
