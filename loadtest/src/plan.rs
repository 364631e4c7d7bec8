//! A scenario laid out: every client, every flow and who is to receive it.
//!
//! Invariants worth naming:
//! * clients stand in the order of their groups, subscribers first; flows in the order of their
//!   senders; the audiences of a flow are neighbours;
//! * a subscriber is due one copy of a message, also where several of its filters match.

use crate::scenario::{Group, Role, Scenario};
use crate::script::Script;
use corelane::base::Prng;
use corelane::codec::QoS;
use corelane::index::{Index, SessionKey, Slot, Subscriber};
use corelane::topic::{TopicFilter, TopicName};
use std::collections::BTreeMap;
use std::ops::Range;

/// Numbers that `{random}` stands for.
const RANDOM_MAX: usize = 1_000_000;

/// Everything that a run consists of.
pub struct Plan {
    /// The clients.
    pub clients: Vec<Member>,
    /// The flows.
    pub flows: Vec<Flow>,
    /// Whom the flows are for.
    pub audiences: Vec<Audience>,
    /// A replay: its clients follow scripts; the first publication is meant for so many nanoseconds
    /// after the begin.
    pub replay_ns: Option<u64>,
}

/// One client.
pub struct Member {
    /// Its group, by position in the scenario.
    pub group: usize,
    /// Its number in the group.
    pub number: usize,
    /// Filters of a subscriber.
    pub filters: Vec<String>,
    /// Flows of a publisher.
    pub flows: Range<u32>,
    /// A subscriber's flows and the audience it is (part of) on each, by flow.
    pub heard: Vec<(u32, u32)>,
    /// What a client of a replay does.
    pub script: Option<Script>,
}

/// What one publisher sends to one topic.
pub struct Flow {
    /// The topic.
    pub topic: String,
    /// QoS of the publications.
    pub qos: u8,
    /// They carry the retain flag.
    pub retain: bool,
    /// Who receives it.
    pub audiences: Range<u32>,
}

/// One subscriber, or one share group, on one flow.
#[derive(Clone, Copy, Debug)]
pub struct Audience {
    /// QoS of the deliveries.
    pub qos: u8,
    /// Whether a share group divides the flow among its members.
    pub shared: bool,
    /// Whether the load itself makes losses legitimate: clients vanish without a session.
    pub may_lose: bool,
    /// Whether the load itself makes repetitions legitimate.
    pub may_repeat: bool,
}

impl Plan {
    /// Lays out a scenario that was checked.
    ///
    /// # Panics
    /// For topics that [`crate::scenario::check`] would have refused.
    pub fn new(scenario: &Scenario) -> Plan {
        let mut plan =
            Plan { clients: Vec::new(), flows: Vec::new(), audiences: Vec::new(), replay_ns: None };
        let mut prng = Prng::new(scenario.seed);
        for role in [Role::Subscribe, Role::Publish, Role::Idle] {
            for (at, group) in scenario.groups.iter().enumerate() {
                if group.role == role {
                    plan.add_group(at, group, &mut prng);
                }
            }
        }
        plan.join(scenario);
        plan
    }

    fn add_group(&mut self, at: usize, group: &Group, prng: &mut Prng) {
        for number in group.first..group.first + group.count {
            let topics = expand_all(group, number, prng);
            let begin = self.flows.len() as u32;
            let mut filters = Vec::new();
            match group.role {
                Role::Publish => self.flows.extend(topics.into_iter().map(|topic| Flow {
                    topic,
                    qos: group.qos,
                    retain: group.retain,
                    audiences: 0..0,
                })),
                Role::Subscribe => filters = topics,
                Role::Idle => {}
            }
            let flows = begin..self.flows.len() as u32;
            let heard = Vec::new();
            self.clients.push(Member { group: at, number, filters, flows, heard, script: None });
        }
    }

    /// Finds who hears what.
    fn join(&mut self, scenario: &Scenario) {
        let mut index = Index::new(scenario.seed, 1 << 20);
        for (at, client) in self.clients.iter().enumerate() {
            for filter in &client.filters {
                let filter = TopicFilter::new(filter).expect("the scenario was checked");
                index.subscribe(filter, subscriber(at));
            }
        }
        let senders: Vec<usize> = self
            .clients
            .iter()
            .flat_map(|client| client.flows.clone().map(|_| client.group))
            .collect();
        for (number, sender) in senders.into_iter().enumerate() {
            let heard = hearers(&mut index, &self.flows[number].topic);
            self.seat(scenario, number, &scenario.groups[sender], heard);
        }
    }

