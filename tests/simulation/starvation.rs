//! Nobody starves: a client that publishes one small QoS 0 and one small QoS 1 message per 100 ms
//! of virtual time, with subscribers on its own shard and on another one, beside a flood, a crowd
//! of 100,000, payloads of 1 MiB, replays of all that is retained, and a storm of connects.
//!
//! Patience is counted in turns and follows from the budgets, see [`Patience`]: a message waits
//! for the rotation of the sources in front of it, for what stands in its two lanes, and for the
//! two hops.
//!
//! Invariants worth naming: input comes before the trickle client's in each turn, and nothing of
//! it refreshes the turn's budgets.

use crate::directed::{connect, publish};
use crate::rig::{LineId, Rig, packets};
use corelane::base::{ShardId, Time};
use corelane::codec::{self, ConnectOut, Packet, PacketType, PublishOut, QoS, ReasonCode, Version};
use corelane::mesh::MeshSettings;
use corelane::shard::placement::{Placement, Rule};
use corelane::shard::{Settings, TickBudget};

const SHARDS: usize = 4;
/// The shard that owns what presses, the one where the trickle client lives, and another one.
const OWNER: usize = 0;
const HOME: usize = 1;
const FAR: usize = 2;
/// Virtual time of a turn, and turns between two pairs of small messages.
const TURN_US: u64 = 5_000;
const TRICKLE: usize = 20;
/// Turns of every shard in each test.
const ROUNDS: usize = 200;
/// Blocks of a lane that are served in one turn of it; the shard's own constant.
const LANE_BLOCKS: usize = 4;

/// A rig in which [`OWNER`] owns what presses and `calm` what the trickle client publishes.
fn rig(calm: usize) -> Rig {
    let owner = |prefix, shard: usize| Rule::new(prefix, ShardId(shard as u8));
    let mut pins: Vec<_> = ["flood", "large", "kept"].map(|prefix| owner(prefix, OWNER)).into();
    pins.extend([owner("crowd", OWNER), owner("crowd/far", FAR), owner("calm", calm)]);
    let placement = Placement::new(SHARDS, [5, 6], 2).with_rules(vec![], pins, vec![]);
    Rig::new(&Settings::new(placement), MeshSettings::default())
}

fn settle(rig: &mut Rig) {
    rig.settle();
    rig.each_news(|_, _| {});
}

/// What presses, as far as it decides how long others wait.
struct Patience {
    /// Connections of the trickle client's shard that always have something to send.
    rivals: usize,
    /// Bytes of one of their messages in a block, and subscribers of it on one shard.
    bytes: usize,
    targets: usize,
}

impl Patience {
    /// A turn at home, one at the owner and one at the subscriber's home, where nothing presses.
    const HOPS: usize = 3;

    /// Turns after which a small message must have arrived.
    fn turns(&self) -> usize {
        let (tick, mesh) = (TickBudget::default(), MeshSettings::default());
        // Where all that wait use up their turns, so many of them are served in one tick.
        let per_turn = (tick.turn_bytes / self.bytes).max(1) * self.targets;
        let served = (tick.targets / per_turn.max(1)).max(1);
        // The owner's sources: its connections are one, each lane is one.
        let rotation = SHARDS.div_ceil(served);
        // One turn of the lane makes room for one turn of a connection.
        let at_home = self.rivals * rotation;
        // A ring, the block that is written and the one that is read.
        let blocks = mesh.ring_blocks + 2;
        let to_owner = blocks.div_ceil(LANE_BLOCKS) * rotation;
        let entries = blocks * (mesh.block_bytes / self.bytes).max(1);
        let from_owner = (entries * self.targets).div_ceil(tick.targets);
        Patience::HOPS + at_home + to_owner + from_owner
    }
}

/// The trickle client, its subscribers on its own shard and on another one, and what they owe.
struct Trickle {
    sender: LineId,
    readers: [LineId; 2],
    /// Round, QoS and reader of what was sent and has not arrived.
    pending: Vec<(usize, QoS, usize)>,
    acks: [Vec<u8>; 2],
    arrived: usize,
    now: usize,
    slowest: usize,
}

impl Trickle {
    fn new(rig: &mut Rig, name: &mut usize) -> Trickle {
        let sender = connect(rig, HOME, name, None);
        let filter = Some(("calm/#", QoS::AtLeastOnce));
        let readers = [HOME, FAR].map(|home| connect(rig, home, name, filter));
        settle(rig);
        let (pending, acks) = Default::default();
        Trickle { sender, readers, pending, acks, arrived: 0, now: 0, slowest: 0 }
    }

