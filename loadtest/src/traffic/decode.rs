//! From the bytes of one client to events.
//!
//! Invariants worth naming:
//! * payloads are never kept: of a large PUBLISH only the head is looked at;
//! * what is kept of a connection is bounded; what cannot be understood ends the decoding of this
//!   connection with one [`Event::Undecoded`], nothing else.

use super::{Event, Greeting, Veil, Wish};
use corelane::codec::{Connect, Packet, Publish, Subscribe, Version, decode, frame_of};
use corelane::topic::{Subscription, TopicName};
use std::collections::BTreeMap;

/// Bytes of one packet that are kept while its end has not come.
const HEAD_MAX: usize = 256 << 10;
/// Bytes of the topics that a connection's aliases stand for.
const ALIASED_MAX: usize = 1 << 20;
/// First byte of CONNECT, PUBLISH without its flags, and a TLS hand-shake.
const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x3;
const TLS: u8 = 0x16;

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// CONNECT is due.
    Fresh,
    /// It has connected.
    Open,
    /// It has not, and what it says is not understood.
    Foreign,
    /// It has connected, and what it says now is not understood.
    Blind,
    /// It said DISCONNECT, or it is gone.
    Over,
}

/// Decodes what one client sends.
pub struct Decoder {
    state: State,
    version: Version,
    carry: Vec<u8>,
    /// Payload bytes still to come that nobody looks at.
    skip: usize,
    aliases: BTreeMap<u16, String>,
    aliased: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            state: State::Fresh,
            version: Version::default(),
            carry: Vec::new(),
            skip: 0,
            aliases: BTreeMap::new(),
            aliased: 0,
        }
    }
}

impl Decoder {
    /// Takes bytes in the order in which they came and appends what they mean. `number` gives
    /// clients their numbers.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        veil: &Veil,
        number: &mut dyn FnMut(&str) -> u32,
        out: &mut Vec<Event>,
    ) {
        if !matches!(self.state, State::Fresh | State::Open) {
            return;
        }
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(&bytes[skipped..]);
        let mut at = 0;
        while at < carry.len() && matches!(self.state, State::Fresh | State::Open) {
            match self.packet(&carry[at..], veil, number, out) {
                Ok(0) => break,
                Ok(used) => at += used,
                Err(why) => {
                    out.push(Event::Undecoded(why));
                    let fresh = self.state == State::Fresh;
                    self.state = if fresh { State::Foreign } else { State::Blind };
                }
            }
        }
        if matches!(self.state, State::Fresh | State::Open) {
            carry.drain(..at);
            carry.shrink_to(HEAD_MAX / 16);
            self.carry = carry;
        }
    }

    /// The connection is gone.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        if matches!(self.state, State::Open | State::Blind) {
            out.push(Event::Disconnect { clean: false });
        }
        self.state = State::Over;
    }

    /// Takes the packet at the front of `input`; tells how many bytes it used, 0 for want of more.
    fn packet(
        &mut self,
        input: &[u8],
        veil: &Veil,
        number: &mut dyn FnMut(&str) -> u32,
        out: &mut Vec<Event>,
    ) -> Result<usize, String> {
        if self.state == State::Fresh && input[0] != CONNECT {
            return Err(foreign(input[0]));
        }
        let found = frame_of(self.version, input, usize::MAX).map_err(|e| e.to_string())?;
        let Some(found) = found else { return self.unfinished(input, veil, out) };
        match decode(&found, self.version).map_err(|e| e.to_string())? {
            Packet::Connect(connect) if self.state == State::Fresh => {
                self.state = State::Open;
                self.version = connect.version;
                out.push(greeted(&connect, number));
            }
            Packet::Publish(publish) => {
                let size = publish.payload.len();
                out.push(self.published(&publish, size, veil)?);
            }
            Packet::Subscribe(subscribe) => out.push(subscribed(&subscribe, veil)?),
            Packet::Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.filters().map(|filter| hidden(filter, veil));
                out.push(Event::Unsubscribe(filters.collect::<Result<_, _>>()?));
            }
            Packet::Disconnect(_) => {
                self.state = State::Over;
                out.push(Event::Disconnect { clean: true });
            }
            Packet::Puback(_) | Packet::Pubrec(_) | Packet::Pubrel(_) | Packet::Pubcomp(_) => {}
            Packet::Pingreq | Packet::Auth(_) => {}
            _ => return Err("a packet that no client sends".into()),
        }
        Ok(found.len)
    }

    /// A packet whose end has not come: a large PUBLISH is taken by its head.
    fn unfinished(
        &mut self,
        input: &[u8],
        veil: &Veil,
        out: &mut Vec<Event>,
    ) -> Result<usize, String> {
        if input.len() < HEAD_MAX {
            return Ok(0);
        }
        if input[0] >> 4 != PUBLISH {
            return Err("a packet that is too large to be kept".into());
        }
        let (head, length) = remaining(input).ok_or("a remaining length that does not end")?;
        let begin = &input[head..];
        let publish = Publish::decode(input[0], begin, self.version).map_err(|e| e.to_string())?;
        let before = begin.len() - publish.payload.len();
        out.push(self.published(&publish, length - before, veil)?);
        self.skip = length - begin.len();
        Ok(input.len())
    }

    fn published(
        &mut self,
        publish: &Publish<'_>,
        size: usize,
        veil: &Veil,
    ) -> Result<Event, String> {
        let topic = match (publish.topic, publish.properties.topic_alias) {
            ("", Some(alias)) => self.aliases.get(&alias).ok_or("an unknown topic alias")?.clone(),
            (topic, alias) => {
                TopicName::new(topic).map_err(|error| error.to_string())?;
                let hidden = veil.topic(topic);
                TopicName::new(&hidden).map_err(|error| format!("hashed: {error}"))?;
                if let Some(alias) = alias {
                    self.alias(alias, &hidden)?;
                }
                hidden
            }
        };
        let (qos, retain) = (publish.qos as u8, publish.retain);
        Ok(Event::Publish { qos, retain, size: size as u32, topic })
    }

    fn alias(&mut self, alias: u16, topic: &str) -> Result<(), String> {
        self.aliased += topic.len();
        if let Some(before) = self.aliases.insert(alias, topic.to_owned()) {
            self.aliased -= before.len();
        }
        if self.aliased > ALIASED_MAX {
            return Err("topic aliases for more topics than can be kept".into());
        }
        Ok(())
    }
}

