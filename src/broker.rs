//! Starting and stopping a broker from code.

use crate::base::ShardId;
use crate::config::{Config, ListenerConfig, Route as ConfiguredRoute};
use crate::mesh::{self, MeshEnd, MeshSettings};
use crate::net::{self, Driver, DriverSettings, ListenerSettings};
use crate::runtime::{
    Clock, Place, Pulse, Reactor, ReactorSettings, Stop, Watch, run_cores, stop_on_signals, watch,
};
use crate::shard::placement::{Route, Rule};
use crate::shard::{Counters, Placement, Settings, Shard, TickBudget};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tuning::placement::ShardPlace;

/// Why the broker could not start, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError {
    /// What went wrong.
    pub message: String,
    /// What mends it.
    pub remedy: String,
}

impl StartError {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> StartError {
        StartError { message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for StartError {}

/// Runs a broker with one shard for each of `places` until SIGTERM or SIGINT.
///
/// # Errors
/// The host refuses something that the broker needs, or a core failed while running.
pub fn serve(config: &Config, places: &[ShardPlace]) -> Result<(), StartError> {
    let driver = driver_settings(config);
    net::probe(&driver).map_err(|error| StartError::new(error.to_string(), error.remedy()))?;
    let clock = Clock::start();
    let settings = shard_settings(config, places.len());
    let ends = mesh::build(places.len(), mesh_settings(config));
    let bells = ends.iter().map(|end| end.bell().clone()).collect();
    let stop = Stop::new(bells);
    let pulses: Arc<Vec<Pulse>> = Arc::new(places.iter().map(|_| Pulse::default()).collect());
    let listeners = bind_all(config, places.len())?;
    let on_thread = |error: io::Error| {
        StartError::new(format!("a helper thread: {error}"), "raise the limit of threads")
    };
    stop_on_signals(stop.clone()).map_err(on_thread)?;
    let limits = Watch {
        warn_after: Duration::from_millis(config.runtime.stall_warn_ms.into()),
        abort_after: (config.runtime.stall_abort_s > 0)
            .then(|| Duration::from_secs(config.runtime.stall_abort_s.into())),
    };
    watch(pulses.clone(), clock, limits, stop.clone()).map_err(on_thread)?;
    let totals = Arc::new(Mutex::new(Counters::default()));
    let cores = places.iter().zip(ends).zip(listeners).map(|((place, mesh), listeners)| {
        let core = Core {
            mesh,
            listeners,
            driver,
            clock,
            settings: settings.clone(),
            reactor: reactor_settings(config),
            stop: stop.clone(),
            pulses: pulses.clone(),
            totals: totals.clone(),
        };
        let main = move || async move { core.run() };
        (Place { shard: place.shard, cpu: place.cpu }, main)
    });
    let ended = run_cores(cores.collect(), &|| stop.request_now());
    report(&totals);
    ended.map_err(|failure| StartError::new(failure.to_string(), "see the log above"))
}

/// What one core's thread is made of.
struct Core {
    mesh: MeshEnd,
    listeners: Vec<OwnedFd>,
    driver: DriverSettings,
    clock: Clock,
    settings: Settings,
    reactor: ReactorSettings,
    stop: Stop,
    pulses: Arc<Vec<Pulse>>,
    totals: Arc<Mutex<Counters>>,
}

impl Core {
    fn run(self) -> Result<(), String> {
        let index = self.mesh.me().index();
        let broken = |error: io::Error| format!("its ring: {error}");
        let mut driver = Driver::new(&self.driver).map_err(broken)?;
        let waker = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
            .map_err(|error| format!("its doorbell: {error}"))?;
        driver.watch(waker.try_clone().map_err(broken)?);
        self.mesh.bell().set_wake(Arc::new(move || {
            // A full counter means that the core is being woken already.
            let _ = rustix::io::write(&waker, &1u64.to_ne_bytes());
        }));
        for (listener, fd) in self.listeners.into_iter().enumerate() {
            driver.listen(fd, listener as u16);
        }
        let shard = Shard::new(self.settings, self.mesh, self.clock.now());
        let reactor = Reactor::new(shard, driver, self.clock, self.reactor);
        let shard = reactor.run(&self.stop, &self.pulses[index]).map_err(broken)?;
        if let Ok(mut totals) = self.totals.lock() {
            totals.add(shard.counters());
        }
        Ok(())
    }
}

fn report(totals: &Mutex<Counters>) {
    if let Ok(totals) = totals.lock() {
        let counted = totals.entries().filter(|(_, count)| *count > 0);
        let counted: Vec<String> = counted.map(|(name, count)| format!("{name}={count}")).collect();
        tracing::info!("stopped: {}", counted.join(" "));
    }
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
        ..MeshSettings::default()
    }
}

fn reactor_settings(config: &Config) -> ReactorSettings {
    ReactorSettings {
        completions: config.runtime.tick_completions,
        gather: Duration::from_micros(config.runtime.gather_us.into()),
        spin: Duration::from_micros(config.runtime.spin_us.into()),
        drain: Duration::from_secs(config.runtime.drain_s.into()),
    }
}

/// A number that differs from process to process and that clients can't know.
fn secret(domain: u64) -> u64 {
    RandomState::new().hash_one(domain)
}

fn shard_settings(config: &Config, shards: usize) -> Settings {
    let topics = &config.topics;
    let depths = topics.r#override.iter().map(|rule| Rule::new(rule.prefix.as_str(), rule.depth));
    let pins = topics.pin.iter();
    let pins = pins.map(|rule| Rule::new(rule.prefix.as_str(), ShardId(rule.shard as u8)));
    let routes = topics.route.iter().map(|rule| {
        let route = match rule.mode {
            ConfiguredRoute::Owner => Route::Owner,
            ConfiguredRoute::Publisher => Route::Publisher,
        };
        Rule::new(rule.prefix.as_str(), route)
    });
    let placement = Placement::new(shards, [secret(0), secret(1)], topics.depth).with_rules(
        depths.collect(),
        pins.collect(),
        routes.collect(),
    );
    let deadlines = config.listeners.iter().map(|l| u64::from(l.connect_deadline_ms) * 1000);
    Settings {
        epoch: secret(2) as u32,
        seed: secret(3),
        session: config.session.clone(),
        limits: config.limits.clone(),
        tick: TickBudget { targets: config.runtime.tick_targets, ..TickBudget::default() },
        connect_deadlines_us: deadlines.collect(),
        max_connections: config.listeners.iter().map(|l| l.max_connections).collect(),
        lobby: config.listeners.iter().map(|listener| listener.lobby).sum(),
        ..Settings::new(placement)
    }
}

/// Binds every listener once per shard; the kernel spreads connections over them.
fn bind_all(config: &Config, shards: usize) -> Result<Vec<Vec<OwnedFd>>, StartError> {
    let mut cores: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let mut settings = listener_settings(listener);
        for core in &mut cores {
            let (fd, address) =
                net::bind(&settings).map_err(|error| cannot_bind(listener, &error))?;
            if settings.address.port() == 0 {
                tracing::info!("listener {} is at {address}", listener.name.as_str());
            }
            // Port 0 is chosen once for all cores.
            settings.address = address;
            core.push(fd);
        }
    }
    Ok(cores)
}

fn listener_settings(listener: &ListenerConfig) -> ListenerSettings {
    ListenerSettings {
        backlog: i32::try_from(listener.backlog).unwrap_or(i32::MAX),
        nodelay: listener.nodelay,
        ..ListenerSettings::new(listener.address)
    }
}

fn cannot_bind(listener: &ListenerConfig, error: &io::Error) -> StartError {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this host",
        _ => "see `corelane check`",
    };
    StartError::new(format!("cannot listen on {}: {error}", listener.address), remedy)
}
