//! What differs between two configurations, by key.

use super::Config;
use super::key::Section;
use std::ops::Range;

/// Paths of the keys whose values differ between `old` and `new`, in the order of the table. A
/// listener is named by its position; one that only one of the two has stands as a whole.
pub fn differences(old: &Config, new: &Config) -> Vec<String> {
    let mut paths = Vec::new();
    section("runtime", &old.runtime, &new.runtime, &mut paths);
    for (at, (old, new)) in old.listeners.iter().zip(&new.listeners).enumerate() {
        section(&format!("listener[{at}]"), old, new, &mut paths);
    }
    let counts = [old.listeners.len(), new.listeners.len()];
    let single: Range<usize> = counts[0].min(counts[1])..counts[0].max(counts[1]);
    paths.extend(single.map(|at| format!("listener[{at}]")));
    section("topics", &old.topics, &new.topics, &mut paths);
    section("session", &old.session, &new.session, &mut paths);
    section("protocol", &old.protocol, &new.protocol, &mut paths);
    section("limits", &old.limits, &new.limits, &mut paths);
    section("sys", &old.sys, &new.sys, &mut paths);
    section("log", &old.log, &new.log, &mut paths);
    paths
}

fn section<S: Section>(path: &str, old: &S, new: &S, paths: &mut Vec<String>) {
    let values = old.shown().into_iter().zip(new.shown());
    for (key, (old, new)) in S::keys().iter().zip(values) {
        if old != new {
            paths.push(format!("{path}.{}", key.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn every_section_is_compared() {
        let old = Config::default();
        assert_eq!(differences(&old, &old), Vec::<String>::new());
        let text = "
            runtime.shards = 2
            topics.depth = 3
            session.max_inflight = 7
            protocol.maximum_qos = 1
            limits.sessions = 9
            sys.interval_s = 0
            log.level = \"debug\"
            [[listener]]
            lobby = 7
            [[listener]]
            name = \"two\"
            address = \"127.0.0.1:1884\"
        ";
        let new = parse(text).expect("a valid text");
        let expected = [
            "runtime.shards",
            "listener[0].lobby",
            "listener[1]",
            "topics.depth",
            "session.max_inflight",
            "protocol.maximum_qos",
            "limits.sessions",
            "sys.interval_s",
            "log.level",
        ];
        assert_eq!(differences(&old, &new), expected);
        assert_eq!(differences(&new, &old), expected);
        let shown = crate::config::table::sections();
        // What has a dot in its name is the value of a key.
        let tables = shown.iter().filter(|one| !one.name.contains('.'));
        assert_eq!(tables.count(), 8, "a new section is compared, too");
    }
}
