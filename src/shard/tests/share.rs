//! Share groups: who gets a message, and what becomes of it when that member is gone.

use super::super::DropCause;
use super::wire::{id, message, v5};
use super::*;
use crate::codec::{self, ConnectProperties, Disconnect, PacketType, ReasonCode};
use crate::index::{ShareStrategy, Strategies};
use std::collections::BTreeSet;
use std::num::NonZeroU16;

const COUNTS: [usize; 2] = [1, 3];
const FILTER: &str = "$share/g/+";

/// Members of one group, and who publishes to it.
struct Group {
    bench: Bench,
    members: Vec<Client>,
    publisher: Client,
    number: u16,
}

impl Group {
    /// Shards with six members online whose sessions end with their connections.
    fn new(count: usize, strategy: ShareStrategy) -> Group {
        let mut group = Group::empty(count, strategy);
        (0..6).for_each(|n| group.join(&format!("m{n}"), 0));
        group
    }

    fn empty(count: usize, strategy: ShareStrategy) -> Group {
        let named = vec![(Box::from("g"), strategy)];
        let share = Strategies { named, ..Strategies::default() };
        let mut bench = Bench::with(count, |settings| settings.share = share.clone());
        let publisher = bench.connect(0, "p", Version::V5);
        Group { bench, members: Vec::new(), publisher, number: 0 }
    }

    fn join(&mut self, client_id: &str, expiry_s: u32) {
        let mut connect = v5(client_id, false, expiry_s);
        connect.properties =
            ConnectProperties { receive_maximum: NonZeroU16::new(2), ..connect.properties };
        let member = self.bench.connect_with(0, &connect);
        self.members.push(member);
        self.subscribe(member, FILTER);
    }

    fn subscribe(&mut self, member: Client, filter: &str) {
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        let mut bytes = Vec::new();
        let filters = &[(filter, options)];
        SubscribeOut { packet_id: id(1), subscription_id: None, filters }
            .encode(Version::V5, &mut bytes);
        self.bench.send(member, &bytes);
    }

    /// Publishes a message that tells its number; returns that.
    fn publish(&mut self, from: Client, topic: &str, qos: QoS) -> String {
        self.number += 1;
        let payload = self.number.to_string();
        let out = message(topic, qos, self.number, payload.as_bytes());
        self.bench.publish(from, Version::V5, &out);
        payload
    }

    /// Publishes `count` messages to one topic.
    fn publish_some(&mut self, count: usize, qos: QoS) -> Vec<String> {
        let from = self.publisher;
        (0..count).map(|_| self.publish(from, "t", qos)).collect()
    }

    /// What each member got since this was last asked.
    fn got(&mut self) -> Vec<Vec<String>> {
        self.judge();
        let bench = &mut self.bench;
        let payloads = |got: Vec<(String, String)>| got.into_iter().map(|(_, text)| text).collect();
        self.members.iter().map(|member| payloads(bench.received(*member))).collect()
    }

    /// The only member that got something, and what.
    fn only(&mut self) -> (usize, Vec<String>) {
        let mut got: Vec<_> = self.got().into_iter().enumerate().collect();
        got.retain(|(_, texts)| !texts.is_empty());
        assert_eq!(got.len(), 1, "{got:?}");
        got.remove(0)
    }

    fn ack(&mut self, member: usize, kind: PacketType, number: u16, reason: ReasonCode) {
        let mut bytes = Vec::new();
        codec::encode_ack(kind, Version::V5, id(number), reason, None, &mut bytes);
        self.bench.send(self.members[member], &bytes);
    }

    fn leave(&mut self, member: usize) {
        let mut bytes = Vec::new();
        Disconnect::default().encode(Version::V5, &mut bytes);
        self.bench.send(self.members[member], &bytes);
    }

    fn dropped(&self, cause: DropCause) -> u64 {
        self.bench.sum(|counters| counters.drops[cause as usize])
    }

    /// On each core each copy is accounted for.
    fn judge(&self) {
        for shard in &self.bench.shards {
            assert_eq!(shard.inventory().unaccounted(shard.counters()), 0);
        }
    }
}

/// Five messages for one member, two of them sent; then its session ends. Returns the messages.
fn five_for_one(count: usize, qos: QoS) -> (Group, usize, Vec<String>) {
    let mut group = Group::new(count, ShareStrategy::Sticky);
    let texts = group.publish_some(5, qos);
    let (member, got) = group.only();
    assert_eq!(got, texts[..2], "its receive maximum");
    (group, member, texts)
}

