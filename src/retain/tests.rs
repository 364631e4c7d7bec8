//! The store against a plain model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::base::Time;
use crate::topic::{TopicFilter, TopicName};

const ROOMY: RetainLimits = RetainLimits { max_count: usize::MAX, max_bytes: usize::MAX };

fn topic(text: &str) -> &TopicName {
    TopicName::new(text).expect("a topic")
}

fn filter(text: &str) -> &TopicFilter {
    TopicFilter::new(text).expect("a filter")
}

fn put(store: &mut RetainStore<u64>, text: &str) {
    let outcome = store.set(topic(text), 0, text.len(), 1, Time::NEVER);
    assert!(matches!(outcome, SetOutcome::Stored { .. }));
}

/// Scans to the end in steps of `budget`; gives the topics found and the number of steps.
fn scan_all(store: &RetainStore<u64>, pattern: &str, budget: usize) -> (Vec<String>, usize) {
    let (mut found, mut steps, mut at) = (Vec::new(), 0, None);
    loop {
        steps += 1;
        let scan = store.scan(filter(pattern), at.as_deref(), Time(1), budget, |topic, _| {
            found.push(topic.as_str().to_owned());
            ControlFlow::Continue(())
        });
        match scan {
            Scan::Done => return (found, steps),
            Scan::More { after } => at = Some(after),
        }
    }
}

#[test]
fn topics_that_sort_between_a_level_and_its_children_are_found() {
    let mut store = RetainStore::new(ROOMY);
    for text in ["a", "a!", "a!/x", "a/x", "a/x/y", "a0", "b/x", "$SYS/x", "/x", "a//x"] {
        put(&mut store, text);
    }
    for budget in [1, 2, 100] {
        assert_eq!(scan_all(&store, "+/x", budget).0, ["/x", "a!/x", "a/x", "b/x"]);
        assert_eq!(scan_all(&store, "a/#", budget).0, ["a", "a//x", "a/x", "a/x/y"]);
        assert_eq!(scan_all(&store, "a/+/x", budget).0, ["a//x"]);
        assert_eq!(scan_all(&store, "$SYS/#", budget).0, ["$SYS/x"]);
        assert_eq!(scan_all(&store, "#", budget).0.len(), 9);
        assert_eq!(scan_all(&store, "a/x", budget).0, ["a/x"]);
    }
}

#[test]
fn a_scan_jumps_over_what_cannot_match() {
    let mut store = RetainStore::new(ROOMY);
    for device in 0..100 {
        for item in 0..100 {
            put(&mut store, &format!("a/d{device:02}/i{item:02}"));
            put(&mut store, &format!("b/d{device:02}/i{item:02}"));
        }
        put(&mut store, &format!("a/d{device:02}/x"));
    }
    // With a budget of one, steps count visits.
    let (found, visits) = scan_all(&store, "a/+/x", 1);
    assert_eq!(found.len(), 100);
    assert!(visits <= 302, "{visits} visits for 100 matches among {}", store.len());
    let (found, visits) = scan_all(&store, "a/d50/#", 1);
    assert_eq!(found.len(), 101);
    assert!(visits <= 103, "{visits} visits for a range of 101");
    let (found, visits) = scan_all(&store, "+/d07/i03", 1);
    assert_eq!(found, ["a/d07/i03", "b/d07/i03"]);
    assert!(visits <= 8, "{visits} visits for two matches");
}

#[test]
fn limits_refuse_without_change() {
    let mut store = RetainStore::new(RetainLimits { max_count: 2, max_bytes: 10 });
    assert_eq!(store.set(topic("a"), 1, 4, 1, Time::NEVER), SetOutcome::Stored { replaced: false });
    assert_eq!(store.set(topic("b"), 2, 4, 2, Time(5)), SetOutcome::Stored { replaced: false });
    assert_eq!(store.set(topic("c"), 3, 1, 3, Time::NEVER), SetOutcome::RefusedCount);
    assert_eq!(store.set(topic("b"), 3, 7, 4, Time::NEVER), SetOutcome::RefusedBytes);
    assert_eq!(store.get(topic("b")).map(|kept| kept.value), Some(2));
    assert_eq!(store.set(topic("b"), 4, 6, 5, Time::NEVER), SetOutcome::Stored { replaced: true });
    assert_eq!((store.len(), store.bytes()), (2, 10));
    assert_eq!(store.next_deadline(), Time::NEVER, "the replaced deadline is forgotten");
    assert!(store.clear(topic("b")) && !store.clear(topic("b")));
    assert_eq!((store.len(), store.bytes()), (1, 4));
}

