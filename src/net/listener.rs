//! Listening sockets, one per core and address: the kernel spreads connections over them.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

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

/// A listening Unix socket at `path`, with `mode` before anybody can connect. A socket on which
/// nobody listens is replaced.
///
/// # Errors
/// What the kernel says; `AddrInUse` where somebody listens there, `AlreadyExists` where something
/// else than a socket stands there.
pub fn bind_unix(path: &Path, mode: u32, backlog: i32) -> io::Result<OwnedFd> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            _ => return Err(io::Error::from(io::ErrorKind::AddrInUse)),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// The address of the peer of a connected TCP socket; `None` when it is gone already.
pub fn peer_address(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    SockRef::from(&fd).peer_addr().ok()?.as_socket()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_replaces_what_is_dead_and_nothing_else() {
        let name = format!("corelane-unix-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let socket = bind_unix(&path, 0o600, 1).expect("a free path");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).expect("it listens");
        let taken = bind_unix(&path, 0o600, 1).expect_err("somebody listens");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        drop(bind_unix(&path, 0o640, 1).expect("nobody listens any more"));
        std::fs::remove_file(&path).expect("it is there");
        std::fs::write(&path, "a file").expect("a free path");
        let other = bind_unix(&path, 0o600, 1).expect_err("a file");
        assert_eq!(other.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).expect("untouched"), "a file");
        std::fs::remove_file(&path).expect("it is there");
    }
}
