//! The HTTP request that becomes a WebSocket, and its answer.

use super::super::{Fault, fault};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{Header, Request, Status};
use sha1::{Digest, Sha1};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Longest request head, in bytes, and most of its lines.
const HEAD_MAX: usize = 8192;
const LINES_MAX: usize = 64;
/// Most addresses read out of X-Forwarded-For.
const FORWARDED_MAX: usize = 16;
/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What a client may ask to speak, the preferred one first.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What a listener accepts. Pure value, shared by its connections.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Paths without their query; empty: any.
    pub paths: Box<[Box<str>]>,
    /// Origins that browsers name; empty: any. A client that names none is no browser.
    pub origins: Box<[Box<str>]>,
    /// Longest frame, in bytes.
    pub max_frame: u64,
}

/// Why a request is refused.
struct Refused {
    status: &'static str,
    what: &'static str,
}

/// Answers the request in front of `head`; `None` where more of it has to come, else its length.
pub fn answer(
    head: &[u8],
    rules: &Rules,
    wire: &mut Vec<u8>,
    forwarded: &mut Vec<IpAddr>,
) -> Result<Option<usize>, Fault> {
    let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
    let mut request = Request::new(&mut lines);
    let parsed = request.parse(head);
    let refused = match parsed {
        Ok(Status::Partial) if head.len() < HEAD_MAX => return Ok(None),
        Ok(Status::Complete(len)) if len <= HEAD_MAX => match check(&request, rules) {
            Ok((key, protocol)) => {
                forwarded.extend(forwarded_for(request.headers));
                accept(key, protocol, wire);
                return Ok(Some(len));
            }
            Err(refused) => refused,
        },
        Ok(_) => Refused {
            status: "431 Request Header Fields Too Large",
            what: "an HTTP head longer than 8 KiB",
        },
        Err(httparse::Error::TooManyHeaders) => Refused {
            status: "431 Request Header Fields Too Large",
            what: "an HTTP head of more than 64 lines",
        },
        Err(_) => Refused { status: "400 Bad Request", what: "no HTTP request" },
    };
    refuse(&refused, wire);
    fault(refused.what)
}

fn check<'r>(
    request: &'r Request<'_, '_>,
    rules: &Rules,
) -> Result<(&'r str, &'static str), Refused> {
    let refused = |status, what| Err(Refused { status, what });
    let lines = &*request.headers;
    if request.method != Some("GET") || request.version != Some(1) {
        return refused("405 Method Not Allowed", "no GET of HTTP/1.1");
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if !rules.paths.is_empty() && !rules.paths.iter().any(|known| **known == *path) {
        return refused("404 Not Found", "a path that is not served");
    }
    if !has_token(lines, "upgrade", "websocket") || !has_token(lines, "connection", "upgrade") {
        return refused("426 Upgrade Required", "an HTTP request that asks for no WebSocket");
    }
    if one(lines, "sec-websocket-version") != Some("13") {
        return refused("426 Upgrade Required", "another version of WebSocket than 13");
    }
    let key = one(lines, "sec-websocket-key").unwrap_or_default();
    if STANDARD.decode(key).map(|bytes| bytes.len()) != Ok(16) {
        return refused("400 Bad Request", "a wrong Sec-WebSocket-Key");
    }
    if let Some(origin) = one(lines, "origin")
        && !rules.origins.is_empty()
        && !rules.origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
    {
        return refused("403 Forbidden", "an origin that is not allowed");
    }
    // [MQTT-6.0.0-3], [MQTT-6.0.0-4]
    let asked = |name: &&&str| has_token(lines, "sec-websocket-protocol", name);
    match PROTOCOLS.iter().find(asked) {
        Some(protocol) => Ok((key, protocol)),
        None => refused("400 Bad Request", "a WebSocket for something else than MQTT"),
    }
}

/// The values of all lines called `name`.
fn values<'r>(lines: &'r [Header<'_>], name: &'static str) -> impl Iterator<Item = &'r str> {
    let named = lines.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
    named.filter_map(|line| std::str::from_utf8(line.value).ok()).map(str::trim)
}

/// The value of the only line called `name`.
fn one<'r>(lines: &'r [Header<'_>], name: &'static str) -> Option<&'r str> {
    let mut values = values(lines, name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn has_token(lines: &[Header<'_>], name: &'static str, token: &str) -> bool {
    let mut tokens = values(lines, name).flat_map(|value| value.split(','));
    tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// What proxies have noted; what is no address ends the list that can be believed.
fn forwarded_for(lines: &[Header<'_>]) -> Vec<IpAddr> {
    let noted: Vec<&str> = values(lines, "x-forwarded-for")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let address = |text: &&str| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
    };
    let mut nearest: Vec<IpAddr> =
        noted.iter().rev().map(address).take(FORWARDED_MAX).map_while(|found| found).collect();
    nearest.reverse();
    nearest
}

fn accept(key: &str, protocol: &str, wire: &mut Vec<u8>) {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = String::from("HTTP/1.1 101 Switching Protocols\r\n");
    text.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    STANDARD.encode_string(digest, &mut text);
    let written = write!(text, "\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n");
    debug_assert!(written.is_ok(), "text takes all");
    wire.extend_from_slice(text.as_bytes());
}

fn refuse(refused: &Refused, wire: &mut Vec<u8>) {
    let Refused { status, what } = refused;
    let also = if status.starts_with("426") {
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    } else {
        ""
    };
    let body = format!("{what}\n");
    let text = format!(
        "HTTP/1.1 {status}\r\n{also}Connection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    wire.extend_from_slice(text.as_bytes());
}
