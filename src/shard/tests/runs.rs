//! Runs of packets: what becomes of them is what would have become of each packet by itself.
//! Where topics are rewritten nothing is taken for a run, so a rule that fits nothing makes the
//! broker that is compared with.

use super::super::entry::{self, Entry, Position};
use super::{Bench, Client};
use crate::base::{MessageId, PacketId, Prng, PublisherId, ShardId};
use crate::codec::{
    ConnectOut, ConnectProperties, PublishOut, QoS, Row, SubscribeOptions, SubscribeOut, Version,
};
use crate::config;
use crate::mesh::Block;
use crate::session::RowView;
use std::num::NonZeroU32;

const RULE: &str = r#"
[[topics.rewrite]]
action = "publish"
filter = "nobody/publishes/here"
to = "nor/there"
"#;
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A broker with one subscriber of each kind that a run has to care for, and publishers.
struct World {
    bench: Bench,
    readers: Vec<Client>,
    deaf: Client,
    publishers: [Client; 3],
}

impl World {
    fn new(shards: usize, targets: usize, buffer: usize, runs: bool) -> World {
        let rules = config::parse(RULE).expect("a valid rule");
        let mut bench = Bench::with(shards, |settings| {
            if !runs {
                settings.topics = rules.topics.clone();
            }
            settings.tick.targets = targets;
            settings.limits.out_buffer_bytes = buffer;
        });
        let plain = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let no_local = SubscribeOptions { no_local: true, ..plain };
        let five = |change: fn(&mut ConnectProperties<'_>)| {
            let mut properties = ConnectProperties::default();
            change(&mut properties);
            properties
        };
        let none = five(|_| {});
        let known = |connect: ConnectProperties<'static>, version, id: &'static str| ConnectOut {
            version,
            client_id: id,
            clean_start: true,
            properties: connect,
            ..ConnectOut::default()
        };
        let small = five(|p| p.maximum_packet_size = NonZeroU32::new(40));
        let aliases = five(|p| p.topic_alias_maximum = 1);
        let mut readers = Vec::new();
        for (connect, filters, options, identifier) in [
            (known(none, Version::V311, "three"), &["run/a"][..], plain, None),
            (known(none, Version::V31, "all"), &["run/#"], plain, None),
            (known(none, Version::V5, "five"), &["run/+"], plain, None),
            (known(none, Version::V5, "twice"), &["run/a", "run/#"], plain, None),
            (known(none, Version::V5, "named"), &["run/a", "run/b"], plain, NonZeroU32::new(7)),
            (known(small, Version::V5, "small"), &["#"], plain, None),
            (known(aliases, Version::V5, "short"), &["run/#"], plain, None),
        ] {
            let client = bench.connect_with(0, &connect);
            subscribe(&mut bench, client, connect.version, filters, options, identifier);
            readers.push(client);
        }
        let away = ConnectOut { clean_start: false, ..known(none, Version::V311, "away") };
        let client = bench.connect_with(0, &away);
        subscribe(&mut bench, client, Version::V311, &["run/b"], plain, None);
        bench.shards[client.0].end_of_input(client.1);
        bench.settle(&mut client.clone());
        let deaf = bench.connect(0, "deaf", Version::V311);
        subscribe(&mut bench, deaf, Version::V311, &["run/#"], plain, None);
        bench.deaf.push(deaf);
        let publishers = ["p31", "p311", "p5"];
        let mut number = 0;
        let publishers = publishers.map(|id| {
            number += 1;
            bench.connect_with(0, &known(none, VERSIONS[number - 1], id))
        });
        subscribe(&mut bench, publishers[2], Version::V5, &["run/a"], no_local, None);
        readers.extend(publishers);
        World { bench, readers, deaf, publishers }
    }

    /// All that the clients have got since the last time.
    fn outputs(&mut self) -> Vec<Vec<u8>> {
        self.readers.iter().map(|reader| self.bench.output(*reader)).collect()
    }

    fn counters(&self) -> Vec<(String, u64)> {
        let mut all = self.bench.shards[0].counters().clone();
        self.bench.shards[1..].iter().for_each(|shard| all.add(shard.counters()));
        // A run takes less of a tick's budget than its messages would.
        all.stalls = 0;
        all.entries().collect()
    }
}

fn subscribe(
    bench: &mut Bench,
    client: Client,
    version: Version,
    filters: &[&str],
    options: SubscribeOptions,
    identifier: Option<NonZeroU32>,
) {
    let mut bytes = Vec::new();
    let filters: Vec<_> = filters.iter().map(|filter| (*filter, options)).collect();
    SubscribeOut { packet_id: PacketId::MIN, subscription_id: identifier, filters: &filters }
        .encode(version, &mut bytes);
    bench.send(client, &bytes);
    bench.output(client);
}

