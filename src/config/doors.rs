//! What must hold between the keys of one listener about TLS, WebSocket and proxies.

use super::choice::{CertificateUser, TlsClientCertificate};
use super::fault::Fault;
use super::read::Scan;
use super::{Config, ListenerConfig};

/// Files a fault for each key that says nothing without another one.
pub(super) fn check(config: &Config, scan: &mut Scan) {
    for (at, listener) in config.listeners.iter().enumerate() {
        let path = format!("listener[{at}]");
        if !scan.is_faulty(&path) {
            for (key, reason, remedy) in faults(listener) {
                let key = format!("{path}.{key}");
                let line = scan.line_of(&key);
                scan.file(Fault { line, key, reason: reason.into(), remedy: remedy.into() });
            }
        }
    }
}

/// The key, what is wrong with it, and what mends it.
type Wrong = (&'static str, &'static str, &'static str);

fn faults(listener: &ListenerConfig) -> Vec<Wrong> {
    let rows = certificates(listener).into_iter().chain(others(listener));
    rows.filter_map(|(is_wrong, wrong)| is_wrong.then_some(wrong)).collect()
}

fn certificates(listener: &ListenerConfig) -> [(bool, Wrong); 5] {
    const ASK: &str = "write tls_client_certificate = \"required\" or \"optional\"";
    const UNASKED: &str = "clients are not asked for a certificate";
    let certificates = listener.tls_certificate.as_slice().len();
    let asks = listener.tls_client_certificate != TlsClientCertificate::Off;
    let has_ca = listener.tls_client_ca.given().is_some();
    let has_crl = !listener.tls_client_crl.as_slice().is_empty();
    let keys = (
        "tls_key",
        "there are not as many keys as certificates",
        "write one key for each of tls_certificate, in the same order",
    );
    let without = (
        "tls_client_certificate",
        "there is no TLS without a certificate",
        "write tls_certificate and tls_key, or leave it out",
    );
    let unnamed = (
        "tls_client_certificate",
        "nobody is named whose certificates are believed",
        "write tls_client_ca = \"ca.pem\"",
    );
    [
        (listener.tls_key.as_slice().len() != certificates, keys),
        (asks && certificates == 0, without),
        (asks && !has_ca, unnamed),
        (has_ca && !asks, ("tls_client_ca", UNASKED, ASK)),
        (has_crl && !asks, ("tls_client_crl", UNASKED, ASK)),
    ]
}

fn others(listener: &ListenerConfig) -> [(bool, Wrong); 5] {
    let asks = listener.tls_client_certificate != TlsClientCertificate::Off;
    let forwarded = !listener.proxy_from.as_slice().is_empty();
    let named = listener.certificate_user != CertificateUser::Off;
    let user = (
        "certificate_user",
        "clients show no certificate",
        "write tls_client_certificate = \"required\" or \"optional\", or proxy_from",
    );
    let unix = (
        "proxy_from",
        "clients of a Unix socket have no address",
        "leave it out, or listen on an address",
    );
    let plain = |key, empty: bool| {
        let remedy = "write websocket = true, or leave it out";
        (!empty && !listener.websocket, (key, "this is no WebSocket", remedy))
    };
    [
        (named && !asks && !forwarded, user),
        (forwarded && listener.unix_path.given().is_some(), unix),
        plain("websocket_paths", listener.websocket_paths.as_slice().is_empty()),
        plain("websocket_origins", listener.websocket_origins.as_slice().is_empty()),
        plain("websocket_proxies", listener.websocket_proxies.as_slice().is_empty()),
    ]
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn keys_of_a_listener_that_need_another_say_which() {
        for (keys, line, said) in [
            ("tls_certificate = [\"a.pem\"]", 2, "as many keys as certificates"),
            ("tls_key = [\"a.pem\"]", 2, "as many keys as certificates"),
            ("tls_client_certificate = \"required\"", 2, "tls_client_ca"),
            ("tls_client_ca = \"ca.pem\"", 2, "required"),
            ("tls_client_crl = [\"ca.crl\"]", 2, "required"),
            ("certificate_user = \"common_name\"", 2, "clients show no certificate"),
            ("websocket_paths = [\"/mqtt\"]", 2, "websocket = true"),
            ("websocket_origins = [\"https://a\"]", 2, "websocket = true"),
            ("websocket_proxies = [\"10.0.0.0/8\"]", 2, "websocket = true"),
            ("allow_networks = [\"10.0.0.0/33\"]", 2, "10.0.0.0/33"),
        ] {
            let text = format!("[[listener]]\n{keys}\n");
            let faults = parse(&text).expect_err(keys);
            let shown = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            // A key that was not written has no line.
            let line = format!("line {line}: ");
            let written = shown.contains(&line) || keys.starts_with("tls_certificate");
            assert!(written && shown.contains(said), "{keys}\n{shown}");
        }
        let good = "[[listener]]\ntls_certificate = [\"a\"]\ntls_key = [\"a\"]\nwebsocket = true\n\
                    tls_client_certificate = \"optional\"\ntls_client_ca = \"ca\"\n\
                    certificate_user = \"dns\"\nwebsocket_paths = [\"/mqtt\"]\n";
        parse(good).expect("a valid listener");
    }
}
