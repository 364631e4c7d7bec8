//! A model client: what it knows of its session, and what it makes of each packet it reads.
//! Whatever the protocol forbids a server is an error here.

use crate::ledger::{Ledger, Serial, WillFate};
use crate::network::{Pipe, PipeId};
use crate::plan::{FILTERS, GROUPS, Plan};
use crate::trace;
use corelane::base::{PacketId, Prng, Time};
use corelane::codec::{self, Ack, Connack, Packet, PacketType, QoS, ReasonCode, Version};
use corelane::topic::{AliasTable, TopicFilter, TopicName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How far one of the client's own QoS 1 and 2 messages has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    Published,
    Released,
}

/// One of the client's own messages in flight.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub id: u16,
    pub serial: Serial,
    pub progress: Progress,
    pub bytes_len: usize,
    pub expiry_s: Option<u32>,
}

/// One subscription of the session's history.
#[derive(Clone, Debug)]
pub struct Held {
    /// As sent, `$share` and all.
    pub text: String,
    /// The filter alone.
    pub filter: &'static str,
    pub qos: QoS,
    pub identifier: Option<u32>,
    pub replays: bool,
    /// Step of the SUBACK.
    pub held: Option<u64>,
    /// An UNSUBSCRIBE was sent.
    pub leaving: bool,
    /// Step of the UNSUBACK.
    pub gone: Option<u64>,
}

impl Held {
    /// Whether the filter matches `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        filter_matches(self.filter, topic)
    }
}

/// The oracle.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    let filter = TopicFilter::new(filter).expect("filters of the plan are valid");
    filter.matches(TopicName::new(topic).expect("topics of the plan are valid"))
}

/// What became of one message at one session.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Live arrivals without DUP.
    pub first: u32,
    /// Live arrivals.
    pub live: u32,
    /// Arrivals as a retained message.
    pub replayed: u32,
}

/// What ends with the session.
#[derive(Default)]
pub struct Session {
    pub outgoing: Vec<Outgoing>,
    /// QoS 2 identifiers from the broker that it has not released.
    pub incoming: BTreeMap<u16, Option<Serial>>,
    pub held: Vec<Held>,
    pub seen: BTreeMap<Serial, Seen>,
    /// Packet identifiers of all QoS 1 and 2 messages: no run is so long that one is used twice.
    pub taken: BTreeSet<u16>,
    /// First live arrivals in order.
    pub arrivals: Vec<(&'static str, QoS, Serial)>,
    /// The last of each publisher by topic, QoS and way.
    pub last: BTreeMap<(&'static str, usize, u8, bool), Serial>,
}

/// An acknowledgement that the client has not sent yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    pub kind: PacketType,
    pub id: u16,
}

/// What the client waits for under a packet identifier.
#[derive(Debug)]
pub enum Asked {
    Subscribe(Vec<usize>),
    Unsubscribe(Vec<usize>),
}

/// One connection from the client's side.
pub struct Link {
    pub pipe: PipeId,
    pub input: Vec<u8>,
    pub open: bool,
    pub clean: bool,
    /// DISCONNECT was sent, with its reason.
    pub left: Option<ReasonCode>,
    pub receive_maximum: usize,
    pub maximum_packet: usize,
    pub broker_maximum: usize,
    pub broker_aliases: u16,
    pub aliases: BTreeMap<u16, &'static str>,
    /// Aliases that the broker has given, of those it was offered.
    pub given: AliasTable,
    pub replies: Vec<Reply>,
    pub owed: VecDeque<(PacketType, u16)>,
    pub completes: VecDeque<u16>,
    pub asked: BTreeMap<u16, Asked>,
    pub pings: usize,
    pub in_flight: BTreeSet<u16>,
    pub most_once: BTreeSet<Serial>,
    pub will: Option<(Serial, u32)>,
    /// The last packet was DISCONNECT with this reason.
    pub farewell: Option<ReasonCode>,
    pub lazy_until: Time,
    /// Seconds; zero: none.
    pub keep_alive_s: u16,
    /// Session expiry in force, in seconds.
    pub expiry_s: u32,
    /// When DISCONNECT was sent.
    pub left_at: Option<Time>,
}

impl Link {
    /// A connection whose CONNECT is on its way; `most`: receive maximum and largest packet,
    /// `will`: its serial and delay.
    pub fn new(
        pipe: PipeId,
        clean: bool,
        most: (usize, Option<u32>),
        will: Option<(Serial, u32)>,
    ) -> Link {
        Link {
            pipe,
            input: Vec::new(),
            open: false,
            clean,
            left: None,
            receive_maximum: most.0,
            maximum_packet: most.1.map_or(usize::MAX, |most| most as usize),
            broker_maximum: 1,
            broker_aliases: 0,
            aliases: BTreeMap::new(),
            given: AliasTable::default(),
            replies: Vec::new(),
            owed: VecDeque::new(),
            completes: VecDeque::new(),
            asked: BTreeMap::new(),
            pings: 0,
            in_flight: BTreeSet::new(),
            most_once: BTreeSet::new(),
            will,
            farewell: None,
            lazy_until: Time(0),
            keep_alive_s: 0,
            expiry_s: 0,
            left_at: None,
        }
    }
}

/// A connection that a newer one of the same client replaced.
pub struct Replaced {
    pub pipe: PipeId,
    pub input: Vec<u8>,
    pub farewell: Option<ReasonCode>,
    pub until: Time,
}

/// A model client.
pub struct Client {
    pub index: usize,
    pub id: String,
    pub version: Version,
    /// Member of this share group, and subscribes to nothing else.
    pub group: Option<usize>,
    pub retain_as_published: bool,
    pub no_local: bool,
    /// Acknowledges in any order.
    pub disorderly: bool,
    pub link: Option<Link>,
    pub replaced: Vec<Replaced>,
    pub session: Session,
    /// Counts sessions; zero before the first.
    pub incarnation: u32,
    /// The session is known to be alive until it is said otherwise.
    pub lasting: bool,
    pub pending_will: Option<Serial>,
    pub next_id: u16,
    pub reconnect_at: Time,
    pub settled: bool,
    pub retired: bool,
    /// A CONNECT was sent whose fate is not known; it may still take over a later connection.
    pub strayed: bool,
    /// The largest packet that it takes.
    pub maximum_packet: Option<u32>,
    /// The last CONNECT had no answer, so whose session the broker holds is not known.
    pub uncertain: bool,
    /// Not to connect before the broker is done with this one.
    pub waits_for: Option<PipeId>,
    /// QoS 0 messages read on all connections.
    pub most_once_taken: u64,
    /// Until when the session outlives the last connection, if it is known.
    pub kept_until: Option<Time>,
}

/// What reading a packet needs to know.
pub struct Reader<'w> {
    pub ledger: &'w mut Ledger,
    pub plan: &'w Plan,
    /// The connection, for what has to be sent at once.
    pub pipe: &'w mut Pipe,
    pub now: Time,
}

macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}
pub(crate) use ensure;

impl Client {
    /// A client as the seed wants it.
    pub fn draw(index: usize, plan: &Plan, random: &mut Prng) -> Client {
        let version = if random.one_in(2) { Version::V5 } else { Version::V311 };
        let fifth = version == Version::V5;
        let mut client = Client::absent();
        client.index = index;
        client.id = format!("client-{index}");
        client.version = version;
        if fifth && !plan.stable && random.one_in(6) {
            // The broker finds one.
            client.id.clear();
        }
        client.group = (index >= 2 && random.one_in(3)).then(|| random.below(GROUPS.len()));
        client.retain_as_published = fifth && random.one_in(6);
        client.no_local = fifth && random.one_in(8);
        client.disorderly = random.one_in(3);
        client.lasting = plan.stable;
        // The same all the time: a QoS 2 message that became too large in the middle of its
        // exchange could not be finished.
        let small = fifth && !plan.lossless && random.one_in(4);
        client.maximum_packet = small.then_some(150);
        client.next_id = 1 + random.below(60_000) as u16;
        client
    }

    /// A client that takes no part.
    pub fn absent() -> Client {
        Client {
            index: 0,
            id: String::new(),
            version: Version::V5,
            group: None,
            retain_as_published: false,
            no_local: false,
            disorderly: false,
            link: None,
            replaced: Vec::new(),
            session: Session::default(),
            incarnation: 0,
            lasting: false,
            pending_will: None,
            next_id: 1,
            reconnect_at: Time(0),
            settled: false,
            retired: false,
            strayed: false,
            maximum_packet: None,
            uncertain: false,
            waits_for: None,
            most_once_taken: 0,
            kept_until: None,
        }
    }

    /// The QoS with which this client subscribes to a filter.
    pub fn qos_of(&self, filter: usize) -> QoS {
        QoS::from_u8(((self.index * 7 + filter * 5 + 2) % 3) as u8).expect("below three")
    }

