//! The files of certificates, keys and revocation lists, and what may be wrong with them.

use super::certificate;
use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// Bytes of a file at most; revocation lists can be long.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// Why the settings cannot be used: which file, what is wrong with it, what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// The file, when it is about one.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub what: Box<str>,
    /// What the operator can do.
    pub remedy: &'static str,
}

impl TlsError {
    /// It is about the settings or the machine.
    pub fn general(what: impl Into<Box<str>>, remedy: &'static str) -> TlsError {
        TlsError { file: None, what: what.into(), remedy }
    }

    /// It is about one file.
    pub fn about(file: &Path, what: impl Into<Box<str>>, remedy: &'static str) -> TlsError {
        TlsError { file: Some(file.into()), what: what.into(), remedy }
    }
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for TlsError {}

/// Revocation lists of one file.
pub struct RevocationLists {
    /// Each in DER.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them should have been replaced, in seconds since 1970, if they say.
    pub next_update_s: Option<i64>,
}

/// The certificates of a PEM file, at least one; each can be read.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = contents(file)?;
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| bad_pem(file, &error))?;
    if found.is_empty() {
        let remedy = "give a PEM file with a BEGIN CERTIFICATE section";
        return Err(TlsError::about(file, "no certificate in it", remedy));
    }
    if let Some(at) = found.iter().position(|der| certificate::validity(der).is_none()) {
        let what = format!("certificate {} of it cannot be read", at + 1);
        return Err(TlsError::about(file, what, "have it issued again"));
    }
    Ok(found)
}

/// The private key of a PEM file.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = contents(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") => {
            let remedy = "remove the passphrase with `openssl pkey` and protect the file instead";
            TlsError::about(file, "the private key is encrypted", remedy)
        }
        PemError::NoItemsFound => {
            let remedy = "give a PEM file with a BEGIN PRIVATE KEY section";
            TlsError::about(file, "no private key in it", remedy)
        }
        error => bad_pem(file, &error),
    })
}

/// The authorities of a PEM file.
pub fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (at, der) in certificates(file)?.into_iter().enumerate() {
        roots.add(der).map_err(|error| {
            let what = format!("certificate {} of it is no authority: {error}", at + 1);
            TlsError::about(file, what, "give certificates of authorities alone")
        })?;
    }
    Ok(roots)
}

/// The revocation lists of a file, PEM or DER, at least one; each can be read.
pub fn revocation_lists(file: &Path) -> Result<RevocationLists, TlsError> {
    let text = contents(file)?;
    let lists = if contains(&text, b"-----BEGIN") {
        let found: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(&text).collect();
        found.map_err(|error| bad_pem(file, &error))?
    } else {
        vec![CertificateRevocationListDer::from(text)]
    };
    let remedy = "give a PEM file with a BEGIN X509 CRL section, or a DER file";
    if lists.is_empty() {
        return Err(TlsError::about(file, "no revocation list in it", remedy));
    }
    let mut next_update_s = None;
    for list in &lists {
        let Ok((_, parsed)) = CertificateRevocationList::from_der(list) else {
            return Err(TlsError::about(file, "the revocation list cannot be read", remedy));
        };
        let next = parsed.next_update().map(|time| time.timestamp());
        next_update_s = next_update_s.into_iter().chain(next).min();
    }
    Ok(RevocationLists { lists, next_update_s })
}

fn contents(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|open| open.take(FILE_MAX).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 == FILE_MAX => {
            Err(TlsError::about(file, "longer than 64 MiB", "give a certificate, key or list"))
        }
        Ok(_) => Ok(bytes),
        Err(error) => {
            let remedy = "check the path and that the broker's user may read it";
            Err(TlsError::about(file, error.to_string(), remedy))
        }
    }
}

fn bad_pem(file: &Path, error: &PemError) -> TlsError {
    TlsError::about(file, format!("not well-formed PEM: {error}"), "export it anew")
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
