//! A storm of TLS handshakes, broken ones among them, and of wrong passwords, while others work.
//!
//! `CORELANE_STORM=5000 cargo test --test hostile storm -- --nocapture` makes as many of each
//! instead of 200.

use crate::broker::{Broker, Client};
use crate::{Crowd, GOOD_CLIENTS, exchange};
use corelane::access::HashedPassword;
use corelane::codec::{ConnectOut, Packet, ReasonCode, Version};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const STORMERS: usize = 8;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let name = format!("corelane-storm-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Folder(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("it is ours");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate of the server, its key, and what a client trusts.
fn certificate(folder: &Folder) -> (String, String, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Nothing is resumed, so each handshake costs a signature.
    config.resumption = rustls::client::Resumption::disabled();
    (folder.file("server.pem", &pem), folder.file("server.key", &key), Arc::new(config))
}

fn connect(client_id: &str, password: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    ConnectOut {
        version: Version::V5,
        client_id,
        clean_start: true,
        username: password.map(|_| "ann"),
        password: password.map(str::as_bytes),
        ..ConnectOut::default()
    }
    .encode(&mut out);
    out
}

/// One handshake: whole with a CONNECT, begun and left, or no TLS at all.
fn handshake(address: SocketAddr, config: &Arc<ClientConfig>, number: usize) {
    let mut socket = TcpStream::connect(address).expect("the broker accepts");
    if number % 4 == 3 {
        let hello = [0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
        let bytes: &[u8] = if number % 8 == 3 { &hello } else { b"GET / HTTP/1.1\r\n\r\n" };
        // The broker may close before all is taken.
        let _ = socket.write_all(bytes);
        return;
    }
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = ClientConnection::new(config.clone(), name).expect("a client");
    let mut stream = StreamOwned::new(tls, socket);
    stream.write_all(&connect(&format!("storm-{number}"), None)).expect("a handshake");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("a CONNACK");
    assert_eq!((answer[0], answer[3]), (0x20, 0), "{answer:?}");
}

fn wrong_password(address: SocketAddr, number: usize) {
    let mut client = Client::dial(address);
    let bytes = connect(&format!("guess-{number}"), Some(&format!("guess {number}")));
    client.stream.write_all(&bytes).expect("written");
    client.next(|packet| match packet {
        Some(Packet::Connack(connack)) => {
            assert_eq!(connack.reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        }
        other => panic!("not refused: {other:?}"),
    });
}

fn start(folder: &Folder, certificate: &str, key: &str) -> (Broker, SocketAddr) {
    let users = format!("ann:{}\n", HashedPassword::new(b"right", [7; 16]).to_text());
    let users = folder.file("users.txt", &users);
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let tls = format!(
        "[[listener]]\nname = \"tls\"\naddress = \"{address}\"\n\
         tls_certificate = [\"{certificate}\"]\ntls_key = [\"{key}\"]"
    );
    let keys = format!("runtime.shards = 2\naccess.password_file = \"{users}\"");
    (Broker::start(&keys, &tls), address)
}

#[test]
fn a_storm_at_the_door_costs_nobody_inside_a_message() {
    let count = std::env::var("CORELANE_STORM").map_or(200, |n| n.parse().expect("a number"));
    let folder = Folder::new();
    let (pem, key, config) = certificate(&folder);
    let (broker, doors) = start(&folder, &pem, &key);
    let address = broker.address;
    let (crowd, next) = (Crowd::new(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for at in 0..GOOD_CLIENTS {
            let crowd = &crowd;
            scope.spawn(move || exchange(address, at, crowd));
        }
        crowd.await_work();
        let storm = || loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            match number {
                _ if number >= 2 * count => return,
                _ if number % 2 == 0 => handshake(doors, &config, number / 2),
                _ => wrong_password(address, number / 2),
            }
        };
        let stormers: Vec<_> = (0..STORMERS).map(|_| scope.spawn(storm)).collect();
        let ended: Vec<_> = stormers.into_iter().map(|stormer| stormer.join()).collect();
        crowd.stop.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|end| end.expect("nothing unexpected met it"));
    });
    println!("{} good messages, none lost, while {count} of each came", crowd.exchanged());
    let (counters, log) = broker.stop();
    assert_eq!(log.iter().filter(|line| line.contains("panicked")).count(), 0, "{log:#?}");
    let counted = |name: &str| counters.get(name).copied().unwrap_or(0) as usize;
    assert_eq!(counted("credentials_asked"), count);
    assert_eq!(counted("credentials_wrong"), count);
    // Plain HTTP is told from TLS; a hello that is left is a connection that ends.
    assert_eq!(counted("transport_faults"), (0..count).filter(|n| n % 8 == 7).count());
    assert_eq!(counted("connections_opened"), counted("connections_closed"));
}
