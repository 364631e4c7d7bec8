//! Vectors for checking and matching, named by statement.

use super::*;

fn filter(text: &str) -> &TopicFilter {
    TopicFilter::new(text).expect("a filter")
}

fn name(text: &str) -> &TopicName {
    TopicName::new(text).expect("a topic")
}

#[test]
fn names_are_checked() {
    for good in ["a", "/", "//", "a/b", "/a", "a//b", "a/", " ", "$SYS/x", "ä/ö", "a b"] {
        assert_eq!(name(good).as_str(), good);
    }
    for (statement, bad) in [
        ("MQTT-4.7.1-1", "+"),
        ("MQTT-4.7.1-1", "a/#"),
        ("MQTT-4.7.1-1", "a+b"),
        ("MQTT-4.7.3-1", ""),
        ("MQTT-4.7.3-2", "a\0b"),
    ] {
        assert!(TopicName::new(bad).is_err(), "{statement}: {bad:?} passed");
    }
}

#[test]
fn filters_are_checked() {
    for good in ["#", "+", "/", "a", "a/#", "+/#", "/+", "+/+", "a/+/b", "/#", "$SYS/#", "+/"] {
        assert_eq!(filter(good).as_str(), good);
    }
    for (statement, bad) in [
        ("MQTT-4.7.1-2", "a#"),
        ("MQTT-4.7.1-2", "a/#/b"),
        ("MQTT-4.7.1-2", "#/"),
        ("MQTT-4.7.1-2", "a/b#"),
        ("MQTT-4.7.1-2", "##"),
        ("MQTT-4.7.1-3", "a+"),
        ("MQTT-4.7.1-3", "+a/b"),
        ("MQTT-4.7.1-3", "a/++"),
        ("MQTT-4.7.1-3", "a/+#"),
        ("MQTT-4.7.3-1", ""),
        ("MQTT-4.7.3-2", "a/\0"),
    ] {
        assert!(TopicFilter::new(bad).is_err(), "{statement}: {bad:?} passed");
    }
}

#[test]
fn the_longest_topic_has_65535_bytes() {
    let longest = "t".repeat(MAX_TOPIC_BYTES);
    assert!(TopicName::new(&longest).is_ok() && TopicFilter::new(&longest).is_ok());
    let longer = longest + "t"; // [MQTT-4.7.3-3]
    assert!(TopicName::new(&longer).is_err() && TopicFilter::new(&longer).is_err());
}

