//! What a person is told of a request that failed: the reason strings of acknowledgements.
//!
//! Invariants worth naming:
//! * only failures are explained, and only to clients that ask for problem information
//!   [MQTT-3.1.2-29];
//! * an explanation is left out where the packet would be larger than its client takes.

use super::connection::Connection;
use crate::codec::{PacketType, ReasonCode, Version};

impl Connection {
    /// Why a packet of type `kind` says `reason`, if its client wants to know.
    pub(super) fn explanation(&self, kind: PacketType, reason: ReasonCode) -> Option<&'static str> {
        let wanted = reason.is_error() && self.version == Version::V5 && self.problem_information;
        wanted.then(|| text(kind, reason)).flatten()
    }

    /// Why the first filter failed that did, and which of several it is.
    pub(super) fn explain_filters(
        &self,
        kind: PacketType,
        reasons: &[ReasonCode],
    ) -> Option<String> {
        let failed = reasons.iter().position(|reason| reason.is_error())?;
        let text = self.explanation(kind, reasons[failed])?;
        Some(match reasons.len() {
            1 => text.into(),
            several => format!("filter {} of {several}: {text}", failed + 1),
        })
    }
}

/// What `reason` means in a packet of type `kind`. `None` where its name says all.
fn text(kind: PacketType, reason: ReasonCode) -> Option<&'static str> {
    use PacketType::{Puback, Pubrec, Suback, Unsuback};
    Some(match (kind, reason) {
        (Puback | Pubrec, ReasonCode::TOPIC_NAME_INVALID) => {
            "clients may not publish to this topic, or what it becomes by a rule is no topic"
        }
        (Puback | Pubrec | Suback, ReasonCode::NOT_AUTHORIZED) => {
            "the access rules do not allow it, or the topic is the broker's own"
        }
        (Puback | Pubrec, ReasonCode::QUOTA_EXCEEDED) => {
            "a queue that the message would go to is full; nobody got it: send it again later"
        }
        (Puback | Pubrec, ReasonCode::PAYLOAD_FORMAT_INVALID) => {
            "the payload is not UTF-8 as announced"
        }
        (Suback, ReasonCode::TOPIC_FILTER_INVALID) => {
            "not a topic filter, one that nobody may subscribe to, or held in its other form, \
             with or without $exclusive"
        }
        (Unsuback, ReasonCode::TOPIC_FILTER_INVALID) => "not a topic filter",
        (Suback, ReasonCode::QUOTA_EXCEEDED) => {
            "the session has as many subscriptions as it may, or another client has this filter \
             for itself"
        }
        (Suback, ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED) => {
            "shared subscriptions are not offered"
        }
        (Suback, ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED) => {
            "filters with wildcards are not offered"
        }
        (_, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND) => {
            "no message with this packet identifier is under way"
        }
        _ => return None,
    })
}
