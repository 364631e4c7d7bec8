//! Share groups, in both roles a shard can have. At a member's home a group is a list of local
//! members and picks one of them in turn. At the topic's owner a group is a list of cores with
//! weights and picks one of those; the picked core then picks its member.
//!
//! Invariants worth naming:
//! * a round visits each usable member once, whoever leaves meanwhile;
//! * no group is empty: the last to leave removes it.

use super::node::{Subscriber, Subscribers};
use super::{GroupKey, NodeKey, SessionKey};
use crate::base::ShardId;

/// The members of one share group that are homed on this shard. Lives on one core.
pub struct LocalGroup {
    pub(super) node: NodeKey,
    pub(super) name: Box<str>,
    pub(super) members: Subscribers,
    /// Members before this position had their turn in this round.
    next: usize,
}

impl LocalGroup {
    pub(super) fn new(node: NodeKey, name: &str) -> LocalGroup {
        LocalGroup { node, name: name.into(), members: Subscribers::default(), next: 0 }
    }

    /// The next usable member in turn.
    pub(super) fn pick(
        &mut self,
        mut usable: impl FnMut(&Subscriber) -> bool,
    ) -> Option<Subscriber> {
        let count = self.members.alive();
        for step in 0..count {
            let at = (self.next + step) % count;
            let member = *self.members.get(at)?;
            if usable(&member) {
                self.next = at + 1;
                return Some(member);
            }
        }
        None
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
    pub(super) fn set_share(&mut self, group: &str, share: Share) {
        let at = self.owned.iter().position(|owned| *owned.name == *group);
        match at {
            None if share.total == 0 => {}
            None => {
                let name = group.into();
                self.owned.push(OwnedGroup { name, shares: vec![share] });
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
}

/// One core's part of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) core: ShardId,
    pub(super) local: u64,
    pub(super) online: u32,
    pub(super) total: u32,
    /// Credit of the smooth weighted round robin.
    credit: i64,
}

impl Share {
    pub(super) fn new(core: ShardId, local: u64, online: u32, total: u32) -> Share {
        Share { core, local, online, total, credit: 0 }
    }

    /// Members online count; where nobody is online anywhere, all members do.
    fn weight(&self, anybody_online: bool) -> i64 {
        i64::from(if anybody_online { self.online } else { self.total })
    }
}

/// A group as its owner sees it: cores in ascending order.
pub(super) struct OwnedGroup {
    pub(super) name: Box<str>,
    shares: Vec<Share>,
}

impl OwnedGroup {
    fn set(&mut self, mut share: Share) {
        match self.shares.binary_search_by_key(&share.core, |other| other.core) {
            Ok(at) if share.total == 0 => {
                self.shares.remove(at);
            }
            Ok(at) => {
                share.credit = self.shares[at].credit;
                self.shares[at] = share;
            }
            Err(_) if share.total == 0 => return,
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
        self.shares.iter().any(|share| share.online > 0)
    }

    /// The core whose turn it is, by smooth weighted round robin: each core gains its weight, the
    /// richest is picked and pays the sum. Equal credits go to the lowest core.
    pub(super) fn pick(&mut self, node: NodeKey, position: usize) -> Option<GroupPick> {
        let online = self.anybody_online();
        let mut round = 0;
        let mut best: Option<&mut Share> = None;
        for share in &mut self.shares {
            let weight = share.weight(online);
            if weight == 0 {
                continue;
            }
            share.credit += weight;
            round += weight;
            if best.as_ref().is_none_or(|best| share.credit > best.credit) {
                best = Some(share);
            }
        }
        let share = best?;
        share.credit -= round;
        let position = position as u32;
        Some(GroupPick { core: share.core, local: share.local, node, position })
    }
}
