//! Histograms that are cheap to record into, and the arithmetic of summaries.

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

#[cfg(test)]
mod tests {
    use super::*;

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
