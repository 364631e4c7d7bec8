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

/// Written by mosquitto_passwd 2.0.11, once with and once without `-H sha512`.
const MOSQUITTO: &str = "\
ann:$7$101$EYyRjxPaqVeF9JHl$K4HwFJ3xm++b2oinMAiIbk9QegOWlhgH4w/5Vo/IVh6geo222fmPnwNNJK/\
2XUvAad9V34ecPm842hfQuXMZXw==
bob:$6$H1a72YlrqCzBa3qZ$Of0hADUxRaStqe92KwGp0HYeLQkRhQIse3Y9bgi4d0UXl15j7Nj+MXoqspzKpcR7m\
v0L9C96u95TbNW6STMiSw==
";

#[test]
fn files_of_mosquitto_are_read() {
    let users = Users::parse(MOSQUITTO).expect("a valid file");
    let verify =
        |name: &str, password: &[u8]| users.find(name).expect("a user").password.verify(password);
    assert!(verify("ann", b"secret one") && verify("bob", b"secret two"));
    for wrong in [&b""[..], b"secret", b"secret two ", b"Secret one"] {
        assert!(!verify("ann", wrong) && !verify("bob", wrong));
    }
    assert!(users.find("Ann").is_none() && users.len() == 2);
    for row in MOSQUITTO.lines() {
        let hash = row.split_once(':').expect("a hash").1;
        assert_eq!(HashedPassword::parse(hash).expect("valid").to_text(), hash);
    }
}

#[test]
fn a_new_hash_is_argon2id_and_verifies_itself_only() {
    let hash = HashedPassword::new(b"correct horse", [7; 16]);
    let text = hash.to_text();
    assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
    assert_eq!(HashedPassword::parse(&text), Ok(hash.clone()));
    assert!(hash.verify(b"correct horse") && !hash.verify(b"correct hors"));
    assert_ne!(HashedPassword::new(b"correct horse", [8; 16]).to_text(), text);
    assert_eq!(format!("{hash:?}"), "HashedPassword(hidden)");
}

#[test]
fn each_faulty_line_is_named_and_no_hash_is_repeated() {
    let text = "# users\n\nann:plain\n:$6$aa$bb\nbob\ncid:$7$0$YWE=$YWE=\ndan:$9$x$y\n\
                eve:$argon2id$v=19$m=4,t=1\nfay:$argon2id$v=19$m=4194304,t=2,p=1$\
                c29tZXNhbHRzb21l$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g\n";
    let faults = Users::parse(text).expect_err("all lines are wrong");
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9]);
    assert!(faults[0].to_string().contains("corelane passwd"), "{}", faults[0]);
    assert!(faults.iter().all(|fault| !fault.what.contains("YWE")));
    let twice = format!("{MOSQUITTO}{MOSQUITTO}");
    assert_eq!(Users::parse(&twice).expect_err("twice").len(), 2);
}

#[test]
fn groups_stand_behind_the_hash() {
    let hash = HashedPassword::new(b"x", [1; 16]).to_text();
    let users = Users::parse(&format!("ann:{hash}:staff, night ,\nbob:{hash}\n")).expect("valid");
    let groups = |name: &str| users.find(name).expect("a user").groups.join("|");
    assert_eq!((groups("ann"), groups("bob")), ("staff|night".to_owned(), String::new()));
}

#[test]
fn one_user_is_changed_and_the_rest_stays() {
    let hash = HashedPassword::new(b"x", [1; 16]);
    let text = format!("# ours\n{MOSQUITTO}eve:{}:staff\n", hash.to_text());
    let set = |groups| Edit::Set { password: &hash, groups };
    let (new, was_there) = edited(&text, "eve", set(None)).expect("a name");
    assert!(was_there && new == text, "groups stay, comments stay");
    let (new, was_there) = edited(&text, "ann", set(Some("a,b"))).expect("a name");
    let ann = format!("ann:{}:a,b", hash.to_text());
    assert!(was_there && new.lines().nth(1) == Some(&ann) && new.lines().count() == 4, "{new}");
    let (new, was_there) = edited(&text, "dan", set(None)).expect("a name");
    assert!(!was_there && new.starts_with(&text) && new.lines().count() == 5);
    let (new, was_there) = edited(&text, "bob", Edit::Delete).expect("a name");
    assert!(was_there && !new.contains("bob:") && new.lines().count() == 3);
    let (new, was_there) = edited(&text, "zoe", Edit::Delete).expect("a name");
    assert!(!was_there && new == text);
    for wrong in ["", "#x", "a:b", "a\nb"] {
        assert!(edited(&text, wrong, Edit::Delete).is_err(), "{wrong:?}");
    }
}
