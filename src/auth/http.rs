//! Clients about whom a web service is asked: in threads of their own, so that a slow service
//! delays nobody else.
//!
//! Invariants worth naming:
//! * what is no clear answer lets nobody in;
//! * requests under way, clients that wait and answers kept are bounded.

use super::cache::{Breaker, Cache, Fingerprint};
use super::chain::{self, Job, Said};
use super::claims::{self, ClaimNames, Claims};
use super::settings::HttpSettings;
use super::web;
use crate::access::{Credentials, Identity, Verdict};
use crate::config::BodyFormat;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Instant;

const CLAIMS: ClaimNames<'_> =
    ClaimNames { user: "user", groups: "groups", clients: "clients", acl: "acl" };

/// What a service says of a client.
#[derive(Clone)]
enum Opinion {
    Allow(Box<Identity>),
    Deny,
    /// It does not know the client.
    Ignore,
}

/// One web service, and who asks it. Its threads end when it is dropped.
pub(super) struct Http {
    service: Arc<Service>,
    jobs: Sender<(Job, u64)>,
}

struct Service {
    settings: HttpSettings,
    agent: ureq::Agent,
    authorization: String,
    start: Instant,
    /// Makes fingerprints that nobody else can make.
    salt: [u64; 2],
    allowed: Mutex<Cache<Opinion>>,
    denied: Mutex<Cache<Opinion>>,
    breaker: Mutex<Breaker>,
}

impl Http {
    /// Starts its threads.
    ///
    /// # Errors
    /// When the host allows no more threads.
    pub(super) fn start(settings: &HttpSettings) -> io::Result<Http> {
        let config = &settings.config;
        let service = Arc::new(Service::new(settings));
        let (jobs, waiting) = bounded(config.queue);
        for number in 0..config.max_requests {
            let (service, waiting) = (service.clone(), waiting.clone());
            let thread = Builder::new().name(format!("corelane-http-{number}"));
            thread.spawn(move || work(&service, &waiting))?;
        }
        Ok(Http { service, jobs })
    }

    /// What is known without a request.
    pub(super) fn known(&self, credentials: &Credentials) -> Option<Said> {
        self.service.known(&self.service.fingerprint(credentials))
    }

    /// Asks, and goes on with the chain from there.
    pub(super) fn submit(&self, job: Job) {
        let now_ms = self.service.now_ms();
        match self.jobs.try_send((job, now_ms)) {
            Ok(()) => {}
            Err(TrySendError::Full((job, _))) => job.answer(Verdict::Busy),
            Err(TrySendError::Disconnected((job, _))) => job.answer(Verdict::Unavailable),
        }
    }
}

