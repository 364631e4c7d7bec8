//! Any bytes as the header of a proxy.
//!
//! Invariants worth naming: what is known of a header's front stays so, however much follows; what
//! a header says is what it says without what is behind it.

use corelane::transport::{HEADER_MAX, parse_proxy};

/// Checks one input: as it is, and behind what begins a header of either version.
pub fn run(data: &[u8]) {
    check(data);
    check(&[b"PROXY ", data].concat());
    let proxied = b"\r\n\r\n\0\r\nQUIT\n\x21";
    check(&[&proxied[..], data].concat());
    if let [family, body @ ..] = data {
        let len = (body.len().min(HEADER_MAX) as u16).to_be_bytes();
        check(&[&proxied[..], &[*family], &len, body].concat());
    }
}

fn check(bytes: &[u8]) {
    let whole = parse_proxy(bytes);
    for end in 0..bytes.len() {
        let part = parse_proxy(&bytes[..end]);
        assert!(part == Ok(None) || part == whole, "cut at {end}: {part:?}, then {whole:?}");
    }
    match whole {
        Ok(Some((header, len))) => {
            assert!(len <= bytes.len().min(HEADER_MAX));
            assert_eq!(header.source.is_some(), header.destination.is_some());
            assert_eq!(parse_proxy(&bytes[..len]), Ok(Some((header, len))));
        }
        Ok(None) => assert!(bytes.len() < HEADER_MAX, "a header has a bound"),
        Err(fault) => assert!(!fault.what.is_empty()),
    }
}
