//! The driver of one core: commands by socket key, one enter per tick, events out.
//!
//! A tick calls [`Driver::expire`], gives commands, calls [`Driver::submit`] and then
//! [`Driver::reap`]. The handler of `reap` sees the events; it acts afterwards, when the driver is
//! its own again.
//!
//! Invariants worth naming:
//! * [`Driver::settle`] alone arms, cancels and releases: every command and every completion sets
//!   what is wanted or known and then calls it;
//! * a socket has at most one receive and one send in the kernel;
//! * [`Event::Released`] comes exactly once for each closed socket, as its last event.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};

use super::event::{Counters, DriverSettings, Event};
use super::key::{Kind, SocketKey, Tag};
use super::ring::Ring;
use super::socket::{Phase, Receive, Socket, Sockets, Wanted};
use crate::base::{Chunk, Time, Wheel};

/// Most deadlines looked at in one round of [`Driver::expire`].
const EXPIRE_BATCH: usize = 1024;

pub(super) struct Listener {
    fd: OwnedFd,
    state: Accepting,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepting {
    Armed,
    Resting,
    Ending,
}

pub(super) enum Due {
    Close(SocketKey),
    Accept(u16),
}

/// The sockets of one core. Lives on the thread that made it.
pub struct Driver {
    // First, so that it is dropped first: its drop waits for operations on the fds below.
    pub(super) ring: Ring,
    pub(super) sockets: Sockets,
    pub(super) listeners: Vec<Option<Listener>>,
    /// Sockets whose receive found no buffer, in that order. May hold stale entries.
    pub(super) starved: VecDeque<SocketKey>,
    /// Closed sockets whose event was not handed out yet.
    pub(super) released: VecDeque<SocketKey>,
    pub(super) deadlines: Wheel<Due>,
    due: Vec<Due>,
    pub(super) now: Time,
    pub(super) timeout_pending: bool,
    pub(super) counters: Counters,
}

impl Driver {
    /// A driver with nothing to drive, usable only on the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses io_uring or memory; [`probe`](super::probe) explains why.
    pub fn new(settings: &DriverSettings) -> io::Result<Driver> {
        Ok(Driver {
            ring: Ring::new(settings)?,
            sockets: Sockets::default(),
            listeners: Vec::new(),
            starved: VecDeque::new(),
            released: VecDeque::new(),
            deadlines: Wheel::new(Time::default()),
            due: Vec::new(),
            now: Time::default(),
            timeout_pending: false,
            counters: Counters::default(),
        })
    }

    /// Lets writes to `fd`, a blocking eventfd, end [`Driver::wait`], which needs nobody to read
    /// it. It becomes the [`Driver::bell`].
    ///
    /// # Errors
    /// When `fd` is no eventfd.
    ///
    /// # Panics
    /// When something is watched already.
    pub fn watch(&mut self, fd: OwnedFd) -> io::Result<()> {
        assert!(self.ring.bell().is_none(), "one eventfd is watched");
        self.ring.watch(fd)
    }

    /// Accepts connections on `fd`, a listening socket, and reports them under the name
    /// `listener`.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn listen(&mut self, fd: OwnedFd, listener: u16) {
        let index = usize::from(listener);
        if self.listeners.len() <= index {
            self.listeners.resize_with(index + 1, || None);
        }
        assert!(self.listeners[index].is_none(), "a listener's name is used once");
        self.ring.accept(listener, fd.as_fd());
        self.listeners[index] = Some(Listener { fd, state: Accepting::Armed });
    }

    /// Stops accepting everywhere. The listening sockets close after their last completion;
    /// connections accepted until then are still reported.
    pub fn stop_listening(&mut self) {
        for (index, slot) in self.listeners.iter_mut().enumerate() {
            match slot.as_mut().map(|listener| listener.state) {
                Some(Accepting::Armed) => {
                    self.ring.cancel_accept(index as u16);
                    if let Some(listener) = slot {
                        listener.state = Accepting::Ending;
                    }
                }
                Some(Accepting::Resting) => *slot = None,
                Some(Accepting::Ending) | None => {}
            }
        }
    }

