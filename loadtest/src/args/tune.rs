//! What the user typed behind `tune`.

use crate::search::goal::Goal;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `tune`.
#[derive(Args, Debug)]
pub struct TuneArgs {
    /// A shipped scenario (S1 to S14) or a TOML file: the load that the plans are tried with.
    #[arg(default_value = "S1")]
    pub scenario: String,
    /// The configuration as it is; without it, the defaults. It is never written to.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long the search may take, such as 90s, 10m or 2h. Only whole rounds are run.
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub budget: Duration,
    /// What a better plan is better at.
    #[arg(long, value_enum, default_value = "efficiency")]
    pub goal: Goal,
    /// How many times the price of the configuration as it is a better plan may have [by goal].
    #[arg(long, value_name = "TIMES")]
    pub allowance: Option<f64>,
    /// Where corelane-tuned.toml and corelane-tune.html are written; neither may exist.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Measured seconds of one run; shorter runs allow more rounds and tell less each.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// CPUs of the broker: 0 or 0-3. With several, plans for rings between cores are tried, too.
    #[arg(long, default_value = "0", value_parser = tuning::cpulist::parse)]
    pub broker_cpus: std::vec::Vec<usize>,
    /// CPUs of the generator, one thread each: others than those of the broker.
    #[arg(long, default_value = "1", value_parser = tuning::cpulist::parse)]
    pub cpus: std::vec::Vec<usize>,
    /// The binary of the broker.
    #[arg(long, default_value = "target/release/corelane")]
    pub corelane: String,
    /// Decides the orders within rounds.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Reads `90s`, `10m` or `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text}: write a number with s, m or h, such as 10m");
    let unit = text.char_indices().next_back().ok_or_else(wrong)?;
    let seconds = match unit.1 {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..unit.0].parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_have_a_unit() {
        let read = |text| duration(text).map(|time| time.as_secs());
        assert_eq!((read("90s"), read("10m"), read("2h")), (Ok(90), Ok(600), Ok(7200)));
        for wrong in ["", "10", "m", "1d", "-1s", "1.5m", "10µ"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