fn greeted(connect: &Connect<'_>, number: &mut dyn FnMut(&str) -> u32) -> Event {
    let lasting = if connect.clean_start { 0 } else { u32::MAX };
    let greeting = Greeting {
        version: connect.version,
        clean: connect.clean_start,
        keep_alive_s: connect.keep_alive,
        expiry_s: match connect.version {
            Version::V5 => connect.properties.session_expiry.unwrap_or(0),
            _ => lasting,
        },
    };
    Event::Connect { client: number(connect.client_id), greeting, will: connect.will.is_some() }
}

fn subscribed(subscribe: &Subscribe<'_>, veil: &Veil) -> Result<Event, String> {
    let wish = |(filter, options): (&str, corelane::codec::SubscribeOptions)| {
        let filter = hidden(filter, veil)?;
        Ok(Wish { qos: options.qos as u8, no_local: options.no_local, filter })
    };
    Ok(Event::Subscribe(subscribe.filters().map(wish).collect::<Result<_, String>>()?))
}

/// A filter as the recording has it.
fn hidden(filter: &str, veil: &Veil) -> Result<String, String> {
    Subscription::parse(filter).map_err(|error| error.to_string())?;
    let hidden = veil.filter(filter);
    Subscription::parse(&hidden).map_err(|error| format!("hashed: {error}"))?;
    Ok(hidden)
}

/// Length of the fixed header and of what follows it.
fn remaining(input: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in input.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((2 + at, length));
        }
    }
    None
}

fn foreign(first: u8) -> String {
    match first {
        TLS => "not MQTT: this looks like TLS; record behind what ends it".into(),
        b'G' => "not MQTT: this looks like WebSocket".into(),
        _ => "the connection does not begin with CONNECT".into(),
    }
}