    /// Makes the audiences of one flow.
    fn seat(&mut self, scenario: &Scenario, flow: usize, sender: &Group, heard: Vec<usize>) {
        let begin = self.audiences.len() as u32;
        let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
        for client in heard {
            let group = &scenario.groups[self.clients[client].group];
            let next = self.audiences.len() as u32;
            let seat = match &group.share {
                Some(share) => *shares.entry(share).or_insert(next),
                None => next,
            };
            if seat == next {
                self.audiences.push(audience(sender, group));
            }
            self.clients[client].heard.push((flow as u32, seat));
        }
        self.flows[flow].audiences = begin..self.audiences.len() as u32;
    }
}

fn audience(sender: &Group, group: &Group) -> Audience {
    let vanishes = |group: &Group| {
        group.offline_s > 0.0 || group.storm_every_s > 0.0 || group.takeover_every_s > 0.0
    };
    let qos = sender.qos.min(group.qos);
    let slow = group.slow_ms > 0 && qos == 0;
    let absent = slow || (vanishes(group) && (group.clean || qos == 0));
    Audience {
        qos,
        shared: group.share.is_some(),
        may_lose: absent || (vanishes(sender) && (sender.clean || sender.qos == 0)),
        may_repeat: vanishes(sender) && sender.clean,
    }
}

/// Something numbered that subscribes, for [`hearers`].
pub fn subscriber(client: usize) -> Subscriber {
    Subscriber {
        session: SessionKey::from_parts(client as u32, 1),
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        identifier: None,
        installing: false,
    }
}

/// The numbers whose filters match, each once, in ascending order.
pub fn hearers(index: &mut Index, topic: &str) -> Vec<usize> {
    let matched = index.matches(TopicName::new(topic).expect("the scenario was checked"));
    let mut found = Vec::new();
    for node in matched.nodes.iter().filter_map(|key| index.node(*key)) {
        found.extend(node.slots(0..node.len()).filter_map(|slot| match slot {
            Slot::Alive(subscriber) => Some(subscriber.session.index() as usize),
            Slot::Dead => None,
        }));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Every topic or filter of one client.
fn expand_all(group: &Group, number: usize, prng: &mut Prng) -> Vec<String> {
    let mut topics = Vec::new();
    for pattern in &group.topics {
        let count = if pattern.contains("{n}") { group.topic_count } else { 1 };
        topics.extend((0..count).map(|n| expand(pattern, number, n, prng)));
    }
    topics
}

/// A pattern for one client.
pub fn expand(pattern: &str, number: usize, n: usize, prng: &mut Prng) -> String {
    let mut topic = pattern.replace("{i}", &number.to_string()).replace("{n}", &n.to_string());
    while let Some(at) = topic.find("{random}") {
        let random = prng.below(RANDOM_MAX).to_string();
        topic.replace_range(at..at + "{random}".len(), &random);
    }
    topic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Kind, Shape, parse};

    #[test]
    fn every_shape_joins_as_many_as_it_says() {
        for (kind, flows, audiences) in
            [(Kind::Pipe, 1, 1), (Kind::FanIn, 7, 7), (Kind::FanOut, 1, 7), (Kind::Pairs, 7, 7)]
        {
            let plan = Plan::new(&Shape { peers: 7, ..Shape::new(kind) }.scenario());
            assert_eq!((plan.flows.len(), plan.audiences.len()), (flows, audiences), "{kind:?}");
            let heard: usize = plan.clients.iter().map(|client| client.heard.len()).sum();
            assert_eq!(heard, audiences);
        }
    }

    #[test]
    fn a_share_group_is_one_audience_and_overlaps_count_once() {
        let text = r##"
            [[group]]
            name = "members"
            role = "subscribe"
            count = 3
            share = "g"
            topics = ["a/#"]
            [[group]]
            name = "wild"
            role = "subscribe"
            topics = ["a/+", "a/0", "#"]
            [[group]]
            name = "senders"
            role = "publish"
            topics = ["a/{n}"]
            topic_count = 2
        "##;
        let plan = Plan::new(&parse("test", text).expect("valid"));
        assert_eq!((plan.flows.len(), plan.audiences.len()), (2, 4));
        assert!(plan.audiences[0].shared && !plan.audiences[1].shared);
        assert_eq!(plan.clients[2].heard, [(0, 0), (1, 2)]);
        assert_eq!(plan.clients[3].heard, [(0, 1), (1, 3)]);
    }
}
