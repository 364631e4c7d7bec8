//! The network between clients and cores: byte pipes that deliver in random pieces, hold only so
//! much toward a slow reader, and break anywhere.

use corelane::base::{Prng, Time};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names a pipe; pipes are never reused within a run.
pub type PipeId = usize;

/// So much of an unfinished packet renews the keep alive, as OPERATING.md says.
const PART_BYTES: usize = 1024;

/// How packets of a client arrive, told by their lengths alone.
#[derive(Default)]
pub struct Arrival {
    /// The fixed header as far as it has come.
    header: Vec<u8>,
    /// What its packet lacks.
    missing: usize,
    /// Bytes of it that have come.
    arrived: usize,
    /// When the client last showed that it lives: a whole packet, or a part of a large one.
    pub renewed: Time,
}

impl Arrival {
    /// `piece` reaches a core.
    pub fn take(&mut self, piece: &[u8], now: Time) {
        for &byte in piece {
            self.arrived += 1;
            if self.arrived.is_multiple_of(PART_BYTES) {
                self.renewed = now;
            }
            if self.missing > 0 {
                self.missing -= 1;
            } else {
                self.header.push(byte);
                if self.header.len() == 1 || byte & 0x80 != 0 {
                    continue;
                }
                let digits = self.header[1..].iter().rev();
                self.missing = digits.fold(0, |sum, digit| sum << 7 | usize::from(digit & 0x7f));
                self.header.clear();
            }
            if self.missing == 0 {
                (self.renewed, self.arrived) = (now, 0);
            }
        }
    }
}

/// One connection as the network sees it.
#[derive(Default)]
pub struct Pipe {
    /// Bytes on their way to the broker.
    pub up: VecDeque<u8>,
    /// Bytes on their way to the client.
    pub down: VecDeque<u8>,
    /// The client sends nothing more; the broker sees it after the bytes in `up`.
    pub client_closed: bool,
    /// The broker sends nothing more; the client sees it after the bytes in `down`.
    pub broker_closed: bool,
    /// The connection broke: nothing reaches the client any more.
    pub broken: bool,
    /// A core has accepted it.
    pub accepted: bool,
    /// The broker closed it with bytes still unsent.
    pub hurried: bool,
    /// When bytes last arrived at a core.
    pub heard: Time,
    /// What of it counts for the keep alive.
    pub arrival: Arrival,
    /// Set when the transport was dropped on its way between two cores.
    pub lost: Arc<AtomicBool>,
}

impl Pipe {
    /// Breaks the connection: a random prefix of what the client sent still arrives.
    pub fn cut(&mut self, random: &mut Prng) {
        let arriving = random.below(self.up.len() + 1);
        self.up.truncate(arriving);
        self.down.clear();
        self.client_closed = true;
        self.broken = true;
    }

    /// The client reads at most `most` bytes.
    pub fn read(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.down.len());
        self.down.drain(..count).collect()
    }

    /// Whether the client has read everything that will ever come.
    pub fn is_finished(&self) -> bool {
        self.broken || self.broker_closed && self.down.is_empty()
    }
}

/// What travels with a connection that is handed to another core.
pub struct Transport {
    /// Which connection.
    pub pipe: PipeId,
    lost: Arc<AtomicBool>,
    arrived: bool,
}

impl Transport {
    /// Detaches a pipe.
    pub fn new(pipe: PipeId, lost: &Arc<AtomicBool>) -> Transport {
        Transport { pipe, lost: Arc::clone(lost), arrived: false }
    }

    /// The other core has it.
    pub fn arrive(mut self) -> PipeId {
        self.arrived = true;
        self.pipe
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if !self.arrived {
            self.lost.store(true, Ordering::Relaxed);
        }
    }
}
