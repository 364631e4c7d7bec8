//! A web service that answers when it is told to, and what happens to clients meanwhile.

use super::{Asker, PATIENCE, Place, credentials, judge, proven};
use crate::access::Verdict;
use crossbeam_channel::{Receiver, unbounded};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A server on the loopback net; each connection carries one request.
pub(super) struct Service {
    address: SocketAddr,
    requests: Receiver<Request>,
}

/// A request that waits for its answer; dropped, its connection just ends.
pub(super) struct Request {
    pub(super) text: String,
    stream: TcpStream,
}

impl Request {
    pub(super) fn send(mut self, answer: &str) {
        self.stream.write_all(answer.as_bytes()).expect("the other side listens");
    }
}

/// An answer with a body.
pub(super) fn answer(status: u16, body: &str) -> String {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}");
    format!("{head}\r\n\r\n{body}")
}

impl Service {
    pub(super) fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        Service::on(listener)
    }

    fn on(listener: TcpListener) -> Service {
        let address = listener.local_addr().expect("bound");
        let (sender, requests) = unbounded();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(request) = stream.ok().and_then(read) else { continue };
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Service { address, requests }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/auth", self.address)
    }

    /// The next request.
    pub(super) fn next(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).expect("a request in time")
    }

    /// The next request, if it has come.
    pub(super) fn poll(&self) -> Option<Request> {
        self.requests.try_recv().ok()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Its thread sees that nobody is there any more.
        self.requests = unbounded().1;
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        }
    }
}

/// The request of a connection, with its body.
fn read(mut stream: TcpStream) -> Option<Request> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return Some(Request { text, stream });
            }
        }
        match stream.read(&mut chunk).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn text(service: &Service, more: &str) -> String {
    format!("[[auth_http]]\nurl = \"{}\"\n{more}", service.url())
}

