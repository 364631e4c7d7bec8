//! Delivery of one message to all local subscribers, in one go or over many ticks.
//!
//! A session that several matching filters reach gets one copy with the highest QoS and all
//! subscription identifiers: it is served at the first matching node that holds it.

use super::Shard;
use super::clients::Clients;
use super::counters::DropCause;
use super::deliver::{Claim, Prepared};
use super::redispatch::hint;
use super::subscribe::{Installs, withheld};
use crate::base::ShardId;
use crate::index::{GroupKey, Index, Matched, Node, NodeKey, SessionKey, Slot, Subscriber};
use crate::session::{Message, MessageView};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::rc::Rc;

/// How many long fan-outs may be under way for messages that this shard accepted, and for those of
/// each other one.
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
    /// How many positions each node had at the start: who joins later comes too late.
    lens: Box<[usize]>,
    from: ShardId,
    /// Sessions that were served and have another matching node ahead. Subscriptions change while
    /// the fan-out is under way, so who was served can't be told from them.
    served: Served,
}

type Served = HashSet<SessionKey, RandomState>;

/// What one pass over the subscribers of a message works on.
pub(super) struct Pass<'a> {
    view: &'a MessageView<'a>,
    matched: &'a Matched,
    /// Positions per node; empty: all there are.
    lens: &'a [usize],
    from: ShardId,
    /// Of a fan-out that spans ticks.
    served: Option<&'a mut Served>,
}

impl<'a> Pass<'a> {
    /// The pass of a message of `from` over all subscribers at once.
    pub(super) fn whole(
        view: &'a MessageView<'a>,
        matched: &'a Matched,
        from: ShardId,
    ) -> Pass<'a> {
        Pass { view, matched, lens: &[], from, served: None }
    }
}

impl FanOut {
    /// Whether `view` must not overtake one of `fanouts`: same topic or same publisher.
    fn conflicts(fanouts: &[FanOut], view: &MessageView<'_>) -> bool {
        fanouts.iter().any(|fanout| {
            let other = fanout.message.view();
            other.topic == view.topic || other.publisher == view.publisher
        })
    }
}

impl Shard {
    /// Delivers a message accepted here to this core's subscribers, which have so many places as
    /// `targets` says.
    pub(super) fn fan_out(
        &mut self,
        view: &MessageView<'_>,
        matched: &Rc<Matched>,
        targets: usize,
    ) {
        if let Some(fanout) = self.start_fan_out(view, matched, targets, self.me) {
            self.fanouts.push(fanout);
        }
    }

    /// How many places of local subscribers there are to visit.
    pub(super) fn targets(&self, matched: &Matched) -> usize {
        self.index.survey(matched).2
    }

    /// Whether a message has to wait for one of `fanouts`, which are under way: for a message that
    /// it must not overtake, or for a place where it would be a long one itself.
    pub(super) fn waits_for_fan_out(
        &self,
        fanouts: &[FanOut],
        view: &MessageView<'_>,
        matched: &Matched,
    ) -> bool {
        let is_long = || self.targets(matched) > self.clients.settings.tick.targets;
        FanOut::conflicts(fanouts, view) || fanouts.len() >= LONG_FANOUTS && is_long()
    }

    /// Serves the local subscribers, `total` places of them, now, or gives back a fan-out to be
    /// continued.
    pub(super) fn start_fan_out(
        &mut self,
        view: &MessageView<'_>,
        matched: &Rc<Matched>,
        total: usize,
        from: ShardId,
    ) -> Option<FanOut> {
        if total > self.clients.settings.tick.targets {
            let len = |node: &NodeKey| self.index.node(*node).map_or(0, Node::len);
            let lens = matched.nodes.iter().map(len).collect();
            for node in &matched.nodes {
                self.index.pin(*node);
            }
            let (message, matched) = (view.store(&self.clients.ledger), Rc::clone(matched));
            let (cursor, served) = (Cursor::default(), Served::default());
            return Some(FanOut { message, matched, cursor, lens, from, served });
        }
        self.targets_left = self.targets_left.saturating_sub(total);
        let mut prepared = Prepared::new(None, std::mem::take(&mut self.clients.scratch));
        prepared.single = total == 1;
        self.deliver_to_all(&mut Pass::whole(view, matched, from), |clients, session, claim| {
            clients.deliver(view, session, claim, &mut prepared);
        });
        self.clients.scratch = prepared.into_bytes();
        None
    }

    /// Continues a long fan-out within the tick's budget; true when it is finished.
    fn continue_fan_out(&mut self, fanout: &mut FanOut) -> bool {
        // Half of what is left, so that one long fan-out leaves something for the others.
        let budget = self.targets_left.div_ceil(2);
        let message = Rc::clone(&fanout.message);
        let view = message.view();
        let stored = Some(Rc::clone(&message));
        let mut prepared = Prepared::new(stored, std::mem::take(&mut self.clients.scratch));
        let mut pass = Pass {
            view: &view,
            matched: &fanout.matched,
            lens: &fanout.lens,
            from: fanout.from,
            served: Some(&mut fanout.served),
        };
        let (cursor, used) =
            self.deliver_from(&mut pass, fanout.cursor, budget, |clients, session, claim| {
                clients.deliver(&view, session, claim, &mut prepared);
            });
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
        if self.fanouts.is_empty() {
            return;
        }
        let fanouts = std::mem::take(&mut self.fanouts);
        let fanouts = self.continue_fan_outs(fanouts);
        debug_assert!(self.fanouts.is_empty());
        self.fanouts = fanouts;
    }

