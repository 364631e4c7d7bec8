//! Throwaway credentials for brokers that are started here: an authority and what it vouches for.

use rcgen::{BasicConstraints, CertificateParams, DnType, Error, IsCa, Issuer, KeyPair};
use std::fs;
use std::io;
use std::path::Path;

/// What [`Credentials::write`] calls the authority's certificate.
pub const CA_FILE: &str = "ca.pem";
/// What it calls the broker's certificate.
pub const CERTIFICATE_FILE: &str = "certificate.pem";
/// What it calls the key of that.
pub const KEY_FILE: &str = "key.pem";

/// A certificate for localhost and the loopback address, its key, and the authority behind it; all
/// in PEM, with keys on P-256.
pub struct Credentials {
    /// The authority's certificate.
    pub ca: String,
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Credentials {
    /// Makes them; nobody else has them.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> io::Result<Credentials> {
        make().map_err(|error| io::Error::other(format!("a certificate cannot be made: {error}")))
    }

    /// Writes them into a directory, where brokers that have left root's rights can read them.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(CA_FILE), &self.ca)?;
        fs::write(directory.join(CERTIFICATE_FILE), &self.certificate)?;
        fs::write(directory.join(KEY_FILE), &self.key)
    }
}

fn make() -> Result<Credentials, Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "corelane-loadtest authority");
    let signer = KeyPair::generate()?;
    let root = authority.self_signed(&signer)?;
    let issuer = Issuer::new(authority, signer);
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "corelane-loadtest broker");
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Credentials { ca: root.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}
