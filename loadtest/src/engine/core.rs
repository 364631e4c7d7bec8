//! What one generator thread holds beside its driver: its clients and what they have found.

use super::client::{Client, Receiver, State};
use super::control::{Control, Failure, Meter, Phase};
use super::player::Player;
use super::publisher::{Publisher, Writing};
use super::whim::Whims;
use crate::door::Door;
use crate::measure::{self, Latency};
use crate::outcome::{BrokerVerdict, Truth};
use crate::plan::Plan;
use crate::scenario::{Group, Protocol, Scenario};
use crate::traffic::Greeting;
use corelane::codec::Version;
use corelane::net::SocketKey;
use hdrhistogram::Histogram;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Everything that the threads of a run have in common.
#[derive(Clone)]
pub struct Shared {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// Its layout.
    pub plan: Arc<Plan>,
    /// Phase and meters.
    pub control: Arc<Control>,
    /// How clients get in.
    pub door: Door,
    /// Payload bytes behind the stamp.
    pub pattern: Arc<[u8]>,
    /// Part of the client identifiers, so that runs do not meet.
    pub run: Arc<str>,
}

/// Counts of this thread, copied to its meter once a turn.
#[derive(Default)]
pub struct Tally {
    pub sent: u64,
    pub received: u64,
    pub received_bytes: u64,
    pub acknowledged: u64,
    pub unacknowledged: u64,
    pub connects: u64,
    pub reconnects: u64,
    pub resumed: u64,
    pub ready: u64,
    pub away: u64,
    pub waiting: u64,
    pub old: u64,
    pub takeovers: u64,
    pub unsubscribes: u64,
    pub refused: u64,
}

/// Connects of one group that wait for their turn.
#[derive(Default)]
pub struct Queue {
    /// Due time and client, in order.
    pub waiting: VecDeque<(u64, u32)>,
    /// Clients between CONNECT and the last SUBACK.
    pub underway: usize,
}

/// One thread's clients.
pub struct Core {
    pub shared: Shared,
    /// Number of the thread.
    pub number: usize,
    pub clients: Vec<Client>,
    pub queues: Vec<Queue>,
    /// Clients with something to send.
    pub dirty: Vec<u32>,
    /// Open-loop publishers by due time.
    pub due: BinaryHeap<Reverse<(u64, u32)>>,
    /// Closed-loop publishers.
    pub closed: Vec<u32>,
    /// Clients of a replay by the time of their next step.
    pub scripts: BinaryHeap<Reverse<(u64, u32)>>,
    /// When the steps behind the prelude began.
    pub play_ns: u64,
    /// Clients of a replay that leave once what they said is on its way.
    pub parting: Vec<u32>,
    /// Next keep-alive by time: client and the tenant number it is for.
    pub pings: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Slow readers by the time they read again.
    pub sleepers: VecDeque<(u64, u32, u32)>,
    /// Slow readers that are to stop reading.
    pub tired: Vec<u32>,
    /// What layers took apart, to be read.
    pub plain: Vec<u8>,
    /// Sockets to be closed at once.
    pub closing: Vec<SocketKey>,
    /// What clients will do at random.
    pub whims: Whims,
    pub tally: Tally,
    pub truth: Truth,
    /// Latency of the window's messages received since the last slice, and of all others.
    pub inside: Latency,
    pub outside: Latency,
    pub connect: Latency,
    pub ack: Latency,
    pub lag: Latency,
    pub lag_max_ns: u64,
    pub begin_ns: u64,
    pub end_ns: u64,
    pub phase: Phase,
}

/// Latencies of one second, or of a whole run.
pub struct Slice {
    /// Deliveries of messages that were meant to be sent inside the window.
    pub inside: Histogram<u64>,
    /// All deliveries.
    pub all: Histogram<u64>,
}

impl Core {
    /// The clients with `plan` positions `number`, `number + threads`, and so on.
    pub fn new(shared: Shared, number: usize, threads: usize) -> Core {
        let plan = Arc::clone(&shared.plan);
        let members = (number..plan.clients.len()).step_by(threads);
        let clients = members.map(|member| client(&shared, member)).collect();
        let queues = shared.scenario.groups.iter().map(|_| Queue::default()).collect();
        let whims = Whims::new(shared.scenario.seed.wrapping_add(number as u64));
        Core {
            shared,
            number,
            clients,
            queues,
            dirty: Vec::new(),
            due: BinaryHeap::new(),
            closed: Vec::new(),
            scripts: BinaryHeap::new(),
            play_ns: u64::MAX,
            parting: Vec::new(),
            pings: BinaryHeap::new(),
            sleepers: VecDeque::new(),
            tired: Vec::new(),
            plain: Vec::new(),
            closing: Vec::new(),
            whims,
            tally: Tally::default(),
            truth: Truth::default(),
            inside: Latency::default(),
            outside: Latency::default(),
            connect: Latency::default(),
            ack: Latency::default(),
            lag: Latency::default(),
            lag_max_ns: 0,
            begin_ns: u64::MAX,
            end_ns: u64::MAX,
            phase: Phase::Connect,
        }
    }

