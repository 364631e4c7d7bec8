//! One connection's state machine: a publisher with its windows, or a subscriber that checks.
//!
//! Invariants worth naming:
//! * bytes of a connection leave in the order they were written; a publisher begins no batch
//!   while bytes wait;
//! * a publisher writes from a template of whole packets and patches sequence, time and packet
//!   identifier only: no allocation per message;
//! * an acknowledgement that answers nothing is a fault of the broker, not ignored.

use crate::measure::Latency;
use crate::shape::Shape;
use crate::truth::{Pair, STAMP_LEN, Stamp};
use crate::wire::{self, Malformed, Publish, Version, first};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::ops::Range;

/// Bytes of a publisher's template; it bounds the batch of large messages.
const TEMPLATE_MAX: usize = 4 << 20;

/// The socket side of a client.
pub struct Link {
    /// The nonblocking stream.
    pub stream: TcpStream,
    /// The begin of a packet whose end has not come.
    pub carry: Vec<u8>,
    /// Bytes to be written.
    pub out: Vec<u8>,
    written: usize,
    /// Whether the engine waits for the stream to take bytes again.
    pub armed: bool,
}

impl Link {
    /// Takes over a connected stream.
    pub fn new(stream: TcpStream) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        Ok(Link { stream, carry: Vec::new(), out: Vec::new(), written: 0, armed: false })
    }

    /// Whether bytes wait for the stream.
    pub fn blocked(&self) -> bool {
        !self.out.is_empty()
    }

    /// Writes what waits, as far as the stream takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match (&self.stream).write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Writes `bytes` at once where nothing waits; keeps what the stream does not take.
    fn send(stream: &TcpStream, out: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(out.is_empty(), "the caller checks blocked()");
        let taken = match (&mut &*stream).write(bytes) {
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            Err(error) => return Err(error),
        };
        out.extend_from_slice(&bytes[taken..]);
        Ok(())
    }
}

/// How far the hand-shake of one packet identifier has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Free,
    Puback,
    Pubrec,
    Pubcomp,
}

/// A publisher's packet identifiers.
struct Inflight {
    free: VecDeque<u16>,
    steps: Vec<Step>,
}

impl Inflight {
    fn new(size: usize) -> Inflight {
        let size = u16::try_from(size).unwrap_or(u16::MAX - 1);
        Inflight { free: (1..=size).collect(), steps: vec![Step::Free; usize::from(size) + 1] }
    }

    fn take(&mut self, qos: u8) -> u16 {
        let id = self.free.pop_front().expect("the caller stays within free.len()");
        self.steps[usize::from(id)] = if qos == 1 { Step::Puback } else { Step::Pubrec };
        id
    }

    /// Moves an identifier on by an acknowledgement; a PUBREL due is appended to `out`.
    fn acknowledge(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let (id, reason) = wire::ack_parts(body)?;
        if reason >= 0x80 {
            return Err(Malformed("broker refused a publication"));
        }
        let Some(step) = self.steps.get_mut(usize::from(id)) else {
            return Err(Malformed("acknowledgement of an identifier never used"));
        };
        match (*step, kind) {
            (Step::Puback, first::PUBACK) | (Step::Pubcomp, first::PUBCOMP) => {
                *step = Step::Free;
                self.free.push_back(id);
            }
            (Step::Pubrec, first::PUBREC) => {
                *step = Step::Pubcomp;
                wire::ack(first::PUBREL, id, out);
            }
            _ => return Err(Malformed("acknowledgement out of turn")),
        }
        Ok(())
    }
}

/// The sending side of a shape.
pub struct Publisher {
    template: Vec<u8>,
    packet_len: usize,
    id_at: Option<usize>,
    stamp_at: usize,
    number: u32,
    qos: u8,
    batch: usize,
    threshold: usize,
    window: u64,
    pairs: Range<usize>,
    reached: u64,
    inflight: Inflight,
    inflight_max: usize,
    /// Messages handed to the socket so far.
    pub sent: u64,
}

impl Publisher {
    /// The publisher `number` of a shape.
    pub fn new(shape: &Shape, number: usize) -> Publisher {
        let size = shape.payload.max(STAMP_LEN);
        let payload: Vec<u8> = (0..size).map(|position| position as u8).collect();
        let topic = shape.topic(number);
        let packet = Publish {
            version: shape.version,
            qos: shape.qos,
            topic: &topic,
            id: 1,
            payload: &payload,
        };
        let mut template = Vec::new();
        let layout = wire::publish(&packet, &mut template);
        let batch = shape.batch.clamp(1, (TEMPLATE_MAX / layout.len).max(1));
        let template = template.repeat(batch);
        let window = shape.window.max(1);
        let narrowest = if shape.qos > 0 { window.min(shape.inflight.max(1)) } else { window };
        let inflight_max = if shape.qos > 0 { shape.inflight.clamp(1, 65_534) } else { 0 };
        Publisher {
            template,
            packet_len: layout.len,
            id_at: layout.packet_id,
            stamp_at: layout.payload,
            number: u32::try_from(number).expect("fewer publishers than 2³²"),
            qos: shape.qos,
            batch,
            threshold: batch.min(narrowest.div_ceil(2)),
            window: window as u64,
            pairs: shape.pairs_of(number),
            reached: 0,
            inflight: Inflight::new(inflight_max),
            inflight_max,
            sent: 0,
        }
    }

