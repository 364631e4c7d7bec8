//! Identifiers that cross module and core borders.

use std::fmt;
use std::num::NonZeroU16;

/// Largest number of shards in one process. [`CoreSet`] holds one bit for each.
pub const MAX_SHARDS: usize = 64;

/// A shard: the broker of one core. Range `0..MAX_SHARDS`. Pure value, any core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The id as an index into per-shard tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard-{}", self.0)
    }
}

/// A set of shards, one bit each. Pure value, any core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CoreSet(pub u64);

impl CoreSet {
    /// The empty set.
    pub const EMPTY: CoreSet = CoreSet(0);

    /// The set `0..count`.
    pub fn first(count: usize) -> CoreSet {
        debug_assert!(count <= MAX_SHARDS);
        if count == MAX_SHARDS { CoreSet(u64::MAX) } else { CoreSet((1 << count) - 1) }
    }

    /// The set with `shard` alone.
    pub fn only(shard: ShardId) -> CoreSet {
        CoreSet(1 << shard.0)
    }

    /// Whether `shard` is in the set.
    pub fn contains(self, shard: ShardId) -> bool {
        self.0 & (1 << shard.0) != 0
    }

    /// Adds `shard`; tells whether it was absent.
    pub fn insert(&mut self, shard: ShardId) -> bool {
        let before = self.0;
        self.0 |= 1 << shard.0;
        before != self.0
    }

    /// Removes `shard`; tells whether it was present.
    pub fn remove(&mut self, shard: ShardId) -> bool {
        let before = self.0;
        self.0 &= !(1 << shard.0);
        before != self.0
    }

    /// All of `self` and `other`.
    pub fn union(self, other: CoreSet) -> CoreSet {
        CoreSet(self.0 | other.0)
    }

    /// `self` without `shard`.
    pub fn without(self, shard: ShardId) -> CoreSet {
        CoreSet(self.0 & !(1 << shard.0))
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many shards are in the set.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The shards of the set in ascending order.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let lowest = rest.trailing_zeros() as u8;
                rest &= rest - 1;
                ShardId(lowest)
            })
        })
    }
}

impl FromIterator<ShardId> for CoreSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> CoreSet {
        shards.into_iter().fold(CoreSet::EMPTY, |set, shard| set.union(CoreSet::only(shard)))
    }
}

/// An MQTT packet identifier, `1..=65535`.
pub type PacketId = NonZeroU16;

/// Identity of one accepted application message for its whole life in the process. `origin` is
/// the publisher's home shard, `epoch` the boot of the process, `sequence` counts from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct MessageId {
    /// Home shard of the publisher.
    pub origin: ShardId,
    /// Which boot of the process numbered it.
    pub epoch: u32,
    /// Position in the origin's numbering.
    pub sequence: u64,
}

/// Identity of a publishing session for the no-local rule: home shard and session key in one word.
/// Zero is "the broker itself".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PublisherId(pub u64);

impl PublisherId {
    /// The broker itself: wills of ended sessions, system messages.
    pub const BROKER: PublisherId = PublisherId(0);

    /// The identity of session `key` on `shard`.
    pub fn session<T>(shard: ShardId, key: crate::base::Key<T>) -> PublisherId {
        // The generation keeps its low 25 bits: no-local only has to tell live sessions apart.
        let generation = u64::from(key.generation() & 0x01ff_ffff);
        PublisherId(1 << 63 | u64::from(shard.0) << 57 | generation << 32 | u64::from(key.index()))
    }
}