    /// Adds a connected socket; nothing is armed.
    ///
    /// # Panics
    /// When the index is taken: it is free again after [`Event::Released`] or
    /// [`Driver::detach`].
    pub fn register(&mut self, key: SocketKey, fd: OwnedFd) {
        self.sockets.insert(key, Socket::new(fd, key.generation));
    }

    /// Receives once: the next bytes end the operation. No effect on a stale or closing socket.
    pub fn read_once(&mut self, key: SocketKey) {
        self.want(key, Wanted::Once);
    }

    /// Receives until paused or closed. No effect on a stale or closing socket.
    pub fn read_stream(&mut self, key: SocketKey) {
        self.want(key, Wanted::Stream);
    }

    fn want(&mut self, key: SocketKey, wanted: Wanted) {
        if let Some(socket) = self.open(key) {
            socket.wanted = wanted;
            self.settle(key);
        }
    }

    /// Stops receiving until [`Driver::resume`]. What the kernel has already taken from the
    /// socket still arrives. Idempotent; no effect on a stale or closing socket.
    pub fn pause(&mut self, key: SocketKey) {
        if let Some(socket) = self.open(key) {
            socket.paused = true;
            self.settle(key);
        }
    }

    /// Receives again as before [`Driver::pause`]. Idempotent.
    pub fn resume(&mut self, key: SocketKey) {
        if let Some(socket) = self.open(key) {
            socket.paused = false;
            self.settle(key);
        }
    }

    /// Sends the whole chunk; its memory comes back with [`Event::Sent`] or [`Event::SendFailed`].
    ///
    /// # Errors
    /// Gives the chunk back when the socket is closing or the key stale.
    ///
    /// # Panics
    /// When a send is in flight (see [`Driver::sending`]) or the chunk is empty.
    pub fn send(&mut self, key: SocketKey, chunk: impl Into<Chunk>) -> Result<(), Chunk> {
        let buffer = chunk.into();
        let socket = match self.sockets.get_mut(key) {
            Some(socket) if socket.phase == Phase::Open => socket,
            _ => return Err(buffer),
        };
        assert!(!socket.sending, "one send in flight per socket");
        socket.sending = true;
        socket.sent = 0;
        self.ring.send(key, socket.fd(), buffer, 0);
        Ok(())
    }

    /// Whether a send is in flight.
    pub fn sending(&self, key: SocketKey) -> bool {
        self.sockets.get(key).is_some_and(|socket| socket.sending)
    }

    /// Closes in an orderly way: finishes the send in flight, tells the peer, throws away what it
    /// still sends until it ends too, and closes the fd. At `deadline` (at once, where it has
    /// passed) the rest is cancelled. Ends with [`Event::Released`]. A second close can only
    /// bring the deadline forward; no effect on a stale key.
    pub fn close(&mut self, key: SocketKey, deadline: Time) {
        let now = self.now;
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if socket.phase == Phase::Open {
            socket.phase = Phase::Flushing;
        }
        if deadline <= now {
            socket.phase = Phase::Releasing;
        }
        if self.settle(key) {
            self.deadlines.insert(deadline, Due::Close(key));
        }
    }

    /// Whether no operation of the socket is in the kernel, so that it may be detached.
    pub fn is_idle(&self, key: SocketKey) -> bool {
        self.sockets.get(key).is_some_and(Socket::is_idle)
    }

    /// Takes the socket out, unclosed, for another driver. The index is free at once.
    ///
    /// # Panics
    /// When the key is stale, the socket closing, or an operation in flight.
    pub fn detach(&mut self, key: SocketKey) -> OwnedFd {
        const LIVE: &str = "the caller holds a live key";
        // Judged while the table owns the fd: were it closed by the panic, operations that wait
        // in the ring would reach whoever gets its number next.
        let socket = self.sockets.get(key).expect(LIVE);
        assert!(socket.phase == Phase::Open, "a closing socket is not handed over");
        assert!(socket.is_idle(), "a socket is handed over with no operation in flight");
        self.sockets.remove(key).expect(LIVE).fd
    }

