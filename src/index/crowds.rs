//! How many plain subscribers the cores have of the filters that many subscribe to, told in powers
//! of two. What a message costs follows from it before the message is on its way.
//!
//! Invariant worth naming: a node has an entry here exactly while it is marked as crowded.

use super::{Index, Matched, NodeKey};
use crate::base::{Key, MAX_SHARDS, ShardId};
use crate::topic::TopicFilter;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// The crowds of all cores, as far as they were told. Lives on one core.
#[derive(Default)]
pub(super) struct Crowds(HashMap<NodeKey, Vec<(ShardId, u32)>, RandomState>);

impl Crowds {
    fn of(&self, node: NodeKey, core: ShardId) -> u32 {
        let told = self.0.get(&node).and_then(|told| told.iter().find(|(of, _)| *of == core));
        told.map_or(0, |(_, size)| *size)
    }

    /// Notes a core's crowd; true when the node has any afterwards.
    fn set(&mut self, node: NodeKey, core: ShardId, size: u32) -> bool {
        let told = self.0.entry(node).or_default();
        told.retain(|(of, _)| *of != core);
        if size > 0 {
            told.push((core, size));
        }
        let crowded = !told.is_empty();
        if !crowded {
            self.0.remove(&node);
        }
        crowded
    }
}

impl Index {
    /// Whether there is any crowd.
    #[inline]
    pub fn has_crowds(&self) -> bool {
        !self.crowds.0.is_empty()
    }

    /// Notes that `core` has about `size` plain subscribers of `filter`; zero: no crowd.
    pub fn set_crowd(&mut self, filter: &TopicFilter, core: ShardId, size: u32) {
        let node = match size {
            0 => self.trie.find(filter),
            _ => Some(self.enter(filter)),
        };
        if let Some(node) = node {
            let crowded = self.crowds.set(node, core, size);
            self.change(node, |node| node.crowded = crowded);
        }
    }

    /// Compares the subscribers at a node with what others were told of them: how many they are to
    /// be told now, if that has to change: a power of two, or zero for fewer than `crowd`. `me` is
    /// this core.
    #[inline]
    pub fn crowd_news(&self, key: NodeKey, me: ShardId, crowd: usize) -> Option<u32> {
        let node = self.trie.get(key)?;
        let alive = node.alive();
        if alive < crowd && !node.crowded {
            return None;
        }
        let told = self.crowds.of(key, me) as usize;
        // What was told holds from half of it to twice as many, so that nothing is told again and
        // again of one at a border.
        let holds =
            if told == 0 { alive < crowd } else { (told.div_ceil(2)..2 * told).contains(&alive) };
        let size = if alive < crowd { 0 } else { 1 << alive.ilog2() };
        (!holds && size != told).then_some(size as u32)
    }

    /// What was told of the crowd of `core` at `filter`.
    pub fn crowd_told(&self, filter: &TopicFilter, core: ShardId) -> u32 {
        self.trie.find(filter).map_or(0, |node| self.crowds.of(node, core))
    }

    /// How many subscribers of the match `core` has in crowds.
    #[inline]
    pub fn crowd_at(&self, matched: &Matched, core: ShardId) -> usize {
        if !self.has_crowds() {
            return 0;
        }
        self.crowded(matched).map(|node| self.crowds.of(node, core) as usize).sum()
    }

    /// How many subscribers of the match the core with most of them has in crowds.
    #[inline]
    pub fn largest_crowd(&self, matched: &Matched) -> usize {
        if !self.has_crowds() {
            return 0;
        }
        let mut sums = [0usize; MAX_SHARDS];
        for (core, size) in
            self.crowded(matched).filter_map(|node| self.crowds.0.get(&node)).flatten()
        {
            sums[core.index()] += *size as usize;
        }
        sums.into_iter().max().unwrap_or(0)
    }

    fn crowded<'a>(&'a self, matched: &'a Matched) -> impl Iterator<Item = Key<super::Node>> + 'a {
        let crowded = |key: &NodeKey| self.trie.get(*key).is_some_and(|node| node.crowded);
        matched.nodes.iter().copied().filter(move |key| crowded(key))
    }
}
