//! A connection as its shard sees it: bytes that wait on either side, and what its client may do.

use super::admit::Refusal;
use super::clients::Output;
use super::exchange::Again;
use super::promise::Promises;
use super::quota::Quota;
use super::waiting::Cause;
use crate::access::{Exchange, Identity, Policy};
use crate::base::{Chunk, Key, ShardId, Time};
use crate::codec::{PublishOut, QoS, Version};
use crate::index::{Matched, SessionKey};
use crate::session::{Outbox, PendingAcks};
use crate::topic::{AliasTable, GivenAliases, Naming};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

/// Keep alive is about whole packets [MQTT-3.1.2-22]. So that a large one may take its time, each
/// further part of it renews the keep alive too.
const PART_BYTES: u64 = 1024;

/// Names a connection on its shard. The shell keeps its sockets under the same keys.
pub type ConnectionKey = Key<Connection>;

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Accepted; its CONNECT has not arrived.
    Lobby,
    /// Its CONNECT belongs to another shard.
    HandingOver(ShardId),
    /// Serves a session of this shard.
    Open,
    /// Its last bytes are on their way; nothing more is read.
    Draining,
}

/// Where the CONNACK of a connection is. Before it nothing else may be sent [MQTT-3.2.0-1].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Greeting {
    /// Not written.
    Owed,
    /// In the output that the shell has not taken.
    Written,
    /// With the shell, or further.
    Taken,
}

/// What is known of who a client is.
#[derive(Default, Debug)]
pub(super) enum Standing {
    /// Nobody has asked.
    #[default]
    Unasked,
    /// Its credentials are being checked.
    Asked,
    /// It was asked for its next step of an exchange.
    Exchanging(Box<Exchange>),
    /// It has proven this.
    Proven(Box<Known>),
    /// Nothing has to be proven; what the client called itself is kept where rules about topics or
    /// subscriptions exist.
    Anonymous(Option<Box<str>>),
    /// It has not proven what it said.
    Refused(Box<Refusal>),
}

/// What a client has proven, and what becomes of that.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) identity: Identity,
    /// How many of its groups came with it; those of the policy stand behind them.
    own_groups: usize,
    /// Where it is with proving itself once more.
    pub(super) again: Again,
    /// When the proof ends.
    pub(super) ends: Time,
}

impl Known {
    /// That a client has proven this.
    pub(super) fn standing(identity: Identity, policy: &Policy) -> Standing {
        let own_groups = identity.groups.len();
        let mut known = Known { identity, own_groups, again: Again::No, ends: Time::NEVER };
        known.join_groups(policy);
        Standing::Proven(Box::new(known))
    }

    /// Puts the user into the groups that `policy` knows, beside its own ones.
    pub(super) fn join_groups(&mut self, policy: &Policy) {
        let Identity { user, groups, .. } = &mut self.identity;
        if groups.len() == self.own_groups && policy.groups.is_empty() {
            return;
        }
        let own = groups.iter().take(self.own_groups).cloned();
        *groups = own.chain(policy.groups_of(user)).collect();
    }
}

/// What one client may do with one topic: two bits for each QoS and RETAIN flag, whether they were
/// asked about and the answer.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Verdicts(u16);

impl Verdicts {
    fn place(qos: QoS, retain: bool) -> u16 {
        2 * (2 * qos as u16 + u16::from(retain))
    }

    /// The answer for a message of this kind, if it was asked about.
    #[inline]
    pub(super) fn known(self, qos: QoS, retain: bool) -> Option<bool> {
        let bits = self.0 >> Verdicts::place(qos, retain);
        (bits & 1 != 0).then_some(bits & 2 != 0)
    }

    /// Keeps an answer.
    pub(super) fn keep(&mut self, qos: QoS, retain: bool, allowed: bool) {
        self.0 |= (1 | u16::from(allowed) << 1) << Verdicts::place(qos, retain);
    }
}

/// Bytes received and not yet processed: an unfinished packet, or what waits for room.
#[derive(Default, Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    /// The waiting bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes; an unused inbox takes its memory from `spare`.
    pub fn append(&mut self, bytes: &[u8], spare: &mut Vec<Vec<u8>>) {
        if self.bytes.capacity() == 0
            && let Some(buffer) = spare.pop()
        {
            self.bytes = buffer;
        }
        if self.start > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Takes `count` bytes behind the first `at` out.
    pub fn remove(&mut self, at: usize, count: usize) {
        let from = self.start + at;
        self.bytes.drain(from..from + count);
    }

    /// Gives the memory of an empty inbox back.
    pub fn release(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.bytes.capacity() > 0).then(|| std::mem::take(&mut self.bytes))
    }
}

