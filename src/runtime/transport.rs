//! What stands between a socket and its connection on this core: a PROXY header, TLS, WebSocket, in
//! this order, and which of them a listener has.
//!
//! Invariants worth naming:
//! * a plain connection has no [`Transport`] at all;
//! * before it is open a transport is read piece by piece, so what it holds is bounded by a piece;
//! * who the client is, as far as the transport knows, is told before its first byte.

use crate::access::{Network, is_within};
use crate::base::Chunk;
use crate::config::CertificateUser;
use crate::net::SocketKey;
use crate::shard::Introduction;
use crate::tls::certificate::{AlternativeName, alternative_names, subject, subject_common_name};
use crate::tls::{Fault, ServerTls, Tls};
use crate::transport::{Flow, HEADER_MAX, Rules, WebSocket, parse_proxy};
use std::net::SocketAddr;
use std::sync::Arc;

/// Most bytes that wait for a peer that does not read what its transport is told.
const WIRE_MAX: usize = 256 * 1024;

/// What the connections of one listener come through, the same on all cores.
pub struct Door {
    /// Balancers whose connections begin with a PROXY header; none: there is no header.
    pub proxies: Arc<[Network]>,
    /// TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// What of a client's certificate is its user name.
    pub certificate_user: CertificateUser,
    /// WebSocket.
    pub websocket: Option<Arc<Rules>>,
    /// Proxies whose word in X-Forwarded-For is taken.
    pub forwarders: Arc<[Network]>,
}

/// What came of some bytes.
pub struct Progress {
    /// What has become known of the client.
    pub introduction: Option<Introduction>,
    /// The peer goes on, or has ended in order.
    pub flow: Flow,
}

/// The layers of one connection. Lives on its core and moves with it.
pub struct Transport {
    door: Arc<Door>,
    /// What has come of a PROXY header.
    header: Option<Vec<u8>>,
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    peer: Option<SocketAddr>,
    /// TLS has told who the client is.
    certified: bool,
    /// What waits for its turn, before the transport is open.
    pub input: Vec<u8>,
    /// What has to be sent for the layers themselves.
    wire: Vec<u8>,
    closed: bool,
}

impl Door {
    /// Whether connections come as they are.
    pub fn is_plain(&self) -> bool {
        self.proxies.is_empty() && self.tls.is_none() && self.websocket.is_none()
    }

    /// The transport of a new connection from `peer`, if it needs one.
    pub fn transport(self: &Arc<Door>, peer: Option<SocketAddr>) -> Option<Box<Transport>> {
        (!self.is_plain()).then(|| {
            Box::new(Transport {
                header: (!self.proxies.is_empty()).then(Vec::new),
                tls: self.tls.as_deref().map(Tls::new),
                websocket: self.websocket.clone().map(WebSocket::new),
                door: self.clone(),
                peer,
                certified: false,
                input: Vec::new(),
                wire: Vec::new(),
                closed: false,
            })
        })
    }
}

