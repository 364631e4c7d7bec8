//! How fast one connection may send: its reading pauses until its turn comes, nothing is refused.
//!
//! Invariants worth naming:
//! * a packet is charged once, when it was processed, however often it had to wait before;
//! * without a quota this costs one branch a packet.

use super::connection::{ConnectionKey, Phase};
use super::input::Flow;
use super::settings::ListenerRules;
use super::timers::Timer;
use super::waiting::Cause;
use super::{Shard, Time};
use crate::access::{Struck, is_within, party};
use crate::base::Bucket;
use crate::codec::{Frame, PacketType};
use std::net::SocketAddr;

/// What a connection has used of its listener's rates.
#[derive(Default, Debug)]
pub(super) struct Quota {
    messages: Bucket,
    bytes: Bucket,
}

impl Quota {
    /// A fresh quota, where `rules` know any rate.
    pub(super) fn under(rules: &ListenerRules) -> Option<Box<Quota>> {
        (rules.messages.is_some() || rules.bytes.is_some()).then(Box::default)
    }

    fn opens(&self, rules: &ListenerRules, message: bool, bytes: usize, now: Time) -> Time {
        let messages = rules.messages.filter(|_| message);
        let messages = messages.map_or(now, |rate| self.messages.opens(rate, now, 1));
        let bytes = rules.bytes.map_or(now, |rate| self.bytes.opens(rate, now, bytes));
        messages.max(bytes)
    }

    fn charge(&mut self, rules: &ListenerRules, message: bool, bytes: usize, now: Time) {
        if let Some(rate) = rules.messages.filter(|_| message) {
            self.messages.take(rate, now, 1);
        }
        if let Some(rate) = rules.bytes {
            self.bytes.take(rate, now, bytes);
        }
    }
}

impl Shard {
    /// Serves a packet of a connection with a quota, or lets it wait.
    pub(super) fn serve_metered(&mut self, key: ConnectionKey, frame: &Frame<'_>) -> Flow {
        let now = self.clients.now;
        let Some(connection) = self.clients.connections.get(key) else { return Flow::Stop };
        let version = connection.version;
        let rules = self.clients.settings.rules(connection.listener);
        let message = frame.packet_type() == PacketType::Publish;
        let quota = connection.quota.as_ref();
        let opens = quota.map_or(now, |quota| quota.opens(&rules, message, frame.len, now));
        if opens > now {
            self.wheel.insert(opens, Timer::Quota(key));
            return Flow::Stall(Cause::Quota);
        }
        let flow = self.serve(key, frame, version);
        if matches!(flow, Flow::Next)
            && let Some(connection) = self.clients.connections.get_mut(key)
            && let Some(quota) = &mut connection.quota
        {
            quota.charge(&rules, message, frame.len, now);
        }
        flow
    }

    /// The quota of a connection that waits for it has grown.
    pub(super) fn quota_grown(&mut self, key: ConnectionKey) {
        let stalled = self.clients.connections.get(key).and_then(|connection| connection.stalled);
        if stalled == Some(Cause::Quota) {
            self.resume(key);
        }
    }

    /// Holds connections to the rates of now that were held to none.
    pub(super) fn take_rates(&mut self) {
        let clients = &mut self.clients;
        let open: Vec<_> =
            clients.connections.iter().map(|(key, one)| (key, one.listener)).collect();
        for (key, listener) in open {
            let quota = Quota::under(&clients.settings.rules(listener));
            if let Some(connection) = clients.connections.get_mut(key)
                && connection.phase == Phase::Open
                && connection.quota.is_none()
            {
                connection.quota = quota;
            }
        }
    }

    /// Whether one more connection from the address of `peer` may come in now; counts it.
    pub(super) fn admits_address(&mut self, listener: u16, peer: Option<SocketAddr>) -> bool {
        let rules = self.clients.settings.doors.rules.get(usize::from(listener));
        let limited = rules.filter(|rules| rules.address_connects.most > 0).zip(peer);
        let Some((rules, peer)) = limited else { return true };
        if is_within(&rules.proxies, peer.ip()) {
            return true;
        }
        let tolerance = rules.address_connects;
        let (now, key) = (self.clients.now, (listener, party(peer.ip())));
        let counters = &mut self.clients.counters;
        let struck = match self.knocks.is_banned(&key, now) {
            true => Struck::TooOften,
            false => self.knocks.strike(key, tolerance, now),
        };
        counters.strikes_uncounted += u64::from(struck == Struck::Uncounted);
        counters.connects_over_rate += u64::from(struck == Struck::TooOften);
        struck != Struck::TooOften
    }

    /// Whether one more connection of `listener` may be accepted now; counts it.
    pub(super) fn admits_connection(&mut self, listener: u16) -> bool {
        let now = self.clients.now;
        let Some(rate) = self.clients.settings.rules(listener).connects else { return true };
        let at = usize::from(listener);
        if self.arrivals.len() <= at {
            self.arrivals.resize(at + 1, Bucket::default());
        }
        let admitted = self.arrivals[at].opens(rate, now, 1) <= now;
        if admitted {
            self.arrivals[at].take(rate, now, 1);
        } else {
            self.clients.counters.connects_over_rate += 1;
        }
        admitted
    }
}
