//! Ends: of connections, of sessions, and the wills that ends set free.

use super::connection::{ConnectionKey, Phase};
use super::counters::DropCause;
use super::events::Ending;
use super::input::Flow;
use super::publish::{Destination, Routed};
use super::session::{SessionSlot, slot_of};
use super::timers::Timer;
use super::waiting::Source;
use super::{Command, Shard};
use crate::base::Time;
use crate::codec::{Disconnect, ReasonCode, Version};
use crate::session::{Message, PendingAcks};
use crate::topic::Delayed;

impl Shard {
    /// A DISCONNECT from the client [MQTT-3.14.4-3].
    pub(super) fn disconnected(&mut self, key: ConnectionKey, packet: &Disconnect<'_>) -> Flow {
        let version = self.version_of(key);
        let Some(slot) = self.session_of(key) else { return Flow::Stop };
        let Some(session) = self.clients.sessions.get_mut(slot) else { return Flow::Stop };
        if let Some(expiry_s) = packet.session_expiry {
            if session.asked_expiry_s == 0 && expiry_s > 0 {
                // [MQTT-3.14.2-2]
                return self.violation(key, "a session expiry where CONNECT had none");
            }
            session.expiry_s = expiry_s.min(self.clients.settings.session.max_expiry_s);
        }
        let normal = version != Version::V5 || packet.reason == ReasonCode::SUCCESS;
        let reason = packet.reason;
        self.end_connection(key, Ending::Disconnected { reason, with_will: !normal });
        Flow::Stop
    }

    /// The peer closed the connection or it broke; nothing more arrives.
    pub fn end_of_input(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.clients.connections.get_mut(key)
            && connection.phase == Phase::Open
            && connection.stalled.is_some()
        {
            // What arrived before the end and waits for room still counts.
            connection.ended = true;
            return;
        }
        self.end_connection(key, Ending::Lost);
    }

    /// The shell closed the connection and will not mention it again.
    pub fn released(&mut self, key: ConnectionKey) {
        self.end_connection(key, Ending::Lost);
        if let Some(connection) = self.clients.connections.remove(key) {
            self.clients.counters.connections_closed += 1;
            if let Some(open) = self.open.get_mut(usize::from(connection.listener)) {
                *open -= 1;
            }
            self.clients.output.bytes -= connection.counted_bytes();
            self.clients.output.recycle(connection.out);
        }
    }

    /// Takes a connection from its session and lets it drain.
    pub(super) fn end_connection(&mut self, key: ConnectionKey, ending: Ending) {
        self.tell_end(key, ending);
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        match connection.phase {
            Phase::Draining => return,
            Phase::Lobby | Phase::HandingOver(_) => self.lobby = self.lobby.saturating_sub(1),
            Phase::Open => {}
        }
        connection.phase = Phase::Draining;
        connection.stalled = None;
        connection.acks = PendingAcks::default();
        connection.topic = None;
        self.clients.output.aliases -= connection.alias_bytes();
        connection.aliases = None;
        connection.given = None;
        let late = std::mem::take(&mut connection.late);
        let inbox = std::mem::take(&mut connection.inbox);
        self.clients.unfinished -= inbox.len();
        let session = connection.session.take();
        let late_bytes = Message::contents(late.len(), late.bytes());
        self.clients.dropped(DropCause::ConnectionClosed, late.len(), late_bytes);
        self.commands.push_back(Command::Close(key));
        if let Some(session) = session {
            self.detach(slot_of(session), ending.with_will());
        }
    }

    fn detach(&mut self, slot: SessionSlot, with_will: bool) {
        let now = self.clients.now;
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        if session.connection.take().is_some() {
            self.clients.connected -= 1;
        }
        if !with_will {
            session.will = None;
        }
        if session.expiry_s == 0 {
            return self.end_session(slot);
        }
        if session.expiry_s != u32::MAX {
            session.ends = now.plus_secs(u64::from(session.expiry_s));
            if session.ends < session.looked_at {
                session.looked_at = session.ends;
                self.wheel.insert(session.ends, Timer::SessionEnd(slot));
            }
        }
        match session.will.as_ref().map(|will| will.delay_s) {
            None => {}
            Some(0) => self.publish_will(slot),
            Some(delay_s) => {
                session.will_due = now.plus_secs(u64::from(delay_s));
                self.wheel.insert(session.will_due, Timer::WillDue(slot));
            }
        }
        self.tell_group_presence(slot);
    }

    /// Ends a session: its subscriptions, what waits for it, and a will that is still pending.
    pub(super) fn end_session(&mut self, slot: SessionSlot) {
        self.abandon_replays(slot, None);
        self.publish_will(slot);
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        let subscriptions = std::mem::take(&mut session.subscriptions);
        self.clients.subscriptions -= subscriptions.len();
        // In an order that does not depend on a hash, so that runs can be repeated.
        let mut subscriptions: Vec<_> = subscriptions.into_iter().collect();
        subscriptions.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        for (text, subscribed) in subscriptions {
            self.leave(slot, &text, subscribed);
        }
        let Some(session) = self.clients.sessions.remove(slot) else { return };
        self.clients.by_id.remove(&session.client_id);
        self.clients.full_outboxes -= usize::from(session.crowded);
        self.clients.inflight -= session.window.len();
        let sent = session.window.unacknowledged().map(|outgoing| (outgoing.clone(), true));
        let unsent = session.outbox.iter().map(|outgoing| (outgoing.clone(), false));
        self.give_back_all(sent.chain(unsent));
        self.clients.counters.sessions_ended += 1;
    }

    /// Queues the session's will for publication, if it has one.
    pub(super) fn publish_will(&mut self, slot: SessionSlot) {
        let now = self.clients.now;
        let Some(session) = self.clients.sessions.get_mut(slot) else { return };
        session.will_due = Time::NEVER;
        let Some(will) = session.will.take() else { return };
        self.clients.counters.wills += 1;
        let message = match will.expiry_s {
            None => will.message,
            Some(seconds) => {
                // The expiry of a will counts from its publication.
                let mut view = will.message.view();
                view.expires = now.plus_secs(u64::from(seconds));
                view.store(&self.clients.ledger)
            }
        };
        self.own.push_back(message);
    }

    /// Routes the broker's own messages as far as there is room.
    pub(super) fn publish_own(&mut self) {
        if self.own_waits.is_some() {
            return;
        }
        let most = self.clients.settings.limits.wills_per_tick;
        for _ in 0..most {
            let Some(message) = self.own.pop_front() else { return };
            let view = message.view();
            let owner = self.clients.settings.placement.owner(view.topic);
            let delayed = Delayed::is_asked(view.topic);
            let destination = Destination { owner, by_publisher: false, delayed, matched: None };
            match self.route(&view, destination, None) {
                Ok(Routed::Decided(reason)) if reason.is_error() => self.drop_refused(&view),
                Ok(_) => {}
                Err(cause) => {
                    self.waiting.add(cause, Source::Own);
                    self.own_waits = Some(cause);
                    self.own.push_front(message);
                    return;
                }
            }
        }
    }

    /// Closes the connections that policies gave up on.
    pub(super) fn close_doomed(&mut self) {
        while let Some((key, reason)) = self.clients.doomed.pop() {
            let open = self.clients.connections.get(key).map(|connection| connection.phase);
            match open {
                None | Some(Phase::Draining) => continue,
                Some(Phase::Open) => self.say_goodbye(key, reason, None),
                Some(Phase::Lobby | Phase::HandingOver(_)) => {}
            }
            self.end_connection(key, Ending::Closed(reason));
        }
    }
}
