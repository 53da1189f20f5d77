//! A UDP socket held for one service on one address: exclusive, told which address of ours each datagram was sent to,
//! free to fragment. Bound by whoever owns the ports, driven by [`serve`](crate::serve); knows no sessions.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use harbor_types::{BindError, Claim, Protocol};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover};
use socket2::{Domain, Socket, Type};

use crate::ClientAddr;
use crate::buffers::Buffers;

/// Receive buffer asked of the kernel, which may grant less (`net.core.rmem_max`). A burst waits here while the thread
/// is busy elsewhere; nothing is allocated before it comes.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Send buffer asked of the kernel: a few of the largest datagrams.
const SEND_BUFFER: usize = 1024 * 1024;

/// A bound UDP socket that nobody shares and nobody can join.
#[derive(Debug)]
pub struct UdpListener {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

impl UdpListener {
    /// Binds `addr` exclusively; port 0 asks for any. Neither `SO_REUSEADDR` nor `SO_REUSEPORT` is set, so the bind fails
    /// while any other socket has the number on an overlapping address, and none can join afterwards. IPv6 sockets take
    /// no IPv4. Needs no runtime. Both claims are bound alike: a closed UDP socket leaves nothing behind that could stand
    /// in the way.
    ///
    /// # Errors
    /// [`BindError::InUse`] when another socket has the address; [`BindError::Socket`] for anything else.
    pub fn bind(addr: SocketAddr, claim: Claim) -> Result<Self, BindError> {
        let _ = claim;
        open(addr).map_err(|source| BindError::of(source, addr, Protocol::Udp))
    }

    /// The bound address, with the port the kernel chose.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Receives a batch; one entry of `metas` for each buffer filled. Never blocks.
    pub(crate) fn receive(&self, buffers: &mut Buffers, metas: &mut [RecvMeta]) -> io::Result<usize> {
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        self.state.recv((&self.socket).into(), &mut slices, metas)
    }

    /// Who sent what `meta` describes.
    pub(crate) fn client(&self, meta: &RecvMeta) -> ClientAddr {
        let local = if self.local.ip().is_unspecified() { meta.dst_ip } else { None };
        ClientAddr { addr: meta.addr, local }
    }

    /// Sends `payload` from the address that the client used. Never blocks.
    pub(crate) fn reply(&self, client: ClientAddr, payload: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            destination: client.addr,
            ecn: None,
            contents: payload,
            segment_size: None,
            src_ip: client.local,
        };
        self.state.try_send((&self.socket).into(), &transmit)
    }
}

impl AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn open(addr: SocketAddr) -> io::Result<UdpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), Some(socket2::Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: the kernel caps what it grants, and a smaller buffer only drops sooner.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    socket.bind(&addr.into())?;
    let socket = UdpSocket::from(socket);
    let state = UdpSocketState::new((&socket).into())?;
    allow_fragments(&socket, addr)?;
    if addr.is_ipv6() {
        // Set by `UdpSocketState`; a QUIC endpoint wants it, a relay of 65,507-byte datagrams must not.
        setsockopt(&socket, sockopt::Ipv6DontFrag, &false)?;
    }
    // Also set by it; nobody here reads the time stamps, and they cost a clock reading per datagram.
    let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &false);
    let local = socket.local_addr()?;
    Ok(UdpListener { socket, state, local })
}

/// Lets datagrams larger than the path's MTU leave in fragments, without the don't-fragment bit: routers on the way may
/// cut them too, and no ICMP "too big" ever fails a send.
pub(crate) fn allow_fragments(socket: impl AsFd, addr: SocketAddr) -> io::Result<()> {
    match addr {
        SocketAddr::V4(_) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?,
        SocketAddr::V6(_) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?,
    }
    Ok(())
}
