//! The threads that check credentials, and the desks by which the cores reach them.

use super::chain::{self, Answer, Chains, Job, Wake};
use super::read::Provisions;
use crate::access::{Credentials, Verdict};
use crate::shard::ConnectionKey;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

/// The chains of now.
type Current = Arc<Mutex<Arc<Chains>>>;

/// Gives out desks. The threads that check end when it and all desks are dropped.
pub struct Judge {
    chains: Current,
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
    /// Starts `threads` threads for whom at most `queue` questions wait, and those that providers
    /// have besides.
    ///
    /// # Errors
    /// When the host allows no more threads.
    pub fn start(threads: usize, queue: usize, provisions: &Provisions) -> io::Result<Judge> {
        let (jobs, waiting) = bounded::<Job>(queue);
        let chains = Chains::start(&provisions.chains, &Chains::default())?;
        let chains: Current = Arc::new(Mutex::new(Arc::new(chains)));
        for number in 0..threads.max(1) {
            let (waiting, chains) = (waiting.clone(), chains.clone());
            let named = Builder::new().name(format!("corelane-auth-{number}"));
            named.spawn(move || work(&waiting, &chains))?;
        }
        Ok(Judge { chains, jobs })
    }

    /// The desk of a core; `wake` wakes it.
    pub fn desk(&self, wake: Wake) -> Desk {
        Desk { jobs: self.jobs.clone(), answers: unbounded(), wake, open: 0 }
    }

    /// Asks others from now on.
    ///
    /// # Errors
    /// When the host allows no more threads; then the same ones are asked as before.
    pub fn replace(&self, provisions: &Provisions) -> io::Result<()> {
        let chains = Chains::start(&provisions.chains, &current(&self.chains))?;
        *self.chains.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(chains);
        Ok(())
    }
}

fn current(chains: &Mutex<Arc<Chains>>) -> Arc<Chains> {
    chains.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn work(jobs: &Receiver<Job>, chains: &Mutex<Arc<Chains>>) {
    for job in jobs {
        chain::begin(job, &current(chains));
    }
}

impl Desk {
    /// Asks about a connection; gives the verdict at once where nobody will look.
    pub fn ask(&mut self, key: ConnectionKey, credentials: Box<Credentials>) -> Option<Verdict> {
        let (answers, wake) = (self.answers.0.clone(), self.wake.clone());
        match self.jobs.try_send(Job::new(key, credentials, answers, wake)) {
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
