//! The loop of one core: joins its [`Shard`] with its [`Driver`].
//!
//! What a connection comes through (TLS, WebSocket) lies between the two; a plain one has nothing
//! there. Handshakes have a budget of their own in each turn, because one can take a millisecond.
//!
//! One turn: reap completions, let the shard tick, carry out its commands, send for every
//! connection with output at most once, then go round, spin or sleep.
//!
//! Invariants worth naming:
//! * one send per connection is in flight; what is produced meanwhile goes with the next one;
//! * the shard is asked for its deadline and its doorbell is checked before every sleep.

use super::clock::Clock;
use super::heartbeat::{Heart, Stage};
use super::process;
use super::signal::{Requests, Stopping};
use super::sleep::Sleeper;
use super::transport::{Door, Progress, Transport, Transports};
use super::usage::{Doing, Usage};
use crate::auth::Desk;
use crate::base::{Chunk, ShardId, Time};
use crate::mesh::Carried;
use crate::net::{Driver, Event, SocketKey};
use crate::shard::{Command, ConnectionKey, HostFigures, Measured, Shard};
use crate::transport::Flow;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Longest time that a closing connection gets for its last bytes.
const LINGER: Duration = Duration::from_secs(1);
/// Longest sleep, so that a core never rests for ever on a lost wake-up.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How a reactor behaves.
#[derive(Clone, Copy, Debug)]
pub struct ReactorSettings {
    /// Completions handled before the shard ticks.
    pub completions: usize,
    /// How long a busy core lets input gather before its next turn.
    pub gather: Duration,
    /// Small receives per millisecond from which it does.
    pub crumbs: u64,
    /// How long to look for work before sleeping.
    pub spin: Duration,
    /// Longest time that a drain may take.
    pub drain: Duration,
    /// Steps of handshakes per turn.
    pub handshakes: usize,
}

/// The loop of one core and what it needs between two turns.
pub struct Reactor {
    shard: Shard,
    driver: Driver,
    clock: Clock,
    settings: ReactorSettings,
    heart: Arc<Heart>,
    /// What connections come through, by listener.
    doors: Vec<Arc<Door>>,
    transports: Transports,
    /// Connections whose handshake has input, in the order in which it came.
    handshakes: VecDeque<ConnectionKey>,
    /// Connections that move home as soon as their last send is done.
    departing: Vec<ConnectionKey>,
    /// Connections that have to send more before a packet can come.
    unread: Vec<ConnectionKey>,
    /// Unused buffers: plain text of one piece, and output of transports.
    plain: Vec<u8>,
    spare: Vec<Vec<u8>>,
    accepted: Vec<(u16, OwnedFd)>,
    ended: Vec<ConnectionKey>,
    released: Vec<ConnectionKey>,
    /// Connections whose send ended with more output waiting.
    pending: Vec<ConnectionKey>,
    /// Connections that close when their output is sent, with their deadline.
    closing: HashMap<u64, Time>,
    drain_until: Option<Time>,
    inflow: Inflow,
    /// The last turn left enough for the next one.
    laden: bool,
    usage: Usage,
    /// Where credentials are checked.
    desk: Desk,
}

/// How input comes in: as a stream of crumbs, which are worth gathering, or not.
///
/// Judged over windows of a millisecond. A crumb costs a receive and often a send, so many of them
/// are better gathered; full buffers have gathered already; and a few clients that take turns with
/// the broker want their answers now.
#[derive(Default)]
struct Inflow {
    since: Time,
    pieces: u64,
    bytes: u64,
    crumbs: bool,
}

/// Gathering goes on until crumbs come at less than this part of the rate that begins it.
const CRUMBS_KEEP: u64 = 5;
const CRUMB_BYTES: u64 = 1024;

impl Inflow {
    fn add(&mut self, bytes: usize) {
        self.pieces += 1;
        self.bytes += bytes as u64;
    }

