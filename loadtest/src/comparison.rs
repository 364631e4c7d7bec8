//! Brokers side by side: medians over rounds, and the ratio with its interval.
//!
//! Invariants worth naming:
//! * every ratio of one scenario is of the same figure: the largest rate where one was looked for,
//!   messages per broker CPU second where each broker's process is known, otherwise messages per
//!   second;
//! * a load without messages is compared by its connects, or, where they only hold, by the memory
//!   of each;
//! * a ratio above 1 is better than the first broker, also where less of the figure is better.

use crate::measure::{median, ratio_interval};
use crate::outcome::Outcome;
use crate::report::{table, thousands, verdict};
use serde::Serialize;

/// One run's outcome, or why it could not begin.
pub type Run = Result<Outcome, String>;

/// Seed of the bootstrap, so that the same rounds give the same interval.
const SEED: u64 = 1;

/// One broker with one scenario: medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario.
    pub shape: String,
    /// The broker.
    pub broker: String,
    /// Runs made.
    pub rounds: usize,
    /// What is compared, with its unit.
    pub figure: &'static str,
    /// Whether less of it is better.
    pub less_is_better: bool,
    /// The compared figure.
    pub median: f64,
    /// How many times as good as the first broker this one is: its figure over the first one's, or
    /// the inverse where less is better. 0 where one of them is not known.
    pub ratio: f64,
    /// 95 % interval of the ratio, from three rounds on.
    pub interval: Option<(f64, f64)>,
    /// Messages in plus out per second of broker CPU; 0 where it is not known.
    pub per_broker_cpu_second: f64,
    /// Smallest and largest of the compared figure.
    pub range: (f64, f64),
    /// Messages in plus out per second.
    pub per_second: f64,
    /// CPUs' worth of work of the broker.
    pub broker_cpu: f64,
    /// Share of the window that the generator's busiest thread ran.
    pub generator_cpu: f64,
    /// In most runs the generator was the bottleneck.
    pub generator_bound: bool,
    /// Median latency, nanoseconds.
    pub p50_ns: f64,
    /// 99 %, nanoseconds.
    pub p99_ns: f64,
    /// 99.9 %, nanoseconds.
    pub p999_ns: f64,
    /// Why the first failed run failed.
    pub failure: Option<String>,
}

/// One scenario's rows; the first broker is what the others are compared with.
pub fn rows(shape: &str, sides: &[(&str, &Vec<Run>)]) -> Vec<Row> {
    let all = || sides.iter().flat_map(|(_, runs)| runs.iter().flatten());
    let merit = Merit::of_all(all);
    let Some((_, reference)) = sides.first() else { return Vec::new() };
    sides.iter().map(|(broker, runs)| row(shape, broker, runs, reference, merit)).collect()
}

/// What the brokers of one scenario are compared by.
#[derive(Clone, Copy)]
enum Merit {
    Maximum,
    PerCpu,
    Rate,
    Memory,
    ConnectsPerCpu,
    ConnectRate,
}

impl Merit {
    /// The one that suits the load and is known of every outcome.
    fn of_all<'a, I: Iterator<Item = &'a Outcome>>(all: impl Fn() -> I) -> Merit {
        // What a broker that went away leaves unknown says nothing about the others.
        let whole = || all().filter(|one| one.partial.is_none());
        let known = |pick: fn(&Outcome) -> Option<f64>| whole().all(|one| pick(one).is_some());
        if all().any(|outcome| outcome.search.is_some()) {
            Merit::Maximum
        } else if all().any(has_messages) {
            if known(Outcome::per_cpu_second) { Merit::PerCpu } else { Merit::Rate }
        } else if !all().any(has_storms) && known(Outcome::resident_each) {
            Merit::Memory
        } else if known(Outcome::connects_per_cpu_second) {
            Merit::ConnectsPerCpu
        } else {
            Merit::ConnectRate
        }
    }

