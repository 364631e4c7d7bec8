//! Levels for single parts of the broker, as `log.filter` writes them.

use super::choice::{Choice, LogLevel};
use super::key::Key;
use super::read::{Given, Scan};
use super::setting::{Setting, Wrong, filed, text};

/// One part of a filter: a target or everything, and its level; `None` is silence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRule {
    /// A module path such as `corelane::shard` with everything below it; `None`: whatever no other
    /// rule names.
    pub target: Option<String>,
    /// How much of it is logged.
    pub level: Option<LogLevel>,
}

/// Rules separated by commas, each `target=level` or `level`. Pure value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogFilter {
    text: String,
    rules: Vec<LogRule>,
}

impl LogFilter {
    /// Checks `text`. Errors say what is wrong and what to write.
    pub fn new(text: &str) -> Result<LogFilter, Wrong> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let rules = parts.map(rule).collect::<Result<Vec<_>, _>>()?;
        Ok(LogFilter { text: text.into(), rules })
    }

    /// The rules in the order they were written.
    pub fn rules(&self) -> &[LogRule] {
        &self.rules
    }
}

fn rule(text: &str) -> Result<LogRule, Wrong> {
    let (target, word) = match text.split_once('=') {
        Some((target, word)) => (Some(target.trim()), word.trim()),
        None => (None, text),
    };
    let known = LogLevel::WORDS.iter().map(|(word, _)| *word).chain(["off"]);
    let level = LogLevel::from_word(word);
    if level.is_none() && word != "off" {
        let words: Vec<&str> = known.collect();
        return Err((format!("\"{word}\" is no level"), format!("use {}", words.join(", "))));
    }
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if target.is_some_and(|target| target.is_empty() || !target.chars().all(named)) {
        let reason = format!("\"{text}\" names no part of the broker");
        return Err((reason, "use a module path such as corelane::shard=debug".into()));
    }
    Ok(LogRule { target: target.map(str::to_owned), level })
}

impl Setting for LogFilter {
    fn kind() -> String {
        "rules separated by commas".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        filed(
            text(given.value, "rules such as \"corelane::shard=debug\"", LogFilter::new),
            given,
            scan,
        )
    }

    fn show(&self) -> String {
        format!("{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_a_target_or_everything() {
        let filter =
            LogFilter::new("info, corelane::shard=debug,corelane::net=off,").expect("valid");
        let rule =
            |target: Option<&str>, level| LogRule { target: target.map(str::to_owned), level };
        assert_eq!(
            filter.rules(),
            [
                rule(None, Some(LogLevel::Info)),
                rule(Some("corelane::shard"), Some(LogLevel::Debug)),
                rule(Some("corelane::net"), None),
            ]
        );
        assert!(LogFilter::new("").expect("nothing is a filter").rules().is_empty());
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["loud", "a=loud", "=info", "a b=info", "a=", "a=info=debug", "a\nb=info"] {
            assert!(LogFilter::new(text).is_err(), "{text:?}");
        }
    }
}
