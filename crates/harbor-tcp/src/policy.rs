//! What a socket error means: for an accept loop, for a backend's health, for the record of a connection.
//!
//! Asked by `accept`, `connect` and `relay`; only classifies, never retries or waits.

use std::io::{self, ErrorKind};

use harbor_types::{Failure, Span};
use rustix::io::Errno;

use crate::{CloseReason, Ending, Side};

/// What an accept loop does after an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AcceptPolicy {
    /// That one connection was lost; accept the next.
    Skip,
    /// The machine is short of something; try again after this time.
    Pause(Span),
    /// The socket is no listener (any more); accepting is over.
    Fatal,
}

/// Long enough for some connection to end and give its descriptor back, short enough that no client gives up.
const PAUSE: Span = Span::millis(50);

/// Classifies an error of `accept`.
///
/// # Source
/// accept(2) on Linux: errors already pending on the new connection are reported by `accept` and must not stop a server.
#[must_use]
pub fn accept_policy(error: &io::Error) -> AcceptPolicy {
    match Errno::from_io_error(error) {
        Some(
            Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::INTR
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::TIMEDOUT,
        ) => AcceptPolicy::Skip,
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT) => AcceptPolicy::Fatal,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM; and whatever is unknown must neither stop a listener nor spin.
        _ => AcceptPolicy::Pause(PAUSE),
    }
}

/// What a failed connect says about the backend; `None` when it says something about us instead (out of descriptors,
/// memory or local ports), so that no backend is blamed for it.
#[must_use]
pub fn connect_failure(error: &io::Error) -> Option<Failure> {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => {
            return None;
        }
        Some(Errno::HOSTDOWN | Errno::NONET) => return Some(Failure::Unreachable),
        _ => {}
    }
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => Failure::Unreachable,
        ErrorKind::TimedOut => Failure::TimedOut,
        _ => Failure::Other,
    })
}

impl Ending {
    /// The end that `error`, met on `side` of an established connection, means: a reset, or any other error.
    #[must_use]
    pub fn of_error(side: Side, error: &io::Error) -> Self {
        let reason = match error.kind() {
            // EPIPE and ENOTCONN are how later calls on a reset socket see it; TLS calls a truncated stream "unexpected".
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => CloseReason::Reset,
            _ => CloseReason::Error,
        };
        Self::by(side, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_are_classified() {
        for (errno, want) in [
            (Errno::CONNABORTED, AcceptPolicy::Skip),
            (Errno::INTR, AcceptPolicy::Skip),
            (Errno::PERM, AcceptPolicy::Skip),
            (Errno::NETUNREACH, AcceptPolicy::Skip),
            (Errno::HOSTDOWN, AcceptPolicy::Skip),
            (Errno::MFILE, AcceptPolicy::Pause(PAUSE)),
            (Errno::NFILE, AcceptPolicy::Pause(PAUSE)),
            (Errno::NOBUFS, AcceptPolicy::Pause(PAUSE)),
            (Errno::NOMEM, AcceptPolicy::Pause(PAUSE)),
            (Errno::OPNOTSUPP, AcceptPolicy::Pause(PAUSE)),
            (Errno::BADF, AcceptPolicy::Fatal),
            (Errno::INVAL, AcceptPolicy::Fatal),
        ] {
            assert_eq!(accept_policy(&errno.into()), want, "{errno:?}");
        }
        assert_eq!(accept_policy(&io::Error::other("no number")), AcceptPolicy::Pause(PAUSE));
    }

    #[test]
    fn a_backend_is_blamed_only_for_its_own_failures() {
        for (errno, want) in [
            (Errno::CONNREFUSED, Some(Failure::Refused)),
            (Errno::HOSTUNREACH, Some(Failure::Unreachable)),
            (Errno::NETUNREACH, Some(Failure::Unreachable)),
            (Errno::HOSTDOWN, Some(Failure::Unreachable)),
            (Errno::TIMEDOUT, Some(Failure::TimedOut)),
            (Errno::CONNRESET, Some(Failure::Other)),
            (Errno::MFILE, None),
            (Errno::ADDRNOTAVAIL, None),
        ] {
            assert_eq!(connect_failure(&errno.into()), want, "{errno:?}");
        }
        assert_eq!(connect_failure(&ErrorKind::TimedOut.into()), Some(Failure::TimedOut));
    }

    #[test]
    fn resets_are_told_from_other_errors() {
        for (errno, want) in [
            (Errno::CONNRESET, CloseReason::Reset),
            (Errno::PIPE, CloseReason::Reset),
            (Errno::NOTCONN, CloseReason::Reset),
            (Errno::TIMEDOUT, CloseReason::Error),
            (Errno::HOSTUNREACH, CloseReason::Error),
        ] {
            assert_eq!(Ending::of_error(Side::Upstream, &errno.into()), Ending::by(Side::Upstream, want), "{errno:?}");
        }
    }
}
