//! What an operator can choose about TLS, already read from the configuration.

use std::path::PathBuf;

/// The longest time in seconds that one key makes tickets, and the default. The key of the library
/// that lies below changes at this age in any case.
pub const TICKET_ROTATION_MAX_S: u32 = 6 * 60 * 60;

/// What a listener with TLS is told. Plain data: [`ServerTls::load`](super::ServerTls::load)
/// checks it.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The server's certificates; the first one serves clients that name no server or an unknown
    /// one. At least one.
    pub certificates: Vec<Identity>,
    /// The oldest version that is spoken.
    pub minimum_version: MinimumVersion,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// PEM file with the authorities whose client certificates are believed; needed unless
    /// `client_certificates` is off.
    pub client_ca: Option<PathBuf>,
    /// Files with revocation lists, PEM or DER. When there is one, every certificate below a root
    /// must be covered by a list of its issuer.
    pub crl: Vec<PathBuf>,
    /// Whether sessions can be resumed.
    pub tickets: bool,
    /// Age in seconds at which the key of new tickets is replaced, from 1 to
    /// [`TICKET_ROTATION_MAX_S`]. A ticket is good for one to two of these times.
    pub ticket_rotation_s: u32,
}

impl TlsSettings {
    /// Both versions, no client certificates, tickets; no server certificate yet.
    pub fn new() -> TlsSettings {
        TlsSettings {
            certificates: Vec::new(),
            minimum_version: MinimumVersion::Tls12,
            client_certificates: ClientCertificates::Off,
            client_ca: None,
            crl: Vec::new(),
            tickets: true,
            ticket_rotation_s: TICKET_ROTATION_MAX_S,
        }
    }
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings::new()
    }
}

/// A certificate of the server and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// PEM file: the certificate, then those of the authorities between it and the root.
    pub certificate: PathBuf,
    /// PEM file with the private key, not encrypted; may be the same file.
    pub key: PathBuf,
    /// Server names it serves, `*.example.com` for one label of any text. When empty, the
    /// certificate's own names are taken.
    pub names: Vec<String>,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinimumVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// None is asked for.
    #[default]
    Off,
    /// One is asked for; what is shown must be good, but showing none is fine.
    Optional,
    /// Without a good one there is no connection.
    Required,
}
