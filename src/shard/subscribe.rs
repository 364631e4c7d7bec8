//! SUBSCRIBE: installation here, interest at the owners, the gathered SUBACK.
//!
//! Requests about interest travel in the same rings as this core's publishes, and the owners'
//! confirmations in the same rings as their deliveries. So what an owner delivered before its
//! confirmation was accepted before the subscription, what comes behind it after, and a retained
//! replay can be told exactly which messages were sent live.

use super::Shard;
use super::connection::ConnectionKey;
use super::entry::{self, Entry};
use super::exclusive::Reservation;
use super::input::Flow;
use super::replay::Plan;
use super::session::{SessionSlot, Subscribed, key_of};
use super::waiting::{Cause, Source};
use crate::base::{CoreSet, Key, PacketId, ShardId, Slots};
use crate::codec::{
    self, PacketType, QoS, ReasonCode, RetainHandling, Subscribe, SubscribeOptions,
};
use crate::index::{GroupKey, NodeKey, Part, Subscriber};
use crate::mesh::Carried;
use crate::topic::{Subscription, TopicFilter, delayed};
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
    /// `None`: the broker subscribes by a rule, and nobody waits for a SUBACK.
    packet_id: Option<PacketId>,
    reasons: Vec<ReasonCode>,
    pending: usize,
    replays: Vec<Plan>,
}

/// What other shards have to be told once there is room.
pub(super) enum News {
    /// The last plain subscriber of this filter may have left.
    Interest(Box<str>),
    /// This core's crowd of plain subscribers of this filter has grown or shrunk.
    Crowd(Box<str>),
    /// The members of a share group have changed.
    Group { filter: Box<str>, group: Box<str> },
    /// A connection belongs to another shard.
    HandOver { key: ConnectionKey, home: ShardId, listener: u16, carried: Carried },
    /// An arbiter granted an exclusive subscription.
    Granted { wish: Box<Reservation>, serial: u64 },
    /// A session gives back an exclusive subscription.
    Returned { filter: Box<str>, serial: u64 },
    /// A rule subscribes a client.
    AutoSubscribe { key: ConnectionKey, filter: Box<str>, options: SubscribeOptions },
}

