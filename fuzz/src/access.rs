//! Any text as a password file, as a file of rules or as a client's side of SCRAM.
//!
//! Invariants worth naming: who may subscribe to a filter may subscribe to each topic of it; a user
//! that is deleted is gone and nobody else is; no hash is ever shown; who does not know a password
//! proves nothing.

use corelane::access::{
    Access, Acl, Action, Edit, Names, Rule, Step, Subject, Users, Verdict, edited,
};
use corelane::codec::QoS;
use corelane::config::{self, ListenerConfig};

/// Checks one input: the first byte says as what.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    if first % 4 == 2 {
        return check_exchange(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if first % 2 == 0 { check_users(text) } else { check_rules(text) }
}

/// Both messages of a client, apart by a line break.
fn check_exchange(messages: &[u8]) {
    const USERS: &str = include_str!("../../tests/data/users.txt");
    let users = Users::parse(USERS).expect("a valid file");
    let end = messages.iter().position(|byte| *byte == b'\n').unwrap_or(messages.len());
    let (first, last) = (&messages[..end], messages.get(end + 1..).unwrap_or_default());
    let step = |data: &[u8], exchange| Step {
        method: "SCRAM-SHA-256".into(),
        data: Some(data.into()),
        exchange,
    };
    match users.step(&step(first, None), "nonce") {
        Verdict::Wrong => {}
        Verdict::Continue { data, exchange } => {
            assert!(data.starts_with(b"r="), "the nonce comes first");
            assert_eq!(users.step(&step(last, Some(exchange)), ""), Verdict::Wrong);
        }
        other => panic!("{other:?}"),
    }
}

fn check_users(text: &str) {
    let users = match Users::parse(text) {
        Ok(users) => users,
        Err(faults) => {
            assert!(faults.iter().all(|fault| fault.line > 0 && !fault.what.is_empty()));
            return assert!(!faults.is_empty());
        }
    };
    let shown = format!("{users:?}");
    let rows = text.lines().filter(|row| !row.is_empty() && !row.starts_with('#'));
    for row in rows.take(8) {
        let Some((name, rest)) = row.split_once(':') else { continue };
        let hash = rest.split(':').next().unwrap_or_default().trim_end();
        assert!(hash.len() < 32 || !shown.contains(hash), "a hash is shown");
        let Ok((without, was_there)) = edited(text, name, Edit::Delete) else { continue };
        assert!(was_there, "{name:?} was read");
        let left = Users::parse(&without).expect("the other lines are as they were");
        assert!(left.find(name).is_none() && left.len() + 1 == users.len(), "{name:?}");
    }
}

const FILTERS: [(&str, &[&str]); 6] = [
    ("#", &["a", "a/b", "secret/x", "u/ann/x", "/", "x/y/z"]),
    ("a/#", &["a", "a/b", "a/b/c", "a/secret"]),
    ("+/b", &["a/b", "u/b", "/b"]),
    ("u/ann/#", &["u/ann", "u/ann/x", "u/ann/private"]),
    ("$SYS/#", &["$SYS", "$SYS/broker/x"]),
    ("a/+/c", &["a/b/c", "a//c"]),
];

fn check_rules(text: &str) {
    let listeners = [ListenerConfig::default()];
    let rules = match config::acl(text, &listeners) {
        Ok(rules) => rules,
        Err(faults) => return assert!(faults.iter().all(|fault| !fault.remedy.is_empty())),
    };
    let acl = Acl::new(rules.iter().map(Rule::from).collect());
    let staff: [Box<str>; 2] = ["staff".into(), "a/b".into()];
    for (user, groups) in [(None, &staff[..0]), (Some("ann"), &staff[..]), (Some("+"), &staff[1..])]
    {
        let subject = Subject {
            names: Names { user, client: "c1", groups },
            listener: "tcp",
            address: "192.0.2.1".parse().ok(),
        };
        let may = |topic| {
            let (action, qos) = (Action::Subscribe, QoS::AtLeastOnce);
            acl.decide(&subject, &Access { action, topic, qos, retain: false }).allowed
        };
        for (filter, topics) in FILTERS {
            if may(filter) {
                let denied = topics.iter().find(|topic| !may(topic));
                assert_eq!(denied, None, "{user:?} may have {filter}\n{text}");
            }
        }
    }
}