    /// Whether input comes in crumbs at `now`; `begin` per millisecond are enough.
    fn is_crumbs(&mut self, now: Time, begin: u64) -> bool {
        let window_us = now.0 - self.since.0;
        if window_us >= 1000 {
            let least = if self.crumbs { begin / CRUMBS_KEEP } else { begin };
            let many = self.pieces * 1000 >= least * window_us && self.pieces > 0;
            let small = self.bytes < self.pieces * CRUMB_BYTES;
            *self = Inflow { since: now, crumbs: many && small, ..Inflow::default() };
        }
        self.crumbs
    }
}

/// A connection on its way to another core.
struct Moving {
    fd: OwnedFd,
    transport: Option<Box<Transport>>,
}

/// Where the bytes of a connection with a transport pass.
struct Passage<'r> {
    shard: &'r mut Shard,
    transport: &'r mut Transport,
    plain: &'r mut Vec<u8>,
    pending: &'r mut Vec<ConnectionKey>,
    unread: &'r mut Vec<ConnectionKey>,
    ended: &'r mut Vec<ConnectionKey>,
}

/// The largest buffer of plain text that is kept.
const PLAIN_KEPT: usize = 64 * 1024;

impl Passage<'_> {
    fn take(&mut self, key: ConnectionKey, bytes: &[u8]) {
        self.plain.clear();
        let taken = self.transport.receive(bytes, self.plain);
        if self.transport.has_output() {
            self.pending.push(key);
        }
        let Progress { introduction, flow } = match taken {
            Ok(progress) => progress,
            Err(fault) => return self.shard.transport_failed(key, &fault.what),
        };
        if let Some(introduction) = introduction
            && !self.shard.introduce(key, introduction)
        {
            return;
        }
        if !self.plain.is_empty() {
            self.shard.receive(key, self.plain);
        } else if self.shard.awaits_connect(key) {
            self.unread.push(key);
        }
        if flow == Flow::Ended {
            self.ended.push(key);
        }
        if self.plain.capacity() > PLAIN_KEPT {
            *self.plain = Vec::new();
        }
    }
}

/// What a turn found.
struct Turn {
    busy: bool,
}

impl Reactor {
    /// A reactor around a shard and the driver of its core.
    pub fn new(
        shard: Shard,
        driver: Driver,
        clock: Clock,
        settings: ReactorSettings,
        heart: Arc<Heart>,
        (desk, doors): (Desk, Vec<Arc<Door>>),
    ) -> Reactor {
        Reactor {
            shard,
            driver,
            clock,
            settings,
            heart,
            doors,
            transports: Transports::default(),
            handshakes: VecDeque::new(),
            departing: Vec::new(),
            unread: Vec::new(),
            plain: Vec::new(),
            spare: Vec::new(),
            accepted: Vec::new(),
            ended: Vec::new(),
            released: Vec::new(),
            pending: Vec::new(),
            closing: HashMap::new(),
            drain_until: None,
            inflow: Inflow::default(),
            laden: false,
            usage: Usage::new(clock.now()),
            desk,
        }
    }

    /// Runs until told to stop; gives the shard back for its last counters.
    ///
    /// # Errors
    /// When the ring itself fails: the core can't go on.
    pub async fn run(mut self, requests: &Requests, sleeper: &Sleeper) -> io::Result<Shard> {
        let (mut idle_since, mut revision): (Option<Time>, u64) = (None, 0);
        loop {
            if let Some(live) = requests.newer(&mut revision) {
                self.shard.reconfigure(&live);
            }
            let now = self.clock.now();
            self.usage.mark(now, Doing::Work);
            let turn = self.turn(now)?;
            if self.is_finished(requests.stopping(), now) {
                self.heart.beat(now, Stage::Asleep);
                return Ok(self.shard);
            }
            if turn.busy {
                idle_since = None;
                continue;
            }
            let since = *idle_since.get_or_insert(now);
            if now.since(since) < self.settings.spin {
                self.usage.was(Doing::Poll);
                std::hint::spin_loop();
                continue;
            }
            self.sleep(sleeper).await?;
            idle_since = None;
        }
    }

