//! UNSUBSCRIBE and its answer UNSUBACK.

use crate::base::PacketId;

use super::ack::{reason, reason_string};
use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::property::{self, PropertyId};
use super::wire::{self, Reader};
use super::{PacketType, ReasonCode, Version};

/// An UNSUBSCRIBE as it was read; all of it is validated. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribe<'a> {
    /// To be answered.
    pub packet_id: PacketId,
    payload: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// Reads an UNSUBSCRIBE. The flags are the framer's to check; filters are well-formed strings,
    /// possibly empty, whose wildcards are not checked.
    ///
    /// # Errors
    /// MALFORMED_PACKET for what cannot be parsed; PROTOCOL_ERROR for packet identifier 0 and no
    /// filter. Source: MQTT-2.2.1-3, MQTT-3.10.3-2.
    pub fn decode(body: &'a [u8], version: Version) -> Result<Unsubscribe<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let packet = PacketSet::of(&[PacketType::Unsubscribe]);
        property::walk(&mut reader, version, packet, |_, _| {})?;
        let payload = reader.rest();
        if payload.is_empty() {
            return Err(DecodeError::protocol("UNSUBSCRIBE without a topic filter"));
        }
        while !reader.is_empty() {
            reader.text()?;
        }
        Ok(Unsubscribe { packet_id, payload })
    }

    /// The filters in order; at least one.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let mut reader = Reader::new(self.payload);
        // The end of the payload is the only error left.
        std::iter::from_fn(move || reader.text().ok())
    }
}

/// An UNSUBSCRIBE to be written. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsubscribeOut<'a> {
    /// To be answered.
    pub packet_id: PacketId,
    /// At least one.
    pub filters: &'a [&'a str],
}

impl UnsubscribeOut<'_> {
    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_packet(out, PacketType::Unsubscribe.first_byte(), |out| {
            wire::put_u16(out, self.packet_id.get());
            if version == Version::V5 {
                out.push(0);
            }
            for filter in self.filters {
                wire::put_binary(out, filter.as_bytes());
            }
        });
    }
}

/// An UNSUBACK as it was read. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsuback<'a> {
    /// Of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Text for people.
    pub reason_string: Option<&'a str>,
    codes: &'a [u8],
}

impl<'a> Unsuback<'a> {
    /// Reads an UNSUBACK.
    ///
    /// # Errors
    /// MALFORMED_PACKET for what cannot be parsed; PROTOCOL_ERROR for packet identifier 0, and in
    /// version 5 for no reason code or one of other packets. Source: MQTT-3.11.3-2.
    pub fn decode(body: &'a [u8], version: Version) -> Result<Unsuback<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if version < Version::V5 {
            reader.end()?;
            return Ok(Unsuback { packet_id, reason_string: None, codes: &[] });
        }
        let reason_string = reason_string(&mut reader, PacketType::Unsuback)?;
        let codes = reader.rest();
        if codes.is_empty() {
            return Err(DecodeError::protocol("UNSUBACK without a reason code"));
        }
        for code in codes {
            reason(*code, PacketType::Unsuback)?;
        }
        Ok(Unsuback { packet_id, reason_string, codes })
    }

    /// One for each filter, in order; none before version 5.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + Clone + use<'a> {
        self.codes.iter().map(|code| ReasonCode(*code))
    }
}

/// Appends an UNSUBACK. `reasons` stand in the order of the filters; they and the text are left
/// out before version 5.
pub fn encode_unsuback(
    version: Version,
    packet_id: PacketId,
    reasons: &[ReasonCode],
    reason_string: Option<&str>,
    out: &mut Vec<u8>,
) {
    wire::put_packet(out, PacketType::Unsuback.first_byte(), |out| {
        wire::put_u16(out, packet_id.get());
        if version == Version::V5 {
            wire::put_prefixed(out, |out| {
                property::put_text(out, PropertyId::ReasonString, reason_string);
            });
            out.extend(reasons.iter().map(|reason| reason.0));
        }
    });
}
