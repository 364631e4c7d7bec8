//! What rules decide, as a table; and faults of the file that holds them.

use crate::access::{Access, Acl, Action, Names, Rule, Subject};
use crate::codec::QoS;
use crate::config::{self, Label, ListenerConfig};
use std::net::IpAddr;

const TABLE: &str = include_str!("acl.txt");

fn listeners() -> Vec<ListenerConfig> {
    let named = |name: &str| {
        let name = Label::new(name).expect("a name");
        ListenerConfig { name, ..ListenerConfig::default() }
    };
    vec![named("inside"), named("outside")]
}

fn acl(rules: &[&str]) -> Acl {
    let text = format!("acl = [\n{}\n]", rules.join(",\n"));
    let rules = config::acl(&text, &listeners()).unwrap_or_else(|faults| panic!("{faults:?}"));
    Acl::new(rules.iter().map(Rule::from).collect())
}

/// Asks for one row.
fn ask(acl: &Acl, row: &str) {
    let words: Vec<&str> = row.split(' ').collect();
    let [verdict, number, client, action, topic] = words[..] else { panic!("{row}") };
    let mut parts = client.split(';');
    let mut part = || parts.next().unwrap_or_default();
    let (user, id, groups, listener, address) = (part(), part(), part(), part(), part());
    let groups: Vec<Box<str>> =
        groups.split(',').filter(|group| !group.is_empty()).map(Box::from).collect();
    let address: Option<IpAddr> =
        (!address.is_empty()).then(|| address.parse().expect("an address"));
    let subject = Subject {
        names: Names {
            user: Some(user).filter(|user| !user.is_empty()),
            client: id,
            groups: &groups,
        },
        listener,
        address,
    };
    let (kind, rest) = action.split_at(3);
    let access = Access {
        action: if kind == "pub" { Action::Publish } else { Action::Subscribe },
        topic,
        qos: QoS::from_u8(rest.as_bytes()[0] - b'0').expect("a QoS"),
        retain: rest.ends_with('r'),
    };
    let ruling = acl.decide(&subject, &access);
    let decided = ruling.rule.map_or("-".to_owned(), |at| (at + 1).to_string());
    let allowed = if ruling.allowed { "yes" } else { "no" };
    assert_eq!((allowed, &*decided), (verdict, number), "{row}");
}

#[test]
fn rules_decide_as_the_table_says() {
    let (mut rules, mut rows, mut in_rules) = (Vec::new(), 0, false);
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line {
            "rules:" => (rules, in_rules) = (Vec::new(), true),
            "rows:" => in_rules = false,
            rule if in_rules => rules.push(rule),
            row => {
                ask(&acl(&rules), row);
                rows += 1;
            }
        }
    }
    assert!(rows >= 200, "{rows} rows");
}

#[test]
fn faults_of_rules_name_their_line_and_the_remedy() {
    for (text, line, said) in [
        ("[[acl]]\neffect = \"allow\"", 1, "topics is missing"),
        ("[[acl]]\ntopics = []", 2, "an empty list is for nobody"),
        ("[[acl]]\ntopics = [\"a/#/b\"]", 2, "a/#/b"),
        ("[[acl]]\ntopics = [\"%x\"]", 2, "u, c, g or %"),
        ("[[acl]]\ntopics = [\"a\"]\neffect = \"maybe\"", 3, "allow"),
        ("[[acl]]\ntopics = [\"a\"]\nnetworks = [\"10.0.0.0/33\"]", 3, "10.0.0.0/33"),
        ("[[acl]]\ntopics = [\"a\"]\nlisteners = [\"cellar\"]", 3, "cellar"),
        ("[[acl]]\ntopics = [\"a\"]\nqos = [3]", 3, "QoS 0, 1 and 2"),
        ("[[acl]]\ntopics = [\"a\"]\nretain = \"set\"", 3, "only PUBLISH has RETAIN"),
        ("[[acl]]\ntopics = [\"a\"]\nanonymous = true\nusers = [\"u\"]", 3, "no user"),
        ("[[acl]]\ntopic = [\"a\"]", 2, "topics"),
        ("[[rules]]\ntopics = [\"a\"]", 1, "acl"),
    ] {
        let faults = config::acl(text, &listeners()).expect_err(text);
        let shown = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let line = format!("line {line}: ");
        assert!(shown.contains(&line) && shown.contains(said), "{text}\n{shown}");
    }
}
