//! Headers of both versions: what the protocol's text shows, what it forbids, and every cut.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::checksum::crc;
use super::*;

const SIGNATURE: [u8; 12] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10];
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// A header of version 2 around `body`.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("a short body");
    [&SIGNATURE[..], &[command, family], &len.to_be_bytes(), body].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("a short value");
    [&[kind][..], &len.to_be_bytes(), value].concat()
}

/// Fills in the checksum, whose addition ends `behind` bytes before the header's end.
fn seal(mut header: Vec<u8>, behind: usize) -> Vec<u8> {
    let end = header.len() - behind;
    let sum = crc(&[&header]).to_be_bytes();
    header[end - 4..end].copy_from_slice(&sum);
    header
}

/// 192.0.2.1:40000 to 198.51.100.7:1883.
const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0x9c, 0x40, 0x07, 0x5b];

fn from_to(source: &str, destination: &str) -> Header {
    let address = |text: &str| Some(text.parse().expect("an address"));
    Header { source: address(source), destination: address(destination), tls: None }
}

fn four() -> Header {
    from_to("192.0.2.1:40000", "198.51.100.7:1883")
}

/// Reads a header with something behind it, and every cut of it.
fn read(bytes: &[u8]) -> Header {
    let (header, len) = parse(bytes).expect("good").expect("whole");
    assert_eq!(len, bytes.len());
    let more = [bytes, b"\x10\x0c"].concat();
    assert_eq!(parse(&more), Ok(Some((header.clone(), len))), "what follows is not looked at");
    for end in 0..len {
        assert_eq!(parse(&bytes[..end]), Ok(None), "cut at {end}");
    }
    header
}

fn refused(bytes: &[u8]) -> &'static str {
    parse(bytes).expect_err("refused").what
}

#[test]
fn lines() {
    let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535";
    let filler = "x".repeat(105 - longest.len());
    for (line, header) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 40000 1883", four()),
        (
            "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0",
            from_to("255.255.255.255:65535", "0.0.0.0:0"),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 1 2", from_to("[2001:db8::1]:1", "[::1]:2")),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2", from_to("[::ffff:192.0.2.1]:1", "[::1]:2")),
        ("PROXY UNKNOWN", Header::default()),
        (&format!("{longest}{filler}"), Header::default()),
    ] {
        assert_eq!(read(format!("{line}\r\n").as_bytes()), header, "{line}");
    }
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY",
        "PROXY ",
        "PROXY UNKNOWNS",
        "PROXY TCP5 192.0.2.1 198.51.100.7 40000 1883",
        "PROXY tcp4 192.0.2.1 198.51.100.7 40000 1883",
        "PROXY  TCP4 192.0.2.1 198.51.100.7 40000 1883",
        "PROXY TCP4  192.0.2.1 198.51.100.7 40000 1883",
        "PROXY TCP4 192.0.2.1 198.51.100.7 40000",
        "PROXY TCP4 192.0.2.1 198.51.100.7 40000 1883 ",
        "PROXY TCP4 192.0.2.1 198.51.100.7 40000 1883 1",
        "PROXY TCP4 192.0.2.1 198.51.100.7 40000 65536",
        "PROXY TCP4 192.0.2.1 198.51.100.7 +1 1883",
        "PROXY TCP4 192.0.2.1 198.51.100.7 -1 1883",
        "PROXY TCP4 192.0.2.1 198.51.100.7 40000 ",
        "PROXY TCP4 192.0.2.01 198.51.100.7 40000 1883",
        "PROXY TCP4 ::1 ::2 40000 1883",
        "PROXY TCP6 192.0.2.1 198.51.100.7 40000 1883",
        "PROXY TCP6 [::1] [::2] 40000 1883",
        "PROXY TCP4 192.0.2.1 198.51.100.7 40000 1883\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 40000 \u{661}",
    ] {
        let what = refused(format!("{line}\r\n").as_bytes());
        assert!(["malformed PROXY line", "no PROXY header"].contains(&what), "{line}: {what}");
    }
}

#[test]
fn a_line_is_bounded() {
    let line = format!("PROXY UNKNOWN {}", "x".repeat(107));
    assert_eq!(parse(&line.as_bytes()[..106]), Ok(None));
    assert_eq!(refused(&line.as_bytes()[..107]), "PROXY line too long");
    let long_by_one = format!("{}\r\n", &line[..106]);
    assert_eq!(refused(long_by_one.as_bytes()), "PROXY line too long");
}

#[test]
fn what_is_no_header() {
    for bytes in [&b"\x10\x0c\0\x04MQTT"[..], b"GET ", b"PROXX", b"\r\n\r\n\x01", b"\r\nP", b"\0"] {
        assert_eq!(refused(bytes), "no PROXY header", "{bytes:?}");
    }
    assert_eq!(parse(b""), Ok(None));
    assert_eq!(refused(b"PROXY UNKNOWN\n"), "malformed PROXY line", "no CR");
}

