//! The framer: finds where a packet ends in a stream of bytes.
//!
//! Invariant worth naming: what can be refused is refused with the first byte that shows it, so a
//! peer cannot make the broker keep bytes of a packet that will be refused anyway.

use super::error::DecodeError;
use super::wire::long_varint;
use super::{PacketType, ReasonCode, Version};

/// One whole packet in borrowed bytes. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The first byte: type and flags, already checked.
    pub first: u8,
    /// All after the fixed header.
    pub body: &'a [u8],
    /// Bytes of the whole packet, with its fixed header.
    pub len: usize,
}

impl Frame<'_> {
    /// The packet's type.
    ///
    /// # Panics
    /// For a hand-made frame whose upper four bits are zero.
    #[inline]
    pub fn packet_type(&self) -> PacketType {
        PacketType::from_u8(self.first >> 4).expect("the framer refuses type 0")
    }

    /// The lower four bits of the first byte.
    #[inline]
    pub fn flags(&self) -> u8 {
        self.first & 0x0f
    }
}

/// For each packet type the flag values it may have, one bit each.
const FLAGS: [u16; 16] = {
    // QoS 0 without DUP, QoS 1 and 2 with and without, each with and without RETAIN.
    const PUBLISH: u16 = 0b0011_1100_0011_1111;
    const NONE: u16 = 1 << 0b0000;
    const QOS_BIT: u16 = 1 << 0b0010;
    [
        0, NONE, NONE, PUBLISH, NONE, NONE, QOS_BIT, NONE, QOS_BIT, NONE, QOS_BIT, NONE, NONE,
        NONE, NONE, NONE,
    ]
};

/// DUP on PUBREL, SUBSCRIBE and UNSUBSCRIBE, which 3.1 allows.
const OLD_FLAGS: [u8; 3] = [0x6a, 0x8a, 0xaa];

/// Finds the packet at the front of `input` from a peer that speaks `version`: as [`frame`], but
/// 3.1 repeats PUBREL, SUBSCRIBE and UNSUBSCRIBE with DUP.
///
/// # Errors
/// As [`frame`].
#[inline]
pub fn frame_of(
    version: Version,
    input: &[u8],
    max: usize,
) -> Result<Option<Frame<'_>>, DecodeError> {
    match input {
        [first, ..] if version == Version::V31 && OLD_FLAGS.contains(first) => {
            find(*first, input, max)
        }
        _ => frame(input, max),
    }
}

/// Finds the packet at the front of `input`. `Ok(None)`: more bytes are needed. `max` is the
/// largest whole packet accepted, in bytes with the fixed header.
///
/// # Errors
/// MALFORMED_PACKET for type 0 or flags the type may not have, at the first byte, and for a
/// remaining length of more than four bytes or with needless ones. PACKET_TOO_LARGE beyond `max`,
/// as soon as the length is known. Source: MQTT-2.1.3-1, MQTT-2.2.2-2 (3.1.1), MQTT-1.5.5-1.
#[inline]
pub fn frame(input: &[u8], max: usize) -> Result<Option<Frame<'_>>, DecodeError> {
    let [first, ..] = input else { return Ok(None) };
    let first = *first;
    if FLAGS[usize::from(first >> 4)] >> (first & 0x0f) & 1 == 0 {
        return Err(refused(first));
    }
    find(first, input, max)
}

/// Finds the end of the packet whose first byte is `first`.
#[inline]
fn find(first: u8, input: &[u8], max: usize) -> Result<Option<Frame<'_>>, DecodeError> {
    let rest = &input[1..];
    let (length, rest) = match rest {
        [] => return Ok(None),
        [short @ 0..0x80, rest @ ..] => (usize::from(*short), rest),
        _ => match long_varint(rest)? {
            Some((length, width)) => (length as usize, &rest[width..]),
            None => return Ok(None),
        },
    };
    let len = input.len() - rest.len() + length;
    if len > max {
        return Err(TOO_LARGE);
    }
    Ok(rest.get(..length).map(|body| Frame { first, body, len }))
}

const TOO_LARGE: DecodeError = DecodeError {
    reason: ReasonCode::PACKET_TOO_LARGE,
    what: "the packet is larger than the receiver accepts",
};

#[cold]
fn refused(first: u8) -> DecodeError {
    DecodeError::malformed(match (first >> 4, first >> 1 & 3, first & 0x08) {
        (0, ..) => "packet type 0",
        (3, 3, _) => "PUBLISH with QoS 3",
        (3, ..) => "PUBLISH with DUP and QoS 0",
        _ => "reserved flags of the fixed header are wrong",
    })
}
