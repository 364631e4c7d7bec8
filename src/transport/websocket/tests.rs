//! The handshake and the frames: what the RFC shows, what it forbids, and every cut of the input
//! against a reader of whole frames.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const FIN: u8 = 0x80;
const MORE: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

fn list(entries: &[&str]) -> Box<[Box<str>]> {
    entries.iter().map(|entry| Box::from(*entry)).collect()
}

fn rules(max_frame: u64) -> Rules {
    Rules { paths: list(&["/mqtt", "/ws/"]), origins: list(&[]), max_frame }
}

/// The lines of a good request; each can be replaced.
fn lines() -> Vec<(&'static str, String)> {
    [
        ("Host", "broker.example"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Protocol", "mqtt"),
        ("Sec-WebSocket-Version", "13"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

fn head(first: &str, lines: &[(&str, String)]) -> Vec<u8> {
    let lines = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("{first}\r\n{}\r\n", lines.collect::<String>()).into_bytes()
}

/// A good request but for one field: replaced, or left out.
fn with(name: &'static str, value: Option<&str>) -> Vec<u8> {
    let mut lines = lines();
    lines.retain(|(known, _)| *known != name);
    lines.extend(value.map(|value| (name, value.to_owned())));
    head("GET /mqtt HTTP/1.1", &lines)
}

fn good() -> Vec<u8> {
    head("GET /mqtt HTTP/1.1", &lines())
}

/// A frame with a mask, whose length takes the fewest bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut frame = match len {
        0..=125 => vec![first, 0x80 | len as u8],
        126..=0xffff => vec![first, 0x80 | 126, (len >> 8) as u8, len as u8],
        _ => [&[first, 0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    frame.extend(MASK);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    frame
}

/// All that a layer made of its input.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Outcome {
    plain: Vec<u8>,
    wire: Vec<u8>,
    forwarded: Vec<IpAddr>,
    /// The fault, or that the stream ended.
    end: Option<Result<(), &'static str>>,
}

fn connect(rules: Rules) -> WebSocket {
    WebSocket::new(Arc::new(rules))
}

fn feed<'a>(layer: &mut WebSocket, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut outcome = Outcome::default();
    for piece in pieces {
        let ended = outcome.end.is_some();
        let Outcome { plain, wire, forwarded, .. } = &mut outcome;
        match layer.receive(piece, plain, wire, forwarded) {
            Ok(Flow::Open) => assert!(!ended, "no stream opens again"),
            Ok(Flow::Ended) => outcome.end = outcome.end.or(Some(Ok(()))),
            Err(fault) => {
                assert!(!ended, "one fault at most");
                outcome.end = Some(Err(fault.what));
            }
        }
    }
    assert!(outcome.end.is_none() || !layer.is_open());
    outcome
}

/// A connection with its handshake done.
fn open(max_frame: u64) -> WebSocket {
    let mut layer = connect(rules(max_frame));
    assert!(!layer.is_open());
    let outcome = feed(&mut layer, [&good()[..]]);
    let expected = Outcome { wire: ACCEPTED.into(), ..Outcome::default() };
    assert_eq!(outcome, expected);
    assert!(layer.is_open());
    layer
}

/// Reads frames on an open connection, whole and byte by byte.
fn frames(max_frame: u64, bytes: &[u8]) -> Outcome {
    let outcome = feed(&mut open(max_frame), [bytes]);
    assert_eq!(feed(&mut open(max_frame), bytes.chunks(1)), outcome, "byte by byte");
    outcome
}

/// How a request is answered: status and, for the log, why.
fn refused(rules: Rules, request: &[u8]) -> (String, &'static str) {
    let outcome = feed(&mut connect(rules), [request]);
    let text = String::from_utf8(outcome.wire).expect("HTTP is text");
    assert!(text.ends_with("Connection: close\r\nContent-Length: 0\r\n\r\n"), "{text}");
    assert_eq!(outcome.plain, b"");
    let Some(Err(what)) = outcome.end else { panic!("accepted: {text}") };
    (text, what)
}

fn is_accepted(rules: Rules, request: &[u8]) -> Option<String> {
    let mut layer = connect(rules);
    let outcome = feed(&mut layer, [request]);
    layer.is_open().then(|| String::from_utf8(outcome.wire).expect("HTTP is text"))
}

#[test]
fn requests_that_are_accepted() {
    for (name, value) in [
        ("Upgrade", "WebSocket"),
        ("Upgrade", "h2c, WEBSOCKET"),
        ("Connection", "keep-alive, UPGRADE"),
        ("Connection", ",  upgrade ,"),
        ("Sec-WebSocket-Protocol", "other, mqtt"),
        ("Sec-WebSocket-Protocol", "mqttv3.1,mqtt"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        ("Origin", "https://anywhere.example"),
        ("Cookie", "ä=\u{fe}"),
    ] {
        let answer = is_accepted(rules(9), &with(name, Some(value)));
        assert_eq!(answer.as_deref(), Some(ACCEPTED), "{name}: {value}");
    }
    let anywhere = Rules { paths: list(&[]), ..rules(9) };
    assert!(is_accepted(anywhere, &head("GET /any HTTP/1.1", &lines())).is_some());
    for path in ["/mqtt", "/mqtt?token=/a", "/ws/", "http://x/mqtt", "https://x:1/mqtt?a=b"] {
        let request = head(&format!("GET {path} HTTP/1.1"), &lines());
        assert!(is_accepted(rules(9), &request).is_some(), "{path}");
    }
}

/// Clients that draw their key as text leave bits behind the last byte.
#[test]
fn keys_of_simple_clients() {
    let request = with("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZR=="));
    let answer = is_accepted(rules(9), &request).expect("accepted");
    assert!(!answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the hash is of the text");
}

/// `mqtt` is chosen whenever it is offered [MQTT-6.0.0-3] [MQTT-6.0.0-4].
#[test]
fn subprotocols() {
    let answer = is_accepted(rules(9), &with("Sec-WebSocket-Protocol", Some("x, mqttv3.1")));
    assert!(answer.expect("accepted").ends_with("Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n"));
    let mut several = lines();
    several.insert(0, ("Sec-WebSocket-Protocol", "mqttv3.1".to_owned()));
    let answer = is_accepted(rules(9), &head("GET /mqtt HTTP/1.1", &several));
    assert_eq!(answer.as_deref(), Some(ACCEPTED), "of all lines the first is not enough");
    for offer in [None, Some(""), Some("MQTT"), Some("mqttv5"), Some("mqtt mqttv3.1")] {
        let (answer, what) = refused(rules(9), &with("Sec-WebSocket-Protocol", offer));
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{offer:?}: {answer}");
        assert_eq!(what, "WebSocket subprotocol mqtt not offered");
    }
}

#[test]
fn fields_that_are_refused() {
    for (name, value, status) in [
        ("Upgrade", None, "426 Upgrade Required\r\nUpgrade: websocket\r\n"),
        ("Upgrade", Some("websockets"), "426 "),
        ("Connection", None, "426 "),
        ("Connection", Some("close"), "426 "),
        ("Sec-WebSocket-Version", None, "426 "),
        ("Sec-WebSocket-Version", Some("8"), "426 "),
        ("Sec-WebSocket-Version", Some("13, 8"), "426 "),
        ("Sec-WebSocket-Key", None, "400 "),
        ("Sec-WebSocket-Key", Some(""), "400 "),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ="), "400 "),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ"), "400 "),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25j"), "400 "),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZWQ="), "400 "),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZWRk"), "400 "),
        ("Sec-WebSocket-Key", Some("dGhl!HNhbXBsZSBub25jZQ=="), "400 "),
        ("Host", None, "400 "),
    ] {
        let (answer, what) = refused(rules(9), &with(name, value));
        let begins = answer.starts_with(&format!("HTTP/1.1 {status}"));
        assert!(begins, "{name}: {value:?}: {answer}");
        let version = answer.contains("\r\nSec-WebSocket-Version: 13\r\n");
        assert_eq!(version, status.starts_with("426"), "{answer}");
        assert!(!what.is_empty());
    }
    for twice in ["Host", "Sec-WebSocket-Key", "Sec-WebSocket-Version"] {
        let mut lines = lines();
        let line = lines.iter().find(|(name, _)| *name == twice).expect("a line").clone();
        lines.push(line);
        let (answer, _) = refused(rules(9), &head("GET /mqtt HTTP/1.1", &lines));
        assert!(answer.starts_with("HTTP/1.1 4"), "{twice}: {answer}");
    }
}

