//! Storms: many clients at once over two shards, judged by what they get and by how many turns it
//! takes, never by a clock.

use crate::rig::{LineId, Rig, packets};
use corelane::base::PacketId;
use corelane::codec::{
    self, ConnectOut, ConnectProperties, Packet, PacketType, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, Version,
};
use corelane::mesh::MeshSettings;
use corelane::shard::placement::Placement;
use corelane::shard::{Inventory, Settings};
use std::collections::VecDeque;
use std::num::NonZeroU16;

/// Seconds that sessions outlive their connections.
const EXPIRY_S: u32 = 1000;

fn storm_settings() -> Settings {
    let mut settings = Settings::new(Placement::new(2, [3, 9], 2));
    settings.session.v3_expiry_s = EXPIRY_S;
    settings
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("identifiers are not zero")
}

fn version_of(client: usize) -> Version {
    if client.is_multiple_of(2) { Version::V5 } else { Version::V311 }
}

fn connect(client: usize, clean_start: bool, receive_maximum: u16) -> Vec<u8> {
    let properties = ConnectProperties {
        session_expiry: Some(EXPIRY_S),
        receive_maximum: NonZeroU16::new(receive_maximum),
        ..ConnectProperties::default()
    };
    let (version, client_id) = (version_of(client), &*format!("client-{client}"));
    let mut bytes = Vec::new();
    ConnectOut { version, client_id, clean_start, properties, ..ConnectOut::default() }
        .encode(&mut bytes);
    bytes
}

fn subscribe(client: usize, filter: &str, out: &mut Vec<u8>) {
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let filters = &[(filter, options)];
    SubscribeOut { packet_id: id(1), subscription_id: None, filters }
        .encode(version_of(client), out);
}

fn publish(client: usize, topic: &str, (n, retain): (u16, bool), payload: &[u8]) -> Vec<u8> {
    let (qos, packet_id) = (QoS::AtLeastOnce, Some(id(n)));
    let mut bytes = Vec::new();
    PublishOut { qos, retain, topic, packet_id, payload, ..PublishOut::default() }
        .encode(version_of(client), &mut bytes);
    bytes
}

fn sum(rig: &Rig, of: impl Fn(&Inventory) -> usize) -> usize {
    rig.shards.iter().map(|shard| of(&shard.inventory())).sum()
}

/// All lines end, all sessions expire, and nothing is left.
fn end(rig: &mut Rig) {
    for line in 0..rig.lines.len() {
        rig.hang_up(line);
    }
    rig.settle();
    for _ in 0..3 {
        rig.wait_us(u64::from(EXPIRY_S) * 2_000_000);
    }
    for shard in &rig.shards {
        let (left, retained) = (shard.inventory(), shard.retained_count());
        assert_eq!(left, Inventory { retained, ..Inventory::default() });
        assert_eq!(left.unaccounted(shard.counters()), 0);
        assert!(retained > 0 || shard.held_bytes() == 0, "{} bytes", shard.held_bytes());
    }
}

/// Clients of the storm of connections, and how many arrive between two turns.
const CROWD: usize = 20_000;
const BURST: usize = 4_000;

/// What the client of a new line was told: whether its session was there.
fn told(rig: &mut Rig, line: LineId, client: usize) -> bool {
    let mut present = None;
    packets(&rig.got(line), version_of(client), |packet, _| match packet {
        Packet::Connack(connack) => {
            assert_eq!(connack.reason, ReasonCode::SUCCESS);
            assert_eq!(present.replace(connack.session_present), None, "one CONNACK");
        }
        other => panic!("{other:?} for client {client}"),
    });
    present.unwrap_or_else(|| panic!("client {client} got no CONNACK"))
}

/// The highest slot in use by a connection of any shard.
fn highest_slot(rig: &Rig) -> u32 {
    let keys = rig.lines.iter().filter_map(|line| line.place);
    keys.map(|(_, key)| key.index()).max().unwrap_or(0)
}

