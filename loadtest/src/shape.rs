//! Shapes of load: who publishes what to whom, and how closely the loop is closed.

use crate::wire::Version;
use clap::ValueEnum;
use std::ops::Range;

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

/// One load, complete but for where to send it.
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
    /// Protocol level of all clients.
    pub version: Version,
    /// Messages a publisher may have sent that some subscriber still lacks.
    pub window: usize,
    /// QoS 1 and 2: messages a publisher may have sent without a final acknowledgement.
    pub inflight: usize,
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

impl Shape {
    /// A shape with default payload, version and windows.
    pub fn new(kind: Kind, peers: usize, qos: u8, batch: usize) -> Shape {
        let mut shape = Shape {
            kind,
            peers,
            qos,
            payload: 64,
            batch,
            version: Version::V4,
            window: 0,
            inflight: if batch > 1 { 64 } else { 16 },
        };
        let streams = shape.publishers().max(shape.subscribers());
        shape.window = (OUTSTANDING_MAX / streams).clamp((2 * batch).min(WINDOW_MAX), WINDOW_MAX);
        shape
    }

    /// The eight shapes of the budget table.
    pub fn canonical() -> Vec<Shape> {
        vec![
            Shape::new(Kind::Pipe, 1, 0, 64),
            Shape::new(Kind::FanIn, 50, 0, 64),
            Shape::new(Kind::FanOut, 100, 0, 64),
            Shape::new(Kind::Pairs, 100, 0, 64),
            Shape::new(Kind::FanIn, 10, 1, 64),
            Shape::new(Kind::FanIn, 10, 2, 64),
            Shape::new(Kind::Pairs, 100, 0, 1),
            Shape::new(Kind::FanIn, 10, 1, 1),
        ]
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
        let version = if self.version == Version::V5 { " v5" } else { "" };
        format!("{joined} q{}{size}{version} {writes}", self.qos)
    }

    /// Number of publishers.
    pub fn publishers(&self) -> usize {
        match self.kind {
            Kind::Pipe | Kind::FanOut => 1,
            Kind::FanIn | Kind::Pairs => self.peers,
        }
    }

    /// Number of subscribers.
    pub fn subscribers(&self) -> usize {
        match self.kind {
            Kind::Pipe | Kind::FanIn => 1,
            Kind::FanOut | Kind::Pairs => self.peers,
        }
    }

    /// Publisher–subscriber pairs; each message is delivered once per pair of its publisher.
    pub fn pairs(&self) -> usize {
        if self.kind == Kind::Pipe { 1 } else { self.peers }
    }

    /// The pairs fed by a publisher.
    pub fn pairs_of(&self, publisher: usize) -> Range<usize> {
        match self.kind {
            Kind::FanOut => 0..self.peers,
            Kind::Pipe | Kind::FanIn | Kind::Pairs => publisher..publisher + 1,
        }
    }

    /// The publishers a subscriber hears, and the pair of the first of them; the others' follow.
    pub fn heard_by(&self, subscriber: usize) -> (Range<usize>, usize) {
        match self.kind {
            Kind::Pipe | Kind::FanOut => (0..1, subscriber),
            Kind::FanIn => (0..self.peers, 0),
            Kind::Pairs => (subscriber..subscriber + 1, subscriber),
        }
    }

    /// The topic of a publisher.
    pub fn topic(&self, publisher: usize) -> String {
        format!("load/{publisher}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_on_every_pair() {
        for kind in [Kind::Pipe, Kind::FanIn, Kind::FanOut, Kind::Pairs] {
            let shape = Shape::new(kind, 7, 0, 64);
            let mut fed = Vec::new();
            for publisher in 0..shape.publishers() {
                fed.extend(shape.pairs_of(publisher).map(|pair| (pair, publisher)));
            }
            let mut heard = Vec::new();
            for subscriber in 0..shape.subscribers() {
                let (publishers, pair) = shape.heard_by(subscriber);
                heard.extend(publishers.enumerate().map(|(at, publisher)| (pair + at, publisher)));
            }
            assert_eq!(fed, heard, "{kind:?}");
            assert_eq!(fed.len(), shape.pairs());
        }
    }

    #[test]
    fn default_windows_hold_a_batch_and_stay_bounded() {
        for shape in Shape::canonical() {
            assert!(shape.window >= shape.batch && shape.window <= WINDOW_MAX);
            assert!(shape.window * shape.pairs() <= OUTSTANDING_MAX, "{}", shape.name());
        }
    }
}
