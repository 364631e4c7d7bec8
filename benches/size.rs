//! What a large broker holds: heap bytes per subscription, retained message and idle connection of
//! one shard, and what a message costs among so many, against a small one in the same run.
//!
//! `cargo bench --bench size` in `benches/` prints a table in half a minute; `-- N` has at most N
//! entries instead of a million. Nanoseconds are the least of some rounds, and of this processor.

mod counting;
mod host;

use corelane::base::Prng;
use corelane::codec::QoS;
use corelane::shard::Placement;
use counting::LIVE_BYTES;
use host::Host;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Entries of the first row, which the others are compared with.
const FEW: usize = 10_000;
/// Subscriptions of one session.
const EACH: usize = 1000;
const BATCH: usize = 64;
const ROUNDS: usize = 300;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let most = match words.first().map(|word| word.parse::<usize>()) {
        None => 1_000_000,
        Some(Ok(most)) if most >= FEW => most,
        Some(_) => {
            eprintln!("size: expected nothing or a number from {FEW} on");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "{:32} {:>10} {:>8} {:>12} {:>8}",
        "what", "entries", "B each", "ns a message", "ratio"
    );
    let filled: [(&str, Fill); 4] = [
        ("subscriptions, no wildcards", |host, n| subscriptions(host, n, "plant/{}/line/{}")),
        ("subscriptions, a `+` in each", |host, n| subscriptions(host, n, "plant/{}/+/{}")),
        ("retained messages of 64 B", retained),
        ("idle connections", idle),
    ];
    for (what, fill) in filled {
        let mut first = None;
        for entries in [FEW, most / 10, most].into_iter().filter(|n| *n >= FEW) {
            let entries = if what.starts_with("idle") { entries / 5 } else { entries };
            let (bytes, each) = measure(fill, entries, what.starts_with("retained"));
            let ratio = each / *first.get_or_insert(each);
            println!("{what:32} {entries:>10} {bytes:>8} {each:>12.0} {ratio:>8.2}");
        }
    }
    ExitCode::SUCCESS
}

/// Fills a shard with a number of entries.
type Fill = fn(&mut Host, usize);

/// Heap bytes per entry, and nanoseconds of a message among so many.
fn measure(fill: Fill, entries: usize, retain: bool) -> (u64, f64) {
    let mut host = Host::new(Placement::new(1, [3, 4], 2), |settings| {
        settings.limits.subscriptions = usize::MAX;
        settings.limits.retained_messages = usize::MAX;
        settings.limits.retained_bytes = usize::MAX;
    });
    let (at, key) = host.connect(Some(0));
    host.settle();
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    fill(&mut host, entries);
    host.settle();
    let bytes = LIVE_BYTES.load(Ordering::Relaxed).saturating_sub(before) / entries as u64;
    let (mut prng, mut least) = (Prng::new(7), Duration::MAX);
    let mut batch = Vec::new();
    for _ in 0..ROUNDS {
        batch.clear();
        for _ in 0..BATCH {
            publish(prng.below(entries), retain, &mut batch);
        }
        let start = Instant::now();
        host.shards[at].receive(key, &batch);
        host.turn(|_, _| {});
        least = least.min(start.elapsed());
    }
    (bytes, least.as_nanos() as f64 / BATCH as f64)
}

/// Sessions with `EACH` subscriptions; every topic of [`publish`] has one subscriber.
fn subscriptions(host: &mut Host, entries: usize, pattern: &str) {
    for first in (0..entries).step_by(EACH) {
        let client = host.connect(Some(0));
        for number in first..entries.min(first + EACH) {
            let (line, cell) = (number / EACH, number % EACH);
            let filter = pattern.replacen("{}", &line.to_string(), 1);
            host.subscribe(client, &filter.replacen("{}", &cell.to_string(), 1), QoS::AtMostOnce);
            if number % 50 == 0 {
                host.turn(|_, _| {});
            }
        }
        host.settle();
    }
}

fn retained(host: &mut Host, entries: usize) {
    let (at, key) = host.connect(Some(0));
    let mut packet = Vec::new();
    for number in 0..entries {
        packet.clear();
        publish(number, true, &mut packet);
        host.shards[at].receive(key, &packet);
        if number % 50 == 0 {
            host.turn(|_, _| {});
        }
    }
}

fn idle(host: &mut Host, entries: usize) {
    for _ in 0..entries {
        host.connect(Some(0));
        host.turn(|_, _| {});
    }
}

/// Appends a PUBLISH of 64 bytes to the topic of a number.
fn publish(number: usize, retain: bool, out: &mut Vec<u8>) {
    let start = out.len();
    let topic = format!("plant/{}/line/{}", number / EACH, number % EACH);
    host::publish(&topic, QoS::AtMostOnce, 0, out);
    out[start] |= u8::from(retain);
}
