//! The broker under test as a process: starting it pinned, its CPU time and memory, stopping it.
//!
//! Invariants worth naming:
//! * CPU time is the scheduler's own account in nanoseconds, summed over the process's threads
//!   (io_uring workers are among them);
//! * a broker started here is ended here, by its pid, also when a run fails.

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a broker may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How long a broker may take to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Descriptors asked for, for ourselves and the brokers started here.
const DESCRIPTORS: u64 = 1 << 20;

/// The CPU account of a process.
#[derive(Clone, Debug)]
pub struct Cpu {
    tasks: PathBuf,
}

impl Cpu {
    /// The account of process `pid`.
    pub fn new(pid: u32) -> Cpu {
        Cpu { tasks: PathBuf::from(format!("/proc/{pid}/task")) }
    }

    /// CPU time used by all threads that live, nanoseconds; `None` when the process is gone.
    pub fn used_ns(&self) -> Option<u64> {
        let mut total = 0;
        for task in fs::read_dir(&self.tasks).ok()? {
            // A thread may end between listing and reading.
            let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
                continue;
            };
            total += text.split(' ').next()?.parse::<u64>().ok()?;
        }
        Some(total)
    }
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident pages, shared ones included.
    pub resident: u64,
    /// Resident pages of its own: heap, stacks, anonymous maps.
    pub anonymous: u64,
}

impl Memory {
    /// What process `pid` uses now.
    pub fn of(pid: u32) -> io::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {name} in smaps")))
        };
        Ok(Memory { resident: field("Rss:")?, anonymous: field("Anonymous:")? })
    }
}

/// Pins the calling thread, and what it starts from now on, to one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets this process and those it starts open as many descriptors as the host allows.
pub fn raise_descriptors() {
    let current = rustix::process::getrlimit(Resource::Nofile).maximum;
    let wanted = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        // Not privileged: as far as the hard limit goes; what is short fails loudly later.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum: current });
    }
}

/// How to start a broker. `{port}`, `{cpu}` and `{config}` in the command are filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// What tables call it.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Text of a configuration file, if it needs one.
    pub config: Option<String>,
}

/// Limits off, persistence off, no log; `max_inflight_messages 0` lifts the limit of 20.
const MOSQUITTO_CONFIG: &str = "listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
log_type error
";

/// The same for corelane: room for whatever the generator has outstanding, as mosquitto has it.
const CORELANE_CONFIG: &str = "[session]
outbox_messages = 1000000
outbox_bytes = 1073741824
late_messages = 65536
[limits]
out_buffer_bytes = 67108864
";

impl Descriptor {
    /// Reads `mosquitto`, `corelane`, `corelane:N` or `name=command line`.
    pub fn parse(text: &str, corelane: &str) -> Result<Descriptor, String> {
        if let Some((name, line)) = text.split_once('=') {
            let command: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if command.is_empty() || name.is_empty() {
                return Err(format!("{text}: expected name=command line"));
            }
            return Ok(Descriptor { name: name.to_owned(), command, config: None });
        }
        let words = |line: &str| line.split(' ').map(str::to_owned).collect();
        if text == "mosquitto" {
            let program = if Path::new("/usr/sbin/mosquitto").exists() {
                "/usr/sbin/mosquitto"
            } else {
                "mosquitto"
            };
            return Ok(Descriptor {
                name: text.to_owned(),
                command: words(&format!("{program} -c {{config}}")),
                config: Some(MOSQUITTO_CONFIG.to_owned()),
            });
        }
        let (kind, shards) = text.split_once(':').unwrap_or((text, "1"));
        if kind != "corelane" || shards.parse::<u8>().is_err() {
            return Err(format!("{text}: not mosquitto, corelane, corelane:N or name=command"));
        }
        let flags = "--config {config} --listen 127.0.0.1:{port} --cpus {cpu}";
        let command = words(&format!("{corelane} {flags} --shards {shards}"));
        let config = Some(CORELANE_CONFIG.to_owned());
        Ok(Descriptor { name: text.to_owned(), command, config })
    }
}

/// A broker that runs.
pub struct Broker {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    scratch: PathBuf,
}

impl Broker {
    /// Starts a broker pinned to `cpu` and waits until it accepts connections.
    pub fn start(descriptor: &Descriptor, cpu: usize) -> io::Result<Broker> {
        let port = free_port()?;
        let scratch =
            std::env::temp_dir().join(format!("corelane-loadtest-{}-{port}", std::process::id()));
        fs::create_dir_all(&scratch)?;
        let fill = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{cpu}", &cpu.to_string())
                .replace("{config}", &scratch.join("broker.conf").to_string_lossy())
        };
        if let Some(config) = &descriptor.config {
            fs::write(scratch.join("broker.conf"), fill(config))?;
        }
        let log = File::create(scratch.join("log"))?;
        let mut command = Command::new(fill(&descriptor.command[0]));
        command.args(descriptor.command[1..].iter().map(|argument| fill(argument)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = spawn_pinned(&mut command, cpu).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", descriptor.command[0]))
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut broker = Broker { child, address, scratch };
        broker.await_listening(&descriptor.name)?;
        Ok(broker)
    }

    fn await_listening(&mut self, name: &str) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait()?.is_some();
            if ended || begin.elapsed() > START_PATIENCE {
                let log = fs::read_to_string(self.scratch.join("log")).unwrap_or_default();
                let what = if ended { "ended at once" } else { "does not listen" };
                return Err(io::Error::other(format!("{name} {what}: {}", log.trim())));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let begin = Instant::now();
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > STOP_PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            sleep(Duration::from_millis(5));
        }
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Starts a child that inherits our thread's affinity while that is the broker's CPU.
fn spawn_pinned(command: &mut Command, cpu: usize) -> io::Result<Child> {
    let ours = sched_getaffinity(None)?;
    pin(cpu)?;
    let child = command.spawn();
    sched_setaffinity(None, &ours)?;
    child
}

/// A port that nobody listens on now.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_each_form() {
        let parse = |text| Descriptor::parse(text, "/bin/corelane");
        let wanted =
            "/bin/corelane --config {config} --listen 127.0.0.1:{port} --cpus {cpu} --shards 4";
        assert_eq!(parse("corelane:4").expect("valid").command.join(" "), wanted);
        assert!(parse("mosquitto").expect("valid").config.is_some());
        let own = parse("x=/bin/x --port={port}").expect("valid");
        assert_eq!((&*own.name, own.command.len()), ("x", 2));
        for wrong in ["nats", "corelane:x", "=a", "a="] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn our_own_accounts_are_readable() {
        let pid = std::process::id();
        let cpu = Cpu::new(pid);
        assert!(cpu.used_ns().is_some());
        let memory = Memory::of(pid).expect("own smaps are readable");
        assert!(memory.resident >= memory.anonymous && memory.anonymous > 0);
    }
}
