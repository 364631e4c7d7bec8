//! The stage without sockets: shards under virtual time.

use crate::play::{Cut, Seen, Stage, from_bytes};
use corelane::access::{Policy, Users};
use corelane::base::Time;
use corelane::config;
use corelane::mesh::{self, MeshSettings};
use corelane::shard::{Command, ConnectionKey, Settings, Shard};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Line {
    at: usize,
    key: ConnectionKey,
    received: Vec<u8>,
    closed: bool,
}

pub struct Bench {
    shards: Vec<Shard>,
    lines: BTreeMap<String, Line>,
    opened: usize,
    now: Time,
    users: Option<Users>,
}

/// The users of the vectors that have a password file.
fn users() -> Users {
    Users::parse(include_str!("../data/users.txt")).expect("a valid file")
}

/// Rounds without any movement after which all is said.
const QUIET: usize = 3;
/// The place of a connection between two shards.
const ON_ITS_WAY: usize = usize::MAX;
const STEP_US: u64 = 500_000;

impl Bench {
    /// Shards with the configuration `text`.
    pub fn new(count: usize, text: &str) -> Bench {
        let now = Time(1_000_000);
        let config = config::parse(text).unwrap_or_else(|faults| panic!("{faults:?} in {text}"));
        let users = config.access.password_file.given().map(|_| users());
        let policy = Policy { asks: [users.is_some()].into(), ..Policy::default() };
        let settings = Settings::configured(&config, count, [1, 2]);
        let settings = Settings { policy: Arc::new(policy), ..settings };
        let ends = mesh::build(count, MeshSettings::default());
        let shard = |end| Shard::new(settings.clone(), end, now);
        let shards = ends.into_iter().map(shard).collect();
        Bench { shards, lines: BTreeMap::new(), opened: 0, now, users }
    }

    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET {
            let mut moved = false;
            for at in 0..self.shards.len() {
                self.shards[at].begin(self.now);
                moved |= self.shards[at].tick();
                moved |= self.carry_out(at);
            }
            quiet = if moved { 0 } else { quiet + 1 };
        }
    }

    fn carry_out(&mut self, at: usize) -> bool {
        let (mut moved, mut arrived) = (false, Vec::new());
        let shard = &mut self.shards[at];
        let mut closing = Vec::new();
        while let Some(command) = shard.next_command() {
            moved = true;
            match command {
                Command::HandOver(key) => {
                    let mut lines = self.lines.iter_mut();
                    let (name, line) = lines
                        .find(|(_, line)| (line.at, line.key) == (at, key))
                        .expect("a connection of ours");
                    line.at = ON_ITS_WAY;
                    shard.hand_over(key, Box::new(name.clone()));
                }
                Command::Adopt(key, name) => {
                    arrived.push((key, name.downcast::<String>().expect("what was carried")));
                }
                Command::Judge(key, credentials) => {
                    let users = self.users.as_ref().expect("nobody else is asked");
                    let step = credentials.step.as_ref().expect("vectors show no passwords");
                    shard.judged(key, users.step(step, "nonce"));
                }
                Command::Close(key) => closing.push(key),
                _ => {}
            }
        }
        for (key, name) in arrived {
            let line = self.lines.get_mut(&*name).expect("a connection of ours");
            (line.at, line.key) = (at, key);
        }
        while let Some(key) = shard.next_output() {
            moved = true;
            while let Some(out) = shard.take_output(key) {
                let mut lines = self.lines.values_mut();
                if let Some(line) = lines.find(|l| (l.at, l.key) == (at, key)) {
                    line.received.extend_from_slice(&out);
                }
                shard.sent(key, out);
            }
        }
        for key in closing {
            let mut lines = self.lines.values_mut();
            if let Some(line) = lines.find(|l| (l.at, l.key) == (at, key)) {
                line.closed = true;
            }
            shard.released(key);
        }
        moved
    }

    fn open(&mut self, who: &str) {
        let at = self.opened % self.shards.len();
        self.opened += 1;
        self.shards[at].begin(self.now);
        let key = self.shards[at].open(0, None).expect("room in the lobby");
        let line = Line { at, key, received: Vec::new(), closed: false };
        self.lines.insert(who.to_owned(), line);
    }
}

impl Stage for Bench {
    fn send(&mut self, who: &str, bytes: &[u8], cut: Cut) {
        if !self.lines.contains_key(who) {
            self.open(who);
        }
        let piece = if cut == Cut::Split { 1 } else { bytes.len() };
        for piece in bytes.chunks(piece) {
            let line = &self.lines[who];
            if line.closed {
                return;
            }
            self.shards[line.at].begin(self.now);
            self.shards[line.at].receive(line.key, piece);
            self.settle();
        }
    }

    fn next(&mut self, who: &str) -> Seen {
        let line = self.lines.get_mut(who).expect("it was opened");
        from_bytes(&mut line.received, line.closed)
    }

    fn silent(&mut self, who: &str) -> bool {
        self.lines.get(who).is_none_or(|line| line.received.is_empty())
    }

    fn hang_up(&mut self, who: &str) {
        let line = self.lines.remove(who).expect("it was opened");
        self.shards[line.at].begin(self.now);
        self.shards[line.at].end_of_input(line.key);
        self.settle();
    }

    fn wait(&mut self, seconds: u64) {
        let end = self.now.plus_secs(seconds);
        while self.now < end {
            let step = STEP_US.max((end.0 - self.now.0) / 200);
            self.now = Time((self.now.0 + step).min(end.0));
            self.settle();
        }
    }

    fn within(&mut self, seconds: u64) {
        self.wait(seconds);
    }
}
