//! Asking one after the other: who is asked about a client, and what each says.
//!
//! Invariants worth naming:
//! * the first that knows the client decides; one that can't be asked refuses it, so that nobody
//!   comes in by stopping who would have said no;
//! * a client that nobody knows is refused.

use super::http::Http;
use super::jwt::Jwt;
use super::settings::{ChainSettings, ProviderSettings};
use crate::access::{Credentials, Identity, Step, Users, Verdict};
use crate::shard::ConnectionKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use crossbeam_channel::Sender;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Wakes the core that asked.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// A verdict for a connection.
pub(super) type Answer = (ConnectionKey, Verdict);

/// What one of them says.
pub(super) enum Said {
    Verdict(Verdict),
    /// It does not know the client: the next one is asked.
    NotMine,
}

enum Provider {
    Password(Arc<Users>),
    Jwt(Box<Jwt>),
    Http(Box<Http>),
}

/// Who is asked about clients of each listener, in order. Shared by all threads that check.
#[derive(Default)]
pub(super) struct Chains {
    settings: ChainSettings,
    providers: Vec<Arc<Provider>>,
}

/// A question about a connection, on its way along a chain.
pub(super) struct Job {
    pub(super) key: ConnectionKey,
    pub(super) credentials: Box<Credentials>,
    pub(super) answers: Sender<Answer>,
    pub(super) wake: Wake,
    /// Those who are still to be asked, the next one last.
    rest: Vec<Arc<Provider>>,
}

impl Chains {
    /// Starts whom `settings` name. Those that are in `old` with the same settings go on with what
    /// they know.
    ///
    /// # Errors
    /// When the host allows no more threads.
    pub(super) fn start(settings: &ChainSettings, old: &Chains) -> io::Result<Chains> {
        let providers = settings.providers.iter().map(|one| {
            let known = old.settings.providers.iter().position(|other| other == one);
            match known.and_then(|at| old.providers.get(at)) {
                Some(provider) => Ok(provider.clone()),
                None => Provider::start(one).map(Arc::new),
            }
        });
        let providers = providers.collect::<io::Result<_>>()?;
        Ok(Chains { settings: settings.clone(), providers })
    }

    fn of(&self, listener: u16) -> Vec<Arc<Provider>> {
        let chain = self.settings.chains.get(usize::from(listener));
        let numbers = chain.map_or(&[][..], Vec::as_slice).iter().rev();
        numbers.filter_map(|number| self.providers.get(*number).cloned()).collect()
    }
}

impl Provider {
    fn start(settings: &ProviderSettings) -> io::Result<Provider> {
        Ok(match settings {
            ProviderSettings::Password(users) => Provider::Password(users.clone()),
            ProviderSettings::Jwt(settings) => Provider::Jwt(Box::new(Jwt::start(settings)?)),
            ProviderSettings::Http(settings) => Provider::Http(Box::new(Http::start(settings)?)),
        })
    }
}

impl Job {
    /// A question that nobody was asked so far.
    pub(super) fn new(
        key: ConnectionKey,
        credentials: Box<Credentials>,
        answers: Sender<Answer>,
        wake: Wake,
    ) -> Job {
        Job { key, credentials, answers, wake, rest: Vec::new() }
    }

    /// Gives the verdict to the core that asked.
    pub(super) fn answer(self, verdict: Verdict) {
        // Fails only where the core has ended.
        if self.answers.send((self.key, verdict)).is_ok() {
            (self.wake)();
        }
    }
}

/// Asks the chain of the client's listener.
pub(super) fn begin(mut job: Job, chains: &Chains) {
    job.rest = chains.of(job.credentials.listener);
    match &job.credentials.step {
        None => go_on(job, Said::NotMine),
        Some(step) => {
            let verdict = exchange(&job.rest, step);
            job.answer(verdict);
        }
    }
}

/// Goes on after one has spoken.
pub(super) fn go_on(mut job: Job, mut said: Said) {
    loop {
        if let Said::Verdict(verdict) = said {
            return job.answer(verdict);
        }
        let Some(provider) = job.rest.pop() else { return job.answer(Verdict::Wrong) };
        said = match &*provider {
            Provider::Password(users) => password(users, &job.credentials),
            Provider::Jwt(jwt) => jwt.judge(&job.credentials, unix_s()),
            Provider::Http(http) => match http.known(&job.credentials) {
                Some(said) => said,
                None => return http.submit(job),
            },
        };
    }
}

/// Takes a step with the first that can: who has keys of users.
fn exchange(chain: &[Arc<Provider>], step: &Step) -> Verdict {
    let users = chain.iter().rev().find_map(|provider| match &**provider {
        Provider::Password(users) => Some(users),
        Provider::Jwt(_) | Provider::Http(_) => None,
    });
    let Some(users) = users else { return Verdict::NoSuchMethod };
    let mut random = [0; 18];
    match getrandom(&mut random, GetRandomFlags::empty()) {
        Ok(18) => users.step(step, &BASE64.encode(random)),
        _ => Verdict::Unavailable,
    }
}

fn password(users: &Users, credentials: &Credentials) -> Said {
    let name = credentials.user.as_deref().unwrap_or_default();
    let password = credentials.password.as_deref().unwrap_or_default();
    // Takes as long for a name that is not there as for one that is.
    let right = users.verify(name, password);
    let Some(user) = users.find(name) else { return Said::NotMine };
    if !right {
        return Said::Verdict(Verdict::Wrong);
    }
    let groups = user.groups.clone();
    let identity = Identity { user: name.into(), groups, ..Identity::default() };
    Said::Verdict(Verdict::Proven(Box::new(identity)))
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
