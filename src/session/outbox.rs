//! Messages that wait for a session: until it comes back, or until its window has room.

use std::collections::VecDeque;

/// What happens to a message that finds the outbox full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// The oldest waiting message makes room.
    #[default]
    DropOldest,
    /// The message itself is dropped.
    DropNewest,
    /// The session's connection is closed; without one the message is dropped.
    Disconnect,
    /// Publishers are refused while an outbox [is crowded](Outbox::is_crowded); a message that was
    /// accepted before that and finds no room any more is dropped.
    Refuse,
}

/// Bounds of an outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Messages at most.
    pub messages: usize,
    /// Bytes at most, as the caller counts them. One message always fits.
    pub bytes: usize,
}

/// What became of a pushed message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It waits; so many older ones, of so many bytes, were dropped for it.
    Displaced(usize, usize),
    /// It was dropped.
    Dropped,
    /// It was dropped and the connection is to be closed.
    Disconnect,
}

/// Waiting messages of one session, oldest first.
#[derive(Debug)]
pub struct Outbox<M> {
    queue: VecDeque<(M, usize)>,
    bytes: usize,
}

impl<M> Default for Outbox<M> {
    fn default() -> Self {
        Outbox { queue: VecDeque::new(), bytes: 0 }
    }
}

impl<M> Outbox<M> {
    /// Adds a message of `bytes` bytes under `limits` and `policy`.
    pub fn push(
        &mut self,
        message: M,
        bytes: usize,
        limits: OutboxLimits,
        policy: Overflow,
    ) -> Pushed {
        let (mut displaced, before) = (0, self.bytes);
        while self.is_full(bytes, limits) {
            match policy {
                Overflow::DropOldest if self.pop().is_some() => displaced += 1,
                Overflow::DropOldest | Overflow::DropNewest | Overflow::Refuse => {
                    return Pushed::Dropped;
                }
                Overflow::Disconnect => return Pushed::Disconnect,
            }
        }
        let freed = before - self.bytes;
        self.queue.push_back((message, bytes));
        self.bytes += bytes;
        if displaced == 0 { Pushed::Queued } else { Pushed::Displaced(displaced, freed) }
    }

    fn is_full(&self, bytes: usize, limits: OutboxLimits) -> bool {
        self.queue.len() >= limits.messages
            || (!self.queue.is_empty() && self.bytes + bytes > limits.bytes)
    }

    /// Whether the outbox is close to `limits`: an eighth is kept for messages that are under way.
    /// One that `was` crowded is so until a quarter is free.
    pub fn is_crowded(&self, limits: OutboxLimits, was: bool) -> bool {
        let close = |limit: usize| limit - if was { limit / 4 } else { limit / 8 };
        self.queue.len() >= close(limits.messages) || self.bytes >= close(limits.bytes)
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<M> {
        let (message, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        Some(message)
    }

    /// Takes all messages that `wanted` names, oldest first.
    pub fn take_if(&mut self, mut wanted: impl FnMut(&M) -> bool) -> Vec<M> {
        let (mut taken, mut kept) = (Vec::new(), VecDeque::new());
        for (message, bytes) in self.queue.drain(..) {
            if wanted(&message) {
                self.bytes -= bytes;
                taken.push(message);
            } else {
                kept.push_back((message, bytes));
            }
        }
        self.queue = kept;
        taken
    }

    /// The oldest message.
    pub fn front(&self) -> Option<&M> {
        self.queue.front().map(|(message, _)| message)
    }

    /// Waiting messages.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of all waiting messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All waiting messages, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &M> {
        self.queue.iter().map(|(message, _)| message)
    }
}
