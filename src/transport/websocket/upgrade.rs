//! The server's opening handshake: a request's head is collected, judged and answered. Source: RFC
//! 6455, section 4.2.
//!
//! Invariants worth naming: the head ends with the first empty line, for us as for the parser, and
//! everything behind it is frames; a head that can't become good is refused as early as possible,
//! and one that doesn't end is refused at its bound.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};
use httparse::{EMPTY_HEADER, Header, Request, Status};
use sha1::{Digest, Sha1};

use super::Rules;
use crate::transport::Fault;

/// The longest head, in bytes, with its empty line. Cookies may be long.
const HEAD_MAX: usize = 8 * 1024;

/// The most fields of a head.
pub(super) const FIELDS_MAX: usize = 64;

/// The most addresses that are read from X-Forwarded-For.
const FORWARDED_MAX: usize = 16;

const END: &[u8] = b"\r\n\r\n";

/// Subprotocols in the order of our preference. The standard's name is `mqtt` [MQTT-6.0.0-4];
/// clients of MQTT 3.1 know the older one.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Behind the client's key in the text whose hash proves that the handshake was understood.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How keys are read: simple clients draw their key as text, so that its last bits are anything.
const KEYS: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, PAD.with_decode_allow_trailing_bits(true));

pub(super) const KEY_BYTES: usize = 16;

/// A handshake that is not done.
#[derive(Debug)]
pub(super) struct Upgrade {
    rules: Arc<Rules>,
    head: Head,
}

/// The head of an HTTP message, as far as it has come.
#[derive(Default, Debug)]
pub(super) struct Head {
    bytes: Vec<u8>,
}

/// How far a head has come.
pub(super) enum Extent {
    Part,
    /// It ends within the bytes taken last; so many of those belong to it.
    Whole {
        used: usize,
    },
    TooLong,
}

impl Head {
    /// Takes bytes up to the first empty line.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Extent {
        let before = self.bytes.len();
        let room = HEAD_MAX - before;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let from = before.saturating_sub(END.len() - 1);
        match self.bytes[from..].windows(END.len()).position(|four| four == END) {
            Some(at) => {
                self.bytes.truncate(from + at + END.len());
                Extent::Whole { used: self.bytes.len() - before }
            }
            None if self.bytes.len() == HEAD_MAX => Extent::TooLong,
            None => Extent::Part,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A handshake that is done and answered.
pub(super) struct Accepted {
    /// How much of the last input belonged to the head.
    pub(super) used: usize,
    pub(super) max_frame: u64,
}

/// How a request is refused.
struct Refusal {
    /// The status line's code and phrase.
    status: &'static str,
    /// Further header lines.
    fields: &'static str,
    what: &'static str,
}

impl Refusal {
    const fn new(status: &'static str, what: &'static str) -> Refusal {
        Refusal { status, fields: "", what }
    }

    const fn bad(what: &'static str) -> Refusal {
        Refusal::new("400 Bad Request", what)
    }

    const fn too_large(what: &'static str) -> Refusal {
        Refusal::new("431 Request Header Fields Too Large", what)
    }

    const fn upgrade(what: &'static str) -> Refusal {
        let fields = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        Refusal { status: "426 Upgrade Required", fields, what }
    }

    #[cold]
    fn write(&self, wire: &mut Vec<u8>) {
        let Refusal { status, fields, .. } = self;
        for part in ["HTTP/1.1 ", status, "\r\n", fields] {
            wire.extend_from_slice(part.as_bytes());
        }
        wire.extend_from_slice(b"Connection: close\r\nContent-Length: 0\r\n\r\n");
    }
}

impl Upgrade {
    pub(super) fn new(rules: Arc<Rules>) -> Upgrade {
        Upgrade { rules, head: Head::default() }
    }

    /// Takes bytes up to the end of the head; once it is there, writes the answer and appends the
    /// addresses that proxies noted.
    ///
    /// # Errors
    /// The request is refused; the refusal is written.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        wire: &mut Vec<u8>,
        forwarded: &mut Vec<IpAddr>,
    ) -> Result<Option<Accepted>, Fault> {
        self.take(bytes, wire, forwarded).map_err(|refusal| {
            refusal.write(wire);
            Fault::new(refusal.what)
        })
    }

    fn take(
        &mut self,
        bytes: &[u8],
        wire: &mut Vec<u8>,
        forwarded: &mut Vec<IpAddr>,
    ) -> Result<Option<Accepted>, Refusal> {
        let extent = self.head.take(bytes);
        // TLS and bare MQTT at the wrong port shall not wait for an empty line.
        if self.head.bytes().first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return Err(Refusal::bad("not an HTTP request"));
        }
        let used = match extent {
            Extent::Part => return Ok(None),
            Extent::TooLong => return Err(Refusal::too_large("HTTP head too long")),
            Extent::Whole { used } => used,
        };
        answer(self.head.bytes(), &self.rules, wire, forwarded)?;
        Ok(Some(Accepted { used, max_frame: self.rules.max_frame }))
    }
}

