//! Doors of every kind in front of a corelane broker in this process.

use super::*;
use crate::credentials::{CA_FILE, CERTIFICATE_FILE, Credentials, KEY_FILE};
use crate::engine::{self, Conditions, Target};
use crate::outcome::{BrokerVerdict, Outcome};
use crate::scenario::parse;
use corelane::access::HashedPassword;
use corelane::auth::Provisions;
use corelane::config;
use corelane::runtime::Requests;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tuning::placement::ShardPlace;

/// Credentials as files that go with the test.
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    /// Of an authority of their own.
    pub(crate) fn new() -> Files {
        Files::of(&Credentials::new().expect("there is randomness"))
    }

    fn of(credentials: &Credentials) -> Files {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        let name = format!("corelane-loadtest-door-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        credentials.write(&directory).expect("it is ours");
        Files { directory }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.join(CA_FILE)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join(CERTIFICATE_FILE)
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.join(KEY_FILE)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A broker with a listener for each way in; it lives as long as the process.
pub(crate) struct TestBroker {
    credentials: Credentials,
    pub(crate) tcp: SocketAddr,
    tls: SocketAddr,
    ws: SocketAddr,
    wss: SocketAddr,
    /// TLS for those who show a certificate.
    mutual: SocketAddr,
    /// Plain TCP for those with the password of their name.
    members: SocketAddr,
}

/// The one broker of all tests.
pub(crate) fn broker() -> &'static TestBroker {
    static BROKER: OnceLock<TestBroker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let free: [TcpListener; 6] =
            std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("loopback is there"));
        let at = free.each_ref().map(|listener| listener.local_addr().expect("bound"));
        drop(free);
        let [tcp, tls, ws, wss, mutual, members] = at;
        let credentials = Credentials::new().expect("there is randomness");
        let files = Files::of(&credentials);
        let users: String = (0..4)
            .map(|n| {
                let word = HashedPassword::new(format!("word-{n}").as_bytes(), [7; 16]);
                format!("user-{n}:{}\n", word.to_text())
            })
            .collect();
        std::fs::write(files.directory.join("users"), users).expect("it is ours");
        let text = configuration(at);
        thread::spawn(move || {
            let config = config::parse(&text).expect("a valid configuration");
            let provisions = Provisions::read(&config, &files.directory).expect("good files");
            drop(files);
            let places = [ShardPlace { shard: 0, cpu: None }];
            let served = corelane::broker::serve(&config, &provisions, &places, || None);
            panic!("the broker ended: {served:?}");
        });
        while at.iter().any(|address| TcpStream::connect(address).is_err()) {
            thread::sleep(Duration::from_millis(5));
        }
        TestBroker { credentials, tcp, tls, ws, wss, mutual, members }
    })
}

fn configuration([tcp, tls, ws, wss, mutual, members]: [SocketAddr; 6]) -> String {
    let own = format!(
        "tls_certificate = [\"{CERTIFICATE_FILE}\"]\ntls_key = [\"{KEY_FILE}\"]\n\
         allow_anonymous = true\n"
    );
    let listeners = [
        ("tcp", tcp, "allow_anonymous = true\n".to_owned()),
        ("tls", tls, own.clone()),
        ("ws", ws, "websocket = true\nallow_anonymous = true\n".to_owned()),
        ("wss", wss, format!("{own}websocket = true\nwebsocket_paths = [\"/mqtt\"]\n")),
        (
            "mutual",
            mutual,
            format!("{own}tls_client_certificate = \"required\"\ntls_client_ca = \"{CA_FILE}\"\n"),
        ),
        ("members", members, "allow_anonymous = false\n".to_owned()),
    ];
    let mut text = "access.password_file = \"users\"\n".to_owned();
    for (name, address, more) in listeners {
        text += &format!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}");
    }
    text
}