#[test]
fn twenty_thousand_connect_and_half_of_them_again() {
    let mut rig = Rig::new(&storm_settings(), MeshSettings::default());
    let mut current: Vec<LineId> = Vec::new();
    for client in 0..CROWD {
        current.push(rig.open(client / 2 % 2, &connect(client, client % 2 == 0, 10)));
        if client % BURST == 0 {
            rig.turn_all();
        }
    }
    rig.settle();
    for (client, line) in current.iter().enumerate() {
        assert!(!told(&mut rig, *line, client), "a new session");
    }
    let at_home = sum(&rig, |inventory| inventory.connections);
    assert_eq!((at_home, sum(&rig, |inventory| inventory.sessions)), (CROWD, CROWD));

    // Half come again at the other shard while their first connection stands, every eighth twice
    // in one burst.
    let mut replaced = Vec::new();
    for client in (0..CROWD).filter(|client| client % 4 < 2) {
        let clean = client % 6 == 0;
        for _ in 0..if client % 16 == 0 { 2 } else { 1 } {
            let new = rig.open((client / 2 + 1) % 2, &connect(client, clean, 10));
            replaced.push((client, std::mem::replace(&mut current[client], new)));
        }
        if client % BURST == 0 {
            rig.turn_all();
        }
    }
    rig.settle();
    let count = |rig: &Rig, of: fn(&corelane::shard::Counters) -> u64| -> usize {
        rig.shards.iter().map(|shard| of(shard.counters())).sum::<u64>() as usize
    };
    assert_eq!(count(&rig, |counters| counters.taken_over), replaced.len());
    for (client, line) in &replaced {
        assert!(rig.lines[*line].closed, "one connection of client {client}");
        let mut farewell = None;
        packets(&rig.got(*line), version_of(*client), |packet, _| match packet {
            Packet::Connack(_) => {}
            Packet::Disconnect(disconnect) => farewell = Some(disconnect.reason),
            other => panic!("{other:?} for client {client}"),
        });
        let expected = (client % 2 == 0).then_some(ReasonCode::SESSION_TAKEN_OVER);
        assert_eq!(farewell, expected, "client {client}");
    }
    for (client, line) in current.iter().enumerate().filter(|(client, _)| client % 4 < 2) {
        assert!(!rig.lines[*line].closed, "the newest connection of client {client} stays");
        assert_eq!(told(&mut rig, *line, client), client % 6 != 0, "client {client}");
    }
    let at_home = sum(&rig, |inventory| inventory.connections);
    assert_eq!((at_home, sum(&rig, |inventory| inventory.sessions)), (CROWD, CROWD));
    let slots = highest_slot(&rig);
    assert!((slots as usize) < CROWD / 2 + 2 * BURST, "slot {slots} in use");
    end(&mut rig);
}

/// Sessions of the storm of resumptions, what waits for each of them, and how many come at once.
const SESSIONS: usize = 10_000;
const QUEUED: u32 = 100;
const WAVE: usize = 2_500;

/// Bytes of one message and of one encoded packet at most.
const PACKET_BYTES: usize = 100;

/// A session that takes what waits for it.
struct Resumer {
    client: usize,
    line: LineId,
    /// Serial of the next message that it has not seen.
    next: u32,
    /// Seen and not acknowledged, oldest first: identifier and serial.
    open: VecDeque<(PacketId, u32)>,
    /// How many of `open` must still come again.
    again: usize,
    /// Loses its connection once, in the middle.
    breaks: bool,
}

impl Resumer {
    fn receive_maximum(&self) -> u16 {
        1 + (self.client / 2 % 7) as u16
    }

