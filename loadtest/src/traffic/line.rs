//! One event as one line, both ways.

use super::{Event, Greeting, Moment, Veil, Wish};
use corelane::codec::Version;
use corelane::topic::{Subscription, TopicName};
use std::fmt::Write;
use std::str::Split;

/// What a recording begins with.
pub const MAGIC: &str = "corelane-traffic 1";

/// The first line, with its end.
pub fn header(veil: &Veil) -> String {
    format!("{MAGIC} topics={}\n", if veil.keeps() { "kept" } else { "hashed" })
}

/// Appends a moment as a line, with its end.
pub fn print(moment: &Moment, out: &mut String) {
    let _ = write!(out, "{} {} ", moment.at_us, moment.connection);
    match &moment.event {
        Event::Connect { client, greeting, will } => {
            let _ = write!(
                out,
                "connect client={client} version={} clean={} keep_alive={} expiry={} will={}",
                version_name(greeting.version),
                u8::from(greeting.clean),
                greeting.keep_alive_s,
                greeting.expiry_s,
                u8::from(*will),
            );
        }
        Event::Subscribe(wishes) => {
            out.push_str("subscribe");
            for wish in wishes {
                let _ = write!(out, " {}{} ", wish.qos, if wish.no_local { "n" } else { "" });
                escape(&wish.filter, out);
            }
        }
        Event::Unsubscribe(filters) => {
            out.push_str("unsubscribe");
            for filter in filters {
                out.push(' ');
                escape(filter, out);
            }
        }
        Event::Publish { qos, retain, size, topic } => {
            let _ = write!(out, "publish {qos} {} {size} ", u8::from(*retain));
            escape(topic, out);
        }
        Event::Disconnect { clean } => {
            let _ = write!(out, "disconnect {}", u8::from(*clean));
        }
        Event::Undecoded(why) => {
            out.push_str("undecoded ");
            out.extend(why.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
    }
    out.push('\n');
}

/// Reads what [`print()`] wrote, without its line end.
///
/// # Errors
/// What is wrong and what belongs there.
pub fn parse(line: &str) -> Result<Moment, String> {
    let mut words = line.split(' ');
    let at_us = number(&mut words, "microseconds since the begin")?;
    let connection = number(&mut words, "the number of the connection")?;
    let event = match words.next() {
        Some("connect") => connect(&mut words)?,
        Some("subscribe") => subscribe(&mut words)?,
        Some("unsubscribe") => {
            let filters: Result<Vec<_>, _> = words.by_ref().map(filter).collect();
            Event::Unsubscribe(some(filters?, "unsubscribe")?)
        }
        Some("publish") => publish(&mut words)?,
        Some("disconnect") => Event::Disconnect { clean: flag(&mut words, "clean or not")? },
        Some("undecoded") => {
            let why: Vec<_> = words.by_ref().collect();
            Event::Undecoded(why.join(" "))
        }
        Some(other) => {
            return Err(format!(
                "`{other}` is no event: use connect, subscribe, unsubscribe, publish, disconnect \
                 or undecoded"
            ));
        }
        None => return Err("no event follows the connection".into()),
    };
    match words.next() {
        Some(more) => Err(format!("`{more}` stands behind the end of the event")),
        None => Ok(Moment { at_us, connection, event }),
    }
}

fn connect(words: &mut Split<'_, char>) -> Result<Event, String> {
    let client = number(&mut field(words, "client")?, "client=")?;
    let version = match field(words, "version")?.next() {
        Some("3.1") => Version::V31,
        Some("3.1.1") => Version::V311,
        Some("5") => Version::V5,
        _ => return Err("`version` is 3.1, 3.1.1 or 5".into()),
    };
    let greeting = Greeting {
        version,
        clean: flag(&mut field(words, "clean")?, "clean=")?,
        keep_alive_s: number(&mut field(words, "keep_alive")?, "keep_alive=")?,
        expiry_s: number(&mut field(words, "expiry")?, "expiry=")?,
    };
    Ok(Event::Connect { client, greeting, will: flag(&mut field(words, "will")?, "will=")? })
}

/// The value of `name=value`, as the rest of a line that holds nothing else.
fn field<'a>(words: &mut Split<'a, char>, name: &str) -> Result<Split<'a, char>, String> {
    let found = words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.map(|value| value.split(' ')).ok_or_else(|| format!("`{name}=` is missing in connect"))
}

fn subscribe(words: &mut Split<'_, char>) -> Result<Event, String> {
    let mut wishes = Vec::new();
    while let Some(options) = words.next() {
        let (digit, no_local) = match options.strip_suffix('n') {
            Some(digit) => (digit, true),
            None => (options, false),
        };
        let qos = qos(Some(digit))?;
        let named = words.next().ok_or("a filter is missing behind the last QoS")?;
        wishes.push(Wish { qos, no_local, filter: filter(named)? });
    }
    Ok(Event::Subscribe(some(wishes, "subscribe")?))
}

fn publish(words: &mut Split<'_, char>) -> Result<Event, String> {
    let qos = qos(words.next())?;
    let retain = flag(words, "the retain flag")?;
    let size = number(words, "payload bytes")?;
    let topic = unescape(words.next().ok_or("the topic is missing")?)?;
    TopicName::new(&topic).map_err(|error| format!("topic `{topic}`: {error}"))?;
    Ok(Event::Publish { qos, retain, size, topic })
}

fn filter(word: &str) -> Result<String, String> {
    let text = unescape(word)?;
    Subscription::parse(&text).map_err(|error| format!("filter `{text}`: {error}"))?;
    Ok(text)
}

fn some<T>(all: Vec<T>, what: &str) -> Result<Vec<T>, String> {
    if all.is_empty() { Err(format!("{what} names no filter")) } else { Ok(all) }
}

fn qos(word: Option<&str>) -> Result<u8, String> {
    match word {
        Some("0") => Ok(0),
        Some("1") => Ok(1),
        Some("2") => Ok(2),
        other => Err(format!("`{}` is no QoS: use 0, 1 or 2", other.unwrap_or_default())),
    }
}

fn flag(words: &mut Split<'_, char>, what: &str) -> Result<bool, String> {
    match words.next() {
        Some("0") => Ok(false),
        Some("1") => Ok(true),
        other => Err(format!("{what}: `{}` is neither 0 nor 1", other.unwrap_or_default())),
    }
}

/// A number without sign.
pub fn number<T: std::str::FromStr>(words: &mut Split<'_, char>, what: &str) -> Result<T, String> {
    let word = words.next().unwrap_or_default();
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = word.parse().ok().filter(|_| digits);
    parsed.ok_or_else(|| format!("{what}: `{word}` is no number in range"))
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if c == ' ' || c == '%' || c.is_ascii_control() {
            let _ = write!(out, "%{:02X}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

fn unescape(word: &str) -> Result<String, String> {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let code = after.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        let code = code.filter(u8::is_ascii);
        text.push(char::from(code.ok_or_else(|| format!("`{word}`: `%` needs two hex digits"))?));
        rest = &after[2..];
    }
    text.push_str(rest);
    Ok(text)
}
