//! AUTH, the steps of enhanced authentication in version 5.

use super::ack::reason;
use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::property::{self, PropertyId, Value};
use super::wire::{self, Reader};
use super::{PacketType, ReasonCode, Version};

/// An AUTH, read or to be written. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Auth<'a> {
    /// Success, continue authentication or re-authenticate.
    pub reason: ReasonCode,
    /// Authentication method; absent only in the empty form of the packet.
    pub method: Option<&'a str>,
    /// Authentication data.
    pub data: Option<&'a [u8]>,
    /// Text for people.
    pub reason_string: Option<&'a str>,
}

impl<'a> Auth<'a> {
    /// Reads an AUTH.
    ///
    /// # Errors
    /// MALFORMED_PACKET for what cannot be parsed; PROTOCOL_ERROR before version 5, for a reason
    /// code of other packets, and without a method unless the packet is empty.
    /// Source: MQTT 5.0 section 3.15, MQTT-3.15.2-1.
    pub fn decode(body: &'a [u8], version: Version) -> Result<Auth<'a>, DecodeError> {
        if version < Version::V5 {
            return Err(DecodeError::protocol("AUTH before version 5"));
        }
        let mut reader = Reader::new(body);
        let mut auth = Auth::default();
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = reason(reader.u8()?, PacketType::Auth)?;
        let packet = PacketSet::of(&[PacketType::Auth]);
        property::walk(&mut reader, version, packet, |id, value| match (id, value) {
            (PropertyId::AuthenticationMethod, Value::Text(method)) => auth.method = Some(method),
            (PropertyId::AuthenticationData, Value::Binary(data)) => auth.data = Some(data),
            (PropertyId::ReasonString, Value::Text(text)) => auth.reason_string = Some(text),
            _ => {}
        })?;
        reader.end()?;
        if auth.method.is_none() {
            return Err(DecodeError::protocol("AUTH without authentication method"));
        }
        Ok(auth)
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let first = PacketType::Auth.first_byte();
        if *self == Auth::default() {
            out.extend_from_slice(&[first, 0]);
            return;
        }
        wire::put_packet(out, first, |out| {
            out.push(self.reason.0);
            wire::put_prefixed(out, |out| {
                property::put_text(out, PropertyId::AuthenticationMethod, self.method);
                property::put_binary(out, PropertyId::AuthenticationData, self.data);
                property::put_text(out, PropertyId::ReasonString, self.reason_string);
            });
        });
    }
}
