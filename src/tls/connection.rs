//! One connection: the library's state machine without buffers, and the few bytes that wait
//! between two turns.
//!
//! Invariants worth naming:
//! * after every call all that the library had to send stands in `wire`;
//! * input waits in `waiting` only while a record or a handshake message is incomplete, and takes
//!   no memory otherwise;
//! * after a fault the connection sends and receives nothing more.

use super::names;
use super::server::ServerTls;
use crate::transport::{self, Flow};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, HandshakeKind, ProtocolVersion};

/// Most bytes of one connection that wait for the rest of a record or of a handshake message. A
/// certificate chain is the longest thing that a client sends in pieces.
pub const WAITING_MAX: usize = 64 * 1024;
/// Plain text of one record at most, RFC 8446 section 5.1.
const RECORD_PLAIN: usize = 16 * 1024;
/// What a record adds to its plain text, at most: header, nonce of TLS 1.2, content type and tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;
/// Characters of a fault's text at most.
const FAULT_MAX: usize = 160;

/// Why the connection has to be closed, for a log line; the alert for the peer has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One short line.
    pub what: Box<str>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl From<transport::Fault> for Fault {
    fn from(fault: transport::Fault) -> Fault {
        Fault { what: fault.what.into() }
    }
}

/// What was agreed upon, for the log and for access control.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// `TLSv1.2` or `TLSv1.3`; empty before the agreement.
    pub version: &'static str,
    /// The registered name, like `TLS_AES_128_GCM_SHA256`; empty before the agreement.
    pub cipher_suite: Box<str>,
    /// The server name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// The application protocol that was agreed upon: `mqtt` or `http/1.1`.
    pub protocol: Option<Box<str>>,
    /// Whether the handshake took up an earlier session.
    pub resumed: bool,
    /// The client's own certificate in DER, verified. A resumed session has the one it began with.
    pub client_certificate: Option<Box<[u8]>>,
}

/// TLS of one connection, the server's side. Lives on the core of its connection and may move.
pub struct Tls {
    connection: Box<UnbufferedServerConnection>,
    /// Input that the library has not taken yet.
    waiting: Vec<u8>,
    server_name: Option<Box<str>>,
    /// Whether the library has taken any input: before, the peer may not speak TLS at all.
    begun: bool,
    /// Whether the peer has said close_notify.
    ended: bool,
    /// Whether [`Tls::close`] was called.
    closed: bool,
    /// Nothing more is sent or received after this.
    fault: Option<Fault>,
}

impl Tls {
    /// A connection that has received nothing yet, under the configuration of now.
    pub fn new(server: &ServerTls) -> Tls {
        let connection = UnbufferedServerConnection::new(server.current())
            .expect("it fails for a bad fragment size alone, and none is set");
        Tls {
            connection: Box::new(connection),
            waiting: Vec::new(),
            server_name: None,
            begun: false,
            ended: false,
            closed: false,
            fault: None,
        }
    }

