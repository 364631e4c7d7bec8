//! The protocol version and the quality of service as values.

/// A protocol version; the number is the level in CONNECT. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1, the protocol that calls itself `MQIsdp`.
    V31 = 3,
    /// MQTT 3.1.1.
    #[default]
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

/// Quality of service of one publication or subscription. Ordered by strength. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum QoS {
    /// Not acknowledged.
    #[default]
    AtMostOnce = 0,
    /// Acknowledged with PUBACK.
    AtLeastOnce = 1,
    /// Acknowledged with PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The quality with this number; `None` above 2.
    #[inline]
    pub const fn from_u8(number: u8) -> Option<QoS> {
        match number {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}
