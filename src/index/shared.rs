//! Share groups, in both roles a shard can have. At a member's home a group is a list of local
//! members and picks one of them. At the topic's owner a group is a list of cores with weights and
//! picks one of those; the picked core then picks its member. Both follow the group's strategy.
//!
//! Invariants worth naming:
//! * a round visits each usable member once, whoever leaves meanwhile;
//! * no group is empty: the last to leave removes it;
//! * what an owner has sent a group's part and the part has not seen yet is a subtraction: both
//!   count from the same key of the part.

use super::node::{Subscriber, Subscribers};
use super::strategy::{Chance, Hint, ShareStrategy, best};
use super::{GroupKey, NodeKey, SessionKey};
use crate::base::{Prng, ShardId, Time};
use std::rc::Rc;

/// Draws after which the usable members are counted.
const DRAWS: usize = 8;

/// The members of one share group that are homed on this shard. Lives on one core.
pub struct LocalGroup {
    pub(super) node: NodeKey,
    pub(super) name: Rc<GroupName>,
    pub(super) members: Subscribers,
    strategy: ShareStrategy,
    /// Members before this position had their turn in this round.
    next: usize,
    /// Who has all messages of a sticky group.
    chosen: Option<SessionKey>,
    /// Messages that came here for the group, by owner; kept where owners are told. Wraps.
    arrived: Vec<u32>,
    watch: Watch,
}

/// What of a group's load its owners were told, and when it is looked at again. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// The next look; never: the group rests.
    pub due: Time,
    /// Time between the last look and the next one, in microseconds.
    pub pause_us: u64,
    /// The load that the owners know.
    pub told: u32,
    /// Messages have come since they were told.
    pub stirred: bool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { due: Time::NEVER, pause_us: 0, told: 0, stirred: false }
    }
}

/// A core's part of a share group, as its home tells an owner. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Part {
    /// The group's key at the home, as bits.
    pub local: u64,
    /// Members online.
    pub online: u32,
    /// Members; zero: there is no part any more.
    pub total: u32,
    /// Messages in flight and waiting of the members online.
    pub load: u32,
    /// Messages of this owner that had come for `local` by then; wraps.
    pub arrived: u32,
}

/// What a share group is called, on every core. Pure value.
#[derive(PartialEq, Eq, Debug)]
pub struct GroupName {
    /// The name between `$share/` and the filter.
    pub group: Box<str>,
    /// The filter that its members share.
    pub filter: Box<str>,
}

impl LocalGroup {
    pub(super) fn new(node: NodeKey, name: GroupName, strategy: ShareStrategy) -> LocalGroup {
        let members = Subscribers::default();
        let (arrived, watch) = (Vec::new(), Watch::default());
        let name = Rc::new(name);
        LocalGroup { node, name, members, strategy, next: 0, chosen: None, arrived, watch }
    }

    /// Counts a message of `owner` where owners have to hear of it, and gives what they know.
    pub(super) fn arrive(&mut self, owner: ShardId) -> Option<&mut Watch> {
        if self.strategy != ShareStrategy::LeastInflight {
            return None;
        }
        if self.arrived.len() <= owner.index() {
            self.arrived.resize(owner.index() + 1, 0);
        }
        let arrived = &mut self.arrived[owner.index()];
        *arrived = arrived.wrapping_add(1);
        self.watch.stirred = true;
        Some(&mut self.watch)
    }

    pub(super) fn arrived(&self, owner: ShardId) -> u32 {
        self.arrived.get(owner.index()).copied().unwrap_or(0)
    }

    pub(super) fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// The member that gets a message. `load` tells how much a member has to do, or that it is
    /// not usable. Constant time in rotation where all are usable, else linear in the members.
    pub(super) fn pick(
        &mut self,
        hint: &mut Hint<'_>,
        mut load: impl FnMut(&Subscriber) -> Option<u32>,
    ) -> Option<Subscriber> {
        match self.strategy {
            ShareStrategy::RoundRobin | ShareStrategy::LocalCore => self.in_turn(self.next, load),
            ShareStrategy::Random => self.at_random(hint.random, load),
            ShareStrategy::Sticky => {
                let chosen = self.chosen.and_then(|session| self.members.position(session));
                let chosen = chosen.and_then(|at| self.members.get(at)).copied();
                let chosen = chosen.filter(|member| load(member).is_some());
                let member = chosen.or_else(|| self.in_turn(self.next, load));
                self.chosen = member.map(|member| member.session).or(self.chosen);
                member
            }
            ShareStrategy::HashClient => self.by_hash(hint.publisher, load),
            ShareStrategy::HashTopic => self.by_hash(hint.topic_key(), load),
            ShareStrategy::LeastInflight => self.idlest(load),
        }
    }

