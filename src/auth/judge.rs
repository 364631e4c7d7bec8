//! The threads that check credentials, and the desks by which the cores reach them.

use super::read::Provisions;
use crate::access::{Credentials, Identity, Users, Verdict};
use crate::shard::ConnectionKey;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

/// Wakes the core that asked.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// A verdict for a connection.
type Answer = (ConnectionKey, Verdict);

struct Job {
    key: ConnectionKey,
    credentials: Box<Credentials>,
    answers: Sender<Answer>,
    wake: Wake,
}

/// Who is asked, in the order of the chain. Pure value, shared by all threads.
#[derive(Clone, Default, Debug)]
pub(super) struct Providers {
    pub(super) users: Option<Arc<Users>>,
}

impl Providers {
    /// Whether there is anybody to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_none()
    }

    fn judge(&self, credentials: &Credentials) -> Verdict {
        let Some(users) = &self.users else { return Verdict::Unavailable };
        let name = credentials.user.as_deref().unwrap_or_default();
        let password = credentials.password.as_deref().unwrap_or_default();
        if !users.verify(name, password) {
            return Verdict::Wrong;
        }
        let groups = users.find(name).map(|user| user.groups.clone()).unwrap_or_default();
        let identity = Identity { user: name.into(), groups, ..Identity::default() };
        Verdict::Proven(Box::new(identity))
    }
}

/// Gives out desks. The threads that check end when it and all desks are dropped.
pub struct Judge {
    providers: Arc<Mutex<Arc<Providers>>>,
    jobs: Sender<Job>,
}

/// Where one core asks. Lives on its thread.
pub struct Desk {
    jobs: Sender<Job>,
    answers: (Sender<Answer>, Receiver<Answer>),
    wake: Wake,
    /// Questions without an answer yet.
    open: usize,
}

impl Judge {
    /// Starts `threads` threads for whom at most `queue` questions wait.
    ///
    /// # Errors
    /// When the host allows no more threads.
    pub fn start(threads: usize, queue: usize, provisions: &Provisions) -> io::Result<Judge> {
        let (jobs, waiting) = bounded::<Job>(queue);
        let providers = Arc::new(Mutex::new(Arc::new(provisions.providers.clone())));
        for number in 0..threads.max(1) {
            let (waiting, providers) = (waiting.clone(), providers.clone());
            let named = Builder::new().name(format!("corelane-auth-{number}"));
            named.spawn(move || work(&waiting, &providers))?;
        }
        Ok(Judge { providers, jobs })
    }

    /// The desk of a core; `wake` wakes it.
    pub fn desk(&self, wake: Wake) -> Desk {
        Desk { jobs: self.jobs.clone(), answers: unbounded(), wake, open: 0 }
    }

    /// Asks others from now on.
    pub fn replace(&self, provisions: &Provisions) {
        *self.providers.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(provisions.providers.clone());
    }
}

fn work(jobs: &Receiver<Job>, providers: &Mutex<Arc<Providers>>) {
    for job in jobs {
        let providers = providers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let verdict = providers.judge(&job.credentials);
        // Fails only where the core has ended.
        if job.answers.send((job.key, verdict)).is_ok() {
            (job.wake)();
        }
    }
}

impl Desk {
    /// Asks about a connection; gives the verdict at once where nobody will look.
    pub fn ask(&mut self, key: ConnectionKey, credentials: Box<Credentials>) -> Option<Verdict> {
        let (answers, wake) = (self.answers.0.clone(), self.wake.clone());
        match self.jobs.try_send(Job { key, credentials, answers, wake }) {
            Ok(()) => {
                self.open += 1;
                None
            }
            Err(TrySendError::Full(_)) => Some(Verdict::Busy),
            Err(TrySendError::Disconnected(_)) => Some(Verdict::Unavailable),
        }
    }

    /// The next answer that has come.
    #[inline]
    pub fn answer(&mut self) -> Option<Answer> {
        if self.open == 0 {
            return None;
        }
        let answer = self.answers.1.try_recv().ok()?;
        self.open -= 1;
        Some(answer)
    }
}
