//! Client certificates: off, optional, required, and which are refused.

use super::super::ClientCertificates;
use super::super::certificate::subject_common_name;
use super::*;

/// A server that believes clients of `authority`, with its revocation list in `lists`.
fn demanding(
    place: &Place,
    authority: &Authority,
    mode: ClientCertificates,
    lists: &[String],
) -> TlsSettings {
    let crl = lists.iter().enumerate().map(|(at, pem)| place.write(&format!("{at}.crl"), pem));
    TlsSettings {
        client_certificates: mode,
        client_ca: Some(place.write("ca.pem", authority.pem())),
        crl: crl.collect(),
        ..settings(place, authority)
    }
}

/// Who the server thinks the client is, or why it is refused.
fn meet(server: &ServerTls, client: ClientSide) -> Result<Option<String>, String> {
    let mut pair = Pair::new(server, &client.config(), "localhost");
    match pair.exchange() {
        Ok(()) => {
            assert!(pair.tls.is_open() && pair.objection.is_none());
            let der = pair.tls.details().client_certificate;
            Ok(der.map(|der| subject_common_name(&der).unwrap()))
        }
        Err(fault) => {
            assert!(!pair.tls.is_open());
            let alert = matches!(pair.objection, Some(rustls::Error::AlertReceived(_)));
            assert!(alert, "the client is told");
            Err(fault.what.into())
        }
    }
}

#[test]
fn a_required_certificate_is_shown_and_believed() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let mode = ClientCertificates::Required;
    let server = load(&demanding(&place, &authority, mode, &[]));
    let (good, stranger) = (authority.client("sensor", 7), Authority::new("other"));
    let wrong = stranger.client("sensor", 7);
    for version in VERSIONS {
        let client = || ClientSide::new(&authority).version(version);
        assert_eq!(meet(&server, client().showing(&good)), Ok(Some("sensor".into())));
        assert_eq!(meet(&server, client()), Err("the client shows no certificate".into()));
        let refused = meet(&server, client().showing(&wrong)).unwrap_err();
        assert!(refused.starts_with("bad client certificate: "), "{refused}");
    }
}

#[test]
fn an_optional_certificate_may_be_left_out_but_not_be_bad() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let mode = ClientCertificates::Optional;
    let server = load(&demanding(&place, &authority, mode, &[]));
    let wrong = Authority::new("other").client("sensor", 7);
    for version in VERSIONS {
        let client = || ClientSide::new(&authority).version(version);
        let good = client().showing(&authority.client("sensor", 7));
        assert_eq!(meet(&server, good), Ok(Some("sensor".into())));
        assert_eq!(meet(&server, client()), Ok(None));
        meet(&server, client().showing(&wrong)).unwrap_err();
    }
}

#[test]
fn without_interest_a_certificate_is_not_asked_for() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&demanding(&place, &authority, ClientCertificates::Off, &[]));
    let client = ClientSide::new(&authority).showing(&authority.client("sensor", 7));
    assert_eq!(meet(&server, client), Ok(None));
}

#[test]
fn a_revoked_certificate_is_refused() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let mode = ClientCertificates::Required;
    let list = authority.revoke(&[7], 4000);
    let server = load(&demanding(&place, &authority, mode, &[list]));
    for version in VERSIONS {
        let client = || ClientSide::new(&authority).version(version);
        let good = client().showing(&authority.client("sound", 8));
        assert_eq!(meet(&server, good), Ok(Some("sound".into())));
        let revoked = client().showing(&authority.client("stolen", 7));
        let refused = meet(&server, revoked).unwrap_err();
        assert!(refused.contains("Revoked"), "{refused}");
    }
}

#[test]
fn a_list_of_another_authority_covers_nobody() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let list = Authority::new("other").revoke(&[], 4000);
    let mode = ClientCertificates::Required;
    let server = load(&demanding(&place, &authority, mode, &[list]));
    let client = ClientSide::new(&authority).showing(&authority.client("sensor", 7));
    meet(&server, client).unwrap_err();
}

#[test]
fn a_ticket_does_not_outlive_its_clients_certificate() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let mode = ClientCertificates::Required;
    let empty = authority.revoke(&[], 4000);
    let before = demanding(&place, &authority, mode, &[empty]);
    for version in VERSIONS {
        let server = load(&before);
        let issued = authority.client("stolen", 7);
        let client = ClientSide::new(&authority).version(version).showing(&issued).config();
        Pair::open(&server, &client, "localhost");
        let resumed = Pair::open(&server, &client, "localhost").tls.details();
        assert!(resumed.resumed);
        let der = resumed.client_certificate.expect("kept in the ticket");
        assert_eq!(subject_common_name(&der).as_deref(), Some("stolen"));

        let list = place.write("revoked.crl", authority.revoke(&[7], 4000));
        server.reload(&TlsSettings { crl: vec![list], ..before.clone() }).unwrap();
        let fault = Pair::new(&server, &client, "localhost").exchange().unwrap_err();
        assert!(fault.what.contains("Revoked"), "{fault}");
    }
}
