//! Who a client is, and whether it may do what it asks for.
//!
//! Invariants worth naming:
//! * a connection whose credentials are being checked waits in the lobby, with its CONNECT unread;
//! * a session belongs to the user that made it: nobody else gets it or ends it;
//! * an answer of the rules is kept until the topic or the rules change.

use super::Shard;
use super::admit::Refusal;
use super::connection::{Connection, ConnectionKey, Known, Standing};
use super::counters::DropCause;
use super::events::Ending;
use super::exchange::Again;
use super::input::Flow;
use super::session::SessionSlot;
use super::waiting::Cause;
use super::{Command, Live};
use crate::access::{
    Access, Action, Credentials, Identity, Names, Step, Struck, Subject, Verdict, party,
};
use crate::base::PacketId;
use crate::codec::{Connect, Publish, QoS, ReasonCode, Version, Will};
use crate::topic::{Subscription, TopicFilter, delayed};
use std::net::SocketAddr;

/// What the log says of an address that is not let in.
pub(super) const ADDRESS_REFUSED: &str = "the listener does not let this address in";

/// What the transport of a connection knows of its client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// Where it really comes from.
    pub peer: Option<SocketAddr>,
    /// The user name that it has proven, by a certificate.
    pub user: Option<Box<str>>,
}

/// What a CONNECT has to wait for, or why it is refused.
pub(super) enum Unproven {
    Waits,
    Refused(Refusal),
}

fn refused(reason: ReasonCode, what: &'static str) -> Unproven {
    Unproven::Refused(Refusal { reason, what })
}

/// What an access to `topic` is.
fn access(action: Action, topic: &str, qos: QoS, retain: bool) -> Access<'_> {
    Access { action, topic, qos, retain }
}

impl Shard {
    /// Notes what the transport of a connection has found out; false: it is not let in.
    pub fn introduce(&mut self, key: ConnectionKey, introduction: Introduction) -> bool {
        let Some(connection) = self.clients.connections.get_mut(key) else { return false };
        if let Some(user) = introduction.user {
            let identity = Identity { user, ..Identity::default() };
            connection.standing = Known::standing(identity, &self.clients.settings.policy);
        }
        let (listener, peer) = (connection.listener, introduction.peer);
        // What was told of a proxy's client was not counted yet.
        let told = connection.peer != peer;
        connection.peer = peer;
        if self.lets_in(listener, peer) && (!told || self.admits_address(listener, peer)) {
            return true;
        }
        self.tell_turned_away(listener, peer, ADDRESS_REFUSED);
        self.end_connection(key, Ending::Refused);
        false
    }

    /// Whether connections of `listener` may come from `peer`; counts those that may not.
    pub(super) fn lets_in(&mut self, listener: u16, peer: Option<SocketAddr>) -> bool {
        let Some(rules) = self.clients.settings.doors.rules.get(usize::from(listener)) else {
            return true;
        };
        let now = self.clients.now;
        let allowed = |ip| rules.lets_in(ip) && !self.guesses.is_banned(&party(ip), now);
        let lets_in = peer.is_none_or(|peer| allowed(peer.ip()));
        self.clients.counters.addresses_refused += u64::from(!lets_in);
        lets_in
    }

