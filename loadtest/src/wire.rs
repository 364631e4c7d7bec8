//! The few MQTT packets a load generator writes and reads, for 3.1.1 and 5.
//!
//! Invariants worth naming:
//! * writing appends to the caller's buffer; reading borrows it; neither allocates per packet;
//! * the reading half trusts the broker's framing but never reads past a packet's end.

use std::ops::Range;

/// The protocol level spoken on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// First byte of each packet type that is compared or written whole.
pub mod first {
    pub const CONNECT: u8 = 0x10;
    pub const CONNACK: u8 = 0x20;
    pub const PUBLISH: u8 = 0x30;
    pub const PUBACK: u8 = 0x40;
    pub const PUBREC: u8 = 0x50;
    pub const PUBREL: u8 = 0x62;
    /// PUBREL without its flags.
    pub const PUBREL_TYPE: u8 = 0x60;
    pub const PUBCOMP: u8 = 0x70;
    pub const SUBSCRIBE: u8 = 0x82;
    pub const SUBACK: u8 = 0x90;
    pub const UNSUBSCRIBE: u8 = 0xa2;
    pub const PINGREQ: u8 = 0xc0;
    pub const DISCONNECT: u8 = 0xe0;
}

/// Bits of a PUBLISH's first byte that hold its QoS.
pub const QOS_MASK: u8 = 0b0110;

/// What a CONNECT says.
pub struct Connect<'a> {
    /// Protocol level.
    pub version: Version,
    /// Client identifier.
    pub client_id: &'a str,
    /// Clean session or clean start.
    pub clean: bool,
    /// Keep alive, seconds; zero turns it off.
    pub keep_alive_s: u16,
    /// MQTT 5: how long the session outlives the connection, seconds.
    pub session_expiry_s: u32,
}

fn put_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("topics and client ids here are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_packet(first: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    put_length(body.len(), out);
    out.extend_from_slice(body);
}

/// Appends a CONNECT.
pub fn connect(connect: &Connect<'_>, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(32 + connect.client_id.len());
    put_text("MQTT", &mut body);
    body.push(if connect.version == Version::V5 { 5 } else { 4 });
    body.push(u8::from(connect.clean) << 1);
    body.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    if connect.version == Version::V5 {
        if connect.session_expiry_s > 0 {
            body.extend_from_slice(&[5, 0x11]);
            body.extend_from_slice(&connect.session_expiry_s.to_be_bytes());
        } else {
            body.push(0);
        }
    }
    put_text(connect.client_id, &mut body);
    put_packet(first::CONNECT, &body, out);
}

/// Appends a SUBSCRIBE of `filters`, all with maximum QoS `qos`.
pub fn subscribe(version: Version, id: u16, filters: &[String], qos: u8, out: &mut Vec<u8>) {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        put_text(filter, &mut body);
        body.push(qos);
    }
    put_packet(first::SUBSCRIBE, &body, out);
}

/// Appends an UNSUBSCRIBE of one filter.
pub fn unsubscribe(version: Version, id: u16, filter: &str, out: &mut Vec<u8>) {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    put_text(filter, &mut body);
    put_packet(first::UNSUBSCRIBE, &body, out);
}

/// Where the parts of a just written PUBLISH lie, counted from the packet's first byte.
pub struct Layout {
    /// Length of the whole packet.
    pub len: usize,
    /// Where the packet identifier stands, if the packet has one.
    pub packet_id: Option<usize>,
    /// Where the payload begins.
    pub payload: usize,
}

/// What a PUBLISH says.
pub struct Publish<'a> {
    /// Protocol level.
    pub version: Version,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Topic name.
    pub topic: &'a str,
    /// Packet identifier, used by QoS 1 and 2.
    pub id: u16,
    /// Application message.
    pub payload: &'a [u8],
}