    /// Whether every message sent was finally acknowledged.
    pub fn settled(&self) -> bool {
        self.inflight.free.len() == self.inflight_max
    }

    /// Messages that may be sent now; zero until enough for a write worth making.
    #[inline]
    pub fn credit(&mut self, pairs: &[Pair]) -> usize {
        let threshold = self.threshold as u64;
        if self.sent - self.reached + threshold > self.window {
            let fed = &pairs[self.pairs.clone()];
            self.reached = fed.iter().map(|pair| pair.next).min().unwrap_or(self.sent);
        }
        // A broker that invents messages could push `reached` beyond `sent`.
        let outstanding = self.sent.saturating_sub(self.reached);
        let mut credit = (self.window.saturating_sub(outstanding) as usize).min(self.batch);
        if self.qos > 0 {
            credit = credit.min(self.inflight.free.len());
        }
        if credit < self.threshold { 0 } else { credit }
    }

    /// Sends `count` messages in one write.
    pub fn send(&mut self, link: &mut Link, count: usize, now_ns: u64) -> io::Result<()> {
        for packet in self.template.chunks_exact_mut(self.packet_len).take(count) {
            let stamp = Stamp { publisher: self.number, sequence: self.sent, sent_ns: now_ns };
            stamp.write(&mut packet[self.stamp_at..]);
            if let Some(at) = self.id_at {
                let id = self.inflight.take(self.qos);
                packet[at..at + 2].copy_from_slice(&id.to_be_bytes());
            }
            self.sent += 1;
        }
        Link::send(&link.stream, &mut link.out, &self.template[..count * self.packet_len])
    }

    /// Takes the whole packets at the begin of `input`; tells how many bytes they were.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(frame) = wire::frame(input, at)? {
            match frame.first {
                kind @ (first::PUBACK | first::PUBREC | first::PUBCOMP) => {
                    self.inflight.acknowledge(kind, &input[frame.body.clone()], out)?;
                }
                first::DISCONNECT => return Err(Malformed("broker sent DISCONNECT")),
                _ => return Err(Malformed("packet a publisher does not expect")),
            }
            at = frame.body.end;
        }
        Ok(at)
    }
}

/// What subscribers write to while they take packets.
pub struct Ledger {
    /// One entry per publisher–subscriber pair.
    pub pairs: Vec<Pair>,
    /// Deliveries received.
    pub received: u64,
    /// Deliveries that were not what this shape sends.
    pub corrupt: u64,
    /// Time from the publisher's write to the subscriber's read.
    pub latency: Latency,
}

/// The receiving side of a shape.
pub struct Subscriber {
    version: Version,
    payload_len: usize,
    publishers: Range<usize>,
    pair: usize,
}

impl Subscriber {
    /// The subscriber `number` of a shape.
    pub fn new(shape: &Shape, number: usize) -> Subscriber {
        let (publishers, pair) = shape.heard_by(number);
        let payload_len = shape.payload.max(STAMP_LEN);
        Subscriber { version: shape.version, payload_len, publishers, pair }
    }

    /// Takes the whole packets at the begin of `input`, writes the acknowledgements due to `out`
    /// and tells how many bytes the packets were.
    pub fn take(
        &self,
        input: &[u8],
        now_ns: u64,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(frame) = wire::frame(input, at)? {
            let body = &input[frame.body.clone()];
            match frame.first & 0xf0 {
                first::PUBLISH => {
                    let (id, payload) = wire::publish_parts(self.version, frame.first, body)?;
                    self.check(payload, now_ns, ledger);
                    match frame.first & wire::QOS_MASK {
                        0 => {}
                        0b0010 => wire::ack(first::PUBACK, id, out),
                        _ => wire::ack(first::PUBREC, id, out),
                    }
                }
                first::PUBREL_TYPE => wire::ack(first::PUBCOMP, wire::ack_parts(body)?.0, out),
                first::DISCONNECT => return Err(Malformed("broker sent DISCONNECT")),
                _ => return Err(Malformed("packet a subscriber does not expect")),
            }
            at = frame.body.end;
        }
        Ok(at)
    }

    #[inline]
    fn check(&self, payload: &[u8], now_ns: u64, ledger: &mut Ledger) {
        ledger.received += 1;
        match Stamp::read(payload) {
            Some(stamp)
                if payload.len() == self.payload_len
                    && self.publishers.contains(&(stamp.publisher as usize)) =>
            {
                let place = stamp.publisher as usize - self.publishers.start;
                ledger.pairs[self.pair + place].receive(stamp.sequence);
                ledger.latency.record(now_ns.saturating_sub(stamp.sent_ns));
            }
            _ => ledger.corrupt += 1,
        }
    }
}

/// What a connection is for.
pub enum Role {
    /// It sends.
    Publisher(Box<Publisher>),
    /// It receives.
    Subscriber(Subscriber),
}

/// One connection of a run.
pub struct Client {
    /// Its socket.
    pub link: Link,
    /// Its part.
    pub role: Role,
}
