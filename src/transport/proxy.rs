//! The PROXY protocol, versions 1 and 2: the line or header by which a load balancer says whose
//! connection it forwards (haproxy.org/download/3.0/doc/proxy-protocol.txt).

use super::{Fault, fault};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 2 that is read, in bytes.
pub const HEADER_MAX: usize = 4096;
/// Longest line of version 1 with its end, in bytes.
const LINE_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of version 2: signature, version and command, family, length.
const FIXED: usize = 16;
const TYPE_CRC32C: u8 = 0x03;
const TYPE_SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_COMMON_NAME: u8 = 0x22;
/// Bits of the client field: it came by TLS, it showed a certificate on this connection or in this
/// session.
const CLIENT_SSL: u8 = 1;
const CLIENT_CERTIFICATE: u8 = 2 | 4;

/// What the balancer knows of the client's TLS.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PeerTls {
    /// Such as `TLSv1.3`.
    pub version: Option<Box<str>>,
    /// The common name of the client's certificate.
    pub common_name: Option<Box<str>>,
    /// The balancer has verified that certificate.
    pub verified: bool,
}

/// Whose connection is forwarded.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Header {
    /// The client's address; `None` where the balancer speaks for itself or does not know.
    pub source: Option<SocketAddr>,
    /// Where the client connected to.
    pub destination: Option<SocketAddr>,
    /// The client came by TLS.
    pub tls: Option<PeerTls>,
}

/// Reads the header in front of `bytes` and how long it is; `None` where more bytes are needed.
///
/// # Errors
/// There is no header, or it breaks the protocol.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let start = bytes.len().min(SIGNATURE.len());
    if bytes[..start] == SIGNATURE[..start] {
        return if start < SIGNATURE.len() { Ok(None) } else { parse_binary(bytes) };
    }
    parse_line(bytes)
}

fn parse_line(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    const START: &[u8] = b"PROXY ";
    let start = bytes.len().min(START.len());
    if bytes[..start] != START[..start] {
        return fault("no PROXY header");
    }
    let seen = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_MAX {
            Ok(None)
        } else {
            fault("the PROXY line does not end")
        };
    };
    let line = seen[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else { return fault("the PROXY line is not text that ends with CR LF") };
    let words: Vec<&str> = line.split(' ').collect();
    let header = match words[..] {
        ["PROXY", "UNKNOWN", ..] => Header::default(),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let v4 = family == "TCP4";
            let (source, destination) = (address(v4, source, from), address(v4, destination, to));
            if source.is_none() || destination.is_none() {
                return fault("the PROXY line has a wrong address or port");
            }
            Header { source, destination, tls: None }
        }
        _ => return fault("the PROXY line is neither TCP4, TCP6 nor UNKNOWN"),
    };
    Ok(Some((header, end + 1)))
}

fn address(v4: bool, ip: &str, port: &str) -> Option<SocketAddr> {
    let ip: IpAddr = ip.parse().ok()?;
    let plain = port.bytes().all(|byte| byte.is_ascii_digit());
    (ip.is_ipv4() == v4 && plain).then_some(SocketAddr::new(ip, port.parse().ok()?))
}

fn parse_binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let Some(fixed) = bytes.get(..FIXED) else { return Ok(None) };
    if fixed[12] >> 4 != 2 {
        return fault("the PROXY header has an unknown version");
    }
    let len = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > HEADER_MAX {
        return fault("the PROXY header is longer than 4 KiB");
    }
    let Some(whole) = bytes.get(..len) else { return Ok(None) };
    let (body, mut header) = (&whole[FIXED..], Header::default());
    let spoken_for = match fixed[12] & 15 {
        0 => false,
        1 => true,
        _ => return fault("the PROXY header has an unknown command"),
    };
    let taken = match fixed[13] >> 4 {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return fault("the PROXY header has an unknown address family"),
    };
    if body.len() < taken {
        return fault("the PROXY header is too short for its addresses");
    }
    let (addresses, rest) = body.split_at(taken);
    if spoken_for {
        (header.source, header.destination) = binary_addresses(addresses);
    }
    let tls = read_values(rest, whole)?;
    header.tls = tls.filter(|_| spoken_for);
    Ok(Some((header, len)))
}

fn binary_addresses(bytes: &[u8]) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    match bytes.len() {
        12 => {
            let ip =
                |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
            let address = |at, from| Some(SocketAddr::new(ip(at).into(), port(from)));
            (address(0, 8), address(4, 10))
        }
        36 => {
            let ip = |at: usize| {
                Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("16 bytes"))
            };
            let address = |at, from| Some(SocketAddr::new(ip(at).into(), port(from)));
            (address(0, 32), address(16, 34))
        }
        _ => (None, None),
    }
}

/// The next type with its value, and what is behind it.
fn next_value(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Fault> {
    let [kind, high, low, rest @ ..] = bytes else {
        return fault("the PROXY header has a cut value");
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    match rest.split_at_checked(len) {
        Some((value, rest)) => Ok((*kind, value, rest)),
        None => fault("a value of the PROXY header is longer than the header"),
    }
}

fn read_values(mut rest: &[u8], whole: &[u8]) -> Result<Option<PeerTls>, Fault> {
    let mut tls = None;
    while !rest.is_empty() {
        let at = whole.len() - rest.len();
        let (kind, value, behind) = next_value(rest)?;
        match kind {
            TYPE_SSL => tls = read_tls(value)?,
            TYPE_CRC32C => check_sum(value, at, whole)?,
            _ => {}
        }
        rest = behind;
    }
    Ok(tls)
}

fn read_tls(value: &[u8]) -> Result<Option<PeerTls>, Fault> {
    let Some((fixed, mut rest)) = value.split_at_checked(5) else {
        return fault("the TLS part of the PROXY header is too short");
    };
    let text = |value: &[u8]| std::str::from_utf8(value).ok().map(Box::from);
    let certificate = fixed[0] & CLIENT_CERTIFICATE != 0;
    let verified = certificate && fixed[1..5] == [0; 4];
    let mut tls = PeerTls { verified, ..PeerTls::default() };
    while !rest.is_empty() {
        let (kind, value, behind) = next_value(rest)?;
        match kind {
            SSL_VERSION => tls.version = text(value),
            SSL_COMMON_NAME => tls.common_name = text(value),
            _ => {}
        }
        rest = behind;
    }
    Ok((fixed[0] & CLIENT_SSL != 0).then_some(tls))
}

/// The sum is made over the header with zeros in the place of the sum, whose value begins at
/// `at + 3`.
fn check_sum(value: &[u8], at: usize, whole: &[u8]) -> Result<(), Fault> {
    let Ok(sum) = <[u8; 4]>::try_from(value) else {
        return fault("the checksum of the PROXY header is not 4 bytes");
    };
    let own = at + 3..at + 7;
    let zeroed =
        whole.iter().enumerate().map(|(at, byte)| if own.contains(&at) { 0 } else { *byte });
    match crc32c(zeroed) == u32::from_be_bytes(sum) {
        true => Ok(()),
        false => fault("the checksum of the PROXY header is wrong"),
    }
}

/// CRC-32C (Castagnoli), bit by bit: a header comes once per connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let step = |sum: u32, byte: u8| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    };
    !bytes.fold(!0, step)
}

#[cfg(test)]
mod tests;
