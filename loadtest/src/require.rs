//! What a run must hold to pass: `p99<5ms`, `loss==0`. Each becomes a part of the exit code.
//!
//! Invariants worth naming:
//! * a figure that was not measured holds nothing: the requirement fails and says what to give;
//! * times are compared in nanoseconds, memory in bytes, rates in messages per second.

use crate::outcome::Outcome;
use crate::report::{micros, thousands};
use std::str::FromStr;

/// Every figure that can be required, in the order that errors list them.
const METRICS: &[(&str, Metric)] = &[
    ("p50", Metric::Latency(0.5)),
    ("p90", Metric::Latency(0.9)),
    ("p99", Metric::Latency(0.99)),
    ("p99.9", Metric::Latency(0.999)),
    ("max", Metric::Latency(1.0)),
    ("loss", Metric::Loss),
    ("duplicates", Metric::Duplicates),
    ("reordered", Metric::Reordered),
    ("corrupted", Metric::Corrupted),
    ("rate", Metric::Rate),
    ("cpu_per_message", Metric::CpuPerMessage),
    ("rss", Metric::Rss),
];

/// Whether a value and its bound stand in the relation.
type Relation = fn(f64, f64) -> bool;

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: &[(&str, Relation)] = &[
    ("<=", |value, bound| value <= bound),
    (">=", |value, bound| value >= bound),
    ("==", |value, bound| value == bound),
    ("<", |value, bound| value < bound),
    (">", |value, bound| value > bound),
];

const TIMES: &[(&str, f64)] = &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
const SIZES: &[(&str, f64)] =
    &[("KiB", 1024.0), ("MiB", 1048576.0), ("GiB", 1073741824.0), ("B", 1.0)];
const NUMBERS: &[(&str, f64)] = &[("k", 1e3), ("M", 1e6), ("", 1.0)];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    /// From the intended send time to the delivery, at a quantile.
    Latency(f64),
    Loss,
    Duplicates,
    Reordered,
    Corrupted,
    /// Messages in plus out per second.
    Rate,
    /// Broker CPU time for each message in or out.
    CpuPerMessage,
    /// The broker's largest resident memory.
    Rss,
}

/// One expression, for example `p99<5ms`.
#[derive(Clone, Debug)]
pub struct Requirement {
    text: String,
    metric: Metric,
    holds: Relation,
    bound: f64,
}

impl Requirement {
    /// Why the outcome does not hold it, with the remedy where one is known.
    pub fn fault(&self, outcome: &Outcome) -> Option<String> {
        let text = &self.text;
        match self.metric.value(outcome) {
            None => Some(format!("`{text}` does not hold: {}", self.metric.missing())),
            Some(value) if (self.holds)(value, self.bound) => None,
            Some(value) => Some(format!("`{text}` does not hold: {}", self.metric.told(value))),
        }
    }
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Requirement, String> {
        let at = text.find(['<', '>', '=']).ok_or_else(|| {
            format!("`{text}` compares nothing; write for example `p99<5ms` or `loss==0`")
        })?;
        let (name, rest) = text.split_at(at);
        let (sign, holds) =
            SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(|| {
                format!("`{text}`: `=` alone is no comparison; use <, <=, ==, >= or >")
            })?;
        let name = name.trim();
        let known = METRICS.iter().find(|(known, _)| *known == name);
        let (_, metric) = known.ok_or_else(|| {
            let names: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
            format!("`{text}`: no figure is called `{name}`; use one of {}", names.join(", "))
        })?;
        let bound = metric.bound(rest[sign.len()..].trim());
        let bound = bound.map_err(|remedy| format!("`{text}`: {remedy}"))?;
        Ok(Requirement { text: text.to_owned(), metric: *metric, holds: *holds, bound })
    }
}

impl Metric {
    fn value(self, outcome: &Outcome) -> Option<f64> {
        let truth = &outcome.truth;
        match self {
            Metric::Latency(quantile) => {
                let latency = outcome.latency.histogram();
                (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64)
            }
            Metric::Loss => Some(truth.lost_total() as f64),
            Metric::Duplicates => Some(truth.duplicated_total() as f64),
            Metric::Reordered => Some(truth.reordered as f64),
            Metric::Corrupted => Some(truth.corrupted as f64),
            Metric::Rate => Some(outcome.per_second()),
            Metric::CpuPerMessage => outcome.per_cpu_second().map(|per_second| 1e9 / per_second),
            Metric::Rss => {
                let resident = outcome.series.iter().filter_map(|second| second.broker_resident);
                resident.max().map(|bytes| bytes as f64)
            }
        }
    }

