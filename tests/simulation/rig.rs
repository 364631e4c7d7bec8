//! Shards with a network that takes everything at once: for directed tests, where the order of
//! things is the test's choice and not a seed's.
//!
//! Lines are connections from the client's side; they keep their name while a shard hands them to
//! another one.

use corelane::base::Time;
use corelane::codec::{self, Packet, Version};
use corelane::mesh::{self, MeshSettings};
use corelane::shard::{Command, ConnectionKey, Settings, Shard};
use std::collections::HashMap;

/// Names a line; never reused within a rig.
pub type LineId = usize;

/// Turns without an end are a fault.
const LONGEST_SETTLING: usize = 100_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    /// Its shard is about to hand it over, or has not asked for more.
    Nothing,
    Once,
    Stream,
    Paused,
}

/// One connection.
pub struct Line {
    /// Its shard and what that calls it; nothing once it is closed, or on its way.
    pub place: Option<(usize, ConnectionKey)>,
    /// Segments that the network holds.
    up: Vec<Vec<u8>>,
    reading: Reading,
    /// Its client reads nothing.
    pub deaf: bool,
    /// Everything that its client got.
    pub down: Vec<u8>,
    /// The broker has closed it.
    pub closed: bool,
}

/// Shards and lines.
pub struct Rig {
    /// The shards.
    pub shards: Vec<Shard>,
    /// The time; the test moves it.
    pub now: Time,
    /// All lines there ever were.
    pub lines: Vec<Line>,
    names: HashMap<(usize, u64), LineId>,
    /// Lines with segments that nobody reads yet.
    held: Vec<LineId>,
    /// Lines that got bytes or were closed since somebody last looked.
    pub news: Vec<LineId>,
}

impl Rig {
    /// Shards for `settings`.
    pub fn new(settings: &Settings, mesh: MeshSettings) -> Rig {
        let now = Time::from_secs(1);
        let ends = mesh::build(settings.placement.shards(), mesh).into_iter();
        let shards = ends.map(|end| Shard::new(settings.clone(), end, now)).collect();
        let (lines, names) = (Vec::new(), HashMap::new());
        Rig { shards, now, lines, names, held: Vec::new(), news: Vec::new() }
    }

    /// A connection arrives at shard `at` with its first segment.
    pub fn open(&mut self, at: usize, bytes: &[u8]) -> LineId {
        let line = self.lines.len();
        self.shards[at].begin(self.now);
        let key = self.shards[at].open(0, None).expect("the lobby has room");
        self.names.insert((at, key.to_bits()), line);
        let (place, reading) = (Some((at, key)), Reading::Once);
        let (up, down) = (Vec::new(), Vec::new());
        self.lines.push(Line { place, up, reading, deaf: false, down, closed: false });
        self.send(line, bytes);
        line
    }

    /// The client sends one segment.
    pub fn send(&mut self, line: LineId, bytes: &[u8]) {
        self.lines[line].up.push(bytes.to_vec());
        self.pump(line);
    }

    /// The client's next segment arrives within the turn that its shard has begun: unlike
    /// [`Rig::send`], this leaves the turn's budgets as they are. The line must be read.
    pub fn feed(&mut self, line: LineId, bytes: &[u8]) {
        assert!(self.is_read(line), "nobody reads the line");
        let (at, key) = self.lines[line].place.expect("lines that are read have a place");
        self.shards[at].receive(key, bytes);
        self.obey(at);
    }

    /// Whether the broker takes what the client sends.
    pub fn is_read(&self, line: LineId) -> bool {
        let line = &self.lines[line];
        line.place.is_some() && !matches!(line.reading, Reading::Nothing | Reading::Paused)
    }

    /// The client closes its connection without a word.
    pub fn hang_up(&mut self, line: LineId) {
        if let Some((at, key)) = self.lines[line].place {
            self.shards[at].begin(self.now);
            self.shards[at].end_of_input(key);
        }
    }

    /// The client of a deaf line reads again.
    pub fn hear(&mut self, line: LineId) {
        self.lines[line].deaf = false;
        if let Some((at, key)) = self.lines[line].place {
            self.shards[at].begin(self.now);
            self.take(at, key);
        }
    }

    fn pump(&mut self, line: LineId) {
        loop {
            let own = &mut self.lines[line];
            let Some((at, key)) = own.place else {
                if !own.closed {
                    self.held.push(line);
                }
                return;
            };
            if own.up.is_empty() {
                return;
            }
            if matches!(own.reading, Reading::Nothing | Reading::Paused) {
                return self.held.push(line);
            }
            let segment = own.up.remove(0);
            if own.reading == Reading::Once {
                own.reading = Reading::Nothing;
            }
            self.shards[at].begin(self.now);
            self.shards[at].receive(key, &segment);
            self.obey(at);
        }
    }

