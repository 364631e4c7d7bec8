//! Delivery of one message to all local subscribers, in one go or over many ticks.
//!
//! A session that several matching filters reach gets one copy with the highest QoS and all
//! subscription identifiers: it is served at the first matching node that holds it.

use super::Shard;
use super::counters::DropCause;
use super::deliver::{Claim, Prepared};
use crate::base::ShardId;
use crate::index::{GroupKey, Index, Matched, NodeKey, SessionKey, Slot, Subscriber};
use crate::session::{Message, MessageView};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::rc::Rc;

/// How many long fan-outs may be under way for messages that this shard accepted.
const LONG_FANOUTS: usize = 8;

/// Where a fan-out stands.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Cursor {
    node: usize,
    position: usize,
}

/// A fan-out too long for one tick. Its nodes are pinned.
pub(super) struct FanOut {
    message: Rc<Message>,
    matched: Rc<Matched>,
    cursor: Cursor,
    from: ShardId,
    trail: Trail,
}

/// What a long fan-out must remember, because subscriptions change while it is under way.
struct Trail {
    /// Where each node ended when the message was accepted: whoever came later is not meant.
    ends: Box<[usize]>,
    /// Sessions that were served and have another matching node ahead.
    served: HashSet<SessionKey, RandomState>,
}

impl FanOut {
    /// Whether `view` must not overtake one of `fanouts`: same topic, same publisher, or no place
    /// for another one.
    pub(super) fn conflicts(fanouts: &[FanOut], view: &MessageView<'_>) -> bool {
        fanouts.len() >= LONG_FANOUTS
            || fanouts.iter().any(|fanout| {
                let other = fanout.message.view();
                other.topic == view.topic || other.publisher == view.publisher
            })
    }
}

impl Shard {
    /// Delivers a message accepted here to this core's subscribers.
    pub(super) fn fan_out(&mut self, view: &MessageView<'_>, matched: &Rc<Matched>) {
        if let Some(fanout) = self.start_fan_out(view, matched, self.me) {
            self.fanouts.push(fanout);
        }
    }

    /// Serves all local subscribers now, or gives back a fan-out to be continued.
    pub(super) fn start_fan_out(
        &mut self,
        view: &MessageView<'_>,
        matched: &Rc<Matched>,
        from: ShardId,
    ) -> Option<FanOut> {
        let total: usize =
            matched.nodes.iter().filter_map(|n| self.index.node(*n)).map(|n| n.len()).sum();
        if total > self.clients.settings.tick.targets {
            for node in &matched.nodes {
                self.index.pin(*node);
            }
            let ends = matched.nodes.iter().map(|n| self.index.node(*n).map_or(0, |n| n.len()));
            let trail = Trail { ends: ends.collect(), served: HashSet::default() };
            let (message, matched) = (view.store(), Rc::clone(matched));
            return Some(FanOut { message, matched, cursor: Cursor::default(), from, trail });
        }
        self.targets_left = self.targets_left.saturating_sub(total);
        let mut prepared = Prepared::new(None, std::mem::take(&mut self.clients.scratch));
        let path = Path { matched, from, trail: None };
        self.deliver_along(view, path, Cursor::default(), usize::MAX, &mut prepared);
        self.clients.scratch = prepared.into_bytes();
        None
    }

    /// Continues a long fan-out within the tick's budget; true when it is finished.
    pub(super) fn continue_fan_out(&mut self, fanout: &mut FanOut) -> bool {
        let budget = self.targets_left;
        let message = Rc::clone(&fanout.message);
        let stored = Some(Rc::clone(&message));
        let mut prepared = Prepared::new(stored, std::mem::take(&mut self.clients.scratch));
        let FanOut { matched, from, trail, .. } = fanout;
        let path = Path { matched, from: *from, trail: Some(trail) };
        let (cursor, used) =
            self.deliver_along(&message.view(), path, fanout.cursor, budget, &mut prepared);
        self.clients.scratch = prepared.into_bytes();
        self.targets_left = self.targets_left.saturating_sub(used);
        fanout.cursor = cursor;
        let finished = cursor.node >= fanout.matched.nodes.len();
        if finished {
            for node in &fanout.matched.nodes {
                self.index.unpin(*node);
            }
        }
        finished
    }

    /// Continues this shard's own long fan-outs, oldest first, sharing the budget.
    pub(super) fn go_on_with_fan_outs(&mut self) {
        if self.fanouts.is_empty() || self.targets_left == 0 {
            return;
        }
        let mut fanouts = std::mem::take(&mut self.fanouts);
        let all = self.targets_left;
        // Half of the tick is kept for everybody else.
        self.targets_left = (all / 2).max(1);
        let kept = all - self.targets_left;
        fanouts.retain_mut(|fanout| self.targets_left == 0 || !self.continue_fan_out(fanout));
        self.targets_left += kept;
        debug_assert!(self.fanouts.is_empty());
        self.fanouts = fanouts;
    }

