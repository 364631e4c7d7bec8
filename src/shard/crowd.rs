//! Crowds: filters with many subscribers on a core. Every core knows them, so that what a message
//! will cost others counts before it stands in a lane, where it delays what is behind it.
//!
//! A lane bounds bytes, and the cost of a byte differs by five powers of ten. So a message for a
//! crowd needs room for its deliveries, too: what a lane has under way is what its reader serves in
//! a few turns, and the rest waits at its source, where sources take turns.

use super::Shard;
use super::entry::{self, Entry};
use super::subscribe::News;
use super::waiting::Cause;
use crate::base::{CoreSet, ShardId};
use crate::index::{Matched, NodeKey};
use crate::topic::{TopicFilter, TopicName};
use std::rc::Rc;

impl Shard {
    /// The number of plain subscribers at the node of `filter` has changed.
    #[inline]
    pub(super) fn crowd_changed(&mut self, node: NodeKey, filter: &TopicFilter) {
        let least = self.clients.settings.tick.crowd;
        if self.mesh.shards() > 1
            && let Some(size) = self.index.crowd_news(node, self.me, least)
        {
            self.index.set_crowd(filter, self.me, size);
            self.untold.push_back(News::Crowd(filter.as_str().into()));
        }
    }

    /// Tells all other cores of this core's crowd; gives the news back with what they wait for.
    pub(super) fn tell_crowd(&mut self, filter: Box<str>) -> Option<(News, Cause)> {
        let checked = TopicFilter::new(&filter).ok()?;
        let len = entry::text_entry_len(filter.len());
        let others = CoreSet::first(self.mesh.shards()).without(self.me);
        for core in others.iter() {
            let cause = Cause::Request(core);
            if self.waiting.must_queue(cause) || !self.mesh.request_room(core, len, 0) {
                return Some((News::Crowd(filter), cause));
            }
        }
        let size = self.index.crowd_told(checked, self.me);
        for core in others.iter() {
            let block = self.mesh.request(core, len, 0);
            entry::write(block, &Entry::Crowd { filter: &filter, size });
        }
        None
    }

    /// Whether the lane to `core` has room for so many deliveries to crowds there.
    pub(super) fn check_crowd(&mut self, core: ShardId, deliveries: usize) -> Result<(), Cause> {
        let full = deliveries > 0
            && (self.waiting.must_queue(Cause::CrowdDeliver)
                || !self.mesh.deliver_crowd_room(core, deliveries));
        if full { Err(Cause::CrowdDeliver) } else { Ok(()) }
    }

    /// How many subscribers in crowds the core with most of them has of a topic; its match may be
    /// known.
    #[inline]
    pub(super) fn largest_crowd(&mut self, matched: Option<Rc<Matched>>, topic: &str) -> usize {
        if !self.index.has_crowds() {
            return 0;
        }
        let find = || self.index.matches(TopicName::assume_checked(topic));
        let matched = matched.unwrap_or_else(find);
        self.index.largest_crowd(&matched)
    }

    /// Whether the lane to an owner has room for a message with so many deliveries to crowds.
    pub(super) fn check_crowd_at_owner(
        &mut self,
        owner: ShardId,
        deliveries: usize,
    ) -> Result<(), Cause> {
        let full = deliveries > 0
            && (self.waiting.must_queue(Cause::CrowdRequest)
                || !self.mesh.request_crowd_room(owner, deliveries));
        if full { Err(Cause::CrowdRequest) } else { Ok(()) }
    }
}
