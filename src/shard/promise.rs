//! What a CONNACK says of this broker, how much of it fits into what its client takes, and what
//! the connection may rely on from then on, whatever is configured later.
//!
//! Invariants worth naming:
//! * what has to be said is said, or the client is refused [MQTT-3.2.2-21], [MQTT-3.2.2-16];
//! * what is left out holds as the standard says of a CONNACK without it.

use super::Shard;
use super::admit::Refusal;
use crate::codec::{ConnackOut, Connect, QoS, ReasonCode, Version};

/// What a connection was told about what it may send. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Promises {
    /// QoS 1 and 2 messages before the first is acknowledged.
    pub(super) receive_maximum: u16,
    /// Highest topic alias; zero: none.
    pub(super) alias_maximum: u16,
    /// Largest packet. It holds also where it could not be said: memory is bounded.
    pub(super) packet_bytes: u32,
}

impl Shard {
    /// The CONNACK that lets a client in, as far as it fits; `proof` is what the end of its
    /// exchange has for it.
    ///
    /// # Errors
    /// Not even what has to be said fits. Nothing was changed.
    pub(super) fn connack<'a>(
        &self,
        connect: &Connect<'a>,
        client_id: &'a str,
        proof: Option<&'a [u8]>,
    ) -> Result<ConnackOut<'a>, Refusal> {
        let settings = &self.clients.settings;
        let protocol = &settings.protocol;
        let asked = connect.properties.session_expiry.unwrap_or(0);
        let expiry_s = self.expiry_s(connect);
        let keep_alive = self.keep_alive_s(connect);
        let mut answer = ConnackOut {
            session_expiry: (expiry_s != asked).then_some(expiry_s),
            receive_maximum: Some(settings.session.receive_maximum),
            maximum_packet_size: u32::try_from(settings.limits.packet_bytes).ok(),
            assigned_client_id: connect.client_id.is_empty().then_some(client_id),
            maximum_qos: QoS::from_u8(protocol.maximum_qos as u8),
            retain_available: protocol.retain_available,
            wildcard_available: protocol.wildcard_available,
            subscription_ids_available: protocol.subscription_ids_available,
            shared_available: protocol.shared_available,
            topic_alias_maximum: settings.limits.topic_alias_maximum,
            server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
            // [MQTT-4.12.0-5], [MQTT-4.12.0-6]
            authentication_method: connect.properties.authentication_method,
            authentication_data: proof,
            ..ConnackOut::default()
        };
        let largest = match connect.properties.maximum_packet_size {
            Some(largest) if connect.version == Version::V5 => largest.get() as usize,
            Some(_) | None => return Ok(answer),
        };
        let optional: [fn(&mut ConnackOut<'_>); 3] = [
            |answer| answer.topic_alias_maximum = 0,
            |answer| answer.receive_maximum = None,
            |answer| answer.maximum_packet_size = None,
        ];
        let mut left_out = optional.iter();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            answer.encode(connect.version, &mut bytes);
            if bytes.len() <= largest {
                return Ok(answer);
            }
            let Some(leave_out) = left_out.next() else { break };
            leave_out(&mut answer);
        }
        let what = "the client takes no packet that is large enough for a CONNACK";
        Err(Refusal { reason: ReasonCode::PACKET_TOO_LARGE, what })
    }

    /// What a client may do that was told `answer`.
    pub(super) fn promises(&self, answer: &ConnackOut<'_>) -> Promises {
        Promises {
            receive_maximum: answer.receive_maximum.unwrap_or(u16::MAX),
            alias_maximum: answer.topic_alias_maximum,
            packet_bytes: self.packet_bytes(),
        }
    }

    /// The largest packet that is taken by now.
    pub(super) fn packet_bytes(&self) -> u32 {
        u32::try_from(self.clients.settings.limits.packet_bytes).unwrap_or(u32::MAX)
    }
}
