//! The files that the configuration names: users with their passwords, and further rules.

use super::settings::ChainSettings;
use super::tls::{self, ListenerTls};
use crate::access::{Acl, Ban, Group, Policy, Rule, Tolerance, Users};
use crate::config::{self, AccessConfig, AclRule, Config, DeniedPublish, FileName, GroupConfig};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file can't be used: every fault of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, each with its line where it has one and what mends it.
    pub faults: Vec<String>,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.faults.join("; "))
    }
}

impl std::error::Error for ReadError {}

/// What is known about who may come in and what they may do, files included.
#[derive(Clone, Default, Debug)]
pub struct Provisions {
    /// For the cores.
    pub policy: Arc<Policy>,
    /// For the threads that check.
    pub(super) chains: ChainSettings,
    /// TLS of each listener that has it.
    pub tls: Vec<Option<ListenerTls>>,
    /// Where the names of files count from.
    pub directory: PathBuf,
}

impl Provisions {
    /// Reads what `config` names; file names count from `directory`.
    ///
    /// # Errors
    /// A file can't be read or has faults.
    pub fn read(config: &Config, directory: &Path) -> Result<Provisions, ReadError> {
        let file = |name: &FileName| name.given().map(|name| directory.join(name));
        let users = match file(&config.access.password_file) {
            Some(path) => Some(Arc::new(users(&path)?)),
            None => None,
        };
        let file_rules = match file(&config.access.acl_file) {
            Some(path) => rules(&path, config)?,
            None => Vec::new(),
        };
        let chains = ChainSettings::read(config, users, directory)?;
        let AccessConfig { window_s, ban_s, .. } = config.access;
        let tolerance = |most| Tolerance { most, window_s, ban_s };
        let policy = Policy {
            acl: Acl::new(config.acl.iter().chain(&file_rules).map(Rule::from).collect()),
            closes_denied: config.access.denied_publish == DeniedPublish::Close,
            asks: chains.chains.iter().map(|chain| !chain.is_empty()).collect(),
            bans: config.ban.iter().map(Ban::from).collect(),
            groups: config.group.iter().map(group).collect(),
            obscures: config.access.obscure_refusals,
            origin_s: 0,
            guesses: tolerance(config.access.max_failures),
            flaps: tolerance(config.access.max_connects),
        };
        let tls = config.listeners.iter().map(|listener| tls::read(listener, directory));
        let tls = tls.collect::<Result<_, _>>()?;
        let (policy, directory) = (Arc::new(policy), directory.into());
        Ok(Provisions { policy, chains, tls, directory })
    }

    /// The users of the password file, if there is one.
    pub fn users(&self) -> Option<&Users> {
        self.chains.users()
    }
}

fn group(group: &GroupConfig) -> Group {
    Group { name: group.name.as_str().into(), users: group.users.as_slice().into() }
}

fn text(path: &Path) -> Result<String, ReadError> {
    std::fs::read_to_string(path).map_err(|error| ReadError {
        file: path.into(),
        faults: vec![format!("can't be read: {error}; name a readable file")],
    })
}

fn users(path: &Path) -> Result<Users, ReadError> {
    Users::parse(&text(path)?).map_err(|faults| ReadError {
        file: path.into(),
        faults: faults.iter().map(ToString::to_string).collect(),
    })
}

fn rules(path: &Path, config: &Config) -> Result<Vec<AclRule>, ReadError> {
    let faulty = |faults: &[config::Fault]| ReadError {
        file: path.into(),
        faults: faults.iter().map(ToString::to_string).collect(),
    };
    config::acl(&text(path)?, &config.listeners).map_err(|faults| faulty(&faults))
}
