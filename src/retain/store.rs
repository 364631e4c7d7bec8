//! The store: topics in byte order, deadlines beside them.

use std::borrow::Borrow;
use std::collections::btree_map::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;

use super::seek::{self, Step};
use crate::base::Time;
use crate::topic::{TopicFilter, TopicName};

/// A retained message. `V` is what the caller keeps of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retained<V> {
    /// The message.
    pub value: V,
    /// The owner's acceptance sequence: tells what is newer than a subscription.
    pub sequence: u64,
    /// When it ceases to exist; [`Time::NEVER`] without message expiry.
    pub expires: Time,
}

/// Bounds of a [`RetainStore`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetainLimits {
    /// Most topics.
    pub max_count: usize,
    /// Most bytes, as counted by the caller of [`RetainStore::set`].
    pub max_bytes: usize,
}

/// The outcome of [`RetainStore::set`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum SetOutcome {
    /// The message is the topic's retained message now.
    Stored {
        /// Whether the topic had one before.
        replaced: bool,
    },
    /// There are too many topics; nothing changed.
    RefusedCount,
    /// There are too many bytes; nothing changed, an older message of the topic stays.
    RefusedBytes,
}

/// The outcome of [`RetainStore::scan`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Scan {
    /// No topic is left.
    Done,
    /// The budget ended, or the receiver stopped.
    More {
        /// The last topic visited, to be passed to the next step.
        after: String,
    },
}

/// A topic as key of the map, to be looked up by any text: jumps end between topics too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TopicKey(Rc<TopicName>);

impl Borrow<str> for TopicKey {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

struct Entry<V> {
    retained: Retained<V>,
    bytes: usize,
}

/// Retained messages ordered by topic. Lives on the core that owns the topics.
pub struct RetainStore<V> {
    topics: BTreeMap<TopicKey, Entry<V>>,
    /// Deadlines of the messages that have one.
    deadlines: BTreeSet<(Time, TopicKey)>,
    bytes: usize,
    limits: RetainLimits,
}

impl<V> RetainStore<V> {
    /// An empty store.
    pub fn new(limits: RetainLimits) -> RetainStore<V> {
        RetainStore { topics: BTreeMap::new(), deadlines: BTreeSet::new(), bytes: 0, limits }
    }

    /// Changes the limits; what is stored above them stays until it is replaced or removed.
    pub fn set_limits(&mut self, limits: RetainLimits) {
        self.limits = limits;
    }

    /// Makes `value` the retained message of `topic`, unless a limit forbids. `bytes` is what the
    /// message weighs against the limit.
    pub fn set(
        &mut self,
        topic: &TopicName,
        value: V,
        bytes: usize,
        sequence: u64,
        expires: Time,
    ) -> SetOutcome {
        let before = self.topics.get_key_value(topic.as_str());
        let freed = before.map_or(0, |(_, entry)| entry.bytes);
        if before.is_none() && self.topics.len() >= self.limits.max_count {
            return SetOutcome::RefusedCount;
        }
        // A replacement that makes the store no bigger is never refused.
        if bytes > freed && (self.bytes - freed).saturating_add(bytes) > self.limits.max_bytes {
            return SetOutcome::RefusedBytes;
        }
        let key = match before {
            Some((key, entry)) => {
                let key = key.clone();
                self.deadlines.remove(&(entry.retained.expires, key.clone()));
                key
            }
            None => TopicKey(topic.into()),
        };
        if expires != Time::NEVER {
            self.deadlines.insert((expires, key.clone()));
        }
        self.bytes = self.bytes - freed + bytes;
        let entry = Entry { retained: Retained { value, sequence, expires }, bytes };
        let replaced = self.topics.insert(key, entry).is_some();
        SetOutcome::Stored { replaced }
    }

    /// Removes the retained message of `topic`; tells whether there was one.
    pub fn clear(&mut self, topic: &TopicName) -> bool {
        let Some((key, entry)) = self.topics.remove_entry(topic.as_str()) else {
            return false;
        };
        self.bytes -= entry.bytes;
        if entry.retained.expires != Time::NEVER {
            self.deadlines.remove(&(entry.retained.expires, key));
        }
        true
    }

    /// The retained message of `topic`; also one past its deadline that wasn't removed yet.
    pub fn get(&self, topic: &TopicName) -> Option<&Retained<V>> {
        self.topics.get(topic.as_str()).map(|entry| &entry.retained)
    }

    /// How many topics have a retained message.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there is no retained message.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// What all messages weigh.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls `found` for the retained messages that match `filter`, in byte order of their topics
    /// behind `after` (none: from the start), and visits at most `budget` stored topics, at least
    /// one. After `Break` the topic given to `found` counts as visited.
    ///
    /// Topics that cannot match are jumped over, not visited. The store may change between two
    /// steps: a topic that is there all the time is found exactly once.
    pub fn scan(
        &self,
        filter: &TopicFilter,
        after: Option<&str>,
        now: Time,
        budget: usize,
        mut found: impl FnMut(&TopicName, &Retained<V>) -> ControlFlow<()>,
    ) -> Scan {
        let mut target = String::new();
        let first = match after {
            None => {
                seek::start(filter, &mut target);
                Bound::Included(target.as_str())
            }
            Some(after) => match TopicName::new(after) {
                Ok(topic) => match seek::step(filter, topic, &mut target) {
                    Step::End => return Scan::Done,
                    Step::Seek => Bound::Included(target.as_str()),
                    Step::Matches | Step::Next => Bound::Excluded(after),
                },
                Err(_) => Bound::Excluded(after),
            },
        };
        let mut topics = self.topics_from(first);
        let mut left = budget.max(1);
        while let Some((TopicKey(topic), entry)) = topics.next() {
            left -= 1;
            match seek::step(filter, topic, &mut target) {
                Step::End => return Scan::Done,
                Step::Next => {}
                Step::Seek => topics = self.topics_from(Bound::Included(&target)),
                Step::Matches if entry.retained.expires <= now => {}
                Step::Matches => {
                    if found(topic, &entry.retained).is_break() {
                        left = 0;
                    }
                }
            }
            if left == 0 {
                return Scan::More { after: topic.as_str().to_owned() };
            }
        }
        Scan::Done
    }

    fn topics_from(&self, first: Bound<&str>) -> Range<'_, TopicKey, Entry<V>> {
        self.topics.range::<str, _>((first, Bound::Unbounded))
    }

    /// Removes at most `budget` messages whose deadline has come; tells how many it removed.
    pub fn expire(&mut self, now: Time, budget: usize) -> usize {
        let mut removed = 0;
        while removed < budget
            && self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now)
            && let Some((_, key)) = self.deadlines.pop_first()
        {
            if let Some(entry) = self.topics.remove::<str>(key.borrow()) {
                self.bytes -= entry.bytes;
            }
            removed += 1;
        }
        removed
    }

    /// When the next message expires; [`Time::NEVER`] when none does.
    pub fn next_deadline(&self) -> Time {
        self.deadlines.first().map_or(Time::NEVER, |(deadline, _)| *deadline)
    }
}