#[test]
fn round_robin_gives_each_member_its_turn() {
    for count in COUNTS {
        let mut group = Group::new(count, ShareStrategy::RoundRobin);
        group.publish_some(12, QoS::AtLeastOnce);
        assert!(group.got().iter().all(|texts| texts.len() == 2), "{count} shards");
    }
}

#[test]
fn random_reaches_everybody() {
    for count in COUNTS {
        let mut group = Group::new(count, ShareStrategy::Random);
        group.publish_some(120, QoS::AtMostOnce);
        let got = group.got();
        assert!(got.iter().all(|texts| !texts.is_empty()), "{got:?}");
        assert!(got.iter().any(|texts| texts.len() != 20), "not in turn");
        assert_eq!(got.iter().map(Vec::len).sum::<usize>(), 120);
    }
}

#[test]
fn sticky_stays_with_a_member_until_it_leaves() {
    for count in COUNTS {
        let mut group = Group::new(count, ShareStrategy::Sticky);
        group.publish_some(20, QoS::AtMostOnce);
        let (first, texts) = group.only();
        assert_eq!(texts.len(), 20);
        group.leave(first);
        group.publish_some(20, QoS::AtMostOnce);
        let (second, texts) = group.only();
        assert!(first != second && texts.len() == 20);
    }
}

#[test]
fn by_client_each_publisher_has_one_member() {
    for count in COUNTS {
        let mut group = Group::new(count, ShareStrategy::HashClient);
        let mut chosen = BTreeSet::new();
        for n in 0..12 {
            let publisher = group.bench.connect(0, &format!("p{n}"), Version::V5);
            for topic in ["a", "b", "c", "d"] {
                group.publish(publisher, topic, QoS::AtMostOnce);
            }
            let (member, texts) = group.only();
            assert_eq!(texts.len(), 4);
            chosen.insert(member);
        }
        assert!(chosen.len() > 1, "{chosen:?}");
    }
}

#[test]
fn by_topic_each_topic_has_one_member() {
    for count in COUNTS {
        let mut group = Group::new(count, ShareStrategy::HashTopic);
        let other = group.bench.connect(0, "p2", Version::V5);
        let mut chosen = BTreeSet::new();
        for n in 0..12 {
            for from in [group.publisher, other, group.publisher, other] {
                group.publish(from, &format!("t{n}"), QoS::AtMostOnce);
            }
            let (member, texts) = group.only();
            assert_eq!(texts.len(), 4);
            chosen.insert(member);
        }
        assert!(chosen.len() > 1, "{chosen:?}");
    }
}

#[test]
fn near_members_come_first_then_all_in_turn() {
    for count in COUNTS {
        let mut group = Group::new(count, ShareStrategy::LocalCore);
        for n in 0..6 {
            let publisher = group.bench.connect(0, &format!("p{n}"), Version::V5);
            let near = group.members.iter().any(|member| member.0 == publisher.0);
            (0..12).for_each(|_| drop(group.publish(publisher, "t", QoS::AtMostOnce)));
            let got = group.got();
            assert_eq!(got.iter().map(Vec::len).sum::<usize>(), 12);
            for (member, texts) in group.members.iter().zip(got) {
                assert!(!near || member.0 == publisher.0 || texts.is_empty());
            }
        }
    }
}

#[test]
fn least_inflight_spares_who_does_not_acknowledge() {
    for count in COUNTS {
        let mut group = Group::new(count, ShareStrategy::LeastInflight);
        let cores: Vec<_> = group.members.iter().map(|member| member.0).collect();
        let is_lazy = |at: usize| cores.iter().position(|core| *core == cores[at]) == Some(at);
        let (mut numbers, mut totals) = ([0u16; 6], [0usize; 6]);
        for _ in 0..24 {
            group.publish_some(1, QoS::AtLeastOnce);
            for (at, texts) in group.got().into_iter().enumerate() {
                totals[at] += texts.len();
                for _ in texts.iter().filter(|_| !is_lazy(at)) {
                    numbers[at] += 1;
                    group.ack(at, PacketType::Puback, numbers[at], ReasonCode::SUCCESS);
                }
            }
        }
        assert_eq!(totals.iter().sum::<usize>(), 24);
        for at in (0..6).filter(|at| is_lazy(*at)) {
            assert!(totals[at] <= 1, "{count} shards: {totals:?}");
        }
    }
}

