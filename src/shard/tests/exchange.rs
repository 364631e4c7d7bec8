//! Enhanced authentication with SCRAM: before the CONNACK and again later.

use super::wire::{message, packets, read};
use super::{Bench, Client, Settings};
use crate::access::{HashedPassword, Policy, ScramHash, ScramKeys, Users, client_final};
use crate::codec::{
    Auth, Connack, ConnackOut, ConnectOut, ConnectProperties, Disconnect, Packet, QoS, ReasonCode,
    Version, encode_pingreq,
};
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

const METHOD: &str = "SCRAM-SHA-256";

/// Users `ann` and `bob`, whose password is `right`.
pub(super) fn users() -> &'static Users {
    static USERS: OnceLock<Users> = OnceLock::new();
    USERS.get_or_init(|| {
        let keys = ScramKeys::new(ScramHash::Sha256, b"right", [7; 16]);
        let hash = HashedPassword::scram(keys).to_text();
        Users::parse(&format!("ann:{hash}:red\nbob:{hash}\n")).expect("valid")
    })
}

fn asking(settings: &mut Settings) {
    settings.policy = Arc::new(Policy { asks: [true].into(), ..Policy::default() });
    settings.doors.anonymous = vec![false];
}

fn first(user: &str) -> String {
    format!("n={user},r=client")
}

fn with_method<'a>(client_id: &'a str, method: &'a str, data: &'a [u8]) -> ConnectOut<'a> {
    let properties = ConnectProperties {
        authentication_method: Some(method),
        authentication_data: Some(data),
        ..ConnectProperties::default()
    };
    ConnectOut { version: Version::V5, client_id, properties, ..ConnectOut::default() }
}

fn auth(reason: ReasonCode, method: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Auth { reason, method: Some(method), data: Some(data), reason_string: None }.encode(&mut bytes);
    bytes
}

/// Sends bytes on a connection that may move meanwhile; what comes back, packet by packet.
fn send(bench: &mut Bench, client: &mut Client, bytes: &[u8]) -> Vec<Vec<u8>> {
    bench.shards[client.0].receive(client.1, bytes);
    bench.settle(client);
    packets(&bench.output(*client))
}

/// Begins an exchange; the connection and the server's first message.
fn begin(bench: &mut Bench, client_id: &str, user: &str) -> (Client, String) {
    let data = format!("n,,{}", first(user));
    let client = bench.connect_with(0, &with_method(client_id, METHOD, data.as_bytes()));
    let answer = bench.output(client);
    let server_first = asked(&packets(&answer));
    (client, server_first)
}

/// What an AUTH asks for that goes on.
fn asked(answers: &[Vec<u8>]) -> String {
    let [answer] = answers else { panic!("one packet, not {answers:?}") };
    let Packet::Auth(auth) = read(answer, Version::V5) else { panic!("no AUTH: {answer:?}") };
    assert_eq!(auth.reason, ReasonCode::CONTINUE_AUTHENTICATION);
    assert_eq!(auth.method, Some(METHOD));
    String::from_utf8(auth.data.expect("a message").to_vec()).expect("text")
}

fn last(password: &str, user: &str, server_first: &str) -> (String, String) {
    client_final(ScramHash::Sha256, password, ("n,,", &first(user)), server_first)
}

fn connack(answers: &[Vec<u8>]) -> Connack<'_> {
    let Some(Packet::Connack(connack)) = answers.first().map(|one| read(one, Version::V5)) else {
        panic!("no CONNACK: {answers:?}")
    };
    connack
}

/// Logs in.
fn login(bench: &mut Bench, client_id: &str, user: &str) -> Client {
    let (mut client, server_first) = begin(bench, client_id, user);
    let (message, _) = last("right", user, &server_first);
    let step = auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, message.as_bytes());
    let answers = send(bench, &mut client, &step);
    assert_eq!(connack(&answers).reason, ReasonCode::SUCCESS);
    client
}

