//! What each subscriber must receive from each publisher, and what it did receive.
//!
//! Invariants worth naming:
//! * a message is one of: received once, lost, or not yet due; a message that comes again is
//!   counted as a duplicate, one that comes after its successors as late (never as lost);
//! * checking a message that comes in order is one compare and one increment.

use std::ops::Range;

/// Bytes at the start of each payload: mark, publisher, sequence, time.
pub const STAMP_LEN: usize = 24;

/// Gaps remembered per pair; later ones can no longer be told from duplicates.
const GAPS_MAX: usize = 4096;

const MARK: u32 = 0x1a7e_57a3;

/// The header of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Number of the publisher in its run.
    pub publisher: u32,
    /// Position in the publisher's stream, from zero.
    pub sequence: u64,
    /// When it was sent, nanoseconds of the run's clock.
    pub sent_ns: u64,
}

impl Stamp {
    /// Writes the stamp over the first [`STAMP_LEN`] bytes.
    #[inline]
    pub fn write(&self, payload: &mut [u8]) {
        payload[0..4].copy_from_slice(&MARK.to_le_bytes());
        payload[4..8].copy_from_slice(&self.publisher.to_le_bytes());
        payload[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        payload[16..24].copy_from_slice(&self.sent_ns.to_le_bytes());
    }

    /// The stamp of a payload; `None` when it carries none.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let head: &[u8; STAMP_LEN] = payload.first_chunk()?;
        let word = |at: usize| {
            u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes of a fixed array"))
        };
        let first = word(0);
        if first as u32 != MARK {
            return None;
        }
        Some(Stamp { publisher: (first >> 32) as u32, sequence: word(8), sent_ns: word(16) })
    }
}

/// What one subscriber has received from one publisher.
#[derive(Default, Debug)]
pub struct Pair {
    /// One more than the highest sequence received.
    pub next: u64,
    missing: u64,
    duplicated: u64,
    late: u64,
    gaps: Vec<Range<u64>>,
}

impl Pair {
    /// Takes note of one received sequence.
    #[inline]
    pub fn receive(&mut self, sequence: u64) {
        if sequence == self.next {
            self.next += 1;
        } else {
            self.out_of_order(sequence);
        }
    }

    #[cold]
    fn out_of_order(&mut self, sequence: u64) {
        if sequence > self.next {
            self.missing += sequence - self.next;
            if self.gaps.len() < GAPS_MAX {
                self.gaps.push(self.next..sequence);
            }
            self.next = sequence + 1;
            return;
        }
        let Some(position) = self.gaps.iter().position(|gap| gap.contains(&sequence)) else {
            self.duplicated += 1;
            return;
        };
        self.late += 1;
        self.missing -= 1;
        let gap = self.gaps.swap_remove(position);
        let parts = [gap.start..sequence, sequence + 1..gap.end];
        self.gaps.extend(parts.into_iter().filter(|part| !part.is_empty()));
    }
}

/// Faults summed over pairs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Faults {
    /// Messages due that never came.
    pub lost: u64,
    /// Messages that came more than once.
    pub duplicated: u64,
    /// Messages that came after one sent later by the same publisher.
    pub late: u64,
    /// Deliveries without a readable stamp, of a wrong length or to the wrong subscriber.
    pub corrupt: u64,
}

impl Faults {
    /// Adds one pair whose publisher has sent `sent` messages.
    pub fn add(&mut self, pair: &Pair, sent: u64) {
        self.lost += pair.missing + sent.saturating_sub(pair.next);
        self.duplicated += pair.duplicated;
        self.late += pair.late;
    }

    /// Whether a run at `qos` may pass with these faults: QoS 1 may deliver again.
    pub fn acceptable(&self, qos: u8) -> bool {
        self.lost == 0 && self.late == 0 && self.corrupt == 0 && (self.duplicated == 0 || qos == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(received: &[u64], sent: u64) -> Faults {
        let mut pair = Pair::default();
        for &sequence in received {
            pair.receive(sequence);
        }
        let mut faults = Faults::default();
        faults.add(&pair, sent);
        faults
    }

    #[test]
    fn order_is_faultless() {
        assert_eq!(faults(&[0, 1, 2], 3), Faults::default());
    }

    #[test]
    fn a_gap_and_a_missing_tail_are_lost() {
        assert_eq!(faults(&[0, 3], 6), Faults { lost: 4, ..Faults::default() });
    }

    #[test]
    fn a_late_message_fills_its_gap_once() {
        let wanted = Faults { lost: 2, late: 1, duplicated: 1, ..Faults::default() };
        assert_eq!(faults(&[0, 4, 2, 2], 5), wanted);
        assert_eq!(faults(&[2, 1, 0], 3), Faults { late: 2, ..Faults::default() });
    }

    #[test]
    fn a_repetition_is_a_duplicate() {
        assert_eq!(faults(&[0, 0, 1, 0], 2), Faults { duplicated: 2, ..Faults::default() });
    }

    #[test]
    fn a_stamp_reads_back_and_noise_does_not() {
        let stamp = Stamp { publisher: 7, sequence: 1 << 40, sent_ns: u64::MAX };
        let mut payload = [0u8; 32];
        assert_eq!(Stamp::read(&payload), None);
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..23]), None);
    }
}
