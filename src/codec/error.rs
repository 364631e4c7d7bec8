//! What a peer did wrong on the wire.

use std::fmt;

use super::ReasonCode;

/// A packet that cannot be accepted. The connection cannot go on after it: the bytes behind it
/// have lost their meaning. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// What a v5 peer is told in DISCONNECT or CONNACK.
    pub reason: ReasonCode,
    /// One clear phrase for the log, without the offending bytes.
    pub what: &'static str,
}

impl DecodeError {
    /// The packet cannot be parsed according to the standard.
    #[cold]
    pub(super) const fn malformed(what: &'static str) -> DecodeError {
        DecodeError { reason: ReasonCode::MALFORMED_PACKET, what }
    }

    /// The packet can be parsed and says what the standard forbids.
    #[cold]
    pub(super) const fn protocol(what: &'static str) -> DecodeError {
        DecodeError { reason: ReasonCode::PROTOCOL_ERROR, what }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.what)
    }
}

impl std::error::Error for DecodeError {}
