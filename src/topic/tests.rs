//! Vectors for checking and matching, named by statement.

use super::*;
use crate::base::Prng;

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

#[test]
fn exclusive_subscriptions_are_parsed() {
    let exclusive = Subscription::parse("$exclusive/a/+/#");
    assert_eq!(exclusive, Ok(Subscription::Exclusive(filter("a/+/#"))));
    let nested = Subscription::parse("$share/g/$exclusive/a").expect("a shared one");
    assert_eq!(nested.filter().as_str(), "$exclusive/a");
    assert_eq!(nested.prefix("$share/g/$exclusive/a"), "$share/g/");
    assert!(Subscription::parse("$exclusive/").is_err());
    assert!(Subscription::parse("$exclusive/a#").is_err());
    for plain in ["$exclusive", "$exclusives/a", "a/$exclusive/b"] {
        assert_eq!(Subscription::parse(plain), Ok(Subscription::Plain(filter(plain))));
    }
}

#[test]
fn delayed_topics_are_parsed() {
    let parsed = |text| Delayed::parse(text).expect("a delayed topic").ok();
    assert_eq!(parsed("$delayed/15/x/y"), Some(Delayed { seconds: 15, topic: "x/y" }));
    assert_eq!(parsed("$delayed/0//"), Some(Delayed { seconds: 0, topic: "/" }));
    assert_eq!(parsed("$delayed/4294967295/x").map(|d| d.seconds), Some(u32::MAX));
    for wrong in [
        "$delayed/",
        "$delayed/5",
        "$delayed/5/",
        "$delayed//x",
        "$delayed/+5/x",
        "$delayed/-1/x",
        "$delayed/1.5/x",
        "$delayed/4294967296/x",
        "$delayed/5/x/#",
        "$delayed/5/$delayed/5/x",
    ] {
        assert_eq!(parsed(wrong), None, "{wrong}");
    }
    for plain in ["$delayed", "$delayedx/5/x", "a/$delayed/5/x"] {
        assert_eq!(Delayed::parse(plain), None, "{plain}");
        assert_eq!(delayed::target(plain), plain);
    }
    assert_eq!(delayed::target("$delayed/5/x"), "x");
}

/// What a rule makes of a text for client `c1` of user `ann`.
fn rewritten(rule: &str, to: &str, text: &str) -> Option<String> {
    let captures = rewrite::captures(filter(rule), text)?;
    let client = Identity { client_id: "c1", user_name: Some("ann") };
    Template::new(to).expect("a template").fill(&client, &captures)
}

#[test]
fn rules_rewrite_topics_and_filters() {
    let vectors: &[(&str, &str, &str, Option<&str>)] = &[
        ("x/#", "z/$1", "x/y/1", Some("z/y/1")),
        ("x/#", "z/$1", "x", Some("z")),
        ("x/#", "$1", "x", Some("")),
        ("x/#", "z/$1/end", "x", Some("z/end")),
        ("x/#", "z/$1", "xy", None),
        ("x/+/z/#", "$2/$1", "x/y/z/1/2", Some("1/2/y")),
        ("x/+", "z/$1/$1", "x/", Some("z//")),
        ("x/+", "z/$1", "x/y/z", None),
        ("x/y", "%u/%c/fixed", "x/y", Some("ann/c1/fixed")),
        ("x/y", "100%%/$$1/$x", "x/y", Some("100%/$1/$x")),
        ("jobs/+", "$delayed/5/jobs/$1", "jobs/a", Some("$delayed/5/jobs/a")),
        // Filters of subscribers.
        ("x/#", "z/$1", "x/#", Some("z/#")),
        ("x/#", "z/$1", "x/+/a", Some("z/+/a")),
        ("x/+", "z/$1", "x/+", Some("z/+")),
        ("x/+", "z/$1", "x/#", None),
        ("x/y", "z", "x/+", None),
        ("x/#", "z/$1", "#", None),
        // [MQTT-4.7.2-1]
        ("#", "z/$1", "$SYS/x", None),
        ("+/x", "z/$1", "$SYS/x", None),
        ("$SYS/#", "z/$1", "$SYS/x", Some("z/x")),
    ];
    for (rule, to, text, expected) in vectors {
        assert_eq!(rewritten(rule, to, text).as_deref(), *expected, "{rule} → {to} on {text}");
    }
}

