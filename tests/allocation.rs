//! Heap allocations, counted: none per QoS 0 message of up to 256 bytes on the steady path, on one
//! shard and across several; one per QoS 1 message on each core where somebody waits for it; at
//! most one KiB for an idle connection. One test in a binary of its own, so that nobody else
//! allocates meanwhile.

#[path = "../benches/counting.rs"]
mod counting;

use corelane::base::{PacketId, Time};
use corelane::codec::{
    self, ConnectOut, ConnectProperties, Packet, PacketType, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, Version,
};
use corelane::mesh::{MeshSettings, build};
use corelane::shard::{Command, ConnectionKey, Placement, Settings, Shard};
use counting::{ALLOCATIONS, LIVE_BYTES};
use std::sync::atomic::Ordering;

struct Host {
    shards: Vec<Shard>,
    now: Time,
    /// Bytes sent to clients and thrown away.
    sent: usize,
    /// Clients of this version acknowledge what they get.
    answering: Option<Version>,
    /// What clients answer to QoS 1 messages, and to which part of it each one's amounts.
    back: Vec<u8>,
    parts: Vec<(usize, ConnectionKey, std::ops::Range<usize>)>,
    /// QoS 1 messages that clients got.
    acknowledged: usize,
}

/// Appends PUBACK for every QoS 1 message in `bytes`; returns how many there are.
fn acknowledge(bytes: &[u8], version: Version, back: &mut Vec<u8>) -> usize {
    let (mut rest, mut count) = (bytes, 0);
    while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
        rest = &rest[frame.len..];
        if let Packet::Publish(publish) = codec::decode(&frame, version).expect("valid")
            && let Some(id) = publish.packet_id
        {
            let (kind, reason) = (PacketType::Puback, ReasonCode::SUCCESS);
            codec::encode_ack(kind, version, id, reason, None, back);
            count += 1;
        }
    }
    count
}

impl Host {
    fn new(count: usize) -> Host {
        let placement = Placement::new(count, [3, 4], 2);
        let ends = build(count, MeshSettings::default()).into_iter();
        // With reports, so that loads are counted; the first ones are over when it matters.
        let settings =
            || Settings { sys_interval_us: 3_600_000_000, ..Settings::new(placement.clone()) };
        let shards = ends.map(|end| Shard::new(settings(), end, Time::default())).collect();
        let (back, parts) = (Vec::new(), Vec::new());
        Host {
            shards,
            now: Time::default(),
            sent: 0,
            answering: None,
            back,
            parts,
            acknowledged: 0,
        }
    }

    fn turn(&mut self, moved: &mut Option<(usize, ConnectionKey)>) {
        self.now = Time(self.now.0 + 10);
        for (at, shard) in self.shards.iter_mut().enumerate() {
            shard.begin(self.now);
            shard.tick();
            while let Some(command) = shard.next_command() {
                match command {
                    Command::HandOver(key) => shard.hand_over(key, Box::new(())),
                    Command::Adopt(key, _) => *moved = Some((at, key)),
                    _ => {}
                }
            }
            while let Some(key) = shard.next_output() {
                while let Some(out) = shard.take_output(key) {
                    self.sent += out.len();
                    let start = self.back.len();
                    if let Some(version) = self.answering {
                        self.acknowledged += acknowledge(&out, version, &mut self.back);
                    }
                    if self.back.len() > start {
                        self.parts.push((at, key, start..self.back.len()));
                    }
                    shard.sent(key, out);
                }
            }
        }
        for (at, key, part) in self.parts.drain(..) {
            self.shards[at].receive(key, &self.back[part]);
        }
        self.back.clear();
    }

    /// A connected client and the shard on which it lives.
    fn connect(&mut self, id: &str, version: Version) -> (usize, ConnectionKey) {
        self.shards[0].begin(self.now);
        let key = self.shards[0].open(0, None).expect("room in the lobby");
        let mut packet = Vec::new();
        let properties =
            ConnectProperties { topic_alias_maximum: 4, ..ConnectProperties::default() };
        ConnectOut { version, client_id: id, properties, ..ConnectOut::default() }
            .encode(&mut packet);
        self.shards[0].receive(key, &packet);
        let mut moved = None;
        (0..8).for_each(|_| self.turn(&mut moved));
        moved.unwrap_or((0, key))
    }
}

