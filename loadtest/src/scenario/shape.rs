//! The four shapes of the budget table, made by options instead of a file.

use super::{Group, Protocol, Role, Scenario, Sizes};
use clap::ValueEnum;

/// Deliveries that may be outstanding over all publishers when no window is given. It keeps every
/// shape's backlog within a few megabytes of socket buffers.
const OUTSTANDING_MAX: usize = 32 * 1024;
/// Messages a publisher may have outstanding when no window is given.
const WINDOW_MAX: usize = 1024;

/// How publishers and subscribers are joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    /// One publisher, one subscriber.
    Pipe,
    /// Many publishers, each with its topic; one subscriber of all.
    FanIn,
    /// One publisher; many subscribers of its topic.
    FanOut,
    /// Many publishers, each with its topic and its subscriber.
    Pairs,
}

/// One shape; [`Shape::scenario`] is what runs.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How publishers and subscribers are joined.
    pub kind: Kind,
    /// The "many" of the kind; ignored by a pipe.
    pub peers: usize,
    /// QoS of publications and subscriptions.
    pub qos: u8,
    /// Payload bytes.
    pub payload: usize,
    /// Packets a publisher puts into one write, at most.
    pub batch: usize,
    /// Protocol version of all clients.
    pub version: Protocol,
    /// Messages a publisher may have sent that some subscriber still lacks.
    pub window: Option<usize>,
    /// QoS 1 and 2: messages without a final acknowledgement.
    pub inflight: Option<usize>,
}

impl Kind {
    /// The "many" when none is given.
    pub fn default_peers(self) -> usize {
        match self {
            Kind::Pipe => 1,
            Kind::FanIn => 50,
            Kind::FanOut | Kind::Pairs => 100,
        }
    }
}

/// The eight shapes of the budget table.
pub fn canonical() -> Vec<Shape> {
    let shape = |kind, peers, qos, batch| Shape { peers, qos, batch, ..Shape::new(kind) };
    vec![
        shape(Kind::Pipe, 1, 0, 64),
        shape(Kind::FanIn, 50, 0, 64),
        shape(Kind::FanOut, 100, 0, 64),
        shape(Kind::Pairs, 100, 0, 64),
        shape(Kind::FanIn, 10, 1, 64),
        shape(Kind::FanIn, 10, 2, 64),
        shape(Kind::Pairs, 100, 0, 1),
        shape(Kind::FanIn, 10, 1, 1),
    ]
}

impl Shape {
    /// A shape with the defaults of its kind.
    pub fn new(kind: Kind) -> Shape {
        Shape {
            kind,
            peers: kind.default_peers(),
            qos: 0,
            payload: 64,
            batch: 64,
            version: Protocol::V311,
            window: None,
            inflight: None,
        }
    }

    /// One line that tells this shape from others.
    pub fn name(&self) -> String {
        let peers = self.peers;
        let joined = match self.kind {
            Kind::Pipe => "pipe 1:1".to_owned(),
            Kind::FanIn => format!("fan-in {peers}:1"),
            Kind::FanOut => format!("fan-out 1:{peers}"),
            Kind::Pairs => format!("pairs {peers}:{peers}"),
        };
        let writes = match self.batch {
            1 => "single".to_owned(),
            64 => "batched".to_owned(),
            other => format!("batch {other}"),
        };
        let size = if self.payload == 64 { String::new() } else { format!(" {}B", self.payload) };
        let version = if self.version == Protocol::V5 { " v5" } else { "" };
        format!("{joined} q{}{size}{version} {writes}", self.qos)
    }

    /// The load as a scenario of one window of `seconds`.
    pub fn scenario(&self) -> Scenario {
        let peers = self.peers.max(1);
        let many = |many: bool| if many { peers } else { 1 };
        let publishers = many(matches!(self.kind, Kind::FanIn | Kind::Pairs));
        let subscribers = many(matches!(self.kind, Kind::FanOut | Kind::Pairs));
        let fallback = (OUTSTANDING_MAX / publishers.max(subscribers))
            .clamp((2 * self.batch).min(WINDOW_MAX), WINDOW_MAX);
        let filter = match self.kind {
            Kind::FanIn => "load/{n}",
            Kind::FanOut => "load/0",
            Kind::Pipe | Kind::Pairs => "load/{i}",
        };
        let subscribe = Group {
            name: "subscribers".into(),
            role: Role::Subscribe,
            count: subscribers,
            topics: vec![filter.into()],
            topic_count: publishers,
            qos: self.qos,
            ..Group::default()
        };
        let publish = Group {
            name: "publishers".into(),
            role: Role::Publish,
            count: publishers,
            topics: vec!["load/{i}".into()],
            qos: self.qos,
            payload: Sizes::Fixed(self.payload),
            batch: self.batch,
            window: self.window.unwrap_or(fallback),
            inflight: self.inflight.unwrap_or(if self.batch > 1 { 64 } else { 16 }),
            ..Group::default()
        };
        let groups = vec![subscribe, publish];
        Scenario { name: self.name(), version: self.version, groups, ..Scenario::default() }
    }
}