#[test]
fn expiry_is_paced_and_expired_messages_are_not_found() {
    let mut store = RetainStore::new(ROOMY);
    for n in 0..10u64 {
        let _ = store.set(topic(&format!("t/{n}")), n, 1, n, Time(100 + n));
    }
    put(&mut store, "t/ever");
    assert_eq!(store.next_deadline(), Time(100));
    let mut found = 0;
    let scan = store.scan(filter("t/+"), None, Time(104), 100, |_, _| {
        found += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((scan, found), (Scan::Done, 6));
    assert_eq!(store.expire(Time(104), 3), 3);
    assert_eq!(store.expire(Time(104), 3), 2);
    assert_eq!(store.expire(Time(104), 3), 0);
    assert_eq!((store.len(), store.bytes(), store.next_deadline()), (6, 11, Time(105)));
}

#[test]
fn a_scan_stops_on_request_and_goes_on_behind() {
    let mut store = RetainStore::new(ROOMY);
    ["a", "b", "c"].into_iter().for_each(|text| put(&mut store, text));
    let stopped = store.scan(filter("#"), None, Time(1), 10, |topic, _| {
        if topic.as_str() == "b" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped, Scan::More { after: "b".to_owned() });
}

#[derive(Clone, Debug)]
enum Op {
    Set(String, u64),
    Clear(String),
    Expire(usize),
    /// Lets time pass.
    Pass(u64),
}

fn topics() -> impl Strategy<Value = String> {
    // `!` sorts before `/`, `0` just behind it.
    let level = prop::sample::select(vec!["", "a", "b", "a!", "a0", "!", "$s", "x"]);
    prop::collection::vec(level, 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic has at least one character", |text| !text.is_empty())
}

fn filters() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["", "a", "b", "a!", "+", "+", "+", "$s", "x"]);
    (prop::collection::vec(level, 0..5), any::<bool>())
        .prop_map(|(mut levels, multi)| {
            if multi {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("a filter has at least one character", |text| !text.is_empty())
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (topics(), 0..30u64).prop_map(|(topic, life)| Op::Set(topic, life)),
        2 => topics().prop_map(Op::Clear),
        1 => (0..4usize).prop_map(Op::Expire),
        1 => (0..4u64).prop_map(Op::Pass),
    ]
}

#[derive(Default)]
struct Model {
    /// Topic to (sequence, deadline).
    topics: BTreeMap<String, (u64, Time)>,
    now: u64,
    sequence: u64,
}

impl Model {
    fn apply(&mut self, store: &mut RetainStore<u64>, op: &Op) {
        self.sequence += 1;
        match op {
            Op::Set(text, life) => {
                let expires = if *life == 0 { Time::NEVER } else { Time(self.now + life) };
                let replaced = self.topics.insert(text.clone(), (self.sequence, expires));
                let outcome = store.set(topic(text), 7, text.len(), self.sequence, expires);
                assert_eq!(outcome, SetOutcome::Stored { replaced: replaced.is_some() });
            }
            Op::Clear(text) => {
                assert_eq!(store.clear(topic(text)), self.topics.remove(text).is_some());
            }
            Op::Expire(budget) => {
                let due = self.topics.values().filter(|(_, end)| end.0 <= self.now).count();
                let removed = store.expire(Time(self.now), *budget);
                assert_eq!(removed, due.min(*budget));
                self.topics.retain(|text, _| store.get(topic(text)).is_some());
            }
            Op::Pass(time) => self.now += time,
        }
        assert_eq!(store.len(), self.topics.len());
        assert_eq!(store.bytes(), self.topics.keys().map(String::len).sum::<usize>());
    }

    /// What a scan must find now.
    fn matching(&self, pattern: &TopicFilter) -> BTreeMap<String, u64> {
        let live = self.topics.iter().filter(|(_, (_, expires))| expires.0 > self.now);
        live.filter(|(text, _)| pattern.matches(topic(text)))
            .map(|(text, (sequence, _))| (text.clone(), *sequence))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn a_scan_in_steps_finds_what_stays_exactly_once_in_order(
        before in prop::collection::vec(ops(), 0..60),
        pattern in filters(),
        steps in prop::collection::vec((1..6usize, prop::collection::vec(ops(), 0..3)), 1..40),
        quiet in any::<bool>(),
    ) {
        let (mut store, mut model) = (RetainStore::new(ROOMY), Model::default());
        before.iter().for_each(|op| model.apply(&mut store, op));
        let pattern = filter(&pattern);
        // Topics that match with the same message in every step.
        let mut steady = model.matching(pattern);
        let (mut found, mut at, mut step) = (Vec::new(), None, 0);
        loop {
            let (budget, changes) = &steps[step % steps.len()];
            let mut given = 0;
            let now = Time(model.now);
            let scan = store.scan(pattern, at.as_deref(), now, *budget, |topic, retained| {
                given += 1;
                found.push((topic.as_str().to_owned(), retained.sequence));
                ControlFlow::Continue(())
            });
            prop_assert!(given <= *budget);
            let present = model.matching(pattern);
            for (text, sequence) in &found[found.len() - given..] {
                prop_assert_eq!(present.get(text), Some(sequence), "{} doesn't match now", text);
            }
            match scan {
                Scan::Done => break,
                Scan::More { after } => at = Some(after),
            }
            if !quiet {
                changes.iter().for_each(|op| model.apply(&mut store, op));
                let present = model.matching(pattern);
                steady.retain(|text, sequence| present.get(text) == Some(sequence));
            }
            step += 1;
        }
        prop_assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "not in order, or twice");
        for (text, _) in steady {
            prop_assert!(found.iter().any(|(other, _)| *other == text), "{} was missed", text);
        }
    }
}
