//! The loop that drives one shape against one broker: one thread, epoll, closed loop.
//!
//! Invariants worth naming:
//! * one turn gives every publisher with credit one write, then takes what has arrived: "single"
//!   load trickles over all publishers instead of bursting on one;
//! * the engine sleeps only when no publisher may send;
//! * a run ends: every wait is bounded by the patience of its limits.

use crate::broker::Cpu;
use crate::client::{Client, Ledger, Link, Publisher, Role, Subscriber};
use crate::dial::{self, Accepted};
use crate::measure::{Latency, Limits, Moment, Outcome, Quantiles};
use crate::shape::Shape;
use crate::truth::{Faults, Pair};
use crate::wire::Connect;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::Timespec;
use rustix::io::Errno;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Bytes read at once from a connection; one buffer serves all.
const READ_LEN: usize = 256 * 1024;
/// Events taken from one wait.
const EVENTS: usize = 512;
/// Longest sleep, milliseconds.
const NAP_MS: i64 = 50;

/// Longest wait for what is outstanding after the last publication, nanoseconds.
const DRAIN_MAX_NS: u64 = 30_000_000_000;

/// Why a run ended early.
#[derive(Debug)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken(error.to_string())
    }
}

impl From<Errno> for Broken {
    fn from(error: Errno) -> Broken {
        Broken(error.to_string())
    }
}

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warmup,
    Measure,
    Drain,
    Done,
}

/// One run.
pub struct Engine {
    shape: Shape,
    limits: Limits,
    broker: Option<Cpu>,
    clients: Vec<Client>,
    ledger: Ledger,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    started: Instant,
    phase: Phase,
    sent: u64,
    begin: Moment,
    end: Moment,
    latency: Quantiles,
    progress: (u64, u64),
}