    fn turn(&mut self, now: Time) -> io::Result<Turn> {
        self.heart.beat(now, Stage::Reap);
        self.shard.begin(now);
        self.shard.lagged(self.usage.take_turn_us());
        self.driver.expire(now);
        if self.inflow.is_crumbs(now, self.settings.crumbs)
            && !self.laden
            && !self.settings.gather.is_zero()
        {
            self.usage.was(Doing::Poll);
            self.driver.gather(self.settings.completions as u32, self.settings.gather)?;
            let gathered = self.clock.now();
            self.usage.mark(gathered, Doing::Work);
            self.shard.begin(gathered);
        } else {
            self.driver.submit()?;
        }
        let reaped = self.reap();
        self.take_accepted();
        self.shake_hands();
        self.take_ends();
        self.take_verdicts();
        self.heart.beat(now, Stage::Serve);
        let more = self.shard.tick();
        self.heart.beat(now, Stage::Flush);
        let commanded = self.carry_out(now);
        let sent = self.flush(now);
        self.laden = more || self.driver.is_ready(self.settings.completions as u32);
        let waiting = !self.handshakes.is_empty();
        Ok(Turn { busy: more || commanded || sent || waiting || reaped > 0 })
    }

    fn reap(&mut self) -> usize {
        let Reactor { shard, driver, accepted, ended, released, pending, closing, inflow, .. } =
            self;
        let Reactor { transports, handshakes, unread, plain, .. } = self;
        driver.reap(self.settings.completions, |event| match event {
            Event::Accepted { listener, fd } => accepted.push((listener, fd)),
            Event::AcceptFailed { listener, error } => {
                tracing::warn!(listener, %error, "accepting rests; raise the open-files limit");
            }
            Event::Received { key, bytes } => {
                inflow.add(bytes.len());
                match transports.get_mut(key) {
                    None => shard.receive(key.to_key(), bytes),
                    Some(transport) if transport.is_open() => {
                        let mut passage =
                            Passage { shard, transport, plain, pending, unread, ended };
                        passage.take(key.to_key(), bytes);
                    }
                    Some(transport) => {
                        transport.input.extend_from_slice(bytes);
                        handshakes.push_back(key.to_key());
                    }
                }
            }
            Event::EndOfInput { key, .. } => ended.push(key.to_key()),
            Event::Sent { key, buffer } => {
                let mut more = shard.sent(key.to_key(), buffer);
                // What a layer had to say meanwhile waited for this send.
                more |= transports.get_mut(key).is_some_and(|transport| transport.has_output());
                if more || !closing.is_empty() && closing.contains_key(&key.to_bits()) {
                    pending.push(key.to_key());
                }
            }
            Event::SendFailed { key, buffer, .. } => {
                shard.sent(key.to_key(), buffer);
                ended.push(key.to_key());
            }
            Event::Released { key } => released.push(key.to_key()),
            Event::Woken => {}
        })
    }

    fn take_accepted(&mut self) {
        for (listener, fd) in self.accepted.drain(..) {
            let peer = process::peer(&fd);
            if let Some(key) = self.shard.open(listener, peer) {
                let door = self.doors.get(usize::from(listener));
                if let Some(transport) = door.and_then(|door| door.transport(peer)) {
                    self.transports.insert(key.into(), transport);
                }
                self.driver.register(SocketKey::from(key), fd);
                self.driver.read_once(SocketKey::from(key));
            }
        }
    }

    /// Connections end after what came from them was looked at.
    fn take_ends(&mut self) {
        for key in self.ended.drain(..) {
            self.shard.end_of_input(key);
        }
        for key in self.released.drain(..) {
            self.closing.remove(&key.to_bits());
            self.transports.remove(key.into());
            self.shard.released(key);
        }
    }