/// Two pairs, one of them with QoS 1 and 9,000 bytes, over a transport.
pub(crate) fn scenario(transport: Transport, files: &Files) -> Scenario {
    let text = r#"
        messages = 3000
        warmup_s = 0
        patience_s = 20
        [[group]]
        name = "hearers"
        role = "subscribe"
        topics = ["door/NAME/small"]
        [[group]]
        name = "talkers"
        role = "publish"
        topics = ["door/NAME/small"]
        [[group]]
        name = "receivers"
        role = "subscribe"
        topics = ["door/NAME/large"]
        qos = 1
        [[group]]
        name = "senders"
        role = "publish"
        topics = ["door/NAME/large"]
        qos = 1
        payload = 9000
        window = 32
    "#;
    let mut scenario = parse("door", &text.replace("NAME", transport.name())).expect("valid");
    scenario.transport = transport;
    if transport.is_encrypted() {
        scenario.ca = Some(files.ca());
    }
    scenario
}

fn drive(scenario: &Scenario, address: SocketAddr) -> Outcome {
    crate::scenario::check(scenario).expect("the scenario is valid");
    let target = Target::new("corelane".into(), address, None, scenario).expect("good files");
    let (requests, watch) = (Requests::new(Vec::new()), &mut |_: engine::Live<'_>| {});
    let label = String::new();
    engine::run(scenario, &mut Conditions { target: &target, requests: &requests, watch, label })
}

#[test]
fn a_scenario_passes_every_door() {
    let broker = broker();
    let files = Files::of(&broker.credentials);
    for (transport, address) in [
        (Transport::Tcp, broker.tcp),
        (Transport::Tls, broker.tls),
        (Transport::Ws, broker.ws),
        (Transport::Wss, broker.wss),
    ] {
        let found = drive(&scenario(transport, &files), address);
        assert!(found.passed(), "{transport:?}: {found:?}");
        assert!(found.truth.checked >= 3_000 && found.totals.acknowledged > 0, "{transport:?}");
        assert_eq!(found.totals.connects, 4);
    }
}

#[test]
fn clients_vanish_return_and_take_over_through_tls_and_websocket() {
    let broker = broker();
    let files = Files::of(&broker.credentials);
    let text = r#"
        seconds = 1
        warmup_s = 0
        patience_s = 20
        version = "5"
        [[group]]
        name = "rivals"
        role = "subscribe"
        count = 3
        topics = ["door/rivals/{i}"]
        qos = 1
        clean = false
        expiry_s = 60
        takeover_every_s = 0.1
        [[group]]
        name = "sleepers"
        role = "subscribe"
        count = 3
        topics = ["door/rivals/{i}"]
        qos = 1
        clean = false
        expiry_s = 60
        offline_at_s = 0.2
        offline_s = 0.3
        [[group]]
        name = "writers"
        role = "publish"
        count = 3
        topics = ["door/rivals/{i}"]
        qos = 1
        rate = 300
    "#;
    let mut scenario = parse("rivals", text).expect("valid");
    (scenario.transport, scenario.ca) = (Transport::Wss, Some(files.ca()));
    let found = drive(&scenario, broker.wss);
    assert!(found.passed(), "{:?} {:?} {:?}", found.partial, found.truth, found.totals);
    assert!(found.totals.takeovers > 3, "{:?}", found.totals);
    assert_eq!(found.totals.reconnects, found.totals.takeovers + 3);
    assert_eq!(found.totals.resumed, found.totals.reconnects);
}

#[test]
fn a_certificate_opens_the_mutual_door() {
    let broker = broker();
    let files = Files::of(&broker.credentials);
    let mut scenario = scenario(Transport::Tls, &files);
    let found = drive(&scenario, broker.mutual);
    assert!(matches!(found.broker, BrokerVerdict::Refused(_)), "{:?}", found.broker);
    (scenario.certificate, scenario.key) = (Some(files.certificate()), Some(files.key()));
    scenario.server_name = Some("localhost".into());
    let found = drive(&scenario, broker.mutual);
    assert!(found.passed(), "{found:?}");
}

#[test]
fn each_client_has_a_name_and_a_password_of_its_own() {
    let (broker, files) = (broker(), Files::new());
    let mut scenario = scenario(Transport::Tcp, &files);
    for (at, group) in scenario.groups.iter_mut().enumerate() {
        group.first = at;
    }
    scenario.user = Some("user-{i}".into());
    scenario.password = Some("word-{i}".into());
    let found = drive(&scenario, broker.members);
    assert!(found.passed(), "{found:?}");
    scenario.password = Some("word-0".into());
    let found = drive(&scenario, broker.members);
    assert!(matches!(found.broker, BrokerVerdict::Refused(_)), "{:?}", found.broker);
}

#[test]
fn a_closed_door_says_why() {
    let (broker, strange) = (broker(), Files::new());
    let files = Files::of(&broker.credentials);
    let refused = |scenario: &Scenario, address| match drive(scenario, address).broker {
        BrokerVerdict::Refused(why) => why,
        other => panic!("not refused: {other:?}"),
    };
    let why = refused(&scenario(Transport::Tls, &strange), broker.tls);
    assert!(why.contains("invalid peer certificate"), "{why}");
    let mut named = scenario(Transport::Tls, &files);
    named.server_name = Some("elsewhere.example".into());
    let why = refused(&named, broker.tls);
    assert!(why.contains("not valid for name"), "{why}");
    let mut lost = scenario(Transport::Wss, &files);
    lost.path = "/elsewhere".into();
    let why = refused(&lost, broker.wss);
    assert!(why.contains("no WebSocket at this path"), "{why}");
}

#[test]
fn what_is_missing_is_named() {
    let files = Files::new();
    let address = "127.0.0.1:8883".parse().expect("an address");
    let refused = |scenario: &Scenario| Door::new(scenario, address).expect_err("refused");
    let good = scenario(Transport::Tls, &files);
    let bare = Scenario { ca: None, ..good.clone() };
    let why = refused(&bare);
    assert!(why.contains("tls needs --ca FILE") && why.contains("--insecure"), "{why}");
    let why = refused(&Scenario { ca: Some("/no/such/ca.pem".into()), ..good.clone() });
    assert!(why.starts_with("--ca /no/such/ca.pem: "), "{why}");
    let why = refused(&Scenario { ca: Some(files.key()), ..good.clone() });
    assert!(why.ends_with("no BEGIN CERTIFICATE section in it"), "{why}");
    let shown = Scenario { certificate: Some(files.certificate()), ..good.clone() };
    let why = refused(&Scenario { key: Some("/no/such/key.pem".into()), ..shown.clone() });
    assert!(why.starts_with("--key /no/such/key.pem: "), "{why}");
    let why = refused(&Scenario { key: Some(Files::new().key()), ..shown });
    assert!(why.starts_with("--key ") || why.starts_with("--certificate "), "{why}");
    let why = refused(&Scenario { server_name: Some("no name".into()), ..good });
    assert!(why.starts_with("--server-name no name: "), "{why}");
}

/// A pair at QoS 1 and strangers of every manner, who must not get in.
fn storm(files: &Files) -> Scenario {
    let text = r#"
        seconds = 0.5
        warmup_s = 0
        patience_s = 20
        transport = "tls"
        [[group]]
        name = "inside"
        role = "subscribe"
        topics = ["door/storm"]
        qos = 1
        [[group]]
        name = "writer"
        role = "publish"
        topics = ["door/storm"]
        qos = 1
        rate = 200
        [[group]]
        name = "guessers"
        count = 9
        expects_refusal = true
        user = "user-1"
        password = "word-{i}{i}"
        [[group]]
        name = "visitors"
        count = 8
        expects_refusal = true
        manner = "handshake"
        [[group]]
        name = "leavers"
        count = 7
        expects_refusal = true
        manner = "hello"
        [[group]]
        name = "noise"
        count = 6
        expects_refusal = true
        manner = "noise"
    "#;
    let mut scenario = parse("storm", text).expect("valid");
    scenario.ca = Some(files.ca());
    scenario
}

#[test]
fn strangers_are_turned_away_and_nobody_inside_loses_anything() {
    let broker = broker();
    let files = Files::of(&broker.credentials);
    let found = drive(&storm(&files), broker.tls);
    assert!(found.passed() && found.truth.checked > 50, "{found:?}");
    assert_eq!((found.totals.refused, found.totals.connects), (30, 2));
}

#[test]
fn a_stranger_who_gets_in_fails_the_run() {
    let broker = broker();
    let files = Files::of(&broker.credentials);
    let mut scenario = storm(&files);
    scenario.groups[2].password = Some("word-1".into());
    let found = drive(&scenario, broker.tls);
    assert!(matches!(found.broker, BrokerVerdict::Misbehaved(_)), "{:?}", found.broker);
    assert!(found.partial.is_some_and(|why| why.contains("was let in")));
}
