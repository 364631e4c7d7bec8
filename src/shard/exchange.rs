//! Enhanced authentication: exchanges of AUTH before a CONNACK, and again while connected (MQTT 5.0
//! section 4.12).
//!
//! Invariants worth naming:
//! * during the exchange that a CONNECT has begun, the CONNECT stays unread in front of the inbox;
//!   what comes behind it is taken out packet by packet, and nothing but AUTH goes on;
//! * a client that proves itself again stays who it is, or its connection ends.

use super::Command;
use super::Shard;
use super::connection::{Connection, ConnectionKey, Known, Standing};
use super::events::Ending;
use super::input::Flow;
use super::timers::Timer;
use crate::access::{Credentials, Exchange, Identity, Step, Verdict};
use crate::base::Time;
use crate::codec::{
    Auth, Connect, DecodeError, Disconnect, Frame, PacketType, ReasonCode, Version, frame_of,
};

/// Where a connected client is that proves itself once more.
#[derive(Default, Debug)]
pub(super) enum Again {
    /// It does not.
    #[default]
    No,
    /// What it said is being checked.
    Asked,
    /// It was asked for its next step.
    Exchanging(Box<Exchange>),
}

/// What a client may send while its exchange goes on.
enum Next {
    Step(Step),
    Leaves,
}

fn protocol_error(what: &'static str) -> DecodeError {
    DecodeError { reason: ReasonCode::PROTOCOL_ERROR, what }
}

/// The step that an AUTH is which goes on with `exchange`.
fn step(auth: &Auth<'_>, exchange: Box<Exchange>) -> Result<Step, DecodeError> {
    // [MQTT-4.12.0-5]
    if auth.reason != ReasonCode::CONTINUE_AUTHENTICATION {
        return Err(protocol_error("an AUTH that does not go on with its exchange"));
    }
    if auth.method != Some(exchange.method()) {
        return Err(protocol_error("an AUTH with another method than its exchange"));
    }
    let (method, data) = (exchange.method().into(), auth.data.map(Box::from));
    Ok(Step { method, data, exchange: Some(exchange) })
}

/// What a packet before the CONNACK is [MQTT-3.1.2-30].
fn next(frame: &Frame<'_>, exchange: &Exchange) -> Result<Next, DecodeError> {
    match frame.packet_type() {
        PacketType::Auth => {
            let auth = Auth::decode(frame.body, Version::V5)?;
            step(&auth, Box::new(exchange.clone())).map(Next::Step)
        }
        PacketType::Disconnect => Disconnect::decode(frame.body, Version::V5).map(|_| Next::Leaves),
        _ => Err(protocol_error("another packet than AUTH or DISCONNECT before CONNACK")),
    }
}

impl Shard {
    /// Asks the client for the next step of the exchange that its CONNECT has begun
    /// [MQTT-4.12.0-2].
    pub(super) fn continue_connect(
        &mut self,
        key: ConnectionKey,
        data: &[u8],
        exchange: Box<Exchange>,
    ) {
        let Some(connection) = self.clients.connections.get_mut(key) else { return };
        let method = exchange.method();
        connection.standing = Standing::Exchanging(exchange);
        self.write_auth(key, ReasonCode::CONTINUE_AUTHENTICATION, method, data);
        self.take_auth(key);
    }

