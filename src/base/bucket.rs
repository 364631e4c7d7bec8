//! Token buckets: how much may pass, and when again.
//!
//! Invariant worth naming: a bucket is one number, the time at which it would be full again, so an
//! idle one needs neither a timer nor a refill.

use super::Time;

/// How fast a bucket fills and how much it holds. Pure value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    per_s: u32,
    burst: u32,
}

impl Rate {
    /// `per_s` a second and `burst` in one go; a burst of 0 means a second's worth. `None` for 0
    /// a second, which means no limit.
    pub fn new(per_s: u32, burst: u32) -> Option<Rate> {
        let burst = if burst == 0 { per_s } else { burst };
        (per_s > 0).then_some(Rate { per_s, burst })
    }

    /// Nanoseconds that `count` takes to come back.
    fn cost_ns(self, count: usize) -> u64 {
        let cost = count as u128 * 1_000_000_000 / u128::from(self.per_s);
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    fn burst_ns(self) -> u64 {
        self.cost_ns(self.burst as usize)
    }
}

/// One bucket, full at first. What is taken may exceed what it holds: the debt delays what comes
/// next, so that nothing is too large to pass.
#[derive(Clone, Copy, Default, Debug)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// From when on something may pass; not after `now`: at once.
    pub fn opens(self, rate: Rate, now: Time) -> Time {
        let horizon = now.0.saturating_mul(1000).saturating_add(rate.burst_ns());
        if self.full_at_ns < horizon {
            return now;
        }
        Time(self.full_at_ns.saturating_sub(rate.burst_ns()) / 1000 + 1)
    }

    /// Takes `count` at `now`.
    pub fn take(&mut self, rate: Rate, now: Time, count: usize) {
        let from = self.full_at_ns.max(now.0.saturating_mul(1000));
        self.full_at_ns = from.saturating_add(rate.cost_ns(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_rate_is_no_limit_and_no_burst_a_second() {
        assert_eq!(Rate::new(0, 5), None);
        assert_eq!(Rate::new(7, 0), Rate::new(7, 7));
    }

    proptest! {
        #[test]
        fn no_interval_lets_more_pass_than_burst_and_rate(
            per_s in 1u32..100_000,
            burst in 1u32..1000,
            steps in proptest::collection::vec((0u64..200_000, 1usize..50), 1..200),
        ) {
            let rate = Rate::new(per_s, burst).expect("not zero");
            let (mut bucket, mut now, mut passed) = (Bucket::default(), Time(1), 0);
            for (pause, count) in steps {
                now.0 += pause;
                let opens = bucket.opens(rate, now);
                if opens <= now {
                    let since_start = u128::from(now.0) * u128::from(per_s) / 1_000_000;
                    prop_assert!(passed <= u128::from(burst) + since_start, "{passed}");
                    bucket.take(rate, now, count);
                    passed += count as u128;
                } else {
                    prop_assert!(bucket.opens(rate, Time(opens.0 - 1)) >= opens);
                    prop_assert_eq!(bucket.opens(rate, opens), opens);
                }
            }
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let rate = Rate::new(10, 3).expect("not zero");
        let mut bucket = Bucket::default();
        let now = Time::from_secs(5);
        for _ in 0..3 {
            assert_eq!(bucket.opens(rate, now), now);
            bucket.take(rate, now, 1);
        }
        assert_eq!(bucket.opens(rate, now), Time(5_000_001), "one token was never there");
        bucket.take(rate, now, 1);
        assert_eq!(bucket.opens(rate, now), Time(5_100_001), "a tenth of a second each");
    }
}
