//! One application message: borrowed while it passes through a core, stored once per core when
//! somebody has to wait for it.

use crate::base::{MessageId, PublisherId, Time};
use crate::codec::{QoS, check_text};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// From here on a payload is sent from where it is stored instead of being copied for each client.
pub const LARGE_PAYLOAD_BYTES: usize = 32 * 1024;

/// Buffers of messages are a multiple of this many bytes; up to the second number, a core keeps
/// some of each size for the next messages.
const STEP_BYTES: usize = 32;
const SPARE_BYTES: usize = 1024;
const SPARE_EACH: usize = 64;

/// The payload of a message in passing.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Bytes that live in a receive buffer or a block.
    Inline(&'a [u8]),
    /// A large payload that several cores may share.
    Shared(&'a Bytes),
}

impl<'a> Payload<'a> {
    /// The bytes of the payload.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Payload::Inline(bytes) => bytes,
            Payload::Shared(bytes) => bytes,
        }
    }

    /// Whether it is sent from where it is stored.
    #[inline]
    pub fn is_large(self) -> bool {
        self.bytes().len() >= LARGE_PAYLOAD_BYTES
    }
}

/// A message in passing: from a received packet, from a ring entry or from a stored [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// Identity for its whole life.
    pub id: MessageId,
    /// Who published it, for no-local.
    pub publisher: PublisherId,
    /// When it must no longer be delivered; [`Time::NEVER`] without message expiry.
    pub expires: Time,
    /// Quality of service of the PUBLISH.
    pub qos: QoS,
    /// The RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// A checked topic name.
    pub topic: &'a str,
    /// Properties to forward unaltered, as raw property bytes.
    pub properties: &'a [u8],
    /// Application payload.
    pub payload: Payload<'a>,
}

impl MessageView<'_> {
    /// Bytes of topic, properties and payload.
    pub fn content_bytes(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.bytes().len()
    }

    /// Copies the message into a slot of the core that `ledger` belongs to.
    pub fn store(&self, ledger: &Ledger) -> Rc<Message> {
        let (inline, shared) = match self.payload {
            Payload::Inline(bytes) if bytes.len() >= LARGE_PAYLOAD_BYTES => {
                (&[][..], Some(Bytes::copy_from_slice(bytes)))
            }
            Payload::Inline(bytes) => (bytes, None),
            Payload::Shared(bytes) => (&[][..], Some(bytes.clone())),
        };
        let parts = [self.topic.as_bytes(), self.properties, inline];
        let mut text = ledger.buffer(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| text.extend_from_slice(part));
        let message = Message {
            id: self.id,
            publisher: self.publisher,
            expires: self.expires,
            qos: self.qos,
            retain: self.retain,
            topic_len: self.topic.len() as u32,
            properties_len: self.properties.len() as u32,
            text,
            shared,
            ledger: ledger.clone(),
        };
        ledger.0.bytes.set(ledger.bytes() + message.bytes());
        Rc::new(message)
    }
}

/// How many bytes the stored messages of one core hold. Every [`Message`] writes itself in when it
/// is stored and out when the last reference to it goes; its buffer serves the next one.
#[derive(Clone, Default, Debug)]
pub struct Ledger(Rc<Books>);

#[derive(Default, Debug)]
struct Books {
    bytes: Cell<usize>,
    /// By size, in steps.
    spare: RefCell<[Vec<Vec<u8>>; SPARE_BYTES / STEP_BYTES]>,
}

impl Ledger {
    /// Bytes of all messages stored on this core.
    pub fn bytes(&self) -> usize {
        self.0.bytes.get()
    }

    /// An empty buffer for `bytes`.
    fn buffer(&self, bytes: usize) -> Vec<u8> {
        let steps = bytes.div_ceil(STEP_BYTES).max(1);
        let spare = self.0.spare.borrow_mut().get_mut(steps - 1).and_then(Vec::pop);
        spare.unwrap_or_else(|| Vec::with_capacity(steps * STEP_BYTES))
    }

    fn recycle(&self, mut buffer: Vec<u8>) {
        let steps = buffer.capacity() / STEP_BYTES;
        if let Some(same) = self.0.spare.borrow_mut().get_mut(steps.wrapping_sub(1))
            && same.len() < SPARE_EACH
        {
            buffer.clear();
            same.push(buffer);
        }
    }
}

/// A message that waits on this core, held once however many sessions wait for it. The count is
/// not atomic: it never leaves its core.
#[derive(Debug)]
pub struct Message {
    id: MessageId,
    publisher: PublisherId,
    expires: Time,
    qos: QoS,
    retain: bool,
    topic_len: u32,
    properties_len: u32,
    text: Vec<u8>,
    shared: Option<Bytes>,
    ledger: Ledger,
}

impl Drop for Message {
    fn drop(&mut self) {
        self.ledger.0.bytes.set(self.ledger.bytes() - self.bytes());
        self.ledger.recycle(std::mem::take(&mut self.text));
    }
}

impl Message {
    /// The message as a view.
    pub fn view(&self) -> MessageView<'_> {
        let (topic, rest) = self.text.split_at(self.topic_len as usize);
        let (properties, inline) = rest.split_at(self.properties_len as usize);
        MessageView {
            id: self.id,
            publisher: self.publisher,
            expires: self.expires,
            qos: self.qos,
            retain: self.retain,
            topic: check_text(topic).expect("the topic was stored from a checked one"),
            properties,
            payload: self.shared.as_ref().map_or(Payload::Inline(inline), Payload::Shared),
        }
    }

    /// Identity of the message.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// When it must no longer be delivered.
    pub fn expires(&self) -> Time {
        self.expires
    }

    /// Bytes of memory that the message holds, allocation overhead left out.
    pub fn bytes(&self) -> usize {
        size_of::<Message>() + self.content_bytes()
    }

    /// Bytes of topic, properties and payload.
    pub fn content_bytes(&self) -> usize {
        self.text.len() + self.shared.as_ref().map_or(0, Bytes::len)
    }

    /// As [`Message::content_bytes`], of `count` messages that hold `bytes` in all.
    pub fn contents(count: usize, bytes: usize) -> usize {
        bytes.saturating_sub(count * size_of::<Message>())
    }
}
