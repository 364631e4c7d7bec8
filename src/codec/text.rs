//! UTF-8 checks for MQTT strings. Most are short ASCII topics, which eight bytes at a time settle.
//!
//! Invariant worth naming: the one `unsafe` of the codec is here.

/// From this many bytes on the vectorised check is worth its set-up.
const LONG: usize = 64;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// `bytes` as an MQTT string: UTF-8 (which excludes surrogates) without U+0000.
/// Source: MQTT-1.5.4-1, MQTT-1.5.4-2.
#[inline]
pub(crate) fn check(bytes: &[u8]) -> Option<&str> {
    if is_plain(bytes) {
        // SAFETY: every byte is in 0x01..=0x7f, and each such byte is a whole UTF-8 character.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    check_any(bytes)
}

fn check_any(bytes: &[u8]) -> Option<&str> {
    let text = if bytes.len() < LONG {
        std::str::from_utf8(bytes).ok()?
    } else {
        simdutf8::basic::from_utf8(bytes).ok()?
    };
    if bytes.contains(&0) { None } else { Some(text) }
}

/// Whether every byte is in `0x01..=0x7f`.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().fold(0, |bad, byte| bad | byte | byte.wrapping_sub(1)) < 0x80;
    };
    // The last eight bytes overlap the whole words before them, which saves the odd rest.
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(suspects(*last), |bad, word| bad | suspects(*word)) == 0
}

/// Non-zero if any byte is zero or above 0x7f. A borrow out of a zero byte can only mark more
/// bytes, and the zero byte is marked itself.
#[inline]
fn suspects(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    (word | word.wrapping_sub(LOW_BITS)) & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_at_every_place() {
        for len in 0..80 {
            let plain = vec![b'x'; len];
            assert_eq!(check(&plain).map(str::len), Some(len));
            for at in 0..len {
                for (byte, ok) in [(0, false), (1, true), (0x7f, true), (0x80, false)] {
                    let mut bytes = plain.clone();
                    bytes[at] = byte;
                    assert_eq!(check(&bytes).is_some(), ok, "byte {byte} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn longer_characters_pass_and_surrogates_do_not() {
        for fill in [0, 7, 100] {
            let text = "ä€😀".repeat(1 + fill);
            assert_eq!(check(text.as_bytes()), Some(text.as_str()));
            let mut bytes = text.into_bytes();
            bytes.extend_from_slice(&[0xed, 0xa0, 0x80]);
            assert_eq!(check(&bytes), None);
        }
        assert_eq!(check("ä\0".as_bytes()), None);
    }
}