/// Judges a whole head and accepts it.
fn answer(
    head: &[u8],
    rules: &Rules,
    wire: &mut Vec<u8>,
    forwarded: &mut Vec<IpAddr>,
) -> Result<(), Refusal> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = Request::new(&mut fields);
    match request.parse(head) {
        Ok(Status::Complete(len)) if len == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::too_large("too many HTTP header fields"));
        }
        // Who takes a lone line feed for the end of a line sees another end of the head.
        Ok(_) | Err(_) => return Err(Refusal::bad("malformed HTTP head")),
    }
    if request.version != Some(1) {
        return Err(Refusal::bad("not HTTP/1.1"));
    }
    if request.method != Some("GET") {
        let refusal = Refusal::new("405 Method Not Allowed", "HTTP method other than GET");
        return Err(Refusal { fields: "Allow: GET\r\n", ..refusal });
    }
    let fields = Fields(request.headers);
    check_place(request.path.unwrap_or_default(), &fields, rules)?;
    let (key, protocol) = check_handshake(&fields)?;
    accept(key, protocol, wire);
    fields.put_forwarded(forwarded);
    Ok(())
}

/// Whether there is something at this place for whoever asks.
fn check_place(target: &str, fields: &Fields<'_>, rules: &Rules) -> Result<(), Refusal> {
    if fields.only("Host").is_none() {
        return Err(Refusal::bad("HTTP request without one Host"));
    }
    let path = path_of(target);
    if !rules.paths.is_empty() && !rules.paths.iter().any(|served| **served == *path) {
        return Err(Refusal::new("404 Not Found", "HTTP path that is not served"));
    }
    let allowed = |origin: &[u8]| {
        rules.origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin))
    };
    if !rules.origins.is_empty() && !fields.all("Origin").all(allowed) {
        return Err(Refusal::new("403 Forbidden", "HTTP origin that is not allowed"));
    }
    Ok(())
}

/// The path of a request's target, which may be a whole address with a scheme.
fn path_of(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// The key and the subprotocol of a request that asks for WebSocket as it should.
fn check_handshake<'a>(fields: &Fields<'a>) -> Result<(&'a [u8], &'static str), Refusal> {
    if !fields.names("Upgrade", "websocket") || !fields.names("Connection", "upgrade") {
        return Err(Refusal::upgrade("HTTP request without an upgrade to WebSocket"));
    }
    if fields.only("Sec-WebSocket-Version") != Some(b"13") {
        return Err(Refusal::upgrade("WebSocket version other than 13"));
    }
    let key = fields.only("Sec-WebSocket-Key").filter(|key| is_key(key));
    let key = key.ok_or(Refusal::bad("malformed WebSocket key"))?;
    let offered =
        |name: &&str| fields.tokens("Sec-WebSocket-Protocol").any(|t| t == name.as_bytes());
    let protocol = PROTOCOLS.into_iter().find(offered);
    Ok((key, protocol.ok_or(Refusal::bad("WebSocket subprotocol mqtt not offered"))?))
}

fn is_key(key: &[u8]) -> bool {
    // One more byte than needed, because the decoder asks for room in threes.
    let mut bytes = [0; KEY_BYTES + 2];
    matches!(KEYS.decode_slice(key, &mut bytes), Ok(KEY_BYTES))
}

fn accept(key: &[u8], protocol: &str, wire: &mut Vec<u8>) {
    wire.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n");
    wire.extend_from_slice(b"Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    wire.extend_from_slice(&proof(key));
    wire.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
    wire.extend_from_slice(protocol.as_bytes());
    wire.extend_from_slice(END);
}

/// What shows that the server understood the client's key.
pub(super) fn proof(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = [0; 28];
    let len = STANDARD.encode_slice(digest, &mut text);
    debug_assert_eq!(len, Ok(text.len()), "28 characters for 20 bytes");
    text
}

/// The header fields of a head.
pub(super) struct Fields<'a>(pub(super) &'a [Header<'a>]);

impl<'a> Fields<'a> {
    /// The values of all fields of this name.
    fn all(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        let fields = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii())
    }

    /// The value of the one field of this name, none if there are several.
    pub(super) fn only(&self, name: &'static str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The elements of the lists in all fields of this name.
    fn tokens(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        let elements = self.all(name).flat_map(|value| value.split(|byte| *byte == b','));
        elements.map(<[u8]>::trim_ascii)
    }

    /// Whether an element of this field's lists is `token`, in capitals or not.
    pub(super) fn names(&self, name: &'static str, token: &str) -> bool {
        self.tokens(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Each proxy appends whom it saw, so the end is what the nearest proxy said. Nothing before an
    /// element that is no address can be traced to a proxy.
    fn put_forwarded(&self, addresses: &mut Vec<IpAddr>) {
        let start = addresses.len();
        let last = self.tokens("X-Forwarded-For").rev().map_while(address);
        addresses.extend(last.take(FORWARDED_MAX));
        addresses[start..].reverse();
    }
}

/// An address; some proxies add a port, or brackets around IPv6.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    bare.parse().ok().or_else(with_port)
}
