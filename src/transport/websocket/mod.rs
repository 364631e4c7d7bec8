//! WebSocket (RFC 6455) for MQTT: an HTTP request that becomes a stream of frames, whose binary
//! payload is the stream of packets. The broker is the server; generators of load are clients.
//!
//! Invariants worth naming:
//! * the bounds of frames mean nothing to MQTT: a packet may span frames, and a frame may hold
//!   several packets and parts of them [MQTT-6.0.0-2];
//! * an open connection at rest holds nothing on the heap but its own value;
//! * at most one close frame is written, and nothing after it.

mod frame;
mod upgrade;
mod request;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use super::{Fault, Flow};
use crate::base::Prng;
use frame::Frames;
use request::Request;
use upgrade::Upgrade;

/// What a listener asks of a WebSocket client. Pure value, shared by its connections.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rules {
    /// Paths that are served, as they stand in a request before its query; empty for all.
    pub paths: Box<[Box<str>]>,
    /// Origins whose pages may connect, for instance `https://example.org`; empty for all. A client
    /// that names no origin is no browser and passes.
    pub origins: Box<[Box<str>]>,
    /// The largest payload of a data frame, in bytes.
    pub max_frame: u64,
}

/// A connection that begins as HTTP/1.1 and goes on as WebSocket. Lives on its client's core.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
}

#[derive(Debug)]
enum State {
    /// A server's: the request's head is not complete.
    Upgrade(Upgrade),
    /// A client's: the answer's head is not complete.
    Request(Request),
    Open(Frames),
    /// The peer ended the stream, or a fault did, or the handshake was given up.
    Over,
}

impl WebSocket {
    /// A server's connection that has said nothing yet.
    pub fn new(rules: Arc<Rules>) -> WebSocket {
        WebSocket { state: State::Upgrade(Upgrade::new(rules)) }
    }

    /// A client's connection to `host` (with its port, as HTTP writes it) and `path`, whose request
    /// is appended to `wire`. Frames above `max_frame` bytes are refused. Key and masks come from
    /// `prng`, so they can be guessed: this client is none for a browser, whose masks must protect
    /// proxies from what pages send.
    pub fn client(
        (host, path): (&str, &str),
        max_frame: u64,
        prng: Prng,
        wire: &mut Vec<u8>,
    ) -> WebSocket {
        WebSocket { state: State::Request(Request::new((host, path), max_frame, prng, wire)) }
    }

    /// Takes bytes from the side of the socket; appends what they mean to `plain`, and what must be
    /// answered at once to `wire`. After the end of the stream bytes are not looked at.
    ///
    /// When a server's handshake is done, the addresses that proxies noted in X-Forwarded-For are
    /// appended to `forwarded`: the last noted one comes last, there are at most 16 (the last
    /// ones), and before one that is no address there is none. Whoever the peer is may have written
    /// all of them; the caller knows whom it trusts.
    ///
    /// # Errors
    /// The peer broke the protocol or asked for what is not offered; it has been told, once.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
        forwarded: &mut Vec<IpAddr>,
    ) -> Result<Flow, Fault> {
        let flow = self.take(bytes, plain, wire, forwarded);
        if flow != Ok(Flow::Open) {
            self.state = State::Over;
        }
        flow
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
        forwarded: &mut Vec<IpAddr>,
    ) -> Result<Flow, Fault> {
        match &mut self.state {
            State::Upgrade(upgrade) => {
                let Some(accepted) = upgrade.receive(bytes, wire, forwarded)? else {
                    return Ok(Flow::Open);
                };
                bytes = &bytes[accepted.used..];
                self.state = State::Open(Frames::new(accepted.max_frame, None));
            }
            State::Request(request) => {
                let Some(used) = request.receive(bytes)? else { return Ok(Flow::Open) };
                bytes = &bytes[used..];
                let frames = Frames::new(request.max_frame, Some(request.masks.clone()));
                self.state = State::Open(frames);
            }
            State::Open(_) | State::Over => {}
        }
        match &mut self.state {
            State::Open(frames) => frames.receive(bytes, plain, wire),
            State::Upgrade(_) | State::Request(_) | State::Over => Ok(Flow::Ended),
        }
    }

    /// Wraps `plain` (whole or part of the stream of MQTT packets) in one frame. Writes nothing
    /// while packets can't pass.
    pub fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        if let State::Open(frames) = &mut self.state {
            frames.send(plain, wire);
        }
    }

    /// Writes an orderly end; nothing is sent after it, and of what comes only the peer's own end
    /// is of interest. Idempotent.
    pub fn close(&mut self, wire: &mut Vec<u8>) {
        match &mut self.state {
            State::Upgrade(_) | State::Request(_) => self.state = State::Over,
            State::Open(frames) => frames.close(wire),
            State::Over => {}
        }
    }

    /// Whether packets pass: the handshake is done, and neither side has ended the stream.
    pub fn is_open(&self) -> bool {
        matches!(&self.state, State::Open(frames) if !frames.is_closing())
    }
}