    /// Goes on with handshakes, at most a budget of them, and reads where one needs more.
    fn shake_hands(&mut self) {
        for _ in 0..self.settings.handshakes {
            let Some(key) = self.handshakes.pop_front() else { break };
            let Reactor { shard, transports, plain, pending, unread, ended, .. } = self;
            let Some(transport) = transports.get_mut(key.into()) else { continue };
            let input = std::mem::take(&mut transport.input);
            Passage { shard, transport, plain, pending, unread, ended }.take(key, &input);
            if transport.is_transparent() {
                self.transports.remove(key.into());
            }
        }
        for key in self.unread.drain(..) {
            self.driver.read_once(key.into());
        }
    }

    fn take_verdicts(&mut self) {
        while let Some((key, verdict)) = self.desk.answer() {
            self.shard.judged(key, verdict);
        }
    }

    fn carry_out(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(command) = self.shard.next_command() {
            any = true;
            match command {
                Command::Established(key) => self.driver.read_stream(key.into()),
                Command::ReadMore(key) => self.driver.read_once(key.into()),
                Command::Pause(key) => self.driver.pause(key.into()),
                Command::Resume(key) => self.driver.resume(key.into()),
                Command::Close(key) => {
                    self.closing.insert(key.to_bits(), now + LINGER);
                    self.pending.push(key);
                }
                Command::HandOver(key) => self.hand_over(key),
                Command::Adopt(key, carried) => self.adopt(key, carried),
                Command::Judge(key, credentials) => {
                    if let Some(verdict) = self.desk.ask(key, credentials) {
                        self.shard.judged(key, verdict);
                    }
                }
                Command::Measure => self.measure(),
            }
        }
        any
    }

    /// Tells the shard how the time was spent.
    fn measure(&mut self) {
        self.usage.mark(self.clock.now(), Doing::Work);
        let [busy_us, polled_us, asleep_us] = self.usage.spent_us();
        let lag_us_max = self.usage.take_lag_us_max();
        let first = self.shard.id() == ShardId(0);
        let host = if first { process::figures() } else { HostFigures::default() };
        self.shard.measured(&Measured { busy_us, polled_us, asleep_us, lag_us_max, host });
    }

    fn hand_over(&mut self, key: ConnectionKey) {
        let output = |transport: &mut Transport| transport.has_output();
        let talks = self.transports.get_mut(key.into()).is_some_and(output);
        if talks || self.driver.sending(key.into()) {
            self.departing.push(key);
        } else if self.driver.is_idle(key.into()) {
            let fd = self.driver.detach(key.into());
            let transport = self.transports.remove(key.into());
            self.shard.hand_over(key, Box::new(Moving { fd, transport }));
        } else {
            // It is already on its way out.
            self.shard.end_of_input(key);
        }
    }

    fn adopt(&mut self, key: ConnectionKey, carried: Carried) {
        match carried.downcast::<Moving>() {
            Ok(moving) => {
                let Moving { fd, transport } = *moving;
                self.driver.register(key.into(), fd);
                if let Some(transport) = transport {
                    self.transports.insert(key.into(), transport);
                }
            }
            Err(_) => self.shard.end_of_input(key),
        }
    }

    /// Starts at most one send for each connection with output; closes what has nothing left.
    fn flush(&mut self, now: Time) -> bool {
        let mut any = false;
        while let Some(key) = self.shard.next_output() {
            any |= self.flush_one(key, now);
        }
        let mut pending = std::mem::take(&mut self.pending);
        for key in pending.drain(..) {
            any |= self.flush_one(key, now);
        }
        self.pending = pending;
        for key in std::mem::take(&mut self.departing) {
            if self.driver.fd(key.into()).is_some() && !self.closing.contains_key(&key.to_bits()) {
                self.hand_over(key);
            }
        }
        self.close_overdue(now);
        any
    }

