//! The password file: a line `name:hash` for each user, `name:hash:group,group` with groups.
//!
//! A line that is empty or begins with `#` means nothing. Files of mosquitto are read as they are.

use super::password::HashedPassword;
use hashbrown::HashMap;
use std::fmt;

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

/// All users of a password file. Pure value, shared by all cores.
#[derive(Clone, Default, Debug)]
pub struct Users {
    by_name: HashMap<Box<str>, User>,
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
        let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty());
        let groups = groups.map(Box::from).collect();
        let user = User { password: HashedPassword::parse(hash)?, groups };
        match self.by_name.insert(name.into(), user) {
            None => Ok(()),
            Some(_) => Err("the name stands on an earlier line as well"),
        }
    }

    /// The user of a name.
    pub fn find(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}
