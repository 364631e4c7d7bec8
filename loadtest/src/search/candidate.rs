//! Which plans are tried, and which are not and why.

use super::edit;
use corelane::config::Config;

/// A plan: the configuration as given with one key changed. One key each, so that what is found is
/// known to come from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The path of the key.
    pub path: &'static str,
    /// Its value as TOML.
    pub value: String,
    /// The whole configuration.
    pub text: String,
}

impl Plan {
    /// What tables call it.
    pub fn name(&self) -> String {
        format!("{} = {}", self.path, self.value)
    }
}

/// What may make a difference on one core, the most likely first: with little budget only the first
/// ones are tried.
const ON_ONE_CORE: &[(&str, &[&str])] = &[
    ("runtime.profile", &["\"throughput\"", "\"latency\"", "\"power\"", "\"balanced\""]),
    ("runtime.gather_us", &["0", "500"]),
    ("runtime.spin_us", &["0", "50"]),
    ("runtime.recv_buffer_bytes", &["4096", "32768"]),
    ("runtime.tick_completions", &["128", "2048"]),
    ("runtime.recv_buffers", &["128", "1024"]),
    ("runtime.ring_entries", &["1024"]),
    ("runtime.tick_targets", &["1024"]),
];

/// What may make a difference between cores.
const BETWEEN_CORES: &[(&str, &[&str])] = &[
    ("topics.depth", &["1", "2", "3"]),
    ("runtime.block_bytes", &["8192", "65536"]),
    ("runtime.ring_blocks", &["8", "64"]),
];

/// The plans for a configuration on so many CPUs, and a line for each that can't be tried.
pub fn plans(text: &str, config: &Config, cpus: usize) -> (Vec<Plan>, Vec<String>) {
    let shards = (cpus > 1).then(|| (cpus / 2).to_string());
    let shards = shards.as_slice().iter().map(|half| ("runtime.shards", half.as_str()));
    let tables = if cpus > 1 { [ON_ONE_CORE, BETWEEN_CORES] } else { [ON_ONE_CORE, &[]] };
    let keys = tables.into_iter().flatten();
    let keys = keys.flat_map(|(path, values)| values.iter().map(move |value| (*path, *value)));
    let (mut plans, mut skipped) = (Vec::new(), Vec::new());
    for (path, value) in shards.chain(keys) {
        // What it has by another key, such as a profile, is known once it has been tried.
        if edit::shown(config, path).as_deref() == Some(value) {
            continue;
        }
        match edit::with(text, path, value, &[]) {
            Ok(text) => plans.push(Plan { path, value: value.to_owned(), text }),
            Err(why) => skipped.push(format!("{path} = {value}: {why}")),
        }
    }
    (plans, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane::config::parse;

    #[test]
    fn plans_differ_from_the_configuration_in_one_key_each() {
        let text = "[runtime]\nprofile = \"latency\" # quick\nspin_us = 50\n";
        let config = parse(text).expect("valid");
        let (one, skipped) = plans(text, &config, 1);
        assert_eq!(skipped, Vec::<String>::new());
        let names: Vec<String> = one.iter().map(Plan::name).collect();
        assert!(names.contains(&"runtime.profile = \"throughput\"".to_owned()), "{names:?}");
        assert!(!names.contains(&"runtime.profile = \"latency\"".to_owned()), "it is so already");
        assert!(!names.contains(&"runtime.spin_us = 50".to_owned()));
        assert!(!names.iter().any(|name| name.contains("ring_blocks")), "one core has no mesh");
        for plan in &one {
            let other = parse(&plan.text).expect("valid");
            let differences = corelane::config::differences(&config, &other);
            assert_eq!(differences.len(), 1, "{}", plan.name());
            assert_eq!(differences[0].path, plan.path);
        }
        let (four, _) = plans(text, &config, 4);
        let names: Vec<String> = four.iter().map(Plan::name).collect();
        assert_eq!(names[0], "runtime.shards = 2");
        assert!(names.contains(&"topics.depth = 1".to_owned()), "{names:?}");
        assert!(!names.contains(&"topics.depth = 2".to_owned()), "the default");
    }

    #[test]
    fn plans_that_the_configuration_refuses_are_told() {
        let text = "limits.staging_bytes = 8192\nruntime.recv_buffer_bytes = 8192\n";
        let config = parse(text).expect("valid");
        let (plans, skipped) = plans(text, &config, 1);
        assert!(!plans.iter().any(|plan| plan.value == "32768"));
        assert_eq!(skipped.len(), 1, "{skipped:?}");
        assert!(skipped[0].contains("staging_bytes"), "{skipped:?}");
    }
}
