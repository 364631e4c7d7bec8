//! Sources that wait: which connection or lane can't go on, for what, and whose turn it is.
//!
//! Invariants worth naming:
//! * a newcomer that finds others waiting for the same thing waits behind them;
//! * local connections together are one source among the lanes, so neither crowd nor lane
//!   starves the other.

use super::connection::ConnectionKey;
use crate::base::{CoreSet, ShardId};
use std::collections::VecDeque;

/// What a source waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Room for deliveries to a core.
    Deliver(ShardId),
    /// Room for requests to a core.
    Request(ShardId),
    /// The end of a long fan-out that must not be overtaken.
    FanOut,
    /// The end of earlier deliveries to crowds, on other cores.
    CrowdDeliver,
    /// The same for messages that wait for their owners. Apart, because owners may wait for their
    /// deliveries, which wait for nobody.
    CrowdRequest,
    /// The next tick: this one's budget is spent.
    Budget,
    /// The shell, which moves the connection to its home.
    HandOver,
    /// The growth of the connection's own quota.
    Quota,
    /// Answers about earlier publishes of the same connection.
    Answers,
    /// Who its client is.
    Verdict,
}

/// A source of publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// A local connection.
    Connection(ConnectionKey),
    /// The requests of another core.
    Lane(ShardId),
    /// Messages of the broker itself: wills.
    Own,
    /// What other shards have to be told: who left, and connections on their way home.
    News,
    /// Pulls of retained messages.
    Pulls,
    /// Messages that need another member of their share group.
    Redispatch,
}

/// How many sources there are beside the lanes; their turns come first.
const OTHER_SOURCES: u8 = 5;

#[derive(Default)]
struct Queue {
    connections: VecDeque<ConnectionKey>,
    lanes: CoreSet,
    own: bool,
    news: bool,
    pulls: bool,
    redispatch: bool,
    turn: u8,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        let single =
            [self.own, self.news, self.pulls, self.redispatch].into_iter().filter(|waits| *waits);
        self.connections.len() + self.lanes.len() + single.count()
    }
}

/// What the queue at `position` waits for.
fn cause(shards: usize, position: usize) -> Cause {
    match position {
        _ if position < shards => Cause::Deliver(ShardId(position as u8)),
        _ if position < 2 * shards => Cause::Request(ShardId((position - shards) as u8)),
        _ if position == 2 * shards => Cause::FanOut,
        _ if position == 2 * shards + 1 => Cause::CrowdDeliver,
        _ if position == 2 * shards + 2 => Cause::CrowdRequest,
        _ => Cause::Budget,
    }
}

/// All waiting sources of a shard.
pub(super) struct Waiting {
    shards: usize,
    queues: Vec<Queue>,
    occupied: u128,
    extra: u8,
    /// The cause that is being served. A source that had to wait for room passes all who wait:
    /// two that each need what the other waits for would else change places for ever. One that
    /// only waited for its next turn passes nobody who waits for room.
    pub(super) serving: Option<Cause>,
    /// Sources were left waiting without being refused.
    pub(super) unserved: bool,
}

impl Waiting {
    pub(super) fn new(shards: usize) -> Waiting {
        let queues = (0..2 * shards + 4).map(|_| Queue::default()).collect();
        Waiting { shards, queues, occupied: 0, extra: 0, serving: None, unserved: false }
    }

    fn position(&self, cause: Cause) -> usize {
        match cause {
            Cause::Deliver(shard) => shard.index(),
            Cause::Request(shard) => self.shards + shard.index(),
            Cause::FanOut => 2 * self.shards,
            Cause::CrowdDeliver => 2 * self.shards + 1,
            Cause::CrowdRequest => 2 * self.shards + 2,
            // The last four have no queue: each such connection is resumed on its own.
            Cause::Budget | Cause::HandOver | Cause::Quota | Cause::Answers | Cause::Verdict => {
                2 * self.shards + 3
            }
        }
    }

    fn note(&mut self, position: usize) {
        let waits = !self.queues[position].is_empty();
        if position < 128 {
            let bit = 1 << position;
            self.occupied = if waits { self.occupied | bit } else { self.occupied & !bit };
        } else {
            let bit = 1 << (position - 128);
            self.extra = if waits { self.extra | bit } else { self.extra & !bit };
        }
    }

