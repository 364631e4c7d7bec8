//! The match cache: from a topic to its match, bounded in bytes.
//!
//! Invariants worth naming:
//! * the cost of all entries never exceeds the limit;
//! * whether an entry is still current is for the index to judge; here it is only kept;
//! * a look that hits allocates nothing.
//!
//! Eviction is second chance: a hand walks the entries, spares those hit since its last visit and
//! takes the first that was not. Newcomers start unspared, so topics seen once make room first.

use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{Matched, NodeKey};
use crate::topic::TopicName;

/// What an entry costs beside its topic and its nodes: the entry itself, its place in the table,
/// the shared match and the allocator's share.
const OVERHEAD: usize = 160;

struct Entry {
    topic: Box<str>,
    matched: Rc<Matched>,
    /// Whether it was hit since the hand last passed.
    hit: bool,
}

impl Entry {
    fn cost(&self) -> usize {
        cost(&self.topic, &self.matched)
    }
}

fn cost(topic: &str, matched: &Matched) -> usize {
    OVERHEAD + topic.len() + std::mem::size_of_val::<[NodeKey]>(&matched.nodes)
}

pub(super) struct MatchCache {
    entries: Vec<Entry>,
    /// Position of each topic in `entries`.
    positions: HashTable<u32>,
    hasher: FixedState,
    hand: usize,
    bytes: usize,
    limit: usize,
}

impl MatchCache {
    pub(super) fn new(seed: u64, limit: usize) -> MatchCache {
        MatchCache {
            entries: Vec::new(),
            positions: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            hand: 0,
            bytes: 0,
            limit,
        }
    }

    /// Cost of all entries in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many topics are cached.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn hash(hasher: &FixedState, topic: &str) -> u64 {
        let mut hasher = hasher.build_hasher();
        hasher.write(topic.as_bytes());
        hasher.finish()
    }

    fn position(&self, topic: &str) -> Option<usize> {
        let hash = MatchCache::hash(&self.hasher, topic);
        let same = |at: &u32| *self.entries[*at as usize].topic == *topic;
        self.positions.find(hash, same).map(|at| *at as usize)
    }

    /// What was put for `topic`.
    pub(super) fn get(&mut self, topic: &TopicName) -> Option<&Rc<Matched>> {
        let at = self.position(topic.as_str())?;
        let entry = &mut self.entries[at];
        entry.hit = true;
        Some(&entry.matched)
    }

    /// Puts or replaces the match of `topic`, unless it is too big to be cached at all.
    pub(super) fn put(&mut self, topic: &TopicName, matched: Rc<Matched>) {
        let topic = topic.as_str();
        if let Some(at) = self.position(topic) {
            self.remove(at);
        }
        let cost = cost(topic, &matched);
        if cost > self.limit {
            return;
        }
        while self.bytes + cost > self.limit {
            self.evict();
        }
        let at = self.entries.len();
        self.entries.push(Entry { topic: topic.into(), matched, hit: false });
        self.enlist(at);
        self.bytes += cost;
    }

    fn evict(&mut self) {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let at = self.hand;
            // Step on even after a removal: what moves into the gap is the newest entry, whose
            // turn comes last.
            self.hand += 1;
            if !std::mem::take(&mut self.entries[at].hit) {
                self.remove(at);
                return;
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let last = self.entries.len() - 1;
        self.delist(at);
        if at != last {
            self.delist(last);
        }
        let gone = self.entries.swap_remove(at);
        self.bytes -= gone.cost();
        if at != last {
            self.enlist(at);
        }
    }

    fn enlist(&mut self, at: usize) {
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = MatchCache::hash(hasher, &entries[at].topic);
        self.positions.insert_unique(hash, at as u32, |other| {
            MatchCache::hash(hasher, &entries[*other as usize].topic)
        });
    }

    fn delist(&mut self, at: usize) {
        let hash = MatchCache::hash(&self.hasher, &self.entries[at].topic);
        if let Ok(found) = self.positions.find_entry(hash, |other| *other as usize == at) {
            found.remove();
        }
    }
}
