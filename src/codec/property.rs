//! The properties of MQTT 5: one table, and one validating walk over it that every packet uses.
//!
//! Invariants worth naming: [`TABLE`] is the only place that knows where a property may stand, how
//! its value is written and which values it may have; raw property bytes that left this file as
//! validated can be walked again without an error.

use std::fmt;

use super::error::DecodeError;
use super::packet_type::PacketSet;
use super::wire::{self, Reader};
use super::{PacketType, ReasonCode, Version};

/// Builds the identifiers and the table from one list.
macro_rules! properties {
    ($($id:ident = $number:literal, $name:literal, $kind:expr, $packets:expr;)+) => {
        /// What a property is about. Pure value. Source: MQTT 5.0 table 2-4.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum PropertyId {
            $(#[doc = concat!($name, ".")] $id = $number,)+
        }

        const TABLE: &[Row] = {
            use PacketType::*;
            &[$(Row { id: PropertyId::$id, name: $name, kind: $kind, packets: $packets },)+]
        };
    };
}

properties! {
    PayloadFormatIndicator = 0x01, "Payload Format Indicator", FLAG, MESSAGE;
    MessageExpiryInterval = 0x02, "Message Expiry Interval", ANY_U32, MESSAGE;
    ContentType = 0x03, "Content Type", Kind::Text, MESSAGE;
    ResponseTopic = 0x08, "Response Topic", Kind::Text, MESSAGE;
    CorrelationData = 0x09, "Correlation Data", Kind::Binary, MESSAGE;
    SubscriptionIdentifier = 0x0b, "Subscription Identifier", SOME_VARINT,
        PacketSet::of(&[Publish, Subscribe]);
    SessionExpiryInterval = 0x11, "Session Expiry Interval", ANY_U32,
        PacketSet::of(&[Connect, Connack, Disconnect]);
    AssignedClientIdentifier = 0x12, "Assigned Client Identifier", Kind::Text,
        PacketSet::of(&[Connack]);
    ServerKeepAlive = 0x13, "Server Keep Alive", ANY_U16, PacketSet::of(&[Connack]);
    AuthenticationMethod = 0x15, "Authentication Method", Kind::Text,
        PacketSet::of(&[Connect, Connack, Auth]);
    AuthenticationData = 0x16, "Authentication Data", Kind::Binary,
        PacketSet::of(&[Connect, Connack, Auth]);
    RequestProblemInformation = 0x17, "Request Problem Information", FLAG,
        PacketSet::of(&[Connect]);
    WillDelayInterval = 0x18, "Will Delay Interval", ANY_U32, PacketSet::WILL;
    RequestResponseInformation = 0x19, "Request Response Information", FLAG,
        PacketSet::of(&[Connect]);
    ResponseInformation = 0x1a, "Response Information", Kind::Text, PacketSet::of(&[Connack]);
    ServerReference = 0x1c, "Server Reference", Kind::Text, PacketSet::of(&[Connack, Disconnect]);
    ReasonString = 0x1f, "Reason String", Kind::Text, ANSWERS;
    ReceiveMaximum = 0x21, "Receive Maximum", SOME_U16, PacketSet::of(&[Connect, Connack]);
    TopicAliasMaximum = 0x22, "Topic Alias Maximum", ANY_U16, PacketSet::of(&[Connect, Connack]);
    TopicAlias = 0x23, "Topic Alias", SOME_U16, PacketSet::of(&[Publish]);
    MaximumQos = 0x24, "Maximum QoS", FLAG, PacketSet::of(&[Connack]);
    RetainAvailable = 0x25, "Retain Available", FLAG, PacketSet::of(&[Connack]);
    UserProperty = 0x26, "User Property", Kind::Pair,
        MESSAGE.and(ANSWERS).and(PacketSet::of(&[Connect, Subscribe, Unsubscribe]));
    MaximumPacketSize = 0x27, "Maximum Packet Size", SOME_U32, PacketSet::of(&[Connect, Connack]);
    WildcardSubscriptionAvailable = 0x28, "Wildcard Subscription Available", FLAG,
        PacketSet::of(&[Connack]);
    SubscriptionIdentifierAvailable = 0x29, "Subscription Identifier Available", FLAG,
        PacketSet::of(&[Connack]);
    SharedSubscriptionAvailable = 0x2a, "Shared Subscription Available", FLAG,
        PacketSet::of(&[Connack]);
}

/// Where the properties of an application message stand.
const MESSAGE: PacketSet = PacketSet::of(&[PacketType::Publish]).and(PacketSet::WILL);
/// The packets that can say why.
const ANSWERS: PacketSet = {
    use PacketType::*;
    PacketSet::of(&[Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth])
};