    fn of(self, outcome: &Outcome) -> f64 {
        match self {
            Merit::Maximum => outcome.search.as_ref().map_or(0.0, |search| search.best_rate),
            Merit::PerCpu => outcome.per_cpu_second().unwrap_or(0.0),
            Merit::Rate => outcome.per_second(),
            Merit::Memory => outcome.resident_each().unwrap_or(0.0),
            Merit::ConnectsPerCpu => outcome.connects_per_cpu_second().unwrap_or(0.0),
            Merit::ConnectRate => outcome.connects_per_second(),
        }
    }

    fn less_is_better(self) -> bool {
        matches!(self, Merit::Memory)
    }

    /// How many times as good one figure is as another.
    fn ratio(self, (of, to): (f64, f64)) -> f64 {
        let (of, to) = if self.less_is_better() { (to, of) } else { (of, to) };
        if to > 0.0 { of / to } else { 0.0 }
    }

    fn name(self) -> &'static str {
        match self {
            Merit::Maximum => "largest rate",
            Merit::PerCpu => "in+out per CPU s",
            Merit::Rate => "in+out per s",
            Merit::Memory => "bytes per connection",
            Merit::ConnectsPerCpu => "connects per CPU s",
            Merit::ConnectRate => "connects per s",
        }
    }
}

/// Whether the load publishes anything; a replay is taken to.
fn has_messages(outcome: &Outcome) -> bool {
    outcome.replayed.is_some() || outcome.scenario.publishers().next().is_some()
}

fn has_storms(outcome: &Outcome) -> bool {
    let mut groups = outcome.scenario.groups.iter();
    groups.any(|group| {
        group.storm_every_s > 0.0 || group.offline_s > 0.0 || group.takeover_every_s > 0.0
    })
}

/// One run's figure of merit in words.
pub fn told(outcome: &Outcome) -> String {
    let merit = Merit::of_all(|| std::iter::once(outcome));
    format!("{} {}", thousands(merit.of(outcome)), merit.name())
}

fn row(shape: &str, broker: &str, runs: &[Run], reference: &[Run], merit: Merit) -> Row {
    let of = |runs: &[Run]| figure(runs, |outcome| merit.of(outcome));
    let pairs: Vec<(f64, f64)> = runs
        .iter()
        .zip(reference)
        .filter_map(|(run, other)| Some((run.as_ref().ok()?, other.as_ref().ok()?)))
        .map(|(run, other)| (merit.of(run), merit.of(other)))
        .map(|(of, to)| if merit.less_is_better() { (to, of) } else { (of, to) })
        .collect();
    let values = || runs.iter().flatten().map(|outcome| merit.of(outcome));
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    Row {
        shape: shape.to_owned(),
        broker: broker.to_owned(),
        rounds: runs.len(),
        figure: merit.name(),
        less_is_better: merit.less_is_better(),
        median: of(runs),
        ratio: merit.ratio((of(runs), of(reference))),
        interval: ratio_interval(&pairs, SEED),
        per_broker_cpu_second: figure(runs, |outcome| outcome.per_cpu_second().unwrap_or(0.0)),
        range: (low.min(high), high),
        per_second: figure(runs, Outcome::per_second),
        broker_cpu: figure(runs, |outcome| outcome.broker_share().unwrap_or(0.0)),
        generator_cpu: figure(runs, |outcome| outcome.generator.busiest_share),
        generator_bound: generator_bound(runs),
        p50_ns: figure(runs, |outcome| outcome.latency.p50_ns as f64),
        p99_ns: figure(runs, |outcome| outcome.latency.p99_ns as f64),
        p999_ns: figure(runs, |outcome| outcome.latency.p999_ns as f64),
        failure: failure(runs),
    }
}

/// The median of the largest rates that were found; 0 where none was looked for.
pub fn maximum(runs: &[Run]) -> f64 {
    figure(runs, |outcome| Merit::Maximum.of(outcome))
}

