//! From the keys of a listener to its TLS.

use super::read::ReadError;
use crate::config::{ListenerConfig, TlsClientCertificate, TlsVersion};
use crate::tls::{ClientCertificates, Identity, MinimumVersion, ServerTls, TlsError, TlsSettings};
use std::path::Path;
use std::sync::Arc;

/// TLS of a listener, and what it was made of.
#[derive(Clone)]
pub struct ListenerTls {
    /// What its connections share.
    pub server: Arc<ServerTls>,
    /// What it was told.
    pub settings: TlsSettings,
}

impl std::fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// Reads the files of `listener`, if it has TLS; their names count from `directory`.
pub(super) fn read(
    listener: &ListenerConfig,
    directory: &Path,
) -> Result<Option<ListenerTls>, ReadError> {
    let files = listener.tls_certificate.as_slice();
    if files.is_empty() {
        return Ok(None);
    }
    let path = |name: &str| directory.join(name);
    let pairs = files.iter().zip(listener.tls_key.as_slice());
    let identities = pairs.map(|(certificate, key)| Identity {
        certificate: path(certificate),
        key: path(key),
        names: Vec::new(),
    });
    let crl = listener.tls_client_crl.as_slice().iter();
    let settings = TlsSettings {
        certificates: identities.collect(),
        minimum_version: match listener.tls_min_version {
            TlsVersion::Tls12 => MinimumVersion::Tls12,
            TlsVersion::Tls13 => MinimumVersion::Tls13,
        },
        client_certificates: match listener.tls_client_certificate {
            TlsClientCertificate::Off => ClientCertificates::Off,
            TlsClientCertificate::Optional => ClientCertificates::Optional,
            TlsClientCertificate::Required => ClientCertificates::Required,
        },
        client_ca: listener.tls_client_ca.given().map(path),
        crl: crl.map(|name| path(name)).collect(),
        tickets: listener.tls_ticket_rotation_s > 0,
        ticket_rotation_s: listener.tls_ticket_rotation_s.max(1),
    };
    let server = ServerTls::load(&settings).map_err(|error| faulty(listener, &error))?;
    for warning in server.warnings() {
        tracing::warn!(listener = listener.name.as_str(), "{warning}");
    }
    Ok(Some(ListenerTls { server: Arc::new(server), settings }))
}

fn faulty(listener: &ListenerConfig, error: &TlsError) -> ReadError {
    let file = format!("TLS of listener \"{}\"", listener.name.as_str());
    ReadError { file: file.into(), faults: vec![error.to_string()] }
}
