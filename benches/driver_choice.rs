//! Is an io_uring of our own worth it? The same echo and the same fan-out on our driver (with both
//! ways to sleep) and on glommio's `TcpStream`, by CPU of the server's thread per message.
//!
//! All servers are executors pinned to CPU 0 of one process, the generator is pinned to CPU 1
//! (`CORELANE_BENCH_CPUS=a,b` names others) and serves one server at a time, in turn; medians are
//! printed. Both sides write once per connection for what they read at once, and both read into
//! memory shared by all connections of the core.
//!
//! `cargo bench --bench driver_choice`

use std::cell::Cell;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use corelane::base::{ShardId, Time};
use corelane::net::{Driver, DriverSettings, Event, ListenerSettings, SocketKey, bind};
use corelane::runtime::{ExecutorSettings, Executors, Seat, Sleeper, Waker, Way};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use rustix::thread::{CpuSet, gettid, sched_setaffinity};

const MESSAGE: usize = 64;
const READ_BYTES: usize = 4096;

#[derive(Clone, Copy)]
enum Server {
    OwnRing(Way),
    Streams,
}

/// What the generator does in each step, and what the server answers.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    /// All connections echo, or the first one's messages go to all others.
    fan_out: bool,
    connections: usize,
    /// Messages written at once by each connection that writes.
    batch: usize,
    steps: usize,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "echo 64 x 1", fan_out: false, connections: 64, batch: 1, steps: 1500 },
    Shape { name: "echo 64 x 16", fan_out: false, connections: 64, batch: 16, steps: 600 },
    Shape { name: "echo 4 x 1", fan_out: false, connections: 4, batch: 1, steps: 8000 },
    Shape { name: "fan-out 100 x 16", fan_out: true, connections: 101, batch: 16, steps: 800 },
];

/// Connection state of the own-ring server, by socket index.
#[derive(Default)]
struct Outgoing {
    waiting: Vec<u8>,
    spare: Vec<u8>,
}

async fn own_ring(way: Way, shape: Shape, listener: OwnedFd) {
    let mut driver = Driver::new(&DriverSettings::default()).expect("io_uring is usable");
    let waker = Waker::new().expect("a file descriptor is left");
    driver.watch(waker.watched().expect("a file descriptor is left")).expect("an eventfd");
    let sleeper = Sleeper::new(&driver, way).expect("a file descriptor is left");
    driver.listen(listener, 0);
    let key = |index: usize| SocketKey { index: index as u32, generation: 1 };
    let mut outgoing: Vec<Outgoing> = Vec::new();
    let (mut accepted, mut ended) = (Vec::new(), Vec::new());
    let mut open = shape.connections;
    while open > 0 {
        sleeper.sleep(&mut driver, None).await.expect("the ring works");
        driver.reap(4096, |event| match event {
            Event::Accepted { fd, .. } => accepted.push(fd),
            Event::Received { bytes, .. } if shape.fan_out => {
                for to in &mut outgoing[1..] {
                    to.waiting.extend_from_slice(bytes);
                }
            }
            Event::Received { key, bytes } => {
                outgoing[key.index as usize].waiting.extend_from_slice(bytes);
            }
            Event::Sent { key, buffer } => outgoing[key.index as usize].spare = buffer,
            Event::EndOfInput { key, .. } => ended.push(key),
            Event::Released { .. } => open -= 1,
            _ => {}
        });
        for fd in accepted.drain(..) {
            driver.register(key(outgoing.len()), fd);
            driver.read_stream(key(outgoing.len()));
            outgoing.push(Outgoing::default());
        }
        for (index, out) in outgoing.iter_mut().enumerate() {
            if !out.waiting.is_empty() && !driver.sending(key(index)) {
                let full = std::mem::replace(&mut out.waiting, std::mem::take(&mut out.spare));
                // The peer has read everything before it ends.
                let _ = driver.send(key(index), full);
            }
        }
        for key in ended.drain(..) {
            driver.close(key, Time::default());
        }
    }
}

async fn streams(shape: Shape, listener: OwnedFd) {
    // SAFETY: the listener's only owner hands it over.
    let listener = unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let mut all = Vec::new();
    let scratch = Rc::new(Cell::new(vec![0; READ_BYTES]));
    let mut tasks = Vec::new();
    for _ in 0..shape.connections {
        let mut stream = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("TCP");
        if shape.fan_out {
            all.push(stream);
            continue;
        }
        let scratch = scratch.clone();
        let echo = async move {
            loop {
                // Not held across the wait: taken by each poll, as a shared buffer must be.
                let count = read_shared(&mut stream, &scratch).await;
                if count == 0 {
                    return;
                }
                let bytes = scratch.take();
                stream.write_all(&bytes[..count]).await.expect("the peer reads");
                scratch.set(bytes);
            }
        };
        tasks.push(glommio::spawn_local(echo).detach());
    }
    if let [from, to @ ..] = &mut all[..] {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let count = from.read(&mut bytes).await.expect("the peer writes");
            if count == 0 {
                return;
            }
            for stream in &mut *to {
                stream.write_all(&bytes[..count]).await.expect("the peer reads");
            }
        }
    }
    for task in tasks {
        task.await;
    }
}

