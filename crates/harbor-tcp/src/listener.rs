//! The listening socket of a leased port: held in a way that proves nobody else has the number, and lets nobody join.
//!
//! Bound by whoever promises the port, consumed by `accept` or `serve`. Needs no runtime; accepts nothing itself.

use std::io;
use std::net::{SocketAddr, TcpListener};

use harbor_types::{BindError, Claim, Protocol};
use socket2::{Domain, Socket, Type};

/// Connections the kernel completes and keeps until we accept them. The kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// A bound and listening socket; closed when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// Binds `addr` exclusively and listens; port 0 takes any free one. IPv6 sockets serve IPv6 only.
    ///
    /// A [`Claim::Fresh`] bind fails when any socket of any process has the port on that address or on a wildcard that
    /// covers it, listening or not, whatever sharing options it was bound with; connections that still close count
    /// too. A [`Claim::Restore`] overlooks the latter, as far as the process before us was a [`Listener`] too. Once
    /// bound, nobody can join, not even a process of the same user that asks for address or port reuse.
    ///
    /// # Errors
    /// [`BindError::InUse`] when somebody has it, [`BindError::Socket`] with the operating system's answer otherwise.
    ///
    /// # Source
    /// bind(2), listen(2), socket(7) of Linux; `tests/it/listener.rs` proves each statement.
    pub fn bind(addr: SocketAddr, claim: Claim) -> Result<Self, BindError> {
        listen(addr, claim).map_err(|source| BindError::of(source, addr, Protocol::Tcp))
    }

    /// The address it is bound to, with the port the kernel chose if 0 was asked for.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn into_socket(self) -> TcpListener {
        self.socket
    }
}

fn listen(addr: SocketAddr, claim: Claim) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(socket2::Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Without SO_REUSEADDR, bind fails beside every other socket: that is the proof.
    let strict = socket.bind(&addr.into());
    match claim {
        Claim::Fresh => {
            strict?;
            socket.listen(BACKLOG)?;
            // Connections inherit it, so that those which linger after us do not stand in the way of a restore. Set
            // only now: between bind and listen it would let others bind beside us.
            socket.set_reuse_address(true)?;
        }
        Claim::Restore => {
            // Set before listen: on a port that clients know, the very first connection must inherit it. Whoever might
            // bind beside us in this instant cannot listen, or makes our listen fail.
            socket.set_reuse_address(true)?;
            match strict {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => socket.bind(&addr.into())?,
                strict => strict?,
            }
            socket.listen(BACKLOG)?;
        }
    }
    let socket = TcpListener::from(socket);
    let addr = socket.local_addr()?;
    Ok(Listener { socket, addr })
}
