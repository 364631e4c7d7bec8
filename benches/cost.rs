//! Instructions per operation of what runs for every message, counted by valgrind's callgrind:
//! a count does not depend on how busy the machine is.
//!
//! `cargo bench --bench cost` counts and prints; with `-- --check` it fails where a count is more
//! than 5 % above `benches/cost.txt`, with `-- --bless` it writes that file. The counts belong to
//! one compiler: `--check` under another one only prints.
//!
//! The program runs itself under callgrind, with `NAME ROUNDS`, twice per operation; the difference
//! between the two is free of the setting-up.

mod callgrind;
mod host;

use corelane::codec::{self, Packet, PacketType, Publish};
use corelane::codec::{PublishOut, QoS, ReasonCode, Version};
use corelane::shard::{Placement, Settings};
use host::{Client, Host, publish};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Messages in one round of every workload, and subscribers of the fan-out.
const BATCH: usize = 50;
const SUBSCRIBERS: usize = 100;
/// A count may be this many percent above the recorded one.
const TOLERANCE: f64 = 5.0;
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cost.txt");

/// What is counted: a name, what one operation is, and the work of a number of rounds.
type Workload = (&'static str, &'static str, fn(usize));

const WORKLOADS: [Workload; 11] = [
    ("decode", "framing and decoding a PUBLISH of 64 bytes, MQTT 3.1.1", |n| {
        decode(n, Version::V311);
    }),
    ("decode_5", "the same with MQTT 5 and a user property", |n| decode(n, Version::V5)),
    ("encode", "encoding a PUBLISH of 64 bytes, MQTT 5", encode),
    ("pipe", "a QoS 0 message from one client to one other", |n| fan_out(n, 1, 1, QoS::AtMostOnce)),
    ("fan_out", "delivery of a QoS 0 message to one of 100 subscribers", |n| {
        fan_out(n, 1, SUBSCRIBERS, QoS::AtMostOnce);
    }),
    ("window", "a QoS 1 message from one client to one other, both acknowledged", |n| {
        fan_out(n, 1, 1, QoS::AtLeastOnce);
    }),
    ("window_2", "the same with QoS 2", |n| fan_out(n, 1, 1, QoS::ExactlyOnce)),
    ("hop", "a QoS 0 message over the rings of two shards", |n| fan_out(n, 2, 1, QoS::AtMostOnce)),
    ("match_new", "a QoS 0 message to a topic not seen before, 1,000 filters, no match", |n| {
        matching(n, true);
    }),
    ("match_known", "a QoS 0 message to one of 1,000 known topics in turn, no match", |n| {
        matching(n, false);
    }),
    ("tick", "a turn of a shard with 1,000 idle clients", idle),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => count(&Mode::Print),
        ["--check"] => count(&Mode::Check),
        ["--bless"] => count(&Mode::Bless),
        [name, rounds] => {
            let rounds = rounds.parse().expect("a number of rounds");
            let work = WORKLOADS.iter().find(|(known, ..)| *known == name).expect("a workload");
            work.2(rounds);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("cost: expected nothing, --check, --bless, or a name and a number of rounds");
            ExitCode::FAILURE
        }
    }
}

#[derive(PartialEq)]
enum Mode {
    Print,
    Check,
    Bless,
}