#[test]
fn filters_match_as_the_statements_say() {
    let vectors: &[(&str, &str, &str, bool)] = &[
        ("MQTT-4.7.1-2", "a/#", "a", true),
        ("MQTT-4.7.1-2", "a/#", "a/b", true),
        ("MQTT-4.7.1-2", "a/#", "a/b/c", true),
        ("MQTT-4.7.1-2", "a/#", "a/", true),
        ("MQTT-4.7.1-2", "a/#", "ab", false),
        ("MQTT-4.7.1-2", "a/#", "ab/c", false),
        ("MQTT-4.7.1-2", "#", "a", true),
        ("MQTT-4.7.1-2", "#", "/a//b/", true),
        ("MQTT-4.7.1-3", "+", "a", true),
        ("MQTT-4.7.1-3", "+", "a/b", false),
        ("MQTT-4.7.1-3", "+", "/a", false),
        ("MQTT-4.7.1-3", "+/+", "/a", true),
        ("MQTT-4.7.1-3", "/+", "/a", true),
        ("MQTT-4.7.1-3", "+/+", "/", true),
        ("MQTT-4.7.1-3", "+/+/+", "/", false),
        ("MQTT-4.7.1-3", "a/+", "a", false),
        ("MQTT-4.7.1-3", "a/+", "a/", true),
        ("MQTT-4.7.1-3", "a/+/b", "a//b", true),
        ("MQTT-4.7.1-3", "a/+/b", "a/x/y/b", false),
        ("MQTT-4.7.1-3", "+/#", "a", true),
        ("MQTT-4.7.2-1", "#", "$SYS/x", false),
        ("MQTT-4.7.2-1", "+/x", "$SYS/x", false),
        ("MQTT-4.7.2-1", "+", "$SYS", false),
        ("MQTT-4.7.2-1", "+/#", "$SYS/x", false),
        ("MQTT-4.7.2-1", "$SYS/#", "$SYS/x", true),
        ("MQTT-4.7.2-1", "$SYS/#", "$SYS", true),
        ("MQTT-4.7.2-1", "$SYS/+", "$SYS/x", true),
        ("MQTT-4.7.2-1", "a/+", "a/$x", true),
        ("MQTT-4.7.3-4", "a", "a/b", false),
        ("MQTT-4.7.3-4", "a/b", "a", false),
        ("MQTT-4.7.3-4", "a", "A", false),
        ("MQTT-4.7.3-4", "/a", "a", false),
        ("MQTT-4.7.3-4", "/a", "/a", true),
        ("MQTT-4.7.3-4", "a", "a/", false),
        ("MQTT-4.7.3-4", "a//b", "a//b", true),
        ("MQTT-4.7.3-4", "a//b", "a/b", false),
        ("MQTT-4.7.3-4", "/", "/", true),
    ];
    for (statement, pattern, topic, expected) in vectors {
        let found = filter(pattern).matches(name(topic));
        assert_eq!(found, *expected, "{statement}: {pattern:?} against {topic:?}");
    }
}

#[test]
fn a_filter_tells_its_levels_and_whether_it_has_wildcards() {
    let levels: Vec<_> = filter("a/+//#").levels().collect();
    assert_eq!(levels, [Level::Name("a"), Level::SingleLevel, Level::Name(""), Level::MultiLevel]);
    assert!(filter("a/+").has_wildcard() && filter("#").has_wildcard());
    assert!(!filter("a/b").has_wildcard());
}

#[test]
fn share_groups_are_parsed() {
    let shared = Subscription::parse("$share/g/a/+/#");
    assert_eq!(shared, Ok(Subscription::Shared { group: "g", filter: filter("a/+/#") }));
    let shared = Subscription::parse("$share/g//");
    assert_eq!(shared, Ok(Subscription::Shared { group: "g", filter: filter("/") }));
    for plain in ["a/$share/b", "$share", "$shared/a/b", "$SYS/#"] {
        assert_eq!(Subscription::parse(plain), Ok(Subscription::Plain(filter(plain))));
    }
    for (statement, bad) in [
        ("MQTT-4.8.2-1", "$share/"),
        ("MQTT-4.8.2-1", "$share//a"),
        ("MQTT-4.8.2-2", "$share/g"),
        ("MQTT-4.8.2-2", "$share/g/"),
        ("MQTT-4.8.2-2", "$share/+/a"),
        ("MQTT-4.8.2-2", "$share/g#/a"),
        ("MQTT-4.8.2-2", "$share/#"),
        ("MQTT-4.7.1-2", "$share/g/#/a"),
    ] {
        assert!(Subscription::parse(bad).is_err(), "{statement}: {bad:?} passed");
    }
}

#[test]
fn aliases_stay_in_their_range() {
    let mut aliases = AliasTable::new(3);
    assert_eq!(aliases.get(1), None);
    assert!(!aliases.set(0, "a"), "[MQTT-3.3.2-8]");
    assert!(!aliases.set(4, "a"), "[MQTT-3.3.2-9]");
    assert!(aliases.set(3, "a/b"));
    assert_eq!((aliases.get(3), aliases.get(2), aliases.get(0)), (Some("a/b"), None, None));
    assert!(aliases.set(3, "c"));
    assert_eq!((aliases.get(3), aliases.get(4)), (Some("c"), None));
    assert!(!AliasTable::new(0).set(1, "a"));
}
