//! Readable bytes: a small assembler for packets and the patterns that answers are held against.
//!
//! Invariants worth naming: nothing here knows the broker's codec; lengths are counted from what
//! stands between the brackets, so a vector may also write them wrong on purpose.
//!
//! ```text
//! PUB1{ "%/t" 000a [ 23 0001 ] 'hi' }
//! ```
//! `NAME{ … }` or `32{ … }` is a packet, `"…"` a string with its two length bytes, `< … >` the same
//! around other fields, `[ … ]` properties with their length (nothing before MQTT 5), `'…'` bare
//! text, `61*300` a byte many times, `5:10` and `3:10` bytes of one protocol only, `%` the run's
//! tag. `$m` is a captured packet identifier, never zero. Only in answers: `$n!m` one that differs
//! from `$m`, `*` anything until the end, `[*]` any properties, `[~ 21 0014 ]` properties that
//! contain these bytes, `[^ 1a 00 ]` properties without them.

use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V31,
    V311,
    V5,
}

impl Version {
    pub fn parse(text: &str) -> Option<Version> {
        match text {
            "3.1" => Some(Version::V31),
            "3.1.1" => Some(Version::V311),
            "5.0" => Some(Version::V5),
            _ => None,
        }
    }

    /// The standard that it is; MQTT 3.1 is none of those with numbered statements.
    pub fn standard(self) -> Option<&'static str> {
        match self {
            Version::V31 => None,
            Version::V311 => Some("3.1.1"),
            Version::V5 => Some("5.0"),
        }
    }

    fn protocol(self) -> &'static [u8] {
        match self {
            Version::V31 => b"\0\x06MQIsdp\x03",
            Version::V311 => b"\0\x04MQTT\x04",
            Version::V5 => b"\0\x04MQTT\x05",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    Bytes(Vec<u8>),
    Capture(String),
    Rest,
    AnyProperties,
    Containing(Vec<u8>),
    Lacking(Vec<u8>),
}

/// What names stand for in one run of a vector.
pub struct Scope<'s> {
    pub version: Version,
    pub tag: &'s str,
}

const NAMES: &[(&str, u8)] = &[
    ("CONNECT", 0x10),
    ("CONNACK", 0x20),
    ("PUB", 0x30),
    ("PUBR", 0x31),
    ("PUB1", 0x32),
    ("PUB1R", 0x33),
    ("PUB2", 0x34),
    ("PUB2R", 0x35),
    ("PUB1D", 0x3a),
    ("PUB2D", 0x3c),
    ("PUBACK", 0x40),
    ("PUBREC", 0x50),
    ("PUBREL", 0x62),
    ("PUBCOMP", 0x70),
    ("SUBSCRIBE", 0x82),
    ("SUBACK", 0x90),
    ("UNSUBSCRIBE", 0xa2),
    ("UNSUBACK", 0xb0),
    ("PINGREQ", 0xc0),
    ("PINGRESP", 0xd0),
    ("DISCONNECT", 0xe0),
    ("AUTH", 0xf0),
];

/// Splits a line into tokens; quoted text stays whole.
fn tokens(line: &str) -> Vec<String> {
    let (mut found, mut token, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match quote {
            Some(end) => {
                token.push(c);
                if c == end {
                    quote = None;
                    found.push(std::mem::take(&mut token));
                }
            }
            None if c == '"' || c == '\'' => {
                token.push(c);
                quote = Some(c);
            }
            None if c.is_whitespace() || matches!(c, '}' | ']' | '<' | '>' | '[') => {
                found.extend((!token.is_empty()).then(|| std::mem::take(&mut token)));
                found.extend((!c.is_whitespace()).then(|| c.to_string()));
            }
            None => {
                token.push(c);
                if c == '{' {
                    found.push(std::mem::take(&mut token));
                }
            }
        }
    }
    found.extend((!token.is_empty()).then_some(token));
    assert!(quote.is_none(), "an open quote in {line}");
    found
}

pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    let (digits, times) = match text.split_once('*') {
        Some((digits, times)) => (digits, times.parse().expect("a count after *")),
        None => (text, 1),
    };
    assert!(digits.len() % 2 == 0 && digits.is_ascii(), "not hexadecimal: {text}");
    let byte = |at: usize| {
        u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|_| panic!("not hex: {text}"))
    };
    let one: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    one.repeat(times)
}

fn flat(parts: &[Part], captured: &BTreeMap<String, [u8; 2]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(more) => bytes.extend_from_slice(more),
            Part::Capture(name) => {
                let known = captured.get(name);
                bytes.extend(known.unwrap_or_else(|| panic!("${name} was not captured")));
            }
            other => panic!("{other:?} is only for answers"),
        }
    }
    bytes
}

struct Reader<'s> {
    scope: &'s Scope<'s>,
    tokens: std::vec::IntoIter<String>,
    captured: &'s BTreeMap<String, [u8; 2]>,
}

impl Reader<'_> {
    /// Fields up to `end`.
    fn fields(&mut self, end: Option<&str>) -> Vec<Part> {
        let mut parts = Vec::new();
        while let Some(token) = self.tokens.next() {
            if Some(token.as_str()) == end {
                return parts;
            }
            self.field(&token, &mut parts);
        }
        assert!(end.is_none(), "{end:?} is missing");
        parts
    }

    fn field(&mut self, token: &str, parts: &mut Vec<Part>) {
        let text = |quoted: &str| quoted[1..quoted.len() - 1].replace('%', self.scope.tag);
        match token {
            "proto" => parts.push(Part::Bytes(self.scope.version.protocol().to_vec())),
            "*" => parts.push(Part::Rest),
            "[" => self.properties(parts),
            "<" => {
                let bytes = flat(&self.fields(Some(">")), self.captured);
                parts.push(Part::Bytes((bytes.len() as u16).to_be_bytes().to_vec()));
                parts.push(Part::Bytes(bytes));
            }
            _ if token.starts_with('"') => {
                let text = text(token);
                let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
                bytes.extend(text.bytes());
                parts.push(Part::Bytes(bytes));
            }
            _ if token.starts_with('\'') => parts.push(Part::Bytes(text(token).into_bytes())),
            _ if token.starts_with('$') => parts.push(Part::Capture(token[1..].to_owned())),
            _ if token.ends_with('{') => {
                let name = &token[..token.len() - 1];
                let known = NAMES.iter().find(|known| known.0 == name);
                let first = known.map_or_else(|| hex(name), |known| vec![known.1]);
                let body = flat(&self.fields(Some("}")), self.captured);
                parts.push(Part::Bytes([first, varint(body.len()), body].concat()));
            }
            _ => {
                let fifth = self.scope.version == Version::V5;
                match token.split_once(':') {
                    Some(("5", bytes)) if fifth => parts.push(Part::Bytes(hex(bytes))),
                    Some(("3", bytes)) if !fifth => parts.push(Part::Bytes(hex(bytes))),
                    Some(_) => {}
                    None => parts.push(Part::Bytes(hex(token))),
                }
            }
        }
    }

    fn properties(&mut self, parts: &mut Vec<Part>) {
        let mut inner = self.fields_of_properties();
        if self.scope.version != Version::V5 {
            return;
        }
        match inner.first() {
            Some(Part::Rest) => parts.push(Part::AnyProperties),
            Some(Part::Containing(_)) => {
                inner.remove(0);
                parts.push(Part::Containing(flat(&inner, self.captured)));
            }
            Some(Part::Lacking(_)) => {
                inner.remove(0);
                parts.push(Part::Lacking(flat(&inner, self.captured)));
            }
            _ => {
                let bytes = flat(&inner, self.captured);
                parts.push(Part::Bytes(varint(bytes.len())));
                parts.push(Part::Bytes(bytes));
            }
        }
    }

    fn fields_of_properties(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        while let Some(token) = self.tokens.next() {
            match token.as_str() {
                "]" => return parts,
                "~" => parts.push(Part::Containing(Vec::new())),
                "^" => parts.push(Part::Lacking(Vec::new())),
                _ => self.field(&token, &mut parts),
            }
        }
        panic!("] is missing")
    }
}

