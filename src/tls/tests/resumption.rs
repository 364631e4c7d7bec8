//! Sessions that are taken up again: on another core, after a reload, or not at all.

use super::*;

/// Whether a second connection takes up the session of the first.
fn resumes(server: &ServerTls, config: &Arc<ClientConfig>) -> bool {
    let mut pair = Pair::open(server, config, "localhost");
    assert_eq!(pair.say(b"PUBLISH").unwrap(), b"PUBLISH");
    let resumed = pair.tls.details().resumed;
    let kind = pair.client.handshake_kind();
    assert_eq!(resumed, kind == Some(rustls::HandshakeKind::Resumed));
    resumed
}

#[test]
fn a_session_goes_on_at_another_core() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&settings(&place, &authority));
    for version in VERSIONS {
        let config = ClientSide::new(&authority).version(version).config();
        // Every handshake has a thread of its own.
        let on_core = || std::thread::scope(|s| s.spawn(|| resumes(&server, &config)).join());
        assert!(!on_core().unwrap());
        assert!(on_core().unwrap());
        assert!(on_core().unwrap());
    }
}

#[test]
fn a_session_goes_on_after_a_reload() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let settings = settings(&place, &authority);
    let server = load(&settings);
    for version in VERSIONS {
        let config = ClientSide::new(&authority).version(version).config();
        assert!(!resumes(&server, &config));
        // The same name with another certificate, and one more name.
        authority.server(&["localhost"]).write(&place, "server");
        let other = authority.server(&["other"]).write(&place, "other");
        let certificates = vec![settings.certificates[0].clone(), other];
        server.reload(&TlsSettings { certificates, ..settings.clone() }).unwrap();
        assert!(resumes(&server, &config));
    }
}

#[test]
fn another_server_does_not_know_the_session() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let settings = settings(&place, &authority);
    let (one, other) = (load(&settings), load(&settings));
    for version in VERSIONS {
        let config = ClientSide::new(&authority).version(version).config();
        assert!(!resumes(&one, &config));
        assert!(!resumes(&other, &config));
    }
}

#[test]
fn without_tickets_every_handshake_is_whole() {
    let (place, authority) = (Place::new(), Authority::new("root"));
    let server = load(&TlsSettings { tickets: false, ..settings(&place, &authority) });
    for version in VERSIONS {
        let config = ClientSide::new(&authority).version(version).config();
        assert!(!resumes(&server, &config));
        assert!(!resumes(&server, &config));
    }
}

#[test]
fn the_age_of_keys_is_the_one_that_was_asked_for() {
    let ticketer = super::super::tickets::ticketer(60).unwrap();
    assert_eq!(ticketer.lifetime(), 120, "one age to make tickets, one more to open them");
    let ticket = ticketer.encrypt(b"session").unwrap();
    assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    let (place, authority) = (Place::new(), Authority::new("root"));
    for ticket_rotation_s in [0, super::super::TICKET_ROTATION_MAX_S + 1] {
        let wrong = TlsSettings { ticket_rotation_s, ..settings(&place, &authority) };
        let error = ServerTls::load(&wrong).err().expect("out of range").to_string();
        assert!(error.ends_with("give 1 to 21600 seconds"), "{error}");
    }
}
