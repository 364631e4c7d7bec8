//! Listening sockets, one per core and address: the kernel spreads connections over them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// How to listen on one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerSettings {
    /// Address and port; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
    /// Send small packets at once; connections inherit it.
    pub nodelay: bool,
    /// For IPv6 addresses: do not accept IPv4.
    pub v6_only: bool,
    /// Several sockets of this user may listen on the address: one per core.
    pub shared: bool,
    /// Kernel send buffer of each connection, bytes; `None` leaves it to the kernel's tuning.
    pub send_buffer_bytes: Option<usize>,
    /// Kernel receive buffer of each connection, bytes; `None` as above.
    pub recv_buffer_bytes: Option<usize>,
}

impl ListenerSettings {
    /// Listening on `address` with the usual choices.
    pub fn new(address: SocketAddr) -> ListenerSettings {
        ListenerSettings {
            address,
            backlog: 4096,
            nodelay: true,
            v6_only: false,
            shared: true,
            send_buffer_bytes: None,
            recv_buffer_bytes: None,
        }
    }
}

/// A listening TCP socket for [`Driver::listen`](super::Driver::listen), and its address.
///
/// # Errors
/// What the kernel says: the address is in use, not ours, or not permitted.
pub fn bind(settings: &ListenerSettings) -> io::Result<(OwnedFd, SocketAddr)> {
    let domain = Domain::for_address(settings.address);
    // `Socket::new` sets close-on-exec.
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if settings.address.is_ipv6() {
        socket.set_only_v6(settings.v6_only)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(settings.shared)?;
    socket.set_tcp_nodelay(settings.nodelay)?;
    if let Some(bytes) = settings.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = settings.recv_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&settings.address.into())?;
    socket.listen(settings.backlog)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(settings.address);
    Ok((socket.into(), address))
}

/// The address of the peer of a connected TCP socket; `None` when it is gone already.
pub fn peer_address(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    SockRef::from(&fd).peer_addr().ok()?.as_socket()
}
