//! PUBLISH, the hot packet: decoded in one pass, written with one reservation.

use crate::base::PacketId;

use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::property::{self, PropertyId, UserProperties, Value};
use super::wire::{self, Reader, varint_len};
use super::{PacketType, QoS, Version};

/// A PUBLISH as it was read. Pure value, borrowed from the receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// The sender may have sent it before.
    pub dup: bool,
    /// Delivery quality.
    pub qos: QoS,
    /// To be retained (from a client), or was retained (from a server).
    pub retain: bool,
    /// Topic name: a well-formed string whose wildcards are not checked. Empty only when a topic
    /// alias stands for it.
    pub topic: &'a str,
    /// Present exactly when `qos` is above 0.
    pub packet_id: Option<PacketId>,
    /// Empty before version 5.
    pub properties: PublishProperties<'a>,
    /// Application data; whether it is UTF-8 when announced so is not checked.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Reads a PUBLISH from its first byte and body. DUP with QoS 0 is the framer's to refuse.
    ///
    /// # Errors
    /// MALFORMED_PACKET for QoS 3 or what cannot be parsed; PROTOCOL_ERROR for packet identifier 0
    /// and an empty topic without alias; property errors as in the property table.
    /// Source: MQTT-3.3.1-4, MQTT-2.2.1-3, MQTT 5.0 section 3.3.2.
    // Left to the compiler, unrelated changes decide: 22 of 1,623 instructions of a message.
    #[inline(always)]
    pub fn decode(first: u8, body: &'a [u8], version: Version) -> Result<Publish<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let topic = reader.text()?;
        let Some(qos) = QoS::from_u8(first >> 1 & 3) else {
            return Err(DecodeError::malformed("PUBLISH with QoS 3"));
        };
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_id()?),
        };
        let properties = match version {
            Version::V5 => PublishProperties::decode(&mut reader)?,
            _ => PublishProperties::default(),
        };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(DecodeError::protocol("PUBLISH with neither topic nor topic alias"));
        }
        Ok(Publish {
            dup: first & 0x08 != 0,
            qos,
            retain: first & 0x01 != 0,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }
}

/// Properties of an application message, in PUBLISH or in a will. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PublishProperties<'a> {
    /// Never 0; whether it is within the receiver's maximum is not checked. Never in a will.
    pub topic_alias: Option<u16>,
    /// Seconds.
    pub message_expiry: Option<u32>,
    /// Of the subscriptions the message matched; a client must not send any, which the caller
    /// checks. Source: MQTT-3.3.4-6. Never in a will.
    pub subscription_ids: SubscriptionIds<'a>,
    /// The payload is announced as UTF-8.
    pub payload_format_utf8: bool,
    /// A topic name whose wildcards are not checked.
    pub response_topic: Option<&'a str>,
    /// The validated section without its length.
    pub(crate) raw: &'a [u8],
    /// How many bytes of `raw` are forwarded.
    forwarded: usize,
}

