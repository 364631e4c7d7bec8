//! What all connections of a listener share: certificates, trust and the keys of tickets.
//!
//! Invariants worth naming:
//! * settings are used whole or not at all: [`ServerTls::reload`] swaps after everything was read;
//! * a connection keeps the configuration it began with;
//! * a ticket never outlives what was demanded of its client: when that changes, so do the keys.

use super::certificate::{self, AlternativeName};
use super::files::{self, TlsError};
use super::names::Certificates;
use super::settings::{
    ClientCertificates, Identity, MinimumVersion, TICKET_ROTATION_MAX_S, TlsSettings,
};
use super::tickets;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig, SupportedProtocolVersion};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
compile_error!("`server` needs somebody for its cryptography: `tls-aws-lc` or `tls-ring`");
#[cfg(feature = "tls-aws-lc")]
pub(crate) use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
pub(crate) use rustls::crypto::ring::default_provider;

/// Application protocols that are accepted: MQTT, and HTTP for WebSocket.
const PROTOCOLS: [&[u8]; 2] = [b"mqtt", b"http/1.1"];
const NEWEST_VERSION: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// Tickets a client gets with each handshake of TLS 1.3: it has one connection at a time.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// The configuration of TLS of one listener, shared by all cores. A new connection takes a lock for
/// one reference; a present one never comes back to it.
pub struct ServerTls {
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    tickets: Tickets,
    warnings: Vec<String>,
}

/// Tickets and under which conditions they were made.
#[derive(Clone)]
struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    rotation_s: u32,
    demands: Demands,
}

/// What is demanded of clients, byte for byte.
#[derive(Clone, PartialEq, Eq)]
struct Demands {
    mode: ClientCertificates,
    authorities: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
}

impl ServerTls {
    /// Reads all files.
    ///
    /// # Errors
    /// The first thing that is wrong with the settings or their files. A certificate out of its
    /// time is none: see [`ServerTls::warnings`].
    pub fn load(settings: &TlsSettings) -> Result<ServerTls, TlsError> {
        Ok(ServerTls { current: Mutex::new(Current::read(settings, None)?) })
    }

    /// Reads all files again; when all is well, connections made from now on use them. The keys of
    /// tickets stay, unless their age or what is demanded of client certificates (whether one is
    /// needed, authorities, revocation lists) has changed: otherwise a revoked client could come
    /// back with a ticket.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; everything is as before then.
    pub fn reload(&self, settings: &TlsSettings) -> Result<(), TlsError> {
        let before = self.lock().tickets.clone();
        let next = Current::read(settings, Some(&before))?;
        *self.lock() = next;
        Ok(())
    }

    /// What an operator should hear about the present files, one line each: certificates that are
    /// not good yet or no more, revocation lists that should have been replaced by now.
    pub fn warnings(&self) -> Vec<String> {
        self.lock().warnings.clone()
    }

    /// The configuration for a new connection.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.lock().config.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Whoever panicked, the value was assigned whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn read(settings: &TlsSettings, before: Option<&Tickets>) -> Result<Current, TlsError> {
        let provider = Arc::new(default_provider());
        let mut warnings = Vec::new();
        let now_s = seconds_since_epoch();
        let certificates = server_certificates(settings, &provider, now_s, &mut warnings)?;
        let (verifier, demands) = client_verifier(settings, &provider, now_s, &mut warnings)?;
        let tickets = Tickets::follow(before, settings.ticket_rotation_s, demands)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(settings.minimum_version))
            .map_err(|error| library(&error))?;
        let mut config =
            builder.with_client_cert_verifier(verifier).with_cert_resolver(certificates);
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        // Sessions live in tickets or nowhere: a table would be one more thing that cores share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if settings.tickets {
            config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
            config.ticketer = tickets.ticketer.clone();
        }
        Ok(Current { config: Arc::new(config), tickets, warnings })
    }
}

impl Tickets {
    /// The keys from before if they may stay, else new ones.
    fn follow(
        before: Option<&Tickets>,
        rotation_s: u32,
        demands: Demands,
    ) -> Result<Tickets, TlsError> {
        if !(1..=TICKET_ROTATION_MAX_S).contains(&rotation_s) {
            let what = format!("keys of tickets cannot last {rotation_s} s");
            return Err(TlsError::general(what, "give 1 to 21600 seconds"));
        }
        match before {
            Some(tickets) if tickets.rotation_s == rotation_s && tickets.demands == demands => {
                Ok(tickets.clone())
            }
            _ => {
                let ticketer = tickets::ticketer(rotation_s).map_err(|error| library(&error))?;
                Ok(Tickets { ticketer, rotation_s, demands })
            }
        }
    }
}

