//! Who is too slow: the sessions of this core that missed most messages because they did not keep
//! up, since the last report.
//!
//! A few counters serve any number of sessions: one that finds all places taken takes the place of
//! the one with the least, and its count (the *space-saving* algorithm of Metwally, Agrawal and
//! El Abbadi, 2005). So a count may be too high by what the least one had, and who misses more
//! than an eighth of all is never left out.

use super::clients::Clients;
use super::counters::DropCause;
use super::events::clipped;
use super::session::SessionSlot;

/// Sessions that are watched at a time.
pub(super) const PLACES: usize = 8;

/// The slowest sessions. Lives on one core.
#[derive(Default)]
pub(super) struct Slow {
    places: Vec<(SessionSlot, u64)>,
}

impl Slow {
    fn note(&mut self, session: SessionSlot, missed: u64) {
        if let Some(place) = self.places.iter_mut().find(|place| place.0 == session) {
            place.1 += missed;
        } else if self.places.len() < PLACES {
            self.places.push((session, missed));
        } else if let Some(least) = self.places.iter_mut().min_by_key(|place| place.1) {
            *least = (session, least.1 + missed);
        }
    }
}

impl Clients {
    /// Counts messages that a session missed because it did not keep up.
    pub(super) fn missed(
        &mut self,
        session: SessionSlot,
        cause: DropCause,
        count: usize,
        bytes: usize,
    ) {
        self.dropped(cause, count, bytes);
        self.slow.note(session, count as u64);
    }

    /// Takes the names of those who missed most since the last call, with how many it was.
    pub(super) fn take_slowest(&mut self) -> Vec<(String, u64)> {
        let mut places = std::mem::take(&mut self.slow.places);
        places.sort_unstable_by_key(|place| std::cmp::Reverse(place.1));
        let named = places.into_iter().filter_map(|(slot, missed)| {
            let client_id = &self.sessions.get(slot)?.client_id;
            Some((clipped(client_id).to_owned(), missed))
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Key;

    #[test]
    fn who_misses_much_is_found_among_many_who_miss_little() {
        let mut slow = Slow::default();
        for round in 0..1000 {
            slow.note(Key::from_bits(7), 1);
            slow.note(Key::from_bits(9), 2);
            (0..4).for_each(|n| slow.note(Key::from_bits(100 + (round * 4 + n) % 500), 1));
        }
        let missed = |bits| {
            let place = slow.places.iter().find(|place| place.0 == Key::from_bits(bits));
            place.map_or(0, |place| place.1)
        };
        assert!(missed(7) >= 1000 && missed(9) >= 2000, "{:?}", slow.places);
        assert_eq!(slow.places.len(), PLACES);
        let total: u64 = slow.places.iter().map(|place| place.1).sum();
        assert_eq!(total, 7000, "nothing is counted twice or forgotten");
    }
}