    /// What its clients of shard `at` send in this round.
    fn speak(&mut self, rig: &mut Rig, at: usize, round: usize) {
        for (reader, home) in [HOME, FAR].into_iter().enumerate() {
            if home == at && !self.acks[reader].is_empty() {
                rig.feed(self.readers[reader], &std::mem::take(&mut self.acks[reader]));
            }
        }
        if at == HOME && round.is_multiple_of(TRICKLE) {
            let (id, text) = ((round / TRICKLE + 1) as u16, round.to_string());
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                rig.feed(self.sender, &publish("calm/x", qos, id, text.as_bytes()));
                self.pending.extend([0, 1].map(|reader| (round, qos, reader)));
            }
        }
    }

    /// Takes what a client got.
    fn hear(&mut self, line: LineId, bytes: &[u8]) {
        let Some(reader) = self.readers.iter().position(|own| *own == line) else { return };
        packets(bytes, Version::V311, |packet, _| {
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            let text = std::str::from_utf8(publish.payload).expect("digits");
            let message = (text.parse().expect("a round"), publish.qos, reader);
            let at = self.pending.iter().position(|sent| *sent == message);
            self.pending.swap_remove(at.unwrap_or_else(|| panic!("{message:?} was not sent")));
            self.arrived += 1;
            self.slowest = self.slowest.max(self.now + 1 - message.0);
            if let Some(id) = publish.packet_id {
                let (kind, version, reason) =
                    (PacketType::Puback, Version::V311, ReasonCode::SUCCESS);
                codec::encode_ack(kind, version, id, reason, None, &mut self.acks[reader]);
            }
        });
    }

    /// [`ROUNDS`] turns of every shard. In each turn the input of `press` comes first; every small
    /// message must arrive within `patience` turns.
    fn endure(
        mut self,
        rig: &mut Rig,
        patience: usize,
        mut press: impl FnMut(&mut Rig, usize, usize),
    ) {
        assert!(patience < ROUNDS / 4, "{patience} turns leave too few messages to see");
        for round in 0..ROUNDS {
            (self.now, rig.now) = (round, Time(rig.now.0 + TURN_US));
            for ahead in 0..SHARDS {
                let at = (round + ahead) % SHARDS;
                rig.shards[at].begin(rig.now);
                press(rig, at, round);
                if round + patience < ROUNDS {
                    self.speak(rig, at, round);
                }
                rig.turn(at);
                rig.each_news(|line, bytes| self.hear(line, bytes));
            }
            for (sent, qos, reader) in &self.pending {
                let turns = round + 1 - sent;
                assert!(turns < patience, "{turns} turns and no {qos:?} for reader {reader}");
            }
        }
        println!("the slowest of {} took {} of {patience} turns", self.arrived, self.slowest);
        assert_eq!(self.pending, []);
        assert_eq!(self.arrived, (ROUNDS - patience).div_ceil(TRICKLE) * 4);
    }
}

/// What one client can send in a turn: so many pieces of a receive buffer's size.
const PIECES: usize = 64;

fn flood(rig: &mut Rig, line: LineId, piece: &[u8]) {
    for _ in 0..PIECES {
        if !rig.is_read(line) {
            return;
        }
        rig.feed(line, piece);
    }
}

/// Homes of what presses: two on the trickle client's own shard.
const RIVALS: [usize; 4] = [HOME, OWNER, FAR, HOME];

#[test]
fn beside_a_flood() {
    const TARGETS: usize = 4;
    for calm in [OWNER, HOME, FAR] {
        let mut rig = rig(calm);
        let mut name = 0;
        for at in 0..SHARDS * TARGETS {
            connect(&mut rig, at % SHARDS, &mut name, Some(("flood/#", QoS::AtMostOnce)));
        }
        let flooders = RIVALS.map(|home| connect(&mut rig, home, &mut name, None));
        let trickle = Trickle::new(&mut rig, &mut name);
        let (payload, topic) = ([7; 64], "flood/x");
        let message = publish(topic, QoS::AtMostOnce, 0, &payload);
        let piece = message.repeat(4096 / message.len());
        let bytes = payload.len() + topic.len();
        let patience = Patience { rivals: 2, bytes, targets: TARGETS }.turns();
        trickle.endure(&mut rig, patience, |rig, at, _| {
            let own = flooders.iter().zip(RIVALS).filter(|(_, home)| *home == at);
            own.for_each(|(line, _)| flood(rig, *line, &piece));
        });
        for at in [OWNER, HOME, FAR] {
            let stalls = rig.shards[at].counters().stalls;
            assert!(stalls > 100, "shard {at} was never short of anything: {stalls} stalls");
        }
    }
}

/// Sessions that subscribe to one tree, over all shards.
const CROWD: usize = 100_000;