/// The bytes that `line` says.
pub fn assemble(line: &str, scope: &Scope<'_>, captured: &BTreeMap<String, [u8; 2]>) -> Vec<u8> {
    let mut reader = Reader { scope, tokens: tokens(line).into_iter(), captured };
    flat(&reader.fields(None), captured)
}

/// A packet that is expected.
#[derive(Clone, Debug)]
pub struct Pattern {
    first: u8,
    parts: Vec<Part>,
}

impl Pattern {
    /// The packet that `line` describes.
    pub fn parse(line: &str, scope: &Scope<'_>) -> Pattern {
        let nothing = BTreeMap::new();
        let mut reader = Reader { scope, tokens: tokens(line).into_iter(), captured: &nothing };
        let head = reader.tokens.next().expect("a packet");
        let name = head.strip_suffix('{').unwrap_or_else(|| panic!("not a packet: {line}"));
        let known = NAMES.iter().find(|known| known.0 == name);
        let first = known.map_or_else(|| hex(name)[0], |known| known.1);
        Pattern { first, parts: reader.fields(Some("}")) }
    }

    /// Whether `packet` fits; takes note of what it captures.
    pub fn fits(&self, packet: &Framed, captured: &mut BTreeMap<String, [u8; 2]>) -> bool {
        if packet.first != self.first {
            return false;
        }
        let mut rest = packet.body.as_slice();
        let mut found = captured.clone();
        for part in &self.parts {
            let left = match part {
                Part::Bytes(bytes) => rest.strip_prefix(bytes.as_slice()),
                Part::Rest => Some(&[][..]),
                Part::AnyProperties if rest.is_empty() => Some(rest),
                Part::AnyProperties => properties(rest).map(|(_, after)| after),
                Part::Lacking(_) if rest.is_empty() => Some(rest),
                Part::Containing(bytes) => properties(rest)
                    .filter(|(inside, _)| inside.windows(bytes.len()).any(|w| w == bytes))
                    .map(|(_, after)| after),
                Part::Lacking(bytes) => properties(rest)
                    .filter(|(inside, _)| !inside.windows(bytes.len()).any(|w| w == bytes))
                    .map(|(_, after)| after),
                Part::Capture(name) => rest
                    .split_first_chunk::<2>()
                    .filter(|(id, _)| capture(name, **id, &mut found))
                    .map(|(_, after)| after),
            };
            let Some(left) = left else { return false };
            rest = left;
        }
        if rest.is_empty() {
            *captured = found;
        }
        rest.is_empty()
    }
}

/// Takes note of an identifier; false when it is not what its name says.
fn capture(name: &str, id: [u8; 2], found: &mut BTreeMap<String, [u8; 2]>) -> bool {
    let (name, other) = name.split_once('!').map_or((name, None), |(n, o)| (n, Some(o)));
    let differs = other.is_none_or(|other| found.get(other).is_none_or(|known| *known != id));
    let known = found.insert(name.to_owned(), id);
    id != [0, 0] && differs && known.is_none_or(|known| known == id)
}

fn properties(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, size) = read_varint(bytes)?;
    bytes[size..].split_at_checked(length)
}

fn read_varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// A packet as it came, without any meaning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Framed {
    first: u8,
    body: Vec<u8>,
}

/// Takes the first whole packet out of `bytes`.
pub fn take_packet(bytes: &mut Vec<u8>) -> Option<Framed> {
    let (length, size) = read_varint(bytes.get(1..)?)?;
    assert_eq!(varint(length).len(), size, "a length longer than it has to be");
    if bytes.len() < 1 + size + length {
        return None;
    }
    let rest = bytes.split_off(1 + size + length);
    let packet = std::mem::replace(bytes, rest);
    Some(Framed { first: packet[0], body: packet[1 + size..].to_vec() })
}
