//! Settings that are one word out of a closed set.

use crate::index::ShareStrategy;

/// A setting written as one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every word with its value, in the order the reference page lists them.
    const WORDS: &'static [(&'static str, Self)];

    /// The word that stands for this value.
    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.expect("every value has its word").0
    }

    /// The value that `word` stands for.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(text, _)| *text == word).map(|(_, value)| *value)
    }
}

/// Declares an enum together with the words that stand for its values.
macro_rules! choice {
    ($(#[$attr:meta])* pub enum $name:ident {
        $( $(#[$doc:meta])* $word:literal => $value:ident, )+
    }) => {
        $(#[$attr])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $( $(#[$doc])* $value, )+ }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$( ($word, $name::$value) ),+];
        }
    };
}

choice! {
    /// What the loop of a core is tuned for.
    pub enum Profile {
        /// Most messages per CPU second: small input gathers for up to 2 ms under load.
        "throughput" => Throughput,
        /// Small input gathers for up to 0.1 ms under load.
        "balanced" => Balanced,
        /// Nothing gathers, and an idle core looks for work for 0.2 ms before it sleeps.
        "latency" => Latency,
        /// As `throughput`, but from one message per millisecond on: fewest wake-ups.
        "power" => Power,
    }
}

choice! {
    /// How a token is signed.
    pub enum TokenAlgorithm {
        /// HMAC with SHA-256.
        "HS256" => Hs256,
        /// HMAC with SHA-384.
        "HS384" => Hs384,
        /// HMAC with SHA-512.
        "HS512" => Hs512,
        /// RSA with PKCS #1 1.5 padding and SHA-256.
        "RS256" => Rs256,
        /// RSA with PKCS #1 1.5 padding and SHA-384.
        "RS384" => Rs384,
        /// RSA with PKCS #1 1.5 padding and SHA-512.
        "RS512" => Rs512,
        /// RSA with PSS padding and SHA-256.
        "PS256" => Ps256,
        /// RSA with PSS padding and SHA-384.
        "PS384" => Ps384,
        /// RSA with PSS padding and SHA-512.
        "PS512" => Ps512,
        /// ECDSA with P-256 and SHA-256.
        "ES256" => Es256,
        /// ECDSA with P-384 and SHA-384.
        "ES384" => Es384,
        /// Ed25519.
        "EdDSA" => EdDsa,
    }
}

choice! {
    /// Which field of a CONNECT holds the token.
    pub enum TokenField {
        /// The password.
        "password" => Password,
        /// The user name.
        "user_name" => UserName,
    }
}

choice! {
    /// How a question is put into the body of a request.
    pub enum BodyFormat {
        /// One JSON object.
        "json" => Json,
        /// Pairs as a web form sends them.
        "form" => Form,
    }
}

choice! {
    /// How an idle core waits for work.
    pub enum Sleep {
        /// Blocks in the broker's own ring; cheapest to wake.
        "ring" => Ring,
        /// Blocks in the executor's reactor.
        "glommio" => Glommio,
    }
}

choice! {
    /// How a line of the log looks.
    pub enum LogFormat {
        /// Time, level and message, then `name=value` for each field.
        "text" => Text,
        /// One JSON object.
        "json" => Json,
    }
}

choice! {
    /// How much is logged.
    pub enum LogLevel {
        /// Only what keeps the broker from working.
        "error" => Error,
        /// Also what an operator should look at.
        "warn" => Warn,
        /// Also starts, stops and what was decided.
        "info" => Info,
        /// Also single connections.
        "debug" => Debug,
        /// Everything.
        "trace" => Trace,
    }
}

choice! {
    /// What happens to a QoS 1 or 2 message that finds its session's outbox full.
    pub enum Overflow {
        /// The oldest waiting message is dropped and counted.
        "drop_oldest" => DropOldest,
        /// The new message is dropped and counted.
        "drop_newest" => DropNewest,
        /// The subscriber is disconnected.
        "disconnect" => Disconnect,
        /// While an outbox of a core is seven eighths full, QoS 1 and 2 messages that interest
        /// anybody on that core are refused: reason code 0x97 for MQTT 5, the end of the
        /// publisher's connection for 3.x. Nothing that was acknowledged is lost, and one slow or
        /// absent subscriber can hold up all publishers.
        "refuse" => Refuse,
    }
}

choice! {
    /// What happens to a QoS 0 message for a connection above its high water whose short queue is
    /// full as well.
    pub enum LateOverflow {
        /// The new message is dropped and counted.
        "drop_newest" => DropNewest,
        /// The oldest waiting message is dropped and counted.
        "drop_oldest" => DropOldest,
        /// The subscriber is disconnected.
        "disconnect" => Disconnect,
    }
}

choice! {
    /// Which core looks up the subscribers of a PUBLISH.
    pub enum Route {
        /// The topic's owner: one order for all subscribers.
        "owner" => Owner,
        /// The publisher's core: one hop less, order kept per publisher only.
        "publisher" => Publisher,
    }
}

impl Choice for ShareStrategy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("round_robin", ShareStrategy::RoundRobin),
        ("random", ShareStrategy::Random),
        ("sticky", ShareStrategy::Sticky),
        ("hash_client", ShareStrategy::HashClient),
        ("hash_topic", ShareStrategy::HashTopic),
        ("local_core", ShareStrategy::LocalCore),
        ("least_inflight", ShareStrategy::LeastInflight),
    ];
}