    fn flush_one(&mut self, key: ConnectionKey, now: Time) -> bool {
        if self.driver.sending(key.into()) {
            return false;
        }
        let chunk = self.shard.take_output(key);
        if let Some(chunk) = self.wrapped(key, chunk) {
            if let Err(chunk) = self.driver.send(key.into(), chunk) {
                self.shard.sent(key, chunk);
            } else if !self.closing.contains_key(&key.to_bits()) || self.shard.has_output(key) {
                return true;
            }
        }
        if let Some(deadline) = self.closing.remove(&key.to_bits()) {
            self.close(key, deadline.max(now));
        }
        true
    }

    /// Output as the socket gets it.
    fn wrapped(&mut self, key: ConnectionKey, chunk: Option<Chunk>) -> Option<Chunk> {
        let Some(transport) = self.transports.get_mut(key.into()) else { return chunk };
        let taken = chunk.is_some();
        let last = self.closing.contains_key(&key.to_bits()) && !self.shard.has_output(key);
        let wire = transport.wrap(chunk, last, &mut self.spare);
        if taken && wire.is_none() {
            // Nobody is there to get it.
            self.shard.sent(key, Vec::new());
        }
        wire
    }

    fn close(&mut self, key: ConnectionKey, deadline: Time) {
        if self.driver.fd(key.into()).is_some() {
            self.driver.close(key.into(), deadline);
        } else {
            // Its transport has gone to another core or never arrived.
            self.shard.released(key);
        }
    }

    fn close_overdue(&mut self, now: Time) {
        if self.closing.values().any(|deadline| *deadline <= now) {
            let overdue = self.closing.extract_if(|_, deadline| *deadline <= now);
            let keys: Vec<u64> = overdue.map(|(bits, _)| bits).collect();
            for bits in keys {
                self.close(ConnectionKey::from_bits(bits), now);
            }
        }
    }

    async fn sleep(&mut self, sleeper: &Sleeper) -> io::Result<()> {
        let bell = self.shard.bell().clone();
        if !bell.fall_asleep() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut until = self.shard.next_deadline().min(self.driver.next_deadline());
        until = self.closing.values().copied().fold(until, Time::min);
        until = self.drain_until.map_or(until, |end| until.min(end));
        let at_most = until.since(now).min(LONGEST_SLEEP);
        self.usage.mark(now, Doing::Sleep);
        self.heart.beat(now, Stage::Asleep);
        let slept = sleeper.sleep(&mut self.driver, Some(at_most)).await;
        bell.wake_up();
        slept
    }

    /// Whether the core may stop: at once, or after a drain.
    fn is_finished(&mut self, stopping: Stopping, now: Time) -> bool {
        match stopping {
            Stopping::No => return false,
            Stopping::Now => return true,
            Stopping::Drain => {}
        }
        match self.drain_until {
            None => {
                self.driver.stop_listening();
                self.shard.drain();
                self.drain_until = Some(now + self.settings.drain);
                false
            }
            Some(end) => now >= end || self.driver.is_empty() && self.shard.connection_count() == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a millisecond with `pieces` of `bytes` each is taken for.
    fn judged(inflow: &mut Inflow, pieces: u64, bytes: usize, begin: u64) -> bool {
        (0..pieces).for_each(|_| inflow.add(bytes));
        inflow.is_crumbs(Time(inflow.since.0 + 1000), begin)
    }

    #[test]
    fn crumbs_are_many_and_small() {
        let mut inflow = Inflow::default();
        assert!(!judged(&mut inflow, 39, 80, 40), "too few");
        assert!(!judged(&mut inflow, 40, 1024, 40), "too large");
        assert!(judged(&mut inflow, 40, 80, 40));
        assert!(judged(&mut inflow, 8, 80, 40), "a fifth keeps it up");
        assert!(!judged(&mut inflow, 7, 80, 40));
    }

    #[test]
    fn silence_is_never_crumbs() {
        let mut inflow = Inflow::default();
        assert!(judged(&mut inflow, 1, 80, 1));
        assert!(!judged(&mut inflow, 0, 0, 1));
        let hours = Time(inflow.since.0 + 36_000_000_000);
        assert!(!inflow.is_crumbs(hours, 40));
    }
}
