//! Which matches are outdated: counters by the part of the topic space that a change touches.
//!
//! A filter that starts or ceases to matter outdates only the topics that it could match. Its
//! scope is, from narrow to wide: one topic (no wildcard), the topics below two literal levels,
//! those below one, or all. A topic lies in four scopes; its match is current while none of their
//! counters moved.
//!
//! Invariant worth naming: scopes share counters by hash, so an unrelated change may outdate a
//! match, but a related change never fails to.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use crate::topic::{Level, TopicFilter, TopicName};

/// 32 KiB of counters: with 10,000 literal filters created and removed per second, a topic that
/// none of them matches is matched anew about five times a second.
const COUNTERS: usize = 4096;
const EVERYTHING: u16 = COUNTERS as u16;

/// The counter that a filter's coming and going moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Scope(u16);

/// What a match was computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    scopes: [Scope; 3],
    /// Sum of the counters: as none ever falls, equal sums mean equal counters.
    sum: u64,
}

/// What a scope's text stands for.
#[derive(Clone, Copy)]
enum Extent {
    /// The topic of this name alone.
    Topic,
    /// The topics that begin with these levels.
    Below,
}

pub(super) struct Generations {
    counters: Box<[u64]>,
    hasher: FixedState,
}

impl Generations {
    pub(super) fn new(seed: u64) -> Generations {
        let counters = vec![0; COUNTERS + 1].into_boxed_slice();
        Generations { counters, hasher: FixedState::with_seed(seed) }
    }

    fn scope(&self, extent: Extent, text: &str) -> Scope {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(extent as u8);
        hasher.write(text.as_bytes());
        Scope((hasher.finish() % COUNTERS as u64) as u16)
    }

    /// The scope of `filter`.
    pub(super) fn scope_of(&self, filter: &TopicFilter) -> Scope {
        let text = filter.as_str();
        if !filter.has_wildcard() {
            return self.scope(Extent::Topic, text);
        }
        let literal = filter.levels().take_while(|level| matches!(level, Level::Name(_))).count();
        match literal {
            0 => Scope(EVERYTHING),
            1 => self.scope(Extent::Below, first_levels(text, 1)),
            _ => self.scope(Extent::Below, first_levels(text, 2)),
        }
    }

    /// Outdates every match that a filter of this scope could be in.
    pub(super) fn advance(&mut self, scope: Scope) {
        self.counters[usize::from(scope.0)] += 1;
    }

    /// The present stamp of `topic`.
    pub(super) fn stamp(&self, topic: &TopicName) -> Stamp {
        let text = topic.as_str();
        let scopes = [
            self.scope(Extent::Below, first_levels(text, 1)),
            self.scope(Extent::Below, first_levels(text, 2)),
            self.scope(Extent::Topic, text),
        ];
        Stamp { scopes, sum: self.sum(scopes) }
    }

    #[inline]
    fn sum(&self, scopes: [Scope; 3]) -> u64 {
        let counter = |scope: Scope| self.counters[usize::from(scope.0)];
        self.counters[COUNTERS] + counter(scopes[0]) + counter(scopes[1]) + counter(scopes[2])
    }

    /// Whether nothing related changed since `stamp` was taken.
    #[inline]
    pub(super) fn is_current(&self, stamp: &Stamp) -> bool {
        self.sum(stamp.scopes) == stamp.sum
    }
}

/// `text` up to the end of its level `count`.
fn first_levels(text: &str, count: usize) -> &str {
    let end = text.bytes().enumerate().filter(|(_, byte)| *byte == b'/').nth(count - 1);
    end.map_or(text, |(at, _)| &text[..at])
}
