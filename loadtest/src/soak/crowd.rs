//! The clients of a soak: each a name that comes, does something at random, and goes.
//!
//! Invariants worth naming:
//! * equal seeds make equal choices (what the broker does between them may differ);
//! * work is bounded: actions a second, messages in flight per client, time a reader sleeps;
//! * after [`Crowd::leave`] the broker holds no connection and no session of ours.

use crate::args::SoakArgs;
use crate::client::Link;
use crate::dial::{self, Accepted};
use crate::wire::{self, Connect, Malformed, Publish, Version, first};
use corelane::base::Prng;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::Timespec;
use rustix::io::Errno;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Topics in use; one subscription in 20 is to all of them.
const TOPICS: usize = 40;
/// Publications a client may have unacknowledged: one bit each. Below the receive maximum of
/// any broker's defaults.
const INFLIGHT: u32 = 16;
/// First identifier of SUBSCRIBE and UNSUBSCRIBE packets, above those of publications.
const SUBSCRIBE_ID: u16 = 1000;
/// Largest payload, bytes.
const PAYLOAD_MAX: usize = 1024;
/// Longest sleep of a slow reader, milliseconds.
const PAUSE_MAX_MS: usize = 5_000;
/// How long persistent sessions live, seconds; no longer than any soak needs.
const SESSION_EXPIRY_S: u32 = 3600;
const READ_LEN: usize = 256 * 1024;
const EVENTS: usize = 256;
const TICK_NS: i64 = 5_000_000;

/// What the crowd did and saw.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    connects: u64,
    resumed: u64,
    taken_over: u64,
    clean_closes: u64,
    drops: u64,
    closed_by_broker: u64,
    subscribes: u64,
    unsubscribes: u64,
    pauses: u64,
    published: [u64; 3],
    received: [u64; 3],
}

impl Counts {
    /// Names and values.
    pub fn fields(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("connects", self.connects),
            ("sessions_resumed", self.resumed),
            ("taken_over", self.taken_over),
            ("clean_closes", self.clean_closes),
            ("drops", self.drops),
            ("closed_by_broker", self.closed_by_broker),
            ("subscribes", self.subscribes),
            ("unsubscribes", self.unsubscribes),
            ("pauses", self.pauses),
            ("published_qos_zero", self.published[0]),
            ("published_qos_one", self.published[1]),
            ("published_qos_two", self.published[2]),
            ("received_qos_zero", self.received[0]),
            ("received_qos_one", self.received[1]),
            ("received_qos_two", self.received[2]),
        ]
    }

    /// The same for people.
    pub fn lines(&self) -> String {
        let fields = self.fields().into_iter();
        fields.map(|(name, value)| format!("{name:<20} {value}")).collect::<Vec<_>>().join("\n")
    }
}

/// One client name and its connection, if it has one.
struct Actor {
    name: String,
    version: Version,
    idle: bool,
    link: Option<Link>,
    asleep_until: Option<Instant>,
    /// Bit n: identifier n + 1 is in flight.
    busy: u32,
}

/// All clients of a soak.
pub struct Crowd {
    address: SocketAddr,
    actors: Vec<Actor>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    prng: Prng,
    rate: u64,
    /// What happened so far.
    pub counts: Counts,
}

impl Crowd {
    /// A crowd of which nobody is connected yet.
    pub fn new(args: &SoakArgs) -> io::Result<Crowd> {
        let actor = |number: usize| Actor {
            name: format!("soak{number}"),
            version: if number.is_multiple_of(2) { Version::V4 } else { Version::V5 },
            idle: number % args.idle_one_in.max(1) == args.idle_one_in.max(1) - 1,
            link: None,
            asleep_until: None,
            busy: 0,
        };
        Ok(Crowd {
            address: args.target.address,
            actors: (0..args.clients.max(2)).map(actor).collect(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; READ_LEN],
            payload: (0..PAYLOAD_MAX).map(|position| position as u8).collect(),
            prng: Prng::new(args.seed),
            rate: args.rate.max(1),
            counts: Counts::default(),
        })
    }

    /// Acts at random for `span`, at most at the rate set.
    pub fn live(&mut self, span: Duration) -> io::Result<()> {
        let begin = Instant::now();
        let mut acted = 0u64;
        while begin.elapsed() < span {
            self.take_arrivals()?;
            self.wake_sleepers()?;
            let due = begin.elapsed().as_millis() as u64 * self.rate / 1000;
            // What a slow broker made us miss is not caught up with in a burst.
            acted = acted.max(due.saturating_sub(self.rate / 10));
            while acted < due {
                let index = self.prng.below(self.actors.len());
                self.act(index)?;
                acted += 1;
            }
        }
        Ok(())
    }

