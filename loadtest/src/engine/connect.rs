//! How clients come and go: connecting in turn, subscribing, vanishing and coming back.
//!
//! Invariant worth naming: the latency of a connect counts from its intended time, so that a broker
//! that answers slowly is charged for the connects that wait behind.

use super::client::{Client, State};
use super::control::Phase;
use super::core::{Core, writing};
use crate::outcome::BrokerVerdict;
use crate::plan::expand;
use crate::scenario::{Group, Manner};
use crate::traffic::Greeting;
use corelane::base::{PacketId, Prng};
use corelane::codec::{
    Connack, Connect, ConnectProperties, QoS, SubscribeOptions, SubscribeOut, Version, Will,
    encode_pingreq,
};
use rustix::io::Errno;
use std::cmp::Reverse;

/// Filters in one SUBSCRIBE, at most.
const FILTERS_PER_PACKET: usize = 64;

impl Core {
    /// Queues every client's first connect, from `now_ns` on: of those that must not get in, or of
    /// all others.
    pub fn queue_all(&mut self, now_ns: u64, unwelcome: bool) {
        for index in 0..self.clients.len() {
            if self.is_unwelcome(index as u32) != unwelcome {
                continue;
            }
            if self.clients[index].player.is_some() {
                self.cue(index as u32);
                continue;
            }
            let group = self.clients[index].group;
            let rate = self.shared.scenario.groups[group].connect_rate;
            let threads = self.shared.control.meters.len() as f64;
            let queue = &mut self.queues[group].waiting;
            let after = if rate > 0.0 { queue.len() as f64 * 1e9 * threads / rate } else { 0.0 };
            queue.push_back((now_ns + after as u64, index as u32));
        }
    }

    /// The client whose turn it is to connect.
    pub fn next_to_dial(&mut self, now_ns: u64) -> Option<u32> {
        for (group, queue) in self.shared.scenario.groups.iter().zip(&mut self.queues) {
            let Some((due, index)) = queue.waiting.front().copied() else { continue };
            if due <= now_ns && queue.underway < group.connecting {
                queue.waiting.pop_front();
                queue.underway += 1;
                // Connects that nothing scheduled begin when they begin.
                let client = &self.clients[index as usize];
                let scheduled = group.connect_rate > 0.0 || client.seen || client.player.is_some();
                self.clients[index as usize].since_ns = if scheduled { due } else { now_ns };
                return Some(index);
            }
        }
        None
    }

    /// When the next connect is due; never while too many are under way.
    pub fn dial_due_ns(&self) -> u64 {
        let groups = self.shared.scenario.groups.iter().zip(&self.queues);
        let free = groups.filter(|(group, queue)| queue.underway < group.connecting);
        free.filter_map(|(_, queue)| Some(queue.waiting.front()?.0)).min().unwrap_or(u64::MAX)
    }

    /// A socket is on its way: what it says first.
    pub fn greet(&mut self, index: u32) {
        let Core { shared, clients, .. } = self;
        let client = &mut clients[index as usize];
        let Greeting { version, clean, keep_alive_s, expiry_s } = client.greeting;
        let planned = &shared.plan.clients[client.member];
        let group = &shared.scenario.groups[client.group];
        client.state = State::Connecting;
        client.carry.clear();
        client.out.clear();
        // What a client draws stays its own when it comes back; what its layer draws does not.
        let seed = shared.scenario.seed.wrapping_add(client.member as u64);
        client.layer = shared.door.layer(seed ^ u64::from(client.generation) << 40);
        let manner = group.manner;
        if manner != Manner::Connect {
            return self.knock(index, manner);
        }
        let mut prng = Prng::new(seed);
        let name = match &group.client_id {
            Some(pattern) => expand(pattern, planned.number, 0, &mut prng),
            None => format!("{}-{}-{}", shared.run, group.name, planned.number),
        };
        let topic =
            group.will.as_ref().map(|will| expand(&will.topic, planned.number, 0, &mut prng));
        let will = group.will.as_ref().zip(topic.as_deref()).map(|(will, topic)| Will {
            qos: QoS::from_u8(will.qos).unwrap_or_default(),
            retain: will.retain,
            topic,
            payload: will.payload.as_bytes(),
            ..Will::default()
        });
        let mut said = |pattern: &String| expand(pattern, planned.number, 0, &mut prng);
        let user = group.user.as_ref().or(shared.scenario.user.as_ref()).map(&mut said);
        let password = group.password.as_ref().or(shared.scenario.password.as_ref());
        let password = password.map(&mut said);
        let expiry = (version == Version::V5 && expiry_s > 0).then_some(expiry_s);
        let connect = Connect {
            version,
            clean_start: clean,
            keep_alive: keep_alive_s,
            client_id: &name,
            will,
            username: user.as_deref(),
            password: password.as_ref().map(|word| word.as_bytes()),
            properties: ConnectProperties { session_expiry: expiry, ..Default::default() },
        };
        connect.encode(&mut client.out);
        self.mark(index);
    }

