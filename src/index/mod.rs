//! The subscription index of one shard: a trie from topics to the nodes of the filters that match
//! them. A node holds this shard's own subscribers, the cores interested in the filter (where this
//! shard owns topics that the filter matches) and share groups in both roles.
//!
//! Invariants worth naming:
//! * the index knows ids only, never what a session holds;
//! * a match names nodes, not subscribers: joining or leaving a node that has others outdates
//!   nothing; the first and the last at a node outdate the matches that the filter could be in;
//! * while [`Index::is_current`] holds for a match, matching again would name the same nodes;
//! * a node that holds nothing is freed at once, with the ancestors that existed for it alone.

mod cache;
mod crowds;
mod generation;
mod node;
mod shared;
mod strategy;
#[cfg(test)]
mod tests;
mod trie;

use std::collections::VecDeque;
use std::rc::Rc;

pub use node::{Node, Slot, Subscriber};
pub use shared::{GroupName, GroupPick, LocalGroup, Part, Watch};
pub use strategy::{Hint, ShareStrategy, Strategies};

use crate::base::{CoreSet, Key, ShardId, Slots};
use crate::topic::{TopicFilter, TopicName};
use cache::MatchCache;
use crowds::Crowds;
use generation::{Generations, Stamp};
use shared::Share;
use trie::{Branch, Trie};

/// Kind of a [`SessionKey`].
pub enum SessionTag {}

/// Names a session of this shard. The index never looks behind it.
pub type SessionKey = Key<SessionTag>;

/// Names a node of the trie; goes stale when the node is freed.
pub type NodeKey = Key<Node>;

/// Names a share group's local members; goes stale when the last one leaves.
pub type GroupKey = Key<LocalGroup>;

/// The outcome of [`Index::subscribe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// The filter's node.
    pub node: NodeKey,
    /// Whether the filter had no plain subscriber on this shard before.
    pub first: bool,
    /// Whether the session was subscribed to this very filter before.
    pub replaced: bool,
}

/// The outcome of [`Index::unsubscribe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsubscribed {
    /// The session wasn't subscribed there.
    Absent,
    /// It was.
    Removed {
        /// Whether no plain subscriber of the filter is left on this shard.
        last: bool,
    },
}

impl Unsubscribed {
    /// Whether the filter lost its last plain subscriber on this shard.
    pub fn is_last(self) -> bool {
        self == Unsubscribed::Removed { last: true }
    }
}

/// The outcome of [`Index::join_group`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The inner filter's node.
    pub node: NodeKey,
    /// The group's local members.
    pub group: GroupKey,
    /// Whether the group had no member on this shard before.
    pub first: bool,
    /// Whether the session was a member before.
    pub replaced: bool,
}

/// The outcome of [`Index::leave_group`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// The session was no member, or the group is gone.
    Absent,
    /// It was a member.
    Removed {
        /// Whether no member is left on this shard; the key is stale then.
        last: bool,
    },
}

/// The nodes that match one topic, in an order that depends only on the filters. Nodes without
/// subscribers, interest, owned groups and crowds are not named.
#[derive(Debug)]
pub struct Matched {
    /// The nodes; a stale match may name freed ones.
    pub nodes: Box<[NodeKey]>,
    stamp: Stamp,
}

/// How many groups without members are remembered by name.
const GONE_GROUPS: usize = 1024;

/// The subscription index. Lives on one core.
pub struct Index {
    trie: Trie,
    groups: Slots<LocalGroup>,
    strategies: Strategies,
    /// The latest groups that lost their last member here: messages may still be under way.
    gone: VecDeque<(GroupKey, Rc<GroupName>)>,
    generations: Generations,
    crowds: Crowds,
    cache: MatchCache,
    /// Scratch of [`Index::matches`], kept so that a match allocates only its result.
    branches: Vec<Branch>,
    found: Vec<NodeKey>,
}

