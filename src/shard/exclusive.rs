//! `$exclusive/<filter>`: a subscription that one session in the whole broker can have.
//!
//! One core is the arbiter of a filter and knows who has it. The home asks first and subscribes
//! after a yes: then the subscription is installed at the owners as any other, and can't fail.
//!
//! Invariants worth naming:
//! * a place is given to one session at a time; who gives it back names the grant by its serial,
//!   so that a late return never takes the place from a later grant;
//! * an answer changes local state only: what follows from it waits as news for the owners.

use super::Shard;
use super::entry::{self, Entry};
use super::session::{SessionSlot, Subscribed};
use super::subscribe::{Gather, News};
use super::waiting::Cause;
use crate::base::{Key, ShardId};
use crate::codec::{ReasonCode, RetainHandling};
use crate::index::Subscriber;
use crate::topic::TopicFilter;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// A request for a filter that its arbiter has not answered, or a grant that waits for room.
pub(super) struct Reservation {
    pub(super) session: SessionSlot,
    pub(super) filter: Box<str>,
    pub(super) subscriber: Subscriber,
    pub(super) handling: RetainHandling,
    pub(super) gather: Key<Gather>,
    /// Position of the filter in its SUBSCRIBE.
    pub(super) position: usize,
}

/// Who has a filter, as its arbiter knows it.
struct Holder {
    core: ShardId,
    session: u64,
    serial: u64,
}

/// Both parts of a shard in exclusive subscriptions.
#[derive(Default)]
pub(super) struct Exclusive {
    /// As a home: requests under way, by serial.
    asked: HashMap<u64, Reservation, RandomState>,
    /// As an arbiter: filters that somebody has.
    holders: HashMap<Box<str>, Holder, RandomState>,
}

impl Exclusive {
    /// Filters that somebody has, as far as this shard is their arbiter.
    pub(super) fn held(&self) -> usize {
        self.holders.len()
    }

    /// The arbiter's decision. Who has the filter already keeps it, under the new serial.
    pub(super) fn reserve(
        &mut self,
        filter: &str,
        core: ShardId,
        session: u64,
        serial: u64,
    ) -> bool {
        match self.holders.get_mut(filter) {
            None => {
                self.holders.insert(filter.into(), Holder { core, session, serial });
                true
            }
            Some(holder) if (holder.core, holder.session) == (core, session) => {
                holder.serial = serial;
                true
            }
            Some(_) => false,
        }
    }

    /// The grant of `serial` is given back.
    pub(super) fn give_back(&mut self, filter: &str, core: ShardId, serial: u64) {
        let holder = self.holders.get(filter);
        if holder.is_some_and(|holder| (holder.core, holder.serial) == (core, serial)) {
            self.holders.remove(filter);
        }
    }
}

impl Shard {
    /// Who gives back a filter is heard before who asks for it: news that wait are told first, or
    /// the request waits with them.
    pub(super) fn check_returns_told(&mut self) -> Result<(), Cause> {
        if !self.untold.is_empty() {
            self.news_waits = None;
            self.tell_owners();
        }
        self.news_waits.map_or(Ok(()), Err)
    }

    /// One `$exclusive/` filter of a SUBSCRIBE; room at the owners and at the arbiter was checked.
    /// What is granted now may still be refused by the arbiter.
    pub(super) fn subscribe_exclusive(&mut self, wish: Reservation) -> ReasonCode {
        let Ok(filter) = TopicFilter::new(&wish.filter) else {
            return ReasonCode::TOPIC_FILTER_INVALID;
        };
        let granted = ReasonCode(wish.subscriber.qos as u8);
        let session = self.clients.sessions.get(wish.session);
        let known = session.and_then(|session| session.subscriptions.get(&*wish.filter));
        if let Some(Subscribed::Exclusive { serial, .. }) = known.copied() {
            self.install_exclusive(&wish, filter, serial);
            return granted;
        }
        self.message_sequence += 1;
        let serial = self.message_sequence;
        let arbiter = self.clients.settings.placement.arbiter(filter);
        let session = wish.session.to_bits();
        if arbiter == self.me {
            if !self.exclusive.reserve(&wish.filter, self.me, session, serial) {
                return ReasonCode::QUOTA_EXCEEDED;
            }
            self.install_exclusive(&wish, filter, serial);
            return granted;
        }
        let block = self.mesh.request(arbiter, entry::text_entry_len(wish.filter.len()), 0);
        let filter = &*wish.filter;
        entry::write(block, &Entry::Reserve { filter, present: true, session, serial });
        let place = Subscribed::Reserving { serial };
        self.clients.keep_subscription(wish.session, wish.filter.clone(), place);
        self.expect_answer(wish.gather);
        self.exclusive.asked.insert(serial, wish);
        granted
    }

