//! One io_uring: typed operations in, typed completions out.
//!
//! Invariants worth naming:
//! * memory that an operation uses (a send's bytes, the receive buffers, the timeout) is owned by
//!   [`Ring`] from the operation until its completion is reaped;
//! * dropping the ring cancels everything and waits; memory of an operation that would not end is
//!   leaked rather than freed;
//! * the thread that made the ring is the one that uses it (`SINGLE_ISSUER`), so it is not `Send`.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::buffers::{Buffers, Filled, GROUP};
use super::event::DriverSettings;
use super::key::{Kind, SocketKey, Tag};
use crate::base::Chunk;

/// The kernel moves at most this much in one operation.
const SEND_BYTES_MAX: usize = 1 << 30;

/// One completion, with whatever the kernel gave or gave back.
pub(super) enum Completion {
    Accepted { listener: u16, fd: Result<OwnedFd, Errno>, more: bool },
    Received { tag: Tag, result: Result<usize, Errno>, buffer: Option<Filled>, more: bool },
    Sent { tag: Tag, result: Result<usize, Errno>, buffer: Chunk },
    Woken,
    TimedOut,
    Cancelled,
}

/// An io_uring with its buffers. Lives on one core.
pub(super) struct Ring {
    io: IoUring,
    buffers: Buffers,
    /// Bytes of the send in flight, by socket index; empty where none is.
    outgoing: Vec<Chunk>,
    /// Operations that found the submission queue full even after a submit.
    delayed: VecDeque<squeue::Entry>,
    /// Receives and sends in the kernel: operations that use our memory.
    in_flight: usize,
    /// Read by the kernel when it takes a timeout operation; on the heap so that it stays put.
    timeout: Box<Timespec>,
    /// The eventfd that others write to wake us. While the bell is on, the kernel signals it
    /// for each completion, too.
    bell: Option<OwnedFd>,
    /// A multishot poll of the bell is armed.
    watching: bool,
    wait_flags: EnterFlags,
    home: PhantomData<*const ()>,
}

/// The ring with our flags and nothing registered; also what the start-up probe tries.
pub(super) fn build(settings: &DriverSettings) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .dontfork()
        .setup_cqsize(settings.completion_entries.max(settings.submission_entries + 1))
        .build(settings.submission_entries)
}

