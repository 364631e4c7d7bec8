//! The report as one HTML file: everything in it, nothing beside it, fit for screen and paper.

use crate::chart::{Axes, Bar, Line, bars, escape, lines};
use crate::comparison::{Row, figure_told, percent, ratio};
use crate::outcome::{Distribution, Outcome, Second};
use crate::report::{micros, text, thousands, verdict};
use std::collections::BTreeSet;
use std::fmt::Write;

const STYLE: &str = include_str!("report.css");

/// Quantiles of the percentile chart, each a tenth of the last one's rest.
const QUANTILES: &[(f64, &str)] = &[
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (1.0, "max"),
];

/// The whole page. `rows` are those of a comparison, or none.
pub fn page(outcomes: &[Outcome], rows: &[Row]) -> String {
    let mut page = String::new();
    if let Some(first) = outcomes.first() {
        let _ = writeln!(page, "<pre class=command>{}</pre>", escape(&first.command.join(" ")));
    }
    comparison(&mut page, rows);
    let mut seen = BTreeSet::new();
    for outcome in outcomes {
        let name = &outcome.scenario.name;
        if seen.insert(name) {
            let same = outcomes.iter().filter(|other| other.scenario.name == *name);
            scenario(&mut page, &same.collect::<Vec<_>>());
        }
    }
    setting(&mut page, outcomes);
    frame(&title(outcomes), &page)
}

/// A page with a title, both as HTML.
pub fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n{body}</html>\n"
    )
}

fn title(outcomes: &[Outcome]) -> String {
    let names = in_order(outcomes.iter().map(|one| one.scenario.name.as_str()));
    let brokers = in_order(outcomes.iter().map(|one| one.versions.broker.as_str()));
    let told = match &names[..] {
        [] | [_] | [_, _] | [_, _, _] => names.join(", "),
        [first, .., last] => format!("{} loads, {first} to {last}", names.len()),
    };
    escape(&format!("{told}: {}", brokers.join(", ")))
}

/// Each once, as they come.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// A row of a table.
pub fn row(page: &mut String, tag: &str, cells: &[String]) {
    *page += "<tr>";
    for cell in cells {
        let _ = write!(page, "<{tag}>{}</{tag}>", escape(cell));
    }
    *page += "</tr>\n";
}

fn comparison(page: &mut String, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    *page += "<h2>Side by side</h2>\n<div class=wide><table>";
    let names = ["scenario", "broker", "rounds", "ratio", "median", "of", "in+out/s"];
    let more = ["CPU/message", "broker CPU", "p50", "p99", "p99.9", "verdict"];
    let heading: Vec<String> = names.iter().chain(&more).map(|name| (*name).into()).collect();
    row(page, "th", &heading);
    for one in rows {
        let cpu = one.per_broker_cpu_second;
        let cost = if cpu > 0.0 { format!("{:.0} ns", 1e9 / cpu) } else { "–".into() };
        let time = |ns: f64| if ns > 0.0 { micros(ns as u64) } else { "–".into() };
        let failure = one.failure.clone().unwrap_or_else(|| "passed".into());
        let bound = if one.generator_bound { " (generator-bound)" } else { "" };
        let cells = [
            one.shape.clone(),
            one.broker.clone(),
            one.rounds.to_string(),
            ratio(one),
            thousands(one.median),
            figure_told(one),
            thousands(one.per_second),
            cost,
            percent(one.broker_cpu),
            time(one.p50_ns),
            time(one.p99_ns),
            time(one.p999_ns),
            failure + bound,
        ];
        row(page, "td", &cells);
    }
    *page += "</table></div>\n<p>Medians over the rounds; in brackets the 95 % interval of the \
              ratio to the first broker, by bootstrap over the rounds. A ratio above 1 is better \
              than the first broker, also where less of the figure is better (↓).</p>\n";
    let brokers = in_order(rows.iter().map(|one| one.broker.as_str()));
    let colour = |one: &Row| brokers.iter().position(|name| *name == one.broker).unwrap_or(0);
    let ratios: Vec<Bar> = rows
        .iter()
        // The first broker is the line at 1.
        .filter(|one| one.ratio > 0.0 && (colour(one) > 0 || brokers.len() == 1))
        .map(|one| Bar {
            name: format!("{} {}", one.shape, one.broker),
            value: one.ratio,
            interval: one.interval,
            colour: colour(one),
        })
        .collect();
    let figure = "How many times as good as the first broker";
    *page += &bars(figure, &ratios, |value| format!("×{value:.2}"), Some(1.0));
}

