//! A core whose turns have become too long: it lets nobody new in and does not wait for slow
//! readers, until its turns are short again.
//!
//! The shell measures the turns; here is only what follows.
//!
//! Invariant worth naming: a core is overloaded for at least [`LEAST_US`], and ends it only well
//! below what began it, so that it does not change its mind with every turn.

use super::Shard;
use crate::base::Time;

/// Shortest time of an overload; turns after a rest as long as this begin anew.
pub(super) const LEAST_US: u64 = 1_000_000;

/// Part of the newest turn in the average.
const NEWEST: u64 = 8;

/// How long a core's turns are. Lives on the core.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Lag {
    average_us: u64,
    /// When the last turn was noted.
    noted: Time,
    /// Since when the core is overloaded.
    since: Option<Time>,
}

impl Lag {
    /// Notes a turn of `turn_us` that ended at `now`; whether the core is overloaded, where
    /// `bound_us` is too long on average and zero is never.
    pub(super) fn note(&mut self, now: Time, turn_us: u64, bound_us: u64) -> bool {
        let rested = now.0.saturating_sub(self.noted.0 + turn_us) >= LEAST_US;
        self.noted = now;
        let before = if rested { 0 } else { self.average_us };
        self.average_us = (before * (NEWEST - 1) + turn_us) / NEWEST;
        let long = self.since.is_some_and(|since| now.0 < since.0 + LEAST_US);
        match self.since {
            _ if bound_us == 0 => self.since = None,
            None if self.average_us >= bound_us => self.since = Some(now),
            Some(_) if !long && self.average_us < bound_us / 2 => self.since = None,
            None | Some(_) => {}
        }
        self.since.is_some()
    }

    /// The average turn, in microseconds.
    pub(super) fn average_us(&self) -> u64 {
        self.average_us
    }
}

impl Shard {
    /// The turn before this one took so long, as the shell has measured it without its sleep. To
    /// be called after [`Shard::begin`].
    pub fn lagged(&mut self, turn_us: u64) {
        let clients = &mut self.clients;
        let bound_us = u64::from(clients.settings.limits.overload_lag_ms) * 1000;
        let overloaded = self.lag.note(clients.now, turn_us, bound_us);
        if overloaded == clients.overloaded {
            return;
        }
        clients.overloaded = overloaded;
        clients.counters.overloads += u64::from(overloaded);
        let (core, average_us) = (self.me.0, self.lag.average_us());
        tracing::warn!(core, overloaded, average_us, "the length of this core's turns");
        self.weigh();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes turns of `turn_us`, one after the other; after which one the answer was `wanted`.
    fn until(lag: &mut Lag, now: &mut u64, turn_us: u64, wanted: bool) -> usize {
        for turn in 1..10_000 {
            *now += turn_us;
            if lag.note(Time(*now), turn_us, 100_000) == wanted {
                return turn;
            }
        }
        panic!("never {wanted}")
    }

    #[test]
    fn an_overload_begins_by_the_average_and_ends_well_below() {
        let (mut lag, mut now) = (Lag::default(), 0);
        now += 700_000;
        assert!(!lag.note(Time(now), 700_000, 100_000), "one long turn is none");
        lag = Lag::default();
        let turns = until(&mut lag, &mut now, 150_000, true);
        assert!((5..20).contains(&turns), "{turns}");
        // Three quarters of the bound are no end of it, however long.
        for _ in 0..100 {
            now += 75_000;
            assert!(lag.note(Time(now), 75_000, 100_000));
        }
        let turns = until(&mut lag, &mut now, 1000, false);
        assert!((2..20).contains(&turns), "{turns}");
    }

    #[test]
    fn an_overload_lasts_a_second_and_a_rest_ends_it() {
        let (mut lag, mut now) = (Lag::default(), 0);
        until(&mut lag, &mut now, 500_000, true);
        let began = now;
        until(&mut lag, &mut now, 1000, false);
        assert_eq!(now, began + LEAST_US);
        until(&mut lag, &mut now, 500_000, true);
        now += 2 * LEAST_US;
        assert!(!lag.note(Time(now), 1000, 100_000), "the first turn after a rest");
        until(&mut lag, &mut now, 500_000, true);
        assert!(!lag.note(Time(now + 1), 500_000, 0), "without a bound there is none");
    }
}