    fn in_turn(
        &mut self,
        start: usize,
        mut load: impl FnMut(&Subscriber) -> Option<u32>,
    ) -> Option<Subscriber> {
        let count = self.members.alive();
        for step in 0..count {
            let at = (start + step) % count;
            let member = *self.members.get(at)?;
            if load(&member).is_some() {
                self.next = at + 1;
                return Some(member);
            }
        }
        None
    }

    /// One of the usable ones, each with the same chance: a draw that meets another is repeated.
    /// After some of them the usable ones are counted.
    fn at_random(
        &self,
        random: &mut Prng,
        mut load: impl FnMut(&Subscriber) -> Option<u32>,
    ) -> Option<Subscriber> {
        for _ in 0..DRAWS {
            let member = *self.members.get(random.below(self.members.alive().max(1)))?;
            if load(&member).is_some() {
                return Some(member);
            }
        }
        let members = (0..self.members.alive()).filter_map(|at| self.members.get(at));
        let usable: Vec<_> = members.filter(|member| load(member).is_some()).copied().collect();
        (!usable.is_empty()).then(|| usable[random.below(usable.len())])
    }

    fn by_hash(
        &self,
        key: u64,
        mut load: impl FnMut(&Subscriber) -> Option<u32>,
    ) -> Option<Subscriber> {
        let members = (0..self.members.alive()).filter_map(|at| self.members.get(at));
        let usable = members.filter(|member| load(member).is_some());
        best(usable.map(|m| (*m, Chance { key, of: m.session.to_bits(), weight: 1 })))
    }

    /// The one with the least to do; among equals the next in turn.
    fn idlest(&mut self, mut load: impl FnMut(&Subscriber) -> Option<u32>) -> Option<Subscriber> {
        let count = self.members.alive();
        let mut found: Option<(u32, usize)> = None;
        for step in 0..count {
            let at = (self.next + step) % count;
            if let Some(load) = self.members.get(at).and_then(&mut load)
                && found.is_none_or(|(least, _)| load < least)
            {
                found = Some((load, at));
            }
        }
        let (_, at) = found?;
        self.next = at + 1;
        self.members.get(at).copied()
    }

    /// Removes a member; false when there is no such member.
    pub(super) fn leave(&mut self, session: SessionKey) -> bool {
        let Some(at) = self.members.position(session) else {
            return false;
        };
        if at < self.next {
            // The last member moves into the gap. It may still wait for its turn, so the gap must
            // be at the border between those who had theirs and those who wait.
            self.next -= 1;
            self.members.swap(at, self.next);
        }
        self.members.take(session)
    }
}

/// Both roles of the groups at one node.
#[derive(Default)]
pub(super) struct NodeGroups {
    pub(super) local: Vec<GroupKey>,
    pub(super) owned: Vec<OwnedGroup>,
}

impl NodeGroups {
    pub(super) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.owned.is_empty()
    }

    /// Updates one core's part of an owned group; a `total` of zero removes it.
    pub(super) fn set_share(&mut self, group: &str, share: Share, strategy: ShareStrategy) {
        let at = self.owned.iter().position(|owned| *owned.name == *group);
        match at {
            None if share.part.total == 0 => {}
            None => {
                let name = group.into();
                let shares = vec![share];
                self.owned.push(OwnedGroup { name, shares, strategy, chosen: None });
            }
            Some(at) => {
                self.owned[at].set(share);
                if self.owned[at].shares.is_empty() {
                    self.owned.remove(at);
                }
            }
        }
    }
}

/// The choice that an owner made for one group. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupPick {
    /// The core that shall deliver.
    pub core: ShardId,
    /// The group's key at that core, as bits.
    pub local: u64,
    /// The node whose filter the group shares.
    pub node: NodeKey,
    /// Position of the group at the node, until groups there change.
    pub position: u32,
    /// The owner believes that a member is online there.
    pub online: bool,
}

/// One core's part of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) core: ShardId,
    pub(super) part: Part,
    /// Messages sent to this part since it has its key; wraps.
    sent: u32,
    /// Credit of the smooth weighted round robin.
    credit: i64,
}

impl Share {
    pub(super) fn new(core: ShardId, part: Part) -> Share {
        Share { core, part, sent: 0, credit: 0 }
    }

    /// What its members have to do: as told last, and what was sent and is not in that.
    fn load(&self) -> u64 {
        u64::from(self.part.load) + u64::from(self.sent.wrapping_sub(self.part.arrived))
    }

    /// Members online count; where nobody is online anywhere, all members do.
    fn weight(&self, anybody_online: bool) -> i64 {
        i64::from(if anybody_online { self.part.online } else { self.part.total })
    }
}

/// A group as its owner sees it: cores in ascending order.
pub(super) struct OwnedGroup {
    pub(super) name: Box<str>,
    shares: Vec<Share>,
    strategy: ShareStrategy,
    /// Which core has all messages of a sticky group.
    chosen: Option<ShardId>,
}