#[test]
fn rules_match_topics_as_filters_do() {
    let topics = ["x", "x/y", "x/y/z", "x//", "/x", "$x", "$x/y", "y/x"];
    let rules = ["#", "+", "x/#", "x/+", "+/y", "+/+/#", "x/y", "$x/#", "/+", "x/+/+"];
    for (rule, topic) in rules.iter().flat_map(|r| topics.iter().map(move |t| (r, t))) {
        let expected = filter(rule).matches(name(topic));
        let found = rewrite::captures(filter(rule), topic).is_some();
        assert_eq!(found, expected, "{rule} on {topic}");
    }
}

#[test]
fn names_of_clients_stay_one_level() {
    let template = Template::new("t/%u/%c").expect("a template");
    let fill = |client_id, user_name| {
        template.fill(&Identity { client_id, user_name }, &Captures::default())
    };
    assert_eq!(fill("a", Some("b")).as_deref(), Some("t/b/a"));
    assert_eq!(fill("a", None), None);
    for wide in ["+", "#", "a/b", "a+"] {
        assert_eq!((fill(wide, Some("b")), fill("a", Some(wide))), (None, None), "{wide}");
    }
    for wrong in ["", "a\0", "a/%x", "50%"] {
        assert!(Template::new(wrong).is_err(), "{wrong}");
    }
    let template = Template::new("$2/$9").expect("a template");
    assert_eq!((template.captures(), template.names_user()), (9, false));
}

/// Bytes that `topics` take in PUBLISH packets of one connection, without and with aliases.
fn sent(maximum: u16, topics: impl Iterator<Item = String>) -> (usize, usize) {
    let mut aliases = GivenAliases::new(maximum);
    let (mut without, mut with) = (0, 0);
    for topic in topics {
        without += topic.len();
        with += match aliases.name(&topic) {
            Naming::Topic => topic.len(),
            Naming::Alias(_) => 3,
            Naming::Both(alias) => {
                aliases.give(alias, &topic);
                topic.len() + 3
            }
        };
    }
    (without, with)
}

fn room(number: usize) -> String {
    format!("site/7/floor/{}/room/{number:03}/temperature", number % 9)
}

#[test]
fn aliases_go_to_topics_that_come_again() {
    let mut aliases = GivenAliases::new(1);
    assert_eq!(aliases.name("plant/one"), Naming::Topic);
    assert_eq!(aliases.name("plant/one"), Naming::Both(1));
    assert_eq!(aliases.name("plant/one"), Naming::Both(1), "that packet was not sent");
    aliases.give(1, "plant/one");
    assert_eq!(aliases.name("plant/one"), Naming::Alias(1));
    let place = |topic: &str, aliases: &mut GivenAliases| {
        (0..30).find(|_| aliases.name(topic) == Naming::Both(1))
    };
    let times = place("plant/two", &mut aliases).expect("met more than twice as often");
    assert_eq!(times, 8, "the first one was met four times");
    aliases.give(1, "plant/two");
    assert_eq!(aliases.name("plant/two"), Naming::Alias(1));
    assert_ne!(aliases.name("plant/one"), Naming::Alias(1));
    for topic in ["", "short", &"x".repeat(257)] {
        (0..5).for_each(|_| assert_eq!(aliases.name(topic), Naming::Topic));
    }
    (0..5).for_each(|_| assert_eq!(GivenAliases::new(0).name("plant/one"), Naming::Topic));
}

#[test]
fn aliases_save_bytes_and_never_cost_many() {
    let mut random = Prng::new(1);
    // The n-th of 200 topics comes with a frequency of 1/n.
    let mut skewed = || {
        let weight = (201f64.ln() * random.below(1 << 20) as f64 / (1 << 20) as f64).exp();
        room(weight as usize)
    };
    let saved = |(without, with): (usize, usize)| (without - with) * 100 / without;
    let few = saved(sent(16, (0..100_000).map(|n| room(n % 16))));
    let many = saved(sent(16, (0..100_000).map(|_| skewed())));
    let round = saved(sent(16, (0..100_000).map(|n| room(n % 100))));
    // A device's topics for a while, then those of the next.
    let moving = saved(sent(16, (0..100_000).map(|n| room(n % 10 + n / 10_000 * 10))));
    assert_eq!((few, many, round, moving), (91, 48, 14, 89), "percent");
    let (without, with) = sent(16, (0..100_000).map(room));
    assert!(with - without < 100, "no topic comes twice, but for the marks");
}
