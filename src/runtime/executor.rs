//! One glommio executor per core, each running one future to its end.
//!
//! Invariants worth naming:
//! * all executors start or none: no future is made before every executor stands;
//! * no executor sleeps in glommio for longer than 10 ms, see `keep_awake`;
//! * an end, by panic or not, is reported at once and not in the order of the cores.

use crossbeam_channel::{Receiver, Sender, unbounded as channel};
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use glommio::{
    BuilderErrorKind, ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement,
    PoolPlacement,
};

use crate::base::ShardId;

/// Longest sleep of an executor in glommio; see [`keep_awake`].
const KEEP_AWAKE: Duration = Duration::from_millis(10);

/// Where a shard runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seat {
    /// Which shard.
    pub shard: ShardId,
    /// The logical CPU it is pinned to; `None` lets the kernel move it. Several shards may
    /// share one.
    pub cpu: Option<usize>,
}

/// Sizes and habits of each executor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExecutorSettings {
    /// Depth of glommio's rings, operations: 128 to 1,024. They serve files and timers only.
    pub ring_depth: usize,
    /// Memory that glommio registers for file buffers, bytes; each executor registers it three
    /// times, against the limit of locked memory.
    pub io_memory_bytes: usize,
    /// How long a task may run before glommio looks at its rings. An executor whose thread loses
    /// its CPU for that long before its first look at its task sleeps for ever, because nothing is
    /// pending that could wake it; see [`keep_awake`], which is not there yet. So it is long.
    pub preempt_timer: Duration,
    /// A panic of one core ends the process.
    pub abort_on_panic: bool,
}

impl Default for ExecutorSettings {
    fn default() -> ExecutorSettings {
        ExecutorSettings {
            ring_depth: 256,
            io_memory_bytes: 65_536,
            preempt_timer: Duration::from_secs(10),
            abort_on_panic: false,
        }
    }
}

/// Why an executor did not start or did not end well.
#[derive(Debug)]
pub enum ExecutorError {
    /// The CPU does not exist, or the kernel refused glommio's rings or their memory.
    Start {
        /// Which shard.
        shard: ShardId,
        /// What glommio says.
        cause: io::Error,
    },
    /// The core's future panicked.
    Panic {
        /// Which shard.
        shard: ShardId,
        /// The panic's message, where it has one.
        message: String,
    },
    /// Another executor did not start, so this one was not used.
    NotStarted {
        /// Which shard.
        shard: ShardId,
    },
}

impl fmt::Display for ExecutorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecutorError::Start { shard, cause } => {
                write!(f, "{shard} has no executor: {cause}")
            }
            ExecutorError::Panic { shard, message } => write!(f, "{shard} panicked: {message}"),
            ExecutorError::NotStarted { shard } => write!(f, "{shard} was not started"),
        }
    }
}

impl std::error::Error for ExecutorError {}

/// The running executors. Lives on the thread that started them.
pub struct Executors<T: Send + 'static> {
    running: Vec<Option<(ShardId, ExecutorJoinHandle<Option<T>>)>>,
    ended: Receiver<usize>,
}

