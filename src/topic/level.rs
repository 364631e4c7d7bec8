//! The levels of a topic filter.

use std::str::Split;

/// One level of a topic filter. Pure value, any core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Level<'a> {
    /// A literal level; may be empty.
    Name(&'a str),
    /// `+`: exactly one level, whatever its name.
    SingleLevel,
    /// `#`: the parent and all levels below it.
    MultiLevel,
}

impl<'a> Level<'a> {
    /// The level that `text` (without `/`) stands for in a filter.
    pub fn new(text: &'a str) -> Level<'a> {
        match text {
            "+" => Level::SingleLevel,
            "#" => Level::MultiLevel,
            name => Level::Name(name),
        }
    }

    /// The level as it stands in a filter.
    pub fn as_str(self) -> &'a str {
        match self {
            Level::Name(name) => name,
            Level::SingleLevel => "+",
            Level::MultiLevel => "#",
        }
    }
}

/// How many levels a topic or filter has. Plain bytes: the searcher of `str::split` costs several
/// times as much on texts this short.
#[inline]
pub fn level_count(text: &str) -> usize {
    1 + text.bytes().filter(|byte| *byte == b'/').count()
}

/// The first level of a topic or filter.
#[inline]
pub fn first_level(text: &str) -> &str {
    &text[..text.bytes().position(|byte| byte == b'/').unwrap_or(text.len())]
}

/// The levels of a filter from left to right.
#[derive(Clone, Debug)]
pub struct Levels<'a>(Split<'a, char>);

impl<'a> Levels<'a> {
    pub(super) fn of(filter: &'a str) -> Levels<'a> {
        Levels(filter.split('/'))
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = Level<'a>;

    fn next(&mut self) -> Option<Level<'a>> {
        self.0.next().map(Level::new)
    }
}
