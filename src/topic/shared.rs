//! What a SUBSCRIBE names: a plain filter, a share group's filter or an exclusive one.

use super::{TopicError, TopicFilter};

const SHARE_PREFIX: &str = "$share/";
const EXCLUSIVE_PREFIX: &str = "$exclusive/";

/// The text of one SUBSCRIBE or UNSUBSCRIBE entry in checked form. Pure value, any core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Subscription<'a> {
    /// A subscription of the session alone.
    Plain(&'a TopicFilter),
    /// A seat in a share group: `$share/<group>/<filter>`.
    Shared {
        /// Name of the group: not empty, without `/`, `+` and `#`.
        group: &'a str,
        /// The filter that the group shares.
        filter: &'a TopicFilter,
    },
    /// A subscription that only one session at a time can have: `$exclusive/<filter>`.
    Exclusive(&'a TopicFilter),
}

impl<'a> Subscription<'a> {
    /// Checks `text`.
    ///
    /// # Errors
    /// As [`TopicFilter::new`], and when the group is missing or malformed, or no filter follows
    /// it [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    pub fn parse(text: &'a str) -> Result<Subscription<'a>, TopicError> {
        if let Some(filter) = text.strip_prefix(EXCLUSIVE_PREFIX) {
            return TopicFilter::new(filter).map(Subscription::Exclusive);
        }
        let Some(rest) = text.strip_prefix(SHARE_PREFIX) else {
            return TopicFilter::new(text).map(Subscription::Plain);
        };
        let Some((group, filter)) = rest.split_once('/') else {
            return Err(TopicError::new("a shared subscription names no filter"));
        };
        if group.is_empty() {
            return Err(TopicError::new("a share group has an empty name"));
        }
        if group.bytes().any(|byte| matches!(byte, b'+' | b'#' | 0)) {
            return Err(TopicError::new("a share group's name contains `+`, `#` or U+0000"));
        }
        Ok(Subscription::Shared { group, filter: TopicFilter::new(filter)? })
    }

    /// The filter that messages are matched against.
    pub fn filter(&self) -> &'a TopicFilter {
        match self {
            Subscription::Plain(filter)
            | Subscription::Shared { filter, .. }
            | Subscription::Exclusive(filter) => filter,
        }
    }

    /// The name under which a session knows the subscription that `text` was parsed to: the filter
    /// alone for an exclusive one, so that a session has either `f` or `$exclusive/f`.
    pub fn key(&self, text: &'a str) -> &'a str {
        match self {
            Subscription::Plain(_) | Subscription::Shared { .. } => text,
            Subscription::Exclusive(filter) => filter.as_str(),
        }
    }

    /// The part of `text`, which this was parsed from, before its filter: `$share/<group>/`,
    /// `$exclusive/` or nothing.
    pub fn prefix<'t>(&self, text: &'t str) -> &'t str {
        &text[..text.len() - self.filter().as_str().len()]
    }
}
