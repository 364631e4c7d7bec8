//! One connection: where it stands, what waits to be sent, and what it is for.

use super::core::Shared;
use super::player::Player;
use super::publisher::Publisher;
use crate::layer::Layer;
use crate::plan::Member;
use crate::traffic::Greeting;
use crate::truth::Stream;
use corelane::net::SocketKey;
use std::collections::BTreeSet;
use std::mem;
use std::sync::atomic::Ordering::Relaxed;

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not there; it may wait for its turn to connect.
    Absent,
    /// CONNECT is on its way.
    Connecting,
    /// It is at the door and will not come as far as CONNECT.
    Knocking,
    /// So many SUBACKs are due; in a replay an UNSUBACK may be meant.
    Subscribing(usize),
    /// All is set.
    Ready,
    /// Its socket is closing.
    Closing,
}

/// One client of a generator thread.
pub struct Client {
    /// Its place in the plan.
    pub member: usize,
    /// Its group, by position in the scenario.
    pub group: usize,
    /// Where it stands.
    pub state: State,
    /// Tenant number of its socket.
    pub generation: u32,
    /// Which of its two places among the driver's sockets it has: 0, or the number of clients.
    pub lane: u32,
    /// The socket of the connection it has taken over, until that is gone.
    pub old: Option<SocketKey>,
    /// It has unsubscribed, and will subscribe again.
    pub silent: bool,
    /// When its connect was intended, nanoseconds of the run's clock.
    pub since_ns: u64,
    /// When it comes back after closing; never if `None`.
    pub back_ns: Option<u64>,
    /// Whether it was connected before.
    pub seen: bool,
    /// Whether it stands in the list of clients with something to send.
    pub dirty: bool,
    /// A publisher that is late because its connection was not free.
    pub parked: bool,
    /// Bytes to be sent.
    pub out: Vec<u8>,
    /// The begin of a packet whose end has not come.
    pub carry: Vec<u8>,
    /// What lies between its packets and its socket, where that is not plain TCP.
    pub layer: Option<Box<Layer>>,
    /// How it greets the broker.
    pub greeting: Greeting,
    /// What it sends.
    pub publisher: Option<Box<Publisher>>,
    /// What it receives and checks.
    pub receiver: Option<Box<Receiver>>,
    /// What it does, in a replay.
    pub player: Option<Box<Player>>,
}

impl Client {
    /// Whether it follows intended times.
    pub fn is_open_loop(&self) -> bool {
        self.player.is_some() || self.publisher.as_ref().is_some_and(|one| one.is_open())
    }

    /// What its socket is to send next; packets wait where a handshake goes on.
    #[inline]
    pub fn outgoing(&mut self) -> Vec<u8> {
        match &mut self.layer {
            None => mem::take(&mut self.out),
            Some(layer) => layer.pull(&mut self.out),
        }
    }

    /// What its socket is to send last: what waits, and the end of every layer.
    pub fn last_words(&mut self) -> Vec<u8> {
        let mut bytes = self.outgoing();
        if let Some(layer) = &mut self.layer {
            layer.close();
            bytes.append(&mut layer.pull(&mut self.out));
        }
        bytes
    }

    /// Takes a sent buffer's memory back; tells whether nothing more waits to be sent.
    #[inline]
    pub fn sent(&mut self, buffer: Vec<u8>) -> bool {
        let busy = self.publisher.is_some() || self.receiver.is_some();
        match &mut self.layer {
            None if self.out.is_empty() => {
                if busy {
                    self.out = buffer;
                }
                true
            }
            None => false,
            Some(layer) => {
                if busy {
                    layer.reuse(buffer);
                }
                self.out.is_empty() && !layer.owes()
            }
        }
    }

    /// The name of its socket in this thread's driver.
    pub fn key(&self, index: u32) -> SocketKey {
        SocketKey { index: index + self.lane, generation: self.generation }
    }
}

/// The receiving side of a client.
pub struct Receiver {
    /// Flows and audiences, by flow.
    heard: Vec<(u32, u32)>,
    /// Beside `heard`.
    pub streams: Vec<Stream>,
    /// Whether the flows are neighbours, so that a position needs no search.
    dense: bool,
    /// QoS 2: identifiers received and not released.
    pub unreleased: BTreeSet<u16>,
}

impl Receiver {
    /// Hears the flows of a client, which stand in ascending order. One that follows a script is
    /// deaf until it has subscribed.
    pub fn new(planned: &Member) -> Receiver {
        let heard = planned.heard.clone();
        let mut streams: Vec<_> = heard.iter().map(|_| Stream::default()).collect();
        streams.iter_mut().for_each(|stream| stream.deaf = planned.script.is_some());
        let dense = match (heard.first(), heard.last()) {
            (Some(first), Some(last)) => (last.0 - first.0) as usize + 1 == heard.len(),
            _ => false,
        };
        Receiver { heard, streams, dense, unreleased: BTreeSet::new() }
    }

    /// The position of a flow, and its audience.
    #[inline]
    pub fn find(&self, flow: u32) -> Option<(usize, u32)> {
        if self.dense {
            let at = flow.wrapping_sub(self.heard[0].0) as usize;
            return self.heard.get(at).map(|(_, audience)| (at, *audience));
        }
        let at = self.heard.binary_search_by_key(&flow, |(flow, _)| *flow).ok()?;
        Some((at, self.heard[at].1))
    }

    /// The flow at a position.
    pub fn flow(&self, at: u32) -> u32 {
        self.heard[at as usize].0
    }

    /// The audience at a position.
    pub fn audience(&self, at: u32) -> u32 {
        self.heard[at as usize].1
    }

    /// From now on the flow at a position is due to this client, or is not; where losses are no
    /// fault nobody keeps count.
    pub fn hear(&mut self, shared: &Shared, at: u32, heard: bool) {
        let (flow, audience) = (self.flow(at) as usize, self.audience(at) as usize);
        if shared.plan.audiences[audience].may_lose {
            return;
        }
        let stream = &mut self.streams[at as usize];
        let progress = &shared.control.progress[audience];
        if heard {
            stream.listen(shared.control.sent[flow].load(Relaxed));
            progress.store(stream.next, Relaxed);
        } else {
            stream.deaf = true;
            progress.store(u64::MAX, Relaxed);
        }
    }

    /// Audiences and streams.
    pub fn into_streams(self) -> impl Iterator<Item = (u32, Stream)> {
        self.heard.into_iter().map(|(_, audience)| audience).zip(self.streams)
    }
}