    /// Continues `fanouts`, oldest first, and gives back those that are not finished.
    pub(super) fn continue_fan_outs(&mut self, mut fanouts: Vec<FanOut>) -> Vec<FanOut> {
        fanouts.retain_mut(|fanout| self.targets_left == 0 || !self.continue_fan_out(fanout));
        fanouts
    }

    /// Names each session that gets the message of `pass`, with its claim, to `deliver`.
    #[inline(always)]
    pub(super) fn deliver_to_all(
        &mut self,
        pass: &mut Pass<'_>,
        deliver: impl FnMut(&mut Clients, SessionKey, Claim<'_>),
    ) {
        self.deliver_from(pass, Cursor::default(), usize::MAX, deliver);
    }

    #[inline(always)]
    fn deliver_from(
        &mut self,
        pass: &mut Pass<'_>,
        mut cursor: Cursor,
        budget: usize,
        mut deliver: impl FnMut(&mut Clients, SessionKey, Claim<'_>),
    ) -> (Cursor, usize) {
        let (index, clients, installs) = (&self.index, &mut self.clients, &self.installs);
        let alone = pass.matched.nodes.len() == 1;
        let (mut used, mut more) = (0, Vec::new());
        while let Some(key) = pass.matched.nodes.get(cursor.node) {
            let node = index.node(*key);
            let len = node.map_or(0, Node::len);
            let len = pass.lens.get(cursor.node).map_or(len, |start| len.min(*start));
            let end = len.min(cursor.position.saturating_add(budget - used));
            let slots = node.into_iter().flat_map(|node| node.slots(cursor.position..end));
            used += end.saturating_sub(cursor.position);
            for slot in slots {
                let Slot::Alive(subscriber) = slot else { continue };
                if !is_eligible(clients, installs, *key, subscriber, pass) {
                    continue;
                }
                let mut claim = Claim::of(subscriber, pass.view);
                if !alone {
                    let here = Here { node: cursor.node, subscriber };
                    more.clear();
                    if !join_others(index, clients, installs, pass, here, (&mut claim, &mut more)) {
                        continue;
                    }
                    claim.more = &more;
                }
                deliver(clients, subscriber.session, claim);
            }
            if end < len {
                return (Cursor { position: end, ..cursor }, used);
            }
            cursor = Cursor { node: cursor.node + 1, position: 0 };
        }
        (cursor, used)
    }

    /// Delivers to one member of a local share group. `online`: the owner chose this core because
    /// a member is online here; if that is no longer so, it shall choose again.
    #[inline(never)]
    pub(super) fn deliver_to_group(
        &mut self,
        local: u64,
        online: bool,
        view: &MessageView<'_>,
        owner: ShardId,
    ) {
        let group = GroupKey::from_bits(local);
        self.note_arrival(group, owner);
        let mut hint = hint(view, self.me, self.clients.settings.seed, &mut self.random);
        let clients = &mut self.clients;
        let mut member = self.index.pick(group, &mut hint, |member| clients.load(member));
        if member.is_none() && !online {
            member = self.index.pick(group, &mut hint, |_| Some(0));
        }
        let name = self.index.name_of_group(group);
        let Some(member) = member else {
            self.clients.counters.deliveries += 1;
            return match name {
                Some(name) => self.give_back(view.store(&self.clients.ledger), name),
                None => self.clients.drop_one(DropCause::GroupGone, view),
            };
        };
        let claim = Claim { share: name.as_ref(), ..Claim::of(&member, view) };
        self.clients.deliver(view, member.session, claim, &mut Prepared::for_one(None));
    }

    /// Takes note of how far the deliveries of `from` have come.
    pub(super) fn note_seen(&mut self, from: ShardId, sequence: u64) {
        let seen = &mut self.seen[from.index()];
        *seen = (*seen).max(sequence);
    }
}

/// Where a pass stands.
#[derive(Clone, Copy)]
struct Here<'a> {
    node: usize,
    subscriber: &'a Subscriber,
}

/// Whether the subscription takes this message: it is in force at the message's source, and not
/// closed to the session's own messages.
#[inline]
fn is_eligible(
    clients: &Clients,
    installs: &Installs,
    node: NodeKey,
    subscriber: &Subscriber,
    pass: &Pass<'_>,
) -> bool {
    let early = subscriber.installing && withheld(installs, node, subscriber, pass.from);
    !early && !clients.is_own(subscriber, pass.view.publisher)
}

/// Joins what the session's other matching subscriptions add to its claim. False: the session was
/// served at an earlier node.
fn join_others(
    index: &Index,
    clients: &Clients,
    installs: &Installs,
    pass: &mut Pass<'_>,
    here: Here<'_>,
    (claim, more): (&mut Claim<'_>, &mut Vec<u32>),
) -> bool {
    let session = here.subscriber.session;
    let found = |key: &NodeKey| index.node(*key).and_then(|node| node.find(session));
    let (before, after) = pass.matched.nodes.split_at(here.node);
    let after = &after[1..];
    match &mut pass.served {
        Some(served) if served.contains(&session) => return false,
        // An entry that is dead now may be alive again when the cursor is there.
        Some(served) if after.iter().any(|key| found(key).is_some()) => {
            served.insert(session);
        }
        Some(_) | None => {}
    }
    let eligible = |key: &NodeKey| {
        let (other, alive) = found(key)?;
        (alive && is_eligible(clients, installs, *key, other, pass)).then_some(other)
    };
    if pass.served.is_none() && before.iter().any(|key| eligible(key).is_some()) {
        return false;
    }
    for other in after.iter().filter_map(eligible) {
        claim.join(other, pass.view, more);
    }
    true
}
