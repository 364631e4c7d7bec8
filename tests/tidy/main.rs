//! What the style of this tree asks for and a machine can see. All faults are listed at once.
//!
//! Invariants worth naming: a rule knows no file by name; a file that may break a rule stands in
//! [`EXCEPTIONS`] with the reason, and an exception that nothing needs is a fault too.

mod lexer;
mod rules;

use std::fmt::Write;
use std::path::Path;

/// Files that may break a rule: path from the root, rule, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Where Rust sources and documents are looked for.
const ROOTS: &[&str] =
    &["benches", "docs", "examples", "fuzz", "loadtest", "src", "tests", "tuning", "README.md"];

/// One file of the tree.
pub struct Source {
    /// Path from the root, `/` between its parts.
    pub path: String,
    /// As it stands in the file.
    pub text: String,
    /// Without comments and literals; the lines are those of `text`. Empty unless Rust.
    pub code: String,
    /// For each line, whether it is compiled for tests alone.
    pub test: Vec<bool>,
}

impl Source {
    /// Whether this is a Rust source.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The module that the file belongs to, for files of the root package's library.
    pub fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module = inside.split('/').next()?.trim_end_matches(".rs");
        (!matches!(module, "lib" | "main")).then_some(module)
    }

    /// The blanked lines that are not compiled for tests alone, numbered from zero.
    pub fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().filter(|(at, _)| !self.test[*at])
    }
}

/// Collects what the rules find.
#[derive(Default)]
pub struct Faults {
    found: Vec<(String, usize, &'static str, String)>,
}

impl Faults {
    /// Notes that line `line` (from zero) of `path` breaks `rule`.
    pub fn add(&mut self, path: &str, line: usize, rule: &'static str, what: String) {
        self.found.push((path.to_owned(), line + 1, rule, what));
    }

