//! Topic names and topic filters in checked form, shared and exclusive subscriptions, topic aliases
//! both ways, delayed topics, and topics made by rules.
//!
//! Invariants worth naming:
//! * a [`TopicName`] or [`TopicFilter`] was checked when it was made; nobody checks it again;
//! * [`TopicFilter::matches`] is the meaning of matching; every index is tested against it.

pub mod alias;
pub mod naming;
pub mod filter;
pub mod level;
pub mod name;
pub mod shared;
pub mod delayed;
pub mod template;
pub mod rewrite;
#[cfg(test)]
mod tests;

use std::fmt;

pub use alias::AliasTable;
pub use delayed::Delayed;
pub use filter::TopicFilter;
pub use level::{Level, Levels, first_level, level_count};
pub use name::TopicName;
pub use naming::{GivenAliases, Naming};
pub use shared::Subscription;
pub use template::{Captures, Identity, Template};

/// Longest topic name or filter in bytes: what a length-prefixed string can carry [MQTT-4.7.3-3].
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Why a text is no topic name, filter or shared subscription. Pure value, any core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicError {
    /// The broken rule in one phrase.
    pub what: &'static str,
}

impl TopicError {
    pub(crate) const fn new(what: &'static str) -> TopicError {
        TopicError { what }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for TopicError {}

/// The rules that names and filters share.
fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::new("a topic has at least one character"));
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::new("a topic has at most 65535 bytes"));
    }
    Ok(())
}
