//! The name of a socket, and how it travels through the kernel as the 64 bits of user data.
//!
//! Invariant worth naming: a completion whose generation is not that of the slot's tenant reaches
//! nobody.

use crate::base::Key;

/// Names one socket of one [`Driver`](super::Driver). Its owner chooses it: the bits of the
/// owner's generational key. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SocketKey {
    /// Position in the table of sockets; keep it dense from zero.
    pub index: u32,
    /// Which tenant of that position. Two tenants in succession must differ in the low 28 bits.
    pub generation: u32,
}

impl SocketKey {
    /// Rebuilds a key from [`SocketKey::to_bits`] or from [`Key::to_bits`].
    pub fn from_bits(bits: u64) -> SocketKey {
        SocketKey { index: bits as u32, generation: (bits >> 32) as u32 }
    }

    /// The key as one word, laid out as in [`Key::to_bits`].
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key as the owner's own kind of key.
    pub fn to_key<T>(self) -> Key<T> {
        Key::from_bits(self.to_bits())
    }
}

impl<T> From<Key<T>> for SocketKey {
    fn from(key: Key<T>) -> SocketKey {
        SocketKey::from_bits(key.to_bits())
    }
}

/// What an operation in the kernel is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Accept,
    Receive,
    Send,
    Cancel,
    Wake,
    Timeout,
}

const KINDS: [Kind; 6] =
    [Kind::Accept, Kind::Receive, Kind::Send, Kind::Cancel, Kind::Wake, Kind::Timeout];
const GENERATION_BITS: u32 = 28;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// User data of an operation: kind (4 bits), generation (28 bits), index (32 bits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tag(u64);

impl Tag {
    pub(super) fn new(kind: Kind, key: SocketKey) -> Tag {
        let generation = u64::from(key.generation & GENERATION_MASK);
        Tag((kind as u64) << 60 | generation << 32 | u64::from(key.index))
    }

    /// A tag for an operation that belongs to no socket.
    pub(super) fn plain(kind: Kind, index: u32) -> Tag {
        Tag::new(kind, SocketKey { index, generation: 0 })
    }

    pub(super) fn from_bits(bits: u64) -> Tag {
        Tag(bits)
    }

    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    pub(super) fn kind(self) -> Option<Kind> {
        KINDS.get((self.0 >> 60) as usize).copied()
    }

    pub(super) fn index(self) -> u32 {
        self.0 as u32
    }

    /// Whether the tag was made for this tenant of its index.
    pub(super) fn is_of(self, generation: u32) -> bool {
        (self.0 >> 32) as u32 & GENERATION_MASK == generation & GENERATION_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_keeps_kind_index_and_tenant() {
        for kind in KINDS {
            let key = SocketKey { index: u32::MAX, generation: 0xfabc_def1 };
            let tag = Tag::from_bits(Tag::new(kind, key).to_bits());
            assert_eq!(tag.kind(), Some(kind));
            assert_eq!(tag.index(), key.index);
            assert!(tag.is_of(key.generation));
            assert!(!tag.is_of(key.generation + 1));
        }
    }
}
