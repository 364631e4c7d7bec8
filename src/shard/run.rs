//! Runs of plain messages to one topic: routed once, and each subscriber gets them in one piece. A
//! message by itself is the shortest run.
//!
//! Invariant worth naming: whatever happens to a run is what would have happened to its messages
//! one by one. What could tell them apart (a quota, a share group, a buffer that is nearly full)
//! leaves them to the ordinary way, which also says what a message has to wait for.

use super::Shard;
use super::accept::Duty;
use super::clients::Clients;
use super::connection::{ConnectionKey, Phase, TopicCache};
use super::counters::DropCause;
use super::deliver::{Claim, Prepared};
use super::entry;
use super::fanout::Pass;
use super::session::slot_of;
use super::waiting::Cause;
use crate::base::{MessageId, PublisherId, ShardId};
use crate::codec::{Frame, QoS, Row, Run, Version, check_text};
use crate::index::{Matched, SessionKey};
use crate::session::{LARGE_PAYLOAD_BYTES, Message, RowView, RunView};
use crate::topic::TopicName;
use std::rc::Rc;

/// Most bytes of a run that crosses to another core as one entry.
const ENTRY_BYTES: usize = 4096;

/// What a run costs for each subscriber, in places of the tick's budget: so much by itself, and one
/// for so many bytes; but no more than its messages one by one.
const PLACES_EACH: usize = 2;
const PLACE_BYTES: usize = 512;

/// How many places of the budget a run takes for each subscriber.
fn places(run: &Run<'_>) -> usize {
    run.count().min(PLACES_EACH + run.bytes().len() / PLACE_BYTES)
}

/// A subscriber that needs each message by itself costs as much as they do, and is known too late.
/// So that many of them make no turn long, a run has at most so many times the messages that there
/// would be room for one by one.
const RUN_MOST: usize = 4;

/// The first messages of a row that take at most so many places for each subscriber, of together
/// at most `bytes`.
fn within_places<'a>(row: &Row<'a>, places: usize, bytes: usize) -> Option<Run<'a>> {
    let long = places.saturating_sub(PLACES_EACH).saturating_mul(PLACE_BYTES);
    let most = places.saturating_mul(RUN_MOST);
    row.run(|count, len| len <= bytes && (count <= places || count <= most && len <= long))
}

/// What the subscribers of a run share.
struct Shared<'a> {
    view: RunView<'a>,
    /// The packets in the form that they did not come in, once somebody needed it.
    other: Vec<u8>,
    /// All of its messages, once somebody has to wait for them.
    stored: Vec<Rc<Message>>,
    /// Sessions that got each message by itself.
    each: usize,
}

impl Shared<'_> {
    #[inline]
    fn packets(&mut self, version: Version) -> &[u8] {
        if self.view.run.is_encoded(version) {
            return self.view.run.bytes();
        }
        if self.other.is_empty() {
            self.view.run.encode(self.view.topic, version, &mut self.other);
        }
        &self.other
    }
}

