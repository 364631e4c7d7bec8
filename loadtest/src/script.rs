//! What one client of a replay does, step by step, and which flows it must hear meanwhile.
//!
//! Invariant worth naming: a client takes its steps in order; the steps up to the first publication
//! of the whole recording are its prelude, whose times count from the begin of the run, those of
//! the others from the begin of the load.

use crate::traffic::Greeting;
use std::sync::Arc;

/// One client's part in a replay.
#[derive(Clone, Debug)]
pub struct Script {
    /// The steps; copies of a client share them.
    pub steps: Arc<[Step]>,
    /// How many of them come before the load.
    pub prelude: usize,
    /// How much later than their times the steps are due, nanoseconds.
    pub shift_ns: u64,
    /// For each filter the positions, among the flows that the client hears, that it matches.
    pub matches: Arc<[Vec<u32>]>,
    /// Publications of QoS 1 and 2 without a final acknowledgement, at most.
    pub inflight: usize,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, nanoseconds.
    pub at_ns: u64,
    /// What.
    pub act: Act,
}

/// What a client does in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It connects.
    Connect(Greeting),
    /// It subscribes, in one packet: filters by position, with QoS.
    Subscribe(Vec<(u32, u8)>),
    /// It unsubscribes, in one packet: filters by position.
    Unsubscribe(Vec<u32>),
    /// It publishes.
    Publish {
        /// The flow, counted from the client's first.
        flow: u32,
        /// Payload bytes.
        size: u32,
    },
    /// It goes, saying so or not, once all it sent is acknowledged.
    Leave {
        /// With DISCONNECT.
        clean: bool,
        /// It connects again later.
        back: bool,
    },
}

/// Which flows a client is due by its own doing. Flows are positions among those it can hear.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    /// By filter: subscribed.
    active: Vec<bool>,
    /// By flow: filters subscribed that match.
    count: Vec<u32>,
    /// By flow: whether it is due now.
    heard: Vec<bool>,
}

impl Listening {
    /// Nothing subscribed; so many filters and flows.
    pub fn new(filters: usize, flows: usize) -> Listening {
        Listening { active: vec![false; filters], count: vec![0; flows], heard: vec![false; flows] }
    }

    /// A filter was subscribed. `told` learns each flow whose state changes, here and below.
    pub fn add(&mut self, script: &Script, filter: u32, mut told: impl FnMut(u32, bool)) {
        if std::mem::replace(&mut self.active[filter as usize], true) {
            return;
        }
        for flow in &script.matches[filter as usize] {
            self.count[*flow as usize] += 1;
            self.set(*flow, true, &mut told);
        }
    }

    /// A filter is being unsubscribed.
    pub fn remove(&mut self, script: &Script, filter: u32, mut told: impl FnMut(u32, bool)) {
        if !std::mem::replace(&mut self.active[filter as usize], false) {
            return;
        }
        for flow in &script.matches[filter as usize] {
            self.count[*flow as usize] -= 1;
            if self.count[*flow as usize] == 0 {
                self.set(*flow, false, &mut told);
            }
        }
    }

    /// The client goes; its session keeps the flows that `kept` names, or is gone too.
    pub fn leave(&mut self, kept: impl Fn(u32) -> bool, mut told: impl FnMut(u32, bool)) {
        for flow in 0..self.heard.len() as u32 {
            if !kept(flow) {
                self.set(flow, false, &mut told);
            }
        }
    }

    /// The client is back and its session is there.
    pub fn resume(&mut self, mut told: impl FnMut(u32, bool)) {
        for flow in 0..self.heard.len() as u32 {
            self.set(flow, self.count[flow as usize] > 0, &mut told);
        }
    }

    /// The session is gone.
    pub fn clear(&mut self, mut told: impl FnMut(u32, bool)) {
        self.active.fill(false);
        self.count.fill(0);
        self.leave(|_| false, &mut told);
    }

    fn set(&mut self, flow: u32, heard: bool, told: &mut impl FnMut(u32, bool)) {
        if std::mem::replace(&mut self.heard[flow as usize], heard) != heard {
            told(flow, heard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_due_while_any_filter_of_it_is_subscribed() {
        let matches = vec![vec![0, 1], vec![1]].into();
        let script = Script { steps: Arc::new([]), prelude: 0, shift_ns: 0, matches, inflight: 0 };
        let mut listening = Listening::new(2, 2);
        let mut changes = Vec::new();
        let mut told = |flow, heard| changes.push((flow, heard));
        listening.add(&script, 1, &mut told);
        listening.add(&script, 0, &mut told);
        listening.add(&script, 0, &mut told);
        listening.remove(&script, 1, &mut told);
        listening.leave(|flow| flow == 1, &mut told);
        listening.resume(&mut told);
        listening.remove(&script, 0, &mut told);
        listening.add(&script, 1, &mut told);
        listening.clear(&mut told);
        listening.resume(&mut told);
        let expected = [
            (1, true),
            (0, true),
            (0, false),
            (0, true),
            (0, false),
            (1, false),
            (1, true),
            (1, false),
        ];
        assert_eq!(changes, expected);
    }
}
