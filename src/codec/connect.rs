//! CONNECT, which names its own version.

use std::num::{NonZeroU16, NonZeroU32};

use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::property::{self, PropertyId, UserProperties, Value};
use super::wire::{self, Reader};
use super::{PacketType, PublishProperties, QoS, ReasonCode, Version};

const NAME: &[u8] = b"MQTT";
/// The name of 3.1.
const OLD_NAME: &[u8] = b"MQIsdp";

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// A CONNECT, read or to be written. Whether an empty client identifier is acceptable, and whether
/// a will topic has wildcards, is not checked. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connect<'a> {
    /// What the client speaks.
    pub version: Version,
    /// Forget an earlier session; before version 5 the session also ends with the connection.
    pub clean_start: bool,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
    /// Empty: the server is to choose one.
    pub client_id: &'a str,
    /// To be published when the connection ends badly.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password; before version 5 only with a user name.
    pub password: Option<&'a [u8]>,
    /// Defaults before version 5.
    pub properties: ConnectProperties<'a>,
}

/// A CONNECT to be written; of the properties of a will, what [`PublishProperties`] forwards and
/// the message expiry are written.
pub type ConnectOut<'a> = Connect<'a>;

/// The properties of CONNECT. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectProperties<'a> {
    /// Seconds; `u32::MAX` never expires. Absent: with the connection.
    pub session_expiry: Option<u32>,
    /// Most QoS 1 and 2 publications in flight to the client; absent: 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Largest packet to the client, in bytes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Highest alias the client accepts; 0: none.
    pub topic_alias_maximum: u16,
    /// The client would like response information in CONNACK.
    pub request_response_information: bool,
    /// Reason strings and user properties may be sent where things fail. True by default.
    pub request_problem_information: bool,
    /// Enhanced authentication method.
    pub authentication_method: Option<&'a str>,
    /// Its data; only with a method.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties.
    pub user: UserProperties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user: UserProperties::default(),
        }
    }
}

/// The will of a CONNECT. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Will<'a> {
    /// Delivery quality.
    pub qos: QoS,
    /// To be retained.
    pub retain: bool,
    /// A well-formed string, possibly empty, whose wildcards are not checked.
    pub topic: &'a str,
    /// At most 65,535 bytes.
    pub payload: &'a [u8],
    /// Seconds between the end of the connection and the publication.
    pub delay_s: u32,
    /// No alias and no subscription identifiers.
    pub properties: PublishProperties<'a>,
}

impl<'a> Connect<'a> {
    /// Reads a CONNECT of any version.
    ///
    /// # Errors
    /// UNSUPPORTED_PROTOCOL_VERSION for another protocol name or level, see
    /// [`connect_version_hint`]; MALFORMED_PACKET for what cannot be parsed, reserved and will
    /// flags; PROTOCOL_ERROR for what [`ConnectProperties`] forbids and, before version 5, for a
    /// password without a user name.
    /// Source: MQTT-3.1.2-1, MQTT-3.1.2-2, MQTT-3.1.2-3, MQTT-3.1.2-11, MQTT-3.1.2-12,
    /// MQTT-3.1.2-13; MQTT-3.1.2-22 (3.1.1).
    pub fn decode(body: &'a [u8]) -> Result<Connect<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let version = protocol(&mut reader)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = ConnectProperties::decode(&mut reader, version)?;
        let client_id = reader.text()?;
        let will = match flags & WILL {
            0 => None,
            _ => Some(Will::decode(&mut reader, flags, version)?),
        };
        let username = match has(flags & USERNAME, version, &reader) {
            true => Some(reader.text()?),
            false => None,
        };
        let password = match has(flags & PASSWORD, version, &reader) {
            true => Some(reader.binary()?),
            false => None,
        };
        reader.end()?;
        let clean_start = flags & CLEAN_START != 0;
        Ok(Connect {
            version,
            clean_start,
            keep_alive,
            client_id,
            will,
            username,
            password,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        wire::put_packet(out, PacketType::Connect.first_byte(), |out| {
            wire::put_binary(out, if self.version == Version::V31 { OLD_NAME } else { NAME });
            out.push(self.version as u8);
            out.push(self.flags());
            wire::put_u16(out, self.keep_alive);
            if self.version == Version::V5 {
                wire::put_prefixed(out, |out| self.properties.write(out));
            }
            wire::put_binary(out, self.client_id.as_bytes());
            if let Some(will) = &self.will {
                will.write(self.version, out);
            }
            if let Some(username) = self.username {
                wire::put_binary(out, username.as_bytes());
            }
            if let Some(password) = self.password {
                wire::put_binary(out, password);
            }
        });
    }

    fn flags(&self) -> u8 {
        let bit = |flag, set| if set { flag } else { 0 };
        let will = self
            .will
            .map_or(0, |will| WILL | (will.qos as u8) << 3 | bit(WILL_RETAIN, will.retain));
        will | bit(CLEAN_START, self.clean_start)
            | bit(USERNAME, self.username.is_some())
            | bit(PASSWORD, self.password.is_some())
    }
}

fn protocol(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let name = reader.binary()?;
    match (name, reader.u8()?) {
        (OLD_NAME, 3) => Ok(Version::V31),
        (NAME, 4) => Ok(Version::V311),
        (NAME, 5) => Ok(Version::V5),
        (NAME | OLD_NAME, _) => Err(unsupported("a protocol level that is not supported")),
        _ => Err(unsupported("a protocol other than MQTT")),
    }
}

#[cold]
fn unsupported(what: &'static str) -> DecodeError {
    DecodeError { reason: ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, what }
}

/// In which form to answer a CONNECT that could not be decoded: the version it names, 5 for later
/// ones, 3.1.1 when nothing can be told. The top bit of the level, with which bridges of mosquitto
/// introduce themselves, does not count: they try again without it.
pub fn connect_version_hint(body: &[u8]) -> Version {
    let mut reader = Reader::new(body);
    let (Ok(name), Ok(level)) = (reader.binary(), reader.u8()) else { return Version::V311 };
    match (name, level & 0x7f) {
        (OLD_NAME, _) => Version::V31,
        (NAME, 5..) => Version::V5,
        _ => Version::V311,
    }
}

/// 3.1 disregards the reserved bit, and the will's bits where there is no will.
fn check_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & WILL_QOS == WILL_QOS && (flags & WILL != 0 || version > Version::V31) {
        return Err(DecodeError::malformed("a will with QoS 3"));
    }
    if version < Version::V5 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(DecodeError::protocol("a password without a user name"));
    }
    if version == Version::V31 {
        return Ok(());
    }
    if flags & RESERVED != 0 {
        return Err(DecodeError::malformed("the reserved connect flag is set"));
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::malformed("will flags without a will"));
    }
    Ok(())
}