#[test]
fn binary_headers() {
    let (mut six, mut unix) = ([0; 36], [0; 216]);
    six[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().expect("good").octets());
    six[31] = 1;
    six[32..].copy_from_slice(&[0, 7, 0, 8]);
    unix[..5].copy_from_slice(b"/tmp/");
    let from_six = from_to("[2001:db8::1]:7", "[::1]:8");
    for (family, body, header) in [
        (0x11, &FOUR[..], four()),
        (0x12, &FOUR, four()),
        (0x21, &six, from_six.clone()),
        (0x22, &six, from_six),
        (0x31, &unix, Header::default()),
        (0x32, &unix, Header::default()),
        (0x00, b"", Header::default()),
        (0x00, b"what the sender likes", Header::default()),
    ] {
        assert_eq!(read(&binary(PROXY, family, body)), header, "{family:#x}");
        assert_eq!(read(&binary(LOCAL, family, body)), Header::default(), "{family:#x}");
    }
    assert_eq!(read(&binary(LOCAL, 0xff, b"\x01")), Header::default(), "LOCAL is not looked into");
}

#[test]
fn binary_headers_that_are_none() {
    let addresses = "PROXY header without its addresses";
    for (command, family, body, what) in [
        (0x11, 0x11, &FOUR[..], "unknown version of the PROXY header"),
        (0x31, 0x11, &FOUR, "unknown version of the PROXY header"),
        (0x22, 0x11, &FOUR, "unknown command in the PROXY header"),
        (0x2f, 0x11, &FOUR, "unknown command in the PROXY header"),
        (PROXY, 0x10, &FOUR, "unknown address family in the PROXY header"),
        (PROXY, 0x13, &FOUR, "unknown address family in the PROXY header"),
        (PROXY, 0x41, &FOUR, "unknown address family in the PROXY header"),
        (PROXY, 0x11, &FOUR[..11], addresses),
        (PROXY, 0x21, &[0; 35], addresses),
        (PROXY, 0x31, &[0; 215], addresses),
        (PROXY, 0x11, b"", addresses),
    ] {
        assert_eq!(refused(&binary(command, family, body)), what, "{command:#x} {family:#x}");
    }
}

#[test]
fn a_binary_header_is_bounded() {
    let mut body = FOUR.to_vec();
    body.extend(tlv(0x04, &vec![0; 4096 - 16 - FOUR.len() - 3]));
    let (header, len) = parse(&binary(PROXY, 0x11, &body)).expect("good").expect("whole");
    assert_eq!((header, len), (four(), HEADER_MAX));
    body.push(0);
    let long = binary(PROXY, 0x11, &body);
    assert_eq!(refused(&long[..16]), "PROXY header too long", "before the body comes");
    assert_eq!(refused(&binary(LOCAL, 0, &body)), "PROXY header too long");
}

/// A header from a client with TLS.
fn with_tls(client: u8, verify: u32, inner: &[Vec<u8>]) -> Vec<u8> {
    let value = [&[client][..], &verify.to_be_bytes()[..], &inner.concat()].concat();
    let before = tlv(0x01, b"mqtt");
    binary(PROXY, 0x11, &[&FOUR[..], &before, &tlv(0x20, &value), &tlv(0xee, b"")].concat())
}

#[test]
fn tls_of_the_client() {
    let version = || tlv(0x21, b"TLSv1.3");
    let name = || tlv(0x22, "café-7".as_bytes());
    let cipher = || tlv(0x23, b"\xff\0");
    for (client, verify, inner, tls) in [
        (0x01, 0, vec![version()], Some((Some("TLSv1.3"), None, false))),
        (0x03, 0, vec![version(), name()], Some((Some("TLSv1.3"), Some("café-7"), true))),
        (0x05, 0, vec![cipher(), name()], Some((None, Some("café-7"), true))),
        (0x07, 9, vec![name(), version()], Some((Some("TLSv1.3"), Some("café-7"), false))),
        (0x01, 0, vec![], Some((None, None, false))),
        (0x06, 0, vec![version(), name()], None),
    ] {
        let tls = tls.map(|(version, common_name, verified)| PeerTls {
            version: version.map(Box::from),
            common_name: common_name.map(Box::from),
            verified,
        });
        let header = read(&with_tls(client, verify, &inner));
        assert_eq!(header, Header { tls, ..four() }, "{client:#x}");
    }
}