impl OwnedGroup {
    fn set(&mut self, mut share: Share) {
        match self.shares.binary_search_by_key(&share.core, |other| other.core) {
            Ok(at) if share.part.total == 0 => {
                self.shares.remove(at);
            }
            Ok(at) => {
                share.credit = self.shares[at].credit;
                if share.part.local == self.shares[at].part.local {
                    share.sent = self.shares[at].sent;
                }
                self.shares[at] = share;
            }
            Err(_) if share.part.total == 0 => return,
            Err(at) => self.shares.insert(at, share),
        }
        self.settle();
    }

    /// After a change: no credit above one round of the present weights and a sum of about zero,
    /// or a core would be favoured or starved for what it was owed under other weights.
    fn settle(&mut self) {
        let online = self.anybody_online();
        let round = self.shares.iter().map(|share| share.weight(online)).sum::<i64>();
        for share in &mut self.shares {
            share.credit = share.credit.clamp(-round, round);
        }
        let sum = self.shares.iter().map(|share| share.credit).sum::<i64>();
        let count = self.shares.len().max(1) as i64;
        for share in &mut self.shares {
            share.credit -= sum / count;
        }
    }

    fn anybody_online(&self) -> bool {
        self.shares.iter().any(|share| share.part.online > 0)
    }

    /// The core that gets a message.
    pub(super) fn pick(
        &mut self,
        node: NodeKey,
        position: usize,
        hint: &mut Hint<'_>,
    ) -> Option<GroupPick> {
        let online = self.anybody_online();
        let at = match self.strategy {
            ShareStrategy::RoundRobin => self.in_turn(online, |_| true),
            ShareStrategy::LeastInflight => self.idlest(online),
            ShareStrategy::Random => self.by_hash(hint.random.next_u64(), online),
            ShareStrategy::HashClient => self.by_hash(hint.publisher, online),
            ShareStrategy::HashTopic => self.by_hash(hint.topic_key(), online),
            ShareStrategy::Sticky => self.at_chosen(online),
            ShareStrategy::LocalCore => self
                .usable_at(hint.near, online)
                .or_else(|| self.usable_at(hint.me, online))
                .or_else(|| self.in_turn(online, |_| true)),
        }?;
        let share = &self.shares[at];
        let position = position as u32;
        Some(GroupPick { core: share.core, local: share.part.local, node, position, online })
    }

    /// Notes that a message leaves for `core`.
    pub(super) fn sent(&mut self, core: ShardId) {
        if self.strategy == ShareStrategy::LeastInflight
            && let Ok(at) = self.shares.binary_search_by_key(&core, |share| share.core)
        {
            self.shares[at].sent = self.shares[at].sent.wrapping_add(1);
        }
    }

    /// The core with the least to do per member online; among equals in turn, by their members.
    fn idlest(&mut self, online: bool) -> Option<usize> {
        let usable = self.shares.iter().filter(|share| share.part.online > 0);
        let loads = usable.map(|share| (share.load(), u64::from(share.part.online)));
        let least = loads.min_by(|one, other| (one.0 * other.1).cmp(&(other.0 * one.1)));
        let Some((load, members)) = least else { return self.in_turn(online, |_| true) };
        self.in_turn(online, |share| share.load() * members == load * u64::from(share.part.online))
    }

    fn usable_at(&self, core: ShardId, online: bool) -> Option<usize> {
        let at = self.shares.binary_search_by_key(&core, |share| share.core).ok()?;
        (self.shares[at].weight(online) > 0).then_some(at)
    }

    fn by_hash(&self, key: u64, online: bool) -> Option<usize> {
        best(self.shares.iter().enumerate().map(|(at, share)| {
            let of = u64::from(share.core.0);
            (at, Chance { key, of, weight: share.weight(online) as u32 })
        }))
    }

    /// The core that was chosen, as long as it is of use. All owners choose alike.
    fn at_chosen(&mut self, online: bool) -> Option<usize> {
        let kept = self.chosen.and_then(|core| self.usable_at(core, online));
        let at = kept.or_else(|| self.by_hash(0, online))?;
        self.chosen = Some(self.shares[at].core);
        Some(at)
    }

    /// The core whose turn it is among those that `may` have it, by smooth weighted round robin:
    /// each gains its weight, the richest is picked and pays the sum. Equal credits go to the
    /// lowest core.
    fn in_turn(&mut self, online: bool, may: impl Fn(&Share) -> bool) -> Option<usize> {
        let (mut round, mut richest) = (0, None);
        for at in 0..self.shares.len() {
            let weight = self.shares[at].weight(online);
            if weight == 0 || !may(&self.shares[at]) {
                continue;
            }
            self.shares[at].credit += weight;
            round += weight;
            if richest.is_none_or(|best: usize| self.shares[at].credit > self.shares[best].credit) {
                richest = Some(at);
            }
        }
        self.shares[richest?].credit -= round;
        richest
    }
}
