//! What each subscriber must receive on each flow, and what it did receive.
//!
//! A flow is what one publisher sends to one topic; its messages are numbered from zero. Every
//! payload starts with a stamp; the rest is a pattern that every receiver knows.
//!
//! Invariants worth naming:
//! * a message is one of: received once, lost, or not yet due; a message that comes again is
//!   counted as a duplicate, one that comes after its successors as late (never as lost);
//! * checking a message that comes in order is one compare and one increment.

use std::ops::Range;

/// Bytes at the start of each payload: check, flow, sequence, intended time.
pub const STAMP_LEN: usize = 24;

/// Gaps remembered per stream; later ones can no longer be told from duplicates.
const GAPS_MAX: usize = 4096;

/// The header of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Number of the flow in its run.
    pub flow: u32,
    /// Position in the flow, from zero.
    pub sequence: u64,
    /// When it was meant to be sent, nanoseconds of the run's clock.
    pub intended_ns: u64,
}

impl Stamp {
    /// Depends on every bit of the stamp and on the payload's length.
    #[inline]
    fn check(&self, len: usize) -> u32 {
        let mut mixed = self.sequence ^ self.intended_ns.rotate_left(32);
        mixed ^= (u64::from(self.flow) << 32 | len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as u32
    }

    /// Writes the stamp over the first [`STAMP_LEN`] bytes.
    ///
    /// # Panics
    /// When the payload is shorter.
    #[inline]
    pub fn write(&self, payload: &mut [u8]) {
        let check = self.check(payload.len());
        payload[0..4].copy_from_slice(&check.to_le_bytes());
        payload[4..8].copy_from_slice(&self.flow.to_le_bytes());
        payload[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        payload[16..24].copy_from_slice(&self.intended_ns.to_le_bytes());
    }

    /// The stamp of a payload; `None` when it carries none or one that was altered.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let head: &[u8; STAMP_LEN] = payload.first_chunk()?;
        let word = |at: usize| {
            u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes of a fixed array"))
        };
        let first = word(0);
        let flow = (first >> 32) as u32;
        let stamp = Stamp { flow, sequence: word(8), intended_ns: word(16) };
        (stamp.check(payload.len()) == first as u32).then_some(stamp)
    }
}

/// Payload bytes behind the stamp, of payloads up to `len`: no two neighbours are alike.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8)).collect()
}

/// What one subscriber has received of one flow.
#[derive(Default, Debug)]
pub struct Stream {
    /// One more than the highest sequence received.
    pub next: u64,
    /// Different messages received.
    pub received: u64,
    /// Its receiver has not subscribed now: what it lacks is not due.
    pub deaf: bool,
    trouble: Option<Box<Trouble>>,
}

#[derive(Default, Debug)]
struct Trouble {
    duplicated: u64,
    late: u64,
    /// Messages in gaps that were never due and have not come either.
    excused: u64,
    gaps: Vec<Gap>,
}

#[derive(Debug)]
struct Gap {
    range: Range<u64>,
    excused: bool,
}

impl Stream {
    /// Takes note of one received sequence.
    #[inline]
    pub fn receive(&mut self, sequence: u64) {
        if sequence == self.next {
            self.next += 1;
            self.received += 1;
        } else {
            self.out_of_order(sequence);
        }
    }

    /// As [`Stream::receive`] for a member of a share group, to whom gaps are natural.
    #[inline]
    pub fn receive_shared(&mut self, sequence: u64) {
        if sequence >= self.next {
            self.next = sequence + 1;
            self.received += 1;
            return;
        }
        let trouble = self.trouble.get_or_insert_default();
        if sequence + 1 == self.next {
            trouble.duplicated += 1;
        } else {
            trouble.late += 1;
            self.received += 1;
        }
    }

    #[cold]
    fn out_of_order(&mut self, sequence: u64) {
        if sequence > self.next {
            self.skip_to(sequence, self.deaf);
            self.next = sequence + 1;
            self.received += 1;
            return;
        }
        let trouble = self.trouble.get_or_insert_default();
        let Some(at) = trouble.gaps.iter().position(|gap| gap.range.contains(&sequence)) else {
            trouble.duplicated += 1;
            return;
        };
        self.received += 1;
        let Gap { range, excused } = trouble.gaps.swap_remove(at);
        if excused {
            trouble.excused -= 1;
        } else {
            trouble.late += 1;
        }
        let parts = [range.start..sequence, sequence + 1..range.end].into_iter();
        let left = parts.filter(|part| !part.is_empty());
        trouble.gaps.extend(left.map(|range| Gap { range, excused }));
    }

