//! What a socket error means: the backend's fault, or a datagram that is lost here. Asked by the shell in `serve`;
//! touches no socket.

use std::io::{self, ErrorKind};

use harbor_types::Failure;
use rustix::io::Errno;

use crate::Refusal;

/// A send or receive on a session's socket that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The backend, or the way to it.
    Backend(Failure),
    /// This machine; only the one datagram is lost.
    Local(Refusal),
}

/// Judges an error of a session's connected socket.
pub(crate) fn of_exchange(error: &io::Error) -> Fault {
    match error.kind() {
        ErrorKind::ConnectionRefused => Fault::Backend(Failure::Refused),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Fault::Backend(Failure::Unreachable)
        }
        ErrorKind::TimedOut => Fault::Backend(Failure::TimedOut),
        _ => match Errno::from_io_error(error) {
            // ICMP protocol unreachable: no UDP at all over there.
            Some(Errno::NOPROTOOPT) => Fault::Backend(Failure::Refused),
            _ => Fault::Local(of_reply(error)),
        },
    }
}

/// Judges an error of opening and connecting a session's socket.
pub(crate) fn of_connect(error: &io::Error) -> Fault {
    match Errno::from_io_error(error) {
        // AGAIN and ADDRNOTAVAIL: no ephemeral port is left.
        Some(
            Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::AGAIN
            | Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::NOSPC,
        ) => Fault::Local(Refusal::NoSocket),
        _ => match of_exchange(error) {
            Fault::Local(_) => Fault::Backend(Failure::Other),
            fault => fault,
        },
    }
}

/// Judges an error of a send from the listener: only that datagram is lost.
pub(crate) fn of_reply(error: &io::Error) -> Refusal {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Refusal::QueueFull,
        Some(Errno::MSGSIZE) => Refusal::TooBig,
        _ => Refusal::SendFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let refused = Fault::Backend(Failure::Refused);
        let unreachable = Fault::Backend(Failure::Unreachable);
        let no_socket = Fault::Local(Refusal::NoSocket);
        for (errno, exchange, connect) in [
            (Errno::CONNREFUSED, refused, refused),
            (Errno::NOPROTOOPT, refused, refused),
            (Errno::HOSTUNREACH, unreachable, unreachable),
            (Errno::NETUNREACH, unreachable, unreachable),
            (Errno::NETDOWN, unreachable, unreachable),
            (Errno::TIMEDOUT, Fault::Backend(Failure::TimedOut), Fault::Backend(Failure::TimedOut)),
            (Errno::AGAIN, Fault::Local(Refusal::QueueFull), no_socket),
            (Errno::NOBUFS, Fault::Local(Refusal::QueueFull), no_socket),
            (Errno::MSGSIZE, Fault::Local(Refusal::TooBig), Fault::Backend(Failure::Other)),
            (Errno::PERM, Fault::Local(Refusal::SendFailed), Fault::Backend(Failure::Other)),
            (Errno::MFILE, Fault::Local(Refusal::SendFailed), no_socket),
        ] {
            let error = io::Error::from(errno);
            assert_eq!((of_exchange(&error), of_connect(&error)), (exchange, connect), "{errno:?}");
        }
    }
}