    fn units(self) -> (&'static [(&'static str, f64)], &'static str) {
        match self {
            Metric::Latency(_) | Metric::CpuPerMessage => (TIMES, "a time such as 5ms, 250us, 1s"),
            Metric::Rss => (SIZES, "a size such as 512KiB, 64MiB, 2GiB"),
            _ => (NUMBERS, "a number such as 0, 250k or 1.5M"),
        }
    }

    fn bound(self, text: &str) -> Result<f64, String> {
        let (units, remedy) = self.units();
        let found = units.iter().find_map(|(unit, factor)| {
            let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(number * factor)
        });
        found.ok_or_else(|| format!("`{text}` is no bound for it; write {remedy}"))
    }

    fn missing(self) -> &'static str {
        match self {
            Metric::CpuPerMessage | Metric::Rss => "the broker's process is not known; give --pid",
            _ => "no message arrived inside the measured window; give a longer --seconds",
        }
    }

    fn told(self, value: f64) -> String {
        match self {
            Metric::Latency(_) => format!("it is {}", micros(value as u64)),
            Metric::CpuPerMessage => format!("it is {value:.0} ns"),
            Metric::Rss => format!("it is {:.1} MiB", value / 1048576.0),
            _ => format!("it is {}", thousands(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Distribution, Second, Totals, Window};
    use crate::scenario::find;

    /// 1,000 deliveries of 1 to 1,000 µs in one second, one of them lost, 2 ms of broker CPU.
    fn outcome() -> Outcome {
        let mut histogram = crate::measure::histogram();
        (1..=1000).for_each(|us| histogram.saturating_record(us * 1000));
        let mut outcome = Outcome {
            latency: Distribution::from(&histogram),
            window: Window { end_s: 1.0, ..Window::default() },
            totals: Totals { sent: 1001, received: 1000, ..Totals::default() },
            series: vec![Second { broker_resident: Some(3 << 20), ..Second::default() }],
            ..Outcome::new(find("S1").expect("shipped"))
        };
        outcome.truth.lost[0] = 1;
        outcome.totals.broker_cpu_s = Some(0.002);
        outcome
    }

    fn holds(text: &str) -> bool {
        text.parse::<Requirement>().expect(text).fault(&outcome()).is_none()
    }

    #[test]
    fn each_figure_is_compared_in_its_unit() {
        for held in [
            "p50<=501us",
            "p90 < 0.91ms",
            "p99<1ms",
            "p99.9<=1s",
            "max>=1000us",
            "loss==1",
            "loss<2",
            "duplicates==0",
            "reordered==0",
            "corrupted<=0",
            "rate>=2k",
            "rate>2000",
            "cpu_per_message<1us",
            "rss<=3MiB",
            "rss>2048KiB",
        ] {
            assert!(holds(held), "{held}");
        }
        for broken in
            ["p50>501us", "p99<980us", "loss==0", "rate>=1M", "cpu_per_message<900ns", "rss<3MiB"]
        {
            assert!(!holds(broken), "{broken}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_a_remedy() {
        for (wrong, remedy) in [
            ("p99", "p99<5ms"),
            ("p98<5ms", "p50, p90"),
            ("p99=5ms", "=="),
            ("p99<5", "250us"),
            ("loss==0ms", "a number"),
            ("rss<-1MiB", "64MiB"),
            ("rate>NaN", "250k"),
        ] {
            let error = wrong.parse::<Requirement>().expect_err(wrong);
            assert!(error.contains(wrong) && error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let mut outcome = outcome();
        (outcome.totals.broker_cpu_s, outcome.latency) = (None, Distribution::default());
        for (text, remedy) in [("cpu_per_message<1s", "--pid"), ("p99<1s", "--seconds")] {
            let fault = text.parse::<Requirement>().expect("valid").fault(&outcome);
            assert!(fault.is_some_and(|fault| fault.contains(remedy)), "{text}");
        }
    }
}