/// Whether a credential follows. In 3.1 the remaining length counts for more than the flags, for
/// the sake of clients of version 3.
fn has(flag: u8, version: Version, reader: &Reader<'_>) -> bool {
    flag != 0 && !(version == Version::V31 && reader.is_empty())
}

impl<'a> ConnectProperties<'a> {
    fn decode(
        reader: &mut Reader<'a>,
        version: Version,
    ) -> Result<ConnectProperties<'a>, DecodeError> {
        let mut found = ConnectProperties::default();
        let packet = PacketSet::of(&[PacketType::Connect]);
        let raw = property::walk(reader, version, packet, |id, value| found.set(id, value))?;
        found.user = UserProperties::of(raw);
        if found.authentication_data.is_some() && found.authentication_method.is_none() {
            return Err(DecodeError::protocol("authentication data without a method"));
        }
        Ok(found)
    }

    fn set(&mut self, id: PropertyId, value: Value<'a>) {
        use PropertyId::*;
        match (id, value) {
            (SessionExpiryInterval, Value::Number(seconds)) => self.session_expiry = Some(seconds),
            (ReceiveMaximum, Value::Number(most)) => {
                self.receive_maximum = NonZeroU16::new(most as u16);
            }
            (MaximumPacketSize, Value::Number(most)) => {
                self.maximum_packet_size = NonZeroU32::new(most);
            }
            (TopicAliasMaximum, Value::Number(most)) => self.topic_alias_maximum = most as u16,
            (RequestResponseInformation, Value::Number(flag)) => {
                self.request_response_information = flag == 1;
            }
            (RequestProblemInformation, Value::Number(flag)) => {
                self.request_problem_information = flag == 1;
            }
            (AuthenticationMethod, Value::Text(text)) => self.authentication_method = Some(text),
            (AuthenticationData, Value::Binary(data)) => self.authentication_data = Some(data),
            _ => {}
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        use PropertyId::*;
        let some = |number: u32, set: bool| set.then_some(number);
        let alias_most = u32::from(self.topic_alias_maximum);
        property::put_number(out, SessionExpiryInterval, self.session_expiry);
        property::put_number(out, ReceiveMaximum, self.receive_maximum.map(|m| m.get().into()));
        property::put_number(out, MaximumPacketSize, self.maximum_packet_size.map(|m| m.get()));
        property::put_number(out, TopicAliasMaximum, some(alias_most, alias_most != 0));
        let response = self.request_response_information;
        property::put_number(out, RequestResponseInformation, some(1, response));
        let no_problem = !self.request_problem_information;
        property::put_number(out, RequestProblemInformation, some(0, no_problem));
        property::put_text(out, AuthenticationMethod, self.authentication_method);
        property::put_binary(out, AuthenticationData, self.authentication_data);
        self.user.write(out);
    }
}

impl<'a> Will<'a> {
    fn decode(
        reader: &mut Reader<'a>,
        flags: u8,
        version: Version,
    ) -> Result<Will<'a>, DecodeError> {
        let Some(qos) = QoS::from_u8((flags & WILL_QOS) >> 3) else {
            return Err(DecodeError::malformed("a will with QoS 3"));
        };
        let (properties, delay_s) = PublishProperties::decode_will(reader, version)?;
        let topic = reader.text()?;
        let payload = reader.binary()?;
        let retain = flags & WILL_RETAIN != 0;
        Ok(Will { qos, retain, topic, payload, delay_s, properties })
    }

    fn write(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V5 {
            wire::put_prefixed(out, |out| {
                let delay = (self.delay_s != 0).then_some(self.delay_s);
                let expiry = self.properties.message_expiry;
                property::put_number(out, PropertyId::WillDelayInterval, delay);
                property::put_number(out, PropertyId::MessageExpiryInterval, expiry);
                self.properties.write_forwarded(out);
            });
        }
        wire::put_binary(out, self.topic.as_bytes());
        wire::put_binary(out, self.payload);
    }
}