    /// The report without what the exceptions allow; empty when all is well.
    fn report(&self, exceptions: &[(&str, &str, &str)]) -> String {
        let mut report = String::new();
        for (path, line, rule, what) in &self.found {
            if !exceptions.iter().any(|(p, r, _)| p == path && r == rule) {
                writeln!(report, "{path}:{line}: {rule}: {what}").expect("strings take all");
            }
        }
        for (path, rule, reason) in exceptions {
            if !self.found.iter().any(|(p, _, r, _)| p == path && r == rule) {
                writeln!(report, "{path}: exception from {rule} ({reason}) is not needed")
                    .expect("strings take all");
            }
        }
        report
    }
}

#[test]
fn the_tree_is_tidy() {
    let sources = sources();
    assert!(sources.iter().any(|s| s.path == "src/lib.rs"), "the tree was not found");
    let report = rules::check(&sources).report(EXCEPTIONS);
    assert!(report.is_empty(), "{} faults\n{report}", report.lines().count());
}

#[test]
fn every_rule_finds_its_fault() {
    let library = source("src/lib.rs", "//! L\npub mod base;\npub mod shard;\npub mod net;\n");
    let pure = "use std::{fs, net::{SocketAddr, TcpStream}};\nuse crate::shard::X;\n\
                fn f() { let a = Instant::now(); unsafe { g() }; a.unwrap(); todo!(); }\n\
                // [MQTT-9.9.9-9]\nuse glommio::Task;\n";
    let long = format!("//! L\nfn long() {{\n{}}}\n", "    step();\n".repeat(70));
    let wide = format!("//! W\n// {}\n", "w".repeat(100));
    let big = format!("//! B\n{}", "const A: u8 = 0;\n".repeat(600));
    let fine = "//! F\n// SAFETY: it is\nunsafe impl Send for X {}\n#[cfg(test)]\nmod tests {\n\
                fn f() { a.unwrap(); \"todo!()\"; }\n}\n";
    let table = "//! T\nsection! {\n    \"r\", Table => pub struct R {\n\
                 spin_us: u32 = 0, FREE, \"µs\", Live;\n/// D\npin: bool = true, FREE;\n}\n}\n";
    let sources = [
        library,
        source("src/base/util.rs", pure),
        source("src/base/long.rs", &long),
        source("src/base/wide.rs", &wide),
        source("src/base/big.rs", &big),
        source("src/net/fine.rs", fine),
        source("src/config/table.rs", table),
        source("docs/CONFIG.md", "# C\n\n* `spin_us`\n"),
        source(
            "docs/PROMISES.md",
            "| p | test |\n|---|---|\n| a | `long` |\n| b | `gone` |\n| c | |\n",
        ),
    ];
    let report = rules::check(&sources).report(&[("src/gone.rs", "lines", "none")]);
    let expected = [
        "src/base/util.rs:1: header",
        "src/base/util.rs:1: file name",
        "src/base/util.rs:1: purity: names std::fs",
        "src/base/util.rs:1: purity: names std::net::TcpStream",
        "src/base/util.rs:2: module order: base names shard, which stands below it",
        "src/base/util.rs:3: purity: names Instant::now",
        "src/base/util.rs:3: unsafe proof",
        "src/base/util.rs:3: unfinished: .unwrap()",
        "src/base/util.rs:3: unfinished: todo!",
        "src/base/util.rs:4: statement: MQTT-9.9.9-9",
        "src/base/util.rs:5: runtime names: glommio",
        "src/base/long.rs:2: function length: long has 72 lines",
        "src/base/wide.rs:2: columns: 103",
        "src/base/big.rs:1: file length: 601 lines",
        "src/config/table.rs:6: config key: `pin`",
        "docs/PROMISES.md:4: named test: there is no test `gone`",
        "docs/PROMISES.md:5: named test: a row without a test",
        "src/gone.rs: exception from lines",
    ];
    for line in expected {
        assert!(report.contains(line), "{line:?} is missing in\n{report}");
    }
    assert_eq!(report.lines().count(), expected.len(), "more than expected in\n{report}");
}

fn source(path: &str, text: &str) -> Source {
    let code = if path.ends_with(".rs") { lexer::blank(text) } else { String::new() };
    let mut test = lexer::test_lines(&code);
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|p| matches!(*p, "tests" | "tests.rs" | "benches" | "fuzz")) {
        test.fill(true);
    }
    Source { path: path.to_owned(), text: text.to_owned(), code, test }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for name in ROOTS {
        collect(root, &root.join(name), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_modules(&mut found);
    found
}

fn collect(root: &Path, at: &Path, found: &mut Vec<Source>) {
    let name = at.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if !at.exists() {
        return;
    }
    if at.is_dir() {
        let skipped = name.starts_with('.') || matches!(name, "target" | "results");
        let entries = std::fs::read_dir(at).into_iter().flatten().flatten();
        entries.filter(|_| !skipped).for_each(|entry| collect(root, &entry.path(), found));
    } else if [".rs", ".md", ".py", ".toml", ".txt", ".json"].iter().any(|e| name.ends_with(e)) {
        let path = at.strip_prefix(root).expect("walked from the root").to_str().expect("UTF-8");
        let text = std::fs::read_to_string(at).expect("a source can be read");
        found.push(source(path, &text));
    }
}

/// Marks the files of modules that are declared under `#[cfg(test)]`.
fn mark_test_modules(sources: &mut [Source]) {
    let mut stems = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust()) {
        let (folder, file) = source.path.rsplit_once('/').unwrap_or_default();
        let stem = file.trim_end_matches(".rs");
        let own = if matches!(stem, "mod" | "lib" | "main") { "" } else { stem };
        let children = source.code.lines().enumerate().filter(|(at, _)| source.test[*at]);
        for name in children.filter_map(|(_, line)| rules::declared_module(line)) {
            stems.push(format!("{folder}/{own}/{name}").replace("//", "/"));
        }
    }
    for source in sources {
        let inside = |stem: &String| {
            let rest = source.path.strip_prefix(stem.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if stems.iter().any(inside) {
            source.test.fill(true);
        }
    }
}
