//! Directed tests under virtual time: that no source starves another on the way to a full lane,
//! and that a huge fan-out leaves everybody else served.

use crate::rig::{LineId, Rig, packets};
use corelane::base::{PacketId, ShardId, Time};
use corelane::codec::{
    self, ConnectOut, Packet, PublishOut, QoS, SubscribeOptions, SubscribeOut, Version,
};
use corelane::mesh::MeshSettings;
use corelane::shard::placement::{Placement, Rule};
use corelane::shard::{Settings, TickBudget};

/// `count` shards; shard 0 owns everything below `fan`, the last one everything below `other`.
fn rig(count: usize, mesh: MeshSettings, tick: TickBudget) -> Rig {
    let pins = vec![Rule::new("fan", ShardId(0)), Rule::new("other", ShardId(count as u8 - 1))];
    let placement = Placement::new(count, [5, 6], 2).with_rules(vec![], pins, vec![]);
    let mut settings = Settings::new(placement);
    settings.tick = tick;
    Rig::new(&settings, mesh)
}

/// Connects a client whose home is `home`, by the first fitting name at or after `name`.
pub fn connect(
    rig: &mut Rig,
    home: usize,
    name: &mut usize,
    filter: Option<(&str, QoS)>,
) -> LineId {
    // Homes don't depend on the pins of topics.
    let placement = Placement::new(rig.shards.len(), [5, 6], 2);
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
    rig.open(home, &bytes)
}

/// One turn of one shard; `output` gets all that is sent.
pub fn turn(rig: &mut Rig, at: usize, output: impl FnMut(LineId, &[u8])) {
    rig.now = Time(rig.now.0 + 50);
    rig.turn(at);
    rig.each_news(output);
}

/// What a client that writes all the time sends, unless its reading is paused.
pub fn send(rig: &mut Rig, line: LineId, bytes: &[u8]) {
    if rig.is_read(line) {
        rig.send(line, bytes);
    }
}

/// Everything comes to rest, and what clients got so far is of no interest.
fn settle(rig: &mut Rig) {
    rig.settle();
    rig.each_news(|_, _| {});
}

pub fn publish(topic: &str, qos: QoS, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let packet_id = PacketId::new(id).filter(|_| qos > QoS::AtMostOnce);
    let out = PublishOut { qos, topic, packet_id, payload, ..PublishOut::default() };
    out.encode(Version::V311, &mut bytes);
    bytes
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
    let mut rig = rig(4, mesh, TickBudget { targets: 4096, turn_bytes: 4096, crowd: 512 });
    let mut name = 0;
    connect(&mut rig, 1, &mut name, Some(("fan/#", QoS::AtMostOnce)));
    // Two local publishers share the turns of one source.
    let homes = [0, 0, 2, 3];
    let publishers = homes.map(|home| connect(&mut rig, home, &mut name, None));
    settle(&mut rig);
    let messages: Vec<Vec<u8>> = (0..homes.len())
        .map(|at| {
            publish("fan/x", QoS::AtMostOnce, 0, format!("{at}{:080}", 0).as_bytes()).repeat(10)
        })
        .collect();
    let mut received = [0u32; 4];
    for round in 0..4000 {
        for (publisher, bytes) in publishers.iter().zip(&messages) {
            send(&mut rig, *publisher, bytes);
        }
        for at in [0, 2, 3] {
            turn(&mut rig, at, |_, _| {});
        }
        // The receiver of the lane is slower than its senders.
        if round % 3 == 0 {
            turn(&mut rig, 1, |_, bytes| {
                packets(bytes, Version::V311, |packet, _| {
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
    let mut rig = rig(2, MeshSettings::default(), TickBudget::default());
    let mut name = 0;
    for at in 0..CROWD {
        connect(&mut rig, at % 2, &mut name, Some(("fan/x", QoS::AtMostOnce)));
        if at % 1000 == 999 {
            settle(&mut rig);
        }
    }
    let publishers = [0, 1].map(|home| connect(&mut rig, home, &mut name, None));
    let trickles = [0, 1].map(|home| connect(&mut rig, home, &mut name, None));
    settle(&mut rig);
    let message = publish("fan/x", QoS::AtMostOnce, 0, b"to all");
    let mut deliveries = 0;
    let mut served = [(None, None); 2];
    let mut slowest = 0;
    for round in 0..200u16 {
        if round % 4 == 0 {
            publishers.iter().for_each(|publisher| send(&mut rig, *publisher, &message));
        }
        for (trickle, wait) in trickles.iter().zip(&mut served) {
            if *wait == (None, None) {
                let mut bytes = publish("other/y", QoS::AtLeastOnce, round + 1, b"one");
                codec::encode_pingreq(&mut bytes);
                send(&mut rig, *trickle, &bytes);
                *wait = (Some(round), Some(round));
            }
        }
        for at in 0..2 {
            turn(&mut rig, at, |peer, bytes| {
                let Some(trickle) = trickles.iter().position(|own| *own == peer) else {
                    deliveries += 1;
                    return;
                };
                packets(bytes, Version::V311, |packet, _| match packet {
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
    assert!(rig.lines.iter().all(|line| !line.closed));
    assert!(deliveries > 2 * CROWD, "the crowd got {deliveries}");
}