#[test]
fn the_service_is_told_everything_and_its_answer_is_kept() {
    let (place, service) = (Place::new(), Service::start());
    place.write("token", "Bearer abc\n");
    let judge = judge(&place, &text(&service, "authorization_file = \"token\"\n"));
    let mut asker = Asker::new(&judge);
    assert_eq!(asker.put(1, credentials("ann", "a\"b")), None);
    let request = service.next();
    let (head, body) = request.text.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("POST /auth HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    assert!(head.contains("authorization: bearer abc\r\n"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let told: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let expected = serde_json::json!({
        "client_id": "c1", "user": "ann", "password": "a\"b", "listener": "tcp", "address": null,
    });
    assert_eq!(told, expected);
    request.send(&answer(200, r#"{"user": "anna", "groups": ["red"], "lasts_s": 600}"#));
    let (_, verdict) = asker.next();
    let anna = proven(verdict);
    assert_eq!((&*anna.user, anna.groups.len(), anna.lasts_s), ("anna", 1, Some(600)));
    // The same is known now, another password is not.
    assert_eq!(&*proven(asker.ask(credentials("ann", "a\"b"))).user, "anna");
    assert_eq!(asker.put(2, credentials("ann", "other")), None);
    service.next().send(&answer(403, ""));
    assert_eq!(asker.next(), (2, Verdict::Wrong));
    assert_eq!(asker.ask(credentials("ann", "other")), Verdict::Wrong);
    assert!(service.poll().is_none(), "nobody asked twice");
}

#[test]
fn a_form_has_the_same_fields() {
    let (place, service) = (Place::new(), Service::start());
    let judge = judge(&place, &text(&service, "format = \"form\"\n"));
    let mut asker = Asker::new(&judge);
    assert_eq!(asker.put(1, credentials("a&b", "x=y z")), None);
    let request = service.next();
    let (head, body) = request.text.split_once("\r\n\r\n").expect("a body");
    assert!(head.to_lowercase().contains("application/x-www-form-urlencoded"), "{head}");
    for pair in ["client_id=c1", "user=a%26b", "password=x%3Dy", "listener=tcp"] {
        assert!(body.contains(pair), "{body}");
    }
    request.send(&answer(204, ""));
    assert_eq!(&*proven(asker.next().1).user, "a&b");
}

#[test]
fn what_is_no_clear_answer_lets_nobody_in() {
    let (place, service) = (Place::new(), Service::start());
    let judge = judge(&place, &text(&service, "max_failures = 0\n"));
    let mut asker = Asker::new(&judge);
    let elsewhere = "HTTP/1.1 302 x\r\nlocation: /yes\r\ncontent-length: 0\r\n\r\n".to_owned();
    let short = "HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\n{}".to_owned();
    for bad in [
        answer(500, "{}"),
        answer(404, "{}"),
        answer(200, "fine"),
        elsewhere,
        short,
        "SSH-2.0-x\r\n".to_owned(),
        String::new(),
    ] {
        assert_eq!(asker.put(3, credentials("ann", "x")), None);
        service.next().send(&bad);
        assert_eq!(asker.next(), (3, Verdict::Unavailable), "{bad}");
    }
    assert_eq!(asker.put(3, credentials("ann", "x")), None);
    service.next().send(&answer(200, "{}"));
    proven(asker.next().1);
}

#[test]
fn a_slow_service_delays_only_its_own_clients() {
    let (place, service) = (Place::new(), Service::start());
    place.users();
    let chain = "[[listener]]\nauthentication = [\"password\", \"http\"]\n";
    let http = text(&service, "max_requests = 2\nqueue = 3\ntimeout_ms = 60000\n");
    let text = format!("access.password_file = \"users\"\n{http}{chain}");
    let judge = judge(&place, &text);
    let mut asker = Asker::new(&judge);
    // Two are asked about, three wait, the others are told so.
    let mut held = Vec::new();
    for number in 0..2 {
        assert_eq!(asker.put(number, credentials("bob", &number.to_string())), None);
        held.push(service.next());
    }
    for number in 2..7 {
        assert_eq!(asker.put(number, credentials("bob", &number.to_string())), None);
    }
    let mut busy = [asker.next(), asker.next()];
    busy.sort_by_key(|(number, _)| *number);
    assert_eq!(busy, [(5, Verdict::Busy), (6, Verdict::Busy)]);
    // Who is known from elsewhere is not held up by that.
    assert_eq!(&*proven(asker.ask(credentials("ann", "right"))).user, "ann");
    assert_eq!(asker.ask(credentials("ann", "wrong")), Verdict::Wrong);
    for request in held {
        request.send(&answer(200, ""));
    }
    for _ in 0..3 {
        service.next().send(&answer(401, ""));
    }
    let mut verdicts: Vec<_> = (0..5).map(|_| asker.next()).collect();
    verdicts.sort_by_key(|(number, _)| *number);
    let let_in = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Proven(_)));
    assert_eq!(let_in.map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_dead_service_refuses_at_once_after_a_while_and_comes_back() {
    let (place, service) = (Place::new(), Service::start());
    let judge = judge(&place, &text(&service, "max_failures = 2\npause_s = 1\n"));
    let mut asker = Asker::new(&judge);
    assert_eq!(asker.put(1, credentials("ann", "x")), None);
    // It is killed in the middle of a request.
    drop(service.next());
    assert_eq!(asker.next(), (1, Verdict::Unavailable));
    assert_eq!(asker.put(2, credentials("ann", "x")), None);
    drop(service.next());
    assert_eq!(asker.next(), (2, Verdict::Unavailable));
    // From now on nobody asks, until the pause is over; then one who finds it alive.
    let mut refused = 0;
    loop {
        assert_eq!(asker.put(3, credentials("ann", "x")), None);
        crossbeam_channel::select! {
            recv(asker.woken) -> woken => {
                woken.expect("the judge lives");
                let (_, verdict) = asker.desk.answer().expect("woken for it");
                assert_eq!(verdict, Verdict::Unavailable);
                refused += 1;
            }
            recv(service.requests) -> request => {
                request.expect("the service lives").send(&answer(200, ""));
                break;
            }
            default(PATIENCE) => panic!("nobody tried again"),
        }
    }
    assert!(refused > 0, "some were refused without a request");
    proven(asker.next().1);
    assert_eq!(&*proven(asker.ask(credentials("ann", "x"))).user, "ann");
}
