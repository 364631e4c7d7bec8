//! Version 2: a fixed part, two addresses, and additions as type, length and value.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::checksum::crc;
use super::{HEADER_MAX, Header, PeerTls};
use crate::codec::check_text;
use crate::transport::Fault;

/// How a header begins.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// Two names of 108 bytes.
const UNIX_ADDRESSES: usize = 216;

const TYPE_CRC: u8 = 0x03;
const TYPE_TLS: u8 = 0x20;
const TYPE_TLS_VERSION: u8 = 0x21;
const TYPE_TLS_COMMON_NAME: u8 = 0x22;

/// The client used TLS.
const CLIENT_TLS: u8 = 0x01;
/// It showed a certificate in this connection (0x02) or in the session that this one resumes.
const CLIENT_CERTIFICATE: u8 = 0x02 | 0x04;

/// One addition, and what is behind it.
struct Addition<'a> {
    kind: u8,
    value: &'a [u8],
    behind: &'a [u8],
}

/// Reads a header whose signature is known to be good as far as it goes.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let Some(&[version_command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        return Ok(None);
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 {
        return Err(Fault::new("unknown version of the PROXY header"));
    }
    if len > HEADER_MAX {
        return Err(Fault::new("PROXY header too long"));
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let header = match version_command & 0x0f {
        0 => Header::default(),
        1 => proxied(header, family)?,
        _ => return Err(Fault::new("unknown command in the PROXY header")),
    };
    Ok(Some((header, len)))
}

/// A header that speaks for a client.
fn proxied(whole: &[u8], family: u8) -> Result<Header, Fault> {
    let body = &whole[FIXED..];
    let mut header = Header::default();
    let additions = match family {
        // Nothing says how long addresses of no family are, so nothing behind them can be found.
        0x00 => return Ok(header),
        0x11 | 0x12 => {
            let (addresses, rest) = split::<12>(body)?;
            let [s0, s1, s2, s3, d0, d1, d2, d3, ports @ ..] = addresses;
            let (source, destination) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
            put(&mut header, source.into(), destination.into(), ports);
            rest
        }
        0x21 | 0x22 => {
            let (source, rest) = split::<16>(body)?;
            let (destination, rest) = split::<16>(rest)?;
            let (ports, rest) = split::<4>(rest)?;
            put(&mut header, Ipv6Addr::from(source).into(), destination.into(), ports);
            rest
        }
        0x31 | 0x32 => split::<UNIX_ADDRESSES>(body)?.1,
        _ => return Err(Fault::new("unknown address family in the PROXY header")),
    };
    header.tls = read_additions(whole, additions)?;
    Ok(header)
}

fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Fault> {
    let (front, rest) =
        bytes.split_first_chunk().ok_or(Fault::new("PROXY header without its addresses"))?;
    Ok((*front, rest))
}

fn put(header: &mut Header, source: IpAddr, destination: IpAddr, ports: [u8; 4]) {
    let [s0, s1, d0, d1] = ports;
    header.source = Some(SocketAddr::new(source, u16::from_be_bytes([s0, s1])));
    header.destination = Some(SocketAddr::new(destination, u16::from_be_bytes([d0, d1])));
}

/// Walks the additions at the end of the header `whole`. Those that matter may stand once.
fn read_additions(whole: &[u8], additions: &[u8]) -> Result<Option<PeerTls>, Fault> {
    let (mut checked, mut tls) = (false, None);
    let mut rest = additions;
    while let Some(Addition { kind, value, behind }) = addition(rest)? {
        match kind {
            TYPE_CRC if !checked => {
                check(whole, value, whole.len() - behind.len())?;
                checked = true;
            }
            TYPE_TLS if tls.is_none() => tls = Some(read_tls(value)?),
            TYPE_CRC | TYPE_TLS => return Err(Fault::new("PROXY header says a thing twice")),
            _ => {}
        }
        rest = behind;
    }
    Ok(tls.flatten())
}

/// Splits the first addition off `bytes`, none if they are empty.
fn addition(bytes: &[u8]) -> Result<Option<Addition<'_>>, Fault> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let cut = Fault::new("PROXY header with an addition cut short");
    let (&[kind, high, low], rest) = bytes.split_first_chunk().ok_or(cut)?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let (value, behind) = rest.split_at_checked(len).ok_or(cut)?;
    Ok(Some(Addition { kind, value, behind }))
}

/// Compares the checksum `value`, which ends at `end` of the header, where it counts as zeros.
fn check(whole: &[u8], value: &[u8], end: usize) -> Result<(), Fault> {
    let told: [u8; 4] = value.try_into().or(Err(Fault::new("PROXY checksum of a wrong length")))?;
    let found = crc(&[&whole[..end - told.len()], &[0; 4], &whole[end..]]);
    if found == u32::from_be_bytes(told) {
        Ok(())
    } else {
        Err(Fault::new("PROXY header with a wrong checksum"))
    }
}

/// What is said of the client's TLS, none if it used none.
fn read_tls(value: &[u8]) -> Result<Option<PeerTls>, Fault> {
    let cut = Fault::new("PROXY header with TLS cut short");
    let (&[client, verify @ ..], mut rest) = value.split_first_chunk::<5>().ok_or(cut)?;
    let verified = verify == [0; 4] && client & CLIENT_CERTIFICATE != 0;
    let mut tls = PeerTls { verified, ..PeerTls::default() };
    while let Some(Addition { kind, value, behind }) = addition(rest)? {
        match kind {
            TYPE_TLS_VERSION => put_text(&mut tls.version, value)?,
            TYPE_TLS_COMMON_NAME => put_text(&mut tls.common_name, value)?,
            _ => {}
        }
        rest = behind;
    }
    Ok((client & CLIENT_TLS != 0).then_some(tls))
}

fn put_text(place: &mut Option<Box<str>>, value: &[u8]) -> Result<(), Fault> {
    let text = check_text(value).ok_or(Fault::new("PROXY header with text that is not UTF-8"))?;
    match place.replace(text.into()) {
        None => Ok(()),
        Some(_) => Err(Fault::new("PROXY header says a thing twice")),
    }
}
