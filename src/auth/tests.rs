//! Providers as listeners ask them: tokens of every kind, and a web service that is slow, dead or
//! talks nonsense.

mod service;
mod tokens;

use super::{Judge, Provisions};
use crate::access::{Credentials, HashedPassword, Identity, Verdict};
use crate::config;
use crate::shard::ConnectionKey;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest time for anything; reached only where something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that goes when this does.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("corelane-auth-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Place(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), bytes).expect("a file there");
    }

    fn provisions(&self, text: &str) -> Result<Provisions, String> {
        let config = config::parse(text).map_err(|faults| format!("{faults:?}"))?;
        Provisions::read(&config, &self.0).map_err(|error| error.to_string())
    }

    /// With a user `ann` of group `red` whose password is `right`.
    fn users(&self) {
        let hash = HashedPassword::new(b"right", [7; 16]).to_text();
        self.write("users", format!("ann:{hash}:red\n"));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn credentials(user: &str, password: &str) -> Box<Credentials> {
    Box::new(Credentials {
        listener: 0,
        client_id: "c1".into(),
        user: Some(user.into()),
        password: Some(password.as_bytes().into()),
        peer: None,
        step: None,
    })
}

/// Somebody who asks a judge and waits for the answers.
struct Asker {
    desk: super::Desk,
    woken: crossbeam_channel::Receiver<()>,
}

impl Asker {
    fn new(judge: &Judge) -> Asker {
        let (wake, woken) = crossbeam_channel::unbounded();
        let wake = Arc::new(move || wake.send(()).unwrap_or_default());
        Asker { desk: judge.desk(wake), woken }
    }

    fn put(&mut self, number: u32, credentials: Box<Credentials>) -> Option<Verdict> {
        self.desk.ask(ConnectionKey::from_parts(number, 0), credentials)
    }

    fn next(&mut self) -> (u32, Verdict) {
        self.woken.recv_timeout(PATIENCE).expect("an answer in time");
        let (key, verdict) = self.desk.answer().expect("what it was woken for");
        (key.index(), verdict)
    }

    fn ask(&mut self, credentials: Box<Credentials>) -> Verdict {
        match self.put(7, credentials) {
            Some(verdict) => verdict,
            None => self.next().1,
        }
    }
}

fn proven(verdict: Verdict) -> Identity {
    match verdict {
        Verdict::Proven(identity) => *identity,
        other => panic!("proven, not {other:?}"),
    }
}

fn judge(place: &Place, text: &str) -> Judge {
    let provisions = place.provisions(text).expect(text);
    Judge::start(1, 64, &provisions).expect("threads")
}

/// A file in the tests' place can't be used; tells why.
fn refused(place: &Place, text: &str) -> String {
    place.provisions(text).map(|_| ()).expect_err(text)
}

#[test]
fn the_first_that_knows_the_client_decides() {
    let place = Place::new();
    place.users();
    place.write("secret", tokens::SECRET);
    let jwt = "[[auth_jwt]]\nalgorithms = [\"HS256\"]\nkey_file = \"secret\"\n";
    let text = format!("access.password_file = \"users\"\n{jwt}");
    let judge = judge(&place, &text);
    let mut asker = Asker::new(&judge);
    let ann = proven(asker.ask(credentials("ann", "right")));
    assert_eq!((&*ann.user, &*ann.groups[0]), ("ann", "red"));
    let token = tokens::signed(&[("sub", "bob".into())]);
    assert_eq!(&*proven(asker.ask(credentials("whoever", &token))).user, "bob");
    assert_eq!(asker.ask(credentials("whoever", "right")), Verdict::Wrong, "nobody knows it");
    assert_eq!(asker.ask(credentials("ann", &token)), Verdict::Wrong, "the file knows ann");

    // Only tokens, then only passwords.
    let chain = |name: &str| format!("{text}[[listener]]\nauthentication = [\"{name}\"]\n");
    judge.replace(&place.provisions(&chain("jwt")).expect("valid")).expect("threads");
    assert_eq!(&*proven(asker.ask(credentials("ann", &token))).user, "bob");
    assert_eq!(asker.ask(credentials("ann", "right")), Verdict::Wrong);
    judge.replace(&place.provisions(&chain("password")).expect("valid")).expect("threads");
    assert_eq!(asker.ask(credentials("whoever", &token)), Verdict::Wrong);
    assert_eq!(&*proven(asker.ask(credentials("ann", "right"))).user, "ann");
}

#[test]
fn a_missing_file_is_named() {
    let text = "[[auth_jwt]]\nalgorithms = [\"ES256\"]\nkey_file = \"missing.pem\"\n";
    let said = refused(&Place::new(), text);
    assert!(said.contains("missing.pem") && said.contains("can't be read"), "{said}");
    let text = "[[auth_http]]\nurl = \"https://[::1]:1/\"\nca_file = \"ca.pem\"\n";
    let place = Place::new();
    place.write("ca.pem", "nothing of the kind");
    let said = refused(&place, text);
    assert!(said.contains("ca.pem") && said.contains("no certificate"), "{said}");
}
