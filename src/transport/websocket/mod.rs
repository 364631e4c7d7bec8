//! The server's side of WebSocket (RFC 6455) for MQTT [MQTT-6.0.0-1] to [MQTT-6.0.0-4]: the stream
//! of packets is carried in binary frames, cut anywhere.

mod frame;
mod upgrade;
#[cfg(test)]
mod tests;

pub use upgrade::Rules;

use super::{Fault, Flow};
use frame::Reader;
use std::net::IpAddr;
use std::sync::Arc;

/// One connection. An open one keeps no buffer.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
    rules: Arc<Rules>,
    reader: Reader,
    /// A close frame has been sent; nothing may follow it.
    closed: bool,
}

#[derive(Debug)]
enum State {
    /// What has come of the request.
    Upgrading(Vec<u8>),
    Open,
}

impl WebSocket {
    /// A connection that has sent nothing.
    pub fn new(rules: Arc<Rules>) -> WebSocket {
        let state = State::Upgrading(Vec::new());
        WebSocket { state, rules, reader: Reader::default(), closed: false }
    }

    /// Whether packets can pass.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Takes bytes of the client; appends what they carry to `plain` and what must be answered to
    /// `wire`. Gives the addresses that proxies have noted in `forwarded`, nearest last.
    ///
    /// # Errors
    /// The client breaks the protocol or asks for what is not offered; it has been told.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
        forwarded: &mut Vec<IpAddr>,
    ) -> Result<Flow, Fault> {
        let State::Upgrading(head) = &mut self.state else {
            return self.frames(bytes, plain, wire);
        };
        head.extend_from_slice(bytes);
        let Some(len) = upgrade::answer(head, &self.rules, wire, forwarded)? else {
            return Ok(Flow::Open);
        };
        let head = std::mem::take(head);
        self.state = State::Open;
        self.frames(&head[len..], plain, wire)
    }

    fn frames(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Flow, Fault> {
        if self.closed {
            // Only the client's own close frame is still of interest, and not even that.
            return Ok(Flow::Open);
        }
        let end = self.reader.read(bytes, self.rules.max_frame, plain, wire);
        match end {
            Ok(Flow::Open) => {}
            Ok(Flow::Ended) => self.closed = true,
            Err(refusal) => {
                frame::write_close(refusal.code, wire);
                self.closed = true;
                return Err(Fault { what: refusal.what });
            }
        }
        end.map_err(|refusal| Fault { what: refusal.what })
    }

    /// Wraps a part of the stream of packets in one frame.
    pub fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        if !self.closed && self.is_open() {
            frame::write_head(frame::BINARY, plain.len(), wire);
            wire.extend_from_slice(plain);
        }
    }

    /// Writes an orderly end; nothing can be sent after it.
    pub fn close(&mut self, wire: &mut Vec<u8>) {
        if self.is_open() && !std::mem::replace(&mut self.closed, true) {
            frame::write_close(frame::NORMAL, wire);
        }
    }
}