    /// Closes every connection and ends every session.
    pub fn leave(&mut self) -> io::Result<()> {
        for index in 0..self.actors.len() {
            self.close(index);
            let mut link = Link::new(self.dial(index, true)?.stream)?;
            wire::bare(first::DISCONNECT, &mut link.out);
            link.flush()?;
        }
        Ok(())
    }

    fn dial(&self, index: usize, clean: bool) -> io::Result<Accepted> {
        let actor = &self.actors[index];
        let wanted = Connect {
            version: actor.version,
            client_id: &actor.name,
            clean,
            keep_alive_s: 0,
            session_expiry_s: if clean { 0 } else { SESSION_EXPIRY_S },
        };
        dial::dial(self.address, index, &wanted)
    }

    fn act(&mut self, index: usize) -> io::Result<()> {
        let actor = &self.actors[index];
        if actor.link.is_none() {
            return self.join(index);
        }
        if actor.idle {
            return Ok(());
        }
        match self.prng.below(100) {
            0..70 => self.publish(index),
            70..76 => {
                self.counts.clean_closes += 1;
                self.say(index, |_, out| wire::bare(first::DISCONNECT, out))?;
                self.close(index);
                Ok(())
            }
            76..82 => {
                self.counts.drops += 1;
                self.close(index);
                Ok(())
            }
            82..85 => {
                // The old connection stays open until the broker has accepted the new one.
                self.counts.taken_over += 1;
                self.join(index)
            }
            85..88 => self.pause(index),
            88..93 => self.subscribe(index),
            93..98 => self.unsubscribe(index),
            _ => self.say(index, |_, out| wire::bare(first::PINGREQ, out)),
        }
    }

