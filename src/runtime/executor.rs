//! One glommio executor per shard, each with one long-lived task: the reactor.
//!
//! glommio places and names the thread and will host background work (the log's files); the
//! socket path is the reactor's own ring, so the executor's rings stay small.

use glommio::{LocalExecutorBuilder, Placement};
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// Registered memory of the executor's own rings; the least that is sensible, since glommio
/// registers it three times per executor.
const IO_MEMORY_BYTES: usize = 64 * 1024;
const RING_DEPTH: usize = 128;
/// How long a busy task may keep timers of its executor waiting.
const PREEMPT_AFTER: Duration = Duration::from_millis(1);

/// Where a shard runs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which shard.
    pub shard: usize,
    /// The CPU its thread is bound to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
}

/// Why a core ended that should not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreFailure {
    /// Which shard.
    pub shard: usize,
    /// What happened.
    pub message: String,
}

impl fmt::Display for CoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}: {}", self.shard, self.message)
    }
}

impl std::error::Error for CoreFailure {}

/// Runs one core per place until all have ended; `main` is made on the core's own thread.
///
/// # Errors
/// The first core that failed, after the others have ended: `on_failure` must stop them.
pub fn run_cores<M, F>(
    places: Vec<(Place, M)>,
    on_failure: &(dyn Fn() + Sync),
) -> Result<(), CoreFailure>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<(), String>> + 'static,
{
    let mut cores = Vec::new();
    let mut failure = None;
    for (place, main) in places {
        let placement = place.cpu.map_or(Placement::Unbound, Placement::Fixed);
        let spawned = LocalExecutorBuilder::new(placement)
            .name(&format!("corelane-{}", place.shard))
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT_AFTER)
            .spawn(main);
        match spawned {
            Ok(handle) => cores.push((place.shard, handle)),
            Err(error) => {
                let (shard, message) = (place.shard, format!("its executor: {error}"));
                failure = Some(CoreFailure { shard, message });
                on_failure();
                break;
            }
        }
    }
    for (shard, handle) in cores {
        let message = match handle.join() {
            Ok(Ok(())) => continue,
            Ok(Err(message)) => message,
            Err(error) => error.to_string(),
        };
        on_failure();
        failure.get_or_insert(CoreFailure { shard, message });
    }
    failure.map_or(Ok(()), Err)
}