    /// Finds out who sends a CONNECT; asks the shell once where that takes long.
    pub(super) fn identify(
        &mut self,
        key: ConnectionKey,
        connect: &Connect<'_>,
    ) -> Result<(), Unproven> {
        let Some(connection) = self.clients.connections.get_mut(key) else { return Ok(()) };
        let method = connect.properties.authentication_method;
        // [MQTT-4.12.0-1]
        let unknown = |what| Err(refused(ReasonCode::BAD_AUTHENTICATION_METHOD, what));
        match &connection.standing {
            Standing::Proven(known) if known.identity.proof.is_none() && method.is_some() => {
                return unknown("the client has proven who it is before its CONNECT");
            }
            Standing::Proven(_) | Standing::Anonymous(_) => return Ok(()),
            Standing::Asked | Standing::Exchanging(_) => return Err(Unproven::Waits),
            Standing::Refused(refusal) => return Err(Unproven::Refused(**refusal)),
            Standing::Unasked => {}
        }
        let at = usize::from(connection.listener);
        let settings = &self.clients.settings;
        let asks = settings.policy.asks(connection.listener);
        if method.is_some() && !asks {
            return unknown("no authentication method is offered");
        }
        if asks && (connect.username.or(method).is_some() || connect.password.is_some()) {
            connection.standing = Standing::Asked;
            if method.is_some() {
                // What is said before the CONNACK is said in its version and fits.
                connection.version = connect.version;
                let largest = connect.properties.maximum_packet_size;
                connection.maximum_packet = largest.map_or(u32::MAX, std::num::NonZeroU32::get);
            }
            let data = connect.properties.authentication_data;
            let step = |method: &str| Step {
                method: method.into(),
                data: data.map(Box::from),
                exchange: None,
            };
            let credentials = Credentials {
                listener: connection.listener,
                client_id: connect.client_id.into(),
                user: connect.username.map(Box::from),
                password: connect.password.map(Box::from),
                peer: connection.peer,
                step: method.map(step),
            };
            self.clients.counters.credentials_asked += 1;
            self.commands.push_back(Command::Judge(key, Box::new(credentials)));
            return Err(Unproven::Waits);
        }
        if !settings.doors.anonymous.get(at).is_some_and(|anonymous| *anonymous) {
            let what = match asks {
                true => "this listener takes no anonymous clients: give user name and password",
                false => "this listener takes no anonymous clients, and nobody can prove a name",
            };
            return Err(refused(ReasonCode::NOT_AUTHORIZED, what));
        }
        let named = settings.names_matter();
        let name = connect.username.filter(|_| named).map(Box::from);
        connection.standing = Standing::Anonymous(name);
        Ok(())
    }

