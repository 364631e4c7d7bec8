//! Both ends in memory: our layers against those of the broker.

use super::*;
use crate::door::Door;
use crate::door::tests::{Files, scenario};
use crate::scenario::Transport;
use corelane::tls::{Identity, ServerTls, Tls, TlsSettings};
use corelane::transport::{Flow, Rules};
use std::net::SocketAddr;

/// A broker's side of one connection.
struct Server {
    tls: Option<Tls>,
    web: Option<WebSocket>,
}

impl Server {
    fn new(transport: Transport, files: &Files) -> Server {
        let rules = Rules { max_frame: 1 << 20, ..Rules::default() };
        let mut settings = TlsSettings::new();
        settings.certificates =
            vec![Identity { certificate: files.certificate(), key: files.key(), names: vec![] }];
        let tls = ServerTls::load(&settings).expect("good credentials");
        Server {
            tls: transport.is_encrypted().then(|| Tls::new(&tls)),
            web: matches!(transport, Transport::Ws | Transport::Wss)
                .then(|| WebSocket::new(Arc::new(rules))),
        }
    }

    /// Takes bytes; gives packets, and answers at once.
    fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Flow {
        let mut clear = bytes.to_vec();
        if let Some(tls) = &mut self.tls {
            clear.clear();
            if tls.receive(bytes, &mut clear, wire).expect("good TLS") == Flow::Ended {
                return Flow::Ended;
            }
        }
        let Some(web) = &mut self.web else {
            plain.append(&mut clear);
            return Flow::Open;
        };
        let mut said = Vec::new();
        let flow = web.receive(&clear, plain, &mut said, &mut Vec::new()).expect("good frames");
        self.wrap(&said, wire);
        flow
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        let mut frame = plain.to_vec();
        if let Some(web) = &mut self.web {
            frame.clear();
            web.send(plain, &mut frame);
        }
        self.wrap(&frame, wire);
    }

    fn wrap(&mut self, bytes: &[u8], wire: &mut Vec<u8>) {
        match &mut self.tls {
            Some(tls) => tls.send(bytes, wire),
            None => wire.extend_from_slice(bytes),
        }
    }
}

fn client(transport: Transport, files: &Files) -> Box<Layer> {
    let scenario = scenario(transport, files);
    let address: SocketAddr = "127.0.0.1:8883".parse().expect("an address");
    let door = Door::new(&scenario, address).expect("good files");
    door.layer(1).expect("not plain")
}

/// Lets both talk until neither has anything to say; what each understood.
fn talk(layer: &mut Layer, server: &mut Server, out: &mut Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    loop {
        let (said, mut answer) = (layer.pull(out), Vec::new());
        if said.is_empty() {
            return (up, down);
        }
        for part in said.chunks(1_000) {
            server.receive(part, &mut up, &mut answer);
        }
        for part in answer.chunks(7) {
            layer.receive(part, &mut down).expect("a good server");
        }
    }
}

#[test]
fn packets_wait_for_the_handshakes_and_pass_both_ways() {
    let files = Files::new();
    for transport in [Transport::Tls, Transport::Ws, Transport::Wss] {
        let (mut layer, mut server) = (client(transport, &files), Server::new(transport, &files));
        assert!(!layer.is_open());
        let mut out = b"CONNECT".to_vec();
        assert_eq!(talk(&mut layer, &mut server, &mut out).0, b"CONNECT", "{transport:?}");
        assert!(layer.is_open() && out.is_empty() && !layer.owes());
        for len in [1, 100, 16_384, 16_385, 200_000] {
            let packet: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
            let mut out = packet.clone();
            let (up, _) = talk(&mut layer, &mut server, &mut out);
            assert!(up == packet, "{transport:?}: {len} bytes up");
            let (mut wire, mut down) = (Vec::new(), Vec::new());
            server.send(&packet, &mut wire);
            for part in wire.chunks(5_000) {
                layer.receive(part, &mut down).expect("a good server");
            }
            assert!(down == packet, "{transport:?}: {len} bytes down");
        }
        layer.close();
        let said = layer.pull(&mut Vec::new());
        let flow = server.receive(&said, &mut Vec::new(), &mut Vec::new());
        assert_eq!(flow, Flow::Ended, "{transport:?}");
    }
}

#[test]
fn a_ping_is_answered_and_fragments_are_joined() {
    let files = Files::new();
    let mut layer = client(Transport::Ws, &files);
    let mut server = Server::new(Transport::Ws, &files);
    talk(&mut layer, &mut server, &mut b"CONNECT".to_vec());
    let mut plain = Vec::new();
    layer.receive(b"\x02\x02ab\x89\x04ping\x80\x02cd", &mut plain).expect("good frames");
    assert_eq!(plain, b"abcd");
    assert!(layer.owes(), "the pong");
    let mut up = Vec::new();
    server.receive(&layer.pull(&mut Vec::new()), &mut up, &mut Vec::new());
    assert_eq!(up, b"", "a pong is no packet");
}

#[test]
fn a_stranger_is_not_believed() {
    let (ours, others) = (Files::new(), Files::new());
    let mut layer = client(Transport::Tls, &ours);
    let mut server = Server::new(Transport::Tls, &others);
    let mut answer = Vec::new();
    server.receive(&layer.pull(&mut Vec::new()), &mut Vec::new(), &mut answer);
    let error = layer.receive(&answer, &mut Vec::new()).expect_err("a stranger");
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert!(layer.owes(), "an alert tells the stranger");
    let mut scenario = scenario(Transport::Tls, &ours);
    (scenario.ca, scenario.insecure) = (None, true);
    let door = Door::new(&scenario, "127.0.0.1:1".parse().expect("an address")).expect("no files");
    let mut layer = door.layer(1).expect("not plain");
    let mut server = Server::new(Transport::Tls, &others);
    let mut out = b"CONNECT".to_vec();
    assert_eq!(talk(&mut layer, &mut server, &mut out).0, b"CONNECT", "insecure takes anybody");
}
