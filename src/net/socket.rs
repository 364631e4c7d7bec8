//! The state of one socket, and the table of them.
//!
//! ```text
//!            close            send done          peer's end, deadline      nothing in flight
//!   Open ──────────► Flushing ─────────► Lingering ─────────► Releasing ─────────► (free)
//! ```
//! Flushing waits for the send in flight; Lingering has told the peer that we are done and throws
//! away what still comes, so that closing does not reset the connection before the peer has read
//! our last bytes; Releasing cancels what is left.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::key::{SocketKey, Tag};

/// What the owner wants to receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    Nothing,
    Once,
    Stream,
}

/// Where the receive operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receive {
    Idle,
    /// Waits in the driver's queue for free buffers.
    Starved,
    Armed,
    /// A cancellation is on its way; the completion has not come yet.
    Cancelling,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open,
    Flushing,
    Lingering,
    Releasing,
}

/// One socket of a driver.
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) generation: u32,
    /// Bytes of the outgoing buffer that the kernel has taken.
    pub(super) sent: usize,
    pub(super) wanted: Wanted,
    pub(super) receive: Receive,
    pub(super) phase: Phase,
    pub(super) sending: bool,
    /// The send was cancelled once; once is enough.
    pub(super) send_cancelled: bool,
    pub(super) paused: bool,
    /// The peer's end of input, or an error, was seen: nothing more can be received.
    pub(super) ended: bool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, generation: u32) -> Socket {
        Socket {
            fd,
            generation,
            sent: 0,
            wanted: Wanted::Nothing,
            receive: Receive::Idle,
            phase: Phase::Open,
            sending: false,
            send_cancelled: false,
            paused: false,
            ended: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether a receive should be in the kernel.
    pub(super) fn wants_input(&self) -> bool {
        let wanted = self.wanted != Wanted::Nothing && !self.paused && !self.ended;
        wanted && self.phase != Phase::Releasing
    }

    /// Whether no operation is in the kernel or waits to be.
    pub(super) fn is_idle(&self) -> bool {
        self.receive == Receive::Idle && !self.sending
    }
}

/// Sockets by index. Lives on one core.
#[derive(Default)]
pub(super) struct Sockets {
    slots: Vec<Option<Socket>>,
    len: usize,
}

impl Sockets {
    /// # Panics
    /// When the index is taken.
    pub(super) fn insert(&mut self, key: SocketKey, socket: Socket) {
        let index = key.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        assert!(self.slots[index].is_none(), "the index is free: its last tenant was released");
        self.slots[index] = Some(socket);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, key: SocketKey) -> Option<Socket> {
        self.get(key)?;
        self.len -= 1;
        self.slots[key.index as usize].take()
    }

    #[inline]
    pub(super) fn get(&self, key: SocketKey) -> Option<&Socket> {
        let socket = self.slots.get(key.index as usize)?.as_ref()?;
        (socket.generation == key.generation).then_some(socket)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: SocketKey) -> Option<&mut Socket> {
        let socket = self.slots.get_mut(key.index as usize)?.as_mut()?;
        (socket.generation == key.generation).then_some(socket)
    }

    /// The key of the tenant that an operation was for, unless another one has moved in.
    #[inline]
    pub(super) fn key_of(&self, tag: Tag) -> Option<SocketKey> {
        let socket = self.slots.get(tag.index() as usize)?.as_ref()?;
        let key = SocketKey { index: tag.index(), generation: socket.generation };
        tag.is_of(socket.generation).then_some(key)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