    /// CONNACK came.
    pub fn connected(
        &mut self,
        index: u32,
        connack: &Connack<'_>,
        now_ns: u64,
    ) -> Result<(), String> {
        if self.is_unwelcome(index) {
            match connack.reason.is_error() {
                true => self.turned_away(index),
                false => self.let_in(index),
            }
            return Ok(());
        }
        if connack.reason.is_error() {
            let what = format!("{}: {}", self.name(index), connack.reason);
            self.fail(BrokerVerdict::Refused(what));
            return Ok(());
        }
        let Core { shared, clients, tally, .. } = self;
        let client = &mut clients[index as usize];
        let Greeting { version, keep_alive_s, .. } = client.greeting;
        let group = &shared.scenario.groups[client.group];
        self.connect.record(now_ns.saturating_sub(client.since_ns).max(1));
        tally.connects += 1;
        tally.reconnects += u64::from(client.seen);
        tally.resumed += u64::from(connack.session_present);
        let most = connack.receive_maximum.unwrap_or(u16::MAX);
        let mut packets = 0;
        if let Some(publisher) = &mut client.publisher {
            publisher.inflight.shrink(most);
            if client.seen {
                let with = writing(shared, version);
                publisher.write_again(connack.session_present, &with, &mut client.out);
            }
        }
        if let (Some(receiver), false) = (&mut client.receiver, connack.session_present) {
            receiver.unreleased.clear();
            if client.player.is_none() {
                let filters = &shared.plan.clients[client.member].filters;
                packets = subscribe(group, filters, version, &mut client.out);
            }
        }
        if keep_alive_s > 0 {
            let due = now_ns + u64::from(keep_alive_s) * 750_000_000;
            self.pings.push(Reverse((due, index, client.generation)));
        }
        self.mark(index);
        match self.clients[index as usize].player {
            Some(_) => self.greeted(index, connack.session_present),
            None => self.subscribed(index, packets),
        }
        Ok(())
    }

    /// So many UNSUBACKs are still due.
    pub fn unsubscribed(&mut self, index: u32, left: usize) {
        let client = &mut self.clients[index as usize];
        if left > 0 {
            client.state = State::Subscribing(left);
            return;
        }
        let group = &self.shared.scenario.groups[client.group];
        let filters = &self.shared.plan.clients[client.member].filters;
        let packets = subscribe(group, filters, client.greeting.version, &mut client.out);
        self.mark(index);
        self.subscribed(index, packets);
    }

    /// So many SUBACKs are still due.
    pub fn subscribed(&mut self, index: u32, left: usize) {
        let client = &mut self.clients[index as usize];
        if left > 0 {
            client.state = State::Subscribing(left);
            return;
        }
        if std::mem::take(&mut client.silent) {
            self.hear(index, true);
        }
        let client = &mut self.clients[index as usize];
        client.state = State::Ready;
        self.tally.ready += 1;
        self.queues[client.group].underway -= 1;
        if client.seen {
            self.tally.away -= 1;
            self.unpark(index);
        }
        self.clients[index as usize].seen = true;
    }

    /// Sends keep-alives that are due.
    pub fn ping(&mut self, now_ns: u64) {
        while let Some(Reverse((due, index, generation))) = self.pings.peek().copied() {
            if due > now_ns {
                return;
            }
            self.pings.pop();
            let client = &mut self.clients[index as usize];
            if client.generation == generation && client.state == State::Ready {
                encode_pingreq(&mut client.out);
                let next = now_ns + u64::from(client.greeting.keep_alive_s) * 750_000_000;
                self.pings.push(Reverse((next, index, generation)));
                self.mark(index);
            }
        }
    }

    /// The clients of a group vanish and come back at `back_ns`.
    pub fn vanish(&mut self, group: usize, back_ns: u64) {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            if client.group == group && client.state == State::Ready {
                client.state = State::Closing;
                client.back_ns = Some(back_ns);
                // Its lag on return is the absence's.
                client.parked = client.is_open_loop();
                self.tally.ready -= 1;
                self.tally.away += 1;
                self.closing.push(client.key(index as u32));
            }
        }
    }

    /// The socket is gone.
    pub fn released(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        client.state = State::Absent;
        client.generation += 1;
        if let Some(back_ns) = client.back_ns.take() {
            self.queues[client.group].waiting.push_back((back_ns, index));
        }
        if client.player.is_some() {
            self.cue(index);
        }
    }

    /// The broker ended a connection that nobody wanted to end.
    pub fn broken(&mut self, index: u32, error: Option<Errno>) {
        let client: &Client = &self.clients[index as usize];
        let state = client.state;
        if matches!(state, State::Closing | State::Absent) || self.phase == Phase::Leave {
            return;
        }
        if self.is_unwelcome(index) {
            return self.turned_away(index);
        }
        let who = self.name(index);
        let how = error.map_or("the broker closed the connection".to_owned(), |e| e.to_string());
        self.fail(match (state, error) {
            (State::Connecting, Some(_)) => BrokerVerdict::Unreachable(format!("{who}: {how}")),
            (State::Connecting, None) => {
                BrokerVerdict::Refused(format!("{who}: closed without CONNACK"))
            }
            _ => BrokerVerdict::Died(format!("{who}: {how}")),
        });
    }
}

/// Appends the subscriptions; tells how many packets they take.
fn subscribe(group: &Group, filters: &[String], version: Version, out: &mut Vec<u8>) -> usize {
    let qos = QoS::from_u8(group.qos).unwrap_or_default();
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    let shared = |filter: &String| match &group.share {
        Some(share) => format!("$share/{share}/{filter}"),
        None => filter.clone(),
    };
    let mut packets = 0u16;
    for some in filters.chunks(FILTERS_PER_PACKET) {
        let names: Vec<String> = some.iter().map(shared).collect();
        let filters: Vec<_> = names.iter().map(|name| (name.as_str(), options)).collect();
        packets = packets.wrapping_add(1).max(1);
        let packet_id = PacketId::new(packets).expect("identifiers start at 1");
        SubscribeOut { packet_id, subscription_id: None, filters: &filters }.encode(version, out);
    }
    filters.len().div_ceil(FILTERS_PER_PACKET)
}
