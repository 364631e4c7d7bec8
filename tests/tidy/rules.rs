//! The rules, one function each.

use crate::lexer::{self, is_word};
use crate::{Faults, Source};
use std::collections::BTreeSet;

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["common", "helper", "helpers", "manager", "misc", "types", "util", "utils"];

/// Modules around the pure core; they may name sockets, clocks, files and threads.
const SHELL: &[&str] = &["tls", "net", "auth", "runtime", "broker", "cli", "control"];

/// Modules that may name the executor and the ring.
const RUNTIME: &[&str] = &["net", "runtime"];

/// Addresses are values; the rest of `std::net` is sockets.
const ADDRESSES: &[&str] = &[
    "AddrParseError",
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
];

/// Which statements exist.
const STATEMENTS: &str = include_str!("../data/mqtt-statements.txt");

/// Runs every rule over every file.
pub fn check(sources: &[Source]) -> Faults {
    let mut faults = Faults::default();
    let order = module_order(sources);
    let statements = STATEMENTS.lines().filter_map(|l| l.split(' ').nth(1)).collect();
    for source in sources {
        cited_statements(source, &statements, &mut faults);
        if source.is_rust() {
            header(source, &mut faults);
            file_name(source, &mut faults);
            columns(source, &mut faults);
            function_length(source, &mut faults);
            file_length(source, &mut faults);
            unsafe_proof(source, &mut faults);
            unfinished(source, &mut faults);
            dependencies(source, &order, &mut faults);
        }
    }
    documented_keys(sources, &mut faults);
    named_tests(sources, &mut faults);
    faults
}

fn header(source: &Source, faults: &mut Faults) {
    if !source.text.starts_with("//!") {
        faults.add(&source.path, 0, "header", "the file does not begin with `//!`".to_owned());
    }
}

fn file_name(source: &Source, faults: &mut Faults) {
    let empty = source.path.split('/').find(|p| EMPTY_NAMES.contains(&p.trim_end_matches(".rs")));
    if let Some(name) = empty {
        faults.add(&source.path, 0, "file name", format!("`{name}` says nothing"));
    }
}

fn columns(source: &Source, faults: &mut Faults) {
    for (at, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            faults.add(&source.path, at, "columns", columns.to_string());
        }
    }
}

fn file_length(source: &Source, faults: &mut Faults) {
    let tests = source.path.ends_with("/tests.rs");
    let in_tests = source.path.starts_with("tests/");
    let lines = source.test.iter().filter(|test| in_tests || !**test).count();
    if lines > FILE_LINES_MAX && !tests {
        faults.add(&source.path, 0, "file length", format!("{lines} lines"));
    }
}

fn function_length(source: &Source, faults: &mut Faults) {
    let lines: Vec<&str> = source.code.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let length = lexer::item_end(&lines, at) - at + 1;
        if length > FUNCTION_LINES_MAX {
            let what = format!("{name} has {length} lines");
            faults.add(&source.path, at, "function length", what);
        }
    }
}

/// The name of the function whose signature begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let qualifiers = ["pub", "const", "async", "unsafe", "extern", "default"];
    let is_item = before.split_whitespace().all(|word| {
        let word = word.split('(').next().unwrap_or(word);
        qualifiers.contains(&word) || word.ends_with(')')
    });
    let name = rest.split(|c| !is_word(c)).next()?;
    (is_item && !name.is_empty()).then_some(name)
}

/// Every `unsafe` block, impl and function has its proof or its conditions right above it, and
/// stands in a file without modules below it.
fn unsafe_proof(source: &Source, faults: &mut Faults) {
    let text: Vec<&str> = source.text.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let mut first = None;
    for (at, _) in code.iter().enumerate().filter(|(_, line)| has_unsafe(line)) {
        first = first.or((!source.test[at]).then_some(at));
        if !proven(&text, &code, at) {
            let what = "no `// SAFETY:` (or `# Safety`) above".to_owned();
            faults.add(&source.path, at, "unsafe proof", what);
        }
    }
    let parent = source.production_lines().any(|(_, line)| declared_module(line).is_some());
    if let (Some(at), true) = (first, parent) {
        let what = "unsafe code in a file that declares modules".to_owned();
        faults.add(&source.path, at, "unsafe leaf", what);
    }
}

