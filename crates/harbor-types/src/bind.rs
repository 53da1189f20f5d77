//! Why a listening socket could not be had.

use std::io;
use std::net::SocketAddr;

use crate::Protocol;

/// Who may have had the port before us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// A port nobody was promised yet: the bind must prove that no socket of any kind has it.
    Fresh,
    /// A port this service was promised earlier: closing connections of the process before us do not stand in the way.
    Restore,
}

/// A bind that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process (or another socket of this one) has the address.
    #[error("{addr} ({protocol}) is held by another process")]
    InUse {
        /// The address.
        addr: SocketAddr,
        /// The protocol.
        protocol: Protocol,
    },
    /// Anything else: no permission, no such address, out of descriptors.
    #[error("bind {addr} ({protocol})")]
    Socket {
        /// The address.
        addr: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// Classifies the operating system's answer to a bind or listen.
    #[must_use]
    pub fn of(source: io::Error, addr: SocketAddr, protocol: Protocol) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            Self::InUse { addr, protocol }
        } else {
            Self::Socket { addr, protocol, source }
        }
    }
}
