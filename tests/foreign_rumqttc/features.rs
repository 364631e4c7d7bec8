//! The features of the matrix, each shown with rumqttc alone. Time that a feature is about goes by
//! until a message arrives that the broker was told to delay as long.

use crate::client::{Client, Message, Options, Version, Wish};
use crate::{ANSWER, Broker};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const MESSAGES: usize = 50;
const CLIENTS: usize = 200;

/// One row of the matrix.
pub struct Feature {
    pub name: &'static str,
    versions: &'static [Version],
    pub show: fn(&Broker, Version),
    /// Not beside others.
    pub alone: bool,
}

const BOTH: &[Version] = &[Version::V311, Version::V5];
const FIVE: &[Version] = &[Version::V5];

const fn feature(
    name: &'static str,
    versions: &'static [Version],
    show: fn(&Broker, Version),
) -> Feature {
    Feature { name, versions, show, alone: false }
}

const FEATURES: &[Feature] = &[
    feature("connect", BOTH, connect),
    feature("clean session", BOTH, clean_session),
    feature("persistent session", BOTH, persistent_session),
    feature("QoS 0", BOTH, |broker, version| quality(broker, version, 0)),
    feature("QoS 1", BOTH, |broker, version| quality(broker, version, 1)),
    feature("QoS 2", BOTH, |broker, version| quality(broker, version, 2)),
    feature("retained", BOTH, retained),
    feature("will", BOTH, will),
    feature("will delay", FIVE, will_delay),
    feature("shared subscription", BOTH, shared_subscription),
    feature("topic alias in", FIVE, alias_in),
    feature("topic alias out", FIVE, alias_out),
    feature("user properties", FIVE, user_properties),
    feature("message expiry", FIVE, message_expiry),
    feature("session expiry", FIVE, session_expiry),
    feature("subscription identifier", FIVE, subscription_identifier),
    feature("no-local", FIVE, no_local),
    feature("retain handling", FIVE, retain_handling),
    feature("request/response", FIVE, request_response),
    // Of MQTT 5 rumqttc allows none below 5 seconds.
    feature("keep-alive", &[Version::V311], keep_alive),
    feature("take-over", BOTH, take_over),
    feature("payload of 1 MB", BOTH, large_payload),
    Feature { alone: true, ..feature("200 clients", BOTH, crowd) },
    feature("$SYS", BOTH, sys),
    feature("$delayed", BOTH, delayed),
    feature("$exclusive", BOTH, exclusive),
];

/// Every feature in every version that has it.
pub fn all() -> impl Iterator<Item = (&'static Feature, Version)> {
    FEATURES.iter().flat_map(|feature| feature.versions.iter().map(move |v| (feature, *v)))
}

/// A name that nothing else and no earlier run used.
fn unique(name: &str) -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{serial}", std::process::id())
}

/// A topic below one that nothing else uses.
fn topic(level: &str) -> String {
    format!("rumqttc/{}/{level}", unique("topic"))
}

fn open(broker: &Broker, version: Version) -> Client {
    Client::open(broker, version, &unique("client"), Options::default()).0
}

fn lasting() -> Options {
    Options { lasting: true, ..Options::default() }
}

/// Lets seconds go by on the broker's clock.
fn elapse(broker: &Broker, version: Version, seconds: u32) {
    let (clock, topic) = (open(broker, version), topic("clock"));
    clock.subscribe(&topic, 1);
    clock.publish(&format!("$delayed/{seconds}/{topic}"), 1, "now");
    clock.message();
}

fn text(topic: &str, payload: &str) -> Message {
    Message { topic: topic.to_owned(), payload: payload.to_owned(), ..Message::default() }
}

fn connect(broker: &Broker, version: Version) {
    let (client, present) = Client::open(broker, version, &unique("client"), Options::default());
    assert!(!present, "a session of a new client id");
    client.disconnect();
}

fn clean_session(broker: &Broker, version: Version) {
    let id = unique("clean");
    let (client, _) = Client::open(broker, version, &id, lasting());
    client.subscribe(&topic("t"), 1);
    client.disconnect();
    let (client, present) = Client::open(broker, version, &id, lasting());
    assert!(present, "the session is gone");
    client.disconnect();
    let (client, present) = Client::open(broker, version, &id, Options::default());
    assert!(!present, "the session is still there");
    client.disconnect();
    assert!(!Client::open(broker, version, &id, lasting()).1, "it is back");
}

