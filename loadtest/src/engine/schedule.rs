//! The intended times of an open loop.
//!
//! Invariant worth naming: the times depend on the scenario alone, never on how the broker or the
//! generator keeps up; what is sent late is still due when it was due.

use crate::scenario::{Arrival, Group};
use corelane::base::Prng;

/// The intended times of one publisher, in ascending order.
pub struct Schedule {
    /// Nanoseconds between messages at the full rate.
    interval_ns: f64,
    arrival: Arrival,
    ramp_ns: f64,
    on_ns: f64,
    off_ns: f64,
    /// Sending time so far: the pauses of bursts do not count.
    active_ns: f64,
    start_ns: u64,
    next_ns: u64,
    prng: Prng,
}

impl Schedule {
    /// The schedule of the client at position `at` of a group with a rate.
    pub fn new(group: &Group, at: usize, seed: u64) -> Schedule {
        let rate = group.rate.unwrap_or(1.0);
        let interval_ns = 1e9 / rate;
        // Clients of a group do not all send at the same instant.
        let offset = interval_ns * at as f64 / group.count as f64;
        let mut schedule = Schedule {
            interval_ns,
            arrival: group.arrival,
            ramp_ns: group.ramp_s * 1e9,
            on_ns: group.on_ms as f64 * 1e6,
            off_ns: group.off_ms as f64 * 1e6,
            active_ns: offset,
            start_ns: 0,
            next_ns: 0,
            prng: Prng::new(seed ^ (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        schedule.start(0);
        schedule
    }

    /// Lets the schedule begin at `now_ns`.
    pub fn start(&mut self, now_ns: u64) {
        self.start_ns = now_ns;
        self.next_ns = self.wall();
    }

    /// When the next message is due.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next_ns
    }

    /// Moves on to the message after it.
    #[inline]
    pub fn advance(&mut self) {
        let step = match self.arrival {
            Arrival::Even => self.interval_ns,
            Arrival::Poisson => {
                let uniform = (self.prng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                -(1.0 - uniform).ln() * self.interval_ns
            }
        };
        if self.active_ns < self.ramp_ns {
            // The rate rises linearly, so the n-th message is due at the square root of 2·n.
            self.active_ns = (self.active_ns.powi(2) + 2.0 * self.ramp_ns * step).sqrt();
        } else {
            self.active_ns += step;
        }
        self.next_ns = self.wall();
    }

    fn wall(&self) -> u64 {
        let mut at = self.active_ns;
        if self.on_ns > 0.0 {
            at += (self.active_ns / self.on_ns).floor() * self.off_ns;
        }
        self.start_ns + at as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(group: &Group, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(group, 0, 1);
        schedule.start(1_000);
        (0..count)
            .map(|_| {
                let next = schedule.next() - 1_000;
                schedule.advance();
                next
            })
            .collect()
    }

    #[test]
    fn even_times_keep_their_distance() {
        let group = Group { rate: Some(1000.0), ..Group::default() };
        assert_eq!(times(&group, 4), [0, 1_000_000, 2_000_000, 3_000_000]);
    }

    #[test]
    fn bursts_pause() {
        let group = Group { rate: Some(1000.0), on_ms: 2, off_ms: 10, ..Group::default() };
        assert_eq!(times(&group, 5), [0, 1_000_000, 12_000_000, 13_000_000, 24_000_000]);
    }

    #[test]
    fn a_ramp_sends_half_of_the_full_rate() {
        let group = Group { rate: Some(1000.0), ramp_s: 1.0, ..Group::default() };
        let sent = times(&group, 2000).into_iter().filter(|at| *at < 1_000_000_000).count();
        assert!((499..=501).contains(&sent), "{sent}");
    }

    #[test]
    fn poisson_keeps_the_mean() {
        let group = Group { rate: Some(1e6), arrival: Arrival::Poisson, ..Group::default() };
        let last = times(&group, 10_001)[10_000];
        assert!((9_600_000..10_400_000).contains(&last), "{last}");
    }
}
