//! The checked topic filter and the meaning of matching.

use std::borrow::Borrow;
use std::fmt;

use super::{Level, Levels, TopicError, TopicName, check_text};

/// A topic filter in checked form: 1 to 65,535 bytes, wildcards only where they may stand, no
/// U+0000. Unsized, used behind a reference as `str` is. Pure value, any core.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TopicFilter(str);

impl TopicFilter {
    /// Checks `text`. A `$share/…` text is a plain filter here; see
    /// [`Subscription`](super::Subscription).
    ///
    /// # Errors
    /// Says which rule is broken [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1] to
    /// [MQTT-4.7.3-3].
    pub fn new(text: &str) -> Result<&TopicFilter, TopicError> {
        check_text(text)?;
        if text.bytes().any(|byte| byte == 0) {
            return Err(TopicError::new("a topic filter contains U+0000"));
        }
        let mut levels = text.split('/');
        while let Some(level) = levels.next() {
            match level {
                "+" => {}
                "#" if levels.clone().next().is_some() => {
                    return Err(TopicError::new("`#` stands before the last level"));
                }
                "#" => {}
                name if name.bytes().any(|byte| byte == b'+' || byte == b'#') => {
                    return Err(TopicError::new("a wildcard shares its level with other text"));
                }
                _ => {}
            }
        }
        Ok(TopicFilter::wrap(text))
    }

    fn wrap(text: &str) -> &TopicFilter {
        // SAFETY: `TopicFilter` is a transparent wrapper of `str`, so the two pointers have the
        // same metadata, layout and validity; the lifetime is that of `text`.
        unsafe { &*(std::ptr::from_ref(text) as *const TopicFilter) }
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels between the `/`.
    pub fn levels(&self) -> Levels<'_> {
        Levels::of(&self.0)
    }

    /// Whether a `+` or `#` stands in the filter.
    pub fn has_wildcard(&self) -> bool {
        self.0.bytes().any(|byte| byte == b'+' || byte == b'#')
    }

    /// Whether a message published to `topic` is for this filter: the definition that every faster
    /// way is tested against. Source: MQTT 5.0 section 4.7.
    pub fn matches(&self, topic: &TopicName) -> bool {
        let starts_with_wildcard = !matches!(self.levels().next(), Some(Level::Name(_)));
        if topic.is_system() && starts_with_wildcard {
            return false; // [MQTT-4.7.2-1]
        }
        let mut names = topic.levels();
        for level in self.levels() {
            match (level, names.next()) {
                (Level::MultiLevel, _) => return true, // the parent level too
                (Level::SingleLevel, Some(_)) => {}
                (Level::Name(wanted), Some(name)) if wanted == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

impl AsRef<str> for TopicFilter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

// Equality, order and hash are derived from the text, as `Borrow` demands.
impl Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