fn count(mode: &Mode) -> ExitCode {
    let compiler = compiler();
    let (recorded_by, recorded) = read_record();
    let comparable = recorded_by == compiler;
    if !comparable && *mode != Mode::Bless {
        println!("recorded with {recorded_by}, this is {compiler}: differences mean little");
    }
    let (mut text, mut worse) = (format!("{compiler}\n"), 0);
    for (name, what, _) in WORKLOADS {
        let each = instructions(name);
        let _ = writeln!(text, "{name} {each:.0}");
        let change = recorded.get(name).map(|before| 100.0 * (each - before) / before);
        let shown = change.map_or("new".to_owned(), |change| format!("{change:+.1} %"));
        println!("{name:12} {each:7.0} instructions  {shown:>8}   {what}");
        worse += usize::from(change.is_some_and(|change| change > TOLERANCE));
    }
    if *mode == Mode::Bless {
        std::fs::write(RECORD, text).expect("the record can be written");
    }
    if *mode == Mode::Check && comparable && worse > 0 {
        eprintln!(
            "cost: {worse} of these cost over {TOLERANCE} % more than recorded; mend it, or record \
             the new counts with --bless and say why"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output().expect("rustc tells its version");
    String::from_utf8_lossy(&version.stdout).trim().to_owned()
}

fn read_record() -> (String, BTreeMap<String, f64>) {
    let text = std::fs::read_to_string(RECORD).unwrap_or_default();
    let (compiler, rows) = text.split_once('\n').unwrap_or_default();
    let rows = rows.lines().filter_map(|row| row.split_once(' '));
    let counts = rows.map(|(name, count)| (name.to_owned(), count.parse().expect("a count")));
    (compiler.to_owned(), counts.collect())
}

/// Instructions per operation of a workload.
fn instructions(name: &str) -> f64 {
    const ROUNDS: usize = 40;
    let (few, many) = (collected(name, ROUNDS), collected(name, 2 * ROUNDS));
    let deliveries = if name == "fan_out" { SUBSCRIBERS } else { 1 };
    (many - few) / (ROUNDS * BATCH * deliveries) as f64
}

/// Instructions of a whole run under callgrind.
fn collected(name: &str, rounds: usize) -> f64 {
    let said = callgrind::run(&[name, &rounds.to_string()], Path::new("/dev/null"));
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = line.unwrap_or_else(|| panic!("callgrind gave no count:\n{said}"));
    number.trim().parse().expect("a number")
}

fn host(shards: usize, change: impl Fn(&mut Settings)) -> Host {
    Host::new(Placement::new(shards, [3, 4], 2), change)
}

/// A user property as PUBLISH carries it.
const PROPERTY: &[u8] = &[38, 0, 4, b'u', b'n', b'i', b't', 0, 2, b'k', b'W'];

fn decode(rounds: usize, version: Version) {
    let mut bytes = Vec::new();
    let forwarded = if version == Version::V5 { PROPERTY } else { &[] };
    let out = PublishOut { topic: "plant/1/line/7", payload: &[b'x'; 64], ..PublishOut::default() };
    (0..BATCH).for_each(|_| PublishOut { forwarded, ..out }.encode(version, &mut bytes));
    for _ in 0..rounds {
        let mut rest = black_box(&bytes[..]);
        while let Some(frame) = codec::frame(rest, 1 << 20).expect("whole packets") {
            rest = &rest[frame.len..];
            black_box(Publish::decode(frame.first, frame.body, version).expect("valid"));
        }
    }
}

fn encode(rounds: usize) {
    let out = PublishOut { topic: "plant/1/line/7", payload: &[b'x'; 64], ..PublishOut::default() };
    let mut bytes = Vec::with_capacity(BATCH * 128);
    for _ in 0..rounds {
        bytes.clear();
        (0..BATCH).for_each(|_| black_box(&out).encode(Version::V5, &mut bytes));
        black_box(&bytes);
    }
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

/// Batches of messages from one client to others, which answer; the publisher lives on the first
/// shard, the subscribers on the last.
fn fan_out(rounds: usize, shards: usize, subscribers: usize, qos: QoS) {
    let mut host = host(shards, |_| {});
    let readers: Vec<Client> = (0..subscribers).map(|_| host.connect(Some(shards - 1))).collect();
    for reader in &readers {
        host.subscribe(*reader, "plant/+/line/#", qos);
    }
    let (at, key) = host.connect(Some(0));
    host.settle();
    let mut batch = Vec::new();
    (0..BATCH).for_each(|id| publish("plant/1/line/7", qos, id + 1, &mut batch));
    let turns = if qos == QoS::AtMostOnce { 2 * shards - 1 } else { 4 };
    let (mut back, mut answered) = (Vec::new(), Vec::<(Client, usize, usize)>::new());
    for _ in 0..rounds {
        host.shards[at].receive(key, &batch);
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
    }
}

fn matching(rounds: usize, new: bool) {
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
    for round in 0..rounds {
        bytes.clear();
        for number in 0..BATCH {
            let number = round * BATCH + number;
            let number = if new { 100_000 + number } else { number % 1000 };
            publish(&format!("plant/{number}/line/7"), QoS::AtMostOnce, 0, &mut bytes);
        }
        host.shards[at].receive(key, &bytes);
        host.turn(|_, _| {});
    }
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

fn idle(rounds: usize) {
    let mut host = host(1, |_| {});
    for _ in 0..1000 {
        host.connect(Some(0));
    }
    host.settle();
    for _ in 0..rounds * BATCH {
        host.turn(|_, _| {});
    }
}
