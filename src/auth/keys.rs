//! Keys that signatures of tokens are checked with: out of a file, or fetched and fetched again.

use super::settings::Secret;
use super::web;
use crate::config::{Choice, JwtConfig, TokenAlgorithm};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Shortest secret, in bytes: what HMAC with SHA-256 gives (RFC 7518, section 3.2).
const SECRET_MIN: usize = 32;
/// Unknown key identifiers make nobody fetch more often than this.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// First pause after a fetch that failed; it doubles up to the usual one.
const RETRY: Duration = Duration::from_secs(1);

/// One key.
struct TokenKey {
    id: Option<Box<str>>,
    /// Only for this one, if the set says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// Keys, and which are meant for which tokens. Pure value, shared by threads.
#[derive(Default)]
pub(super) struct KeySet(Vec<TokenKey>);

impl KeySet {
    /// The key of a file for `algorithms`, which are of one kind.
    ///
    /// # Errors
    /// What is wrong with the file, and what mends it.
    pub(super) fn of_file(bytes: &[u8], algorithms: &[TokenAlgorithm]) -> Result<KeySet, String> {
        let pem = |error| format!("no PEM file of such a public key: {error}");
        let family = algorithms.first().map_or("", |one| &one.word()[..2]);
        let key = match family {
            "HS" => secret(bytes)?,
            "RS" | "PS" => DecodingKey::from_rsa_pem(bytes).map_err(pem)?,
            "ES" => DecodingKey::from_ec_pem(bytes).map_err(pem)?,
            _ => DecodingKey::from_ed_pem(bytes).map_err(pem)?,
        };
        Ok(KeySet(vec![TokenKey { id: None, algorithm: None, key }]))
    }

    /// The keys of a JSON Web Key Set (RFC 7517) that can check signatures.
    ///
    /// # Errors
    /// It is none, or has no key that is known here.
    pub(super) fn of_jwks(bytes: &[u8]) -> Result<KeySet, String> {
        let set: JwkSet = serde_json::from_slice(bytes)
            .map_err(|error| format!("no JSON Web Key Set: {error}"))?;
        let keys = set.keys.iter().filter(|jwk| {
            let usage = jwk.common.public_key_use.as_ref();
            usage.is_none_or(|usage| *usage == PublicKeyUse::Signature)
        });
        let keys = keys.filter_map(|jwk| {
            let key = DecodingKey::from_jwk(jwk).ok()?;
            // A secret that is short is one that is guessed.
            let weak = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_))
                && key.try_get_hmac_secret().map_or(0, <[u8]>::len) < SECRET_MIN;
            let algorithm = jwk.common.key_algorithm.and_then(|one| one.to_string().parse().ok());
            let id = jwk.common.key_id.as_deref().map(Box::from);
            (!weak).then_some(TokenKey { id, algorithm, key })
        });
        let keys: Vec<_> = keys.collect();
        match keys.is_empty() {
            true => Err("it has no key for signatures that is known here".into()),
            false => Ok(KeySet(keys)),
        }
    }

    /// The keys that a token with this header may be signed with.
    pub(super) fn fitting(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        let named = move |key: &&TokenKey| match (id, &key.id) {
            (Some(wanted), Some(id)) => **id == *wanted,
            _ => true,
        };
        let fits = move |key: &&TokenKey| {
            key.key.family() == algorithm.family()
                && key.algorithm.is_none_or(|only| only == algorithm)
        };
        self.0.iter().filter(named).filter(fits).map(|key| &key.key)
    }
}

fn secret(bytes: &[u8]) -> Result<DecodingKey, String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    match bytes.len() < SECRET_MIN {
        true => Err(format!("the secret has less than {SECRET_MIN} bytes; make a longer one")),
        false => Ok(DecodingKey::from_secret(bytes)),
    }
}

/// Where keys come from, at any time.
pub(super) enum Keys {
    /// They were read.
    Fixed(Arc<KeySet>),
    /// They are fetched; the thread that does it ends when this is dropped.
    Fetched { current: Arc<Mutex<Option<Arc<KeySet>>>>, again: Sender<()> },
}

impl Keys {
    /// Begins to fetch the keys of `config`.
    ///
    /// # Errors
    /// When the host allows no more threads.
    pub(super) fn fetched(config: &JwtConfig, authorities: &Secret) -> std::io::Result<Keys> {
        let (again, asked) = bounded::<()>(1);
        let current = Arc::default();
        let fetcher = Fetcher {
            name: config.name.as_str().into(),
            url: config.jwks_url.given().unwrap_or_default().into(),
            agent: web::agent(authorities.bytes(), config.timeout_ms, 1),
            current: Arc::clone(&current),
        };
        let refresh = Duration::from_secs(config.jwks_refresh_s.into());
        let thread = Builder::new().name("corelane-jwks".into());
        thread.spawn(move || {
            let (mut pause, mut last) = (Duration::ZERO, Instant::now());
            loop {
                // Also true once nobody needs the keys any more.
                match asked.recv_timeout(pause) {
                    Err(RecvTimeoutError::Disconnected) => return,
                    Ok(()) if last.elapsed() < FETCH_PAUSE.min(refresh) => continue,
                    Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                }
                pause = match fetcher.fetch() {
                    true => refresh,
                    false => (2 * pause).clamp(RETRY, refresh.max(RETRY)),
                };
                last = Instant::now();
            }
        })?;
        Ok(Keys::Fetched { current, again })
    }

    /// The keys of now; `None`: none were fetched so far.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        match self {
            Keys::Fixed(keys) => Some(keys.clone()),
            Keys::Fetched { current, .. } => {
                current.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    /// A token names a key that is not among them: perhaps there are new ones.
    pub(super) fn refresh(&self) {
        if let Keys::Fetched { again, .. } = self {
            // Full: it was asked for already.
            let _ = again.try_send(());
        }
    }
}

struct Fetcher {
    name: Box<str>,
    url: Box<str>,
    agent: ureq::Agent,
    current: Arc<Mutex<Option<Arc<KeySet>>>>,
}

impl Fetcher {
    /// Replaces the keys; false: they stay as they are.
    fn fetch(&self) -> bool {
        let (provider, url) = (&*self.name, &*self.url);
        match self.get().and_then(|bytes| KeySet::of_jwks(&bytes)) {
            Ok(keys) => {
                tracing::debug!(provider, keys = keys.0.len(), "keys of tokens fetched");
                let keys = Some(Arc::new(keys));
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = keys;
                true
            }
            Err(error) => {
                tracing::warn!(provider, url, "keys of tokens can't be fetched: {error}");
                false
            }
        }
    }

    fn get(&self) -> Result<Vec<u8>, String> {
        let mut answer = self.agent.get(&*self.url).call().map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => web::whole(answer.body_mut()),
            other => Err(format!("status {other}")),
        }
    }
}