fn has_unsafe(line: &str) -> bool {
    line.match_indices("unsafe").any(|(at, word)| {
        let starts = !line[..at].chars().next_back().is_some_and(is_word);
        let rest = line[at + word.len()..].trim_start();
        let item = rest.strip_prefix("fn ").is_some_and(|r| r.starts_with(is_word));
        starts && (item || ["{", "impl", "extern"].iter().any(|next| rest.starts_with(next)))
    })
}

/// Looks from line `at` upward, through the statement that it belongs to.
fn proven(text: &[&str], code: &[&str], at: usize) -> bool {
    let is_proof = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    if is_proof(text[at]) {
        return true;
    }
    for above in (0..at).rev() {
        let (line, blanked) = (text[above].trim(), code[above].trim());
        if is_proof(line) {
            return true;
        }
        let ends_statement = blanked.ends_with([';', '{', '}']);
        if line.is_empty() || ends_statement {
            return false;
        }
    }
    false
}

fn unfinished(source: &Source, faults: &mut Faults) {
    for (at, line) in source.production_lines() {
        for what in ["todo!", "unimplemented!", "dbg!", ".unwrap()"] {
            let word = line.match_indices(what).any(|(start, _)| {
                what.starts_with('.') || !line[..start].chars().next_back().is_some_and(is_word)
            });
            if word {
                faults.add(&source.path, at, "unfinished", what.to_owned());
            }
        }
    }
}

/// The library's modules in the order of `src/lib.rs`.
fn module_order(sources: &[Source]) -> Vec<String> {
    let library = sources.iter().find(|s| s.path == "src/lib.rs");
    let lines = library.map_or("", |library| library.code.as_str()).lines();
    lines.filter_map(declared_module).map(str::to_owned).collect()
}

/// The module that this line declares as a file of its own.
pub fn declared_module(line: &str) -> Option<&str> {
    let declaration = line.trim().strip_suffix(';')?;
    let (visibility, name) = declaration.rsplit_once("mod ")?;
    let visible = visibility.is_empty() || visibility.starts_with("pub");
    if !visible {
        return None;
    }
    name.chars().all(is_word).then_some(name)
}

/// Module order, purity and the executor's names: all are questions about the paths in the code.
fn dependencies(source: &Source, order: &[String], faults: &mut Faults) {
    let Some(module) = source.module() else { return };
    let position = order.iter().position(|name| name == module);
    for path in lexer::paths(&source.code) {
        if source.test[path.line] {
            continue;
        }
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let named = named_module(source, &segments);
        let below = order.iter().position(|name| Some(name.as_str()) == named);
        if let (Some(own), Some(below)) = (position, below)
            && below > own
        {
            let what = format!("{module} names {}, which stands below it", order[below]);
            faults.add(&source.path, path.line, "module order", what);
        }
        if let Some(impure) = impure(&segments).filter(|_| !SHELL.contains(&module)) {
            faults.add(&source.path, path.line, "purity", format!("names {impure}"));
        }
        let executor = matches!(segments[..], ["glommio", ..] | ["io_uring", _, ..]);
        if executor && !RUNTIME.contains(&module) {
            faults.add(&source.path, path.line, "runtime names", segments[0].to_owned());
        }
    }
}

