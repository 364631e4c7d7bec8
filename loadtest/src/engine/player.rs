//! Clients of a replay: each takes the steps of its script when they are due and it is free to.
//!
//! Invariants worth naming:
//! * a step is never taken before its time, nor before the broker has answered the one before it;
//!   a publication that is late for that is still due when it was due;
//! * a flow is due to a client from the moment its SUBACK was read, and no longer than until the
//!   client unsubscribes or goes: what is sent or under way around these moments may come or not.

use super::client::{Client, State};
use super::control::Phase;
use super::core::{Core, Shared, writing};
use crate::plan::Member;
use crate::script::{Act, Listening, Script};
use crate::traffic::Greeting;
use corelane::base::PacketId;
use corelane::codec::{
    QoS, ReasonCode, SubscribeOptions, SubscribeOut, UnsubscribeOut, encode_disconnect,
};
use std::cmp::Reverse;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that a client may have waiting for its socket before it writes no more.
const WRITE_MAX: usize = 1 << 20;
/// The packet identifier of every SUBSCRIBE and UNSUBSCRIBE, of which one waits at most. No
/// publication has it: fewer are ever under way.
const REQUEST: PacketId = PacketId::new(u16::MAX).expect("not zero");

/// How far a client of a replay is.
pub struct Player {
    script: Script,
    /// The next step.
    at: usize,
    /// It stands in the heap of next steps.
    queued: bool,
    /// It cannot take a step that is due.
    waiting: bool,
    /// Its prelude is done.
    ready: bool,
    /// Filters whose SUBACK is due.
    asked: Vec<u32>,
    listening: Listening,
    /// The broker must have its session when it comes back.
    lasting: bool,
}

impl Player {
    /// At the begin of the script.
    ///
    /// # Panics
    /// When the client has none.
    pub fn new(planned: &Member) -> Player {
        let script = planned.script.clone().expect("a player is made for a script");
        Player {
            listening: Listening::new(planned.filters.len(), planned.heard.len()),
            script,
            at: 0,
            queued: false,
            waiting: false,
            ready: false,
            asked: Vec::new(),
            lasting: false,
        }
    }

    /// When the next step is due, `None` before the load where the prelude is done, and at the end.
    fn due_ns(&self, play_ns: u64) -> Option<u64> {
        let due_ns = self.script.steps.get(self.at)?.at_ns + self.script.shift_ns;
        if self.at < self.script.prelude {
            return Some(due_ns);
        }
        (play_ns != u64::MAX).then(|| play_ns + due_ns)
    }
}

impl Core {
    /// The steps behind the preludes may be taken: the load began at `load_ns`. Where the preludes
    /// took less time than until the first publication of the recording, that keeps its time.
    pub fn play_on(&mut self, load_ns: u64) {
        let Some(first_ns) = self.shared.plan.replay_ns else { return };
        self.play_ns = load_ns.max(first_ns);
        for index in 0..self.clients.len() as u32 {
            self.cue(index);
        }
    }

    /// Something changed for a client of a replay: it looks at its next step in this turn.
    pub fn cue(&mut self, index: u32) {
        if let Some(player) = &mut self.clients[index as usize].player
            && !player.queued
        {
            player.queued = true;
            self.scripts.push(Reverse((0, index)));
        }
    }

    /// Lets clients do what is due; tells whether any published.
    pub fn play(&mut self, now_ns: u64, busy: impl Fn(&Client, u32) -> bool) -> bool {
        let mut wrote = false;
        while let Some(Reverse((due, index))) = self.scripts.peek().copied() {
            if due > now_ns || self.phase == Phase::Leave {
                break;
            }
            self.scripts.pop();
            let free = !busy(&self.clients[index as usize], index);
            wrote |= self.perform(index, now_ns, free);
        }
        wrote
    }

