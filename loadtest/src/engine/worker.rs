//! The loop of one generator thread: what is due goes out, what came in is taken.
//!
//! Invariants worth naming:
//! * one turn gives every closed-loop publisher with credit one write, then takes what has
//!   arrived: "single" load trickles over all publishers instead of bursting on one;
//! * the thread sleeps only when nothing may be sent, and wakes shortly before the next intended
//!   time, which it then awaits awake.

use super::absence::Absences;
use super::client::{Client, State};
use super::control::Phase;
use super::core::{Core, Shared, Slice};
use super::dial::Dialer;
use crate::outcome::{BrokerVerdict, Truth};
use crate::truth::Stream;
use corelane::base::Time;
use corelane::codec::{ReasonCode, encode_disconnect};
use corelane::net::{Driver, DriverSettings, Event};
use hdrhistogram::Histogram;
use std::cmp::Reverse;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Completions taken in one turn.
const REAP_MAX: usize = 4096;
/// Connects begun in one turn.
const DIALS_PER_TURN: usize = 64;
/// Longest sleep: phases are looked at after it.
const NAP_NS: u64 = 5_000_000;
/// The kernel may wake us so much late; this long before a due time we stay awake.
const AWAKE_NS: u64 = 80_000;
/// Memory of the receive buffers of one thread, bytes.
const RECV_BYTES: usize = 16 << 20;
/// How long the goodbyes may take.
const LEAVE_NS: u64 = 1_000_000_000;

/// What a thread has at the end.
pub struct Finished {
    /// Connecting.
    pub connect: Histogram<u64>,
    /// Acknowledgements inside the window.
    pub ack: Histogram<u64>,
    /// Lag behind the schedule.
    pub lag: Histogram<u64>,
    /// Faults counted at once; losses and repetitions are in the streams.
    pub truth: Truth,
    /// What each audience (or member of one) received.
    pub streams: Vec<(u32, Stream)>,
}

/// One generator thread.
pub struct Worker {
    driver: Driver,
    core: Core,
    dialer: Dialer,
    absences: Absences,
    slices: Sender<Slice>,
    sliced_ns: u64,
    /// Those who must not get in have been sent for.
    stormed: bool,
}