/// What a legend calls a run.
fn called(outcome: &Outcome, round: usize, several: bool) -> String {
    let mut name = outcome.versions.broker.clone();
    if !outcome.label.is_empty() && !outcome.label.contains(&name) {
        let _ = write!(name, " {}", outcome.label);
    } else if several {
        let _ = write!(name, " round {round}");
    }
    name
}

fn scenario(page: &mut String, runs: &[&Outcome]) {
    let scenario = &runs[0].scenario;
    let (name, about) = (escape(&scenario.name), escape(&scenario.about));
    let _ = writeln!(page, "<h2>{name}</h2>\n<p>{about}</p>");
    let names: Vec<String> = runs
        .iter()
        .enumerate()
        .map(|(at, run)| {
            let broker = &run.versions.broker;
            let same = |other: &&&Outcome| other.versions.broker == *broker;
            let earlier = runs[..at].iter().filter(same).count();
            called(run, earlier + 1, runs.iter().filter(same).count() > 1)
        })
        .collect();
    if runs.iter().any(|run| run.moved() > 0) {
        messages(page, &names, runs);
    } else {
        connections(page, &names, runs);
    }
    for (name, run) in names.iter().zip(runs) {
        let (name, text) = (escape(name), escape(&text(run)));
        let verdict = escape(&verdict(run));
        let _ = writeln!(
            page,
            "<details><summary>{name}: {verdict}</summary><pre>{text}</pre></details>"
        );
    }
}

/// Charts of a load that carries messages.
fn messages(page: &mut String, names: &[String], runs: &[&Outcome]) {
    seconds(page, names, runs, "Messages in plus out per second", |one| one.sent + one.received);
    let title = "Latency from the intended send time";
    quantiles(page, names, runs, title, |run| &run.latency);
    let title = "Broker CPU for each message";
    let cost = |run: &Outcome| Some(1e9 / run.per_cpu_second()?);
    each(page, names, runs, title, cost, |ns| format!("{ns:.0} ns"));
}

/// Charts of a load that only connects.
fn connections(page: &mut String, names: &[String], runs: &[&Outcome]) {
    seconds(page, names, runs, "Connects per second", |one| one.connects);
    quantiles(page, names, runs, "From the intended connect to CONNACK", |run| &run.connect);
    let title = "Broker CPU for each connect";
    let cost = |run: &Outcome| Some(1e9 / run.connects_per_cpu_second()?);
    each(page, names, runs, title, cost, |ns| format!("{:.1} µs", ns / 1000.0));
    let title = "Broker memory for each connection";
    each(page, names, runs, title, Outcome::resident_each, |bytes| thousands(bytes) + " B");
}

fn seconds(
    page: &mut String,
    names: &[String],
    runs: &[&Outcome],
    title: &str,
    count: impl Fn(&Second) -> u64,
) {
    let rates = named(names, runs, |run| {
        let rate =
            |one: &Second| (f64::from(one.second), count(one) as f64 / one.length_s.max(1e-9));
        // A short last second has too few of anything to tell a rate.
        run.series.iter().filter(|one| one.length_s > 0.5).map(rate).collect()
    });
    let axes = Axes { x: "second", ticks: Vec::new(), y: thousands, log: false };
    *page += &lines(title, &rates, &axes);
}

fn quantiles(
    page: &mut String,
    names: &[String],
    runs: &[&Outcome],
    title: &str,
    pick: fn(&Outcome) -> &Distribution,
) {
    let latencies = named(names, runs, |run| percentiles(pick(run)));
    let ticks = QUANTILES.iter().enumerate();
    let ticks = ticks.map(|(at, (_, label))| (at as f64, (*label).into())).collect();
    let axes = Axes { x: "percentile", ticks, y: |ns| micros(ns as u64), log: true };
    *page += &lines(title, &latencies, &axes);
}

/// A bar for each run of which the figure is known.
fn each(
    page: &mut String,
    names: &[String],
    runs: &[&Outcome],
    title: &str,
    pick: impl Fn(&Outcome) -> Option<f64>,
    told: fn(f64) -> String,
) {
    let bar = |(colour, (name, run)): (usize, (&String, &&Outcome))| {
        Some(Bar { name: name.clone(), value: pick(run)?, interval: None, colour })
    };
    let known: Vec<Bar> = names.iter().zip(runs).enumerate().filter_map(bar).collect();
    *page += &bars(title, &known, told, None);
}

