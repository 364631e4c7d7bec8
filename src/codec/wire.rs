//! The primitives of the wire: a reader over borrowed bytes, and writers that append.

use crate::base::PacketId;

use super::error::DecodeError;
use super::text;

/// Largest value of a variable byte integer.
pub(super) const VARINT_MAX: u32 = 268_435_455;

/// Takes fields off the front of a packet's body.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What was not taken yet.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the packet.
    #[inline]
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::malformed("the packet goes on after its last field"))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::protocol("packet identifier 0"))
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Binary data: two bytes of length, then the bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 encoded string. Source: MQTT-1.5.4-1, MQTT-1.5.4-2.
    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        text::check(bytes).ok_or(DecodeError::malformed("a string is not UTF-8 without U+0000"))
    }

    /// A variable byte integer that lies wholly inside the packet.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        if let [short @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u32::from(*short));
        }
        let (value, len) = long_varint(self.rest)?.ok_or(CUT_SHORT)?;
        self.rest = &self.rest[len..];
        Ok(value)
    }
}

const CUT_SHORT: DecodeError = DecodeError::malformed("the packet ends inside a field");

/// Reads a variable byte integer of any width: its value and how many bytes it takes, or `None`
/// when more bytes are needed. Source: MQTT-1.5.5-1; what is wrong is told before all bytes are in.
pub(super) fn long_varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            if *byte == 0 && at > 0 {
                return Err(DecodeError::malformed("a length is written with needless bytes"));
            }
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(DecodeError::malformed("a length uses more than four bytes"));
    }
    Ok(None)
}

/// How many bytes [`put_varint`] writes.
#[inline]
pub(super) const fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer.
///
/// # Panics
/// Above [`VARINT_MAX`].
#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    assert!(value <= VARINT_MAX, "a length the protocol cannot express");
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// The length field of a string or of binary data.
///
/// # Panics
/// Above 65,535 bytes: what is longer cannot be written and must have been refused before.
#[inline]
pub(super) fn short_len(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("strings and binary data hold at most 65,535 bytes")
}

/// Appends binary data or a string with its length.
#[inline]
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u16(out, short_len(bytes));
    out.extend_from_slice(bytes);
}

/// Appends what `write` appends, with its length as a variable byte integer in front. For packets
/// off the hot path: the content is moved once instead of being measured beforehand.
pub(super) fn put_prefixed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let end = out.len();
    put_varint(out, (end - start) as u32);
    let width = out.len() - end;
    out[start..].rotate_right(width);
}

/// Appends a packet: `first` byte, remaining length, then the body that `write` appends.
pub(super) fn put_packet(out: &mut Vec<u8>, first: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    put_prefixed(out, write);
}
