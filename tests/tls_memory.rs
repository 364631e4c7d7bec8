//! Memory of an idle TLS connection, counted: at most 10 KiB after the handshake, for both
//! versions, with and without a client certificate. The library for cryptography is C and has its
//! own allocations, so the whole heap of the C library is looked at, through which the allocator of
//! this program goes too. One test in a binary of its own, so that nobody else allocates meanwhile.

use corelane::tls::{ClientCertificates, Identity, ServerTls, Tls, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::io::Write;
use std::sync::Arc;

#[cfg(feature = "tls-aws-lc")]
use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
use rustls::crypto::ring::default_provider;

/// Connections over which the heap is averaged.
const CONNECTIONS: usize = 500;
/// Bytes of one of them at most.
const BOUND: usize = 10 * 1024;

/// `struct mallinfo2` of the C library.
#[repr(C)]
struct HeapInfo {
    unused: [usize; 4],
    /// Bytes in mappings of their own.
    mapped: usize,
    more: [usize; 2],
    /// Bytes in use elsewhere, with what the allocator adds to each piece.
    used: usize,
    rest: [usize; 2],
}

// SAFETY: glibc 2.33 and later declare it so in <malloc.h>.
unsafe extern "C" {
    fn mallinfo2() -> HeapInfo;
}

fn heap_bytes() -> usize {
    // SAFETY: it takes nothing, and returns a plain struct of ten machine words (mallinfo(3)).
    let info = unsafe { mallinfo2() };
    info.mapped + info.used
}

struct World {
    server: ServerTls,
    client: Box<dyn Fn(&'static SupportedProtocolVersion) -> Arc<ClientConfig>>,
}

fn world(mode: ClientCertificates) -> World {
    let name = format!("corelane-tls-memory-{}", std::process::id());
    let place = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&place).expect("a directory for the files");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("a root");
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = place.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let identity = Identity {
        certificate: write("server.pem", certificate.pem()),
        key: write("server.key", key.serialize_pem()),
        names: Vec::new(),
    };
    let settings = TlsSettings {
        certificates: vec![identity],
        client_certificates: mode,
        client_ca: Some(write("ca.pem", root.pem())),
        ..TlsSettings::new()
    };
    let server = ServerTls::load(&settings).expect("good settings");
    std::fs::remove_dir_all(&place).expect("the directory is ours");
    // The client shows the same certificate, if it is asked.
    let client = move |version: &'static SupportedProtocolVersion| {
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).expect("a root");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("the version is there")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        config.resumption = Resumption::disabled();
        Arc::new(config)
    };
    World { server, client: Box::new(client) }
}

/// A connection that has shaken hands, got 1000 bytes in several pieces and sent as many.
fn idle(server: &ServerTls, config: &Arc<ClientConfig>) -> Tls {
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(config.clone(), name).expect("a client");
    let mut tls = Tls::new(server);
    client.writer().write_all(&[7; 1000]).expect("it is kept");
    let (mut plain, mut wire, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    while client.wants_write() {
        client.write_tls(&mut sent).expect("memory");
        for chunk in sent.chunks(100) {
            tls.receive(chunk, &mut plain, &mut wire).expect("a sound peer");
        }
        sent.clear();
        while !wire.is_empty() {
            let taken = client.read_tls(&mut &wire[..]).expect("memory");
            wire.drain(..taken);
            client.process_new_packets().expect("a sound server");
        }
    }
    assert!(tls.is_open() && plain == [7; 1000]);
    tls.send(&plain, &mut wire);
    tls
}

#[test]
fn an_idle_connection_takes_at_most_ten_kib() {
    for mode in [ClientCertificates::Off, ClientCertificates::Required] {
        let world = world(mode);
        for version in rustls::ALL_VERSIONS {
            let config = (world.client)(version);
            let _first = idle(&world.server, &config);
            let mut connections = Vec::with_capacity(CONNECTIONS);
            let before = heap_bytes();
            for _ in 0..CONNECTIONS {
                connections.push(idle(&world.server, &config));
            }
            let each = (heap_bytes() - before) / CONNECTIONS + size_of::<Tls>();
            println!("{:?}, client certificates {mode:?}: {each} bytes", version.version);
            assert!(each <= BOUND, "{each} bytes");
            assert!(each > size_of::<Tls>(), "the heap was looked at");
        }
    }
}
