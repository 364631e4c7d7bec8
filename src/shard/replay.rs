//! Retained messages for new subscriptions: pulled in chunks, one owner at a time, as the session
//! has room, so that a `#` over a large store never floods anybody.

use super::Shard;
use super::deliver::{Claim, Prepared};
use super::entry::{self, Entry};
use super::session::{SessionSlot, key_of};
use super::waiting::{Cause, Source};
use crate::base::{Key, ShardId};
use crate::codec::QoS;
use crate::index::Subscriber;
use crate::retain::Scan;
use crate::session::{Message, MessageView};
use crate::topic::TopicFilter;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::rc::Rc;

/// Messages per pulled chunk, and stored topics visited for it.
const CHUNK_MESSAGES: usize = 32;
const CHUNK_VISITS: usize = 512;
/// Chunks pulled per tick, so that replays leave room for live traffic.
const PULLS_PER_TICK: usize = 64;

/// Names a replay on its session's home.
pub(super) type ReplayKey = Key<Replay>;

/// A replay that has not started: what to ask of whom.
pub(super) struct Plan {
    session: SessionSlot,
    filter: Box<str>,
    qos: QoS,
    identifier: Option<NonZeroU32>,
    /// Owners still to be asked, the next one last, with the acceptance sequence up to which
    /// their messages were not delivered live.
    owners: Vec<(ShardId, u64)>,
}

impl Plan {
    pub(super) fn new(
        session: SessionSlot,
        filter: &str,
        subscriber: &Subscriber,
        owners: Vec<(ShardId, u64)>,
    ) -> Plan {
        let (qos, identifier) = (subscriber.qos, subscriber.identifier);
        Plan { session, filter: filter.into(), qos, identifier, owners }
    }

    pub(super) fn set_as_of(&mut self, owner: ShardId, sequence: u64) {
        for known in self.owners.iter_mut().filter(|known| known.0 == owner) {
            known.1 = sequence;
        }
    }
}

/// A replay under way.
pub(super) struct Replay {
    plan: Plan,
    after: Option<String>,
    /// A pull is with its owner.
    asked: bool,
}

impl Shard {
    /// Queues a replay behind the session's other ones.
    pub(super) fn start_replay(&mut self, plan: Plan) {
        let slot = plan.session;
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        if !session.subscriptions.contains_key(&plan.filter) {
            // Unsubscribed before its owners had confirmed.
            return;
        }
        let replay = self.replays.insert(Replay { plan, after: None, asked: false });
        session.replays.push(replay);
        self.clients.drained.push(slot);
    }

    /// Drops the session's replays, or those of one filter.
    pub(super) fn abandon_replays(&mut self, slot: SessionSlot, filter: Option<&str>) {
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        session.replays.retain(|key| {
            let concerned = self
                .replays
                .get(*key)
                .is_none_or(|replay| filter.is_none_or(|filter| *replay.plan.filter == *filter));
            if concerned {
                self.replays.remove(*key);
            }
            !concerned
        });
        self.clients.drained.push(slot);
    }

    /// Pulls the next chunk for every session that has room for one.
    pub(super) fn go_on_with_replays(&mut self) {
        if self.pulls_wait.is_none() {
            self.clients.drained.append(&mut self.unasked);
        }
        if self.clients.drained.is_empty() {
            return;
        }
        let mut drained = std::mem::take(&mut self.clients.drained);
        drained.sort_unstable_by_key(|slot| slot.to_bits());
        drained.dedup();
        // The ones behind the budget come first in the next tick.
        let later = drained.split_off(drained.len().min(PULLS_PER_TICK));
        self.clients.drained = later;
        for slot in drained {
            let first = self.clients.sessions.get(slot).and_then(|s| s.replays.first().copied());
            if let Some(key) = first
                && self.clients.takes_replay(slot, 0)
            {
                self.pull(slot, key);
            }
        }
    }

