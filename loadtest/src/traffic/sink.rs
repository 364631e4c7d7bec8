//! Where the events of all connections meet and become a file.
//!
//! Invariants worth naming:
//! * lines stand in the order of their times; the one lock is held while a line is formatted, never
//!   while the disk is written, so that a slow disk delays no client;
//! * what waits for the disk is bounded; events beyond that are lost, counted, and told in the end
//!   mark.

use super::{Decoder, Event, Moment, Veil, header, print};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may wait for the disk.
const WAITING_MAX: usize = 32 << 20;
/// Client identifiers that are known again when they come back.
const CLIENTS_MAX: usize = 1 << 20;
/// How long a line may wait before it goes to the file.
const REST: Duration = Duration::from_millis(200);

/// What a recording has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Events in the file, or on their way to it.
    pub events: u64,
    /// Events that found no room.
    pub lost: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Connections that were not understood, at least from some point on.
    pub undecoded: u64,
    /// The file has reached its largest size.
    pub full: bool,
}

/// Takes events from any thread.
pub struct Sink {
    began: Instant,
    veil: Veil,
    /// Hides client identifiers while they are remembered.
    key: RandomState,
    most_bytes: u64,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    waiting: String,
    last_us: u64,
    clients: HashMap<u64, u32>,
    next_client: u32,
    tally: Tally,
    closed: bool,
}

impl Sink {
    /// Begins a recording of at most about `most_bytes`.
    pub fn new(veil: Veil, most_bytes: u64) -> Sink {
        let waiting = header(&veil);
        let tally = Tally { bytes: waiting.len() as u64, ..Tally::default() };
        Sink {
            began: Instant::now(),
            veil,
            key: RandomState::new(),
            most_bytes,
            state: Mutex::new(State { waiting, tally, ..State::default() }),
            wake: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the recording is.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// Bytes came from the client of a connection.
    pub fn heard(&self, connection: u32, decoder: &mut Decoder, at: Instant, bytes: &[u8]) {
        let mut events = Vec::new();
        let mut number = |client_id: &str| self.number(client_id);
        decoder.feed(bytes, &self.veil, &mut number, &mut events);
        self.note(connection, at, events);
    }

    /// The client of a connection is gone.
    pub fn gone(&self, connection: u32, decoder: &mut Decoder) {
        let mut events = Vec::new();
        decoder.end(&mut events);
        self.note(connection, Instant::now(), events);
    }

    /// The number of a client: a new one for one that is unknown or has no name.
    fn number(&self, client_id: &str) -> u32 {
        let hidden = self.key.hash_one(client_id);
        let mut state = self.lock();
        let known = state.clients.get(&hidden).copied().filter(|_| !client_id.is_empty());
        known.unwrap_or_else(|| {
            let number = state.next_client;
            state.next_client += 1;
            if !client_id.is_empty() && state.clients.len() < CLIENTS_MAX {
                state.clients.insert(hidden, number);
            }
            number
        })
    }

    fn note(&self, connection: u32, at: Instant, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut state = self.lock();
        let state = &mut *state;
        // Threads may come to the lock in another order than their bytes came in.
        let at_us = at.saturating_duration_since(self.began).as_micros() as u64;
        state.last_us = state.last_us.max(at_us);
        for event in events {
            state.tally.undecoded += u64::from(matches!(event, Event::Undecoded(_)));
            let begin = state.waiting.len();
            print(&Moment { at_us: state.last_us, connection, event }, &mut state.waiting);
            let line = (state.waiting.len() - begin) as u64;
            state.tally.full |= state.tally.bytes + line > self.most_bytes;
            if state.tally.full || state.waiting.len() > WAITING_MAX {
                state.waiting.truncate(begin);
                state.tally.lost += 1;
            } else {
                state.tally.bytes += line;
                state.tally.events += 1;
            }
        }
    }

    /// No more events come.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Writes what comes until the sink is closed, and the end mark.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &mut impl Write) -> io::Result<()> {
        let mut written = String::new();
        loop {
            let (closed, end) = {
                let state = self.lock();
                let rested = self.wake.wait_timeout_while(state, REST, |state| !state.closed);
                let mut state = rested.unwrap_or_else(PoisonError::into_inner).0;
                std::mem::swap(&mut state.waiting, &mut written);
                (state.closed, format!("{} end {}\n", state.last_us, state.tally.lost))
            };
            file.write_all(written.as_bytes())?;
            written.clear();
            if closed {
                file.write_all(end.as_bytes())?;
            }
            file.flush()?;
            if closed {
                return Ok(());
            }
        }
    }
}
