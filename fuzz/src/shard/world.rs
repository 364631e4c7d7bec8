//! Two shards, the pipes to their clients, and what a shell does between them.

use super::view::{Histories, View};
use corelane::access::Verdict;
use corelane::base::{Chunk, Time};
use corelane::codec::Version;
use corelane::mesh::{self, MeshSettings};
use corelane::shard::{Command, ConnectionKey, Settings, Shard};
use std::sync::{Arc, Weak};

/// Shards of the world.
pub const SHARDS: usize = 2;
/// Rounds within which everything must come to rest.
const LONGEST_REST: usize = 3_000;
/// Microseconds for which a closing connection may go on sending.
const LINGER: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Nothing,
    Once,
    Stream,
}

/// One connection: its client's side, its pipe and its socket.
pub struct Link {
    serial: usize,
    core: usize,
    key: ConnectionKey,
    /// What the client speaks.
    pub version: Version,
    /// Bytes on their way to the broker.
    up: Vec<u8>,
    /// Largest piece in which they arrive.
    pub piece: usize,
    /// The client does not read.
    pub lazy: bool,
    /// Position and value of a byte that the next packet has instead of its own.
    pub mangle: Option<(u8, u8)>,
    /// What client and broker said.
    pub view: View,
    reading: Reading,
    paused: bool,
    left: bool,
    told: bool,
    sending: Option<Chunk>,
    closing: Option<Time>,
    /// While it travels from one core to the other; gone when it was dropped on its way.
    travelling: Option<Weak<usize>>,
}

impl Link {
    /// Queues a packet of the client.
    pub fn write(&mut self, mut packet: Vec<u8>) {
        if packet.is_empty() || self.left {
            return;
        }
        if let Some((at, byte)) = self.mangle.take() {
            let at = usize::from(at) % packet.len();
            packet[at] = byte;
        }
        self.up.extend(packet);
    }

    /// The client closes, with or without what is still on its way.
    pub fn leave(&mut self, at_once: bool) {
        self.left = true;
        if at_once {
            self.up.clear();
        }
    }

    fn is_readable(&self) -> bool {
        self.reading != Reading::Nothing && !self.paused && self.closing.is_none() && !self.told
    }
}

/// Everything of one run.
pub struct World {
    shards: Vec<Shard>,
    /// Connections that stand.
    pub links: Vec<Link>,
    /// What is known of sessions and messages.
    histories: Histories,
    /// The time.
    pub now: Time,
    /// Numbers payloads.
    pub serial: u32,
    opened: usize,
    retained_most: usize,
}

impl World {
    /// A world without clients.
    pub fn new((settings, sizes): (Settings, MeshSettings)) -> World {
        let now = Time(1_000_000);
        let histories = Histories::new(&settings);
        let retained_most = settings.limits.retained_messages;
        let ends = mesh::build(SHARDS, sizes);
        let shards = ends.into_iter().map(|end| Shard::new(settings.clone(), end, now)).collect();
        World { shards, links: Vec::new(), histories, now, serial: 0, opened: 0, retained_most }
    }

    /// A new connection on `core`, unless that is refused.
    pub fn open(&mut self, core: usize, version: Version) -> Option<Link> {
        self.shards[core].begin(self.now);
        let key = self.shards[core].open(0, None)?;
        self.opened += 1;
        Some(Link {
            serial: self.opened,
            core,
            key,
            version,
            up: Vec::new(),
            piece: 100_000,
            lazy: false,
            mangle: None,
            view: View::new(self.opened),
            reading: Reading::Once,
            paused: false,
            left: false,
            told: false,
            sending: None,
            closing: None,
            travelling: None,
        })
    }

