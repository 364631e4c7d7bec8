//! Recorded traffic: what clients did, when, and how large it was; never who they were or what
//! they said.
//!
//! A recording is text, one event a line, its fields one space apart; `line.rs` writes and reads
//! single lines, `read.rs` whole files. The first line is `corelane-traffic 1 topics=hashed` (or
//! `kept`). All others begin with microseconds since the recording began and the number of the
//! connection:
//!
//! ```text
//! 0 0 connect client=0 version=3.1.1 clean=1 keep_alive=60 expiry=0 will=0
//! 412 0 subscribe 1 a/b/+ 0 c/#
//! 900 1 publish 1 0 64 a/b/c
//! 1300 0 unsubscribe a/b/+
//! 2000 0 disconnect 1
//! 2100 2 undecoded not MQTT: this looks like TLS
//! 5000 end 0
//! ```
//!
//! `subscribe` has pairs of QoS (with an `n` for "no local") and filter; `publish` has QoS, retain
//! flag, payload bytes and topic; `disconnect` tells whether the client said so before it went;
//! `expiry` is in seconds, 4294967295 for a session that lasts; `end` has the number of events
//! that could not be kept. Spaces, control characters and `%` in topics are written `%20`.
//!
//! Invariants worth naming:
//! * no client identifier, user name, password or payload is ever in an [`Event`];
//! * the topics and filters of an [`Event`] are well-formed, so that nobody checks them again.

mod decode;
mod line;
mod read;
mod sink;
mod tap;
#[cfg(test)]
mod tests;
mod veil;

use corelane::codec::Version;

pub use decode::Decoder;
pub use line::{header, parse, print};
pub use read::{Recording, TrafficError, load, read};
pub use sink::{Sink, Tally};
pub use tap::Tap;
pub use veil::Veil;

/// How a client greets a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Greeting {
    /// What it speaks.
    pub version: Version,
    /// It wants no earlier session.
    pub clean: bool,
    /// Seconds; 0 is off.
    pub keep_alive_s: u16,
    /// Seconds that its session outlives the connection; before version 5 all or none.
    pub expiry_s: u32,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// Highest QoS wanted, 0 to 2.
    pub qos: u8,
    /// Not the client's own messages.
    pub no_local: bool,
    /// The filter; a share group's with its `$share/…/`.
    pub filter: String,
}

/// What a client did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It connected.
    Connect {
        /// Its number: the same for each connection with the same identifier.
        client: u32,
        /// How.
        greeting: Greeting,
        /// Whether it left a will.
        will: bool,
    },
    /// It subscribed.
    Subscribe(Vec<Wish>),
    /// It unsubscribed from these filters.
    Unsubscribe(Vec<String>),
    /// It published.
    Publish {
        /// 0 to 2.
        qos: u8,
        /// With the retain flag.
        retain: bool,
        /// Payload bytes.
        size: u32,
        /// The topic.
        topic: String,
    },
    /// It is gone.
    Disconnect {
        /// It said so with DISCONNECT.
        clean: bool,
    },
    /// From here on nothing of the connection was understood, but for its end.
    Undecoded(String),
}

/// One event of a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Microseconds since the recording began.
    pub at_us: u64,
    /// Number of the connection.
    pub connection: u32,
    /// What happened.
    pub event: Event,
}
