//! Rewriting of topics: a filter with captures on one side, a template on the other.

use super::template::Captures;
use super::{Level, TopicFilter};

/// What the wildcards of `rule` stand for in `text`, a topic name or a topic filter; `None` when
/// the rule is not for it.
///
/// A filter is taken level by level as well: `+` of the rule stands for one level, also for a `+`
/// there, but not for a `#`, which is more than one level; `#` of the rule stands for the rest,
/// whatever it is. A rule that begins with a wildcard is not for texts that begin with `$`
/// [MQTT-4.7.2-1].
pub fn captures<'t>(rule: &TopicFilter, text: &'t str) -> Option<Captures<'t>> {
    let literal = matches!(rule.levels().next(), Some(Level::Name(_)));
    if text.starts_with('$') && !literal {
        return None;
    }
    let mut found = Captures::default();
    let mut rest = Some(text);
    for level in rule.levels() {
        if level == Level::MultiLevel {
            found.push(rest);
            return Some(found);
        }
        let (own, behind) = match rest?.split_once('/') {
            Some((own, behind)) => (own, Some(behind)),
            None => (rest?, None),
        };
        match level {
            Level::Name(name) if name == own => {}
            Level::SingleLevel if own != "#" => found.push(Some(own)),
            Level::Name(_) | Level::SingleLevel | Level::MultiLevel => return None,
        }
        rest = behind;
    }
    rest.is_none().then_some(found)
}
