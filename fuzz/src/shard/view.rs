//! What client and broker said on one connection, what is known of sessions and messages, and the
//! rules that the broker's part must keep. Where the input leaves open what the broker saw, the
//! rules assume the case that allows more.

use corelane::base::PacketId;
use corelane::codec::{self, Ack, Connect, Packet, PacketType, Publish, QoS, ReasonCode, Version};
use corelane::shard::Settings;
use std::collections::{HashMap, HashSet, VecDeque};

/// A message is told by its payload.
type Payload = Vec<u8>;

/// What is known of one client identifier.
#[derive(Default)]
struct History {
    /// Rises whenever the session may be another one than before.
    lineage: u32,
    /// Connections that name it and still stand.
    live: usize,
    /// The session outlives its connection for as long as a script takes.
    durable: bool,
    /// QoS 2 from the client: identifier to message, and the lineage it belongs to.
    incoming: HashMap<u16, (Payload, u32)>,
    /// QoS 2 to the client that the broker has not released: identifier and lineage.
    outgoing: HashMap<(u16, u32), Payload>,
    /// Messages that came with QoS 0 or 2.
    delivered: HashMap<(Payload, u32), usize>,
    /// Share groups ever joined.
    groups: HashSet<String>,
}

/// What is known of all sessions and messages.
pub struct Histories {
    clients: HashMap<String, History>,
    /// How often a message was published at most.
    published: HashMap<Payload, usize>,
    /// Messages that may come several times: retained ones.
    repeatable: HashSet<Payload>,
    packet_bytes: usize,
}

impl Histories {
    /// Nothing is known yet.
    pub fn new(settings: &Settings) -> Histories {
        Histories {
            clients: HashMap::new(),
            published: HashMap::new(),
            repeatable: HashSet::from([b"will".to_vec()]),
            packet_bytes: settings.limits.packet_bytes,
        }
    }
}

/// One connection.
pub struct View {
    /// Unfinished packets in both directions.
    up: Vec<u8>,
    down: Vec<u8>,
    version: Version,
    client_id: Option<String>,
    lineage: u32,
    receive_maximum: usize,
    maximum_packet: usize,
    alias_maximum: u16,
    aliases: HashSet<u16>,
    /// The broker has reason to close, or has closed.
    doomed: bool,
    open: bool,
    finished: bool,
    /// Answers that may come, and whether one must.
    owed: HashMap<(PacketType, u16), (usize, bool)>,
    in_flight: HashSet<u16>,
    /// Acknowledged before it was read.
    early: HashSet<u16>,
    replies: VecDeque<(PacketType, PacketId)>,
}

impl View {
    /// A connection on which nothing was said; `serial` names clients without a name.
    pub fn new(serial: usize) -> View {
        View {
            up: Vec::new(),
            down: Vec::new(),
            version: Version::V311,
            client_id: None,
            lineage: serial as u32,
            receive_maximum: 65_535,
            maximum_packet: usize::MAX,
            alias_maximum: 0,
            aliases: HashSet::new(),
            doomed: false,
            open: false,
            finished: false,
            owed: HashMap::new(),
            in_flight: HashSet::new(),
            early: HashSet::new(),
            replies: VecDeque::new(),
        }
    }

    /// The client sent `bytes`.
    pub fn sent(&mut self, bytes: &[u8], all: &mut Histories) {
        let mut input = std::mem::take(&mut self.up);
        input.extend_from_slice(bytes);
        let mut at = 0;
        while !self.doomed {
            let frame = match codec::frame(&input[at..], all.packet_bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => {
                    self.doomed = true;
                    break;
                }
            };
            at += frame.len;
            let first = self.client_id.is_none();
            if first {
                self.version = codec::connect_version_hint(frame.body);
            }
            match codec::decode(&frame, self.version) {
                Ok(Packet::Connect(connect)) if first => self.connects(&connect, all),
                Ok(packet) if !first => self.asks(&packet, all),
                _ => self.doomed = true,
            }
        }
        self.up = input.split_off(at);
    }

    fn connects(&mut self, connect: &Connect<'_>, all: &mut Histories) {
        self.version = connect.version;
        let name = match connect.client_id {
            "" => format!("nameless {}", self.lineage),
            id => id.to_owned(),
        };
        let history = all.clients.entry(name.clone()).or_default();
        if connect.clean_start || !history.durable || history.live > 0 {
            history.lineage += 1;
            history.incoming.clear();
        }
        history.live += 1;
        let properties = &connect.properties;
        history.durable = match connect.version {
            Version::V5 => properties.session_expiry.is_some_and(|expiry| expiry > 10_000),
            _ => !connect.clean_start,
        };
        self.lineage = history.lineage;
        self.client_id = Some(name);
        self.receive_maximum = properties.receive_maximum.map_or(65_535, |most| most.get().into());
        if let Some(most) = properties.maximum_packet_size {
            self.maximum_packet = most.get() as usize;
        }
        self.alias_maximum = properties.topic_alias_maximum;
        self.owe(PacketType::Connack, 0);
    }

