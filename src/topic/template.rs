//! Topics that are made for one client: a text with places for its name and for what a rule found
//! in the client's own topic.
//!
//! Invariants worth naming:
//! * a client's name fills its place as a part of one level, never as several levels and never as
//!   a wildcard: nobody reaches other topics by the name they choose.

use super::TopicError;

/// How many captures a text can name.
pub const MAX_CAPTURES: usize = 9;

/// Who a topic is made for.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Client identifier.
    pub client_id: &'a str,
    /// User name, if the client gave one.
    pub user_name: Option<&'a str>,
}

/// What the wildcards of a rule stood for, in their order. `None`: a `#` that stood for nothing.
#[derive(Clone, Copy, Default, Debug)]
pub struct Captures<'a> {
    found: [Option<&'a str>; MAX_CAPTURES],
    len: usize,
}

impl<'a> Captures<'a> {
    /// Adds the next one; those that no text can name are left out.
    pub(super) fn push(&mut self, text: Option<&'a str>) {
        if let Some(place) = self.found.get_mut(self.len) {
            *place = text;
            self.len += 1;
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(Box<str>),
    /// Position of the capture, from 0.
    Capture(usize),
    ClientId,
    UserName,
}

/// A text with places to fill: `%c` client identifier, `%u` user name, `$1` to `$9` captures;
/// `%%` and `$$` stand for the signs themselves. Pure value, any core.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Template {
    text: Box<str>,
    parts: Vec<Part>,
}

impl Template {
    /// Reads `text`.
    ///
    /// # Errors
    /// The text is empty, holds U+0000, or a `%` that begins nothing known.
    pub fn new(text: &str) -> Result<Template, TopicError> {
        if text.is_empty() || text.contains('\0') {
            return Err(TopicError::new("it is empty or contains U+0000"));
        }
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text.chars();
        while let Some(sign) = rest.next() {
            let next = rest.clone().next();
            let part = match (sign, next) {
                ('%', Some('c')) => Part::ClientId,
                ('%', Some('u')) => Part::UserName,
                ('$', Some(digit @ '1'..='9')) => Part::Capture(digit as usize - '1' as usize),
                ('%', Some('%')) | ('$', Some('$')) => {
                    literal.push(sign);
                    rest.next();
                    continue;
                }
                ('%', _) => return Err(TopicError::new("a % is followed by neither c, u nor %")),
                (sign, _) => {
                    literal.push(sign);
                    continue;
                }
            };
            rest.next();
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Template { text: text.into(), parts })
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The highest capture named, 0 for none.
    pub fn captures(&self) -> usize {
        let captures = self.parts.iter().map(|part| match part {
            Part::Capture(at) => at + 1,
            Part::Text(_) | Part::ClientId | Part::UserName => 0,
        });
        captures.max().unwrap_or(0)
    }

    /// Whether the user name has a place.
    pub fn names_user(&self) -> bool {
        self.parts.contains(&Part::UserName)
    }

    /// The text for one client. `None`: there is no user name for its place, or a name would
    /// become several levels or a wildcard. A `#` that stood for nothing takes the `/` before it
    /// along.
    pub fn fill(&self, client: &Identity<'_>, captures: &Captures<'_>) -> Option<String> {
        let mut out = String::with_capacity(self.text.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::ClientId => out.push_str(single_level(client.client_id)?),
                Part::UserName => out.push_str(single_level(client.user_name?)?),
                Part::Capture(at) => match captures.found[*at] {
                    Some(text) => out.push_str(text),
                    None if out.ends_with('/') => drop(out.pop()),
                    None => {}
                },
            }
        }
        Some(out)
    }
}

fn single_level(name: &str) -> Option<&str> {
    (!name.contains(['/', '+', '#'])).then_some(name)
}
