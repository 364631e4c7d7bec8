//! Requests to web services, by threads that may wait for them.

use crate::tls::default_provider;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body};

/// Bytes of a body at most.
const BODY_MAX: u64 = 1 << 20;

/// The certificates of a PEM file, by which servers are believed.
///
/// # Errors
/// It has none, or one that is damaged.
pub(super) fn authorities(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        let item = item.map_err(|error| format!("it is damaged: {error}"))?;
        if let PemItem::Certificate(certificate) = item {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err("it has no certificate; name a PEM file of authorities".into()),
        false => Ok(found),
    }
}

/// Who sends requests, one connection for each that are under way; connections are kept open.
/// Redirects are not followed: what is sent may be secret. `pem` is checked by [`authorities`].
pub(super) fn agent(pem: &[u8], timeout_ms: u32, connections: usize) -> Agent {
    let roots = RootCerts::from(authorities(pem).unwrap_or_default());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .root_certs(roots)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .timeout_global(Some(Duration::from_millis(timeout_ms.into())))
        .user_agent(concat!("corelane/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// All of a body.
///
/// # Errors
/// It ends early, or is larger than any that is meant.
pub(super) fn whole(body: &mut Body) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = body.as_reader().take(BODY_MAX + 1);
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match bytes.len() as u64 > BODY_MAX {
        true => Err(format!("the answer is larger than {BODY_MAX} bytes")),
        false => Ok(bytes),
    }
}
