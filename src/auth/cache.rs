//! Answers that are kept for a while, and when nobody is asked because nobody answers.
//!
//! Invariants worth naming:
//! * time is an argument, in milliseconds of any clock that does not go back;
//! * no credentials are kept, only what a secret hash makes of them.

use hashbrown::HashMap;

/// What stands for credentials.
pub(super) type Fingerprint = [u8; 32];

/// Answers with their ends. Has room for as many as it was told; when it is full of answers that
/// still hold, new ones are not kept.
pub(super) struct Cache<T> {
    most: usize,
    entries: HashMap<Fingerprint, Entry<T>>,
}

struct Entry<T> {
    answer: T,
    since_ms: u64,
    until_ms: u64,
}

impl<T: Clone> Cache<T> {
    pub(super) fn new(most: usize) -> Cache<T> {
        Cache { most, entries: HashMap::new() }
    }

    /// The answer, if it still holds, and how old it is in milliseconds.
    pub(super) fn get(&self, key: &Fingerprint, now_ms: u64) -> Option<(T, u64)> {
        let entry = self.entries.get(key).filter(|entry| now_ms < entry.until_ms)?;
        Some((entry.answer.clone(), now_ms - entry.since_ms))
    }

    pub(super) fn put(&mut self, key: Fingerprint, answer: T, now_ms: u64, lasts_ms: u64) {
        if lasts_ms == 0 || self.most == 0 {
            return;
        }
        if self.entries.len() >= self.most && !self.entries.contains_key(&key) {
            self.entries.retain(|_, entry| now_ms < entry.until_ms);
            if self.entries.len() >= self.most {
                return;
            }
        }
        let until_ms = now_ms + lasts_ms;
        self.entries.insert(key, Entry { answer, since_ms: now_ms, until_ms });
    }
}

/// Opens after failures in a row: then nobody is asked for a while, and after that one at a time
/// until somebody answers (a *circuit breaker*).
pub(super) struct Breaker {
    /// Failures in a row that open it; 0: it never opens.
    most: u32,
    pause_ms: u64,
    failures: u32,
    closed_until_ms: u64,
}

impl Breaker {
    pub(super) fn new(most: u32, pause_ms: u64) -> Breaker {
        Breaker { most, pause_ms, failures: 0, closed_until_ms: 0 }
    }

    /// Whether one more may ask. While it is open, the one that may is the only one for a pause.
    pub(super) fn admits(&mut self, now_ms: u64) -> bool {
        if self.most == 0 || self.failures < self.most {
            return true;
        }
        if now_ms < self.closed_until_ms {
            return false;
        }
        self.closed_until_ms = now_ms + self.pause_ms;
        true
    }

    /// Somebody answered.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Nobody answered; true: it opens now.
    pub(super) fn failed(&mut self, now_ms: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.most == 0 || self.failures < self.most {
            return false;
        }
        self.closed_until_ms = now_ms + self.pause_ms;
        self.failures == self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_hold_for_their_time_and_the_room_is_bounded() {
        let mut cache = Cache::new(2);
        let key = |number: u8| [number; 32];
        cache.put(key(1), 'a', 1000, 500);
        cache.put(key(2), 'b', 1100, 900);
        cache.put(key(3), 'c', 1200, 900);
        assert_eq!(cache.get(&key(1), 1499), Some(('a', 499)));
        assert_eq!(cache.get(&key(1), 1500), None);
        assert_eq!(cache.get(&key(3), 1201), None, "there was no room");
        cache.put(key(3), 'c', 1600, 900);
        assert_eq!(cache.get(&key(3), 1600), Some(('c', 0)), "what is over made room");
        cache.put(key(3), 'd', 1600, 900);
        assert_eq!(cache.get(&key(3), 1600), Some(('d', 0)));
        cache.put(key(2), 'e', 3000, 0);
        assert_eq!(cache.get(&key(2), 3000), None, "nothing is kept for no time");
    }

    #[test]
    fn failures_in_a_row_open_and_one_answer_closes() {
        let mut breaker = Breaker::new(3, 1000);
        assert!(!breaker.failed(0) && !breaker.failed(1));
        breaker.succeeded();
        assert!(!breaker.failed(2) && !breaker.failed(3) && breaker.admits(3));
        assert!(breaker.failed(4), "the third in a row opens");
        assert!(!breaker.admits(1003));
        assert!(breaker.admits(1004), "one may try");
        assert!(!breaker.admits(1005), "and only one");
        assert!(!breaker.failed(1500), "it was open before");
        assert!(!breaker.admits(2499) && breaker.admits(2500));
        breaker.succeeded();
        assert!(breaker.admits(2501) && breaker.admits(2501));
        let mut never = Breaker::new(0, 1000);
        assert!((0..100).all(|_| !never.failed(0)) && never.admits(0));
    }
}
