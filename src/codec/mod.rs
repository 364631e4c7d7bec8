//! MQTT 3.1, 3.1.1 and 5.0 on the wire: the framer, one file for each packet or request and answer
//! pair, the property table, the reason codes. The version is a value; no packet has two decoders.
//!
//! Decoding gives borrowed views and allocates nothing; encoding appends to a `Vec<u8>` and cannot
//! fail. Both directions exist, because the load generator reads what servers write.
//!
//! Invariants worth naming:
//! * what was decoded is well-formed: every string is UTF-8 without U+0000, every property stands
//!   where it may and within its range, nothing follows the last field;
//! * topic syntax (wildcards, `$share`) is not judged here, nor what depends on a session or on
//!   who sent the packet: the quota, unknown aliases, subscription identifiers from a client.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod packet;
mod packet_type;
mod ping;
mod property;
mod publish;
mod reason;
mod run;
mod subscribe;
mod text;
mod unsubscribe;
mod version;
mod wire;

#[cfg(test)]
mod tests;

pub use ack::{Ack, encode_ack};
pub use auth::Auth;
pub use connack::{Connack, ConnackOut};
pub use connect::{Connect, ConnectOut, ConnectProperties, Will, connect_version_hint};
pub use disconnect::{Disconnect, encode_disconnect};
pub use error::DecodeError;
pub use frame::{Frame, frame, frame_of};
pub use packet::{Packet, decode};
pub use packet_type::PacketType;
pub use ping::{encode_pingreq, encode_pingresp};
pub use property::{PropertyId, UserProperties, Value, put_property};
pub use publish::{Publish, PublishOut, PublishProperties, SubscriptionIds};
pub use reason::ReasonCode;
pub use run::{PLAIN_PUBLISH, Row, Run};
pub use subscribe::{
    RetainHandling, Suback, Subscribe, SubscribeOptions, SubscribeOut, encode_suback,
};
pub(crate) use text::check as check_text;
pub use unsubscribe::{Unsuback, Unsubscribe, UnsubscribeOut, encode_unsuback};
pub use version::{QoS, Version};
