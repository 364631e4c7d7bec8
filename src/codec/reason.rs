//! The reason codes of MQTT 5 and what they become for older clients.

use std::fmt;

use super::PacketType;
use super::packet_type::PacketSet;

/// A reason code: the outcome of an operation. From 0x80 on it is a failure. Any byte can be held;
/// [`ReasonCode::is_for`] tells which ones a packet may carry. Pure value.
/// Source: MQTT 5.0 section 2.4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReasonCode(pub u8);

/// Builds the constants, the names and the table of packets from one list.
macro_rules! reason_codes {
    ($($constant:ident = $code:literal, $name:literal, [$($packet:ident)+];)+) => {
        impl ReasonCode {
            $(#[doc = concat!($name, ", ", stringify!($code), ".")]
            pub const $constant: ReasonCode = ReasonCode($code);)+

            /// The standard's name; `None` for a byte the standard does not assign.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($name),)+
                    _ => None,
                }
            }
        }

        /// For each code the packets that may carry it.
        static PACKETS: [PacketSet; 256] = {
            let mut packets = [PacketSet::NONE; 256];
            $(packets[$code] = PacketSet::of(&[$(PacketType::$packet),+]);)+
            packets
        };
    };
}

reason_codes! {
    SUCCESS = 0x00, "Success",
        [Connack Puback Pubrec Pubrel Pubcomp Suback Unsuback Disconnect Auth];
    GRANTED_QOS_1 = 0x01, "Granted QoS 1", [Suback];
    GRANTED_QOS_2 = 0x02, "Granted QoS 2", [Suback];
    DISCONNECT_WITH_WILL = 0x04, "Disconnect with Will Message", [Disconnect];
    NO_MATCHING_SUBSCRIBERS = 0x10, "No matching subscribers", [Puback Pubrec];
    NO_SUBSCRIPTION_EXISTED = 0x11, "No subscription existed", [Unsuback];
    CONTINUE_AUTHENTICATION = 0x18, "Continue authentication", [Auth];
    RE_AUTHENTICATE = 0x19, "Re-authenticate", [Auth];
    UNSPECIFIED_ERROR = 0x80, "Unspecified error",
        [Connack Puback Pubrec Suback Unsuback Disconnect];
    MALFORMED_PACKET = 0x81, "Malformed Packet", [Connack Disconnect];
    PROTOCOL_ERROR = 0x82, "Protocol Error", [Connack Disconnect];
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83, "Implementation specific error",
        [Connack Puback Pubrec Suback Unsuback Disconnect];
    UNSUPPORTED_PROTOCOL_VERSION = 0x84, "Unsupported Protocol Version", [Connack];
    CLIENT_IDENTIFIER_NOT_VALID = 0x85, "Client Identifier not valid", [Connack];
    BAD_USER_NAME_OR_PASSWORD = 0x86, "Bad User Name or Password", [Connack];
    NOT_AUTHORIZED = 0x87, "Not authorized", [Connack Puback Pubrec Suback Unsuback Disconnect];
    SERVER_UNAVAILABLE = 0x88, "Server unavailable", [Connack];
    SERVER_BUSY = 0x89, "Server busy", [Connack Disconnect];
    BANNED = 0x8a, "Banned", [Connack];
    SERVER_SHUTTING_DOWN = 0x8b, "Server shutting down", [Disconnect];
    BAD_AUTHENTICATION_METHOD = 0x8c, "Bad authentication method", [Connack Disconnect];
    KEEP_ALIVE_TIMEOUT = 0x8d, "Keep Alive timeout", [Disconnect];
    SESSION_TAKEN_OVER = 0x8e, "Session taken over", [Disconnect];
    TOPIC_FILTER_INVALID = 0x8f, "Topic Filter invalid", [Suback Unsuback Disconnect];
    TOPIC_NAME_INVALID = 0x90, "Topic Name invalid", [Connack Puback Pubrec Disconnect];
    PACKET_IDENTIFIER_IN_USE = 0x91, "Packet Identifier in use", [Puback Pubrec Suback Unsuback];
    PACKET_IDENTIFIER_NOT_FOUND = 0x92, "Packet Identifier not found", [Pubrel Pubcomp];
    RECEIVE_MAXIMUM_EXCEEDED = 0x93, "Receive Maximum exceeded", [Disconnect];
    TOPIC_ALIAS_INVALID = 0x94, "Topic Alias invalid", [Disconnect];
    PACKET_TOO_LARGE = 0x95, "Packet too large", [Connack Disconnect];
    MESSAGE_RATE_TOO_HIGH = 0x96, "Message rate too high", [Disconnect];
    QUOTA_EXCEEDED = 0x97, "Quota exceeded", [Connack Puback Pubrec Suback Disconnect];
    ADMINISTRATIVE_ACTION = 0x98, "Administrative action", [Disconnect];
    PAYLOAD_FORMAT_INVALID = 0x99, "Payload format invalid", [Connack Puback Pubrec Disconnect];
    RETAIN_NOT_SUPPORTED = 0x9a, "Retain not supported", [Connack Disconnect];
    QOS_NOT_SUPPORTED = 0x9b, "QoS not supported", [Connack Disconnect];
    USE_ANOTHER_SERVER = 0x9c, "Use another server", [Connack Disconnect];
    SERVER_MOVED = 0x9d, "Server moved", [Connack Disconnect];
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9e, "Shared Subscriptions not supported",
        [Suback Disconnect];
    CONNECTION_RATE_EXCEEDED = 0x9f, "Connection rate exceeded", [Connack Disconnect];
    MAXIMUM_CONNECT_TIME = 0xa0, "Maximum connect time", [Disconnect];
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xa1, "Subscription Identifiers not supported",
        [Suback Disconnect];
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xa2, "Wildcard Subscriptions not supported",
        [Suback Disconnect];
}

impl ReasonCode {
    /// Normal disconnection, what 0x00 means in DISCONNECT.
    pub const NORMAL_DISCONNECTION: ReasonCode = ReasonCode::SUCCESS;
    /// Granted QoS 0, what 0x00 means in SUBACK.
    pub const GRANTED_QOS_0: ReasonCode = ReasonCode::SUCCESS;

    /// Whether the operation failed.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// Whether a packet of type `packet` may carry this code.
    #[inline]
    pub fn is_for(self, packet: PacketType) -> bool {
        PACKETS[usize::from(self.0)].holds(PacketSet::of(&[packet]))
    }

    /// The CONNACK return code of MQTT 3.1 and 3.1.1, `0..=5`, that comes closest. What those
    /// versions cannot say becomes 3, server unavailable. Source: MQTT 3.1.1 table 3.1.
    pub const fn connect_return_code(self) -> u8 {
        match self {
            ReasonCode::SUCCESS => 0,
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => 1,
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => 2,
            ReasonCode::BAD_USER_NAME_OR_PASSWORD => 4,
            ReasonCode::NOT_AUTHORIZED
            | ReasonCode::BANNED
            | ReasonCode::BAD_AUTHENTICATION_METHOD => 5,
            _ => 3,
        }
    }

    /// The reason that a CONNACK return code of MQTT 3.1 and 3.1.1 stands for; `None` above 5.
    pub const fn from_connect_return_code(code: u8) -> Option<ReasonCode> {
        Some(match code {
            0 => ReasonCode::SUCCESS,
            1 => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            2 => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            3 => ReasonCode::SERVER_UNAVAILABLE,
            4 => ReasonCode::BAD_USER_NAME_OR_PASSWORD,
            5 => ReasonCode::NOT_AUTHORIZED,
            _ => return None,
        })
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "reason code {:#04x}", self.0),
        }
    }
}