    /// A packet identifier that is not in use.
    pub fn free_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            let id = self.next_id;
            let used = self.session.outgoing.iter().any(|out| out.id == id)
                || self.link.as_ref().is_some_and(|link| link.asked.contains_key(&id));
            if let Some(id) = PacketId::new(id).filter(|_| !used) {
                return id;
            }
        }
    }

    /// One packet from the broker.
    pub fn packet(
        &mut self,
        frame: &codec::Frame<'_>,
        world: &mut Reader<'_>,
    ) -> Result<(), String> {
        let decoded = codec::decode(frame, self.version);
        let packet = decoded.map_err(|error| format!("undecodable packet: {error:?}"))?;
        let Some(link) = self.link.as_mut() else { return Ok(()) };
        ensure!(link.farewell.is_none(), "a packet after DISCONNECT: {packet:?}");
        if let Packet::Disconnect(disconnect) = packet {
            link.farewell = Some(disconnect.reason);
        }
        if let Packet::Publish(publish) = &packet {
            self.most_once_taken += u64::from(publish.packet_id.is_none());
        }
        if link.left.is_some() {
            return Ok(());
        }
        ensure!(
            frame.len <= link.maximum_packet,
            "{} bytes, allowed are {}",
            frame.len,
            link.maximum_packet
        );
        trace(format_args!("    client {} reads {packet:?}", self.index));
        match packet {
            Packet::Connack(connack) => return self.connack(&connack, world),
            _ => ensure!(link.open, "{packet:?} before CONNACK"),
        }
        match packet {
            Packet::Publish(publish) => self.publish(&publish, world),
            Packet::Puback(ack) => self.acknowledged(PacketType::Puback, &ack, world),
            Packet::Pubrec(ack) => self.acknowledged(PacketType::Pubrec, &ack, world),
            Packet::Pubcomp(ack) => self.completed(&ack),
            Packet::Pubrel(ack) => self.released(&ack),
            Packet::Suback(suback) => {
                let asked = link.asked.remove(&suback.packet_id.get());
                let Some(Asked::Subscribe(held)) = asked else {
                    return Err(format!("SUBACK for {:?}", suback.packet_id));
                };
                self.subscribed(&held, &suback.reasons().collect::<Vec<_>>(), world.ledger.step())
            }
            Packet::Unsuback(unsuback) => {
                let asked = link.asked.remove(&unsuback.packet_id.get());
                let Some(Asked::Unsubscribe(held)) = asked else {
                    return Err(format!("UNSUBACK for {:?}", unsuback.packet_id));
                };
                let step = world.ledger.step();
                for at in held {
                    self.session.held[at].gone.get_or_insert(step);
                }
                Ok(())
            }
            Packet::Pingresp => {
                ensure!(link.pings > 0, "PINGRESP without PINGREQ");
                link.pings -= 1;
                Ok(())
            }
            Packet::Disconnect(_) => {
                ensure!(self.version == Version::V5, "DISCONNECT to a client of 3.1.1");
                Ok(())
            }
            other => Err(format!("not for clients: {other:?}")),
        }
    }

    /// A SUBACK for subscriptions `held` arrived at `step`.
    fn subscribed(
        &mut self,
        held: &[usize],
        reasons: &[ReasonCode],
        step: u64,
    ) -> Result<(), String> {
        ensure!(reasons.len() == held.len(), "{reasons:?} for {held:?}");
        for (at, reason) in held.iter().zip(reasons) {
            let held = &mut self.session.held[*at];
            ensure!(reason.0 == held.qos as u8, "{reason} for {held:?}");
            held.held = Some(step);
        }
        Ok(())
    }

    fn connack(&mut self, connack: &Connack<'_>, world: &mut Reader<'_>) -> Result<(), String> {
        let link = self.link.as_mut().expect("it is being read");
        ensure!(!link.open, "a second CONNACK");
        ensure!(connack.reason == ReasonCode::SUCCESS, "refused: {connack:?}");
        ensure!(!(link.clean && connack.session_present), "a session after a clean start");
        link.open = true;
        let assigned = connack.assigned_client_id.unwrap_or_default();
        let named = assigned.is_empty() != self.id.is_empty();
        ensure!(named, "{:?} was assigned {assigned:?}", self.id);
        self.id += assigned;
        self.uncertain = false;
        let settings = &world.plan.settings;
        link.broker_maximum = usize::from(settings.session.receive_maximum);
        link.broker_aliases = connack.topic_alias_maximum;
        if self.version == Version::V5 {
            let told = connack.receive_maximum.map_or(65_535, usize::from);
            ensure!(told == link.broker_maximum, "receive maximum {told}");
        }
        let lasting = self.lasting && self.incarnation > 0;
        ensure!(connack.session_present || !lasting, "the session was lost");
        let kept = self.kept_until.take().is_some_and(|until| world.now < until) && !link.clean;
        ensure!(connack.session_present || !kept, "the session was not kept");
        if let Some(will) = self.pending_will.take()
            && !connack.session_present
        {
            world.ledger.will_due(will)?;
        }
        // A session that is there at the first answer was made by a CONNECT that got none.
        if !connack.session_present || self.incarnation == 0 {
            self.session = Session::default();
            self.incarnation += 1;
            return Ok(());
        }
        let mut bytes = Vec::new();
        self.resend(world.ledger, &mut bytes);
        world.pipe.up.extend(bytes);
        Ok(())
    }

    fn acknowledged(
        &mut self,
        kind: PacketType,
        ack: &Ack<'_>,
        world: &mut Reader<'_>,
    ) -> Result<(), String> {
        let link = self.link.as_mut().expect("it is being read");
        let id = ack.packet_id.get();
        let next = link.owed.pop_front();
        ensure!(next == Some((kind, id)), "{kind:?} {id} where {next:?} was due");
        ensure!(!ack.reason.is_error(), "{kind:?} with {}", ack.reason);
        let found = self.session.outgoing.iter().position(|out| out.id == id);
        let at = found.ok_or_else(|| format!("{kind:?} for an identifier not in use: {id}"))?;
        let serial = self.session.outgoing[at].serial;
        world.ledger.accepted(serial);
        if kind == PacketType::Puback {
            self.session.outgoing.remove(at);
            // A message sent again before its acknowledgement is acknowledged twice.
            return Ok(());
        }
        if self.session.outgoing[at].progress == Progress::Published {
            self.session.outgoing[at].progress = Progress::Released;
            link.replies.push(Reply { kind: PacketType::Pubrel, id });
        }
        Ok(())
    }

    fn completed(&mut self, ack: &Ack<'_>) -> Result<(), String> {
        let link = self.link.as_mut().expect("it is being read");
        let id = ack.packet_id.get();
        let next = link.completes.pop_front();
        ensure!(next == Some(id), "PUBCOMP {id} where {next:?} was due");
        let before = self.session.outgoing.len();
        self.session.outgoing.retain(|out| out.id != id || out.progress != Progress::Released);
        ensure!(self.session.outgoing.len() + 1 == before, "PUBCOMP {id} finishes nothing");
        Ok(())
    }

    fn released(&mut self, ack: &Ack<'_>) -> Result<(), String> {
        let link = self.link.as_mut().expect("it is being read");
        let id = ack.packet_id.get();
        ensure!(ack.reason == ReasonCode::SUCCESS, "PUBREL with {}", ack.reason);
        self.session.incoming.remove(&id);
        link.in_flight.insert(id);
        link.replies.push(Reply { kind: PacketType::Pubcomp, id });
        Ok(())
    }

    /// The filters that this client may subscribe to, as sent and as filters.
    pub fn filter_text(&self, filter: usize) -> (String, &'static str) {
        match self.group {
            Some(group) => {
                let (name, filter) = GROUPS[group];
                (format!("$share/{name}/{filter}"), filter)
            }
            None => (FILTERS[filter].to_owned(), FILTERS[filter]),
        }
    }

    /// What the client expects of its will when a connection is gone.
    pub fn link_gone(
        &mut self,
        link: &Link,
        broken: bool,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let Some((will, delay_s)) = link.will.filter(|_| link.open) else { return Ok(()) };
        match link.left {
            Some(ReasonCode::SUCCESS) => {
                if !broken && link.farewell.is_none() && ledger.is_calm && !self.strayed {
                    return ledger.will_forbidden(will);
                }
                Ok(())
            }
            _ if delay_s == 0 => ledger.will_due(will),
            _ => {
                self.pending_will = Some(will);
                Ok(())
            }
        }
    }
}

impl Ledger {
    /// The will must be published.
    pub fn will_due(&mut self, will: Serial) -> Result<(), String> {
        self.accepted(will);
        self.publications[will as usize].will = Some(WillFate::Due);
        Ok(())
    }

    /// The will must never be published.
    pub fn will_forbidden(&mut self, will: Serial) -> Result<(), String> {
        ensure!(!self.wills_seen.contains(&will), "the will {will} of a clean end was published");
        self.publications[will as usize].will = Some(WillFate::Forbidden);
        Ok(())
    }

    /// Somebody got the will.
    pub fn will_seen(&mut self, will: Serial) -> Result<(), String> {
        self.wills_seen.insert(will);
        let publication = self.get(will);
        ensure!(publication.will != Some(WillFate::Forbidden), "will {publication:?}");
        Ok(())
    }
}
