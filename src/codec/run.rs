//! Runs: PUBLISH packets that stand one behind the other and differ in their payloads alone.
//!
//! A client that sends faster than it is read leaves many packets in one receive buffer, mostly to
//! one topic. What is found out about the first of them holds for all, and their bytes are the
//! very bytes that a subscriber of the same form gets.

use super::frame::frame;
use super::{PublishOut, Version};

/// The first byte of a PUBLISH with QoS 0, neither retained nor repeated.
pub const PLAIN_PUBLISH: u8 = 0x30;

/// What the packets of a run have in common. Pure value, borrowed.
#[derive(Clone, Copy, Debug)]
struct Alike<'a> {
    /// The begin of each body, up to the payload.
    head: &'a [u8],
    has_properties: bool,
}

impl<'a> Alike<'a> {
    /// What packets have to be like to follow a PUBLISH of a peer that speaks `version`, with
    /// [`PLAIN_PUBLISH`] as its first byte. `None`: it has properties, which nothing may follow.
    #[inline]
    fn of(body: &'a [u8], version: Version) -> Option<Alike<'a>> {
        let topic = 2 + usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
        let has_properties = version == Version::V5;
        let head = body.get(..topic + usize::from(has_properties))?;
        let plain = topic > 2 && (!has_properties || head[topic] == 0);
        plain.then_some(Alike { head, has_properties })
    }

    /// The topic.
    #[inline]
    fn topic(&self) -> &'a [u8] {
        &self.head[2..self.head.len() - usize::from(self.has_properties)]
    }

    /// Bytes of the packet at the front of `input`, if it is alike and has at most `max`.
    #[inline]
    fn next(&self, input: &[u8], max: usize) -> Option<usize> {
        match input {
            // Most packets are short.
            [PLAIN_PUBLISH, short @ ..0x80, body @ ..] => {
                let len = usize::from(*short);
                let whole = self.head.len() <= len && len <= body.len() && len + 2 <= max;
                (whole && body.starts_with(self.head)).then_some(len + 2)
            }
            [PLAIN_PUBLISH, ..] => {
                let next = frame(input, max).ok()??;
                next.body.starts_with(self.head).then_some(next.len)
            }
            _ => None,
        }
    }
}

/// Packets of which only the first was looked at: those behind it are found when they are taken, so
/// that nobody pays for more than is taken. Pure value, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    bytes: &'a [u8],
    /// Largest packet.
    max: usize,
    alike: Alike<'a>,
}

impl<'a> Row<'a> {
    /// The packets at the front of `bytes`, each with at most `max`; the first is a PUBLISH of a
    /// peer that speaks `version`, with [`PLAIN_PUBLISH`] and `body`. `None`: it has properties.
    #[inline]
    pub fn new(bytes: &'a [u8], body: &'a [u8], version: Version, max: usize) -> Option<Row<'a>> {
        Alike::of(body, version).map(|alike| Row { bytes, max, alike })
    }

    /// The row that all of `bytes` are, where they were one before. `None`: they are none.
    #[inline]
    pub fn known(bytes: &'a [u8], version: Version) -> Option<Row<'a>> {
        let first = frame(bytes, usize::MAX).ok()??;
        Row::new(bytes, first.body, version, usize::MAX)
    }

    /// The topic.
    #[inline]
    pub fn topic(&self) -> &'a [u8] {
        self.alike.topic()
    }

    /// All bytes, those that do not belong to the row included.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The packets at the front that are alike, as long as so many of them with so many bytes
    /// together are what `fits`. `None`: there is none.
    #[inline]
    pub fn run(&self, fits: impl Fn(usize, usize) -> bool) -> Option<Run<'a>> {
        let (mut count, mut len, mut largest) = (0, 0, 0);
        while let Some(next) = self.alike.next(&self.bytes[len..], self.max)
            && fits(count + 1, len + next)
        {
            count += 1;
            len += next;
            largest = largest.max(next);
        }
        let (bytes, alike) = (&self.bytes[..len], self.alike);
        (count > 0).then_some(Run { bytes, count, largest, alike })
    }

    /// The first packet alone; `None`: it is none of the row.
    pub fn first(&self) -> Option<Run<'a>> {
        self.run(|count, _| count <= 1)
    }
}

/// PUBLISH packets that are [`Alike`], one behind the other. Pure value, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    bytes: &'a [u8],
    count: usize,
    largest: usize,
    alike: Alike<'a>,
}

impl<'a> Run<'a> {
    /// How many packets there are; never zero.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// All packets as they came.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the largest packet, encoded for `version` or shorter by at most one property length
    /// and what that adds to the remaining length.
    #[inline]
    pub fn largest(&self, version: Version) -> usize {
        self.largest + if self.is_encoded(version) { 0 } else { 2 }
    }

    /// Bytes of all packets, encoded for `version` or shorter, as [`Run::largest`].
    #[inline]
    pub fn len_at_most(&self, version: Version) -> usize {
        self.bytes.len() + if self.is_encoded(version) { 0 } else { 2 * self.count }
    }

    /// Whether [`Run::bytes`] are what a peer that speaks `version` understands.
    #[inline]
    pub fn is_encoded(&self, version: Version) -> bool {
        self.alike.has_properties == (version == Version::V5)
    }

    /// The payloads in order.
    pub fn payloads(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let (bytes, head) = (self.bytes, self.alike.head.len());
        let mut at = 0;
        std::iter::from_fn(move || {
            let next = frame(bytes.get(at..)?, usize::MAX).ok()??;
            at += next.len;
            next.body.get(head..)
        })
    }

