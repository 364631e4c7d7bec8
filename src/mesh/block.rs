//! The unit that crosses between cores: a run of encoded entries with what can't be encoded.

use bytes::Bytes;
use std::any::Any;

/// What a connection's transport needs carried to its home core. Opaque to the pure half.
pub type Carried = Box<dyn Any + Send>;

/// Something that crosses with an entry but is not copied into the block's bytes.
pub enum Attachment {
    /// A large payload, shared by reference.
    Payload(Bytes),
    /// A connection on its way to its home.
    Carried(Carried),
}

/// Encoded entries and their attachments, in entry order. Owned by one core at a time.
pub struct Block {
    /// Encoded entries; their format belongs to the shard.
    pub bytes: Vec<u8>,
    /// Attachments in the order in which the entries refer to them.
    pub attachments: Vec<Attachment>,
    /// Payload bytes held by `attachments`.
    pub attached_bytes: usize,
    /// Deliveries to crowds that the entries will cause on the core that has most of them.
    pub crowd: usize,
}

impl Block {
    /// An empty block that holds `capacity` bytes of entries.
    pub fn with_capacity(capacity: usize) -> Block {
        let (bytes, attachments) = (Vec::with_capacity(capacity), Vec::new());
        Block { bytes, attachments, attached_bytes: 0, crowd: 0 }
    }

    /// Bytes of entries that still fit without growing.
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Adds a shared payload.
    pub fn attach_payload(&mut self, payload: Bytes) {
        self.attached_bytes += payload.len();
        self.attachments.push(Attachment::Payload(payload));
    }

    /// Makes the block fit for reuse.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.attachments.clear();
        (self.attached_bytes, self.crowd) = (0, 0);
    }
}