#[test]
fn request_lines_that_are_refused() {
    for (first, status) in [
        ("POST /mqtt HTTP/1.1", "405 Method Not Allowed\r\nAllow: GET\r\n"),
        ("GET /mqtt HTTP/1.0", "400 "),
        ("GET /mqtt HTTP/2.0", "400 "),
        ("GET /mqtt", "400 "),
        ("GET", "400 "),
        ("G\0T /mqtt HTTP/1.1", "400 "),
        ("get /mqtt HTTP/1.1", "400 "),
        ("GET / HTTP/1.1", "404 "),
        ("GET /mqtt/ HTTP/1.1", "404 "),
        ("GET /ws HTTP/1.1", "404 "),
        ("GET /MQTT HTTP/1.1", "404 "),
        ("GET mqtt HTTP/1.1", "404 "),
        ("GET * HTTP/1.1", "404 "),
        ("GET /x?/mqtt HTTP/1.1", "404 "),
        ("GET /x://y/mqtt HTTP/1.1", "404 "),
        ("GET http://x HTTP/1.1", "404 "),
    ] {
        let (answer, _) = refused(rules(9), &head(first, &lines()));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{first}: {answer}");
    }
}

#[test]
fn origins() {
    let origins = list(&["https://a.example", "null"]);
    let strict = Rules { origins, ..rules(9) };
    for origin in [None, Some("https://a.example"), Some("HTTPS://A.example"), Some("null")] {
        assert!(is_accepted(strict.clone(), &with("Origin", origin)).is_some(), "{origin:?}");
    }
    for origin in ["https://b.example", "http://a.example", "https://a.example:8443", "", "a"] {
        let (answer, _) = refused(strict.clone(), &with("Origin", Some(origin)));
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{origin}: {answer}");
    }
    let mut two = lines();
    two.extend(["https://a.example", "https://b.example"].map(|o| ("Origin", o.to_owned())));
    let (answer, _) = refused(strict, &head("GET /mqtt HTTP/1.1", &two));
    assert!(answer.starts_with("HTTP/1.1 403 "), "each of them must be allowed: {answer}");
}