    /// Takes the steps of one client that are due; tells whether it published.
    fn perform(&mut self, index: u32, now_ns: u64, free: bool) -> bool {
        let mut wrote = false;
        loop {
            let play_ns = self.play_ns;
            let client = &mut self.clients[index as usize];
            let Some(player) = &mut client.player else { return wrote };
            player.queued = false;
            let Some(due) = player.due_ns(play_ns) else {
                self.rest(index);
                return wrote;
            };
            if due > now_ns {
                player.queued = true;
                client.parked = false;
                self.wait(index, false);
                self.scripts.push(Reverse((due, index)));
                return wrote;
            }
            // A publication is copied without allocating; threads share the steps of all copies.
            let act = player.script.steps[player.at].act.clone();
            let may = free && (client.out.is_empty() || wrote);
            if !self.take_step(index, &act, (due, now_ns), may) {
                self.clients[index as usize].parked = true;
                self.wait(index, true);
                return wrote;
            }
            wrote |= matches!(act, Act::Publish { .. });
            if let Some(player) = &mut self.clients[index as usize].player {
                player.at += 1;
            }
        }
    }

    /// No step is left for now: the prelude is done when nothing is under way.
    fn rest(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let settled = matches!(client.state, State::Ready | State::Absent);
        client.parked = false;
        if let Some(player) = &mut client.player
            && settled
            && !std::mem::replace(&mut player.ready, true)
        {
            self.tally.ready += 1;
        }
        self.wait(index, !settled);
    }

    /// Notes whether a client waits for the broker.
    fn wait(&mut self, index: u32, waits: bool) {
        let Some(player) = &mut self.clients[index as usize].player else { return };
        let before = std::mem::replace(&mut player.waiting, waits);
        self.tally.waiting += u64::from(waits);
        self.tally.waiting -= u64::from(before);
    }

    /// Takes one step, which is due at the first of `times` and now is the second, if the client
    /// may; `free` is whether its socket takes more.
    fn take_step(&mut self, index: u32, act: &Act, times: (u64, u64), free: bool) -> bool {
        let state = self.clients[index as usize].state;
        match act {
            Act::Connect(greeting) => {
                state == State::Absent && self.set_out(index, *greeting, times.0)
            }
            _ if state != State::Ready => false,
            Act::Publish { flow, size } => free && self.say(index, (*flow, *size), times),
            Act::Subscribe(filters) => self.ask(index, filters),
            Act::Unsubscribe(filters) => self.unask(index, filters),
            Act::Leave { clean, back } => free && self.go(index, *clean, *back),
        }
    }

    fn set_out(&mut self, index: u32, greeting: Greeting, due: u64) -> bool {
        let client = &mut self.clients[index as usize];
        client.greeting = greeting;
        client.state = State::Connecting;
        self.queues[client.group].waiting.push_back((due, index));
        true
    }

    fn say(&mut self, index: u32, (flow, size): (u32, u32), (due, now_ns): (u64, u64)) -> bool {
        let Core { shared, clients, tally, .. } = self;
        let client = &mut clients[index as usize];
        let Some(publisher) = &mut client.publisher else { return true };
        let flow = publisher.flow(flow);
        let asks = shared.plan.flows[flow as usize].qos > 0;
        if client.out.len() > WRITE_MAX || (asks && publisher.inflight.room() == 0) {
            return false;
        }
        let with = writing(shared, client.greeting.version);
        publisher.put((flow, size as usize), due, &with, &mut client.out);
        tally.sent += 1;
        tally.unacknowledged += u64::from(asks);
        if !client.parked {
            let lag = now_ns.saturating_sub(due);
            self.lag.record(lag.max(1));
            self.lag_max_ns = self.lag_max_ns.max(lag);
        }
        self.mark(index);
        true
    }

    fn ask(&mut self, index: u32, filters: &[(u32, u8)]) -> bool {
        let client = &mut self.clients[index as usize];
        let names = &self.shared.plan.clients[client.member].filters;
        let wish = |(filter, qos): &(u32, u8)| {
            let qos = QoS::from_u8(*qos).unwrap_or_default();
            let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
            (names[*filter as usize].as_str(), options)
        };
        let wishes: Vec<_> = filters.iter().map(wish).collect();
        let packet = SubscribeOut { packet_id: REQUEST, subscription_id: None, filters: &wishes };
        packet.encode(client.greeting.version, &mut client.out);
        client.state = State::Subscribing(1);
        if let Some(player) = &mut client.player {
            player.asked = filters.iter().map(|(filter, _)| *filter).collect();
        }
        self.mark(index);
        true
    }

