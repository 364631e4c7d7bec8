//! Messages of share groups that need another member: their pick missed, or their member left with
//! them unfinished. They go back to the topic's owner, which picks again.
//!
//! Invariants worth naming:
//! * a message goes back only after all news about groups: the owner knows why its pick missed and
//!   will not repeat it;
//! * sending is a REQUEST and waits here for its room, so that handling a delivery needs none;
//! * the list is bounded; what does not fit is a counted drop;
//! * a core that stops gives nothing back: every member is about to go, so it is a counted drop.

use super::Shard;
use super::counters::DropCause;
use super::entry;
use super::session::{Outgoing, SessionSlot};
use super::waiting::{Cause, Source};
use crate::base::{CoreSet, Prng, ShardId};
use crate::codec::QoS;
use crate::index::{GroupName, Hint};
use crate::session::{Message, MessageView};
use crate::topic::TopicFilter;
use std::collections::VecDeque;
use std::rc::Rc;

/// How many messages one tick gives back.
const PER_TICK: usize = 256;

/// Messages that wait to be picked for again.
#[derive(Default)]
pub(super) struct Redispatch {
    queue: VecDeque<(Rc<Message>, Rc<GroupName>)>,
    /// What the first one waits for.
    pub(super) waits: Option<Cause>,
}

impl Redispatch {
    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the next tick can go on.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty() && self.waits.is_none()
    }
}

/// What the choice of a group for a message may depend on.
#[inline]
pub(super) fn hint<'a>(
    view: &MessageView<'a>,
    me: ShardId,
    seed: u64,
    random: &'a mut Prng,
) -> Hint<'a> {
    let (publisher, near) = (view.publisher.0, view.id.origin);
    Hint { publisher, topic: view.topic, near, me, seed, random }
}

impl Shard {
    /// Puts a message on the list of those that need another member.
    pub(super) fn give_back(&mut self, message: Rc<Message>, name: Rc<GroupName>) {
        if self.draining {
            return self.clients.dropped(DropCause::Stopped, 1, message.content_bytes());
        }
        if self.redispatch.queue.len() >= self.clients.settings.limits.redispatch_messages {
            let bytes = message.content_bytes();
            return self.clients.dropped(DropCause::RedispatchOverflow, 1, bytes);
        }
        self.redispatch.queue.push_back((message, name));
    }

    /// The core stops: what waits is counted as dropped.
    pub(super) fn forget_redispatches(&mut self) {
        let waiting = std::mem::take(&mut self.redispatch.queue);
        let bytes = waiting.iter().map(|(message, _)| message.content_bytes()).sum();
        self.clients.dropped(DropCause::Stopped, waiting.len(), bytes);
    }

    /// Gives back what a session leaves unfinished and counts the rest as dropped. A QoS 2 message
    /// that was sent goes to nobody else [MQTT-4.8.2-5].
    pub(super) fn give_back_all(&mut self, left: impl Iterator<Item = (Outgoing, bool)>) {
        for (outgoing, sent) in left {
            match outgoing.share {
                Some(name) if !(sent && outgoing.qos == QoS::ExactlyOnce) => {
                    self.give_back(outgoing.message, name);
                }
                Some(_) | None => {
                    let bytes = outgoing.message.content_bytes();
                    self.clients.dropped(DropCause::SessionEnded, 1, bytes);
                }
            }
        }
    }

    /// The session left a group: what was not sent to it goes to others; what was sent is finished
    /// with it [MQTT-3.10.4-3].
    pub(super) fn give_back_unsent(&mut self, slot: SessionSlot, name: &GroupName) {
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        let shared = |outgoing: &Outgoing| outgoing.share.as_deref() == Some(name);
        let unsent = session.outbox.take_if(shared);
        self.clients.note_crowd(slot);
        self.give_back_all(unsent.into_iter().map(|outgoing| (outgoing, false)));
    }

    /// Sends back what waits, as far as there is room.
    pub(super) fn send_redispatches(&mut self) {
        if self.redispatch.waits.is_some() || !self.untold.is_empty() {
            return;
        }
        for _ in 0..PER_TICK {
            let Some((message, name)) = self.redispatch.queue.pop_front() else { return };
            if let Err(cause) = self.send_back(&message, &name) {
                self.redispatch.queue.push_front((message, name));
                self.redispatch.waits = Some(cause);
                self.waiting.add(cause, Source::Redispatch);
                return;
            }
        }
    }

    fn send_back(&mut self, message: &Message, name: &GroupName) -> Result<(), Cause> {
        let view = message.view();
        if view.expires <= self.clients.now {
            self.clients.drop_one(DropCause::Expired, &view);
            return Ok(());
        }
        let owner = self.clients.settings.placement.owner(view.topic);
        if owner == self.me {
            self.pick_again(&view, &name.filter, &name.group)?;
            self.clients.counters.redispatched += 1;
            return Ok(());
        }
        let len = entry::message_entry_len(&view, 8 + name.filter.len() + name.group.len());
        let cause = Cause::Request(owner);
        if self.waiting.must_queue(cause) || !self.mesh.request_room(owner, len, 0) {
            return Err(cause);
        }
        let block = self.mesh.request(owner, len, 0);
        entry::write_redispatch(block, &view, &name.filter, &name.group);
        self.clients.counters.redispatched += 1;
        Ok(())
    }

    /// The owner's part: another pick for one group. An error says what it waits for; nothing was
    /// changed then.
    pub(super) fn pick_again(
        &mut self,
        view: &MessageView<'_>,
        filter: &str,
        group: &str,
    ) -> Result<(), Cause> {
        self.check_budget()?;
        let mut hint = hint(view, self.me, self.clients.settings.seed, &mut self.random);
        let filter = TopicFilter::new(filter).ok();
        let pick = filter.and_then(|filter| self.index.pick_core_for(filter, group, &mut hint));
        let Some(pick) = pick else {
            self.clients.counters.deliveries += 1;
            self.clients.drop_one(DropCause::GroupGone, view);
            return Ok(());
        };
        self.picks.clear();
        self.picks.push(pick);
        if pick.core != self.me {
            self.check_room(view, CoreSet::only(pick.core))?;
        }
        self.index.note_sent(&pick);
        self.sequence += 1;
        self.turn_left = self.turn_left.saturating_sub(entry::message_entry_len(view, 0));
        if pick.core == self.me {
            self.deliver_to_group(pick.local, pick.online, view, self.me);
        } else {
            self.forward_delivery(pick.core, view, false, None);
        }
        Ok(())
    }
}
