//! Directed tests under virtual time: that no source starves another on the way to a full lane,
//! and that a huge fan-out leaves everybody else served.

use corelane::base::{PacketId, ShardId, Time};
use corelane::codec::{
    self, ConnectOut, Packet, PublishOut, QoS, SubscribeOptions, SubscribeOut, Version,
};
use corelane::mesh::{self, MeshSettings};
use corelane::shard::placement::{Placement, Rule};
use corelane::shard::{Command, ConnectionKey, Settings, Shard, TickBudget};
use std::collections::HashSet;

/// Shards with a network that takes everything at once.
pub(crate) struct Rig {
    pub(crate) shards: Vec<Shard>,
    pub(crate) now: Time,
    paused: HashSet<(usize, u64)>,
}

/// A client and the shard of its session.
pub(crate) type Peer = (usize, ConnectionKey);

impl Rig {
    /// `count` shards; shard 0 owns everything below `fan`, the last one everything below `other`.
    fn new(count: usize, mesh: MeshSettings, tick: TickBudget) -> Rig {
        let pins = vec![Rule::new("fan", ShardId(0)), Rule::new("other", ShardId(count as u8 - 1))];
        let placement = Placement::new(count, [5, 6], 2).with_rules(vec![], pins, vec![]);
        let mut settings = Settings::new(placement);
        settings.tick = tick;
        Rig::with(count, mesh, &settings)
    }

    /// `count` shards with settings of the caller's.
    pub(crate) fn with(count: usize, mesh: MeshSettings, settings: &Settings) -> Rig {
        let now = Time::from_secs(1);
        let ends = mesh::build(count, mesh).into_iter();
        let shards = ends.map(|end| Shard::new(settings.clone(), end, now)).collect();
        Rig { shards, now, paused: HashSet::new() }
    }

    /// Connects a client whose home is `home`, by the first fitting name at or after `name`.
    pub(crate) fn connect(
        &mut self,
        home: usize,
        name: &mut usize,
        filter: Option<(&str, QoS)>,
    ) -> Peer {
        // Homes don't depend on the pins of topics.
        let placement = Placement::new(self.shards.len(), [5, 6], 2);
        while placement.home(&format!("c{name}")).index() != home {
            *name += 1;
        }
        let client_id = format!("c{name}");
        *name += 1;
        let mut bytes = Vec::new();
        let version = Version::V311;
        let connect =
            ConnectOut { version, client_id: &client_id, clean_start: true, ..Default::default() };
        connect.encode(&mut bytes);
        if let Some((filter, qos)) = filter {
            let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
            let filters = &[(filter, options)];
            SubscribeOut { packet_id: PacketId::MIN, subscription_id: None, filters }
                .encode(version, &mut bytes);
        }
        let shard = &mut self.shards[home];
        shard.begin(self.now);
        let key = shard.open(0).expect("the lobby has room");
        shard.receive(key, &bytes);
        (home, key)
    }

    /// Gives bytes to the shard of `peer`, unless it has paused the connection.
    pub(crate) fn send(&mut self, peer: Peer, bytes: &[u8]) {
        if !self.paused.contains(&(peer.0, peer.1.to_bits())) {
            self.shards[peer.0].begin(self.now);
            self.shards[peer.0].receive(peer.1, bytes);
        }
    }

    /// Turns everything after the ends of connections, which the shell would release.
    pub(crate) fn settle_ends(&mut self) {
        for _ in 0..1000 {
            for at in 0..self.shards.len() {
                self.now = Time(self.now.0 + 50);
                self.shards[at].begin(self.now);
                self.shards[at].tick();
                while let Some(command) = self.shards[at].next_command() {
                    if let Command::Close(key) = command {
                        self.shards[at].released(key);
                    }
                }
            }
        }
    }

    /// One turn of one shard; `output` gets all that is sent.
    pub(crate) fn turn(&mut self, at: usize, output: &mut impl FnMut(Peer, &[u8])) -> bool {
        self.now = Time(self.now.0 + 50);
        let shard = &mut self.shards[at];
        shard.begin(self.now);
        let more = shard.tick();
        while let Some(command) = shard.next_command() {
            match command {
                Command::Pause(key) => drop(self.paused.insert((at, key.to_bits()))),
                Command::Resume(key) => drop(self.paused.remove(&(at, key.to_bits()))),
                Command::Established(_) | Command::ReadMore(_) => {}
                Command::Close(_) => panic!("a connection was closed"),
                Command::HandOver(_) | Command::Adopt(..) => panic!("everybody is at home"),
            }
        }
        while let Some(key) = shard.next_output() {
            if let Some(buffer) = shard.take_output(key) {
                output((at, key), &buffer);
                shard.sent(key, buffer);
            }
        }
        more
    }

    /// Turns all shards until none has anything left to do.
    fn settle(&mut self) {
        self.settle_with(&mut |_, _| {});
    }

