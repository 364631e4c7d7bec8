//! What lies between a socket and the packets of a connection: layers that take the bytes of the
//! wire apart and wrap them up again, and the header that a proxy puts in front.
//!
//! Invariants worth naming:
//! * a layer is pure: bytes go in, bytes come out, and how the input is cut into pieces changes
//!   neither what comes out in the end nor whether there is a fault;
//! * a layer keeps at most a head or the payload of one control frame: data go through as they
//!   come, and every length that a peer declares is checked before anything follows from it;
//! * what stood in the input before a fault or an end is in `plain`, and is the peer's word.

mod proxy;
mod websocket;

use std::fmt;

pub use proxy::{HEADER_MAX, Header, PeerTls, parse as parse_proxy};
pub use websocket::{Rules, WebSocket};

/// Whether more can come from a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The stream goes on.
    Open,
    /// The peer ended the stream in order; nothing that follows means anything.
    Ended,
}

/// What a peer did wrong below MQTT. The connection cannot go on after it; what the peer must still
/// hear of it has been written. Pure value.
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
