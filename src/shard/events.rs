//! What happens to connections, told in one place: one event each, with all its causes.
//!
//! Invariants worth naming:
//! * nothing of a payload, user name or password is ever told;
//! * what a client chose is cut to a bound; whoever writes it down escapes it.

use super::connection::{Connection, ConnectionKey, Phase};
use super::session::slot_of;
use super::{Settings, Shard};
use crate::base::ShardId;
use crate::codec::{ReasonCode, Version};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Most bytes of a client identifier that are told.
const TOLD_BYTES: usize = 128;

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The client sent DISCONNECT. `with_will`: not one that deletes the will.
    Disconnected {
        /// What the client said.
        reason: ReasonCode,
        /// Whether the will is published.
        with_will: bool,
    },
    /// The peer closed the connection, or it broke.
    Lost,
    /// The client was silent for longer than its keep alive allows.
    KeepAlive,
    /// Another connection took the session over.
    TakenOver,
    /// No CONNECT came in time.
    ConnectDeadline,
    /// The CONNECT was refused, which was told already.
    Refused,
    /// The client broke the protocol.
    Fault {
        /// What it was told.
        reason: ReasonCode,
        /// What it did.
        what: &'static str,
    },
    /// The broker closed it: a bound was reached, or the broker stops.
    Closed(ReasonCode),
    /// It belongs to another core and went there.
    Moved,
}

impl Ending {
    /// Whether the client's will is set free.
    pub fn with_will(self) -> bool {
        match self {
            Ending::Disconnected { with_will, .. } => with_will,
            Ending::Refused | Ending::ConnectDeadline | Ending::Moved => false,
            Ending::Lost
            | Ending::KeepAlive
            | Ending::TakenOver
            | Ending::Fault { .. }
            | Ending::Closed(_) => true,
        }
    }

    /// The label under which the cause is told.
    pub fn cause(self) -> &'static str {
        match self {
            Ending::Disconnected { .. } => "client",
            Ending::Lost => "lost",
            Ending::KeepAlive => "keep_alive",
            Ending::TakenOver => "taken_over",
            Ending::ConnectDeadline => "connect_deadline",
            Ending::Refused => "refused",
            Ending::Fault { .. } => "protocol",
            Ending::Closed(_) => "broker",
            Ending::Moved => "moved",
        }
    }

    /// The reason code that goes with it, whoever sent it; success where there is none.
    pub fn reason(self) -> ReasonCode {
        match self {
            Ending::Disconnected { reason, .. }
            | Ending::Fault { reason, .. }
            | Ending::Closed(reason) => reason,
            Ending::KeepAlive => ReasonCode::KEEP_ALIVE_TIMEOUT,
            Ending::TakenOver => ReasonCode::SESSION_TAKEN_OVER,
            Ending::Lost | Ending::ConnectDeadline | Ending::Refused | Ending::Moved => {
                ReasonCode::SUCCESS
            }
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// The connection was closed as soon as it was there.
    TurnedAway(&'static str),
    /// The CONNECT was refused.
    Refused {
        /// What the client was told.
        reason: ReasonCode,
        /// Why.
        what: &'static str,
    },
    /// The connection serves a session now.
    Connected {
        /// What it speaks.
        version: Version,
        /// Whether the session was there already.
        session_present: bool,
        /// Seconds; 0 is for ever.
        keep_alive_s: u16,
    },
    /// The connection ended.
    Ended {
        /// Why.
        ending: Ending,
        /// Since it was opened on this core.
        lasted: Duration,
        /// Bytes received.
        bytes_in: u64,
        /// Bytes sent.
        bytes_out: u64,
    },
}

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionEvent<'a> {
    /// On which core.
    pub core: ShardId,
    /// Name of the listener.
    pub listener: &'a str,
    /// Where it came from, where that is known.
    pub peer: Option<SocketAddr>,
    /// The client identifier as far as it is known, at most 128 bytes.
    pub client_id: &'a str,
    /// What.
    pub what: Happening,
}

struct Peer(Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// `text` without what is longer than anybody wants to read.
pub(super) fn clipped(text: &str) -> &str {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= TOLD_BYTES).last().unwrap_or(0);
    &text[..end]
}

impl ConnectionEvent<'_> {
    /// Writes the event to the log. Each kind is a call site of its own, so that a flood of one
    /// hides none of the others.
    fn log(&self) {
        let ConnectionEvent { core: ShardId(core), listener, client_id, what, .. } = *self;
        let peer = Peer(self.peer);
        macro_rules! line {
            ($level:ident, $message:literal $(, $field:ident = $value:expr)*) => {
                tracing::$level!(core, listener, %peer, client_id $(, $field = $value)*, $message)
            };
        }
        match what {
            Happening::TurnedAway(what) => line!(warn, "turned away", what = what),
            Happening::Refused { reason, what } => {
                line!(
                    info,
                    "refused",
                    code = reason.0,
                    reason = tracing::field::display(reason),
                    what = what
                );
            }
            Happening::Connected { version, session_present, keep_alive_s } => {
                let version = number(version);
                line!(
                    info,
                    "connected",
                    version = version,
                    session_present = session_present,
                    keep_alive_s = keep_alive_s
                );
            }
            Happening::Ended { ending, lasted, bytes_in, bytes_out } => {
                let (cause, reason) = (ending.cause(), ending.reason());
                let lasted_ms = lasted.as_millis() as u64;
                macro_rules! end {
                    ($level:ident, $message:literal $(, $field:ident = $value:expr)*) => {
                        line!(
                            $level, $message, cause = cause, code = reason.0,
                            reason = tracing::field::display(reason), lasted_ms = lasted_ms,
                            bytes_in = bytes_in, bytes_out = bytes_out $(, $field = $value)*
                        )
                    };
                }
                match ending {
                    Ending::Moved | Ending::Refused => {}
                    Ending::Fault { what, .. } => end!(info, "protocol error", what = what),
                    Ending::TakenOver => end!(info, "taken over"),
                    Ending::Lost if client_id.is_empty() => end!(debug, "left before CONNECT"),
                    _ => end!(info, "disconnected"),
                }
            }
        }
    }
}