/// The median of one figure over the runs that took place.
fn figure(runs: &[Run], pick: impl Fn(&Outcome) -> f64) -> f64 {
    median(runs.iter().flatten().map(pick))
}

fn failure(runs: &[Run]) -> Option<String> {
    if runs.is_empty() {
        return Some("not run".into());
    }
    runs.iter().find_map(|run| match run {
        Err(reason) => Some(reason.clone()),
        Ok(outcome) if outcome.passed() => None,
        Ok(outcome) => Some(verdict(outcome)),
    })
}

fn generator_bound(runs: &[Run]) -> bool {
    let bound = runs.iter().flatten().filter(|outcome| outcome.generator.bottleneck).count();
    2 * bound > runs.len()
}

/// The rows as a table for people.
pub fn text(rows: &[Row]) -> String {
    let names = ["shape", "broker", "ratio", "median", "min–max", "of", "in+out/s"];
    let more = ["broker CPU", "load CPU", "p50 µs", "p99 µs", "verdict"];
    let heading = names.into_iter().chain(more).map(str::to_owned).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    table(&lines)
}

/// What is compared, with an arrow where less is better.
pub fn figure_told(row: &Row) -> String {
    format!("{}{}", row.figure, if row.less_is_better { " ↓" } else { "" })
}

/// A share of a CPU as a percentage; small ones with two digits more, for brokers at rest.
pub fn percent(share: f64) -> String {
    if share < 0.1 { format!("{:.2} %", 100.0 * share) } else { format!("{:.0} %", 100.0 * share) }
}

/// The ratio with its interval.
pub fn ratio(row: &Row) -> String {
    match row.interval {
        _ if row.ratio <= 0.0 => "?".into(),
        Some((low, high)) => format!("×{:.2} [{low:.2}–{high:.2}]", row.ratio),
        None => format!("×{:.2}", row.ratio),
    }
}

fn cells(row: &Row) -> Vec<String> {
    let bound = if row.generator_bound { " G" } else { "" };
    vec![
        row.shape.clone(),
        row.broker.clone(),
        ratio(row),
        thousands(row.median),
        format!("{}–{}", thousands(row.range.0), thousands(row.range.1)),
        figure_told(row),
        thousands(row.per_second),
        percent(row.broker_cpu),
        percent(row.generator_cpu) + bound,
        format!("{:.0}", row.p50_ns / 1000.0),
        format!("{:.0}", row.p99_ns / 1000.0),
        row.failure.as_deref().map_or("passed".into(), in_short),
    ]
}

