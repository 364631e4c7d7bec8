//! Bytes on their way out, of one connection alone or shared by many.

use bytes::Bytes;
use std::ops::Deref;

/// What one send takes: never changed and never moved in memory while it is one.
#[derive(PartialEq, Eq, Debug)]
pub enum Chunk {
    /// Encoded packets of one connection; the memory is used again.
    Own(Vec<u8>),
    /// A payload that other connections send, too.
    Shared(Bytes),
}

impl Chunk {
    /// The memory for further use, empty; what was shared leaves none.
    pub fn into_spare(self) -> Vec<u8> {
        match self {
            Chunk::Own(mut bytes) => {
                bytes.clear();
                bytes
            }
            Chunk::Shared(_) => Vec::new(),
        }
    }
}

impl Default for Chunk {
    fn default() -> Chunk {
        Chunk::Own(Vec::new())
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Chunk {
        Chunk::Own(bytes)
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}