    fn deliver_along(
        &mut self,
        view: &MessageView<'_>,
        mut path: Path<'_>,
        mut cursor: Cursor,
        budget: usize,
        prepared: &mut Prepared,
    ) -> (Cursor, usize) {
        let (index, clients, installs) = (&self.index, &mut self.clients, &self.installs);
        let (from, matched) = (path.from, path.matched);
        let mut used = 0;
        while let Some(key) = matched.nodes.get(cursor.node) {
            let Some(node) = index.node(*key) else {
                cursor = Cursor { node: cursor.node + 1, position: 0 };
                continue;
            };
            let end = path.trail.as_ref().map_or(node.len(), |trail| trail.ends[cursor.node]);
            while cursor.position < end {
                if used >= budget {
                    return (cursor, used);
                }
                used += 1;
                let slot = node.at(cursor.position);
                cursor.position += 1;
                let Some(Slot::Alive(subscriber)) = slot else { continue };
                let entitled = |node: NodeKey, subscriber: &Subscriber| {
                    !(subscriber.installing
                        && super::subscribe::withheld(installs, node, subscriber, from)
                        || clients.is_own(subscriber, view.publisher))
                };
                if !entitled(*key, subscriber) {
                    continue;
                }
                let mut claim = Claim::of(subscriber, view);
                if matched.nodes.len() > 1 {
                    let here = (cursor.node, subscriber);
                    if !path.join_others(index, here, view, &mut claim, entitled) {
                        continue;
                    }
                }
                clients.deliver(view, subscriber.session, claim, prepared);
            }
            cursor = Cursor { node: cursor.node + 1, position: 0 };
        }
        (cursor, used)
    }

    /// Delivers to one member of a local share group.
    pub(super) fn deliver_to_group(&mut self, local: u64, view: &MessageView<'_>) {
        let group = GroupKey::from_bits(local);
        let clients = &mut self.clients;
        let online = |clients: &mut super::Clients, member: &Subscriber| {
            clients.open_connection(super::session::slot_of(member.session)).is_some()
        };
        let member = match self.index.pick(group, |member| online(clients, member)) {
            Some(member) => member,
            None => match self.index.pick(group, |_| true) {
                Some(member) => member,
                None => return self.clients.dropped(DropCause::GroupGone, 1),
            },
        };
        let mut prepared = Prepared::new(None, std::mem::take(&mut self.clients.scratch));
        let claim = Claim::of(&member, view);
        self.clients.deliver(view, member.session, claim, &mut prepared);
        self.clients.scratch = prepared.into_bytes();
    }

    /// Takes note of how far the deliveries of `from` have come.
    pub(super) fn note_seen(&mut self, from: ShardId, sequence: u64) {
        let seen = &mut self.seen[from.index()];
        *seen = (*seen).max(sequence);
    }
}

/// The nodes that one fan-out visits.
struct Path<'a> {
    matched: &'a Matched,
    from: ShardId,
    /// Of a fan-out that spans ticks.
    trail: Option<&'a mut Trail>,
}

impl Path<'_> {
    /// Joins what the session's other subscriptions add to its claim, as far as they are entitled
    /// to the message. False: the session was served at an earlier node.
    fn join_others(
        &mut self,
        index: &Index,
        (here, subscriber): (usize, &Subscriber),
        view: &MessageView<'_>,
        claim: &mut Claim,
        entitled: impl Fn(NodeKey, &Subscriber) -> bool,
    ) -> bool {
        let session = subscriber.session;
        let found = |key: &NodeKey| index.node(*key).and_then(|node| node.find(session));
        let (before, after) = (&self.matched.nodes[..here], &self.matched.nodes[here + 1..]);
        let claims = |key: &NodeKey| {
            let (other, alive) = found(key)?;
            (alive && entitled(*key, other)).then_some(other)
        };
        match &mut self.trail {
            None if before.iter().any(|key| claims(key).is_some()) => return false,
            None => {}
            Some(trail) if trail.served.contains(&session) => return false,
            Some(trail) => {
                // A dead entry ahead may be revived before the cursor is there.
                if after.iter().any(|key| found(key).is_some()) {
                    trail.served.insert(session);
                }
            }
        }
        for other in after.iter().filter_map(claims) {
            claim.join(other, view);
        }
        true
    }
}
