//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::Header;
use crate::transport::Fault;

/// How a line begins.
pub(super) const PREFIX: &[u8] = b"PROXY ";

/// The longest line, with its end, in bytes.
const LINE_MAX: usize = 107;

/// Reads a line whose beginning is known to be good as far as it goes.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let within = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        if within.len() == LINE_MAX {
            return Err(Fault::new("PROXY line too long"));
        }
        return Ok(None);
    };
    // The prefix has no line feed, so a line that has an end also has the whole prefix.
    let line = within[PREFIX.len()..end].strip_suffix(b"\r");
    let header = line.and_then(read).ok_or(Fault::new("malformed PROXY line"))?;
    Ok(Some((header, end + 1)))
}

/// What stands between the prefix and the end of the line.
fn read(line: &[u8]) -> Option<Header> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Some(Header::default());
    }
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (source, destination) = match words.next()? {
        "TCP4" => pair::<Ipv4Addr>(&mut words)?,
        "TCP6" => pair::<Ipv6Addr>(&mut words)?,
        _ => return None,
    };
    let header = Header { source: Some(source), destination: Some(destination), tls: None };
    words.next().is_none().then_some(header)
}

fn pair<'a, A>(words: &mut impl Iterator<Item = &'a str>) -> Option<(SocketAddr, SocketAddr)>
where
    A: FromStr + Into<IpAddr>,
{
    let source: A = words.next()?.parse().ok()?;
    let destination: A = words.next()?.parse().ok()?;
    let source = SocketAddr::new(source.into(), port(words.next()?)?);
    Some((source, SocketAddr::new(destination.into(), port(words.next()?)?)))
}

/// A port in decimal; Rust's own reader would take a sign.
fn port(word: &str) -> Option<u16> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) { word.parse().ok() } else { None }
}