impl<'a> PublishProperties<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<PublishProperties<'a>, DecodeError> {
        if let [0, ..] = reader.rest() {
            reader.u8()?;
            return Ok(PublishProperties::default());
        }
        let publish = PacketSet::of(&[PacketType::Publish]);
        PublishProperties::decode_in(reader, publish).map(|(properties, _)| properties)
    }

    /// Reads the properties of a will: they and the will delay in seconds.
    pub(super) fn decode_will(
        reader: &mut Reader<'a>,
        version: Version,
    ) -> Result<(PublishProperties<'a>, u32), DecodeError> {
        match version {
            Version::V5 => PublishProperties::decode_in(reader, PacketSet::WILL),
            _ => Ok(Default::default()),
        }
    }

    fn decode_in(
        reader: &mut Reader<'a>,
        packet: PacketSet,
    ) -> Result<(PublishProperties<'a>, u32), DecodeError> {
        let mut properties = PublishProperties::default();
        let (mut ids, mut delay_s, mut kept) = (0, 0, 0);
        let raw = property::walk(reader, Version::V5, packet, |id, value| match (id, value) {
            (PropertyId::TopicAlias, Value::Number(alias)) => {
                properties.topic_alias = Some(alias as u16);
                kept += 3;
            }
            (PropertyId::MessageExpiryInterval, Value::Number(seconds)) => {
                properties.message_expiry = Some(seconds);
                kept += 5;
            }
            (PropertyId::SubscriptionIdentifier, Value::Number(id)) => {
                ids += 1;
                kept += 1 + varint_len(id);
            }
            (PropertyId::WillDelayInterval, Value::Number(seconds)) => {
                delay_s = seconds;
                kept += 5;
            }
            (PropertyId::PayloadFormatIndicator, Value::Number(format)) => {
                properties.payload_format_utf8 = format == 1;
            }
            (PropertyId::ResponseTopic, Value::Text(topic)) => {
                properties.response_topic = Some(topic);
            }
            _ => {}
        })?;
        properties.raw = raw;
        properties.forwarded = raw.len() - kept;
        properties.subscription_ids = SubscriptionIds { raw, len: ids };
        Ok((properties, delay_s))
    }

    /// Whether anything is to be forwarded.
    #[inline]
    pub fn has_forwarded(&self) -> bool {
        self.forwarded != 0
    }

    /// How many bytes [`PublishProperties::write_forwarded`] appends.
    #[inline]
    pub fn forwarded_len(&self) -> usize {
        self.forwarded
    }

    /// Appends the properties that a server must forward unaltered (payload format, content type,
    /// response topic, correlation data, user properties) as raw property bytes, in order.
    /// Source: MQTT-3.3.2-4, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-18,
    /// MQTT-3.3.2-20.
    pub fn write_forwarded(&self, out: &mut Vec<u8>) {
        if self.forwarded == self.raw.len() {
            out.extend_from_slice(self.raw);
        } else if self.forwarded != 0 {
            property::write_forwarded(self.raw, out);
        }
    }

    /// All properties in order.
    pub fn iter(&self) -> impl Iterator<Item = (PropertyId, Value<'a>)> + Clone + use<'a> {
        property::properties(self.raw)
    }

    /// The user properties.
    pub fn user(&self) -> UserProperties<'a> {
        UserProperties::of(self.raw)
    }
}

/// The subscription identifiers of a PUBLISH. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscriptionIds<'a> {
    /// The whole section; the identifiers stand anywhere in it.
    raw: &'a [u8],
    len: usize,
}

impl<'a> SubscriptionIds<'a> {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The identifiers in order, each `1..=268_435_455`.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        let section = if self.len == 0 { &[] } else { self.raw };
        property::properties(section).filter_map(|(id, value)| match (id, value) {
            (PropertyId::SubscriptionIdentifier, Value::Number(id)) => Some(id),
            _ => None,
        })
    }
}

/// A PUBLISH to be written. The properties (`alias`, `expiry_s`, `subscription_ids`, `forwarded`)
/// are left out before version 5. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PublishOut<'a> {
    /// It may have been sent before. Only with a QoS above 0.
    pub dup: bool,
    /// Delivery quality.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// Topic name, at most 65,535 bytes; empty only with `alias` in version 5.
    pub topic: &'a str,
    /// Written only when `qos` is above 0, and must be present then.
    pub packet_id: Option<PacketId>,
    /// Topic alias; not 0.
    pub alias: Option<u16>,
    /// Message expiry interval in seconds.
    pub expiry_s: Option<u32>,
    /// Each `1..=268_435_455`.
    pub subscription_ids: &'a [u32],
    /// Raw property bytes as [`PublishProperties::write_forwarded`] gives them.
    pub forwarded: &'a [u8],
    /// Application data.
    pub payload: &'a [u8],
}

