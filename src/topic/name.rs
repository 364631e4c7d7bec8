//! The checked topic name: what a message is published to.

use std::borrow::Borrow;
use std::fmt;
use std::rc::Rc;
use std::str::Split;

use super::{TopicError, check_text};

/// A topic name in checked form: 1 to 65,535 bytes, no wildcard characters, no U+0000.
/// Unsized, used behind a reference as `str` is. Ordered by bytes. Pure value, any core.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TopicName(str);

impl TopicName {
    /// Checks `text`.
    ///
    /// # Errors
    /// Says which rule is broken [MQTT-4.7.1-1], [MQTT-4.7.3-1] to [MQTT-4.7.3-3].
    #[inline]
    pub fn new(text: &str) -> Result<&TopicName, TopicError> {
        check_text(text)?;
        // A fold without early exit: compiled to vector instructions, unlike `any`.
        let forbidden = text
            .bytes()
            .fold(false, |bad, byte| bad | (byte == 0) | (byte == b'+') | (byte == b'#'));
        if forbidden {
            return Err(TopicError::new("a topic name contains `+`, `#` or U+0000"));
        }
        Ok(TopicName::wrap(text))
    }

    /// Takes `text` that was checked before: it comes from a stored message or a ring entry.
    pub fn assume_checked(text: &str) -> &TopicName {
        debug_assert!(TopicName::new(text).is_ok(), "{text:?} is not a topic name");
        TopicName::wrap(text)
    }

    fn wrap(text: &str) -> &TopicName {
        // SAFETY: `TopicName` is a transparent wrapper of `str`, so the two pointers have the same
        // metadata, layout and validity; the lifetime is that of `text`.
        unsafe { &*(std::ptr::from_ref(text) as *const TopicName) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels between the `/`; they may be empty [MQTT-4.7.1-2].
    pub fn levels(&self) -> Split<'_, char> {
        self.0.split('/')
    }

    /// Whether the name starts with `$`: hidden from filters that start with a wildcard
    /// [MQTT-4.7.2-1].
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl From<&TopicName> for Rc<TopicName> {
    fn from(name: &TopicName) -> Rc<TopicName> {
        let text: Rc<str> = Rc::from(&name.0);
        // SAFETY: the pointer comes from `Rc::into_raw`, and `TopicName` is a transparent wrapper
        // of `str`, so size, alignment and metadata of the pointee are unchanged.
        unsafe { Rc::from_raw(Rc::into_raw(text) as *const TopicName) }
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

// Equality, order and hash are derived from the text, as `Borrow` demands.
impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
