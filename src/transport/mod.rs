//! What lies between a socket and the packets of a connection: layers that take the bytes of the
//! wire apart and wrap them up again, and the header that a proxy puts in front.
//!
//! Invariants worth naming:
//! * a layer is pure: bytes go in, bytes come out, and how the input is cut into pieces changes
//!   neither what comes out in the end nor whether there is a fault;
//! * a layer keeps at most a head or the payload of one control frame: data go through as they
//!   come, and every length that a peer declares is checked before anything follows from it;
//! * what stood in the input before a fault or an end is in `plain`, and is the peer's word.

pub mod proxy;
pub mod websocket;

use std::fmt;

pub use proxy::Header;
pub use websocket::WebSocket;

/// What stands between a socket and the packets of a connection: takes bytes apart and wraps them
/// up.
pub trait Layer: Send {
    /// Takes bytes from the side of the socket; appends what they mean to `plain`, and what must be
    /// answered at once to `wire`.
    ///
    /// # Errors
    /// The peer broke the layer's protocol. What it must still hear is in `wire`, and nothing may
    /// be sent after it; bytes that come later are not looked at.
    fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Flow, Fault>;

    /// Wraps `plain` (whole or part of the stream of MQTT packets) for the socket. Writes nothing
    /// while the layer is not open.
    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>);

    /// Writes an orderly end; nothing is sent after it, and of what comes only the peer's own end
    /// is of interest. Idempotent.
    fn close(&mut self, wire: &mut Vec<u8>);

    /// Whether packets pass: the handshake is done, and neither side has ended the stream.
    fn is_open(&self) -> bool;
}

/// Whether more can come from a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The stream goes on.
    Open,
    /// The peer ended the stream in order; nothing that follows means anything.
    Ended,
}

/// What a peer did wrong below MQTT. The connection cannot go on after it. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// One clear phrase for the log, without the offending bytes.
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    #[cold]
    const fn new(what: &'static str) -> Fault {
        Fault { what }
    }
}
