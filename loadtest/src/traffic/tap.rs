//! A transparent TCP relay in front of a broker that listens along.
//!
//! Two blocking threads for each connection, one a direction: nothing waits for anything but the
//! socket it is meant for, back pressure is the kernel's own, and a half-closed connection stays
//! half closed. The driver of the engine would carry more connections in less memory but knows no
//! half-closed sockets.
//!
//! Invariants worth naming:
//! * bytes are passed on before they are looked at, unchanged, whether they are understood or not;
//! * a connection has one buffer for each direction and nothing beside it;
//! * what ends one side ends the other; no end of one connection touches another.

use super::{Decoder, Sink};
use corelane::runtime::{Requests, Stopping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, Scope};
use std::time::{Duration, Instant};

/// Bytes of one direction's buffer.
const BUFFER: usize = 16 << 10;
/// Stack of a connection's threads.
const STACK: usize = 256 << 10;
/// How long the broker may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the operator's wishes are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A tap between clients and a broker.
pub struct Tap<'a> {
    to: SocketAddr,
    sink: &'a Sink,
    live: Mutex<Live>,
    refused: AtomicU64,
}

/// The sockets of the connections that are open.
#[derive(Default)]
struct Live {
    stopping: bool,
    next: u32,
    open: BTreeMap<u32, [TcpStream; 2]>,
}

impl<'a> Tap<'a> {
    /// Passes connections on to `to` and tells `sink` what clients say.
    pub fn new(to: SocketAddr, sink: &'a Sink) -> Tap<'a> {
        Tap { to, sink, live: Mutex::default(), refused: AtomicU64::new(0) }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that were accepted from clients so far, and those among them that the broker
    /// did not accept.
    pub fn connections(&self) -> (u64, u64) {
        let refused = self.refused.load(Relaxed);
        (u64::from(self.live().next) + refused, refused)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.live().open.len()
    }

    /// Accepts and passes on until the operator asks or `until` has come; then ends what is open.
    /// `watch` is called about every 50 ms.
    ///
    /// # Errors
    /// The listener is broken.
    pub fn run(
        &self,
        listener: &TcpListener,
        requests: &Requests,
        until: Option<Instant>,
        watch: &mut dyn FnMut(&Tap<'_>),
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        thread::scope(|scope| {
            let over = || until.is_some_and(|until| Instant::now() >= until);
            let mut ran = Ok(());
            while ran.is_ok() && requests.stopping() == Stopping::No && !over() {
                ran = self.accept(listener, scope);
                watch(self);
            }
            self.stop();
            ran
        })
    }

    /// Waits for connections for a moment and takes those that have come.
    fn accept<'s>(&'s self, listener: &TcpListener, scope: &'s Scope<'s, '_>) -> io::Result<()> {
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
        match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&look)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        loop {
            match listener.accept() {
                Ok((client, _)) => {
                    let begin = Builder::new().stack_size(STACK);
                    // Without a thread the client is dropped: the host has no room for it.
                    let begun = begin.spawn_scoped(scope, move || self.connection(&client));
                    self.refused.fetch_add(u64::from(begun.is_err()), Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
                Err(_) => {
                    // Out of files, or the client has gone already: others go on meanwhile.
                    thread::sleep(LOOK);
                    return Ok(());
                }
            }
        }
    }

    /// Ends every connection, and those that are being made.
    fn stop(&self) {
        let mut live = self.live();
        live.stopping = true;
        for stream in live.open.values().flatten() {
            end(stream);
        }
    }

    /// One connection from its begin to its end.
    fn connection(&self, client: &TcpStream) {
        let Ok((number, broker)) = self.join(client) else {
            self.refused.fetch_add(1, Relaxed);
            return;
        };
        let mut decoder = Decoder::default();
        thread::scope(|scope| {
            let down = || {
                if pass(&broker, client, |_, _| {}).is_err() {
                    end(client);
                    end(&broker);
                }
            };
            let begun = Builder::new().stack_size(STACK).spawn_scoped(scope, down);
            let heard = |at, bytes: &[u8]| self.sink.heard(number, &mut decoder, at, bytes);
            if begun.is_err() || pass(client, &broker, heard).is_err() {
                end(client);
                end(&broker);
            }
            self.sink.gone(number, &mut decoder);
        });
        self.live().open.remove(&number);
    }

    /// Connects to the broker; the connection's number and the broker's side.
    fn join(&self, client: &TcpStream) -> io::Result<(u32, TcpStream)> {
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        let broker = TcpStream::connect_timeout(&self.to, CONNECT)?;
        broker.set_nodelay(true)?;
        let both = [client.try_clone()?, broker.try_clone()?];
        let mut live = self.live();
        if live.stopping {
            return Err(ErrorKind::Interrupted.into());
        }
        let number = live.next;
        live.next += 1;
        live.open.insert(number, both);
        Ok((number, broker))
    }
}

/// Passes bytes on until the sender's end, and then that too; shows them after each write.
fn pass(
    mut from: &TcpStream,
    mut to: &TcpStream,
    mut seen: impl FnMut(Instant, &[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return to.shutdown(Shutdown::Write),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let at = Instant::now();
        let passed = to.write_all(&buffer[..count]);
        seen(at, &buffer[..count]);
        passed?;
    }
}

/// Ends both directions; one that has ended already does not matter.
fn end(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}
