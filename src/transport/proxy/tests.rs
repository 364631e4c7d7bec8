//! Headers as balancers send them, cut and damaged ones.

use super::*;
use proptest::prelude::*;

fn ok(bytes: &[u8]) -> (Header, usize) {
    parse(bytes).expect("a valid header").expect("a whole one")
}

/// A header of version 2 with `command` and `family`.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn value(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
    out
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0x07, 0x5b];

#[test]
fn lines_name_both_ends() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 1883\r\nrest";
    let (header, len) = ok(line);
    assert_eq!(header.source, Some("192.0.2.1:8080".parse().expect("valid")));
    assert_eq!(header.destination, Some("198.51.100.2:1883".parse().expect("valid")));
    assert_eq!(&line[len..], b"rest");
    let (header, _) = ok(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n");
    assert_eq!(header.source, Some("[2001:db8::1]:1".parse().expect("valid")));
    assert_eq!(ok(b"PROXY UNKNOWN\r\n"), (Header::default(), 15));
    assert_eq!(ok(b"PROXY UNKNOWN ff:: 1 2 3\r\n").0, Header::default());
}

#[test]
fn wrong_lines_are_refused() {
    for line in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x10\x0c\x00\x04MQTT",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 8080\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 1\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 1 1\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 1 1\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 1 1\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 1\n",
        &[b'P'; 200],
        &[&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(),
    ] {
        assert!(parse(line).is_err(), "{:?}", String::from_utf8_lossy(line));
    }
}

#[test]
fn binary_headers_name_both_ends_and_the_clients_tls() {
    let mut ssl = vec![CLIENT_SSL | 2, 0, 0, 0, 0];
    ssl.extend(value(SSL_VERSION, b"TLSv1.3"));
    ssl.extend(value(SSL_COMMON_NAME, b"meter-1"));
    let body = [&V4[..], &value(0x04, b"nothing"), &value(TYPE_SSL, &ssl)].concat();
    let bytes = [binary(1, 0x11, &body), b"rest".to_vec()].concat();
    let (header, len) = ok(&bytes);
    assert_eq!(header.source, Some("192.0.2.1:8080".parse().expect("valid")));
    assert_eq!(header.destination, Some("198.51.100.2:1883".parse().expect("valid")));
    let tls = header.tls.expect("TLS");
    assert_eq!((tls.version.as_deref(), tls.verified), (Some("TLSv1.3"), true));
    assert_eq!(tls.common_name.as_deref(), Some("meter-1"));
    assert_eq!(&bytes[len..], b"rest");
    // Not verified, or no certificate at all: nobody is vouched for.
    for (client, verify) in [(CLIENT_SSL | 2, 1), (CLIENT_SSL, 0)] {
        let ssl = [client, 0, 0, 0, verify];
        let body = [&V4[..], &value(TYPE_SSL, &ssl)].concat();
        assert!(!ok(&binary(1, 0x11, &body)).0.tls.expect("TLS").verified);
    }
    let ssl = [2, 0, 0, 0, 0];
    let body = [&V4[..], &value(TYPE_SSL, &ssl)].concat();
    assert_eq!(ok(&binary(1, 0x11, &body)).0.tls, None);
}

#[test]
fn other_families_and_local_connections_have_no_addresses() {
    assert_eq!(ok(&binary(0, 0, &[])).0, Header::default());
    assert_eq!(ok(&binary(0, 0x11, &V4)).0, Header::default(), "a health check of the balancer");
    assert_eq!(ok(&binary(1, 0, &[])).0, Header::default());
    assert_eq!(ok(&binary(1, 0x31, &[0; 216])).0, Header::default());
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33]) = (1, 2, 7);
    let header = ok(&binary(1, 0x21, &v6)).0;
    assert_eq!(header.source, Some("[::1]:7".parse().expect("valid")));
}

#[test]
fn damaged_binary_headers_are_refused() {
    let cut = [&V4[..], &[TYPE_SSL, 0, 9, 1]].concat();
    for bytes in [
        binary(2, 0x11, &V4),
        binary(1, 0x41, &V4),
        binary(1, 0x11, &V4[..11]),
        binary(1, 0x11, &cut),
        binary(1, 0x11, &[&V4[..], &[4]].concat()),
        binary(1, 0x11, &[&V4[..], &value(TYPE_SSL, &[1, 0])].concat()),
        binary(1, 0x11, &[&V4[..], &value(TYPE_CRC32C, &[0; 4])].concat()),
        binary(1, 0x11, &[&V4[..], &value(TYPE_CRC32C, &[0; 3])].concat()),
        binary(1, 0x11, &[0; HEADER_MAX]),
        [&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat(),
    ] {
        assert!(parse(&bytes).is_err(), "{bytes:x?}");
    }
}

#[test]
fn a_right_checksum_is_accepted() {
    // The check value of CRC-32C for these digits.
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    let mut bytes = binary(1, 0x11, &[&V4[..], &value(TYPE_CRC32C, &[0; 4])].concat());
    let sum = crc32c(bytes.iter().copied());
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    assert!(ok(&bytes).0.source.is_some());
    bytes[20] ^= 1;
    assert!(parse(&bytes).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_more_bytes_never_change_an_answer(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        start in 0..3,
    ) {
        if start > 0 {
            let head: &[u8] = if start == 1 { b"PROXY TCP4 " } else { SIGNATURE };
            bytes.splice(0..0, head.iter().copied());
        }
        let whole = parse(&bytes);
        for end in 0..bytes.len() {
            if let Ok(Some(found)) = parse(&bytes[..end]) {
                prop_assert_eq!(whole.clone(), Ok(Some(found)));
            }
        }
    }

    #[test]
    fn every_cut_of_a_header_asks_for_more(cut in 0usize..28) {
        let bytes = binary(1, 0x11, &V4);
        prop_assert_eq!(parse(&bytes[..cut]), Ok(None));
    }
}
