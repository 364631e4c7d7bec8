//! SUBSCRIBE and UNSUBSCRIBE: installation here, interest at the owners, the gathered SUBACK.
//!
//! Requests about interest travel in the same rings as this core's publishes, and the owners'
//! confirmations in the same rings as their deliveries. So what an owner delivered before its
//! confirmation was accepted before the subscription, what comes behind it after, and a retained
//! replay can be told exactly which messages were sent live.

use super::Shard;
use super::connection::ConnectionKey;
use super::entry::{self, Entry};
use super::events::Ending;
use super::input::Flow;
use super::replay::Plan;
use super::session::{SessionSlot, Subscribed, key_of, slot_of};
use super::waiting::{Cause, Source};
use crate::base::{CoreSet, Key, PacketId, ShardId, Slots};
use crate::codec::{
    self, DecodeError, ReasonCode, RetainHandling, Subscribe, SubscribeOptions, Unsubscribe,
    Version,
};
use crate::index::{GroupKey, NodeKey, Subscriber};
use crate::mesh::Carried;
use crate::topic::{Subscription, TopicFilter};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::num::NonZeroU32;

/// What the owners of a filter have been told of this shard's plain subscribers.
pub(super) struct Announcement {
    /// Tells announcements of the same node apart.
    serial: u64,
    /// All owners have confirmed.
    confirmed: bool,
}

/// A subscription that not all owners have confirmed.
pub(super) struct Install {
    session: SessionSlot,
    node: Option<NodeKey>,
    serial: u64,
    /// Serial of the first one since the session subscribed without leaving.
    first: u64,
    pending: CoreSet,
    /// Owners at which no request of this session for this filter is in force yet; with an
    /// earlier one under way they are fewer than `pending`.
    withheld: CoreSet,
    gather: Key<Gather>,
    replay: Option<Plan>,
}

/// Installs by key and by place.
#[derive(Default)]
pub(super) struct Installs {
    slots: Slots<Install>,
    places: HashMap<(u64, u64), Key<Install>, RandomState>,
}

/// A SUBACK that waits for its installs.
pub(super) struct Gather {
    connection: ConnectionKey,
    packet_id: PacketId,
    reasons: Vec<ReasonCode>,
    pending: usize,
    replays: Vec<Plan>,
}

/// What other shards have to be told once there is room.
pub(super) enum News {
    /// The last plain subscriber of this filter may have left.
    Interest(Box<str>),
    /// The members of a share group have changed.
    Group { filter: Box<str>, group: Box<str> },
    /// A connection belongs to another shard.
    HandOver { key: ConnectionKey, home: ShardId, listener: u16, carried: Carried },
}

impl Installs {
    fn insert(&mut self, install: Install) -> Key<Install> {
        let place = install.node.map(|node| (install.session.to_bits(), node.to_bits()));
        let key = self.slots.insert(install);
        if let Some(place) = place {
            self.places.insert(place, key);
        }
        key
    }

    fn remove(&mut self, key: Key<Install>) -> Option<(Install, bool)> {
        let install = self.slots.remove(key)?;
        let place = install.node.map(|node| (install.session.to_bits(), node.to_bits()));
        let newest = place.is_some_and(|place| self.places.get(&place) == Some(&key));
        if let Some(place) = place.filter(|_| newest) {
            self.places.remove(&place);
        }
        Some((install, newest))
    }
}

/// Whether a delivery of `from` was accepted before this subscription was in force there.
pub(super) fn withheld(
    installs: &Installs,
    node: NodeKey,
    subscriber: &Subscriber,
    from: ShardId,
) -> bool {
    let place = (subscriber.session.to_bits(), node.to_bits());
    let install = installs.places.get(&place).and_then(|key| installs.slots.get(*key));
    install.is_some_and(|install| install.withheld.contains(from))
}

