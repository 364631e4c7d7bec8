//! Peer descriptors: how to start somebody else's broker, as a small TOML file.

use crate::broker::Descriptor;
use crate::scenario::Transport;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The shipped ones.
const SHIPPED: &[(&str, &str)] = &[
    ("mosquitto", include_str!("../peers/mosquitto.toml")),
    ("nats-server", include_str!("../peers/nats-server.toml")),
    ("rumqttd", include_str!("../peers/rumqttd.toml")),
    ("rmqttd", include_str!("../peers/rmqttd.toml")),
    ("aedes", include_str!("../peers/aedes.toml")),
];

/// A descriptor file. `{port}`, `{cpu}`, `{dir}` (a scratch directory) and `{config}` (the file
/// made of `config`) are filled in wherever they stand; so are `{transport}` and, where there is
/// TLS, the PEM files `{certificate}`, `{key}` and `{ca}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    /// What tables call it.
    name: String,
    /// Program and arguments.
    command: Vec<String>,
    /// Text of its configuration file, where it needs one.
    config: Option<String>,
    /// Its port where it cannot be told one; otherwise a free one is chosen.
    port: Option<u16>,
    /// A text of its output that says it is ready; without it, an accepted connection does.
    ready: Option<String>,
    /// How to get it, told when it is absent.
    install: Option<String>,
    /// What `{transport}` stands for with tls, ws or wss (with tcp, nothing); without this table,
    /// the name of the transport.
    #[serde(default)]
    transports: BTreeMap<Transport, String>,
}

/// The shipped descriptor of that name.
pub fn shipped(name: &str) -> Option<Result<Descriptor, String>> {
    let (_, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
    Some(parse(name, text))
}

/// Names of the shipped ones.
pub fn names() -> String {
    let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Reads a user's descriptor.
///
/// # Errors
/// The file cannot be read or is wrong; the text names the file and what is wrong.
pub fn read(path: &Path) -> Result<Descriptor, String> {
    let source = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{source}: {error}"))?;
    parse(&source, &text)
}

fn parse(source: &str, text: &str) -> Result<Descriptor, String> {
    let peer: Peer = toml::from_str(text).map_err(|error| format!("{source}: {error}"))?;
    if peer.name.is_empty() || peer.command.first().is_none_or(String::is_empty) {
        return Err(format!("{source}: `name` and `command` must not be empty"));
    }
    let wants_config = peer.command.iter().any(|word| word.contains("{config}"));
    if wants_config && peer.config.is_none() {
        return Err(format!("{source}: `command` names {{config}}, but `config` is missing"));
    }
    let Peer { name, command, config, port, ready, install, transports } = peer;
    let described = Descriptor::new(name, command);
    Ok(Descriptor { config, port, ready, install, transports, ..described })
}

/// Where a program is: as given if that is a path, else in PATH, where Debian keeps daemons, or
/// where cargo installs.
pub fn locate(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return path.is_file().then_some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    let mut places = std::env::split_paths(&path).chain(["/usr/sbin".into()]).chain(cargo);
    places.find_map(|place| Some(place.join(program)).filter(|path| path.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_descriptor_is_read_and_places_its_port() {
        for (name, _) in SHIPPED {
            let found = shipped(name).expect("shipped").expect(name);
            let text = format!("{:?}{:?}", found.command, found.config);
            assert!(found.name == *name && text.contains("{port}"), "{name}");
            assert!(found.install.is_some(), "{name}");
        }
    }

    #[test]
    fn a_wrong_descriptor_names_its_file_and_fault() {
        for (text, what) in [
            ("name = \"x\"\ncommand = []", "must not be empty"),
            ("name = \"x\"\ncommand = [\"a\", \"{config}\"]", "`config` is missing"),
            ("name = \"x\"\ncommand = [\"a\"]\nprot = 1", "prot"),
        ] {
            let error = parse("mine.toml", text).expect_err(what);
            assert!(error.contains("mine.toml") && error.contains(what), "{error}");
        }
    }

    #[test]
    fn programs_are_found_or_not() {
        assert!(locate("sh").is_some() && locate("/bin/sh").is_some());
        assert!(locate("no-such-broker").is_none() && locate("/no/such/broker").is_none());
    }
}
