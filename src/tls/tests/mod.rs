//! TLS in memory: authorities and certificates made for the test, a client of the library at the
//! other end.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test, and says where")]

mod certificate;
mod conversation;
mod loading;
mod resumption;
mod trust;

use super::{Fault, Identity, ServerTls, Tls, TlsSettings};
use crate::transport::Flow;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Both versions, one after the other.
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("corelane-tls-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Issues certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate, key }
    }

    fn server(&self, names: &[&str]) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        self.issue(&CertificateParams::new(names).unwrap())
    }

    fn client(&self, name: &str, serial: u64) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        self.issue(&params)
    }

    /// A revocation list; `year` is when the next one was due.
    fn revoke(&self, serials: &[u64], year: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn pem(&self) -> String {
        self.certificate.pem()
    }
}

impl Issued {
    fn write(&self, place: &Place, name: &str) -> Identity {
        Identity {
            certificate: place.write(&format!("{name}.pem"), self.certificate.pem()),
            key: place.write(&format!("{name}.key"), self.key.serialize_pem()),
            names: Vec::new(),
        }
    }
}

/// A server's settings with one certificate, for `localhost`.
fn settings(place: &Place, authority: &Authority) -> TlsSettings {
    let certificates = vec![authority.server(&["localhost"]).write(place, "server")];
    TlsSettings { certificates, ..TlsSettings::new() }
}

/// A client that believes `authority`.
struct ClientSide {
    roots: Arc<RootCertStore>,
    versions: Vec<&'static SupportedProtocolVersion>,
    shows: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    protocols: Vec<Vec<u8>>,
}

impl ClientSide {
    fn new(authority: &Authority) -> ClientSide {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        ClientSide {
            roots: Arc::new(roots),
            versions: rustls::ALL_VERSIONS.to_vec(),
            shows: None,
            protocols: Vec::new(),
        }
    }

    fn version(self, version: &'static SupportedProtocolVersion) -> ClientSide {
        ClientSide { versions: vec![version], ..self }
    }

    fn showing(self, issued: &Issued) -> ClientSide {
        let key = PrivateKeyDer::try_from(issued.key.serialize_der()).unwrap();
        ClientSide { shows: Some((issued.certificate.der().clone(), key)), ..self }
    }

    fn offering(self, protocol: &str) -> ClientSide {
        ClientSide { protocols: vec![protocol.into()], ..self }
    }

    fn config(self) -> Arc<ClientConfig> {
        let provider = Arc::new(super::server::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots);
        let mut config = match self.shows {
            Some((der, key)) => builder.with_client_auth_cert(vec![der], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols;
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }
}

/// A client and a server with nothing but bytes between them.
struct Pair {
    client: ClientConnection,
    tls: Tls,
    /// Bytes the server gets at once at most.
    chunk: usize,
    /// Plain text that the server got.
    got: Vec<u8>,
    flow: Flow,
    /// What the client thinks is wrong.
    objection: Option<rustls::Error>,
}

impl Pair {
    fn new(server: &ServerTls, config: &Arc<ClientConfig>, name: &'static str) -> Pair {
        Pair {
            client: ClientConnection::new(config.clone(), name.try_into().unwrap()).unwrap(),
            tls: Tls::new(server),
            chunk: usize::MAX,
            got: Vec::new(),
            flow: Flow::Open,
            objection: None,
        }
    }

    /// A pair that has shaken hands.
    fn open(server: &ServerTls, config: &Arc<ClientConfig>, name: &'static str) -> Pair {
        let mut pair = Pair::new(server, config, name);
        pair.exchange().unwrap();
        assert_eq!(pair.objection, None);
        assert!(pair.tls.is_open());
        pair
    }

    /// Carries bytes to and fro until both are silent or the server finds a fault.
    fn exchange(&mut self) -> Result<(), Fault> {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).unwrap();
            }
            if sent.is_empty() {
                return Ok(());
            }
            for chunk in sent.chunks(self.chunk) {
                let mut wire = Vec::new();
                let result = self.tls.receive(chunk, &mut self.got, &mut wire);
                self.deliver(&wire);
                self.flow = result?;
            }
        }
    }

    fn deliver(&mut self, wire: &[u8]) -> Vec<u8> {
        let (mut rest, mut plain) = (wire, Vec::new());
        while !rest.is_empty() && self.objection.is_none() {
            self.client.read_tls(&mut rest).unwrap();
            self.objection = self.client.process_new_packets().err();
            let _ = std::io::Read::read_to_end(&mut self.client.reader(), &mut plain);
        }
        plain
    }

    /// Sends `plain` to the client; returns what it got.
    fn send(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        self.tls.send(plain, &mut wire);
        self.deliver(&wire)
    }

    /// Writes at the client; returns what the server got.
    fn say(&mut self, plain: &[u8]) -> Result<Vec<u8>, Fault> {
        for part in plain.chunks(16_384) {
            std::io::Write::write_all(&mut self.client.writer(), part).unwrap();
            self.exchange()?;
        }
        Ok(std::mem::take(&mut self.got))
    }

    /// The name in the server's certificate that the client was shown.
    fn shown(&self) -> Vec<super::certificate::AlternativeName> {
        super::certificate::alternative_names(&self.client.peer_certificates().unwrap()[0])
    }
}

fn load(settings: &TlsSettings) -> ServerTls {
    match ServerTls::load(settings) {
        Ok(server) => server,
        Err(error) => panic!("{error}"),
    }
}

fn text_of_error(result: Result<ServerTls, super::TlsError>, file: &Path) -> String {
    let error = result.err().expect("the settings are wrong");
    assert_eq!(error.file.as_deref(), Some(file), "{error}");
    error.to_string()
}
