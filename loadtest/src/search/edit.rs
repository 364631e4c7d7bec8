//! A key of the user's configuration, changed by line: everything else stays as it was written.
//!
//! Invariants worth naming:
//! * what is given out was read again, and differs in that key alone.

use corelane::config::key::Section;
use corelane::config::{Config, differences, line_of, parse};

/// The value of a key as TOML, if it is one that plans know.
pub fn shown(config: &Config, path: &str) -> Option<String> {
    fn of<S: Section>(section: &S, path: &str) -> Option<String> {
        let at = S::keys().iter().position(|key| key.path() == path)?;
        section.shown().into_iter().nth(at)
    }
    let runtime = of(&config.runtime, path);
    runtime.or_else(|| of(&config.topics, path))
}

/// `text` with the key at `path` set to `value`, and `comment` above it.
///
/// # Errors
/// The configuration does not allow the value, or no line can be found to write it on.
pub fn with(text: &str, path: &str, value: &str, comment: &[String]) -> Result<String, String> {
    let before = parse(text).map_err(|faults| faults[0].to_string())?;
    let edit = Edit { text, path, value, comment };
    let mut why = None;
    for attempt in edit.attempts() {
        match parse(&attempt) {
            // Of all ways to write it the first says best why it is refused.
            Err(faults) if why.is_none() => {
                let told = faults[0].to_string();
                why = Some(told).filter(|told| !told.contains("not TOML"));
            }
            Err(_) => {}
            Ok(after) => {
                let alone = differences(&before, &after).iter().all(|one| one.path == path);
                if alone && shown(&after, path).as_deref() == Some(value) {
                    return Ok(attempt);
                }
            }
        }
    }
    Err(why.unwrap_or_else(|| "its line can't be changed by itself; write it yourself".into()))
}

struct Edit<'a> {
    text: &'a str,
    path: &'a str,
    value: &'a str,
    comment: &'a [String],
}

impl Edit<'_> {
    /// The ways to write it, the best first.
    fn attempts(&self) -> Vec<String> {
        let (section, key) = self.path.split_once('.').unwrap_or(("", self.path));
        let lines: Vec<&str> = self.text.split_inclusive('\n').collect();
        let is_header = |line: &&str| {
            let name = line.trim().split('#').next().unwrap_or_default().trim();
            name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) == Some(section)
        };
        let dotted = format!("{section}.");
        let header = lines.iter().position(is_header);
        let sibling = lines.iter().position(|line| line.trim_start().starts_with(&dotted));
        let written = line_of(self.text, self.path).map(|line| line - 1);
        let mut attempts = Vec::new();
        if let Some(at) = written {
            if let Some(changed) = replaced(lines[at], self.value) {
                attempts.push(self.spliced(&lines, at, 1, &changed));
            }
            return attempts;
        }
        if let Some(at) = header {
            attempts.push(self.spliced(&lines, at + 1, 0, &format!("{key} = {}\n", self.value)));
        }
        if let Some(at) = sibling {
            let line = format!("{} = {}\n", self.path, self.value);
            attempts.push(self.spliced(&lines, at + 1, 0, &line));
        }
        let section = format!("\n[{section}]\n");
        let line = format!("{key} = {}\n", self.value);
        let end = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { "\n" };
        attempts.push(format!("{}{end}{section}{}{line}", self.text, self.comments("")));
        attempts
    }

    /// `new` with the comment above it in place of `count` lines from `at` on.
    fn spliced(&self, lines: &[&str], at: usize, count: usize, new: &str) -> String {
        let mut out = lines[..at].concat();
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        let indent = &new[..new.len() - new.trim_start().len()];
        out += &self.comments(indent);
        out += new;
        out += &lines[at + count..].concat();
        out
    }

    fn comments(&self, indent: &str) -> String {
        self.comment.iter().map(|line| format!("{indent}# {line}\n")).collect()
    }
}

/// A line with another value behind its first equals sign; what follows the value stays.
fn replaced(line: &str, value: &str) -> Option<String> {
    let equals = line.find('=')? + 1;
    let rest = &line[equals..];
    let begin = rest.len() - rest.trim_start().len();
    let old = &rest[begin..];
    let end = match old.strip_prefix('"') {
        Some(quoted) => quoted.find('"')? + 2,
        None => old.find([' ', '\t', '#', '\r', '\n', ',', '}']).unwrap_or(old.len()),
    };
    Some(format!("{}{}{value}{}", &line[..equals], &rest[..begin], &old[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "runtime.spin_us";

    #[test]
    fn a_value_changes_in_place_and_everything_else_stays() {
        for (text, expected) in [
            ("", "\n[runtime]\nspin_us = 9\n"),
            (
                "# mine\n[runtime]\n  spin_us = 7   # why\n",
                "# mine\n[runtime]\n  spin_us = 9   # why\n",
            ),
            (
                "[runtime]\nspin_us=\"profile\"\r\npin = true\r\n",
                "[runtime]\nspin_us=9\r\npin = true\r\n",
            ),
            ("runtime.spin_us = 7\n", "runtime.spin_us = 9\n"),
            ("[runtime] # cores\npin = true\n", "[runtime] # cores\nspin_us = 9\npin = true\n"),
            ("[runtime]", "[runtime]\nspin_us = 9\n"),
            ("runtime.pin = true\n[log]\n", "runtime.pin = true\nruntime.spin_us = 9\n[log]\n"),
            ("[log]\nlevel = \"info\"", "[log]\nlevel = \"info\"\n\n[runtime]\nspin_us = 9\n"),
            ("runtime = { spin_us = 7 }\n", ""),
        ] {
            match with(text, KEY, "9", &[]) {
                Ok(edited) => assert_eq!(edited, expected, "{text}"),
                Err(why) => {
                    assert!(expected.is_empty() && why.contains("yourself"), "{text}: {why}");
                }
            }
        }
    }

    #[test]
    fn the_evidence_stands_above_the_key() {
        let comment = ["one".to_owned(), "two".to_owned()];
        let edited = with("[runtime]\n  spin_us = 7\n", KEY, "9", &comment).expect("valid");
        assert_eq!(edited, "[runtime]\n  # one\n  # two\n  spin_us = 9\n");
        let edited = with("", KEY, "9", &comment).expect("valid");
        assert_eq!(edited, "\n[runtime]\n# one\n# two\nspin_us = 9\n");
    }

    #[test]
    fn a_value_that_is_not_allowed_is_refused_in_the_words_of_the_configuration() {
        let why = with("", KEY, "9999999", &[]).expect_err("out of range");
        assert!(why.contains("largest allowed value"), "{why}");
        let why = with("[runtime]\nspin = 1\n", KEY, "9", &[]).expect_err("faulty before");
        assert!(why.contains("spin"), "{why}");
    }
}
