//! The page docs/CONFORMANCE.md: every statement, what proves it, or why nothing does.
//!
//! Invariants worth naming: a statement of a server without a proof needs a reason; a reason beside
//! a proof is a fault; what is not applicable counts neither way, and tests that cite it only guard
//! that it stays so; a pending vector proves nothing; a citation in other tests counts only where
//! its number exists in one of the two standards alone, because the numbers differ.

use crate::live::not_live;
use crate::script::Vector;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Per cent of the statements that apply to this server that tests have to prove.
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

    /// Why its condition never holds here.
    fn inapplicable(&self) -> Option<&'static str> {
        self.reason?.strip_prefix("n/a: ")
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
        if line.trim() == "#[test]" {
            (is_test, test) = (true, None);
        }
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
            let standards = STANDARDS.iter().filter(|version| {
                statements().iter().any(|s| s.version == **version && s.id == id)
            });
            let standards: Vec<_> = standards.collect();
            // What carries the packets is the same for both.
            if standards.len() > 1 && !file.starts_with("src/transport/") {
                continue;
            }
            for version in standards {
                let place = ((*version).to_string(), id.clone());
                found.entry(place).or_default().insert(test.clone());
            }
        }
    }
}

/// How many statements of a server there are, apply, and are proven.
struct Count {
    all: usize,
    applicable: usize,
    proven: usize,
}

impl Count {
    fn of<'s>(statements: impl Iterator<Item = &'s Statement>, proofs: &Proofs) -> Count {
        let mut count = Count { all: 0, applicable: 0, proven: 0 };
        for statement in statements.filter(|statement| statement.is_server()) {
            count.all += 1;
            if statement.inapplicable().is_none() {
                let key = (statement.version.to_owned(), statement.id.to_owned());
                count.applicable += 1;
                count.proven += usize::from(proofs.contains_key(&key));
            }
        }
        count
    }

    fn coverage(&self) -> f64 {
        100.0 * self.proven as f64 / self.applicable as f64
    }
}

/// Faults of table and vectors, and the lower coverage of the two standards in per cent.
pub fn judge(vectors: &[Vector]) -> (Vec<String>, f64) {
    let (statements, proofs) = (statements(), proofs(vectors));
    let mut faults = Vec::new();
    for statement in statements.iter().filter(|s| s.inapplicable().is_none()) {
        let key = (statement.version.to_owned(), statement.id.to_owned());
        let fault = match (proofs.contains_key(&key), statement.reason) {
            (true, Some(_)) => "is proven, yet has a reason why not",
            (false, None) if statement.is_server() => "has neither test nor reason",
            _ => continue,
        };
        faults.push(format!("{} {} {fault}", statement.version, statement.id));
    }
    for vector in vectors {
        for (version, id) in &vector.statements {
            if !statements.iter().any(|s| s.version == version && s.id == id) {
                faults.push(format!("{version} {id} does not exist"));
            }
            if !vector.versions.iter().any(|played| played.standard() == Some(version)) {
                faults.push(format!("{} is not played with {version}", vector.name));
            }
        }
    }
    let of = |version| Count::of(statements.iter().filter(|s| s.version == version), &proofs);
    let coverage = STANDARDS.map(|version| of(version).coverage());
    (faults, coverage.into_iter().fold(100.0, f64::min))
}

/// The page.
pub fn page(vectors: &[Vector]) -> String {
    let (statements, proofs) = (statements(), proofs(vectors));
    let mut page = String::from(concat!(
        "# Conformance\n\n",
        "Made from `tests/data/mqtt-statements.txt`, the vectors in `tests/conformance/vectors` ",
        "and the tests that cite statements;\n",
        "`CORELANE_BLESS=1 cargo test --test conformance page` makes it anew.\n\n",
        "A vector is bytes in and bytes expected, and the configuration they are for. Each one ",
        "runs against one shard and two\n",
        "shards under virtual time and, where it needs no long time, over sockets against the ",
        "binary with two shards: packets\nwhole, byte by byte, and joined in one segment.\n\n",
    ));
    let runs: usize = vectors.iter().map(|vector| vector.versions.len()).sum();
    let virtual_only = vectors.iter().filter(|vector| not_live(vector).is_some()).count();
    let _ = writeln!(
        page,
        "{} vectors, {runs} with their versions. {virtual_only} need more time than a test over \
         sockets may take\nand run under virtual time only.\n",
        vectors.len()
    );
    page.push_str(concat!(
        "Not applicable are statements whose condition never holds for this broker; the tests ",
        "named with them show that it\n",
        "stays so. The first percentage leaves them out, the second takes ",
        "them for unproven.\n\n",
        "| standard | statements for a server | not applicable | proven | per cent | of all |\n",
        "|---|---|---|---|---|---|\n",
    ));
    for version in STANDARDS {
        let count = Count::of(statements.iter().filter(|s| s.version == version), &proofs);
        let Count { all, applicable, proven } = count;
        let (idle, share) = (all - applicable, 100.0 * proven as f64 / all as f64);
        let coverage = count.coverage();
        let _ = writeln!(
            page,
            "| MQTT {version} | {all} | {idle} | {proven} | {coverage:.1} | {share:.1} |"
        );
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
    let found = proofs.get(&key).map(names);
    let proof = match (found, statement.inapplicable(), statement.reason) {
        (Some(found), Some(why), _) => format!("not applicable: {why} ({found})"),
        (None, Some(why), _) => format!("not applicable: {why}"),
        (Some(found), ..) => found,
        (None, None, Some(reason)) => format!("none: {reason}"),
        (None, None, None) if statement.side == "client" => "binds clients only".to_owned(),
        (None, None, None) => "nothing to test".to_owned(),
    };
    let _ = writeln!(page, "| {} | {} | {proof} |", statement.id, statement.sense);
}
