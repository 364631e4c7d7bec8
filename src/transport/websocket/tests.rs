//! Requests and frames as clients send them, cut anywhere, and damaged ones.

use super::super::{Fault, Flow};
use super::{Rules, WebSocket};
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn rules() -> Arc<Rules> {
    Arc::new(Rules {
        paths: ["/mqtt".into()].into(),
        origins: ["https://app.example".into()].into(),
        max_frame: 70_000,
    })
}

/// A request with `change` applied to its lines.
fn request(change: impl Fn(&mut Vec<String>)) -> Vec<u8> {
    let mut lines: Vec<String> = [
        "GET /mqtt HTTP/1.1",
        "Host: broker.example",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
    ]
    .map(String::from)
    .into();
    lines.push(format!("Sec-WebSocket-Key: {KEY}"));
    change(&mut lines);
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

fn with(line: &str) -> Vec<u8> {
    request(|lines| lines.push(line.into()))
}

fn without(start: &str) -> Vec<u8> {
    request(|lines| lines.retain(|line| !line.starts_with(start)))
}

fn instead(start: &str, line: &str) -> Vec<u8> {
    let replace = |lines: &mut Vec<String>| {
        for old in lines.iter_mut().filter(|old| old.starts_with(start)) {
            *old = line.into();
        }
    };
    request(replace)
}

#[derive(Default, Debug, PartialEq)]
struct Came {
    plain: Vec<u8>,
    wire: Vec<u8>,
    forwarded: Vec<IpAddr>,
    end: Option<Result<Flow, Fault>>,
}

/// Gives `pieces` to a new connection until it ends.
fn receive<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (WebSocket, Came) {
    let (mut socket, mut came) = (WebSocket::new(rules()), Came::default());
    for piece in pieces {
        let flow = socket.receive(piece, &mut came.plain, &mut came.wire, &mut came.forwarded);
        if flow != Ok(Flow::Open) {
            came.end = Some(flow);
            break;
        }
    }
    (socket, came)
}

/// A frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0xa2, 0x33, 0xc4];
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line")
}

/// What came behind the answer to the request.
fn behind(wire: &[u8]) -> &[u8] {
    let end = wire.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
    &wire[end + 4..]
}

