//! Applying changes to a host and taking them back, with a record of what was there before.
//!
//! Invariants worth naming:
//! * an entry is in the record, on disk, before its file is written; one whose write failed is
//!   taken out again;
//! * what somebody else wrote since is left as it is, and told.

use crate::device::chosen;
use crate::host::Change;
use crate::sysctl::spaced;
use crate::tree;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One file that was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The file, relative to the root.
    pub path: String,
    /// What was there: the word chosen, where the file lists choices.
    pub before: String,
    /// What was written.
    pub after: String,
}

/// What became of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was written; this was there before.
    Written(Entry),
    /// It has the value already.
    Unchanged(Entry),
    /// Somebody wrote this since; it was left alone.
    Foreign(Entry, String),
    /// It can't be read or written.
    Failed(String, String),
}

/// The record of what was applied to the host below a root, in a file of its own.
#[derive(Debug)]
pub struct Record {
    root: PathBuf,
    file: PathBuf,
    entries: Vec<Entry>,
}

/// Writes a value to a file; what [`Record`] does to a host goes through one of these.
pub type Writer<'w> = dyn FnMut(&Path, &str) -> io::Result<()> + 'w;

/// Writes `value` to the file at `path`, as `echo` does.
///
/// # Errors
/// The file can't be opened, or the kernel refuses the value.
pub fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).truncate(true).open(path)?.write_all(value.as_bytes())
}