    /// Lets both cores turn `rounds` times.
    pub fn settle(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.now.0 += 1000;
            for core in 0..SHARDS {
                self.turn(core);
            }
        }
    }

    /// One turn of a core's loop.
    pub fn turn(&mut self, core: usize) {
        self.shards[core].begin(self.now);
        for at in (0..self.links.len()).rev() {
            if self.links[at].core == core && self.links[at].travelling.is_none() {
                self.receive(at);
                self.send(at);
            }
        }
        self.shards[core].tick();
        while let Some(command) = self.shards[core].next_command() {
            self.carry_out(core, command);
        }
        while let Some(key) = self.shards[core].next_output() {
            match self.position(core, key) {
                Some(at) => self.flush(at),
                None => assert!(self.shards[core].take_output(key).is_none(), "output of nobody"),
            }
        }
        for at in (0..self.links.len()).rev() {
            let link = &self.links[at];
            let lost = link.travelling.as_ref().is_some_and(|way| way.strong_count() == 0);
            let overdue = link.closing.is_some_and(|end| end <= self.now);
            if lost {
                self.forget(at);
            } else if overdue && link.core == core {
                self.close(at, true);
            }
        }
        assert!(self.shards[core].retained_count() <= self.retained_most, "too many retained");
    }

    fn position(&self, core: usize, key: ConnectionKey) -> Option<usize> {
        let here = |link: &Link| link.core == core && link.key == key && link.travelling.is_none();
        self.links.iter().position(here)
    }

    fn receive(&mut self, at: usize) {
        let link = &mut self.links[at];
        if !link.is_readable() {
            return;
        }
        let shard = &mut self.shards[link.core];
        if link.up.is_empty() {
            if link.left {
                link.told = true;
                shard.end_of_input(link.key);
            }
            return;
        }
        let piece: Vec<u8> = link.up.drain(..link.piece.min(link.up.len())).collect();
        if link.reading == Reading::Once {
            link.reading = Reading::Nothing;
        }
        link.view.sent(&piece, &mut self.histories);
        shard.receive(link.key, &piece);
    }

    /// The client takes what was sent, unless it is lazy.
    fn send(&mut self, at: usize) {
        let link = &mut self.links[at];
        if link.lazy {
            return;
        }
        let Some(buffer) = link.sending.take() else { return };
        link.view.received(&buffer, &mut self.histories);
        let more = self.shards[link.core].sent(link.key, buffer);
        if more || self.links[at].closing.is_some() {
            self.flush(at);
        }
    }

    fn carry_out(&mut self, core: usize, command: Command) {
        let key = match &command {
            Command::Adopt(..) | Command::Measure => None,
            Command::Established(key) | Command::ReadMore(key) | Command::Pause(key) => Some(*key),
            Command::Resume(key) | Command::Close(key) | Command::HandOver(key) => Some(*key),
            Command::Judge(key, _) => Some(*key),
        };
        let at = key.and_then(|key| self.position(core, key));
        match (command, at) {
            (Command::Adopt(key, carried), _) => self.adopt(core, key, carried),
            (Command::Close(key), None) => self.shards[core].released(key),
            (_, None) | (Command::Measure, _) => {}
            (Command::Established(_), Some(at)) => self.links[at].reading = Reading::Stream,
            (Command::ReadMore(_), Some(at)) => self.links[at].reading = Reading::Once,
            (Command::Pause(_), Some(at)) => self.links[at].paused = true,
            (Command::Resume(_), Some(at)) => self.links[at].paused = false,
            (Command::Close(_), Some(at)) => {
                self.links[at].closing = Some(Time(self.now.0 + LINGER));
                self.flush(at);
            }
            (Command::Judge(key, _), Some(_)) => {
                self.shards[core].judged(key, Verdict::Unavailable);
            }
            (Command::HandOver(key), Some(at)) => {
                let link = &mut self.links[at];
                assert!(link.sending.is_none(), "output in the lobby");
                let ticket = Arc::new(link.serial);
                link.travelling = Some(Arc::downgrade(&ticket));
                self.shards[core].hand_over(key, Box::new(ticket));
            }
        }
    }

    fn adopt(&mut self, core: usize, key: ConnectionKey, carried: mesh::Carried) {
        let ticket = carried.downcast::<Arc<usize>>().expect("only tickets are carried");
        let at = self.links.iter().position(|link| link.serial == **ticket);
        let link = &mut self.links[at.expect("links wait for their arrival")];
        (link.core, link.key, link.travelling) = (core, key, None);
        link.reading = Reading::Nothing;
    }

    fn flush(&mut self, at: usize) {
        let link = &mut self.links[at];
        if link.sending.is_some() {
            return;
        }
        match self.shards[link.core].take_output(link.key) {
            Some(buffer) => link.sending = Some(buffer),
            None if link.closing.is_some() => self.close(at, false),
            None => {}
        }
    }

    fn close(&mut self, at: usize, hurried: bool) {
        let link = &mut self.links[at];
        let (core, key) = (link.core, link.key);
        if let Some(buffer) = link.sending.take() {
            self.shards[core].sent(key, buffer);
        }
        if !hurried {
            self.links[at].view.ended();
        }
        self.shards[core].released(key);
        assert!(self.shards[core].take_output(key).is_none(), "a closed connection speaks");
        self.forget(at);
    }

    fn forget(&mut self, at: usize) {
        let link = self.links.remove(at);
        link.view.gone(&mut self.histories);
    }

    /// Everybody reads and answers until nothing moves, then all leave, then all sessions end.
    pub fn finish(mut self) {
        for link in &mut self.links {
            (link.lazy, link.piece) = (false, 100_000);
        }
        self.rest();
        for shard in &self.shards {
            assert_eq!(shard.waiting_count(), 0, "somebody waits: {:?}", shard.waiting_for());
        }
        for link in &self.links {
            if link.closing.is_none() && link.up.is_empty() && link.travelling.is_none() {
                link.view.answered();
            }
        }
        for link in &mut self.links {
            link.leave(true);
        }
        self.rest();
        assert!(self.links.is_empty(), "{} links stay", self.links.len());
        for _ in 0..2 {
            self.now.0 += 110_000_000_000;
            self.rest();
        }
        for shard in &self.shards {
            assert_eq!((shard.connection_count(), shard.session_count()), (0, 0));
            let counters = shard.counters();
            assert_eq!(counters.sessions_created, counters.sessions_ended);
        }
        if self.shards.iter().all(|shard| shard.retained_count() == 0) {
            let held: Vec<usize> = self.shards.iter().map(Shard::held_bytes).collect();
            assert_eq!(held, [0; SHARDS], "bytes held for nobody");
        }
    }

    /// Turns until the shards and the pipes have been still for a while.
    fn rest(&mut self) {
        let mut quiet = 0;
        for _ in 0..LONGEST_REST {
            let before = self.activity();
            self.now.0 += 3000;
            self.settle(1);
            for link in &mut self.links {
                let mut replies = Vec::new();
                link.view.reply(usize::MAX, &mut replies);
                link.write(replies);
            }
            quiet = if self.activity() == before { quiet + 1 } else { 0 };
            // Longer than relief of memory pauses, and than a scan for retained messages that finds
            // none; no closing connection lingers.
            if quiet > 20 && self.links.iter().all(|link| link.closing.is_none()) {
                return;
            }
        }
        let waits: Vec<_> = self.shards.iter().map(Shard::waiting_for).collect();
        panic!("no rest: {waits:?}, {} links", self.links.len());
    }

    /// Changes whenever anything happens.
    fn activity(&self) -> (usize, u64) {
        let counts = self.shards.iter().map(|shard| {
            let counters = shard.counters();
            let traffic = counters.bytes_received + counters.bytes_sent + counters.wills;
            let forwarded = counters.forwarded + counters.delivered_remote + counters.stalls;
            let told = counters.retained_replayed + counters.deliveries + counters.dropped_total();
            let held = shard.connection_count() + shard.session_count() + shard.held_bytes();
            traffic + forwarded + told + counters.messages_accepted + held as u64
        });
        (self.links.iter().map(|link| link.up.len()).sum(), counts.sum())
    }
}