/// Appends a PUBLISH.
pub fn publish(packet: &Publish<'_>, out: &mut Vec<u8>) -> Layout {
    let Publish { version, qos, topic, id, payload } = *packet;
    let start = out.len();
    let id_len = if qos > 0 { 2 } else { 0 };
    let properties_len = usize::from(version == Version::V5);
    out.push(first::PUBLISH | (qos << 1));
    put_length(2 + topic.len() + id_len + properties_len + payload.len(), out);
    put_text(topic, out);
    let packet_id = (qos > 0).then(|| out.len() - start);
    if qos > 0 {
        out.extend_from_slice(&id.to_be_bytes());
    }
    if properties_len > 0 {
        out.push(0);
    }
    let payload_at = out.len() - start;
    out.extend_from_slice(payload);
    Layout { len: out.len() - start, packet_id, payload: payload_at }
}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP of success, a form both versions share.
#[inline]
pub fn ack(first: u8, id: u16, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// A packet without a body: PINGREQ or a plain DISCONNECT.
pub fn bare(first: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[first, 0]);
}

/// One whole packet found in a buffer.
#[derive(PartialEq, Eq, Debug)]
pub struct Frame {
    /// Type and flags.
    pub first: u8,
    /// Where its body lies in the buffer.
    pub body: Range<usize>,
}

/// A packet that cannot be one.
#[derive(PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

/// The packet that begins at `at`; `None` when more bytes are needed.
#[inline]
pub fn frame(input: &[u8], at: usize) -> Result<Option<Frame>, Malformed> {
    let rest = &input[at..];
    let [first, low, ..] = *rest else { return Ok(None) };
    let (length, header) = if low < 0x80 {
        (usize::from(low), 2)
    } else {
        match long_length(rest)? {
            Some(found) => found,
            None => return Ok(None),
        }
    };
    if rest.len() < header + length {
        return Ok(None);
    }
    Ok(Some(Frame { first, body: at + header..at + header + length }))
}

/// A remaining length of several bytes, and the length of the fixed header it makes.
fn long_length(rest: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0usize;
    for (position, &byte) in rest[1..].iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            return Ok(Some((length, position + 2)));
        }
    }
    if rest.len() > 4 {
        return Err(Malformed("remaining length uses more than four bytes"));
    }
    Ok(None)
}

/// The receive maximum in the properties of an MQTT 5 CONNACK (what follows flags and reason);
/// 65,535 when none is told.
pub fn receive_maximum(properties: &[u8]) -> u16 {
    // No broker fills more than one length byte here unless it adds long texts, and then the
    // walk ends early with the default.
    let mut rest = properties.get(1..).unwrap_or_default();
    while let [id, value @ ..] = rest {
        let length = match (*id, value) {
            (0x21, [high, low, ..]) => return u16::from_be_bytes([*high, *low]),
            (0x24 | 0x25 | 0x28 | 0x29 | 0x2a, _) => 1,
            (0x13 | 0x22, _) => 2,
            (0x11 | 0x27, _) => 4,
            (_, [high, low, ..]) => 2 + usize::from(u16::from_be_bytes([*high, *low])),
            _ => break,
        };
        rest = value.get(length..).unwrap_or_default();
    }
    u16::MAX
}

/// Packet identifier (zero at QoS 0) and payload of a PUBLISH.
#[inline]
pub fn publish_parts(version: Version, first: u8, body: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    const SHORT: Malformed = Malformed("PUBLISH ends before its payload");
    let [high, low, ..] = *body else { return Err(SHORT) };
    let mut at = 2 + usize::from(u16::from_be_bytes([high, low]));
    let mut id = 0;
    if first & QOS_MASK != 0 {
        let Some(&[high, low]) = body.get(at..at + 2) else { return Err(SHORT) };
        id = u16::from_be_bytes([high, low]);
        at += 2;
    }
    if version == Version::V5 {
        at += match body.get(at) {
            Some(&short) if short < 0x80 => 1 + usize::from(short),
            Some(_) => match long_length(&body[at - 1..])? {
                Some((length, header)) => header - 1 + length,
                None => return Err(SHORT),
            },
            None => return Err(SHORT),
        };
    }
    match body.get(at..) {
        Some(payload) => Ok((id, payload)),
        None => Err(SHORT),
    }
}

