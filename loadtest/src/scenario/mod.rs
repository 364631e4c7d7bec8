//! What to do to a broker: groups of clients, their load, and how long. Read from TOML.
//!
//! Invariants worth naming:
//! * a scenario that was read has passed [`check`]; the engine asks no key twice;
//! * every key has a default, so a file names only what its scenario is about.

mod check;
mod read;
mod shape;
mod shipped;
mod size;
#[cfg(test)]
mod tests;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub use check::check;
pub use read::{ScenarioError, parse};
pub use shape::{Kind, Shape, canonical};
pub use shipped::{SHIPPED, SHIPPED_NAMES, find};
pub use size::Sizes;

/// A load, complete but for where to send it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Short name.
    pub name: String,
    /// What it stands for, one sentence.
    pub about: String,
    /// Length of the window, seconds.
    pub seconds: f64,
    /// Publications after which the window closes instead.
    pub messages: Option<u64>,
    /// Load before the window opens, seconds, at least; twice as much when the rate has not
    /// settled by then.
    pub warmup_s: f64,
    /// How long nothing at all may move while something is due, seconds.
    pub patience_s: f64,
    /// MQTT version of all clients: "3.1.1" or "5".
    pub version: Protocol,
    /// User name of each client; a pattern as for topics.
    pub user: Option<String>,
    /// Password of each client; a pattern as for topics.
    pub password: Option<String>,
    /// What lies between the sockets and MQTT: "tcp" (nothing), "tls", "ws" or "wss".
    pub transport: Transport,
    /// TLS: PEM file with the authorities that the broker's certificate must come from.
    pub ca: Option<PathBuf>,
    /// TLS and WebSocket: the broker's name, which its certificate must have; without it, its
    /// address.
    pub server_name: Option<String>,
    /// TLS: the broker's certificate is not verified.
    pub insecure: bool,
    /// TLS: PEM file with the certificate that clients show, and those it needs behind it …
    pub certificate: Option<PathBuf>,
    /// … and PEM file with its private key.
    pub key: Option<PathBuf>,
    /// WebSocket: the path that is asked for.
    pub path: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// CPUs of the generator's threads, one thread each; none leaves one unpinned thread.
    pub cpus: Vec<usize>,
    /// Bytes of one receive buffer of a generator thread.
    pub recv_buffer_bytes: usize,
    /// Whether the broker may lose QoS 0 messages without failing the run.
    pub loss_allowed: bool,
    /// The search for the largest rate that holds a goal.
    pub search: Option<Goal>,
    /// After the search: runs at these shares of the rate that was found.
    pub steps: Vec<f64>,
    /// The clients.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            name: "unnamed".into(),
            about: String::new(),
            seconds: 5.0,
            messages: None,
            warmup_s: 1.0,
            patience_s: 5.0,
            version: Protocol::V311,
            user: None,
            password: None,
            transport: Transport::Tcp,
            ca: None,
            server_name: None,
            insecure: false,
            certificate: None,
            key: None,
            path: "/mqtt".into(),
            seed: 1,
            cpus: Vec::new(),
            recv_buffer_bytes: 32 * 1024,
            loss_allowed: false,
            search: None,
            steps: Vec::new(),
            groups: Vec::new(),
        }
    }
}

/// A protocol version as files write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Protocol {
    /// MQTT 3.1.1.
    #[default]
    #[serde(rename = "3.1.1")]
    V311,
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
}

/// What lies between a socket and MQTT.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Nothing.
    #[default]
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket in TLS.
    Wss,
}

impl Transport {
    /// As files and options write it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// Whether TLS is part of it.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }
}

/// A goal for the largest rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Goal {
    /// Percentile of the latency, above 0 and below 100.
    pub percentile: f64,
    /// What it may be at most, milliseconds.
    pub latency_ms: f64,
    /// First rate tried, messages per second over all publishers.
    pub start: f64,
    /// Runs at most.
    pub tries: u32,
    /// Length of each, seconds.
    pub seconds: f64,
}

impl Default for Goal {
    fn default() -> Goal {
        Goal { percentile: 99.0, latency_ms: 5.0, start: 10_000.0, tries: 12, seconds: 2.0 }
    }
}

/// What the clients of a group do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// They send.
    Publish,
    /// They receive and check.
    Subscribe,
    /// They stay connected.
    #[default]
    Idle,
}

/// How far clients come that must not get in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manner {
    /// They send CONNECT and are refused.
    #[default]
    Connect,
    /// They leave after the handshakes of TLS and WebSocket.
    Handshake,
    /// They leave in the middle of the first one.
    Hello,
    /// They send what is neither TLS nor MQTT.
    Noise,
}

/// How the intended times of an open loop follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// At equal distances.
    #[default]
    Even,
    /// At random, as independent events come.
    Poisson,
}

