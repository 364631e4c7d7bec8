//! Patterns against the plain meaning of matching, and rules in order.

use super::pattern::Question;
use super::*;
use crate::topic::{TopicFilter, TopicName};

const NOBODY: Names<'_> = Names { user: None, client: "c1", groups: &[] };

/// Every text of one to `depth` levels out of `levels`.
fn texts(levels: &[&str], depth: usize) -> Vec<String> {
    let mut all: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    let mut last = all.clone();
    for _ in 1..depth {
        let longer = last.iter().flat_map(|text| levels.iter().map(move |l| format!("{text}/{l}")));
        last = longer.collect();
        all.extend(last.iter().cloned());
    }
    all
}

#[test]
fn patterns_cover_and_meet_what_the_plain_meaning_says() {
    let topics = texts(&["a", "b", "$s", "x"], 4);
    let topics: Vec<&TopicName> = topics.iter().filter_map(|t| TopicName::new(t).ok()).collect();
    let filters = texts(&["a", "$s", "+", "#"], 3);
    let filters: Vec<&TopicFilter> =
        filters.iter().filter_map(|filter| TopicFilter::new(filter).ok()).collect();
    let (mut covered, mut met) = (0, 0);
    for ours in &filters {
        let pattern = Pattern::new(ours.as_str()).expect("a filter is a pattern");
        for theirs in &filters {
            let meant: Vec<_> = topics.iter().filter(|topic| theirs.matches(topic)).collect();
            let all = meant.iter().all(|topic| ours.matches(topic));
            let any = meant.iter().any(|topic| ours.matches(topic));
            let covers = pattern.answers(Question::Covers, theirs.as_str(), &NOBODY);
            let meets = pattern.answers(Question::Meets, theirs.as_str(), &NOBODY);
            let (ours, theirs) = (ours.as_str(), theirs.as_str());
            assert!(!covers || all, "{ours} does not cover {theirs}");
            assert_eq!(meets, any, "{ours} and {theirs}");
            // `+/#` and `#` mean the same and are not seen to: too strict, and safe.
            let spelled = ours.contains('+') && theirs.contains('#');
            assert!(covers || !all || spelled || meant.is_empty(), "{ours} covers {theirs}");
            covered += usize::from(covers);
            met += usize::from(meets);
        }
    }
    assert!(covered > 300 && met > 800, "{covered} {met}");
}

#[test]
fn names_fill_one_level_or_nothing() {
    let groups: Vec<Box<str>> = vec!["red".into(), "blue".into()];
    let names = Names { user: Some("ann"), client: "c1", groups: &groups };
    let yes = |pattern: &str, topic: &str, names: &Names<'_>| {
        let pattern = Pattern::new(pattern).expect(pattern);
        pattern.answers(Question::Covers, topic, names)
    };
    assert!(yes("u/%u/#", "u/ann/x", &names));
    assert!(!yes("u/%u/#", "u/bob/x", &names));
    assert!(yes("d/dev-%c", "d/dev-c1", &names));
    assert!(yes("g/%g/in", "g/blue/in", &names) && yes("g/%g/in", "g/red/in", &names));
    assert!(!yes("g/%g/in", "g/green/in", &names));
    assert!(yes("100%%/%u", "100%/ann", &names));
    for evil in ["", "#", "+", "a/b", "x#"] {
        let names = Names { user: Some(evil), client: evil, groups: &[] };
        for topic in ["u/#", "u/+", "u/a/b", "u/x#", "u/", "u"] {
            assert!(!yes("u/%u", topic, &names), "{evil} {topic}");
            assert!(!yes("u/%c/#", topic, &names), "{evil} {topic}");
        }
        let pattern = Pattern::new("u/%u").expect("valid");
        assert!(pattern.answers(Question::Meets, "u/any", &names), "a deny rule fails closed");
        assert!(!pattern.answers(Question::Meets, "v/any", &names));
    }
    assert!(!yes("u/%u", "u/ann", &NOBODY), "an anonymous client has no user name");
    for wrong in ["%", "a/%x", "%%%", "a/b%", "a/#/b", "", "a+", "%u#"] {
        assert!(Pattern::new(wrong).is_err(), "{wrong}");
    }
}