choice! {
    /// A version of the protocol.
    pub enum ProtocolVersion {
        /// MQTT 3.1, which calls itself MQIsdp.
        "3.1" => Old,
        /// MQTT 3.1.1.
        "3.1.1" => Three,
        /// MQTT 5.0.
        "5" => Five,
    }
}

choice! {
    /// Which packets a rewrite rule is for.
    pub enum RewriteAction {
        /// The topic of a PUBLISH or of a will.
        "publish" => Publish,
        /// The filters of SUBSCRIBE and UNSUBSCRIBE.
        "subscribe" => Subscribe,
        /// Both.
        "all" => All,
    }
}

choice! {
    /// Whether a listener serves clients or sends them elsewhere.
    pub enum Redirect {
        /// Clients are served.
        "none" => None,
        /// For the time being they are to use another server.
        "use_another_server" => UseAnother,
        /// The server has moved for good.
        "server_moved" => Moved,
    }
}

choice! {
    /// Whether retained messages are sent for a subscription that the broker makes.
    pub enum SendRetained {
        /// At each connect that makes the subscription.
        "send" => Send,
        /// Only if the subscription did not exist.
        "send_if_new" => SendIfNew,
        /// Never.
        "never" => Never,
    }
}

choice! {
    /// What a rule about access does where it applies.
    pub enum Effect {
        /// Lets the client.
        "allow" => Allow,
        /// Does not let it.
        "deny" => Deny,
    }
}

choice! {
    /// What a rule about access is about.
    pub enum TopicAction {
        /// PUBLISH and wills.
        "publish" => Publish,
        /// SUBSCRIBE.
        "subscribe" => Subscribe,
        /// Both.
        "both" => Both,
    }
}

choice! {
    /// Which RETAIN flag of a PUBLISH a rule about access is about.
    pub enum RetainFlag {
        /// Either.
        "any" => Any,
        /// Only messages to be retained.
        "set" => Set,
        /// Only messages not to be retained.
        "clear" => Clear,
    }
}

choice! {
    /// What an MQTT 3.x client gets for a PUBLISH that is denied.
    pub enum DeniedPublish {
        /// The message is dropped and counted, and acknowledged if the client waits for that.
        "drop" => Drop,
        /// The connection is closed.
        "close" => Close,
    }
}

choice! {
    /// The oldest version of TLS that a listener speaks.
    pub enum TlsVersion {
        /// TLS 1.2 and 1.3.
        "1.2" => Tls12,
        /// TLS 1.3 alone.
        "1.3" => Tls13,
    }
}

choice! {
    /// Whether clients show a certificate.
    pub enum TlsClientCertificate {
        /// None is asked for.
        "off" => Off,
        /// One is asked for; what is shown must be good, but showing none is fine.
        "optional" => Optional,
        /// Without a good one there is no connection.
        "required" => Required,
    }
}

choice! {
    /// What of a client's certificate is its user name.
    pub enum CertificateUser {
        /// Nothing: certificates only decide who may connect.
        "off" => Off,
        /// The subject's common name.
        "common_name" => CommonName,
        /// The whole subject, as RFC 4514 writes it.
        "subject" => Subject,
        /// The first host name among the alternative names.
        "dns" => Dns,
        /// The first mail address among the alternative names.
        "email" => Email,
    }
}
