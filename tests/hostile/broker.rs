//! The broker's process, and connections that speak well or badly.

use corelane::base::PacketId;
use corelane::codec::{self, Connect, Packet, Version};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const ANSWER: Duration = Duration::from_secs(20);

pub struct Broker {
    pub address: SocketAddr,
    process: Child,
    log: Option<JoinHandle<Vec<String>>>,
}

impl Broker {
    /// Starts a broker with these keys, and these of its listener.
    pub fn start(keys: &str, listener: &str) -> Broker {
        // Until it listens its port looks free, and two brokers may share one.
        static STARTING: Mutex<()> = Mutex::new(());
        let _alone = STARTING.lock().expect("starting does not panic");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let path = std::env::temp_dir().join(format!("corelane-hostile-{}", address.port()));
        let text = format!("{keys}\n[[listener]]\naddress = \"{address}\"\n{listener}\n");
        std::fs::write(&path, text).expect("the configuration can be written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = process.stderr.take().expect("piped");
        let log = Some(std::thread::spawn(move || notable(stderr)));
        let mut broker = Broker { address, process, log };
        let deadline = Instant::now() + ANSWER;
        while TcpStream::connect(address).is_err() {
            let ended = broker.process.try_wait().expect("our own child");
            assert!(ended.is_none() && Instant::now() < deadline, "no broker: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::remove_file(&path).expect("written above");
        broker
    }

    /// Memory of the process in RAM, in bytes.
    pub fn rss(&self) -> usize {
        let path = format!("/proc/{}/statm", self.process.id());
        let text = std::fs::read_to_string(path).expect("the broker runs");
        let pages = text.split(' ').nth(1).expect("the second field");
        pages.parse::<usize>().expect("a number") * 4096
    }

    /// Stops the broker in order; gives its counters and what it complained about.
    pub fn stop(mut self) -> (BTreeMap<String, u64>, Vec<String>) {
        let pid = self.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(asked.success());
        let status = self.process.wait().expect("our own child");
        let log = self.log.take().expect("not taken before").join().expect("it reads to the end");
        assert!(status.success(), "the broker ended with {status}: {log:#?}");
        let totals = log.iter().find_map(|line| line.split_once("stopped: ")).expect("counters");
        let pairs = totals.1.split(' ').filter_map(|pair| pair.split_once('='));
        let counters =
            pairs.map(|(name, count)| (name.to_owned(), count.parse().expect("a count")));
        (counters.collect(), log)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// All lines that are not about a single connection.
fn notable(stderr: ChildStderr) -> Vec<String> {
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let single = ["connection closed", "refused"];
    let told = |line: &str| line.contains("stopped: ") || !single.iter().any(|w| line.contains(w));
    lines.filter(|line| told(line)).collect()
}

/// A connection with what has arrived and was not looked at yet.
pub struct Client {
    pub stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub fn dial(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_read_timeout(Some(ANSWER)).expect("a timeout can be set");
        stream.set_write_timeout(Some(ANSWER)).expect("a timeout can be set");
        Client { stream, input: Vec::new() }
    }

    pub fn connected(address: SocketAddr, version: Version, client_id: &str) -> Client {
        Client::with(address, &connect(version, client_id))
    }

    /// One that has its CONNACK for these bytes.
    pub fn with(address: SocketAddr, connect: &[u8]) -> Client {
        let mut client = Client::dial(address);
        client.stream.write_all(connect).expect("written");
        client.next(|packet| assert!(matches!(packet, Some(Packet::Connack(_))), "{packet:?}"));
        client
    }

    /// Hands the next packet to `see`, or nothing at the end of the stream.
    pub fn next<T>(&mut self, see: impl FnOnce(Option<Packet<'_>>) -> T) -> T {
        loop {
            if let Some(frame) = codec::frame(&self.input, usize::MAX).expect("good packets") {
                let len = frame.len;
                let packet = codec::decode(&frame, Version::V5).expect("good packets");
                let seen = see(Some(packet));
                self.input.drain(..len);
                return seen;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return see(None),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                // Closed with bytes of ours unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return see(None);
                }
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    /// Says that nothing more comes, and reads to the end of the stream.
    pub fn leave(self, what: &str) {
        // Fails where the broker has closed.
        self.stream.shutdown(Shutdown::Write).ok();
        self.expect_end(what);
    }

    /// Reads to the end of the stream.
    pub fn expect_end(mut self, what: &str) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("{what}: the broker does not close: {error}"),
            }
        }
    }
}

pub fn connect(version: Version, client_id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Connect { version, client_id, clean_start: true, ..Connect::default() }.encode(&mut out);
    out
}

pub fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}