impl PublishOut<'_> {
    /// How many bytes [`PublishOut::encode`] appends.
    #[inline]
    pub fn encoded_len(&self, version: Version) -> usize {
        let body = self.body_len(version, self.properties_len());
        1 + varint_len(body as u32) + body
    }

    /// Appends the packet: one reservation, then copies.
    ///
    /// # Panics
    /// When the topic is longer than 65,535 bytes, the packet longer than the protocol can say, or
    /// `packet_id` is missing.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        self.encode_head(version, self.payload.len(), out);
        out.extend_from_slice(self.payload);
    }

    /// Appends all of the packet but its payload, with room for `more` bytes behind it.
    ///
    /// # Panics
    /// As [`PublishOut::encode`].
    #[inline]
    pub fn encode_head(&self, version: Version, more: usize, out: &mut Vec<u8>) {
        let properties_len = self.properties_len();
        let body_len = self.body_len(version, properties_len);
        // The fixed header takes at most five bytes.
        out.reserve(5 + body_len - self.payload.len() + more);
        let first = (PacketType::Publish as u8) << 4
            | u8::from(self.dup) << 3
            | (self.qos as u8) << 1
            | u8::from(self.retain);
        let [high, low] = wire::short_len(self.topic.as_bytes()).to_be_bytes();
        if body_len < 0x80 {
            out.extend_from_slice(&[first, body_len as u8, high, low]);
        } else if body_len < 0x4000 {
            let length = [body_len as u8 | 0x80, (body_len >> 7) as u8];
            out.extend_from_slice(&[first, length[0], length[1], high, low]);
        } else {
            out.push(first);
            wire::put_varint(out, u32::try_from(body_len).unwrap_or(u32::MAX));
            out.extend_from_slice(&[high, low]);
        }
        out.extend_from_slice(self.topic.as_bytes());
        if self.qos != QoS::AtMostOnce {
            let id = self.packet_id.expect("a packet identifier goes with QoS 1 and 2");
            wire::put_u16(out, id.get());
        }
        if version == Version::V5 {
            if properties_len == 0 {
                out.push(0);
            } else {
                self.write_properties(properties_len, out);
            }
        }
    }

    /// Where in a version 5 packet of `encoded_len` bytes the two bytes of the alias stand, most
    /// significant first. There must be one.
    #[inline]
    pub fn alias_position(&self, encoded_len: usize) -> usize {
        // The alias is the first property, behind its identifier.
        encoded_len - self.payload.len() - self.properties_len() + 1
    }

    fn write_properties(&self, len: usize, out: &mut Vec<u8>) {
        wire::put_varint(out, u32::try_from(len).unwrap_or(u32::MAX));
        if let Some(alias) = self.alias {
            let [high, low] = alias.to_be_bytes();
            out.extend_from_slice(&[PropertyId::TopicAlias as u8, high, low]);
        }
        if let Some(seconds) = self.expiry_s {
            out.push(PropertyId::MessageExpiryInterval as u8);
            wire::put_u32(out, seconds);
        }
        for id in self.subscription_ids {
            out.push(PropertyId::SubscriptionIdentifier as u8);
            wire::put_varint(out, *id);
        }
        out.extend_from_slice(self.forwarded);
    }

    #[inline]
    fn properties_len(&self) -> usize {
        let ids: usize = self.subscription_ids.iter().map(|id| 1 + varint_len(*id)).sum();
        let alias = if self.alias.is_some() { 3 } else { 0 };
        let expiry = if self.expiry_s.is_some() { 5 } else { 0 };
        alias + expiry + ids + self.forwarded.len()
    }

    #[inline]
    fn body_len(&self, version: Version, properties_len: usize) -> usize {
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let properties = match version {
            Version::V5 => varint_len(properties_len as u32) + properties_len,
            _ => 0,
        };
        2 + self.topic.len() + id + properties + self.payload.len()
    }
}
