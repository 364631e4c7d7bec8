//! Retained messages: set, cleared, replayed to whom, with which flags.

use super::wire::{Client, Wire, id, message, publication, v5};
use crate::codec::{
    ConnectOut, Publish, QoS, ReasonCode, RetainHandling, SubscribeOptions, SubscribeOut, Version,
    Will,
};

fn retain(wire: &mut Wire, client: Client, topic: &str, qos: QoS, payload: &[u8]) {
    let mut out = message(topic, qos, 1, payload);
    out.retain = true;
    wire.publish(client, &out);
    wire.ack(client, crate::codec::PacketType::Pubrel, 1);
}

/// Subscribes with `options`; what comes behind the SUBACK.
fn subscribe(
    wire: &mut Wire,
    client: Client,
    filter: &str,
    options: SubscribeOptions,
) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    SubscribeOut { packet_id: id(1), subscription_id: None, filters: &[(filter, options)] }
        .encode(client.version, &mut bytes);
    let answers = wire.send(client, &bytes);
    assert_eq!(answers[0][0], 0x90, "the SUBACK first");
    answers[1..].to_vec()
}

fn handling(retain_handling: RetainHandling) -> SubscribeOptions {
    SubscribeOptions { retain_handling, ..SubscribeOptions::default() }
}

/// Topic, payload and RETAIN of a PUBLISH.
fn gist(bytes: &[u8], version: Version) -> (String, Vec<u8>, bool) {
    let Publish { topic, payload, retain, .. } = publication(bytes, version);
    (topic.to_owned(), payload.to_vec(), retain)
}

#[test]
fn the_last_retained_message_of_a_topic_is_kept_until_it_is_cleared() {
    for version in [Version::V311, Version::V5] {
        let mut wire = Wire::new(|_| {});
        let publisher = wire.three("publisher");
        for payload in [&b"first"[..], b"second"] {
            retain(&mut wire, publisher, "a/b", QoS::AtLeastOnce, payload);
        }
        retain(&mut wire, publisher, "a/c", QoS::AtMostOnce, b"other");
        wire.publish(publisher, &message("a/b", QoS::AtLeastOnce, 2, b"live"));
        let reader =
            if version == Version::V5 { wire.five("reader") } else { wire.three("reader") };
        let got = subscribe(&mut wire, reader, "a/#", SubscribeOptions::default());
        let mut got: Vec<_> = got.iter().map(|bytes| gist(bytes, version)).collect();
        got.sort();
        let expected = [("a/b", &b"second"[..]), ("a/c", b"other")];
        assert_eq!(got.len(), 2, "[MQTT-3.3.1-5]");
        assert_eq!(got[0], (expected[0].0.into(), expected[0].1.to_vec(), true));
        assert_eq!(got[1], (expected[1].0.into(), expected[1].1.to_vec(), true));
        // An empty one clears, and is delivered like any other.
        retain(&mut wire, publisher, "a/b", QoS::AtMostOnce, b"");
        let live = wire.take(reader);
        assert_eq!(gist(&live[0], version), ("a/b".into(), vec![], false), "[MQTT-3.3.1-6]");
        assert_eq!(wire.bench.shards[0].retained_count(), 1);
        let late = wire.five("late");
        assert!(subscribe(&mut wire, late, "a/b", SubscribeOptions::default()).is_empty());
    }
}

#[test]
fn retain_handling_says_when_a_subscription_is_served() {
    use RetainHandling::{DoNotSend, Send, SendIfNew};
    for (how, first, again) in [(Send, 1, 1), (SendIfNew, 1, 0), (DoNotSend, 0, 0)] {
        let mut wire = Wire::new(|_| {});
        let publisher = wire.five("publisher");
        retain(&mut wire, publisher, "t", QoS::AtMostOnce, b"x");
        let reader = wire.five("reader");
        let got = subscribe(&mut wire, reader, "t", handling(how));
        assert_eq!(got.len(), first, "{how:?} [MQTT-3.3.1-9], [MQTT-3.3.1-11]");
        let got = subscribe(&mut wire, reader, "t", handling(how));
        assert_eq!(got.len(), again, "{how:?} [MQTT-3.3.1-10]");
    }
}

#[test]
fn share_groups_and_hidden_topics_are_left_out() {
    let mut wire = Wire::new(|_| {});
    let publisher = wire.five("publisher");
    retain(&mut wire, publisher, "t", QoS::AtMostOnce, b"x");
    retain(&mut wire, publisher, "$hidden", QoS::AtMostOnce, b"x");
    let reader = wire.five("reader");
    assert!(subscribe(&mut wire, reader, "$share/g/t", handling(RetainHandling::Send)).is_empty());
    let got = subscribe(&mut wire, reader, "#", handling(RetainHandling::Send));
    assert_eq!(got.len(), 1, "[MQTT-4.7.2-1]");
    let got = subscribe(&mut wire, reader, "$hidden", handling(RetainHandling::Send));
    assert_eq!(got.len(), 1);
}

#[test]
fn live_messages_keep_their_flag_where_that_is_asked_for() {
    for retain_as_published in [false, true] {
        let mut wire = Wire::new(|_| {});
        let publisher = wire.five("publisher");
        let reader = wire.five("reader");
        let options = SubscribeOptions { retain_as_published, ..SubscribeOptions::default() };
        subscribe(&mut wire, reader, "t", options);
        retain(&mut wire, publisher, "t", QoS::AtMostOnce, b"x");
        wire.publish(publisher, &message("t", QoS::AtMostOnce, 1, b"y"));
        let got = wire.take(reader);
        let flags: Vec<_> = got.iter().map(|bytes| gist(bytes, Version::V5).2).collect();
        assert_eq!(flags, [retain_as_published, false], "[MQTT-3.3.1-12], [MQTT-3.3.1-13]");
    }
}

#[test]
fn a_retained_message_comes_with_the_lower_qos() {
    for published in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for asked in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut wire = Wire::new(|_| {});
            let publisher = wire.five("publisher");
            retain(&mut wire, publisher, "t", published, b"x");
            let reader = wire.five("reader");
            let options = SubscribeOptions { qos: asked, ..SubscribeOptions::default() };
            let got = subscribe(&mut wire, reader, "t", options);
            assert_eq!(publication(&got[0], Version::V5).qos, published.min(asked));
        }
    }
}

#[test]
fn a_retained_will_is_retained() {
    let mut wire = Wire::new(|_| {});
    let will = Some(Will { topic: "w", payload: b"gone", retain: true, ..Will::default() });
    let client = wire.connect(&ConnectOut { will, ..v5("mortal", true, 0) });
    wire.cut(client);
    let reader = wire.five("reader");
    let got = subscribe(&mut wire, reader, "w", SubscribeOptions::default());
    assert_eq!(gist(&got[0], Version::V5), ("w".into(), b"gone".to_vec(), true));
    // Without the flag it is not kept [MQTT-3.1.2-14].
    let will = Some(Will { topic: "v", payload: b"gone", ..Will::default() });
    let client = wire.connect(&ConnectOut { will, ..v5("mortal", true, 0) });
    wire.leave(client, ReasonCode::DISCONNECT_WITH_WILL, None);
    assert!(subscribe(&mut wire, reader, "v", SubscribeOptions::default()).is_empty());
}
