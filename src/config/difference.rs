//! What differs between two configurations, by key, and what a running broker takes over.

use super::fault::Fault;
use super::key::{Reload, Section};
use super::read::Scan;
use super::{
    AccessConfig, Config, LimitsConfig, ListenerConfig, SessionConfig, TopicsConfig, relation,
};
use std::ops::Range;

/// A key whose values differ. Pure value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Its path, such as `session.max_inflight`; a listener is named by its position.
    pub path: String,
    /// When the change takes effect.
    pub reload: Reload,
}

/// What runs once a broker that runs `running` has read `new`: of `new` the live keys.
///
/// # Errors
/// Relations that do not hold between the live keys of `new` and the others of `running`.
pub fn taken_over(running: &Config, new: &Config) -> Result<Config, Vec<Fault>> {
    let (session, limits, topics) = (&running.session, &running.limits, &new.topics);
    let config = Config {
        session: SessionConfig {
            auto_subscribe: session.auto_subscribe.clone(),
            ..new.session.clone()
        },
        limits: LimitsConfig {
            memory_bytes: limits.memory_bytes,
            match_cache_bytes: limits.match_cache_bytes,
            ..new.limits.clone()
        },
        topics: TopicsConfig {
            delayed: topics.delayed,
            max_delay_s: topics.max_delay_s,
            exclusive: topics.exclusive,
            ..running.topics.clone()
        },
        access: AccessConfig {
            check_threads: running.access.check_threads,
            check_queue: running.access.check_queue,
            ..new.access.clone()
        },
        auth_jwt: new.auth_jwt.clone(),
        auth_http: new.auth_http.clone(),
        group: new.group.clone(),
        ban: new.ban.clone(),
        acl: new.acl.clone(),
        log: new.log.clone(),
        listeners: listeners(running, new),
        ..running.clone()
    };
    let mut scan = Scan::new("");
    relation::check(&config, &mut scan);
    let faults = scan.into_faults();
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

/// The listeners that run, with the live keys of new ones at the same place.
fn listeners(running: &Config, new: &Config) -> Vec<ListenerConfig> {
    let mut listeners = running.listeners.clone();
    for (listener, new) in listeners.iter_mut().zip(&new.listeners) {
        if listener.name != new.name {
            continue;
        }
        *listener = ListenerConfig {
            allow_anonymous: new.allow_anonymous,
            max_connections: new.max_connections,
            connect_deadline_ms: new.connect_deadline_ms,
            lobby: new.lobby,
            min_version: new.min_version,
            max_version: new.max_version,
            redirect: new.redirect,
            connects_per_s: new.connects_per_s,
            address_connects_per_s: new.address_connects_per_s,
            messages_per_s: new.messages_per_s,
            messages_burst: new.messages_burst,
            bytes_per_s: new.bytes_per_s,
            bytes_burst: new.bytes_burst,
            allow_networks: new.allow_networks.clone(),
            deny_networks: new.deny_networks.clone(),
            authentication: new.authentication.clone(),
            ..listener.clone()
        };
    }
    listeners
}

/// The keys whose values differ between `old` and `new`, in the order of the table. A listener that
/// only one of the two has stands as a whole.
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let mut paths = Vec::new();
    section("runtime", &old.runtime, &new.runtime, &mut paths);
    for (at, (old, new)) in old.listeners.iter().zip(&new.listeners).enumerate() {
        section(&format!("listener[{at}]"), old, new, &mut paths);
    }
    let counts = [old.listeners.len(), new.listeners.len()];
    let single: Range<usize> = counts[0].min(counts[1])..counts[0].max(counts[1]);
    let whole = |at| Difference { path: format!("listener[{at}]"), reload: Reload::Restart };
    paths.extend(single.map(whole));
    section("access", &old.access, &new.access, &mut paths);
    let lists = [
        ("auth_jwt", old.auth_jwt != new.auth_jwt),
        ("auth_http", old.auth_http != new.auth_http),
        ("group", old.group != new.group),
        ("ban", old.ban != new.ban),
        ("acl", old.acl != new.acl),
    ];
    for (path, _) in lists.into_iter().filter(|(_, differs)| *differs) {
        paths.push(Difference { path: path.into(), reload: Reload::Live });
    }
    section("topics", &old.topics, &new.topics, &mut paths);
    section("session", &old.session, &new.session, &mut paths);
    section("protocol", &old.protocol, &new.protocol, &mut paths);
    section("limits", &old.limits, &new.limits, &mut paths);
    section("sys", &old.sys, &new.sys, &mut paths);
    section("log", &old.log, &new.log, &mut paths);
    paths
}