    /// The fd of a socket, to ask for its addresses and options.
    pub fn fd(&self, key: SocketKey) -> Option<BorrowedFd<'_>> {
        self.sockets.get(key).map(Socket::fd)
    }

    /// How many sockets are registered, closing ones included.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether no socket is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Says what time it is: ends what passed its deadline and wakes rested listeners.
    pub fn expire(&mut self, now: Time) {
        self.now = now;
        loop {
            let mut due = std::mem::take(&mut self.due);
            let done = self.deadlines.expire(now, EXPIRE_BATCH, &mut due);
            for what in due.drain(..) {
                match what {
                    Due::Close(key) => {
                        if let Some(socket) = self.sockets.get_mut(key) {
                            socket.phase = Phase::Releasing;
                            self.settle(key);
                        }
                    }
                    Due::Accept(listener) => self.accept_again(listener),
                }
            }
            self.due = due;
            if done {
                return;
            }
        }
    }

    /// When [`Driver::expire`] should be called next; [`Time::NEVER`] when nothing is due.
    pub fn next_deadline(&self) -> Time {
        self.deadlines.next_deadline()
    }

    /// Hands all commands to the kernel and lets it post completions; never waits. No system
    /// call is made when there is nothing to hand over and nothing to post.
    ///
    /// # Errors
    /// Only where the ring itself is broken: the core cannot go on.
    pub fn submit(&mut self) -> io::Result<()> {
        self.feed_starved();
        self.ring.enter()
    }

    /// Hands at most `budget` events to `on_event`; tells how many completions were taken.
    pub fn reap(&mut self, budget: usize, mut on_event: impl FnMut(Event<'_>)) -> usize {
        for taken in 0..budget {
            if let Some(key) = self.released.pop_front() {
                on_event(Event::Released { key });
                continue;
            }
            let Some(completion) = self.ring.next() else { return taken };
            self.handle(completion, &mut on_event);
        }
        budget
    }

    /// Whether there is something to do: events to reap, completions that [`Driver::submit`]
    /// would bring, or sockets that wait for buffers.
    pub fn has_completions(&mut self) -> bool {
        self.is_reapable() || self.ring.has_deferred()
    }

    /// Whether there is something to do without the kernel.
    fn is_reapable(&mut self) -> bool {
        !self.released.is_empty() || !self.starved.is_empty() || self.ring.ready() > 0
    }

    /// Whether `completions` can be reaped without asking the kernel.
    pub fn is_ready(&mut self, completions: u32) -> bool {
        self.ring.ready() >= completions as usize
    }

    /// As [`Driver::submit`], then blocks the thread until there is a completion (a write to the
    /// watched eventfd is one) or `at_most` has passed; returns at once when there is something to
    /// reap. Work that the kernel has put off it does itself before it waits; its flag for that may
    /// stay set when there is none left, and must not keep a core awake.
    ///
    /// # Errors
    /// As [`Driver::submit`].
    pub fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.feed_starved();
        if self.is_reapable() {
            return self.ring.enter();
        }
        self.ring.wait(1, at_most)
    }

    /// As [`Driver::submit`], then gives the kernel until `completions` are there, or `at_most`:
    /// what arrives meanwhile on one socket comes as one event, and many sockets as one batch.
    ///
    /// # Errors
    /// As [`Driver::submit`].
    pub fn gather(&mut self, completions: u32, at_most: Duration) -> io::Result<()> {
        self.feed_starved();
        self.ring.wait(completions, Some(at_most))
    }

    /// Prepares for sleeping elsewhere than in [`Driver::wait`]: from now on each completion, and
    /// the passing of `at_most`, makes the [`Driver::bell`] readable, as a write does. Tells
    /// whether to sleep; false when there is something to do already. The bell may also ring for
    /// something that was seen since. Follow with [`Driver::disarm_bell`].
    ///
    /// # Errors
    /// As [`Driver::submit`].
    pub fn arm_bell(&mut self, at_most: Option<Duration>) -> io::Result<bool> {
        if let Some(after) = at_most {
            self.ring.set_timeout(after, self.timeout_pending);
            self.timeout_pending = true;
        }
        self.ring.set_bell(true);
        self.submit()?;
        Ok(!self.has_completions())
    }

    /// The watched eventfd. Reading it waits for the ringing of [`Driver::arm_bell`] or a write,
    /// and ends it.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.ring.bell()
    }

    /// Silences the bell: completions no longer cost a signal.
    pub fn disarm_bell(&mut self) {
        self.ring.set_bell(false);
    }

    pub(super) fn open(&mut self, key: SocketKey) -> Option<&mut Socket> {
        self.sockets.get_mut(key).filter(|socket| socket.phase == Phase::Open)
    }

    /// Brings the operations of a socket in line with what is wanted; tells whether the socket
    /// still exists.
    pub(super) fn settle(&mut self, key: SocketKey) -> bool {
        let Some(socket) = self.sockets.get_mut(key) else { return false };
        advance_close(socket);
        match (socket.receive, socket.wants_input()) {
            (Receive::Idle, true) => {
                if self.starved.is_empty() {
                    arm(&mut self.ring, key, socket);
                } else {
                    // Others wait for buffers: no overtaking.
                    socket.receive = Receive::Starved;
                    self.starved.push_back(key);
                }
            }
            (Receive::Starved, false) => socket.receive = Receive::Idle,
            (Receive::Armed, false) => {
                socket.receive = Receive::Cancelling;
                self.ring.cancel(Tag::new(Kind::Receive, key));
            }
            _ => {}
        }
        if socket.phase != Phase::Releasing {
            return true;
        }
        if socket.sending && !socket.send_cancelled {
            socket.send_cancelled = true;
            self.ring.cancel(Tag::new(Kind::Send, key));
        }
        if !socket.is_idle() {
            return true;
        }
        // Dropping the socket closes its fd; no operation refers to it any more.
        self.sockets.remove(key);
        self.released.push_back(key);
        false
    }

    /// Arms receives that found no buffer, the longest wait first and no more of them than there
    /// are free buffers.
    fn feed_starved(&mut self) {
        if self.starved.is_empty() {
            return;
        }
        let mut room = self.ring.free_buffers();
        while room > 0 {
            let Some(key) = self.starved.pop_front() else { return };
            match self.sockets.get_mut(key) {
                Some(socket) if socket.receive == Receive::Starved => {
                    arm(&mut self.ring, key, socket);
                    room -= 1;
                }
                _ => {}
            }
        }
    }

    pub(super) fn is_listening(&self, listener: u16) -> bool {
        let slot = self.listeners.get(usize::from(listener)).and_then(Option::as_ref);
        slot.is_some_and(|listener| listener.state != Accepting::Ending)
    }

    pub(super) fn set_accepting(&mut self, listener: u16, state: Accepting) {
        if let Some(Some(listener)) = self.listeners.get_mut(usize::from(listener)) {
            listener.state = state;
        }
    }

    pub(super) fn accept_again(&mut self, name: u16) {
        let slot = self.listeners.get_mut(usize::from(name)).and_then(Option::as_mut);
        if let Some(listener) = slot.filter(|listener| listener.state == Accepting::Resting) {
            listener.state = Accepting::Armed;
            self.ring.accept(name, listener.fd.as_fd());
        }
    }
}

fn arm(ring: &mut Ring, key: SocketKey, socket: &mut Socket) {
    socket.receive = Receive::Armed;
    match socket.wanted {
        Wanted::Stream => ring.receive_stream(key, socket.fd()),
        Wanted::Once => ring.receive_once(key, socket.fd()),
        Wanted::Nothing => socket.receive = Receive::Idle,
    }
}

fn advance_close(socket: &mut Socket) {
    if socket.phase == Phase::Flushing && !socket.sending {
        // It fails only where the connection is gone, which the receive below will tell.
        let _ = shutdown(socket.fd(), Shutdown::Write);
        socket.phase = Phase::Lingering;
        socket.wanted = Wanted::Stream;
        socket.paused = false;
    }
    if socket.phase == Phase::Lingering && socket.ended {
        socket.phase = Phase::Releasing;
    }
}
