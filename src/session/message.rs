//! One application message: borrowed while it passes through a core, stored once per core when
//! somebody has to wait for it.

use crate::base::{MessageId, PublisherId, Time};
use crate::codec::QoS;
use bytes::Bytes;
use std::cell::Cell;
use std::rc::Rc;

/// From here on a payload is sent from where it is stored instead of being copied for each client.
pub const LARGE_PAYLOAD_BYTES: usize = 32 * 1024;

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
        let text = [self.topic.as_bytes(), self.properties, inline].concat().into_boxed_slice();
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
        ledger.0.set(ledger.0.get() + message.bytes());
        Rc::new(message)
    }
}

/// How many bytes the stored messages of one core hold. Every [`Message`] writes itself in when it
/// is stored and out when the last reference to it goes.
#[derive(Clone, Default, Debug)]
pub struct Ledger(Rc<Cell<usize>>);

impl Ledger {
    /// Bytes of all messages stored on this core.
    pub fn bytes(&self) -> usize {
        self.0.get()
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
    text: Box<[u8]>,
    shared: Option<Bytes>,
    ledger: Ledger,
}

impl Drop for Message {
    fn drop(&mut self) {
        self.ledger.0.set(self.ledger.0.get() - self.bytes());
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
            topic: std::str::from_utf8(topic).expect("the topic was stored from a str"),
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
