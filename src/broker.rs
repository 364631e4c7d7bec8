//! Starting and stopping a broker from code.

use crate::access::Policy;
use crate::auth::{Desk, Judge, ListenerTls, Provisions};
use crate::base::ShardId;
use crate::config::{Config, LimitsConfig, ListenerConfig, Sleep as ConfiguredSleep};
use crate::mesh::{self, MeshEnd, MeshSettings};
use crate::net::{self, Driver, DriverSettings, ListenerSettings};
use crate::runtime::{
    Clock, Door, ExecutorSettings, Executors, Heart, HeartbeatSettings, Reactor, ReactorSettings,
    Requests, Seat, SignalThread, Sleeper, Stage, Waker, Watcher, Way,
};
use crate::shard::{Counters, Doors, Live, Settings, Shard};
use crate::transport::Rules;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tuning::placement::ShardPlace;

/// Longest WebSocket frame: the largest packet of MQTT with its head. What it carries is bounded by
/// the limits of packets.
const MAX_FRAME: u64 = 268_435_460;

/// Why the broker could not start, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError {
    /// What went wrong.
    pub message: String,
    /// What mends it.
    pub remedy: String,
    /// The broker was running: a restart may help, unlike where the host or the configuration is
    /// at fault.
    pub while_running: bool,
}

