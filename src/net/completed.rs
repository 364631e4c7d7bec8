//! The second half of the driver: what each completion means for its socket or listener.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;

use crate::base::Chunk;

use super::driver::{Accepting, Driver, Due};
use super::event::Event;
use super::key::SocketKey;
use super::ring::Completion;
use super::socket::{Phase, Receive, Wanted};

/// How long a listener rests after the process or the host ran out of something.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Driver {
    pub(super) fn handle(&mut self, completion: Completion, on_event: &mut impl FnMut(Event<'_>)) {
        match completion {
            Completion::Received { tag, result, buffer, more } => {
                let key = self.sockets.key_of(tag);
                if let Some(filled) = buffer {
                    let open = key.filter(|key| self.open(*key).is_some());
                    if let (Some(key), Ok(1..)) = (open, result) {
                        self.counters.received += 1;
                        let bytes = self.ring.bytes(&filled);
                        self.counters.received_bytes += bytes.len() as u64;
                        on_event(Event::Received { key, bytes });
                    }
                    self.ring.give_back(filled);
                }
                if let Some(key) = key {
                    self.after_receive(key, result, more, on_event);
                }
            }
            Completion::Sent { tag, result, buffer } => {
                if let Some(key) = self.sockets.key_of(tag) {
                    self.after_send(key, result, buffer, on_event);
                }
            }
            Completion::Accepted { listener, fd, more } => {
                self.after_accept(listener, fd, more, on_event);
            }
            Completion::Woken => on_event(Event::Woken),
            Completion::TimedOut => self.timeout_pending = false,
            Completion::Cancelled => {}
        }
    }

    fn after_receive(
        &mut self,
        key: SocketKey,
        result: Result<usize, Errno>,
        more: bool,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if more && matches!(result, Ok(1..)) {
            return;
        }
        if !more {
            socket.receive = Receive::Idle;
        }
        let error = match result {
            Ok(0) => None,
            Ok(_) => {
                if socket.wanted == Wanted::Once {
                    socket.wanted = Wanted::Nothing;
                }
                self.settle(key);
                return;
            }
            Err(Errno::NOBUFS) => {
                self.counters.starved += 1;
                if socket.wants_input() {
                    socket.receive = Receive::Starved;
                    self.starved.push_back(key);
                }
                self.settle(key);
                return;
            }
            Err(Errno::CANCELED | Errno::INTR | Errno::AGAIN) => {
                self.settle(key);
                return;
            }
            Err(error) => Some(error),
        };
        socket.ended = true;
        if socket.phase == Phase::Open {
            on_event(Event::EndOfInput { key, error });
        }
        self.settle(key);
    }

    fn after_send(
        &mut self,
        key: SocketKey,
        result: Result<usize, Errno>,
        buffer: Chunk,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let mut failure = None;
        match result {
            Ok(0) => failure = Some(Errno::PIPE),
            Ok(count) => socket.sent += count,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => failure = Some(error),
        }
        if failure.is_none() && socket.sent < buffer.len() {
            if socket.phase != Phase::Releasing {
                self.counters.continued += 1;
                self.ring.send(key, socket.fd(), buffer, socket.sent);
                return;
            }
            failure = Some(Errno::CANCELED);
        }
        socket.sending = false;
        let bytes = buffer.len() as u64;
        let buffer = buffer.into_spare();
        match failure {
            Some(error) => on_event(Event::SendFailed { key, error, buffer }),
            None => {
                self.counters.sent += 1;
                self.counters.sent_bytes += bytes;
                on_event(Event::Sent { key, buffer });
            }
        }
        self.settle(key);
    }

    fn after_accept(
        &mut self,
        listener: u16,
        fd: Result<OwnedFd, Errno>,
        more: bool,
        on_event: &mut impl FnMut(Event<'_>),
    ) {
        let mut rest = false;
        match fd {
            Ok(fd) => {
                self.counters.accepted += 1;
                on_event(Event::Accepted { listener, fd });
            }
            Err(error) if !more && !is_passing(error) => {
                rest = true;
                if self.is_listening(listener) {
                    on_event(Event::AcceptFailed { listener, error });
                }
            }
            Err(_) => {}
        }
        if more {
            return;
        }
        if !self.is_listening(listener) {
            self.listeners[usize::from(listener)] = None;
        } else if rest {
            self.set_accepting(listener, Accepting::Resting);
            self.deadlines.insert(self.now + ACCEPT_REST, Due::Accept(listener));
        } else {
            self.set_accepting(listener, Accepting::Resting);
            self.accept_again(listener);
        }
    }
}

/// Errors of an accept that concern one connection, or a moment, but not the listener
/// (accept(2), "Error handling").
fn is_passing(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNABORTED
            | Errno::INTR
            | Errno::AGAIN
            | Errno::CANCELED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
    )
}