impl Shard {
    /// Handles a SUBSCRIBE. Nothing is changed when it stalls.
    pub(super) fn subscribe(&mut self, key: ConnectionKey, packet: &Subscribe<'_>) -> Flow {
        let Some(slot) = self.session_of(key) else { return Flow::Stop };
        if let Err(error) = self.check_subscribe(packet) {
            return self.fault(key, &error);
        }
        let texts = packet.filters().map(|(filter, _)| filter);
        if let Err(cause) = self.check_owner_room(texts) {
            return Flow::Stall(cause);
        }
        let gather = self.gathers.insert(Gather {
            connection: key,
            packet_id: packet.packet_id,
            reasons: Vec::new(),
            pending: 0,
            replays: Vec::new(),
        });
        for (filter, options) in packet.filters() {
            let reason = self.subscribe_one(slot, gather, filter, options, packet.subscription_id);
            if let Some(gather) = self.gathers.get_mut(gather) {
                gather.reasons.push(reason);
            }
        }
        self.finish_gather(gather);
        Flow::Next
    }

    fn check_subscribe(&self, packet: &Subscribe<'_>) -> Result<(), DecodeError> {
        for (filter, options) in packet.filters() {
            let shared = matches!(Subscription::parse(filter), Ok(Subscription::Shared { .. }));
            if shared && options.no_local {
                // [MQTT-3.8.3-4]
                let what = "no local on a shared subscription";
                return Err(DecodeError { reason: ReasonCode::PROTOCOL_ERROR, what });
            }
        }
        Ok(())
    }