/// What the connection's last topic led to, so that a publisher of one topic pays for its lookup
/// once.
#[derive(Default)]
pub struct TopicCache {
    /// The topic; empty before the first.
    pub topic: String,
    /// Its owner.
    pub owner: ShardId,
    /// Whether its live messages are routed here although it is owned elsewhere.
    pub by_publisher: bool,
    /// Whether it asks for a delay.
    pub delayed: bool,
    /// Levels of what is published in the end.
    pub levels: usize,
    /// Whether only the broker may publish there.
    pub reserved: bool,
    /// What rules say about it; nothing where there are none.
    pub(super) verdicts: Verdicts,
    /// What it matches here.
    pub matched: Option<Rc<Matched>>,
}

/// Output cut in pieces, because large payloads are sent from where they are stored. Never without
/// a piece, and no piece is empty.
#[derive(Default)]
pub(super) struct Ahead {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

/// One client connection. Lives on one shard at a time.
pub struct Connection {
    pub(super) key: ConnectionKey,
    pub(super) phase: Phase,
    pub(super) greeting: Greeting,
    pub(super) listener: u16,
    /// Where it came from, where that is known.
    pub(super) peer: Option<SocketAddr>,
    /// When this core got it.
    pub(super) opened: Time,
    /// Bytes received and bytes handed over for sending.
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) version: Version,
    pub(super) session: Option<SessionKey>,
    /// Who the client is.
    pub(super) standing: Standing,
    /// There are rules about what it may do.
    pub(super) guarded: bool,
    /// The client asked for reason strings and user properties.
    pub(super) problem_information: bool,
    /// On the list of connections with output.
    pub(super) dirty: bool,
    /// Not read until something has room.
    pub(super) stalled: Option<Cause>,
    /// The peer has closed; the connection ends when what waits in the inbox is done.
    pub(super) ended: bool,
    /// The shell was told to stop reading.
    pub(super) read_paused: bool,
    /// Seconds; zero: none.
    pub(super) keep_alive_s: u16,
    /// When the client last showed that it lives.
    pub(super) last_seen: Time,
    /// Where in its input the first packet begins that was not processed.
    pub(super) packet_start: u64,
    /// What the client was told that it may send.
    pub(super) promised: Promises,
    /// QoS 1 and 2 messages that the client takes at a time.
    pub(super) receive_maximum: u16,
    /// Largest packet that the client takes.
    pub(super) maximum_packet: u32,
    pub(super) inbox: Inbox,
    /// Encoded packets that wait for the shell.
    pub(super) out: Vec<u8>,
    /// What goes before `out`, where large payloads are among the output.
    pub(super) ahead: Option<Box<Ahead>>,
    /// Bytes of `out` that the core's total already includes.
    pub(super) counted: usize,
    /// Bytes that the shell is sending.
    pub(super) in_flight: usize,
    /// Bytes of protocol answers since the output was last empty.
    pub(super) answered: usize,
    pub(super) acks: PendingAcks,
    /// QoS 2 messages of this connection that are not released; they count against the receive
    /// maximum.
    pub(super) unreleased: u16,
    /// What it has used of its listener's rates.
    pub(super) quota: Option<Box<Quota>>,
    pub(super) aliases: Option<Box<AliasTable>>,
    /// Aliases that the broker may give; zero: none.
    pub(super) alias_maximum: u16,
    /// Those that it has given, from the first message on.
    pub(super) given: Option<Box<GivenAliases>>,
    pub(super) topic: Option<Box<TopicCache>>,
    /// QoS 0 messages that wait as references for the output to shrink.
    pub(super) late: Outbox<super::session::Outgoing>,
}

impl Connection {
    pub(super) fn new(
        key: ConnectionKey,
        listener: u16,
        peer: Option<SocketAddr>,
        now: Time,
    ) -> Connection {
        Connection {
            key,
            phase: Phase::Lobby,
            greeting: Greeting::Owed,
            listener,
            peer,
            opened: now,
            bytes_in: 0,
            bytes_out: 0,
            version: Version::V311,
            session: None,
            standing: Standing::default(),
            guarded: false,
            problem_information: true,
            dirty: false,
            stalled: None,
            ended: false,
            read_paused: false,
            keep_alive_s: 0,
            last_seen: now,
            packet_start: 0,
            promised: Promises { receive_maximum: 0, alias_maximum: 0, packet_bytes: 0 },
            receive_maximum: u16::MAX,
            maximum_packet: u32::MAX,
            inbox: Inbox::default(),
            out: Vec::new(),
            ahead: None,
            counted: 0,
            in_flight: 0,
            answered: 0,
            acks: PendingAcks::default(),
            unreleased: 0,
            quota: None,
            aliases: None,
            alias_maximum: 0,
            given: None,
            topic: None,
            late: Outbox::default(),
        }
    }

    /// Counts bytes that arrive. Single ones of a packet that doesn't end are no sign of life.
    #[inline]
    pub(super) fn count_input(&mut self, bytes: usize, now: Time) {
        let before = (self.bytes_in - self.packet_start) / PART_BYTES;
        self.bytes_in += bytes as u64;
        if (self.bytes_in - self.packet_start) / PART_BYTES > before {
            self.last_seen = now;
        }
    }

