//! The password file: a line `name:hash` for each user, `name:hash:group,group` with groups.
//!
//! A line that is empty or begins with `#` means nothing. Files of mosquitto are read as they are.

use super::credentials::{Identity, Proof, Step, Verdict};
use super::password::HashedPassword;
use super::scram::{Exchange, ScramFault, ScramHash, ScramKeys};
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest text of MQTT.
const MOST_NAME_BYTES: usize = 65_535;

/// A user as the file has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The hashed password.
    pub password: HashedPassword,
    /// Groups that rules can name.
    pub groups: Box<[Box<str>]>,
}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineFault {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what mends it.
    pub what: &'static str,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// What is to become of a user in a password file.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'a> {
    /// It gets this password; groups that are not given stay as they are.
    Set {
        /// The hashed password.
        password: &'a HashedPassword,
        /// Groups, separated by commas.
        groups: Option<&'a str>,
    },
    /// It goes.
    Delete,
}

/// The password file `text` with one user changed and everything else as it is, and whether the
/// user was there.
///
/// # Errors
/// The name can't stand in a file.
pub fn edited(text: &str, name: &str, edit: Edit<'_>) -> Result<(String, bool), &'static str> {
    if name.is_empty() || name.starts_with('#') || name.contains([':', '\n', '\r']) {
        return Err("a user name may not be empty, begin with # or hold : or a line break");
    }
    let (mut out, mut found) = (String::new(), false);
    let write = |out: &mut String, old: &str| {
        let Edit::Set { password, groups } = edit else { return };
        out.push_str(&format!("{name}:{}", password.to_text()));
        let groups = groups.unwrap_or(old);
        if !groups.is_empty() {
            out.push_str(&format!(":{groups}"));
        }
        out.push('\n');
    };
    for row in text.lines() {
        match row.split_once(':') {
            Some((user, rest)) if user == name && !std::mem::replace(&mut found, true) => {
                write(&mut out, rest.split_once(':').map_or("", |(_, groups)| groups));
            }
            _ => out.extend([row, "\n"]),
        }
    }
    if !found {
        write(&mut out, "");
    }
    Ok((out, found))
}

fn refused(fault: ScramFault) -> Verdict {
    tracing::debug!("an exchange is refused: {fault}");
    Verdict::Wrong
}

/// All users of a password file. Pure value, shared by all cores.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Users {
    positions: HashMap<Box<str>, usize>,
    list: Vec<User>,
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// All faults, in the order of the lines.
    pub fn parse(text: &str) -> Result<Users, Vec<LineFault>> {
        let (mut users, mut faults) = (Users::default(), Vec::new());
        for (at, row) in text.lines().enumerate() {
            let row = row.trim_end();
            if row.is_empty() || row.starts_with('#') {
                continue;
            }
            if let Err(what) = users.add(row) {
                faults.push(LineFault { line: at + 1, what });
            }
        }
        if faults.is_empty() { Ok(users) } else { Err(faults) }
    }

    fn add(&mut self, row: &str) -> Result<(), &'static str> {
        let (name, rest) = row.split_once(':').ok_or("a line is name:hash or name:hash:groups")?;
        let (hash, groups) = rest.split_once(':').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err("the name is empty");
        }
        if name.len() > MOST_NAME_BYTES {
            return Err("the name is longer than MQTT allows");
        }
        let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty());
        let groups = groups.map(Box::from).collect();
        let user = User { password: HashedPassword::parse(hash)?, groups };
        if self.positions.contains_key(name) {
            return Err("the name stands on an earlier line as well");
        }
        self.positions.insert(name.into(), self.list.len());
        self.list.push(user);
        Ok(())
    }

    /// The user of a name.
    pub fn find(&self, name: &str) -> Option<&User> {
        self.list.get(*self.positions.get(name)?)
    }

    /// Whether `password` is that of `name`. Takes as long for a name that is not there as for one
    /// that is; milliseconds by design, so it is no work for a core.
    pub fn verify(&self, name: &str, password: &[u8]) -> bool {
        match (self.find(name), self.decoy(name)) {
            (Some(user), _) => user.password.verify(password),
            (None, Some(decoy)) => {
                std::hint::black_box(decoy.password.verify(password));
                false
            }
            (None, None) => false,
        }
    }

    /// The keys that a client has to prove knowledge of who calls itself `name`: for a name that is
    /// not there, or has no such keys, keys that nobody knows. `None`: nobody has such keys.
    pub fn scram_keys(&self, hash: ScramHash, name: &str) -> Option<ScramKeys> {
        let fitting =
            |user: &'_ User| user.password.scram_keys().filter(|keys| keys.hash() == hash).cloned();
        if let Some(keys) = self.find(name).and_then(fitting) {
            return Some(keys);
        }
        let any = self.list.iter().find_map(fitting)?;
        Some(any.decoy(name))
    }

    /// A step of an exchange. `nonce` is text that nobody can guess, without commas.
    pub fn step(&self, step: &Step, nonce: &str) -> Verdict {
        let Some(hash) = ScramHash::of_method(&step.method) else { return Verdict::NoSuchMethod };
        let data = step.data.as_deref().unwrap_or_default();
        let Some(exchange) = &step.exchange else {
            if self.scram_keys(hash, "").is_none() {
                return Verdict::NoSuchMethod;
            }
            let keys = |user: &str| self.scram_keys(hash, user).expect("somebody has some");
            return match Exchange::begin(data, nonce, keys) {
                Ok((data, exchange)) => {
                    Verdict::Continue { data: data.into(), exchange: Box::new(exchange) }
                }
                Err(fault) => refused(fault),
            };
        };
        let name = exchange.user();
        match (exchange.finish(data), self.find(name)) {
            (Ok(data), Some(user)) => {
                let proof = Proof { method: hash.method().into(), data: data.into() };
                Verdict::Proven(Box::new(Identity {
                    user: name.into(),
                    groups: user.groups.clone(),
                    proof: Some(Box::new(proof)),
                    ..Identity::default()
                }))
            }
            // The file was read anew meanwhile, without this user.
            (Ok(_), None) => refused("the user is gone"),
            (Err(fault), _) => refused(fault),
        }
    }

    /// The user whose hash is computed for a name that is not there: always the same one, and
    /// nobody knows which without the file.
    fn decoy(&self, name: &str) -> Option<&User> {
        let first = self.list.first()?.password.to_text();
        let mut hasher = SipHasher13::new();
        (first, name).hash(&mut hasher);
        self.list.get((hasher.finish() % self.list.len() as u64) as usize)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