    fn owe(&mut self, kind: PacketType, id: u16) {
        let (count, open) = self.owed.entry((kind, id)).or_default();
        (*count, *open) = (*count + 1, true);
    }

    fn asks(&mut self, packet: &Packet<'_>, all: &mut Histories) {
        let id = |ack: &Ack<'_>| ack.packet_id.get();
        match packet {
            Packet::Publish(publish) => self.publishes(publish, all),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => self.finishes(id(ack)),
            Packet::Pubrec(ack) if ack.reason.is_error() => self.finishes(id(ack)),
            // An identifier that the broker does not know is answered too, and finished by it.
            Packet::Pubrec(ack) => self.owe(PacketType::Pubrel, id(ack)),
            Packet::Pubrel(ack) => {
                if let Some(history) = self.history(all) {
                    history.incoming.remove(&id(ack));
                }
                self.owe(PacketType::Pubcomp, id(ack));
            }
            Packet::Subscribe(subscribe) => {
                if let Some(history) = self.history(all) {
                    let shared = subscribe.filters().filter(|(f, _)| f.starts_with("$share/"));
                    history.groups.extend(shared.map(|(filter, _)| filter.to_owned()));
                }
                self.owe(PacketType::Suback, subscribe.packet_id.get());
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.owe(PacketType::Unsuback, unsubscribe.packet_id.get());
            }
            Packet::Pingreq => self.owe(PacketType::Pingresp, 0),
            Packet::Disconnect(disconnect) => {
                if disconnect.session_expiry.is_some()
                    && let Some(history) = self.history(all)
                {
                    history.durable = false;
                }
                self.doomed = true;
            }
            _ => self.doomed = true,
        }
    }

