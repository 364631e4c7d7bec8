//! Handshakes, payloads, ends, and peers that speak something else.

use super::*;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Not a multiple of anything, so that records end anywhere.
const LONG: usize = 1024 * 1024 + 17;

fn counted(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn both_versions_shake_hands_however_the_bytes_are_cut() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    for version in VERSIONS {
        let config = ClientSide::new(&authority).version(version).config();
        for chunk in [1, 2, 3, 5, 7, 100, 1000, usize::MAX] {
            let mut pair = Pair::new(&server, &config, "localhost");
            pair.chunk = chunk;
            assert!(!pair.tls.is_open());
            pair.exchange().unwrap();
            assert_eq!(pair.objection, None);
            assert!(pair.tls.is_open());
            assert_eq!(pair.say(b"PINGREQ").unwrap(), b"PINGREQ");
            assert_eq!(pair.send(b"PINGRESP"), b"PINGRESP");
        }
    }
}

#[test]
fn long_payloads_pass_both_ways() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    let payload = counted(LONG);
    for version in VERSIONS {
        let config = ClientSide::new(&authority).version(version).config();
        for chunk in [4000, 16_384, usize::MAX] {
            let mut pair = Pair::open(&server, &config, "localhost");
            pair.chunk = chunk;
            assert!(pair.say(&payload).unwrap() == payload);
            assert!(pair.send(&payload) == payload);
        }
    }
}

#[test]
fn details_tell_what_was_agreed_upon() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    for (version, text) in VERSIONS.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let config = ClientSide::new(&authority).version(version).offering("mqtt").config();
        let mut pair = Pair::new(&server, &config, "localhost");
        assert_eq!(pair.tls.details(), super::super::Details::default());
        pair.exchange().unwrap();
        let details = pair.tls.details();
        assert_eq!(details.version, text);
        assert!(details.cipher_suite.starts_with("TLS_"), "{details:?}");
        assert_eq!(details.server_name.as_deref(), Some("localhost"));
        assert_eq!(details.protocol.as_deref(), Some("mqtt"));
        assert!(!details.resumed);
        assert_eq!(details.client_certificate, None);
    }
}

#[test]
fn a_minimum_version_keeps_older_clients_out() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let minimum_version = super::super::MinimumVersion::Tls13;
    let server = load(&TlsSettings { minimum_version, ..settings(&place, &authority) });
    let old = ClientSide::new(&authority).version(&rustls::version::TLS12).config();
    let mut pair = Pair::new(&server, &old, "localhost");
    pair.exchange().unwrap_err();
    assert!(matches!(pair.objection, Some(rustls::Error::AlertReceived(_))));
    Pair::open(&server, &ClientSide::new(&authority).config(), "localhost");
}

#[test]
fn application_protocols_are_mqtt_and_http() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    for good in ["mqtt", "http/1.1"] {
        let config = ClientSide::new(&authority).offering(good).config();
        let pair = Pair::open(&server, &config, "localhost");
        assert_eq!(pair.client.alpn_protocol(), Some(good.as_bytes()));
    }
    let config = ClientSide::new(&authority).offering("h2").config();
    let fault = Pair::new(&server, &config, "localhost").exchange().unwrap_err();
    assert_eq!(&*fault.what, "the client offers neither mqtt nor http/1.1");
}

#[test]
fn either_side_can_end() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    for version in VERSIONS {
        let config = ClientSide::new(&authority).version(version).config();
        let mut pair = Pair::open(&server, &config, "localhost");
        std::io::Write::write_all(&mut pair.client.writer(), b"last").unwrap();
        pair.client.send_close_notify();
        pair.exchange().unwrap();
        assert_eq!(pair.flow, Flow::Ended);
        assert_eq!(pair.got, b"last");
        // What comes after the end is no news, and answering is still possible.
        let mut wire = Vec::new();
        assert_eq!(pair.tls.receive(b"junk", &mut pair.got, &mut wire), Ok(Flow::Ended));
        assert_eq!((wire.len(), pair.got.len()), (0, 4));
        assert_eq!(pair.send(b"answer"), b"answer");

        pair.tls.close(&mut wire);
        assert!(!wire.is_empty());
        let length = wire.len();
        pair.tls.close(&mut wire);
        pair.tls.send(b"late", &mut wire);
        assert_eq!(wire.len(), length);
        let mut rest = &wire[..];
        pair.client.read_tls(&mut rest).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn nothing_is_sent_or_closed_before_the_handshake() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    let mut tls = Tls::new(&server);
    let mut wire = Vec::new();
    tls.send(b"early", &mut wire);
    tls.close(&mut wire);
    assert!(wire.is_empty());
}

