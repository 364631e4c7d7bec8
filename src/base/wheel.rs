//! A hashed timer wheel. Entries are never cancelled: whoever receives one checks whether it still
//! means something, which costs less than a cancellation per message or per packet.
//!
//! Invariant worth naming: an entry is handed out at the first [`Wheel::expire`] at or after its
//! deadline, never before it.

use super::Time;

const SLOTS: usize = 512;
/// Width of one slot; deadlines are rounded up to it.
pub const GRANULARITY_US: u64 = 10_000;

struct WheelSlot<T> {
    entries: Vec<(Time, T)>,
    /// Earliest deadline among them; [`Time::NEVER`] when empty.
    earliest: Time,
}

/// Timer wheel of one core. `T` says what is due.
pub struct Wheel<T> {
    slots: Vec<WheelSlot<T>>,
    /// The tick up to which (inclusive) all slots were emptied of due entries.
    reached: u64,
    len: usize,
}

impl<T> Wheel<T> {
    /// An empty wheel that starts at `now`.
    pub fn new(now: Time) -> Wheel<T> {
        let empty = || WheelSlot { entries: Vec::new(), earliest: Time::NEVER };
        let slots = (0..SLOTS).map(|_| empty()).collect();
        Wheel { slots, reached: now.0 / GRANULARITY_US, len: 0 }
    }

    /// Adds an entry that is due at `deadline`; [`Time::NEVER`] is dropped at once.
    pub fn insert(&mut self, deadline: Time, what: T) {
        if deadline == Time::NEVER {
            return;
        }
        let tick = deadline.0.div_ceil(GRANULARITY_US).max(self.reached + 1);
        let due = Time(tick * GRANULARITY_US);
        let slot = &mut self.slots[tick as usize % SLOTS];
        slot.earliest = slot.earliest.min(due);
        slot.entries.push((due, what));
        self.len += 1;
    }

    /// Moves at most about `budget` due entries to `due`; false when the budget ended first.
    pub fn expire(&mut self, now: Time, budget: usize, due: &mut Vec<T>) -> bool {
        let target = now.0 / GRANULARITY_US;
        // One turn visits every slot, so a long sleep needs no more than one turn.
        self.reached = self.reached.max(target.saturating_sub(SLOTS as u64));
        let enough = due.len() + budget;
        while self.reached < target {
            let slot = &mut self.slots[(self.reached + 1) as usize % SLOTS];
            if slot.earliest <= now {
                let before = slot.entries.len();
                let done = take_due(slot, now, enough, due);
                self.len -= before - slot.entries.len();
                if !done {
                    return false;
                }
            }
            self.reached += 1;
        }
        true
    }

    /// When [`Wheel::expire`] should be called next; [`Time::NEVER`] when empty.
    pub fn next_deadline(&self) -> Time {
        self.slots.iter().map(|slot| slot.earliest).min().unwrap_or(Time::NEVER)
    }

    /// How many entries wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Takes the due entries of one slot until `due` holds `enough`; false when it ended early.
fn take_due<T>(slot: &mut WheelSlot<T>, now: Time, enough: usize, due: &mut Vec<T>) -> bool {
    let mut at = 0;
    while at < slot.entries.len() {
        if slot.entries[at].0 > now {
            at += 1;
        } else if due.len() < enough {
            due.push(slot.entries.swap_remove(at).1);
        } else {
            return false;
        }
    }
    slot.earliest = slot.entries.iter().map(|(due, _)| *due).min().unwrap_or(Time::NEVER);
    if slot.entries.is_empty() && slot.entries.capacity() > 64 {
        slot.entries.shrink_to(16);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    #[test]
    fn entries_come_at_their_deadline_and_not_before() {
        let mut random = Prng::new(7);
        let mut wheel = Wheel::new(Time::default());
        let mut waiting: Vec<u64> = (0..500).map(|_| random.below(20_000_000) as u64).collect();
        for deadline in &waiting {
            wheel.insert(Time(*deadline), *deadline);
        }
        let mut now = 0;
        while !waiting.is_empty() {
            now += random.below(3_000_000) as u64;
            let mut due = Vec::new();
            while !wheel.expire(Time(now), 7, &mut due) {}
            assert!(due.iter().all(|deadline| *deadline <= now));
            waiting.retain(|deadline| !due.contains(deadline));
            let late = waiting.iter().filter(|d| **d + GRANULARITY_US <= now).count();
            assert_eq!(late, 0, "an entry was kept past its deadline");
        }
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_deadline(), Time::NEVER);
    }

    #[test]
    fn the_next_deadline_is_that_of_the_earliest_entry() {
        let mut wheel = Wheel::new(Time::default());
        wheel.insert(Time::from_secs(3600), 1);
        wheel.insert(Time::from_millis(25), 2);
        assert_eq!(wheel.next_deadline(), Time::from_millis(30));
        let mut due = Vec::new();
        assert!(wheel.expire(Time::from_millis(30), 10, &mut due));
        assert_eq!((due, wheel.next_deadline()), (vec![2], Time::from_secs(3600)));
    }
}