fn steady_path(shards: usize, version: Version, qos: QoS) {
    let mut host = Host::new(shards);
    let subscribers: Vec<_> = (0..8).map(|n| host.connect(&format!("s{n}"), version)).collect();
    for (at, key) in subscribers {
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let packet_id = PacketId::new(1).expect("not zero");
        let filters = [("plant/+/line/#", options)];
        let mut packet = Vec::new();
        SubscribeOut { packet_id, subscription_id: None, filters: &filters }
            .encode(version, &mut packet);
        host.shards[at].receive(key, &packet);
    }
    let publishers: Vec<_> = (0..4).map(|n| host.connect(&format!("p{n}"), version)).collect();
    let mut batches = Vec::new();
    for n in 0..publishers.len() {
        let (topic, mut batch) = (format!("plant/{n}/line/7"), Vec::new());
        for size in [16, 64, 256, 100, 200] {
            let packet_id = PacketId::new(size).filter(|_| qos == QoS::AtLeastOnce);
            let payload = vec![b'x'; usize::from(size)];
            PublishOut {
                topic: &topic,
                qos,
                packet_id,
                payload: &payload,
                ..PublishOut::default()
            }
            .encode(version, &mut batch);
        }
        batches.push(batch);
    }
    host.answering = Some(version).filter(|_| qos == QoS::AtLeastOnce);
    let mut moved = None;
    let mut round = |host: &mut Host| {
        for ((at, key), batch) in publishers.iter().zip(&batches) {
            // In two pieces, so that packets are cut.
            let (first, second) = batch.split_at(batch.len() / 2 + 7);
            host.shards[*at].receive(*key, first);
            host.shards[*at].receive(*key, second);
        }
        host.turn(&mut moved);
    };
    (0..200).for_each(|_| round(&mut host));
    host.now = Time(host.now.0 + 1_000_000);
    (0..200).for_each(|_| round(&mut host));
    let (before, sent) = (ALLOCATIONS.load(Ordering::Relaxed), host.sent);
    host.acknowledged = 0;
    (0..1000).for_each(|_| round(&mut host));
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let expected = 1000 * 4 * 5 * 8 * 100;
    assert!(host.sent - sent > expected / 2, "messages were delivered");
    if version == Version::V5 && qos == QoS::AtMostOnce {
        // 127 bytes of payload on average, and 14 of topic where no alias stands for them.
        assert!(host.sent - sent < expected / 100 * 138, "aliases were used");
    }
    let allowed = match qos {
        QoS::AtMostOnce => 0,
        // The message itself, on each core that has subscribers.
        QoS::AtLeastOnce | QoS::ExactlyOnce => 20_000 * shards as u64,
    };
    assert!(qos == QoS::AtMostOnce || host.acknowledged > 150_000, "{}", host.acknowledged);
    let what = format!("{shards} shards, {version:?}, {qos:?}");
    println!("{what}: {allocations} allocations, 20,000 messages, 160,000 deliveries");
    assert!(allocations <= allowed, "{what}: {allocations} allocations, {allowed} allowed");
}

/// Heap bytes of the shard per idle connection with a keep-alive, 10,000 of them.
fn idle_connections() {
    const CONNECTIONS: u64 = 10_000;
    let mut host = Host::new(1);
    host.connect("the first one pays for tables", Version::V311);
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for number in 0..CONNECTIONS {
        host.shards[0].begin(host.now);
        let key = host.shards[0].open(0, None).expect("room in the lobby");
        let (mut packet, client_id) = (Vec::new(), format!("client-{number:05}"));
        ConnectOut { client_id: &client_id, keep_alive: 60, ..ConnectOut::default() }
            .encode(&mut packet);
        host.shards[0].receive(key, &packet);
        host.turn(&mut None);
    }
    let each = (LIVE_BYTES.load(Ordering::Relaxed) - before) / CONNECTIONS;
    println!("{each} bytes of heap per idle connection");
    // The driver adds its socket, about 100 bytes.
    assert!(each <= 900, "{each} bytes of heap per idle connection");
}

#[test]
fn the_heap_is_left_alone() {
    idle_connections();
    for shards in [1, 2, 3] {
        for version in [Version::V311, Version::V5] {
            steady_path(shards, version, QoS::AtMostOnce);
            steady_path(shards, version, QoS::AtLeastOnce);
        }
    }
}