    /// Whether a newcomer must queue for `cause` without trying.
    #[inline]
    pub(super) fn must_queue(&self, cause: Cause) -> bool {
        if self.occupied == 0 && self.extra == 0 {
            return false;
        }
        let passes = match self.serving {
            Some(Cause::Deliver(_) | Cause::Request(_)) => true,
            Some(Cause::CrowdDeliver | Cause::CrowdRequest) => true,
            served => served == Some(cause),
        };
        !passes && self.is_awaited(cause)
    }

    /// Whether anybody waits for `cause`.
    pub(super) fn is_awaited(&self, cause: Cause) -> bool {
        !self.queues[self.position(cause)].is_empty()
    }

    /// Puts `source` at the end of the queue for `cause`.
    pub(super) fn add(&mut self, cause: Cause, source: Source) {
        let position = self.position(cause);
        let queue = &mut self.queues[position];
        match source {
            Source::Connection(key) => queue.connections.push_back(key),
            Source::Lane(shard) => {
                queue.lanes.insert(shard);
            }
            Source::Own => queue.own = true,
            Source::News => queue.news = true,
            Source::Pulls => queue.pulls = true,
            Source::Redispatch => queue.redispatch = true,
        }
        self.note(position);
    }

    /// The causes that somebody waits for.
    pub(super) fn causes(&self) -> impl Iterator<Item = Cause> + use<> {
        let (mut low, mut high) = (self.occupied, self.extra);
        let positions = std::iter::from_fn(move || {
            if low != 0 {
                let position = low.trailing_zeros();
                low &= low - 1;
                return Some(position as usize);
            }
            let position = (high != 0).then(|| high.trailing_zeros())?;
            high &= high - 1;
            Some(128 + position as usize)
        });
        let shards = self.shards;
        positions.map(move |position| cause(shards, position))
    }

    /// Takes the source whose turn it is: connections, each lane and the broker in rotation.
    pub(super) fn next(&mut self, cause: Cause) -> Option<Source> {
        let position = self.position(cause);
        let turns = self.shards as u8 + OTHER_SOURCES;
        let queue = &mut self.queues[position];
        let mut found = None;
        for ahead in 0..turns {
            let turn = (queue.turn + ahead) % turns;
            found = match turn {
                0 => queue.connections.pop_front().map(Source::Connection),
                1 => std::mem::take(&mut queue.own).then_some(Source::Own),
                2 => std::mem::take(&mut queue.news).then_some(Source::News),
                3 => std::mem::take(&mut queue.pulls).then_some(Source::Pulls),
                4 => std::mem::take(&mut queue.redispatch).then_some(Source::Redispatch),
                lane => {
                    let shard = ShardId(lane - OTHER_SOURCES);
                    queue.lanes.remove(shard).then_some(Source::Lane(shard))
                }
            };
            if found.is_some() {
                queue.turn = (turn + 1) % turns;
                break;
            }
        }
        self.note(position);
        found
    }

    /// `source` waits for `cause` again and got nothing: its turn is still to come. Else who has
    /// its turn whenever room comes back would get all of it.
    pub(super) fn keep_turn(&mut self, cause: Cause, source: Source) {
        let position = self.position(cause);
        let queue = &mut self.queues[position];
        queue.turn = match source {
            Source::Connection(key) => {
                if queue.connections.back() == Some(&key) {
                    queue.connections.rotate_right(1);
                }
                0
            }
            Source::Own => 1,
            Source::News => 2,
            Source::Pulls => 3,
            Source::Redispatch => 4,
            Source::Lane(shard) => OTHER_SOURCES + shard.0,
        };
    }

    /// Whether somebody waits for something that the next tick brings by itself.
    pub(super) fn is_impatient(&self) -> bool {
        let soon = [Cause::FanOut, Cause::Budget];
        self.unserved || soon.iter().any(|cause| !self.queues[self.position(*cause)].is_empty())
    }

    /// How many sources wait for each cause that somebody waits for.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (Cause, usize)> {
        self.causes().map(|cause| (cause, self.queues[self.position(cause)].len()))
    }

    /// How many sources wait.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(Queue::len).sum()
    }
}