/// The module of the library that a path goes to, by `crate::` or by enough `super::`.
fn named_module<'a>(source: &Source, segments: &[&'a str]) -> Option<&'a str> {
    if segments.first() == Some(&"crate") {
        return segments.get(1).copied();
    }
    let depth = source.path.split('/').count() - 1 - usize::from(source.path.ends_with("/mod.rs"));
    let supers = segments.iter().take_while(|s| **s == "super").count();
    (supers > 0 && supers >= depth).then(|| segments.get(supers).copied()).flatten()
}

/// What in this path the pure half must not name.
fn impure(segments: &[&str]) -> Option<String> {
    if segments.windows(2).any(|pair| pair == ["Instant", "now"]) {
        return Some("Instant::now".to_owned());
    }
    match segments {
        [.., "SystemTime"] | ["SystemTime", ..] => Some("SystemTime".to_owned()),
        ["std", "net", name, ..] if ADDRESSES.contains(name) => None,
        ["std", "fs" | "net" | "thread", ..] => Some(segments.join("::")),
        _ => None,
    }
}

/// Each statement that is cited in brackets exists in one of the two versions.
fn cited_statements(source: &Source, known: &BTreeSet<&str>, faults: &mut Faults) {
    for (at, line) in source.text.lines().enumerate() {
        for (start, _) in line.match_indices(concat!("[", "MQTT-")) {
            let cited = line[start + 1..].split(']').next().unwrap_or_default();
            let sample = source.path.starts_with("tests/tidy/");
            if !known.contains(cited) && !sample {
                let what = format!("{cited} is in neither version");
                faults.add(&source.path, at, "statement", what);
            }
        }
    }
}

/// Each key of the configuration's key table stands in the reference page, once there is one.
fn documented_keys(sources: &[Source], faults: &mut Faults) {
    let Some(page) = sources.iter().find(|s| s.path == "docs/CONFIG.md") else { return };
    let Some(table) = sources.iter().find(|s| s.path == "src/config/table.rs") else {
        let what = "there is no key table at src/config/table.rs".to_owned();
        return faults.add(&page.path, 0, "config key", what);
    };
    let keys = table_keys(table);
    if keys.is_empty() {
        faults.add(&table.path, 0, "config key", "no rows found in the key table".to_owned());
    }
    for (at, key) in keys {
        let titles = [format!("`{key}`"), format!("`{key} =")];
        if !titles.iter().any(|title| page.text.contains(title)) {
            let what = format!("`{key}` is not in docs/CONFIG.md");
            faults.add(&table.path, at, "config key", what);
        }
    }
}

/// In the documents' tables whose last column is headed `test` each row names tests that exist.
fn named_tests(sources: &[Source], faults: &mut Faults) {
    let functions: BTreeSet<&str> = sources
        .iter()
        .filter(|source| source.is_rust())
        .flat_map(|source| source.code.lines().filter_map(function_name))
        .collect();
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        let mut inside = false;
        for (at, line) in source.text.lines().enumerate() {
            inside = line.starts_with('|') && (inside || line.ends_with("| test |"));
            if !inside || line.ends_with("| test |") || line.ends_with("|---|") {
                continue;
            }
            let cell = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
            let mut names = cell.split('`').skip(1).step_by(2).peekable();
            if names.peek().is_none() {
                faults.add(&source.path, at, "named test", "a row without a test".to_owned());
            }
            for name in names.filter(|name| !functions.contains(name)) {
                let what = format!("there is no test `{name}`");
                faults.add(&source.path, at, "named test", what);
            }
        }
    }
}

/// The keys of the rows `key: type = default, …;` that stand in `section! { … }`.
fn table_keys(table: &Source) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = table.code.lines().collect();
    let starts = (0..lines.len()).filter(|at| lines[*at].starts_with("section! {"));
    let rows = starts.flat_map(|at| at..=lexer::item_end(&lines, at));
    let key = |at: usize| {
        let (key, rest) = lines[at].trim().split_once(": ")?;
        (key.chars().all(is_word) && rest.contains(' ')).then_some((at, key))
    };
    rows.filter_map(key).collect()
}