/// The version as people write it.
fn number(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

fn listener_name(settings: &Settings, listener: u16) -> &str {
    settings.listener_names.get(usize::from(listener)).map_or("", |name| name)
}

impl Shard {
    /// Tells that a connection on `listener` was closed before it had a slot.
    pub(super) fn tell_turned_away(
        &self,
        listener: u16,
        peer: Option<SocketAddr>,
        what: &'static str,
    ) {
        let listener = listener_name(&self.clients.settings, listener);
        let what = Happening::TurnedAway(what);
        ConnectionEvent { core: self.me, listener, peer, client_id: "", what }.log();
    }

    /// Tells what is wrong below MQTT.
    pub(super) fn tell_transport(&self, key: ConnectionKey, what: &str) {
        let Some(connection) = self.clients.connections.get(key) else { return };
        let listener = listener_name(&self.clients.settings, connection.listener);
        let (ShardId(core), peer) = (self.me, Peer(connection.peer));
        tracing::info!(core, listener, %peer, what, "transport error");
    }

    /// Tells something of a connection whose client is known under `client_id`.
    pub(super) fn tell_of(&self, key: ConnectionKey, client_id: &str, what: Happening) {
        let Some(connection) = self.clients.connections.get(key) else { return };
        let listener = listener_name(&self.clients.settings, connection.listener);
        let (peer, client_id) = (connection.peer, clipped(client_id));
        ConnectionEvent { core: self.me, listener, peer, client_id, what }.log();
    }

    /// Tells the end of a connection that still has its session.
    pub(super) fn tell_end(&self, key: ConnectionKey, ending: Ending) {
        let Some(connection) = self.clients.connections.get(key) else { return };
        if connection.phase == Phase::Draining {
            return;
        }
        let Connection { opened, bytes_in, bytes_out, .. } = *connection;
        let session = connection.session.and_then(|key| self.clients.sessions.get(slot_of(key)));
        let client_id = session.map_or("", |session| &session.client_id);
        let lasted = self.clients.now.since(opened);
        self.tell_of(key, client_id, Happening::Ended { ending, lasted, bytes_in, bytes_out });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(clipped("short"), "short");
        let long = "ä".repeat(100);
        assert_eq!(clipped(&long).len(), 128);
        let odd = format!("x{long}");
        assert_eq!(clipped(&odd).len(), 127);
    }

    #[test]
    fn only_a_plain_goodbye_or_no_session_keeps_the_will_back() {
        let said = |with_will| Ending::Disconnected { reason: ReasonCode::SUCCESS, with_will };
        for ending in [said(true), Ending::Lost, Ending::KeepAlive, Ending::TakenOver] {
            assert!(ending.with_will(), "{ending:?}");
        }
        for ending in [said(false), Ending::Refused, Ending::ConnectDeadline, Ending::Moved] {
            assert!(!ending.with_will(), "{ending:?}");
        }
    }
}