#[test]
fn a_request_is_answered_as_in_the_standards_example() {
    let (socket, came) = receive([&request(|_| {})[..]]);
    let text = String::from_utf8(came.wire).expect("text");
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
    assert!(text.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{text}");
    assert!(socket.is_open() && came.end.is_none());
}

#[test]
fn requests_are_judged_line_by_line() {
    for (bytes, expected) in [
        (with("Origin: https://app.example"), 101),
        (with("Origin: HTTPS://APP.example"), 101),
        (with("Origin: https://evil.example"), 403),
        (instead("GET", "GET /mqtt?token=1 HTTP/1.1"), 101),
        (instead("GET", "GET /other HTTP/1.1"), 404),
        (instead("GET", "GET /mqtt/ HTTP/1.1"), 404),
        (instead("GET", "POST /mqtt HTTP/1.1"), 405),
        (instead("GET", "GET /mqtt HTTP/1.0"), 405),
        (instead("GET", "GET"), 400),
        (instead("Sec-WebSocket-Protocol", "sec-websocket-protocol: chat, mqttv3.1"), 101),
        (instead("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: chat"), 400),
        (without("Sec-WebSocket-Protocol"), 400),
        (instead("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 426),
        (without("Sec-WebSocket-Version"), 426),
        (without("Upgrade"), 426),
        (without("Connection"), 426),
        (instead("Upgrade", "UPGRADE: WebSocket"), 101),
        (without("Sec-WebSocket-Key"), 400),
        (instead("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="), 400),
        (with(&format!("Sec-WebSocket-Key: {KEY}")), 400),
        (with(&format!("X: {}", "x".repeat(8192))), 431),
        (request(|lines| lines.extend((0..70).map(|n| format!("X-{n}: 1")))), 431),
        (b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd\r\n\r\n".to_vec(), 400),
    ] {
        let (socket, came) = receive([&bytes[..]]);
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(status(&came.wire), expected, "{shown}");
        assert_eq!(socket.is_open(), expected == 101, "{shown}");
        assert_eq!(matches!(came.end, Some(Err(_))), expected != 101, "{shown}");
        if expected == 426 {
            let text = String::from_utf8_lossy(&came.wire);
            assert!(text.contains("Sec-WebSocket-Version: 13"), "{text}");
        }
    }
}

#[test]
fn mqtt_is_preferred_to_its_old_name() {
    let old_first = "Sec-WebSocket-Protocol: mqttv3.1, mqtt";
    let (_, came) = receive([&instead("Sec-WebSocket-Protocol", old_first)[..]]);
    assert!(String::from_utf8_lossy(&came.wire).contains("Sec-WebSocket-Protocol: mqtt\r\n"));
}

#[test]
fn addresses_that_proxies_noted_are_given_nearest_last() {
    for (lines, expected) in [
        (&["X-Forwarded-For: 192.0.2.1, 198.51.100.2"][..], &["192.0.2.1", "198.51.100.2"][..]),
        (
            &["x-forwarded-for: 192.0.2.1", "X-FORWARDED-FOR: [2001:db8::1]:80"],
            &["192.0.2.1", "2001:db8::1"],
        ),
        (&["X-Forwarded-For: 192.0.2.1, unknown, 198.51.100.2:9"], &["198.51.100.2"]),
        (&["X-Forwarded-For: "], &[]),
    ] {
        let bytes = request(|head| head.extend(lines.iter().map(|line| (*line).to_owned())));
        let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().expect("valid")).collect();
        assert_eq!(receive([&bytes[..]]).1.forwarded, expected, "{lines:?}");
    }
}

#[test]
fn data_passes_whatever_the_frames_are() {
    let long = vec![7; 300];
    let longest = vec![8; 66_000];
    let mut bytes = request(|_| {});
    bytes.extend(frame(0x82, b"one"));
    bytes.extend(frame(0x82, &[]));
    bytes.extend(frame(0x02, b"tw"));
    bytes.extend(frame(0x89, b"still there?"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x8a, b"unasked"));
    bytes.extend(frame(0x80, b"o"));
    bytes.extend(frame(0x82, &long));
    bytes.extend(frame(0x82, &longest));
    let (mut socket, whole) = receive([&bytes[..]]);
    assert_eq!(whole.plain, [&b"onetwo"[..], &long, &longest].concat());
    assert_eq!(behind(&whole.wire), b"\x8a\x0cstill there?");
    assert_eq!(whole.end, None);
    let mut wire = Vec::new();
    socket.send(b"answer", &mut wire);
    socket.send(&[9; 126], &mut wire);
    socket.send(&[9; 65_536], &mut wire);
    assert_eq!(wire[..8], *b"\x82\x06answer");
    assert_eq!(wire[8..12], [0x82, 126, 0, 126]);
    assert_eq!(wire[138..148], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    wire.clear();
    socket.close(&mut wire);
    socket.close(&mut wire);
    socket.send(b"late", &mut wire);
    assert_eq!(wire, b"\x88\x02\x03\xe8", "once, and nothing behind it");
    // Cut between any two bytes, or between all of them, it is the same.
    let short = &bytes[..bytes.len() - longest.len()];
    let (_, expected) = receive([short]);
    for cut in 0..short.len() {
        assert_eq!(receive([&short[..cut], &short[cut..]]).1, expected, "cut at {cut}");
    }
    assert_eq!(receive(short.chunks(1)).1, expected);
}

#[test]
fn frames_against_the_rules_are_answered_with_their_code() {
    let unmasked = vec![0x82, 1, 0];
    let mut negative = vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
    negative.extend([0; 4]);
    let mut long_ping = vec![0x89, 0x80 | 126, 0, 126];
    long_ping.extend([0; 4]);
    for (bytes, code) in [
        (unmasked, 1002),
        (frame(0xc2, b"x"), 1002),
        (frame(0x92, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x8b, b"x"), 1002),
        (frame(0x81, b"text"), 1003),
        (frame(0x80, b"x"), 1002),
        ([frame(0x02, b"a"), frame(0x82, b"b")].concat(), 1002),
        (frame(0x09, b"x"), 1002),
        (long_ping, 1002),
        (frame(0x82, &[0; 70_001]), 1009),
        (negative, 1002),
        (frame(0x88, &[3]), 1002),
        (frame(0x88, &[0, 1]), 1002),
        (frame(0x88, &1005u16.to_be_bytes()), 1002),
        (frame(0x88, &[3, 0xe8, 0xff]), 1002),
    ] {
        let (mut socket, came) = receive([&request(|_| {})[..], &bytes]);
        assert!(matches!(came.end, Some(Err(_))), "{bytes:x?}");
        let expected = [&[0x88, 2][..], &u16::to_be_bytes(code)].concat();
        assert_eq!(behind(&came.wire), expected, "{:x?}", &bytes[..2]);
        let mut wire = Vec::new();
        socket.send(b"late", &mut wire);
        socket.close(&mut wire);
        assert!(wire.is_empty(), "nothing follows a close frame");
    }
}

#[test]
fn a_close_frame_is_answered_and_ends_the_stream() {
    for (payload, code) in [(&[][..], 1000u16), (&[3, 0xe9], 1001), (b"\x0b\xb8bye", 3000)] {
        let (_, came) = receive([&request(|_| {})[..], &frame(0x88, payload)]);
        assert_eq!(came.end, Some(Ok(Flow::Ended)));
        assert_eq!(behind(&came.wire), [&[0x88, 2][..], &code.to_be_bytes()].concat());
    }
}

#[test]
fn an_open_connection_keeps_no_buffer() {
    let (socket, _) = receive([&request(|_| {})[..], &frame(0x89, b"ping"), &frame(0x82, b"x")]);
    assert_eq!(socket.reader.kept_bytes(), 0);
    assert!(matches!(socket.state, super::State::Open));
    assert!(size_of::<WebSocket>() <= 128, "{}", size_of::<WebSocket>());
}

/// What a client sends, and what the plain meaning of it is.
#[derive(Clone, Debug)]
enum Sent {
    Message(Vec<Vec<u8>>),
    Ping(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    prop_oneof![
        3 => proptest::collection::vec(bytes(200), 1..4).prop_map(Sent::Message),
        1 => bytes(126).prop_map(Sent::Ping),
    ]
}

proptest! {
    #[test]
    fn streams_mean_the_same_however_they_are_cut(
        all in proptest::collection::vec(sent(), 0..12),
        cuts in proptest::collection::vec(1usize..60, 1..200),
    ) {
        let (mut bytes, mut plain, mut pongs) = (request(|_| {}), Vec::<u8>::new(), Vec::new());
        for one in &all {
            match one {
                Sent::Message(parts) => {
                    for (at, part) in parts.iter().enumerate() {
                        let opcode = if at == 0 { 2 } else { 0 };
                        let last = if at + 1 == parts.len() { 0x80 } else { 0 };
                        bytes.extend(frame(last | opcode, part));
                        plain.extend(part);
                    }
                }
                Sent::Ping(payload) => {
                    bytes.extend(frame(0x89, payload));
                    pongs.extend([0x8a, payload.len() as u8]);
                    pongs.extend(payload);
                }
            }
        }
        let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*cut));
            pieces.push(piece);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        let (_, came) = receive(pieces);
        prop_assert_eq!(came.end, None);
        prop_assert_eq!(came.plain, plain);
        prop_assert_eq!(behind(&came.wire), &pongs[..]);
    }

    #[test]
    fn no_bytes_make_it_panic(
        upgraded in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let head = if upgraded { request(|_| {}) } else { Vec::new() };
        let (_, came) = receive([&head[..], &bytes, &bytes]);
        prop_assert!(came.plain.len() <= 2 * bytes.len());
    }
}
