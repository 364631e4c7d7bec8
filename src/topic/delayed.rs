//! Delayed publication: what `$delayed/<seconds>/<topic>` asks for.

use super::{TopicError, TopicFilter, TopicName};

/// First level of the topics that ask for delay, with its separator.
const PREFIX: &str = "$delayed/";

/// A topic name that asks for publication to another topic after some time. Pure value, any core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delayed<'a> {
    /// How long the message is to be held, in seconds.
    pub seconds: u32,
    /// The topic that it is published to then: a checked topic name, no further delay.
    pub topic: &'a str,
}

impl<'a> Delayed<'a> {
    /// Whether `text` stands below `$delayed/`, well formed or not.
    #[inline]
    pub fn is_asked(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Checks `text`; `None` for every topic that is not below `$delayed/`.
    ///
    /// # Errors
    /// The delay is no whole number of seconds, or no topic follows it.
    #[inline]
    pub fn parse(text: &'a str) -> Option<Result<Delayed<'a>, TopicError>> {
        text.strip_prefix(PREFIX).map(Delayed::parse_rest)
    }

    fn parse_rest(rest: &'a str) -> Result<Delayed<'a>, TopicError> {
        let wrong = TopicError::new("a delayed topic is $delayed/<seconds>/<topic>");
        let (digits, topic) = rest.split_once('/').ok_or(wrong)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong);
        }
        let seconds = digits.parse().map_err(|_| wrong)?;
        if Delayed::is_asked(topic) {
            return Err(TopicError::new("a delayed topic is delayed once"));
        }
        TopicName::new(topic)?;
        Ok(Delayed { seconds, topic })
    }
}

/// The topic that a message to `text` is published to in the end.
#[inline]
pub fn target(text: &str) -> &str {
    match Delayed::parse(text) {
        Some(Ok(delayed)) => delayed.topic,
        Some(Err(_)) | None => text,
    }
}

/// Whether `filter` names topics below `$delayed`, where nothing is ever published.
pub fn covers(filter: &TopicFilter) -> bool {
    filter.as_str().split('/').next() == Some("$delayed")
}
