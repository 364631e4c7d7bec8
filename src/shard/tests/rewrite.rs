//! `topics.rewrite`: the rules at work in every packet that names topics.

use super::*;
use crate::codec::Will;
use crate::config;

const RULES: &str = r#"
[[topics.rewrite]]
action = "publish"
filter = "old/+/#"
to = "new/$1/$2"
[[topics.rewrite]]
action = "publish"
filter = "old/#"
to = "never/$1"
[[topics.rewrite]]
action = "subscribe"
filter = "mine/#"
to = "clients/%c/$1"
[[topics.rewrite]]
action = "all"
filter = "user/#"
to = "users/%u/$1"
[[topics.rewrite]]
action = "publish"
filter = "later/#"
to = "$delayed/5/$1"
"#;

fn bench(count: usize) -> Bench {
    let rules = config::parse(RULES).expect("the rules are valid");
    Bench::with(count, |settings| settings.topics = rules.topics.clone())
}

fn out<'a>(topic: &'a str, qos: QoS) -> PublishOut<'a> {
    let packet_id = (qos > QoS::AtMostOnce).then_some(PacketId::MIN);
    PublishOut { qos, topic, packet_id, payload: b"x", ..PublishOut::default() }
}

fn topics(bench: &mut Bench, client: Client) -> Vec<String> {
    bench.received(client).into_iter().map(|(topic, _)| topic).collect()
}

#[test]
fn publishes_go_to_the_topic_of_the_first_rule_that_fits() {
    for count in 1..4 {
        let mut bench = bench(count);
        let subscriber = bench.connect(0, "s", Version::V5);
        bench.subscribe(subscriber, &["#"]);
        let publisher = bench.connect(count - 1, "p", Version::V5);
        for topic in ["old/a/b/c", "old/a", "old", "mine/x", "other"] {
            bench.publish(publisher, Version::V5, &out(topic, QoS::AtMostOnce));
        }
        let mut found = topics(&mut bench, subscriber);
        found.sort_unstable();
        assert_eq!(found, ["mine/x", "never", "new/a", "new/a/b/c", "other"]);
    }
}

#[test]
fn an_alias_stands_for_what_the_client_named() {
    let mut bench = bench(2);
    let subscriber = bench.connect(0, "s", Version::V5);
    bench.subscribe(subscriber, &["new/#"]);
    let publisher = bench.connect(1, "p", Version::V5);
    for topic in ["old/a/b", "", ""] {
        let named = PublishOut { alias: Some(1), ..out(topic, QoS::AtMostOnce) };
        bench.publish(publisher, Version::V5, &named);
    }
    assert_eq!(topics(&mut bench, subscriber), ["new/a/b"; 3]);
}

#[test]
fn subscriptions_are_rewritten_inside_their_prefix() {
    let mut bench = bench(3);
    let client = bench.connect(0, "c1", Version::V5);
    let publisher = bench.connect(1, "p", Version::V5);
    for (text, prefix) in [("mine/#", ""), ("$share/g/mine/#", ""), ("$exclusive/mine/#", "")] {
        assert_eq!(bench.subscribe(client, &[text]), [1], "{prefix}{text}");
        for topic in ["clients/c1/cmd", "clients/c1", "clients/c2/cmd", "mine/cmd"] {
            bench.publish(publisher, Version::V5, &out(topic, QoS::AtMostOnce));
        }
        let mut found = topics(&mut bench, client);
        found.sort_unstable();
        assert_eq!(found, ["clients/c1", "clients/c1/cmd"], "{text}");
        assert_eq!(bench.unsubscribe(client, text), 0, "{text}");
    }
    // The name that it became is one more name for it.
    bench.subscribe(client, &["mine/+"]);
    assert_eq!(bench.unsubscribe(client, "clients/c1/+"), 0);
    assert_eq!(bench.unsubscribe(client, "mine/+"), 0x11);
}

#[test]
fn a_rule_can_delay_and_a_delayed_topic_is_rewritten_behind_its_delay() {
    let mut bench = bench(2);
    let subscriber = bench.connect(0, "s", Version::V5);
    bench.subscribe(subscriber, &["#"]);
    let publisher = bench.connect(1, "p", Version::V5);
    for topic in ["later/a/b", "$delayed/5/old/x/y"] {
        let sent = out(topic, QoS::AtLeastOnce);
        assert_eq!(bench.publish(publisher, Version::V5, &sent), Some(0));
    }
    assert_eq!(topics(&mut bench, subscriber), [""; 0]);
    bench.pass(6);
    let mut found = topics(&mut bench, subscriber);
    found.sort_unstable();
    assert_eq!(found, ["a/b", "new/x/y"]);
    // A delay of a delay, and a delay of nothing.
    for wrong in ["$delayed/5/later/a", "later"] {
        let sent = out(wrong, QoS::AtLeastOnce);
        assert_eq!(bench.publish(publisher, Version::V5, &sent), Some(0x90), "{wrong}");
    }
}

#[test]
fn who_has_no_fitting_name_is_refused_and_stays_connected() {
    let mut bench = bench(2);
    let nobody = bench.connect(0, "nobody", Version::V5);
    let sent = out("user/a", QoS::AtLeastOnce);
    assert_eq!(bench.publish(nobody, Version::V5, &sent), Some(0x90));
    bench.publish(nobody, Version::V5, &out("user/a", QoS::AtMostOnce));
    assert_eq!(bench.sum(|counters| counters.drops[DropCause::Refused as usize]), 1);
    assert_eq!(bench.subscribe(nobody, &["user/#", "a"]), [0x8f, 1]);
    assert_eq!(bench.unsubscribe(nobody, "user/#"), 0x8f);
    let everybody = bench.connect(0, "+", Version::V5);
    assert_eq!(bench.subscribe(everybody, &["mine/cmd"]), [0x8f]);
    let old = bench.connect(1, "old", Version::V311);
    assert_eq!(bench.publish(old, Version::V311, &out("user/a", QoS::AtLeastOnce)), None);
    assert!(bench.is_closing(old) && !bench.is_closing(nobody));
    let connect = ConnectOut {
        version: Version::V5,
        client_id: "ann's",
        username: Some("ann"),
        ..ConnectOut::default()
    };
    let ann = bench.connect_with(0, &connect);
    assert_eq!(bench.subscribe(ann, &["user/#"]), [1]);
    let own = bench.connect(1, "p", Version::V5);
    bench.publish(own, Version::V5, &out("users/ann/a", QoS::AtMostOnce));
    assert_eq!(topics(&mut bench, ann), ["users/ann/a"]);
}

#[test]
fn wills_are_rewritten() {
    let mut bench = bench(2);
    let subscriber = bench.connect(0, "s", Version::V5);
    bench.subscribe(subscriber, &["#"]);
    let will = |topic| Some(Will { topic, payload: b"gone", ..Will::default() });
    let connect = ConnectOut {
        version: Version::V5,
        client_id: "w",
        will: will("user/w"),
        ..ConnectOut::default()
    };
    let refused = bench.connect_with(0, &connect);
    let reasons = bench.packets(refused, |packet| match packet {
        Packet::Connack(connack) => Some(connack.reason.0),
        _ => None,
    });
    assert_eq!(reasons, [0x90]);
    let named = bench.connect_with(0, &ConnectOut { username: Some("ann"), ..connect });
    bench.shards[named.0].end_of_input(named.1);
    bench.pass(0);
    assert_eq!(topics(&mut bench, subscriber), ["users/ann/w"]);
}
