//! Any packet, decoded by its type.

use super::error::DecodeError;
use super::wire::Reader;
use super::{
    Ack, Auth, Connack, Connect, Disconnect, Frame, PacketType, Publish, Suback, Subscribe,
    Unsuback, Unsubscribe, Version,
};

/// A decoded packet of either direction. Pure value, borrowed from the receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Decodes a frame of a connection that speaks `version`; CONNECT names its own. Whether the peer
/// may send such a packet at this point is not checked.
///
/// # Errors
/// As the `decode` of each packet. What follows the last field is malformed.
#[inline]
pub fn decode<'a>(frame: &Frame<'a>, version: Version) -> Result<Packet<'a>, DecodeError> {
    let body = frame.body;
    let kind = frame.packet_type();
    Ok(match kind {
        PacketType::Publish => Packet::Publish(Publish::decode(frame.first, body, version)?),
        PacketType::Puback => Packet::Puback(Ack::decode(kind, body, version)?),
        PacketType::Pubrec => Packet::Pubrec(Ack::decode(kind, body, version)?),
        PacketType::Pubrel => Packet::Pubrel(Ack::decode(kind, body, version)?),
        PacketType::Pubcomp => Packet::Pubcomp(Ack::decode(kind, body, version)?),
        PacketType::Connect => Packet::Connect(Connect::decode(body)?),
        PacketType::Connack => Packet::Connack(Connack::decode(body, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::Suback => Packet::Suback(Suback::decode(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::decode(body, version)?),
        PacketType::Pingreq => Reader::new(body).end().map(|()| Packet::Pingreq)?,
        PacketType::Pingresp => Reader::new(body).end().map(|()| Packet::Pingresp)?,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body, version)?),
    })
}