    /// Turns all shards until none has anything left to do; `output` gets all that is sent.
    pub(crate) fn settle_with(&mut self, output: &mut impl FnMut(Peer, &[u8])) {
        for _ in 0..10_000 {
            let mut busy = false;
            for at in 0..self.shards.len() {
                busy |= self.turn(at, output);
            }
            // A shard that has nothing to do may have rung another one that had its turn.
            for shard in &self.shards {
                busy |= !shard.bell().fall_asleep();
                shard.bell().wake_up();
            }
            if !busy {
                return;
            }
        }
        panic!("the rig does not come to rest");
    }
}

pub(crate) fn publish(topic: &str, qos: QoS, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let packet_id = PacketId::new(id).filter(|_| qos > QoS::AtMostOnce);
    let out = PublishOut { qos, topic, packet_id, payload, ..PublishOut::default() };
    out.encode(Version::V311, &mut bytes);
    bytes
}

pub(crate) fn packets(mut bytes: &[u8], mut each: impl FnMut(Packet<'_>)) {
    while let Some(frame) = codec::frame(bytes, usize::MAX).expect("whole packets") {
        each(codec::decode(&frame, Version::V311).expect("a valid packet"));
        bytes = &bytes[frame.len..];
    }
}

/// Publishers on the owner's own core and on two others saturate one full DELIVER lane.
#[test]
fn each_source_keeps_half_of_its_fair_share_of_a_full_lane() {
    let mesh = MeshSettings {
        block_bytes: 1024,
        ring_blocks: 4,
        pool_bytes: 64 * 1024,
        ..MeshSettings::default()
    };
    let mut rig = Rig::new(4, mesh, TickBudget { targets: 4096, turn_bytes: 4096 });
    let mut name = 0;
    rig.connect(1, &mut name, Some(("fan/#", QoS::AtMostOnce)));
    // Two local publishers share the turns of one source.
    let homes = [0, 0, 2, 3];
    let publishers = homes.map(|home| rig.connect(home, &mut name, None));
    rig.settle();
    let messages: Vec<Vec<u8>> = (0..homes.len())
        .map(|at| {
            publish("fan/x", QoS::AtMostOnce, 0, format!("{at}{:080}", 0).as_bytes()).repeat(10)
        })
        .collect();
    let mut received = [0u32; 4];
    for round in 0..4000 {
        for (publisher, bytes) in publishers.iter().zip(&messages) {
            rig.send(*publisher, bytes);
        }
        for at in [0, 2, 3] {
            rig.turn(at, &mut |_, _| {});
        }
        // The receiver of the lane is slower than its senders.
        if round % 3 == 0 {
            rig.turn(1, &mut |_, bytes| {
                packets(bytes, |packet| {
                    if let Packet::Publish(publish) = packet {
                        received[usize::from(publish.payload[0] - b'0')] += 1;
                    }
                });
            });
        }
    }
    let stalls = rig.shards[0].counters().stalls;
    assert!(stalls > 100, "the lane was never full: {stalls} stalls");
    let sources = [received[0] + received[1], received[2], received[3]];
    let total: u32 = sources.iter().sum();
    for accepted in sources {
        assert!(accepted >= total / 6, "an unfair share of {total}: {sources:?}");
    }
}

/// Sessions that subscribe to one topic, over two shards.
const CROWD: usize = 100_000;

/// Turns within which a trickle client must be served beside the fan-out.
const PATIENCE: usize = 8;

#[test]
fn a_huge_fan_out_leaves_a_trickle_client_served() {
    let mut rig = Rig::new(2, MeshSettings::default(), TickBudget::default());
    let mut name = 0;
    for at in 0..CROWD {
        rig.connect(at % 2, &mut name, Some(("fan/x", QoS::AtMostOnce)));
        if at % 1000 == 999 {
            rig.settle();
        }
    }
    let publishers = [0, 1].map(|home| rig.connect(home, &mut name, None));
    let trickles = [0, 1].map(|home| rig.connect(home, &mut name, None));
    rig.settle();
    let message = publish("fan/x", QoS::AtMostOnce, 0, b"to all");
    let mut deliveries = 0;
    let mut served = [(None, None); 2];
    let mut slowest = 0;
    for round in 0..200u16 {
        if round % 4 == 0 {
            publishers.iter().for_each(|publisher| rig.send(*publisher, &message));
        }
        for (trickle, wait) in trickles.iter().zip(&mut served) {
            if *wait == (None, None) {
                let mut bytes = publish("other/y", QoS::AtLeastOnce, round + 1, b"one");
                codec::encode_pingreq(&mut bytes);
                rig.send(*trickle, &bytes);
                *wait = (Some(round), Some(round));
            }
        }
        for at in 0..2 {
            rig.turn(at, &mut |peer, bytes| {
                let Some(trickle) = trickles.iter().position(|own| *own == peer) else {
                    deliveries += 1;
                    return;
                };
                packets(bytes, |packet| match packet {
                    Packet::Puback(_) => served[trickle].0 = None,
                    Packet::Pingresp => served[trickle].1 = None,
                    other => panic!("not for a trickle client: {other:?}"),
                });
            });
        }
        for since in served.iter().flat_map(|wait| [wait.0, wait.1]).flatten() {
            slowest = slowest.max(usize::from(round - since));
            assert!(slowest <= PATIENCE, "{slowest} turns without an answer");
        }
    }
    assert!(deliveries > 2 * CROWD, "the crowd got {deliveries}");
}
