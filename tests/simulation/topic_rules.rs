//! Delayed topics and exclusive subscriptions across shards whose rings are nearly always full.
//!
//! Invariants worth naming: at no time two sessions have one exclusive filter; every request is
//! answered; every delayed message that was acknowledged comes once, not early, and in order.

use crate::directed::{connect, publish, send, turn as turn_one};
use crate::rig::{LineId, Rig, packets};
use corelane::base::{PacketId, Prng, Time};
use corelane::codec::{Packet, QoS, SubscribeOptions, SubscribeOut, UnsubscribeOut, Version};
use corelane::mesh::MeshSettings;
use corelane::shard::placement::Placement;
use corelane::shard::{Settings, Shard, TickBudget};
use std::collections::HashMap;

/// Rings that hold next to nothing.
fn narrow(random: &mut Prng) -> MeshSettings {
    let block_bytes = [256, 512][random.below(2)];
    MeshSettings {
        block_bytes,
        ring_blocks: 1 + random.below(2),
        pool_bytes: block_bytes * 2 * (2 + random.below(2)),
        reply_slots: 1 + random.below(2),
        attached_bytes: 1,
        crowd_deliveries: 1,
    }
}

fn settings(shards: usize, random: &mut Prng) -> Settings {
    // The placement by which `connect` finds its names.
    let mut settings = Settings::new(Placement::new(shards, [5, 6], 2));
    let targets = [1, 3, 4096][random.below(3)];
    let turn_bytes = [1, 300, 65_536][random.below(3)];
    settings.tick = TickBudget { targets, turn_bytes, crowd: [1, 2, 512][random.below(3)] };
    settings.limits.delayed_per_tick = [1, 3, 256][random.below(3)];
    settings.limits.wills_per_tick = [1, 256][random.below(2)];
    settings
}

const FILTERS: [&str; 4] = ["e/1", "e/+", "e/2/#", "f"];

/// What a client is waiting for.
struct Request {
    filter: usize,
    /// Packet identifier of the SUBSCRIBE that counts; `None`: it only gave the filter back.
    asked: Option<u16>,
    answers: usize,
}

struct Contender {
    line: LineId,
    has: [bool; FILTERS.len()],
    request: Option<Request>,
    patience: usize,
}

impl Contender {
    fn act(&mut self, rig: &mut Rig, random: &mut Prng) {
        let filter = random.below(FILTERS.len());
        let name = format!("$exclusive/{}", FILTERS[filter]);
        let mut bytes = Vec::new();
        // One step, or several without waiting for the answers between.
        let steps = [1, 1, 3, 4][random.below(4)];
        let mut asked = None;
        let mut asks = !self.has[filter];
        for id in 1..=steps {
            let packet_id = PacketId::new(id).expect("not zero");
            if asks {
                let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() };
                let filters = &[(&*name, options)];
                SubscribeOut { packet_id, subscription_id: None, filters }
                    .encode(Version::V311, &mut bytes);
            } else {
                UnsubscribeOut { packet_id, filters: &[&name] }.encode(Version::V311, &mut bytes);
            }
            asked = asks.then_some(id);
            asks = !asks;
        }
        // From here on somebody else may have it.
        self.has[filter] = false;
        self.request = Some(Request { filter, asked, answers: usize::from(steps) });
        self.patience = 5000;
        rig.send(self.line, &bytes);
    }
}

fn contend(seed: u64) {
    let mut random = Prng::new(seed);
    let shards = 2 + random.below(3);
    let mesh = narrow(&mut random);
    let mut rig = Rig::new(&settings(shards, &mut random), mesh);
    let mut name = 0;
    let mut contenders: Vec<Contender> = (0..2 * shards)
        .map(|n| Contender {
            line: connect(&mut rig, n % shards, &mut name, None),
            has: [false; FILTERS.len()],
            request: None,
            patience: 0,
        })
        .collect();
    let noise: Vec<LineId> =
        (0..shards).map(|home| connect(&mut rig, home, &mut name, None)).collect();
    for round in 0..600 {
        for contender in &mut contenders {
            if contender.request.is_none() && random.one_in(3) && round < 500 {
                contender.act(&mut rig, &mut random);
            }
        }
        for line in &noise {
            let topic = ["e/1", "e/2/x", "e/3", "f", "g/h"][random.below(5)];
            send(&mut rig, *line, &publish(topic, QoS::AtMostOnce, 0, &[b'x'; 90]));
        }
        let at = random.below(shards);
        turn(&mut rig, at, &mut contenders, seed);
    }
    for _ in 0..5000 {
        (0..shards).for_each(|at| turn(&mut rig, at, &mut contenders, seed));
        if contenders.iter().all(|contender| contender.request.is_none()) {
            break;
        }
    }
    rig.settle();
    let held: usize = contenders.iter().flat_map(|c| c.has).map(usize::from).sum();
    let given: usize = rig.shards.iter().map(Shard::exclusive_count).sum();
    assert_eq!(held, given, "seed {seed}: what is given is what somebody has");
    assert!(contenders.iter().all(|c| c.request.is_none()), "seed {seed}: no answer");
    for contender in &contenders {
        rig.hang_up(contender.line);
    }
    rig.settle();
    let given: usize = rig.shards.iter().map(Shard::exclusive_count).sum();
    assert_eq!(given, 0, "seed {seed}: the end of a session frees what it had");
}

