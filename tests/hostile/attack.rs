//! What misbehaving connections send.

use crate::broker::{connect, id};
use corelane::base::Prng;
use corelane::codec::{
    self, Connect, Disconnect, PacketType, PropertyId, PublishOut, QoS, ReasonCode,
    SubscribeOptions, SubscribeOut, UnsubscribeOut, Value, Version, Will,
};

/// How a misbehaving connection goes on after its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Closes at once.
    Close,
    /// Stays, says nothing more and reads nothing.
    Stay,
    /// Sends byte by byte, slower than the broker waits.
    Drip,
    /// The broker closes, for this reason.
    Closed(ReasonCode),
}

pub struct Attack {
    pub what: String,
    /// Sends a good CONNECT first.
    pub connects: bool,
    pub bytes: Vec<u8>,
    pub then: Then,
    /// Costs so much that it need not come in every round.
    pub seldom: bool,
}

fn attack(what: &str, connects: bool, bytes: Vec<u8>, then: Then) -> Attack {
    Attack { what: what.to_owned(), connects, bytes, then, seldom: then == Then::Drip }
}

/// A first byte and a body with its length.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut out, mut len) = (vec![first], body.len());
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(body);
    out
}

fn publish(topic: &str, alias: Option<u16>, forwarded: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let packet_id = Some(id(9));
    let qos = QoS::AtLeastOnce;
    PublishOut { qos, topic, alias, packet_id, forwarded, payload: b"x", ..PublishOut::default() }
        .encode(Version::V5, &mut out);
    out
}

fn subscribe(filters: &[(&str, SubscribeOptions)]) -> Vec<u8> {
    let mut out = Vec::new();
    SubscribeOut { packet_id: id(7), subscription_id: None, filters }.encode(Version::V5, &mut out);
    out
}

/// A good packet of each type, by name.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let will = Will { topic: "w/t", payload: b"gone", ..Will::default() };
    let mut full = Vec::new();
    let (username, password) = (Some("user"), Some(&b"secret"[..]));
    Connect {
        version: Version::V5,
        client_id: "sample",
        will: Some(will),
        username,
        password,
        ..Connect::default()
    }
    .encode(&mut full);
    let mut user = Vec::new();
    codec::put_property(&mut user, PropertyId::UserProperty, Value::Pair("k", "v"));
    let mut unsubscribe = Vec::new();
    UnsubscribeOut { packet_id: id(3), filters: &["a/b"] }.encode(Version::V5, &mut unsubscribe);
    let mut leave = Vec::new();
    let reason_string = Some("enough");
    let reason = ReasonCode::DISCONNECT_WITH_WILL;
    Disconnect { reason, reason_string, ..Disconnect::default() }.encode(Version::V5, &mut leave);
    let mut samples = vec![
        ("CONNECT", full),
        ("PUBLISH", publish("t/opic", None, &user)),
        ("SUBSCRIBE", subscribe(&[("a/+", SubscribeOptions::default())])),
        ("UNSUBSCRIBE", unsubscribe),
        ("DISCONNECT", leave),
        ("PINGREQ", vec![0xc0, 0]),
        ("AUTH", packet(0xf0, &[0x18, 6, 0x15, 0, 3, b'a', b'b', b'c'])),
        ("CONNACK", vec![0x20, 3, 0, 0, 0]),
    ];
    for (name, kind) in [
        ("PUBACK", PacketType::Puback),
        ("PUBREC", PacketType::Pubrec),
        ("PUBREL", PacketType::Pubrel),
        ("PUBCOMP", PacketType::Pubcomp),
    ] {
        let mut out = Vec::new();
        let reason = match kind {
            PacketType::Puback | PacketType::Pubrec => ReasonCode::UNSPECIFIED_ERROR,
            _ => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        };
        codec::encode_ack(kind, Version::V5, id(4), reason, Some("why"), &mut out);
        samples.push((name, out));
    }
    samples
}

/// Every sample cut at every byte.
fn truncations(attacks: &mut Vec<Attack>) {
    for (name, sample) in samples() {
        for end in 0..sample.len() {
            let bytes = sample[..end].to_vec();
            let connects = name != "CONNECT";
            let what = format!("{name} cut at {end}");
            attacks.push(attack(&what, connects, bytes.clone(), Then::Close));
            attacks.push(attack(&what, connects, bytes, Then::Stay));
        }
        // The same with a length that fits: the packet is whole and ends inside a field.
        for end in 0..sample.len() - 2 {
            let what = format!("{name} ending after {end}");
            let bytes = packet(sample[0], &sample[2..2 + end]);
            attacks.push(attack(&what, name != "CONNECT", bytes, Then::Close));
        }
    }
}