impl Transport {
    /// Whether packets can pass.
    pub fn is_open(&self) -> bool {
        self.header.is_none()
            && self.tls.as_ref().is_none_or(Tls::is_open)
            && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Whether bytes pass as they are from now on.
    pub fn is_transparent(&self) -> bool {
        self.header.is_none() && self.tls.is_none() && self.websocket.is_none()
    }

    /// Whether it has something to send of its own.
    pub fn has_output(&self) -> bool {
        !self.wire.is_empty()
    }

    /// Takes what came from the socket; appends what it means to `plain`.
    ///
    /// # Errors
    /// The peer broke the rules of a layer; what it is told waits to be sent.
    pub fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<Progress, Fault> {
        let mut introduction = None;
        let held;
        let bytes = match &mut self.header {
            None => bytes,
            Some(header) => {
                header.extend_from_slice(bytes);
                held = std::mem::take(header);
                let Some(len) = self.read_header(&held, &mut introduction)? else {
                    self.header = Some(held);
                    return Ok(Progress { introduction, flow: Flow::Open });
                };
                self.header = None;
                &held[len..]
            }
        };
        let flow = self.layers(bytes, plain, &mut introduction)?;
        if self.wire.len() > WIRE_MAX {
            self.wire = Vec::new();
            return Err(Fault { what: "it does not read what it is answered".into() });
        }
        Ok(Progress { introduction, flow })
    }

    fn read_header(
        &mut self,
        held: &[u8],
        introduction: &mut Option<Introduction>,
    ) -> Result<Option<usize>, Fault> {
        if self.peer.is_none_or(|peer| !is_within(&self.door.proxies, peer.ip())) {
            return Err(Fault { what: "it is none of the listener's proxies".into() });
        }
        let parsed = parse_proxy(held)?;
        let Some((header, len)) = parsed else {
            debug_assert!(held.len() < HEADER_MAX, "a header is bounded");
            return Ok(None);
        };
        if let Some(source) = header.source {
            self.peer = Some(source);
        }
        let name = header.tls.filter(|tls| tls.verified).and_then(|tls| tls.common_name);
        // A header tells no other name.
        let user = name.filter(|_| self.door.certificate_user == CertificateUser::CommonName);
        *introduction = Some(Introduction { peer: self.peer, user });
        Ok(Some(len))
    }

    fn layers(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        introduction: &mut Option<Introduction>,
    ) -> Result<Flow, Fault> {
        let Some(tls) = &mut self.tls else { return self.unframe(bytes, plain, introduction) };
        let mut inner = Vec::new();
        let under_frames = self.websocket.is_some();
        let into = if under_frames { &mut inner } else { &mut *plain };
        let mut flow = tls.receive(bytes, into, &mut self.wire)?;
        if tls.is_open() && !std::mem::replace(&mut self.certified, true) {
            let user = certificate_user(self.door.certificate_user, tls);
            if user.is_some() {
                *introduction = Some(Introduction { peer: self.peer, user });
            }
        }
        if under_frames && self.unframe(&inner, plain, introduction)? == Flow::Ended {
            flow = Flow::Ended;
        }
        Ok(flow)
    }

    fn unframe(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        introduction: &mut Option<Introduction>,
    ) -> Result<Flow, Fault> {
        let Some(websocket) = &mut self.websocket else {
            plain.extend_from_slice(bytes);
            return Ok(Flow::Open);
        };
        let (mut answer, mut forwarded) = (Vec::new(), Vec::new());
        let flow = websocket.receive(bytes, plain, &mut answer, &mut forwarded);
        self.seal(&answer);
        let believed = |peer: SocketAddr| is_within(&self.door.forwarders, peer.ip());
        if !forwarded.is_empty() && self.peer.is_some_and(believed) {
            let client = forwarded.iter().rev().find(|ip| !is_within(&self.door.forwarders, **ip));
            self.peer = client.map(|ip| SocketAddr::new(*ip, 0)).or(self.peer);
            let user = introduction.take().and_then(|known| known.user);
            *introduction = Some(Introduction { peer: self.peer, user });
        }
        Ok(flow?)
    }

    /// Appends what goes under TLS to the wire.
    fn seal(&mut self, inner: &[u8]) {
        match &mut self.tls {
            Some(tls) => tls.send(inner, &mut self.wire),
            None => self.wire.extend_from_slice(inner),
        }
    }

    /// What has to be sent now: what the layers say, then `chunk`, wrapped, and the end of it all
    /// where this is the `last`. An emptied buffer goes to `spare` and one comes from there.
    pub fn wrap(
        &mut self,
        chunk: Option<Chunk>,
        last: bool,
        spare: &mut Vec<Vec<u8>>,
    ) -> Option<Chunk> {
        if self.wire.capacity() == 0 {
            self.wire = spare.pop().unwrap_or_default();
        }
        if let Some(chunk) = chunk {
            match &mut self.websocket {
                None => self.seal(&chunk),
                Some(websocket) if self.tls.is_none() => websocket.send(&chunk, &mut self.wire),
                Some(websocket) => {
                    let mut framed = spare.pop().unwrap_or_default();
                    websocket.send(&chunk, &mut framed);
                    self.seal(&framed);
                    framed.clear();
                    spare.push(framed);
                }
            }
            let mut buffer = chunk.into_spare();
            if buffer.capacity() > 0 && spare.len() < 64 {
                buffer.clear();
                spare.push(buffer);
            }
        }
        if last && !std::mem::replace(&mut self.closed, true) {
            let mut farewell = Vec::new();
            if let Some(websocket) = &mut self.websocket {
                websocket.close(&mut farewell);
            }
            self.seal(&farewell);
            if let Some(tls) = &mut self.tls {
                tls.close(&mut self.wire);
            }
        }
        let wire = std::mem::take(&mut self.wire);
        if wire.is_empty() {
            if wire.capacity() > 0 {
                spare.push(wire);
            }
            return None;
        }
        Some(Chunk::Own(wire))
    }
}

/// The user name that the client's certificate gives, if it is to give one.
fn certificate_user(which: CertificateUser, tls: &Tls) -> Option<Box<str>> {
    if which == CertificateUser::Off {
        return None;
    }
    let der = tls.details().client_certificate?;
    let name = match which {
        CertificateUser::Off => None,
        CertificateUser::CommonName => subject_common_name(&der),
        CertificateUser::Subject => Some(subject(&der)).filter(|subject| !subject.is_empty()),
        CertificateUser::Dns => alternative_names(&der).into_iter().find_map(|name| match name {
            AlternativeName::Dns(name) => Some(name),
            _ => None,
        }),
        CertificateUser::Email => alternative_names(&der).into_iter().find_map(|name| match name {
            AlternativeName::Email(name) => Some(name),
            _ => None,
        }),
    };
    name.map(String::into_boxed_str)
}

/// The transports of a core, by socket.
#[derive(Default)]
pub struct Transports {
    list: Vec<Option<(SocketKey, Box<Transport>)>>,
    count: usize,
}

impl Transports {
    /// Gives a socket its transport.
    pub fn insert(&mut self, key: SocketKey, transport: Box<Transport>) {
        let at = key.index as usize;
        if self.list.len() <= at {
            self.list.resize_with(at + 1, || None);
        }
        self.count += usize::from(self.list[at].replace((key, transport)).is_none());
    }

    /// The transport of a socket; without any, this costs a branch.
    #[inline]
    pub fn get_mut(&mut self, key: SocketKey) -> Option<&mut Transport> {
        if self.count == 0 {
            return None;
        }
        let (owner, transport) = self.list.get_mut(key.index as usize)?.as_mut()?;
        (*owner == key).then_some(transport)
    }

    /// Takes a transport out.
    pub fn remove(&mut self, key: SocketKey) -> Option<Box<Transport>> {
        self.get_mut(key)?;
        let (_, transport) = self.list[key.index as usize].take()?;
        self.count -= 1;
        Some(transport)
    }
}
