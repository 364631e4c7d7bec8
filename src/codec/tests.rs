//! Tests of the codec: vectors named by statement, and properties over whole packets.

mod encode_vectors;
mod round_trip;
mod vectors;

use super::{Frame, frame};

/// The packet at the front of `input`, which holds all of it.
fn whole(input: &[u8], max: usize) -> Frame<'_> {
    frame(input, max).expect("a good frame").expect("a whole frame")
}

/// Bytes from text: hexadecimal pairs, `'…'` for characters, `s'…'` for a string with its length,
/// and `|` for the length of all that follows. Blanks separate.
fn bytes(text: &str) -> Vec<u8> {
    if let Some((head, body)) = text.split_once('|') {
        let (mut out, body) = (bytes(head), bytes(body));
        super::wire::put_prefixed(&mut out, |out| out.extend_from_slice(&body));
        return out;
    }
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        if let Some(text) = word.strip_prefix("s'") {
            super::wire::put_binary(&mut out, text.trim_end_matches('\'').as_bytes());
        } else if let Some(text) = word.strip_prefix('\'') {
            out.extend_from_slice(text.trim_end_matches('\'').as_bytes());
        } else {
            for pair in word.as_bytes().chunks(2) {
                let pair = std::str::from_utf8(pair).expect("ASCII");
                out.push(u8::from_str_radix(pair, 16).expect(word));
            }
        }
    }
    out
}
