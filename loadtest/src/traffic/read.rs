//! Whole recordings. Every error names the line.
//!
//! Invariant worth naming: a recording that was cut anywhere is read up to its last whole line,
//! and says that it was cut.

use super::line::{MAGIC, number, parse};
use super::{Event, Moment};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// A recording that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficError {
    /// The file.
    pub source: String,
    /// Line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong and what belongs there.
    pub what: String,
}

impl fmt::Display for TrafficError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.source, self.what),
            line => write!(out, "{}:{line}: {}", self.source, self.what),
        }
    }
}

impl std::error::Error for TrafficError {}

/// What was recorded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recording {
    /// The events in the order of their times.
    pub moments: Vec<Moment>,
    /// Events that the recorder could not keep.
    pub lost: u64,
    /// The file has no end mark: the recorder was killed, or the file was cut.
    pub cut: bool,
}

/// Reads a file.
///
/// # Errors
/// It cannot be read or is no recording.
pub fn load(file: &Path) -> Result<Recording, TrafficError> {
    let source = file.display().to_string();
    let whole = |what: String| TrafficError { source: source.clone(), line: 0, what };
    let bytes = std::fs::read(file).map_err(|error| whole(error.to_string()))?;
    // A cut may fall into a character: what follows the last whole line is dropped before.
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&bytes[..end]);
    let text = text.map_err(|error| whole(format!("not a recording: {error}")))?;
    read(&source, text)
}

/// Reads a text; `source` is named in errors. What follows the last line end is dropped.
///
/// # Errors
/// The first line that is wrong.
pub fn read(source: &str, text: &str) -> Result<Recording, TrafficError> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let fault = |line, what| TrafficError { source: source.into(), line, what };
    let mut lines = whole.split('\n').zip(1..);
    first(lines.next().map_or("", |(line, _)| line)).map_err(|what| fault(1, what))?;
    let mut order = Order::default();
    let mut recording = Recording { cut: true, ..Recording::default() };
    for (line, at) in lines {
        if !recording.cut {
            return Err(fault(at, "something follows the end mark".into()));
        }
        if let Some(lost) = end(line) {
            (recording.lost, recording.cut) = (lost, false);
            continue;
        }
        let moment = parse(line).map_err(|what| fault(at, what))?;
        order.check(&moment).map_err(|what| fault(at, what))?;
        recording.moments.push(moment);
    }
    Ok(recording)
}

fn first(line: &str) -> Result<(), String> {
    let topics = line.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(" topics="));
    match topics {
        Some("hashed" | "kept") => Ok(()),
        _ => Err(format!("no recording of this version: it begins with `{MAGIC} topics=hashed`")),
    }
}

/// The events lost, if the line is the end mark.
fn end(line: &str) -> Option<u64> {
    let (_, lost) = line.split_once(" end ")?;
    number(&mut lost.split(' '), "events lost").ok()
}

/// What earlier lines allow later ones.
#[derive(Default)]
struct Order {
    last_us: u64,
    /// Whether each connection is open.
    open: BTreeMap<u32, bool>,
}

impl Order {
    fn check(&mut self, moment: &Moment) -> Result<(), String> {
        if moment.at_us < self.last_us {
            return Err(format!("the time runs back from {} µs", self.last_us));
        }
        self.last_us = moment.at_us;
        let connection = moment.connection;
        match (&moment.event, self.open.get(&connection)) {
            (Event::Undecoded(_), _) => {}
            (Event::Connect { .. }, None) => {
                self.open.insert(connection, true);
            }
            (Event::Connect { .. }, Some(_)) => {
                return Err(format!("connection {connection} connects again"));
            }
            (_, None) => return Err(format!("connection {connection} has not connected yet")),
            (_, Some(false)) => return Err(format!("connection {connection} has ended before")),
            (Event::Disconnect { .. }, Some(true)) => {
                self.open.insert(connection, false);
            }
            (_, Some(true)) => {}
        }
        Ok(())
    }
}
