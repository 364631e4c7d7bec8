//! Who a certificate says its owner is, for access control and for choosing by server name.
//!
//! Invariants worth naming:
//! * whatever the bytes are, there is an answer and no panic;
//! * what is longer than a limit is left out, never cut: two owners never look alike.

use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

/// Bytes of a certificate that are read at most.
const CERTIFICATE_MAX: usize = 64 * 1024;
/// Bytes of a subject's text at most.
const SUBJECT_MAX: usize = 4096;
/// Alternative names that are read at most.
const NAMES_MAX: usize = 256;
/// Bytes of a common name or an alternative name at most.
const NAME_MAX: usize = 1024;
/// Attribute types with a short name: those of RFC 4514 section 3, and two that are common in
/// certificates of devices.
const SHORT_NAMES: [(&str, &str); 11] = [
    (COMMON_NAME, "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.5", "serialNumber"),
];
const COMMON_NAME: &str = "2.5.4.3";

/// A name from the extension of alternative names, RFC 5280 section 4.2.1.6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// A host name, maybe with a leading `*`.
    Dns(String),
    /// A mail address.
    Email(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
}

/// From when to when a certificate is good, in seconds since 1970, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub begin_s: i64,
    /// The last second.
    pub end_s: i64,
}

/// The subject's first common name; `None` when there is none, when it is empty, no text, has a
/// control character in it or is longer than 1024 bytes.
pub fn subject_common_name(der: &[u8]) -> Option<String> {
    let certificate = parsed(der)?;
    let attribute = certificate.subject().iter_common_name().next()?;
    attribute.as_str().ok().and_then(name)
}

/// The subject as RFC 4514 writes it: last part first, like `CN=sensor,O=Example,C=SE`. Empty when
/// the certificate cannot be read or the text would be longer than 4096 bytes.
pub fn subject(der: &[u8]) -> String {
    let mut text = String::new();
    let Some(certificate) = parsed(der) else { return text };
    let parts: Vec<_> = certificate.subject().iter_rdn().collect();
    for part in parts.into_iter().rev() {
        for (at, attribute) in part.iter().enumerate() {
            if !text.is_empty() {
                text.push(if at == 0 { ',' } else { '+' });
            }
            append_attribute(attribute, &mut text);
            if text.len() > SUBJECT_MAX {
                return String::new();
            }
        }
    }
    text
}

/// The host names, mail addresses and URIs among the alternative names, in order, 256 at most;
/// without those that are empty, have control characters in them or are longer than 1024 bytes.
pub fn alternative_names(der: &[u8]) -> Vec<AlternativeName> {
    let Some(certificate) = parsed(der) else { return Vec::new() };
    let extensions =
        certificate.iter_extensions().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    extensions.flatten().filter_map(alternative_name).take(NAMES_MAX).collect()
}

/// From when to when the certificate is good, if it can be read.
pub fn validity(der: &[u8]) -> Option<Validity> {
    let certificate = parsed(der)?;
    let validity = certificate.validity();
    let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Some(Validity { begin_s: begin, end_s: end })
}

fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    if der.len() > CERTIFICATE_MAX {
        return None;
    }
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

fn name(text: &str) -> Option<String> {
    let good = !text.is_empty() && text.len() <= NAME_MAX && !text.chars().any(char::is_control);
    good.then(|| text.to_owned())
}

fn alternative_name(general: &GeneralName<'_>) -> Option<AlternativeName> {
    match general {
        GeneralName::DNSName(text) => name(text).map(AlternativeName::Dns),
        GeneralName::RFC822Name(text) => name(text).map(AlternativeName::Email),
        GeneralName::URI(text) => name(text).map(AlternativeName::Uri),
        _ => None,
    }
}

/// Appends `type=value`, RFC 4514 sections 2.3 and 2.4.
fn append_attribute(attribute: &AttributeTypeAndValue<'_>, text: &mut String) {
    let kind = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(id, _)| *id == kind).map(|(_, short)| *short);
    text.push_str(short.unwrap_or(&kind));
    text.push('=');
    match (short, attribute.as_str()) {
        (Some(_), Ok(value)) => append_escaped(value, text),
        _ => append_hex(attribute, text),
    }
}

fn append_escaped(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let special = match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                text.push_str(&format!("\\{byte:02X}"));
            }
        } else {
            text.push(c);
        }
    }
}

/// Appends `#` and the value's whole encoding.
fn append_hex(attribute: &AttributeTypeAndValue<'_>, text: &mut String) {
    let value = attribute.attr_value();
    let content = value.data;
    text.push('#');
    let header = &value.header;
    let kind = (header.class() as u32) << 6 | u32::from(header.is_constructed()) << 5;
    text.push_str(&format!("{:02X}", kind | (header.tag().0 & 0x1F)));
    match content.len() {
        short @ ..0x80 => text.push_str(&format!("{short:02X}")),
        middle @ ..0x100 => text.push_str(&format!("81{middle:02X}")),
        long => text.push_str(&format!("82{long:04X}")),
    }
    for byte in content.iter().take(SUBJECT_MAX) {
        text.push_str(&format!("{byte:02X}"));
    }
}
