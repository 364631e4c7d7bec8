//! Any bytes from a WebSocket client, as a request and as frames behind a good one.
//!
//! Invariants worth naming:
//! * how the input is cut changes nothing;
//! * what is answered is one HTTP head and whole frames without a mask, of which a close frame is
//!   the last;
//! * nothing comes out that did not come in: packets are no longer than the input, nor is what
//!   answers frames.

use std::net::IpAddr;
use std::sync::Arc;

use corelane::transport::{Flow, Rules, WebSocket};

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// What our side does between two pieces.
#[derive(Clone, Copy)]
enum Deed {
    Nothing,
    Send,
    Close,
}

#[derive(PartialEq, Debug)]
struct Outcome {
    plain: Vec<u8>,
    wire: Vec<u8>,
    forwarded: Vec<IpAddr>,
    /// Of the input the faults and the end, in order; the same end is noted once.
    ends: Vec<Result<Flow, &'static str>>,
}

/// Checks one input. Its first byte says where it is cut, its second what we do in between.
pub fn run(data: &[u8]) {
    let [step, deed, bytes @ ..] = data else { return };
    let step = usize::from(*step).max(1);
    let stream = [REQUEST, bytes].concat();
    for input in [bytes, &stream] {
        let whole = feed([input].into_iter(), Deed::Nothing);
        assert_eq!(feed(input.chunks(step), Deed::Nothing), whole, "in pieces of {step}");
        let (front, back) = input.split_at(step.min(input.len()));
        assert_eq!(feed([front, back].into_iter(), Deed::Nothing), whole, "cut at {step}");
        check(&whole, input.len());
    }
    let deed = if deed & 1 == 0 { Deed::Send } else { Deed::Close };
    check_wire(&feed(stream.chunks(step), deed).wire);
}

fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>, deed: Deed) -> Outcome {
    let rules = Rules {
        paths: Box::new([Box::from("/mqtt")]),
        origins: Box::new([Box::from("https://a")]),
        max_frame: 300,
    };
    let mut layer = WebSocket::new(Arc::new(rules));
    let (mut plain, mut wire, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut forwarded = Vec::new();
    for piece in pieces {
        let flow = layer.receive(piece, &mut plain, &mut wire, &mut forwarded);
        let flow = flow.map_err(|fault| fault.what);
        if flow != Ok(Flow::Open) {
            assert!(!layer.is_open());
            if ends.is_empty() {
                ends.push(flow);
            }
            assert!(flow == Ok(Flow::Ended) || ends.len() == 1);
        } else {
            assert!(ends.is_empty(), "open again");
        }
        match deed {
            Deed::Nothing => {}
            Deed::Send => layer.send(piece, &mut wire),
            Deed::Close if layer.is_open() => layer.close(&mut wire),
            Deed::Close => {}
        }
    }
    assert!(forwarded.len() <= 16);
    Outcome { plain, wire, forwarded, ends }
}

fn check(outcome: &Outcome, input: usize) {
    assert!(outcome.plain.len() <= input, "packets longer than the input");
    let frames = check_wire(&outcome.wire);
    assert!(frames <= input + 4, "answers longer than the input");
}

/// Checks all that was written; gives how much of it is frames.
fn check_wire(wire: &[u8]) -> usize {
    let Some(end) = wire.windows(4).position(|four| four == b"\r\n\r\n") else {
        assert_eq!(wire, b"", "an answer without an end");
        return 0;
    };
    let (head, frames) = wire.split_at(end + 4);
    if !head.starts_with(b"HTTP/1.1 101 ") {
        assert!(head.starts_with(b"HTTP/1.1 4") && frames.is_empty(), "a refusal is the end");
    }
    let mut rest = frames;
    while let [first, second, behind @ ..] = rest {
        let (len, behind) = match second {
            0..126 => (usize::from(*second), behind),
            126 => (usize::from(u16::from_be_bytes([behind[0], behind[1]])), &behind[2..]),
            _ => panic!("masked, or longer than any input"),
        };
        assert!(matches!(first, 0x82 | 0x88 | 0x8a), "{first:#x}");
        rest = &behind[len..];
        assert!(*first != 0x88 || rest.is_empty(), "something behind the close frame");
    }
    assert!(rest.is_empty(), "half a frame");
    frames.len()
}
