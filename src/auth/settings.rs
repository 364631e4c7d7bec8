//! What those who check credentials are told: their keys of the configuration, and the files that
//! these name.

use super::keys::KeySet;
use super::read::ReadError;
use super::web;
use crate::access::Users;
use crate::config::{Config, FileName, HttpConfig, JwtConfig};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The bytes of a file that nobody should see; empty where there is none.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Secret(Box<[u8]>);

impl Secret {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Who believes tokens, in checked form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct JwtSettings {
    pub(super) config: JwtConfig,
    /// What is in its file of keys, whichever it is.
    pub(super) keys: Secret,
    pub(super) authorities: Secret,
}

/// Who asks a web service, in checked form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HttpSettings {
    pub(super) config: HttpConfig,
    pub(super) authorities: Secret,
    pub(super) authorization: Secret,
    /// Names of the listeners.
    pub(super) listeners: Vec<Box<str>>,
}

/// Who is asked about a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ProviderSettings {
    Password(Arc<Users>),
    Jwt(Box<JwtSettings>),
    Http(Box<HttpSettings>),
}

/// Who is asked about clients of each listener: numbers of providers, in order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct ChainSettings {
    pub(super) providers: Vec<ProviderSettings>,
    pub(super) chains: Vec<Vec<usize>>,
}

impl ChainSettings {
    /// Reads the files that `config` names for its providers; names count from `directory`.
    ///
    /// # Errors
    /// A file can't be read or is not what it should be.
    pub(super) fn read(
        config: &Config,
        users: Option<Arc<Users>>,
        directory: &Path,
    ) -> Result<ChainSettings, ReadError> {
        let names = config.providers();
        let mut providers: Vec<_> = users.into_iter().map(ProviderSettings::Password).collect();
        for jwt in &config.auth_jwt {
            providers.push(ProviderSettings::Jwt(Box::new(token_settings(jwt, directory)?)));
        }
        for http in &config.auth_http {
            let listeners = config.listeners.iter().map(|listener| listener.name.as_str().into());
            let authorization = contents(&http.authorization_file, directory)?;
            let (_, authorization) = authorization.unwrap_or_default();
            providers.push(ProviderSettings::Http(Box::new(HttpSettings {
                config: http.clone(),
                authorities: authorities(&http.ca_file, directory)?,
                authorization,
                listeners: listeners.collect(),
            })));
        }
        debug_assert_eq!(names.len(), providers.len(), "one for each name");
        let number = |name: &str| names.iter().position(|known| *known == name);
        let chains =
            config.listeners.iter().map(|listener| match listener.authentication.as_slice() {
                [] => (0..providers.len()).collect(),
                chosen => chosen.iter().filter_map(|name| number(name)).collect(),
            });
        let chains = chains.collect();
        Ok(ChainSettings { providers, chains })
    }

    /// The users of the password file, if there is one.
    pub(super) fn users(&self) -> Option<&Users> {
        self.providers.iter().find_map(|provider| match provider {
            ProviderSettings::Password(users) => Some(&**users),
            _ => None,
        })
    }
}

fn token_settings(jwt: &JwtConfig, directory: &Path) -> Result<JwtSettings, ReadError> {
    let faulty = |file: &Path, what| ReadError { file: file.into(), faults: vec![what] };
    let mut keys = Secret::default();
    if let Some((file, bytes)) = contents(&jwt.key_file, directory)? {
        let read = KeySet::of_file(bytes.bytes(), jwt.algorithms.as_slice());
        read.map_err(|what| faulty(&file, what))?;
        keys = bytes;
    }
    if let Some((file, bytes)) = contents(&jwt.jwks_file, directory)? {
        KeySet::of_jwks(bytes.bytes()).map_err(|what| faulty(&file, what))?;
        keys = bytes;
    }
    let authorities = authorities(&jwt.ca_file, directory)?;
    Ok(JwtSettings { config: jwt.clone(), keys, authorities })
}

fn authorities(name: &FileName, directory: &Path) -> Result<Secret, ReadError> {
    let Some((file, bytes)) = contents(name, directory)? else { return Ok(Secret::default()) };
    match web::authorities(bytes.bytes()) {
        Ok(_) => Ok(bytes),
        Err(what) => Err(ReadError { file, faults: vec![what] }),
    }
}

fn contents(
    name: &FileName,
    directory: &Path,
) -> Result<Option<(std::path::PathBuf, Secret)>, ReadError> {
    let Some(name) = name.given() else { return Ok(None) };
    let file = directory.join(name);
    match std::fs::read(&file) {
        Ok(bytes) => Ok(Some((file, Secret(bytes.into())))),
        Err(error) => {
            let faults = vec![format!("can't be read: {error}; name a readable file")];
            Err(ReadError { file, faults })
        }
    }
}
