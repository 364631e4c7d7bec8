//! An event as a line: `time LEVEL message name=value …`, or one JSON object with the same names.

use std::fmt::{Debug, Write};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::Event;
use tracing::field::{Field, Visit};

/// Most characters of a message and of a value.
const MESSAGE_CHARS: usize = 4096;
const VALUE_CHARS: usize = 512;

/// The event as a line.
pub fn of(json: bool, at: SystemTime, event: &Event<'_>) -> Vec<u8> {
    let mut fields = Fields { json, ..Fields::default() };
    event.record(&mut fields);
    let (level, target) = (event.metadata().level().as_str(), event.metadata().target());
    fields.line(at, level, target)
}

/// What an event says, without its fields.
pub fn message(event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    fields.message
}

/// A line of the log itself.
pub fn notice(json: bool, at: SystemTime, message: &str, like: Option<&str>) -> Vec<u8> {
    let mut fields = Fields { json, message: message.into(), rest: String::new() };
    if let Some(like) = like {
        fields.text("like", like);
    }
    fields.line(at, "WARN", "corelane::log")
}

#[derive(Default)]
struct Fields {
    json: bool,
    message: String,
    rest: String,
}

impl Fields {
    fn line(self, at: SystemTime, level: &str, target: &str) -> Vec<u8> {
        let Fields { json, message, rest } = self;
        let (time, mut line) = (timestamp(at), String::with_capacity(96 + rest.len()));
        if json {
            line += "{\"time\":\"";
            line += &time;
            line += "\",\"level\":\"";
            line += &level.to_lowercase();
            line += "\",\"target\":\"";
            line += target;
            line += "\",\"message\":";
            quote(&message, MESSAGE_CHARS, &mut line);
            line += &rest;
            line += "}\n";
        } else {
            line += &time;
            line += if level.len() < 5 { "  " } else { " " };
            line += level;
            line.push(' ');
            escape(&message, MESSAGE_CHARS, &mut line);
            line += &rest;
            line.push('\n');
        }
        line.into_bytes()
    }

    fn name(&mut self, name: &str) {
        if self.json {
            self.rest += ",\"";
            self.rest += name;
            self.rest += "\":";
        } else {
            self.rest.push(' ');
            self.rest += name;
            self.rest.push('=');
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".:_-/+@[]".contains(c);
        if !self.json && !value.is_empty() && value.len() <= VALUE_CHARS && value.chars().all(plain)
        {
            self.rest += value;
        } else {
            quote(value, VALUE_CHARS, &mut self.rest);
        }
    }

    fn bare(&mut self, field: &Field, value: impl std::fmt::Display) {
        self.name(field.name());
        // Writing to a string can't fail.
        let _ = write!(self.rest, "{value}");
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.into(),
            name => self.text(name, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }
}

fn quote(text: &str, most: usize, out: &mut String) {
    out.push('"');
    escape(text, most, out);
    out.push('"');
}

/// Appends `text` without anything that could end a string or a line, or that could make a
/// terminal show something else, as JSON escapes it.
fn escape(text: &str, most: usize, out: &mut String) {
    for (at, c) in text.chars().enumerate() {
        if at == most {
            out.push('…');
            return;
        }
        match c {
            '"' => *out += "\\\"",
            '\\' => *out += "\\\\",
            '\n' => *out += "\\n",
            c if c.is_control() || is_invisible(c) => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// Marks that turn the direction of text, and separators of lines: all below U+FFFF.
fn is_invisible(c: char) -> bool {
    let ranges = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    c == '\u{feff}' || ranges.iter().any(|range| range.contains(&c))
}

/// The time in UTC to the millisecond, as RFC 3339 has it.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let milli = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole cycles of 400 years first, so that no time makes this long.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    loop {
        let length = 365 + u64::from(is_leap(year));
        if days < length {
            break;
        }
        (year, days) = (year + 1, days - length);
    }
    let february = 28 + u64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    for (month, length) in (1..).zip(lengths) {
        if days < length {
            return (year, month, days + 1);
        }
        days -= length;
    }
    unreachable!("the days of a year are in its months")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_is_told_in_utc() {
        let told = |seconds, millis| {
            timestamp(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis))
        };
        assert_eq!(told(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(told(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(told(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(told(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(told(1_798_761_599, 999), "2026-12-31T23:59:59.999Z");
    }

    #[test]
    fn no_text_leaves_its_line_or_its_quotes() {
        let mut out = String::new();
        quote("a\"b\\c\nd\u{1b}[31m\u{202e}\u{7f}ä", 100, &mut out);
        assert_eq!(out, r#""a\"b\\c\nd\u001b[31m\u202e\u007fä""#);
        out.clear();
        quote("abcdef", 3, &mut out);
        assert_eq!(out, "\"abc…\"");
    }

    #[test]
    fn a_notice_has_the_same_names_in_both_forms() {
        let line = |json| {
            let line = notice(json, UNIX_EPOCH, "3 similar lines suppressed", Some("a b"));
            String::from_utf8(line).expect("text")
        };
        assert_eq!(
            line(false),
            "1970-01-01T00:00:00.000Z  WARN 3 similar lines suppressed like=\"a b\"\n"
        );
        assert_eq!(
            line(true),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\
             \"target\":\"corelane::log\",\"message\":\"3 similar lines suppressed\",\
             \"like\":\"a b\"}\n"
        );
    }
}
