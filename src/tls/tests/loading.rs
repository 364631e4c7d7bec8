//! Files: what is wrong with them, which certificate serves whom, and reading them again.

use super::super::certificate::AlternativeName::Dns;
use super::super::{ClientCertificates, TlsError};
use super::*;

#[test]
fn an_error_names_the_file_and_what_helps() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let good = settings(&place, &authority);
    let with = |certificate: &Path, key: &Path| {
        let (certificate, key) = (certificate.into(), key.into());
        let certificates = vec![Identity { certificate, key, names: Vec::new() }];
        ServerTls::load(&TlsSettings { certificates, ..good.clone() })
    };
    let Identity { certificate, key, .. } = good.certificates[0].clone();
    let missing = place.0.join("missing.pem");
    let text = text_of_error(with(&missing, &key), &missing);
    assert!(text.contains("missing.pem: ") && text.contains("check the path"), "{text}");
    text_of_error(with(&certificate, &missing), &missing);
    assert!(text_of_error(with(&key, &key), &key).contains("no certificate in it"));
    assert!(
        text_of_error(with(&certificate, &certificate), &certificate)
            .contains("no private key in it")
    );
    let other = authority.server(&["other"]).write(&place, "other");
    let text = text_of_error(with(&certificate, &other.key), &other.key);
    assert!(text.contains("does not belong to the first certificate of"), "{text}");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let junk = place.write("junk.pem", junk);
    assert!(text_of_error(with(&junk, &key), &junk).contains("certificate 1 of it"));
    let cut = place.write("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    assert!(text_of_error(with(&cut, &key), &cut).contains("not well-formed PEM"));
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    let locked = place.write("locked.key", locked);
    assert!(text_of_error(with(&certificate, &locked), &locked).contains("encrypted"));
    let none = ServerTls::load(&TlsSettings { certificates: Vec::new(), ..good.clone() });
    assert_eq!(none.err().expect("nothing to show").file, None);
}

#[test]
fn errors_about_client_certificates_name_the_file_too() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let good = TlsSettings {
        client_certificates: ClientCertificates::Required,
        client_ca: Some(place.write("ca.pem", authority.pem())),
        ..settings(&place, &authority)
    };
    let error = ServerTls::load(&TlsSettings { client_ca: None, ..good.clone() }).err();
    assert!(error.expect("who issues them?").remedy.contains("name the file"));
    let missing = place.0.join("missing");
    let client_ca = Some(missing.clone());
    text_of_error(ServerTls::load(&TlsSettings { client_ca, ..good.clone() }), &missing);
    let with =
        |file: &Path| ServerTls::load(&TlsSettings { crl: vec![file.into()], ..good.clone() });
    text_of_error(with(&missing), &missing);
    for (name, text) in [("pem.crl", authority.pem()), ("der.crl", "no list".into())] {
        let file = place.write(name, text);
        assert!(text_of_error(with(&file), &file).contains("revocation list"));
    }
    with(&place.write("good.crl", authority.revoke(&[7], 4000))).unwrap();
    let pem = authority.revoke(&[7], 4000);
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes());
    let der: rustls::pki_types::CertificateRevocationListDer<'_> = der.unwrap();
    with(&place.write("good.der", &der[..])).unwrap();
}

#[test]
fn certificates_out_of_time_are_warned_of() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let good = settings(&place, &authority);
    assert_eq!(load(&good).warnings(), [""; 0]);
    let mut params = CertificateParams::new(vec!["old".into()]).unwrap();
    params.not_after = date_time_ymd(2020, 1, 1);
    let old = authority.issue(&params).write(&place, "old");
    params.not_after = date_time_ymd(4000, 1, 1);
    params.not_before = date_time_ymd(3000, 1, 1);
    let new = authority.issue(&params).write(&place, "new");
    let server = load(&TlsSettings {
        certificates: vec![old, new],
        client_certificates: ClientCertificates::Optional,
        client_ca: Some(place.write("ca.pem", authority.pem())),
        crl: vec![place.write("stale.crl", authority.revoke(&[], 2021))],
        ..good.clone()
    });
    let warnings = server.warnings();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("old.pem: the certificate expired"), "{warnings:?}");
    assert!(warnings[1].contains("new.pem: the certificate is not valid yet"), "{warnings:?}");
    assert!(warnings[2].contains("stale.crl: the revocation list should"), "{warnings:?}");
    server.reload(&good).unwrap();
    assert_eq!(server.warnings(), [""; 0]);
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let first = authority.server(&["localhost"]).write(&place, "first");
    let exact = authority.server(&["mqtt.example.com"]).write(&place, "exact");
    let wild = authority.server(&["*.example.com", "example.com"]).write(&place, "wild");
    let named = authority.server(&["shown.example.net"]).write(&place, "named");
    let named = Identity { names: vec!["*.Example.net.".into()], ..named };
    let certificates = vec![first, exact, wild, named];
    let server = load(&TlsSettings { certificates, ..settings(&place, &authority) });
    let config = ClientSide::new(&authority).config();
    let cases = [
        ("localhost", "localhost"),
        ("mqtt.example.com", "mqtt.example.com"),
        ("MQTT.example.com", "mqtt.example.com"),
        ("any.example.com", "*.example.com"),
        ("example.com", "*.example.com"),
        ("shown.example.net", "shown.example.net"),
    ];
    for (asked, shown) in cases {
        let pair = Pair::open(&server, &config, asked);
        assert_eq!(pair.shown()[0], Dns(shown.into()), "{asked}");
    }
    // The client objects to these, for it gets the first one.
    for asked in ["a.b.example.com", "unknown.org", "127.0.0.1"] {
        let mut pair = Pair::new(&server, &config, asked);
        let fault = pair.exchange().unwrap_err();
        assert_eq!(&*fault.what, "the client sent the alert BadCertificate", "{asked}");
        let name = pair.tls.details().server_name;
        assert_eq!(name.as_deref(), Some(asked).filter(|name| !name.starts_with('1')));
    }
}

#[test]
fn a_connection_keeps_what_it_began_with() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let before = settings(&place, &authority);
    let server = load(&before);
    let config = ClientSide::new(&authority).config();
    let mut open = Pair::open(&server, &config, "localhost");
    let mut midway = Pair::new(&server, &config, "localhost");

    let next = authority.server(&["localhost", "next"]).write(&place, "next");
    server.reload(&TlsSettings { certificates: vec![next], ..before }).unwrap();
    assert_eq!(open.say(b"still here").unwrap(), b"still here");
    assert_eq!(open.send(&[7; 100]), [7; 100]);
    midway.exchange().unwrap();
    assert_eq!(midway.shown().len(), 1);
    // A session is resumed with the certificate it began with: so another client.
    let fresh = ClientSide::new(&authority).config();
    assert_eq!(Pair::open(&server, &fresh, "localhost").shown().len(), 2);
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let good = settings(&place, &authority);
    let server = load(&good);
    std::fs::write(&good.certificates[0].key, "junk").unwrap();
    let error: TlsError = server.reload(&good).unwrap_err();
    assert_eq!(error.file, Some(good.certificates[0].key.clone()));
    let config = ClientSide::new(&authority).config();
    assert_eq!(Pair::open(&server, &config, "localhost").shown(), [Dns("localhost".into())]);
}
