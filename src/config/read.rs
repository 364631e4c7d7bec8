//! Walks a parsed TOML text section by section and files every fault with its line.

use super::fault::Fault;
use super::key::{Key, Section, Shape};
use super::nearest::nearest;
use super::setting::Setting;
use super::table::all_keys;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value as it stands in the text.
pub struct Given<'t> {
    /// The value.
    pub value: &'t DeValue<'t>,
    /// Where it stands, in bytes.
    pub span: Range<usize>,
    /// Path of its key.
    pub path: String,
}

/// What a walk has found so far: the faults, and the line of each key that was written.
pub struct Scan {
    line_starts: Vec<usize>,
    written: BTreeMap<String, usize>,
    faults: Vec<Fault>,
}

impl Scan {
    /// A walk over `text`.
    pub fn new(text: &str) -> Scan {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Scan { line_starts, written: BTreeMap::new(), faults: Vec::new() }
    }

    /// The line of byte `offset`, counted from 1.
    pub fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// The line on which the key at `path` was written, if it was.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        self.written.get(path).copied()
    }

    /// Files a fault of a value.
    pub fn fault(&mut self, given: &Given<'_>, reason: String, remedy: String) {
        let line = Some(self.line_at(given.span.start));
        self.file(Fault { line, key: given.path.clone(), reason, remedy });
    }

    /// Files a fault.
    pub fn file(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Whether something was found wrong with what stands at `path` itself.
    pub fn is_wrong(&self, path: &str) -> bool {
        self.faults.iter().any(|fault| fault.key == path)
    }

    /// Whether something was found wrong at `path` or inside it.
    pub fn is_faulty(&self, path: &str) -> bool {
        self.faults.iter().any(|fault| {
            let rest = fault.key.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Forgets the faults on `lines`.
    pub fn forgive(&mut self, lines: &[usize]) {
        self.faults.retain(|fault| !fault.line.is_some_and(|line| lines.contains(&line)));
    }

    /// All faults in the order of their lines.
    pub fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        self.faults
    }

    /// Reads the key that `key` describes; `None` if it is not written or is faulty.
    pub fn take<T: Setting>(&mut self, table: &DeTable<'_>, path: &str, key: &Key) -> Option<T> {
        let value = table.get(key.name)?;
        let path = format!("{path}.{}", key.name);
        self.written.insert(path.clone(), self.line_at(value.span().start));
        T::read(&Given { value: value.get_ref(), span: value.span(), path }, key, self)
    }

    /// Files a fault for each key of `table` that no row describes.
    pub fn refuse_unknown(&mut self, table: &DeTable<'_>, path: &str, keys: &[Key]) {
        for name in table.keys() {
            if !keys.iter().any(|key| key.name == name.get_ref()) {
                let known = keys.iter().map(|key| key.name);
                self.unknown(name, path, known);
            }
        }
    }

    /// Files the fault of a key or section that nothing describes.
    pub fn unknown<'k>(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        path: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        let known: Vec<&str> = known.collect();
        let dot = if path.is_empty() { "" } else { "." };
        let elsewhere = all_keys().into_iter().find(|key| key.name == name.get_ref());
        let remedy = match (elsewhere, nearest(name.get_ref(), &known)) {
            (Some(key), _) => format!("did you mean {}?", key.path()),
            (None, Some(near)) => format!("did you mean {path}{dot}{near}?"),
            (None, None) => format!("known here: {}", known.join(", ")),
        };
        let line = Some(self.line_at(name.span().start));
        let key = format!("{path}{dot}{}", name.get_ref());
        self.file(Fault { line, key, reason: "no such key".into(), remedy });
    }

    /// Reads `[section]`; a section not written has its defaults.
    pub fn table<S: Section>(&mut self, root: &DeTable<'_>) -> S {
        let Some(value) = root.get(S::NAME) else { return S::standard() };
        match value.get_ref().as_table() {
            Some(table) => S::read(table, S::NAME, self),
            None => {
                let given =
                    Given { value: value.get_ref(), span: value.span(), path: S::NAME.into() };
                let reason =
                    format!("a section is wanted, this is of type {}", given.value.type_str());
                self.fault(&given, reason, format!("write [{}]", S::NAME));
                S::standard()
            }
        }
    }

    /// Reads the entries of an array of tables.
    pub fn repeated<S: Section>(&mut self, given: &Given<'_>) -> Vec<S> {
        let entries = given.value.as_array().map(|items| items.iter().enumerate());
        let Some(entries) = entries else {
            self.wrong_entry::<S>(given);
            return Vec::new();
        };
        let mut read = Vec::new();
        for (at, item) in entries {
            let path = format!("{}[{at}]", given.path);
            let entry = Given { value: item.get_ref(), span: item.span(), path };
            match item.get_ref().as_table() {
                Some(table) => read.push(self.entry(table, &entry)),
                // The default keeps the place, so that positions stay those of the text.
                None => {
                    self.wrong_entry::<S>(&entry);
                    read.push(S::standard());
                }
            }
        }
        read
    }

    fn entry<S: Section>(&mut self, table: &DeTable<'_>, entry: &Given<'_>) -> S {
        self.written.insert(entry.path.clone(), self.line_at(entry.span.start));
        if S::SHAPE == Shape::Rule {
            for key in S::keys().iter().filter(|key| !table.contains_key(key.name)) {
                let remedy = format!("add {} = …", key.name);
                self.fault(entry, format!("{} is missing", key.name), remedy);
            }
        }
        S::read(table, &entry.path, self)
    }

    fn wrong_entry<S: Section>(&mut self, given: &Given<'_>) {
        let reason = format!("this is of type {}", given.value.type_str());
        let remedy = match S::SHAPE {
            Shape::Rule => {
                let keys: Vec<&str> = S::keys().iter().map(|key| key.name).collect();
                format!("write an array of {{ {} = … }}", keys.join(" = …, "))
            }
            Shape::Table | Shape::Repeated => format!("write [[{}]]", S::NAME),
        };
        self.fault(given, reason, remedy);
    }
}