fn versions(minimum: MinimumVersion) -> &'static [&'static SupportedProtocolVersion] {
    match minimum {
        MinimumVersion::Tls12 => rustls::ALL_VERSIONS,
        MinimumVersion::Tls13 => NEWEST_VERSION,
    }
}

fn server_certificates(
    settings: &TlsSettings,
    provider: &CryptoProvider,
    now_s: i64,
    warnings: &mut Vec<String>,
) -> Result<Arc<dyn ResolvesServerCert>, TlsError> {
    let mut certificates: Option<Certificates> = None;
    for identity in &settings.certificates {
        let key = Arc::new(certified_key(identity, provider, now_s, warnings)?);
        let names = match &identity.names[..] {
            [] => own_names(&key),
            given => given.to_vec(),
        };
        let all = certificates.get_or_insert_with(|| Certificates::new(key.clone()));
        names.iter().for_each(|name| all.add(name, &key));
    }
    let remedy = "name a certificate and its key";
    let none = || TlsError::general("TLS without a server certificate", remedy);
    Ok(Arc::new(certificates.ok_or_else(none)?))
}

fn certified_key(
    identity: &Identity,
    provider: &CryptoProvider,
    now_s: i64,
    warnings: &mut Vec<String>,
) -> Result<CertifiedKey, TlsError> {
    let chain = files::certificates(&identity.certificate)?;
    let key = files::private_key(&identity.key)?;
    for der in &chain {
        warnings.extend(out_of_time(&identity.certificate, der, now_s));
    }
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let certificate = identity.certificate.display();
            let what = format!("the key does not belong to the first certificate of {certificate}");
            let remedy = "give the key it was issued for, and the server's certificate first";
            TlsError::about(&identity.key, what, remedy)
        }
        Error::InvalidCertificate(reason) => {
            let what = format!("the certificate cannot be used: {reason}");
            TlsError::about(&identity.certificate, what, "have it issued again")
        }
        error => {
            let remedy = "use an ECDSA, Ed25519 or RSA key";
            TlsError::about(&identity.key, format!("the key cannot be used: {error}"), remedy)
        }
    })
}

/// Host names from a certificate, or its common name where it has none.
fn own_names(key: &CertifiedKey) -> Vec<String> {
    let Some(der) = key.cert.first() else { return Vec::new() };
    let mut names: Vec<String> = certificate::alternative_names(der)
        .into_iter()
        .filter_map(|name| match name {
            AlternativeName::Dns(name) => Some(name),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        names.extend(certificate::subject_common_name(der));
    }
    names
}

fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    now_s: i64,
    warnings: &mut Vec<String>,
) -> Result<(Arc<dyn ClientCertVerifier>, Demands), TlsError> {
    let mode = settings.client_certificates;
    let mut demands = Demands { mode, authorities: Vec::new(), lists: Vec::new() };
    if mode == ClientCertificates::Off {
        return Ok((WebPkiClientVerifier::no_client_auth(), demands));
    }
    let Some(file) = &settings.client_ca else {
        let what = "client certificates without an authority that issues them";
        return Err(TlsError::general(what, "name the file with its certificate"));
    };
    for der in files::certificates(file)? {
        warnings.extend(out_of_time(file, &der, now_s));
        demands.authorities.push(der.to_vec());
    }
    let roots = Arc::new(files::authorities(file)?);
    let lists = revocation_lists(&settings.crl, now_s, warnings)?;
    demands.lists = lists.iter().map(|list| list.to_vec()).collect();
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).with_crls(lists);
    if mode == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| {
        let file = settings.crl.first().unwrap_or(file);
        TlsError::about(file, error.to_string(), "have the revocation list issued again")
    })?;
    Ok((verifier, demands))
}

fn revocation_lists(
    paths: &[std::path::PathBuf],
    now_s: i64,
    warnings: &mut Vec<String>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut lists = Vec::new();
    for file in paths {
        let read = files::revocation_lists(file)?;
        if read.next_update_s.is_some_and(|next| next < now_s) {
            let file = file.display();
            warnings.push(format!("{file}: the revocation list should have been replaced by now"));
        }
        lists.extend(read.lists);
    }
    Ok(lists)
}

fn out_of_time(file: &Path, der: &[u8], now_s: i64) -> Option<String> {
    let validity = certificate::validity(der)?;
    let file = file.display();
    if now_s > validity.end_s {
        let days = (now_s - validity.end_s) / 86_400;
        return Some(format!("{file}: the certificate expired {days} days ago"));
    }
    (now_s < validity.begin_s).then(|| format!("{file}: the certificate is not valid yet"))
}

fn library(error: &Error) -> TlsError {
    TlsError::general(error.to_string(), "see whether the system has randomness")
}

fn seconds_since_epoch() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