#[test]
fn owners_hear_when_a_core_is_idle_again() {
    let mut group = Group::new(3, ShareStrategy::LeastInflight);
    let cores: Vec<_> = group.members.iter().map(|member| member.0).collect();
    // Nobody acknowledges; then the members of one core do, long after.
    group.publish_some(12, QoS::AtLeastOnce);
    assert!(group.got().iter().all(|texts| texts.len() == 2), "their receive maximum");
    group.bench.wait_s(10);
    let idle: Vec<_> = (0..6).filter(|at| cores[*at] == cores[0]).collect();
    for at in &idle {
        for number in 1..=2 {
            group.ack(*at, PacketType::Puback, number, ReasonCode::SUCCESS);
        }
    }
    group.bench.wait_s(3);
    group.publish_some(2 * idle.len(), QoS::AtLeastOnce);
    let got = group.got();
    assert!(idle.iter().all(|at| got[*at].len() == 2), "{cores:?} {got:?}");
}

#[test]
fn what_a_member_leaves_unfinished_with_qos_1_comes_to_another_one() {
    for count in COUNTS {
        let (mut group, member, texts) = five_for_one(count, QoS::AtLeastOnce);
        group.leave(member);
        let (other, mut got) = group.only();
        assert_ne!(member, other);
        group.ack(other, PacketType::Puback, 1, ReasonCode::SUCCESS);
        group.ack(other, PacketType::Puback, 2, ReasonCode::SUCCESS);
        got.extend(group.only().1);
        group.ack(other, PacketType::Puback, 3, ReasonCode::SUCCESS);
        got.extend(group.only().1);
        assert_eq!(got, texts, "each once, in order");
        assert_eq!(group.bench.sum(|counters| counters.redispatched), 5);
        assert_eq!(group.dropped(DropCause::SessionEnded), 0);
    }
}

/// [MQTT-4.8.2-4], [MQTT-4.8.2-5]
#[test]
fn of_qos_2_only_what_was_not_sent_comes_to_another_member() {
    for count in COUNTS {
        let (mut group, member, texts) = five_for_one(count, QoS::ExactlyOnce);
        group.leave(member);
        assert_eq!(group.only().1, texts[2..4], "the receive maximum of the other one");
        assert_eq!(group.bench.sum(|counters| counters.redispatched), 3);
        assert_eq!(group.dropped(DropCause::SessionEnded), 2);
    }
}

/// [MQTT-4.8.2-6]
#[test]
fn a_refused_message_comes_to_nobody_else() {
    let kinds = [(QoS::AtLeastOnce, PacketType::Puback), (QoS::ExactlyOnce, PacketType::Pubrec)];
    for (count, (qos, kind)) in COUNTS.into_iter().flat_map(|c| kinds.map(|kind| (c, kind))) {
        let mut group = Group::new(count, ShareStrategy::Sticky);
        group.publish_some(1, qos);
        let (member, _) = group.only();
        group.ack(member, kind, 1, ReasonCode::QUOTA_EXCEEDED);
        group.leave(member);
        assert!(group.got().iter().all(Vec::is_empty));
        assert_eq!(group.bench.sum(|counters| counters.redispatched), 0);
    }
}

#[test]
fn a_group_without_anybody_drops_what_comes_back() {
    for count in COUNTS {
        let mut group = Group::empty(count, ShareStrategy::RoundRobin);
        group.join("alone", 0);
        group.publish_some(5, QoS::AtLeastOnce);
        group.leave(0);
        group.judge();
        assert_eq!(group.dropped(DropCause::GroupGone), 5);
        assert_eq!(group.bench.sum(|counters| counters.redispatched), 5);
    }
}

#[test]
fn one_who_leaves_the_group_keeps_what_it_was_sent() {
    for count in COUNTS {
        let (mut group, member, texts) = five_for_one(count, QoS::AtLeastOnce);
        let client = group.members[member];
        let mut bytes = Vec::new();
        UnsubscribeOut { packet_id: id(9), filters: &[FILTER] }.encode(Version::V5, &mut bytes);
        group.bench.send(client, &bytes);
        let (other, got) = group.only();
        assert!(other != member && got == texts[2..4], "{got:?}");
        group.ack(member, PacketType::Puback, 1, ReasonCode::SUCCESS);
        assert!(group.got()[member].is_empty());
        assert_eq!(group.bench.sum(|counters| counters.redispatched), 3);
    }
}

#[test]
fn two_filters_of_one_name_are_two_groups() {
    for count in COUNTS {
        let mut group = Group::empty(count, ShareStrategy::Sticky);
        group.join("first", 0);
        let first = group.members[0];
        group.subscribe(first, "$share/g/t");
        let text = group.publish_some(1, QoS::AtLeastOnce).remove(0);
        assert_eq!(group.got(), [vec![text.clone(), text.clone()]]);
        group.join("second", 0);
        group.leave(0);
        assert_eq!(group.only(), (1, vec![text]), "the one for the filter that both have");
        assert_eq!(group.dropped(DropCause::GroupGone), 1);
    }
}

