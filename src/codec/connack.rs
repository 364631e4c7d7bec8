//! CONNACK, the answer to CONNECT.

use super::ack::reason;
use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::property::{self, PropertyId, UserProperties, Value};
use super::wire::{self, Reader};
use super::{PacketType, QoS, ReasonCode, Version};

/// A CONNACK, read or to be written. The default is plain success; written is only what differs
/// from what the standard assumes when a property is absent. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connack<'a> {
    /// The server had a session; written only with success.
    pub session_present: bool,
    /// The outcome; before version 5 the nearest return code is written.
    pub reason: ReasonCode,
    /// Seconds, where the server uses another value than asked for.
    pub session_expiry: Option<u32>,
    /// Most QoS 1 and 2 publications in flight to the server; not 0.
    pub receive_maximum: Option<u16>,
    /// Highest quality the server accepts: 0 or 1. `None` and 2 are the default and not written.
    pub maximum_qos: Option<QoS>,
    /// Retained messages are supported.
    pub retain_available: bool,
    /// Largest packet to the server, in bytes; not 0.
    pub maximum_packet_size: Option<u32>,
    /// Chosen by the server for an empty one.
    pub assigned_client_id: Option<&'a str>,
    /// Highest alias the server accepts; 0: none.
    pub topic_alias_maximum: u16,
    /// Text for people.
    pub reason_string: Option<&'a str>,
    /// Filters with wildcards are supported.
    pub wildcard_available: bool,
    /// Subscription identifiers are supported.
    pub subscription_ids_available: bool,
    /// Shared subscriptions are supported.
    pub shared_available: bool,
    /// Seconds, in place of what the client asked for.
    pub server_keep_alive: Option<u16>,
    /// Base for response topics.
    pub response_information: Option<&'a str>,
    /// Where else to connect.
    pub server_reference: Option<&'a str>,
    /// Enhanced authentication method.
    pub authentication_method: Option<&'a str>,
    /// Its data.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties.
    pub user: UserProperties<'a>,
}

/// A CONNACK to be written.
pub type ConnackOut<'a> = Connack<'a>;

impl Default for Connack<'_> {
    fn default() -> Self {
        Connack {
            session_present: false,
            reason: ReasonCode::SUCCESS,
            session_expiry: None,
            receive_maximum: None,
            maximum_qos: None,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            reason_string: None,
            wildcard_available: true,
            subscription_ids_available: true,
            shared_available: true,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
            user: UserProperties::default(),
        }
    }
}

