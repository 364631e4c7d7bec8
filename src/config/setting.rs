//! How single values are read from TOML and written back.

use super::choice::{
    BodyFormat, CertificateUser, Choice, DeniedPublish, Effect, LateOverflow, LogFormat, LogLevel,
    Overflow, Profile, ProtocolVersion, Redirect, RetainFlag, RewriteAction, Route, SendRetained,
    Sleep, TlsClientCertificate, TlsVersion, TokenField, TopicAction,
};
use super::key::{Bounds, Key, Section};
use super::read::{Given, Scan};
use crate::index::ShareStrategy;
use std::net::SocketAddr;
use std::str::FromStr;
use toml::de::DeValue;

/// A value that a key can hold.
pub trait Setting: Sized {
    /// What is written as a value, in words.
    fn kind() -> String;
    /// Reads the value; a fault goes to `scan`.
    fn read(given: &Given<'_>, key: &Key, scan: &mut Scan) -> Option<Self>;
    /// The value as TOML text.
    fn show(&self) -> String;
}

/// Why a value can't be taken, and what to write instead.
pub type Wrong = (String, String);

/// The fault of a value with the wrong TOML type.
pub(super) fn wrong_type(value: &DeValue<'_>, wanted: &str, example: &str) -> Wrong {
    let article = if value.type_str().starts_with(['a', 'i']) { "an" } else { "a" };
    (format!("{article} {} where {wanted} belongs", value.type_str()), format!("write {example}"))
}

/// Reads a number within the bounds of `key`.
fn number(value: &DeValue<'_>, key: &Key, largest_held: u64) -> Result<u64, Wrong> {
    let example = key.default.as_deref().unwrap_or("1");
    let Some(digits) = value.as_integer() else {
        return Err(wrong_type(value, "an integer", &format!("a number such as {example}")));
    };
    let (smallest, largest) = match key.bounds {
        Bounds::Free => (0, largest_held),
        Bounds::Within(smallest, largest) | Bounds::PowerOfTwo(smallest, largest) => {
            (smallest, largest.min(largest_held))
        }
    };
    let powers = matches!(key.bounds, Bounds::PowerOfTwo(..));
    let range = format!("{smallest}..={largest}");
    let remedy =
        if powers { format!("use a power of two in {range}") } else { format!("use {range}") };
    let number = i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX);
    if number < i128::from(smallest) {
        return Err((format!("{digits} is below the smallest allowed value {smallest}"), remedy));
    }
    match u64::try_from(number).ok().filter(|number| *number <= largest) {
        None => Err((format!("{digits} is above the largest allowed value {largest}"), remedy)),
        Some(number) if powers && !number.is_power_of_two() => {
            let near = nearest_power(number).clamp(smallest, largest);
            Err((format!("{digits} is not a power of two"), format!("{remedy}, such as {near}")))
        }
        Some(number) => Ok(number),
    }
}

/// The power of two next above `number`.
fn nearest_power(number: u64) -> u64 {
    number.checked_next_power_of_two().unwrap_or(1 << 63)
}

/// Passes a value on or files its fault.
pub(super) fn filed<T>(read: Result<T, Wrong>, given: &Given<'_>, scan: &mut Scan) -> Option<T> {
    read.map_err(|(reason, remedy)| scan.fault(given, reason, remedy)).ok()
}

macro_rules! numbers {
    ($($type:ty),+) => { $(
        impl Setting for $type {
            fn kind() -> String {
                "integer".into()
            }

            fn read(given: &Given<'_>, key: &Key, scan: &mut Scan) -> Option<Self> {
                let read = number(given.value, key, <$type>::MAX as u64);
                filed(read, given, scan).and_then(|number| <$type>::try_from(number).ok())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+ };
}
numbers!(u8, u16, u32, usize);

impl Setting for bool {
    fn kind() -> String {
        "`true` or `false`".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        let wrong = || wrong_type(given.value, "a boolean", "true or false, without quotes");
        filed(given.value.as_bool().ok_or_else(wrong), given, scan)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Reads a word out of the closed set of `T`.
fn word<T: Choice>(value: &DeValue<'_>) -> Result<T, Wrong> {
    let words: Vec<String> = T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let (last, others) = words.split_last().expect("a choice has words");
    let remedy = format!("{} or {last}", others.join(", "));
    let Some(text) = value.as_str() else {
        return Err(wrong_type(value, "one of a few words", &remedy));
    };
    let unknown =
        || (format!("\"{text}\" is not one of the words known here"), format!("write {remedy}"));
    T::from_word(text).ok_or_else(unknown)
}

macro_rules! words {
    ($($type:ty),+) => { $(
        impl Setting for $type {
            fn kind() -> String {
                let words = <$type>::WORDS.iter().map(|(word, _)| format!("`\"{word}\"`"));
                words.collect::<Vec<_>>().join(", ")
            }

            fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
                filed(word(given.value), given, scan)
            }

            fn show(&self) -> String {
                format!("\"{}\"", self.word())
            }
        }
    )+ };
}
words!(Sleep, LogFormat, LogLevel, Overflow, LateOverflow, Route, ProtocolVersion, Redirect);
words!(Profile, RewriteAction, SendRetained, ShareStrategy, Effect, TopicAction, RetainFlag);
words!(DeniedPublish, CertificateUser, TlsVersion, TlsClientCertificate, TokenField, BodyFormat);

/// Reads a string through `check`.
pub(super) fn text<T>(
    value: &DeValue<'_>,
    example: &str,
    check: impl Fn(&str) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    let text = value.as_str().ok_or_else(|| wrong_type(value, "a string", example))?;
    check(text)
}

impl Setting for SocketAddr {
    fn kind() -> String {
        "`\"ip:port\"`".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        filed(text(given.value, "\"127.0.0.1:1883\"", address), given, scan)
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// Parses `ip:port`. Errors say what is wrong and what to write.
pub fn address(text: &str) -> Result<SocketAddr, Wrong> {
    SocketAddr::from_str(text).map_err(|_| {
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        let named = host.chars().any(char::is_alphabetic) && !host.contains(':');
        let reason = match text {
            _ if text.parse::<std::net::IpAddr>().is_ok() => format!("\"{text}\" has no port"),
            _ if named => format!("\"{text}\" names a host, and names are not resolved"),
            _ => format!("\"{text}\" is not an IP address with a port"),
        };
        (reason, "write \"127.0.0.1:1883\", \"0.0.0.0:1883\" or \"[::1]:1883\"".into())
    })
}

impl<R: Section> Setting for Vec<R> {
    fn kind() -> String {
        let keys: Vec<&str> = R::keys().iter().map(|key| key.name).collect();
        format!("array of `{{ {} }}`", keys.join(", "))
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        Some(scan.repeated(given))
    }

    fn show(&self) -> String {
        let entry = |rule: &R| {
            let keys = R::keys().into_iter().zip(rule.shown());
            let pairs: Vec<String> =
                keys.map(|(key, value)| format!("{} = {value}", key.name)).collect();
            format!("{{ {} }}", pairs.join(", "))
        };
        format!("[{}]", self.iter().map(entry).collect::<Vec<_>>().join(", "))
    }
}