#[test]
fn what_is_not_http_is_refused_at_once() {
    for bytes in [&b"\x10"[..], b"\x16\x03\x01", b"\r\n", b" GET", b"\xff"] {
        let (answer, what) = refused(rules(9), bytes);
        assert!(answer.starts_with("HTTP/1.1 400 "));
        assert_eq!(what, "not an HTTP request");
    }
}

#[test]
fn a_head_is_bounded() {
    let filled = |len: usize| {
        let short = with("Cookie", Some("")).len();
        with("Cookie", Some(&"c".repeat(len - short)))
    };
    assert_eq!(filled(8192).len(), 8192);
    assert!(is_accepted(rules(9), &filled(8192)).is_some());
    let mut behind = filled(8192);
    behind.extend(frame(FIN | BINARY, b"x"));
    assert_eq!(feed(&mut connect(rules(9)), [&behind[..]]).plain, b"x");
    for pieces in [filled(8193), [&b"GET "[..], &[b'x'; 20_000]].concat()] {
        let whole = feed(&mut connect(rules(9)), [&pieces[..]]);
        assert_eq!(whole.end, Some(Err("HTTP head too long")));
        assert!(whole.wire.starts_with(b"HTTP/1.1 431 "));
        assert_eq!(feed(&mut connect(rules(9)), pieces.chunks(1)), whole);
    }
    let mut many = lines();
    many.extend((many.len()..64).map(|_| ("X", "y".to_owned())));
    assert!(is_accepted(rules(9), &head("GET /mqtt HTTP/1.1", &many)).is_some());
    many.push(("X", "y".to_owned()));
    let (answer, what) = refused(rules(9), &head("GET /mqtt HTTP/1.1", &many));
    assert!(answer.starts_with("HTTP/1.1 431 "));
    assert_eq!(what, "too many HTTP header fields");
}

