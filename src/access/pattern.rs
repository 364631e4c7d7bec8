//! Topic patterns of rules: filters in which `%u`, `%c` and `%g` stand for the client's own names,
//! and how they compare with topics and with other filters.
//!
//! Invariants worth naming:
//! * a literal pattern means itself only: `a/b` is not `a/b/c`;
//! * `a/#` means `a` as well, as in MQTT [MQTT-4.7.1-2];
//! * a wildcard in the first level does not mean topics that begin with `$` [MQTT-4.7.2-1];
//! * a name never makes a first level that begins with `$`;
//! * a name that is empty or holds `/`, `+` or `#` stands for nothing: a pattern with it allows
//!   nothing, and denies whatever the rest of it means.

use crate::topic::{Level, TopicFilter};
use std::borrow::Cow;
use std::fmt;

/// What `%u`, `%c` and `%g` stand for. A group is one of possibly many.
#[derive(Clone, Copy, Default, Debug)]
pub struct Names<'a> {
    /// The user name as authentication found it; `None`: anonymous.
    pub user: Option<&'a str>,
    /// The client identifier.
    pub client: &'a str,
    /// The groups of the user.
    pub groups: &'a [Box<str>],
}

/// A checked topic pattern. Pure value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    text: Box<str>,
    /// `%g` stands in it, so it is tried with each group.
    grouped: bool,
    named: bool,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PatternError(&'static str);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for PatternError {}

/// What a filter or a topic is asked of a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// Does the pattern mean everything that the filter means?
    Covers,
    /// Is there a topic that both mean?
    Meets,
}

impl Pattern {
    /// Checks `text`: a topic filter in which `%` is followed by `u`, `c`, `g` or `%`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        let mut rest = text.split('%');
        rest.next();
        let mut escaped = false;
        for piece in rest {
            if std::mem::take(&mut escaped) {
                continue;
            }
            escaped = piece.is_empty();
            if !escaped && !piece.starts_with(['u', 'c', 'g']) {
                return Err(PatternError("% is followed by something else than u, c, g or %"));
            }
        }
        if escaped {
            return Err(PatternError("% stands at the end; a literal % is written %%"));
        }
        // The names may stand beside other text in a level, wildcards may not.
        TopicFilter::new(&text.replace('%', "x")).map_err(|error| PatternError(error.what))?;
        let named = text.contains('%');
        let grouped = named && text.replace("%%", "").contains("%g");
        Ok(Pattern { text: text.into(), grouped, named })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern, with `names` filled in, answers `question` about `filter` with yes.
    pub(super) fn answers(&self, question: Question, filter: &str, names: &Names<'_>) -> bool {
        if !self.grouped {
            return self.compare(question, filter, names, None);
        }
        let groups = names.groups.iter();
        groups.map(|group| Some(&**group)).any(|group| self.compare(question, filter, names, group))
    }

    fn compare(
        &self,
        question: Question,
        filter: &str,
        names: &Names<'_>,
        group: Option<&str>,
    ) -> bool {
        let mut theirs = filter.split('/').map(Level::new);
        let mut first = true;
        for ours in self.text.split('/') {
            let ours = if self.named { fill(ours, names, group) } else { Some(ours.into()) };
            let ours = match &ours {
                Some(text) if matches!(&**text, "+" | "#") => Level::new(text),
                // Nobody names himself into the broker's own topics.
                Some(text) if first && text.starts_with('$') && !self.text.starts_with('$') => {
                    return false;
                }
                Some(text) => Level::Name(text),
                // Nobody knows which level this is: too little to allow, enough to deny.
                None if question == Question::Covers => return false,
                None => Level::SingleLevel,
            };
            let special = first && filter.starts_with('$');
            let hidden = first && self.text.starts_with('$');
            first = false;
            match (ours, theirs.next()) {
                (Level::MultiLevel, _) => return !special,
                (Level::SingleLevel, Some(Level::Name(_))) if special => return false,
                (_, Some(Level::MultiLevel)) => return question == Question::Meets && !hidden,
                (Level::SingleLevel, Some(_)) => {}
                (Level::Name(_), Some(Level::SingleLevel)) => {
                    if question == Question::Covers || hidden {
                        return false;
                    }
                }
                (Level::Name(ours), Some(Level::Name(theirs))) if ours == theirs => {}
                (Level::Name(_), Some(Level::Name(_))) => return false,
                (Level::Name(_) | Level::SingleLevel, None) => return false,
            }
        }
        match theirs.next() {
            None => true,
            // `a/#` means `a` as well, which is all that they share.
            Some(Level::MultiLevel) => question == Question::Meets,
            Some(_) => false,
        }
    }
}

/// A level with the names filled in; `None` where a name is missing or not fit for a level.
fn fill<'a>(level: &'a str, names: &Names<'a>, group: Option<&'a str>) -> Option<Cow<'a, str>> {
    if !level.contains('%') {
        return Some(level.into());
    }
    let (mut filled, mut rest) = (String::new(), level);
    while let Some((before, after)) = rest.split_once('%') {
        filled.push_str(before);
        let (key, behind) = after.split_at(1);
        let name = match key {
            "u" => names.user?,
            "c" => names.client,
            "g" => group?,
            _ => "%",
        };
        if name.is_empty() || name.contains(['/', '+', '#']) {
            return None;
        }
        filled.push_str(name);
        rest = behind;
    }
    filled.push_str(rest);
    Some(filled.into())
}