    fn install_exclusive(&mut self, wish: &Reservation, filter: &TopicFilter, serial: u64) {
        let slot = wish.session;
        let node = self.subscribe_plain(slot, wish.gather, filter, wish.subscriber, wish.handling);
        let place = Subscribed::Exclusive { node, serial };
        self.clients.keep_subscription(slot, wish.filter.clone(), place);
    }

    /// The arbiter has answered.
    pub(super) fn reserved(&mut self, serial: u64, granted: bool) {
        let Some(wish) = self.exclusive.asked.remove(&serial) else { return };
        if granted {
            self.untold.push_back(News::Granted { wish: Box::new(wish), serial });
            return;
        }
        if self.is_wanted(&wish, serial) {
            self.clients.forget_subscription(wish.session, &wish.filter);
        }
        self.answered(wish.gather, Some((wish.position, ReasonCode::QUOTA_EXCEEDED)));
    }

    /// Whether the session still waits for this grant: it has neither ended nor unsubscribed.
    fn is_wanted(&self, wish: &Reservation, serial: u64) -> bool {
        let session = self.clients.sessions.get(wish.session);
        let place = session.and_then(|session| session.subscriptions.get(&*wish.filter));
        matches!(place, Some(Subscribed::Reserving { serial: own }) if *own == serial)
    }

    /// Subscribes after a grant; gives it back with what it waits for.
    pub(super) fn tell_grant(
        &mut self,
        wish: Box<Reservation>,
        serial: u64,
    ) -> Option<(News, Cause)> {
        let filter = TopicFilter::new(&wish.filter).ok()?;
        if !self.is_wanted(&wish, serial) {
            self.untold.push_back(News::Returned { filter: wish.filter.clone(), serial });
            self.answered(wish.gather, None);
            return None;
        }
        if let Err(cause) = self.check_owner_room(std::iter::once(&*wish.filter)) {
            return Some((News::Granted { wish, serial }, cause));
        }
        self.install_exclusive(&wish, filter, serial);
        self.answered(wish.gather, None);
        None
    }

    /// The session gives its filter back.
    pub(super) fn leave_exclusive(&mut self, filter: &str, serial: u64) {
        let Ok(checked) = TopicFilter::new(filter) else { return };
        if self.clients.settings.placement.arbiter(checked) == self.me {
            return self.exclusive.give_back(filter, self.me, serial);
        }
        self.untold.push_back(News::Returned { filter: filter.into(), serial });
    }

    /// Tells the arbiter of a returned filter; gives it back with what it waits for.
    pub(super) fn tell_return(&mut self, filter: Box<str>, serial: u64) -> Option<(News, Cause)> {
        let arbiter = self.clients.settings.placement.arbiter(TopicFilter::new(&filter).ok()?);
        let cause = Cause::Request(arbiter);
        let len = entry::text_entry_len(filter.len());
        if self.waiting.must_queue(cause) || !self.mesh.request_room(arbiter, len, 0) {
            return Some((News::Returned { filter, serial }, cause));
        }
        let block = self.mesh.request(arbiter, len, 0);
        let returned = Entry::Reserve { filter: &filter, present: false, session: 0, serial };
        entry::write(block, &returned);
        None
    }

    /// The arbiter's part of a request.
    pub(super) fn arbitrate(
        &mut self,
        from: ShardId,
        filter: &str,
        asked: Option<u64>,
        serial: u64,
    ) -> Result<(), Cause> {
        let Some(session) = asked else {
            self.exclusive.give_back(filter, from, serial);
            return Ok(());
        };
        self.check_marker(from, serial)?;
        let granted = self.exclusive.reserve(filter, from, session, serial);
        let block = self.mesh.deliver(from, entry::text_entry_len(0));
        entry::write(block, &Entry::Reserved { serial, granted });
        Ok(())
    }
}