/// The parser takes lone line feeds, so it may see the end of the head before we do.
#[test]
fn a_head_has_one_end() {
    let text = String::from_utf8(good()).expect("text");
    let early = text.replace("Upgrade: websocket\r\n", "Upgrade: websocket\n\n");
    let (answer, what) = refused(rules(9), early.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400 "));
    assert_eq!(what, "malformed HTTP head");
}

fn forwarded(values: &[&str]) -> Vec<String> {
    let mut lines = lines();
    lines.extend(values.iter().map(|value| ("x-forwarded-FOR", (*value).to_owned())));
    let mut layer = connect(rules(9));
    let (mut wire, mut forwarded) = (Vec::new(), vec![IpAddr::from([9, 9, 9, 9])]);
    let mut request = head("GET /mqtt HTTP/1.1", &lines);
    // Fields need not be UTF-8, which text can't say.
    for byte in request.iter_mut().filter(|byte| **byte == b'#') {
        *byte = 0xff;
    }
    let flow = layer.receive(&request, &mut Vec::new(), &mut wire, &mut forwarded);
    assert_eq!(flow, Ok(Flow::Open));
    forwarded[1..].iter().map(ToString::to_string).collect()
}

#[test]
fn forwarded_addresses() {
    let none: [&str; 0] = [];
    assert_eq!(forwarded(&[]), none);
    assert_eq!(forwarded(&["192.0.2.1"]), ["192.0.2.1"]);
    assert_eq!(forwarded(&["1.1.1.1 ,2.2.2.2", "3.3.3.3"]), ["1.1.1.1", "2.2.2.2", "3.3.3.3"]);
    assert_eq!(forwarded(&["1.1.1.1:80, [::1]:80,[::2] , ::3"]), ["1.1.1.1", "::1", "::2", "::3"]);
    for word in ["unknown", "", "1.2.3", "_hidden", "\u{fe}", "#", "[1.1.1.1"] {
        let value = format!("9.9.9.9, {word}, 2.2.2.2");
        assert_eq!(forwarded(&["8.8.8.8", &value]), ["2.2.2.2"], "nothing before {word}");
        assert_eq!(forwarded(&["9.9.9.9", word]), none);
    }
    let many: Vec<String> = (0..200).map(|host| format!("10.0.0.{host}")).collect();
    assert_eq!(forwarded(&[&many.join(",")]), many[184..]);
}

/// RFC 6455, section 5.7, with `binary` where it has `text`.
#[test]
fn examples_of_the_standard() {
    let hello = b"\x7f\x9f\x4d\x51\x58";
    let masked = |first: u8| [&[first, 0x85], &MASK[..], hello].concat();
    assert_eq!(frames(9, &masked(0x82)).plain, b"Hello");
    let ping = frames(9, &masked(0x89));
    assert_eq!((&ping.wire[..], &ping.plain[..]), (&b"\x8a\x05Hello"[..], &b""[..]));
    assert_eq!(frames(9, &masked(0x8a)), Outcome::default(), "an answer to nothing is nothing");
    let parts = [frame(BINARY, b"Hel"), masked(0x89), frame(FIN | MORE, b"lo")].concat();
    let whole = frames(9, &parts);
    assert_eq!((&whole.plain[..], &whole.wire[..]), (&b"Hello"[..], &b"\x8a\x05Hello"[..]));
    let text = frames(9, &masked(0x81));
    assert_eq!(text.wire, b"\x88\x02\x03\xeb");
    assert_eq!(text.plain, b"");
}

/// Packets need not end where frames end [MQTT-6.0.0-2]; all go out in binary frames
/// [MQTT-6.0.0-1].
#[test]
fn payloads_are_one_stream() {
    let parts = [
        frame(FIN | BINARY, b"\xc0\0\xc0\0\xc0"),
        frame(FIN | BINARY, b""),
        frame(BINARY, b""),
        frame(MORE, b"\0"),
        frame(FIN | PONG, b""),
        frame(FIN | MORE, b""),
        frame(FIN | BINARY, b"\xe0\0"),
    ];
    assert_eq!(frames(5, &parts.concat()).plain, b"\xc0\0\xc0\0\xc0\0\xe0\0");
    let mut layer = open(9);
    let mut wire = Vec::new();
    layer.send(b"\xd0\0", &mut wire);
    layer.send(b"", &mut wire);
    layer.send(b"\xd0\0\xd0", &mut wire);
    assert_eq!(wire, b"\x82\x02\xd0\0\x82\x03\xd0\0\xd0");
}

#[test]
fn lengths_of_what_is_sent() {
    let layer = &mut open(9);
    for (len, head) in [
        (1, &b"\x82\x01"[..]),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\0\x7e"),
        (256, b"\x82\x7e\x01\0"),
        (0xffff, b"\x82\x7e\xff\xff"),
        (0x1_0000, b"\x82\x7f\0\0\0\0\0\x01\0\0"),
    ] {
        let mut wire = b"before".to_vec();
        layer.send(&vec![b'x'; len], &mut wire);
        assert_eq!(wire, [b"before", head, &vec![b'x'; len]].concat());
    }
}

#[test]
fn lengths_of_what_comes() {
    for len in [0, 1, 7, 8, 9, 125, 126, 127, 0xffff, 0x1_0000] {
        let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let good = frames(len as u64, &frame(FIN | BINARY, &payload));
        assert_eq!(good, Outcome { plain: payload.clone(), ..Outcome::default() }, "{len}");
        if len > 0 {
            let large = frames(len as u64 - 1, &frame(FIN | BINARY, &payload));
            assert_eq!(large.end, Some(Err("WebSocket frame too large")), "{len}");
            assert_eq!((&large.wire[..], large.plain.len()), (&b"\x88\x02\x03\xf1"[..], 0));
        }
    }
    let ping = frames(0, &frame(FIN | PING, &[b'p'; 125]));
    assert_eq!(ping.wire, [&b"\x8a\x7d"[..], &[b'p'; 125]].concat(), "control has its own bound");
}

#[test]
fn frames_that_are_refused() {
    let masked = |bytes: &[u8]| [bytes, &MASK].concat();
    for (bytes, code) in [
        (vec![0xc2, 0x80], 1002),
        (vec![0xa2, 0x80], 1002),
        (vec![0x92, 0x80], 1002),
        (vec![0x82, 0x00], 1002),
        (vec![0x89, 0x00], 1002),
        (vec![FIN | MORE, 0x80], 1002),
        (vec![MORE, 0x80], 1002),
        (vec![FIN | 0x3, 0x80], 1002),
        (vec![FIN | 0x7, 0x80], 1002),
        (vec![FIN | 0xb, 0x80], 1002),
        (vec![FIN | 0xf, 0x80], 1002),
        (vec![PING, 0x80], 1002),
        (vec![CLOSE, 0x80], 1002),
        (vec![FIN | PING, 0xfe], 1002),
        (vec![FIN | CLOSE, 0xff], 1002),
        ([frame(BINARY, b""), vec![FIN | BINARY, 0x80]].concat(), 1002),
        ([frame(BINARY, b""), vec![TEXT, 0x80]].concat(), 1002),
        (vec![FIN | TEXT, 0x80], 1003),
        (vec![TEXT, 0x80], 1003),
        (masked(&[FIN | BINARY, 0xfe, 0, 125]), 1002),
        (masked(&[FIN | BINARY, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), 1002),
        (masked(&[FIN | BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), 1002),
        (masked(&[FIN | BINARY, 0xff, 0x7f, 0xff, 0, 0, 0, 0, 0, 0]), 1009),
        (masked(&[FIN | BINARY, 0xfe, 0x03, 0xe9]), 1009),
        (frame(FIN | CLOSE, b"\x03"), 1002),
        (frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007),
    ] {
        let before = frame(FIN | BINARY, b"good");
        let after = frame(FIN | BINARY, b"lost");
        let outcome = frames(1000, &[before, bytes.clone(), after].concat());
        assert!(matches!(outcome.end, Some(Err(_))), "{bytes:02x?}");
        assert_eq!(outcome.plain, b"good", "{bytes:02x?}");
        let [high, low] = u16::to_be_bytes(code);
        assert_eq!(outcome.wire, [0x88, 2, high, low], "{bytes:02x?}");
    }
}

#[test]
fn codes_of_the_end() {
    let good = [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1014, 3000, 4000, 4999];
    let bad = [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535];
    for code in good {
        let payload = [&u16::to_be_bytes(code)[..], "für immer".as_bytes()].concat();
        let after = frame(FIN | BINARY, b"lost");
        let outcome = frames(9, &[frame(FIN | CLOSE, &payload), after].concat());
        assert_eq!(outcome.wire, [&[0x88, 2], &payload[..2]].concat(), "{code}");
        assert_eq!((outcome.end, outcome.plain), (Some(Ok(())), Vec::new()), "{code}");
    }
    for code in bad {
        let outcome = frames(9, &frame(FIN | CLOSE, &u16::to_be_bytes(code)));
        assert_eq!(outcome.wire, b"\x88\x02\x03\xea", "{code}");
        assert!(matches!(outcome.end, Some(Err(_))), "{code}");
    }
    let silent = frames(9, &frame(FIN | CLOSE, b""));
    assert_eq!((silent.wire, silent.end), (b"\x88\x00".to_vec(), Some(Ok(()))));
    let inside = [frame(BINARY, b"ab"), frame(FIN | CLOSE, b"\x03\xe9")].concat();
    let inside = frames(9, &inside);
    assert_eq!((&inside.plain[..], inside.end), (&b"ab"[..], Some(Ok(()))));
}

#[test]
fn our_own_end() {
    let mut layer = open(9);
    let mut wire = Vec::new();
    layer.close(&mut wire);
    layer.close(&mut wire);
    layer.send(b"late", &mut wire);
    assert_eq!(wire, b"\x88\x02\x03\xe8");
    assert!(!layer.is_open());
    let parts = [frame(FIN | BINARY, b"late"), frame(FIN | PING, b"late")].concat();
    assert_eq!(feed(&mut layer, [&parts[..]]), Outcome::default(), "nobody would read it");
    let answer = feed(&mut layer, [&frame(FIN | CLOSE, b"\x03\xe8")[..]]);
    assert_eq!(answer, Outcome { end: Some(Ok(())), ..Outcome::default() });
    layer.close(&mut wire);
    assert_eq!(wire.len(), 4);
    let mut broken = open(9);
    broken.close(&mut Vec::new());
    let outcome = feed(&mut broken, [&b"\x82\x00"[..]]);
    assert!(matches!(outcome.end, Some(Err(_))));
    assert_eq!(outcome.wire, b"", "our end is told already");
}

#[test]
fn nothing_is_sent_before_the_handshake() {
    let mut layer = connect(rules(9));
    let mut wire = Vec::new();
    layer.send(b"early", &mut wire);
    assert_eq!(feed(&mut layer, [&b"GET /mq"[..]]), Outcome::default());
    layer.close(&mut wire);
    layer.send(b"late", &mut wire);
    assert_eq!(wire, b"");
    assert_eq!(feed(&mut layer, [&b"tt"[..]]).end, Some(Ok(())));
}

/// Up to 200 bytes for an open connection at rest, all of them in the value itself.
#[test]
fn memory_at_rest() {
    assert!(size_of::<WebSocket>() <= 128, "{}", size_of::<WebSocket>());
    let mut layer = connect(rules(9));
    let parts = [good(), frame(FIN | BINARY, b"x"), frame(FIN | PING, &[0; 125])].concat();
    assert_eq!(feed(&mut layer, parts.chunks(3)).end, None);
    let State::Open(frames) = &layer.state else { panic!("not open") };
    assert_eq!(frames.held(), 0);
}

/// A stream with everything in it, cut at every place.
#[test]
fn every_cut_gives_the_same() {
    let parts = [
        with("X-Forwarded-For", Some("192.0.2.1, ::1")),
        frame(FIN | BINARY, b"\x10\x0c\0\x04MQTT"),
        frame(BINARY, &[b'f'; 200]),
        frame(FIN | PING, b"are you there"),
        frame(MORE, b""),
        frame(FIN | PONG, b"yes"),
        frame(FIN | MORE, b"\xe0\0"),
        frame(FIN | CLOSE, b"\x03\xe9bye"),
        b"nothing".to_vec(),
    ];
    let stream = parts.concat();
    let whole = feed(&mut connect(rules(300)), [&stream[..]]);
    let plain = [&b"\x10\x0c\0\x04MQTT"[..], &[b'f'; 200], b"\xe0\0"].concat();
    assert_eq!((&whole.plain, whole.end), (&plain, Some(Ok(()))));
    assert_eq!(whole.forwarded.len(), 2);
    assert_eq!(
        whole.wire,
        [ACCEPTED.as_bytes(), b"\x8a\x0dare you there\x88\x02\x03\xe9"].concat()
    );
    assert_eq!(feed(&mut connect(rules(300)), stream.chunks(1)), whole);
    for at in 0..=stream.len() {
        let (front, back) = stream.split_at(at);
        let outcome = feed(&mut connect(rules(300)), [front, back]);
        assert_eq!(outcome, whole, "cut at {at}");
    }
}

/// Reads frames from the whole input, one after the other, as the RFC tells it. Gives the close
/// code in place of the fault's words.
fn model(mut input: &[u8], max_frame: u64) -> (Vec<u8>, Vec<u8>, Option<Result<(), u16>>) {
    let (mut plain, mut wire, mut inside) = (Vec::new(), Vec::new(), false);
    let end = loop {
        let [first, second, rest @ ..] = input else { break None };
        let (fin, kind) = (first & 0x80 != 0, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        let control = kind >= 8;
        if first & 0x70 != 0 || !masked || !matches!(kind, 0..=2 | 8..=10) {
            break Some(Err(1002));
        }
        if control && (!fin || short > 125) || !control && (kind == 0) != inside {
            break Some(Err(1002));
        }
        if kind == 1 {
            break Some(Err(1003));
        }
        let width = [0, 2, 8][usize::from(short > 125) + usize::from(short > 126)];
        if rest.len() < width + 4 {
            break None;
        }
        let mut eight = [0; 8];
        eight[8 - width..].copy_from_slice(&rest[..width]);
        let long = u64::from_be_bytes(eight);
        let len = if width == 0 { u64::from(short) } else { long };
        if (width == 2 && len < 126) || (width == 8 && len < 65536) || len >= 1 << 63 {
            break Some(Err(1002));
        }
        if !control && len > max_frame {
            break Some(Err(1009));
        }
        let mask = &rest[width..width + 4];
        let body = &rest[width + 4..];
        let there = body.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        let clear: Vec<u8> = (0..there).map(|at| body[at] ^ mask[at % 4]).collect();
        input = &body[there..];
        if !control {
            plain.extend(&clear);
            inside = !fin;
        }
        if (there as u64) < len {
            break None;
        }
        if kind == 9 {
            wire.extend([0x8a, there as u8]);
            wire.extend(&clear);
        }
        if kind == 8 {
            break Some(match clear[..] {
                [] => {
                    wire.extend([0x88, 0]);
                    Ok(())
                }
                [_] => Err(1002),
                [high, low, ref reason @ ..] => match u16::from_be_bytes([high, low]) {
                    0..=999 | 1004..=1006 | 1015..=2999 | 5000.. => Err(1002),
                    _ if String::from_utf8(reason.to_vec()).is_err() => Err(1007),
                    code => {
                        wire.extend([&[0x88, 2], &code.to_be_bytes()[..]].concat());
                        Ok(())
                    }
                },
            });
        }
    };
    if let Some(Err(code)) = end {
        wire.extend([&[0x88, 2], &u16::to_be_bytes(code)[..]].concat());
    }
    (plain, wire, end)
}

/// A client whose request was answered by a server, and that server.
fn pair(max_frame: u64) -> (WebSocket, WebSocket) {
    let (mut request, mut server) = (Vec::new(), connect(rules(max_frame)));
    let place = ("broker.example:80", "/mqtt");
    let mut client = WebSocket::client(place, max_frame, Prng::new(3), &mut request);
    assert!(!client.is_open());
    let answer = feed(&mut server, request.chunks(7));
    assert!(server.is_open(), "{answer:?}");
    assert_eq!(feed(&mut client, answer.wire.chunks(5)), Outcome::default());
    assert!(client.is_open());
    (client, server)
}

#[test]
fn a_client_and_a_server_understand_each_other() {
    let (mut client, mut server) = pair(100_000);
    for len in [1, 7, 8, 125, 126, 1_000, 65_535, 65_536, 100_000] {
        let plain: Vec<u8> = (0..len).map(|at| (at * 31) as u8).collect();
        let mut wire = Vec::new();
        client.send(&plain, &mut wire);
        assert!(!wire.windows(len.max(8)).any(|part| part == plain), "masked");
        let outcome = feed(&mut server, wire.chunks(4_096));
        assert_eq!(outcome, Outcome { plain: plain.clone(), ..Outcome::default() }, "{len} up");
        wire.clear();
        server.send(&plain, &mut wire);
        assert_eq!(feed(&mut client, wire.chunks(999)).plain, plain, "{len} down");
    }
    let mut wire = Vec::new();
    client.close(&mut wire);
    let end = feed(&mut server, [&wire[..]]);
    assert_eq!(end.end, Some(Ok(())));
    assert_eq!(feed(&mut client, [&end.wire[..]]).end, Some(Ok(())));
}

#[test]
fn each_frame_of_a_client_has_a_mask_of_its_own() {
    let (mut client, _) = pair(9);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    client.send(b"ping", &mut first);
    client.send(b"ping", &mut second);
    assert_eq!((&first[..2], &second[..2]), (&b"\x82\x84"[..], &b"\x82\x84"[..]));
    assert_ne!(first[2..6], second[2..6]);
}

#[test]
fn a_client_reads_fragments_and_answers_with_masks() {
    let parts = b"\x02\x03abc\x89\x02hi\x00\x00\x80\x02de\x82\x01f";
    let (mut client, mut server) = pair(9);
    let outcome = feed(&mut client, parts.chunks(1));
    assert_eq!((&outcome.plain[..], outcome.end), (&b"abcdef"[..], None));
    assert_eq!(outcome.wire[..2], [0x8a, 0x82], "a pong with a mask");
    assert_eq!(feed(&mut server, [&outcome.wire[..]]), Outcome::default());
    let masked = feed(&mut client, [&frame(FIN | BINARY, b"x")[..]]);
    assert_eq!(masked.end, Some(Err("WebSocket frame with a mask")));
    assert_eq!(masked.wire[..2], [0x88, 0x82], "the end has one, too");
}

#[test]
fn answers_that_a_client_does_not_believe() {
    let mut request = Vec::new();
    let place = ("broker.example", "/mqtt");
    let ask = |wire: &mut Vec<u8>| WebSocket::client(place, 9, Prng::new(4), wire);
    ask(&mut request);
    let good = String::from_utf8(feed(&mut connect(rules(9)), [&request[..]]).wire).expect("text");
    let (protocol, upgrade) = ("Sec-WebSocket-Protocol: mqtt", "Upgrade: websocket");
    for (from, to, what) in [
        ("", "", ""),
        ("101 Switching", "200 Fine", "the server does not switch to WebSocket"),
        ("101 Switching", "404 Gone", "the server has no WebSocket at this path"),
        ("101 Switching", "403 No", "the server forbids WebSocket here"),
        ("HTTP/1.1 101", "\x16\x03\x01", "the answer is no HTTP"),
        (upgrade, "Upgrade: h2c", "the server switches to something else than WebSocket"),
        ("Accept: ", "Accept: A", "the server does not prove that it speaks WebSocket"),
        (protocol, "X: y", "the server does not agree to the subprotocol mqtt"),
    ] {
        let answer = good.replace(from, to);
        let outcome = feed(&mut ask(&mut Vec::new()), answer.as_bytes().chunks(3));
        assert_eq!(outcome.end, (!what.is_empty()).then_some(Err(what)), "{answer}");
    }
    let endless = vec![b'H'; 8192];
    let outcome = feed(&mut ask(&mut Vec::new()), [&endless[..]]);
    assert_eq!(outcome.end, Some(Err("the answer's HTTP head is too long")));
}

/// Pieces of `bytes` cut at these places.
fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn compare(bytes: &[u8], max_frame: u64, cuts: &[Index]) -> Result<(), TestCaseError> {
    let outcome = feed(&mut open(max_frame), cut(bytes, cuts));
    let (plain, wire, end) = model(bytes, max_frame);
    prop_assert_eq!(outcome.plain, plain);
    prop_assert_eq!(outcome.wire, wire);
    prop_assert_eq!(outcome.end.map(|end| end.is_ok()), end.map(|end| end.is_ok()));
    Ok(())
}

/// Mostly good frames: the first byte, the payload, the form of the length, whether masked.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => Just(FIN | BINARY), 4 => Just(BINARY), 6 => Just(MORE), 6 => Just(FIN | MORE),
        4 => Just(FIN | PING), 2 => Just(FIN | PONG), 1 => Just(FIN | CLOSE), 1 => any::<u8>(),
    ];
    let len = prop_oneof![6 => 0..20usize, 1 => 120..132usize, 1 => 65530..65540usize];
    let payload = (len, any::<u8>()).prop_map(|(len, start)| {
        (0..len).map(|at| (at as u8).wrapping_mul(7).wrapping_add(start)).collect::<Vec<u8>>()
    });
    let close = (0..6000u16, ".{0,9}")
        .prop_map(|(code, text)| [&code.to_be_bytes()[..], text.as_bytes()].concat());
    (first, payload, close).prop_map(|(first, mut payload, close)| {
        if first == FIN | CLOSE {
            payload = close;
        }
        if first & 0x08 != 0 {
            payload.truncate(125 + usize::from(first & 0x10 != 0));
        }
        frame(first, &payload)
    })
}

proptest! {
    #[test]
    fn frames_as_the_model_reads_them(
        parts in prop::collection::vec(any_frame(), 0..12),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..2),
        max_frame in prop_oneof![Just(20u64), Just(130), Just(70_000)],
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut bytes = parts.concat();
        for (at, byte) in damage.iter().filter(|_| !parts.is_empty()) {
            let at = at.index(bytes.len().min(64));
            bytes[at] = *byte;
        }
        compare(&bytes, max_frame, &cuts)?;
    }

    #[test]
    fn any_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        compare(&bytes, 1000, &cuts)?;
        let whole = feed(&mut connect(rules(1000)), [&bytes[..]]);
        prop_assert_eq!(&feed(&mut connect(rules(1000)), cut(&bytes, &cuts)), &whole);
    }

    #[test]
    fn any_request(
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..5),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut bytes = with("X-Forwarded-For", Some("192.0.2.1, ::1"));
        bytes.extend(frame(FIN | BINARY, b"packet"));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = feed(&mut connect(rules(1000)), [&bytes[..]]);
        prop_assert_eq!(&feed(&mut connect(rules(1000)), cut(&bytes, &cuts)), &whole);
    }
}
