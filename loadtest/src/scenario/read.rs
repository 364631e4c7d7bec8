//! From TOML text to a checked scenario. Every error names the line and the key.

use super::{Scenario, check};
use std::fmt;
use toml::de::{DeTable, DeValue};

/// A scenario that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// File or shipped name.
    pub source: String,
    /// Line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong and what to write instead.
    pub what: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.source, self.what),
            line => write!(out, "{}:{line}: {}", self.source, self.what),
        }
    }
}

impl std::error::Error for ScenarioError {}

/// Reads a scenario; `source` is named in errors.
///
/// # Errors
/// No TOML, an unknown key, a value of the wrong kind or out of range.
pub fn parse(source: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let line_at = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
    let scenario: Scenario = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let key = key_at(text, span.start);
        let what = format!("{key}{}", error.message().trim());
        ScenarioError { source: source.into(), line: line_at(span.start), what }
    })?;
    check(&scenario).map_err(|fault| ScenarioError {
        source: source.into(),
        line: place(text, fault.group, fault.key).map_or(0, line_at),
        what: format!("`{}`: {}", fault.key, fault.what),
    })?;
    Ok(scenario)
}

/// The key on the line at `at`, for errors that speak of a value.
fn key_at(text: &str, at: usize) -> String {
    let begin = text[..at.min(text.len())].rfind('\n').map_or(0, |end| end + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    match line.split_once('=') {
        Some((key, _)) => format!("`{}`: ", key.trim()),
        None => String::new(),
    }
}

/// Where a key stands; where its group begins when the group does not name it.
fn place(text: &str, group: Option<usize>, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let find = |table: &DeTable<'_>| {
        let mut entries = table.iter();
        entries.find(|(name, _)| name.get_ref() == key).map(|(name, _)| name.span().start)
    };
    let Some(group) = group else { return find(table.get_ref()) };
    let groups = table.get_ref().iter().find(|(name, _)| name.get_ref() == "group")?;
    let DeValue::Array(groups) = groups.1.get_ref() else { return None };
    let found = groups.get(group)?;
    let DeValue::Table(fields) = found.get_ref() else { return None };
    find(fields).or(Some(found.span().start))
}
