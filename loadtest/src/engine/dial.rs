//! Opening TCP connections without waiting for them.
//!
//! Invariant worth naming: a source address is left when its ports run out, so that the number of
//! connections to one broker on the loopback net is bounded by open files, not by ports.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// Connections made from one source address: below the ports that one has by default.
const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// Source addresses used: 127.0.0.1 and those behind it.
const SOURCES: u8 = 250;

/// Opens connections to one address.
pub struct Dialer {
    address: SocketAddr,
    opened: usize,
    source: u8,
}

impl Dialer {
    /// To `address`. Threads with different `first` use different source addresses.
    pub fn new(address: SocketAddr, first: u8) -> Dialer {
        Dialer { address, opened: 0, source: first }
    }

    /// A socket whose connection is being made; what becomes of it the first send tells.
    ///
    /// # Errors
    /// No file or no port is left, or the network refuses at once.
    pub fn open(&mut self) -> io::Result<OwnedFd> {
        let local = self.address.is_ipv4() && self.address.ip().is_loopback();
        loop {
            if local && self.opened == CONNECTIONS_PER_SOURCE {
                self.next_source()?;
            }
            match self.connect(local) {
                Err(error) if local && error.kind() == io::ErrorKind::AddrNotAvailable => {
                    self.next_source()?;
                }
                Ok(fd) => {
                    self.opened += 1;
                    return Ok(fd);
                }
                other => return other,
            }
        }
    }

    fn next_source(&mut self) -> io::Result<()> {
        self.opened = 0;
        self.source += 1;
        if self.source >= SOURCES {
            return Err(io::Error::other("the ports of all loopback source addresses are in use"));
        }
        Ok(())
    }

    fn connect(&self, local: bool) -> io::Result<OwnedFd> {
        let domain = Domain::for_address(self.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if local && self.source > 0 {
            let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + self.source));
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.set_nonblocking(true)?;
        match socket.connect(&self.address.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                return Err(error);
            }
            _ => {}
        }
        // From here on io_uring waits for the socket, which it does for blocking ones only.
        socket.set_nonblocking(false)?;
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn further_sources_carry_on_when_ports_run_out() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let mut dialer = Dialer::new(listener.local_addr().expect("bound"), 0);
        dialer.opened = CONNECTIONS_PER_SOURCE - 1;
        let (first, second) = (dialer.open().expect("free"), dialer.open().expect("free"));
        let sources: Vec<_> =
            (0..2).map(|_| listener.accept().expect("connected").1.ip().to_string()).collect();
        assert_eq!(sources, ["127.0.0.1", "127.0.0.2"]);
        drop((first, second));
    }
}
