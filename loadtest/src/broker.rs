//! Brokers started for a comparison: how each is started, waiting for it, ending it.
//!
//! Invariant worth naming: a broker started here is ended here, by its pid, also when a run fails;
//! it stands in a process group of its own, so that Ctrl-C reaches us first.

use crate::process::pin;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a broker may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How long a broker may take to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Name of the bare relay, and what stands for its command until the scenario is known.
pub const LIMIT: &str = "limit";

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
packet_bytes = 8388608
";

impl Descriptor {
    /// Reads `mosquitto`, `corelane`, `corelane:N`, `limit` or `name=command line`.
    ///
    /// # Errors
    /// None of these.
    pub fn parse(text: &str, corelane: &str) -> Result<Descriptor, String> {
        if let Some((name, line)) = text.split_once('=') {
            let command: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if command.is_empty() || name.is_empty() {
                return Err(format!("{text}: expected name=command line"));
            }
            return Ok(Descriptor { name: name.to_owned(), command, config: None });
        }
        if text == LIMIT {
            let command = vec![LIMIT.to_owned()];
            return Ok(Descriptor { name: LIMIT.to_owned(), command, config: None });
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
            return Err(format!(
                "{text}: not mosquitto, corelane, corelane:N, limit or name=command"
            ));
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
    ///
    /// # Errors
    /// It cannot be started, ends at once or does not listen in time; its log says why.
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
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
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
}