fn named(
    names: &[String],
    runs: &[&Outcome],
    points: impl Fn(&Outcome) -> Vec<(f64, f64)>,
) -> Vec<Line> {
    let both = names.iter().zip(runs);
    both.map(|(name, run)| Line { name: name.clone(), points: points(run) }).collect()
}

fn percentiles(found: &Distribution) -> Vec<(f64, f64)> {
    let latency = found.histogram();
    if latency.is_empty() {
        return Vec::new();
    }
    let at = |(at, (quantile, _)): (usize, &(f64, &str))| {
        (at as f64, latency.value_at_quantile(*quantile).max(1) as f64)
    };
    QUANTILES.iter().enumerate().map(at).collect()
}

fn setting(page: &mut String, outcomes: &[Outcome]) {
    let Some(first) = outcomes.first() else { return };
    let place = &first.place;
    let pins =
        place.generator_cpus.iter().map(|cpu| cpu.map_or("free".into(), |cpu| cpu.to_string()));
    let listed = |cpus: Vec<String>| if cpus.is_empty() { "?".into() } else { cpus.join(", ") };
    let brokers: BTreeSet<_> = outcomes.iter().map(|one| one.versions.broker.as_str()).collect();
    *page += "<h2>Where and with what</h2>\n<table class=facts>";
    for (name, value) in [
        ("generator", first.versions.harness.clone()),
        ("brokers", brokers.into_iter().collect::<Vec<_>>().join(", ")),
        ("kernel", first.versions.kernel.clone()),
        ("processor", place.processor.clone()),
        ("governor", place.governor.clone().unwrap_or_else(|| "not told".into())),
        ("CPUs of the generator", listed(pins.collect())),
        ("CPUs of the broker", listed(place.broker_cpus.iter().map(usize::to_string).collect())),
        ("began", format!("{} ms after the Unix epoch", first.began_unix_ms)),
    ] {
        row(page, "td", &[name.to_owned(), value]);
    }
    let _ = writeln!(page, "</table>\n<pre>{}</pre>", escape(place.topology.trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Totals, Versions, Window};
    use crate::scenario::find;

    #[test]
    fn the_page_stands_alone_and_escapes_what_it_is_told() {
        let mut latency = crate::measure::histogram();
        (1..=1000).for_each(|us| latency.saturating_record(us * 1000));
        let second = |second| Second { second, length_s: 1.0, sent: 5, ..Second::default() };
        let outcome = Outcome {
            command: vec!["run".into(), "<script>".into()],
            versions: Versions { broker: "a&b".into(), ..Versions::default() },
            window: Window { end_s: 3.0, ..Window::default() },
            totals: Totals { sent: 9, broker_cpu_s: Some(0.1), ..Totals::default() },
            latency: Distribution::from(&latency),
            series: (0..3).map(second).collect(),
            ..Outcome::new(find("S1").expect("shipped"))
        };
        let rows = crate::comparison::rows("S1", &[("a&b", &vec![Ok(outcome.clone())])]);
        let page = page(&[outcome], &rows);
        assert_eq!(page.matches("<svg").count(), 4, "rate, latency, CPU and ratio");
        assert!(page.contains("a&amp;b") && page.contains("run &lt;script&gt;"));
        assert!(page.contains("Messages in plus out") && !page.contains("Connects per second"));
        for outside in ["<script", "http:", "https:", "<link", "@import", "url(", "NaN", "inf"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_load_that_only_connects_shows_connects_and_memory() {
        let mut connect = crate::measure::histogram();
        connect.saturating_record(2_000_000);
        let second = |second| Second {
            second,
            length_s: 1.0,
            connects: 50,
            broker_cpu_s: Some(0.1),
            ..Second::default()
        };
        let outcome = Outcome {
            connect: Distribution::from(&connect),
            series: (0..3).map(second).collect(),
            totals: Totals {
                connects: 150,
                resident_before: Some(0),
                resident_held: Some(30_000_000),
                ..Totals::default()
            },
            ..Outcome::new(find("S10").expect("shipped"))
        };
        let page = page(&[outcome], &[]);
        assert_eq!(page.matches("<svg").count(), 4, "rate, CONNACK, CPU and memory");
        assert!(page.contains("2_000 B") && page.contains("2000.0 µs"), "{page}");
    }
}