impl Shard {
    /// Publishes packets of `key` at the front of `input`, of which `frame` is the first: a plain
    /// PUBLISH. Returns how many bytes were taken; zero, where the ordinary way has to look at the
    /// first one.
    #[inline]
    pub(super) fn publish_run(
        &mut self,
        key: ConnectionKey,
        frame: &Frame<'_>,
        input: &[u8],
        (version, max): (Version, usize),
    ) -> usize {
        let max = max.min(LARGE_PAYLOAD_BYTES);
        let Some(row) = Row::new(input, frame.body, version, max) else { return 0 };
        if self.has_rewrites() || !self.knows(key, &row) {
            return 0;
        }
        let Some(connection) = self.clients.connections.get_mut(key) else { return 0 };
        let Some(cache) = connection.topic.take() else { return 0 };
        let taken = self.publish_along(key, &cache, row);
        let (count, bytes) = taken.map_or((0, 0), |run| (run.count() as u64, run.bytes().len()));
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.topic = Some(cache);
        }
        self.clients.counters.packets_received += count;
        self.clients.counters.publishes_received += count;
        self.message_sequence += count;
        bytes
    }

    /// Sees to it that the cache of `key` has the topic of a row; false: the client may not send
    /// runs, or it is no topic name.
    #[inline]
    fn knows(&mut self, key: ConnectionKey, row: &Row<'_>) -> bool {
        let Some(connection) = self.clients.connections.get(key) else { return false };
        if connection.phase != Phase::Open || connection.quota.is_some() {
            return false;
        }
        let current = |matched: &Rc<Matched>| self.index.is_current(matched);
        // What was looked up before there were crowds has no match that could tell of them.
        let unasked = !self.index.has_crowds();
        let known = connection.topic.as_ref().is_some_and(|cache| {
            cache.topic.as_bytes() == row.topic() && cache.matched.as_ref().map_or(unasked, current)
        });
        known || check_text(row.topic()).is_some_and(|topic| self.look_up(key, topic).is_some())
    }

    /// Publishes a row to the topic of `cache`; what of it was taken.
    #[inline]
    fn publish_along<'a>(
        &mut self,
        key: ConnectionKey,
        cache: &'a TopicCache,
        row: Row<'a>,
    ) -> Option<Run<'a>> {
        let connection = self.clients.connections.get(key)?;
        let asked = || cache.verdicts.known(QoS::AtMostOnce, false) == Some(true);
        let plain = (!connection.guarded || asked())
            && !cache.delayed
            && !cache.reserved
            && cache.levels <= self.clients.settings.limits.topic_levels;
        if !plain {
            return None;
        }
        let publisher = PublisherId::session(self.me, slot_of(connection.session?));
        let id = MessageId {
            origin: self.me,
            epoch: self.clients.settings.epoch,
            sequence: self.message_sequence + 1,
        };
        let view = RowView { row, id, publisher, topic: &cache.topic };
        let duty = match cache.owner {
            owner if owner == self.me => Duty::Owner,
            _ if cache.by_publisher => Duty::Publisher,
            owner => return self.request_run(owner, &view, cache.matched.as_deref()),
        };
        self.accept_run(&view, cache.matched.as_ref()?, duty)
    }

    /// What a run costs a core with such a crowd; none, where its subscribers are not served in one
    /// go, so that it is not served as a run.
    fn run_to_crowd(&self, run: &Run<'_>, crowd: usize) -> Option<usize> {
        (2 * crowd <= self.clients.settings.tick.targets).then_some(crowd * places(run))
    }

    /// Forwards a run to the owner of its topic; what of it was.
    fn request_run<'a>(
        &mut self,
        owner: ShardId,
        view: &RowView<'a>,
        matched: Option<&Matched>,
    ) -> Option<Run<'a>> {
        let bytes = self.turn_left.min(ENTRY_BYTES).min(self.mesh.block_bytes() / 2);
        let run = view.row.run(|_, len| len <= bytes)?;
        let len = entry::run_entry_len(&run);
        if self.waiting.must_queue(Cause::Request(owner)) || !self.mesh.request_room(owner, len, 0)
        {
            return None;
        }
        let crowd = matched.map_or(0, |matched| self.index.largest_crowd(matched));
        let deliveries = self.run_to_crowd(&run, crowd)?;
        self.check_crowd_at_owner(owner, deliveries).ok()?;
        self.turn_left = self.turn_left.saturating_sub(len);
        let block = self.mesh.request(owner, len, 0);
        block.crowd += deliveries;
        entry::write_run(block, &view.with(run), None);
        self.clients.counters.forwarded += run.count() as u64;
        Some(run)
    }

    /// Accepts a run that another core forwarded; what of it was.
    pub(super) fn accept_forwarded_run<'a>(
        &mut self,
        view: &RowView<'a>,
    ) -> Result<Run<'a>, Cause> {
        let matched = self.index.matches(TopicName::assume_checked(view.topic));
        if let Some(taken) = self.accept_run(view, &matched, Duty::Owner) {
            return Ok(taken);
        }
        let first = view.first().expect("a row is never empty");
        self.accept(&first.first(), &matched, Duty::Owner)?;
        Ok(first.run)
    }

    /// Accepts a run for the subscribers of all cores; what of it was.
    fn accept_run<'a>(
        &mut self,
        view: &RowView<'a>,
        matched: &Matched,
        duty: Duty,
    ) -> Option<Run<'a>> {
        if !self.fanouts.is_empty() || self.check_budget().is_err() {
            return None;
        }
        let (interested, groups, held) = self.index.survey(matched);
        let local = interested.contains(self.me);
        let targets = if local { held } else { 0 };
        if groups || targets > self.clients.settings.tick.targets {
            return None;
        }
        let remote = interested.without(self.me);
        let mut bytes = self.turn_left;
        if !remote.is_empty() {
            bytes = bytes.min(ENTRY_BYTES).min(self.mesh.block_bytes() / 2);
        }
        let run = within_places(&view.row, self.targets_left / targets.max(1), bytes)?;
        let view = view.with(run);
        let len = entry::run_entry_len(&run);
        for core in remote.iter() {
            if self.waiting.must_queue(Cause::Deliver(core)) || !self.mesh.deliver_room(core, len) {
                return None;
            }
        }
        let crowds = self.index.has_crowds();
        for core in remote.iter().filter(|_| crowds) {
            let deliveries = self.run_to_crowd(&run, self.index.crowd_at(matched, core))?;
            self.check_crowd(core, deliveries).ok()?;
        }
        let (count, first) = (run.count() as u64, self.sequence + 1);
        self.sequence += count;
        self.turn_left = self.turn_left.saturating_sub(len);
        self.clients.counters.messages_accepted += count;
        if duty != Duty::Publisher {
            self.look_at_some(&view, remote);
        }
        for core in remote.iter() {
            let block = self.mesh.deliver(core, len);
            if crowds {
                block.crowd += self.index.crowd_at(matched, core) * places(&run);
            }
            entry::write_run(block, &view, Some(first));
            self.clients.counters.delivered_remote += count;
        }
        if local {
            self.serve_run(view, matched, targets, self.me);
        }
        Some(run)
    }

    /// Delivers a run that `from` has accepted, its first message as number `sequence`; what of it
    /// was. The lane has no long fan-out that it must not pass.
    pub(super) fn delivered_run<'a>(
        &mut self,
        from: ShardId,
        view: &RowView<'a>,
        sequence: u64,
    ) -> Run<'a> {
        let matched = self.index.matches(TopicName::assume_checked(view.topic));
        let targets = self.targets(&matched);
        let long = targets > self.clients.settings.tick.targets;
        let places = if long { 1 } else { (self.targets_left / targets.max(1)).max(1) };
        let bytes = if long { 0 } else { usize::MAX };
        let run = within_places(&view.row, places, bytes);
        let taken = run.map(|run| view.with(run)).or_else(|| view.first());
        let taken = taken.expect("a row is never empty");
        self.note_seen(from, sequence + taken.run.count() as u64 - 1);
        if long {
            let fanout = self.start_fan_out(&taken.first(), &matched, targets, from);
            self.note_fan_out(from, fanout);
        } else {
            self.serve_run(taken, &matched, targets, from);
        }
        taken.run
    }

    /// Serves the subscribers of this core, which have so many places as `targets` says.
    fn serve_run(&mut self, view: RunView<'_>, matched: &Matched, targets: usize, from: ShardId) {
        self.targets_left = self.targets_left.saturating_sub(targets * places(&view.run));
        let first = view.first();
        let other = std::mem::take(&mut self.clients.scratch);
        let mut shared = Shared { view, other, stored: Vec::new(), each: 0 };
        shared.other.clear();
        let mut pass = Pass::whole(&first, matched, from);
        self.deliver_to_all(&mut pass, |clients, session, claim| {
            clients.deliver_run(&mut shared, session, claim);
        });
        self.clients.scratch = shared.other;
        let dearer = view.run.count() - places(&view.run);
        self.targets_left = self.targets_left.saturating_sub(shared.each * dearer);
    }
}