    fn unask(&mut self, index: u32, filters: &[u32]) -> bool {
        let Core { shared, clients, .. } = self;
        let client = &mut clients[index as usize];
        let names = &shared.plan.clients[client.member].filters;
        let gone: Vec<_> = filters.iter().map(|filter| names[*filter as usize].as_str()).collect();
        UnsubscribeOut { packet_id: REQUEST, filters: &gone }
            .encode(client.greeting.version, &mut client.out);
        client.state = State::Subscribing(1);
        change(shared, client, |listening, script, told| {
            for filter in filters {
                listening.remove(script, *filter, &mut *told);
            }
        });
        self.mark(index);
        true
    }

    fn go(&mut self, index: u32, clean: bool, back: bool) -> bool {
        let Core { shared, clients, .. } = self;
        let client = &mut clients[index as usize];
        if client.publisher.as_ref().is_some_and(|one| one.inflight.underway() > 0) {
            return false;
        }
        if clean {
            let version = client.greeting.version;
            encode_disconnect(version, ReasonCode::SUCCESS, None, None, &mut client.out);
        }
        client.state = State::Closing;
        // What a session that nobody takes up again holds is due to nobody.
        let lasting = back && client.greeting.expiry_s > 0;
        let heard = &shared.plan.clients[client.member].heard;
        change(shared, client, |listening, _, told| {
            let strong = |at: u32| {
                let audience = heard[at as usize].1;
                shared.plan.audiences[audience as usize].qos > 0
            };
            listening.leave(|at| lasting && strong(at), told);
        });
        if let Some(player) = &mut client.player {
            player.lasting = lasting && client.greeting.expiry_s == u32::MAX;
        }
        self.parting.push(index);
        self.mark(index);
        true
    }

    /// CONNACK came to a client of a replay.
    pub fn greeted(&mut self, index: u32, resumed: bool) {
        let Core { shared, clients, .. } = self;
        let client = &mut clients[index as usize];
        let clean = client.greeting.clean;
        let lasting = client.player.as_ref().is_some_and(|player| player.lasting);
        if resumed {
            change(shared, client, |listening, _, told| listening.resume(told));
        } else {
            if lasting && !clean {
                forsake(shared, client);
            }
            change(shared, client, |listening, _, told| listening.clear(told));
        }
        self.queues[client.group].underway -= 1;
        client.seen = true;
        self.answered(index);
    }

    /// What a client of a replay waited for came.
    pub fn answered(&mut self, index: u32) {
        let Core { shared, clients, .. } = self;
        let client = &mut clients[index as usize];
        client.state = State::Ready;
        let asked = client.player.as_mut().map(|player| std::mem::take(&mut player.asked));
        let asked = asked.unwrap_or_default();
        change(shared, client, |listening, script, told| {
            for filter in asked {
                listening.add(script, filter, &mut *told);
            }
        });
        self.cue(index);
    }
}

/// Changes what a client is due, and what is expected of the broker with it.
fn change(
    shared: &Shared,
    client: &mut Client,
    change: impl FnOnce(&mut Listening, &Script, &mut dyn FnMut(u32, bool)),
) {
    let (Some(player), Some(receiver)) = (&mut client.player, &mut client.receiver) else {
        return;
    };
    let mut told = |at: u32, heard: bool| receiver.hear(shared, at, heard);
    change(&mut player.listening, &player.script, &mut told);
}

/// The broker has no session where it should have one: what that held is lost.
fn forsake(shared: &Shared, client: &mut Client) {
    let Some(receiver) = &mut client.receiver else { return };
    for at in 0..receiver.streams.len() {
        let flow = receiver.flow(at as u32);
        let sent = shared.control.sent[flow as usize].load(Relaxed);
        receiver.streams[at].miss(sent);
    }
}
