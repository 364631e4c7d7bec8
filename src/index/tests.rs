//! The index against plain models.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::base::Prng;
use crate::codec::QoS;

fn filter(text: &str) -> &TopicFilter {
    TopicFilter::new(text).expect("a filter")
}

fn topic(text: &str) -> &TopicName {
    TopicName::new(text).expect("a topic")
}

fn session(number: u32) -> SessionKey {
    Key::from_parts(number, 1)
}

fn hint(random: &mut Prng) -> Hint<'_> {
    Hint { publisher: 0, topic: "", near: ShardId(0), me: ShardId(0), seed: 0, random }
}

fn subscriber(number: u32) -> Subscriber {
    Subscriber {
        session: session(number),
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        identifier: None,
        installing: false,
    }
}

fn part(online: u32, total: u32) -> Part {
    Part { online, total, ..Part::default() }
}

fn index() -> Index {
    Index::new(7, 1 << 20)
}

fn fresh(index: &Index, name: &str) -> Vec<NodeKey> {
    let mut found = Vec::new();
    index.trie.matches(topic(name), &mut Vec::new(), &mut found);
    found
}

/// Filters and topics draw from few levels, so that they meet often.
fn levels(wild: bool) -> impl Strategy<Value = String> {
    let choice = if wild { vec!["", "a", "b", "$s", "+", "+"] } else { vec!["", "a", "b", "$s"] };
    (prop::collection::vec(prop::sample::select(choice), 0..4), prop::bool::weighted(0.3))
        .prop_map(move |(mut levels, multi)| {
            if multi && wild {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("not empty", |text| !text.is_empty())
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Subscribe(u32),
    Unsubscribe(u32),
    SetInterest(u8),
    ClearInterest(u8),
    Join(&'static str, u32),
    Leave(&'static str, u32),
    SetGroup(&'static str, u8, u32, u32),
    SetCrowd(u8, u32),
    Pin,
    Unpin,
}

fn ops() -> impl Strategy<Value = Op> {
    let group = || prop::sample::select(vec!["g", "h"]);
    prop_oneof![
        4 => (0..4u32).prop_map(Op::Subscribe),
        4 => (0..4u32).prop_map(Op::Unsubscribe),
        2 => (0..3u8).prop_map(Op::SetInterest),
        2 => (0..3u8).prop_map(Op::ClearInterest),
        1 => (group(), 0..3u32).prop_map(|(group, member)| Op::Join(group, member)),
        1 => (group(), 0..3u32).prop_map(|(group, member)| Op::Leave(group, member)),
        2 => (group(), 0..3u8, 0..3u32, 0..3u32)
            .prop_map(|(group, core, online, total)| Op::SetGroup(group, core, online, total)),
        2 => (0..3u8, 0..3u32).prop_map(|(core, size)| Op::SetCrowd(core, size)),
        1 => Just(Op::Pin),
        1 => Just(Op::Unpin),
    ]
}

/// Who joins (true) and who leaves.
fn changes() -> impl Strategy<Value = Vec<(bool, u32)>> {
    prop::collection::vec((any::<bool>(), 0..45u32), 0..6)
}

/// What one filter holds.
#[derive(Default)]
struct Held {
    sessions: BTreeSet<u32>,
    interest: CoreSet,
    members: BTreeSet<(&'static str, u32)>,
    shares: BTreeSet<(&'static str, u8)>,
    crowds: BTreeMap<u8, u32>,
    pins: u32,
}

impl Held {
    fn bears(&self) -> bool {
        !self.sessions.is_empty()
            || !self.interest.is_empty()
            || !self.shares.is_empty()
            || !self.crowds.is_empty()
    }
}

#[derive(Default)]
struct Model(BTreeMap<String, Held>);

impl Model {
    /// Does `op` to the model and to the index and compares the outcomes.
    fn apply(&mut self, index: &mut Index, text: &str, op: Op) {
        let held = self.0.entry(text.to_owned()).or_default();
        let filter = filter(text);
        match op {
            Op::Subscribe(number) => {
                let first = held.sessions.is_empty();
                let replaced = !held.sessions.insert(number);
                let done = index.subscribe(filter, subscriber(number));
                assert_eq!((done.first, done.replaced), (first, replaced));
                assert_eq!(index.find(filter), Some(done.node));
            }
            Op::Unsubscribe(number) => {
                let node = index.find(filter).unwrap_or(Key::from_parts(0, 0));
                let outcome = index.unsubscribe(node, session(number));
                assert_eq!(
                    outcome,
                    match held.sessions.remove(&number) {
                        true => Unsubscribed::Removed { last: held.sessions.is_empty() },
                        false => Unsubscribed::Absent,
                    }
                );
            }
            Op::SetInterest(core) => {
                held.interest.insert(ShardId(core));
                index.set_interest(filter, ShardId(core));
            }
            Op::ClearInterest(core) => {
                held.interest.remove(ShardId(core));
                index.clear_interest(filter, ShardId(core));
            }
            Op::Join(group, number) => {
                let first = held.members.iter().all(|(other, _)| *other != group);
                let replaced = !held.members.insert((group, number));
                let done = index.join_group(filter, group, subscriber(number));
                assert_eq!((done.first, done.replaced), (first, replaced));
                assert_eq!(index.group_name(done.group), Some(group));
                assert_eq!(index.group_node(done.group), index.find(filter));
            }
            Op::Leave(group, number) => Model::leave(held, index, filter, group, number),
            Op::SetGroup(group, core, online, total) => {
                match total {
                    0 => held.shares.remove(&(group, core)),
                    _ => held.shares.insert((group, core)),
                };
                let online = online.min(total);
                let part = Part { local: 1, online, total, ..Part::default() };
                index.set_group_part(filter, group, ShardId(core), part);
            }
            Op::SetCrowd(core, size) => {
                match size {
                    0 => held.crowds.remove(&core),
                    _ => held.crowds.insert(core, size),
                };
                index.set_crowd(filter, ShardId(core), size);
                assert_eq!(index.crowd_told(filter, ShardId(core)), size);
            }
            Op::Pin => {
                let pinned = index.find(filter).is_some_and(|node| index.pin(node));
                held.pins += u32::from(pinned);
            }
            Op::Unpin if held.pins > 0 => {
                held.pins -= 1;
                index.unpin(index.find(filter).expect("a pinned node stays"));
            }
            Op::Unpin => {}
        }
    }

    fn leave(
        held: &mut Held,
        index: &mut Index,
        filter: &TopicFilter,
        group: &'static str,
        n: u32,
    ) {
        let node = index.find(filter);
        let key = node.and_then(|node| index.local_group(node, group));
        assert_eq!(key.is_some(), held.members.iter().any(|(other, _)| *other == group));
        let Some(key) = key else {
            return;
        };
        let outcome = index.leave_group(key, session(n));
        let expected = match held.members.remove(&(group, n)) {
            true => Left::Removed { last: held.members.iter().all(|(other, _)| *other != group) },
            false => Left::Absent,
        };
        assert_eq!(outcome, expected);
        let left = held.members.iter().filter(|(other, _)| *other == group).count();
        assert_eq!(index.group_len(key), left);
    }

    fn check(&self, index: &mut Index, name: &str) {
        let matched = index.matches(topic(name));
        assert!(index.is_current(&matched));
        let mut found = BTreeSet::new();
        let mut text = String::new();
        for key in &matched.nodes {
            index.filter_of(*key, &mut text);
            assert!(found.insert(text.clone()), "{text} was named twice for {name}");
            let node = index.node(*key).expect("a current match names living nodes");
            let sessions: BTreeSet<u32> = node
                .slots(0..node.len())
                .filter_map(|slot| match slot {
                    Slot::Alive(subscriber) => Some(subscriber.session.index()),
                    Slot::Dead => None,
                })
                .collect();
            assert_eq!(sessions, self.0[&text].sessions, "subscribers of {text}");
        }
        let expected: BTreeMap<&String, &Held> = self
            .0
            .iter()
            .filter(|(text, held)| held.bears() && filter(text).matches(topic(name)))
            .collect();
        assert!(found.iter().eq(expected.keys().copied()), "{name}: {found:?}");
        let cores = expected.values().fold(CoreSet::EMPTY, |all, held| all.union(held.interest));
        let (interest, owned, _) = index.survey(&matched);
        assert_eq!(interest, cores);
        let crowd_at = |core| -> u32 {
            expected.values().map(|held| held.crowds.get(&core).copied().unwrap_or(0)).sum()
        };
        let told: Vec<usize> = (0..3).map(|at| index.crowd_at(&matched, ShardId(at))).collect();
        assert_eq!(told, [0, 1, 2].map(|core| crowd_at(core) as usize));
        assert_eq!(Some(&index.largest_crowd(&matched)), told.iter().max());
        let groups: BTreeSet<_> = expected
            .iter()
            .flat_map(|(text, held)| held.shares.iter().map(move |(group, _)| (*text, *group)))
            .collect();
        assert_eq!(owned, !groups.is_empty());
        let mut picks = Vec::new();
        index.pick_cores(&matched, &mut hint(&mut Prng::new(1)), &mut picks);
        assert_eq!(picks.len(), groups.len());
        for pick in picks {
            index.filter_of(pick.node, &mut text);
            let group = index.picked_group(&pick).expect("the groups didn't change");
            let shares = &self.0[&text].shares;
            assert!(shares.iter().any(|share| *share == (group, pick.core.0)));
        }
    }

    /// Ends all that is held, after which the index must be empty.
    fn clear(mut self, index: &mut Index) {
        let texts: Vec<String> = self.0.keys().cloned().collect();
        for text in texts {
            let held = &self.0[&text];
            let mut rest: Vec<Op> = held.sessions.iter().map(|n| Op::Unsubscribe(*n)).collect();
            rest.extend(held.interest.iter().map(|core| Op::ClearInterest(core.0)));
            rest.extend(held.members.iter().map(|(group, n)| Op::Leave(group, *n)));
            rest.extend(held.shares.iter().map(|(group, core)| Op::SetGroup(group, *core, 0, 0)));
            rest.extend((0..held.pins).map(|_| Op::Unpin));
            rest.extend(held.crowds.keys().map(|core| Op::SetCrowd(*core, 0)));
            rest.into_iter().for_each(|op| self.apply(index, &text, op));
        }
        assert_eq!((index.len(), index.edges(), index.groups.len()), (0, 0, 0));
        assert!(!index.has_crowds());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn the_index_agrees_with_the_oracle_at_every_step(
        filters in prop::collection::vec(levels(true), 1..8),
        topics in prop::collection::vec(levels(false), 1..6),
        ops in prop::collection::vec((any::<prop::sample::Index>(), ops()), 1..60),
        cache_bytes in prop::sample::select(vec![0, 600, 1 << 20]),
    ) {
        let mut index = Index::new(1, cache_bytes);
        let mut model = Model::default();
        let mut held: Vec<Vec<Rc<Matched>>> = vec![Vec::new(); topics.len()];
        for (which, op) in ops {
            model.apply(&mut index, which.get::<String>(&filters), op);
            for (name, held) in topics.iter().zip(&mut held) {
                let now = fresh(&index, name);
                for old in held.iter().filter(|old| index.is_current(old)) {
                    prop_assert_eq!(&*old.nodes, now.as_slice(), "outdated but current: {}", name);
                }
                model.check(&mut index, name);
                held.push(index.matches(topic(name)));
            }
            prop_assert!(index.cache_bytes() <= cache_bytes);
        }
        model.clear(&mut index);
    }

    #[test]
    fn a_cursor_on_a_pinned_node_meets_whoever_stays_exactly_once(
        before in 0..40u32,
        walk in prop::collection::vec((0..3usize, changes()), 1..40),
    ) {
        let mut index = index();
        let node = index.subscribe(filter("f"), subscriber(1000)).node;
        let mut alive: BTreeSet<u32> = (0..before).chain([1000]).collect();
        (0..before).for_each(|n| { index.subscribe(filter("f"), subscriber(n)); });
        prop_assert!(index.pin(node));
        let mut steady = alive.clone();
        let (mut met, mut at) = (Vec::new(), 0);
        for (advance, changes) in walk {
            for (join, number) in changes {
                if join {
                    let done = index.subscribe(filter("f"), subscriber(number));
                    prop_assert_eq!(done.replaced, !alive.insert(number));
                } else {
                    let was = alive.remove(&number);
                    let expected = match was {
                        true => Unsubscribed::Removed { last: false },
                        false => Unsubscribed::Absent,
                    };
                    prop_assert_eq!(index.unsubscribe(node, session(number)), expected);
                }
                steady.retain(|number| alive.contains(number));
            }
            let node = index.node(node).expect("it is there");
            prop_assert_eq!(node.alive(), alive.len());
            let end = node.len().min(at + advance);
            for slot in node.slots(at..end) {
                if let Slot::Alive(subscriber) = slot {
                    prop_assert!(alive.contains(&subscriber.session.index()));
                    met.push(subscriber.session.index());
                }
            }
            at = at.max(end);
            for number in 0..45 {
                let found = node.find(session(number));
                prop_assert!(found.is_none_or(|(entry, _)| entry.session == session(number)));
                prop_assert_eq!(found.is_some_and(|(_, live)| live), alive.contains(&number));
            }
        }
        let pinned = index.node(node).expect("it is there");
        for slot in pinned.slots(at..pinned.len()) {
            if let Slot::Alive(subscriber) = slot {
                met.push(subscriber.session.index());
            }
        }
        let distinct: BTreeSet<u32> = met.iter().copied().collect();
        prop_assert_eq!(distinct.len(), met.len(), "somebody was met twice");
        prop_assert!(steady.is_subset(&distinct), "somebody was missed");
        index.unpin(node);
        let node = index.node(node).expect("it is there");
        prop_assert_eq!((node.len(), node.alive()), (alive.len(), alive.len()));
        prop_assert!((0..45).all(|n| node.find(session(n)).is_some() == alive.contains(&n)));
    }

    #[test]
    fn a_round_gives_everyone_one_turn_whoever_comes_and_goes(
        ops in prop::collection::vec((0..4u8, 0..25u32), 1..200),
    ) {
        let mut index = index();
        let group = index.join_group(filter("f"), "g", subscriber(1000)).group;
        // Who waits for a turn in this round, and who had it.
        let (mut waiting, mut served) = (BTreeSet::from([1000]), BTreeSet::new());
        for (kind, number) in ops {
            match kind {
                0 => {
                    index.join_group(filter("f"), "g", subscriber(number));
                    if !served.contains(&number) {
                        waiting.insert(number);
                    }
                }
                1 => {
                    index.leave_group(group, session(number));
                    waiting.remove(&number);
                    served.remove(&number);
                }
                _ => {
                    if waiting.is_empty() {
                        std::mem::swap(&mut waiting, &mut served);
                    }
                    let mut random = Prng::new(1);
                    let picked = index.pick(group, &mut hint(&mut random), |_| Some(0));
                    let picked = picked.expect("it is there").session.index();
                    prop_assert!(waiting.remove(&picked), "{} had its turn", picked);
                    served.insert(picked);
                }
            }
        }
    }
}

#[test]
fn a_pick_skips_who_is_not_usable() {
    let mut index = index();
    let group = (0..4).map(|n| index.join_group(filter("f"), "g", subscriber(n)).group).last();
    let group = group.expect("it is there");
    let mut odd = || {
        index
            .pick(group, &mut hint(&mut Prng::new(1)), |s| {
                (s.session.index() % 2 == 1).then_some(0)
            })
            .expect("it is there")
            .session
            .index()
    };
    assert_eq!([odd(), odd(), odd(), odd()], [1, 3, 1, 3]);
    assert_eq!(index.pick(group, &mut hint(&mut Prng::new(1)), |_| None), None);
    assert_eq!(index.group_member(group, session(2)), Some(&subscriber(2)));
    assert_eq!(index.group_member(group, session(9)), None);
}

#[test]
fn cores_take_turns_by_the_members_they_have_online() {
    let mut index = index();
    let mut set = |core, online, total| {
        let part = Part { local: 40 + u64::from(core), ..part(online, total) };
        index.set_group_part(filter("f/#"), "g", ShardId(core), part);
        let matched = index.matches(topic("f"));
        let mut picks = Vec::new();
        (0..400).for_each(|_| index.pick_cores(&matched, &mut hint(&mut Prng::new(1)), &mut picks));
        assert!(picks.iter().all(|pick| pick.local == 40 + u64::from(pick.core.0)));
        let mut counts = [0; 3];
        picks.iter().for_each(|pick| counts[pick.core.index()] += 1);
        counts
    };
    assert_eq!(set(0, 0, 5), [400, 0, 0]);
    assert_eq!(set(1, 0, 15), [100, 300, 0], "nobody is online: all members count");
    // Up to one round of credit is left from the old weights.
    let [_, second, third] = set(2, 2, 2);
    assert!(second <= 1 && third >= 399, "only core 2 has members online");
    let [first, _, third] = set(0, 2, 5);
    assert!((198..=202).contains(&first) && (198..=202).contains(&third));
    let [first, second, _] = set(2, 0, 0);
    assert!(first >= 399 && second <= 1, "core 2 is out");
    let pick =
        index.pick_core_for(filter("f/#"), "g", &mut hint(&mut Prng::new(1))).expect("it is there");
    assert_eq!(index.picked_group(&pick), Some("g"));
    assert_eq!(index.pick_core_for(filter("f/#"), "h", &mut hint(&mut Prng::new(1))), None);
}

#[test]
fn turns_of_cores_are_spread_evenly() {
    let mut index = index();
    index.set_group_part(filter("f"), "g", ShardId(0), part(5, 5));
    index.set_group_part(filter("f"), "g", ShardId(1), part(1, 1));
    index.set_group_part(filter("f"), "g", ShardId(2), part(1, 1));
    let picks: Vec<u8> = (0..14)
        .map(|_| {
            index
                .pick_core_for(filter("f"), "g", &mut hint(&mut Prng::new(1)))
                .expect("it is there")
                .core
                .0
        })
        .collect();
    assert_eq!(&picks[..7], &picks[7..], "a round repeats");
    assert!(!picks.windows(5).any(|five| five == [0; 5]), "{picks:?}");
}

#[test]
fn a_match_is_outdated_by_what_could_be_in_it_alone() {
    let mut index = index();
    index.subscribe(filter("a/b/c"), subscriber(1));
    let matched = index.matches(topic("a/b/c"));
    for unrelated in ["a/b/d", "x/#", "a/x/#", "a/x/+", "a/b"] {
        index.subscribe(filter(unrelated), subscriber(1));
        assert!(index.is_current(&matched), "{unrelated}");
    }
    let again = index.subscribe(filter("a/b/c"), subscriber(2));
    assert!(!again.first && index.is_current(&matched), "joining outdates nothing");
    index.unsubscribe(again.node, session(1));
    assert!(index.is_current(&matched), "leaving outdates nothing while others stay");
    for related in ["a/b/+", "a/#", "a/+/c", "+/b/c", "#", "a/b/c/#"] {
        let matched = index.matches(topic("a/b/c"));
        let node = index.subscribe(filter(related), subscriber(1)).node;
        assert!(!index.is_current(&matched), "{related} came");
        let matched = index.matches(topic("a/b/c"));
        index.unsubscribe(node, session(1));
        assert!(!index.is_current(&matched), "{related} went");
    }
    let matched = index.matches(topic("a/b/c"));
    index.unsubscribe(again.node, session(2));
    assert!(!index.is_current(&matched), "the last one left");
}

#[test]
fn a_hit_shares_the_match_and_the_cache_keeps_its_bound() {
    let mut index = Index::new(3, 64 << 10);
    index.subscribe(filter("#"), subscriber(1));
    let favourite = index.matches(topic("favourite"));
    for number in 0..5_000 {
        index.matches(topic(&format!("once/{number}")));
        assert!(index.cache_bytes() <= 64 << 10);
        assert!(Rc::ptr_eq(&favourite, &index.matches(topic("favourite"))), "{number}");
    }
    assert!(index.cache_len() > 100);
    index.subscribe(filter("favourite"), subscriber(1));
    assert_eq!(index.matches(topic("favourite")).nodes.len(), 2);
    assert_eq!(favourite.nodes.len(), 1);
}

#[test]
fn the_deepest_filter_costs_no_stack() {
    let mut index = index();
    let deepest = format!("{}+", "a/".repeat(32_000));
    let node = index.subscribe(filter(&deepest), subscriber(1)).node;
    let name = format!("{}b", "a/".repeat(32_000));
    assert_eq!(*index.matches(topic(&name)).nodes, [node]);
    let mut text = String::new();
    index.filter_of(node, &mut text);
    assert_eq!(text, deepest);
    index.unsubscribe(node, session(1));
    assert_eq!((index.len(), index.edges()), (0, 0));
}

#[test]
fn a_big_node_stays_quick_and_true() {
    let mut index = index();
    let mut random = Prng::new(5);
    let node = index.subscribe(filter("f"), subscriber(0)).node;
    let mut model = BTreeSet::from([0]);
    for _ in 0..100_000 {
        let number = 1 + random.below(20_000) as u32;
        if model.insert(number) {
            index.subscribe(filter("f"), subscriber(number));
        } else {
            model.remove(&number);
            let outcome = index.unsubscribe(node, session(number));
            assert_eq!(outcome, Unsubscribed::Removed { last: false });
        }
    }
    let big = index.node(node).expect("it is there");
    assert_eq!(big.len(), model.len());
    assert!(model.iter().all(|n| big.find(session(*n)).is_some()));
    index
        .node_mut(node)
        .expect("it is there")
        .find_mut(session(0))
        .expect("it is there")
        .installing = true;
    assert!(
        index.node(node).expect("it is there").find(session(0)).expect("it is there").0.installing
    );
}

#[test]
fn a_node_stays_small() {
    assert!(size_of::<Node>() <= 144, "{}", size_of::<Node>());
    assert!(size_of::<Subscriber>() <= 16, "{}", size_of::<Subscriber>());
}

#[test]
fn by_chance_each_member_online_has_the_same_chance() {
    const DRAWS: u32 = 12_000;
    // Few online among many: the draws that miss are followed by a count.
    for (members, online) in [(6u32, vec![0, 2, 3, 5]), (40, vec![3, 4, 17])] {
        let mut index = index();
        let named = vec![(Box::from("g"), ShareStrategy::Random)];
        index.set_strategies(Strategies { named, ..Strategies::default() });
        let joins = (0..members).map(|n| index.join_group(filter("f"), "g", subscriber(n)).group);
        let group = joins.last().expect("somebody joined");
        let (mut random, mut counts) = (Prng::new(11), BTreeMap::new());
        for _ in 0..DRAWS {
            let usable =
                |member: &Subscriber| online.contains(&member.session.index()).then_some(0);
            let member =
                index.pick(group, &mut hint(&mut random), usable).expect("some are online");
            *counts.entry(member.session.index()).or_insert(0u32) += 1;
        }
        assert!(counts.keys().eq(&online), "{counts:?}");
        let even = f64::from(DRAWS) / online.len() as f64;
        let off = counts.values().map(|count| (f64::from(*count) - even).powi(2) / even);
        // Chi-square of three degrees of freedom is above this once in ten thousand.
        assert!(off.sum::<f64>() < 21.1, "{counts:?}");
        assert_eq!(index.pick(group, &mut hint(&mut random), |_| None), None);
    }
}

/// Picks `count` times as an owner that sends each message; how many each core got.
fn sent(index: &mut Index, count: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    for _ in 0..count {
        let pick = index.pick_core_for(filter("f"), "g", &mut hint(&mut Prng::new(1)));
        let pick = pick.expect("somebody is there");
        index.note_sent(&pick);
        counts[pick.core.index()] += 1;
    }
    counts
}

#[test]
fn the_core_with_the_least_to_do_for_each_member_is_picked() {
    let mut index = index();
    index.set_strategies(Strategies { default: ShareStrategy::LeastInflight, named: Vec::new() });
    let tell = |index: &mut Index, core, part| {
        index.set_group_part(filter("f"), "g", ShardId(core), part);
    };
    tell(&mut index, 0, Part { load: 10, ..part(1, 1) });
    tell(&mut index, 1, Part { load: 12, ..part(2, 3) });
    tell(&mut index, 2, Part { load: 0, ..part(0, 9) });
    assert_eq!(sent(&mut index, 8), [0, 8, 0], "up to ten for each");
    assert_eq!(sent(&mut index, 30), [10, 20, 0], "then evenly, with what was sent counted");
    // Core 1 has seen 20 of its 28, and finished all of them.
    tell(&mut index, 1, Part { load: 0, arrived: 20, ..part(2, 3) });
    assert_eq!(sent(&mut index, 32), [0, 32, 0], "eight are under way, forty are twenty each");
    // A new key of its own: nothing was sent to that.
    tell(&mut index, 0, Part { local: 1, ..part(1, 1) });
    assert_eq!(sent(&mut index, 20), [20, 0, 0]);
    // A message that is picked for and waits is not sent.
    let mut waits = || index.pick_core_for(filter("f"), "g", &mut hint(&mut Prng::new(1)));
    let cores: BTreeSet<u8> = (0..9).filter_map(|_| waits()).map(|pick| pick.core.0).collect();
    assert_eq!(cores, BTreeSet::from([0, 1]));
    assert_eq!(sent(&mut index, 30), [10, 20, 0]);
}

#[test]
fn a_crowd_is_told_when_it_has_doubled_or_lost_half() {
    let (mut index, filter, me) = (index(), filter("a"), ShardId(1));
    let mut told = Vec::new();
    let mut look = |index: &mut Index| {
        let node = index.find(filter).expect("somebody is there");
        if let Some(size) = index.crowd_news(node, me, 5) {
            told.push(size);
            index.set_crowd(filter, me, size);
        }
    };
    for number in 0..40 {
        index.subscribe(filter, subscriber(number));
        look(&mut index);
    }
    let node = index.find(filter).expect("the node");
    for number in (1..40).rev() {
        index.unsubscribe(node, session(number));
        look(&mut index);
    }
    // From five on; 32 holds down to 16.
    assert_eq!(told, [4, 8, 16, 32, 8, 0]);
    assert!(!index.has_crowds());
}