impl Worker {
    /// The thread `number` of `threads`; made on the thread that runs it.
    ///
    /// # Errors
    /// The kernel refuses io_uring or memory.
    pub fn new(
        shared: Shared,
        (number, threads): (usize, usize),
        address: SocketAddr,
        slices: Sender<Slice>,
    ) -> io::Result<Worker> {
        let bytes = shared.scenario.recv_buffer_bytes;
        let settings = DriverSettings {
            recv_buffers: (RECV_BYTES / bytes).clamp(64, 32_768),
            recv_buffer_bytes: bytes,
            ..DriverSettings::default()
        };
        let meter = &shared.control.meters[number];
        meter.thread.store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Relaxed);
        Ok(Worker {
            driver: Driver::new(&settings)?,
            core: Core::new(shared, number, threads),
            dialer: Dialer::new(address, number as u8),
            absences: Absences::default(),
            slices,
            sliced_ns: 0,
            stormed: false,
        })
    }

    /// Runs to the end of the run.
    ///
    /// # Errors
    /// The ring broke, or no socket could be made.
    pub fn run(mut self) -> io::Result<Finished> {
        let now_ns = self.now_ns();
        self.core.queue_all(now_ns, false);
        while self.core.phase != Phase::Leave {
            self.turn()?;
        }
        self.leave()?;
        Ok(self.finish())
    }

    fn now_ns(&self) -> u64 {
        self.core.shared.control.now_ns()
    }

    fn turn(&mut self) -> io::Result<()> {
        let now_ns = self.now_ns();
        self.driver.expire(Time(now_ns / 1000));
        self.obey(now_ns);
        self.dial(now_ns)?;
        self.core.ping(now_ns);
        self.rouse(now_ns);
        let driver = &self.driver;
        let busy =
            |client: &Client, index| !client.out.is_empty() || driver.sending(client.key(index));
        let wrote = self.core.publish(now_ns, busy) | self.core.play(now_ns, busy);
        self.flush();
        self.part(now_ns);
        self.pause(wrote)?;
        self.reap();
        self.flush();
        self.core.publish_meter();
        if now_ns - self.sliced_ns >= 1_000_000_000 {
            self.sliced_ns = now_ns;
            let slice = self.core.slice();
            // The reader may be gone where a run was broken off.
            let _ = self.slices.send(slice);
        }
        Ok(())
    }

    /// Follows the phase and the window.
    fn obey(&mut self, now_ns: u64) {
        let control = &self.core.shared.control;
        let phase = control.phase();
        self.core.begin_ns = control.begin_ns.load(Relaxed);
        self.core.end_ns = control.end_ns.load(Relaxed);
        if phase != self.core.phase {
            self.core.phase = phase;
            if phase == Phase::Load {
                let load_ns = self.core.shared.control.load_ns.load(Relaxed);
                self.start(load_ns);
                self.core.play_on(load_ns);
            }
        }
        let opened = self.core.begin_ns != u64::MAX;
        if opened && !std::mem::replace(&mut self.stormed, opened) {
            self.core.queue_all(self.core.begin_ns, true);
        }
        self.absences.open(&self.core.shared.scenario, self.core.begin_ns, self.core.end_ns);
        while let Some((group, back_ns)) = self.absences.next(now_ns) {
            self.core.vanish(group, back_ns);
        }
        self.core.indulge(now_ns);
        for key in std::mem::take(&mut self.core.closing) {
            self.driver.close(key, Time(0));
        }
    }

    fn start(&mut self, load_ns: u64) {
        for index in 0..self.core.clients.len() {
            let client = &mut self.core.clients[index];
            let (Some(publisher), None) = (&mut client.publisher, &client.player) else { continue };
            publisher.start(load_ns);
            if publisher.is_open() {
                let due = publisher.due_ns();
                self.core.due.push(Reverse((due, index as u32)));
            } else {
                self.core.closed.push(index as u32);
            }
        }
    }

    fn dial(&mut self, now_ns: u64) -> io::Result<()> {
        for _ in 0..DIALS_PER_TURN {
            let Some(index) = self.core.next_to_dial(now_ns) else { return Ok(()) };
            let fd = match self.dialer.open() {
                Ok(fd) => fd,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let why = format!("{}: {error}", self.core.name(index));
                    self.core.fail(BrokerVerdict::Unreachable(why));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let key = self.core.clients[index as usize].key(index);
            self.driver.register(key, fd);
            self.driver.read_stream(key);
            self.core.greet(index);
        }
        Ok(())
    }

    /// Slow readers fall asleep and wake.
    fn rouse(&mut self, now_ns: u64) {
        for index in std::mem::take(&mut self.core.tired) {
            let client = &self.core.clients[index as usize];
            let slow_ms = self.core.shared.scenario.groups[client.group].slow_ms;
            self.driver.pause(client.key(index));
            let until = now_ns + slow_ms * 1_000_000;
            self.core.sleepers.push_back((until, index, client.generation));
        }
        while let Some((until, index, generation)) = self.core.sleepers.front().copied() {
            if until > now_ns && self.core.phase != Phase::Leave {
                break;
            }
            self.core.sleepers.pop_front();
            let client = &self.core.clients[index as usize];
            if client.generation == generation {
                self.driver.resume(client.key(index));
            }
        }
    }

    /// Hands what waits to the kernel, where the socket's last send is done.
    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.core.dirty);
        for index in dirty.drain(..) {
            let client = &mut self.core.clients[index as usize];
            client.dirty = false;
            let key = client.key(index);
            if self.driver.sending(key) {
                continue;
            }
            let bytes = client.outgoing();
            if !bytes.is_empty() {
                // A closing socket gives the bytes back; they are not wanted any more.
                let _ = self.driver.send(key, bytes);
            }
        }
        self.core.dirty = dirty;
    }

    /// Clients of a replay that leave: what they said goes out first.
    fn part(&mut self, now_ns: u64) {
        let deadline = Time((now_ns + LEAVE_NS) / 1000);
        for index in std::mem::take(&mut self.core.parting) {
            let key = self.core.clients[index as usize].key(index);
            self.driver.close(key, deadline);
        }
    }

    /// Submits; sleeps until something comes or is due, unless there is more to do.
    fn pause(&mut self, wrote: bool) -> io::Result<()> {
        if wrote {
            return self.driver.submit();
        }
        let now_ns = self.now_ns();
        let due = self.core.due.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        let ping = self.core.pings.peek().map_or(u64::MAX, |Reverse((due, ..))| *due);
        let waker = self.core.sleepers.front().map_or(u64::MAX, |(until, ..)| *until);
        let play = self.core.scripts.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        let soon = due.min(self.core.dial_due_ns()).min(ping).min(waker).min(play);
        let left = soon.saturating_sub(now_ns).min(NAP_NS);
        if left <= AWAKE_NS {
            return self.driver.submit();
        }
        self.driver.wait(Some(Duration::from_nanos(left - AWAKE_NS / 2)))
    }

    fn reap(&mut self) {
        let core = &mut self.core;
        self.driver.reap(REAP_MAX, |event| on_event(core, event));
    }

    /// Says goodbye to the broker and closes everything.
    fn leave(&mut self) -> io::Result<()> {
        for index in 0..self.core.clients.len() {
            let client = &mut self.core.clients[index];
            let version = client.greeting.version;
            let key = client.key(index as u32);
            if let Some(old) = client.old {
                self.driver.close(old, Time(0));
            }
            let said = client.state == State::Ready && !self.driver.sending(key);
            if said {
                client.out.clear();
                encode_disconnect(version, ReasonCode::SUCCESS, None, None, &mut client.out);
                let bye = client.last_words();
                let _ = self.driver.send(key, bye);
            }
            let now = Time(self.core.shared.control.now_ns() / 1000);
            let wait = Duration::from_nanos(LEAVE_NS);
            self.driver.close(key, if said { now + wait } else { Time(0) });
            self.core.clients[index].state = State::Closing;
            self.core.clients[index].back_ns = None;
            if index % 256 == 255 {
                self.driver.submit()?;
                self.reap();
            }
        }
        let begin_ns = self.now_ns();
        while !self.driver.is_empty() && self.now_ns() - begin_ns < 2 * LEAVE_NS {
            self.driver.expire(Time(self.now_ns() / 1000));
            self.driver.wait(Some(Duration::from_nanos(NAP_NS)))?;
            self.reap();
        }
        Ok(())
    }

    fn finish(mut self) -> Finished {
        let slice = self.core.slice();
        let _ = self.slices.send(slice);
        self.core.publish_meter();
        let mut streams = Vec::new();
        for client in self.core.clients {
            if let Some(receiver) = client.receiver {
                streams.extend(receiver.into_streams());
            }
        }
        Finished {
            connect: self.core.connect.settled().clone(),
            ack: self.core.ack.settled().clone(),
            lag: self.core.lag.settled().clone(),
            truth: self.core.truth,
            streams,
        }
    }
}

fn on_event(core: &mut Core, event: Event<'_>) {
    match event {
        Event::Received { key, bytes } => {
            let index = core.index(key);
            let client = &core.clients[index as usize];
            if client.key(index) != key {
                return;
            }
            match (client.state, &client.layer) {
                (State::Closing, _) => {}
                (State::Knocking, _) => core.answered_knock(index, bytes),
                (_, None) => core.received(index, bytes),
                (_, Some(_)) => core.unpack(index, bytes),
            }
        }
        Event::EndOfInput { key, .. } if core.is_old(key) => core.closing.push(key),
        Event::Released { key } if core.is_old(key) => core.outlived(key),
        Event::Sent { key, .. } | Event::SendFailed { key, .. } if core.is_old(key) => {}
        Event::Sent { key, buffer } => {
            let index = core.index(key);
            if core.clients[index as usize].sent(buffer) {
                core.unpark(index);
            } else {
                core.mark(index);
            }
        }
        Event::EndOfInput { key, error } => core.broken(core.index(key), error),
        Event::SendFailed { key, error, .. } => core.broken(core.index(key), Some(error)),
        Event::Released { key } => core.released(core.index(key)),
        Event::Accepted { .. } | Event::AcceptFailed { .. } | Event::Woken => {}
    }
}
