//! One node of the trie: the local subscribers of a filter and the cores interested in it.
//!
//! Invariants worth naming:
//! * while a node is pinned no entry changes its position: a removal marks the entry dead and
//!   leaves it, a return of the same session revives it, a newcomer is appended. So a cursor that
//!   walks the positions meets everyone who stays for the whole walk exactly once;
//! * an unpinned node holds no dead entry.

use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::shared::NodeGroups;
use super::{NodeKey, SessionKey};
use crate::base::CoreSet;
use crate::codec::QoS;

/// Up to so many subscribers a scan beats a table.
const LINEAR_MAX: usize = 16;
/// Down to so many subscribers a table is kept, so that a node at the border doesn't flap.
const TABLE_MIN: usize = 8;

/// One session's subscription to the filter of a node. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriber {
    /// The subscribed session, homed on this shard.
    pub session: SessionKey,
    /// Maximum quality of service granted.
    pub qos: QoS,
    /// Whether the session's own messages are withheld (MQTT 5.0 section 3.8.3.1).
    pub no_local: bool,
    /// Whether the retain flag is forwarded as published.
    pub retain_as_published: bool,
    /// Subscription identifier, if one was given.
    pub identifier: Option<NonZeroU32>,
    /// Whether owners have yet to confirm: the caller withholds live copies until then.
    pub installing: bool,
}

/// One position of a node's subscriber list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot<'a> {
    /// A subscriber.
    Alive(&'a Subscriber),
    /// A subscriber that left while the node was pinned; a cursor steps over it.
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    subscriber: Subscriber,
    alive: bool,
}

/// Subscribers with stable positions while pinned; also the members of a share group.
#[derive(Default)]
pub(super) struct Subscribers {
    entries: Vec<Entry>,
    /// Position of each session; present only when a scan would be long.
    positions: Option<Box<HashTable<u32>>>,
    dead: u32,
    pins: u32,
}

fn hash_of(session: SessionKey) -> u64 {
    FixedState::default().hash_one(session.to_bits())
}

impl Subscribers {
    /// How many are alive.
    pub(super) fn alive(&self) -> usize {
        self.entries.len() - self.dead as usize
    }

    pub(super) fn position(&self, session: SessionKey) -> Option<usize> {
        match &self.positions {
            None => self.entries.iter().position(|entry| entry.subscriber.session == session),
            Some(table) => table
                .find(hash_of(session), |at| {
                    self.entries[*at as usize].subscriber.session == session
                })
                .map(|at| *at as usize),
        }
    }

    /// The living subscriber at `position`.
    pub(super) fn get(&self, position: usize) -> Option<&Subscriber> {
        self.entries.get(position).filter(|entry| entry.alive).map(|entry| &entry.subscriber)
    }

    /// Adds or replaces; tells whether the session was there (alive) before.
    pub(super) fn put(&mut self, subscriber: Subscriber) -> bool {
        if let Some(at) = self.position(subscriber.session) {
            let entry = &mut self.entries[at];
            let replaced = entry.alive;
            *entry = Entry { subscriber, alive: true };
            self.dead -= u32::from(!replaced);
            return replaced;
        }
        if self.entries.is_empty() {
            self.entries.reserve_exact(1); // most filters have one subscriber
        }
        self.entries.push(Entry { subscriber, alive: true });
        let at = self.entries.len() - 1;
        if self.positions.is_some() {
            self.enlist(at);
        } else if self.entries.len() > LINEAR_MAX {
            self.positions = Some(Box::default());
            (0..self.entries.len()).for_each(|at| self.enlist(at));
        }
        false
    }

    /// Removes a living subscriber; false when there is none.
    pub(super) fn take(&mut self, session: SessionKey) -> bool {
        let Some(at) = self.position(session).filter(|at| self.entries[*at].alive) else {
            return false;
        };
        if self.pins > 0 {
            self.entries[at].alive = false;
            self.dead += 1;
        } else {
            self.swap_remove(at);
        }
        true
    }

    /// Exchanges two positions of an unpinned list.
    pub(super) fn swap(&mut self, a: usize, b: usize) {
        debug_assert_eq!(self.pins, 0);
        if a == b {
            return;
        }
        self.delist(a);
        self.delist(b);
        self.entries.swap(a, b);
        self.enlist(a);
        self.enlist(b);
    }

    fn swap_remove(&mut self, at: usize) {
        let last = self.entries.len() - 1;
        self.delist(at);
        if at != last {
            self.delist(last);
        }
        self.entries.swap_remove(at);
        if at != last {
            self.enlist(at);
        }
        let len = self.entries.len();
        if len <= TABLE_MIN {
            self.positions = None;
        }
        if len < self.entries.capacity() / 4 {
            self.entries.shrink_to(len * 2);
        }
    }

    fn enlist(&mut self, at: usize) {
        if let Some(table) = &mut self.positions {
            let entries = &self.entries;
            let hash = hash_of(entries[at].subscriber.session);
            table.insert_unique(hash, at as u32, |other| {
                hash_of(entries[*other as usize].subscriber.session)
            });
        }
    }

