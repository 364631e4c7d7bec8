//! Where a scan goes on after a topic: the lower bound of what can still match.
//!
//! Topics are ordered by bytes. In that order the topics below `p` are those from `p/` up to, not
//! including, `p0`, because `0` follows `/`. Between `p` and `p/` other topics may stand (`p!`).
//! So a level that cannot match is left by one jump, either forward to the text that the filter
//! wants there or past all topics that share the level.

use crate::topic::{Level, TopicFilter, TopicName};

/// What to do after looking at a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The topic matches. Go on behind it.
    Matches,
    /// It doesn't, but the very next one may. Go on behind it.
    Next,
    /// It doesn't, and no topic before the text in `target` does.
    Seek,
    /// Neither it nor any topic behind it does.
    End,
}

/// Puts the least text that a topic matching `filter` can have into `target`.
pub(super) fn start(filter: &TopicFilter, target: &mut String) {
    target.clear();
    let _ = push_literals(filter, 0, target);
}

/// What the literal levels pushed to a target are followed by.
enum Tail {
    Nothing,
    SingleLevel,
    MultiLevel,
}

/// Appends the literal levels of `filter` from level `from` on, up to its first wildcard; a `/`
/// follows if it is a `+`, for then only longer topics match.
fn push_literals(filter: &TopicFilter, from: usize, target: &mut String) -> Tail {
    for (depth, level) in filter.levels().enumerate().skip(from) {
        let separator = if depth > from { "/" } else { "" };
        match level {
            Level::Name(name) => {
                target.push_str(separator);
                target.push_str(name);
            }
            Level::SingleLevel => {
                target.push_str(separator);
                return Tail::SingleLevel;
            }
            Level::MultiLevel => return Tail::MultiLevel,
        }
    }
    Tail::Nothing
}

/// Compares `topic` with `filter` and, where they differ, finds the least text behind `topic`
/// that may match; it is put into `target`.
pub(super) fn step(filter: &TopicFilter, topic: &TopicName, target: &mut String) -> Step {
    let text = topic.as_str();
    target.clear();
    // End of the topic's level at the last `+` passed: the place to turn back to.
    let mut turn: Option<usize> = None;
    let mut begin = 0;
    for (depth, level) in filter.levels().enumerate() {
        let wildcard = !matches!(level, Level::Name(_));
        if depth == 0 && wildcard && topic.is_system() {
            target.push('%'); // follows `$` [MQTT-4.7.2-1]
            return Step::Seek;
        }
        if level == Level::MultiLevel {
            return Step::Matches;
        }
        let Some(rest) = text.get(begin..) else {
            // The topic is an ancestor of what the filter wants. If its last level met a `+`,
            // then between `a` and `a/x` there may be `a!/x`.
            if turn == Some(text.len()) {
                return Step::Next;
            }
            target.push_str(text);
            target.push('/');
            push_literals(filter, depth, target);
            return Step::Seek;
        };
        let end = begin + rest.split('/').next().unwrap_or(rest).len();
        match level {
            Level::Name(name) if *name != text[begin..end] => {
                return ahead(filter, depth, topic, begin, target)
                    .unwrap_or_else(|| behind(text, turn, target));
            }
            Level::SingleLevel => turn = Some(end),
            _ => {}
        }
        begin = end + 1;
    }
    if begin > text.len() {
        return Step::Matches;
    }
    behind(text, turn, target)
}

/// Level `depth` of the topic, which begins at `begin`, isn't the literal that the filter wants:
/// looks for the wanted topics behind `topic` with the same levels before it.
fn ahead(
    filter: &TopicFilter,
    depth: usize,
    topic: &TopicName,
    begin: usize,
    target: &mut String,
) -> Option<Step> {
    let text = topic.as_str();
    target.push_str(&text[..begin]);
    let tail = push_literals(filter, depth, target);
    if target.as_str() > text {
        return Some(Step::Seek);
    }
    // `a/#` matches `a`, which lies before the topic, and what is below `a`, which may not.
    if matches!(tail, Tail::MultiLevel) {
        target.push('/');
        if target.as_str() > text {
            return Some(Step::Seek);
        }
    }
    None
}

/// Nothing behind the topic matches with the same level at the last `+`: jumps past all topics
/// that share it.
fn behind(text: &str, turn: Option<usize>, target: &mut String) -> Step {
    let Some(end) = turn else {
        return Step::End;
    };
    target.clear();
    target.push_str(&text[..end]);
    target.push('0'); // follows `/`
    Step::Seek
}
