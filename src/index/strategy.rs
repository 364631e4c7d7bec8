//! How share groups choose: the strategies, what a choice may depend on, and rendezvous hashing.
//!
//! Invariant worth naming: by rendezvous hashing a candidate that comes or goes moves only the keys
//! that it gets or had.

use crate::base::{Prng, ShardId};
use core::hash::BuildHasher as _;
use foldhash::fast::FixedState;

/// How a share group chooses who gets a message. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ShareStrategy {
    /// In turn.
    #[default]
    RoundRobin,
    /// At random, evenly.
    Random,
    /// All to one member as long as it is online.
    Sticky,
    /// By the publishing session.
    HashClient,
    /// By the topic.
    HashTopic,
    /// A member on the publisher's core, else on the owner's, else in turn.
    LocalCore,
    /// The core with the fewest messages in flight and waiting per member online, and on it the
    /// member with the fewest.
    LeastInflight,
}

/// The strategies of all groups, by name.
#[derive(Clone, Default, Debug)]
pub struct Strategies {
    /// Of groups that are not named.
    pub default: ShareStrategy,
    /// Of single groups.
    pub named: Vec<(Box<str>, ShareStrategy)>,
}

impl Strategies {
    /// The strategy of `group`.
    pub fn of(&self, group: &str) -> ShareStrategy {
        let named = self.named.iter().find(|(name, _)| **name == *group);
        named.map_or(self.default, |(_, strategy)| *strategy)
    }
}

/// What a choice may depend on. Nothing is hashed or drawn before a strategy asks for it.
#[derive(Debug)]
pub struct Hint<'a> {
    /// Identity of the publishing session.
    pub publisher: u64,
    /// The topic.
    pub topic: &'a str,
    /// The publisher's core.
    pub near: ShardId,
    /// The core that chooses.
    pub me: ShardId,
    /// What topics are hashed with, the same on all cores.
    pub seed: u64,
    /// Where random numbers come from.
    pub random: &'a mut Prng,
}

impl Hint<'_> {
    pub(super) fn topic_key(&self) -> u64 {
        FixedState::with_seed(self.seed).hash_one(self.topic)
    }
}

/// A candidate's part in a choice by hash.
pub(super) struct Chance {
    /// What the choice depends on.
    pub(super) key: u64,
    /// The candidate.
    pub(super) of: u64,
    /// Its share; zero: it is no candidate.
    pub(super) weight: u32,
}

impl Chance {
    /// Weighted rendezvous score: the candidate with the highest is chosen with a probability
    /// proportional to its weight. Source: Schindelhauer and Schomaker, 2005.
    fn score(&self) -> f64 {
        let mixed = Prng::new(self.key ^ self.of.wrapping_mul(0x9e6c_63d0_876a_68f7)).next_u64();
        let unit = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        f64::from(self.weight) / -unit.ln()
    }
}

/// The candidate with the best chance.
pub(super) fn best<T>(candidates: impl Iterator<Item = (T, Chance)>) -> Option<T> {
    let usable = candidates.filter(|(_, chance)| chance.weight > 0);
    let scored = usable.map(|(candidate, chance)| (candidate, chance.score()));
    scored.max_by(|one, other| one.1.total_cmp(&other.1)).map(|(candidate, _)| candidate)
}