    /// Notes that the client has something to send.
    #[inline]
    pub fn mark(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(index);
        }
    }

    /// What went wrong with the broker; the run ends.
    #[cold]
    pub fn fail(&mut self, verdict: BrokerVerdict) {
        self.shared.control.fail(Failure::Broker(verdict));
    }

    /// What a client is called in messages.
    pub fn name(&self, index: u32) -> String {
        let client = &self.clients[index as usize];
        let group = &self.shared.scenario.groups[client.group];
        format!(
            "client {} of group `{}`",
            self.shared.plan.clients[client.member].number, group.name
        )
    }

    /// Lets publishers write what they may; tells whether any did.
    pub fn publish(&mut self, now_ns: u64, busy: impl Fn(&Client, u32) -> bool) -> bool {
        if self.phase != Phase::Load {
            return false;
        }
        let mut wrote = false;
        while let Some(Reverse((due, index))) = self.due.peek().copied() {
            if due > now_ns {
                break;
            }
            self.due.pop();
            wrote |= self.publish_open(index, now_ns, &busy);
        }
        for at in 0..self.closed.len() {
            let index = self.closed[at];
            let client = &self.clients[index as usize];
            if client.state == State::Ready && !busy(client, index) {
                wrote |= self.write(index, now_ns).0 > 0;
            }
        }
        wrote
    }

    fn publish_open(
        &mut self,
        index: u32,
        now_ns: u64,
        busy: &impl Fn(&Client, u32) -> bool,
    ) -> bool {
        let client = &mut self.clients[index as usize];
        if client.state != State::Ready || busy(client, index) {
            client.parked = true;
            return false;
        }
        let late = std::mem::take(&mut client.parked);
        let (written, first) = self.write(index, now_ns);
        if written > 0 && !late {
            let lag = now_ns.saturating_sub(first);
            self.lag.record(lag.max(1));
            self.lag_max_ns = self.lag_max_ns.max(lag);
        }
        let client = &mut self.clients[index as usize];
        if let Some(publisher) = &client.publisher {
            let due = publisher.due_ns();
            if written == 0 && due <= now_ns {
                client.parked = true;
            } else {
                self.due.push(Reverse((due, index)));
            }
        }
        written > 0
    }

    fn write(&mut self, index: u32, now_ns: u64) -> (usize, u64) {
        let Core { shared, clients, tally, .. } = self;
        let client = &mut clients[index as usize];
        let Some(publisher) = &mut client.publisher else { return (0, now_ns) };
        let with = writing(shared, client.greeting.version);
        let before = publisher.inflight.underway();
        let (written, first) = publisher.write(now_ns, &with, &mut client.out);
        tally.sent += written as u64;
        tally.unacknowledged += (publisher.inflight.underway() - before) as u64;
        if written > 0 {
            self.mark(index);
        }
        (written, first)
    }

    /// A publisher that was late because its connection was not free may go on.
    #[inline]
    pub fn unpark(&mut self, index: u32) {
        let client = &self.clients[index as usize];
        if client.player.is_some() {
            self.cue(index);
        } else if client.parked && client.state == State::Ready {
            // It stays marked as parked: its lag is not the generator's.
            self.due.push(Reverse((0, index)));
        }
    }

    /// Copies the counts to the thread's meter.
    pub fn publish_meter(&mut self) {
        let meter: &Meter = &self.shared.control.meters[self.number];
        let tally = &self.tally;
        meter.sent.store(tally.sent, Relaxed);
        meter.received.store(tally.received, Relaxed);
        meter.received_bytes.store(tally.received_bytes, Relaxed);
        meter.acknowledged.store(tally.acknowledged, Relaxed);
        meter.unacknowledged.store(tally.unacknowledged, Relaxed);
        meter.connects.store(tally.connects, Relaxed);
        meter.reconnects.store(tally.reconnects, Relaxed);
        meter.resumed.store(tally.resumed, Relaxed);
        meter.ready.store(tally.ready, Relaxed);
        meter.away.store(tally.away, Relaxed);
        meter.waiting.store(tally.waiting, Relaxed);
        meter.old.store(tally.old, Relaxed);
        meter.takeovers.store(tally.takeovers, Relaxed);
        meter.unsubscribes.store(tally.unsubscribes, Relaxed);
        meter.refused.store(tally.refused, Relaxed);
        if self.lag_max_ns > 0 {
            meter.lag_ns.fetch_max(std::mem::take(&mut self.lag_max_ns), Relaxed);
        }
    }

    /// The latencies since the last call.
    pub fn slice(&mut self) -> Slice {
        let mut inside = measure::histogram();
        self.inside.move_into(&mut inside);
        let mut all = inside.clone();
        self.outside.move_into(&mut all);
        Slice { inside, all }
    }
}

/// What publishers of a thread write with.
pub fn writing(shared: &Shared, version: Version) -> Writing<'_> {
    let Shared { plan, control, pattern, .. } = shared;
    Writing { plan, control, pattern, version }
}

fn client(shared: &Shared, member: usize) -> Client {
    let planned = &shared.plan.clients[member];
    let group = &shared.scenario.groups[planned.group];
    let flows = planned.flows.clone();
    let publisher = (!flows.is_empty()).then(|| match &planned.script {
        Some(script) => Publisher::scripted(flows, script.inflight),
        None => Publisher::new(group, flows, planned.number - group.first, shared.scenario.seed),
    });
    let receiver = (!planned.filters.is_empty()).then(|| Receiver::new(planned));
    Client {
        member,
        group: planned.group,
        state: State::Absent,
        generation: 0,
        lane: 0,
        old: None,
        silent: false,
        since_ns: 0,
        back_ns: None,
        seen: false,
        dirty: false,
        parked: false,
        out: Vec::new(),
        carry: Vec::new(),
        layer: None,
        greeting: greeting(shared.scenario.version, group),
        publisher: publisher.map(Box::new),
        receiver: receiver.map(Box::new),
        player: planned.script.as_ref().map(|_| Box::new(Player::new(planned))),
    }
}

/// How all clients of a group greet the broker.
fn greeting(version: Protocol, group: &Group) -> Greeting {
    Greeting {
        version: match version {
            Protocol::V311 => Version::V311,
            Protocol::V5 => Version::V5,
        },
        clean: group.clean,
        keep_alive_s: group.keep_alive_s,
        expiry_s: group.expiry_s,
    }
}