impl Engine {
    /// Connects every client of `shape`, subscribers first.
    pub fn connect(
        shape: &Shape,
        address: SocketAddr,
        limits: Limits,
        broker: Option<Cpu>,
    ) -> io::Result<Engine> {
        let ledger = Ledger {
            pairs: (0..shape.pairs()).map(|_| Pair::default()).collect(),
            received: 0,
            corrupt: 0,
            latency: Latency::new(),
        };
        let mut engine = Engine {
            shape: shape.clone(),
            limits,
            broker,
            clients: Vec::new(),
            ledger,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; READ_LEN.max(4 * shape.payload)],
            started: Instant::now(),
            phase: Phase::Warmup,
            sent: 0,
            begin: Moment::default(),
            end: Moment::default(),
            latency: Quantiles::default(),
            progress: (0, 0),
        };
        for number in 0..shape.subscribers() {
            engine.add_subscriber(address, number)?;
        }
        for number in 0..shape.publishers() {
            let accepted = engine.dial(address, "p", number)?;
            let mut shape = shape.clone();
            shape.inflight = shape.inflight.min(usize::from(accepted.receive_maximum).max(1));
            engine.add(
                Link::new(accepted.stream)?,
                Role::Publisher(Box::new(Publisher::new(&shape, number))),
            )?;
        }
        Ok(engine)
    }

    fn dial(&self, address: SocketAddr, part: &str, number: usize) -> io::Result<Accepted> {
        let client_id = format!("lt{}-{part}{number}", std::process::id());
        let wanted = Connect {
            version: self.shape.version,
            client_id: &client_id,
            clean: true,
            keep_alive_s: 0,
            session_expiry_s: 0,
        };
        dial::dial(address, self.clients.len(), &wanted)
    }

    fn add_subscriber(&mut self, address: SocketAddr, number: usize) -> io::Result<()> {
        let mut stream = self.dial(address, "s", number)?.stream;
        let filters: Vec<String> =
            self.shape.heard_by(number).0.map(|publisher| self.shape.topic(publisher)).collect();
        dial::subscribe(&mut stream, self.shape.version, &filters, self.shape.qos)?;
        self.add(Link::new(stream)?, Role::Subscriber(Subscriber::new(&self.shape, number)))
    }

    fn add(&mut self, link: Link, role: Role) -> io::Result<()> {
        let data = EventData::new_u64(self.clients.len() as u64);
        epoll::add(&self.epoll, &link.stream, data, EventFlags::IN)?;
        self.clients.push(Client { link, role });
        Ok(())
    }

    /// Runs to the end and tells what was found, also when the broker misbehaves.
    pub fn run(mut self) -> Outcome {
        self.started = Instant::now();
        let broken = self.turns().err().map(|broken| broken.to_string());
        if self.phase == Phase::Measure {
            self.close_span();
        }
        self.outcome(broken)
    }

    fn turns(&mut self) -> Result<(), Broken> {
        while self.phase != Phase::Done {
            let sending = self.phase != Phase::Drain && self.publish()?;
            self.take_arrivals(if sending { 0 } else { NAP_MS })?;
            self.advance()?;
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn moment(&self) -> Moment {
        Moment::now(self.now_ns(), self.sent, self.ledger.received, self.broker.as_ref())
    }

    fn close_span(&mut self) {
        self.end = self.moment();
        self.latency = self.ledger.latency.quantiles();
    }

    /// One write for every publisher with credit; tells whether one may go on at once.
    fn publish(&mut self) -> Result<bool, Broken> {
        let now_ns = self.now_ns();
        let mut more = false;
        for index in self.shape.subscribers()..self.clients.len() {
            let Client { link, role: Role::Publisher(publisher) } = &mut self.clients[index] else {
                continue;
            };
            if link.blocked() {
                continue;
            }
            let count = publisher.credit(&self.ledger.pairs);
            if count > 0 {
                publisher.send(link, count, now_ns)?;
                self.sent += count as u64;
                more |= !link.blocked() && publisher.credit(&self.ledger.pairs) > 0;
                self.arm(index)?;
            }
        }
        Ok(more)
    }

    /// Keeps the interest in writability equal to the need for it.
    fn arm(&mut self, index: usize) -> Result<(), Broken> {
        let link = &mut self.clients[index].link;
        if link.blocked() != link.armed {
            link.armed = link.blocked();
            let flags = if link.armed { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &link.stream, EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }

    fn take_arrivals(&mut self, timeout_ms: i64) -> Result<(), Broken> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout_ms * 1_000_000 };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for position in 0..self.events.len() {
            let event = self.events[position];
            let index = event.data.u64() as usize;
            let flags = event.flags;
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.read(index)?;
            }
            self.clients[index].link.flush()?;
            self.arm(index)?;
        }
        self.events.clear();
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), Broken> {
        let Client { link, role } = &mut self.clients[index];
        let carried = link.carry.len();
        self.buffer[..carried].copy_from_slice(&link.carry);
        let count = match (&link.stream).read(&mut self.buffer[carried..]) {
            Ok(0) => return Err(Broken("broker closed a connection".to_owned())),
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let now_ns = self.started.elapsed().as_nanos() as u64;
        let input = &self.buffer[..carried + count];
        let taken = match role {
            Role::Subscriber(part) => part.take(input, now_ns, &mut self.ledger, &mut link.out),
            Role::Publisher(part) => part.take(input, &mut link.out),
        };
        let used = taken.map_err(|malformed| Broken(malformed.0.to_owned()))?;
        link.carry.clear();
        link.carry.extend_from_slice(&input[used..]);
        if link.carry.len() == self.buffer.len() {
            return Err(Broken("broker sent a packet larger than any message".to_owned()));
        }
        Ok(())
    }

    /// Whether the load has lasted and the windows have turned over once, so that what is sent
    /// and what is received balance; a broker too slow for that is measured as it is.
    fn warm(&self, now_ns: u64) -> bool {
        let lasted = now_ns >= self.limits.warmup.as_nanos() as u64;
        let turnover = (self.shape.window * self.shape.pairs()) as u64;
        let late = (self.limits.warmup + self.limits.patience).as_nanos() as u64;
        lasted && (self.ledger.received >= turnover || now_ns >= late)
    }

    /// Moves from phase to phase and watches over progress.
    fn advance(&mut self) -> Result<(), Broken> {
        let now_ns = self.now_ns();
        let limits = self.limits;
        match self.phase {
            Phase::Warmup if self.warm(now_ns) => {
                self.ledger.latency.reset();
                self.begin = self.moment();
                self.phase = Phase::Measure;
            }
            Phase::Measure => {
                let over = match limits.messages {
                    Some(messages) => self.sent - self.begin.sent >= messages,
                    None => now_ns - self.begin.at_ns >= limits.span.as_nanos() as u64,
                };
                if over {
                    self.close_span();
                    self.phase = Phase::Drain;
                }
            }
            Phase::Drain if self.settled() => self.phase = Phase::Done,
            Phase::Drain if now_ns - self.end.at_ns > DRAIN_MAX_NS => {
                return Err(Broken("the tail did not arrive in time".to_owned()));
            }
            _ => {}
        }
        let done = self.sent + self.ledger.received;
        if done != self.progress.0 {
            self.progress = (done, now_ns);
        } else if now_ns - self.progress.1 > limits.patience.as_nanos() as u64 {
            if self.phase == Phase::Drain && self.acknowledged() {
                // What has not come by now is lost; the faults say so.
                self.phase = Phase::Done;
                return Ok(());
            }
            return Err(Broken("nothing moved within the patience".to_owned()));
        }
        Ok(())
    }

    fn publishers(&self) -> impl Iterator<Item = &Publisher> {
        self.clients.iter().filter_map(|client| match &client.role {
            Role::Publisher(publisher) => Some(&**publisher),
            Role::Subscriber(_) => None,
        })
    }

    fn acknowledged(&self) -> bool {
        self.publishers().all(Publisher::settled)
    }

    /// Whether everything sent has arrived everywhere and is acknowledged.
    fn settled(&self) -> bool {
        self.acknowledged()
            && self.publishers().enumerate().all(|(number, publisher)| {
                let fed = &self.ledger.pairs[self.shape.pairs_of(number)];
                fed.iter().all(|pair| pair.next >= publisher.sent)
            })
    }

    fn outcome(self, broken: Option<String>) -> Outcome {
        let mut faults = Faults { corrupt: self.ledger.corrupt, ..Faults::default() };
        for (number, publisher) in self.publishers().enumerate() {
            for pair in &self.ledger.pairs[self.shape.pairs_of(number)] {
                faults.add(pair, publisher.sent);
            }
        }
        let (begin, end) = (self.begin, self.end);
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
        Outcome {
            shape: self.shape,
            span_s: seconds(begin.at_ns, end.at_ns),
            sent: end.sent.saturating_sub(begin.sent),
            received: end.received.saturating_sub(begin.received),
            broker_cpu_s: begin.broker_ns.zip(end.broker_ns).map(|(from, to)| seconds(from, to)),
            generator_cpu_s: seconds(begin.generator_ns, end.generator_ns),
            latency: self.latency,
            faults,
            broken,
        }
    }
}

#[cfg(test)]
mod tests;