fn turn(rig: &mut Rig, at: usize, contenders: &mut [Contender], seed: u64) {
    let mut answers = Vec::new();
    turn_one(rig, at, |line, bytes| {
        packets(bytes, Version::V311, |packet, _| match packet {
            Packet::Suback(suback) => {
                let granted = suback.reasons().all(|reason| !reason.is_error());
                answers.push((line, granted.then_some(suback.packet_id.get())));
            }
            Packet::Unsuback(_) => answers.push((line, None)),
            Packet::Publish(_) | Packet::Connack(_) => {}
            other => panic!("seed {seed}: {other:?}"),
        });
    });
    for (line, granted) in answers {
        let mine = contenders.iter().position(|c| c.line == line).expect("a contender");
        let request = contenders[mine].request.as_mut().expect("an answer to a request");
        let filter = request.filter;
        let counts = granted.is_some() && granted == request.asked;
        request.answers -= 1;
        if request.answers == 0 {
            contenders[mine].request = None;
        }
        if counts {
            let others = contenders.iter().filter(|other| other.has[filter]).count();
            assert_eq!(others, 0, "seed {seed}: two have {}", FILTERS[filter]);
            contenders[mine].has[filter] = true;
        }
    }
    for contender in contenders.iter_mut().filter(|c| c.request.is_some()) {
        contender.patience -= 1;
        assert!(contender.patience > 0, "seed {seed}: a request without an answer");
    }
}

#[test]
fn an_exclusive_filter_has_one_holder_whatever_overtakes_what() {
    (0..150).for_each(contend);
}

/// Messages of one publisher to one topic under one delay, by what they carry.
const ROUNDS: u16 = 40;

fn delay(seed: u64) {
    let mut random = Prng::new(seed);
    let shards = 1 + random.below(4);
    let mesh = narrow(&mut random);
    let mut rig = Rig::new(&settings(shards, &mut random), mesh);
    let mut name = 0;
    connect(&mut rig, shards - 1, &mut name, Some(("d/#", QoS::AtMostOnce)));
    let lines: Vec<LineId> =
        (0..shards).map(|home| connect(&mut rig, home, &mut name, None)).collect();
    rig.settle();
    rig.each_news(|_, _| {});
    let start = rig.now;
    let mut acknowledged = 0;
    let mut seen = |_: LineId, bytes: &[u8]| {
        packets(bytes, Version::V311, |packet, _| match packet {
            Packet::Puback(_) => acknowledged += 1,
            other => panic!("seed {seed}: early: {other:?}"),
        });
    };
    for n in 0..ROUNDS {
        for (at, line) in lines.iter().enumerate() {
            let seconds = 60 + 60 * (n % 3);
            let topic = format!("$delayed/{seconds}/d/{}/x", (n / 3) % 4);
            let payload = format!("{at} {n}");
            rig.send(*line, &publish(&topic, QoS::AtLeastOnce, n + 1, payload.as_bytes()));
        }
        let at = random.below(shards);
        turn_one(&mut rig, at, &mut seen);
    }
    rig.settle();
    rig.each_news(&mut seen);
    let total = usize::from(ROUNDS) * shards;
    let held = |rig: &Rig| rig.shards.iter().map(Shard::delayed_count).sum::<usize>();
    assert_eq!((acknowledged, held(&rig)), (total, total), "seed {seed}: held and acknowledged");
    let mut last: HashMap<(String, String, u16), u16> = HashMap::new();
    let mut count = 0;
    for minute in 1..=3u16 {
        // Sleep for as long as the shards say.
        let wake = rig.shards.iter().map(Shard::next_deadline).min().expect("a shard");
        let due = start.plus_secs(60 * u64::from(minute));
        assert!(wake > rig.now && wake < due.plus_secs(2), "seed {seed}: {wake:?}, {due:?}");
        rig.now = Time(wake.0.max(due.plus_secs(2).0));
        rig.settle();
        rig.each_news(|_, bytes| {
            packets(bytes, Version::V311, |packet, _| {
                let Packet::Publish(publish) = packet else { return };
                let payload = std::str::from_utf8(publish.payload).expect("text");
                let (from, n) = payload.split_once(' ').expect("two words");
                let n: u16 = n.parse().expect("a number");
                assert_eq!(n % 3 + 1, minute, "seed {seed}: not in its time");
                let place = (from.to_owned(), publish.topic.to_owned(), n % 3);
                let before = last.insert(place, n);
                assert!(before.is_none_or(|before| before < n), "seed {seed}: out of order");
                count += 1;
            });
        });
    }
    assert_eq!((count, held(&rig)), (total, 0), "seed {seed}: each came once");
}

#[test]
fn delayed_messages_come_once_in_their_time_and_in_order() {
    (0..150).for_each(delay);
}
