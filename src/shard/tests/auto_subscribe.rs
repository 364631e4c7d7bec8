//! `session.auto_subscribe`: subscriptions that nobody asked for.

use super::*;
use crate::config;

fn bench(count: usize, rules: &str) -> Bench {
    let config = config::parse(rules).expect("the rules are valid");
    Bench::with(count, |settings| {
        settings.session = config.session.clone();
        settings.limits.subscriptions = 3;
    })
}

fn publish(bench: &mut Bench, from: Client, topic: &str, retain: bool) {
    let out = PublishOut { topic, payload: b"x", retain, ..PublishOut::default() };
    bench.publish(from, Version::V5, &out);
}

fn seen(bench: &mut Bench, client: Client) -> (Vec<(String, QoS)>, usize) {
    let bytes = bench.output(client);
    let (mut rest, mut found, mut subacks) = (&bytes[..], Vec::new(), 0);
    while let Some(frame) = codec::frame(rest, usize::MAX).expect("whole packets") {
        match codec::decode(&frame, Version::V5).expect("a valid packet") {
            Packet::Publish(publish) => found.push((publish.topic.to_owned(), publish.qos)),
            Packet::Suback(_) => subacks += 1,
            _ => {}
        }
        rest = &rest[frame.len..];
    }
    (found, subacks)
}

const COMMANDS: &str = r#"
[[session.auto_subscribe]]
filter = "clients/%c/cmd"
clients = "sensor-*"
qos = 1
no_local = true
"#;

#[test]
fn clients_get_what_the_rules_say_without_a_suback() {
    for count in 1..5 {
        let mut bench = bench(count, COMMANDS);
        let publisher = bench.connect(0, "p", Version::V5);
        publish(&mut bench, publisher, "clients/sensor-1/cmd", true);
        let sensor = bench.connect(count - 1, "sensor-1", Version::V5);
        let (found, subacks) = seen(&mut bench, sensor);
        let expected = [("clients/sensor-1/cmd".to_owned(), QoS::AtMostOnce)];
        assert_eq!((&found[..], subacks), (&expected[..], 0), "the retained one, {count}");
        let out = PublishOut {
            qos: QoS::ExactlyOnce,
            packet_id: Some(PacketId::MIN),
            topic: "clients/sensor-1/cmd",
            ..PublishOut::default()
        };
        assert_eq!(bench.publish(publisher, Version::V5, &out), Some(0));
        let (found, _) = seen(&mut bench, sensor);
        assert_eq!(found, [("clients/sensor-1/cmd".to_owned(), QoS::AtLeastOnce)]);
        publish(&mut bench, sensor, "clients/sensor-1/cmd", false);
        assert_eq!(seen(&mut bench, sensor).0, [], "no local");
        assert_eq!(bench.unsubscribe(sensor, "clients/sensor-1/cmd"), 0);
        assert_eq!(bench.unsubscribe(publisher, "clients/p/cmd"), 0x11, "not for this name");
    }
}

#[test]
fn what_the_client_has_is_left_as_it_is() {
    let mut bench = bench(2, COMMANDS);
    let mut connect =
        ConnectOut { version: Version::V5, client_id: "sensor-1", ..ConnectOut::default() };
    connect.properties.session_expiry = Some(100);
    let sensor = bench.connect_with(0, &connect);
    let options = SubscribeOptions::default();
    let mut bytes = Vec::new();
    let filters = [("clients/sensor-1/cmd", options)];
    SubscribeOut { packet_id: PacketId::MIN, subscription_id: None, filters: &filters }
        .encode(Version::V5, &mut bytes);
    bench.send(sensor, &bytes);
    bench.shards[sensor.0].end_of_input(sensor.1);
    bench.pass(1);
    let sensor = bench.connect_with(0, &connect);
    let out = PublishOut {
        qos: QoS::AtLeastOnce,
        packet_id: Some(PacketId::MIN),
        topic: "clients/sensor-1/cmd",
        ..PublishOut::default()
    };
    let mut bytes = Vec::new();
    out.encode(Version::V5, &mut bytes);
    bench.output(sensor);
    bench.send(sensor, &bytes);
    // Still QoS 0 and with the client's own messages.
    let (found, _) = seen(&mut bench, sensor);
    assert_eq!(found, [("clients/sensor-1/cmd".to_owned(), QoS::AtMostOnce)]);
}

#[test]
fn a_new_session_is_subscribed_again_and_a_resumed_one_keeps_one_subscription() {
    let mut bench = bench(2, COMMANDS);
    let mut connect =
        ConnectOut { version: Version::V5, client_id: "sensor-1", ..ConnectOut::default() };
    connect.properties.session_expiry = Some(100);
    let sensor = bench.connect_with(0, &connect);
    bench.unsubscribe(sensor, "clients/sensor-1/cmd");
    let publisher = bench.connect(1, "p", Version::V5);
    for _ in 0..2 {
        bench.shards[sensor.0].end_of_input(sensor.1);
        let sensor = bench.connect_with(0, &connect);
        bench.output(sensor);
        publish(&mut bench, publisher, "clients/sensor-1/cmd", false);
        assert_eq!(seen(&mut bench, sensor).0.len(), 1);
    }
}

#[test]
fn limits_and_refusals_hold_for_rules_as_well() {
    let rules = r#"
        [session]
        auto_subscribe = [
            { filter = "a/%c" }, { filter = "u/%u" }, { filter = "$exclusive/x" },
            { filter = "$share/g/b" }, { filter = "over/the/limit" },
        ]
    "#;
    for count in 1..4 {
        let mut bench = bench(count, rules);
        let one = bench.connect(0, "one", Version::V5);
        let two = bench.connect(0, "two", Version::V5);
        assert_eq!(bench.shards.iter().map(Shard::exclusive_count).sum::<usize>(), 1);
        let publisher = bench.connect(0, "", Version::V5);
        for topic in ["a/one", "x", "u/one", "over/the/limit"] {
            publish(&mut bench, publisher, topic, false);
        }
        let topics = |found: Vec<(String, QoS)>| {
            let mut topics: Vec<_> = found.into_iter().map(|(topic, _)| topic).collect();
            topics.sort_unstable();
            topics
        };
        assert_eq!(topics(seen(&mut bench, one).0), ["a/one", "x"]);
        // The second one got no exclusive subscription, so there was room for the last.
        assert_eq!(bench.unsubscribe(two, "$exclusive/x"), 0x11);
        assert_eq!(bench.unsubscribe(two, "$share/g/b"), 0);
    }
}