    /// Takes what has arrived; the acknowledgements that it sends, or nothing when it breaks.
    fn read(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let version = version_of(self.client);
        packets(bytes, version, |packet, len| match packet {
            Packet::Connack(connack) => assert!(connack.session_present),
            Packet::Publish(publish) => {
                assert!(len <= PACKET_BYTES);
                let id = publish.packet_id.expect("QoS 1");
                let serial = u32::from_be_bytes(publish.payload[..4].try_into().expect("four"));
                assert_eq!(publish.dup, self.again > 0, "client {} {serial}", self.client);
                if self.again > 0 {
                    let expected = self.open[self.open.len() - self.again];
                    assert_eq!((id, serial), expected, "as before, in the order of before");
                    self.again -= 1;
                    return;
                }
                assert_eq!(serial, self.next, "client {}", self.client);
                self.next += 1;
                self.open.push_back((id, serial));
            }
            other => panic!("{other:?} for client {}", self.client),
        });
        if version == Version::V5 {
            assert!(self.open.len() <= usize::from(self.receive_maximum()), "{}", self.open.len());
        }
        if self.breaks && self.next > QUEUED / 2 {
            self.breaks = false;
            return None;
        }
        let mut acks = Vec::new();
        if self.again == 0 {
            for (id, _) in self.open.drain(..) {
                codec::encode_ack(PacketType::Puback, version, id, ReasonCode(0), None, &mut acks);
            }
        }
        Some(acks)
    }

    fn connect(&mut self, rig: &mut Rig) {
        let bytes = connect(self.client, false, self.receive_maximum());
        self.line = rig.open(self.client / 4 % 2, &bytes);
        self.again = self.open.len();
    }
}

/// Sessions that subscribe to `news` and go, and what is then published for them.
fn queue_for_absent(rig: &mut Rig) {
    for client in 0..SESSIONS {
        let mut bytes = connect(client, client % 2 == 0, 10);
        subscribe(client, "news/#", &mut bytes);
        rig.open(client % 2, &bytes);
        if client % BURST == 0 {
            rig.turn_all();
        }
    }
    rig.settle();
    for line in 0..rig.lines.len() {
        rig.hang_up(line);
    }
    rig.settle();
    assert_eq!(sum(rig, |inventory| inventory.connections), 0);
    let publisher = rig.open(0, &connect(SESSIONS, true, 10));
    rig.settle();
    rig.got(publisher);
    for serial in 0..QUEUED {
        let mut payload = [0; 40];
        payload[..4].copy_from_slice(&serial.to_be_bytes());
        rig.send(publisher, &publish(SESSIONS, "news/today", (1, false), &payload));
        rig.settle();
        assert_eq!(rig.got(publisher)[0] >> 4, PacketType::Puback as u8);
    }
    rig.hang_up(publisher);
    rig.settle();
}

#[test]
fn ten_thousand_sessions_resume_with_a_hundred_messages_each() {
    let mut rig = Rig::new(&storm_settings(), MeshSettings::default());
    let held = |rig: &Rig| -> usize { rig.shards.iter().map(|shard| shard.held_bytes()).sum() };
    queue_for_absent(&mut rig);
    assert_eq!(sum(&rig, |inventory| inventory.queued), SESSIONS * QUEUED as usize);
    let stored = held(&rig);
    let mut heaviest = 0;
    for first in (0..SESSIONS).step_by(WAVE) {
        let mut wave: Vec<Resumer> = (first..first + WAVE)
            .map(|client| Resumer {
                client,
                line: 0,
                next: 0,
                open: VecDeque::new(),
                again: 0,
                breaks: client % 3 == 0,
            })
            .collect();
        let begin = rig.lines.len();
        let mut resumers: Vec<usize> = Vec::new();
        for (at, resumer) in wave.iter_mut().enumerate() {
            resumer.connect(&mut rig);
            resumers.push(at);
        }
        rig.news.clear();
        let mut turns = 0;
        while rig.turn_all() || !rig.news.is_empty() {
            turns += 1;
            heaviest = heaviest.max(held(&rig));
            for line in std::mem::take(&mut rig.news) {
                let resumer = &mut wave[resumers[line - begin]];
                let bytes = rig.got(line);
                if line != resumer.line || bytes.is_empty() {
                    continue;
                }
                match resumer.read(&bytes) {
                    Some(acks) if acks.is_empty() => {}
                    Some(acks) => rig.send(line, &acks),
                    None => {
                        rig.hang_up(line);
                        resumer.connect(&mut rig);
                        resumers.push(resumer.client - first);
                    }
                }
            }
            assert!(turns < 20 * QUEUED, "the wave does not come to its end");
        }
        for resumer in &wave {
            assert_eq!((resumer.next, resumer.again), (QUEUED, 0), "client {}", resumer.client);
        }
    }
    assert_eq!(sum(&rig, |inventory| inventory.queued + inventory.unacknowledged), 0);
    // Beside what was stored before there are connections and at most a window of packets each;
    // clients of 3.1.1 have no bound but the broker's own.
    let window = QUEUED as usize * PACKET_BYTES;
    let most = stored + SESSIONS * 1500 + WAVE * window;
    assert!(heaviest < most, "{heaviest} bytes held, {most} allowed, {stored} before");
    let drops: u64 = rig.shards.iter().map(|shard| shard.counters().dropped_total()).sum();
    assert_eq!(drops, 0);
    end(&mut rig);
}