struct Row {
    id: PropertyId,
    name: &'static str,
    kind: Kind,
    packets: PacketSet,
}

#[derive(Clone, Copy)]
enum Kind {
    Number { width: Width, least: u32, most: u32 },
    Text,
    Binary,
    Pair,
}

#[derive(Clone, Copy)]
enum Width {
    Byte,
    Two,
    Four,
    Variable,
}

const FLAG: Kind = Kind::Number { width: Width::Byte, least: 0, most: 1 };
const ANY_U16: Kind = Kind::Number { width: Width::Two, least: 0, most: u32::MAX };
const SOME_U16: Kind = Kind::Number { width: Width::Two, least: 1, most: u32::MAX };
const ANY_U32: Kind = Kind::Number { width: Width::Four, least: 0, most: u32::MAX };
const SOME_U32: Kind = Kind::Number { width: Width::Four, least: 1, most: u32::MAX };
const SOME_VARINT: Kind = Kind::Number { width: Width::Variable, least: 1, most: u32::MAX };

/// Position in [`TABLE`] of each identifier, `NO_ROW` for a number that is none.
static ROW_OF: [u8; 256] = {
    let mut rows = [NO_ROW; 256];
    let mut at = 0;
    while at < TABLE.len() {
        rows[TABLE[at].id as usize] = at as u8;
        at += 1;
    }
    rows
};
const NO_ROW: u8 = u8::MAX;

impl PropertyId {
    fn row(self) -> &'static Row {
        &TABLE[usize::from(ROW_OF[usize::from(self as u8)])]
    }

    /// Whether the server passes the property on with the message, unaltered and in order.
    /// Source: MQTT-3.3.2-4, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-18,
    /// MQTT-3.3.2-20.
    fn is_forwarded(self) -> bool {
        use PropertyId::*;
        matches!(
            self,
            PayloadFormatIndicator | ContentType | ResponseTopic | CorrelationData | UserProperty
        )
    }

    /// Whether one packet of `packets` may hold it several times.
    fn repeats_in(self, packets: PacketSet) -> bool {
        match self {
            PropertyId::UserProperty => true,
            PropertyId::SubscriptionIdentifier => {
                packets.holds(PacketSet::of(&[PacketType::Publish]))
            }
            _ => false,
        }
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().name)
    }
}

/// A property's value. Pure value, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// An integer of any width on the wire; flags are 0 or 1.
    Number(u32),
    /// A string.
    Text(&'a str),
    /// Binary data.
    Binary(&'a [u8]),
    /// Name and value of a user property.
    Pair(&'a str, &'a str),
}

/// Reads a property section, its length first, and hands each property to `each`. Gives the raw
/// section without its length; older versions have none.
///
/// # Errors
/// MALFORMED_PACKET for an unknown identifier, one that has no place in `packet`, or a value that
/// cannot be parsed; PROTOCOL_ERROR for a repetition or a value out of range; TOPIC_ALIAS_INVALID
/// for topic alias 0. Source: MQTT 5.0 section 2.2.2.
#[inline]
pub(super) fn walk<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    packet: PacketSet,
    mut each: impl FnMut(PropertyId, Value<'a>),
) -> Result<&'a [u8], DecodeError> {
    if version < Version::V5 {
        return Ok(&[]);
    }
    let len = reader.varint()? as usize;
    let raw = reader.take(len)?;
    let mut section = Reader::new(raw);
    let mut seen = 0u64;
    while !section.is_empty() {
        let (id, value) = property(&mut section, packet)?;
        if seen >> id as u8 & 1 != 0 && !id.repeats_in(packet) {
            return Err(DecodeError::protocol("a property stands twice"));
        }
        seen |= 1 << id as u8;
        each(id, value);
    }
    Ok(raw)
}

/// Reads one property that may stand in `packet`.
fn property<'a>(
    reader: &mut Reader<'a>,
    packet: PacketSet,
) -> Result<(PropertyId, Value<'a>), DecodeError> {
    // The standard writes identifiers as variable byte integers; all of them fit one byte.
    let number = reader.varint()?;
    let at = ROW_OF[number.min(u32::from(u8::MAX)) as usize];
    let Some(row) = TABLE.get(usize::from(at)) else {
        return Err(DecodeError::malformed("unknown property identifier"));
    };
    if !row.packets.holds(packet) {
        return Err(DecodeError::malformed("a property that this packet may not have"));
    }
    let value = match row.kind {
        Kind::Number { width, least, most } => {
            let number = match width {
                Width::Byte => reader.u8().map(u32::from),
                Width::Two => reader.u16().map(u32::from),
                Width::Four => reader.u32(),
                Width::Variable => reader.varint(),
            }?;
            if number < least || number > most {
                return Err(out_of_range(row.id));
            }
            Value::Number(number)
        }
        Kind::Text => Value::Text(reader.text()?),
        Kind::Binary => Value::Binary(reader.binary()?),
        Kind::Pair => Value::Pair(reader.text()?, reader.text()?),
    };
    Ok((row.id, value))
}

