//! Patterns of client identifiers.

/// Client identifiers that a rule is for: a text in which `*` stands for any characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientPattern(Box<str>);

impl ClientPattern {
    /// The pattern `text`; every text is one.
    pub fn new(text: &str) -> ClientPattern {
        ClientPattern(text.into())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern is for `client_id`.
    pub fn matches(&self, client_id: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = client_id.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, behind)) = rest.split_once(piece) else { return false };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

impl Default for ClientPattern {
    fn default() -> ClientPattern {
        ClientPattern("*".into())
    }
}
