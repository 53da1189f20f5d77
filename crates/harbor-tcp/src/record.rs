//! How a connection ended, and the one record it leaves.
//!
//! Filled by `forward`, read by whoever observes a pool; holds no resource.

use std::fmt;
use std::net::SocketAddr;

use harbor_types::{Backend, ServiceId, Span};

/// Which of the two peers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// The client that came to us.
    Downstream,
    /// The backend we went to.
    Upstream,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        })
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both directions ended with an end of stream, and every byte was passed on.
    Finished,
    /// One side reset the connection; so did we, towards the other.
    Reset,
    /// No byte moved for the idle limit.
    Idle,
    /// One direction had ended and no byte moved in the other for the half-closed limit.
    HalfClosedIdle,
    /// No backend that was tried could be reached.
    ConnectFailed,
    /// There was no backend to try.
    NoBackend,
    /// Cut because the service or the node stopped, or the backend left, and the drain limit was over.
    Drained,
    /// The task that ran it was dropped.
    Cancelled,
    /// Any other socket error, such as a peer that stopped answering keepalives.
    Error,
}

impl CloseReason {
    /// Every reason, for those who count by reason.
    pub const ALL: [Self; 9] = [
        Self::Finished,
        Self::Reset,
        Self::Idle,
        Self::HalfClosedIdle,
        Self::ConnectFailed,
        Self::NoBackend,
        Self::Drained,
        Self::Cancelled,
        Self::Error,
    ];

    /// The word used in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::HalfClosedIdle => "half_closed_idle",
            Self::ConnectFailed => "connect_failed",
            Self::NoBackend => "no_backend",
            Self::Drained => "drained",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a connection ended and who caused it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ending {
    /// Why.
    pub reason: CloseReason,
    /// Whose doing it was, where it was one side's.
    pub side: Option<Side>,
}

impl Ending {
    /// An end that neither side caused alone.
    #[must_use]
    pub const fn of(reason: CloseReason) -> Self {
        Self { reason, side: None }
    }

    /// An end that `side` caused.
    #[must_use]
    pub const fn by(side: Side, reason: CloseReason) -> Self {
        Self { reason, side: Some(side) }
    }
}

/// What one connection was; each leaves exactly one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectionRecord {
    /// The service it came to.
    pub service: ServiceId,
    /// Address of the client.
    pub client: SocketAddr,
    /// Address of ours that the client used; `None` when the kernel would not say.
    pub local: Option<SocketAddr>,
    /// The backend it was relayed to; `None` when none was reached.
    pub backend: Option<Backend>,
    /// Bytes handed to the backend's socket.
    pub bytes_up: u64,
    /// Bytes handed to the client's socket.
    pub bytes_down: u64,
    /// From taking the connection over to its end.
    pub lasted: Span,
    /// Why it ended.
    pub reason: CloseReason,
    /// Whose doing that was, where it was one side's.
    pub side: Option<Side>,
    /// Connects to backends that were begun.
    pub tries: u32,
}

/// One line: `service client backend bytes_up bytes_down lasted reason side`; `-` stands for none, a backend is
/// `instance@address`.
impl fmt::Display for ConnectionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.service, self.client)?;
        match &self.backend {
            Some(backend) => write!(f, "{}@{}", backend.instance, backend.addr)?,
            None => f.write_str("-")?,
        }
        write!(f, " {} {} {} {} ", self.bytes_up, self.bytes_down, self.lasted, self.reason)?;
        match self.side {
            Some(side) => write!(f, "{side}"),
            None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use harbor_types::{InstanceId, Revision};

    use super::*;

    #[test]
    fn a_record_is_one_line_of_eight_words() {
        let backend = Backend {
            instance: InstanceId::parse("web-0").unwrap(),
            addr: "10.0.0.7:4100".parse().unwrap(),
            joined: Revision::default(),
            on_trial: false,
        };
        let mut record = ConnectionRecord {
            service: ServiceId::from_u128(1),
            client: "192.0.2.1:5000".parse().unwrap(),
            local: None,
            backend: Some(backend),
            bytes_up: 10,
            bytes_down: 20,
            lasted: Span::millis(1500),
            reason: CloseReason::Reset,
            side: Some(Side::Upstream),
            tries: 1,
        };
        let service = "00000000-0000-0000-0000-000000000001";
        assert_eq!(
            record.to_string(),
            format!("{service} 192.0.2.1:5000 web-0@10.0.0.7:4100 10 20 1500ms reset upstream")
        );
        (record.backend, record.side, record.reason) = (None, None, CloseReason::NoBackend);
        assert_eq!(record.to_string(), format!("{service} 192.0.2.1:5000 - 10 20 1500ms no_backend -"));
    }

    #[test]
    fn reasons_have_words_of_their_own() {
        let words: std::collections::BTreeSet<_> = CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), CloseReason::ALL.len());
    }
}