/// A rig with a crowd, and who publishes to it.
fn crowd(calm: usize, name: &mut usize, homes: &[usize]) -> (Rig, Vec<LineId>) {
    let mut rig = rig(calm);
    for at in 0..CROWD {
        connect(&mut rig, at % SHARDS, name, Some(("crowd/#", QoS::AtMostOnce)));
        if at % 1000 == 999 {
            settle(&mut rig);
        }
    }
    let publishers = homes.iter().map(|home| connect(&mut rig, *home, name, None)).collect();
    (rig, publishers)
}

fn delivered(rig: &Rig) -> u64 {
    rig.shards.iter().map(|shard| shard.counters().deliveries).sum()
}

/// Fan-outs begin just before every other pair of small messages: one at each of two owners, or as
/// many at one owner as may be under way there. Small messages pass them.
#[test]
fn beside_a_crowd() {
    let apart = vec![(HOME, "crowd/near".to_owned()), (FAR, "crowd/far".to_owned())];
    let together = (0..8).map(|number| (FAR, format!("crowd/far/{number}"))).collect();
    for (calm, begins) in [(OWNER, apart), (FAR, together)] {
        let mut name = 0;
        let homes: Vec<usize> = begins.iter().map(|(home, _)| *home).collect();
        let (mut rig, publishers) = crowd(calm, &mut name, &homes);
        let trickle = Trickle::new(&mut rig, &mut name);
        let before = delivered(&rig);
        trickle.endure(&mut rig, Patience::HOPS, |rig, at, round| {
            for (line, (home, topic)) in publishers.iter().zip(&begins) {
                if *home == at && round % (2 * TRICKLE) == TRICKLE - 2 {
                    rig.feed(*line, &publish(topic, QoS::AtMostOnce, 0, b"to all"));
                }
            }
        });
        // The last ones need not have come to their end.
        let fan_outs = begins.len() * (ROUNDS / (2 * TRICKLE) - 1);
        assert!(delivered(&rig) - before > (fan_outs * CROWD) as u64);
    }
}

/// Long fan-outs that an owner has under way at a time; the shard's own constant.
const LONG_FANOUTS: usize = 8;

/// Forty publishers to ten topics, all owned by one core, and each of their messages takes every
/// core several turns. What the trickle client publishes is owned by another core, or by that one:
/// then its messages stand behind one for the crowd in the lane to the owner, which waits for its
/// source's turn and for a place among the long fan-outs.
#[test]
fn beside_more_fan_out_than_can_be_served() {
    let served = LONG_FANOUTS + SHARDS;
    let long = (served * CROWD / SHARDS).div_ceil(TickBudget::default().targets);
    for (calm, wait) in [(HOME, 0), (FAR, 0), (OWNER, long)] {
        let mut name = 0;
        let homes = RIVALS.repeat(10);
        let (mut rig, publishers) = crowd(calm, &mut name, &homes);
        let trickle = Trickle::new(&mut rig, &mut name);
        trickle.endure(&mut rig, Patience::HOPS + wait, |rig, at, _| {
            for (number, (line, home)) in publishers.iter().zip(&homes).enumerate() {
                if *home == at && rig.is_read(*line) {
                    let topic = format!("crowd/{}", number % 10);
                    rig.feed(*line, &publish(&topic, QoS::AtMostOnce, 0, b"to all"));
                }
            }
        });
        assert!(rig.shards[OWNER].waiting_count() > 0, "everything was served");
    }
}

/// Fan-outs that each fit into a turn, but more of them than a core can serve: what stands in the
/// lanes is bounded by what it costs, so nobody waits for a lane full of them.
#[test]
fn beside_more_small_fan_outs_than_can_be_served() {
    const PLACES: usize = 512;
    for calm in [HOME, FAR, OWNER] {
        let mut rig = rig(calm);
        let mut name = 0;
        let piece = publish("flood/x", QoS::AtMostOnce, 0, b"to many").repeat(100);
        // They know their topic from before the crowd came.
        let flooders = RIVALS.map(|home| connect(&mut rig, home, &mut name, None));
        flooders.iter().for_each(|line| rig.feed(*line, &piece));
        for at in 0..SHARDS * PLACES {
            connect(&mut rig, at % SHARDS, &mut name, Some(("flood/#", QoS::AtMostOnce)));
        }
        settle(&mut rig);
        let trickle = Trickle::new(&mut rig, &mut name);
        let (tick, mesh) = (TickBudget::default(), MeshSettings::default());
        // What a lane has under way, and the block that is read.
        let lane = mesh.crowd_deliveries.div_ceil(tick.targets) + 1;
        // One turn of each source of the owner, and the lanes to it and from it.
        let patience = Patience::HOPS + lane * (SHARDS + 2);
        trickle.endure(&mut rig, patience, |rig, at, _| {
            let own = flooders.iter().zip(RIVALS).filter(|(_, home)| *home == at);
            own.for_each(|(line, _)| flood(rig, *line, &piece));
        });
        assert!(rig.shards[OWNER].waiting_count() > 0, "everything was served");
    }
}

