//! DISCONNECT, from either side.

use super::ack::reason;
use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::property::{self, PropertyId, Value};
use super::wire::{self, Reader};
use super::{PacketType, ReasonCode, Version};

/// A DISCONNECT, read or to be written. Before version 5 it says nothing but that the client
/// leaves. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Disconnect<'a> {
    /// Why.
    pub reason: ReasonCode,
    /// Seconds; only a client may send it, which the caller checks. Source: MQTT-3.14.2-2.
    pub session_expiry: Option<u32>,
    /// Text for people.
    pub reason_string: Option<&'a str>,
    /// Where else to connect.
    pub server_reference: Option<&'a str>,
}

impl<'a> Disconnect<'a> {
    /// Reads a DISCONNECT.
    ///
    /// # Errors
    /// MALFORMED_PACKET for what cannot be parsed, PROTOCOL_ERROR for a reason code of other
    /// packets or a repeated property. Source: MQTT 5.0 section 3.14, MQTT-3.14.2-1.
    pub fn decode(body: &'a [u8], version: Version) -> Result<Disconnect<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let mut disconnect = Disconnect::default();
        if version < Version::V5 || reader.is_empty() {
            reader.end()?;
            return Ok(disconnect);
        }
        disconnect.reason = reason(reader.u8()?, PacketType::Disconnect)?;
        // A remaining length below 2 means that there is no property length.
        if reader.is_empty() {
            return Ok(disconnect);
        }
        let packet = PacketSet::of(&[PacketType::Disconnect]);
        property::walk(&mut reader, version, packet, |id, value| match (id, value) {
            (PropertyId::SessionExpiryInterval, Value::Number(seconds)) => {
                disconnect.session_expiry = Some(seconds);
            }
            (PropertyId::ReasonString, Value::Text(text)) => disconnect.reason_string = Some(text),
            (PropertyId::ServerReference, Value::Text(text)) => {
                disconnect.server_reference = Some(text);
            }
            _ => {}
        })?;
        reader.end()?;
        Ok(disconnect)
    }

    /// Appends the packet in its shortest form.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketType::Disconnect.first_byte();
        let has_properties = self.session_expiry.is_some()
            || self.reason_string.is_some()
            || self.server_reference.is_some();
        if version < Version::V5 || (self.reason == ReasonCode::SUCCESS && !has_properties) {
            out.extend_from_slice(&[first, 0]);
            return;
        }
        wire::put_packet(out, first, |out| {
            out.push(self.reason.0);
            if has_properties {
                wire::put_prefixed(out, |out| self.write_properties(out));
            }
        });
    }

    fn write_properties(&self, out: &mut Vec<u8>) {
        property::put_number(out, PropertyId::SessionExpiryInterval, self.session_expiry);
        property::put_text(out, PropertyId::ReasonString, self.reason_string);
        property::put_text(out, PropertyId::ServerReference, self.server_reference);
    }
}

/// Appends a DISCONNECT without a server reference. Whether a server of an older version sends one
/// at all (it must not) is the caller's decision.
pub fn encode_disconnect(
    version: Version,
    reason: ReasonCode,
    reason_string: Option<&str>,
    session_expiry: Option<u32>,
    out: &mut Vec<u8>,
) {
    let disconnect = Disconnect { reason, session_expiry, reason_string, server_reference: None };
    disconnect.encode(version, out);
}
