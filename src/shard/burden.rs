//! What the owners of topics hear of how busy share groups are, for groups that choose by that.
//!
//! A home looks at a group a moment after messages came for it, and tells the owners where its
//! load is not what they know. While nothing comes, the looks become rarer, so that a member that
//! acknowledges late is noticed and one that never does costs next to nothing.
//!
//! Invariants worth naming:
//! * no look before the owners were told what an earlier one found: with full rings news of one
//!   group don't pile up;
//! * a group rests only when its owners know that it has nothing to do.

use super::Shard;
use super::subscribe::News;
use super::timers::Timer;
use crate::base::{ShardId, Time};
use crate::index::{GroupKey, Part};

/// Time between messages for a group and the look that its owners hear of, and between the looks
/// while more come.
const PAUSE_US: u64 = 10_000;

/// Longest time between two looks at a group that has something to do.
const LONGEST_PAUSE_US: u64 = 256 * PAUSE_US;

impl Shard {
    /// Counts a message that `owner` sent for a group, and sees to it that it hears of the load.
    pub(super) fn note_arrival(&mut self, group: GroupKey, owner: ShardId) {
        let due = Time(self.clients.now.0 + PAUSE_US);
        let Some(watch) = self.index.group_arrival(group, owner) else { return };
        if watch.due > due {
            (watch.due, watch.pause_us) = (due, PAUSE_US);
            self.wheel.insert(due, Timer::Burden(group));
        }
    }

    /// The time for a look at a group may have come.
    pub(super) fn burden_due(&mut self, group: GroupKey, now: Time) {
        let load = self.group_part(group).load;
        let behind = !self.untold.is_empty();
        let Some(watch) = self.index.group_watch(group) else { return };
        if watch.due > now {
            return;
        }
        let news = watch.stirred || load != watch.told;
        if !news && load == 0 {
            watch.due = Time::NEVER;
            return;
        }
        let longer = (2 * watch.pause_us).min(LONGEST_PAUSE_US);
        watch.pause_us = if news { PAUSE_US } else { longer };
        watch.due = Time(now.0 + watch.pause_us);
        self.wheel.insert(watch.due, Timer::Burden(group));
        if news
            && !behind
            && let Some(name) = self.index.name_of_group(group)
        {
            let (filter, group) = (name.filter.clone(), name.group.clone());
            self.untold.push_back(News::Group { filter, group });
        }
    }

    /// This core's part of a group, except what came from single owners.
    pub(super) fn group_part(&mut self, key: GroupKey) -> Part {
        let mut part = Part { local: key.to_bits(), ..Part::default() };
        for member in self.index.group_members(key) {
            part.total += 1;
            if let Some(load) = self.clients.load(member) {
                part.online += 1;
                part.load = part.load.saturating_add(load);
            }
        }
        part
    }
}
