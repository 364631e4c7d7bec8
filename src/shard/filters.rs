//! Which filters a client may subscribe to.

use super::Shard;
use crate::codec::{DecodeError, ReasonCode, SubscribeOptions, Version};
use crate::topic::{Level, Subscription, TopicFilter};
use std::num::NonZeroU32;

impl Shard {
    /// What makes a SUBSCRIBE as a whole a protocol error. Clients before MQTT 5 were not told what
    /// is not offered: they are refused filter by filter.
    pub(super) fn check_subscribe<'f>(
        &self,
        version: Version,
        subscription_id: Option<NonZeroU32>,
        filters: impl Iterator<Item = (&'f str, SubscribeOptions)>,
    ) -> Result<(), DecodeError> {
        let error = |reason, what| Err(DecodeError { reason, what });
        let protocol = &self.clients.settings.protocol;
        if subscription_id.is_some() && !protocol.subscription_ids_available {
            let reason = ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED;
            return error(reason, "subscription identifiers are not offered");
        }
        for (filter, options) in filters {
            let Ok(subscription) = Subscription::parse(filter) else { continue };
            if options.no_local && matches!(subscription, Subscription::Shared { .. }) {
                // [MQTT-3.8.3-4]
                return error(ReasonCode::PROTOCOL_ERROR, "no local on a shared subscription");
            }
            if version == Version::V5
                && let Some(reason) = self.not_offered(&subscription)
            {
                return error(reason, "a kind of subscription that is not offered");
            }
        }
        Ok(())
    }

    /// The reason code for a kind of subscription that is switched off.
    fn not_offered(&self, subscription: &Subscription<'_>) -> Option<ReasonCode> {
        let protocol = &self.clients.settings.protocol;
        if !protocol.shared_available && matches!(subscription, Subscription::Shared { .. }) {
            return Some(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
        }
        let wildcard = !protocol.wildcard_available && subscription.filter().has_wildcard();
        wildcard.then_some(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED)
    }

    /// Why one filter of a SUBSCRIBE is refused; `None`: it is not.
    pub(super) fn refused_filter(&self, subscription: &Subscription<'_>) -> Option<ReasonCode> {
        let limits = &self.clients.settings.limits;
        let filter = subscription.filter();
        if filter.levels().count() > limits.filter_levels {
            return Some(ReasonCode::TOPIC_FILTER_INVALID);
        }
        if limits.deny_broad_wildcards && is_broad(filter) {
            return Some(ReasonCode::NOT_AUTHORIZED);
        }
        let literal = filter.levels().take_while(|level| matches!(level, Level::Name(_))).count();
        if filter.has_wildcard() && literal + 1 < limits.wildcard_min_level {
            return Some(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED);
        }
        self.not_offered(subscription)
    }
}

/// Whether the filter takes everything from some level on: only wildcards, `#` at the end.
fn is_broad(filter: &TopicFilter) -> bool {
    let mut levels = filter.levels();
    levels.all(|level| !matches!(level, Level::Name(_))) && filter.as_str().ends_with('#')
}
