//! Acknowledgements that a connection owes its client, in the order of the client's publishes
//! [MQTT-4.6.0-2], [MQTT-4.6.0-3].

use crate::base::PacketId;
use crate::codec::{QoS, ReasonCode};
use std::collections::VecDeque;

/// A PUBACK or PUBREC that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingAck {
    /// Packet identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// PUBACK for QoS 1, PUBREC for QoS 2.
    pub qos: QoS,
    /// What to answer, once the owner has said.
    pub reason: Option<ReasonCode>,
}

/// Acknowledgements of one connection in order. At most as long as the receive maximum, plus
/// repetitions.
#[derive(Default, Debug)]
pub struct PendingAcks {
    queue: VecDeque<PendingAck>,
    at_least_once: usize,
}

impl PendingAcks {
    /// Adds an acknowledgement; `reason` is known at once when the message was routed on this core.
    pub fn push(&mut self, packet_id: PacketId, qos: QoS, reason: Option<ReasonCode>) {
        self.at_least_once += usize::from(qos == QoS::AtLeastOnce);
        self.queue.push_back(PendingAck { packet_id, qos, reason });
    }

    /// The owner answered for `packet_id`.
    pub fn settle(&mut self, packet_id: PacketId, qos: QoS, reason: ReasonCode) {
        let own = |ack: &&mut PendingAck| ack.packet_id == packet_id && ack.qos == qos;
        let waiting = self.queue.iter_mut().filter(own);
        for ack in waiting.filter(|ack| ack.reason.is_none()) {
            ack.reason = Some(reason);
            if ack.qos == QoS::AtLeastOnce {
                return;
            }
        }
    }

    /// The next acknowledgement that may leave now.
    pub fn pop(&mut self) -> Option<(PacketId, QoS, ReasonCode)> {
        let ack = self.queue.front()?;
        let answer = (ack.packet_id, ack.qos, ack.reason?);
        self.at_least_once -= usize::from(ack.qos == QoS::AtLeastOnce);
        self.queue.pop_front();
        Some(answer)
    }

    /// QoS 1 publishes that are not acknowledged yet; they count against the receive maximum.
    pub fn at_least_once(&self) -> usize {
        self.at_least_once
    }

    /// All acknowledgements that are due.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is due.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
