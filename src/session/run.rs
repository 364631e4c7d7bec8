//! A run of messages in passing: packets that differ in their payloads alone.

use super::{MessageView, Payload};
use crate::base::{MessageId, PublisherId, Time};
use crate::codec::{QoS, Run, check_text};

/// Messages in passing, from received packets or from a ring entry.
#[derive(Clone, Copy, Debug)]
pub struct RunView<'a> {
    /// Their packets.
    pub run: Run<'a>,
    /// Identity of the first; those behind it count on.
    pub id: MessageId,
    /// Who published them, for no-local.
    pub publisher: PublisherId,
    /// A checked topic name.
    pub topic: &'a str,
}

impl<'a> RunView<'a> {
    /// A run to a topic whose name was checked when its last message was accepted.
    ///
    /// # Panics
    /// When the topic is no well-formed string.
    pub fn new(run: Run<'a>, id: MessageId, publisher: PublisherId) -> RunView<'a> {
        let topic = check_text(run.alike().topic()).expect("the topic was checked");
        RunView { run, id, publisher, topic }
    }

    /// The first message.
    pub fn first(&self) -> MessageView<'a> {
        let payload = self.run.payloads().next().unwrap_or_default();
        MessageView {
            id: self.id,
            publisher: self.publisher,
            expires: Time::NEVER,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: self.topic,
            properties: &[],
            payload: Payload::Inline(payload),
        }
    }

    /// All messages in order.
    pub fn messages(&self) -> impl Iterator<Item = MessageView<'a>> + use<'a> {
        let first = self.first();
        (self.id.sequence..).zip(self.run.payloads()).map(move |(sequence, payload)| MessageView {
            id: MessageId { sequence, ..first.id },
            payload: Payload::Inline(payload),
            ..first
        })
    }

    /// Bytes of topics and payloads of all messages.
    pub fn content_bytes(&self) -> usize {
        self.messages().map(|message| message.content_bytes()).sum()
    }
}