    fn pull(&mut self, slot: SessionSlot, key: ReplayKey) {
        let Some(replay) = self.replays.get_mut(key) else { return };
        if replay.asked {
            return;
        }
        let Some((owner, as_of)) = replay.plan.owners.last().copied() else {
            self.replays.remove(key);
            if let Some(session) = self.clients.sessions.get_mut(slot) {
                // Mostly the first one, so the others are not looked at.
                if let Some(at) = session.replays.iter().position(|other| *other == key) {
                    session.replays.remove(at);
                }
            }
            self.clients.drained.push(slot);
            return;
        };
        let (filter, after) = (replay.plan.filter.clone(), replay.after.clone());
        if owner == self.me {
            return self.pull_here(key, &filter, after.as_deref(), as_of);
        }
        let token = key.to_bits();
        let after = after.as_deref();
        let len = entry::text_entry_len(filter.len() + after.map_or(0, str::len));
        let cause = Cause::Request(owner);
        if self.waiting.must_queue(cause) || !self.mesh.request_room(owner, len, 0) {
            self.unasked.push(slot);
            self.waiting.add(cause, Source::Pulls);
            self.pulls_wait = Some(cause);
            return;
        }
        let block = self.mesh.request(owner, len, 0);
        entry::write(block, &Entry::Pull { token, filter: &filter, after, as_of });
        if let Some(replay) = self.replays.get_mut(key) {
            replay.asked = true;
        }
    }

    /// Reads the next retained messages of `filter` accepted up to `as_of`.
    fn chunk(
        &self,
        filter: &str,
        after: Option<&str>,
        as_of: u64,
    ) -> (Vec<Rc<Message>>, Option<String>) {
        let mut found = Vec::new();
        let Ok(filter) = TopicFilter::new(filter) else { return (found, None) };
        let now = self.clients.now;
        let scan = self.retained.scan(filter, after, now, CHUNK_VISITS, |_, retained| {
            if retained.sequence <= as_of {
                found.push(Rc::clone(&retained.value));
            }
            if found.len() < CHUNK_MESSAGES {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        match scan {
            Scan::Done => (found, None),
            Scan::More { after } => (found, Some(after)),
        }
    }

    fn pull_here(&mut self, key: ReplayKey, filter: &str, after: Option<&str>, as_of: u64) {
        let (found, after) = self.chunk(filter, after, as_of);
        for message in found {
            self.replayed(key.to_bits(), &message.view(), Some(&message));
        }
        self.replay_ended(key.to_bits(), after.as_deref());
    }

    /// The owner's part: sends the next chunk to `home`.
    pub(super) fn pulled(
        &mut self,
        home: ShardId,
        token: u64,
        filter: &str,
        after: Option<&str>,
        as_of: u64,
    ) -> Result<(), Cause> {
        let cause = Cause::Deliver(home);
        let (found, mut next) = self.chunk(filter, after, as_of);
        // Wherever the chunk is cut, its end names one of these topics.
        let topics = found.iter().map(|message| message.view().topic.len());
        let longest = topics.chain(next.as_ref().map(String::len)).max().unwrap_or(0);
        let end_len = entry::text_entry_len(longest);
        let mut sent = 0;
        for message in &found {
            let view = message.view();
            let len = entry::message_entry_len(&view, 8) + end_len;
            if self.waiting.must_queue(cause) || !self.mesh.deliver_room(home, len) {
                break;
            }
            let block = self.mesh.deliver(home, len);
            entry::write_retained(block, token, &view);
            sent += 1;
        }
        if sent < found.len() {
            if sent == 0 {
                return Err(cause);
            }
            next = Some(found[sent - 1].view().topic.to_owned());
        } else if sent == 0
            && (self.waiting.must_queue(cause) || !self.mesh.deliver_room(home, end_len))
        {
            return Err(cause);
        }
        let block = self.mesh.deliver(home, end_len);
        entry::write(block, &Entry::RetainedEnd { token, after: next.as_deref() });
        Ok(())
    }

    /// A retained message arrived for one of this shard's replays [MQTT-3.3.1-8].
    pub(super) fn replayed(
        &mut self,
        token: u64,
        view: &MessageView<'_>,
        stored: Option<&Rc<Message>>,
    ) {
        let Some(replay) = self.replays.get(Key::from_bits(token)) else { return };
        let plan = &replay.plan;
        let claim = Claim {
            qos: plan.qos.min(view.qos),
            retain: true,
            identifier: plan.identifier,
            more: &[],
            share: None,
        };
        let session = key_of(plan.session);
        self.clients.counters.retained_replayed += 1;
        let mut prepared = Prepared::for_one(stored.map(Rc::clone));
        self.clients.deliver(view, session, claim, &mut prepared);
    }

    /// A chunk is complete; there is more after `after`, or the owner is done.
    pub(super) fn replay_ended(&mut self, token: u64, after: Option<&str>) {
        let Some(replay) = self.replays.get_mut(Key::from_bits(token)) else { return };
        replay.asked = false;
        replay.after = after.map(str::to_owned);
        if after.is_none() {
            replay.plan.owners.pop();
        }
        self.clients.drained.push(replay.plan.session);
    }
}
