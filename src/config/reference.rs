//! The reference page of the configuration, docs/CONFIG.md.

use super::key::{Bounds, Key, Reload, Shape};
use super::table::{SectionRows, sections};

const INTRO: &str = "\
# Configuration

corelane reads one TOML file: `corelane --config corelane.toml`. Every key may be left out; without
a file all defaults hold. `corelane check --config corelane.toml` names every fault with its line
and what to write instead, and says what the file means.

SIGHUP makes a running broker read the file again: it takes over the keys marked *Change: live* and
names all others whose values have changed; these, marked *restart*, take effect at the next start.
What a client was told when it connected stays so until it connects anew.

This page is written from the key table in `src/config/table.rs`;
`CORELANE_BLESS=1 cargo test --no-default-features config::` writes it anew.
";

/// The text of docs/CONFIG.md.
pub fn reference() -> String {
    let mut out = String::from(INTRO);
    for section in sections() {
        out.push_str(&heading(&section));
        for key in &section.keys {
            out.push_str(&entry(key));
        }
    }
    out
}

fn heading(section: &SectionRows) -> String {
    let SectionRows { name, shape, doc, .. } = section;
    let title = match shape {
        Shape::Table => format!("## `[{name}]`"),
        Shape::Repeated => format!("## `[[{name}]]`, any number of them"),
        Shape::Rule => format!("### Entries of `{name}`"),
    };
    format!("\n{title}\n\n{}\n", paragraph(doc))
}

fn entry(key: &Key) -> String {
    let title = match &key.default {
        Some(default) => format!("- **`{} = {default}`**", key.name),
        None => format!("- **`{}`** (must be written)", key.name),
    };
    let (unit, reload) = (key.unit, reload(key.reload));
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    let value = match key.bounds {
        Bounds::Free => format!("{}{unit}", key.kind),
        Bounds::Within(smallest, largest) => format!("{}, {smallest}..={largest}{unit}", key.kind),
        Bounds::PowerOfTwo(smallest, largest) => {
            format!("{}, power of two in {smallest}..={largest}{unit}", key.kind)
        }
    };
    let doc = paragraph(key.doc).replace('\n', "\n  ");
    format!("\n{title}\n  {doc}\n  Value: {value}. Change: {reload}.\n")
}

fn reload(reload: Reload) -> &'static str {
    match reload {
        Reload::Live => "live",
        Reload::Restart => "restart",
    }
}

/// Doc lines without the space that stands before each.
fn paragraph(doc: &str) -> String {
    doc.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}
