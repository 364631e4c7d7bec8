//! Who comes in, and what rules let clients do.

use super::super::Live;
use super::wire::{Client, Wire, id, message, read, v5};
use super::{Bench, Settings};
use crate::access::{
    Acl, Ban, Credentials, Group, Identity, Pattern, Policy, Rule, Tolerance, Verdict, Who,
};
use crate::access::{Action, Effect};
use crate::codec::{
    ConnectOut, ConnectProperties, Packet, QoS, ReasonCode, UnsubscribeOut, Version, Will,
};
use crate::config::ListenerConfig;
use crate::shard::DropCause;
use crate::shard::access::Introduction;
use crate::shard::settings::ListenerRules;
use std::sync::Arc;

/// What the tests' judge says: the password is "right", and users with a dash are in a group.
pub(super) fn verdict(credentials: &Credentials) -> Verdict {
    if let Some(step) = &credentials.step {
        return super::exchange::users().step(step, "server-nonce");
    }
    let user = credentials.user.clone().unwrap_or_default();
    match credentials.password.as_deref() {
        Some(b"right") => {
            let groups = user.split_once('-').map(|(_, group)| Box::from(group));
            let lasts_s = (&*user == "brief").then_some(60);
            let groups = groups.into_iter().collect();
            let clients =
                (&*user == "narrow").then(|| [crate::access::ClientPattern::new("n-*")].into());
            Verdict::Proven(Box::new(Identity {
                user,
                groups,
                lasts_s,
                clients,
                acl: Acl::default(),
                proof: None,
            }))
        }
        Some(b"later") => Verdict::Busy,
        Some(b"lost") => Verdict::Unavailable,
        _ => Verdict::Wrong,
    }
}

fn named<'a>(client_id: &'a str, user: &'a str, password: &'a str) -> ConnectOut<'a> {
    let (username, password) = (Some(user), Some(password.as_bytes()));
    ConnectOut { username, password, ..v5(client_id, true, 0) }
}

fn rule(effect: Effect, action: Action, topics: &[&str]) -> Rule {
    let topics = topics.iter().map(|topic| Pattern::new(topic).expect("a pattern")).collect();
    Rule { effect, who: Who::default(), action, topics, qos: Vec::new(), retain: None }
}

fn allow(action: Action, topics: &[&str]) -> Rule {
    rule(Effect::Allow, action, topics)
}

/// Names are checked, and `rules` hold.
fn guarded(settings: &mut Settings, anonymous: bool, rules: Vec<Rule>) {
    settings.doors.anonymous = vec![anonymous];
    settings.policy =
        Arc::new(Policy { acl: Acl::new(rules), asks: [true].into(), ..Policy::default() });
}

/// Gives a shard other rules.
fn change_rules(wire: &mut Wire, rules: Vec<Rule>) {
    change_policy(wire, |policy| policy.acl = Acl::new(rules));
}

fn change_policy(wire: &mut Wire, change: impl FnOnce(&mut Policy)) {
    let settings = &wire.bench.shards[0].clients.settings;
    let mut policy = Policy::clone(&settings.policy);
    change(&mut policy);
    let live = Live { policy: Arc::new(policy), ..settings.live() };
    wire.bench.shards[0].reconfigure(&live);
}

fn publish(wire: &mut Wire, client: Client, topic: &str, qos: QoS) -> Option<ReasonCode> {
    let mut bytes = Vec::new();
    message(topic, qos, 9, b"x").encode(client.version, &mut bytes);
    let answers = wire.send(client, &bytes);
    answers.iter().find_map(|bytes| match read(bytes, client.version) {
        Packet::Puback(ack) | Packet::Pubrec(ack) => Some(ack.reason),
        _ => None,
    })
}