    /// Takes `bytes` from the socket; appends plain text to `plain` and what must be sent at once
    /// (handshake, alerts) to `wire`. [`Flow::Ended`] is the peer's close_notify; after it
    /// everything received is ignored.
    ///
    /// # Errors
    /// When the connection has to be closed, after `wire` has been sent. Plain text that came
    /// before the fault has been appended. Each later call fails alike.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Flow, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.ended {
            return Ok(Flow::Ended);
        }
        self.waiting.extend_from_slice(bytes);
        let taken = self.advance(plain, wire);
        if let Some(name) = names::asked() {
            self.server_name = Some(name);
        }
        match taken {
            Ok(taken) => self.keep_rest(taken),
            Err(error) => self.fail(&error, wire),
        }
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None if self.ended => Ok(Flow::Ended),
            None => Ok(Flow::Open),
        }
    }

    /// Appends `plain` to `wire`, encrypted. Before the handshake is over, after a fault and after
    /// [`Tls::close`] there is nobody to send to, and nothing is appended.
    pub fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        if plain.is_empty() || self.closed || !self.is_open() {
            return;
        }
        let status = self.connection.process_tls_records(&mut self.waiting);
        let sent = match status.state {
            Ok(ConnectionState::WriteTraffic(traffic)) => encrypt(traffic, plain, wire),
            Ok(_) => Ok(()),
            Err(error) => Err(Box::from(error.to_string())),
        };
        if let Err(what) = sent {
            self.fault = Some(Fault { what });
            self.flush(wire);
        }
    }

    /// Appends close_notify to `wire`, once; nothing can be sent afterwards. During the handshake
    /// there is nothing to close, and nothing is appended.
    pub fn close(&mut self, wire: &mut Vec<u8>) {
        if self.fault.is_some() || self.closed {
            return;
        }
        self.closed = true;
        let status = self.connection.process_tls_records(&mut self.waiting);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
            // Without room for it, the library queues it.
            let _ = traffic.queue_close_notify(&mut []);
        }
        self.flush(wire);
    }

    /// Whether the handshake is complete and the connection sound.
    pub fn is_open(&self) -> bool {
        self.fault.is_none() && !self.connection.is_handshaking()
    }

    /// What was agreed upon; mostly empty before [`Tls::is_open`].
    pub fn details(&self) -> Details {
        let connection = &self.connection;
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let protocol = connection.alpn_protocol().and_then(|name| std::str::from_utf8(name).ok());
        let certificates = connection.peer_certificates().unwrap_or_default();
        Details {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "",
            },
            cipher_suite: suite.unwrap_or_default().replacen("TLS13_", "TLS_", 1).into(),
            server_name: self.server_name.clone(),
            protocol: protocol.map(Box::from),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client_certificate: certificates.first().map(|certificate| certificate[..].into()),
        }
    }

    /// Lets the library work until it wants more input. Returns how much of `waiting` it took.
    fn advance(&mut self, plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<usize, Error> {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut self.waiting[taken..]);
            let idle = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record?.payload);
                    }
                    false
                }
                ConnectionState::EncodeTlsData(data) => encode(data, wire),
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.ended = true;
                    true
                }
                // Early data is off, and the remaining states wait for input.
                _ => true,
            };
            taken += discard;
            self.begun |= discard > 0;
            if idle {
                return Ok(taken);
            }
        }
    }

    /// Forgets the first `taken` bytes of `waiting` and the memory they took.
    fn keep_rest(&mut self, taken: usize) {
        if self.ended || taken == self.waiting.len() {
            self.waiting = Vec::new();
        } else if taken > 0 {
            self.waiting.drain(..taken);
            self.waiting.shrink_to_fit();
        }
        if self.waiting.len() > WAITING_MAX {
            self.waiting = Vec::new();
            self.fault = Some(Fault { what: "a handshake message is too long".into() });
        }
    }

    fn fail(&mut self, error: &Error, wire: &mut Vec<u8>) {
        let what = if self.begun { told(error) } else { unlike_tls(&self.waiting, error) };
        self.fault = Some(Fault { what });
        self.waiting = Vec::new();
        self.flush(wire);
    }

    /// Appends what the library has queued, and nothing else happens: queued bytes come out before
    /// any input is looked at.
    fn flush(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(&mut []);
            let Ok(ConnectionState::EncodeTlsData(data)) = status.state else { return };
            encode(data, wire);
        }
    }
}

/// Appends a piece of the handshake or an alert to `wire`. Returns that there may be more.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, wire: &mut Vec<u8>) -> bool {
    // The first attempt asks for the length.
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
        let start = wire.len();
        wire.resize(start + needed.required_size, 0);
        let written = data.encode(&mut wire[start..]);
        wire.truncate(start + written.unwrap_or(0));
    }
    false
}

/// Appends `plain` to `wire` in records.
fn encrypt(
    mut traffic: WriteTraffic<'_, ServerConnectionData>,
    plain: &[u8],
    wire: &mut Vec<u8>,
) -> Result<(), Box<str>> {
    let start = wire.len();
    let records = plain.len().div_ceil(RECORD_PLAIN);
    let mut room = plain.len() + records * RECORD_OVERHEAD;
    loop {
        wire.resize(start + room, 0);
        match traffic.encrypt(plain, &mut wire[start..]) {
            Ok(written) => {
                wire.truncate(start + written);
                return Ok(());
            }
            // An answer to the peer's key update goes along.
            Err(EncryptError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => {
                wire.truncate(start);
                return Err(error.to_string().into());
            }
        }
    }
}

/// The text of a fault whose first bytes were not TLS: mostly another protocol was spoken.
fn unlike_tls(first: &[u8], error: &Error) -> Box<str> {
    const METHODS: [&[u8]; 5] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS "];
    if METHODS.iter().any(|method| first.starts_with(method)) {
        return "the client speaks HTTP without TLS".into();
    }
    match first.first() {
        Some(0x10) => "the client speaks MQTT without TLS".into(),
        // A handshake record or an alert.
        Some(0x15 | 0x16) => told(error),
        _ => "the client does not speak TLS".into(),
    }
}

/// The text of a fault.
fn told(error: &Error) -> Box<str> {
    let text = match error {
        Error::AlertReceived(alert) => format!("the client sent the alert {alert:?}"),
        Error::NoCertificatesPresented => "the client shows no certificate".into(),
        Error::InvalidCertificate(reason) => format!("bad client certificate: {reason}"),
        Error::NoApplicationProtocol => "the client offers neither mqtt nor http/1.1".into(),
        other => other.to_string(),
    };
    text.chars().take(FAULT_MAX).collect::<String>().into()
}
