//! Just enough of Rust's lexical rules to look at a file without its words: comments and
//! literals are blanked, paths are read with their `use` trees expanded, and the lines that are
//! compiled for tests alone are told apart.

use std::iter::Peekable;
use std::str::CharIndices;

/// A path as it stands in the code, `use` trees expanded: `std::net::SocketAddr`.
pub struct CodePath {
    /// Line of the last segment, from zero.
    pub line: usize,
    /// The segments in order.
    pub segments: Vec<String>,
}

/// The text with comments, strings and character literals replaced by spaces; lines stay.
pub fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = if is_word(before) { None } else { prefixed_literal(rest) };
        let length = length.or_else(|| plain_literal(rest)).unwrap_or(0);
        if length > 0 {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            before = ' ';
        } else {
            out.push(first);
            before = first;
        }
        rest = &rest[length.max(first.len_utf8() * usize::from(length == 0))..];
    }
    out
}

/// Length of a raw, byte or C literal that starts here.
fn prefixed_literal(rest: &str) -> Option<usize> {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    if prefix == 0 || prefix > 2 {
        return None;
    }
    let body = &rest[prefix..];
    if !rest[..prefix].contains('r') {
        let literal = matches!(body.chars().next(), Some('"' | '\''));
        return if literal { plain_literal(body).map(|length| prefix + length) } else { None };
    }
    let hashes = body.len() - body.trim_start_matches('#').len();
    if !body[hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let inner = &body[hashes + 1..];
    let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
    Some(prefix + hashes + 1 + length)
}

/// Length of a comment, string or character literal that starts here.
fn plain_literal(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    let mut chars = rest.char_indices().skip(1);
    let (_, inner) = (rest.starts_with('\'')).then(|| chars.next())??;
    let (_, after) = chars.next()?;
    // `'a'` is a character, `'a` alone a lifetime.
    (inner == '\\' || after == '\'').then(|| quoted(rest, '\''))
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether `c` may stand in an identifier.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// All paths of a blanked text.
pub fn paths(code: &str) -> Vec<CodePath> {
    let mut reader = PathReader { chars: code.char_indices().peekable(), line: 0, found: vec![] };
    while let Some((_, c)) = reader.chars.peek().copied() {
        if is_word(c) {
            reader.path(&[]);
        } else {
            reader.next();
        }
    }
    reader.found
}

struct PathReader<'a> {
    chars: Peekable<CharIndices<'a>>,
    line: usize,
    found: Vec<CodePath>,
}

impl PathReader<'_> {
    fn next(&mut self) -> Option<char> {
        let (_, c) = self.chars.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| is_word(*c)) {
            word.push(c);
            self.next();
        }
        word
    }

    /// Eats `::` if it comes next.
    fn separator(&mut self) -> bool {
        let mut ahead = self.chars.clone();
        let next = (ahead.next().map(|(_, c)| c), ahead.next().map(|(_, c)| c));
        let found = next == (Some(':'), Some(':'));
        if found {
            self.next();
            self.next();
        }
        found
    }

    /// Reads one path that begins here, and the tree at its end if there is one.
    fn path(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        loop {
            segments.push(self.word());
            if !self.separator() {
                break;
            }
            match self.peek() {
                Some('{') => return self.tree(&segments),
                Some(c) if is_word(c) => {}
                _ => break,
            }
        }
        self.found.push(CodePath { line: self.line, segments });
    }

    fn tree(&mut self, prefix: &[String]) {
        self.next();
        loop {
            self.skip_spaces();
            match self.peek() {
                Some(c) if is_word(c) => {
                    self.path(prefix);
                    self.skip_rename();
                }
                Some(',' | '*') => {
                    self.next();
                }
                Some('}') => {
                    self.next();
                    return;
                }
                _ => return,
            }
        }
    }

    /// Skips ` as name`.
    fn skip_rename(&mut self) {
        while self.peek().is_some_and(|c| is_word(c) || c.is_whitespace()) {
            self.next();
        }
    }
}

/// For each line, whether it belongs to an item marked `#[cfg(test)]` or `#[test]`.
pub fn test_lines(code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut marked = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        if is_test_mark(lines[at]) {
            let end = item_end(&lines, at);
            marked[at..=end].fill(true);
            at = end;
        }
        at += 1;
    }
    marked
}

/// Whether the line is an attribute that keeps what follows to test builds.
pub fn is_test_mark(line: &str) -> bool {
    let mark = line.trim();
    mark == "#[test]" || mark.starts_with("#[cfg(test)]") || mark.starts_with("#[cfg(all(test")
}

/// Last line of the item whose attribute stands on line `start`.
pub fn item_end(lines: &[&str], start: usize) -> usize {
    let mut depth = 0_i32;
    for (at, line) in lines.iter().enumerate().skip(start) {
        let mut body = false;
        for c in line.chars() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            body |= (c == '}' || c == ';') && depth == 0;
        }
        if body {
            return at;
        }
    }
    lines.len() - 1
}