impl Clients {
    /// Delivers a run to one session of this core.
    #[inline]
    fn deliver_run(&mut self, shared: &mut Shared<'_>, session: SessionKey, claim: Claim<'_>) {
        let (run, high_water) = (shared.view.run, self.high_water());
        let count = run.count() as u64;
        let key = self.sessions.get(slot_of(session)).and_then(|session| session.connection);
        let Some(connection) = key.and_then(|key| self.connections.get_mut(key)) else {
            self.counters.deliveries += count;
            return self.dropped(DropCause::Offline, run.count(), shared.view.content_bytes());
        };
        let version = connection.version;
        let bytes = connection.pending_bytes() + run.len_at_most(version);
        let late = bytes >= high_water || !connection.late.is_empty();
        let apart = connection.alias_maximum > 0
            || version == Version::V5 && claim.identifier.is_some()
            || run.largest(version) > connection.maximum_packet as usize;
        if late || apart {
            return self.deliver_each(shared, session, claim, late);
        }
        connection.writer(&mut self.output).extend_from_slice(shared.packets(version));
        self.counters.deliveries += count;
        self.counters.deliveries_sent += count;
        self.counters.publishes_sent += count;
    }

    /// Delivers the messages of a run one by one; where they may have to wait, all sessions share
    /// what is stored of them.
    #[cold]
    #[inline(never)]
    fn deliver_each(
        &mut self,
        shared: &mut Shared<'_>,
        session: SessionKey,
        claim: Claim<'_>,
        late: bool,
    ) {
        shared.each += 1;
        if late && shared.stored.is_empty() {
            let messages = shared.view.messages();
            shared.stored = messages.map(|message| message.store(&self.ledger)).collect();
        }
        for (at, message) in shared.view.messages().enumerate() {
            let mut prepared = Prepared::for_one(shared.stored.get(at).cloned());
            self.deliver(&message, session, claim, &mut prepared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::PublishOut;

    #[test]
    fn a_run_takes_what_the_budget_has_and_no_less_than_its_messages_would() {
        for size in [0, 10, 64, 500, 3000] {
            let (mut bytes, payload) = (Vec::new(), vec![b'x'; size]);
            let out = PublishOut { topic: "t", payload: &payload, ..PublishOut::default() };
            (0..100).for_each(|_| out.encode(Version::V311, &mut bytes));
            let row = Row::known(&bytes, Version::V311).expect("a row");
            let mut before = 0;
            for budget in 0..=200 {
                let taken = within_places(&row, budget, usize::MAX);
                let count = taken.map_or(0, |taken| taken.count());
                assert!(taken.is_none_or(|taken| places(&taken) <= budget), "{size} B, {budget}");
                assert!(count >= budget.min(100), "{count} messages of {size} B for {budget}");
                assert!(count <= RUN_MOST * budget, "{count} messages of {size} B for {budget}");
                assert!(count >= before, "more for more");
                before = count;
            }
            assert_eq!(before, 100);
            let some = within_places(&row, 200, 3 * (size + 8)).map_or(0, |taken| taken.count());
            assert!((1..10).contains(&some), "{some} messages in the bytes of three");
        }
    }
}