#[test]
fn members_online_come_first_and_one_keeps_it_when_all_are_offline() {
    let strategies = [ShareStrategy::RoundRobin, ShareStrategy::Random, ShareStrategy::Sticky];
    let others = [ShareStrategy::HashTopic, ShareStrategy::LocalCore, ShareStrategy::LeastInflight];
    for strategy in strategies.into_iter().chain(others).chain([ShareStrategy::HashClient]) {
        for count in COUNTS {
            let mut group = Group::empty(count, strategy);
            (0..4).for_each(|n| group.join(&format!("m{n}"), 100));
            (0..3).for_each(|n| group.leave(n));
            let texts = group.publish_some(2, QoS::AtLeastOnce);
            assert_eq!(group.only(), (3, texts), "{strategy:?}");
            group.ack(3, PacketType::Puback, 1, ReasonCode::SUCCESS);
            group.ack(3, PacketType::Puback, 2, ReasonCode::SUCCESS);
            group.leave(3);
            let texts = group.publish_some(1, QoS::AtLeastOnce);
            assert!(group.got().iter().all(Vec::is_empty));
            for n in 0..4 {
                group.members[n] = group.bench.connect_with(0, &v5(&format!("m{n}"), false, 100));
            }
            assert_eq!(group.only().1, texts, "{strategy:?}, {count} shards");
        }
    }
}

#[test]
fn a_message_under_way_to_one_who_leaves_comes_to_another() {
    let mut group = Group::new(3, ShareStrategy::Sticky);
    let placement = Placement::new(3, [1, 2], 2);
    let mut names = (0..).map(|n| format!("p{n}"));
    // A publisher on the core that owns its topic, and the member on another one that has it.
    let (publisher, topic, member) = loop {
        let name = names.next().expect("there is no end");
        let publisher = group.bench.connect(0, &name, Version::V5);
        let topic = (0..).map(|n| format!("t{n}"));
        let mut own = topic.filter(|topic| placement.owner(topic).index() == publisher.0);
        let topic = own.next().expect("there is no end");
        group.publish(publisher, &topic, QoS::AtMostOnce);
        let (member, _) = group.only();
        if group.members[member].0 != publisher.0 {
            break (publisher, topic, member);
        }
    };
    let home = group.members[member].0;
    for other in (0..group.members.len()).filter(|other| *other != member) {
        if group.members[other].0 == home {
            group.leave(other);
        }
    }
    group.publish(publisher, &topic, QoS::AtMostOnce);
    assert_eq!(group.only().0, member, "it keeps its member");
    // Its core knows at once, the owner hears of it later.
    let mut bytes = Vec::new();
    Disconnect::default().encode(Version::V5, &mut bytes);
    let client = group.members[member];
    group.bench.shards[home].receive(client.1, &bytes);
    let mut bytes = Vec::new();
    message(&topic, QoS::AtMostOnce, 0, b"under way").encode(Version::V5, &mut bytes);
    group.bench.shards[publisher.0].receive(publisher.1, &bytes);
    group.bench.shards[publisher.0].tick();
    group.bench.pass(0);
    let (other, got) = group.only();
    assert!(other != member && got == ["under way"]);
    assert_eq!(group.bench.sum(|counters| counters.redispatched), 1);
}

#[test]
fn what_waits_for_another_member_is_bounded() {
    let mut bench = Group::new(1, ShareStrategy::Sticky);
    bench.bench.shards[0].clients.settings.limits.redispatch_messages = 2;
    bench.publish_some(5, QoS::AtLeastOnce);
    let (member, _) = bench.only();
    bench.leave(member);
    bench.judge();
    assert_eq!(bench.dropped(DropCause::RedispatchOverflow), 3);
    assert_eq!(bench.bench.sum(|counters| counters.redispatched), 2);
}

#[test]
fn what_waits_for_another_member_when_the_broker_stops_is_counted() {
    for count in COUNTS {
        let (mut group, member, _) = five_for_one(count, QoS::AtLeastOnce);
        let core = group.members[member].0;
        // The news of its end are not told yet: what it left waits.
        let mut bytes = Vec::new();
        Disconnect::default().encode(Version::V5, &mut bytes);
        group.bench.shards[core].receive(group.members[member].1, &bytes);
        let waiting = group.bench.shards[core].redispatch.len();
        assert_eq!(waiting, 5, "{count} shards");
        group.bench.shards.iter_mut().for_each(Shard::drain);
        group.bench.pass(0);
        assert_eq!(group.dropped(DropCause::Stopped), 5, "{count} shards");
        group.judge();
    }
}
