//! The sending side of a client: what it may send now, and writing it.
//!
//! Invariants worth naming:
//! * every message has an intended time: its schedule's in an open loop, the moment of writing in
//!   a closed one;
//! * writing appends to the client's buffer; nothing is allocated per message.

use super::control::Control;
use super::inflight::{Again, Inflight, Underway};
use super::schedule::Schedule;
use crate::plan::Plan;
use crate::scenario::{Group, Sizes};
use crate::truth::Stamp;
use corelane::base::{PacketId, Prng};
use corelane::codec::{PacketType, PublishOut, QoS, ReasonCode, Version, encode_ack};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of one write, about: it bounds the batch of large messages.
const WRITE_MAX: usize = 4 << 20;

/// What decides when the next message goes out.
enum Pace {
    Open(Schedule),
    Closed {
        window: u64,
        threshold: u64,
        think_ns: u64,
        resume_ns: u64,
    },
    /// A script says what and when.
    Script,
}

/// Publishers' common data.
pub struct Writing<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Progress of the flows.
    pub control: &'a Control,
    /// Payload bytes behind the stamp.
    pub pattern: &'a [u8],
    /// Of the connection.
    pub version: Version,
}

/// One publisher.
pub struct Publisher {
    flows: Range<u32>,
    turn: u32,
    zipf: Option<Arc<[f64]>>,
    sizes: Sizes,
    qos: u8,
    batch: usize,
    pace: Pace,
    prng: Prng,
    /// Messages of all flows sent, and how many of them have reached everybody.
    sent: u64,
    reached: u64,
    /// Identifiers under way.
    pub inflight: Inflight,
}

impl Publisher {
    /// The publisher at position `at` of its group.
    pub fn new(group: &Group, flows: Range<u32>, at: usize, seed: u64) -> Publisher {
        let size = group.payload.largest().max(1);
        let batch = group.batch.min((WRITE_MAX / size).max(1));
        let window = if group.window == 0 { u64::MAX } else { group.window as u64 };
        let inflight = if group.qos > 0 { group.inflight } else { 0 };
        let narrow = if group.qos > 0 { window.min(inflight as u64) } else { window };
        let pace = match group.rate {
            Some(_) => Pace::Open(Schedule::new(group, at, seed)),
            None => Pace::Closed {
                window,
                threshold: (batch as u64).min(narrow.div_ceil(2)),
                think_ns: group.think_ms * 1_000_000,
                resume_ns: 0,
            },
        };
        let seed = seed.wrapping_add(0x51_7cc1 * at as u64);
        Publisher {
            zipf: (group.zipf > 0.0).then(|| zipf(flows.len(), group.zipf)),
            flows,
            turn: 0,
            sizes: group.payload.clone(),
            qos: group.qos,
            batch,
            pace,
            prng: Prng::new(seed),
            sent: 0,
            reached: 0,
            inflight: Inflight::new(inflight),
        }
    }

    /// A publisher that does what a script says, by [`Publisher::put`].
    pub fn scripted(flows: Range<u32>, inflight: usize) -> Publisher {
        Publisher {
            zipf: None,
            flows,
            turn: 0,
            sizes: Sizes::Fixed(0),
            qos: 0,
            batch: 0,
            pace: Pace::Script,
            prng: Prng::new(0),
            sent: 0,
            reached: 0,
            inflight: Inflight::new(inflight),
        }
    }

    /// The flow at a position among its own.
    pub fn flow(&self, at: u32) -> u32 {
        self.flows.start + at
    }

    /// Lets a schedule begin.
    pub fn start(&mut self, now_ns: u64) {
        if let Pace::Open(schedule) = &mut self.pace {
            schedule.start(now_ns);
        }
    }

    /// Whether it follows a schedule.
    pub fn is_open(&self) -> bool {
        matches!(self.pace, Pace::Open(_))
    }

    /// When something is due, as far as that depends on time alone.
    pub fn due_ns(&self) -> u64 {
        match &self.pace {
            Pace::Open(schedule) => schedule.next(),
            Pace::Closed { resume_ns, .. } => *resume_ns,
            Pace::Script => u64::MAX,
        }
    }

    /// Appends the messages that may go out now, one write's worth; tells how many and the
    /// intended time of the first.
    pub fn write(&mut self, now_ns: u64, with: &Writing<'_>, out: &mut Vec<u8>) -> (usize, u64) {
        let room = if self.qos > 0 { self.batch.min(self.inflight.room()) } else { self.batch };
        let first = self.due_ns();
        let mut written = 0;
        if let Pace::Closed { .. } = self.pace {
            let credit = self.credit(now_ns, with, room);
            while written < credit {
                self.put_next(now_ns, with, out);
                written += 1;
            }
            if let Pace::Closed { think_ns, resume_ns, .. } = &mut self.pace
                && written > 0
            {
                *resume_ns = now_ns + *think_ns;
            }
            return (written, now_ns);
        }
        while written < room {
            let Pace::Open(schedule) = &mut self.pace else { break };
            let due = schedule.next();
            if due > now_ns {
                break;
            }
            schedule.advance();
            self.put_next(due, with, out);
            written += 1;
        }
        (written, first)
    }