const TOPICS: [&str; 4] = ["run/a", "run/b", "run/a/b", "$SYS/run"];

/// Packets that mostly go on as they began.
fn packets(random: &mut Prng, version: Version, topics: &[&'static str]) -> Vec<Vec<u8>> {
    let (mut topic, mut size, mut id) = (topics[0], 4, 0);
    let five = version == Version::V5;
    let count = 1 + random.below(40);
    let packet = |_| {
        if random.below(8) == 0 {
            topic = topics[random.below(topics.len())];
        }
        if random.below(4) == 0 {
            size = [0, 1, 4, 16, 60, 119, 120, 121, 122, 300][random.below(10)];
        }
        id += 1;
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce][usize::from(random.below(12) == 0)];
        let (packet_id, retain) = (PacketId::new(id), random.below(20) == 0);
        let alias = (five && random.below(16) == 0).then_some(1);
        let expiry_s = (five && random.below(16) == 0).then_some(60);
        let payload = vec![id as u8; size];
        let mut bytes = Vec::new();
        let out =
            PublishOut { qos, packet_id, retain, topic, alias, expiry_s, ..Default::default() };
        PublishOut { payload: &payload, ..out }.encode(version, &mut bytes);
        bytes
    };
    (0..count).map(packet).collect()
}

/// The same packets for a broker that takes runs and one that does not, cut at will.
fn compare(seed: u64, shards: usize) {
    let mut random = Prng::new(seed);
    let buffer = [400, 4000, 1 << 20][random.below(3)];
    // What a full buffer drops depends on the turn, and with a small budget on how it is spent.
    let small = [1, 7, 60, 8192][random.below(4)];
    let targets = if buffer == 1 << 20 { small } else { 8192 };
    // So does in which order messages of several owners come.
    let topics = if shards > 1 && targets < 8192 { 1 } else { TOPICS.len() };
    let [mut with, mut without] =
        [true, false].map(|runs| World::new(shards, targets, buffer, runs));
    for _ in 0..6 {
        let at = random.below(3);
        let sent = packets(&mut random, VERSIONS[at], &TOPICS[..topics]).concat();
        let cut = random.below(sent.len());
        for world in [&mut with, &mut without] {
            let (shard, key) = world.publishers[at];
            for piece in [&sent[..cut], &sent[cut..]] {
                world.bench.shards[shard].receive(key, piece);
            }
            // With a small budget it takes more turns than usual.
            (0..8).for_each(|_| world.bench.settle(&mut (0, world.deaf.1)));
        }
        assert_eq!(with.outputs(), without.outputs(), "seed {seed}, {shards} shards");
        assert_eq!(with.counters(), without.counters(), "seed {seed}, {shards} shards");
    }
}

#[test]
fn a_run_does_what_its_messages_do_one_by_one() {
    for seed in 0..400 {
        compare(seed, 1 + seed as usize % 4);
    }
}

#[test]
fn a_run_is_read_on_where_reading_stopped() {
    for version in VERSIONS {
        let mut bytes = Vec::new();
        for payload in [b"0", b"1", b"2", b"3"] {
            PublishOut { topic: "t", payload, ..PublishOut::default() }.encode(version, &mut bytes);
        }
        let row = Row::known(&bytes, version).expect("a row");
        let run = row.run(|_, _| true).expect("a run");
        let id = MessageId { origin: ShardId(3), epoch: 5, sequence: 70 };
        let mut block = Block::with_capacity(entry::run_entry_len(&run));
        let view = RowView::new(row, id, PublisherId(9));
        entry::write_run(&mut block, &view.with(run), Some(40));
        assert_eq!(block.room(), 0, "the announced length is what it takes");
        let mut position = Position::default();
        for done in [0, 1, 3] {
            let (entry, behind) = entry::read(&block, position).expect("an entry");
            let Entry::DeliverRun { run: rest, sequence } = entry else { panic!("{entry:?}") };
            let view = rest.with(rest.row.run(|_, _| true).expect("a run"));
            assert_eq!((view.run.count() as u64, sequence), (4 - done, 40 + done));
            assert_eq!(
                (view.id, view.publisher),
                (MessageId { sequence: 70 + done, ..id }, PublisherId(9))
            );
            let payloads: Vec<_> = view.messages().map(|m| m.payload.bytes()[0] - b'0').collect();
            assert!(payloads.iter().eq(&[0, 1, 2, 3][done as usize..]));
            assert!(entry::read(&block, behind).is_none());
            position =
                position.past(&rest.row.run(|count, _| count <= 1 + done as usize).expect("some"));
        }
    }
}
