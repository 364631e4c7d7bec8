//! `$exclusive/<filter>`: one session at a time, wherever it lives.

use super::*;

const TAKEN: [u8; 1] = [0x97];
const GRANTED: [u8; 1] = [1];

fn publish(bench: &mut Bench, from: Client, topic: &str) {
    let out = PublishOut { topic, payload: b"x", ..PublishOut::default() };
    bench.publish(from, Version::V5, &out);
}

fn held(bench: &Bench) -> usize {
    bench.shards.iter().map(Shard::exclusive_count).sum()
}

#[test]
fn one_session_has_a_filter_until_it_unsubscribes() {
    for count in 1..6 {
        let mut bench = Bench::new(count);
        let clients: Vec<_> =
            (0..6).map(|n| bench.connect(n % count, &format!("c{n}"), Version::V5)).collect();
        let publisher = bench.connect(0, "publisher", Version::V5);
        for filter in ["a/b", "a/#", "+/b", "x"] {
            let exclusive = format!("$exclusive/{filter}");
            for holder in &clients {
                assert_eq!(bench.subscribe(*holder, &[&exclusive]), GRANTED);
                for other in clients.iter().filter(|other| *other != holder) {
                    assert_eq!(bench.subscribe(*other, &[&exclusive]), TAKEN);
                    // What was refused is not there.
                    assert_eq!(bench.unsubscribe(*other, &exclusive), 0x11);
                }
                // The holder may ask again, with other options.
                assert_eq!(bench.subscribe(*holder, &[&exclusive]), GRANTED);
                assert_eq!(held(&bench), 1);
                publish(&mut bench, publisher, "a/b");
                let expected = usize::from(filter != "x");
                for client in &clients {
                    let expected = if client == holder { expected } else { 0 };
                    assert_eq!(bench.received(*client).len(), expected, "{count} {filter}");
                }
                assert_eq!(bench.unsubscribe(*holder, &exclusive), 0);
                assert_eq!(held(&bench), 0);
            }
        }
        publish(&mut bench, publisher, "a/b");
        assert!(clients.iter().all(|client| bench.received(*client).is_empty()));
    }
}

#[test]
fn the_end_of_the_session_frees_the_filter_and_a_lost_connection_does_not() {
    let mut bench = Bench::new(3);
    let other = bench.connect(0, "other", Version::V5);
    let mut connect =
        ConnectOut { version: Version::V5, client_id: "holder", ..ConnectOut::default() };
    connect.properties.session_expiry = Some(100);
    let holder = bench.connect_with(0, &connect);
    assert_eq!(bench.subscribe(holder, &["$exclusive/a/b"]), GRANTED);
    bench.shards[holder.0].end_of_input(holder.1);
    bench.pass(50);
    assert_eq!(bench.subscribe(other, &["$exclusive/a/b"]), TAKEN);
    bench.pass(51);
    assert_eq!(bench.subscribe(other, &["$exclusive/a/b"]), GRANTED);
}

#[test]
fn a_clean_start_asks_in_the_same_breath_and_gets_it() {
    for count in 1..6 {
        let mut bench = Bench::new(count);
        let connect = ConnectOut {
            version: Version::V5,
            client_id: "holder",
            clean_start: true,
            ..ConnectOut::default()
        };
        let holder = bench.connect_with(0, &connect);
        assert_eq!(bench.subscribe(holder, &["$exclusive/a/#"]), GRANTED);
        let again = bench.connect_with(0, &connect);
        assert_eq!(bench.subscribe(again, &["$exclusive/a/#"]), GRANTED, "{count}");
        // Both packets of one segment: the filter is given back before it is asked for.
        let options = SubscribeOptions::default();
        let mut bytes = Vec::new();
        for _ in 0..3 {
            let filters = ["$exclusive/a/#"];
            UnsubscribeOut { packet_id: PacketId::MIN, filters: &filters }
                .encode(Version::V5, &mut bytes);
            let filters = [(filters[0], options)];
            SubscribeOut { packet_id: PacketId::MIN, subscription_id: None, filters: &filters }
                .encode(Version::V5, &mut bytes);
        }
        bench.send(again, &bytes);
        let answers = bench.packets(again, |packet| match packet {
            Packet::Suback(suback) => suback.reasons().next().map(|reason| reason.0),
            _ => None,
        });
        assert_eq!(answers, [0, 0, 0]);
        assert_eq!(held(&bench), 1);
        let publisher = bench.connect(0, "publisher", Version::V5);
        publish(&mut bench, publisher, "a/b");
        assert_eq!(bench.received(again).len(), 1);
        bench.unsubscribe(again, "$exclusive/a/#");
        assert_eq!(held(&bench), 0);
    }
}

#[test]
fn plain_subscriptions_of_others_are_not_concerned() {
    let mut bench = Bench::new(2);
    let (one, other) = (bench.connect(0, "one", Version::V5), bench.connect(1, "o", Version::V5));
    assert_eq!(bench.subscribe(one, &["$exclusive/a"]), GRANTED);
    assert_eq!(bench.subscribe(other, &["a", "$share/g/a"]), [1, 1]);
    // One session has the filter either plain or exclusive.
    assert_eq!(bench.subscribe(one, &["a"]), [0x8f]);
    assert_eq!(bench.subscribe(other, &["$exclusive/a"]), [0x8f]);
    assert_eq!(bench.unsubscribe(one, "a"), 0x11);
    let publisher = bench.connect(0, "publisher", Version::V5);
    publish(&mut bench, publisher, "a");
    assert_eq!((bench.received(one).len(), bench.received(other).len()), (1, 2));
    assert_eq!(bench.unsubscribe(one, "$exclusive/a"), 0);
    assert_eq!(bench.subscribe(one, &["a"]), GRANTED);
}

#[test]
fn retained_messages_are_sent_for_it_and_limits_hold() {
    for count in 1..4 {
        let mut bench = Bench::with(count, |settings| settings.limits.subscriptions = 2);
        let client = bench.connect(0, "c", Version::V5);
        let out =
            PublishOut { topic: "a/b", payload: b"kept", retain: true, ..PublishOut::default() };
        bench.publish(client, Version::V5, &out);
        let filters = ["$exclusive/a/+", "$exclusive/b", "$exclusive/c", "$exclusive/"];
        assert_eq!(bench.subscribe(client, &filters), [1, 1, 0x97, 0x8f], "{count}");
        assert_eq!(bench.sum(|counters| counters.retained_replayed), 1);
    }
}

#[test]
fn switched_off_it_is_refused() {
    let mut bench = Bench::with(2, |settings| settings.topics.exclusive = false);
    let client = bench.connect(0, "c", Version::V5);
    assert_eq!(bench.subscribe(client, &["$exclusive/a"]), [0x8f]);
}
