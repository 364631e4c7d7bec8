//! Moving averages over 1, 5 and 15 minutes, exponentially weighted as mosquitto's are.

use crate::base::Time;

/// What the averages look back on, in seconds, and how the windows are called.
pub const WINDOWS: [(f64, &str); 3] = [(60.0, "1min"), (300.0, "5min"), (900.0, "15min")];

/// Averages of `N` counters that only grow: how much they grow in a minute. Pure value.
#[derive(Clone, Debug)]
pub struct Load<const N: usize> {
    last: Time,
    totals: [u64; N],
    averages: [[f64; WINDOWS.len()]; N],
}

impl<const N: usize> Default for Load<N> {
    /// At the origin of time, when nothing was counted yet.
    fn default() -> Self {
        let averages = [[0.0; WINDOWS.len()]; N];
        Load { last: Time::default(), totals: [0; N], averages }
    }
}

impl<const N: usize> Load<N> {
    /// Takes the counters as they are at `now`; a second call at one time says nothing new.
    pub fn advance(&mut self, now: Time, totals: [u64; N]) {
        let seconds = now.since(self.last).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        for (at, averages) in self.averages.iter_mut().enumerate() {
            let grown = totals[at].saturating_sub(self.totals[at]);
            let per_minute = grown as f64 * 60.0 / seconds;
            for (average, (window, _)) in averages.iter_mut().zip(WINDOWS) {
                *average = per_minute + (-seconds / window).exp() * (*average - per_minute);
            }
        }
        (self.last, self.totals) = (now, totals);
    }

    /// The averages of counter `at`, in the order of [`WINDOWS`]: growth per minute.
    pub fn averages(&self, at: usize) -> [f64; WINDOWS.len()] {
        self.averages[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_approached_with_the_time_constant_of_each_window() {
        let mut load = Load::<1>::default();
        for tenth in 0..=6 {
            load.advance(Time::from_secs(tenth * 10), [tenth * 100]);
        }
        // After one minute of 600 a minute: 1 - 1/e of it, and less for the longer windows.
        let expected = WINDOWS.map(|(window, _)| 600.0 * (1.0 - (-60.0 / window).exp()));
        for (average, expected) in load.averages(0).iter().zip(expected) {
            assert!((average - expected).abs() < 1e-6, "{average} is not {expected}");
        }
        for tenth in 7..=2000 {
            load.advance(Time::from_secs(tenth * 10), [tenth * 100]);
        }
        assert!(load.averages(0).iter().all(|average| (average - 600.0).abs() < 1e-3));
    }

    #[test]
    fn uneven_intervals_give_what_even_ones_give_and_silence_fades() {
        let mut even = Load::<1>::default();
        let mut uneven = Load::<1>::default();
        for second in 0..=60 {
            even.advance(Time::from_secs(second), [second * 7]);
            if [0, 1, 4, 11, 33, 60].contains(&second) {
                uneven.advance(Time::from_secs(second), [second * 7]);
                uneven.advance(Time::from_secs(second), [second * 7]);
            }
        }
        for (one, other) in even.averages(0).iter().zip(uneven.averages(0)) {
            assert!((one - other).abs() < 1e-6, "{one} is not {other}");
        }
        let before = even.averages(0);
        even.advance(Time::from_secs(120), [60 * 7]);
        let after = even.averages(0);
        assert!((after[0] - before[0] / std::f64::consts::E).abs() < 1e-9);
        assert!(before.iter().zip(after).all(|(before, after)| after < *before));
    }
}
