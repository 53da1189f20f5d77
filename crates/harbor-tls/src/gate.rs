//! How many handshakes may run at once: in all, and from one source. Asked before anything is allocated for one.
//!
//! Driven by [`Acceptor`](crate::Acceptor), or by whoever drives handshakes otherwise; holds no connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use harbor_types::Span;

use crate::refusal::Refusal;

/// A whole handshake: three round trips and a signature. Slow mobile links need seconds, not tens of them.
const DEADLINE: Span = Span::secs(10);
/// A handshake under way holds some 40 KiB, so all of them hold about 40 MiB.
const TOTAL: usize = 1_024;
/// An eighth of all, so that no single source can keep everybody else out, and many clients behind one address get in.
const PER_SOURCE: usize = 128;

/// Bounds of handshakes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HandshakeLimits {
    /// From the accepted connection to the finished handshake. Default 10 s.
    pub deadline: Span,
    /// Most at once. Default 1,024.
    pub total: usize,
    /// Most at once from one source: an IPv4 address, or the /64 network of an IPv6 address. Default 128.
    pub per_source: usize,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { deadline: DEADLINE, total: TOTAL, per_source: PER_SOURCE }
    }
}

/// Counts the handshakes that run. Each [`enter`](Self::enter) that succeeds is followed by one [`leave`](Self::leave).
#[derive(Debug)]
pub struct Gate {
    limits: HandshakeLimits,
    live: usize,
    sources: HashMap<IpAddr, usize>,
}

impl Gate {
    /// No handshake runs.
    #[must_use]
    pub fn new(limits: HandshakeLimits) -> Self {
        Self { limits, live: 0, sources: HashMap::new() }
    }

    /// Handshakes that run now.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// Lets in a handshake from `source`.
    ///
    /// # Errors
    /// [`Refusal::SourceFull`] or [`Refusal::TotalFull`], asked for in this order.
    pub fn enter(&mut self, source: IpAddr) -> Result<(), Refusal> {
        let source = network_of(source);
        let taken = self.sources.get(&source).copied().unwrap_or_default();
        if taken >= self.limits.per_source {
            return Err(Refusal::SourceFull);
        }
        if self.live >= self.limits.total {
            return Err(Refusal::TotalFull);
        }
        self.sources.insert(source, taken + 1);
        self.live += 1;
        debug_assert!(self.holds(), "{self:?}");
        Ok(())
    }

    /// A handshake from `source` has ended, however.
    pub fn leave(&mut self, source: IpAddr) {
        let source = network_of(source);
        match self.sources.get_mut(&source) {
            Some(taken) if *taken > 1 => *taken -= 1,
            Some(_) => drop(self.sources.remove(&source)),
            None => debug_assert!(false, "{source} left more often than it came"),
        }
        self.live = self.live.saturating_sub(1);
        debug_assert!(self.holds(), "{self:?}");
    }

    fn holds(&self) -> bool {
        self.live <= self.limits.total && self.sources.len() <= self.live
    }
}

/// What one client can be counted by: whoever has one IPv6 address has the whole /64 around it.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn caps_hold_for_each_source_and_for_all() {
        let mut gate = Gate::new(HandshakeLimits { total: 3, per_source: 2, ..HandshakeLimits::default() });
        for (source, want) in [
            ("192.0.2.1", Ok(())),
            ("::ffff:192.0.2.1", Ok(())),
            ("192.0.2.1", Err(Refusal::SourceFull)),
            ("2001:db8::1", Ok(())),
            ("192.0.2.2", Err(Refusal::TotalFull)),
            ("192.0.2.1", Err(Refusal::SourceFull)),
        ] {
            assert_eq!(gate.enter(ip(source)), want, "{source}");
        }
        gate.leave(ip("192.0.2.1"));
        assert_eq!(gate.enter(ip("2001:db8::ffff:1")), Ok(()));
        gate.leave(ip("2001:db8::1"));
        gate.leave(ip("2001:db8::1"));
        gate.leave(ip("192.0.2.1"));
        assert_eq!((gate.live(), gate.sources.len()), (0, 0));
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_its_neighbour_another() {
        let mut gate = Gate::new(HandshakeLimits { per_source: 1, ..HandshakeLimits::default() });
        assert_eq!(gate.enter(ip("2001:db8:0:1::1")), Ok(()));
        assert_eq!(gate.enter(ip("2001:db8:0:1:ffff::")), Err(Refusal::SourceFull));
        assert_eq!(gate.enter(ip("2001:db8:0:2::1")), Ok(()));
    }
}