    /// Whether the owners of all `filters` can be told now.
    fn check_owner_room<'f>(
        &mut self,
        filters: impl Iterator<Item = &'f str>,
    ) -> Result<(), Cause> {
        if self.mesh.shards() == 1 {
            return Ok(());
        }
        let mut sizes = [0usize; crate::base::MAX_SHARDS];
        for text in filters {
            let filter = match Subscription::parse(text) {
                Ok(Subscription::Plain(filter) | Subscription::Shared { filter, .. }) => filter,
                Err(_) => continue,
            };
            for owner in self.owners_elsewhere(filter).iter() {
                sizes[owner.index()] += entry::text_entry_len(text.len());
            }
        }
        let sizes = sizes.iter().enumerate().filter(|(_, size)| **size > 0);
        let sizes = sizes.map(|(owner, size)| (ShardId(owner as u8), *size));
        for (owner, size) in sizes.clone() {
            let cause = Cause::Request(owner);
            if self.waiting.must_queue(cause) || !self.mesh.request_room(owner, size, 0) {
                return Err(cause);
            }
        }
        for (owner, size) in sizes {
            // Opens a block that holds all of them.
            self.mesh.request(owner, size, 0);
        }
        Ok(())
    }

    fn owners_elsewhere(&self, filter: &TopicFilter) -> CoreSet {
        self.clients.settings.placement.shards_of(filter).without(self.me)
    }

    fn subscribe_one(
        &mut self,
        slot: SessionSlot,
        gather: Key<Gather>,
        text: &str,
        options: SubscribeOptions,
        identifier: Option<NonZeroU32>,
    ) -> ReasonCode {
        let limits = &self.clients.settings.limits;
        let Ok(subscription) = Subscription::parse(text) else {
            return ReasonCode::TOPIC_FILTER_INVALID;
        };
        if text.bytes().filter(|byte| *byte == b'/').count() >= limits.filter_levels {
            return ReasonCode::TOPIC_FILTER_INVALID;
        }
        let Some(session) = self.clients.sessions.get(slot) else {
            return ReasonCode::UNSPECIFIED_ERROR;
        };
        if session.subscriptions.len() >= limits.subscriptions
            && !session.subscriptions.contains_key(text)
        {
            return ReasonCode::QUOTA_EXCEEDED;
        }
        let subscriber = Subscriber {
            session: key_of(slot),
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            identifier,
            installing: false,
        };
        match subscription {
            Subscription::Plain(filter) => {
                self.subscribe_plain(slot, gather, filter, subscriber, options.retain_handling);
            }
            Subscription::Shared { group, filter } => {
                self.subscribe_shared(slot, gather, text, group, filter, subscriber);
            }
        }
        ReasonCode(options.qos as u8)
    }

    fn subscribe_plain(
        &mut self,
        slot: SessionSlot,
        gather: Key<Gather>,
        filter: &TopicFilter,
        mut subscriber: Subscriber,
        handling: RetainHandling,
    ) {
        let placement = &self.clients.settings.placement;
        let owners = placement.shards_of(filter);
        let elsewhere = owners.without(self.me);
        let existing = self.index.find(filter);
        let active = existing.and_then(|n| self.index.node(n)?.find(subscriber.session));
        // A subscription in force stays so, whoever else is being installed at its filter.
        let confirmed = elsewhere.is_empty()
            || active.is_some_and(|(active, alive)| alive && !active.installing)
            || existing.and_then(|n| self.announced.get(&n)).is_some_and(|a| a.confirmed);
        subscriber.installing = !confirmed;
        let done = self.index.subscribe(filter, subscriber);
        if let Some(session) = self.clients.sessions.get_mut(slot) {
            let place = Subscribed::Plain(done.node);
            let old = session.subscriptions.insert(filter.as_str().into(), place);
            self.clients.subscriptions += usize::from(old.is_none());
        }
        if owners.contains(self.me) {
            self.index.set_interest(filter, self.me);
        }
        let replay = match handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !done.replaced,
            RetainHandling::DoNotSend => false,
        };
        let as_of = |shard: ShardId| {
            (shard, if shard == self.me { self.sequence } else { self.seen[shard.index()] })
        };
        let plan = replay.then(|| {
            Plan::new(slot, filter.as_str(), &subscriber, owners.iter().map(as_of).collect())
        });
        if confirmed {
            if let Some(gather) = self.gathers.get_mut(gather) {
                gather.replays.extend(plan);
            }
            return;
        }
        self.message_sequence += 1;
        let serial = self.message_sequence;
        self.announced.insert(done.node, Announcement { serial, confirmed: false });
        let place = (slot.to_bits(), done.node.to_bits());
        let earlier = self.installs.places.get(&place).filter(|_| done.replaced);
        let earlier = earlier.and_then(|key| self.installs.slots.get(*key));
        let install = Install {
            session: slot,
            node: Some(done.node),
            serial,
            first: earlier.map_or(serial, |install| install.first),
            pending: elsewhere,
            withheld: earlier.map_or(elsewhere, |install| install.withheld),
            gather,
            replay: plan,
        };
        let token = self.install(install);
        for owner in elsewhere.iter() {
            let len = entry::text_entry_len(filter.as_str().len());
            let filter = filter.as_str();
            let block = self.mesh.request(owner, len, 0);
            entry::write(block, &Entry::Interest { filter, present: true, token });
        }
    }

    fn install(&mut self, install: Install) -> u64 {
        if let Some(gather) = self.gathers.get_mut(install.gather) {
            gather.pending += 1;
        }
        self.installs.insert(install).to_bits()
    }

    fn subscribe_shared(
        &mut self,
        slot: SessionSlot,
        gather: Key<Gather>,
        text: &str,
        group: &str,
        filter: &TopicFilter,
        subscriber: Subscriber,
    ) {
        let joined = self.index.join_group(filter, group, subscriber);
        if let Some(session) = self.clients.sessions.get_mut(slot) {
            let place = Subscribed::Shared(joined.group);
            let old = session.subscriptions.insert(text.into(), place);
            self.clients.subscriptions += usize::from(old.is_none());
        }
        let elsewhere = self.owners_elsewhere(filter);
        let mut token = 0;
        if !elsewhere.is_empty() {
            token = self.install(Install {
                session: slot,
                node: None,
                serial: 0,
                first: 0,
                pending: elsewhere,
                withheld: CoreSet::EMPTY,
                gather,
                replay: None,
            });
        }
        self.tell_group(filter, group, joined.group, token);
    }

    /// Tells all owners of `filter` how many members the group has here. Room was checked.
    fn tell_group(&mut self, filter: &TopicFilter, group: &str, key: GroupKey, token: u64) {
        let (online, total) = self.group_size(key);
        let local = key.to_bits();
        let owners = self.clients.settings.placement.shards_of(filter);
        if owners.contains(self.me) {
            self.index.set_group_members(filter, group, self.me, local, online, total);
        }
        let filter = filter.as_str();
        let len = entry::text_entry_len(filter.len() + group.len());
        for owner in owners.without(self.me).iter() {
            let block = self.mesh.request(owner, len, 0);
            entry::write(block, &Entry::Group { filter, group, local, online, total, token });
        }
    }

    fn group_size(&mut self, key: GroupKey) -> (u32, u32) {
        let clients = &mut self.clients;
        let (mut online, mut total) = (0, 0);
        for member in self.index.group_members(key) {
            total += 1;
            online += u32::from(clients.open_connection(slot_of(member.session)).is_some());
        }
        (online, total)
    }

    /// An owner confirmed: `token` is in force for everything after `sequence`.
    pub(super) fn installed(&mut self, from: ShardId, token: u64, sequence: u64) {
        self.note_seen(from, sequence);
        let key = Key::from_bits(token);
        let Some(install) = self.installs.slots.get_mut(key) else { return };
        install.pending.remove(from);
        if let Some(plan) = &mut install.replay {
            plan.set_as_of(from, sequence);
        }
        let (done, first) = (install.pending.is_empty(), install.first);
        let place = install.node.map(|node| (install.session.to_bits(), node.to_bits()));
        if let Some(newest) = place.and_then(|place| self.installs.places.get(&place))
            && let Some(install) = self.installs.slots.get_mut(*newest)
            && install.first == first
        {
            install.withheld.remove(from);
        }
        if !done {
            return;
        }
        let Some((install, newest)) = self.installs.remove(key) else { return };
        if let Some(node) = install.node {
            if let Some(announced) = self.announced.get_mut(&node)
                && announced.serial == install.serial
            {
                announced.confirmed = true;
            }
            if newest {
                let node = self.index.node_mut(node);
                if let Some(subscriber) = node.and_then(|n| n.find_mut(key_of(install.session))) {
                    subscriber.installing = false;
                }
            }
        }
        if let Some(gather) = self.gathers.get_mut(install.gather) {
            gather.pending -= 1;
            gather.replays.extend(install.replay);
        }
        self.finish_gather(install.gather);
    }

    /// Sends the SUBACK when all owners have confirmed, then starts the replays.
    fn finish_gather(&mut self, key: Key<Gather>) {
        if self.gathers.get(key).is_none_or(|gather| gather.pending > 0) {
            return;
        }
        let Some(gather) = self.gathers.remove(key) else { return };
        self.clients.answer(gather.connection, |version, out| {
            codec::encode_suback(version, gather.packet_id, &gather.reasons, out);
        });
        for plan in gather.replays {
            self.start_replay(plan);
        }
    }

    /// Handles an UNSUBSCRIBE.
    pub(super) fn unsubscribe(&mut self, key: ConnectionKey, packet: &Unsubscribe<'_>) -> Flow {
        let Some(slot) = self.session_of(key) else { return Flow::Stop };
        let mut reasons = Vec::new();
        for text in packet.filters() {
            let Some(session) = self.clients.sessions.get_mut(slot) else { return Flow::Stop };
            let subscribed = session.subscriptions.remove(text);
            reasons.push(match subscribed {
                Some(_) => ReasonCode::SUCCESS,
                None if Subscription::parse(text).is_err() => ReasonCode::TOPIC_FILTER_INVALID,
                None => ReasonCode::NO_SUBSCRIPTION_EXISTED,
            });
            if let Some(subscribed) = subscribed {
                self.clients.subscriptions -= 1;
                self.abandon_replays(slot, Some(text));
                self.leave(slot, text, subscribed);
            }
        }
        self.clients.answer(key, |version, out| {
            let codes = if version == Version::V5 { &reasons[..] } else { &[] };
            codec::encode_unsuback(version, packet.packet_id, codes, out);
        });
        Flow::Next
    }

    /// Takes one subscription of a session out of the index.
    pub(super) fn leave(&mut self, slot: SessionSlot, text: &str, subscribed: Subscribed) {
        match subscribed {
            Subscribed::Plain(node) => {
                let last = self.index.unsubscribe(node, key_of(slot)).is_last();
                if !last {
                    return;
                }
                self.announced.remove(&node);
                if let Ok(filter) = TopicFilter::new(text) {
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

    fn group_changed(&mut self, text: &str) {
        if let Ok(Subscription::Shared { group, filter }) = Subscription::parse(text) {
            let (filter, group) = (filter.as_str().into(), group.into());
            self.untold.push_back(News::Group { filter, group });
        }
    }

    /// The session came or went: the owners of its share groups have to know.
    pub(super) fn tell_group_presence(&mut self, slot: SessionSlot) {
        let Some(session) = self.clients.sessions.get(slot) else { return };
        let subscriptions = session.subscriptions.iter();
        let shared = subscriptions.filter(|(_, s)| matches!(s, Subscribed::Shared(_)));
        let mut shared: Vec<Box<str>> = shared.map(|(text, _)| text.clone()).collect();
        // The order of the news must not depend on a hash.
        shared.sort_unstable();
        for text in shared {
            self.group_changed(&text);
        }
    }

    /// Tells other shards what has changed, oldest news first, as far as there is room.
    pub(super) fn tell_owners(&mut self) {
        if self.news_waits.is_some() {
            return;
        }
        while let Some(news) = self.untold.pop_front() {
            if let Some((news, cause)) = self.tell(news) {
                self.untold.push_front(news);
                self.waiting.add(cause, Source::News);
                self.news_waits = Some(cause);
                return;
            }
        }
    }

    /// Tells one piece of news; gives it back with what it waits for.
    fn tell(&mut self, news: News) -> Option<(News, Cause)> {
        match news {
            News::Interest(text) => {
                let filter = TopicFilter::new(&text).ok()?;
                let subscribed = self.index.find(filter).and_then(|node| self.index.node(node));
                if subscribed.is_some_and(|node| node.alive() > 0) {
                    return None;
                }
                if let Err(cause) = self.check_owner_room(std::iter::once(&*text)) {
                    return Some((News::Interest(text), cause));
                }
                for owner in self.owners_elsewhere(filter).iter() {
                    let block = self.mesh.request(owner, entry::text_entry_len(text.len()), 0);
                    let entry = Entry::Interest { filter: &text, present: false, token: 0 };
                    entry::write(block, &entry);
                }
            }
            News::Group { filter, group } => {
                let checked = TopicFilter::new(&filter).ok()?;
                let shared = format!("$share/{group}/{filter}");
                if let Err(cause) = self.check_owner_room(std::iter::once(&*shared)) {
                    return Some((News::Group { filter, group }, cause));
                }
                // By name: the group of the old key may be gone and a new one in its place.
                let node = self.index.find(checked);
                let key = node.and_then(|node| self.index.local_group(node, &group));
                self.tell_group(checked, &group, key.unwrap_or(GroupKey::from_parts(0, 0)), 0);
            }
            News::HandOver { key, home, listener, carried } => {
                return self.send_home(key, home, listener, carried);
            }
        }
        None
    }

    fn send_home(
        &mut self,
        key: ConnectionKey,
        home: ShardId,
        listener: u16,
        carried: Carried,
    ) -> Option<(News, Cause)> {
        let connection = self.clients.connections.get(key)?;
        let unparsed = connection.inbox.bytes();
        let len = entry::text_entry_len(unparsed.len());
        let cause = Cause::Request(home);
        if self.waiting.must_queue(cause) || !self.mesh.request_room(home, len, 0) {
            return Some((News::HandOver { key, home, listener, carried }, cause));
        }
        let block = self.mesh.request(home, len, 0);
        entry::write(block, &Entry::HandOver { listener, peer: connection.peer, unparsed });
        block.attachments.push(crate::mesh::Attachment::Carried(carried));
        self.clients.counters.handed_over += 1;
        self.end_connection(key, Ending::Moved);
        self.released(key);
        None
    }
}