impl Installs {
    /// How many subscriptions are not confirmed.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

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
        if !self.has_rewrites() {
            return self.subscribe_to(key, packet, packet.filters());
        }
        let client = self.identity(key);
        let rewritten = packet.filters();
        let rewritten: Vec<_> = rewritten
            .map(|(text, options)| (self.rewrite_filter(&client, text), options))
            .collect();
        let filters = rewritten.iter().map(|(text, options)| (&**text, *options));
        self.subscribe_to(key, packet, filters)
    }

    fn subscribe_to<'f>(
        &mut self,
        key: ConnectionKey,
        packet: &Subscribe<'_>,
        filters: impl Iterator<Item = (&'f str, SubscribeOptions)> + Clone,
    ) -> Flow {
        let Some(slot) = self.session_of(key) else { return Flow::Stop };
        let version = self.version_of(key);
        if let Err(error) = self.check_subscribe(version, packet.subscription_id, filters.clone()) {
            return self.fault(key, &error);
        }
        let exclusive = has_exclusive(filters.clone());
        let told = if exclusive { self.check_returns_told() } else { Ok(()) };
        let texts = filters.clone().map(|(filter, _)| filter);
        if let Err(cause) = told.and_then(|()| self.check_owner_room(texts)) {
            return Flow::Stall(cause);
        }
        let gather = self.gather(key, Some(packet.packet_id));
        for (filter, options) in filters {
            self.subscribe_gathered(slot, gather, filter, options, packet.subscription_id);
        }
        self.finish_gather(gather);
        Flow::Next
    }

    /// Subscribes to one filter and notes its reason code in the gather.
    pub(super) fn subscribe_gathered(
        &mut self,
        slot: SessionSlot,
        gather: Key<Gather>,
        filter: &str,
        options: SubscribeOptions,
        identifier: Option<NonZeroU32>,
    ) -> ReasonCode {
        let reason = self.subscribe_one(slot, gather, filter, options, identifier);
        if let Some(gather) = self.gathers.get_mut(gather) {
            gather.reasons.push(reason);
        }
        reason
    }

    pub(super) fn gather(
        &mut self,
        connection: ConnectionKey,
        packet_id: Option<PacketId>,
    ) -> Key<Gather> {
        let (reasons, replays) = (Vec::new(), Vec::new());
        self.gathers.insert(Gather { connection, packet_id, reasons, pending: 0, replays })
    }

    /// Whether the owners of all `filters`, and the arbiters of exclusive ones, can be told now.
    pub(super) fn check_owner_room<'f>(
        &mut self,
        filters: impl Iterator<Item = &'f str>,
    ) -> Result<(), Cause> {
        if self.mesh.shards() == 1 {
            return Ok(());
        }
        let mut sizes = [0usize; crate::base::MAX_SHARDS];
        for text in filters {
            let Ok(parsed) = Subscription::parse(text) else { continue };
            for owner in self.owners_elsewhere(parsed.filter()).iter() {
                sizes[owner.index()] += entry::text_entry_len(text.len());
            }
            if let Subscription::Exclusive(filter) = parsed {
                let arbiter = self.clients.settings.placement.arbiter(filter);
                if arbiter != self.me {
                    sizes[arbiter.index()] += entry::text_entry_len(text.len());
                }
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

    pub(super) fn owners_elsewhere(&self, filter: &TopicFilter) -> CoreSet {
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
        let settings = &self.clients.settings;
        let Ok(subscription) = Subscription::parse(text) else {
            return ReasonCode::TOPIC_FILTER_INVALID;
        };
        let exclusive = matches!(subscription, Subscription::Exclusive(_));
        if exclusive && !settings.topics.exclusive || delayed::covers(subscription.filter()) {
            return ReasonCode::TOPIC_FILTER_INVALID;
        }
        let refused = self.refused_filter(&subscription);
        let filter = subscription.filter();
        if let Some(reason) = refused.or_else(|| self.denied_filter(slot, filter, options.qos)) {
            return reason;
        }
        let text = subscription.key(text);
        let Some(session) = self.clients.sessions.get(slot) else {
            return ReasonCode::UNSPECIFIED_ERROR;
        };
        match session.subscriptions.get(text) {
            // A session has either `f` or `$exclusive/f`.
            Some(known) if known.is_exclusive() != exclusive => {
                return ReasonCode::TOPIC_FILTER_INVALID;
            }
            Some(_) => {}
            None if session.subscriptions.len() >= self.clients.settings.limits.subscriptions => {
                return ReasonCode::QUOTA_EXCEEDED;
            }
            None => {}
        }
        // Any QoS may be asked for [MQTT-3.2.2-10].
        let highest = QoS::from_u8(self.clients.settings.protocol.maximum_qos as u8);
        let qos = options.qos.min(highest.unwrap_or(QoS::ExactlyOnce));
        let subscriber = Subscriber {
            session: key_of(slot),
            qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            identifier,
            installing: false,
        };
        match subscription {
            Subscription::Plain(filter) => {
                let handling = options.retain_handling;
                let node = self.subscribe_plain(slot, gather, filter, subscriber, handling);
                self.clients.keep_subscription(slot, text, Subscribed::Plain(node));
            }
            Subscription::Exclusive(filter) => {
                let position = self.gathers.get(gather).map_or(0, |gather| gather.reasons.len());
                return self.subscribe_exclusive(Reservation {
                    session: slot,
                    filter: filter.as_str().into(),
                    subscriber,
                    handling: options.retain_handling,
                    gather,
                    position,
                });
            }
            Subscription::Shared { group, filter } => {
                self.subscribe_shared(slot, gather, text, group, filter, subscriber);
            }
        }
        ReasonCode(qos as u8)
    }

    /// Installs a subscription of one session alone; the caller notes it in the session.
    pub(super) fn subscribe_plain(
        &mut self,
        slot: SessionSlot,
        gather: Key<Gather>,
        filter: &TopicFilter,
        mut subscriber: Subscriber,
        handling: RetainHandling,
    ) -> NodeKey {
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
        self.crowd_changed(done.node, filter);
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
            return done.node;
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
        done.node
    }

    /// The gather has to wait for one answer more.
    pub(super) fn expect_answer(&mut self, gather: Key<Gather>) {
        if let Some(gather) = self.gathers.get_mut(gather) {
            gather.pending += 1;
        }
    }

    /// An answer for the gather has come; it may say that the filter at a position is refused.
    pub(super) fn answered(&mut self, key: Key<Gather>, refused: Option<(usize, ReasonCode)>) {
        if let Some(gather) = self.gathers.get_mut(key) {
            gather.pending -= 1;
            if let Some((position, reason)) = refused {
                gather.reasons[position] = reason;
            }
        }
        self.finish_gather(key);
    }

    fn install(&mut self, install: Install) -> u64 {
        self.expect_answer(install.gather);
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
        self.clients.keep_subscription(slot, text, Subscribed::Shared(joined.group));
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

    /// Tells all owners of `filter` this core's part of the group. Room was checked.
    fn tell_group(&mut self, filter: &TopicFilter, group: &str, key: GroupKey, token: u64) {
        let size = self.group_part(key);
        if let Some(watch) = self.index.group_watch(key) {
            (watch.told, watch.stirred) = (size.load, false);
        }
        let owners = self.clients.settings.placement.shards_of(filter);
        if owners.contains(self.me) {
            let part = Part { arrived: self.index.group_arrived(key, self.me), ..size };
            self.index.set_group_part(filter, group, self.me, part);
        }
        let filter = filter.as_str();
        let len = entry::text_entry_len(filter.len() + group.len());
        for owner in owners.without(self.me).iter() {
            let part = Part { arrived: self.index.group_arrived(key, owner), ..size };
            let block = self.mesh.request(owner, len, 0);
            entry::write(block, &Entry::Group { filter, group, part, token });
        }
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
            gather.replays.extend(install.replay);
        }
        self.answered(install.gather, None);
    }

    /// Sends the SUBACK when all owners have confirmed, then starts the replays.
    pub(super) fn finish_gather(&mut self, key: Key<Gather>) {
        if self.gathers.get(key).is_none_or(|gather| gather.pending > 0) {
            return;
        }
        let Some(gather) = self.gathers.remove(key) else { return };
        if let Some(packet_id) = gather.packet_id {
            let connection = self.clients.connections.get(gather.connection);
            let text =
                connection.and_then(|c| c.explain_filters(PacketType::Suback, &gather.reasons));
            self.clients.explain(gather.connection, text.as_deref(), |version, text, out| {
                codec::encode_suback(version, packet_id, &gather.reasons, text, out);
            });
        }
        for plan in gather.replays {
            self.start_replay(plan);
        }
    }

    /// The owners of a share group have to hear that its members changed.
    pub(super) fn group_changed(&mut self, text: &str) {
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
            News::Crowd(filter) => return self.tell_crowd(filter),
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
            News::Granted { wish, serial } => return self.tell_grant(wish, serial),
            News::Returned { filter, serial } => return self.tell_return(filter, serial),
            News::AutoSubscribe { key, filter, options } => {
                return self.tell_auto_subscribe(key, filter, options);
            }
        }
        None
    }
}

/// Whether any of the filters is to be subscribed to by one session alone.
fn has_exclusive<'f>(mut filters: impl Iterator<Item = (&'f str, SubscribeOptions)>) -> bool {
    filters.any(|(text, _)| matches!(Subscription::parse(text), Ok(Subscription::Exclusive(_))))
}
