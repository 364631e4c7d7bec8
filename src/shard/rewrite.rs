//! Rules that change the topics clients name, before anything else looks at them.
//!
//! Invariants worth naming:
//! * a topic is rewritten once, on its client's home, by the first rule that fits;
//! * rules see a topic or filter without what stands before it: `$share/<group>/`, `$exclusive/`,
//!   `$delayed/<seconds>/`.

use super::Shard;
use super::connection::ConnectionKey;
use super::session::slot_of;
use crate::config::RewriteAction;
use crate::topic::rewrite::captures;
use crate::topic::{Identity, Subscription, delayed};
use std::borrow::Cow;

/// What rules that can't be followed make of a topic: no valid topic or filter.
const NOTHING: &str = "";

impl Shard {
    /// Whether there are rules at all.
    #[inline]
    pub(super) fn has_rewrites(&self) -> bool {
        !self.clients.settings.topics.rewrite.is_empty()
    }

    /// Who is behind a connection, as rules know it.
    pub(super) fn identity(&self, key: ConnectionKey) -> Identity<'_> {
        let connection = self.clients.connections.get(key);
        let session = connection.and_then(|c| self.clients.sessions.get(slot_of(c.session?)));
        Identity {
            client_id: session.map_or("", |session| &session.client_id),
            user_name: connection.and_then(|connection| connection.user_name()),
        }
    }

    /// The topic that a message to `topic` is for.
    pub(super) fn rewrite_topic<'t>(&self, client: &Identity<'_>, topic: &'t str) -> Cow<'t, str> {
        let prefix = &topic[..topic.len() - delayed::target(topic).len()];
        self.rewrite(client, RewriteAction::Publish, prefix, topic)
    }

    /// The filter that a SUBSCRIBE or UNSUBSCRIBE for `text` is for.
    pub(super) fn rewrite_filter<'t>(&self, client: &Identity<'_>, text: &'t str) -> Cow<'t, str> {
        let parsed = Subscription::parse(text);
        let prefix = parsed.map_or(NOTHING, |subscription| subscription.prefix(text));
        self.rewrite(client, RewriteAction::Subscribe, prefix, text)
    }

    fn rewrite<'t>(
        &self,
        client: &Identity<'_>,
        action: RewriteAction,
        prefix: &str,
        text: &'t str,
    ) -> Cow<'t, str> {
        let own = &text[prefix.len()..];
        let rules = self.clients.settings.topics.rewrite.iter();
        for rule in rules.filter(|rule| [action, RewriteAction::All].contains(&rule.action)) {
            if let Some(found) = rule.filter.filter().and_then(|filter| captures(filter, own)) {
                return match rule.to.fill(client, &found) {
                    Some(mut to) => {
                        to.insert_str(0, prefix);
                        Cow::Owned(to)
                    }
                    None => Cow::Borrowed(NOTHING),
                };
            }
        }
        Cow::Borrowed(text)
    }
}