#[test]
fn additions_that_are_malformed() {
    let twice = "PROXY header says a thing twice";
    let cut = "PROXY header with an addition cut short";
    let text = "PROXY header with text that is not UTF-8";
    let tls = tlv(0x20, &[1, 0, 0, 0, 0]);
    let inside = |inner: &[u8]| tlv(0x20, &[&[1, 0, 0, 0, 0], inner].concat());
    let name = tlv(0x22, b"a");
    for (additions, what) in [
        (vec![0x04], cut),
        (vec![0x04, 0], cut),
        (vec![0x04, 0, 1], cut),
        (vec![0xee, 0xff, 0xff, 0], cut),
        (tlv(0x20, &[1, 0, 0, 0]), "PROXY header with TLS cut short"),
        (inside(&[0x22]), cut),
        (inside(&[0x22, 0, 2, b'a']), cut),
        (inside(&tlv(0x22, b"\xff")), text),
        (inside(&tlv(0x22, b"a\0b")), text),
        (inside(&tlv(0x21, b"\xc3")), text),
        (inside(&[&name[..], &name].concat()), twice),
        ([&tls[..], &tls].concat(), twice),
        (tlv(0x03, &[0; 3]), "PROXY checksum of a wrong length"),
        (tlv(0x03, &[0; 5]), "PROXY checksum of a wrong length"),
        (tlv(0x03, &[0; 4]), "PROXY header with a wrong checksum"),
    ] {
        let bytes = binary(PROXY, 0x11, &[&FOUR[..], &additions].concat());
        assert_eq!(refused(&bytes), what, "{additions:02x?}");
    }
    let sum = tlv(0x03, &[0; 4]);
    let first = seal(binary(PROXY, 0x11, &[&FOUR[..], &sum].concat()), 0);
    assert_eq!(read(&first), four());
    // Both sums count as zeros for themselves only, so no header can satisfy the second.
    let both = seal(binary(PROXY, 0x11, &[&FOUR[..], &sum, &sum].concat()), 7);
    assert_eq!(refused(&both), twice);
}

#[test]
fn the_checksum_covers_every_byte() {
    let body = [&FOUR[..], &tlv(0x03, &[0; 4]), &tlv(0x04, b"noop")].concat();
    let good = seal(binary(PROXY, 0x11, &body), 7);
    assert_eq!(read(&good), four());
    let in_checksum = 16 + FOUR.len() + 3..16 + FOUR.len() + 7;
    let in_addresses = 16..16 + FOUR.len();
    for at in in_addresses.chain(in_checksum).chain(good.len() - 4..good.len()) {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert_eq!(refused(&bad), "PROXY header with a wrong checksum", "bit {bit} of {at}");
        }
    }
}

/// Whatever the bytes are: once something is known it stays so, however much follows.
fn check_any(bytes: &[u8]) -> Result<(), TestCaseError> {
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        let part = parse(&bytes[..end]);
        if part != Ok(None) {
            prop_assert_eq!(&part, &whole, "cut at {}", end);
        }
    }
    if let Ok(Some((_, len))) = whole {
        prop_assert!(len <= bytes.len());
        prop_assert_eq!(parse(&bytes[..len]), whole);
    }
    Ok(())
}

fn damaged(mut bytes: Vec<u8>, damage: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, byte) in damage {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_any(&bytes)?;
        check_any(&[&SIGNATURE[..], &bytes].concat())?;
        check_any(&[b"PROXY ", &bytes[..]].concat())?;
    }

    #[test]
    fn damaged_headers(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        name in "[a-z]{0,9}",
    ) {
        let inner = [tlv(0x21, b"TLSv1.2"), tlv(0x22, name.as_bytes())];
        check_any(&damaged(with_tls(3, 0, &inner), &damage))?;
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 1883\r\nrest".to_vec();
        check_any(&damaged(line, &damage))?;
    }

    #[test]
    fn addresses_come_back(
        source: Ipv6Addr, destination: Ipv6Addr, four: Ipv4Addr, ports: [u16; 2], sealed: bool,
    ) {
        let [from, to] = ports;
        let line = format!("PROXY TCP6 {source} {destination} {from} {to}\r\n");
        let expected = Header {
            source: Some((IpAddr::V6(source), from).into()),
            destination: Some((IpAddr::V6(destination), to).into()),
            tls: None,
        };
        prop_assert_eq!(read(line.as_bytes()), expected.clone());
        let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
        let mut body = [&source.octets()[..], &destination.octets(), &ports].concat();
        body.extend(if sealed { tlv(0x03, &[0; 4]) } else { Vec::new() });
        let header = binary(PROXY, 0x21, &body);
        let header = if sealed { seal(header, 0) } else { header };
        prop_assert_eq!(read(&header), expected);
        let line = format!("PROXY TCP4 {four} {four} {from} {to}\r\n");
        let source = Some((IpAddr::V4(four), from).into());
        prop_assert_eq!(read(line.as_bytes()).source, source);
    }
}
