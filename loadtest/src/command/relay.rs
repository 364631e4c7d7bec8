//! The bare relay: what a host can do without MQTT. It reads CONNECT and SUBSCRIBE to learn who is
//! who, and after that moves bytes from publishers to their subscribers unread.
//!
//! Invariants worth naming:
//! * packets of one publisher are of one length, which its first packet tells; a packet that was
//!   cut waits for its rest, so that subscribers receive whole ones;
//! * bytes of one turn to one subscriber leave in one send, as the broker's do.

use super::{Done, Result};
use crate::args::RelayArgs;
use crate::plan::Plan;
use crate::process;
use crate::scenario::{Protocol, Role, Scenario, Transport};
use corelane::codec::{
    Connack, Packet, ReasonCode, Version, decode, encode_pingresp, encode_suback, frame,
};
use corelane::net::{Driver, DriverSettings, Event, ListenerSettings, SocketKey, bind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Completions taken in one turn.
const REAP_MAX: usize = 4096;

/// One connection.
#[derive(Default)]
struct Link {
    generation: u32,
    /// Its place in the plan, once CONNECT told.
    member: Option<usize>,
    /// Bytes of a packet whose end has not come.
    carry: Vec<u8>,
    out: Vec<u8>,
    dirty: bool,
    /// A publisher's packet length, once known.
    unit: usize,
}

struct Relay {
    scenario: Scenario,
    version: Version,
    plan: Plan,
    links: Vec<Link>,
    free: Vec<u32>,
    /// The connection of each client of the plan.
    seats: Vec<Option<u32>>,
    /// For each publisher of the plan its subscribers, by place in the plan.
    targets: Vec<Vec<usize>>,
    dirty: Vec<u32>,
    fresh: Vec<(SocketKey, std::os::fd::OwnedFd)>,
    closing: Vec<SocketKey>,
}

/// Relays until it is killed.
///
/// # Errors
/// The scenario cannot be read, or the port is taken.
pub fn relay(args: &RelayArgs) -> Result<Done> {
    let scenario: Scenario = serde_json::from_str(&std::fs::read_to_string(&args.scenario)?)?;
    if let Some(cpu) = args.cpu {
        process::pin(&[cpu])?;
    }
    let mut driver = Driver::new(&DriverSettings {
        recv_buffer_bytes: 64 * 1024,
        recv_buffers: 512,
        ..DriverSettings::default()
    })?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    driver.listen(bind(&ListenerSettings::new(address))?.0, 0);
    let mut relay = Relay::new(scenario);
    loop {
        driver.wait(Some(Duration::from_secs(1)))?;
        driver.reap(REAP_MAX, |event| relay.on_event(event));
        for (key, fd) in relay.fresh.drain(..) {
            driver.register(key, fd);
            driver.read_stream(key);
        }
        for key in relay.closing.drain(..) {
            driver.close(key, corelane::base::Time(0));
        }
        for index in std::mem::take(&mut relay.dirty) {
            let link = &mut relay.links[index as usize];
            link.dirty = false;
            let key = SocketKey { index, generation: link.generation };
            if !link.out.is_empty() && !driver.sending(key) {
                let _ = driver.send(key, std::mem::take(&mut link.out));
            }
        }
    }
}

impl Relay {
    fn new(scenario: Scenario) -> Relay {
        let plan = Plan::new(&scenario);
        let mut targets = vec![Vec::new(); plan.clients.len()];
        let mut senders = vec![0; plan.flows.len()];
        for (at, client) in plan.clients.iter().enumerate() {
            for flow in client.flows.clone() {
                senders[flow as usize] = at;
            }
        }
        for (at, client) in plan.clients.iter().enumerate() {
            for (flow, _) in &client.heard {
                targets[senders[*flow as usize]].push(at);
            }
        }
        let version = match scenario.version {
            Protocol::V311 => Version::V311,
            Protocol::V5 => Version::V5,
        };
        Relay {
            version,
            links: Vec::new(),
            free: Vec::new(),
            seats: vec![None; plan.clients.len()],
            targets,
            dirty: Vec::new(),
            fresh: Vec::new(),
            closing: Vec::new(),
            plan,
            scenario,
        }
    }

    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { fd, .. } => {
                let index = self.free.pop().unwrap_or(self.links.len() as u32);
                if index as usize == self.links.len() {
                    self.links.push(Link::default());
                }
                let generation = self.links[index as usize].generation;
                self.fresh.push((SocketKey { index, generation }, fd));
            }
            Event::Received { key, bytes } => self.received(key, bytes),
            Event::Sent { key, buffer } => {
                let link = &mut self.links[key.index as usize];
                if link.out.is_empty() {
                    link.out = buffer;
                } else {
                    self.mark(key.index);
                }
            }
            Event::EndOfInput { key, .. } | Event::SendFailed { key, .. } => self.closing.push(key),
            Event::Released { key } => {
                let link = &mut self.links[key.index as usize];
                if let Some(member) = link.member {
                    self.seats[member] = None;
                }
                *link = Link { generation: key.generation + 1, ..Link::default() };
                self.free.push(key.index);
            }
            Event::AcceptFailed { .. } | Event::Woken => {}
        }
    }

    fn mark(&mut self, index: u32) {
        let link = &mut self.links[index as usize];
        if !link.dirty {
            link.dirty = true;
            self.dirty.push(index);
        }
    }

    fn received(&mut self, key: SocketKey, bytes: &[u8]) {
        let link = &mut self.links[key.index as usize];
        let publisher = link.member.filter(|at| !self.plan.clients[*at].flows.is_empty());
        let Some(publisher) = publisher else {
            link.carry.extend_from_slice(bytes);
            return self.control(key);
        };
        let mut rest = bytes;
        if link.unit == 0 {
            link.carry.extend_from_slice(bytes);
            match frame(&link.carry, usize::MAX) {
                Ok(Some(found)) => link.unit = found.len,
                _ => return,
            }
            rest = &[];
        } else if !link.carry.is_empty() {
            let (lack, left) = rest.split_at((link.unit - link.carry.len()).min(rest.len()));
            link.carry.extend_from_slice(lack);
            rest = left;
        }
        let mut carry = std::mem::take(&mut link.carry);
        let unit = link.unit;
        let cut = carry.len() - carry.len() % unit;
        self.forward(publisher, &carry[..cut]);
        carry.drain(..cut);
        let whole = rest.len() - rest.len() % unit;
        self.forward(publisher, &rest[..whole]);
        carry.extend_from_slice(&rest[whole..]);
        self.links[key.index as usize].carry = carry;
    }

    fn forward(&mut self, publisher: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        for at in 0..self.targets[publisher].len() {
            if let Some(index) = self.seats[self.targets[publisher][at]] {
                self.links[index as usize].out.extend_from_slice(bytes);
                self.mark(index);
            }
        }
    }

    /// What is not relayed: the packets that a client begins with.
    fn control(&mut self, key: SocketKey) {
        let mut carry = std::mem::take(&mut self.links[key.index as usize].carry);
        let mut at = 0;
        while let Ok(Some(found)) = frame(&carry[at..], usize::MAX) {
            let Ok(packet) = decode(&found, self.version) else { break };
            at += found.len;
            self.answer(key, packet);
        }
        carry.drain(..at);
        self.links[key.index as usize].carry = carry;
    }

    fn answer(&mut self, key: SocketKey, packet: Packet<'_>) {
        let version = self.version;
        let index = key.index;
        match packet {
            Packet::Connect(connect) => {
                let member = self.member(connect.client_id);
                if let Some(member) = member {
                    self.seats[member] = Some(index);
                }
                let link = &mut self.links[index as usize];
                link.member = member;
                Connack::default().encode(version, &mut link.out);
            }
            Packet::Subscribe(subscribe) => {
                let reasons: Vec<_> = subscribe.filters().map(|_| ReasonCode::SUCCESS).collect();
                let out = &mut self.links[index as usize].out;
                encode_suback(version, subscribe.packet_id, &reasons, None, out);
            }
            Packet::Pingreq => encode_pingresp(&mut self.links[index as usize].out),
            _ => {}
        }
        self.mark(index);
    }

    /// The client that a generator's identifier "run-group-number" stands for.
    fn member(&self, client_id: &str) -> Option<usize> {
        let (rest, number) = client_id.rsplit_once('-')?;
        let number: usize = number.parse().ok()?;
        self.plan.clients.iter().position(|client| {
            let group = &self.scenario.groups[client.group];
            let named = rest.strip_suffix(&group.name).is_some_and(|rest| rest.ends_with('-'));
            client.number == number && named
        })
    }
}

/// The scenario as the relay can carry it: one QoS 0 packet length for each publisher.
///
/// # Errors
/// What a relay without MQTT cannot do.
pub fn relayed(scenario: &Scenario) -> std::result::Result<Scenario, String> {
    if scenario.transport != Transport::Tcp {
        let transport = scenario.transport.name();
        return Err(format!("the relay speaks plain TCP, not {transport}; use --transport tcp"));
    }
    let mut relayed = scenario.clone();
    for group in &mut relayed.groups {
        let name = &group.name;
        let plain =
            group.topics.len() == 1 && (group.topic_count == 1 || group.role != Role::Publish);
        if group.role == Role::Publish && (!plain || group.payload.fixed().is_none()) {
            return Err(format!("group `{name}`: the relay needs one topic and one payload size"));
        }
        if group.share.is_some() || group.will.is_some() {
            return Err(format!("group `{name}`: the relay knows no share groups and wills"));
        }
        (group.qos, group.client_id) = (0, None);
    }
    Ok(relayed)
}
