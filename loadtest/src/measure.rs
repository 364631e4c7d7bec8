//! Histograms that are cheap to record into, and the arithmetic of summaries.

use corelane::base::Prng;
use hdrhistogram::Histogram;

/// Latencies above this are counted as this.
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// An empty histogram of nanoseconds, three significant digits.
///
/// # Panics
/// Never: the bounds are valid.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("the bounds are valid")
}

/// A histogram of nanoseconds; equal values that follow each other cost one entry.
pub struct Latency {
    histogram: Histogram<u64>,
    value: u64,
    count: u64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { histogram: histogram(), value: 0, count: 0 }
    }
}

impl Latency {
    /// Records one value.
    #[inline]
    pub fn record(&mut self, value_ns: u64) {
        if value_ns == self.value {
            self.count += 1;
            return;
        }
        self.settle();
        self.value = value_ns;
        self.count = 1;
    }

    fn settle(&mut self) {
        if self.count > 0 {
            self.histogram.saturating_record_n(self.value, self.count);
            self.count = 0;
        }
    }

    /// Adds everything to `sum` and forgets it.
    pub fn move_into(&mut self, sum: &mut Histogram<u64>) {
        self.settle();
        if !self.histogram.is_empty() {
            sum.add(&self.histogram).expect("the bounds are the same");
            self.histogram.reset();
        }
    }

    /// The histogram.
    pub fn settled(&mut self) -> &Histogram<u64> {
        self.settle();
        &self.histogram
    }
}

/// The middle of the values; the mean of the two middle ones when their number is even.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// The interval that holds the ratio of two medians with 95 % confidence: a percentile bootstrap
/// over the rounds. A round's two values stay together, since they share the state of the machine.
/// `None` below three rounds, which say nothing about their spread. Equal seeds, equal intervals.
pub fn ratio_interval(rounds: &[(f64, f64)], seed: u64) -> Option<(f64, f64)> {
    if rounds.len() < 3 {
        return None;
    }
    let mut prng = Prng::new(seed);
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<(f64, f64)> =
                rounds.iter().map(|_| rounds[prng.below(rounds.len())]).collect();
            let (of, to) = drawn.into_iter().unzip::<f64, f64, Vec<f64>, Vec<f64>>();
            median(of) / median(to)
        })
        .filter(|ratio| ratio.is_finite())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let at = |quantile: f64| ratios.get((quantile * ratios.len() as f64) as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_ratio_holds_it_and_narrows() {
        let mut noise = Prng::new(7);
        let mut near = |value: f64| value * (0.9 + noise.below(2001) as f64 / 10_000.0);
        let rounds: Vec<(f64, f64)> = (0..100).map(|_| (near(300.0), near(100.0))).collect();
        let (low, high) = ratio_interval(&rounds[..9], 1).expect("enough rounds");
        let (tight_low, tight_high) = ratio_interval(&rounds, 1).expect("enough rounds");
        assert!(low < 3.1 && high > 2.9 && tight_low < 3.05 && tight_high > 2.95);
        assert!(high - low > tight_high - tight_low, "{low}..{high} {tight_low}..{tight_high}");
        assert_eq!(ratio_interval(&rounds, 1), ratio_interval(&rounds, 1));
    }

    #[test]
    fn a_ratio_without_spread_is_exact_and_few_rounds_tell_none() {
        assert_eq!(ratio_interval(&[(6.0, 3.0); 5], 1), Some((2.0, 2.0)));
        // The machine slowed both down alike: the ratio knows nothing of it.
        let slowed = [(6.0, 3.0), (4.0, 2.0), (2.0, 1.0)];
        assert_eq!(ratio_interval(&slowed, 1), Some((2.0, 2.0)));
        assert_eq!(ratio_interval(&slowed[..2], 1), None);
        assert_eq!(ratio_interval(&[(1.0, 0.0); 4], 1), None);
    }

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn runs_of_equal_latencies_are_all_counted() {
        let mut latency = Latency::default();
        for value in [5, 5, 5, 9, 9, 5, 1000] {
            latency.record(value);
        }
        let mut sum = histogram();
        latency.move_into(&mut sum);
        assert_eq!((sum.value_at_quantile(0.5), sum.max(), sum.len()), (5, 1000, 7));
        latency.move_into(&mut sum);
        assert_eq!(sum.len(), 7);
    }
}