    fn skip_to(&mut self, sequence: u64, excused: bool) {
        let trouble = self.trouble.get_or_insert_default();
        trouble.excused += if excused { sequence - self.next } else { 0 };
        if trouble.gaps.len() < GAPS_MAX {
            trouble.gaps.push(Gap { range: self.next..sequence, excused });
        }
        self.next = sequence;
    }

    /// From `sequence` on everything is due; what came before and is still under way may come.
    pub fn listen(&mut self, sequence: u64) {
        if sequence > self.next {
            self.skip_to(sequence, true);
        }
        self.deaf = false;
    }

    /// All before `sequence` was due and can come no more: the session that held it is gone.
    pub fn miss(&mut self, sequence: u64) {
        if sequence > self.next && !self.deaf {
            self.skip_to(sequence, false);
        }
    }

    /// How many of the `sent` messages were not due and have not come.
    pub fn excused(&self, sent: u64) -> u64 {
        let gaps = self.trouble.as_ref().map_or(0, |trouble| trouble.excused);
        gaps + if self.deaf { sent.saturating_sub(self.next) } else { 0 }
    }

    /// Messages that came again.
    pub fn duplicated(&self) -> u64 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.duplicated)
    }

    /// Messages that came after later ones.
    pub fn late(&self) -> u64 {
        self.trouble.as_ref().map_or(0, |trouble| trouble.late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(received: &[u64], sent: u64) -> (u64, u64, u64) {
        let mut stream = Stream::default();
        for &sequence in received {
            stream.receive(sequence);
        }
        (sent - stream.received, stream.duplicated(), stream.late())
    }

    #[test]
    fn order_is_faultless() {
        assert_eq!(faults(&[0, 1, 2], 3), (0, 0, 0));
    }

    #[test]
    fn a_gap_and_a_missing_tail_are_lost() {
        assert_eq!(faults(&[0, 3], 6), (4, 0, 0));
    }

    #[test]
    fn a_late_message_fills_its_gap_once() {
        assert_eq!(faults(&[0, 4, 2, 2], 5), (2, 1, 1));
        assert_eq!(faults(&[2, 1, 0], 3), (0, 0, 2));
    }

    #[test]
    fn a_repetition_is_a_duplicate() {
        assert_eq!(faults(&[0, 0, 1, 0], 2), (0, 2, 0));
    }

    #[test]
    fn what_is_sent_while_nobody_listens_is_not_due() {
        let mut stream = Stream { deaf: true, ..Stream::default() };
        stream.receive(2);
        stream.listen(5);
        // 3 was under way when the subscription took effect; 6 is lost; 8 was never due.
        for sequence in [3, 5, 7] {
            stream.receive(sequence);
        }
        stream.deaf = true;
        assert_eq!((stream.received, stream.excused(9), stream.late()), (4, 4, 0));
        stream.listen(9);
        stream.miss(11);
        assert_eq!((stream.received, stream.excused(11), stream.duplicated()), (4, 4, 0));
        stream.receive(3);
        assert_eq!(stream.duplicated(), 1);
    }

    #[test]
    fn members_of_a_share_group_know_gaps() {
        let mut stream = Stream::default();
        for sequence in [1, 4, 4, 2, 9] {
            stream.receive_shared(sequence);
        }
        assert_eq!((stream.received, stream.duplicated(), stream.late()), (4, 1, 1));
    }

    #[test]
    fn a_stamp_reads_back_and_noise_does_not() {
        let stamp = Stamp { flow: 7, sequence: 1 << 40, intended_ns: u64::MAX };
        let mut payload = [0u8; 32];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..23]), None);
        assert_eq!(Stamp::read(&payload[..31]), None);
        for bit in 0..8 * STAMP_LEN {
            let mut spoiled = payload;
            spoiled[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(&spoiled), None, "bit {bit}");
        }
    }
}