fn work(service: &Service, jobs: &Receiver<(Job, u64)>) {
    for (job, since_ms) in jobs {
        let said = service.ask(&job.credentials, since_ms);
        chain::go_on(job, said);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    fn new(settings: &HttpSettings) -> Service {
        let config = &settings.config;
        let agent =
            web::agent(settings.authorities.bytes(), config.timeout_ms, config.max_requests);
        let cache = || Mutex::new(Cache::new(config.cache_entries));
        let pause_ms = u64::from(config.pause_s) * 1000;
        Service {
            agent,
            authorization: String::from_utf8_lossy(settings.authorization.bytes()).trim().into(),
            start: Instant::now(),
            salt: [0, 1].map(|domain: u64| RandomState::new().hash_one(domain)),
            allowed: cache(),
            denied: cache(),
            breaker: Mutex::new(Breaker::new(config.max_failures, pause_ms)),
            settings: settings.clone(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// What stands for all that the answer may depend on.
    fn fingerprint(&self, credentials: &Credentials) -> Fingerprint {
        let Credentials { listener, client_id, user, password, peer, .. } = credentials;
        let ip = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(self.salt[0].to_le_bytes());
        hash.update(self.salt[1].to_le_bytes());
        hash.update(listener.to_le_bytes());
        let user = user.as_deref().map(str::as_bytes);
        for part in [Some(client_id.as_bytes()), Some(ip.as_bytes()), user, password.as_deref()] {
            // Absent differs from empty, and no two lists of parts look alike.
            hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hash.update(part.unwrap_or_default());
        }
        hash.finalize().into()
    }

    fn known(&self, key: &Fingerprint) -> Option<Said> {
        let now_ms = self.now_ms();
        if let Some((opinion, age_ms)) = locked(&self.allowed).get(key, now_ms) {
            return Some(said(opinion, age_ms));
        }
        locked(&self.denied).get(key, now_ms).map(|(opinion, age_ms)| said(opinion, age_ms))
    }

    /// Asks about a client that has waited since `since_ms`.
    fn ask(&self, credentials: &Credentials, since_ms: u64) -> Said {
        let config = &self.settings.config;
        // Another one may have asked the same meanwhile.
        let key = self.fingerprint(credentials);
        if let Some(said) = self.known(&key) {
            return said;
        }
        let now_ms = self.now_ms();
        if now_ms - since_ms > u64::from(config.timeout_ms) {
            return Said::Verdict(Verdict::Busy);
        }
        if !locked(&self.breaker).admits(now_ms) {
            return Said::Verdict(Verdict::Unavailable);
        }
        let opinion = self.request(credentials);
        let now_ms = self.now_ms();
        let provider = config.name.as_str();
        match opinion {
            Ok(opinion) => {
                locked(&self.breaker).succeeded();
                self.keep(key, &opinion, now_ms);
                said(opinion, 0)
            }
            Err(why) => {
                let client = &*credentials.client_id;
                tracing::warn!(provider, client, "no answer about a client: {why}");
                if locked(&self.breaker).failed(now_ms) {
                    let pause_s = config.pause_s;
                    tracing::error!(provider, pause_s, "too many failures, nobody is asked now");
                }
                Said::Verdict(Verdict::Unavailable)
            }
        }
    }

    fn keep(&self, key: Fingerprint, opinion: &Opinion, now_ms: u64) {
        let config = &self.settings.config;
        let (cache, seconds) = match opinion {
            Opinion::Allow(identity) => {
                let lasts_s = identity.lasts_s.unwrap_or(u32::MAX);
                (&self.allowed, config.allow_cache_s.min(lasts_s))
            }
            Opinion::Deny | Opinion::Ignore => (&self.denied, config.deny_cache_s),
        };
        locked(cache).put(key, opinion.clone(), now_ms, u64::from(seconds) * 1000);
    }

    fn request(&self, credentials: &Credentials) -> Result<Opinion, String> {
        let config = &self.settings.config;
        let Some(question) = self.question(credentials) else { return Ok(Opinion::Ignore) };
        let mut request = self.agent.post(config.url.given().unwrap_or_default());
        if !self.authorization.is_empty() {
            request = request.header("authorization", &*self.authorization);
        }
        request = request.header("accept", "application/json");
        let answer = match config.format {
            BodyFormat::Json => {
                let body = Value::Object(question).to_string();
                request.content_type("application/json").send(body)
            }
            BodyFormat::Form => {
                let pairs = question.iter().filter_map(|(key, value)| {
                    let text = value.as_str()?;
                    Some((key.as_str(), text))
                });
                request.send_form(pairs)
            }
        };
        let mut answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = match status {
            200 => web::whole(answer.body_mut())?,
            204 => Vec::new(),
            401 | 403 => return Ok(Opinion::Deny),
            other => return Err(format!("status {other}")),
        };
        opinion(&body, credentials.user.as_deref())
    }

    /// What the service is told; `None` where it can't be told in text.
    fn question(&self, credentials: &Credentials) -> Option<Claims> {
        let Credentials { listener, client_id, user, password, peer, .. } = credentials;
        let password = password.as_deref().map(std::str::from_utf8).transpose().ok()?;
        let listener = self.settings.listeners.get(usize::from(*listener));
        let address = peer.map(|peer| peer.ip().to_canonical().to_string());
        let question = json!({
            "client_id": client_id, "user": user, "password": password,
            "listener": listener, "address": address,
        });
        match question {
            Value::Object(question) => Some(question),
            _ => None,
        }
    }
}

fn said(opinion: Opinion, age_ms: u64) -> Said {
    match opinion {
        Opinion::Allow(mut identity) => {
            let age_s = u32::try_from(age_ms / 1000).unwrap_or(u32::MAX);
            identity.lasts_s = identity.lasts_s.map(|left| left.saturating_sub(age_s));
            Said::Verdict(Verdict::Proven(identity))
        }
        Opinion::Deny => Said::Verdict(Verdict::Wrong),
        Opinion::Ignore => Said::NotMine,
    }
}

/// What an answer with status 200 or 204 means.
fn opinion(body: &[u8], user: Option<&str>) -> Result<Opinion, String> {
    let claims: Claims = match body.trim_ascii() {
        [] => Claims::new(),
        body => serde_json::from_slice(body)
            .map_err(|error| format!("the answer is no JSON object: {error}"))?,
    };
    match claims.get("result").map(Value::as_str) {
        None | Some(Some("allow")) => {}
        Some(Some("deny")) => return Ok(Opinion::Deny),
        Some(Some("ignore")) => return Ok(Opinion::Ignore),
        Some(_) => return Err("\"result\" is none of allow, deny and ignore".into()),
    }
    let lasts_s = match claims.get("lasts_s") {
        None | Some(Value::Null) => None,
        Some(seconds) => {
            let seconds = seconds.as_u64().ok_or("\"lasts_s\" is no number of seconds")?;
            Some(u32::try_from(seconds).unwrap_or(u32::MAX))
        }
    };
    if lasts_s == Some(0) {
        return Ok(Opinion::Deny);
    }
    let names = match claims.contains_key(CLAIMS.user) {
        true => CLAIMS,
        false => ClaimNames { user: "", ..CLAIMS },
    };
    let identity = claims::identity(&claims, names, user)?;
    Ok(Opinion::Allow(Box::new(Identity { lasts_s, ..identity })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_say_and_nothing_unclear_lets_in() {
        let ask = |body: &str| opinion(body.as_bytes(), Some("typed"));
        let allowed = |body: &str| match ask(body) {
            Ok(Opinion::Allow(identity)) => identity,
            _ => panic!("{body} allows"),
        };
        assert_eq!(&*allowed("").user, "typed");
        assert_eq!(&*allowed(" {} ").user, "typed");
        let whole = r#"{"result": "allow", "user": "ann", "groups": ["red"], "lasts_s": 60}"#;
        let ann = allowed(whole);
        assert_eq!((&*ann.user, ann.groups.len(), ann.lasts_s), ("ann", 1, Some(60)));
        for body in [r#"{"result": "deny"}"#, r#"{"lasts_s": 0}"#] {
            assert!(matches!(ask(body), Ok(Opinion::Deny)), "{body}");
        }
        assert!(matches!(ask(r#"{"result": "ignore"}"#), Ok(Opinion::Ignore)));
        for body in [
            "ok",
            "[]",
            "true",
            r#"{"result": true}"#,
            r#"{"result": "yes"}"#,
            r#"{"result": null}"#,
            r#"{"user": 7}"#,
            r#"{"user": null}"#,
            r#"{"lasts_s": -1}"#,
            r#"{"acl": "all"}"#,
        ] {
            assert!(ask(body).is_err(), "{body} is unclear");
        }
        assert!(opinion(b"", None).is_err(), "nobody is named");
    }
}