/// Clients that are alike. In topics, filters, will topics, client identifiers, user names and
/// passwords `{i}` is the client's number in its group, `{n}` counts from 0 to below `topic_count`
/// (and is 0 outside of topics), `{random}` is a number that the seed decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Group {
    /// What reports call it; part of the client identifiers.
    pub name: String,
    /// What its clients do.
    pub role: Role,
    /// How many there are.
    pub count: usize,
    /// Topics (publishers) or filters (subscribers) of each client.
    pub topics: Vec<String>,
    /// How many topics a pattern with `{n}` stands for.
    pub topic_count: usize,
    /// Exponent of a Zipf distribution over a publisher's topics; 0 uses them in turn.
    pub zipf: f64,
    /// Subscribers: the share group they form.
    pub share: Option<String>,
    /// QoS of publications or subscriptions.
    pub qos: u8,
    /// Payload bytes: a number, `{ from = …, to = … }` or `{ sizes = […], weights = […] }`.
    pub payload: Sizes,
    /// Publications carry the retain flag.
    pub retain: bool,
    /// Open loop: messages per second of each client. Without it the loop is closed.
    pub rate: Option<f64>,
    /// Open loop: how intended times follow each other.
    pub arrival: Arrival,
    /// Open loop: seconds over which the rate rises from 0.
    pub ramp_s: f64,
    /// Bursts: milliseconds of sending …
    pub on_ms: u64,
    /// … and milliseconds of silence, in turn; 0 sends always.
    pub off_ms: u64,
    /// Closed loop: a pause after each write, milliseconds.
    pub think_ms: u64,
    /// Closed loop: messages that may be sent but lacked by some subscriber; 0 is no bound.
    pub window: usize,
    /// QoS 1 and 2: publications without a final acknowledgement.
    pub inflight: usize,
    /// Packets in one write, at most.
    pub batch: usize,
    /// Connects per second of the whole group; 0 is as fast as the broker answers.
    pub connect_rate: f64,
    /// Connects waiting for CONNACK at once.
    pub connecting: usize,
    /// Clean session or clean start.
    pub clean: bool,
    /// MQTT 5: seconds that a session outlives its connection.
    pub expiry_s: u32,
    /// Keep alive, seconds.
    pub keep_alive_s: u16,
    /// Seconds after the window's opening at which the group's clients vanish; 0 is never.
    pub offline_at_s: f64,
    /// How long they stay away, seconds.
    pub offline_s: f64,
    /// Every so many seconds the clients vanish and come back; 0 is never.
    pub storm_every_s: f64,
    /// At random, on average every so many seconds, each client connects again while its old
    /// connection lives; 0 is never.
    pub takeover_every_s: f64,
    /// Subscribers: at random, on average every so many seconds, each unsubscribes from everything
    /// and subscribes again; 0 is never.
    pub unsubscribe_every_s: f64,
    /// Subscribers: after each read they do not read for so many milliseconds.
    pub slow_ms: u64,
    /// The will of each client.
    pub will: Option<Will>,
    /// User name of each client, instead of the scenario's.
    pub user: Option<String>,
    /// Password of each client, instead of the scenario's.
    pub password: Option<String>,
    /// The clients must not get in: each comes once, after the window has opened, and is counted
    /// when it is turned away. One that gets in fails the run.
    pub expects_refusal: bool,
    /// How far such clients come: "connect", "handshake", "hello" or "noise".
    pub manner: Manner,
    /// Client identifiers; without it they are made of run, group and number.
    pub client_id: Option<String>,
    /// The first client's number, for several generators side by side.
    pub first: usize,
}

impl Default for Group {
    fn default() -> Group {
        Group {
            name: String::new(),
            role: Role::Idle,
            count: 1,
            topics: Vec::new(),
            topic_count: 1,
            zipf: 0.0,
            share: None,
            qos: 0,
            payload: Sizes::Fixed(64),
            retain: false,
            rate: None,
            arrival: Arrival::Even,
            ramp_s: 0.0,
            on_ms: 0,
            off_ms: 0,
            think_ms: 0,
            window: 512,
            inflight: 64,
            batch: 64,
            connect_rate: 0.0,
            connecting: 64,
            clean: true,
            expiry_s: 0,
            keep_alive_s: 60,
            offline_at_s: 0.0,
            offline_s: 0.0,
            storm_every_s: 0.0,
            takeover_every_s: 0.0,
            unsubscribe_every_s: 0.0,
            slow_ms: 0,
            will: None,
            user: None,
            password: None,
            expects_refusal: false,
            manner: Manner::Connect,
            client_id: None,
            first: 0,
        }
    }
}

/// The will of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Will {
    /// Topic pattern.
    pub topic: String,
    /// Text.
    pub payload: String,
    /// QoS.
    pub qos: u8,
    /// Whether it is to be retained.
    pub retain: bool,
}

impl Scenario {
    /// Messages per second that all open-loop publishers offer together.
    pub fn offered(&self) -> f64 {
        let of = |group: &Group| group.rate.unwrap_or(0.0) * group.count as f64;
        self.publishers().map(of).sum()
    }

    /// The scenario with the rates of all publishers scaled so that they offer `rate` together.
    /// Closed loops become open ones; the rate is spread over all clients alike.
    pub fn at_rate(&self, rate: f64) -> Scenario {
        let mut scaled = self.clone();
        let clients: usize = self.publishers().map(|group| group.count).sum();
        let offered = self.offered();
        for group in scaled.groups.iter_mut().filter(|group| group.role == Role::Publish) {
            let each = rate / clients.max(1) as f64;
            group.rate = Some(match group.rate {
                Some(own) if offered > 0.0 => own * rate / offered,
                _ => each,
            });
        }
        scaled
    }

    /// The groups that send.
    pub fn publishers(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.role == Role::Publish)
    }

    /// The strongest QoS of a publisher.
    pub fn qos(&self) -> u8 {
        self.publishers().map(|group| group.qos).max().unwrap_or(0)
    }
}