/// The first line of a failure: some brokers end with a page of text, which was shown already.
fn in_short(failure: &str) -> String {
    failure.lines().next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Search, Second, Totals, Window};
    use crate::scenario::find;

    fn run(received: u64, broker_cpu_s: Option<f64>) -> Run {
        Ok(Outcome {
            window: Window { end_s: 2.0, ..Window::default() },
            totals: Totals { received, broker_cpu_s, ..Totals::default() },
            ..Outcome::new(find("S1").expect("shipped"))
        })
    }

    #[test]
    fn a_broker_without_a_process_makes_the_rate_the_figure() {
        let ours = vec![run(3000, Some(1.0)), run(3300, Some(1.0)), run(2700, Some(1.0))];
        let theirs = vec![run(1000, Some(0.5)), run(1100, Some(0.5)), run(900, Some(0.5))];
        let by_cpu = rows("S1", &[("theirs", &theirs), ("ours", &ours)]);
        assert_eq!((by_cpu[1].ratio, by_cpu[1].figure), (1.5, "in+out per CPU s"));
        assert_eq!(by_cpu[1].interval, Some((1.5, 1.5)));
        let unknown = vec![run(1000, None), run(1100, None), run(900, None)];
        let by_rate = rows("S1", &[("theirs", &unknown), ("ours", &ours)]);
        assert_eq!((by_rate[1].ratio, by_rate[1].figure), (3.0, "in+out per s"));
    }

    /// A run of S9 or S10.
    fn quiet(shape: &str, connects: u64, cpu_s: f64, held: u64) -> Run {
        let second = Second { connects, broker_cpu_s: Some(cpu_s), ..Second::default() };
        let rest = Second { broker_cpu_s: Some(0.0), ..Second::default() };
        Ok(Outcome {
            series: vec![second, rest],
            totals: Totals {
                connects,
                broker_cpu_s: Some(0.0),
                resident_before: Some(1_000_000),
                resident_held: Some(1_000_000 + held),
                ..Totals::default()
            },
            ..Outcome::new(find(shape).expect("shipped"))
        })
    }

    #[test]
    fn a_load_without_messages_is_compared_by_connects_or_memory() {
        let (theirs, ours) = (vec![quiet("S9", 9000, 2.0, 0)], vec![quiet("S9", 9000, 0.5, 0)]);
        let storm = rows("S9", &[("theirs", &theirs), ("ours", &ours)]);
        assert_eq!((storm[1].figure, storm[1].ratio), ("connects per CPU s", 4.0));
        assert_eq!((storm[1].median, storm[1].less_is_better), (18_000.0, false));

        let side = |held| vec![quiet("S10", 9, 1.0, held), quiet("S10", 9, 1.0, held)];
        let (mut theirs, mut ours) = (side(60_000_000), side(15_000_000));
        theirs.push(quiet("S10", 9, 1.0, 60_000_000));
        ours.push(quiet("S10", 9, 1.0, 15_000_000));
        let idle = rows("S10", &[("theirs", &theirs), ("ours", &ours)]);
        assert_eq!((idle[1].figure, idle[1].less_is_better), ("bytes per connection", true));
        // A quarter of the memory is four times as good.
        assert_eq!((idle[1].ratio, idle[1].interval), (4.0, Some((4.0, 4.0))));
        assert_eq!((idle[1].median, idle[0].median), (1000.0, 4000.0));
        assert!(text(&idle).contains("bytes per connection ↓"));
        let Ok(ours) = &ours[0] else { unreachable!() };
        assert_eq!(told(ours), "1_000 bytes per connection");
    }

    #[test]
    fn memory_that_is_not_known_is_not_compared() {
        let known = vec![quiet("S10", 500, 1.0, 60_000_000)];
        let unknown = vec![quiet("S10", 1000, 1.0, 0)];
        let idle = rows("S10", &[("known", &known), ("unknown", &unknown)]);
        assert_eq!((idle[1].figure, idle[1].ratio), ("connects per CPU s", 2.0));
        let gone = vec![Err("does not listen".to_owned())];
        let idle = rows("S10", &[("gone", &gone), ("known", &known)]);
        assert_eq!((ratio(&idle[0]), ratio(&idle[1])), ("?".into(), "?".into()));
    }

    #[test]
    fn a_broker_that_did_not_start_is_a_failure_and_no_pair() {
        let ours = vec![run(100, Some(1.0)), run(100, Some(1.0)), run(100, Some(1.0))];
        let gone = vec![Err("does not listen".to_owned()), run(50, Some(1.0))];
        let found = rows("S1", &[("ours", &ours), ("gone", &gone)]);
        assert_eq!(found[1].failure.as_deref(), Some("does not listen"));
        assert_eq!((found[1].ratio, found[1].interval), (0.5, None));
    }

    #[test]
    fn the_largest_rates_are_compared_where_they_were_looked_for() {
        let found = |best_rate| {
            let Ok(mut outcome) = run(1, Some(1.0)) else { unreachable!() };
            outcome.search = Some(Search { best_rate, ..Search::default() });
            vec![Ok(outcome)]
        };
        let (theirs, ours) = (found(1000.0), found(5000.0));
        let rows = rows("S12", &[("theirs", &theirs), ("ours", &ours)]);
        assert_eq!((rows[1].ratio, rows[1].figure), (5.0, "largest rate"));
        assert_eq!(maximum(&ours), 5000.0);
    }
}
