//! Hides topics: every level becomes a keyed hash of itself.
//!
//! Invariants worth naming:
//! * a filter matches a topic exactly when the hidden filter matches the hidden topic (but for a
//!   collision of 64-bit hashes);
//! * the key is drawn from the operating system for each veil and kept nowhere, so that nobody can
//!   try names against a recording later.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

/// First levels that have a meaning of their own and tell nothing about their user.
const MEANINGFUL: &[&str] = &["$SYS", "$share", "$exclusive", "$queue"];

/// What topics look like in a recording.
pub struct Veil {
    key: Option<RandomState>,
}

impl Veil {
    /// Hides every level with a key of its own.
    pub fn hashed() -> Veil {
        Veil { key: Some(RandomState::new()) }
    }

    /// Hides nothing.
    pub fn kept() -> Veil {
        Veil { key: None }
    }

    /// Whether topics stay as they are.
    pub fn keeps(&self) -> bool {
        self.key.is_none()
    }

    /// A topic name as the recording has it.
    pub fn topic(&self, topic: &str) -> String {
        self.levels(topic)
    }

    /// A filter as the recording has it; wildcards and `$share/` stay.
    pub fn filter(&self, filter: &str) -> String {
        if let Some(rest) = filter.strip_prefix("$exclusive/") {
            return format!("$exclusive/{}", self.levels(rest));
        }
        match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
            Some((group, rest)) => format!("$share/{}/{}", self.level(group), self.levels(rest)),
            None => self.levels(filter),
        }
    }

    fn levels(&self, text: &str) -> String {
        let (first, rest) = match text.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (text, None),
        };
        let mut hidden = match first.strip_prefix('$') {
            Some(_) if MEANINGFUL.contains(&first) => first.to_owned(),
            // The `$` stays: wildcards do not match it.
            Some(name) => format!("${}", self.level(name)),
            None => self.level(first),
        };
        for level in rest.into_iter().flat_map(|rest| rest.split('/')) {
            hidden.push('/');
            hidden.push_str(&self.level(level));
        }
        hidden
    }

    fn level(&self, level: &str) -> String {
        match &self.key {
            Some(key) if level != "+" && level != "#" => {
                let mut hidden = String::with_capacity(16);
                let _ = write!(hidden, "{:016x}", key.hash_one(level));
                hidden
            }
            _ => level.to_owned(),
        }
    }
}
