//! What lies between a client's packets and its socket: TLS, WebSocket, or WebSocket in TLS. Bytes
//! go in, bytes come out; plain TCP has no layer.
//!
//! Invariants worth naming:
//! * packets pass only when every handshake is done; until then the client keeps them;
//! * after every call all that the broker is to be sent stands in one buffer, in order.

#[cfg(test)]
mod tests;

use corelane::base::Prng;
use corelane::transport::WebSocket;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{BufRead, ErrorKind, Write};
use std::mem;
use std::sync::Arc;

/// The largest frame that a broker may send: the protocol bounds packets, not frames.
const FRAME_MAX: u64 = i64::MAX as u64;

/// One connection's layers.
pub struct Layer {
    tls: Option<ClientConnection>,
    web: Option<WebSocket>,
    /// What the broker is to be sent.
    wire: Vec<u8>,
    /// What is WebSocket and no longer, or not yet, TLS.
    between: Vec<u8>,
}

impl Layer {
    /// A connection that begins now: with TLS under these settings, where there are any, and with
    /// WebSocket at this host and path, where there are any.
    pub fn new(
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        web: Option<(&str, &str)>,
        prng: Prng,
    ) -> Layer {
        let tls = tls.map(|(config, name)| {
            let mut tls = ClientConnection::new(config, name)
                .expect("it fails for a bad fragment size alone, and none is set");
            // What is sent at once is bounded by the load.
            tls.set_buffer_limit(None);
            tls
        });
        let mut between = Vec::new();
        let web = web.map(|place| WebSocket::client(place, FRAME_MAX, prng, &mut between));
        let mut layer = Layer { tls, web, wire: Vec::new(), between };
        layer.seal();
        layer
    }

    /// Takes bytes from the socket; appends packets, and parts of them, to `plain`.
    ///
    /// # Errors
    /// The broker broke the protocol of a layer, or its certificate is not believed. What it must
    /// hear of that waits to be sent.
    pub fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
        let taken = match (&mut self.tls, &mut self.web) {
            (Some(tls), None) => open(tls, bytes, plain),
            (None, Some(web)) => read(web, bytes, plain, &mut self.wire),
            (Some(tls), Some(web)) => {
                let mut clear = Vec::new();
                open(tls, bytes, &mut clear)
                    .and_then(|()| read(web, &clear, plain, &mut self.between))
            }
            (None, None) => {
                plain.extend_from_slice(bytes);
                Ok(())
            }
        };
        self.seal();
        taken
    }

    /// What the broker is to be sent, with the packets in `plain`, which is empty then. While a
    /// handshake goes on `plain` stays as it is.
    pub fn pull(&mut self, plain: &mut Vec<u8>) -> Vec<u8> {
        if !plain.is_empty() && self.is_open() {
            match (&mut self.web, &mut self.tls) {
                (Some(web), Some(_)) => web.send(plain, &mut self.between),
                (Some(web), None) => web.send(plain, &mut self.wire),
                (None, _) => self.between.extend_from_slice(plain),
            }
            self.seal();
            plain.clear();
        }
        mem::take(&mut self.wire)
    }

    /// Ends every layer in order; the broker is still to be sent that.
    pub fn close(&mut self) {
        if let Some(web) = &mut self.web {
            let wire = if self.tls.is_some() { &mut self.between } else { &mut self.wire };
            web.close(wire);
        }
        if let Some(tls) = &mut self.tls {
            seal(tls, &mut self.between, &mut self.wire);
            tls.send_close_notify();
        }
        self.seal();
    }

    /// Whether packets pass.
    pub fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && self.web.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Whether something waits to be sent that is no packet.
    pub fn owes(&self) -> bool {
        !self.wire.is_empty()
    }

    /// Memory to use again, empty.
    pub fn reuse(&mut self, spare: Vec<u8>) {
        if self.wire.is_empty() {
            self.wire = spare;
        }
    }

    /// Moves everything on to the socket.
    fn seal(&mut self) {
        match &mut self.tls {
            Some(tls) => seal(tls, &mut self.between, &mut self.wire),
            None => self.wire.append(&mut self.between),
        }
    }
}

/// Reads frames.
fn read(
    web: &mut WebSocket,
    bytes: &[u8],
    plain: &mut Vec<u8>,
    wire: &mut Vec<u8>,
) -> Result<(), String> {
    // An end is followed by the end of the connection, which tells more.
    web.receive(bytes, plain, wire, &mut Vec::new()).map_err(|fault| fault.to_string())?;
    Ok(())
}

/// Decrypts.
fn open(tls: &mut ClientConnection, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
    while !bytes.is_empty() {
        let taken = tls.read_tls(&mut bytes).map_err(|error| format!("TLS: {error}"))?;
        let state = tls.process_new_packets().map_err(|error| format!("TLS: {error}"))?;
        if state.plaintext_bytes_to_read() > 0 {
            drain(tls, plain);
        }
        // After the end nothing is taken.
        if taken == 0 {
            break;
        }
    }
    Ok(())
}

/// Takes what was decrypted.
fn drain(tls: &mut ClientConnection, plain: &mut Vec<u8>) {
    let mut reader = tls.reader();
    loop {
        let len = match reader.fill_buf() {
            Ok(chunk) => {
                plain.extend_from_slice(chunk);
                chunk.len()
            }
            Err(error) => {
                debug_assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return;
            }
        };
        if len == 0 {
            return;
        }
        reader.consume(len);
    }
}

/// Encrypts `plain`, which is empty then.
fn seal(tls: &mut ClientConnection, plain: &mut Vec<u8>, wire: &mut Vec<u8>) {
    tls.writer().write_all(plain).expect("the library's buffer has no bound");
    plain.clear();
    while tls.wants_write() {
        tls.write_tls(wire).expect("memory takes all");
    }
}
