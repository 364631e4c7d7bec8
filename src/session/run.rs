//! A run of messages in passing: packets that differ in their payloads alone.

use super::{MessageView, Payload};
use crate::base::{MessageId, PublisherId, Time};
use crate::codec::{QoS, Row, Run, check_text};

/// Messages in passing that were not counted yet, from received packets or from a ring entry.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    /// Their packets.
    pub row: Row<'a>,
    /// Identity of the first; those behind it count on.
    pub id: MessageId,
    /// Who published them, for no-local.
    pub publisher: PublisherId,
    /// A checked topic name.
    pub topic: &'a str,
}

impl<'a> RowView<'a> {
    /// A row to a topic whose name was checked when it was sent here.
    ///
    /// # Panics
    /// When the topic is no well-formed string.
    pub fn new(row: Row<'a>, id: MessageId, publisher: PublisherId) -> RowView<'a> {
        let topic = check_text(row.topic()).expect("the topic was checked");
        RowView { row, id, publisher, topic }
    }

    /// What `run`, from the front of the row, has of it.
    #[inline]
    pub fn with(&self, run: Run<'a>) -> RunView<'a> {
        let RowView { id, publisher, topic, .. } = *self;
        RunView { run, id, publisher, topic }
    }

    /// The first message alone; `None`: there is none.
    pub fn first(&self) -> Option<RunView<'a>> {
        self.row.first().map(|run| self.with(run))
    }
}

/// A run of messages in passing.
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