impl Ring {
    pub(super) fn new(settings: &DriverSettings) -> io::Result<Ring> {
        let io = build(settings)?;
        let buffers = Buffers::new(settings.recv_buffers, settings.recv_buffer_bytes)?;
        let (address, count) = (buffers.ring_address(), buffers.count());
        // SAFETY: the address is a mapping of `count` entries that `Ring` owns beside the
        // io_uring and unmaps only after it (`Drop` and the order of the fields).
        unsafe { io.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)? };
        let mut wait_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if io.params().is_feature_no_iowait() {
            wait_flags |= EnterFlags::NO_IOWAIT;
        }
        Ok(Ring {
            io,
            buffers,
            outgoing: Vec::new(),
            delayed: VecDeque::new(),
            in_flight: 0,
            timeout: Box::new(Timespec::new()),
            bell: None,
            watching: false,
            wait_flags,
            home: PhantomData,
        })
    }

    /// Arms a multishot accept on `fd`, which must stay open until its last completion.
    pub(super) fn accept(&mut self, listener: u16, fd: BorrowedFd<'_>) {
        let flags = SocketFlags::CLOEXEC.bits() as i32;
        let entry = opcode::AcceptMulti::new(Fd(fd.as_raw_fd())).flags(flags).build();
        self.push(entry, Tag::plain(Kind::Accept, u32::from(listener)));
    }

    /// Arms one receive into a provided buffer.
    pub(super) fn receive_once(&mut self, key: SocketKey, fd: BorrowedFd<'_>) {
        let len = self.buffers.bytes_each() as u32;
        let entry = opcode::Recv::new(Fd(fd.as_raw_fd()), std::ptr::null_mut(), len)
            .buf_group(GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.in_flight += 1;
        self.push(entry, Tag::new(Kind::Receive, key));
    }

    /// Arms a multishot receive into provided buffers.
    pub(super) fn receive_stream(&mut self, key: SocketKey, fd: BorrowedFd<'_>) {
        let entry = opcode::RecvMulti::new(Fd(fd.as_raw_fd()), GROUP).build();
        self.in_flight += 1;
        self.push(entry, Tag::new(Kind::Receive, key));
    }

    /// Sends `buffer[from..]`; the buffer comes back with the completion.
    ///
    /// # Panics
    /// When a send of this index is in flight, or nothing is left to send.
    pub(super) fn send(&mut self, key: SocketKey, fd: BorrowedFd<'_>, buffer: Chunk, from: usize) {
        let index = key.index as usize;
        if self.outgoing.len() <= index {
            self.outgoing.resize_with(index + 1, Chunk::default);
        }
        assert!(self.outgoing[index].is_empty(), "one send in flight per socket");
        assert!(from < buffer.len(), "a send has bytes");
        let flags = (SendFlags::NOSIGNAL.bits() | RecvFlags::WAITALL.bits()) as i32;
        let rest = &buffer[from..];
        let len = rest.len().min(SEND_BYTES_MAX) as u32;
        let entry = opcode::Send::new(Fd(fd.as_raw_fd()), rest.as_ptr(), len).flags(flags).build();
        self.outgoing[index] = buffer;
        self.in_flight += 1;
        self.push(entry, Tag::new(Kind::Send, key));
    }

    /// Asks the kernel to end the operation `tag`; its own completion tells when it ended.
    pub(super) fn cancel(&mut self, tag: Tag) {
        let entry =
            opcode::AsyncCancel::new(tag.to_bits()).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry, Tag::plain(Kind::Cancel, 0));
    }

    /// Cancels the accept of `listener`.
    pub(super) fn cancel_accept(&mut self, listener: u16) {
        self.cancel(Tag::plain(Kind::Accept, u32::from(listener)));
    }

    /// Lets writes to `fd`, an eventfd, end [`Ring::wait`], and makes it the bell.
    ///
    /// One eventfd serves both: were the bell another one, a write to `fd` would have to signal
    /// it from within the wake-up of `fd`, and the kernel puts such nested signals off by
    /// milliseconds (kernel 6.18 was seen to lose all but the first).
    pub(super) fn watch(&mut self, fd: OwnedFd) -> io::Result<()> {
        self.io.submitter().register_eventfd(fd.as_raw_fd())?;
        self.bell = Some(fd);
        self.set_bell(false);
        Ok(())
    }

    /// Arms the watch unless it is. Only a wait in this ring needs it, and only then it may be
    /// armed anew: where the bell rings, the kernel ends the watch, and arming it at once would
    /// complete at once, ring again, and so on for ever.
    fn arm_watch(&mut self) {
        if self.watching {
            return;
        }
        let Some(fd) = &self.bell else { return };
        let events = u32::from(PollFlags::IN.bits());
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), events).multi(true).build();
        self.watching = true;
        self.push(entry, Tag::plain(Kind::Wake, 0));
    }

    /// Arms the one timeout, or moves it when `pending` says that it is armed.
    pub(super) fn set_timeout(&mut self, after: Duration, pending: bool) {
        *self.timeout = Timespec::from(after);
        let timespec: *const Timespec = &raw const *self.timeout;
        let tag = Tag::plain(Kind::Timeout, 0);
        if pending {
            let entry = opcode::TimeoutUpdate::new(tag.to_bits(), timespec).build();
            let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
            self.push(entry, Tag::plain(Kind::Cancel, 0));
        } else {
            self.push(opcode::Timeout::new(timespec).build(), tag);
        }
    }

    fn push(&mut self, entry: squeue::Entry, tag: Tag) {
        let entry = entry.user_data(tag.to_bits());
        if !self.delayed.is_empty() || !self.try_push(&entry) {
            // The queue is full: make room by submitting. What the kernel does not take now
            // (it is out of memory, say) waits here in order.
            self.delayed.push_back(entry);
            let _ = self.enter();
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: entries are built by the methods above alone. A send points into a `Chunk` that
        // `outgoing` owns unchanged until its completion (what it shares is never changed);
        // receives use the provided buffers that
        // `buffers` owns; timeouts point to the boxed timespec, which the kernel copies while it
        // takes the entry; accept, poll and cancel use no memory of ours. `Drop` waits for all.
        unsafe { self.io.submission().push(entry).is_ok() }
    }

    fn push_delayed(&mut self) {
        while let Some(entry) = self.delayed.front().cloned() {
            if !self.try_push(&entry) {
                return;
            }
            self.delayed.pop_front();
        }
    }

    /// Hands all operations to the kernel and lets it post what is complete; never waits and
    /// makes no system call when there is nothing to do.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        loop {
            self.push_delayed();
            let queue = self.io.submission();
            let (len, due) = (queue.len(), queue.taskrun() || queue.cq_overflow());
            drop(queue);
            if len == 0 && !due {
                return Ok(());
            }
            let flags = EnterFlags::GETEVENTS.bits();
            // SAFETY: no argument is passed, and `len` is the number of entries in the queue,
            // each of which fulfils the contract of `try_push`.
            let entered = unsafe { self.io.submitter().enter::<()>(len as u32, 0, flags, None) };
            let taken = tolerate(entered)?;
            if self.delayed.is_empty() || taken == 0 {
                return Ok(());
            }
        }
    }

    /// As [`Ring::enter`], then blocks until there is a completion or `at_most` has passed.
    pub(super) fn wait(&mut self, completions: u32, at_most: Option<Duration>) -> io::Result<()> {
        self.arm_watch();
        self.push_delayed();
        let len = self.io.submission().len() as u32;
        let timespec = at_most.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        let flags = self.wait_flags.bits();
        // SAFETY: `EXT_ARG` is set and `SubmitArgs` is the argument that it asks for; it and the
        // timespec live until the call returns. For `len` see `enter`.
        let entered = unsafe { self.io.submitter().enter(len, completions, flags, Some(&args)) };
        tolerate(entered).map(|_| ())
    }

    /// Completions that can be taken without entering the kernel.
    pub(super) fn ready(&mut self) -> usize {
        self.io.completion().len()
    }

    /// Whether the kernel holds completions that [`Ring::enter`] would bring.
    pub(super) fn has_deferred(&mut self) -> bool {
        let queue = self.io.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// The watched eventfd.
    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(AsFd::as_fd)
    }

    /// Switches the bell. After switching it on, [`Ring::enter`] and [`Ring::ready`] tell of
    /// everything that came before the bell could ring.
    pub(super) fn set_bell(&mut self, on: bool) {
        let completions = self.io.completion();
        if on {
            completions.enable_eventfd();
        } else {
            completions.disable_eventfd();
        }
        drop(completions);
        // The flag must be visible before the caller looks for completions; pairs with the full
        // barrier that the kernel has between queueing work and reading the flag.
        fence(Ordering::SeqCst);
    }

    /// How many buffers are surely free: completions not yet taken may hold the others.
    pub(super) fn free_buffers(&mut self) -> usize {
        usize::from(self.buffers.count()).saturating_sub(self.ready())
    }

    /// The bytes received.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        self.buffers.bytes(filled)
    }

    /// Returns a receive buffer to the kernel.
    pub(super) fn give_back(&mut self, filled: Filled) {
        self.buffers.give_back(filled);
    }

    /// The next completion.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Completion> {
        let entry = self.io.completion().next()?;
        Some(self.decode(&entry))
    }

    /// `entry` was popped from the completion queue just now and is decoded once.
    fn decode(&mut self, entry: &cqueue::Entry) -> Completion {
        let tag = Tag::from_bits(entry.user_data());
        let more = cqueue::more(entry.flags());
        let result = match u32::try_from(entry.result()) {
            Ok(value) => Ok(value as usize),
            Err(_) => Err(Errno::from_raw_os_error(-entry.result())),
        };
        match tag.kind() {
            Some(Kind::Receive) => {
                self.in_flight -= usize::from(!more);
                let buffer = cqueue::buffer_select(entry.flags()).map(|id| {
                    // SAFETY: this completion names the buffer and is decoded once.
                    unsafe { self.buffers.filled(id, result.unwrap_or(0)) }
                });
                Completion::Received { tag, result, buffer, more }
            }
            Some(Kind::Send) => {
                self.in_flight -= 1;
                let buffer = mem::take(&mut self.outgoing[tag.index() as usize]);
                Completion::Sent { tag, result, buffer }
            }
            Some(Kind::Accept) => {
                let fd = result.map(|fd| {
                    // SAFETY: a successful accept makes a new fd that only this completion
                    // names, and the completion is decoded once.
                    unsafe { OwnedFd::from_raw_fd(fd as i32) }
                });
                Completion::Accepted { listener: tag.index() as u16, fd, more }
            }
            Some(Kind::Wake) => {
                self.watching = more;
                Completion::Woken
            }
            Some(Kind::Timeout) => Completion::TimedOut,
            Some(Kind::Cancel) | None => Completion::Cancelled,
        }
    }
}

/// Outcomes of an enter that mean "go on": interrupted, timed out, or the kernel wants its
/// completions taken first. The number is how many operations it took.
fn tolerate(entered: io::Result<usize>) -> io::Result<usize> {
    match entered {
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::INTR | Errno::TIME | Errno::BUSY | Errno::AGAIN) => Ok(0),
            _ => Err(error),
        },
        taken => taken,
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_millis(20);
        const ROUNDS: usize = 100;
        let all = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(all, Tag::plain(Kind::Cancel, 0));
        for _ in 0..ROUNDS {
            if self.wait(1, Some(PATIENCE)).is_err() {
                break;
            }
            while self.next().is_some() {}
            if self.in_flight == 0 {
                return;
            }
        }
        if self.in_flight > 0 {
            // The kernel may still read or write this memory.
            mem::forget(mem::take(&mut self.outgoing));
            self.buffers.leak();
        }
    }
}