/// Retained messages, and clients that talk while one asks for all of them.
const RETAINED: usize = 200_000;
const TALKERS: usize = 20;
/// Turns from a PUBLISH to its acknowledgement and to its arrival.
const PATIENCE: usize = 8;

/// Client `RETAINER` fills the store in segments of fifty messages.
const RETAINER: usize = 1_000_000;
const GREEDY: usize = 1_000_002;

fn fill_store(rig: &mut Rig) {
    let line = rig.open(0, &connect(RETAINER, true, 10));
    rig.settle();
    rig.got(line);
    for first in (0..RETAINED).step_by(50) {
        let mut bytes = Vec::new();
        for n in first..first + 50 {
            let topic = format!("store/{}/{n}", n % 1000);
            let number = (n - first + 1) as u16;
            bytes.extend(publish(RETAINER, &topic, (number, true), &(n as u32).to_be_bytes()));
        }
        rig.send(line, &bytes);
        rig.turn_all();
        rig.turn_all();
    }
    rig.settle();
    let mut acknowledged = 0;
    packets(&rig.got(line), version_of(RETAINER), |packet, _| match packet {
        Packet::Puback(ack) => {
            assert!(!ack.reason.is_error());
            acknowledged += 1;
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(acknowledged, RETAINED);
    assert_eq!(sum(rig, |inventory| inventory.retained), RETAINED);
    rig.hang_up(line);
    rig.settle();
}

/// One of the clients that talk: publishes to the topic of its neighbour and hears its own.
struct Talker {
    line: LineId,
    /// Turn of the PUBLISH that is not acknowledged.
    since: Option<usize>,
    said: u32,
    heard: u32,
}

/// What the greedy subscriber has got.
struct Greedy {
    stored: Vec<bool>,
    /// The last serial of each talker's topic.
    last: [Option<u32>; TALKERS],
    replayed: usize,
    acks: Vec<u8>,
}

impl Greedy {
    fn read(&mut self, bytes: &[u8]) {
        let version = version_of(GREEDY);
        let (stored, last, acks) = (&mut self.stored, &mut self.last, &mut self.acks);
        let replayed = &mut self.replayed;
        packets(bytes, version, |packet, _| {
            let Packet::Publish(publish) = packet else {
                assert!(matches!(packet, Packet::Suback(_)), "{packet:?}");
                return;
            };
            let number = u32::from_be_bytes(publish.payload.try_into().expect("four bytes"));
            if publish.topic.starts_with("store/") {
                assert!(publish.retain && !publish.dup);
                assert!(!std::mem::replace(&mut stored[number as usize], true), "{number} twice");
                *replayed += 1;
            } else {
                let talker: usize = publish.topic[5..].parse().expect("talk/ and a number");
                let before = last[talker].replace(number);
                assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
            }
            let id = publish.packet_id.expect("QoS 1");
            codec::encode_ack(PacketType::Puback, version, id, ReasonCode(0), None, acks);
        });
    }
}

impl Talker {
    /// Takes what has arrived; the acknowledgements that it sends.
    fn read(&mut self, at: usize, turn: usize, bytes: &[u8]) -> Vec<u8> {
        let (version, mut acks) = (version_of(at), Vec::new());
        packets(bytes, version, |packet, _| match packet {
            Packet::Puback(_) => {
                let since = self.since.take().expect("a PUBLISH is open");
                assert!(turn - since <= PATIENCE, "{} turns for a PUBACK", turn - since);
            }
            Packet::Publish(publish) => {
                let number = u32::from_be_bytes(publish.payload.try_into().expect("four bytes"));
                assert_eq!(number, self.heard, "in order, each once");
                self.heard += 1;
                let id = publish.packet_id.expect("QoS 1");
                codec::encode_ack(PacketType::Puback, version, id, ReasonCode(0), None, &mut acks);
            }
            other => panic!("{other:?}"),
        });
        acks
    }
}

fn join_talkers(rig: &mut Rig) -> Vec<Talker> {
    let mut talkers = Vec::new();
    for at in 0..TALKERS {
        let mut bytes = connect(at, true, 100);
        subscribe(at, &format!("talk/{at}"), &mut bytes);
        let line = rig.open(at % 2, &bytes);
        talkers.push(Talker { line, since: None, said: 0, heard: 0 });
    }
    rig.settle();
    talkers.iter().for_each(|talker| drop(rig.got(talker.line)));
    talkers
}

/// Everybody whose last message was acknowledged says the next one to a neighbour.
fn everybody_speaks(rig: &mut Rig, talkers: &mut [Talker], turn: usize) {
    for (at, talker) in talkers.iter_mut().enumerate().filter(|(_, t)| t.since.is_none()) {
        let to = (at + 1) % TALKERS;
        // Half of the topics are retained too, and change while they are replayed.
        let how = (1, to.is_multiple_of(2));
        let words = publish(at, &format!("talk/{to}"), how, &talker.said.to_be_bytes());
        rig.send(talker.line, &words);
        (talker.since, talker.said) = (Some(turn), talker.said + 1);
    }
}

#[test]
fn a_replay_of_everything_leaves_talkers_their_pace() {
    let mut rig = Rig::new(&storm_settings(), MeshSettings::default());
    fill_store(&mut rig);
    let mut talkers = join_talkers(&mut rig);
    let mut bytes = connect(GREEDY, true, 100);
    let line = rig.open(0, &bytes);
    rig.settle();
    rig.got(line);
    bytes.clear();
    subscribe(GREEDY, "#", &mut bytes);
    rig.send(line, &bytes);
    let stored = vec![false; RETAINED];
    let mut greedy = Greedy { stored, last: [None; TALKERS], replayed: 0, acks: Vec::new() };
    rig.news.clear();
    let (mut turn, mut slowest) = (0, 0);
    while greedy.replayed < RETAINED {
        turn += 1;
        assert!(turn < RETAINED / 5, "{} of {RETAINED} after {turn} turns", greedy.replayed);
        everybody_speaks(&mut rig, &mut talkers, turn);
        let heard: u32 = talkers.iter().map(|talker| talker.heard).sum();
        rig.turn_all();
        for line in std::mem::take(&mut rig.news) {
            let bytes = rig.got(line);
            match talkers.iter().position(|talker| talker.line == line) {
                Some(at) => {
                    let acks = talkers[at].read(at, turn, &bytes);
                    rig.send(line, &acks);
                }
                None => {
                    greedy.read(&bytes);
                    rig.send(line, &std::mem::take(&mut greedy.acks));
                }
            }
        }
        let progress = talkers.iter().map(|talker| talker.heard).sum::<u32>() > heard;
        slowest = if progress { 0 } else { slowest + 1 };
        assert!(slowest <= PATIENCE, "nobody heard anything for {slowest} turns");
    }
    for talker in &talkers {
        assert!(talker.heard as usize > turn / (PATIENCE + 1), "{} heard", talker.heard);
    }
    assert!(greedy.stored.iter().all(|seen| *seen), "each of them once");
    rig.settle();
    assert_eq!(sum(&rig, |inventory| inventory.replays), 0, "and then it is over");
    end(&mut rig);
}