    fn obey(&mut self, at: usize) {
        while let Some(command) = self.shards[at].next_command() {
            match command {
                Command::Established(key) | Command::Resume(key) => {
                    self.read(at, key, Reading::Stream);
                }
                Command::ReadMore(key) => self.read(at, key, Reading::Once),
                Command::Pause(key) => self.read(at, key, Reading::Paused),
                Command::Close(key) => self.close(at, key),
                Command::Judge(..) => unreachable!("nobody is asked for a password"),
                Command::Measure => {}
                Command::HandOver(key) => {
                    let name = self.names.remove(&(at, key.to_bits()));
                    let line = name.expect("only lines are handed over");
                    self.lines[line].place = None;
                    self.shards[at].hand_over(key, Box::new(line));
                }
                Command::Adopt(key, carried) => {
                    let line = *carried.downcast::<LineId>().expect("lines are carried");
                    self.names.insert((at, key.to_bits()), line);
                    self.lines[line].place = Some((at, key));
                    self.lines[line].reading = Reading::Nothing;
                }
            }
        }
    }

    fn read(&mut self, at: usize, key: ConnectionKey, reading: Reading) {
        if let Some(line) = self.names.get(&(at, key.to_bits())).copied() {
            self.lines[line].reading = reading;
        }
    }

    fn close(&mut self, at: usize, key: ConnectionKey) {
        self.take(at, key);
        // One that was handed over ends here too.
        if let Some(line) = self.names.remove(&(at, key.to_bits())) {
            self.lines[line].place = None;
            self.lines[line].closed = true;
            self.news.push(line);
        }
        self.shards[at].released(key);
    }

    fn take(&mut self, at: usize, key: ConnectionKey) {
        let line = self.names.get(&(at, key.to_bits()));
        if line.is_some_and(|line| self.lines[*line].deaf) {
            return;
        }
        while let Some(buffer) = self.shards[at].take_output(key) {
            if let Some(line) = self.names.get(&(at, key.to_bits())) {
                self.lines[*line].down.extend_from_slice(&buffer);
                self.news.push(*line);
            }
            self.shards[at].sent(key, buffer);
        }
    }

    /// One turn of one shard, without time passing; true when it has more to do.
    pub fn turn(&mut self, at: usize) -> bool {
        self.shards[at].begin(self.now);
        let more = self.shards[at].tick();
        self.obey(at);
        let before = self.news.len();
        while let Some(key) = self.shards[at].next_output() {
            self.take(at, key);
        }
        more || self.news.len() > before || self.shards[at].next_deadline() <= self.now
    }

    /// One turn of every shard, then what the network holds goes on; true while anything moves.
    pub fn turn_all(&mut self) -> bool {
        let mut busy = false;
        for at in 0..self.shards.len() {
            busy |= self.turn(at);
        }
        for line in std::mem::take(&mut self.held) {
            let before = self.lines[line].up.len();
            self.pump(line);
            busy |= self.lines[line].up.len() < before;
        }
        busy
    }

    /// Turns all shards until none has anything left to do and no bytes move.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..LONGEST_SETTLING {
            let mut busy = self.turn_all();
            // One that has nothing to do may have rung another one that had its turn.
            for shard in &self.shards {
                busy |= !shard.bell().fall_asleep();
                shard.bell().wake_up();
            }
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet > 3 {
                return;
            }
        }
        panic!("the rig does not come to rest");
    }

    /// Moves the time by `us` microseconds and lets everything settle.
    pub fn wait_us(&mut self, us: u64) {
        self.now = Time(self.now.0 + us);
        self.settle();
    }

    /// Calls `each` for every line that got something since somebody last looked.
    pub fn each_news(&mut self, mut each: impl FnMut(LineId, &[u8])) {
        for line in std::mem::take(&mut self.news) {
            let bytes = self.got(line);
            if !bytes.is_empty() {
                each(line, &bytes);
            }
        }
    }

    /// Everything that the client of `line` got since this was last asked.
    pub fn got(&mut self, line: LineId) -> Vec<u8> {
        std::mem::take(&mut self.lines[line].down)
    }
}

/// Calls `each` for each packet of `bytes`, which must be whole; gives its length too.
pub fn packets(mut bytes: &[u8], version: Version, mut each: impl FnMut(Packet<'_>, usize)) {
    while let Some(frame) = codec::frame(bytes, usize::MAX).expect("well formed") {
        each(codec::decode(&frame, version).expect("a valid packet"), frame.len);
        bytes = &bytes[frame.len..];
    }
    assert!(bytes.is_empty(), "half a packet: {bytes:?}");
}