#[test]
fn a_client_that_changes_its_keys_is_answered_in_kind() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    let config = ClientSide::new(&authority).version(&rustls::version::TLS13).config();
    let mut pair = Pair::open(&server, &config, "localhost");
    let length = |pair: &mut Pair| {
        let mut wire = Vec::new();
        pair.tls.send(b"PINGRESP", &mut wire);
        assert_eq!(pair.deliver(&wire), b"PINGRESP");
        wire.len()
    };
    let ordinary = length(&mut pair);
    for _ in 0..3 {
        pair.client.refresh_traffic_keys().unwrap();
        assert_eq!(pair.say(b"PINGREQ").unwrap(), b"PINGREQ");
        assert!(length(&mut pair) > ordinary, "the server's key update goes along");
        assert_eq!(length(&mut pair), ordinary);
    }
}

#[test]
fn a_connection_may_move_to_another_thread() {
    fn movable<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    movable::<Tls>();
    shared::<ServerTls>();
}

/// What a server says to `bytes` alone: the fault's text, and the alert.
fn fault_of(server: &ServerTls, bytes: &[u8]) -> (String, Vec<u8>) {
    let (mut tls, mut plain, mut wire) = (Tls::new(server), Vec::new(), Vec::new());
    let fault = tls.receive(bytes, &mut plain, &mut wire).unwrap_err();
    assert!(plain.is_empty() && !tls.is_open());
    let length = wire.len();
    assert_eq!(tls.receive(b"more", &mut plain, &mut wire), Err(fault.clone()));
    tls.close(&mut wire);
    assert_eq!(wire.len(), length);
    (fault.what.into(), wire)
}

#[test]
fn other_protocols_are_told_apart() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    let connect = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00";
    let (what, alert) = fault_of(&server, connect);
    assert_eq!(what, "the client speaks MQTT without TLS");
    assert_eq!(alert[0], 0x15, "an alert record");
    let (what, _) = fault_of(&server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(what, "the client speaks HTTP without TLS");
    let (what, _) = fault_of(&server, &[0xFF; 64]);
    assert_eq!(what, "the client does not speak TLS");
}

#[test]
fn a_handshake_message_without_end_is_given_up() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    // A ClientHello of 16 MiB in records of one byte.
    let mut bytes = vec![0x16, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF];
    let (mut tls, mut plain, mut wire) = (Tls::new(&server), Vec::new(), Vec::new());
    let mut taken = 0;
    while tls.receive(&bytes, &mut plain, &mut wire).is_ok() {
        taken += bytes.len();
        assert!(taken <= super::super::WAITING_MAX, "{taken} bytes wait");
        bytes = vec![0x16, 3, 1, 0, 1, 0];
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes, and whatever changes on the way, costs the connection at worst.
    #[test]
    fn junk_never_panics(junk in prop::collection::vec(any::<u8>(), 1..600), at in 0usize..4000,
                         flip in 1u8.., cut in 1usize..300, version in 0usize..2) {
        let (server, authority) = made_once();
        let (mut tls, mut plain, mut wire) = (Tls::new(server), Vec::new(), Vec::new());
        for chunk in junk.chunks(cut) {
            let _ = tls.receive(chunk, &mut plain, &mut wire);
        }
        // One byte of a sound conversation is changed.
        let config = ClientSide::new(authority).version(VERSIONS[version]).config();
        let mut pair = Pair::new(server, &config, "localhost");
        let (mut sent, mut result) = (0, Ok(Flow::Open));
        for _ in 0..4 {
            let _ = std::io::Write::write_all(&mut pair.client.writer(), b"hello");
            let mut bytes = Vec::new();
            while pair.client.wants_write() {
                pair.client.write_tls(&mut bytes).unwrap();
            }
            if let Some(byte) = at.checked_sub(sent).and_then(|at| bytes.get_mut(at)) {
                *byte ^= flip;
            }
            sent += bytes.len();
            for chunk in bytes.chunks(cut) {
                let mut wire = Vec::new();
                result = pair.tls.receive(chunk, &mut pair.got, &mut wire);
                pair.deliver(&wire);
            }
        }
        // What was changed unseen has not become plain text.
        let changed = at < sent;
        let whole = b"hello".repeat(4);
        prop_assert!(whole.starts_with(&pair.got));
        prop_assert!(changed || result.is_ok());
        prop_assert!(changed || pair.got == whole);
    }
}

/// A property has many cases, and keys take time.
fn made_once() -> &'static (ServerTls, Authority) {
    static MADE: OnceLock<(ServerTls, Authority)> = OnceLock::new();
    MADE.get_or_init(|| {
        let (place, authority) = (Place::new(), Authority::new("root"));
        (load(&settings(&place, &authority)), authority)
    })
}