#[cold]
fn out_of_range(id: PropertyId) -> DecodeError {
    match id {
        // Section 3.3.4 singles this one out.
        PropertyId::TopicAlias => {
            DecodeError { reason: ReasonCode::TOPIC_ALIAS_INVALID, what: "topic alias 0" }
        }
        PropertyId::ReceiveMaximum => DecodeError::protocol("receive maximum 0"),
        PropertyId::MaximumPacketSize => DecodeError::protocol("maximum packet size 0"),
        PropertyId::SubscriptionIdentifier => DecodeError::protocol("subscription identifier 0"),
        _ => DecodeError::protocol("a property's value is neither 0 nor 1"),
    }
}

/// Anywhere: for sections that were validated before.
const ANYWHERE: PacketSet = PacketSet(u16::MAX);

/// The properties of a validated section.
pub(super) fn properties(raw: &[u8]) -> impl Iterator<Item = (PropertyId, Value<'_>)> + Clone {
    let mut reader = Reader::new(raw);
    std::iter::from_fn(move || property(&mut reader, ANYWHERE).ok())
}

/// Appends the forwarded properties of a validated section.
pub(super) fn write_forwarded(raw: &[u8], out: &mut Vec<u8>) {
    let mut reader = Reader::new(raw);
    let mut before = raw;
    while let Ok((id, _)) = property(&mut reader, ANYWHERE) {
        let after = reader.rest();
        if id.is_forwarded() {
            out.extend_from_slice(&before[..before.len() - after.len()]);
        }
        before = after;
    }
}

/// Appends one property as raw bytes, as [`super::PublishOut::forwarded`] takes them.
///
/// # Panics
/// When `value` is not of the kind that the standard gives `id`, a number does not fit its width,
/// or a string is longer than 65,535 bytes.
pub fn put_property(out: &mut Vec<u8>, id: PropertyId, value: Value<'_>) {
    out.push(id as u8);
    match (id.row().kind, value) {
        (Kind::Number { width, .. }, Value::Number(number)) => match width {
            Width::Byte => out.push(u8::try_from(number).expect("a number of one byte")),
            Width::Two => {
                wire::put_u16(out, u16::try_from(number).expect("a number of two bytes"));
            }
            Width::Four => wire::put_u32(out, number),
            Width::Variable => wire::put_varint(out, number),
        },
        (Kind::Text, Value::Text(text)) => wire::put_binary(out, text.as_bytes()),
        (Kind::Binary, Value::Binary(bytes)) => wire::put_binary(out, bytes),
        (Kind::Pair, Value::Pair(name, value)) => {
            wire::put_binary(out, name.as_bytes());
            wire::put_binary(out, value.as_bytes());
        }
        _ => panic!("the value of {id} is of another kind"),
    }
}

/// Appends a number if there is one.
pub(super) fn put_number(out: &mut Vec<u8>, id: PropertyId, number: Option<u32>) {
    if let Some(number) = number {
        put_property(out, id, Value::Number(number));
    }
}

/// Appends a string if there is one.
pub(super) fn put_text(out: &mut Vec<u8>, id: PropertyId, text: Option<&str>) {
    if let Some(text) = text {
        put_property(out, id, Value::Text(text));
    }
}

/// Appends binary data if there is some.
pub(super) fn put_binary(out: &mut Vec<u8>, id: PropertyId, bytes: Option<&[u8]>) {
    if let Some(bytes) = bytes {
        put_property(out, id, Value::Binary(bytes));
    }
}

/// The user properties of a packet, in order. Pure value, borrowed.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    raw: &'a [u8],
}

impl<'a> UserProperties<'a> {
    /// The user properties among raw properties as [`put_property`] writes them. What is not a
    /// user property is passed over, what cannot be parsed ends the list.
    pub fn of(raw: &'a [u8]) -> UserProperties<'a> {
        UserProperties { raw }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        properties(self.raw).filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((name, value)),
            _ => None,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            put_property(out, PropertyId::UserProperty, Value::Pair(name, value));
        }
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
