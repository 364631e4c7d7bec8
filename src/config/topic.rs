//! Settings that are topic filters, topics with places to fill, or patterns of client identifiers.

use super::key::Key;
use super::read::{Given, Scan};
use super::setting::{Setting, Wrong, filed, text};
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

/// Client identifiers that a rule is for: a text in which `*` stands for any characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientPattern(Box<str>);

impl ClientPattern {
    /// The pattern `text`; every text is one.
    pub fn new(text: &str) -> ClientPattern {
        ClientPattern(text.into())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern is for `client_id`.
    pub fn matches(&self, client_id: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = client_id.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, behind)) = rest.split_once(piece) else { return false };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

impl Default for ClientPattern {
    fn default() -> ClientPattern {
        ClientPattern("*".into())
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
        format!("{:?}", self.0)
    }
}