#[test]
fn a_password_decides_who_comes_in() {
    let mut wire = Wire::new(|s| guarded(s, false, Vec::new()));
    wire.connect(&named("a", "ann", "right"));
    assert_eq!(wire.refused(&named("b", "ann", "wrong")), ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    assert_eq!(wire.refused(&named("c", "ann", "later")), ReasonCode::SERVER_BUSY);
    assert_eq!(wire.refused(&named("d", "ann", "lost")), ReasonCode::SERVER_UNAVAILABLE);
    assert_eq!(wire.refused(&v5("e", true, 0)), ReasonCode::NOT_AUTHORIZED);
    let nameless = ConnectOut { username: None, ..named("f", "", "right") };
    wire.connect(&nameless);
    let three = ConnectOut { version: Version::V311, ..named("g", "ann", "wrong") };
    assert_eq!(wire.refused(&three), ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    let three = ConnectOut { version: Version::V311, ..v5("h", true, 0) };
    assert_eq!(wire.refused(&three), ReasonCode::NOT_AUTHORIZED);
    let counters = wire.counters();
    assert_eq!((counters.credentials_asked, counters.credentials_wrong), (6, 2));
    assert_eq!(counters.credentials_unchecked, 2);
}

#[test]
fn anonymous_clients_come_in_where_they_may_and_wrong_passwords_never() {
    let mut wire = Wire::new(|s| guarded(s, true, Vec::new()));
    wire.connect(&v5("a", true, 0));
    assert_eq!(wire.refused(&named("b", "ann", "wrong")), ReasonCode::BAD_USER_NAME_OR_PASSWORD);
}

#[test]
fn who_is_being_checked_waits_and_goes_on_where_it_was() {
    let mut wire = Wire::new(|s| guarded(s, false, Vec::new()));
    wire.bench.slow = true;
    let watcher_in = |wire: &mut Wire, id: &str| wire.try_connect(&named(id, "ann", "right"));
    let (client, answer) = watcher_in(&mut wire, "a");
    assert!(answer.is_empty(), "no answer before the verdict");
    // Packets behind the CONNECT wait with it.
    wire.send(client, &[0xc0, 0]);
    let (at, key, credentials) = wire.bench.asked.pop().expect("a question");
    assert_eq!(credentials.user.as_deref(), Some("ann"));
    assert!(!format!("{credentials:?}").contains("right"), "{credentials:?}");
    wire.bench.shards[at].judged(key, verdict(&credentials));
    let answers = wire.send(client, &[0xc0, 0]);
    let kinds: Vec<u8> = answers.iter().map(|bytes| bytes[0]).collect();
    assert_eq!(kinds, [0x20, 0xd0, 0xd0], "CONNACK, then both PINGRESP");
    // A verdict that comes twice, or for somebody who has left, changes nothing.
    wire.bench.shards[at].judged(key, Verdict::Wrong);
    assert!(!wire.is_closed(client));
    let (gone, _) = watcher_in(&mut wire, "b");
    wire.cut(gone);
    let (at, key, credentials) = wire.bench.asked.pop().expect("a question");
    wire.bench.shards[at].judged(key, verdict(&credentials));
    assert_eq!(wire.counters().connects, 1);
    // Nobody waits longer than the deadline of the CONNECT.
    let (late, _) = watcher_in(&mut wire, "c");
    wire.wait_s(11);
    assert!(wire.is_closed(late));
    assert_eq!(wire.counters().connect_timeouts, 1);
}

#[test]
fn an_identity_moves_home_with_its_connection() {
    let rules = vec![allow(Action::Both, &["u/%u/#"])];
    let mut bench = Bench::with(4, |s| guarded(s, false, rules.clone()));
    for n in 0..16 {
        let id = format!("client-{n}");
        let client = bench.connect_with(n % 4, &named(&id, "ann", "right"));
        let answers = bench.output(client);
        assert_eq!(answers[0], 0x20, "a CONNACK");
        assert_eq!(bench.subscribe(client, &["u/ann/#", "u/bob/#"]), [1, 0x87]);
    }
    assert!(bench.sum(|c| c.handed_over) > 0);
    assert_eq!(bench.sum(|c| c.credentials_asked), 16, "each is asked once");
}

#[test]
fn a_session_belongs_to_its_user() {
    let mut wire = Wire::new(|s| guarded(s, true, Vec::new()));
    let long = ConnectProperties { session_expiry: Some(1000), ..ConnectProperties::default() };
    let anns = ConnectOut { properties: long, ..named("shared", "ann", "right") };
    let ann = wire.connect(&anns);
    assert_eq!(wire.refused(&named("shared", "bob", "right")), ReasonCode::NOT_AUTHORIZED);
    assert_eq!(wire.refused(&v5("shared", true, 0)), ReasonCode::NOT_AUTHORIZED);
    assert!(!wire.is_closed(ann), "nobody took it over");
    wire.cut(ann);
    assert_eq!(wire.refused(&v5("shared", false, 0)), ReasonCode::NOT_AUTHORIZED);
    wire.connect(&anns);
}

#[test]
fn rules_decide_what_is_published_and_tell_so() {
    let rules = vec![allow(Action::Both, &["open/#"]), allow(Action::Subscribe, &["#"])];
    let mut wire = Wire::new(|s| guarded(s, true, rules.clone()));
    let (five, watcher) = (wire.five("five"), wire.five("watcher"));
    assert_eq!(wire.subscribe(watcher, "#", QoS::AtMostOnce), ReasonCode::SUCCESS);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(publish(&mut wire, five, "open/a", qos), Some(ReasonCode::SUCCESS));
        assert_eq!(publish(&mut wire, five, "shut/a", qos), Some(ReasonCode::NOT_AUTHORIZED));
        wire.take(watcher);
    }
    publish(&mut wire, five, "shut/a", QoS::AtMostOnce);
    assert_eq!(wire.take(watcher).len(), 0, "nobody got it");
    assert!(!wire.is_closed(five));
    let three = wire.three("three");
    assert_eq!(publish(&mut wire, three, "shut/a", QoS::AtLeastOnce), Some(ReasonCode::SUCCESS));
    assert_eq!(wire.take(watcher).len(), 0, "acknowledged, as 3.x can't say no, and dropped");
    assert_eq!(wire.counters().drops[DropCause::Denied as usize], 4);
}

#[test]
fn old_clients_are_closed_for_a_denied_message_where_that_is_asked_for() {
    let mut wire = Wire::new(|s| {
        guarded(s, true, vec![allow(Action::Both, &["open"])]);
        let policy = Policy { closes_denied: true, ..Policy::clone(&s.policy) };
        s.policy = Arc::new(policy);
    });
    let (three, five) = (wire.three("three"), wire.five("five"));
    assert_eq!(publish(&mut wire, three, "shut", QoS::AtLeastOnce), None);
    assert!(wire.is_closed(three));
    let reason = publish(&mut wire, five, "shut", QoS::AtLeastOnce);
    assert_eq!(reason, Some(ReasonCode::NOT_AUTHORIZED));
    assert!(!wire.is_closed(five), "MQTT 5 has a reason code");
}

#[test]
fn a_verdict_is_kept_for_one_kind_of_message_only() {
    let limited = Rule { qos: vec![QoS::AtMostOnce], ..allow(Action::Publish, &["a"]) };
    let kept = Rule { retain: Some(true), ..rule(Effect::Deny, Action::Publish, &["b"]) };
    let rules = vec![limited, kept, allow(Action::Publish, &["b"])];
    let mut wire = Wire::new(|s| guarded(s, true, rules.clone()));
    let client = wire.five("c");
    for _ in 0..2 {
        publish(&mut wire, client, "a", QoS::AtMostOnce);
        let reason = publish(&mut wire, client, "a", QoS::AtLeastOnce);
        assert_eq!(reason, Some(ReasonCode::NOT_AUTHORIZED));
    }
    assert_eq!(wire.counters().drops[DropCause::Denied as usize], 2);
    for (retain, expected) in
        [(false, ReasonCode::SUCCESS), (true, ReasonCode::NOT_AUTHORIZED)].repeat(2)
    {
        let mut bytes = Vec::new();
        let mut out = message("b", QoS::AtLeastOnce, 7, b"x");
        out.retain = retain;
        out.encode(Version::V5, &mut bytes);
        let answers = wire.send(client, &bytes);
        let Packet::Puback(ack) = read(&answers[0], Version::V5) else { panic!("no PUBACK") };
        assert_eq!(ack.reason.is_error(), expected.is_error(), "retain {retain}");
    }
}

#[test]
fn filters_are_allowed_one_by_one_and_in_every_form() {
    let rules = vec![
        rule(Effect::Deny, Action::Subscribe, &["secret/#"]),
        allow(Action::Subscribe, &["#"]),
    ];
    let mut bench = Bench::with(2, |s| {
        guarded(s, true, rules.clone());
        s.topics.exclusive = true;
    });
    let client = bench.connect(0, "c", Version::V5);
    bench.output(client);
    let filters = ["a", "secret/a", "secret", "+/a", "#", "$share/g/secret/a", "$share/g/a/#"];
    assert_eq!(bench.subscribe(client, &filters), [1, 0x87, 0x87, 0x87, 0x87, 0x87, 1]);
    assert_eq!(bench.subscribe(client, &["$exclusive/secret/a", "$exclusive/b"]), [0x87, 1]);
    assert_eq!(bench.sum(|c| c.subscriptions_denied), 6);
}

#[test]
fn a_will_is_judged_when_its_client_connects() {
    let rules = vec![allow(Action::Publish, &["wills/%c"])];
    let mut wire = Wire::new(|s| guarded(s, true, rules.clone()));
    let will = |topic| Some(Will { topic, payload: b"gone", ..Will::default() });
    wire.connect(&ConnectOut { will: will("wills/a"), ..v5("a", true, 0) });
    let other = ConnectOut { will: will("wills/a"), ..v5("b", true, 0) };
    assert_eq!(wire.refused(&other), ReasonCode::NOT_AUTHORIZED);
}

#[test]
fn inherited_subscriptions_are_asked_about_again() {
    let rules = vec![allow(Action::Both, &["a/#", "b/#"])];
    let mut wire = Wire::new(|s| guarded(s, true, rules.clone()));
    let client = wire.connect(&v5("c", true, 1000));
    for filter in ["a/#", "b/#", "$share/g/b/x"] {
        wire.subscribe(client, filter, QoS::AtLeastOnce);
    }
    wire.cut(client);
    change_rules(&mut wire, vec![allow(Action::Both, &["a/#"])]);
    let client = wire.connect(&v5("c", false, 1000));
    assert_eq!(wire.counters().subscriptions_withdrawn, 2);
    let mut bytes = Vec::new();
    UnsubscribeOut { packet_id: id(3), filters: &["a/#", "b/#", "$share/g/b/x"] }
        .encode(Version::V5, &mut bytes);
    let answers = wire.send(client, &bytes);
    let Packet::Unsuback(unsuback) = read(&answers[0], Version::V5) else { panic!("no UNSUBACK") };
    let reasons: Vec<u8> = unsuback.reasons().map(|reason| reason.0).collect();
    assert_eq!(reasons, [0, 0x11, 0x11]);
}

#[test]
fn other_rules_hold_from_the_next_packet_on() {
    let mut wire = Wire::new(|s| guarded(s, true, Vec::new()));
    let (client, watcher) = (wire.five("c"), wire.five("w"));
    wire.subscribe(watcher, "a/#", QoS::AtMostOnce);
    assert_eq!(
        publish(&mut wire, client, "a/b", QoS::AtLeastOnce),
        Some(ReasonCode::SUCCESS),
        "without a rule everything is allowed"
    );
    assert_eq!(wire.take(watcher).len(), 1);
    change_rules(&mut wire, vec![allow(Action::Publish, &["a/#"])]);
    publish(&mut wire, client, "a/b", QoS::AtLeastOnce);
    assert_eq!(wire.take(watcher).len(), 0, "its subscription was taken away");
    assert_eq!(wire.counters().subscriptions_withdrawn, 1);
    change_rules(&mut wire, vec![allow(Action::Publish, &["b/#"])]);
    let reason = publish(&mut wire, client, "a/b", QoS::AtLeastOnce);
    assert_eq!(reason, Some(ReasonCode::NOT_AUTHORIZED), "no verdict is remembered");
    change_rules(&mut wire, Vec::new());
    let reason = publish(&mut wire, client, "a/b", QoS::AtLeastOnce).map(|r| r.is_error());
    assert_eq!(reason, Some(false));
}

#[test]
fn an_identity_can_name_its_client_ids_and_its_end() {
    let mut wire = Wire::new(|s| guarded(s, false, Vec::new()));
    wire.connect(&named("n-1", "narrow", "right"));
    let reason = wire.refused(&named("m-1", "narrow", "right"));
    assert_eq!(reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    let lasting = ConnectOut { keep_alive: 0, ..named("x", "ann", "right") };
    let brief = ConnectOut { keep_alive: 0, ..named("y", "brief", "right") };
    let (lasting, brief) = (wire.connect(&lasting), wire.connect(&brief));
    wire.wait_s(61);
    assert!(wire.is_closed(brief) && !wire.is_closed(lasting));
}

#[test]
fn who_is_banned_is_refused_whatever_it_can_prove() {
    let ban = |who: Who| Policy {
        bans: vec![Ban { who, until_s: None }],
        asks: [true].into(),
        ..Policy::default()
    };
    let user = Who { users: vec!["mallory".into()], ..Who::default() };
    let mut wire = Wire::new(|s| s.policy = Arc::new(ban(user.clone())));
    assert_eq!(wire.refused(&named("a", "mallory", "right")), ReasonCode::BANNED);
    wire.connect(&named("a", "ann", "right"));
    let clients = vec![crate::access::ClientPattern::new("bad-*")];
    let client = Who { clients, ..Who::default() };
    let mut wire = Wire::new(|s| s.policy = Arc::new(ban(client.clone())));
    assert_eq!(wire.refused(&v5("bad-1", true, 0)), ReasonCode::BANNED);
    let three = ConnectOut { version: Version::V311, ..v5("bad-1", true, 0) };
    assert!(wire.refused(&three).is_error());
    wire.connect(&v5("good", true, 0));
}

#[test]
fn guessing_keeps_an_address_out_before_it_can_ask_again() {
    let tolerance = Tolerance { most: 3, window_s: 60, ban_s: 300 };
    let policy = Policy { asks: [true].into(), guesses: tolerance, ..Policy::default() };
    let mut wire = Wire::new(|s| s.policy = Arc::new(policy.clone()));
    let foe = Some("192.0.2.1:5000".parse().expect("an address"));
    let friend = Some("192.0.2.2:5000".parse().expect("an address"));
    let mut guess = Vec::new();
    named("g", "ann", "wrong").encode(&mut guess);
    for round in 0..3 {
        let key = wire.bench.shards[0].open(0, foe);
        let key = key.unwrap_or_else(|| panic!("round {round}"));
        let client = Client { at: (0, key), version: Version::V5 };
        assert_eq!(wire.send(client, &guess).len(), 1, "refused in words");
    }
    assert!(wire.bench.shards[0].open(0, foe).is_none(), "closed before anything is read");
    assert!(wire.bench.shards[0].open(0, friend).is_some());
    assert_eq!(wire.counters().addresses_refused, 1);
    wire.wait_s(301);
    assert!(wire.bench.shards[0].open(0, foe).is_some(), "not for ever");
    for _ in 0..3 {
        let key = wire.bench.shards[0].open(0, foe).expect("not kept out");
        wire.send(Client { at: (0, key), version: Version::V5 }, &guess);
    }
    assert!(wire.bench.shards[0].open(0, foe).is_none());
    change_policy(&mut wire, |policy| policy.guesses = Tolerance::default());
    assert!(wire.bench.shards[0].open(0, foe).is_some(), "another measure, another start");
}

#[test]
fn a_client_that_connects_too_often_is_kept_out_for_a_while() {
    let flaps = Tolerance { most: 4, window_s: 60, ban_s: 120 };
    let mut wire = Wire::new(|s| {
        s.policy = Arc::new(Policy { flaps, ..Policy::default() });
    });
    for _ in 0..4 {
        let client = wire.five("nervous");
        wire.cut(client);
    }
    assert_eq!(wire.refused(&v5("nervous", true, 0)), ReasonCode::BANNED);
    wire.five("calm");
    wire.wait_s(121);
    wire.five("nervous");
}

#[test]
fn a_ban_ends_at_its_time() {
    let who = Who { users: vec!["ann".into()], ..Who::default() };
    let bans = vec![Ban { who, until_s: Some(1_000_100) }];
    let policy = Policy { bans, asks: [true].into(), origin_s: 1_000_000, ..Policy::default() };
    let mut wire = Wire::new(|s| s.policy = Arc::new(policy.clone()));
    wire.wait_s(98);
    assert_eq!(wire.refused(&named("a", "ann", "right")), ReasonCode::BANNED);
    wire.wait_s(2);
    wire.connect(&named("a", "ann", "right"));
}

#[test]
fn groups_of_the_configuration_join_those_of_the_user() {
    // The tests' judge says that ann-red is in the group "red".
    let group = |name: &str, user: &str| Group { name: name.into(), users: [user.into()].into() };
    let only = |group: &str, topic: &str| {
        let who = Who { groups: vec![group.into()], ..Who::default() };
        Rule { who, ..allow(Action::Publish, &[topic]) }
    };
    let rules = vec![only("red", "own"), only("crew", "joined")];
    let mut wire = Wire::new(|s| guarded(s, false, rules.clone()));
    let ann = wire.connect(&named("a", "ann-red", "right"));
    let reason = |wire: &mut Wire, topic: &str| {
        let answers = wire.publish(ann, &message(topic, QoS::AtLeastOnce, 1, b"x"));
        match read(&answers[0], ann.version) {
            Packet::Puback(ack) => !ack.reason.is_error(),
            other => panic!("{other:?}"),
        }
    };
    assert!(reason(&mut wire, "own") && !reason(&mut wire, "joined"));
    // As soon as the configuration says so, for clients that are connected, too.
    change_policy(&mut wire, |policy| policy.groups = vec![group("crew", "ann-red")]);
    assert!(reason(&mut wire, "own") && reason(&mut wire, "joined"));
    change_policy(&mut wire, |policy| policy.groups = vec![group("crew", "bob")]);
    assert!(reason(&mut wire, "own") && !reason(&mut wire, "joined"));
}

#[test]
fn who_is_refused_may_be_told_no_more_than_that() {
    let who = Who { users: vec!["mallory".into()], ..Who::default() };
    let bans = vec![Ban { who, until_s: None }];
    let policy = Policy { bans, asks: [true].into(), obscures: true, ..Policy::default() };
    let mut wire = Wire::new(|s| s.policy = Arc::new(policy.clone()));
    for (connect, reason) in [
        (named("a", "ann", "wrong"), ReasonCode::NOT_AUTHORIZED),
        (named("a", "mallory", "right"), ReasonCode::NOT_AUTHORIZED),
        (named("m-1", "narrow", "right"), ReasonCode::NOT_AUTHORIZED),
        (named("a", "ann", "later"), ReasonCode::SERVER_BUSY),
        (named("a", "ann", "lost"), ReasonCode::SERVER_UNAVAILABLE),
    ] {
        let (_, answer) = wire.try_connect(&connect);
        let Packet::Connack(connack) = read(&answer, Version::V5) else { panic!("{answer:?}") };
        assert_eq!(connack.reason, reason);
        let text = connack.reason_string.expect("a text");
        assert!(reason != ReasonCode::NOT_AUTHORIZED || text == "not authorized", "{text}");
    }
}

#[test]
fn an_address_that_knocks_too_often_is_not_heard_for_a_second() {
    let rules = |listener: &ListenerConfig| vec![ListenerRules::from(listener)];
    let limited = ListenerConfig { address_connects_per_s: 3, ..ListenerConfig::default() };
    let mut wire = Wire::new(|s| s.doors.rules = rules(&limited));
    let from = |text: &str| Some(text.parse().expect("an address"));
    let (loud, quiet) = (from("192.0.2.1:5000"), from("192.0.2.2:5000"));
    for _ in 0..3 {
        assert!(wire.bench.shards[0].open(0, loud).is_some());
    }
    assert!(wire.bench.shards[0].open(0, loud).is_none());
    assert!(wire.bench.shards[0].open(0, quiet).is_some(), "another address");
    assert_eq!(wire.counters().connects_over_rate, 1);
    wire.wait_s(2);
    assert!(wire.bench.shards[0].open(0, loud).is_some());

    // Behind a proxy its own address says nothing; that of the client does.
    for key in ["proxy_from", "websocket = true\nwebsocket_proxies"] {
        let network = "192.0.2.0/24";
        let text = format!("[[listener]]\naddress_connects_per_s = 3\n{key} = [\"{network}\"]\n");
        let config = crate::config::parse(&text).expect("valid");
        let mut wire = Wire::new(|s| s.doors.rules = rules(&config.listeners[0]));
        let shard = &mut wire.bench.shards[0];
        let mut heard = |number: u8| {
            let key = shard.open(0, loud).expect("the proxy may");
            let peer = from(&format!("10.0.0.{number}:1"));
            shard.introduce(key, Introduction { peer, user: None })
        };
        assert!((1..20).all(&mut heard), "{key}");
        assert_eq!([heard(0), heard(0), heard(0), heard(0)], [true, true, true, false], "{key}");
        assert!(heard(1), "{key}");
    }
}