fn oversized(attacks: &mut Vec<Attack>) {
    use ReasonCode as R;
    let long = "t".repeat(65_535);
    let deep = "l/".repeat(200);
    let mut crowd = Vec::new();
    for _ in 0..10_000 {
        codec::put_property(&mut crowd, PropertyId::UserProperty, Value::Pair("key", "value"));
    }
    let names: Vec<String> = (0..10_000).map(|at| format!("many/{at}")).collect();
    let options = SubscribeOptions::default();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), options)).collect();
    let mut out = vec![
        ("length beyond four bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], R::MALFORMED_PACKET),
        ("needless length bytes", vec![0xc0, 0x80, 0], R::MALFORMED_PACKET),
        ("a quarter gigabyte", vec![0x30, 0xff, 0xff, 0xff, 0x7f], R::PACKET_TOO_LARGE),
        ("200 levels", publish(&deep, None, &[]), R::TOPIC_NAME_INVALID),
        ("alias 0", publish("t", Some(0), &[]), R::TOPIC_ALIAS_INVALID),
        ("alias out of range", publish("t", Some(60_000), &[]), R::TOPIC_ALIAS_INVALID),
        ("unknown alias", publish("", Some(3), &[]), R::PROTOCOL_ERROR),
        ("packet identifier 0", packet(0x32, &[0, 1, b't', 0, 0, 0]), R::PROTOCOL_ERROR),
        ("QoS 3", packet(0x36, &[0, 1, b't', 0, 1, 0]), R::MALFORMED_PACKET),
        ("a second CONNECT", connect(Version::V5, "second"), R::PROTOCOL_ERROR),
        ("SUBACK from a client", packet(0x90, &[0, 1, 0, 0]), R::PROTOCOL_ERROR),
        ("wildcard in a topic", publish("a/#", None, &[]), R::TOPIC_NAME_INVALID),
        ("topic that is not UTF-8", packet(0x30, &[0, 1, 0xff, 0]), R::MALFORMED_PACKET),
    ];
    for (what, bytes, reason) in out.drain(..) {
        attacks.push(attack(what, true, bytes, Then::Closed(reason)));
    }
    attacks.push(attack("65,535 bytes of topic", true, publish(&long, None, &[]), Then::Stay));
    attacks.push(attack("10,000 properties", true, publish("t", None, &crowd), Then::Stay));
    attacks.push(attack("10,000 filters", true, subscribe(&many), Then::Stay));
    let first = publish("t", None, &[]);
    attacks.push(attack("no CONNECT", false, first, Then::Closed(R::PROTOCOL_ERROR)));
    let other = packet(0x10, &[0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 0]);
    let reason = R::UNSUPPORTED_PROTOCOL_VERSION;
    attacks.push(attack("version 9", false, other, Then::Closed(reason)));
}

/// Those who make the broker write and never read.
fn deaf(attacks: &mut Vec<Attack>) {
    let mut drowning = |what: &str, bytes: Vec<u8>| {
        attacks.push(Attack { seldom: true, ..attack(what, true, bytes, Then::Stay) });
    };
    let payload = vec![7; 16 * 1024];
    for (what, filter, qos, count) in [
        ("drowned in QoS 0", "flood/+", QoS::AtMostOnce, 64),
        ("drowned in QoS 1", "flood/+", QoS::AtLeastOnce, 64),
        ("drowned in the messages of all", "flood/#", QoS::AtMostOnce, 1),
    ] {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let mut flood = subscribe(&[(filter, options)]);
        for number in 0..count {
            let packet_id = (qos != QoS::AtMostOnce).then(|| id(100 + number));
            PublishOut {
                topic: "flood/x",
                qos,
                packet_id,
                payload: &payload,
                ..Default::default()
            }
            .encode(Version::V5, &mut flood);
        }
        drowning(what, flood);
    }
    drowning("drowned in pings", [0xc0, 0].repeat(50_000));
    let again = subscribe(&[("again/and/again", SubscribeOptions::default())]);
    drowning("drowned in subscriptions", again.repeat(5_000));
    let mut unknown = Vec::new();
    for number in 1..=20_000 {
        let kind = PacketType::Pubrel;
        let reason = ReasonCode::SUCCESS;
        codec::encode_ack(kind, Version::V5, id(number), reason, None, &mut unknown);
    }
    drowning("drowned in releases", unknown);
}

/// Those who send byte by byte: a CONNECT that never comes, packets that never end.
fn drips(attacks: &mut Vec<Attack>) {
    let (sparse, crowded) = (connect(Version::V5, "drip"), connect(Version::V5, &"d".repeat(300)));
    for (what, bytes) in [("a dripping CONNECT", &sparse), ("a long dripping CONNECT", &crowded)] {
        attacks.push(attack(what, false, bytes[..bytes.len() - 1].to_vec(), Then::Drip));
    }
    attacks.push(attack("a dripping length", false, vec![0x10, 0xff, 0x7f], Then::Drip));
    attacks.push(attack("one byte and no more", false, vec![0x10], Then::Drip));
}

/// Everything that misbehaving connections do.
pub fn all() -> Vec<Attack> {
    let mut attacks = Vec::new();
    truncations(&mut attacks);
    oversized(&mut attacks);
    noise(&mut Prng::new(1), &mut attacks);
    drips(&mut attacks);
    deaf(&mut attacks);
    attacks
}

/// Random bytes, half of them behind a good first byte.
fn noise(random: &mut Prng, attacks: &mut Vec<Attack>) {
    for round in 0..200 {
        let mut bytes: Vec<u8> =
            (0..1 + random.below(64)).map(|_| random.below(256) as u8).collect();
        if round % 2 == 0 {
            bytes = packet(bytes[0] & 0xf0 | 0x02, &bytes);
        }
        let then = if round % 5 == 0 { Then::Stay } else { Then::Close };
        attacks.push(attack("noise", round % 3 != 0, bytes, then));
    }
}
