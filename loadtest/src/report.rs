//! What people and programs read: lines, tables and JSON.

use crate::measure::Outcome;
use std::fmt::{Display, Write};

/// A flat JSON object, written field by field.
pub struct Object(String);

impl Object {
    /// An object without fields.
    pub fn new() -> Object {
        Object(String::from("{"))
    }

    fn key(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "\"{name}\":");
    }

    /// Adds a number or a truth value.
    pub fn plain(mut self, name: &str, value: impl Display) -> Object {
        self.key(name);
        let _ = write!(self.0, "{value}");
        self
    }

    /// Adds a number with a fraction; what is no number becomes null.
    pub fn real(self, name: &str, value: Option<f64>) -> Object {
        match value.filter(|value| value.is_finite()) {
            Some(value) => self.plain(name, format_args!("{value:.4}")),
            None => self.plain(name, "null"),
        }
    }

    /// Adds a text.
    pub fn text(mut self, name: &str, value: &str) -> Object {
        self.key(name);
        self.0.push('"');
        for character in value.chars() {
            match character {
                '"' | '\\' => self.0.extend(['\\', character]),
                control if control < ' ' => {
                    let _ = write!(self.0, "\\u{:04x}", u32::from(control));
                }
                plain => self.0.push(plain),
            }
        }
        self.0.push('"');
        self
    }

    /// The object as one line.
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The fields of one outcome.
pub fn outcome_json(outcome: &Outcome) -> String {
    let Outcome { latency, faults, .. } = outcome;
    Object::new()
        .text("shape", &outcome.shape.name())
        .plain("window", outcome.shape.window)
        .plain("inflight", outcome.shape.inflight)
        .real("seconds", Some(outcome.span_s))
        .plain("in", outcome.sent)
        .plain("out", outcome.received)
        .real("per_second", Some(outcome.per_second()))
        .real("per_broker_cpu_second", outcome.per_cpu_second())
        .real("broker_cpu", outcome.broker_share())
        .real("generator_cpu", Some(outcome.generator_share()))
        .plain("generator_bound", outcome.generator_bound())
        .plain("p50_ns", latency.p50_ns)
        .plain("p99_ns", latency.p99_ns)
        .plain("p999_ns", latency.p999_ns)
        .plain("max_ns", latency.max_ns)
        .plain("lost", faults.lost)
        .plain("duplicated", faults.duplicated)
        .plain("late", faults.late)
        .plain("corrupt", faults.corrupt)
        .plain("passed", outcome.passed())
        .text("broken", outcome.broken.as_deref().unwrap_or(""))
        .finish()
}

/// One outcome for people.
pub fn outcome_text(outcome: &Outcome) -> String {
    let Outcome { latency, faults, .. } = outcome;
    let mut text = format!(
        "{}  window {}  {:.2} s\n",
        outcome.shape.name(),
        outcome.shape.window,
        outcome.span_s
    );
    let _ = writeln!(
        text,
        "  in {}  out {}  in+out/s {}  in+out per broker CPU s {}",
        outcome.sent,
        outcome.received,
        thousands(outcome.per_second()),
        outcome.per_cpu_second().map_or("unknown (no --pid)".to_owned(), thousands),
    );
    let _ = writeln!(
        text,
        "  CPU: broker {}  generator {:.0} %{}",
        outcome.broker_share().map_or("?".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
        100.0 * outcome.generator_share(),
        if outcome.generator_bound() { "  THE GENERATOR WAS THE BOTTLENECK" } else { "" },
    );
    let _ = writeln!(
        text,
        "  latency µs: p50 {}  p99 {}  p99.9 {}  max {}",
        latency.p50_ns / 1000,
        latency.p99_ns / 1000,
        latency.p999_ns / 1000,
        latency.max_ns / 1000,
    );
    let _ = write!(
        text,
        "  lost {}  duplicated {}  late {}  corrupt {}  {}",
        faults.lost,
        faults.duplicated,
        faults.late,
        faults.corrupt,
        verdict(outcome),
    );
    text
}

/// Passed, or why not.
fn verdict(outcome: &Outcome) -> String {
    match &outcome.broken {
        Some(reason) => format!("FAILED: {reason}"),
        None if outcome.passed() => "passed".to_owned(),
        None => "FAILED".to_owned(),
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
    fn json_text_is_escaped() {
        let line = Object::new().text("a", "x\"\\\n").plain("b", 1).real("c", None).finish();
        assert_eq!(line, "{\"a\":\"x\\\"\\\\\\u000a\",\"b\":1,\"c\":null}");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["bcd".to_owned(), "1".to_owned()]];
        assert_eq!(table(&rows), "a    10\nbcd   1\n");
    }
}
