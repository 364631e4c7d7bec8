//! What a plan is to be better at, and what it may not get much worse at.
//!
//! Spinning and gathering exchange latency for CPU, so that no single figure tells which plan is
//! better: each goal has a merit that decides and a price that may rise by a stated factor at most.
//! Both are taken at a load that is the same for all plans.

use crate::outcome::Outcome;
use crate::report::{micros, thousands, verdict};
use clap::ValueEnum;

/// What the search is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Goal {
    /// Messages in plus out per second of broker CPU at a fixed offered load; its price is p99.
    #[default]
    Efficiency,
    /// The p99 of the latency at a fixed offered load; its price is CPU per message.
    Latency,
    /// Messages in plus out per second of broker CPU, the load as the scenario has it; the latency
    /// does not matter.
    Throughput,
}

/// What one run says of one plan.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// What the goal is about; more is better.
    pub merit: f64,
    /// What it costs; less is better.
    pub price: f64,
}

impl Goal {
    /// How many times the baseline's price a winner may have, unless the user says otherwise;
    /// infinite where there is no price.
    pub fn allowance(self) -> f64 {
        match self {
            Goal::Efficiency => 1.5,
            Goal::Latency => 4.0,
            Goal::Throughput => f64::INFINITY,
        }
    }

    /// Whether publishers send at fixed times, whatever the broker does.
    pub fn fixes_load(self) -> bool {
        self != Goal::Throughput
    }

    /// The merit in words.
    pub fn merit(self) -> &'static str {
        match self {
            Goal::Efficiency | Goal::Throughput => "messages in+out per CPU second",
            Goal::Latency => "1 / p99",
        }
    }

    /// The price in words.
    pub fn price(self) -> &'static str {
        match self {
            Goal::Efficiency | Goal::Throughput => "p99",
            Goal::Latency => "CPU per message",
        }
    }

    /// The figures of a run.
    ///
    /// # Errors
    /// Why it has none: it failed, or nothing arrived.
    pub fn sample(self, outcome: &Outcome) -> Result<Sample, String> {
        let forgiven = outcome.scenario.loss_allowed && outcome.partial.is_none();
        if !outcome.passed() && !forgiven {
            let lost = outcome.truth.lost_total();
            let told = if lost > 0 { format!(" ({lost} lost)") } else { String::new() };
            return Err(verdict(outcome) + &told);
        }
        let p99_ns = outcome.latency.p99_ns;
        let per_cpu_s = outcome.per_cpu_second().ok_or("the broker's CPU time is not known")?;
        if p99_ns == 0 || per_cpu_s <= 0.0 {
            return Err("no message arrived inside the measured window".into());
        }
        Ok(match self {
            Goal::Efficiency | Goal::Throughput => {
                Sample { merit: per_cpu_s, price: p99_ns as f64 }
            }
            Goal::Latency => Sample { merit: 1e9 / p99_ns as f64, price: 1e9 / per_cpu_s },
        })
    }

    /// A run's figures for people.
    pub fn told(self, sample: Sample) -> String {
        let (per_cpu_s, p99_ns) = match self {
            Goal::Efficiency | Goal::Throughput => (sample.merit, sample.price),
            Goal::Latency => (1e9 / sample.price, 1e9 / sample.merit),
        };
        format!("{} per CPU s, p99 {}", thousands(per_cpu_s), micros(p99_ns as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Distribution, Totals};
    use crate::scenario::find;

    fn outcome() -> Outcome {
        Outcome {
            totals: Totals { received: 1000, broker_cpu_s: Some(0.5), ..Totals::default() },
            latency: Distribution { p99_ns: 2_000_000, count: 1000, ..Distribution::default() },
            ..Outcome::new(find("S1").expect("shipped"))
        }
    }

    #[test]
    fn each_goal_has_its_merit_and_price() {
        let efficiency = Goal::Efficiency.sample(&outcome()).expect("it passed");
        assert_eq!(efficiency, Sample { merit: 2000.0, price: 2e6 });
        let latency = Goal::Latency.sample(&outcome()).expect("it passed");
        assert_eq!(latency, Sample { merit: 500.0, price: 500_000.0 });
        for (goal, sample) in [(Goal::Efficiency, efficiency), (Goal::Latency, latency)] {
            assert_eq!(goal.told(sample), "2_000 per CPU s, p99 2000 µs");
        }
    }

    #[test]
    fn a_run_that_failed_or_moved_nothing_has_no_figures() {
        let mut failed = outcome();
        failed.truth.lost[0] = 3;
        let why = Goal::Efficiency.sample(&failed).expect_err("messages were lost");
        assert!(why.contains("3 lost"), "{why}");
        failed.scenario.loss_allowed = true;
        assert!(Goal::Efficiency.sample(&failed).is_ok());
        let mut still = outcome();
        still.latency = Distribution::default();
        assert!(Goal::Latency.sample(&still).is_err());
    }
}