    /// Takes the packet behind a CONNECT whose exchange goes on, if it is there.
    pub(super) fn take_auth(&mut self, key: ConnectionKey) {
        let Some(connection) = self.clients.connections.get(key) else { return };
        let Standing::Exchanging(exchange) = &connection.standing else { return };
        let (bytes, max) = (connection.inbox.bytes(), connection.promised.packet_bytes as usize);
        let Ok(Some(first)) = frame_of(Version::V5, bytes, max) else { return };
        let frame = match frame_of(Version::V5, &bytes[first.len..], max) {
            Ok(Some(frame)) => frame,
            Ok(None) => return self.commands.push_back(Command::ReadMore(key)),
            Err(error) => {
                self.fault(key, &error);
                return;
            }
        };
        let taken = (first.len, frame.len);
        let step = match next(&frame, exchange) {
            Ok(Next::Step(step)) => step,
            Ok(Next::Leaves) => return self.end_connection(key, Ending::Lost),
            Err(error) => {
                self.fault(key, &error);
                return;
            }
        };
        let client_id = Connect::decode(first.body).map_or("", |connect| connect.client_id);
        let credentials = self.credentials(key, client_id, step);
        self.clients.counters.packets_received += 1;
        self.clients.unfinished -= taken.1;
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.inbox.remove(taken.0, taken.1);
            connection.standing = Standing::Asked;
        }
        self.commands.push_back(Command::Judge(key, credentials));
    }

    /// An AUTH of a client that is connected [MQTT-4.12.1-1].
    pub(super) fn authenticate_again(&mut self, key: ConnectionKey, auth: &Auth<'_>) -> Flow {
        let known = self.clients.connections.get_mut(key).and_then(Connection::known);
        let proven = known.and_then(|known| {
            let method = known.identity.proof.as_ref()?.method.clone();
            Some((method, &mut known.again))
        });
        let Some((method, again)) = proven else {
            // [MQTT-4.12.0-7]
            return self.violation(key, "AUTH without an exchange");
        };
        let step = match (auth.reason, std::mem::replace(again, Again::Asked)) {
            (ReasonCode::RE_AUTHENTICATE, Again::No) if auth.method == Some(&*method) => {
                Ok(Step { method, data: auth.data.map(Box::from), exchange: None })
            }
            (_, Again::Exchanging(exchange)) => step(auth, exchange),
            (ReasonCode::RE_AUTHENTICATE, Again::No) => {
                let what = "re-authentication with another method than in CONNECT";
                Err(DecodeError { reason: ReasonCode::BAD_AUTHENTICATION_METHOD, what })
            }
            _ => Err(protocol_error("an AUTH out of turn")),
        };
        let step = match step {
            Ok(step) => step,
            Err(error) => return self.fault(key, &error),
        };
        let client_id = self.identity(key).client_id;
        let credentials = self.credentials(key, client_id, step);
        self.commands.push_back(Command::Judge(key, credentials));
        Flow::Next
    }

    /// What was found out about a client that proves itself again.
    pub(super) fn judged_again(&mut self, key: ConnectionKey, verdict: Verdict) {
        let known = self.clients.connections.get_mut(key).and_then(Connection::known);
        let Some(known) = known else { return };
        known.again = Again::No;
        match verdict {
            Verdict::Continue { data, exchange } => {
                let method = exchange.method();
                known.again = Again::Exchanging(exchange);
                self.write_auth(key, ReasonCode::CONTINUE_AUTHENTICATION, method, &data);
            }
            Verdict::Proven(identity) if known.identity.user == identity.user => {
                self.renew_identity(key, *identity);
            }
            Verdict::Proven(_) => {
                self.clients.counters.credentials_wrong += 1;
                self.clients.doomed.push((key, ReasonCode::NOT_AUTHORIZED));
            }
            // [MQTT-4.12.1-2]
            other => {
                let reason = match self.refusal(key, &other).reason {
                    ReasonCode::SERVER_UNAVAILABLE => ReasonCode::SERVER_BUSY,
                    ReasonCode::BAD_USER_NAME_OR_PASSWORD => ReasonCode::NOT_AUTHORIZED,
                    reason => reason,
                };
                self.clients.doomed.push((key, reason));
            }
        }
    }

    fn renew_identity(&mut self, key: ConnectionKey, identity: Identity) {
        let guarded = self.clients.settings.policy.guards(Some(&identity));
        let proof = identity.proof.clone();
        let standing = Known::standing(identity, &self.clients.settings.policy);
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.standing = standing;
            connection.guarded = guarded;
            connection.topic = None;
        }
        self.arm_identity_end(key);
        if let Some(slot) = self.session_of(key) {
            self.recheck_subscriptions(slot);
        }
        if let Some(proof) = proof {
            self.write_auth(key, ReasonCode::SUCCESS, &proof.method, &proof.data);
        }
    }

    /// Sets the timer for the end of a proof.
    pub(super) fn arm_identity_end(&mut self, key: ConnectionKey) {
        let now = self.clients.now;
        let known = self.clients.connections.get_mut(key).and_then(Connection::known);
        let Some(known) = known else { return };
        let lasts_s = known.identity.lasts_s;
        known.ends = lasts_s.map_or(Time::NEVER, |seconds| now.plus_secs(u64::from(seconds)));
        if lasts_s.is_some() {
            let end = known.ends;
            self.wheel.insert(end, Timer::IdentityEnd(key));
        }
    }

    /// The proof of who the client is has come to its end, unless there is a newer one.
    pub(super) fn identity_ended(&mut self, key: ConnectionKey) {
        let now = self.clients.now;
        let known = self.clients.connections.get_mut(key).and_then(Connection::known);
        if known.is_some_and(|known| known.ends <= now) {
            self.clients.doomed.push((key, ReasonCode::NOT_AUTHORIZED));
        }
    }

    /// What the end of its exchange tells the client with the CONNACK.
    pub(super) fn take_proof_data(&mut self, key: ConnectionKey) -> Option<Box<[u8]>> {
        let known = self.clients.connections.get_mut(key)?.known()?;
        Some(std::mem::take(&mut known.identity.proof.as_mut()?.data))
    }

    /// A step, with what else is known of its client.
    fn credentials(&self, key: ConnectionKey, client_id: &str, step: Step) -> Box<Credentials> {
        let connection = self.clients.connections.get(key);
        let (listener, peer) = connection.map_or((0, None), |c| (c.listener, c.peer));
        let client_id = client_id.into();
        let step = Some(step);
        Box::new(Credentials { listener, client_id, user: None, password: None, peer, step })
    }

    fn write_auth(&mut self, key: ConnectionKey, reason: ReasonCode, method: &str, data: &[u8]) {
        let auth = Auth { reason, method: Some(method), data: Some(data), reason_string: None };
        self.clients.answer(key, |_, out| auth.encode(out));
    }
}