    fn delist(&mut self, at: usize) {
        if let Some(table) = &mut self.positions {
            let hash = hash_of(self.entries[at].subscriber.session);
            if let Ok(found) = table.find_entry(hash, |other| *other as usize == at) {
                found.remove();
            }
        }
    }

    /// Removes the dead from the end, so that what is swapped in was looked at already.
    fn compact(&mut self) {
        for at in (0..self.entries.len()).rev() {
            if self.dead == 0 {
                break;
            }
            if !self.entries[at].alive {
                self.swap_remove(at);
                self.dead -= 1;
            }
        }
    }
}

/// What hangs on one filter. Lives on one core.
pub struct Node {
    pub(super) parent: NodeKey,
    /// Text of a literal level; empty (and not allocated) for `+` and `#`.
    pub(super) text: Box<str>,
    pub(super) kind: Kind,
    /// Which topics' matches are outdated when this node starts or ceases to matter.
    pub(super) scope: super::generation::Scope,
    pub(super) single: NodeKey,
    pub(super) multi: NodeKey,
    /// How many literal children there are: none saves the look in the edge table.
    pub(super) named: u32,
    pub(super) subscribers: Subscribers,
    pub(super) interest: CoreSet,
    pub(super) groups: Option<Box<NodeGroups>>,
    /// Some core has a crowd of subscribers.
    pub(super) crowded: bool,
}

/// Which level of the parent a node stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Root,
    Name,
    SingleLevel,
    MultiLevel,
}

impl Node {
    pub(super) fn new(parent: NodeKey, kind: Kind, text: &str) -> Node {
        Node {
            parent,
            text: text.into(),
            kind,
            scope: super::generation::Scope::default(),
            single: super::trie::absent(),
            multi: super::trie::absent(),
            named: 0,
            subscribers: Subscribers::default(),
            interest: CoreSet::EMPTY,
            groups: None,
            crowded: false,
        }
    }

    /// The subscribers and dead marks at `positions`; none at and after [`Node::len`]. Positions
    /// are stable while the node is pinned.
    #[inline]
    pub fn slots(&self, positions: Range<usize>) -> impl Iterator<Item = Slot<'_>> {
        let entries = self.subscribers.entries.get(positions).unwrap_or_default();
        entries.iter().map(|entry| match entry.alive {
            true => Slot::Alive(&entry.subscriber),
            false => Slot::Dead,
        })
    }

    /// How many positions there are, dead ones included.
    #[inline]
    pub fn len(&self) -> usize {
        self.subscribers.entries.len()
    }

    /// Whether there is no position at all.
    pub fn is_empty(&self) -> bool {
        self.subscribers.entries.is_empty()
    }

    /// How many subscribers are alive.
    pub fn alive(&self) -> usize {
        self.subscribers.alive()
    }

    /// The entry of `session` and whether it is alive. Constant time.
    pub fn find(&self, session: SessionKey) -> Option<(&Subscriber, bool)> {
        let entry = &self.subscribers.entries[self.subscribers.position(session)?];
        Some((&entry.subscriber, entry.alive))
    }

    /// The living entry of `session` for change; the caller leaves `session` alone.
    pub fn find_mut(&mut self, session: SessionKey) -> Option<&mut Subscriber> {
        let at = self.subscribers.position(session)?;
        let entry = &mut self.subscribers.entries[at];
        entry.alive.then_some(&mut entry.subscriber)
    }

    /// The cores with plain subscribers of this filter, as far as this shard was told.
    #[inline]
    pub fn interest(&self) -> CoreSet {
        self.interest
    }

    /// Whether the node is pinned.
    pub fn is_pinned(&self) -> bool {
        self.subscribers.pins > 0
    }

    pub(super) fn pin(&mut self) {
        self.subscribers.pins += 1;
    }

    pub(super) fn unpin(&mut self) {
        debug_assert!(self.is_pinned(), "an unpin without its pin");
        self.subscribers.pins = self.subscribers.pins.saturating_sub(1);
        if self.subscribers.pins == 0 {
            self.subscribers.compact();
        }
    }

    /// Whether a match must name this node.
    pub(super) fn is_bearing(&self) -> bool {
        self.alive() > 0 || !self.interest.is_empty() || self.owns_groups() || self.crowded
    }

    /// Whether share groups of this filter are picked for here.
    pub(super) fn owns_groups(&self) -> bool {
        self.groups.as_ref().is_some_and(|groups| !groups.owned.is_empty())
    }

    /// Changes the groups; keeps no empty ones.
    pub(super) fn change_groups(&mut self, act: impl FnOnce(&mut NodeGroups)) {
        let groups = self.groups.get_or_insert_default();
        act(groups);
        if groups.is_empty() {
            self.groups = None;
        }
    }

    /// Whether nothing keeps this node.
    pub(super) fn is_vacant(&self) -> bool {
        self.is_empty()
            && self.interest.is_empty()
            && self.groups.is_none()
            && !self.crowded
            && !self.is_pinned()
            && self.named == 0
            && self.single.generation() == 0
            && self.multi.generation() == 0
    }
}
