//! What shards write into the blocks of the mesh.
//!
//! Every entry is `length u32 | kind u8 | fields`, little-endian, written and read in this file
//! only. Strings come from checked values of this process, so a reader that meets something else
//! panics: it would be a bug, not bad input.

use crate::base::{MessageId, PacketId, PublisherId, ShardId, Time};
use crate::codec::{QoS, Row, Run, Version, check_text};
use crate::index::Part;
use crate::mesh::{Attachment, Block, Carried};
use crate::session::{MessageView, Payload, RowView, RunView};
use bytes::Bytes;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Payloads from this size on cross between cores as one shared reference.
pub const SHARED_PAYLOAD_BYTES: usize = 4096;

/// Which duties a forwarded PUBLISH asks of its receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everything: retain, plain subscribers, share groups.
    Whole,
    /// Share groups only: the publisher's core served the plain subscribers.
    Groups,
}

/// Whom to answer about a forwarded PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckTo {
    /// Session key bits on the publisher's home.
    pub session: u64,
    /// Packet identifier of the PUBLISH.
    pub packet_id: PacketId,
}

/// One entry of a block.
#[derive(Debug)]
pub enum Entry<'a> {
    /// REQUEST: a message for its owner.
    Publish { message: MessageView<'a>, scope: Scope, ack: Option<AckTo> },
    /// REQUEST: a run of messages for their owner, which has to do everything about them.
    PublishRun { run: RowView<'a> },
    /// REQUEST: the sender has (or no longer has) plain subscribers of `filter`. A `token` other
    /// than zero asks for [`Entry::Installed`].
    Interest { filter: &'a str, present: bool, token: u64 },
    /// REQUEST: about how many plain subscribers of `filter` the sender has, zero for no crowd.
    Crowd { filter: &'a str, size: u32 },
    /// REQUEST: the sender's part of a share group.
    Group { filter: &'a str, group: &'a str, part: Part, token: u64 },
    /// REQUEST: a message of a share group needs another member.
    Redispatch { message: MessageView<'a>, filter: &'a str, group: &'a str },
    /// REQUEST: the next retained messages of `filter` accepted up to `as_of`.
    Pull { token: u64, filter: &'a str, after: Option<&'a str>, as_of: u64 },
    /// REQUEST: the next attachment is a connection whose CONNECT belongs to the receiver.
    HandOver { listener: u16, peer: Option<SocketAddr>, unparsed: &'a [u8] },
    /// REQUEST: the sender's `session` wants the exclusive subscription to `filter` (or gives it
    /// back), under `serial`.
    Reserve { filter: &'a str, present: bool, session: u64, serial: u64 },
    /// DELIVER: a message for the receiver's plain subscribers and for its picked group members.
    Deliver { message: MessageView<'a>, sequence: u64, plain: bool, picks: Picks<'a> },
    /// DELIVER: a run of messages for the receiver's plain subscribers; `sequence` is of the first.
    DeliverRun { run: RowView<'a>, sequence: u64 },
    /// DELIVER: the interest asked for under `token` is in force for everything after `sequence`.
    Installed { token: u64, sequence: u64 },
    /// DELIVER: the arbiter's answer to [`Entry::Reserve`].
    Reserved { serial: u64, granted: bool },
    /// DELIVER: a retained message asked for under `token`.
    Retained { token: u64, message: MessageView<'a> },
    /// DELIVER: the end of a pulled chunk; `after` is where the next one starts, if there is one.
    RetainedEnd { token: u64, after: Option<&'a str> },
}

/// Keys of picked share groups, in the receiver's own terms, and whether the owner believes that
/// a member is online.
#[derive(Clone, Copy, Debug)]
pub struct Picks<'a>(&'a [u8]);

impl Picks<'_> {
    /// The keys.
    pub fn iter(self) -> impl Iterator<Item = (u64, bool)> {
        self.0
            .chunks_exact(PICK_BYTES)
            .map(|pick| (u64::from_le_bytes(pick[..8].try_into().expect("8 bytes")), pick[8] != 0))
    }
}

const PUBLISH: u8 = 1;
const INTEREST: u8 = 2;
const GROUP: u8 = 3;
const PULL: u8 = 4;
const HAND_OVER: u8 = 5;
const DELIVER: u8 = 6;
const INSTALLED: u8 = 7;
const RETAINED: u8 = 8;
const RETAINED_END: u8 = 9;
const RESERVE: u8 = 20;
const RESERVED: u8 = 21;
const CROWD: u8 = 22;

const REDISPATCH: u8 = 10;
const PUBLISH_RUN: u8 = 11;
const DELIVER_RUN: u8 = 12;

/// Bytes of one pick of a share group.
pub(super) const PICK_BYTES: usize = 9;

const MESSAGE_HEAD: usize = 1 + 1 + 4 + 8 + 8 + 8 + 2 + 4 + 4;

fn is_shared(payload: Payload<'_>) -> bool {
    payload.bytes().len() >= SHARED_PAYLOAD_BYTES
}

/// Upper bound of the room that an entry with this message and `extra` more bytes needs.
pub fn message_entry_len(message: &MessageView<'_>, extra: usize) -> usize {
    let payload = message.payload.bytes().len();
    let inline = if payload >= SHARED_PAYLOAD_BYTES { 0 } else { payload };
    5 + MESSAGE_HEAD + message.topic.len() + message.properties.len() + inline + 32 + extra
}

/// Upper bound of the room that an entry with this run needs.
pub fn run_entry_len(run: &Run<'_>) -> usize {
    5 + 8 + 1 + 4 + 8 + 8 + 1 + 4 + run.bytes().len()
}

/// Upper bound of the room that an entry with `text` bytes of text needs.
pub fn text_entry_len(text: usize) -> usize {
    5 + 40 + text
}

struct Writer<'b> {
    block: &'b mut Block,
    start: usize,
}

impl<'b> Writer<'b> {
    fn new(block: &'b mut Block, kind: u8) -> Writer<'b> {
        let start = block.bytes.len();
        block.bytes.extend([0, 0, 0, 0, kind]);
        Writer { block, start }
    }

    fn u8(&mut self, value: u8) {
        self.block.bytes.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.block.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.block.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.u32(text.len() as u32);
        self.block.bytes.extend_from_slice(text);
    }

    fn optional_text(&mut self, text: Option<&str>) {
        self.u8(u8::from(text.is_some()));
        self.text(text.unwrap_or_default().as_bytes());
    }

    /// Version of the protocol or 0, address, port: 19 bytes.
    fn address(&mut self, address: Option<SocketAddr>) {
        let (kind, port) = match address {
            None => (0, 0),
            Some(SocketAddr::V4(address)) => (4, address.port()),
            Some(SocketAddr::V6(address)) => (6, address.port()),
        };
        let octets = match address.map(|address| address.ip()) {
            Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets(),
            Some(IpAddr::V6(ip)) => ip.octets(),
            None => [0; 16],
        };
        self.u8(kind);
        self.block.bytes.extend_from_slice(&octets);
        self.block.bytes.extend_from_slice(&port.to_le_bytes());
    }

    fn message(&mut self, message: &MessageView<'_>) {
        let payload = message.payload.bytes();
        let shared = is_shared(message.payload);
        let out = &mut self.block.bytes;
        let flags = message.qos as u8 | u8::from(message.retain) << 2 | u8::from(shared) << 3;
        let mut head = [0; MESSAGE_HEAD];
        head[0] = flags;
        head[1] = message.id.origin.0;
        head[2..6].copy_from_slice(&message.id.epoch.to_le_bytes());
        head[6..14].copy_from_slice(&message.id.sequence.to_le_bytes());
        head[14..22].copy_from_slice(&message.publisher.0.to_le_bytes());
        head[22..30].copy_from_slice(&message.expires.0.to_le_bytes());
        head[30..32].copy_from_slice(&(message.topic.len() as u16).to_le_bytes());
        head[32..36].copy_from_slice(&(message.properties.len() as u32).to_le_bytes());
        head[36..40].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(message.topic.as_bytes());
        out.extend_from_slice(message.properties);
        if shared {
            self.block.attach_payload(match message.payload {
                Payload::Shared(bytes) => bytes.clone(),
                Payload::Inline(bytes) => Bytes::copy_from_slice(bytes),
            });
        } else {
            out.extend_from_slice(payload);
        }
    }

    fn finish(self) {
        let len = (self.block.bytes.len() - self.start) as u32;
        self.block.bytes[self.start..self.start + 4].copy_from_slice(&len.to_le_bytes());
    }
}

/// Appends a PUBLISH for its owner.
pub fn write_publish(
    block: &mut Block,
    message: &MessageView<'_>,
    scope: Scope,
    ack: Option<AckTo>,
) {
    let mut out = Writer::new(block, PUBLISH);
    out.u8(u8::from(scope == Scope::Groups));
    out.u64(ack.map_or(0, |ack| ack.session));
    out.u32(ack.map_or(0, |ack| u32::from(ack.packet_id.get())));
    out.message(message);
    out.finish();
}

/// Appends a delivery; `picks` are keys of the receiver's share groups.
pub fn write_deliver(
    block: &mut Block,
    message: &MessageView<'_>,
    sequence: u64,
    plain: bool,
    picks: impl Iterator<Item = (u64, bool)>,
) {
    let mut out = Writer::new(block, DELIVER);
    out.u64(sequence);
    out.u8(u8::from(plain));
    let count_at = out.block.bytes.len();
    out.u32(0);
    let mut bytes = 0u32;
    for (local, online) in picks {
        out.u64(local);
        out.u8(u8::from(online));
        bytes += PICK_BYTES as u32;
    }
    out.block.bytes[count_at..count_at + 4].copy_from_slice(&bytes.to_le_bytes());
    out.message(message);
    out.finish();
}

/// Appends a run: for its owner, or as a delivery whose first message has the number `sequence`.
pub fn write_run(block: &mut Block, view: &RunView<'_>, sequence: Option<u64>) {
    let kind = if sequence.is_some() { DELIVER_RUN } else { PUBLISH_RUN };
    let mut out = Writer::new(block, kind);
    out.u64(sequence.unwrap_or_default());
    out.u8(view.id.origin.0);
    out.u32(view.id.epoch);
    out.u64(view.id.sequence);
    out.u64(view.publisher.0);
    out.u8(u8::from(view.run.is_encoded(Version::V5)));
    out.text(view.run.bytes());
    out.finish();
}

/// Appends a message that needs another member of a share group.
pub fn write_redispatch(block: &mut Block, message: &MessageView<'_>, filter: &str, group: &str) {
    let mut out = Writer::new(block, REDISPATCH);
    out.text(filter.as_bytes());
    out.text(group.as_bytes());
    out.message(message);
    out.finish();
}

/// Appends an entry that carries no message.
///
/// # Panics
/// When `entry` carries a message; those have writers of their own.
pub fn write(block: &mut Block, entry: &Entry<'_>) {
    let mut out;
    match entry {
        Entry::Interest { filter, present, token } => {
            out = Writer::new(block, INTEREST);
            out.u8(u8::from(*present));
            out.u64(*token);
            out.text(filter.as_bytes());
        }
        Entry::Crowd { filter, size } => {
            out = Writer::new(block, CROWD);
            out.u32(*size);
            out.text(filter.as_bytes());
        }
        Entry::Group { filter, group, part, token } => {
            out = Writer::new(block, GROUP);
            out.u64(part.local);
            out.u32(part.online);
            out.u32(part.total);
            out.u32(part.load);
            out.u32(part.arrived);
            out.u64(*token);
            out.text(group.as_bytes());
            out.text(filter.as_bytes());
        }
        Entry::Pull { token, filter, after, as_of } => {
            out = Writer::new(block, PULL);
            out.u64(*token);
            out.u64(*as_of);
            out.text(filter.as_bytes());
            out.optional_text(*after);
        }
        Entry::HandOver { listener, peer, unparsed } => {
            out = Writer::new(block, HAND_OVER);
            out.u32(u32::from(*listener));
            out.address(*peer);
            out.text(unparsed);
        }
        Entry::Reserve { filter, present, session, serial } => {
            out = Writer::new(block, RESERVE);
            out.u8(u8::from(*present));
            out.u64(*session);
            out.u64(*serial);
            out.text(filter.as_bytes());
        }
        Entry::Reserved { serial, granted } => {
            out = Writer::new(block, RESERVED);
            out.u64(*serial);
            out.u8(u8::from(*granted));
        }
        Entry::Installed { token, sequence } => {
            out = Writer::new(block, INSTALLED);
            out.u64(*token);
            out.u64(*sequence);
        }
        Entry::RetainedEnd { token, after } => {
            out = Writer::new(block, RETAINED_END);
            out.u64(*token);
            out.optional_text(*after);
        }
        Entry::Publish { .. }
        | Entry::PublishRun { .. }
        | Entry::Redispatch { .. }
        | Entry::Deliver { .. }
        | Entry::DeliverRun { .. }
        | Entry::Retained { .. } => unreachable!("messages have writers of their own"),
    }
    out.finish();
}

/// Appends a retained message.
pub fn write_retained(block: &mut Block, token: u64, message: &MessageView<'_>) {
    let mut out = Writer::new(block, RETAINED);
    out.u64(token);
    out.message(message);
    out.finish();
}

/// Where the reading of a block stands.
#[derive(Clone, Copy, Default, Debug)]
pub struct Position {
    at: usize,
    attachment: usize,
    /// How much of the run that stands there is done: bytes and messages.
    done: (usize, u64),
}

impl Position {
    /// The position behind `taken`, the next part of the run that stands here.
    pub fn past(self, taken: &Run<'_>) -> Position {
        let (bytes, messages) = self.done;
        let done = (bytes + taken.bytes().len(), messages + taken.count() as u64);
        Position { done, ..self }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    attachments: &'a [Attachment],
    used: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("4 bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("8 bytes"))
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = self.u32() as usize;
        self.take(len)
    }

    fn text(&mut self) -> &'a str {
        check_text(self.bytes()).expect("entries hold checked text")
    }

    fn optional_text(&mut self) -> Option<&'a str> {
        let present = self.u8() != 0;
        let text = self.text();
        present.then_some(text)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let (kind, octets) = (self.u8(), self.take(16));
        let port = u16::from_le_bytes(self.take(2).try_into().expect("2 bytes"));
        let ip = Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("16 bytes"));
        match kind {
            0 => None,
            4 => Some(SocketAddr::new(ip.to_canonical(), port)),
            _ => Some(SocketAddr::new(IpAddr::V6(ip), port)),
        }
    }

    /// A run without what is `done` of it, and the number of its first message.
    fn run(&mut self, (bytes, messages): (usize, u64)) -> (RowView<'a>, u64) {
        let sequence = self.u64() + messages;
        let (origin, epoch) = (ShardId(self.u8()), self.u32());
        let id = MessageId { origin, epoch, sequence: self.u64() + messages };
        let publisher = PublisherId(self.u64());
        let version = if self.u8() == 0 { Version::V311 } else { Version::V5 };
        let row = Row::known(&self.bytes()[bytes..], version).expect("a run is never empty");
        (RowView::new(row, id, publisher), sequence)
    }

    fn message(&mut self) -> MessageView<'a> {
        let head: &[u8; MESSAGE_HEAD] = self.take(MESSAGE_HEAD).try_into().expect("a head");
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let half = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let topic = self.take(usize::from(u16::from_le_bytes([head[30], head[31]])));
        let properties = self.take(half(32) as usize);
        let payload = if head[0] & 8 == 0 {
            Payload::Inline(self.take(half(36) as usize))
        } else {
            self.used += 1;
            match &self.attachments[self.used - 1] {
                Attachment::Payload(bytes) => Payload::Shared(bytes),
                Attachment::Carried(_) => unreachable!("attachments are in entry order"),
            }
        };
        MessageView {
            id: MessageId { origin: ShardId(head[1]), epoch: half(2), sequence: word(6) },
            publisher: PublisherId(word(14)),
            expires: Time(word(22)),
            qos: QoS::from_u8(head[0] & 3).expect("a QoS"),
            retain: head[0] & 4 != 0,
            topic: check_text(topic).expect("entries hold checked text"),
            properties,
            payload,
        }
    }
}

/// The entry at `position` and the position behind it; `None` at the end of the block. Of a run,
/// what is not done.
pub fn read(block: &Block, position: Position) -> Option<(Entry<'_>, Position)> {
    let rest = block.bytes.get(position.at..).filter(|rest| !rest.is_empty())?;
    let attachments = &block.attachments[position.attachment..];
    let len = u32::from_le_bytes(rest[..4].try_into().expect("4 bytes")) as usize;
    let mut input = Reader { rest: &rest[5..len], attachments, used: 0 };
    let entry = match rest[4] {
        PUBLISH => {
            let scope = if input.u8() == 0 { Scope::Whole } else { Scope::Groups };
            let session = input.u64();
            let packet_id = PacketId::new(input.u32() as u16);
            let ack = packet_id.map(|packet_id| AckTo { session, packet_id });
            Entry::Publish { scope, ack, message: input.message() }
        }
        PUBLISH_RUN => Entry::PublishRun { run: input.run(position.done).0 },
        DELIVER_RUN => {
            let (run, sequence) = input.run(position.done);
            Entry::DeliverRun { run, sequence }
        }
        INTEREST => {
            let (present, token) = (input.u8() != 0, input.u64());
            Entry::Interest { present, token, filter: input.text() }
        }
        CROWD => Entry::Crowd { size: input.u32(), filter: input.text() },
        GROUP => {
            let part = Part {
                local: input.u64(),
                online: input.u32(),
                total: input.u32(),
                load: input.u32(),
                arrived: input.u32(),
            };
            let (token, group) = (input.u64(), input.text());
            Entry::Group { part, token, group, filter: input.text() }
        }
        PULL => {
            let (token, as_of, filter) = (input.u64(), input.u64(), input.text());
            Entry::Pull { token, as_of, filter, after: input.optional_text() }
        }
        REDISPATCH => {
            let (filter, group) = (input.text(), input.text());
            Entry::Redispatch { filter, group, message: input.message() }
        }
        HAND_OVER => {
            input.used = 1;
            let (listener, peer) = (input.u32() as u16, input.address());
            Entry::HandOver { listener, peer, unparsed: input.bytes() }
        }
        DELIVER => {
            let (sequence, plain) = (input.u64(), input.u8() != 0);
            let picks = Picks(input.bytes());
            Entry::Deliver { sequence, plain, picks, message: input.message() }
        }
        RESERVE => {
            let (present, session, serial) = (input.u8() != 0, input.u64(), input.u64());
            Entry::Reserve { present, session, serial, filter: input.text() }
        }
        RESERVED => Entry::Reserved { serial: input.u64(), granted: input.u8() != 0 },
        INSTALLED => Entry::Installed { token: input.u64(), sequence: input.u64() },
        RETAINED => Entry::Retained { token: input.u64(), message: input.message() },
        RETAINED_END => Entry::RetainedEnd { token: input.u64(), after: input.optional_text() },
        kind => unreachable!("entry kind {kind}"),
    };
    let (at, attachment) = (position.at + len, position.attachment + input.used);
    Some((entry, Position { at, attachment, done: (0, 0) }))
}

/// Takes the connection that the hand-over entry at `position` brought.
pub fn take_carried(block: &mut Block, position: Position) -> Option<Carried> {
    let slot = block.attachments.get_mut(position.attachment)?;
    match std::mem::replace(slot, Attachment::Payload(Bytes::new())) {
        Attachment::Carried(carried) => Some(carried),
        Attachment::Payload(_) => None,
    }
}
