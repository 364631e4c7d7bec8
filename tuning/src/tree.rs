//! Reading the kernel's files below a root directory.

use crate::cpulist;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The trimmed text of the file at `path`; `None` if it can't be read.
pub fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The number in the file at `path`; `None` if there is none.
pub fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// The CPU list in the file at `path`; `None` if there is no such file.
///
/// # Errors
/// The file holds what is no list of CPUs.
pub fn list(path: &Path) -> io::Result<Option<Vec<usize>>> {
    match text(path) {
        Some(text) => cpulist::parse(&text).map(Some).map_err(|error| invalid(path, &error)),
        None => Ok(None),
    }
}

/// The error of a file that holds what can't be read.
pub fn invalid(path: &Path, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

/// Entries of `directory` named `prefix` and a number, in the order of their numbers.
pub fn numbered(directory: &Path, prefix: &str) -> Vec<(usize, PathBuf)> {
    let named = names(directory).into_iter();
    let mut found: Vec<(usize, PathBuf)> = named
        .filter_map(|name| {
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, directory.join(name)))
        })
        .collect();
    found.sort();
    found
}

/// Names of the entries of `directory` in their order; none if it can't be read.
pub fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
