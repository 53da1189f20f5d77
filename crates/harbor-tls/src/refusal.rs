//! Why a handshake did not come about: every reason has a name that is counted. Decides nothing but the reason.

use std::error::Error as _;
use std::fmt;
use std::io;

use rustls::{Error, InvalidMessage};

/// Why one connection got no TLS session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// As many handshakes run as may run at once.
    TotalFull,
    /// As many handshakes run from its source as may run from one.
    SourceFull,
    /// Not finished within the deadline.
    TimedOut,
    /// The client closed or reset the connection.
    Closed,
    /// What came is not TLS, for example plain HTTP.
    NotTls,
    /// The client knows none of our versions, cipher suites or signature schemes.
    Incompatible,
    /// The client asked for application protocols of which we offer none.
    NoCommonProtocol,
    /// The client gave up with an alert, for example as it does not trust the certificate.
    Alert,
    /// The client broke the protocol.
    Misbehaved,
    /// The connection failed in another way.
    Io,
    /// Whoever accepted it did not wait for the end.
    Cancelled,
}

impl Refusal {
    /// Every reason, in the order of [`index`](Self::index).
    pub const ALL: [Self; 11] = [
        Self::TotalFull,
        Self::SourceFull,
        Self::TimedOut,
        Self::Closed,
        Self::NotTls,
        Self::Incompatible,
        Self::NoCommonProtocol,
        Self::Alert,
        Self::Misbehaved,
        Self::Io,
        Self::Cancelled,
    ];

    /// Its place in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics and logs: lower case, words joined by `_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TotalFull => "total_full",
            Self::SourceFull => "source_full",
            Self::TimedOut => "timed_out",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::Alert => "alert",
            Self::Misbehaved => "misbehaved",
            Self::Io => "io",
            Self::Cancelled => "cancelled",
        }
    }

    /// The reason behind the error of a handshake that ran.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls.or_else(|| error.source().and_then(|source| source.downcast_ref::<Error>())) {
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::NotTls,
            Some(Error::PeerIncompatible(_)) => Self::Incompatible,
            Some(Error::NoApplicationProtocol) => Self::NoCommonProtocol,
            Some(Error::AlertReceived(_)) => Self::Alert,
            Some(_) => Self::Misbehaved,
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::Closed,
                _ => Self::Io,
            },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, PeerIncompatible};

    use super::*;

    #[test]
    fn every_reason_is_at_its_index_with_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), index, "{refusal}");
        }
    }

    #[test]
    fn errors_have_reasons() {
        let tls = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, want) in [
            (tls(Error::InvalidMessage(InvalidMessage::InvalidContentType)), Refusal::NotTls),
            (tls(PeerIncompatible::NoCipherSuitesInCommon.into()), Refusal::Incompatible),
            (tls(Error::NoApplicationProtocol), Refusal::NoCommonProtocol),
            (tls(Error::AlertReceived(AlertDescription::UnknownCA)), Refusal::Alert),
            (tls(Error::DecryptError), Refusal::Misbehaved),
            (io::ErrorKind::UnexpectedEof.into(), Refusal::Closed),
            (io::ErrorKind::ConnectionReset.into(), Refusal::Closed),
            (io::ErrorKind::OutOfMemory.into(), Refusal::Io),
        ] {
            assert_eq!(Refusal::of(&error), want, "{error}");
        }
    }
}
