//! The client's opening handshake: a request, and the answer that must follow from it. Source: RFC
//! 6455, section 4.1.
//!
//! Invariant worth naming: an answer is believed only with the proof that belongs to our key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Response, Status};

use super::upgrade::{Extent, FIELDS_MAX, Fields, Head, KEY_BYTES, proof};
use crate::base::Prng;
use crate::transport::Fault;

/// A request whose answer is not complete.
#[derive(Debug)]
pub(super) struct Request {
    /// What the answer must show.
    proof: [u8; 28],
    head: Head,
    pub(super) max_frame: u64,
    pub(super) masks: Prng,
}

impl Request {
    /// Appends the request to `wire`.
    pub(super) fn new(
        (host, path): (&str, &str),
        max_frame: u64,
        mut prng: Prng,
        wire: &mut Vec<u8>,
    ) -> Request {
        let mut bytes = [0; KEY_BYTES];
        let (words, _) = bytes.as_chunks_mut::<8>();
        words.fill_with(|| prng.next_u64().to_ne_bytes());
        let key = STANDARD.encode(bytes);
        for part in ["GET ", path, " HTTP/1.1\r\nHost: ", host, "\r\nUpgrade: websocket\r\n"] {
            wire.extend_from_slice(part.as_bytes());
        }
        wire.extend_from_slice(b"Connection: Upgrade\r\nSec-WebSocket-Key: ");
        wire.extend_from_slice(key.as_bytes());
        wire.extend_from_slice(b"\r\nSec-WebSocket-Version: 13\r\n");
        wire.extend_from_slice(b"Sec-WebSocket-Protocol: mqtt\r\n\r\n");
        Request { proof: proof(key.as_bytes()), head: Head::default(), max_frame, masks: prng }
    }

    /// Takes bytes up to the end of the answer's head; how many, once it is there.
    ///
    /// # Errors
    /// The server does not do what it was asked for.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        match self.head.take(bytes) {
            Extent::Part => Ok(None),
            Extent::TooLong => Err(Fault::new("the answer's HTTP head is too long")),
            Extent::Whole { used } => {
                self.judge().map_err(Fault::new)?;
                Ok(Some(used))
            }
        }
    }

    fn judge(&self) -> Result<(), &'static str> {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut answer = Response::new(&mut fields);
        let head = self.head.bytes();
        match answer.parse(head) {
            Ok(Status::Complete(len)) if len == head.len() => {}
            Ok(_) | Err(_) => return Err("the answer is no HTTP"),
        }
        match answer.code {
            Some(101) => {}
            Some(401 | 403) => return Err("the server forbids WebSocket here"),
            Some(404) => return Err("the server has no WebSocket at this path"),
            _ => return Err("the server does not switch to WebSocket"),
        }
        let fields = Fields(answer.headers);
        if !fields.names("Upgrade", "websocket") || !fields.names("Connection", "upgrade") {
            return Err("the server switches to something else than WebSocket");
        }
        if fields.only("Sec-WebSocket-Accept") != Some(&self.proof) {
            return Err("the server does not prove that it speaks WebSocket");
        }
        match fields.only("Sec-WebSocket-Protocol") {
            Some(b"mqtt") => Ok(()),
            _ => Err("the server does not agree to the subprotocol mqtt"),
        }
    }
}
