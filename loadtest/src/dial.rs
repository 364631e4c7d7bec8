//! Opening a connection: TCP, CONNECT and SUBSCRIBE, blocking and bounded in time.
//!
//! Invariants worth naming:
//! * not one byte past the awaited answer is read, so the caller finds the stream at a packet's
//!   start;
//! * a connection is handed over nonblocking and without Nagle's delay.

use crate::wire::{self, Connect, Version, first};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

/// How long one answer of the broker may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections made from one source address of the loopback net: below the ports one has.
const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// Filters put into one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 64;

/// A connection the broker has accepted.
pub struct Accepted {
    /// The stream, at a packet's start.
    pub stream: TcpStream,
    /// Whether the broker had a session.
    pub resumed: bool,
    /// Publications the broker lets be in flight to it.
    pub receive_maximum: u16,
}

/// Connects and completes the MQTT handshake.
pub fn dial(address: SocketAddr, number: usize, wanted: &Connect<'_>) -> io::Result<Accepted> {
    let mut stream = open(address, number)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut out = Vec::new();
    wire::connect(wanted, &mut out);
    stream.write_all(&out)?;
    let (kind, body) = read_packet(&mut stream)?;
    match (kind, &body[..]) {
        (first::CONNACK, [flags, 0, properties @ ..]) => Ok(Accepted {
            stream,
            resumed: flags & 1 == 1,
            receive_maximum: wire::receive_maximum(properties),
        }),
        (first::CONNACK, [_, code, ..]) => {
            Err(io::Error::other(format!("broker refused {}: code {code}", wanted.client_id)))
        }
        _ => Err(io::Error::other(format!("expected CONNACK, broker sent {kind:#04x}"))),
    }
}

/// Subscribes to every filter and checks that each was granted at `qos`.
pub fn subscribe(
    stream: &mut TcpStream,
    version: Version,
    filters: &[String],
    qos: u8,
) -> io::Result<()> {
    for (number, some) in filters.chunks(FILTERS_PER_PACKET).enumerate() {
        let mut out = Vec::new();
        let id = u16::try_from(number + 1).map_err(|_| io::Error::other("too many filters"))?;
        wire::subscribe(version, id, some, qos, &mut out);
        stream.write_all(&out)?;
        let (kind, body) = read_packet(stream)?;
        let reasons_at = 2 + usize::from(version == Version::V5);
        let granted = body.get(reasons_at..).unwrap_or_default();
        if kind != first::SUBACK || granted.len() != some.len() {
            return Err(io::Error::other(format!("expected SUBACK, broker sent {kind:#04x}")));
        }
        if granted.iter().any(|&reason| reason != qos) {
            return Err(io::Error::other(format!("subscription not granted: {granted:?}")));
        }
    }
    Ok(())
}

/// A TCP connection. Beyond the ports of one address further loopback addresses are the source.
fn open(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let source = number / CONNECTIONS_PER_SOURCE;
    if source == 0 || !address.ip().is_loopback() || address.is_ipv6() {
        return TcpStream::connect_timeout(&address, PATIENCE);
    }
    let last = u8::try_from(source + 1).map_err(|_| io::Error::other("too many connections"))?;
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0))?;
    connect(&fd, &address)?;
    Ok(TcpStream::from(fd))
}

/// One packet with a body of at most two length bytes, and nothing after it.
fn read_packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0u8; 2];
    stream.read_exact(&mut head)?;
    let mut length = usize::from(head[1] & 0x7f);
    if head[1] >= 0x80 {
        let mut high = [0u8; 1];
        stream.read_exact(&mut high)?;
        length |= usize::from(high[0] & 0x7f) << 7;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head[0], body))
}
