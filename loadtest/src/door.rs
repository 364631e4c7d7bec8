//! How the clients of a scenario get into a broker: what is read once and shared by all of them.
//!
//! Invariants worth naming:
//! * each connect is a whole handshake: no session of TLS is resumed, so that all are alike;
//! * keys are exchanged as every broker can, so that brokers are compared at the same work;
//! * nobody is trusted by default: a broker's certificate is verified unless that was given up.

#[cfg(test)]
pub(crate) mod tests;

use crate::layer::Layer;
use crate::scenario::{Scenario, Transport};
use corelane::base::Prng;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, NamedGroup, RootCertStore,
    SignatureScheme,
};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Said where nothing is verified.
pub const INSECURE: &str = "the broker's certificate is NOT verified (--insecure): whoever \
                            answers is taken for the broker";

/// The way in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Host and path.
    web: Option<Arc<(String, String)>>,
}

impl Door {
    /// The way that a scenario prescribes to a broker at `address`; reads the files it names.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should, or there is nothing to verify the
    /// broker's certificate with.
    pub fn new(scenario: &Scenario, address: SocketAddr) -> Result<Door, String> {
        let host = scenario.server_name.clone().unwrap_or_else(|| address.ip().to_string());
        let tls = if scenario.transport.is_encrypted() {
            let wrong = || format!("--server-name {host}: neither a name nor an IP address");
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
            Some((Arc::new(config(scenario)?), name))
        } else {
            None
        };
        let web = match scenario.transport {
            Transport::Tcp | Transport::Tls => None,
            Transport::Ws | Transport::Wss => {
                let host = match &scenario.server_name {
                    Some(name) => format!("{name}:{}", address.port()),
                    None => address.to_string(),
                };
                Some(Arc::new((host, scenario.path.clone())))
            }
        };
        Ok(Door { tls, web })
    }

    /// A connection that begins now; `None` for plain TCP. The seed decides what WebSocket draws.
    pub fn layer(&self, seed: u64) -> Option<Box<Layer>> {
        if self.tls.is_none() && self.web.is_none() {
            return None;
        }
        let web = self.web.as_ref().map(|place| (place.0.as_str(), place.1.as_str()));
        Some(Box::new(Layer::new(self.tls.clone(), web, Prng::new(seed))))
    }
}

fn config(scenario: &Scenario) -> Result<ClientConfig, String> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let builder = match (&scenario.ca, scenario.insecure) {
        (_, true) => {
            let verifier = Arc::new(Anybody { provider });
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        (Some(file), false) => builder.with_root_certificates(authorities(file)?),
        (None, false) => {
            let transport = scenario.transport.name();
            return Err(format!(
                "{transport} needs --ca FILE (PEM, who signed the broker's certificate), or \
                 --insecure to verify nothing"
            ));
        }
    };
    let mut config = with_certificate(builder, scenario)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn with_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    scenario: &Scenario,
) -> Result<ClientConfig, String> {
    let (Some(chain), Some(key)) = (&scenario.certificate, &scenario.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let unreadable = |error| format!("--key {}: {error}", key.display());
    let secret = PrivateKeyDer::from_pem_file(key).map_err(unreadable)?;
    let chain_of = certificates("--certificate", chain)?;
    let unfit = |error| format!("--certificate {}: {error}", chain.display());
    builder.with_client_auth_cert(chain_of, secret).map_err(unfit)
}

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--ca", file)? {
        let unfit = |error| format!("--ca {}: {error}", file.display());
        roots.add(certificate).map_err(unfit)?;
    }
    Ok(roots)
}

/// The certificates of a PEM file, at least one.
fn certificates(option: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |what: String| format!("{option} {}: {what}", file.display());
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| told(error.to_string()))?;
    if found.is_empty() {
        return Err(told("no BEGIN CERTIFICATE section in it".into()));
    }
    Ok(found)
}

/// Takes whoever answers for the broker, but asks for the work of a handshake.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
