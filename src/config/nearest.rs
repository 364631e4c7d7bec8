//! Finds the known key that a mistyped one was most probably meant to be.

/// The name in `known` nearest to `typed`, if one is near enough to suggest.
pub fn nearest<'k>(typed: &str, known: &[&'k str]) -> Option<&'k str> {
    let scored = known.iter().map(|name| (distance(typed, name), *name));
    let (steps, name) = scored.min_by_key(|(steps, _)| *steps)?;
    let longest = typed.chars().count().max(name.chars().count());
    let contained = typed.len() >= 3 && (name.contains(typed) || typed.contains(name));
    (steps * 3 <= longest || contained).then_some(name)
}

/// Insertions, deletions and replacements that turn `from` into `to` (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, left) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}