impl StartError {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> StartError {
        StartError { message: message.into(), remedy: remedy.into(), while_running: false }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for StartError {}

/// Runs a broker with one shard for each of `places` until SIGTERM or SIGINT; calls `reload` on a
/// thread of its own for each SIGHUP and takes over the live keys and the provisions that it gives.
///
/// # Errors
/// The host refuses something that the broker needs, or a core failed while running.
pub fn serve(
    config: &Config,
    provisions: &Provisions,
    places: &[ShardPlace],
    mut reload: impl FnMut() -> Option<(Config, Provisions)> + Send + 'static,
) -> Result<(), StartError> {
    let driver = driver_settings(config);
    net::probe(&driver).map_err(|error| StartError::new(error.to_string(), error.remedy()))?;
    let clock = Clock::start();
    let settings =
        Settings { policy: policy(provisions, clock), ..shard_settings(config, places.len()) };
    let ends = mesh::build(places.len(), mesh_settings(config));
    let wakers = wakers(&ends).map_err(|error| out_of_files(&error))?;
    let requests = Arc::new(Requests::new(wakers.clone()));
    let listeners = bind_all(config, &provisions.directory, places.len())?;
    let hearts: Vec<Arc<Heart>> = places.iter().map(|_| Arc::default()).collect();
    hearts.iter().for_each(|heart| heart.beat(clock.now(), Stage::Begin));
    let access = &config.access;
    let judge = Judge::start(access.check_threads, access.check_queue, provisions);
    let judge = Arc::new(judge.map_err(on_thread)?);
    let doors = doors(config, provisions);
    let mut cores = Vec::new();
    for (at, (mesh, listeners)) in ends.into_iter().zip(listeners).enumerate() {
        let core = Core {
            mesh,
            listeners,
            doorbell: wakers[at].watched().map_err(|error| out_of_files(&error))?,
            driver,
            clock,
            settings: settings.clone(),
            reactor: reactor_settings(config),
            way: match config.runtime.sleep {
                ConfiguredSleep::Ring => Way::Ring,
                ConfiguredSleep::Glommio => Way::Glommio,
            },
            heart: hearts[at].clone(),
            requests: requests.clone(),
            desk: judge.desk(waking(&wakers[at])),
            doors: doors.clone(),
        };
        let seat = Seat { shard: ShardId(places[at].shard as u8), cpu: places[at].cpu };
        cores.push((seat, move |_: Seat| core.run()));
    }
    let told = requests.clone();
    let running = provisions.tls.clone();
    let reload = move || {
        if let Some((config, provisions)) = reload() {
            if let Err(error) = judge.replace(&provisions) {
                tracing::error!("the same providers are asked as before: {error}");
            }
            reload_tls(&running, &provisions);
            told.reconfigure(live(&config, policy(&provisions, clock)));
        }
    };
    let _signals = SignalThread::start(requests.clone(), reload).map_err(on_thread)?;
    let _watcher = Watcher::start(heartbeat(config), clock, hearts).map_err(on_thread)?;
    let ended = run(cores, &requests);
    unbind_all(config, &provisions.directory);
    ended
}

/// What the connections of each listener come through.
fn doors(config: &Config, provisions: &Provisions) -> Vec<Arc<Door>> {
    let texts = |list: &[Box<str>]| list.to_vec().into_boxed_slice();
    let listeners = config.listeners.iter().enumerate();
    let door = |(at, listener): (usize, &ListenerConfig)| Door {
        proxies: listener.proxy_from.as_slice().into(),
        tls: provisions.tls.get(at).and_then(Option::as_ref).map(|tls| tls.server.clone()),
        certificate_user: listener.certificate_user,
        websocket: listener.websocket.then(|| {
            Arc::new(Rules {
                paths: texts(listener.websocket_paths.as_slice()),
                origins: texts(listener.websocket_origins.as_slice()),
                max_frame: MAX_FRAME,
            })
        }),
        forwarders: listener.websocket_proxies.as_slice().into(),
    };
    listeners.map(door).map(Arc::new).collect()
}

/// Lets new connections have the certificates that `provisions` were read from.
fn reload_tls(running: &[Option<ListenerTls>], provisions: &Provisions) {
    for (running, new) in running.iter().zip(&provisions.tls) {
        if let (Some(running), Some(new)) = (running, new)
            && let Err(error) = running.server.reload(&new.settings)
        {
            tracing::error!("TLS stays as it was: {error}");
        }
    }
}

/// Gives every core's doorbell its waker.
fn wakers(ends: &[MeshEnd]) -> io::Result<Vec<Arc<Waker>>> {
    ends.iter()
        .map(|end| {
            let waker = Arc::new(Waker::new()?);
            end.bell().set_wake(waking(&waker));
            Ok(waker)
        })
        .collect()
}

fn waking(waker: &Arc<Waker>) -> Arc<dyn Fn() + Send + Sync> {
    let waker = waker.clone();
    Arc::new(move || waker.wake())
}

#[expect(clippy::needless_pass_by_value, reason = "an adapter for map_err")]
fn on_thread(error: io::Error) -> StartError {
    StartError::new(format!("a helper thread: {error}"), "raise the limit of threads")
}

fn out_of_files(error: &io::Error) -> StartError {
    StartError::new(format!("a doorbell: {error}"), "raise the limit of open files (ulimit -n)")
}

fn heartbeat(config: &Config) -> HeartbeatSettings {
    let abort = config.runtime.stall_abort_s;
    HeartbeatSettings {
        warn_after: Duration::from_millis(config.runtime.stall_warn_ms.into()),
        abort_after: (abort > 0).then(|| Duration::from_secs(abort.into())),
    }
}

/// Runs all cores to their end; the failure of one stops the others.
fn run<F>(
    cores: Vec<(Seat, impl FnOnce(Seat) -> F + Send + 'static)>,
    requests: &Requests,
) -> Result<(), StartError>
where
    F: Future<Output = Result<Counters, String>> + 'static,
{
    let executors = ExecutorSettings { abort_on_panic: true, ..ExecutorSettings::default() };
    let executors = Executors::start(&executors, cores).map_err(|error| {
        StartError::new(error.to_string(), "see docs/OPERATING.md, start-up errors")
    })?;
    let (mut totals, mut failure) = (Counters::default(), None);
    executors.join(|shard, ended| {
        let message = match ended {
            Ok(Ok(counters)) => return totals.add(&counters),
            Ok(Err(message)) => format!("{shard}: {message}"),
            Err(error) => error.to_string(),
        };
        failure.get_or_insert(message);
        // Twice: without a drain.
        requests.stop();
        requests.stop();
    });
    report(&totals);
    let ended_badly = |message| StartError {
        while_running: true,
        ..StartError::new(message, "start it again, and report what the log says")
    };
    failure.map_or(Ok(()), |message: String| Err(ended_badly(message)))
}

/// What one core's thread is made of.
struct Core {
    mesh: MeshEnd,
    listeners: Vec<(u16, OwnedFd)>,
    doorbell: OwnedFd,
    driver: DriverSettings,
    clock: Clock,
    settings: Settings,
    reactor: ReactorSettings,
    way: Way,
    heart: Arc<Heart>,
    requests: Arc<Requests>,
    desk: Desk,
    doors: Vec<Arc<Door>>,
}

impl Core {
    async fn run(self) -> Result<Counters, String> {
        let broken = |error: io::Error| format!("its ring: {error}");
        let mut driver = Driver::new(&self.driver).map_err(broken)?;
        driver.watch(self.doorbell).map_err(broken)?;
        for (listener, fd) in self.listeners {
            driver.listen(fd, listener);
        }
        let sleeper = Sleeper::new(&driver, self.way).map_err(broken)?;
        let shard = Shard::new(self.settings, self.mesh, self.clock.now());
        let beside = (self.desk, self.doors);
        let reactor = Reactor::new(shard, driver, self.clock, self.reactor, self.heart, beside);
        let shard = reactor.run(&self.requests, &sleeper).await.map_err(broken)?;
        Ok(shard.counters().clone())
    }
}

/// Logs what the broker did in its life.
fn report(totals: &Counters) {
    let counted = totals.entries().filter(|(_, count)| *count > 0);
    let counted: Vec<String> = counted.map(|(name, count)| format!("{name}={count}")).collect();
    tracing::info!("stopped: {}", counted.join(" "));
}

fn driver_settings(config: &Config) -> DriverSettings {
    DriverSettings {
        submission_entries: config.runtime.ring_entries as u32,
        completion_entries: 4 * config.runtime.ring_entries as u32,
        recv_buffers: config.runtime.recv_buffers,
        recv_buffer_bytes: config.runtime.recv_buffer_bytes,
    }
}

fn mesh_settings(config: &Config) -> MeshSettings {
    MeshSettings {
        block_bytes: config.runtime.block_bytes,
        ring_blocks: config.runtime.ring_blocks,
        pool_bytes: config.runtime.mesh_bytes,
        // What a lane holds for crowds is served within a few turns.
        crowd_deliveries: config.runtime.tick_targets.saturating_mul(4),
        ..MeshSettings::default()
    }
}

fn reactor_settings(config: &Config) -> ReactorSettings {
    let pace = config.runtime.pace();
    ReactorSettings {
        completions: config.runtime.tick_completions,
        gather: Duration::from_micros(pace.gather_us.into()),
        crumbs: u64::from(pace.crumbs),
        spin: Duration::from_micros(pace.spin_us.into()),
        drain: Duration::from_secs(config.runtime.drain_s.into()),
        handshakes: config.runtime.handshakes_per_turn,
    }
}

/// What one core may hold: as configured, or its part of 60 % of what the process may use.
fn memory_bytes(config: &Config, shards: usize) -> usize {
    let share =
        || tuning::memory::usable(Path::new("/")).map(|bytes| bytes as usize / 5 * 3 / shards);
    match config.limits.memory_bytes {
        0 => share().unwrap_or(0),
        configured => configured,
    }
}

/// What running shards take over.
fn live(config: &Config, policy: Arc<Policy>) -> Live {
    Live {
        session: config.session.clone(),
        topics: config.topics.clone(),
        limits: config.limits.clone(),
        policy,
        doors: Doors::from(&config.listeners[..]),
    }
}

/// What clients may do, on the clock of the cores.
fn policy(provisions: &Provisions, clock: Clock) -> Arc<Policy> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let origin_s = since_1970.as_secs().saturating_sub(clock.now().0 / 1_000_000);
    Arc::new(Policy { origin_s, ..(*provisions.policy).clone() })
}

/// A number that differs from process to process and that clients can't know.
fn secret(domain: u64) -> u64 {
    RandomState::new().hash_one(domain)
}

fn shard_settings(config: &Config, shards: usize) -> Settings {
    let settings = Settings::configured(config, shards, [secret(0), secret(1)]);
    let memory_bytes = memory_bytes(config, shards);
    Settings {
        epoch: secret(2) as u32,
        seed: secret(3),
        limits: LimitsConfig { memory_bytes, ..settings.limits },
        ..settings
    }
}

/// Binds every listener once for each of its shards; the kernel spreads connections over them.
/// Gives for each core its sockets with the numbers of their listeners.
fn bind_all(
    config: &Config,
    directory: &Path,
    shards: usize,
) -> Result<Vec<Vec<(u16, OwnedFd)>>, StartError> {
    let mut cores: Vec<Vec<(u16, OwnedFd)>> = (0..shards).map(|_| Vec::new()).collect();
    for (number, listener) in (0..).zip(&config.listeners) {
        if let Some(path) = listener.unix_path.given() {
            let fd = net::bind_unix(&directory.join(path), listener.unix_mode, backlog(listener));
            let fd = fd.map_err(|error| cannot_bind(listener, &error))?;
            let own = listener.shards.as_slice();
            for (shard, core) in cores.iter_mut().enumerate() {
                if own.is_empty() || own.contains(&shard) {
                    // One socket for all: whoever is free accepts.
                    core.push((number, fd.try_clone().map_err(|error| out_of_files(&error))?));
                }
            }
            continue;
        }
        let mut settings = listener_settings(listener);
        let own = listener.shards.as_slice();
        let accepting = |(shard, _): &(usize, _)| own.is_empty() || own.contains(shard);
        for (_, core) in cores.iter_mut().enumerate().filter(accepting) {
            let (fd, address) =
                net::bind(&settings).map_err(|error| cannot_bind(listener, &error))?;
            if settings.address.port() == 0 {
                tracing::info!("listener {} is at {address}", listener.name.as_str());
            }
            // Port 0 is chosen once for all cores.
            settings.address = address;
            core.push((number, fd));
        }
    }
    Ok(cores)
}

fn listener_settings(listener: &ListenerConfig) -> ListenerSettings {
    ListenerSettings {
        backlog: backlog(listener),
        nodelay: listener.nodelay,
        v6_only: listener.ipv6_only,
        send_buffer_bytes: Some(listener.send_buffer_bytes).filter(|bytes| *bytes > 0),
        recv_buffer_bytes: Some(listener.recv_buffer_bytes).filter(|bytes| *bytes > 0),
        ..ListenerSettings::new(listener.address)
    }
}

fn backlog(listener: &ListenerConfig) -> i32 {
    i32::try_from(listener.backlog).unwrap_or(i32::MAX)
}

/// Takes the Unix sockets away on which nobody listens any more.
fn unbind_all(config: &Config, directory: &Path) {
    for path in config.listeners.iter().filter_map(|listener| listener.unix_path.given()) {
        // Somebody else may have taken it away.
        let _ = std::fs::remove_file(directory.join(path));
    }
}

fn cannot_bind(listener: &ListenerConfig, error: &io::Error) -> StartError {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023 or grant CAP_NET_BIND_SERVICE, or make the path writable"
        }
        io::ErrorKind::AlreadyExists => "take away what stands there, or choose another path",
        io::ErrorKind::NotFound => "make the directory of the path",
        io::ErrorKind::AddrNotAvailable => "choose an address of this host",
        _ => "see `corelane check`",
    };
    StartError::new(format!("cannot listen on {}: {error}", listener.place()), remedy)
}