fn section<S: Section>(path: &str, old: &S, new: &S, paths: &mut Vec<Difference>) {
    let values = old.shown().into_iter().zip(new.shown());
    for (key, (old, new)) in S::keys().iter().zip(values) {
        if old != new {
            paths.push(Difference { path: format!("{path}.{}", key.name), reload: key.reload });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse, table};

    fn paths(old: &Config, new: &Config) -> Vec<String> {
        differences(old, new).into_iter().map(|one| one.path).collect()
    }

    /// A text that gives every number and switch of a section another value.
    fn changed(section: &table::SectionRows) -> String {
        let mut text = String::new();
        for key in &section.keys {
            let value = match key.default.as_deref() {
                Some("true") => "false".to_owned(),
                Some("false") => "true".to_owned(),
                Some(number) => match number.parse::<u64>() {
                    Ok(number) => (if number > 1 { number - 1 } else { number + 1 }).to_string(),
                    Err(_) => continue,
                },
                None => continue,
            };
            text.push_str(&format!("{} = {value}\n", key.path()));
        }
        text
    }

    #[test]
    fn of_new_values_exactly_the_live_ones_are_taken_over() {
        let running = Config::default();
        let sections = table::sections();
        let shown = sections.iter().filter(|one| {
            ["access", "topics", "session", "protocol", "limits", "sys", "log"].contains(&one.name)
        });
        let text: String = shown.map(changed).collect();
        // As the relations want it.
        let text = text + "session.overflow = \"refuse\"\nsession.late_overflow = \"disconnect\"\n";
        let mut new = parse(&text).expect("a valid text");
        new.limits.staging_bytes = running.limits.staging_bytes;
        let (merged, all) =
            (taken_over(&running, &new).expect("relations hold"), Config::clone(&new));
        let expected = |reload| {
            let differing = differences(&running, &all).into_iter();
            differing.filter(|one| one.reload == reload).collect::<Vec<_>>()
        };
        assert_eq!(differences(&running, &merged), expected(Reload::Live));
        assert_eq!(differences(&merged, &new), expected(Reload::Restart));
        assert!(expected(Reload::Live).len() > 30 && expected(Reload::Restart).len() > 10);
    }

    #[test]
    fn what_fits_the_file_but_not_what_runs_is_refused() {
        let running = parse("runtime.recv_buffer_bytes = 65536\n").expect("a valid text");
        let text = "runtime.recv_buffer_bytes = 4096\nlimits.staging_bytes = 4096\n";
        let new = parse(text).expect("a valid text");
        let faults = taken_over(&running, &new).expect_err("one buffer would not fit");
        assert!(faults[0].reason.contains("recv_buffer_bytes (65536)"), "{faults:?}");
    }

    #[test]
    fn every_section_is_compared() {
        let old = Config::default();
        assert_eq!(paths(&old, &old), Vec::<String>::new());
        let text = "
            runtime.shards = 2
            access.check_queue = 3
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
            [[auth_jwt]]
            algorithms = [\"HS256\"]
            key_file = \"key\"
            [[auth_http]]
            url = \"http://127.0.0.1:1/\"
            [[group]]
            name = \"g\"
            users = [\"ann\"]
            [[ban]]
            users = [\"mallory\"]
            [[acl]]
            topics = [\"a\"]
        ";
        let new = parse(text).expect("a valid text");
        let expected = [
            "runtime.shards",
            "listener[0].lobby",
            "listener[1]",
            "access.check_queue",
            "auth_jwt",
            "auth_http",
            "group",
            "ban",
            "acl",
            "topics.depth",
            "session.max_inflight",
            "protocol.maximum_qos",
            "limits.sessions",
            "sys.interval_s",
            "log.level",
        ];
        assert_eq!(paths(&old, &new), expected);
        assert_eq!(paths(&new, &old), expected);
        let shown = crate::config::table::sections();
        // What has a dot in its name is the value of a key.
        let tables = shown.iter().filter(|one| !one.name.contains('.'));
        assert_eq!(tables.count(), 14, "a new section is compared, too");
    }
}