    /// Messages a closed loop may send; zero until enough for a write worth making.
    fn credit(&mut self, now_ns: u64, with: &Writing<'_>, room: usize) -> usize {
        let Pace::Closed { window, threshold, resume_ns, .. } = self.pace else { return 0 };
        if now_ns < resume_ns {
            return 0;
        }
        if window != u64::MAX && self.sent - self.reached + threshold > window {
            self.reached = self.count_reached(with).min(self.sent);
        }
        let credit = window.saturating_sub(self.sent - self.reached).min(room as u64);
        if credit < threshold { 0 } else { credit as usize }
    }

    fn count_reached(&self, with: &Writing<'_>) -> u64 {
        let of = |flow: u32| {
            let range = &with.plan.flows[flow as usize].audiences;
            let range = range.start as usize..range.end as usize;
            let sent = with.control.sent[flow as usize].load(Relaxed);
            let progress = with.control.progress[range].iter();
            progress.map(|progress| progress.load(Relaxed)).min().unwrap_or(sent).min(sent)
        };
        self.flows.clone().map(of).sum()
    }

    fn pick(&mut self) -> u32 {
        let count = self.flows.len() as u32;
        let Some(zipf) = &self.zipf else {
            let flow = self.flows.start + self.turn;
            self.turn = if self.turn + 1 < count { self.turn + 1 } else { 0 };
            return flow;
        };
        let uniform = (self.prng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let at = zipf.partition_point(|share| *share <= uniform) as u32;
        self.flows.start + at.min(count - 1)
    }

    #[inline]
    fn put_next(&mut self, intended_ns: u64, with: &Writing<'_>, out: &mut Vec<u8>) {
        let flow = self.pick();
        let size = match &self.sizes {
            Sizes::Fixed(size) => *size,
            sizes => sizes.draw(&mut self.prng),
        };
        self.put((flow, size), intended_ns, with, out);
    }

    /// Appends the next message of a flow with so many bytes of payload.
    ///
    /// # Panics
    /// Without room for another unacknowledged message, where the flow's QoS asks for it.
    #[inline]
    pub fn put(
        &mut self,
        (flow, size): (u32, usize),
        intended_ns: u64,
        with: &Writing<'_>,
        out: &mut Vec<u8>,
    ) {
        let sent = &with.control.sent[flow as usize];
        let sequence = sent.load(Relaxed);
        sent.store(sequence + 1, Relaxed);
        self.sent += 1;
        let underway = Underway { stamp: Stamp { flow, sequence, intended_ns }, size };
        let qos = with.plan.flows[flow as usize].qos;
        let id = (qos > 0).then(|| self.inflight.take(qos, underway));
        encode(id, underway, false, with, out);
    }

    /// Appends what a new connection must send again.
    pub fn write_again(&mut self, resumed: bool, with: &Writing<'_>, out: &mut Vec<u8>) {
        for again in self.inflight.again(resumed) {
            match again {
                Again::Publish(id, underway) => {
                    encode(Some(id), underway, resumed, with, out);
                }
                Again::Release(id) => {
                    let (kind, reason) = (PacketType::Pubrel, ReasonCode::SUCCESS);
                    encode_ack(kind, with.version, id, reason, None, out);
                }
            }
        }
    }
}

#[inline]
fn encode(
    packet_id: Option<PacketId>,
    underway: Underway,
    dup: bool,
    with: &Writing<'_>,
    out: &mut Vec<u8>,
) {
    let flow = &with.plan.flows[underway.stamp.flow as usize];
    let packet = PublishOut {
        dup,
        qos: QoS::from_u8(flow.qos).unwrap_or_default(),
        retain: flow.retain,
        topic: &flow.topic,
        packet_id,
        payload: &with.pattern[..underway.size],
        ..PublishOut::default()
    };
    packet.encode(with.version, out);
    let at = out.len() - underway.size;
    underway.stamp.write(&mut out[at..]);
}

/// For each of `count` ranks the share of all ranks up to it.
fn zipf(count: usize, exponent: f64) -> Arc<[f64]> {
    let weight = |rank: usize| 1.0 / ((rank + 1) as f64).powf(exponent);
    let total: f64 = (0..count).map(weight).sum();
    let mut sum = 0.0;
    let shares = (0..count).map(|rank| {
        sum += weight(rank) / total;
        sum
    });
    shares.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_shares_fall_and_add_up() {
        let shares = zipf(100, 1.0);
        assert!((shares[99] - 1.0).abs() < 1e-9);
        assert!(shares[0] > 2.0 * (shares[2] - shares[1]));
    }
}
