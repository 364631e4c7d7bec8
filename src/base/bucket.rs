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

/// One bucket, full at first. What is larger than a whole bucket passes when it is full, and
/// delays what comes next.
#[derive(Clone, Copy, Default, Debug)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// From when on `count` may pass; not after `now`: at once.
    pub fn opens(self, rate: Rate, now: Time, count: usize) -> Time {
        let missing = rate.burst_ns() - rate.cost_ns(count).min(rate.burst_ns());
        let opens_ns = self.full_at_ns.saturating_sub(missing);
        Time(opens_ns.div_ceil(1000)).max(now)
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
            burst in 50u32..1000,
            steps in proptest::collection::vec((0u64..200_000, 1usize..50), 1..200),
        ) {
            let rate = Rate::new(per_s, burst).expect("not zero");
            let (mut bucket, mut now, mut passed) = (Bucket::default(), Time(0), 0);
            for (pause, count) in steps {
                now.0 += pause;
                let opens = bucket.opens(rate, now, count);
                if opens > now {
                    prop_assert_eq!(bucket.opens(rate, Time(opens.0 - 1), count), opens);
                    prop_assert_eq!(bucket.opens(rate, opens, count), opens);
                    continue;
                }
                bucket.take(rate, now, count);
                passed += count as u128;
                let earned = u128::from(now.0) * u128::from(per_s) / 1_000_000;
                prop_assert!(passed <= u128::from(burst) + earned + 1, "{passed} of {earned}");
            }
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let rate = Rate::new(10, 3).expect("not zero");
        let mut bucket = Bucket::default();
        let now = Time::from_secs(5);
        for _ in 0..3 {
            assert_eq!(bucket.opens(rate, now, 1), now);
            bucket.take(rate, now, 1);
        }
        let next = Time(5_100_000);
        assert_eq!(bucket.opens(rate, now, 1), next, "a tenth of a second each");
        bucket.take(rate, next, 1);
        assert_eq!(bucket.opens(rate, next, 1), Time(5_200_000));
        // What no bucket holds passes when it is full, and is paid for afterwards.
        let full = Time(5_400_000);
        assert_eq!(bucket.opens(rate, next, 100), full);
        bucket.take(rate, full, 100);
        assert_eq!(bucket.opens(rate, full, 1), Time(full.0 + 9_800_000));
    }
}
