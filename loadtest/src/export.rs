//! Outcomes as CSV: what spreadsheets and plotting tools read.

use crate::outcome::{Distribution, Outcome};
use std::fmt::Write;
use std::io;
use std::path::Path;

/// Writes two kinds of files into `directory`, which is made: `NN-scenario-broker-seconds.csv` and
/// for each histogram that has values `NN-scenario-broker-latency.csv` (`-ack`, `-connect`).
///
/// # Errors
/// The directory or a file cannot be written.
pub fn csv(directory: &Path, outcomes: &[Outcome]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (at, outcome) in outcomes.iter().enumerate() {
        let name = format!("{}-{}", outcome.scenario.name, outcome.versions.broker);
        let stem = format!("{:02}-{}", at + 1, plain(&name));
        let write = |kind: &str, text: String| {
            std::fs::write(directory.join(format!("{stem}-{kind}.csv")), text)
        };
        write("seconds", seconds(outcome))?;
        let kinds =
            [("latency", &outcome.latency), ("ack", &outcome.ack), ("connect", &outcome.connect)];
        for (kind, found) in kinds.into_iter().filter(|(_, found)| found.count > 0) {
            write(kind, histogram(found))?;
        }
    }
    Ok(())
}

/// A name that is a safe part of a file name.
fn plain(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    name.chars().map(safe).take(80).collect()
}

fn seconds(outcome: &Outcome) -> String {
    let mut text = String::from(
        "second,length_s,in_window,sent,received,acknowledged,connects,p50_ns,p99_ns,p999_ns,\
         max_ns,broker_cpu_s,broker_resident,generator_cpu_s,generator_lag_ns\n",
    );
    for one in &outcome.series {
        let cpu = one.broker_cpu_s.map_or(String::new(), |cpu| cpu.to_string());
        let resident = one.broker_resident.map_or(String::new(), |bytes| bytes.to_string());
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{},{cpu},{resident},{},{}",
            one.second,
            one.length_s,
            one.in_window,
            one.sent,
            one.received,
            one.acknowledged,
            one.connects,
            one.p50_ns,
            one.p99_ns,
            one.p999_ns,
            one.max_ns,
            one.generator_cpu_s,
            one.generator_lag_ns,
        );
    }
    text
}

fn histogram(found: &Distribution) -> String {
    let mut text = String::from("value_ns,count,quantile\n");
    let mut below = 0;
    for (value, count) in &found.buckets {
        below += count;
        let quantile = below as f64 / found.count as f64;
        let _ = writeln!(text, "{value},{count},{quantile:.6}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_ends_at_one_and_names_are_safe() {
        let mut recorded = crate::measure::histogram();
        [1000, 1000, 2000, 5000].into_iter().for_each(|value| recorded.saturating_record(value));
        let text = histogram(&Distribution::from(&recorded));
        let wanted = "value_ns,count,quantile\n1000,2,0.500000\n2000,1,0.750000\n";
        let rest = text.strip_prefix(wanted).expect("the first buckets");
        assert!(rest.ends_with(",1,1.000000\n"), "{rest}");
        assert_eq!(plain("../a b:2"), ".._a_b_2");
    }
}
