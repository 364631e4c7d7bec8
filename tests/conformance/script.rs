//! Vectors as they stand in the data files: a title, versions, statements and steps.
//!
//! ```text
//! == name | 3.1.1 5.0 | 3:2.3.1-5 5:2.2.1-5 | pending: why
//! a + id          connect with a clean session; `keep` asks for a lasting session, `back`
//!                 expects it to be there
//! a > …           bytes in          a < …    the next packet out
//! a sub "t" 01    subscribe         a .      nothing comes, and what follows is sent after it
//! a x             the broker closes a fail 82  DISCONNECT with this code (MQTT 5), then closed
//! a !             the client breaks the connection
//! wait 5          seconds go by
//! within 2        what follows comes within so many seconds
//! 5 a < …         a step of one protocol only (3: before MQTT 5)
//! config K = V    a configuration key with its value in TOML; `listener.K` for the listener
//! ```
//! `| alone` after the statements: not beside other clients of a live broker.

use crate::notation::Version;

#[derive(Clone, Debug)]
pub enum Deed {
    Send(String),
    Expect(String),
    Silence,
    Closed,
    Break,
}

#[derive(Clone, Debug)]
pub enum Step {
    On(String, Deed),
    Wait(u64),
    Within(u64),
}

#[derive(Clone, Debug)]
pub struct Vector {
    pub name: String,
    pub versions: Vec<Version>,
    pub statements: Vec<(String, String)>,
    pub pending: Option<String>,
    pub alone: bool,
    keys: Vec<String>,
    lines: Vec<String>,
}

const FILES: &[&str] = &[
    include_str!("vectors/auth.txt"),
    include_str!("vectors/connect.txt"),
    include_str!("vectors/publish.txt"),
    include_str!("vectors/subscribe.txt"),
    include_str!("vectors/session.txt"),
    include_str!("vectors/malformed.txt"),
    include_str!("vectors/capability.txt"),
];

/// All vectors.
pub fn vectors() -> Vec<Vector> {
    let mut found: Vec<Vector> = Vec::new();
    for text in FILES {
        for line in text.lines().map(str::trim) {
            if let Some(title) = line.strip_prefix("== ") {
                found.push(titled(title));
            } else if let Some(key) = line.strip_prefix("config ") {
                found.last_mut().expect("a title first").keys.push(key.to_owned());
            } else if !line.is_empty() && !line.starts_with("# ") {
                found.last_mut().expect("a title first").lines.push(line.to_owned());
            }
        }
    }
    found
}

fn titled(title: &str) -> Vector {
    let mut parts = title.split('|').map(str::trim);
    let name = parts.next().expect("a name").to_owned();
    let versions = match parts.next().expect("versions") {
        "all" => vec![Version::V31, Version::V311, Version::V5],
        "3" => vec![Version::V31, Version::V311],
        "4" => vec![Version::V311, Version::V5],
        list => list.split(' ').map(|v| Version::parse(v).expect("a version")).collect(),
    };
    let cited = |text: &str| {
        let (version, id) = text.split_once(':').expect("3: or 5:");
        let version = if version == "5" { "5.0" } else { "3.1.1" };
        (version.to_owned(), format!("MQTT-{id}"))
    };
    let statements = parts.next().unwrap_or_default().split_whitespace().map(cited).collect();
    let rest: Vec<&str> = parts.collect();
    let pending = rest.iter().find_map(|part| part.strip_prefix("pending: ")).map(str::to_owned);
    let alone = rest.contains(&"alone");
    let (keys, lines) = (Vec::new(), Vec::new());
    Vector { name, versions, statements, pending, alone, keys, lines }
}

impl Vector {
    /// The configuration it is for, in TOML, with its listener at `address`.
    pub fn config(&self, address: &str) -> String {
        let mut text = String::new();
        for key in self.keys.iter().filter(|key| !key.starts_with("listener.")) {
            text += &format!("{key}\n");
        }
        text += &format!("[[listener]]\naddress = \"{address}\"\n");
        for key in self.keys.iter().filter_map(|key| key.strip_prefix("listener.")) {
            text += &format!("{key}\n");
        }
        text
    }

    /// Seconds have to go by before it can go on: virtual time only.
    pub fn waits(&self) -> bool {
        self.has(|step| matches!(step, Step::Wait(_)))
    }

    /// What it expects takes seconds to come.
    pub fn takes_seconds(&self) -> bool {
        self.has(|step| matches!(step, Step::Within(_)))
    }

    fn has(&self, kind: impl Fn(&Step) -> bool) -> bool {
        self.versions.iter().any(|version| self.steps(*version).iter().any(&kind))
    }

    /// The steps for one version.
    pub fn steps(&self, version: Version) -> Vec<Step> {
        let mut steps = Vec::new();
        for line in &self.lines {
            let (only, line) = match line.split_once(' ') {
                Some(("5", rest)) => (Some(true), rest),
                Some(("3", rest)) => (Some(false), rest),
                _ => (None, line.as_str()),
            };
            if only.is_none_or(|fifth| fifth == (version == Version::V5)) {
                expand(line, version, &mut steps);
            }
        }
        steps
    }
}

fn expand(line: &str, version: Version, steps: &mut Vec<Step>) {
    let mut words = line.splitn(3, ' ');
    let (who, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rest = words.next().unwrap_or_default().trim().to_owned();
    let mut push = |deed| steps.push(Step::On(who.to_owned(), deed));
    match verb {
        _ if who == "wait" => steps.push(Step::Wait(verb.parse().expect("seconds"))),
        _ if who == "within" => steps.push(Step::Within(verb.parse().expect("seconds"))),
        ">" => push(Deed::Send(rest)),
        "<" => push(Deed::Expect(rest)),
        "." => push(Deed::Silence),
        "x" => push(Deed::Closed),
        "!" => push(Deed::Break),
        "fail" => {
            if version == Version::V5 {
                push(Deed::Expect(format!("DISCONNECT{{ {rest} [*] }}")));
            }
            push(Deed::Closed);
        }
        "sub" => {
            let qos = &rest[rest.len() - 2..];
            push(Deed::Send(format!("SUBSCRIBE{{ 7001 [] {rest} }}")));
            push(Deed::Expect(format!("SUBACK{{ 7001 [*] {qos} }}")));
        }
        "+" => {
            let (id, how) = rest.split_once(' ').unwrap_or((&rest, ""));
            let (flags, properties) = match how {
                "" => ("02", "[]"),
                "keep" | "back" => ("00", "[ 11 ffffffff ]"),
                other => panic!("{other} in {line}"),
            };
            let present = if how == "back" && version != Version::V31 { "01" } else { "00" };
            push(Deed::Send(format!("CONNECT{{ proto {flags} 0000 {properties} \"%{id}\" }}")));
            push(Deed::Expect(format!("CONNACK{{ {present} 00 [*] }}")));
        }
        _ => panic!("what is `{line}`?"),
    }
}