    /// What was found out about the credentials of a connection; it goes on with its CONNECT.
    pub fn judged(&mut self, key: ConnectionKey, verdict: Verdict) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        if connection.known().is_some_and(|known| matches!(known.again, Again::Asked)) {
            return self.judged_again(key, verdict);
        }
        if !matches!(connection.standing, Standing::Asked) {
            return;
        }
        let standing = match verdict {
            Verdict::Proven(identity) => Known::standing(*identity, &self.clients.settings.policy),
            Verdict::Continue { data, exchange } => {
                return self.continue_connect(key, &data, exchange);
            }
            // [MQTT-4.12.0-4]
            refused => Standing::Refused(Box::new(self.refusal(key, &refused))),
        };
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        connection.standing = standing;
        if connection.stalled == Some(Cause::Verdict) {
            self.resume(key);
        }
    }

    /// Why a client with this verdict is refused; counts it.
    pub(super) fn refusal(&mut self, key: ConnectionKey, verdict: &Verdict) -> Refusal {
        let counters = &mut self.clients.counters;
        let (reason, what) = match verdict {
            Verdict::Busy => {
                counters.credentials_unchecked += 1;
                (ReasonCode::SERVER_BUSY, "too many clients wait for their password check")
            }
            Verdict::Unavailable => {
                counters.credentials_unchecked += 1;
                let what = "nobody can check the user name and password now";
                (ReasonCode::SERVER_UNAVAILABLE, what)
            }
            Verdict::NoSuchMethod => {
                let what = "the authentication method is not offered here";
                (ReasonCode::BAD_AUTHENTICATION_METHOD, what)
            }
            Verdict::Wrong | Verdict::Proven(_) | Verdict::Continue { .. } => {
                counters.credentials_wrong += 1;
                self.strike_guess(key);
                (ReasonCode::BAD_USER_NAME_OR_PASSWORD, "wrong user name or password")
            }
        };
        Refusal { reason, what }
    }

    /// Counts a wrong guess against the address that it came from.
    fn strike_guess(&mut self, key: ConnectionKey) {
        let peer = self.clients.connections.get(key).and_then(|connection| connection.peer);
        let (now, tolerance) = (self.clients.now, self.clients.settings.policy.guesses);
        let Some(peer) = peer else { return };
        match self.guesses.strike(party(peer.ip()), tolerance, now) {
            Struck::Tolerated => {}
            Struck::Uncounted => self.clients.counters.strikes_uncounted += 1,
            Struck::TooOften => {
                let peer = tracing::field::debug(peer);
                tracing::warn!(peer, ban_s = tolerance.ban_s, "too many wrong passwords");
            }
        }
    }

    /// Whether the client's identity allows its client identifier, its session and its will.
    pub(super) fn admit_identity(
        &self,
        key: ConnectionKey,
        client_id: &str,
        will: Option<&Will<'_>>,
    ) -> Result<(), Refusal> {
        let refuse = |reason, what| Err(Refusal { reason, what });
        let Some(connection) = self.clients.connections.get(key) else { return Ok(()) };
        let identity = connection.proven();
        let policy = &self.clients.settings.policy;
        let flaps = self.flaps.is_banned(client_id, self.clients.now);
        if flaps
            || !policy.bans.is_empty()
                && policy.bans(&self.subject(connection, client_id), self.clients.now)
        {
            let what = match flaps {
                true => "the client connects too often",
                false => "the client is banned",
            };
            return refuse(ReasonCode::BANNED, what);
        }
        let clients = identity.and_then(|identity| identity.clients.as_ref());
        if clients.is_some_and(|clients| !clients.iter().any(|one| one.matches(client_id))) {
            let what = "the user may not use this client identifier";
            return refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, what);
        }
        let session = self.clients.by_id.get(client_id);
        let session = session.and_then(|slot| self.clients.sessions.get(*slot));
        let owner = session.and_then(|session| session.user.as_deref());
        if owner.is_some_and(|owner| identity.is_none_or(|identity| *identity.user != *owner)) {
            let what = "another user has a session under this client identifier";
            return refuse(ReasonCode::NOT_AUTHORIZED, what);
        }
        let Some(will) = will.filter(|_| policy.guards(identity)) else { return Ok(()) };
        let topic = delayed::target(will.topic);
        if !self.may(key, client_id, &access(Action::Publish, topic, will.qos, will.retain)) {
            return refuse(ReasonCode::NOT_AUTHORIZED, "the will topic is not allowed");
        }
        Ok(())
    }

    /// Notes what the identity of a connection that has just got its session means for both.
    pub(super) fn settle_identity(&mut self, key: ConnectionKey, slot: SessionSlot) {
        let (policy, now) = (&self.clients.settings.policy, self.clients.now);
        let session = self.clients.sessions.get(slot).filter(|_| policy.flaps.most > 0);
        if let Some(client_id) = session.map(|session| &session.client_id) {
            let struck = self.flaps.strike(client_id.clone(), policy.flaps, now);
            let uncounted = u64::from(struck == Struck::Uncounted);
            self.clients.counters.strikes_uncounted += uncounted;
            if struck == Struck::TooOften {
                let ban_s = policy.flaps.ban_s;
                tracing::warn!(client_id = &**client_id, ban_s, "the client connects too often");
            }
        }
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        connection.guarded = policy.guards(connection.proven());
        let Some(identity) = connection.proven() else { return };
        let user = identity.user.clone();
        if let Some(session) = self.clients.sessions.get_mut(slot) {
            session.user = Some(user);
        }
        self.arm_identity_end(key);
    }

    /// Asks the rules.
    fn may(&self, key: ConnectionKey, client_id: &str, access: &Access<'_>) -> bool {
        let Some(connection) = self.clients.connections.get(key) else { return false };
        let subject = self.subject(connection, client_id);
        self.clients.settings.policy.decide(connection.proven(), &subject, access).allowed
    }

    /// A client as rules see it.
    fn subject<'a>(&'a self, connection: &'a Connection, client_id: &'a str) -> Subject<'a> {
        let identity = connection.proven();
        let names = Names {
            user: identity.map(|identity| &*identity.user),
            client: client_id,
            groups: identity.map_or(&[], |identity| &identity.groups),
        };
        let names_of = &self.clients.settings.listener_names;
        let listener = names_of.get(usize::from(connection.listener)).map_or("", |name| name);
        Subject { names, listener, address: connection.peer.map(|peer| peer.ip()) }
    }

    /// Whether a client with rules about it may publish to the topic that was looked up last.
    #[inline(never)]
    pub(super) fn may_publish(
        &mut self,
        key: ConnectionKey,
        publish: &Publish<'_>,
        topic: &str,
    ) -> bool {
        let (qos, retain) = (publish.qos, publish.retain);
        let cache = self.clients.connections.get(key).and_then(|c| c.topic.as_ref());
        if let Some(allowed) = cache.and_then(|cache| cache.verdicts.known(qos, retain)) {
            return allowed;
        }
        let client = self.identity(key).client_id;
        let wanted = access(Action::Publish, delayed::target(topic), qos, retain);
        let allowed = self.may(key, client, &wanted);
        let connection = self.clients.connections.get_mut(key);
        if let Some(cache) = connection.and_then(|connection| connection.topic.as_mut()) {
            cache.verdicts.keep(qos, retain, allowed);
        }
        allowed
    }

    /// Why the client of a session may not subscribe to `filter`, if the rules say so.
    pub(super) fn denied_filter(
        &mut self,
        slot: SessionSlot,
        filter: &TopicFilter,
        qos: QoS,
    ) -> Option<ReasonCode> {
        if self.may_subscribe(slot, filter, qos) {
            return None;
        }
        self.clients.counters.subscriptions_denied += 1;
        Some(ReasonCode::NOT_AUTHORIZED)
    }

    fn may_subscribe(&self, slot: SessionSlot, filter: &TopicFilter, qos: QoS) -> bool {
        let Some(session) = self.clients.sessions.get(slot) else { return false };
        let Some(key) = session.connection else { return true };
        let guarded = self.clients.connections.get(key).is_some_and(|c| c.guarded);
        let wanted = access(Action::Subscribe, filter.as_str(), qos, false);
        !guarded || self.may(key, &session.client_id, &wanted)
    }

    /// A PUBLISH that goes nowhere: refused with a reason code, which MQTT 3.x has none for, so
    /// there it is acknowledged.
    pub(super) fn publish_nowhere(
        &mut self,
        key: ConnectionKey,
        publish: &Publish<'_>,
        id: Option<PacketId>,
        cause: DropCause,
    ) -> Flow {
        self.drop_publish(cause, publish);
        let version = self.version_of(key);
        if cause == DropCause::Denied
            && version != Version::V5
            && self.clients.settings.policy.closes_denied
        {
            self.end_connection(key, Ending::Closed(ReasonCode::NOT_AUTHORIZED));
            return Flow::Stop;
        }
        if let Some(id) = id {
            let reason = match version {
                Version::V5 => ReasonCode::NOT_AUTHORIZED,
                Version::V31 | Version::V311 => ReasonCode::SUCCESS,
            };
            self.owe_ack(key, id, publish.qos, Some(reason));
        }
        Flow::Next
    }

    /// Takes the subscriptions away that the client of a session may not have any more.
    pub(super) fn recheck_subscriptions(&mut self, slot: SessionSlot) {
        let Some(session) = self.clients.sessions.get(slot) else { return };
        let Some(connection) = session.connection.and_then(|key| self.clients.connections.get(key))
        else {
            return;
        };
        if !connection.guarded {
            return;
        }
        let texts = session.subscriptions.keys();
        let denied = texts.filter(|text| {
            let parsed = Subscription::parse(text);
            // The QoS stands in the index; a rule about one QoS is not asked again.
            parsed.is_ok_and(|parsed| {
                let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
                !qos.iter().any(|qos| self.may_subscribe(slot, parsed.filter(), *qos))
            })
        });
        let mut denied: Vec<Box<str>> = denied.cloned().collect();
        // In an order that does not depend on a hash, so that runs can be repeated.
        denied.sort_unstable();
        for text in denied {
            let client_id =
                self.clients.sessions.get(slot).map_or("", |session| &session.client_id);
            tracing::info!(client_id, filter = &*text, "subscription taken away by a rule");
            self.withdraw(slot, &text);
            self.clients.counters.subscriptions_withdrawn += 1;
        }
    }

    /// Takes over other rules: what was answered under the old ones is forgotten, and subscriptions
    /// of connected clients are asked about again.
    pub(super) fn take_policy(&mut self, live: &Live) {
        if self.clients.settings.policy == live.policy {
            return;
        }
        let old = std::mem::replace(&mut self.clients.settings.policy, live.policy.clone());
        // Whom the old measure kept out is free under another one.
        if old.guesses != live.policy.guesses {
            self.guesses.clear();
        }
        if old.flaps != live.policy.flaps {
            self.flaps.clear();
        }
        let keys: Vec<_> = self.clients.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(connection) = self.clients.connections.get_mut(key) else { continue };
            if let Some(known) = connection.known() {
                known.join_groups(&live.policy);
            }
            connection.guarded = live.policy.guards(connection.proven());
            connection.topic = None;
            if let Some(slot) = self.session_of(key) {
                self.recheck_subscriptions(slot);
            }
        }
    }
}
