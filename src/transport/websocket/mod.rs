//! The server's side of WebSocket (RFC 6455) for MQTT: an HTTP request that becomes a stream of
//! frames, whose binary payload is the stream of packets.
//!
//! Invariants worth naming:
//! * the bounds of frames mean nothing to MQTT: a packet may span frames, and a frame may hold
//!   several packets and parts of them [MQTT-6.0.0-2];
//! * an open connection at rest holds nothing on the heap but its own value;
//! * at most one close frame is written, and nothing after it.

mod frame;
#[cfg(test)]
mod tests;
mod upgrade;

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Fault, Flow, Layer};
use frame::Frames;
use upgrade::Upgrade;

/// What a listener asks of a WebSocket client. Cheap to clone: the lists are shared.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Paths that are served, each from its `/` on, as it stands in the request; a query behind it
    /// is not looked at.
    pub paths: Arc<[Box<str>]>,
    /// Origins whose pages may connect, for instance `https://example.org`; empty for all. A client
    /// that names no origin is no browser and passes.
    pub origins: Arc<[Box<str>]>,
    /// The largest payload of a data frame, in bytes.
    pub max_frame: u64,
}

/// A connection that begins as HTTP/1.1 and goes on as WebSocket. Lives on its client's core.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
    forwarded: Vec<IpAddr>,
}

#[derive(Debug)]
enum State {
    /// The request's head is not complete.
    Upgrade(Upgrade),
    Open(Frames),
    /// The peer ended the stream, or a fault did, or the handshake was given up.
    Over,
}

impl WebSocket {
    /// A connection that has said nothing yet.
    pub fn new(rules: Rules) -> WebSocket {
        WebSocket { state: State::Upgrade(Upgrade::new(rules)), forwarded: Vec::new() }
    }

    /// Takes the addresses that proxies noted in X-Forwarded-For: the last noted one comes last,
    /// there are at most 16 (the last ones), and before one that is no address there is none.
    /// Whoever the peer is may have written all of them; the caller knows whom it trusts. Empty
    /// before the handshake is done, and from the second time on.
    pub fn take_forwarded(&mut self) -> Vec<IpAddr> {
        mem::take(&mut self.forwarded)
    }
}

impl Layer for WebSocket {
    fn receive(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Flow, Fault> {
        if let State::Upgrade(upgrade) = &mut self.state {
            match upgrade.receive(bytes, wire) {
                Ok(None) => return Ok(Flow::Open),
                Ok(Some(accepted)) => {
                    bytes = &bytes[accepted.used..];
                    self.forwarded = accepted.forwarded;
                    self.state = State::Open(Frames::new(accepted.max_frame));
                }
                Err(fault) => {
                    self.state = State::Over;
                    return Err(fault);
                }
            }
        }
        let State::Open(frames) = &mut self.state else { return Ok(Flow::Ended) };
        let flow = frames.receive(bytes, plain, wire);
        if flow != Ok(Flow::Open) {
            self.state = State::Over;
        }
        flow
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        if let State::Open(frames) = &mut self.state {
            frames.send(plain, wire);
        }
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        match &mut self.state {
            State::Upgrade(_) => self.state = State::Over,
            State::Open(frames) => frames.close(wire),
            State::Over => {}
        }
    }

    fn is_open(&self) -> bool {
        matches!(&self.state, State::Open(frames) if !frames.is_closing())
    }
}
