//! What clients do on a whim, at random: take their own connection over, unsubscribe for a moment.
//!
//! Invariants worth naming:
//! * equal seeds give equal times; a client that is not ready when its time comes lets it pass;
//! * the old connection stays open until the broker ends it, and what still comes there is not
//!   looked at: it was never acknowledged, so the session sends it again;
//! * a flow is due to a client until it unsubscribes, and again from its SUBACK on: what is under
//!   way around these moments may come or not.

use super::client::State;
use super::control::Phase;
use super::core::Core;
use crate::scenario::Group;
use corelane::base::{PacketId, Prng};
use corelane::codec::UnsubscribeOut;
use corelane::net::SocketKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Filters in one UNSUBSCRIBE, at most.
const FILTERS_PER_PACKET: usize = 64;

/// What a client may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Whim {
    /// Connect again while the old connection lives.
    TakeOver,
    /// Unsubscribe from everything, then subscribe again.
    Unsubscribe,
}

impl Whim {
    /// Mean distance, nanoseconds; 0 is never.
    fn every_ns(self, group: &Group) -> f64 {
        1e9 * match self {
            Whim::TakeOver => group.takeover_every_s,
            Whim::Unsubscribe => group.unsubscribe_every_s,
        }
    }
}

/// The times to come of one thread's clients.
pub struct Whims {
    prng: Prng,
    known: bool,
    due: BinaryHeap<Reverse<(u64, u32, Whim)>>,
}

impl Whims {
    /// None before the window is known.
    pub fn new(seed: u64) -> Whims {
        Whims { prng: Prng::new(seed), known: false, due: BinaryHeap::new() }
    }

    /// Draws the next time: the distances are those of independent events.
    fn next(&mut self, now_ns: u64, index: u32, whim: Whim, group: &Group) {
        let every_ns = whim.every_ns(group);
        if every_ns > 0.0 {
            let share = (1 + self.prng.below(1 << 20)) as f64 / (1 << 20) as f64;
            let distance = (every_ns * -share.ln()).max(1e6) as u64;
            self.due.push(Reverse((now_ns + distance, index, whim)));
        }
    }
}

impl Core {
    /// Lets clients do what has come over them, inside the window.
    pub fn indulge(&mut self, now_ns: u64) {
        if self.phase != Phase::Load || now_ns < self.begin_ns || now_ns >= self.end_ns {
            return;
        }
        if !std::mem::replace(&mut self.whims.known, true) {
            for (index, client) in self.clients.iter().enumerate() {
                let group = &self.shared.scenario.groups[client.group];
                for whim in [Whim::TakeOver, Whim::Unsubscribe] {
                    self.whims.next(now_ns, index as u32, whim, group);
                }
            }
        }
        while let Some(Reverse((due, index, whim))) = self.whims.due.peek().copied() {
            if due > now_ns {
                return;
            }
            self.whims.due.pop();
            if self.clients[index as usize].state == State::Ready {
                match whim {
                    Whim::TakeOver => self.take_over(index, now_ns),
                    Whim::Unsubscribe => self.unsubscribe(index),
                }
            }
            let group = &self.shared.scenario.groups[self.clients[index as usize].group];
            self.whims.next(now_ns, index, whim, group);
        }
    }

    /// A client leaves its connection to the broker to end, and makes another one.
    fn take_over(&mut self, index: u32, now_ns: u64) {
        let lanes = self.clients.len() as u32;
        let client = &mut self.clients[index as usize];
        if client.old.is_some() {
            return;
        }
        client.old = Some(client.key(index));
        client.lane = lanes - client.lane;
        client.generation += 1;
        client.state = State::Absent;
        client.parked = client.is_open_loop();
        self.tally.ready -= 1;
        self.tally.away += 1;
        self.tally.old += 1;
        self.tally.takeovers += 1;
        self.queues[client.group].waiting.push_back((now_ns, index));
    }

    /// Whether a socket is one that was taken over.
    pub fn is_old(&self, key: SocketKey) -> bool {
        self.clients[self.index(key) as usize].old == Some(key)
    }

    /// The client of a socket.
    pub fn index(&self, key: SocketKey) -> u32 {
        key.index % self.clients.len() as u32
    }

    /// The broker has ended a connection that was taken over, and its socket is gone.
    pub fn outlived(&mut self, key: SocketKey) {
        let index = self.index(key);
        self.clients[index as usize].old = None;
        self.tally.old -= 1;
    }

    fn unsubscribe(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let filters = &self.shared.plan.clients[client.member].filters;
        let mut packets = 0u16;
        for some in filters.chunks(FILTERS_PER_PACKET) {
            packets = packets.wrapping_add(1).max(1);
            let packet_id = PacketId::new(packets).expect("identifiers start at 1");
            let filters: Vec<&str> = some.iter().map(String::as_str).collect();
            UnsubscribeOut { packet_id, filters: &filters }
                .encode(client.greeting.version, &mut client.out);
        }
        client.silent = true;
        client.state = State::Subscribing(usize::from(packets));
        self.queues[client.group].underway += 1;
        self.tally.ready -= 1;
        self.tally.away += 1;
        self.tally.unsubscribes += 1;
        self.hear(index, false);
        self.mark(index);
    }

    /// What a client subscribes to is due to it from now on, or no longer.
    pub fn hear(&mut self, index: u32, heard: bool) {
        let Core { shared, clients, .. } = self;
        let Some(receiver) = &mut clients[index as usize].receiver else { return };
        for at in 0..receiver.streams.len() as u32 {
            receiver.hear(shared, at, heard);
        }
    }
}
