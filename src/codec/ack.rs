//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of one shape.

use crate::base::PacketId;

use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::property::{self, PropertyId, Value};
use super::wire::{self, Reader};
use super::{PacketType, ReasonCode, Version};

/// One acknowledgement as it was read. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// Which publication.
    pub packet_id: PacketId,
    /// Success before version 5.
    pub reason: ReasonCode,
    /// Text for people.
    pub reason_string: Option<&'a str>,
}

impl<'a> Ack<'a> {
    /// Reads an acknowledgement of type `kind`. The flags of PUBREL are the framer's to check.
    ///
    /// # Errors
    /// MALFORMED_PACKET for what cannot be parsed; PROTOCOL_ERROR for packet identifier 0 or a
    /// reason code of other packets. Source: MQTT 5.0 sections 3.4 to 3.7, MQTT-3.4.2-1.
    #[inline]
    pub fn decode(
        kind: PacketType,
        body: &'a [u8],
        version: Version,
    ) -> Result<Ack<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut ack = Ack { packet_id, reason: ReasonCode::SUCCESS, reason_string: None };
        if version == Version::V5 && !reader.is_empty() {
            ack.decode_rest(kind, &mut reader)?;
        }
        reader.end()?;
        Ok(ack)
    }

    fn decode_rest(
        &mut self,
        kind: PacketType,
        reader: &mut Reader<'a>,
    ) -> Result<(), DecodeError> {
        self.reason = reason(reader.u8()?, kind)?;
        // A remaining length below 4 means that there is no property length.
        if !reader.is_empty() {
            self.reason_string = reason_string(reader, kind)?;
        }
        Ok(())
    }
}

/// A reason code that `kind` may carry.
pub(super) fn reason(code: u8, kind: PacketType) -> Result<ReasonCode, DecodeError> {
    let reason = ReasonCode(code);
    if reason.is_for(kind) {
        return Ok(reason);
    }
    Err(DecodeError::protocol("a reason code that this packet may not have"))
}

/// The property section of a packet that has a reason string at most.
pub(super) fn reason_string<'a>(
    reader: &mut Reader<'a>,
    kind: PacketType,
) -> Result<Option<&'a str>, DecodeError> {
    let mut found = None;
    property::walk(reader, Version::V5, PacketSet::of(&[kind]), |id, value| {
        if let (PropertyId::ReasonString, Value::Text(text)) = (id, value) {
            found = Some(text);
        }
    })?;
    Ok(found)
}

/// Appends an acknowledgement of type `kind` (PUBACK, PUBREC, PUBREL or PUBCOMP). Reason and text
/// are left out before version 5, and in version 5 where they say nothing.
#[inline]
pub fn encode_ack(
    kind: PacketType,
    version: Version,
    packet_id: PacketId,
    reason: ReasonCode,
    reason_string: Option<&str>,
    out: &mut Vec<u8>,
) {
    let [high, low] = packet_id.get().to_be_bytes();
    let first = kind.first_byte();
    let silent = reason == ReasonCode::SUCCESS && reason_string.is_none();
    if silent || version < Version::V5 {
        out.extend_from_slice(&[first, 2, high, low]);
    } else if reason_string.is_none() {
        out.extend_from_slice(&[first, 3, high, low, reason.0]);
    } else {
        wire::put_packet(out, first, |out| {
            out.extend_from_slice(&[high, low, reason.0]);
            wire::put_prefixed(out, |out| {
                property::put_text(out, PropertyId::ReasonString, reason_string);
            });
        });
    }
}
