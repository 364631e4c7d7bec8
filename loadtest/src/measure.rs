//! What is measured: counters at a moment, what lies between two moments, latency.
//!
//! Invariants worth naming:
//! * the measured span excludes connecting, warming up and the tail after the last publication;
//! * the figure of merit is messages in plus out per second of the broker's own CPU time.

use crate::broker::Cpu;
use crate::shape::Shape;
use crate::truth::Faults;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Latencies above this are counted as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// Share of a CPU from which a thread counts as busy.
const BUSY: f64 = 0.95;
/// Share of a CPU below which the broker clearly has room.
const ROOM: f64 = 0.90;

/// A histogram of nanoseconds; equal values that follow each other cost one entry.
pub struct Latency {
    histogram: Histogram<u64>,
    value: u64,
    count: u64,
}

impl Latency {
    /// An empty histogram of three significant digits.
    pub fn new() -> Latency {
        let histogram =
            Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("the bounds are valid");
        Latency { histogram, value: 0, count: 0 }
    }

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

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.count = 0;
        self.histogram.reset();
    }

    /// The usual quantiles.
    pub fn quantiles(&mut self) -> Quantiles {
        self.settle();
        Quantiles {
            p50_ns: self.histogram.value_at_quantile(0.5),
            p99_ns: self.histogram.value_at_quantile(0.99),
            p999_ns: self.histogram.value_at_quantile(0.999),
            max_ns: self.histogram.max(),
        }
    }
}

/// Latency quantiles, nanoseconds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Quantiles {
    /// Median.
    pub p50_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

/// When to warm up, measure and give up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Load before the measured span.
    pub warmup: Duration,
    /// Length of the measured span, unless `messages` ends it.
    pub span: Duration,
    /// Publications in the measured span.
    pub messages: Option<u64>,
    /// How long nothing at all may arrive while something is due.
    pub patience: Duration,
}

/// Counters at one moment.
#[derive(Clone, Copy, Default, Debug)]
pub struct Moment {
    /// The run's clock, nanoseconds.
    pub at_ns: u64,
    /// Messages published.
    pub sent: u64,
    /// Deliveries received.
    pub received: u64,
    /// CPU time of this thread, nanoseconds.
    pub generator_ns: u64,
    /// CPU time of the broker, nanoseconds.
    pub broker_ns: Option<u64>,
}

impl Moment {
    /// Reads the CPU clocks beside the given counters.
    pub fn now(at_ns: u64, sent: u64, received: u64, broker: Option<&Cpu>) -> Moment {
        let generator_ns = thread_cpu_ns();
        let broker_ns = broker.and_then(Cpu::used_ns);
        Moment { at_ns, sent, received, generator_ns, broker_ns }
    }
}

/// CPU time of the calling thread, nanoseconds.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What one run found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The load.
    pub shape: Shape,
    /// Length of the measured span, seconds.
    pub span_s: f64,
    /// Messages published in the span.
    pub sent: u64,
    /// Deliveries received in the span.
    pub received: u64,
    /// CPU seconds of the broker in the span.
    pub broker_cpu_s: Option<f64>,
    /// CPU seconds of the generator's thread in the span.
    pub generator_cpu_s: f64,
    /// Latency of the span's deliveries.
    pub latency: Quantiles,
    /// Faults of the whole run.
    pub faults: Faults,
    /// Why the run ended early, if it did.
    pub broken: Option<String>,
}

impl Outcome {
    /// Messages in plus out in the span.
    pub fn moved(&self) -> u64 {
        self.sent + self.received
    }

    /// Messages in plus out per second of wall time.
    pub fn per_second(&self) -> f64 {
        self.moved() as f64 / self.span_s.max(1e-9)
    }

    /// The figure of merit: messages in plus out per second of broker CPU.
    pub fn per_cpu_second(&self) -> Option<f64> {
        let cpu_s = self.broker_cpu_s?;
        (cpu_s > 0.0).then(|| self.moved() as f64 / cpu_s)
    }

    /// Share of one CPU the broker used.
    pub fn broker_share(&self) -> Option<f64> {
        Some(self.broker_cpu_s? / self.span_s.max(1e-9))
    }

    /// Share of one CPU the generator used.
    pub fn generator_share(&self) -> f64 {
        self.generator_cpu_s / self.span_s.max(1e-9)
    }

    /// Whether the generator, not the broker, set the pace.
    pub fn generator_bound(&self) -> bool {
        self.generator_share() >= BUSY && self.broker_share().is_none_or(|share| share < ROOM)
    }

    /// Whether the run ended in order and delivered what it had to.
    pub fn passed(&self) -> bool {
        self.broken.is_none() && self.faults.acceptable(self.shape.qos)
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
        let mut latency = Latency::new();
        for value in [5, 5, 5, 9, 9, 5, 1000] {
            latency.record(value);
        }
        let found = latency.quantiles();
        assert_eq!((found.p50_ns, found.max_ns), (5, 1000));
        assert_eq!(latency.histogram.len(), 7);
    }
}