/// Packet identifier and reason (zero in the short form) of an acknowledgement.
#[inline]
pub fn ack_parts(body: &[u8]) -> Result<(u16, u8), Malformed> {
    match *body {
        [high, low] => Ok((u16::from_be_bytes([high, low]), 0)),
        [high, low, reason, ..] => Ok((u16::from_be_bytes([high, low]), reason)),
        _ => Err(Malformed("acknowledgement without a packet identifier")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_reads_back_in_each_version_and_qos() {
        for version in [Version::V4, Version::V5] {
            for qos in 0..=2 {
                for size in [0usize, 64, 120, 127, 128, 20_000] {
                    let payload = vec![7u8; size];
                    let mut out = vec![0xff];
                    let packet = Publish { version, qos, topic: "a/b", id: 513, payload: &payload };
                    let layout = publish(&packet, &mut out);
                    assert_eq!(out.len(), 1 + layout.len);
                    assert_eq!(layout.len - layout.payload, size);
                    let found = frame(&out, 1).expect("well formed").expect("whole");
                    assert_eq!(found.body.end, out.len());
                    let body = &out[found.body.clone()];
                    let (id, read) = publish_parts(version, found.first, body).expect("whole");
                    assert_eq!((id, read), (if qos > 0 { 513 } else { 0 }, &payload[..]));
                }
            }
        }
    }

    #[test]
    fn every_proper_prefix_asks_for_more() {
        let mut out = Vec::new();
        let packet =
            Publish { version: Version::V5, qos: 1, topic: "topic", id: 1, payload: &[1; 300] };
        publish(&packet, &mut out);
        for end in 0..out.len() {
            assert_eq!(frame(&out[..end], 0), Ok(None), "prefix of {end} bytes");
        }
    }

    #[test]
    fn properties_of_a_publish_are_skipped() {
        // Topic "t", properties: one subscription identifier of one byte, payload "xy".
        let body = [0, 1, b't', 2, 0x0b, 1, b'x', b'y'];
        assert_eq!(publish_parts(Version::V5, 0x30, &body), Ok((0, &b"xy"[..])));
        let mut long = vec![0, 1, b't', 0x80, 0x01];
        long.extend_from_slice(&[0; 128]);
        long.extend_from_slice(b"xy");
        assert_eq!(publish_parts(Version::V5, 0x30, &long), Ok((0, &b"xy"[..])));
    }

    #[test]
    fn receive_maximum_is_found_among_others() {
        assert_eq!(receive_maximum(&[0]), u16::MAX);
        assert_eq!(receive_maximum(&[]), u16::MAX);
        // Topic alias maximum 10, assigned client id "ab", receive maximum 20.
        let told = [11, 0x22, 0, 10, 0x12, 0, 2, b'a', b'b', 0x21, 0, 20];
        assert_eq!(receive_maximum(&told), 20);
    }

    #[test]
    fn lies_are_malformed_not_panics() {
        assert!(frame(&[0x30, 0x80, 0x80, 0x80, 0x80, 1], 0).is_err());
        assert!(publish_parts(Version::V4, 0x30, &[0]).is_err());
        assert!(publish_parts(Version::V4, 0x30, &[0, 9, b'x']).is_err());
        assert!(publish_parts(Version::V5, 0x32, &[0, 1, b'x', 0]).is_err());
        assert!(ack_parts(&[1]).is_err());
    }

    #[test]
    fn connect_has_the_form_of_its_version() {
        let mut out = Vec::new();
        let mut wanted = Connect {
            version: Version::V4,
            client_id: "c",
            clean: true,
            keep_alive_s: 0,
            session_expiry_s: 0,
        };
        connect(&wanted, &mut out);
        assert_eq!(out, b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c");
        out.clear();
        wanted.version = Version::V5;
        wanted.session_expiry_s = 1;
        connect(&wanted, &mut out);
        assert_eq!(out, b"\x10\x13\0\x04MQTT\x05\x02\0\0\x05\x11\0\0\0\x01\0\x01c");
    }
}
