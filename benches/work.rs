//! The work that is counted and timed: one concept each, through the pure core alone.

#[path = "host.rs"]
mod host;

use corelane::codec::{self, Packet, PacketType, Publish};
use corelane::codec::{PublishOut, QoS, ReasonCode, Version};
use corelane::shard::{Placement, Settings};
use host::{Client, Host, publish};
use std::hint::black_box;

/// Messages in one round of every workload, and subscribers of the fan-out.
pub const BATCH: usize = 50;
const SUBSCRIBERS: usize = 100;

/// One round of a workload that is set up.
pub type Round = Box<dyn FnMut()>;

/// What is measured.
pub struct Workload {
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// How many of them one round has.
    pub operations: usize,
    /// Sets the workload up.
    pub begin: fn() -> Round,
}

const fn workload(name: &'static str, what: &'static str, begin: fn() -> Round) -> Workload {
    Workload { name, what, operations: BATCH, begin }
}

pub const WORKLOADS: [Workload; 15] = [
    workload("decode", "framing and decoding a PUBLISH of 64 bytes, MQTT 3.1.1", || {
        decode(Version::V311)
    }),
    workload("decode_5", "the same with MQTT 5 and a user property", || decode(Version::V5)),
    workload("encode", "encoding a PUBLISH of 64 bytes, MQTT 5", encode),
    workload("pipe", "a QoS 0 message from one client to one other", || {
        fan_out(1, 1, QoS::AtMostOnce, Pieces::Single)
    }),
    workload("pipe_run", "the same in a run of messages to one topic", || {
        fan_out(1, 1, QoS::AtMostOnce, Pieces::Run)
    }),
    Workload {
        name: "fan_out",
        what: "delivery of a QoS 0 message to one of 100 subscribers",
        operations: BATCH * SUBSCRIBERS,
        begin: || fan_out(1, SUBSCRIBERS, QoS::AtMostOnce, Pieces::Single),
    },
    Workload {
        name: "fan_out_run",
        what: "the same in a run of messages to one topic",
        operations: BATCH * SUBSCRIBERS,
        begin: || fan_out(1, SUBSCRIBERS, QoS::AtMostOnce, Pieces::Run),
    },
    workload("window", "a QoS 1 message from one client to one other, both acknowledged", || {
        fan_out(1, 1, QoS::AtLeastOnce, Pieces::Run)
    }),
    workload("window_2", "the same with QoS 2", || fan_out(1, 1, QoS::ExactlyOnce, Pieces::Run)),
    workload("hop", "a QoS 0 message over the rings of two shards", || {
        fan_out(2, 1, QoS::AtMostOnce, Pieces::Single)
    }),
    workload("hop_run", "the same in a run of messages to one topic", || {
        fan_out(2, 1, QoS::AtMostOnce, Pieces::Run)
    }),
    workload("share_run", "the same to a share group of one, on one shard", || {
        batches_to(1, &["$share/one/plant/+/line/#"], QoS::AtMostOnce, Pieces::Run)
    }),
    workload(
        "match_new",
        "a QoS 0 message to a topic not seen before, 1,000 filters, no match",
        || matching(true),
    ),
    workload(
        "match_known",
        "a QoS 0 message to one of 1,000 known topics in turn, no match",
        || matching(false),
    ),
    workload("tick", "a turn of a shard with 1,000 idle clients", idle),
];

fn host(shards: usize, change: impl Fn(&mut Settings)) -> Host {
    Host::new(Placement::new(shards, [3, 4], 2), change)
}

/// A user property as PUBLISH carries it.
const PROPERTY: &[u8] = &[38, 0, 4, b'u', b'n', b'i', b't', 0, 2, b'k', b'W'];

fn decode(version: Version) -> Round {
    let mut bytes = Vec::new();
    let forwarded = if version == Version::V5 { PROPERTY } else { &[] };
    let out = PublishOut { topic: "plant/1/line/7", payload: &[b'x'; 64], ..PublishOut::default() };
    (0..BATCH).for_each(|_| PublishOut { forwarded, ..out }.encode(version, &mut bytes));
    Box::new(move || {
        let mut rest = black_box(&bytes[..]);
        while let Some(frame) = codec::frame(rest, 1 << 20).expect("whole packets") {
            rest = &rest[frame.len..];
            black_box(Publish::decode(frame.first, frame.body, version).expect("valid"));
        }
    })
}