    /// How the next PUBLISH names `topic`.
    #[inline]
    pub(super) fn naming(&mut self, topic: &str) -> Naming {
        match self.alias_maximum {
            0 => Naming::Topic,
            most => self.given.get_or_insert_with(|| Box::new(GivenAliases::new(most))).name(topic),
        }
    }

    /// Names the topic of `out` so that the packet is short; false when the client accepts none
    /// of that size [MQTT-3.1.2-24].
    #[inline]
    pub(super) fn fit(&mut self, out: &mut PublishOut<'_>) -> bool {
        match self.naming(out.topic) {
            Naming::Topic => {}
            Naming::Both(alias) => out.alias = Some(alias),
            Naming::Alias(alias) => (out.topic, out.alias) = ("", Some(alias)),
        }
        let largest = self.maximum_packet;
        let fits = |out: &PublishOut<'_>| {
            largest == u32::MAX || out.encoded_len(self.version) <= largest as usize
        };
        // A new alias may be what makes it too large.
        fits(out) || !out.topic.is_empty() && out.alias.take().is_some() && fits(out)
    }

    /// A PUBLISH that gives `alias` to `topic` was written.
    #[inline]
    pub(super) fn named(&mut self, alias: u16, topic: &str, output: &mut Output) {
        if let Some(given) = &mut self.given {
            let before = given.bytes();
            given.give(alias, topic);
            output.aliases += given.bytes() - before;
        }
    }

    /// What the client has proven, and what becomes of that.
    pub(super) fn known(&mut self) -> Option<&mut Known> {
        match &mut self.standing {
            Standing::Proven(known) => Some(known),
            _ => None,
        }
    }

    /// Who the client has proven to be.
    pub(super) fn proven(&self) -> Option<&Identity> {
        match &self.standing {
            Standing::Proven(known) => Some(&known.identity),
            _ => None,
        }
    }

    /// The user name: as proven, else as the client gave it.
    pub(super) fn user_name(&self) -> Option<&str> {
        match &self.standing {
            Standing::Proven(known) => Some(&known.identity.user),
            Standing::Anonymous(name) => name.as_deref(),
            _ => None,
        }
    }

    /// Bytes of the topic aliases of both directions.
    pub(super) fn alias_bytes(&self) -> usize {
        let set = self.aliases.as_ref().map_or(0, |table| table.bytes());
        set + self.given.as_ref().map_or(0, |given| given.bytes())
    }

    /// Encoded bytes that the client has not taken yet.
    #[inline]
    pub(super) fn pending_bytes(&self) -> usize {
        self.out.len() + self.in_flight + self.ahead_bytes()
    }

    fn ahead_bytes(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.bytes)
    }

    /// Whether something waits for the shell.
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty() || self.ahead.is_some()
    }

    /// Output that the core's total includes.
    pub(super) fn counted_bytes(&self) -> usize {
        self.counted + self.in_flight + self.ahead_bytes()
    }

    /// Puts a payload behind the output. Returns how many bytes the core's total lacks.
    pub(super) fn push_shared(&mut self, payload: Bytes) -> usize {
        let written = std::mem::take(&mut self.out);
        let lacking = written.len() - std::mem::take(&mut self.counted) + payload.len();
        let ahead = self.ahead.get_or_insert_default();
        ahead.bytes += written.len() + payload.len();
        ahead.chunks.extend([Chunk::Own(written), Chunk::Shared(payload)]);
        lacking
    }

    /// Forgets whole packets of the output: where the head of one is with the shell, its payload
    /// stays. Returns how many counted bytes went.
    pub(super) fn discard_output(&mut self) -> usize {
        let before = self.counted_bytes();
        (self.out, self.counted) = (Vec::new(), 0);
        if let Some(mut ahead) = self.ahead.take()
            && let Some(payload @ Chunk::Shared(_)) = ahead.chunks.pop_front()
        {
            ahead.bytes = payload.len();
            ahead.chunks = VecDeque::from([payload]);
            self.ahead = Some(ahead);
        }
        before - self.counted_bytes()
    }

    /// Takes the first of the output. Its bytes are in flight from now on.
    pub(super) fn take_chunk(&mut self) -> Option<Chunk> {
        let chunk = match &mut self.ahead {
            None if self.out.is_empty() => return None,
            None => {
                self.counted = 0;
                Chunk::Own(std::mem::take(&mut self.out))
            }
            Some(ahead) => {
                let chunk = ahead.chunks.pop_front()?;
                ahead.bytes -= chunk.len();
                if ahead.chunks.is_empty() {
                    self.ahead = None;
                }
                chunk
            }
        };
        self.in_flight = chunk.len();
        Some(chunk)
    }
}
