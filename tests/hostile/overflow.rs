//! Subscribers that don't keep up: what they miss is counted to the message, under each policy.
//!
//! Invariant worth naming: with two shards an acknowledged message may still be under way to the
//! subscriber's when that begins to read; so which ones it gets is certain with one shard only, the
//! sum always.

use crate::broker::{Broker, Client, id};
use corelane::codec::{
    self, Connect, ConnectProperties, Packet, PacketType, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, Version,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU16;

/// More than sockets take: 10 MiB.
const LOUD: u32 = 640;
const LOUD_BYTES: usize = 16 * 1024;
const QUEUED: u32 = 200;
const WINDOW: u16 = 5;
/// An eighth of it is for what is under way between cores when the publisher is refused.
const OUTBOX: u32 = 64;

type Counters = BTreeMap<String, u64>;

/// Every delivery was sent, acknowledged, or is counted under one cause.
pub fn balanced(counters: &Counters) {
    let causes = [
        "offline",
        "late_overflow",
        "outbox_overflow",
        "expired",
        "too_large",
        "session_ended",
        "connection_closed",
        "group_gone",
        "memory",
    ];
    let dropped: u64 =
        causes.map(|cause| count(counters, &format!("dropped_{cause}"))).iter().sum();
    let done = count(counters, "deliveries_sent") + count(counters, "deliveries_acknowledged");
    assert_eq!(count(counters, "deliveries"), done + dropped, "{counters:#?}");
}

fn count(counters: &Counters, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or(0)
}

/// One that does not read while others publish.
struct Deaf {
    client: Client,
    got: Vec<u32>,
    /// The broker has closed the connection.
    ended: bool,
}

impl Deaf {
    fn subscribed(mut client: Client, topic: &str, qos: QoS) -> Deaf {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let mut out = Vec::new();
        SubscribeOut { packet_id: id(1), subscription_id: None, filters: &[(topic, options)] }
            .encode(Version::V5, &mut out);
        client.stream.write_all(&out).expect("written");
        client.next(|packet| assert!(matches!(packet, Some(Packet::Suback(_))), "{packet:?}"));
        Deaf { client, got: Vec::new(), ended: false }
    }

    /// Reads and acknowledges all there is: until a PINGRESP comes with no message before it.
    fn read_all(&mut self) {
        let mut heard = true;
        while heard {
            self.client.stream.write_all(&[0xc0, 0]).expect("the broker reads");
            heard = false;
            while self.read_one(&mut heard, true) {}
        }
    }

    /// Reads to the end of a connection that the broker has closed. Whoever writes to it has what
    /// is still on its way thrown away.
    fn read_to_end(&mut self) {
        while self.read_one(&mut false, false) {}
        assert!(self.ended);
    }

    /// False after a PINGRESP or the end.
    fn read_one(&mut self, heard: &mut bool, acknowledges: bool) -> bool {
        let (got, ended) = (&mut self.got, &mut self.ended);
        let acknowledged = self.client.next(|packet| match packet {
            Some(Packet::Publish(publish)) => {
                *heard = true;
                let number = publish.payload[..4].try_into().expect("four bytes");
                // What is sent again was counted before.
                if !publish.dup {
                    got.push(u32::from_be_bytes(number));
                }
                Ok(publish.packet_id)
            }
            Some(Packet::Disconnect(_)) => Ok(None),
            Some(Packet::Pingresp) => Err(()),
            None => {
                *ended = true;
                Err(())
            }
            other => panic!("a subscriber got {other:?}"),
        });
        let Ok(packet_id) = acknowledged else { return false };
        if let Some(packet_id) = packet_id.filter(|_| acknowledges) {
            let (kind, reason) = (PacketType::Puback, ReasonCode::SUCCESS);
            let mut out = Vec::new();
            codec::encode_ack(kind, Version::V5, packet_id, reason, None, &mut out);
            self.client.stream.write_all(&out).expect("the broker reads");
        }
        true
    }
}

/// Publishes `count` numbers, `bytes` long, `burst` of them at a time; gives how many were taken
/// for somebody, for nobody, and refused.
fn publish(address: SocketAddr, topic: &str, count: u32, bytes: usize, burst: u32) -> [u32; 3] {
    let mut client = Client::connected(address, Version::V5, &format!("talker of {topic}"));
    let mut answers = [0; 3];
    for first in (0..count).step_by(burst as usize) {
        let mut out = Vec::new();
        for number in first..count.min(first + burst) {
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(bytes, 0);
            let packet_id = Some(id(number as u16 + 1));
            let qos = QoS::AtLeastOnce;
            PublishOut { topic, qos, packet_id, payload: &payload, ..PublishOut::default() }
                .encode(Version::V5, &mut out);
        }
        client.stream.write_all(&out).expect("written");
        for _ in first..count.min(first + burst) {
            client.next(|packet| match packet {
                Some(Packet::Puback(ack)) if ack.reason == ReasonCode::SUCCESS => answers[0] += 1,
                Some(Packet::Puback(ack)) if !ack.reason.is_error() => answers[1] += 1,
                Some(Packet::Puback(ack)) => {
                    assert_eq!(ack.reason, ReasonCode::QUOTA_EXCEEDED);
                    answers[2] += 1;
                }
                other => panic!("a publisher got {other:?}"),
            });
        }
    }
    answers
}

/// CONNECT of a session that lasts.
fn hello(clean_start: bool) -> Vec<u8> {
    let properties = ConnectProperties {
        session_expiry: Some(1000),
        receive_maximum: NonZeroU16::new(WINDOW),
        ..ConnectProperties::default()
    };
    let (version, client_id) = (Version::V5, "deaf");
    let mut out = Vec::new();
    Connect { version, client_id, clean_start, properties, ..Connect::default() }.encode(&mut out);
    out
}

fn broker(shards: usize, keys: &str) -> Broker {
    let bounds = format!("limits.out_buffer_bytes = 65536\nsession.outbox_messages = {OUTBOX}\n");
    Broker::start(&format!("runtime.shards = {shards}\n{bounds}{keys}"), "")
}

/// Each policy with one shard and with two, side by side: brokers mostly wait.
fn each<const N: usize>(
    policies: [&'static str; N],
    check: impl Fn(&'static str, usize) + Copy + Send,
) {
    std::thread::scope(|scope| {
        for policy in policies {
            for shards in [1, 2] {
                scope.spawn(move || check(policy, shards));
            }
        }
    });
}

#[test]
fn what_is_too_late_at_most_once_is_counted_to_the_message() {
    each(["drop_newest", "drop_oldest", "disconnect"], |policy, shards| {
        let broker = broker(shards, &format!("session.late_overflow = \"{policy}\""));
        let client = Client::with(broker.address, &hello(true));
        let mut deaf = Deaf::subscribed(client, "deaf/0", QoS::AtMostOnce);
        let [taken, nobody, refused] = publish(broker.address, "deaf/0", LOUD, LOUD_BYTES, 16);
        match policy {
            "disconnect" => deaf.read_to_end(),
            _ => deaf.read_all(),
        }
        let (counters, _) = broker.stop();
        let [late, closed, offline] = ["late_overflow", "connection_closed", "offline"]
            .map(|cause| count(&counters, &format!("dropped_{cause}")));
        let got = &deaf.got;
        let missed = late + closed + offline;
        assert!(late > 0 && refused + nobody == 0, "{policy} {shards}: {counters:#?}");
        assert_eq!(u64::from(taken), got.len() as u64 + missed, "{policy} {shards}: {counters:#?}");
        assert!(got.is_sorted_by(|a, b| a < b), "{policy} {shards}: in order, each once");
        let last = got.last() == Some(&(LOUD - 1));
        match policy {
            "disconnect" => assert!(offline > 0 && !last, "{shards}: {counters:#?}"),
            _ => assert_eq!(closed + offline, 0, "{policy} {shards}"),
        }
        if shards == 1 {
            assert_eq!(last, policy == "drop_oldest", "{policy}: {got:?}");
        }
        balanced(&counters);
    });
}

#[test]
fn what_finds_an_outbox_full_is_counted_to_the_message() {
    each(["drop_oldest", "drop_newest", "disconnect", "refuse"], |policy, shards| {
        let broker = broker(shards, &format!("session.overflow = \"{policy}\""));
        let client = Client::with(broker.address, &hello(true));
        let mut deaf = Deaf::subscribed(client, "deaf/1", QoS::AtLeastOnce);
        let [taken, nobody, refused] = publish(broker.address, "deaf/1", QUEUED, 8, 1);
        if policy == "disconnect" {
            deaf.read_to_end();
            deaf.client = Client::with(broker.address, &hello(false));
            deaf.ended = false;
            // What it did not acknowledge comes again, perhaps after the answer to a first ping.
            assert!(deaf.read_one(&mut false, true));
        }
        deaf.read_all();
        let (counters, _) = broker.stop();
        let dropped = count(&counters, "dropped_outbox_overflow");
        let got = deaf.got;
        let what = format!("{policy} {shards}: {got:?} {counters:#?}");
        assert_eq!(u64::from(taken), got.len() as u64 + dropped, "{what}");
        assert!(got.is_sorted_by(|a, b| a < b), "in order, each once: {what}");
        assert_eq!((nobody, refused > 0), (0, policy == "refuse"), "{what}");
        if shards == 1 {
            let (window, kept) = (u32::from(WINDOW), u32::from(WINDOW) + OUTBOX);
            let expected: Vec<u32> = match policy {
                "drop_oldest" => (0..window).chain(QUEUED - OUTBOX..QUEUED).collect(),
                "refuse" => (0..taken).collect(),
                _ => (0..kept).collect(),
            };
            assert_eq!(got, expected, "{what}");
        }
        balanced(&counters);
    });
}
