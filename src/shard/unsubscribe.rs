//! UNSUBSCRIBE, and what else takes a subscription out of the index.

use super::Shard;
use super::connection::ConnectionKey;
use super::input::Flow;
use super::session::{SessionSlot, Subscribed, key_of};
use super::subscribe::News;
use crate::codec::{self, PacketType, ReasonCode, Unsubscribe};
use crate::index::GroupName;
use crate::topic::{Subscription, TopicFilter};

impl Shard {
    /// Handles an UNSUBSCRIBE.
    pub(super) fn unsubscribe(&mut self, key: ConnectionKey, packet: &Unsubscribe<'_>) -> Flow {
        let Some(slot) = self.session_of(key) else { return Flow::Stop };
        let mut reasons = Vec::new();
        for text in packet.filters() {
            reasons.push(if self.has_rewrites() {
                let text = self.rewrite_filter(&self.identity(key), text);
                self.unsubscribe_one(slot, &text)
            } else {
                self.unsubscribe_one(slot, text)
            });
        }
        let connection = self.clients.connections.get(key);
        let text = connection.and_then(|c| c.explain_filters(PacketType::Unsuback, &reasons));
        self.clients.explain(key, text.as_deref(), |version, text, out| {
            codec::encode_unsuback(version, packet.packet_id, &reasons, text, out);
        });
        Flow::Next
    }

    fn unsubscribe_one(&mut self, slot: SessionSlot, text: &str) -> ReasonCode {
        let Ok(parsed) = Subscription::parse(text) else {
            return ReasonCode::TOPIC_FILTER_INVALID;
        };
        let exclusive = matches!(parsed, Subscription::Exclusive(_));
        let text = parsed.key(text);
        let session = self.clients.sessions.get(slot);
        let known = session.and_then(|session| session.subscriptions.get(text));
        if known.is_none_or(|known| known.is_exclusive() != exclusive) {
            return ReasonCode::NO_SUBSCRIPTION_EXISTED;
        }
        self.withdraw(slot, text);
        ReasonCode::SUCCESS
    }

    /// Ends the subscription that the session keeps under `text`, if there is one.
    pub(super) fn withdraw(&mut self, slot: SessionSlot, text: &str) {
        let Some(subscribed) = self.clients.forget_subscription(slot, text) else { return };
        self.abandon_replays(slot, Some(text));
        self.leave(slot, text, subscribed);
        if let Ok(Subscription::Shared { group, filter }) = Subscription::parse(text) {
            let (group, filter) = (group.into(), filter.as_str().into());
            self.give_back_unsent(slot, &GroupName { group, filter });
        }
    }

    /// Takes one subscription of a session out of the index.
    pub(super) fn leave(&mut self, slot: SessionSlot, text: &str, subscribed: Subscribed) {
        match subscribed {
            // Its arbiter hears of it when it has answered.
            Subscribed::Reserving { .. } => {}
            Subscribed::Exclusive { node, serial } => {
                self.leave(slot, text, Subscribed::Plain(node));
                self.leave_exclusive(text, serial);
            }
            Subscribed::Plain(node) => {
                let last = self.index.unsubscribe(node, key_of(slot)).is_last();
                let filter = TopicFilter::new(text);
                if let Ok(filter) = filter {
                    self.crowd_changed(node, filter);
                }
                if !last {
                    return;
                }
                self.announced.remove(&node);
                if let Ok(filter) = filter {
                    self.index.clear_interest(filter, self.me);
                    if !self.owners_elsewhere(filter).is_empty() {
                        self.untold.push_back(News::Interest(text.into()));
                    }
                }
            }
            Subscribed::Shared(group) => {
                self.index.leave_group(group, key_of(slot));
                self.group_changed(text);
            }
        }
    }
}