    fn history<'h>(&self, all: &'h mut Histories) -> Option<&'h mut History> {
        all.clients.get_mut(self.client_id.as_ref()?)
    }

    fn publishes(&mut self, publish: &Publish<'_>, all: &mut Histories) {
        let payload = publish.payload.to_vec();
        let id = publish.packet_id.map_or(0, PacketId::get);
        let entry = (payload.clone(), self.lineage);
        let mut new = true;
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.owe(PacketType::Puback, id),
            QoS::ExactlyOnce => {
                if let Some(history) = self.history(all) {
                    new = history.incoming.insert(id, entry.clone()) != Some(entry);
                }
                self.owe(PacketType::Pubrec, id);
            }
        }
        if publish.retain {
            all.repeatable.insert(payload.clone());
        }
        *all.published.entry(payload).or_default() += usize::from(new);
    }

    fn finishes(&mut self, id: u16) {
        if !self.in_flight.remove(&id) {
            self.early.insert(id);
        }
    }

    /// The client read `bytes`.
    pub fn received(&mut self, bytes: &[u8], all: &mut Histories) {
        let mut input = std::mem::take(&mut self.down);
        input.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(frame) =
            codec::frame(&input[at..], usize::MAX).expect("the broker sends packets")
        {
            assert!(!self.finished, "a packet after the last one");
            let packet = codec::decode(&frame, self.version).expect("a packet can be decoded");
            let fits = frame.len <= self.maximum_packet;
            assert!(fits || !matches!(packet, Packet::Publish(_)), "larger than the client takes");
            self.reads(&packet, all);
            at += frame.len;
        }
        self.down = input.split_off(at);
    }

    fn reads(&mut self, packet: &Packet<'_>, all: &mut Histories) {
        assert!(self.open || matches!(packet, Packet::Connack(_)), "{packet:?} before CONNACK");
        match packet {
            Packet::Connack(connack) => {
                assert!(!self.open, "a second CONNACK");
                (self.open, self.finished) = (true, connack.reason.is_error());
                // A CONNECT that can't be decoded is answered without having been counted.
                self.owed.remove(&(PacketType::Connack, 0));
            }
            Packet::Publish(publish) => self.delivered(publish, all),
            Packet::Pubrel(ack) => {
                let (id, lineage) = (ack.packet_id.get(), self.lineage);
                if let Some(history) = self.history(all) {
                    history.outgoing.remove(&(id, lineage));
                }
                // After a reconnect it comes without PUBREC.
                self.owed.remove(&(PacketType::Pubrel, id));
                if ack.reason == ReasonCode::SUCCESS {
                    self.replies.push_back((PacketType::Pubcomp, ack.packet_id));
                }
            }
            Packet::Puback(ack) => self.answers(PacketType::Puback, ack.packet_id.get()),
            Packet::Pubrec(ack) => {
                if ack.reason.is_error()
                    && let Some(history) = self.history(all)
                {
                    history.incoming.remove(&ack.packet_id.get());
                }
                self.answers(PacketType::Pubrec, ack.packet_id.get());
            }
            Packet::Pubcomp(ack) => self.answers(PacketType::Pubcomp, ack.packet_id.get()),
            Packet::Suback(suback) => self.answers(PacketType::Suback, suback.packet_id.get()),
            Packet::Unsuback(unsuback) => {
                self.answers(PacketType::Unsuback, unsuback.packet_id.get());
            }
            Packet::Pingresp => self.answers(PacketType::Pingresp, 0),
            Packet::Disconnect(_) => {
                assert_eq!(self.version, Version::V5, "only version 5 is told why");
                self.finished = true;
            }
            _ => panic!("a server does not send {packet:?}"),
        }
    }

    fn answers(&mut self, kind: PacketType, id: u16) {
        let Some((count, open)) = self.owed.get_mut(&(kind, id)) else {
            panic!("{kind:?} {id} was not asked for");
        };
        assert!(*count > 0, "{kind:?} {id} came too often");
        (*count, *open) = (*count - 1, false);
    }

    fn delivered(&mut self, publish: &Publish<'_>, all: &mut Histories) {
        assert!(!publish.topic.contains(['+', '#']), "{:?} is no topic name", publish.topic);
        if let Some(alias) = publish.properties.topic_alias {
            assert!(alias <= self.alias_maximum, "alias {alias} is too large");
            assert!(!publish.topic.is_empty() || self.aliases.contains(&alias), "unknown alias");
            self.aliases.insert(alias);
        }
        let id = publish.packet_id.map_or(0, PacketId::get);
        if publish.qos != QoS::AtMostOnce {
            self.takes_a_place(id);
            let exactly = publish.qos == QoS::ExactlyOnce;
            let kind = if exactly { PacketType::Pubrec } else { PacketType::Puback };
            self.replies.extend(publish.packet_id.map(|id| (kind, id)));
        }
        let key = (publish.payload.to_vec(), self.lineage);
        let most = all.published.get(&key.0).copied().unwrap_or(0);
        let repeatable = all.repeatable.contains(&key.0);
        assert!(most > 0 || repeatable, "a message that nobody published");
        let Some(history) = self.history(all) else { return };
        match publish.qos {
            QoS::AtLeastOnce => return,
            QoS::ExactlyOnce => {
                let again = history.outgoing.insert((id, key.1), key.0.clone());
                if again.as_ref() == Some(&key.0) {
                    return;
                }
            }
            QoS::AtMostOnce => {}
        }
        let most = most * (1 + history.groups.len());
        let count = history.delivered.entry(key).or_default();
        *count += 1;
        assert!(repeatable || *count <= most, "delivered {count} times, published for {most}");
    }

    fn takes_a_place(&mut self, id: u16) {
        if self.early.remove(&id) {
            return;
        }
        self.in_flight.insert(id);
        let (count, most) = (self.in_flight.len(), self.receive_maximum);
        assert!(count <= most, "{count} in flight, {most} allowed");
    }

    /// Appends what the client owes for the messages it read, at most `most` packets.
    pub fn reply(&mut self, most: usize, out: &mut Vec<u8>) {
        for _ in 0..most.min(self.replies.len()) {
            if let Some((kind, id)) = self.replies.pop_front() {
                codec::encode_ack(kind, self.version, id, ReasonCode::SUCCESS, None, out);
            }
        }
    }

    /// The connection stands and all is quiet: everything was answered.
    pub fn answered(&self) {
        if self.doomed || self.finished {
            return;
        }
        let open: Vec<_> = self.owed.iter().filter(|(_, (_, open))| *open).collect();
        assert!(open.is_empty(), "never answered: {open:?}");
    }

    /// The broker closed after sending everything.
    pub fn ended(&self) {
        assert!(self.down.is_empty(), "the last packet is not whole");
    }

    /// The connection is gone.
    pub fn gone(mut self, all: &mut Histories) {
        self.doomed = true;
        if let Some(history) = self.history(all) {
            history.live -= 1;
        }
    }
}
