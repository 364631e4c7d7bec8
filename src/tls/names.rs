//! Which of the server's certificates a client gets, and which server name it asked for.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

thread_local! {
    /// The library hides the server name of a connection without buffers, but tells it to the
    /// resolver within the call that reads the ClientHello; so it is left here for the caller.
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The server name of the ClientHello that was read on this thread since the last call.
pub fn asked() -> Option<Box<str>> {
    ASKED.take()
}

/// Certificates by server name.
#[derive(Debug)]
pub struct Certificates {
    default: Arc<CertifiedKey>,
    /// Whole names, in lower case.
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// What follows `*.`, in lower case.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Every client gets `default` so far.
    pub fn new(default: Arc<CertifiedKey>) -> Certificates {
        Certificates { default, exact: HashMap::new(), wildcard: HashMap::new() }
    }

    /// Clients that ask for `name`, or for one label in place of a leading `*`, get `certificate`,
    /// unless the name was taken before.
    pub fn add(&mut self, name: &str, certificate: &Arc<CertifiedKey>) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (table, name) = match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, name.as_str()),
        };
        table.entry(name.into()).or_insert_with(|| certificate.clone());
    }

    fn choose(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let found = self.exact.get(name.as_str());
        let found = found.or_else(|| parent.and_then(|parent| self.wildcard.get(parent)));
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        ASKED.set(name.map(Box::from));
        Some(name.map_or(&self.default, |name| self.choose(name)).clone())
    }
}
