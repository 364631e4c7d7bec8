//! The figures of every core where other cores can read them.
//!
//! Invariants worth naming:
//! * a core writes its own figures only, once per interval and never per message;
//! * a reader gets each word as it was at some time, not all words of one time.

use super::counters::Counters;
use crate::base::ShardId;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! gauges {
    ($( $(#[$doc:meta])* $name:ident ),+ $(,)?) => {
        /// What a core holds and how it spends its time, as of its last snapshot. Pure value.
        #[derive(Clone, Default, PartialEq, Eq, Debug)]
        pub struct Gauges {
            $( $(#[$doc])* pub $name: u64, )+
        }

        impl Gauges {
            const WORDS: usize = [$( stringify!($name) ),+].len();

            fn words(&self) -> [u64; Self::WORDS] {
                [$( self.$name ),+]
            }

            fn from_words(words: impl IntoIterator<Item = u64>) -> Gauges {
                let mut words = words.into_iter();
                Gauges { $( $name: words.next().unwrap_or_default(), )+ }
            }

            /// Adds what another core holds.
            pub fn add(&mut self, other: &Gauges) {
                $( self.$name += other.$name; )+
            }
        }
    };
}

gauges! {
    /// Connections in any phase.
    connections,
    /// Sessions with a connection.
    connected,
    /// Sessions, connected or not.
    sessions,
    /// Subscriptions of all sessions.
    subscriptions,
    /// QoS 1 and 2 messages sent and not finished.
    inflight,
    /// Retained messages owned by the core.
    retained,
    /// Bytes of them.
    retained_bytes,
    /// Bytes received and not yet processed.
    unfinished_bytes,
    /// Bytes encoded and not yet taken by their clients.
    unsent_bytes,
    /// Bytes held for clients in all, as `limits.memory_bytes` counts them.
    held_bytes,
    /// Sources that wait for room.
    waiting,
    /// Blocks of requests to other cores that are written, under way or being read.
    request_blocks,
    /// Blocks of deliveries to other cores, likewise.
    deliver_blocks,
    /// Most blocks of each of the two kinds.
    blocks_limit,
    /// Microseconds that the core has worked since its start.
    busy_us,
    /// Microseconds that it has looked or gathered without working.
    polled_us,
    /// Microseconds that it has slept.
    asleep_us,
    /// Longest turn since the snapshot before, in microseconds.
    lag_us_max,
    /// Average of the latest turns, in microseconds.
    lag_us,
}

/// Everything a core tells about itself. Pure value.
#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    /// What it counted since its start.
    pub counters: Counters,
    /// What it holds.
    pub gauges: Gauges,
}

impl Snapshot {
    const WORDS: usize = Counters::WORDS + Gauges::WORDS;

    /// Adds the figures of another core.
    pub fn add(&mut self, other: &Snapshot) {
        self.counters.add(&other.counters);
        self.gauges.add(&other.gauges);
    }
}

/// The figures of one core, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct CoreStats {
    words: [AtomicU64; Snapshot::WORDS],
}

/// The figures of all cores. Whole process, any thread.
#[derive(Debug)]
pub struct Board {
    cores: Box<[CoreStats]>,
}

impl Board {
    /// A board for `shards` cores that have nothing to tell yet.
    pub fn new(shards: usize) -> Board {
        let blank = || CoreStats { words: std::array::from_fn(|_| AtomicU64::new(0)) };
        Board { cores: (0..shards).map(|_| blank()).collect() }
    }

    /// How many cores there are.
    pub fn shards(&self) -> usize {
        self.cores.len()
    }

    /// What `shard` told last; zeros before its first time.
    pub fn read(&self, shard: ShardId) -> Snapshot {
        let words = self.cores[shard.index()].words.each_ref().map(|w| w.load(Ordering::Relaxed));
        let (counters, gauges) = words.split_at(Counters::WORDS);
        Snapshot {
            counters: Counters::from_words(counters.iter().copied()),
            gauges: Gauges::from_words(gauges.iter().copied()),
        }
    }

    /// The sum over all cores; of `lag_us_max`, too.
    pub fn sum(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for at in 0..self.shards() {
            sum.add(&self.read(ShardId(at as u8)));
        }
        sum
    }

    /// Writes what `shard` tells now. Called by that core alone.
    pub(super) fn write(&self, shard: ShardId, snapshot: &Snapshot) {
        let words = snapshot.counters.words().chain(snapshot.gauges.words());
        for (slot, word) in self.cores[shard.index()].words.iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::DropCause;

    #[test]
    fn what_a_core_writes_is_what_the_others_read() {
        let board = Board::new(3);
        let mut snapshot = Snapshot::default();
        snapshot.counters.connections_opened = 1;
        snapshot.counters.retained_replayed = 2;
        snapshot.counters.dropped(DropCause::RetainedLimit, 3, 4);
        (snapshot.gauges.connections, snapshot.gauges.lag_us_max) = (4, 5);
        board.write(ShardId(1), &snapshot);
        board.write(ShardId(2), &snapshot);
        let read = board.read(ShardId(1));
        let entries = |counters: &Counters| counters.entries().collect::<Vec<_>>();
        assert_eq!(entries(&read.counters), entries(&snapshot.counters));
        assert_eq!(read.gauges, snapshot.gauges);
        assert_eq!(board.read(ShardId(0)).gauges, Gauges::default());
        let sum = board.sum();
        assert_eq!((sum.gauges.connections, sum.counters.dropped_total()), (8, 6));
        assert_eq!(sum.counters.retained_replayed, 4);
    }
}