fn encode() -> Round {
    let out = PublishOut { topic: "plant/1/line/7", payload: &[b'x'; 64], ..PublishOut::default() };
    let mut bytes = Vec::with_capacity(BATCH * 128);
    Box::new(move || {
        bytes.clear();
        (0..BATCH).for_each(|_| black_box(&out).encode(Version::V5, &mut bytes));
        black_box(&bytes);
    })
}

/// Answers to what a client was sent, as far as it asks for any.
fn answers(bytes: &[u8], out: &mut Vec<u8>) {
    let (mut rest, version) = (bytes, Version::V311);
    while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
        rest = &rest[frame.len..];
        let (kind, id) = match codec::decode(&frame, version).expect("valid") {
            Packet::Publish(publish) if publish.qos == QoS::AtLeastOnce => {
                (PacketType::Puback, publish.packet_id)
            }
            Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => {
                (PacketType::Pubrec, publish.packet_id)
            }
            Packet::Pubrec(ack) => (PacketType::Pubrel, Some(ack.packet_id)),
            Packet::Pubrel(ack) => (PacketType::Pubcomp, Some(ack.packet_id)),
            _ => continue,
        };
        if let Some(id) = id {
            codec::encode_ack(kind, version, id, ReasonCode::SUCCESS, None, out);
        }
    }
}

/// How a batch of messages is received.
#[derive(Clone, Copy, PartialEq)]
enum Pieces {
    Single,
    Run,
}

/// Batches of messages from one client to others, which answer; the publisher lives on the first
/// shard, the subscribers on the last.
fn fan_out(shards: usize, subscribers: usize, qos: QoS, pieces: Pieces) -> Round {
    batches_to(shards, &vec!["plant/+/line/#"; subscribers], qos, pieces)
}

/// As [`fan_out`], with a subscriber for each filter.
fn batches_to(shards: usize, filters: &[&str], qos: QoS, pieces: Pieces) -> Round {
    let mut host = host(shards, |_| {});
    for filter in filters {
        let reader = host.connect(Some(shards - 1));
        host.subscribe(reader, filter, qos);
    }
    let (at, key) = host.connect(Some(0));
    host.settle();
    let mut batch = Vec::new();
    (0..BATCH).for_each(|id| publish("plant/1/line/7", qos, id + 1, &mut batch));
    let piece = batch.len() / if pieces == Pieces::Single { BATCH } else { 1 };
    let turns = if qos == QoS::AtMostOnce { 2 * shards - 1 } else { 4 };
    let (mut back, mut answered) = (Vec::new(), Vec::<(Client, usize, usize)>::new());
    Box::new(move || {
        for piece in batch.chunks(piece) {
            host.shards[at].receive(key, piece);
        }
        for _ in 0..turns {
            back.clear();
            answered.clear();
            host.turn(|client, bytes| {
                if qos != QoS::AtMostOnce {
                    let start = back.len();
                    answers(bytes, &mut back);
                    answered.push((client, start, back.len()));
                }
            });
            for ((shard, key), start, end) in answered.drain(..) {
                host.shards[shard].receive(key, &back[start..end]);
            }
        }
    })
}

fn matching(new: bool) -> Round {
    let mut host = host(1, |settings| settings.limits.subscriptions = 10_000);
    let reader = host.connect(Some(0));
    for number in 0..1000 {
        let filter = match number % 3 {
            0 => format!("other/{number}/+"),
            1 => format!("plant/+/cell/{number}"),
            _ => format!("plant/{number}/cell/#"),
        };
        host.subscribe(reader, &filter, QoS::AtMostOnce);
    }
    let (at, key) = host.connect(Some(0));
    host.settle();
    let mut bytes = Vec::new();
    if !new {
        known_topics(&mut host, (at, key));
    }
    let mut next = 0;
    Box::new(move || {
        bytes.clear();
        for _ in 0..BATCH {
            let number = if new { 100_000 + next } else { next % 1000 };
            next += 1;
            publish(&format!("plant/{number}/line/7"), QoS::AtMostOnce, 0, &mut bytes);
        }
        host.shards[at].receive(key, &bytes);
        host.turn(|_, _| {});
    })
}

/// Every topic of `match_known` once.
fn known_topics(host: &mut Host, (at, key): Client) {
    let mut bytes = Vec::new();
    for number in 0..1000 {
        publish(&format!("plant/{number}/line/7"), QoS::AtMostOnce, 0, &mut bytes);
    }
    host.shards[at].receive(key, &bytes);
    host.settle();
}

fn idle() -> Round {
    let mut host = host(1, |_| {});
    for _ in 0..1000 {
        host.connect(Some(0));
    }
    host.settle();
    Box::new(move || {
        for _ in 0..BATCH {
            host.turn(|_, _| {});
        }
    })
}
