//! Names in checked form: of listeners and providers, of share groups, of whole topic levels, of
//! files and web addresses, and plain texts.

use super::key::Key;
use super::read::{Given, Scan};
use super::setting::{Setting, Wrong, filed, text};

/// Makes settings of texts in checked form: the type, what is written as its value, and an example.
macro_rules! texts {
    ($($type:ident, $kind:literal, $example:literal;)+) => { $(
        impl Setting for $type {
            fn kind() -> String {
                $kind.into()
            }

            fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
                filed(text(given.value, $example, $type::new), given, scan)
            }

            fn show(&self) -> String {
                format!("{:?}", self.0)
            }
        }
    )+ };
}
texts! {
    Label, "string", "a name such as \"tcp\"";
    TopicPrefix, "topic prefix", "a prefix such as \"a/b\"";
    GroupLabel, "share group", "a name such as \"workers\"";
    Url, "web address", "\"https://auth.example/mqtt\"";
    FileName, "file name", "a name such as \"users.txt\"";
    Text, "string", "a string such as \"a\"";
}

/// Name of a listener or a provider in logs and counters: 1 to 32 lower-case letters, digits, `-`
/// and `_`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label(String);

impl Label {
    /// Checks `text`. Errors say what is wrong and what to write.
    pub fn new(text: &str) -> Result<Label, Wrong> {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 32 || !text.chars().all(allowed) {
            let reason = format!("\"{text}\" is not a name for logs");
            return Err((reason, "use 1 to 32 of a-z, 0-9, - and _".into()));
        }
        Ok(Label(text.into()))
    }

    /// A name that is known to be one.
    pub(super) fn named(text: &'static str) -> Label {
        Label(text.into())
    }

    /// The name of listener `at`, counted from 0, where none was given: `tcp`, then `tcp-1`.
    pub fn numbered(at: usize) -> Label {
        if at == 0 { Label::default() } else { Label(format!("tcp-{at}")) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Label {
    fn default() -> Label {
        Label("tcp".into())
    }
}

/// Whole literal levels at the begin of topics: `a/b` means `a/b` and everything under it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct TopicPrefix(String);

impl TopicPrefix {
    /// Checks `text`. Errors say what is wrong and what to write.
    pub fn new(text: &str) -> Result<TopicPrefix, Wrong> {
        let wrong = |reason: String, remedy: &str| Err((reason, remedy.to_string()));
        match text {
            "" => wrong("the prefix is empty".into(), "name at least one level, such as \"a\""),
            _ if text.contains(['+', '#']) => {
                let reason = format!("\"{text}\" holds a wildcard");
                wrong(reason, "write the literal levels only; everything under them is meant")
            }
            _ if text.ends_with('/') => {
                wrong(format!("\"{text}\" ends in an empty level"), "leave out the last /")
            }
            _ if text.contains('\0') || text.len() > 65_535 => {
                wrong("no topic can begin like this".into(), "use at most 65535 bytes without NUL")
            }
            _ => Ok(TopicPrefix(text.into())),
        }
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels of the prefix.
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.0.split('/')
    }
}

/// Name of a share group: one topic level without wildcards [MQTT-4.8.2-2].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupLabel(String);

impl GroupLabel {
    /// Checks `text`. Errors say what is wrong and what to write.
    pub fn new(text: &str) -> Result<GroupLabel, Wrong> {
        if text.is_empty() || text.contains(['/', '+', '#', '\0']) {
            let reason = format!("{text:?} is not the name of a share group");
            return Err((reason, "write what stands between $share/ and the filter".into()));
        }
        Ok(GroupLabel(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text of at most 65,535 bytes without NUL, as MQTT can carry it; empty means that there is
/// none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Text(String);

impl Text {
    /// Checks `text`. Errors say what is wrong and what to write.
    pub fn new(text: &str) -> Result<Text, Wrong> {
        if text.contains('\0') || text.len() > 65_535 {
            let remedy = "use at most 65535 bytes without NUL";
            return Err(("MQTT can't carry this text".into(), remedy.into()));
        }
        Ok(Text(text.into()))
    }

    /// A text that is known to be one.
    pub(super) fn fixed(text: &'static str) -> Text {
        Text(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, if it is not empty.
    pub fn given(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}

/// Where something is fetched from, `http://` or `https://`; empty means that there is nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Url(String);

impl Url {
    /// Checks `text`. Errors say what is wrong and what to write.
    pub fn new(text: &str) -> Result<Url, Wrong> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let remedy = || "write \"https://auth.example/mqtt\" or \"http://127.0.0.1:8080/\"".into();
        let Some(rest) = rest else {
            return Err((format!("\"{text}\" begins with no http:// or https://"), remedy()));
        };
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let odd = text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
        if host.is_empty() || odd {
            return Err((format!("\"{text}\" is no web address"), remedy()));
        }
        if host.contains('@') {
            // It would stand in logs and in this file.
            let reason = "a secret in a web address is seen by all who see the address".into();
            return Err((reason, "write the address without user and password".into()));
        }
        Ok(Url(text.into()))
    }

    /// The address, if there is one.
    pub fn given(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&self.0)
    }

    /// Whether what is sent there is encrypted on its way.
    pub fn is_encrypted(&self) -> bool {
        self.0.starts_with("https://")
    }
}

/// The name of a file; empty means that there is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileName(String);

impl FileName {
    /// Checks `text`. Errors say what is wrong and what to write.
    pub fn new(text: &str) -> Result<FileName, Wrong> {
        match text.contains('\0') {
            true => Err(("no file has a name with NUL".into(), "name a file".into())),
            false => Ok(FileName(text.into())),
        }
    }

    /// The name, if there is one.
    pub fn given(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}
