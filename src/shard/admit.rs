//! Who is let in: what is checked of a CONNECT that was read without fault, and how it is refused.

use super::Shard;
use super::connection::ConnectionKey;
use super::events::{Ending, Happening};
use super::input::Flow;
use super::memory::Pressure;
use super::sys::is_reserved;
use crate::codec::{ConnackOut, Connect, PacketType, ReasonCode, Version, Will};
use crate::topic::{TopicName, delayed, level_count};

/// Longest client identifier that MQTT 3.1 knows, in characters.
const SHORT_CLIENT_ID: usize = 23;

/// Why a CONNECT is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) reason: ReasonCode,
    pub(super) what: &'static str,
}

fn refuse(reason: ReasonCode, what: &'static str) -> Result<(), Refusal> {
    Err(Refusal { reason, what })
}

impl Shard {
    /// What every core can judge, wherever the client's home is: the version, and whether clients
    /// of this listener are served at all.
    pub(super) fn admit_version(
        &self,
        connect: &Connect<'_>,
        listener: u16,
    ) -> Result<(), Refusal> {
        let rules = self.clients.settings.rules(listener);
        if !rules.versions.contains(&connect.version) {
            let reason = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
            return refuse(reason, "this listener does not serve this version");
        }
        match rules.redirect {
            Some(reason) => refuse(reason, "clients of this listener are served elsewhere"),
            None => Ok(()),
        }
    }

    /// What the home of the client judges.
    pub(super) fn admit(&self, connect: &Connect<'_>, client_id: &str) -> Result<(), Refusal> {
        let settings = &self.clients.settings;
        if self.draining {
            return refuse(ReasonCode::SERVER_UNAVAILABLE, "the server is shutting down");
        }
        if self.clients.pressure > Pressure::Low {
            let what = match self.clients.overloaded {
                true => "the server has no time for another client",
                false => "the server has no memory for another client",
            };
            return refuse(ReasonCode::SERVER_BUSY, what);
        }
        self.admit_client_id(connect, client_id)?;
        if let Some(will) = &connect.will {
            self.admit_will(will)?;
        }
        if self.clients.sessions.len() >= settings.limits.sessions
            && !self.clients.by_id.contains_key(client_id)
        {
            return refuse(ReasonCode::QUOTA_EXCEEDED, "no room for another session");
        }
        Ok(())
    }

    fn admit_client_id(&self, connect: &Connect<'_>, client_id: &str) -> Result<(), Refusal> {
        let settings = &self.clients.settings;
        let reason = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
        let given = connect.client_id;
        match connect.version {
            Version::V31 if given.is_empty() => {
                return refuse(reason, "MQTT 3.1 has no empty client identifier");
            }
            Version::V31
                if settings.protocol.short_client_ids
                    && given.chars().count() > SHORT_CLIENT_ID =>
            {
                return refuse(reason, "the client identifier is longer than MQTT 3.1 allows");
            }
            // [MQTT-3.1.3-8]
            Version::V311 if given.is_empty() && !connect.clean_start => {
                return refuse(reason, "an empty client identifier needs a clean session");
            }
            Version::V31 | Version::V311 | Version::V5 => {}
        }
        if client_id.len() > settings.limits.client_id_bytes {
            return refuse(reason, "the client identifier is too long");
        }
        Ok(())
    }

    fn admit_will(&self, will: &Will<'_>) -> Result<(), Refusal> {
        let settings = &self.clients.settings;
        let protocol = &settings.protocol;
        if TopicName::new(will.topic).is_err()
            || self.refused_delay(will.topic).is_some()
            || level_count(delayed::target(will.topic)) > settings.limits.topic_levels
        {
            return refuse(ReasonCode::TOPIC_NAME_INVALID, "the will topic is not valid");
        }
        if is_reserved(delayed::target(will.topic)) {
            return refuse(ReasonCode::NOT_AUTHORIZED, "the will topic is the broker's own");
        }
        if will.properties.response_topic.is_some_and(|topic| TopicName::new(topic).is_err()) {
            // [MQTT-3.3.2-14]
            let what = "the will's response topic is no topic name";
            return refuse(ReasonCode::PROTOCOL_ERROR, what);
        }
        if will.qos as u16 > protocol.maximum_qos {
            // [MQTT-3.2.2-12]
            return refuse(ReasonCode::QOS_NOT_SUPPORTED, "the will's QoS is not offered");
        }
        if will.retain && !protocol.retain_available {
            // [MQTT-3.2.2-13]
            return refuse(ReasonCode::RETAIN_NOT_SUPPORTED, "retained messages are not offered");
        }
        if protocol.validate_payload_format
            && will.properties.payload_format_utf8
            && simdutf8::basic::from_utf8(will.payload).is_err()
        {
            return refuse(ReasonCode::PAYLOAD_FORMAT_INVALID, "the will's payload is not UTF-8");
        }
        Ok(())
    }

    /// Refuses a CONNECT and ends its connection.
    pub(super) fn turn_away(
        &mut self,
        key: ConnectionKey,
        connect: &Connect<'_>,
        client_id: &str,
        refusal: Refusal,
    ) -> Flow {
        if let Some(connection) = self.clients.connections.get_mut(key)
            && let Some(largest) = connect.properties.maximum_packet_size
        {
            connection.maximum_packet = largest.get();
        }
        self.clients.counters.connects_refused += 1;
        self.answer_refusal(key, connect.version, self.told(refusal));
        let Refusal { reason, what } = refusal;
        self.tell_of(key, client_id, Happening::Refused { reason, what });
        self.end_connection(key, Ending::Refused);
        Flow::Stop
    }

    /// What a client learns of why it is refused.
    fn told(&self, refusal: Refusal) -> Refusal {
        let about_access = matches!(
            refusal.reason,
            ReasonCode::BAD_USER_NAME_OR_PASSWORD
                | ReasonCode::BAD_AUTHENTICATION_METHOD
                | ReasonCode::BANNED
                | ReasonCode::CLIENT_IDENTIFIER_NOT_VALID
                | ReasonCode::NOT_AUTHORIZED
        );
        match about_access && self.clients.settings.policy.obscures {
            true => Refusal { reason: ReasonCode::NOT_AUTHORIZED, what: "not authorized" },
            false => refusal,
        }
    }

    /// Tells a client in its `version` why it is refused.
    pub(super) fn answer_refusal(
        &mut self,
        key: ConnectionKey,
        version: Version,
        refusal: Refusal,
    ) {
        let Refusal { reason, what } = refusal;
        debug_assert!(reason.is_for(PacketType::Connack), "{reason} in CONNACK");
        if let Some(connection) = self.clients.connections.get_mut(key) {
            connection.version = version;
        }
        let elsewhere = matches!(reason, ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED);
        let reference = self.clients.settings.protocol.server_reference.clone();
        let answer = ConnackOut {
            reason,
            server_reference: reference.given().filter(|_| elsewhere),
            ..ConnackOut::default()
        };
        self.clients.explain(key, Some(what), |version, what, out| {
            ConnackOut { reason_string: what, ..answer }.encode(version, out);
        });
    }
}
