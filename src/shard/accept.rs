//! The owner's part of a PUBLISH: room toward every interested core, then retain, then deliveries.

use super::Shard;
use super::counters::DropCause;
use super::entry::{self, Scope};
use super::redispatch::hint;
use super::waiting::Cause;
use crate::base::{CoreSet, PublisherId, ShardId, Time};
use crate::codec::{QoS, ReasonCode};
use crate::index::Matched;
use crate::retain::SetOutcome;
use crate::session::MessageView;
use crate::topic::TopicName;
use std::rc::Rc;

/// What this shard does for a message that it accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Duty {
    /// The owner's whole part.
    Owner,
    /// The owner's part for share groups; the publisher's core does the rest.
    Groups,
    /// The publisher's core's part in publisher mode: plain subscribers.
    Publisher,
}

impl From<Scope> for Duty {
    fn from(scope: Scope) -> Duty {
        match scope {
            Scope::Whole => Duty::Owner,
            Scope::Groups => Duty::Groups,
        }
    }
}

/// The reason code of an accepted message [MQTT-3.4.2-1].
fn accepted(interest: bool) -> ReasonCode {
    if interest { ReasonCode::SUCCESS } else { ReasonCode::NO_MATCHING_SUBSCRIBERS }
}

impl Shard {
    /// Accepts a message or refuses it; the reason code says which, and whether anybody is
    /// interested. An error says what it has to wait for. Nothing was changed where the message
    /// is not accepted.
    pub(super) fn accept(
        &mut self,
        view: &MessageView<'_>,
        matched: &Rc<Matched>,
        duty: Duty,
    ) -> Result<ReasonCode, Cause> {
        self.check_budget()?;
        let (interest, groups, targets) = self.index.survey(matched);
        let plain = if duty == Duty::Groups { CoreSet::EMPTY } else { interest };
        self.picks.clear();
        if groups && duty != Duty::Publisher {
            let mut hint = hint(view, self.me, self.clients.settings.seed, &mut self.random);
            self.index.pick_cores(matched, &mut hint, &mut self.picks);
        }
        let picked: CoreSet = self.picks.iter().map(|pick| pick.core).collect();
        let interested = plain.union(picked);
        if self.is_refused(view, interested, duty) {
            self.clients.counters.messages_refused += 1;
            return Ok(ReasonCode::QUOTA_EXCEEDED);
        }
        let remote = interested.without(self.me);
        if !remote.is_empty() {
            self.check_room(view, remote)?;
            if self.index.has_crowds() {
                for core in remote.iter().filter(|core| plain.contains(*core)) {
                    self.check_crowd(core, self.index.crowd_at(matched, core))?;
                }
            }
        }
        let local = plain.contains(self.me);
        if local && !self.fanouts.is_empty() && self.waits_for_fan_out(&self.fanouts, view, matched)
        {
            return Err(Cause::FanOut);
        }
        if !picked.is_empty() {
            self.picks.iter().for_each(|pick| self.index.note_sent(pick));
        }
        self.sequence += 1;
        self.turn_left = self.turn_left.saturating_sub(entry::message_entry_len(view, 0));
        self.clients.counters.messages_accepted += 1;
        if duty != Duty::Publisher && self.skew.is_due() {
            self.look_at(view, remote);
        }
        if view.retain && duty == Duty::Owner {
            self.retain(view);
        }
        for core in remote.iter() {
            self.forward_delivery(core, view, plain.contains(core), Some(matched));
        }
        if local {
            self.fan_out(view, matched, targets);
        }
        if picked.contains(self.me) {
            for at in 0..self.picks.len() {
                let pick = self.picks[at];
                if pick.core == self.me {
                    self.deliver_to_group(pick.local, pick.online, view, self.me);
                }
            }
        }
        Ok(accepted(!interested.is_empty()))
    }

    /// Whether a message that must not be lost would come to a core that is full. A share group's
    /// part of a message that was accepted elsewhere is not refused any more.
    #[inline]
    fn is_refused(&self, view: &MessageView<'_>, interested: CoreSet, duty: Duty) -> bool {
        let full = self.mesh.full();
        if full.is_empty() || view.qos == QoS::AtMostOnce || duty == Duty::Groups {
            return false;
        }
        let stored = view.retain && duty == Duty::Owner && full.contains(self.me);
        stored || interested.iter().any(|core| full.contains(core))
    }

    /// Whether this tick can take one message more.
    pub(super) fn check_budget(&self) -> Result<(), Cause> {
        if self.targets_left == 0 || self.turn_left == 0 || self.waiting.must_queue(Cause::Budget) {
            return Err(Cause::Budget);
        }
        Ok(())
    }

    pub(super) fn check_room(
        &mut self,
        view: &MessageView<'_>,
        remote: CoreSet,
    ) -> Result<(), Cause> {
        for core in remote.iter() {
            let len = entry::message_entry_len(view, entry::PICK_BYTES * self.picks.len());
            let cause = Cause::Deliver(core);
            if self.waiting.must_queue(cause) || !self.mesh.deliver_room(core, len) {
                return Err(cause);
            }
        }
        Ok(())
    }

    pub(super) fn forward_delivery(
        &mut self,
        core: ShardId,
        view: &MessageView<'_>,
        plain: bool,
        matched: Option<&Matched>,
    ) {
        let len = entry::message_entry_len(view, entry::PICK_BYTES * self.picks.len());
        let block = self.mesh.deliver(core, len);
        if self.index.has_crowds()
            && let Some(matched) = matched.filter(|_| plain)
        {
            block.crowd += self.index.crowd_at(matched, core);
        }
        let picks = self.picks.iter().filter(|pick| pick.core == core);
        let picks = picks.map(|pick| (pick.local, pick.online));
        entry::write_deliver(block, view, self.sequence, plain, picks);
        self.clients.counters.delivered_remote += 1;
    }

    /// Sets or clears the retained message of the topic [MQTT-3.3.1-5], [MQTT-3.3.1-6].
    fn retain(&mut self, view: &MessageView<'_>) {
        let topic = TopicName::assume_checked(view.topic);
        if view.payload.bytes().is_empty() {
            self.retained.clear(topic);
            return;
        }
        if view.qos == QoS::AtMostOnce && self.mesh.full().contains(self.me) {
            return self.clients.drop_one(DropCause::RetainedLimit, view);
        }
        let message = view.store(&self.clients.ledger);
        let bytes = message.bytes() + view.topic.len();
        let expires: Time = view.expires;
        match self.retained.set(topic, message, bytes, self.sequence, expires) {
            SetOutcome::Stored { .. } => {}
            // A figure that has no room is no loss to anybody.
            _ if view.publisher == PublisherId::BROKER => {}
            SetOutcome::RefusedCount | SetOutcome::RefusedBytes => {
                self.clients.drop_one(DropCause::RetainedLimit, view);
            }
        }
    }
}