impl Record {
    /// Opens the record in `file` for the host below `root`; there need not be one yet.
    ///
    /// # Errors
    /// The file can't be read, or holds no record.
    pub fn open(root: &Path, file: &Path) -> io::Result<Record> {
        let entries = match fs::read_to_string(file) {
            Ok(text) => parse(&text).ok_or_else(|| tree::invalid(file, &"no record of changes"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Record { root: root.into(), file: file.into(), entries })
    }

    /// What was written and not taken back yet.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes `changes`, each noted first.
    ///
    /// # Errors
    /// The record can't be saved; nothing is written without it.
    pub fn apply(
        &mut self,
        changes: &[Change],
        write: &mut Writer<'_>,
    ) -> io::Result<Vec<Outcome>> {
        changes.iter().map(|change| self.apply_one(change, write)).collect()
    }

    fn apply_one(&mut self, change: &Change, write: &mut Writer<'_>) -> io::Result<Outcome> {
        let Change { path, value } = change;
        let Some(current) = self.current(path) else {
            return Ok(Outcome::Failed(path.clone(), "it can't be read".into()));
        };
        let (path, after) = (path.clone(), value.clone());
        let entry = Entry { path, before: current.clone(), after };
        if same(&current, value) {
            return Ok(Outcome::Unchanged(entry));
        }
        let old = self.entries.clone();
        let place = self.entries.iter().position(|known| known.path == entry.path);
        match place.map(|at| &mut self.entries[at]) {
            // Still what was written the last time: the value before that is what to go back to.
            Some(known) if same(&known.after, &current) => known.after = entry.after.clone(),
            Some(known) => *known = entry.clone(),
            None => self.entries.push(entry.clone()),
        }
        self.save()?;
        if let Err(error) = write(&self.root.join(&entry.path), value) {
            self.entries = old;
            self.save()?;
            return Ok(Outcome::Failed(entry.path, error.to_string()));
        }
        Ok(Outcome::Written(entry))
    }

    /// Takes everything back, the last change first; what could not be stays in the record.
    ///
    /// # Errors
    /// The record can't be saved.
    pub fn undo(&mut self, write: &mut Writer<'_>) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for at in (0..self.entries.len()).rev() {
            let outcome = self.undo_one(self.entries[at].clone(), write);
            if matches!(outcome, Outcome::Written(_) | Outcome::Unchanged(_)) {
                self.entries.remove(at);
                self.save()?;
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn undo_one(&self, entry: Entry, write: &mut Writer<'_>) -> Outcome {
        let Some(current) = self.current(&entry.path) else {
            return Outcome::Failed(entry.path, "it can't be read".into());
        };
        if same(&current, &entry.before) {
            return Outcome::Unchanged(entry);
        }
        if !same(&current, &entry.after) {
            return Outcome::Foreign(entry, current);
        }
        match write(&self.root.join(&entry.path), &entry.before) {
            Ok(()) => Outcome::Written(entry),
            Err(error) => Outcome::Failed(entry.path, error.to_string()),
        }
    }

    fn current(&self, path: &str) -> Option<String> {
        tree::text(&self.root.join(path)).map(|text| chosen(&text).to_owned())
    }

    /// Replaces the record's file as a whole; an empty record has none.
    fn save(&self) -> io::Result<()> {
        if self.entries.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        if let Some(directory) = self.file.parent() {
            fs::create_dir_all(directory)?;
        }
        let one = |entry: &Entry| {
            let file = format!("/{}", entry.path);
            json!({ "file": file, "before": entry.before, "after": entry.after })
        };
        let entries: Vec<Value> = self.entries.iter().map(one).collect();
        let draft = self.file.with_extension("draft");
        let mut file = fs::File::create(&draft)?;
        writeln!(file, "{:#}", json!({ "applied": entries }))?;
        file.sync_all()?;
        fs::rename(draft, &self.file)
    }
}

/// What became of a file, in words; `back` where changes were taken back.
pub fn sentence(outcome: &Outcome, back: bool) -> String {
    match outcome {
        Outcome::Written(entry) if back => format!("/{}: {} again", entry.path, entry.before),
        Outcome::Written(entry) => {
            format!("/{}: {}, it was {}", entry.path, entry.after, entry.before)
        }
        Outcome::Unchanged(entry) if back => {
            format!("/{}: was {} again already", entry.path, entry.before)
        }
        Outcome::Unchanged(entry) => format!("/{}: is {} already", entry.path, entry.after),
        Outcome::Foreign(Entry { path, before, after }, current) => format!(
            "/{path}: left alone, somebody wrote {current} over {after}; \
             to go back: echo \"{before}\" > /{path}"
        ),
        Outcome::Failed(path, error) => format!("/{path}: not written, {error}"),
    }
}

/// What became of the files, as a value for programs.
pub fn as_json(outcomes: &[Outcome]) -> Value {
    let entry = |entry: &Entry, outcome: &str| {
        let file = format!("/{}", entry.path);
        json!({ "file": file, "outcome": outcome, "before": entry.before, "after": entry.after })
    };
    let one = |outcome: &Outcome| match outcome {
        Outcome::Written(known) => entry(known, "written"),
        Outcome::Unchanged(known) => entry(known, "unchanged"),
        Outcome::Foreign(known, current) => {
            let mut value = entry(known, "left alone");
            value["current"] = current.as_str().into();
            value
        }
        Outcome::Failed(path, error) => {
            json!({ "file": format!("/{path}"), "outcome": "failed", "error": error })
        }
    };
    json!({ "files": outcomes.iter().map(one).collect::<Vec<_>>() })
}

/// Whether two values mean the same to the kernel, which puts tabs between numbers.
fn same(left: &str, right: &str) -> bool {
    spaced(left) == spaced(right)
}

fn parse(text: &str) -> Option<Vec<Entry>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let one = |entry: &Value| {
        let text = |name: &str| entry.get(name)?.as_str().map(str::to_owned);
        let path = text("file")?.strip_prefix('/')?.to_owned();
        // The record is a file that others may have changed; only the kernel's files are ours.
        let ours = path.starts_with("proc/sys/") || path.starts_with("sys/");
        let plain = ours && !path.split('/').any(|part| part == "..");
        plain.then_some(Entry { path, before: text("before")?, after: text("after")? })
    };
    value.get("applied")?.as_array()?.iter().map(one).collect()
}