#[test]
fn an_exchange_ends_with_a_connack_wherever_the_client_is_at_home() {
    // [MQTT-4.12.0-2], [MQTT-4.12.0-5], [MQTT-3.15.2-1]
    for (cut, client_id) in [(1, "a"), (7, "b"), (1000, "c"), (1, "d"), (1000, "e"), (1000, "")] {
        let mut bench = Bench::with(2, asking);
        let (mut client, server_first) = begin(&mut bench, client_id, "ann");
        let (message, expected) = last("right", "ann", &server_first);
        let mut bytes = auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, message.as_bytes());
        encode_pingreq(&mut bytes);
        let mut answers = Vec::new();
        for piece in bytes.chunks(cut) {
            answers.extend(send(&mut bench, &mut client, piece));
        }
        let accepted = connack(&answers);
        assert_eq!(accepted.reason, ReasonCode::SUCCESS);
        assert_eq!(accepted.authentication_method, Some(METHOD));
        assert_eq!(accepted.authentication_data, Some(expected.as_bytes()));
        assert_eq!(answers.len(), 2, "what came behind the exchange is answered");
        assert_eq!(bench.sum(|counters| counters.credentials_asked), 1);
    }
}

#[test]
fn who_does_not_prove_it_is_refused() {
    // [MQTT-4.12.0-4]
    let mut bench = Bench::with(2, asking);
    for (user, password) in [("ann", "wrong"), ("nobody", "right"), ("nobody", "")] {
        let (mut client, server_first) = begin(&mut bench, "c", user);
        let (message, _) = last(password, user, &server_first);
        let step = auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, message.as_bytes());
        let answers = send(&mut bench, &mut client, &step);
        let reason = connack(&answers).reason;
        assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD, "{user}");
        assert!(bench.is_closing(client));
    }
    assert_eq!(bench.sum(|counters| counters.credentials_wrong), 3);
    for (method, data, reason) in [
        (METHOD, &b"n,,"[..], ReasonCode::BAD_USER_NAME_OR_PASSWORD),
        ("SCRAM-SHA-512", b"n,,n=ann,r=x", ReasonCode::BAD_AUTHENTICATION_METHOD),
        ("PLAIN", b"x", ReasonCode::BAD_AUTHENTICATION_METHOD),
    ] {
        let client = bench.connect_with(0, &with_method("c", method, data));
        let answer = bench.output(client);
        assert_eq!(connack(&packets(&answer)).reason, reason, "{method}");
        assert!(bench.is_closing(client));
    }
    // Where nobody is asked, no method is offered.
    let mut bench = Bench::new(1);
    let client = bench.connect_with(0, &with_method("c", METHOD, b"n,,n=ann,r=x"));
    let answer = bench.output(client);
    let reason = connack(&packets(&answer)).reason;
    assert_eq!(reason, ReasonCode::BAD_AUTHENTICATION_METHOD);
}

#[test]
fn nothing_but_auth_goes_on_with_an_exchange() {
    let mut bench = Bench::with(2, asking);
    let good = "c=biws,r=clientserver-nonce,p=AAAA";
    let mut ping = Vec::new();
    encode_pingreq(&mut ping);
    let mut connack = Vec::new();
    ConnackOut::default().encode(Version::V5, &mut connack);
    let mut publish = Vec::new();
    message("a", QoS::AtLeastOnce, 1, b"x").encode(Version::V5, &mut publish);
    for bytes in [
        ping,
        connack,
        publish,
        vec![0xf1, 0],
        vec![0xf0, 0],
        vec![0xf0, 0xff, 0xff, 0xff, 0xff],
        auth(ReasonCode::SUCCESS, METHOD, good.as_bytes()),
        auth(ReasonCode::RE_AUTHENTICATE, METHOD, good.as_bytes()),
        auth(ReasonCode::CONTINUE_AUTHENTICATION, "SCRAM-SHA-512", good.as_bytes()),
    ] {
        let (mut client, _) = begin(&mut bench, "c", "ann");
        let answers = send(&mut bench, &mut client, &bytes);
        // Before a CONNACK a server has no DISCONNECT to send.
        assert_eq!(answers, Vec::<Vec<u8>>::new(), "{bytes:?}");
        assert!(bench.is_closing(client), "{bytes:?}");
    }
    let (mut client, _) = begin(&mut bench, "c", "ann");
    let mut leave = Vec::new();
    Disconnect::default().encode(Version::V5, &mut leave);
    assert_eq!(send(&mut bench, &mut client, &leave), Vec::<Vec<u8>>::new());
    assert!(bench.is_closing(client), "it may leave");
    assert_eq!(bench.sum(|counters| counters.connects), 0);
    // All of it came from connections that are gone: nothing is left of their bytes.
    assert!(bench.shards.iter().all(|shard| shard.clients.unfinished == 0));
}

