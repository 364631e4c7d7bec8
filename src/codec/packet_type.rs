//! The control packet types, and sets of them for the tables of properties and reason codes.

/// Control packet type, the upper four bits of a packet's first byte. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

const TYPES: [PacketType; 15] = {
    use PacketType::*;
    [
        Connect,
        Connack,
        Publish,
        Puback,
        Pubrec,
        Pubrel,
        Pubcomp,
        Subscribe,
        Suback,
        Unsubscribe,
        Unsuback,
        Pingreq,
        Pingresp,
        Disconnect,
        Auth,
    ]
};

impl PacketType {
    /// The type with this number; `None` outside `1..=15`.
    #[inline]
    pub const fn from_u8(number: u8) -> Option<PacketType> {
        if number == 0 || number > 15 { None } else { Some(TYPES[number as usize - 1]) }
    }

    /// The first byte of a packet of this type other than PUBLISH. Source: MQTT-2.1.3-1.
    pub(super) const fn first_byte(self) -> u8 {
        use PacketType::{Pubrel, Subscribe, Unsubscribe};
        (self as u8) << 4 | if matches!(self, Pubrel | Subscribe | Unsubscribe) { 2 } else { 0 }
    }
}

/// A set of packet types. Bit 0, which is no type, stands for the Will inside CONNECT: it has
/// properties of its own.
#[derive(Clone, Copy)]
pub(super) struct PacketSet(pub(super) u16);

impl PacketSet {
    pub(super) const NONE: PacketSet = PacketSet(0);
    pub(super) const WILL: PacketSet = PacketSet(1);

    pub(super) const fn of(types: &[PacketType]) -> PacketSet {
        let mut set = 0;
        let mut at = 0;
        while at < types.len() {
            set |= 1 << types[at] as u16;
            at += 1;
        }
        PacketSet(set)
    }

    pub(super) const fn and(self, other: PacketSet) -> PacketSet {
        PacketSet(self.0 | other.0)
    }

    #[inline]
    pub(super) const fn holds(self, other: PacketSet) -> bool {
        self.0 & other.0 != 0
    }
}