    /// Appends the packets for a peer that speaks `version`.
    pub fn encode(&self, topic: &str, version: Version, out: &mut Vec<u8>) {
        for payload in self.payloads() {
            PublishOut { topic, payload, ..PublishOut::default() }.encode(version, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: (usize, usize, usize) = (usize::MAX, usize::MAX, 1 << 20);

    fn packets(version: Version, packets: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (topic, payload) in packets {
            PublishOut { topic, payload, ..PublishOut::default() }.encode(version, &mut bytes);
        }
        bytes
    }

    /// What is a run behind the first packet of `bytes`.
    fn behind(
        version: Version,
        bytes: &[u8],
        bounds: (usize, usize, usize),
    ) -> Option<(Run<'_>, usize)> {
        let first = frame(bytes, 1 << 20).expect("valid").expect("whole");
        let (most, len, max) = bounds;
        let run = Row::new(&bytes[first.len..], first.body, version, max)?
            .run(|count, bytes| count <= most && bytes <= len)?;
        Some((run, first.len))
    }

    #[test]
    fn a_run_ends_where_a_packet_differs_in_more_than_its_payload() {
        for version in [Version::V31, Version::V311, Version::V5] {
            let long = [7; 300];
            let alike: [(&str, &[u8]); 4] =
                [("a/b", b"1"), ("a/b", b""), ("a/b", &long), ("a/b", b"2")];
            let mut bytes = packets(version, &alike);
            let whole = bytes.len();
            let (run, first) = behind(version, &bytes, ALL).expect("a run");
            assert_eq!((run.count(), run.bytes().len()), (3, whole - first));
            assert!(run.payloads().eq([&b""[..], &long, b"2"]));
            bytes.extend(packets(version, &[("a/bc", b"3")]));
            assert_eq!(behind(version, &bytes, ALL).expect("a run").0.bytes().len(), whole - first);
            // Not the whole of the last packet is there.
            assert_eq!(behind(version, &bytes[..whole - 1], ALL).expect("a run").0.count(), 2);
        }
    }

    #[test]
    fn bounds_are_kept() {
        let bytes = packets(Version::V311, &[("t", b"1"), ("t", b"22"), ("t", b"333")]);
        let (count, len) = (usize::MAX, usize::MAX);
        let found = |bounds| behind(Version::V311, &bytes, bounds).map(|(run, _)| run.count());
        assert_eq!(found((1, len, 100)), Some(1));
        assert_eq!(found((0, len, 100)), None);
        assert_eq!(found((count, 14, 100)), Some(1));
        assert_eq!(found((count, 15, 100)), Some(2));
        assert_eq!(found((count, len, 7)), Some(1), "the generic way refuses what is too large");
    }

    #[test]
    fn what_is_no_plain_publish_is_no_run() {
        let packet = |change: fn(&mut PublishOut<'_>), version| {
            let mut bytes = packets(version, &[("t", b"1")]);
            let mut out = PublishOut { topic: "t", payload: b"1", ..PublishOut::default() };
            change(&mut out);
            out.encode(version, &mut bytes);
            bytes
        };
        let id = crate::base::PacketId::new(1);
        for bytes in [
            packet(|out| out.retain = true, Version::V311),
            packet(|out| out.topic = "u", Version::V311),
            packet(|out| out.topic = "tt", Version::V311),
            vec![0x30, 3, 0, 1, b't', 0xc0, 0],
            vec![0x30, 3, 0, 1, b't', 0x30, 2, 0, 1, b't'],
            vec![0x30, 3, 0, 1, b't', 0x30, 4, 0, 1, b't'],
            vec![0x30, 3, 0, 1, b't', 0x30, 0x80, 0x80, 0x80, 0x80, 1],
        ] {
            assert!(behind(Version::V311, &bytes, ALL).is_none());
        }
        let mut acknowledged = packets(Version::V311, &[("t", b"1")]);
        PublishOut {
            qos: super::super::QoS::AtLeastOnce,
            packet_id: id,
            topic: "t",
            ..PublishOut::default()
        }
        .encode(Version::V311, &mut acknowledged);
        assert!(behind(Version::V311, &acknowledged, ALL).is_none());
        let expiring = packet(|out| out.expiry_s = Some(3), Version::V5);
        assert!(behind(Version::V5, &expiring, ALL).is_none());
        let mut aliased = Vec::new();
        PublishOut { topic: "", alias: Some(1), ..PublishOut::default() }
            .encode(Version::V5, &mut aliased);
        aliased.extend(aliased.clone());
        assert!(behind(Version::V5, &aliased, ALL).is_none());
    }

    #[test]
    fn a_run_is_encoded_for_other_versions() {
        let long = [7; 300];
        let alike: [(&str, &[u8]); 3] = [("a/b", b"1"), ("a/b", b"2"), ("a/b", &long)];
        let edge = [7; 127 - 5];
        let widened: [(&str, &[u8]); 2] = [("a/b", b"1"), ("a/b", &edge)];
        for alike in [&alike[..], &widened] {
            for from in [Version::V311, Version::V5] {
                let bytes = packets(from, alike);
                let (run, _) = behind(from, &bytes, ALL).expect("a run");
                for to in [Version::V31, Version::V311, Version::V5] {
                    let mut out = Vec::new();
                    run.encode("a/b", to, &mut out);
                    assert_eq!(out, packets(to, &alike[1..]));
                    let same = run.is_encoded(to);
                    assert_eq!(same, run.bytes() == out);
                    let mut largest = 0;
                    let mut rest = &out[..];
                    while let Some(next) = frame(rest, 1 << 20).expect("valid") {
                        largest = largest.max(next.len);
                        rest = &rest[next.len..];
                    }
                    assert!(run.largest(to) >= largest);
                    assert!(run.len_at_most(to) >= out.len());
                    assert!(!same || run.largest(to) == largest);
                }
            }
        }
    }
}