    /// Connects, also over a connection that lives, and often subscribes.
    fn join(&mut self, index: usize) -> io::Result<()> {
        let clean = self.prng.one_in(2);
        let Accepted { stream, resumed, .. } = self.dial(index, clean)?;
        self.counts.connects += 1;
        self.counts.resumed += u64::from(resumed);
        let link = Link::new(stream)?;
        let data = EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &link.stream, data, EventFlags::IN)?;
        let actor = &mut self.actors[index];
        actor.link = Some(link);
        actor.asleep_until = None;
        actor.busy = 0;
        if actor.idle || (resumed && self.prng.one_in(2)) {
            return Ok(());
        }
        self.subscribe(index)
    }

    fn filter(&mut self) -> String {
        if self.prng.one_in(20) {
            return "soak/#".to_owned();
        }
        format!("soak/{}", self.prng.below(TOPICS))
    }

    fn subscribe(&mut self, index: usize) -> io::Result<()> {
        self.counts.subscribes += 1;
        let filters = [self.filter(), self.filter()];
        let qos = self.prng.below(3) as u8;
        self.say(index, |version, out| {
            wire::subscribe(version, SUBSCRIBE_ID, &filters, qos, out);
        })
    }

    fn unsubscribe(&mut self, index: usize) -> io::Result<()> {
        self.counts.unsubscribes += 1;
        let filter = self.filter();
        self.say(index, |version, out| {
            wire::unsubscribe(version, SUBSCRIBE_ID + 1, &filter, out);
        })
    }

    fn publish(&mut self, index: usize) -> io::Result<()> {
        let qos = self.prng.below(3) as u8;
        let topic = format!("soak/{}", self.prng.below(TOPICS));
        let payload = &self.payload[..self.prng.below(PAYLOAD_MAX)];
        let actor = &mut self.actors[index];
        let Some(link) = actor.link.as_mut().filter(|link| !link.blocked()) else {
            return Ok(());
        };
        let mut id = 0;
        if qos > 0 {
            let position = actor.busy.trailing_ones();
            if position >= INFLIGHT {
                return Ok(());
            }
            actor.busy |= 1 << position;
            id = position as u16 + 1;
        }
        let packet = Publish { version: actor.version, qos, topic: &topic, id, payload };
        wire::publish(&packet, &mut link.out);
        self.counts.published[usize::from(qos)] += 1;
        self.push(index)
    }

    /// The client stops to read for a while.
    fn pause(&mut self, index: usize) -> io::Result<()> {
        self.counts.pauses += 1;
        let span = Duration::from_millis(self.prng.below(PAUSE_MAX_MS) as u64);
        self.actors[index].asleep_until = Some(Instant::now() + span);
        self.arm(index)
    }

    fn wake_sleepers(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for index in 0..self.actors.len() {
            if self.actors[index].asleep_until.is_some_and(|until| until <= now) {
                self.actors[index].asleep_until = None;
                self.arm(index)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        actor.link = None;
        actor.asleep_until = None;
    }

    /// Writes one packet.
    fn say(&mut self, index: usize, write: impl FnOnce(Version, &mut Vec<u8>)) -> io::Result<()> {
        let actor = &mut self.actors[index];
        if let Some(link) = &mut actor.link {
            write(actor.version, &mut link.out);
        }
        self.push(index)
    }

    /// Sends what waits. A connection that fails is one the broker closed.
    fn push(&mut self, index: usize) -> io::Result<()> {
        let Some(link) = &mut self.actors[index].link else { return Ok(()) };
        if link.flush().is_err() {
            self.counts.closed_by_broker += 1;
            self.close(index);
            return Ok(());
        }
        self.arm(index)
    }

    fn arm(&mut self, index: usize) -> io::Result<()> {
        let actor = &self.actors[index];
        let Some(link) = &actor.link else { return Ok(()) };
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, actor.asleep_until.is_none());
        flags.set(EventFlags::OUT, link.blocked());
        Ok(epoll::modify(&self.epoll, &link.stream, EventData::new_u64(index as u64), flags)?)
    }

    fn take_arrivals(&mut self) -> io::Result<()> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: TICK_NS };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for position in 0..self.events.len() {
            let event = self.events[position];
            let index = event.data.u64() as usize;
            let flags = event.flags;
            let lost = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            let asleep = self.actors[index].asleep_until.is_some();
            let open = if asleep { !lost } else { self.read(index) };
            if open {
                self.push(index)?;
            } else {
                self.counts.closed_by_broker += 1;
                self.close(index);
            }
        }
        self.events.clear();
        Ok(())
    }

    /// Reads and answers; false when the broker closed or spoke nonsense.
    fn read(&mut self, index: usize) -> bool {
        let Crowd { actors, buffer, counts, .. } = self;
        let Actor { version, link, busy, .. } = &mut actors[index];
        let Some(link) = link else { return true };
        let carried = link.carry.len();
        buffer[..carried].copy_from_slice(&link.carry);
        let count = match (&link.stream).read(&mut buffer[carried..]) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            }
        };
        let input = &buffer[..carried + count];
        let Ok(used) = answer(*version, input, busy, counts, &mut link.out) else { return false };
        link.carry.clear();
        link.carry.extend_from_slice(&input[used..]);
        true
    }
}

/// Takes whole packets, appends the answers due and tells how many bytes were taken.
fn answer(
    version: Version,
    input: &[u8],
    busy: &mut u32,
    counts: &mut Counts,
    out: &mut Vec<u8>,
) -> Result<usize, Malformed> {
    let mut at = 0;
    while let Some(frame) = wire::frame(input, at)? {
        let body = &input[frame.body.clone()];
        match frame.first & 0xf0 {
            first::PUBLISH => {
                let (id, _) = wire::publish_parts(version, frame.first, body)?;
                let qos = (frame.first & wire::QOS_MASK) >> 1;
                counts.received[usize::from(qos.min(2))] += 1;
                match qos {
                    0 => {}
                    1 => wire::ack(first::PUBACK, id, out),
                    _ => wire::ack(first::PUBREC, id, out),
                }
            }
            kind @ (first::PUBACK | first::PUBREC | first::PUBCOMP) => {
                let (id, reason) = wire::ack_parts(body)?;
                if kind == first::PUBREC && reason < 0x80 {
                    wire::ack(first::PUBREL, id, out);
                } else if (1..=INFLIGHT).contains(&u32::from(id)) {
                    *busy &= !(1 << (id - 1));
                }
            }
            first::PUBREL_TYPE => wire::ack(first::PUBCOMP, wire::ack_parts(body)?.0, out),
            first::DISCONNECT => return Err(Malformed("broker sent DISCONNECT")),
            _ => {}
        }
        at = frame.body.end;
    }
    Ok(at)
}
