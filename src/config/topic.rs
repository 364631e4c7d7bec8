//! Settings that are topic filters, topics with places to fill, or patterns of client identifiers.

use super::key::Key;
use super::read::{Given, Scan};
use super::setting::{Setting, Wrong, filed, text};
use crate::access::ClientPattern;
use crate::topic::{Template, TopicFilter};

/// A topic filter as a rule names it. The default is none: rules must write theirs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuleFilter(Box<str>);

impl RuleFilter {
    /// Checks `text`. Errors say what is wrong and what to write.
    pub fn new(text: &str) -> Result<RuleFilter, Wrong> {
        let wrong = |error: crate::topic::TopicError| {
            let remedy = "write a topic filter such as \"a/+/#\"";
            (format!("\"{text}\" is no topic filter: {}", error.what), remedy.into())
        };
        TopicFilter::new(text).map(|filter| RuleFilter(filter.as_str().into())).map_err(wrong)
    }

    /// The filter; none where none was written.
    pub fn filter(&self) -> Option<&TopicFilter> {
        TopicFilter::new(&self.0).ok()
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for RuleFilter {
    fn kind() -> String {
        "topic filter".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        filed(text(given.value, "a filter such as \"a/#\"", RuleFilter::new), given, scan)
    }

    fn show(&self) -> String {
        format!("{:?}", self.0)
    }
}

fn template(text: &str) -> Result<Template, Wrong> {
    Template::new(text).map_err(|error| {
        let remedy = "use %c, %u, $1 to $9, and %% for a percent sign";
        (format!("\"{text}\" can't be filled: {}", error.what), remedy.into())
    })
}

impl Setting for Template {
    fn kind() -> String {
        "topic with places such as `%c` or `$1`".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        filed(text(given.value, "a topic such as \"clients/%c\"", template), given, scan)
    }

    fn show(&self) -> String {
        format!("{:?}", self.as_str())
    }
}

impl Setting for ClientPattern {
    fn kind() -> String {
        "client id with `*` for any characters".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        let pattern = |pattern: &str| Ok(ClientPattern::new(pattern));
        filed(text(given.value, "a pattern such as \"sensor-*\"", pattern), given, scan)
    }

    fn show(&self) -> String {
        format!("{:?}", self.as_str())
    }
}