fn persistent_session(broker: &Broker, version: Version) {
    let topic = topic("queued");
    let id = unique("lasting");
    let (client, present) = Client::open(broker, version, &id, lasting());
    assert!(!present, "a session of a new client id");
    client.subscribe(&topic, 2);
    client.disconnect();
    let publisher = open(broker, version);
    for number in 0..MESSAGES {
        publisher.publish(&topic, 2, &number.to_string());
    }
    let (client, present) = Client::open(broker, version, &id, lasting());
    assert!(present, "the session is gone");
    for number in 0..MESSAGES {
        assert_eq!(client.message(), Message { qos: 2, ..text(&topic, &number.to_string()) });
    }
}

fn quality(broker: &Broker, version: Version, qos: u8) {
    let topic = topic("t");
    let (subscriber, publisher) = (open(broker, version), open(broker, version));
    subscriber.subscribe(&topic, qos);
    for number in 0..MESSAGES {
        publisher.publish(&topic, qos, &number.to_string());
    }
    for number in 0..MESSAGES {
        assert_eq!(subscriber.message(), Message { qos, ..text(&topic, &number.to_string()) });
    }
}

fn retained(broker: &Broker, version: Version) {
    let topic = topic("kept");
    let kept = Message { qos: 1, retain: true, ..text(&topic, "kept") };
    open(broker, version).send(&kept);
    let late = open(broker, version);
    late.subscribe(&topic.replace("kept", "+"), 1);
    assert_eq!(late.message(), kept);
    late.send(&Message { payload: String::new(), ..kept.clone() });
    assert_eq!(late.message(), Message { qos: 1, ..text(&topic, "") });
    let later = open(broker, version);
    later.subscribe(&topic, 1);
    later.publish(&topic, 1, "live");
    assert_eq!(later.message(), Message { qos: 1, ..text(&topic, "live") });
}

fn will(broker: &Broker, version: Version) {
    let topic = topic("will");
    let watcher = open(broker, version);
    watcher.subscribe(&topic, 1);
    let options = Options { will: Some(topic.clone()), ..Options::default() };
    Client::open(broker, version, &unique("leaves"), options.clone()).0.disconnect();
    watcher.publish(&topic, 1, "none so far");
    assert_eq!(watcher.message().payload, "none so far");
    Client::open(broker, version, &unique("lost"), options).0.lose();
    assert_eq!(watcher.message(), Message { qos: 1, ..text(&topic, "gone") });
}

fn will_delay(broker: &Broker, version: Version) {
    let topic = topic("will");
    let watcher = open(broker, version);
    watcher.subscribe(&topic, 1);
    let (will, will_delay_s) = (Some(topic.clone()), Some(2));
    let options = Options { will, will_delay_s, ..lasting() };
    Client::open(broker, version, &unique("lost"), options.clone()).0.lose();
    watcher.publish(&topic, 1, "not yet");
    assert_eq!(watcher.message().payload, "not yet");
    assert_eq!(watcher.message().payload, "gone");
    let id = unique("back");
    Client::open(broker, version, &id, options.clone()).0.lose();
    let (_back, present) = Client::open(broker, version, &id, options);
    assert!(present);
    elapse(broker, version, 3);
    watcher.publish(&topic, 1, "cancelled");
    assert_eq!(watcher.message().payload, "cancelled");
}