impl<'a> Connack<'a> {
    /// Reads a CONNACK.
    ///
    /// # Errors
    /// MALFORMED_PACKET for what cannot be parsed and reserved flags; PROTOCOL_ERROR for session
    /// present with a failure, a code that CONNACK may not have, or property values out of range.
    /// Source: MQTT-3.2.2-1, MQTT-3.2.2-6, MQTT-3.2.2-8; MQTT-3.2.2-4 (3.1.1).
    pub fn decode(body: &'a [u8], version: Version) -> Result<Connack<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let flags = match (reader.u8()?, version) {
            // The whole byte is reserved in 3.1, and not looked at.
            (_, Version::V31) => 0,
            (flags, _) => flags,
        };
        if flags > 1 {
            return Err(DecodeError::malformed("reserved bits of the CONNACK flags are set"));
        }
        let code = reader.u8()?;
        let mut connack = Connack {
            session_present: flags == 1,
            reason: match version {
                Version::V5 => reason(code, PacketType::Connack)?,
                _ => ReasonCode::from_connect_return_code(code)
                    .ok_or(DecodeError::protocol("a return code that CONNACK may not have"))?,
            },
            ..Connack::default()
        };
        if connack.session_present && connack.reason.is_error() {
            return Err(DecodeError::protocol("a refused connection with a session present"));
        }
        let packet = PacketSet::of(&[PacketType::Connack]);
        let raw = property::walk(&mut reader, version, packet, |id, value| match value {
            Value::Number(number) => connack.set_number(id, number),
            Value::Text(text) => connack.set_text(id, text),
            Value::Binary(data) => connack.authentication_data = Some(data),
            Value::Pair(..) => {}
        })?;
        connack.user = UserProperties::of(raw);
        reader.end()?;
        Ok(connack)
    }

    fn set_number(&mut self, id: PropertyId, number: u32) {
        use PropertyId::*;
        match id {
            SessionExpiryInterval => self.session_expiry = Some(number),
            ReceiveMaximum => self.receive_maximum = Some(number as u16),
            MaximumQos => self.maximum_qos = QoS::from_u8(number as u8),
            RetainAvailable => self.retain_available = number == 1,
            MaximumPacketSize => self.maximum_packet_size = Some(number),
            TopicAliasMaximum => self.topic_alias_maximum = number as u16,
            WildcardSubscriptionAvailable => self.wildcard_available = number == 1,
            SubscriptionIdentifierAvailable => self.subscription_ids_available = number == 1,
            SharedSubscriptionAvailable => self.shared_available = number == 1,
            ServerKeepAlive => self.server_keep_alive = Some(number as u16),
            _ => {}
        }
    }

    fn set_text(&mut self, id: PropertyId, text: &'a str) {
        use PropertyId::*;
        match id {
            AssignedClientIdentifier => self.assigned_client_id = Some(text),
            ReasonString => self.reason_string = Some(text),
            ResponseInformation => self.response_information = Some(text),
            ServerReference => self.server_reference = Some(text),
            AuthenticationMethod => self.authentication_method = Some(text),
            _ => {}
        }
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        // 3.1 has no such flag. Source for the rest: MQTT-3.2.2-6; MQTT-3.2.2-4 (3.1.1).
        let present = self.session_present && !self.reason.is_error() && version > Version::V31;
        let code = match version {
            Version::V5 => self.reason.0,
            _ => self.reason.connect_return_code(),
        };
        wire::put_packet(out, PacketType::Connack.first_byte(), |out| {
            out.extend_from_slice(&[u8::from(present), code]);
            if version == Version::V5 {
                wire::put_prefixed(out, |out| self.write_properties(out));
            }
        });
    }

    fn write_properties(&self, out: &mut Vec<u8>) {
        use PropertyId::*;
        let unavailable = |available: bool| (!available).then_some(0);
        let qos = self.maximum_qos.filter(|qos| *qos < QoS::ExactlyOnce).map(|qos| qos as u32);
        let alias_most = Some(u32::from(self.topic_alias_maximum)).filter(|most| *most != 0);
        property::put_number(out, SessionExpiryInterval, self.session_expiry);
        property::put_number(out, ReceiveMaximum, self.receive_maximum.map(u32::from));
        property::put_number(out, MaximumQos, qos);
        property::put_number(out, RetainAvailable, unavailable(self.retain_available));
        property::put_number(out, MaximumPacketSize, self.maximum_packet_size);
        property::put_text(out, AssignedClientIdentifier, self.assigned_client_id);
        property::put_number(out, TopicAliasMaximum, alias_most);
        property::put_text(out, ReasonString, self.reason_string);
        let wildcards = unavailable(self.wildcard_available);
        property::put_number(out, WildcardSubscriptionAvailable, wildcards);
        let ids = unavailable(self.subscription_ids_available);
        property::put_number(out, SubscriptionIdentifierAvailable, ids);
        let shared = unavailable(self.shared_available);
        property::put_number(out, SharedSubscriptionAvailable, shared);
        property::put_number(out, ServerKeepAlive, self.server_keep_alive.map(u32::from));
        property::put_text(out, ResponseInformation, self.response_information);
        property::put_text(out, ServerReference, self.server_reference);
        property::put_text(out, AuthenticationMethod, self.authentication_method);
        property::put_binary(out, AuthenticationData, self.authentication_data);
        self.user.write(out);
    }
}
