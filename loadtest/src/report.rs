//! What people read: lines and tables.

use crate::door::INSECURE;
use crate::outcome::{BrokerVerdict, Distribution, Outcome, Try};
use crate::scenario::Transport;
use std::fmt::Write;

/// One outcome for people.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let label = if outcome.label.is_empty() { "" } else { " · " };
    let _ = writeln!(
        text,
        "{}{label}{} against {} at {}{}, {:.1} s{}",
        outcome.scenario.name,
        outcome.label,
        outcome.versions.broker,
        outcome.place.address,
        over(outcome),
        outcome.window.seconds(),
        if outcome.window.warmed_up { "" } else { " (the load had not settled before)" },
    );
    if outcome.scenario.insecure {
        let _ = writeln!(text, "  {INSECURE}");
    }
    figures(outcome, &mut text);
    let _ = writeln!(text, "  latency {}", quantiles(&outcome.latency));
    if outcome.ack.count > 0 {
        let _ = writeln!(text, "  ack     {}", quantiles(&outcome.ack));
    }
    let _ = writeln!(text, "  connect {}", quantiles(&outcome.connect));
    findings(outcome, &mut text);
    if let Some(search) = &outcome.search {
        let best = thousands(search.best_rate);
        let _ = writeln!(text, "  largest rate with {}: {best} messages/s", search.goal);
    }
    let _ = write!(text, "  {}", verdict(outcome));
    text
}

fn over(outcome: &Outcome) -> String {
    match outcome.scenario.transport {
        Transport::Tcp => String::new(),
        transport => format!(" over {}", transport.name()),
    }
}

fn figures(outcome: &Outcome, text: &mut String) {
    let totals = &outcome.totals;
    let span = outcome.window.seconds().max(1e-9);
    let _ = writeln!(
        text,
        "  in {} ({}/s)  out {} ({}/s)  in+out per broker CPU s {}",
        thousands(totals.sent as f64),
        thousands(totals.sent as f64 / span),
        thousands(totals.received as f64),
        thousands(totals.received as f64 / span),
        outcome.per_cpu_second().map_or("unknown (no --pid)".to_owned(), thousands),
    );
    let steady = match outcome.window.steady {
        // What was recorded need not be steady.
        _ if outcome.replayed.is_some() => String::new(),
        true => "  steady".to_owned(),
        false => format!("  NOT STEADY, drift {:+.0} %", 100.0 * outcome.window.drift),
    };
    let _ = writeln!(
        text,
        "  CPU: broker {}  generator {:.0} % (+ {:.0} % waiting), {} messages per CPU s{steady}",
        outcome.broker_share().map_or("?".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
        100.0 * outcome.generator.busiest_share,
        100.0 * outcome.generator.waiting_share,
        thousands(outcome.generator.per_cpu_second),
    );
}

fn findings(outcome: &Outcome, text: &mut String) {
    let truth = &outcome.truth;
    let _ = writeln!(
        text,
        "  {} checked: lost {}  duplicated {}  reordered {}  corrupted {}  misrouted {}",
        thousands(truth.checked as f64),
        truth.lost_total(),
        truth.duplicated_total(),
        truth.reordered,
        truth.corrupted,
        truth.misrouted,
    );
    if let Some(replayed) = &outcome.replayed {
        let _ = writeln!(
            text,
            "  recording {}: rate ×{}, {} × {} clients, {} publications, {} deliveries due",
            replayed.source,
            replayed.rate,
            replayed.copies,
            replayed.clients,
            thousands(replayed.publications as f64),
            thousands(replayed.due as f64),
        );
        for note in &replayed.notes {
            let _ = writeln!(text, "  not as recorded: {note}");
        }
    }
    let totals = &outcome.totals;
    if totals.reconnects > 0 {
        let _ = writeln!(
            text,
            "  {} connects, {} of them reconnects, {} sessions resumed, {} taken over",
            totals.connects, totals.reconnects, totals.resumed, totals.takeovers,
        );
    }
    if totals.refused > 0 {
        let _ = writeln!(text, "  {} turned away, as they must be", totals.refused);
    }
    if outcome.generator.at_limit && !outcome.generator.bottleneck {
        let _ = writeln!(text, "  the generator was at its limit, too: rates may be its own");
    }
    if totals.unsubscribes > 0 {
        let _ = writeln!(text, "  {} times unsubscribed and back", totals.unsubscribes);
    }
}

/// Passed, or why not, or why there is no verdict.
pub fn verdict(outcome: &Outcome) -> String {
    if let Some(partial) = &outcome.partial {
        let kind = if outcome.broker == BrokerVerdict::Stayed { "PARTIAL" } else { "FAILED" };
        return format!("{kind}: {partial}; the figures are those until then");
    }
    if !outcome.passed() && !outcome.scenario.loss_allowed {
        return "FAILED: the broker lost or spoiled messages".into();
    }
    let generator = &outcome.generator;
    if let (true, Some(why), Some(remedy)) =
        (generator.bottleneck, &generator.why, &generator.remedy)
    {
        return format!("NO VERDICT: the generator was the bottleneck: {why}; {remedy}");
    }
    "passed".into()
}

/// One try of a search.
pub fn told(tried: &Try) -> String {
    let held = if tried.held { "holds" } else { "does not hold" };
    let why = if tried.why.is_empty() { String::new() } else { format!(" ({})", tried.why) };
    format!("{held}{why}, {}", micros(tried.latency_ns))
}

fn quantiles(found: &Distribution) -> String {
    if found.count == 0 {
        return "none measured".into();
    }
    format!(
        "p50 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
        micros(found.p50_ns),
        micros(found.p99_ns),
        micros(found.p999_ns),
        micros(found.p9999_ns),
        micros(found.max_ns),
    )
}

/// A time in the unit that suits it.
pub fn micros(ns: u64) -> String {
    match ns {
        0..10_000_000 => format!("{} µs", ns / 1000),
        10_000_000..10_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// A whole number with its thousands apart.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

/// Lays rows out in columns: the first flush left, the others flush right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match column {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(1_234_567.0), "1_234_567");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "1".to_owned()]];
        assert_eq!(table(&rows), "a    10\nbcd   1\n");
    }
}
