//! What stands between a socket and the packets of its connection: the PROXY header of a load
//! balancer and WebSocket frames, as state machines on bytes.
//!
//! Invariants worth naming:
//! * data goes through as it arrives: no layer keeps more than the head of what it is reading;
//! * what must be answered is written to `wire` before a [`Fault`] is given.

mod proxy;
mod websocket;

pub use proxy::{HEADER_MAX, Header, PeerTls, parse as parse_proxy};
pub use websocket::{Rules, WebSocket};

/// What the peer wants after some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// To go on.
    Open,
    /// It has ended the stream in order; nothing more comes.
    Ended,
}

/// Why a connection can't go on. What its peer is told has been written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is wrong, for a line of the log.
    pub what: &'static str,
}

fn fault<T>(what: &'static str) -> Result<T, Fault> {
    Err(Fault { what })
}
