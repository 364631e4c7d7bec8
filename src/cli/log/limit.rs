//! How many lines of one kind a second may bring.
//!
//! A kind is a place in the source. Each has a bucket that refills at the configured rate and
//! holds one second's worth. The table is fixed; only when it is full do kinds share a bucket.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tracing::Metadata;

const KINDS: usize = 256;
const SECOND_US: u64 = 1_000_000;

/// One kind of line.
#[derive(Default)]
pub struct Kind {
    /// Address of the description of the kind; zero: free.
    place: AtomicU64,
    /// When the bucket will be full again.
    full_at_us: AtomicU64,
    suppressed: AtomicU64,
    /// What the first suppressed line would have said.
    like: Mutex<String>,
}

impl Kind {
    /// Whether a line may be written at `now_us`, `per_s` in a second; 0 lets all through.
    pub fn admits(&self, now_us: u64, per_s: u32) -> bool {
        if per_s == 0 {
            return true;
        }
        let drop_us = (SECOND_US / u64::from(per_s)).max(1);
        let take = |full_at: u64| {
            let full_at = full_at.max(now_us) + drop_us;
            (full_at <= now_us + SECOND_US).then_some(full_at)
        };
        self.full_at_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Counts a line that is not written; true for the first since the last summary, which says
    /// by `message` what is suppressed.
    pub fn suppress(&self, message: impl FnOnce() -> String) -> bool {
        let first = self.suppressed.fetch_add(1, Ordering::Relaxed) == 0;
        if first {
            *self.like.lock().unwrap_or_else(PoisonError::into_inner) = message();
        }
        first
    }
}

/// All kinds. Whole process, any thread.
pub struct Limit {
    per_s: AtomicU32,
    kinds: [Kind; KINDS],
}

impl Default for Limit {
    fn default() -> Limit {
        Limit { per_s: AtomicU32::new(0), kinds: std::array::from_fn(|_| Kind::default()) }
    }
}

impl Limit {
    /// Lines of one kind per second from now on; 0 means no limit.
    pub fn set(&self, per_s: u32) {
        self.per_s.store(per_s, Ordering::Relaxed);
    }

    /// Lines of one kind per second.
    pub fn per_s(&self) -> u32 {
        self.per_s.load(Ordering::Relaxed)
    }

    /// The kind of an event, by the place that describes it.
    pub fn kind(&self, of: &'static Metadata<'static>) -> &Kind {
        self.kind_at(std::ptr::from_ref(of).addr() as u64)
    }

    fn kind_at(&self, place: u64) -> &Kind {
        let start = (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize;
        let mut probed = (0..KINDS).map(|step| &self.kinds[(start + step) % KINDS]);
        let relaxed = Ordering::Relaxed;
        let own = probed.find(|kind| {
            let taken = kind.place.compare_exchange(0, place, relaxed, relaxed);
            taken.is_ok() || taken == Err(place)
        });
        own.unwrap_or(&self.kinds[start % KINDS])
    }

    /// Calls `tell` for each kind with suppressed lines: how many, and what the first said.
    pub fn take_suppressed(&self, mut tell: impl FnMut(u64, &str)) {
        for kind in &self.kinds {
            if kind.suppressed.load(Ordering::Relaxed) > 0 {
                let like = kind.like.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tell(kind.suppressed.swap(0, Ordering::Relaxed), &like);
            }
        }
    }

    /// Whether a summary is due.
    pub fn has_suppressed(&self) -> bool {
        self.kinds.iter().any(|kind| kind.suppressed.load(Ordering::Relaxed) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_brings_so_many_lines_and_silence_brings_them_back() {
        let kind = Kind::default();
        let admitted = |from: u64| (0..100).filter(|n| kind.admits(from + n, 10)).count();
        assert_eq!(admitted(5 * SECOND_US), 10);
        assert_eq!(admitted(5 * SECOND_US + 200), 0);
        assert_eq!(admitted(5 * SECOND_US + 300_000), 3);
        assert_eq!(admitted(60 * SECOND_US), 10);
        assert!((0..1000).all(|_| kind.admits(61 * SECOND_US, 0)), "0 is no limit");
    }

    #[test]
    fn what_was_suppressed_is_told_once() {
        let limit = Limit::default();
        assert!(!limit.has_suppressed());
        assert!(limit.kinds[7].suppress(|| "connected".into()));
        assert!(!limit.kinds[7].suppress(|| unreachable!("only the first says what it was")));
        let told = || {
            let mut told = Vec::new();
            limit.take_suppressed(|count, like| told.push((count, like.to_owned())));
            told
        };
        assert_eq!(told(), [(2, "connected".to_owned())]);
        assert_eq!(told(), []);
    }

    #[test]
    fn kinds_are_told_apart_until_the_table_is_full() {
        let limit = Limit::default();
        let places: Vec<u64> = (1..=KINDS as u64).map(|n| n * 40).collect();
        let first: Vec<_> = places.iter().map(|p| std::ptr::from_ref(limit.kind_at(*p))).collect();
        let distinct: std::collections::BTreeSet<_> = first.iter().collect();
        assert_eq!(distinct.len(), KINDS);
        for (place, kind) in places.iter().zip(&first) {
            assert!(std::ptr::eq(limit.kind_at(*place), *kind), "it stays where it is");
        }
        let one_too_many = std::ptr::from_ref(limit.kind_at(7));
        assert!(distinct.contains(&one_too_many), "it shares a bucket");
    }
}