impl<T: Send + 'static> Executors<T> {
    /// Starts one executor for each seat. `make` runs on the executor's own thread, so that what
    /// it makes never leaves the core.
    ///
    /// # Errors
    /// When one of them cannot start; the others have ended then, too.
    pub fn start<F, M>(
        settings: &ExecutorSettings,
        cores: Vec<(Seat, M)>,
    ) -> Result<Executors<T>, ExecutorError>
    where
        M: FnOnce(Seat) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let gate = Arc::new(Gate::default());
        let (report_ready, ready) = channel();
        let (report_end, ended) = channel();
        let mut executors = Executors { running: Vec::new(), ended };
        let mut failure = None;
        for (position, (seat, make)) in cores.into_iter().enumerate() {
            let (gate, report_ready) = (gate.clone(), report_ready.clone());
            let end = EndReport { position, report: report_end.clone(), settings: *settings };
            let started = builder(settings, seat).spawn(move || {
                // The starter counts these; a thread that fails before drops its own unsent.
                let _ = report_ready.send(());
                drop(report_ready);
                async move {
                    let _end = end;
                    if !gate.wait() {
                        return None;
                    }
                    glommio::spawn_local(keep_awake()).detach();
                    Some(make(seat).await)
                }
            });
            match started {
                Ok(handle) => executors.running.push(Some((seat.shard, handle))),
                Err(cause) => {
                    failure = Some(start_error(seat.shard, cause));
                    break;
                }
            }
        }
        drop((report_ready, report_end));
        let all_ready = ready.iter().count() == executors.running.len();
        gate.open(all_ready && failure.is_none());
        if all_ready && failure.is_none() {
            return Ok(executors);
        }
        for (shard, handle) in executors.running.drain(..).flatten() {
            if let (Err(cause), None) = (handle.join(), &failure) {
                failure = Some(start_error(shard, cause));
            }
        }
        Err(failure.unwrap_or(ExecutorError::NotStarted { shard: ShardId::default() }))
    }

    /// Waits until all have ended and calls `on_end` for each as it ends, so that the caller can
    /// stop the others when one fails.
    pub fn join(mut self, mut on_end: impl FnMut(ShardId, Result<T, ExecutorError>)) {
        while let Ok(position) = self.ended.recv() {
            let Some((shard, handle)) = self.running[position].take() else { continue };
            let outcome = match handle.join() {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err(ExecutorError::NotStarted { shard }),
                Err(cause) => Err(start_error(shard, cause)),
            };
            on_end(shard, outcome);
        }
    }
}

fn builder(settings: &ExecutorSettings, seat: Seat) -> LocalExecutorBuilder {
    let placement = seat.cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(&format!("corelane-{}", seat.shard.0))
        .ring_depth(settings.ring_depth.clamp(128, 1024))
        .io_memory(settings.io_memory_bytes)
        .preempt_timer(settings.preempt_timer)
        // By default its helper thread would be pinned to the core it is meant to relieve.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
}

fn start_error(shard: ShardId, cause: GlommioError<()>) -> ExecutorError {
    match cause {
        GlommioError::BuilderError(BuilderErrorKind::ThreadPanic(payload)) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            ExecutorError::Panic { shard, message: text.unwrap_or("no message").to_owned() }
        }
        other => ExecutorError::Start { shard, cause: other.into() },
    }
}

/// Bounds how long an executor can sleep beside a task that is ready to run.
///
/// glommio 0.9 does so where its preemption timer expires between its arming and the first look
/// at the run queue, that is, where the kernel takes the CPU away for that long just there:
/// `run_task_queues` then says that nothing ran, and `park` asks the rings but not the queue.
/// A yield of a core whose sockets live in a ring of their own would end in silence. A pending
/// glommio timer bounds the sleep.
async fn keep_awake() {
    loop {
        glommio::timer::sleep(KEEP_AWAKE).await;
    }
}

/// Reports the end of a core's future, however it comes.
struct EndReport {
    position: usize,
    report: Sender<usize>,
    settings: ExecutorSettings,
}

impl Drop for EndReport {
    fn drop(&mut self) {
        if std::thread::panicking() && self.settings.abort_on_panic {
            tracing::error!(core = self.position, "a core panicked; the process ends");
            std::process::abort();
        }
        // Nobody listens where the starter gave up.
        let _ = self.report.send(self.position);
    }
}

/// Holds the executors back until all stand.
#[derive(Default)]
struct Gate {
    go: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Gate {
    fn open(&self, go: bool) {
        *self.go.lock().unwrap_or_else(PoisonError::into_inner) = Some(go);
        self.changed.notify_all();
    }

    fn wait(&self) -> bool {
        let mut go = self.go.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(go) = *go {
                return go;
            }
            go = self.changed.wait(go).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
