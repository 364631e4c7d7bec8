//! From TOML text to a checked [`Config`], or to every fault of the text at once.

use super::fault::Fault;
use super::key::Section;
use super::read::{Given, Scan};
use super::relation;
use super::table::{AccessConfig, AclRule, ListenerConfig};
use super::{Config, Label};
use std::net::SocketAddr;
use toml::de::DeTable;

/// Names that may stand at the top of the text.
const SECTIONS: [&str; 14] = [
    "runtime",
    "listener",
    "access",
    "auth_jwt",
    "auth_http",
    "group",
    "ban",
    "acl",
    "topics",
    "session",
    "protocol",
    "limits",
    "sys",
    "log",
];

/// Reads a configuration. Keys left out have their defaults; the empty text is the default
/// configuration.
///
/// # Errors
/// Every fault of the text in the order of its lines.
pub fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    let mut scan = Scan::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let config = read(root.get_ref(), &mut scan);
    if errors.is_empty() {
        relation::check(&config, &mut scan);
    } else {
        refuse_syntax(&errors, &mut scan);
    }
    let faults = scan.into_faults();
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

/// The line of `text` on which the key at `path` is written, if it is; for faults that only the
/// host shows.
pub fn line_of(text: &str, path: &str) -> Option<usize> {
    let mut scan = Scan::new(text);
    let (root, _) = DeTable::parse_recoverable(text);
    read(root.get_ref(), &mut scan);
    scan.line_of(path)
}

fn read(root: &DeTable<'_>, scan: &mut Scan) -> Config {
    for name in root.keys().filter(|name| !SECTIONS.contains(&name.get_ref().as_ref())) {
        scan.unknown(name, "", SECTIONS.into_iter());
    }
    let access: AccessConfig = scan.table(root);
    let (auth_jwt, auth_http) = (repeated(root, scan), repeated(root, scan));
    let proven = access.password_file.given().is_some();
    let proven = proven || !(Vec::is_empty(&auth_jwt) && Vec::is_empty(&auth_http));
    Config {
        runtime: scan.table(root),
        listeners: listeners(root, proven, scan),
        access,
        auth_jwt,
        auth_http,
        group: repeated(root, scan),
        ban: repeated(root, scan),
        acl: repeated(root, scan),
        topics: scan.table(root),
        session: scan.table(root),
        protocol: scan.table(root),
        limits: scan.table(root),
        sys: scan.table(root),
        log: scan.table(root),
    }
}

/// Reads a file of rules, `[[acl]]` and nothing else, about clients of `listeners`.
///
/// # Errors
/// Every fault of the text in the order of its lines.
pub fn acl(text: &str, listeners: &[ListenerConfig]) -> Result<Vec<AclRule>, Vec<Fault>> {
    let mut scan = Scan::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let root = root.get_ref();
    for name in root.keys().filter(|name| name.get_ref() != AclRule::NAME) {
        scan.unknown(name, "", std::iter::once(AclRule::NAME));
    }
    let rules = repeated(root, &mut scan);
    if errors.is_empty() {
        relation::check_acl(&rules, listeners, &mut scan);
    } else {
        refuse_syntax(&errors, &mut scan);
    }
    let faults = scan.into_faults();
    if faults.is_empty() { Ok(rules) } else { Err(faults) }
}

fn repeated<S: Section>(root: &DeTable<'_>, scan: &mut Scan) -> Vec<S> {
    let name = S::NAME;
    let Some(value) = root.get(name) else { return Vec::new() };
    scan.repeated(&Given { value: value.get_ref(), span: value.span(), path: name.into() })
}

fn listeners(root: &DeTable<'_>, proven: bool, scan: &mut Scan) -> Vec<ListenerConfig> {
    let name = ListenerConfig::NAME;
    let Some(value) = root.get(name) else { return vec![ListenerConfig::default()] };
    let given = Given { value: value.get_ref(), span: value.span(), path: name.into() };
    let mut listeners: Vec<ListenerConfig> = scan.repeated(&given);
    for (at, listener) in listeners.iter_mut().enumerate() {
        let written = scan.line_of(&format!("{name}[{at}].allow_anonymous")).is_some();
        if let (false, Some((reason, remedy))) = (written, exposed(listener.address)) {
            if proven {
                listener.allow_anonymous = false;
                continue;
            }
            let key = format!("{name}[{at}].address");
            let remedy = format!("write allow_anonymous = true or false, {remedy}");
            scan.file(Fault { line: scan.line_of(&key), key, reason, remedy });
        }
    }
    if listeners.is_empty() { vec![ListenerConfig::default()] } else { listeners }
}

/// Why a listener at `address` has to say whether anonymous clients are let in, and the other way
/// out; `None` for addresses that only this host reaches.
fn exposed(address: SocketAddr) -> Option<(String, &'static str)> {
    let local = address.ip().to_canonical().is_loopback();
    let reason = || format!("{address} can be reached from other hosts");
    (!local).then(|| (reason(), "or listen on 127.0.0.1"))
}

/// A listener as the command line names it: `ip:port`, under the rule for anonymous clients.
///
/// # Errors
/// The address is none, or other hosts reach it and `allow_anonymous` was not typed.
pub fn listener(at: usize, text: &str, allow_anonymous: bool) -> Result<ListenerConfig, Fault> {
    let fault =
        |reason, remedy| Fault { line: None, key: format!("--listen {text}"), reason, remedy };
    let address =
        super::setting::address(text).map_err(|(reason, remedy)| fault(reason, remedy))?;
    match exposed(address) {
        Some((reason, remedy)) if !allow_anonymous => {
            Err(fault(reason, format!("add --allow-anonymous to let anyone in, {remedy}")))
        }
        _ => Ok(ListenerConfig { name: Label::numbered(at), address, ..ListenerConfig::default() }),
    }
}

/// Files the faults of TOML's own syntax. What else was found on such a line is an echo.
fn refuse_syntax(errors: &[toml::de::Error], scan: &mut Scan) {
    let line = |error: &toml::de::Error| error.span().map(|span| scan.line_at(span.start));
    let lines: Vec<usize> = errors.iter().filter_map(line).collect();
    scan.forgive(&lines);
    for error in errors {
        let line = error.span().map(|span| scan.line_at(span.start));
        let reason = format!("not TOML: {}", error.message().replace('\n', ", "));
        let remedy = "mend the line; strings stand in quotes, sections in brackets".into();
        scan.file(Fault { line, key: String::new(), reason, remedy });
    }
}