fn shared_subscription(broker: &Broker, version: Version) {
    let topic = topic("work");
    let members = [open(broker, version), open(broker, version)];
    for member in &members {
        member.subscribe(&format!("$share/{}/{topic}", unique("group").replace('-', "_")), 1);
    }
    let group = format!("$share/workers/{topic}");
    let pair = [open(broker, version), open(broker, version)];
    pair.iter().for_each(|member| member.subscribe(&group, 1));
    let publisher = open(broker, version);
    for number in 0..MESSAGES {
        publisher.publish(&topic, 1, &number.to_string());
    }
    for member in &members {
        let got: Vec<_> = (0..MESSAGES).map(|_| member.message().payload).collect();
        assert_eq!(got, (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>());
    }
    // What both are sent after everything else ends what each of the pair got.
    let end = topic.replace("work", "end");
    pair.iter().for_each(|member| member.subscribe(&end, 1));
    publisher.publish(&end, 1, "end");
    let until_end = |member: &Client| {
        let all = std::iter::from_fn(|| Some(member.message().payload));
        all.take_while(|payload| payload != "end").collect::<Vec<_>>()
    };
    let mut got: Vec<usize> =
        pair.iter().flat_map(until_end).map(|n| n.parse().expect("a number")).collect();
    got.sort_unstable();
    assert_eq!(got, (0..MESSAGES).collect::<Vec<_>>(), "each to one of the two");
}

fn alias_in(broker: &Broker, version: Version) {
    let topic = topic("aliased");
    let client = open(broker, version);
    client.subscribe(&topic, 1);
    client.send(&Message { qos: 1, alias: Some(3), ..text(&topic, "one") });
    client.send(&Message { qos: 1, alias: Some(3), ..text("", "two") });
    for payload in ["one", "two"] {
        assert_eq!(client.message(), Message { qos: 1, ..text(&topic, payload) });
    }
}

fn alias_out(broker: &Broker, version: Version) {
    let topic = topic("aliased");
    let options = Options { aliases: Some(5), ..Options::default() };
    let (client, _) = Client::open(broker, version, &unique("client"), options);
    client.subscribe(&topic, 1);
    let publisher = open(broker, version);
    (0..10).for_each(|number: usize| publisher.publish(&topic, 1, &number.to_string()));
    let got: Vec<Message> = (0..10).map(|_| client.message()).collect();
    // rumqttc shows the packets as they came.
    let given = got.iter().find(|message| message.alias.is_some()).expect("an alias").alias;
    let named = |message: &Message| message.topic == topic;
    let short = |message: &Message| message.topic.is_empty() && message.alias == given;
    assert!(got.iter().all(|message| named(message) || short(message)), "{got:?}");
    assert!(got.iter().filter(|message| short(message)).count() > 5, "{got:?}");
}

fn user_properties(broker: &Broker, version: Version) {
    let topic = topic("marked");
    let client = open(broker, version);
    client.subscribe(&topic, 1);
    let user = [("b", "1"), ("a", "2"), ("b", "3")];
    let user = user.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let sent = Message { qos: 1, user, ..text(&topic, "text") };
    client.send(&sent);
    assert_eq!(client.message(), sent);
}

fn message_expiry(broker: &Broker, version: Version) {
    let topic = topic("expiring");
    let id = unique("away");
    let (client, _) = Client::open(broker, version, &id, lasting());
    client.subscribe(&topic, 1);
    client.disconnect();
    let publisher = open(broker, version);
    for (payload, seconds) in [("short", 1), ("long", 1000)] {
        publisher.send(&Message { qos: 1, expiry_s: Some(seconds), ..text(&topic, payload) });
    }
    elapse(broker, version, 2);
    let (client, _) = Client::open(broker, version, &id, lasting());
    let got = client.message();
    assert_eq!(got.payload, "long");
    let left = got.expiry_s.expect("an expiry");
    assert!((900..=998).contains(&left), "{left}");
}

fn session_expiry(broker: &Broker, version: Version) {
    let id = unique("expiring");
    let for_s = |seconds| Options { expiry_s: Some(seconds), ..lasting() };
    Client::open(broker, version, &id, for_s(1)).0.disconnect();
    let other = unique("lasting");
    Client::open(broker, version, &other, for_s(1000)).0.disconnect();
    elapse(broker, version, 3);
    assert!(!Client::open(broker, version, &id, for_s(1)).1, "it outlived its expiry");
    assert!(Client::open(broker, version, &other, for_s(1)).1, "it ended too early");
}

fn subscription_identifier(broker: &Broker, version: Version) {
    let topic = topic("numbered");
    let client = open(broker, version);
    for (filter, identifier) in [(topic.clone(), 7), (topic.replace("numbered", "+"), 300_000)] {
        let wish = Wish { qos: 1, identifier: Some(identifier), ..Wish::default() };
        assert_eq!(client.try_subscribe(&filter, wish), Some(1));
    }
    client.publish(&topic, 1, "text");
    let mut got = client.message().identifiers;
    got.sort_unstable();
    assert_eq!(got, [7, 300_000]);
}

fn no_local(broker: &Broker, version: Version) {
    let topic = topic("echo");
    let (client, other) = (open(broker, version), open(broker, version));
    client.try_subscribe(&topic, Wish { qos: 1, no_local: true, ..Wish::default() });
    client.publish(&topic, 1, "own");
    other.publish(&topic, 1, "other");
    assert_eq!(client.message().payload, "other");
}

fn retain_handling(broker: &Broker, version: Version) {
    let topic = topic("kept");
    open(broker, version).send(&Message { qos: 1, retain: true, ..text(&topic, "kept") });
    let client = open(broker, version);
    // Never, new, known, always: the second and the fourth bring the message.
    for (handling, brings) in [(2, false), (1, false), (0, true)] {
        client.try_subscribe(&topic, Wish { qos: 1, handling, ..Wish::default() });
        if brings {
            assert_eq!(client.message().payload, "kept");
        }
        client.publish(&topic, 1, "live");
        assert_eq!(client.message().payload, "live", "handling {handling}");
    }
    let client = open(broker, version);
    client.try_subscribe(&topic, Wish { qos: 1, handling: 1, ..Wish::default() });
    assert_eq!(client.message().payload, "kept");
}

fn request_response(broker: &Broker, version: Version) {
    let (question, answer) = (topic("question"), topic("answer"));
    let (asking, answering) = (open(broker, version), open(broker, version));
    answering.subscribe(&question, 1);
    asking.subscribe(&answer, 1);
    asking.send(&Message {
        qos: 1,
        response_topic: Some(answer.clone()),
        correlation: Some(vec![0, 1, 255]),
        ..text(&question, "how many?")
    });
    let asked = answering.message();
    let topic = asked.response_topic.expect("a response topic");
    let correlation = asked.correlation;
    answering.send(&Message { qos: 1, correlation, ..text(&topic, "three") });
    let got = asking.message();
    assert_eq!((got.payload.as_str(), got.correlation), ("three", Some(vec![0, 1, 255])));
}

fn keep_alive(broker: &Broker, version: Version) {
    let topic = topic("alive");
    let options = Options { keep_alive_s: Some(1), ..Options::default() };
    let (client, _) = Client::open(broker, version, &unique("client"), options);
    client.subscribe(&topic, 1);
    elapse(broker, version, 4);
    open(broker, version).publish(&topic, 1, "still here");
    assert_eq!(client.message().payload, "still here");
}

fn take_over(broker: &Broker, version: Version) {
    let id = unique("twice");
    let (first, _) = Client::open(broker, version, &id, lasting());
    let (second, present) = Client::open(broker, version, &id, lasting());
    assert!(present, "the session is taken over");
    first.expect_end();
    let topic = topic("t");
    second.subscribe(&topic, 1);
    second.publish(&topic, 1, "works");
    assert_eq!(second.message().payload, "works");
}

fn large_payload(broker: &Broker, version: Version) {
    let topic = topic("large");
    let client = open(broker, version);
    let payload = "0123456789".repeat(100_000);
    client.subscribe(&topic, 2);
    for qos in 0..=2 {
        client.publish(&topic, qos, &payload);
        let got = client.message();
        assert!(got.qos == qos && got.payload == payload, "QoS {qos}: {}", got.payload.len());
    }
}

fn crowd(broker: &Broker, version: Version) {
    let clients: Vec<Client> = (0..CLIENTS).map(|_| open(broker, version)).collect();
    let topics: Vec<String> = (0..CLIENTS).map(|_| topic("own")).collect();
    for (client, topic) in clients.iter().zip(&topics) {
        client.subscribe(topic, 1);
    }
    for number in 0..5 {
        for (at, client) in clients.iter().enumerate() {
            client.publish(&topics[(at + 1) % CLIENTS], 0, &format!("{at}.{number}"));
        }
    }
    for (at, client) in clients.iter().enumerate() {
        for number in 0..5 {
            let before = (at + CLIENTS - 1) % CLIENTS;
            assert_eq!(client.message().payload, format!("{before}.{number}"));
        }
    }
}

fn sys(broker: &Broker, version: Version) {
    let client = open(broker, version);
    client.subscribe("$SYS/broker/uptime", 0);
    // A broker that has just started tells nothing before its first interval of ten seconds.
    let got = client.message_within(Duration::from_secs(15));
    assert!(got.topic == "$SYS/broker/uptime" && !got.payload.is_empty(), "{got:?}");
}

fn delayed(broker: &Broker, version: Version) {
    let (soon, late) = (topic("soon"), topic("late"));
    let client = open(broker, version);
    client.subscribe(&soon, 1);
    client.subscribe(&late, 1);
    client.publish(&format!("$delayed/1/{late}"), 1, "late");
    client.publish(&soon, 1, "soon");
    assert_eq!(client.message(), Message { qos: 1, ..text(&soon, "soon") });
    assert_eq!(client.message(), Message { qos: 1, ..text(&late, "late") });
}

fn exclusive(broker: &Broker, version: Version) {
    let topic = topic("mine");
    let filter = format!("$exclusive/{topic}");
    let (owner, other) = (open(broker, version), open(broker, version));
    owner.subscribe(&filter, 1);
    assert_eq!(other.try_subscribe(&filter, Wish { qos: 1, ..Wish::default() }), None);
    other.publish(&topic, 1, "text");
    assert_eq!(owner.message().payload, "text");
    owner.disconnect();
    // The core that knows who has it hears of the end a moment later.
    let deadline = Instant::now() + ANSWER;
    while other.try_subscribe(&filter, Wish { qos: 1, ..Wish::default() }) != Some(1) {
        assert!(Instant::now() < deadline, "never free again");
    }
}
