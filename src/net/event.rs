//! What goes into a driver once (its sizes) and what comes out of it all the time (events).

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::key::SocketKey;

/// Sizes of a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriverSettings {
    /// Submission queue, operations; 64 bytes each.
    pub submission_entries: u32,
    /// Completion queue, completions; 16 bytes each.
    pub completion_entries: u32,
    /// Receive buffers shared by all sockets; rounded up to a power of two, at most 32,768.
    pub recv_buffers: usize,
    /// Bytes of one receive buffer.
    pub recv_buffer_bytes: usize,
}

impl Default for DriverSettings {
    fn default() -> DriverSettings {
        DriverSettings {
            submission_entries: 4096,
            completion_entries: 16_384,
            recv_buffers: 256,
            recv_buffer_bytes: 16_384,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection came in. Nothing is armed; the receiver registers it or drops it.
    Accepted {
        /// Which listener, as named in [`Driver::listen`].
        listener: u16,
        /// The connection, close-on-exec.
        fd: OwnedFd,
    },
    /// The listener rests for 100 ms because the process or the host ran out of something.
    AcceptFailed {
        /// Which listener.
        listener: u16,
        /// Usually `MFILE` or `NFILE`.
        error: Errno,
    },
    /// Bytes came in; never empty.
    Received {
        /// Which socket.
        key: SocketKey,
        /// The bytes, valid during the call.
        bytes: &'a [u8],
    },
    /// Nothing more will be received. Sending may still work after a plain end.
    EndOfInput {
        /// Which socket.
        key: SocketKey,
        /// What broke the connection; `None` for the peer's orderly end.
        error: Option<Errno>,
    },
    /// The whole buffer went to the kernel. Also comes while the socket is closing.
    Sent {
        /// Which socket.
        key: SocketKey,
        /// The memory of what was given to [`Driver::send`], emptied; none where it is shared.
        buffer: Vec<u8>,
    },
    /// The buffer was not sent completely. Also comes while the socket is closing.
    SendFailed {
        /// Which socket.
        key: SocketKey,
        /// Why; `CANCELED` where the deadline of a close ended it.
        error: Errno,
        /// The memory of what was given to [`Driver::send`], emptied; none where it is shared.
        buffer: Vec<u8>,
    },
    /// The fd is closed and the index may be registered again. The last event of a socket.
    Released {
        /// Which socket.
        key: SocketKey,
    },
    /// The watched eventfd was written, or the bell rang, after a [`wait`](super::Driver::wait).
    /// A hint only: writes may share one event or have none.
    Woken,
}

/// What a driver has done since its birth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Receives that brought bytes.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Receives that found no free buffer.
    pub starved: u64,
    /// Buffers sent completely.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Sends continued because the kernel took a part.
    pub continued: u64,
}