#[test]
fn beside_large_payloads_to_fast_and_slow_readers() {
    // With its topic and header the largest packet that is let in.
    const PAYLOAD: usize = (1 << 20) - 64;
    for calm in [OWNER, HOME] {
        let mut rig = rig(calm);
        let mut name = 0;
        let readers = [HOME, FAR, HOME, FAR]
            .map(|home| connect(&mut rig, home, &mut name, Some(("large/#", QoS::AtMostOnce))));
        let publishers = RIVALS.map(|home| connect(&mut rig, home, &mut name, None));
        let trickle = Trickle::new(&mut rig, &mut name);
        readers[2..].iter().for_each(|reader| rig.lines[*reader].deaf = true);
        let message = publish("large/x", QoS::AtMostOnce, 0, &vec![7; PAYLOAD]);
        let mut sent = [0; RIVALS.len()];
        // One message is one entry, and a lane carries few of them at a time.
        let patience = Patience { rivals: 2, bytes: PAYLOAD, targets: 2 }.turns();
        trickle.endure(&mut rig, patience, |rig, at, _| {
            for (number, line) in publishers.iter().enumerate().filter(|(n, _)| RIVALS[*n] == at) {
                // A quarter of a payload arrives in each turn.
                let until = (sent[number] + PAYLOAD / 4).min(message.len());
                for piece in message[sent[number]..until].chunks(4096) {
                    if rig.is_read(*line) {
                        rig.feed(*line, piece);
                        sent[number] += piece.len();
                    }
                }
                sent[number] %= message.len();
            }
        });
        let received: u64 = rig.shards.iter().map(|shard| shard.counters().bytes_sent).sum();
        assert!(received > (50 * PAYLOAD) as u64, "the fast readers got {received} bytes");
        assert!(readers.iter().all(|line| !rig.lines[*line].closed));
    }
}

#[test]
fn beside_replays_of_all_that_is_retained() {
    const KEPT: usize = 20_000;
    const REPLAYS: usize = 20;
    for calm in [OWNER, HOME] {
        let mut rig = rig(calm);
        let mut name = 0;
        let keeper = connect(&mut rig, OWNER, &mut name, None);
        for number in 0..KEPT {
            let (topic, mut bytes) = (format!("kept/{number}"), Vec::new());
            PublishOut { retain: true, topic: &topic, payload: b"kept", ..PublishOut::default() }
                .encode(Version::V311, &mut bytes);
            rig.send(keeper, &bytes);
        }
        settle(&mut rig);
        let trickle = Trickle::new(&mut rig, &mut name);
        // Nothing of a replay counts as a target, so each lane is empty after each turn.
        trickle.endure(&mut rig, Patience::HOPS, |rig, at, round| {
            if round % (2 * TRICKLE) == 0 && (at == HOME || at == FAR) {
                for _ in 0..REPLAYS {
                    connect(rig, at, &mut name, Some(("#", QoS::AtMostOnce)));
                }
            }
        });
        let replayed: u64 = rig.shards.iter().map(|s| s.counters().retained_replayed).sum();
        assert!(replayed > 10 * KEPT as u64, "{replayed} retained messages");
    }
}

#[test]
fn beside_a_storm_of_connects() {
    const PER_TURN: usize = 100;
    const NAMES: usize = 20_000;
    for calm in [OWNER, HOME] {
        let mut rig = rig(calm);
        let mut name = 0;
        let trickle = Trickle::new(&mut rig, &mut name);
        let mut next = 0;
        // The hand-overs of a turn fit into the blocks that one turn serves.
        trickle.endure(&mut rig, Patience::HOPS, |rig, at, _| {
            for _ in 0..PER_TURN {
                // Most live elsewhere, and from the second time on somebody has that name.
                let client_id = format!("storm-{}", next % NAMES);
                next += 1;
                let mut bytes = Vec::new();
                ConnectOut {
                    version: Version::V311,
                    client_id: &client_id,
                    ..ConnectOut::default()
                }
                .encode(&mut bytes);
                rig.open(at, &bytes);
            }
        });
        let taken_over: u64 = rig.shards.iter().map(|shard| shard.counters().taken_over).sum();
        assert!(taken_over as usize > NAMES, "{taken_over} connections were taken over");
    }
}
