//! The stage with sockets: the built binary with two shards on a free loopback port.
//!
//! Invariants worth naming: vectors of one configuration share a broker, and every run of a vector
//! has a tag of its own in its topics and client identifiers; silence is proven by a PINGRESP that
//! comes next.

use crate::notation::Version;
use crate::play::{Cut, Seen, Stage, from_bytes, play};
use crate::script::Vector;
use crate::{CUTS, guarded, verdict};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ANSWER: Duration = Duration::from_secs(5);
const WORKERS: usize = 16;

struct Broker {
    address: SocketAddr,
    process: Child,
}

impl Broker {
    /// Starts a broker with the configuration that `config` gives for an address.
    fn start(config: impl FnOnce(&str) -> String) -> Broker {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let path = std::env::temp_dir().join(format!("corelane-vectors-{}", address.port()));
        let users = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/users.txt");
        let config = config(&address.to_string()).replace("users.txt", users);
        std::fs::write(&path, config).expect("a file can be written");
        let process = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["--shards", "2", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut broker = Broker { address, process };
        let deadline = Instant::now() + ANSWER * 2;
        while TcpStream::connect(address).is_err() {
            let ended = broker.process.try_wait().expect("our own child");
            assert!(ended.is_none(), "the broker ended: {ended:?}");
            assert!(Instant::now() < deadline, "the broker does not listen on {address}");
            std::thread::yield_now();
        }
        std::fs::remove_file(&path).expect("written above");
        broker
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().expect("our own child");
        self.process.wait().expect("our own child");
    }
}

struct Line {
    stream: TcpStream,
    received: Vec<u8>,
    closed: bool,
}

impl Line {
    /// Reads once; false when nothing came in time.
    fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => self.closed = true,
            Ok(count) => self.received.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => self.closed = true,
        }
        true
    }
}

struct Sockets {
    address: SocketAddr,
    lines: BTreeMap<String, Line>,
}

impl Stage for Sockets {
    fn send(&mut self, who: &str, bytes: &[u8], cut: Cut) {
        if !self.lines.contains_key(who) {
            let stream = TcpStream::connect(self.address).expect("the broker listens");
            stream.set_nodelay(true).expect("a TCP socket");
            stream.set_read_timeout(Some(ANSWER)).expect("a TCP socket");
            let line = Line { stream, received: Vec::new(), closed: false };
            self.lines.insert(who.to_owned(), line);
        }
        let line = self.lines.get_mut(who).expect("just opened");
        let piece = if cut == Cut::Split { 1 } else { bytes.len() };
        for piece in bytes.chunks(piece) {
            // A broker that has seen enough closes before the rest is sent.
            if line.stream.write_all(piece).is_err() {
                return;
            }
        }
    }

    fn next(&mut self, who: &str) -> Seen {
        let line = self.lines.get_mut(who).expect("it was opened");
        loop {
            let seen = from_bytes(&mut line.received, line.closed);
            if seen != Seen::Nothing || !line.read() {
                return seen;
            }
        }
    }

    fn silent(&mut self, who: &str) -> bool {
        let Some(line) = self.lines.get_mut(who) else { return true };
        if line.closed {
            return line.received.is_empty();
        }
        if line.stream.write_all(&[0xc0, 0]).is_err() {
            return line.received.is_empty();
        }
        while line.received.len() < 2 && !line.closed && line.read() {}
        let quiet = line.closed && line.received.is_empty() || line.received == [0xd0, 0];
        if quiet {
            line.received.clear();
        }
        quiet
    }

    fn hang_up(&mut self, who: &str) {
        self.lines.remove(who);
    }

    fn wait(&mut self, _seconds: u64) {
        unreachable!("vectors with time are not played live");
    }

    fn within(&mut self, seconds: u64) {
        assert!(Duration::from_secs(seconds) < ANSWER, "reading waits no longer than {ANSWER:?}");
    }
}

/// Why a vector is not played over sockets.
pub fn not_live(vector: &Vector) -> Option<&'static str> {
    if vector.waits() {
        return Some("needs virtual time");
    }
    vector.pending.is_some().then_some("pending")
}

/// What one worker plays at a time: a vector in one version and cut, or in all of them one after
/// the other where it has its broker for itself.
struct Turn<'v> {
    address: SocketAddr,
    vector: &'v Vector,
    runs: Vec<(Version, Cut)>,
}

impl Turn<'_> {
    fn split(address: SocketAddr, vector: &Vector) -> Vec<Turn<'_>> {
        let versions = vector.versions.iter();
        let runs: Vec<_> = versions.flat_map(|version| CUTS.map(|cut| (*version, cut))).collect();
        let turn = |runs: &[_]| Turn { address, vector, runs: runs.to_vec() };
        runs.chunks(if vector.alone { runs.len() } else { 1 }).map(turn).collect()
    }

    fn play(&self) -> Option<String> {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let mut failures = Vec::new();
        for (version, cut) in &self.runs {
            let tag = format!("r{:05}", RUNS.fetch_add(1, Ordering::Relaxed));
            let mut stage = Sockets { address: self.address, lines: BTreeMap::new() };
            let run = || play(&mut stage, self.vector, *version, *cut, &tag);
            if let Err(what) = guarded(run) {
                failures.push(format!("{} {version:?} live {cut:?}: {what}", self.vector.name));
            }
        }
        verdict(self.vector, failures)
    }
}

/// Plays all vectors that can be played; returns what failed.
pub fn run(vectors: &[Vector]) -> Vec<String> {
    let mut groups: BTreeMap<(String, &str), Vec<&Vector>> = BTreeMap::new();
    for vector in vectors.iter().filter(|vector| not_live(vector).is_none()) {
        let own = if vector.alone { vector.name.as_str() } else { "" };
        groups.entry((vector.config(""), own)).or_default().push(vector);
    }
    // All before the first connection: its own port might be one that was found free.
    let groups: Vec<(Broker, Vec<&Vector>)> = groups
        .into_values()
        .map(|group| (Broker::start(|address| group[0].config(address)), group))
        .collect();
    let mut turns = Vec::new();
    for (broker, group) in &groups {
        turns.extend(group.iter().flat_map(|vector| Turn::split(broker.address, vector)));
    }
    // Those that mostly wait come first, so that the others go on beside them.
    turns.sort_by_key(|turn| !turn.vector.takes_seconds());
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    let work = || {
        while let Some(turn) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(fault) = turn.play() {
                faults.lock().expect("no worker panics").push(fault);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    faults.into_inner().expect("no worker panics")
}
