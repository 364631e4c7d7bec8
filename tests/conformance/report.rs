//! The page docs/CONFORMANCE.md: every statement, what proves it, or why nothing does.
//!
//! Invariants worth naming: a statement of a server without a proof needs a reason; a reason beside
//! a proof is a fault; a pending vector proves nothing; a citation in other tests counts only
//! where its number exists in one of the two standards alone, because the numbers differ.

use crate::script::Vector;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Per cent of the server's statements that tests have to prove.
pub const COVERAGE_MIN: f64 = 95.0;

const TABLE: &str = include_str!("../data/mqtt-statements.txt");
const STANDARDS: [&str; 2] = ["3.1.1", "5.0"];

/// One row of the table of statements.
pub struct Statement {
    pub version: &'static str,
    pub id: &'static str,
    side: &'static str,
    sense: &'static str,
    reason: Option<&'static str>,
}

impl Statement {
    fn is_server(&self) -> bool {
        self.side == "server"
    }
}

type Proofs = BTreeMap<(String, String), BTreeSet<String>>;

/// All statements.
pub fn statements() -> Vec<Statement> {
    let row = |line: &'static str| {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().expect("version, id, side and sense");
        let (version, id, side, rest) = (word(), word(), word(), word());
        assert!(matches!(side, "server" | "client" | "nobody"), "whom does {line} bind?");
        let (sense, reason) = match rest.split_once(" | ") {
            Some((sense, reason)) => (sense, Some(reason)),
            None => (rest, None),
        };
        Statement { version, id, side, sense, reason }
    };
    TABLE.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

/// What proves which statement.
pub fn proofs(vectors: &[Vector]) -> Proofs {
    let mut found = Proofs::new();
    for vector in vectors.iter().filter(|vector| vector.pending.is_none()) {
        for statement in &vector.statements {
            found.entry(statement.clone()).or_default().insert(vector.name.clone());
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests"] {
        cited_below(root, &root.join(folder), &mut found);
    }
    found
}

fn cited_below(root: &Path, at: &Path, found: &mut Proofs) {
    let entries = std::fs::read_dir(at).expect("a folder of the tree").flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.strip_prefix(root).expect("below the root").display().to_string();
        if path.is_dir() {
            if !matches!(name.as_str(), "tests/tidy" | "tests/conformance") {
                cited_below(root, &path, found);
            }
        } else if name.ends_with(".rs") && name.contains("tests") {
            let text = std::fs::read_to_string(&path).expect("a source can be read");
            cited_in(&name, &text, found);
        }
    }
}

/// Citations in the body of a test, or in the comment above it.
fn cited_in(file: &str, text: &str, found: &mut Proofs) {
    let mut test = None;
    let (mut above, mut is_test) = (Vec::new(), false);
    for line in text.lines() {
        is_test |= line.trim() == "#[test]";
        if let Some(name) = line.trim().strip_prefix("fn ") {
            let name = name.split('(').next().unwrap_or_default();
            test = is_test.then(|| format!("{file}: {name}"));
            is_test = false;
        }
        let ids = line.match_indices(concat!("[", "MQTT-")).map(|(start, _)| &line[start + 1..]);
        let ids = ids.filter_map(|rest| rest.split(']').next());
        if line.starts_with("//") && !line.starts_with("//!") {
            above.extend(ids.map(str::to_owned));
            continue;
        }
        let Some(test) = &test else { continue };
        for id in above.drain(..).chain(ids.map(str::to_owned)) {
            let mut standards = STANDARDS.iter().filter(|version| {
                statements().iter().any(|s| s.version == **version && s.id == id)
            });
            if let (Some(version), None) = (standards.next(), standards.next()) {
                found.entry(((*version).to_owned(), id)).or_default().insert(test.clone());
            }
        }
    }
}

/// Faults of table and vectors, and the coverage in per cent.
pub fn judge(vectors: &[Vector]) -> (Vec<String>, f64) {
    let (statements, proofs) = (statements(), proofs(vectors));
    let mut faults = Vec::new();
    let mut proven = 0;
    for statement in &statements {
        let key = (statement.version.to_owned(), statement.id.to_owned());
        let has_proof = proofs.contains_key(&key);
        proven += usize::from(statement.is_server() && has_proof);
        let fault = match (has_proof, statement.reason) {
            (true, Some(_)) => "is proven, yet has a reason why not",
            (false, None) if statement.is_server() => "has neither test nor reason",
            _ => continue,
        };
        faults.push(format!("{} {} {fault}", statement.version, statement.id));
    }
    for (version, id) in vectors.iter().flat_map(|vector| &vector.statements) {
        if !statements.iter().any(|s| s.version == version && s.id == id) {
            faults.push(format!("{version} {id} does not exist"));
        }
    }
    let all = statements.iter().filter(|statement| statement.is_server()).count();
    (faults, 100.0 * proven as f64 / all as f64)
}

/// The page.
pub fn page(vectors: &[Vector]) -> String {
    let (statements, proofs) = (statements(), proofs(vectors));
    let mut page = String::from(concat!(
        "# Conformance\n\n",
        "Made from `tests/data/mqtt-statements.txt`, the vectors in `tests/conformance/vectors` ",
        "and the tests that cite statements;\n",
        "`CORELANE_BLESS=1 cargo test --test conformance page` makes it anew.\n\n",
        "A vector is bytes in and bytes expected. Each one runs against one shard and two shards ",
        "under virtual time and, where it\n",
        "needs no long time, over sockets against the binary with two shards: packets whole, byte ",
        "by byte, and joined in one segment.\n\n",
    ));
    let runs: usize = vectors.iter().map(|vector| vector.versions.len()).sum();
    let _ = writeln!(page, "{} vectors, {runs} with their versions.\n", vectors.len());
    page.push_str(
        "| standard | statements for a server | proven | per cent |\n|---|---|---|---|\n",
    );
    for version in STANDARDS {
        let own = |s: &&Statement| s.version == version && s.is_server();
        let all = statements.iter().filter(own).count();
        let key = |s: &Statement| (s.version.to_owned(), s.id.to_owned());
        let proven = statements.iter().filter(own).filter(|s| proofs.contains_key(&key(s))).count();
        let share = 100.0 * proven as f64 / all as f64;
        let _ = writeln!(page, "| MQTT {version} | {all} | {proven} | {share:.1} |");
    }
    pending(&mut page, vectors);
    for version in STANDARDS {
        let _ =
            writeln!(page, "\n## MQTT {version}\n\n| statement | sense | proof |\n|---|---|---|");
        for statement in statements.iter().filter(|statement| statement.version == version) {
            row(&mut page, statement, &proofs);
        }
    }
    page
}

fn pending(page: &mut String, vectors: &[Vector]) {
    for vector in vectors {
        if let Some(reason) = &vector.pending {
            let _ = writeln!(page, "\nNot yet as demanded: `{}` ({reason}).", vector.name);
        }
    }
}

fn row(page: &mut String, statement: &Statement, proofs: &Proofs) {
    let key = (statement.version.to_owned(), statement.id.to_owned());
    let names = |names: &BTreeSet<String>| {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let proof = match (proofs.get(&key), statement.side, statement.reason) {
        (Some(found), ..) => names(found),
        (None, _, Some(reason)) => format!("none: {reason}"),
        (None, "client", None) => "binds clients only".to_owned(),
        (None, ..) => "nothing to test".to_owned(),
    };
    let _ = writeln!(page, "| {} | {} | {proof} |", statement.id, statement.sense);
}
