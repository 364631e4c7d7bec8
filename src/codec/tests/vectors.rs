//! Decoding vectors: bytes in, outcome out, named by statement. Where a statement's number differs
//! between the standards, the version of the vector tells which one is meant.

use super::super::{ReasonCode, Version, connect_version_hint, decode, frame};
use super::{bytes, whole};

type Outcome = Result<(), ReasonCode>;

const OK: Outcome = Ok(());
const MALFORMED: Outcome = Err(ReasonCode::MALFORMED_PACKET);
const PROTOCOL: Outcome = Err(ReasonCode::PROTOCOL_ERROR);
const UNSUPPORTED: Outcome = Err(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
const ALIAS: Outcome = Err(ReasonCode::TOPIC_ALIAS_INVALID);

const OLD: &[Version] = &[Version::V31];
const FOUR: &[Version] = &[Version::V311];
const FIVE: &[Version] = &[Version::V5];
const THREES: &[Version] = &[Version::V31, Version::V311];
const ALL: &[Version] = &[Version::V31, Version::V311, Version::V5];

type Case = (&'static str, &'static [Version], &'static str, Outcome);

fn check(cases: &[Case]) {
    for (name, versions, text, expected) in cases {
        for version in *versions {
            let input = bytes(text);
            let outcome = frame(&input, usize::MAX)
                .map(|whole| whole.unwrap_or_else(|| panic!("{name}: the packet is not whole")))
                .and_then(|frame| decode(&frame, *version))
                .map(|_| ())
                .map_err(|error| error.reason);
            assert_eq!(outcome, *expected, "{name} in {version:?}: {text}");
        }
    }
}

#[test]
fn fixed_header() {
    check(&[
        ("packet type 0", ALL, "00 |", MALFORMED),
        ("[MQTT-2.1.3-1] CONNECT with flags", ALL, "11 |", MALFORMED),
        ("[MQTT-2.1.3-1] CONNACK with flags", ALL, "28 | 00 00", MALFORMED),
        ("[MQTT-2.1.3-1] PUBACK with flags", ALL, "42 | 0001", MALFORMED),
        ("[MQTT-2.1.3-1] PUBREC with flags", ALL, "51 | 0001", MALFORMED),
        ("[MQTT-3.6.1-1] PUBREL without its flag", ALL, "60 | 0001", MALFORMED),
        ("[MQTT-3.6.1-1] PUBREL with another flag", ALL, "63 | 0001", MALFORMED),
        ("[MQTT-3.6.1-1] PUBREL", ALL, "62 | 0001", OK),
        ("[MQTT-2.1.3-1] PUBCOMP with flags", ALL, "72 | 0001", MALFORMED),
        ("[MQTT-3.8.1-1] SUBSCRIBE without its flag", ALL, "80 | 0001 s'a' 00", MALFORMED),
        ("[MQTT-3.10.1-1] UNSUBSCRIBE without its flag", ALL, "a0 | 0001 s'a'", MALFORMED),
        ("[MQTT-3.14.1-1] DISCONNECT with flags", ALL, "e1 |", MALFORMED),
        ("[MQTT-3.15.1-1] AUTH with flags", ALL, "f1 |", MALFORMED),
        ("[MQTT-2.1.3-1] PINGREQ with flags", ALL, "c1 |", MALFORMED),
        ("PINGREQ", ALL, "c0 |", OK),
        ("PINGRESP", ALL, "d0 |", OK),
        ("PINGREQ with a body", ALL, "c0 | 00", MALFORMED),
        ("PINGRESP with a body", ALL, "d0 | 00", MALFORMED),
        ("[MQTT-1.5.5-1] needless bytes in the remaining length", ALL, "c0 80 00", MALFORMED),
        ("a remaining length of five bytes", ALL, "c0 80 80 80 80 01", MALFORMED),
    ]);
}

#[test]
fn the_framer_judges_as_early_as_it_can() {
    let refused = |text: &str, max| {
        let input = bytes(text);
        let found = frame(&input, max).map_err(|error| error.reason)?;
        Ok::<_, ReasonCode>(found.map(|whole| whole.len))
    };
    assert_eq!(refused("", 9), Ok(None));
    assert_eq!(refused("36", 9), Err(ReasonCode::MALFORMED_PACKET));
    assert_eq!(refused("38", 9), Err(ReasonCode::MALFORMED_PACKET));
    assert_eq!(refused("30", 9), Ok(None));
    assert_eq!(refused("30 ff ff ff", 9), Ok(None));
    assert_eq!(refused("30 ff ff ff ff", 9), Err(ReasonCode::MALFORMED_PACKET));
    assert_eq!(refused("30 07", 9), Ok(None));
    assert_eq!(refused("30 08", 9), Err(ReasonCode::PACKET_TOO_LARGE));
    assert_eq!(refused("30 ff ff ff 7f", 268_435_460), Ok(None));
    assert_eq!(refused("30 ff ff ff 7f", 268_435_459), Err(ReasonCode::PACKET_TOO_LARGE));
    let input = bytes("c0 00 30 03 s'a' ff");
    let first = whole(&input, 9);
    assert_eq!((first.len, first.body, first.flags()), (2, &[][..], 0));
    let second = whole(&input[2..], 9);
    assert_eq!((second.len, second.body), (5, &[0, 1, b'a'][..]));
}

#[test]
fn connect_header() {
    check(&[
        ("3.1", ALL, "10 | s'MQIsdp' 03 02 003c s'c'", OK),
        ("3.1.1", ALL, "10 | s'MQTT' 04 02 003c s'c'", OK),
        ("5.0", ALL, "10 | s'MQTT' 05 02 003c 00 s'c'", OK),
        ("[MQTT-3.1.2-1] another protocol", ALL, "10 | s'HTTP' 05 02 003c", UNSUPPORTED),
        ("[MQTT-3.1.2-1] other case", ALL, "10 | s'mqtt' 04 02 003c s'c'", UNSUPPORTED),
        ("[MQTT-3.1.2-2] level 6", ALL, "10 | s'MQTT' 06 02", UNSUPPORTED),
        ("[MQTT-3.1.2-2] level 3, new name", ALL, "10 | s'MQTT' 03 02 003c s'c'", UNSUPPORTED),
        ("[MQTT-3.1.2-2] level 4, old name", ALL, "10 | s'MQIsdp' 04 02 003c s'c'", UNSUPPORTED),
        ("[MQTT-3.1.2-2] a bridge of mosquitto", ALL, "10 | s'MQTT' 84 02 003c s'c'", UNSUPPORTED),
        ("[MQTT-3.1.2-3] the reserved flag", FOUR, "10 | s'MQTT' 04 03 003c s'c'", MALFORMED),
        ("[MQTT-3.1.2-3] the reserved flag", FIVE, "10 | s'MQTT' 05 03 003c 00 s'c'", MALFORMED),
        ("3.1 disregards the reserved flag", OLD, "10 | s'MQIsdp' 03 03 003c s'c'", OK),
        ("no level", ALL, "10 | s'MQTT'", MALFORMED),
        ("no client identifier", ALL, "10 | s'MQTT' 04 02 003c", MALFORMED),
        ("an empty client identifier", ALL, "10 | s'MQTT' 04 02 003c s''", OK),
        ("[MQTT-3.1.3-4] not UTF-8", ALL, "10 | s'MQTT' 04 02 003c 0001 ff", MALFORMED),
        ("trailing bytes", ALL, "10 | s'MQTT' 04 02 003c s'c' 00", MALFORMED),
        ("nothing", ALL, "10 |", MALFORMED),
    ]);
}

#[test]
fn connect_will_and_credentials() {
    check(&[
        ("a will", FOUR, "10 | s'MQTT' 04 2e 003c s'c' s't' s'p'", OK),
        ("a will", FIVE, "10 | s'MQTT' 05 2e 003c 00 s'c' 00 s't' s'p'", OK),
        ("[MQTT-3.1.2-11] QoS without will", FOUR, "10 | s'MQTT' 04 0a 003c s'c'", MALFORMED),
        ("[MQTT-3.1.2-11] QoS without will", FIVE, "10 | s'MQTT' 05 12 003c 00 s'c'", MALFORMED),
        ("[MQTT-3.1.2-13] RETAIN without will", FIVE, "10 | s'MQTT' 05 22 003c 00 s'c'", MALFORMED),
        ("[MQTT-3.1.2-15] RETAIN without will", FOUR, "10 | s'MQTT' 04 22 003c s'c'", MALFORMED),
        ("3.1 disregards will bits", OLD, "10 | s'MQIsdp' 03 3a 003c s'c'", OK),
        ("[MQTT-3.1.2-14] will QoS 3", FOUR, "10 | s'MQTT' 04 1e 0000 s'c' s't' s'p'", MALFORMED),
        (
            "[MQTT-3.1.2-12] will QoS 3",
            FIVE,
            "10 | s'MQTT' 05 1e 0000 00 s'c' 00 s't' s'p'",
            MALFORMED,
        ),
        ("[MQTT-3.1.2-9] no will payload", FOUR, "10 | s'MQTT' 04 06 0000 s'c' s't'", MALFORMED),
        (
            "[MQTT-3.1.3-11] the will topic is not UTF-8",
            FIVE,
            "10 | s'MQTT' 05 06 0000 00 s'c' 00 0001 ff s'p'",
            MALFORMED,
        ),
        ("user and password", FOUR, "10 | s'MQTT' 04 c2 003c s'c' s'u' 0002 00ff", OK),
        ("[MQTT-3.1.2-22] password only", FOUR, "10 | s'MQTT' 04 42 003c s'c' s'p'", PROTOCOL),
        ("password only", OLD, "10 | s'MQIsdp' 03 42 003c s'c' s'p'", PROTOCOL),
        ("5.0 allows a password only", FIVE, "10 | s'MQTT' 05 42 003c 00 s'c' s'p'", OK),
        ("[MQTT-3.1.2-17] no user name", FOUR, "10 | s'MQTT' 04 82 003c s'c'", MALFORMED),
        (
            "[MQTT-3.1.2-16] an extra user name",
            FOUR,
            "10 | s'MQTT' 04 02 003c s'c' s'u'",
            MALFORMED,
        ),
        ("[MQTT-3.1.2-19] no password", FIVE, "10 | s'MQTT' 05 c2 003c 00 s'c' s'u'", MALFORMED),
        ("3.1 lets the length decide", OLD, "10 | s'MQIsdp' 03 c2 003c s'c'", OK),
        (
            "[MQTT-3.1.3-12] the user name has U+0000",
            FIVE,
            "10 | s'MQTT' 05 82 003c 00 s'c' 0001 00",
            MALFORMED,
        ),
    ]);
}

#[test]
fn connect_properties() {
    for (name, section, outcome) in [
        ("all that may be", "11 ffffffff 21 0001 27 00000001 22 000a 19 01 17 00", OK),
        ("user properties repeat", "26 s'a' s'b' 26 s'a' s'b'", OK),
        ("a method", "15 s'm' 16 s'd'", OK),
        ("data without a method", "16 s'd'", PROTOCOL),
        ("receive maximum 0", "21 0000", PROTOCOL),
        ("maximum packet size 0", "27 00000000", PROTOCOL),
        ("request response information 2", "19 02", PROTOCOL),
        ("request problem information 2", "17 02", PROTOCOL),
        ("session expiry twice", "11 00000001 11 00000001", PROTOCOL),
        ("a property of PUBLISH", "23 0001", MALFORMED),
        ("a property of the will", "18 00000001", MALFORMED),
        ("an unknown property", "04 00", MALFORMED),
        ("identifier with needless bytes", "91 00 00000001", MALFORMED),
        ("a huge identifier", "ff ff ff 7f", MALFORMED),
        ("a value cut short", "11 0000", MALFORMED),
        ("[MQTT-1.5.4-1] text that is a surrogate", "15 0003 eda080", MALFORMED),
        ("[MQTT-1.5.7-1] a pair that is not UTF-8", "26 s'a' 0001 80", MALFORMED),
    ] {
        let section = bytes(section).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let len = section.len() / 2;
        let text = format!("10 | s'MQTT' 05 02 003c {len:02x} {section} s'c'");
        check(&[(name, FIVE, String::leak(text), outcome)]);
    }
    check(&[
        ("[MQTT-2.2.2-1] no property length", FIVE, "10 | s'MQTT' 05 02 003c", MALFORMED),
        ("a length past the packet", FIVE, "10 | s'MQTT' 05 02 003c 09 s'c'", MALFORMED),
        (
            "will properties",
            FIVE,
            "10 | s'MQTT' 05 06 0000 00 s'c' 0c 18 00000001 02 00000001 01 01 s't' s'p'",
            OK,
        ),
        (
            "a will with a topic alias",
            FIVE,
            "10 | s'MQTT' 05 06 0000 00 s'c' 03 23 0001 s't' s'p'",
            MALFORMED,
        ),
    ]);
}

#[test]
fn version_hint() {
    for (text, hint) in [
        ("s'MQIsdp' 09", Version::V31),
        ("s'MQTT' 03", Version::V311),
        ("s'MQTT' 04", Version::V311),
        ("s'MQTT' 84", Version::V311),
        ("s'MQTT' 05", Version::V5),
        ("s'MQTT' 06", Version::V5),
        ("s'HTTP' 05", Version::V311),
        ("00", Version::V311),
    ] {
        assert_eq!(connect_version_hint(&bytes(text)), hint, "{text}");
    }
}

#[test]
fn connack() {
    check(&[
        ("success", THREES, "20 | 00 00", OK),
        ("success with a session", FOUR, "20 | 01 00", OK),
        ("[MQTT-3.2.2-1] reserved flags", FOUR, "20 | 02 00", MALFORMED),
        ("[MQTT-3.2.2-1] reserved flags", FIVE, "20 | 80 00 00", MALFORMED),
        ("the byte is reserved in 3.1", OLD, "20 | 80 00", OK),
        ("[MQTT-3.2.2-4] refused with a session", FOUR, "20 | 01 05", PROTOCOL),
        ("[MQTT-3.2.2-6] refused with a session", FIVE, "20 | 01 87 00", PROTOCOL),
        ("return code 6", THREES, "20 | 00 06", PROTOCOL),
        ("[MQTT-3.2.2-8] a code of DISCONNECT", FIVE, "20 | 00 8d 00", PROTOCOL),
        ("no properties", FIVE, "20 | 00 00", MALFORMED),
        ("properties", FIVE, "20 | 00 00 05 24 01 22 000a", OK),
        ("maximum QoS 2", FIVE, "20 | 00 00 02 24 02", PROTOCOL),
        ("receive maximum 0", FIVE, "20 | 00 00 03 21 0000", PROTOCOL),
        ("trailing bytes", THREES, "20 | 00 00 00", MALFORMED),
    ]);
}

#[test]
fn publish() {
    check(&[
        ("QoS 0", THREES, "30 | s't' 'payload'", OK),
        ("QoS 0, nothing in it", THREES, "31 | s't'", OK),
        ("QoS 1", THREES, "3a | s't' 0001", OK),
        ("QoS 0", FIVE, "30 | s't' 00 ff", OK),
        ("[MQTT-3.3.1-2] DUP with QoS 0", ALL, "38 | s't' 00", MALFORMED),
        ("[MQTT-3.3.1-4] QoS 3", ALL, "36 | s't' 0001 00", MALFORMED),
        ("[MQTT-2.2.1-3] packet identifier 0", ALL, "32 | s't' 0000 00", PROTOCOL),
        ("no packet identifier", ALL, "32 | s't' 00", MALFORMED),
        ("[MQTT-3.3.2-1] topic cut short", ALL, "30 | 0002 't'", MALFORMED),
        ("[MQTT-1.5.4-1] a surrogate", ALL, "30 | 0003 eda080 00", MALFORMED),
        ("[MQTT-1.5.4-1] an overlong form", ALL, "30 | 0002 c080 00", MALFORMED),
        ("[MQTT-1.5.4-2] U+0000", ALL, "30 | 0003 61 00 61 00", MALFORMED),
        ("[MQTT-1.5.4-3] U+FEFF is a character", ALL, "30 | 0003 efbbbf 00", OK),
        ("[MQTT-4.7.3-1] an empty topic", THREES, "30 | s'' 'p'", PROTOCOL),
        ("an empty topic without alias", FIVE, "30 | s'' 00", PROTOCOL),
        ("an alias in place of a topic", FIVE, "30 | s'' 03 23 0001", OK),
        ("[MQTT-3.3.2-8] alias 0", FIVE, "30 | s't' 03 23 0000", ALIAS),
        ("an alias twice", FIVE, "30 | s't' 06 23 0001 23 0001", PROTOCOL),
        ("payload format 1", FIVE, "30 | s't' 02 01 01", OK),
        ("payload format 2", FIVE, "30 | s't' 02 01 02", PROTOCOL),
        ("payload format twice", FIVE, "30 | s't' 04 01 00 01 00", PROTOCOL),
        ("several subscription identifiers", FIVE, "30 | s't' 05 0b 01 0b ff 7f", OK),
        ("subscription identifier 0", FIVE, "30 | s't' 02 0b 00", PROTOCOL),
        ("needless bytes in it", FIVE, "30 | s't' 03 0b 80 00", MALFORMED),
        ("[MQTT-3.3.2-13] response topic", FIVE, "30 | s't' 04 08 0001 ff", MALFORMED),
        ("[MQTT-3.3.2-19] content type", FIVE, "30 | s't' 04 03 0001 ff", MALFORMED),
        ("a property of CONNECT", FIVE, "30 | s't' 03 21 0001", MALFORMED),
        ("no property length", FIVE, "30 | s't'", MALFORMED),
        ("properties cut short", FIVE, "30 | s't' 04 23 0001", MALFORMED),
        ("a value cut short", FIVE, "30 | s't' 02 23 00 'payload'", MALFORMED),
    ]);
}

#[test]
fn acknowledgements() {
    for (first, silent, failure) in
        [("40", "10", "87"), ("50", "10", "97"), ("62", "00", "92"), ("70", "00", "92")]
    {
        let cases = [
            ("short", ALL, format!("{first} | 0001"), OK),
            ("[MQTT-2.2.1-5] packet identifier 0", ALL, format!("{first} | 0000"), PROTOCOL),
            ("cut short", ALL, format!("{first} | 00"), MALFORMED),
            ("longer before 5.0", THREES, format!("{first} | 0001 00"), MALFORMED),
            ("reason only", FIVE, format!("{first} | 0001 {silent}"), OK),
            ("failure", FIVE, format!("{first} | 0001 {failure} 00"), OK),
            ("reason string", FIVE, format!("{first} | 0001 {failure} 04 1f s'n'"), OK),
            ("twice", FIVE, format!("{first} | 0001 00 08 1f s'n' 1f s'n'"), PROTOCOL),
            ("another property", FIVE, format!("{first} | 0001 00 03 23 0001"), MALFORMED),
            ("trailing bytes", FIVE, format!("{first} | 0001 00 00 00"), MALFORMED),
        ];
        for (name, versions, text, outcome) in cases {
            check(&[(name, versions, String::leak(text), outcome)]);
        }
    }
    check(&[
        ("[MQTT-3.4.2-1] a code of PUBREL", FIVE, "40 | 0001 92", PROTOCOL),
        ("[MQTT-3.5.2-1] a code of PUBREL", FIVE, "50 | 0001 92", PROTOCOL),
        ("[MQTT-3.6.2-1] a code of PUBACK", FIVE, "62 | 0001 10", PROTOCOL),
        ("[MQTT-3.7.2-1] an unassigned code", FIVE, "70 | 0001 7f", PROTOCOL),
    ]);
}

#[test]
fn subscribe() {
    check(&[
        ("two filters", THREES, "82 | 0001 s'a/#' 00 s'+' 02", OK),
        ("all options", FIVE, "82 | 0001 00 s'a' 2e", OK),
        ("an identifier", FIVE, "82 | 0001 02 0b 01 s'a' 00", OK),
        ("[MQTT-2.2.1-3] packet identifier 0", ALL, "82 | 0000 00 s'a' 00", PROTOCOL),
        ("[MQTT-3.8.3-3] no filter", THREES, "82 | 0001", PROTOCOL),
        ("[MQTT-3.8.3-2] no filter", FIVE, "82 | 0001 00", PROTOCOL),
        ("[MQTT-3.8.3-1] a filter that is not UTF-8", THREES, "82 | 0001 0001 ff 00", MALFORMED),
        ("a filter without options", ALL, "82 | 0001 00 01 61", MALFORMED),
        ("[MQTT-3.8.3-4] QoS 3", THREES, "82 | 0001 s'a' 03", MALFORMED),
        ("QoS 3", FIVE, "82 | 0001 00 s'a' 03", PROTOCOL),
        ("[MQTT-3.8.3-4] reserved bits", FOUR, "82 | 0001 s'a' 04", MALFORMED),
        ("3.1 disregards reserved bits", OLD, "82 | 0001 s'a' 04", OK),
        ("[MQTT-3.8.3-5] reserved bits", FIVE, "82 | 0001 00 s'a' 40", MALFORMED),
        ("[MQTT-3.8.3-5] reserved bits", FIVE, "82 | 0001 00 s'a' 80", MALFORMED),
        ("retain handling 3", FIVE, "82 | 0001 00 s'a' 30", PROTOCOL),
        ("identifier 0", FIVE, "82 | 0001 02 0b 00 s'a' 00", PROTOCOL),
        ("two identifiers", FIVE, "82 | 0001 04 0b 01 0b 02 s'a' 00", PROTOCOL),
        ("the second filter is wrong", FIVE, "82 | 0001 00 s'a' 00 s'b' 03", PROTOCOL),
    ]);
}

#[test]
fn suback() {
    check(&[
        ("granted and failed", THREES, "90 | 0001 00 01 02 80", OK),
        ("granted and failed", FIVE, "90 | 0001 00 00 01 02 87 a2", OK),
        ("[MQTT-3.9.3-2] another code", THREES, "90 | 0001 87", PROTOCOL),
        ("[MQTT-3.9.3-2] another code", FIVE, "90 | 0001 00 10", PROTOCOL),
        ("no code", FIVE, "90 | 0001 00", PROTOCOL),
        ("no code", THREES, "90 | 0001", PROTOCOL),
        ("packet identifier 0", ALL, "90 | 0000 00 00", PROTOCOL),
    ]);
}

#[test]
fn unsubscribe() {
    check(&[
        ("two filters", THREES, "a2 | 0001 s'a' s'b'", OK),
        ("two filters", FIVE, "a2 | 0001 00 s'a' s'b'", OK),
        ("[MQTT-2.2.1-3] packet identifier 0", ALL, "a2 | 0000 00 s'a'", PROTOCOL),
        ("[MQTT-3.10.3-2] no filter", THREES, "a2 | 0001", PROTOCOL),
        ("[MQTT-3.10.3-2] no filter", FIVE, "a2 | 0001 00", PROTOCOL),
        ("[MQTT-3.10.3-1] a filter that is not UTF-8", FIVE, "a2 | 0001 00 0001 ff", MALFORMED),
        ("a filter cut short", ALL, "a2 | 0001 00 01 61 00", MALFORMED),
        ("a property of SUBSCRIBE", FIVE, "a2 | 0001 02 0b 01 s'a'", MALFORMED),
        ("UNSUBACK", THREES, "b0 | 0001", OK),
        ("UNSUBACK with codes", THREES, "b0 | 0001 00", MALFORMED),
        ("UNSUBACK", FIVE, "b0 | 0001 00 00 11 87", OK),
        ("UNSUBACK without codes", FIVE, "b0 | 0001 00", PROTOCOL),
        ("[MQTT-3.11.3-2] another code", FIVE, "b0 | 0001 00 01", PROTOCOL),
    ]);
}

#[test]
fn disconnect_and_auth() {
    check(&[
        ("DISCONNECT", ALL, "e0 |", OK),
        ("DISCONNECT with a body", THREES, "e0 | 00", MALFORMED),
        ("reason only", FIVE, "e0 | 04", OK),
        ("session expiry", FIVE, "e0 | 00 05 11 00000000", OK),
        ("[MQTT-3.14.2-1] a code of CONNACK", FIVE, "e0 | 84", PROTOCOL),
        ("session expiry twice", FIVE, "e0 | 00 0a 11 00000000 11 00000000", PROTOCOL),
        ("trailing bytes", FIVE, "e0 | 00 00 00", MALFORMED),
        ("AUTH before 5.0", THREES, "f0 |", PROTOCOL),
        ("AUTH", FIVE, "f0 |", OK),
        ("a step", FIVE, "f0 | 18 08 15 s'm' 16 s'd'", OK),
        ("no method", FIVE, "f0 | 18 00", PROTOCOL),
        ("[MQTT-3.15.2-1] another code", FIVE, "f0 | 80 04 15 s'm'", PROTOCOL),
    ]);
}