#[test]
fn an_exchange_that_the_client_cannot_take_ends() {
    let mut bench = Bench::with(1, asking);
    let mut connect = with_method("c", METHOD, b"n,,n=ann,r=client");
    connect.properties.maximum_packet_size = NonZeroU32::new(40);
    let client = bench.connect_with(0, &connect);
    assert!(bench.output(client).is_empty() && bench.is_closing(client));
}

#[test]
fn a_client_proves_itself_again_and_stays_who_it_is() {
    // [MQTT-4.12.1-1]
    let mut bench = Bench::with(2, asking);
    let mut ann = login(&mut bench, "c", "ann");
    for _ in 0..2 {
        let data = format!("n,,{}", first("ann"));
        let again = auth(ReasonCode::RE_AUTHENTICATE, METHOD, data.as_bytes());
        let server_first = asked(&send(&mut bench, &mut ann, &again));
        // Meanwhile everything goes on.
        let out = message("a", QoS::AtLeastOnce, 1, b"x");
        assert!(bench.publish(ann, Version::V5, &out).is_some());
        let (message, expected) = last("right", "ann", &server_first);
        let step = auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, message.as_bytes());
        let answers = send(&mut bench, &mut ann, &step);
        assert_eq!(answers, [auth(ReasonCode::SUCCESS, METHOD, expected.as_bytes())]);
    }
    assert!(!bench.is_closing(ann));
}

#[test]
fn a_failed_proof_of_a_connected_client_ends_its_connection() {
    // [MQTT-4.12.1-2]
    let goodbye = |answers: &[Vec<u8>]| match answers.last().map(|one| read(one, Version::V5)) {
        Some(Packet::Disconnect(packet)) => packet.reason,
        other => panic!("no DISCONNECT: {other:?}"),
    };
    let mut bench = Bench::with(2, asking);
    for (user, password) in [("ann", "wrong"), ("bob", "right"), ("nobody", "right")] {
        let mut ann = login(&mut bench, "c", "ann");
        let data = format!("n,,{}", first(user));
        let again = auth(ReasonCode::RE_AUTHENTICATE, METHOD, data.as_bytes());
        let server_first = asked(&send(&mut bench, &mut ann, &again));
        let (message, _) = last(password, user, &server_first);
        let step = auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, message.as_bytes());
        let answers = send(&mut bench, &mut ann, &step);
        assert_eq!(goodbye(&answers), ReasonCode::NOT_AUTHORIZED, "{user} {password}");
        assert!(bench.is_closing(ann));
    }
    let unexpected = ReasonCode::PROTOCOL_ERROR;
    for (bytes, reason) in [
        (auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, b"x"), unexpected),
        (auth(ReasonCode::SUCCESS, METHOD, b"x"), unexpected),
        (
            auth(ReasonCode::RE_AUTHENTICATE, "SCRAM-SHA-512", b"n,,n=ann,r=x"),
            ReasonCode::BAD_AUTHENTICATION_METHOD,
        ),
    ] {
        let mut ann = login(&mut bench, "c", "ann");
        let answers = send(&mut bench, &mut ann, &bytes);
        assert_eq!(goodbye(&answers), reason);
        assert!(bench.is_closing(ann));
    }
    // Two exchanges at a time are one too many.
    let mut ann = login(&mut bench, "c", "ann");
    let again = auth(ReasonCode::RE_AUTHENTICATE, METHOD, b"n,,n=ann,r=x");
    asked(&send(&mut bench, &mut ann, &again));
    assert_eq!(goodbye(&send(&mut bench, &mut ann, &again)), unexpected);
}
