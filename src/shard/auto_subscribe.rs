//! Subscriptions that the broker makes for its clients, by the rules of `session.auto_subscribe`.

use super::Shard;
use super::connection::ConnectionKey;
use super::subscribe::News;
use super::waiting::Cause;
use crate::codec::{QoS, RetainHandling, SubscribeOptions};
use crate::config::{AutoSubscribeRule, SendRetained};
use crate::topic::{Captures, Subscription};

fn options(rule: &AutoSubscribeRule) -> SubscribeOptions {
    SubscribeOptions {
        qos: QoS::from_u8(rule.qos).unwrap_or_default(),
        no_local: rule.no_local,
        retain_as_published: rule.retain_as_published,
        retain_handling: match rule.retain_handling {
            SendRetained::Send => RetainHandling::Send,
            SendRetained::SendIfNew => RetainHandling::SendIfNew,
            SendRetained::Never => RetainHandling::DoNotSend,
        },
    }
}

impl Shard {
    /// Subscribes a client that has just got its CONNACK, now or as soon as the owners have room.
    pub(super) fn auto_subscribe(&mut self, key: ConnectionKey) {
        if self.clients.settings.session.auto_subscribe.is_empty() {
            return;
        }
        let client = self.identity(key);
        let rules = self.clients.settings.session.auto_subscribe.iter();
        let fitting = rules.filter(|rule| rule.clients.matches(client.client_id));
        let mut wishes = Vec::new();
        for rule in fitting {
            match rule.filter.fill(&client, &Captures::default()) {
                Some(filter) => wishes.push((filter.into_boxed_str(), options(rule))),
                None => {
                    let filter = rule.filter.as_str();
                    tracing::info!(client_id = client.client_id, filter, "not subscribed by rule");
                }
            }
        }
        let news = wishes.into_iter().map(|(filter, options)| News::AutoSubscribe {
            key,
            filter,
            options,
        });
        self.untold.extend(news);
        self.tell_owners();
    }

    /// Makes one subscription; gives it back with what it waits for.
    pub(super) fn tell_auto_subscribe(
        &mut self,
        key: ConnectionKey,
        filter: Box<str>,
        options: SubscribeOptions,
    ) -> Option<(News, Cause)> {
        let slot = self.session_of(key)?;
        let place = Subscription::parse(&filter).map(|parsed| parsed.key(&filter)).ok()?;
        if self.clients.sessions.get(slot)?.subscriptions.contains_key(place) {
            return None;
        }
        if let Err(cause) = self.check_owner_room(std::iter::once(&*filter)) {
            return Some((News::AutoSubscribe { key, filter, options }, cause));
        }
        let gather = self.gather(key, None);
        let reason = self.subscribe_gathered(slot, gather, &filter, options, None);
        self.finish_gather(gather);
        if reason.is_error() {
            let client_id = self.identity(key).client_id;
            tracing::info!(client_id, filter = &*filter, %reason, "not subscribed by rule");
        }
        None
    }
}
