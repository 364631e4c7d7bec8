//! The PROXY protocol, versions 1 and 2: the header that a proxy puts in front of a connection to
//! say who the client is. Source: haproxy's `doc/proxy-protocol.txt`.
//!
//! Invariants worth naming:
//! * the caller decides which peers may send a header; to all others it is a way to lie;
//! * a header is read whole or not at all: a cut one is unfinished or refused, never another one;
//! * a header that says nothing about the client (LOCAL, UNKNOWN) is a header nonetheless.

mod binary;
mod checksum;
mod line;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use super::Fault;

/// The longest header of either version, in bytes.
pub const HEADER_MAX: usize = 4096;

/// What a proxy says of a connection. Pure value.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Header {
    /// The client; none where the proxy speaks for itself, doesn't know or has no IP address.
    pub source: Option<SocketAddr>,
    /// What the client connected to; given whenever `source` is.
    pub destination: Option<SocketAddr>,
    /// Given if the client used TLS toward the proxy.
    pub tls: Option<PeerTls>,
}

/// What a proxy says of a client's TLS. Pure value; its strings are MQTT strings.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PeerTls {
    /// As the proxy calls it, for instance `TLSv1.3`.
    pub version: Option<Box<str>>,
    /// The subject's common name in the client's certificate. Proves nothing unless `verified`.
    pub common_name: Option<Box<str>>,
    /// The client showed a certificate, in this connection or the resumed session, and the proxy
    /// found it good.
    pub verified: bool,
}

/// Reads the header at the front of `bytes`; gives its length too, or none if more bytes are
/// needed.
///
/// # Errors
/// The bytes don't begin with a header, or it is malformed, longer than allowed (107 bytes in
/// version 1, [`HEADER_MAX`] in version 2) or damaged.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    if begins(bytes, line::PREFIX) {
        return line::parse(bytes);
    }
    if begins(bytes, binary::SIGNATURE) {
        return binary::parse(bytes);
    }
    Err(Fault::new("no PROXY header"))
}

/// Whether `bytes` begin with `prefix` as far as they go.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    let len = bytes.len().min(prefix.len());
    bytes[..len] == prefix[..len]
}