async fn read_shared(stream: &mut glommio::net::TcpStream, scratch: &Cell<Vec<u8>>) -> usize {
    use futures_lite::AsyncRead;
    std::future::poll_fn(|context| {
        let mut bytes = scratch.take();
        bytes.resize(READ_BYTES, 0);
        let polled = std::pin::Pin::new(&mut *stream).poll_read(context, &mut bytes);
        scratch.set(bytes);
        polled
    })
    .await
    .expect("the peer writes")
}

/// One server's connections, seen from the generator.
struct Client {
    name: String,
    thread: Arc<AtomicI32>,
    address: SocketAddr,
    connections: Vec<TcpStream>,
    cpu_ns: Vec<u64>,
}

impl Client {
    fn connect(&mut self, count: usize) -> std::io::Result<()> {
        for _ in 0..count {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            self.connections.push(stream);
        }
        Ok(())
    }

    /// CPU time that the server's thread has used.
    fn server_cpu_ns(&self) -> u64 {
        let thread = self.thread.load(Ordering::Acquire);
        let line = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
        let line = line.expect("a kernel with schedstat");
        line.split(' ').next().and_then(|field| field.parse().ok()).expect("schedstat has fields")
    }

    fn steps(&mut self, shape: Shape, steps: usize) -> std::io::Result<()> {
        let message = vec![b'm'; MESSAGE * shape.batch];
        let mut answer = message.clone();
        let writers = if shape.fan_out { 1 } else { shape.connections };
        for _ in 0..steps {
            for stream in &mut self.connections[..writers] {
                stream.write_all(&message)?;
            }
            for stream in self.connections.iter_mut().skip(usize::from(shape.fan_out)) {
                stream.read_exact(&mut answer)?;
            }
        }
        Ok(())
    }

    fn round(&mut self, shape: Shape, steps: usize) -> std::io::Result<()> {
        self.steps(shape, steps / 10 + 1)?;
        let before = self.server_cpu_ns();
        self.steps(shape, steps)?;
        let receivers = if shape.fan_out { shape.connections - 1 } else { shape.connections };
        let messages = (steps * receivers * shape.batch) as u64;
        self.cpu_ns.push((self.server_cpu_ns() - before) / messages);
        Ok(())
    }
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn cpus() -> (usize, usize) {
    let named = std::env::var("CORELANE_BENCH_CPUS").unwrap_or_default();
    let pair = named.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    pair.unwrap_or((0, 1))
}

fn compare(shape: Shape, rounds: usize, steps: usize) -> Result<(), Box<dyn Error>> {
    let servers = [
        ("glommio streams", Server::Streams),
        ("own ring, ring sleep", Server::OwnRing(Way::Ring)),
        ("own ring, glommio sleep", Server::OwnRing(Way::Glommio)),
    ];
    let (mut clients, mut starts) = (Vec::new(), Vec::new());
    for (shard, (name, server)) in servers.into_iter().enumerate() {
        let (listener, address) = bind(&ListenerSettings::new("127.0.0.1:0".parse()?))?;
        let thread = Arc::new(AtomicI32::new(0));
        let of_server = thread.clone();
        let seat = Seat { shard: ShardId(shard as u8), cpu: Some(cpus().0) };
        starts.push((seat, move |_seat| async move {
            of_server.store(gettid().as_raw_nonzero().get(), Ordering::Release);
            match server {
                Server::OwnRing(way) => own_ring(way, shape, listener).await,
                Server::Streams => streams(shape, listener).await,
            }
        }));
        let name = name.to_owned();
        clients.push(Client { name, thread, address, connections: vec![], cpu_ns: vec![] });
    }
    let executors = Executors::start(&ExecutorSettings::default(), starts)?;
    for client in &mut clients {
        client.connect(shape.connections)?;
    }
    for _ in 0..rounds {
        for client in &mut clients {
            client.round(shape, steps)?;
        }
    }
    let base = median(&mut clients[0].cpu_ns).max(1);
    for client in &mut clients {
        let cpu = median(&mut client.cpu_ns);
        let ratio = cpu as f64 / base as f64;
        println!("{:<18}{:<26}{cpu:>10}{ratio:>8.2}", shape.name, client.name);
        client.connections.clear();
    }
    let mut outcome = Ok(());
    executors.join(|_, end| {
        if let Err(error) = end {
            outcome = Err(error);
        }
    });
    Ok(outcome?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let full = std::env::args().any(|argument| argument == "--bench");
    let mut here = CpuSet::new();
    here.set(cpus().1);
    sched_setaffinity(None, &here)?;
    println!("{:<18}{:<26}{:>10}{:>8}", "shape", "server", "CPU ns/msg", "ratio");
    for shape in SHAPES {
        let (rounds, steps) = if full { (7, shape.steps) } else { (1, 3) };
        compare(shape, rounds, steps)?;
    }
    Ok(())
}