impl Index {
    /// An empty index. `seed` keys its hash tables and influences no result; `cache_bytes` bounds
    /// the match cache, zero turns it off.
    pub fn new(seed: u64, cache_bytes: usize) -> Index {
        Index {
            trie: Trie::new(seed),
            groups: Slots::default(),
            strategies: Strategies::default(),
            gone: VecDeque::new(),
            generations: Generations::new(seed),
            crowds: Crowds::default(),
            cache: MatchCache::new(seed, cache_bytes),
            branches: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Subscribes a session to `filter`, or changes the options of its subscription.
    pub fn subscribe(&mut self, filter: &TopicFilter, subscriber: Subscriber) -> Subscribed {
        let node = self.enter(filter);
        let (first, replaced) = self.change(node, |node| {
            let first = node.alive() == 0;
            (first, node.subscribers.put(subscriber))
        });
        Subscribed { node, first, replaced }
    }

    /// Ends a session's subscription to the filter of `node`.
    pub fn unsubscribe(&mut self, node: NodeKey, session: SessionKey) -> Unsubscribed {
        if self.trie.get(node).is_none() {
            return Unsubscribed::Absent;
        }
        self.change(node, |node| match node.subscribers.take(session) {
            true => Unsubscribed::Removed { last: node.alive() == 0 },
            false => Unsubscribed::Absent,
        })
    }

    /// The node of `filter`; it may exist for the filters below it alone.
    pub fn find(&self, filter: &TopicFilter) -> Option<NodeKey> {
        self.trie.find(filter)
    }

    /// Puts the text of the node's filter into `out`, which is emptied first.
    pub fn filter_of(&self, node: NodeKey, out: &mut String) {
        self.trie.filter_of(node, out);
    }

    /// Notes that `core` has plain subscribers of `filter`.
    pub fn set_interest(&mut self, filter: &TopicFilter, core: ShardId) {
        let node = self.enter(filter);
        self.change(node, |node| node.interest.insert(core));
    }

    /// Notes that `core` has no plain subscriber of `filter` any more.
    pub fn clear_interest(&mut self, filter: &TopicFilter, core: ShardId) {
        if let Some(node) = self.trie.find(filter) {
            self.change(node, |node| node.interest.remove(core));
        }
    }

    /// The nodes whose filters match `topic`; from the cache while nothing related changed.
    pub fn matches(&mut self, topic: &TopicName) -> Rc<Matched> {
        if let Some(cached) = self.cache.get(topic)
            && self.generations.is_current(&cached.stamp)
        {
            return Rc::clone(cached);
        }
        self.found.clear();
        self.trie.matches(topic, &mut self.branches, &mut self.found);
        let nodes = self.found.as_slice().into();
        let matched = Rc::new(Matched { nodes, stamp: self.generations.stamp(topic) });
        self.cache.put(topic, Rc::clone(&matched));
        matched
    }

    /// Whether matching again would name the same nodes. Costs a few loads and one compare; errs
    /// only towards false.
    #[inline]
    pub fn is_current(&self, matched: &Matched) -> bool {
        self.generations.is_current(&matched.stamp)
    }

    /// The node named by `key`, unless it was freed.
    #[inline]
    pub fn node(&self, key: NodeKey) -> Option<&Node> {
        self.trie.get(key)
    }

    /// As [`Index::node`], for changes that concern one subscriber's options.
    pub fn node_mut(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.trie.get_mut(key)
    }

    /// Keeps the node and the positions of its subscribers until the matching [`Index::unpin`];
    /// pins are counted. False when the node is gone.
    pub fn pin(&mut self, node: NodeKey) -> bool {
        self.trie.get_mut(node).map(Node::pin).is_some()
    }

    /// Ends one pin. The last one drops dead entries and frees the node if nothing else keeps it.
    pub fn unpin(&mut self, node: NodeKey) {
        if let Some(pinned) = self.trie.get_mut(node) {
            pinned.unpin();
            self.trie.release(node);
        }
    }

    /// How many nodes there are; those that exist for the filters below them included.
    pub fn len(&self) -> usize {
        self.trie.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many literal levels hang below other nodes; zero when the index is empty.
    pub fn edges(&self) -> usize {
        self.trie.edges()
    }

    /// What the match cache holds, in bytes.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// How many topics the match cache holds.
    pub fn cache_len(&self) -> usize {
        self.cache.len()
    }

    /// The node of `filter`, created if need be. Something must be put into it at once.
    fn enter(&mut self, filter: &TopicFilter) -> NodeKey {
        let key = self.trie.ensure(filter);
        let scope = self.generations.scope_of(filter);
        self.trie.get_mut(key).expect("it was ensured just now").scope = scope;
        key
    }

    /// Changes what a node holds; outdates matches if it starts or ceases to matter and frees it
    /// if nothing is left.
    fn change<R>(&mut self, key: NodeKey, act: impl FnOnce(&mut Node) -> R) -> R {
        let node = self.trie.get_mut(key).expect("the caller found the node");
        let before = node.is_bearing();
        let outcome = act(node);
        if node.is_bearing() != before {
            self.generations.advance(node.scope);
        }
        self.trie.release(key);
        outcome
    }
}

/// Share groups at the members' home.
impl Index {
    /// Makes a session a member of `group` on `filter`, or changes its options there.
    pub fn join_group(&mut self, filter: &TopicFilter, group: &str, member: Subscriber) -> Joined {
        let node = self.enter(filter);
        let key = self.local_group(node, group).unwrap_or_else(|| {
            let strategy = self.strategies.of(group);
            let name = GroupName { group: group.into(), filter: filter.as_str().into() };
            let key = self.groups.insert(LocalGroup::new(node, name, strategy));
            self.change(node, |node| node.groups.get_or_insert_default().local.push(key));
            key
        });
        let local = self.groups.get_mut(key).expect("a node names living groups");
        let first = local.members.alive() == 0;
        Joined { node, group: key, first, replaced: local.members.put(member) }
    }

    /// Ends a session's membership.
    pub fn leave_group(&mut self, key: GroupKey, session: SessionKey) -> Left {
        let Some(group) = self.groups.get_mut(key) else {
            return Left::Absent;
        };
        if !group.leave(session) {
            return Left::Absent;
        }
        let last = group.members.alive() == 0;
        if last {
            let node = group.node;
            if self.gone.len() == GONE_GROUPS {
                self.gone.pop_front();
            }
            self.gone.push_back((key, Rc::clone(&group.name)));
            self.groups.remove(key);
            self.change(node, |node| {
                node.change_groups(|groups| groups.local.retain(|other| *other != key));
            });
        }
        Left::Removed { last }
    }

    /// The member that gets a message, by the group's strategy; none when nobody is usable or the
    /// group is gone. `load` tells how much a member has to do, or that it is not usable.
    pub fn pick(
        &mut self,
        key: GroupKey,
        hint: &mut Hint<'_>,
        load: impl FnMut(&Subscriber) -> Option<u32>,
    ) -> Option<Subscriber> {
        self.groups.get_mut(key)?.pick(hint, load)
    }

    /// Counts a message that `owner` picked this group's part for. What is given is what the owners
    /// know of its load; nothing, where they need not know.
    pub fn group_arrival(&mut self, key: GroupKey, owner: ShardId) -> Option<&mut Watch> {
        self.groups.get_mut(key)?.arrive(owner)
    }

    /// How many messages of `owner` have come for the group; counted where owners have to know.
    pub fn group_arrived(&self, key: GroupKey, owner: ShardId) -> u32 {
        self.groups.get(key).map_or(0, |group| group.arrived(owner))
    }

    /// What the owners know of the group's load.
    pub fn group_watch(&mut self, key: GroupKey) -> Option<&mut Watch> {
        self.groups.get_mut(key).map(LocalGroup::watch)
    }

    /// What the group is called; also for a while after its last member left.
    pub fn name_of_group(&self, key: GroupKey) -> Option<Rc<GroupName>> {
        if let Some(group) = self.groups.get(key) {
            return Some(Rc::clone(&group.name));
        }
        let gone = self.gone.iter().rev().find(|(gone, _)| *gone == key);
        gone.map(|(_, name)| Rc::clone(name))
    }

    /// Sets how groups choose, for those that are formed from now on.
    pub fn set_strategies(&mut self, strategies: Strategies) {
        self.strategies = strategies;
    }

    /// How many members the group has on this shard.
    pub fn group_len(&self, key: GroupKey) -> usize {
        self.groups.get(key).map_or(0, |group| group.members.alive())
    }

    /// The group's name.
    pub fn group_name(&self, key: GroupKey) -> Option<&str> {
        self.groups.get(key).map(|group| &*group.name.group)
    }

    /// The node of the group's filter.
    pub fn group_node(&self, key: GroupKey) -> Option<NodeKey> {
        self.groups.get(key).map(|group| group.node)
    }

    /// The group's members on this shard.
    pub fn group_members(&self, key: GroupKey) -> impl Iterator<Item = &Subscriber> {
        let members = self.groups.get(key).map(|group| &group.members);
        members.into_iter().flat_map(|m| (0..m.alive()).filter_map(|at| m.get(at)))
    }

    /// A member of the group.
    pub fn group_member(&self, key: GroupKey, session: SessionKey) -> Option<&Subscriber> {
        let members = &self.groups.get(key)?.members;
        members.get(members.position(session)?)
    }

    /// The local members of `group` at a node.
    pub fn local_group(&self, node: NodeKey, group: &str) -> Option<GroupKey> {
        let local = &self.trie.get(node)?.groups.as_ref()?.local;
        local.iter().copied().find(|key| self.group_name(*key) == Some(group))
    }
}

/// Share groups at the topics' owner.
impl Index {
    /// Notes the part that `core` has in `group` on `filter`; a total of zero removes the core from
    /// the group.
    pub fn set_group_part(&mut self, filter: &TopicFilter, group: &str, core: ShardId, part: Part) {
        let node = match part.total {
            0 => self.trie.find(filter),
            _ => Some(self.enter(filter)),
        };
        if let Some(node) = node {
            let share = Share::new(core, part);
            let strategy = self.strategies.of(group);
            self.change(node, |node| {
                node.change_groups(|groups| groups.set_share(group, share, strategy));
            });
        }
    }

    /// Of all nodes of the match: the cores with plain subscribers, whether there are owned groups,
    /// and how many places of local subscribers.
    #[inline]
    pub fn survey(&self, matched: &Matched) -> (CoreSet, bool, usize) {
        let nodes = matched.nodes.iter().filter_map(|key| self.trie.get(*key));
        nodes.fold((CoreSet::EMPTY, false, 0), |(cores, groups, places), node| {
            (cores.union(node.interest()), groups || node.owns_groups(), places + node.len())
        })
    }

    /// Picks a core for each owned group of the match and appends the picks to `out`. Cores count
    /// by weight: members online, or all members where nobody is online anywhere.
    pub fn pick_cores(&mut self, matched: &Matched, hint: &mut Hint<'_>, out: &mut Vec<GroupPick>) {
        for key in &matched.nodes {
            let groups = self.trie.get_mut(*key).and_then(|node| node.groups.as_mut());
            if let Some(groups) = groups {
                let owned = groups.owned.iter_mut().enumerate();
                out.extend(owned.filter_map(|(at, group)| group.pick(*key, at, hint)));
            }
        }
    }

    /// Picks a core for one group, as for a message whose first pick missed.
    pub fn pick_core_for(
        &mut self,
        filter: &TopicFilter,
        group: &str,
        hint: &mut Hint<'_>,
    ) -> Option<GroupPick> {
        let key = self.trie.find(filter)?;
        let owned = &mut self.trie.get_mut(key)?.groups.as_mut()?.owned;
        let at = owned.iter().position(|owned| *owned.name == *group)?;
        owned[at].pick(key, at, hint)
    }

    /// Notes that a message leaves for who was picked.
    pub fn note_sent(&mut self, pick: &GroupPick) {
        let groups = self.trie.get_mut(pick.node).and_then(|node| node.groups.as_mut());
        if let Some(group) = groups.and_then(|all| all.owned.get_mut(pick.position as usize)) {
            group.sent(pick.core);
        }
    }

    /// The name of the group that a pick was made for; meaningful until the node's groups change.
    pub fn picked_group(&self, pick: &GroupPick) -> Option<&str> {
        let groups = self.trie.get(pick.node)?.groups.as_ref()?;
        groups.owned.get(pick.position as usize).map(|group| &*group.name)
    }
}
