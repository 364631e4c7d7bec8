//! SUBSCRIBE and its answer SUBACK.

use std::num::NonZeroU32;

use crate::base::PacketId;

use super::ack::{reason, reason_string};
use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::property::{self, PropertyId, Value};
use super::wire::{self, Reader};
use super::{PacketType, QoS, ReasonCode, Version};

/// When a new subscription gets retained messages. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE; the only way before version 5.
    #[default]
    Send = 0,
    /// Only when the subscription did not exist yet.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// The options of one subscription. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SubscribeOptions {
    /// Highest quality wanted.
    pub qos: QoS,
    /// Not the session's own messages. That it is not set on a shared subscription
    /// (MQTT-3.8.3-4) is for who parses the filter to check.
    pub no_local: bool,
    /// Keep the retain flag of forwarded messages.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// Source: MQTT-3.8.3-5, MQTT 5.0 section 3.8.3.1; MQTT-3-8.3-4 (3.1.1). In 3.1 the upper six
    /// bits are "not used" and are not looked at.
    fn decode(byte: u8, version: Version) -> Result<SubscribeOptions, DecodeError> {
        let reserved = match version {
            Version::V31 => 0,
            Version::V311 => 0xfc,
            Version::V5 => 0xc0,
        };
        if byte & reserved != 0 {
            return Err(DecodeError::malformed(
                "reserved bits of the subscription options are set",
            ));
        }
        let Some(qos) = QoS::from_u8(byte & 3) else {
            return Err(match version {
                Version::V5 => DecodeError::protocol("a subscription asks for QoS 3"),
                _ => DecodeError::malformed("a subscription asks for QoS 3"),
            });
        };
        if version < Version::V5 {
            return Ok(SubscribeOptions { qos, ..SubscribeOptions::default() });
        }
        let retain_handling = match byte >> 4 & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::protocol("a subscription asks for retain handling 3")),
        };
        let (no_local, retain_as_published) = (byte & 0x04 != 0, byte & 0x08 != 0);
        Ok(SubscribeOptions { qos, no_local, retain_as_published, retain_handling })
    }

    fn encode(self, version: Version) -> u8 {
        if version < Version::V5 {
            return self.qos as u8;
        }
        (self.retain_handling as u8) << 4
            | u8::from(self.retain_as_published) << 3
            | u8::from(self.no_local) << 2
            | self.qos as u8
    }
}

/// A SUBSCRIBE as it was read; all of it is validated. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// To be answered.
    pub packet_id: PacketId,
    /// Given back with each message that matches.
    pub subscription_id: Option<NonZeroU32>,
    version: Version,
    payload: &'a [u8],
}

impl<'a> Subscribe<'a> {
    /// Reads a SUBSCRIBE. The flags are the framer's to check; filters are well-formed strings,
    /// possibly empty, whose wildcards are not checked.
    ///
    /// # Errors
    /// MALFORMED_PACKET for what cannot be parsed and reserved bits; PROTOCOL_ERROR for packet
    /// identifier 0, no filter, QoS 3 or retain handling 3.
    /// Source: MQTT-2.2.1-3, MQTT-3.8.3-2, MQTT-3.8.3-5; MQTT-3.8.3-3 (3.1.1).
    pub fn decode(body: &'a [u8], version: Version) -> Result<Subscribe<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut subscription_id = None;
        let packet = PacketSet::of(&[PacketType::Subscribe]);
        property::walk(&mut reader, version, packet, |id, value| {
            if let (PropertyId::SubscriptionIdentifier, Value::Number(id)) = (id, value) {
                subscription_id = NonZeroU32::new(id);
            }
        })?;
        let payload = reader.rest();
        if payload.is_empty() {
            return Err(DecodeError::protocol("SUBSCRIBE without a topic filter"));
        }
        while !reader.is_empty() {
            filter(&mut reader, version)?;
        }
        Ok(Subscribe { packet_id, subscription_id, version, payload })
    }

    /// Filters and options in order; at least one.
    pub fn filters(&self) -> impl Iterator<Item = (&'a str, SubscribeOptions)> + Clone + use<'a> {
        let version = self.version;
        let mut reader = Reader::new(self.payload);
        // The end of the payload is the only error left.
        std::iter::from_fn(move || filter(&mut reader, version).ok())
    }
}

fn filter<'a>(
    reader: &mut Reader<'a>,
    version: Version,
) -> Result<(&'a str, SubscribeOptions), DecodeError> {
    Ok((reader.text()?, SubscribeOptions::decode(reader.u8()?, version)?))
}

/// A SUBSCRIBE to be written. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscribeOut<'a> {
    /// To be answered.
    pub packet_id: PacketId,
    /// At most 268,435,455; left out before version 5.
    pub subscription_id: Option<NonZeroU32>,
    /// At least one; of the options only the QoS is written before version 5.
    pub filters: &'a [(&'a str, SubscribeOptions)],
}

impl SubscribeOut<'_> {
    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_packet(out, PacketType::Subscribe.first_byte(), |out| {
            wire::put_u16(out, self.packet_id.get());
            if version == Version::V5 {
                let id = self.subscription_id.map(NonZeroU32::get);
                wire::put_prefixed(out, |out| {
                    property::put_number(out, PropertyId::SubscriptionIdentifier, id);
                });
            }
            for (filter, options) in self.filters {
                wire::put_binary(out, filter.as_bytes());
                out.push(options.encode(version));
            }
        });
    }
}

/// A SUBACK as it was read. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suback<'a> {
    /// Of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Text for people.
    pub reason_string: Option<&'a str>,
    codes: &'a [u8],
}

impl<'a> Suback<'a> {
    /// Reads a SUBACK.
    ///
    /// # Errors
    /// MALFORMED_PACKET for what cannot be parsed; PROTOCOL_ERROR for packet identifier 0, no
    /// reason code, or one of other packets. Source: MQTT-3.9.3-2 (3.1.1 and 5.0).
    pub fn decode(body: &'a [u8], version: Version) -> Result<Suback<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let text = match version {
            Version::V5 => reason_string(&mut reader, PacketType::Suback)?,
            _ => None,
        };
        let codes = reader.rest();
        if codes.is_empty() {
            return Err(DecodeError::protocol("SUBACK without a reason code"));
        }
        for code in codes {
            reason(*code, PacketType::Suback)?;
            if version < Version::V5 && *code > 2 && *code != FAILURE {
                return Err(DecodeError::protocol("a return code that SUBACK may not have"));
            }
        }
        Ok(Suback { packet_id, reason_string: text, codes })
    }

    /// One for each filter, in order.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + Clone + use<'a> {
        self.codes.iter().map(|code| ReasonCode(*code))
    }
}

/// The one failure that SUBACK knows before version 5.
const FAILURE: u8 = 0x80;

/// Appends a SUBACK. `reasons` stand in the order of the filters; before version 5 every failure
/// is written as 0x80, and there is no text.
pub fn encode_suback(
    version: Version,
    packet_id: PacketId,
    reasons: &[ReasonCode],
    reason_string: Option<&str>,
    out: &mut Vec<u8>,
) {
    wire::put_packet(out, PacketType::Suback.first_byte(), |out| {
        wire::put_u16(out, packet_id.get());
        if version == Version::V5 {
            wire::put_prefixed(out, |out| {
                property::put_text(out, PropertyId::ReasonString, reason_string);
            });
            out.extend(reasons.iter().map(|reason| reason.0));
        } else {
            out.extend(reasons.iter().map(|reason| reason.0.min(FAILURE)));
        }
    });
}
