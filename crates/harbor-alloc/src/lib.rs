//! Which port next: seeded leases over a range, releases that rest, ports of others set aside.
//!
//! Called by the registry, which turns orders into leases and committed records into restored ones. A number belongs to
//! one holder whatever its protocol. Nothing here binds a socket, reads a clock or keeps anything beyond memory.

mod dense;
mod seeded;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use harbor_types::{Port, PortRanges, ServiceId};

use dense::FreeList;
pub use seeded::Seeded;

/// Why a port was not leased. Nothing changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// No port of the ranges is free.
    #[error(
        "no port is free: {leased} leased, {resting} resting after release, {set_aside} held by other processes",
        leased = .0.leased, resting = .0.quarantined, set_aside = .0.held_by_others
    )]
    Exhausted(PortCounts),
    /// The port is outside the ranges.
    #[error("port {0} is outside the ranges")]
    Outside(Port),
    /// Somebody has the port.
    #[error("port {port} is leased to {holder}")]
    Taken {
        /// The port.
        port: Port,
        /// Who has it.
        holder: ServiceId,
    },
    /// The port was released and rests.
    #[error("port {port} rests after its release")]
    Resting {
        /// The port.
        port: Port,
        /// When its rest is over.
        until: Instant,
    },
}

/// What a port that is not free is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PortUse {
    /// It belongs to this holder.
    Leased(ServiceId),
    /// It was released, and rests at least until then; [`PortAllocator::end_rest`] makes it free.
    Resting {
        /// When its rest is over.
        until: Instant,
    },
    /// Another process held it when it was tried; it is not tried again before then, unless somebody asks for it.
    SetAside {
        /// When it is free again.
        until: Instant,
    },
}

/// How many ports are in which state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PortCounts {
    /// Free.
    pub free: usize,
    /// Leased.
    pub leased: usize,
    /// Resting after their release.
    pub quarantined: usize,
    /// Held by other processes when they were tried.
    pub held_by_others: usize,
}

impl PortCounts {
    /// All of them together.
    #[must_use]
    pub fn total(self) -> usize {
        self.free + self.leased + self.quarantined + self.held_by_others
    }

    fn of(&mut self, what: PortUse) -> &mut usize {
        match what {
            PortUse::Leased(_) => &mut self.leased,
            PortUse::Resting { .. } => &mut self.quarantined,
            PortUse::SetAside { .. } => &mut self.held_by_others,
        }
    }
}

/// Hands out ports of some ranges. The same seed and the same calls give the same ports.
///
/// After any change: re-arm [`next_deadline`](Self::next_deadline); at that time call [`on_deadline`](Self::on_deadline).
#[derive(Clone, Debug)]
pub struct PortAllocator {
    ranges: PortRanges,
    free: FreeList,
    used: BTreeMap<Port, PortUse>,
    deadlines: BTreeSet<(Instant, Port)>,
    inside: PortCounts,
    outside: PortCounts,
    random: Seeded,
}

impl PortAllocator {
    /// An allocator whose ports are all free.
    pub fn new(ranges: impl Into<PortRanges>, seed: u64) -> Self {
        let ranges = ranges.into();
        let free = FreeList::of(&ranges);
        let inside = PortCounts { free: free.len(), ..PortCounts::default() };
        let random = Seeded::new(seed);
        Self {
            ranges,
            free,
            used: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            inside,
            outside: PortCounts::default(),
            random,
        }
    }

    /// Leases a random free port to `holder`. Never returns one that rests or is set aside. O(log n), no I/O.
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`] when no port of the ranges is free (counts in the error).
    ///
    /// # Source
    /// Harbor administration guide, "Requirements & Setup": a random unassigned port of the configured range.
    /// ```
    /// # use harbor_alloc::*; use harbor_types::*;
    /// let mut ports = PortAllocator::new("35000-35001".parse::<PortRange>()?, 7);
    /// assert_ne!(ports.lease(ServiceId::from_u128(1))?, ports.lease(ServiceId::from_u128(2))?);
    /// assert!(matches!(ports.lease(ServiceId::from_u128(3)), Err(LeaseError::Exhausted(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lease(&mut self, holder: ServiceId) -> Result<Port, LeaseError> {
        self.lease_except(holder, &BTreeSet::new())
    }

    /// Like [`lease`](Self::lease), but none of `tried`. O(log n) as long as few of the free ports were tried.
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`] when no other port of the ranges is free.
    pub fn lease_except(&mut self, holder: ServiceId, tried: &BTreeSet<Port>) -> Result<Port, LeaseError> {
        let len = self.free.len();
        let start = self.random.below(len);
        let port = (0..len).filter_map(|step| self.free.nth((start + step) % len)).find(|port| !tried.contains(port));
        let Some(port) = port else { return Err(LeaseError::Exhausted(self.inside)) };
        self.enter(port, PortUse::Leased(holder));
        self.sweep();
        Ok(port)
    }

    /// Leases this very port to `holder`. One that is set aside is tried again: the other process may be gone.
    ///
    /// # Errors
    /// [`LeaseError::Outside`], [`LeaseError::Taken`] (also by the same holder) or [`LeaseError::Resting`].
    /// ```
    /// # use harbor_alloc::*; use harbor_types::*;
    /// let mut ports = PortAllocator::new("35000-35001".parse::<PortRange>()?, 7);
    /// let (port, holder) = ("35001".parse()?, ServiceId::from_u128(1));
    /// ports.lease_exact(port, holder)?;
    /// assert_eq!(ports.lease_exact(port, ServiceId::from_u128(2)), Err(LeaseError::Taken { port, holder }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lease_exact(&mut self, port: Port, holder: ServiceId) -> Result<(), LeaseError> {
        if !self.ranges.contains(port) {
            return Err(LeaseError::Outside(port));
        }
        match self.used.get(&port).copied() {
            Some(PortUse::Leased(holder)) => Err(LeaseError::Taken { port, holder }),
            Some(PortUse::Resting { until }) => Err(LeaseError::Resting { port, until }),
            Some(PortUse::SetAside { .. }) | None => {
                self.enter(port, PortUse::Leased(holder));
                self.sweep();
                Ok(())
            }
        }
    }

    /// Leases a port that was promised earlier, whether it is free, rests or is set aside, also outside the ranges: a
    /// service keeps its port when the configured ranges change.
    ///
    /// # Errors
    /// [`LeaseError::Taken`] when another holder has it.
    pub fn restore(&mut self, port: Port, holder: ServiceId) -> Result<(), LeaseError> {
        if let Some(PortUse::Leased(other)) = self.used.get(&port).copied()
            && other != holder
        {
            return Err(LeaseError::Taken { port, holder: other });
        }
        self.enter(port, PortUse::Leased(holder));
        self.sweep();
        Ok(())
    }

    /// Ends a lease; the port rests until [`end_rest`](Self::end_rest), which may come once `until` is over. Returns
    /// whether it was leased.
    /// ```
    /// # use harbor_alloc::*; use harbor_types::*; use std::time::Duration;
    /// # #[expect(clippy::disallowed_methods, reason = "an example needs some moment")]
    /// # let now = std::time::Instant::now();
    /// let mut ports = PortAllocator::new("35000".parse::<PortRange>()?, 7);
    /// let port = ports.lease(ServiceId::from_u128(1))?;
    /// ports.release(port, now + Duration::from_secs(600));
    /// assert!(ports.lease(ServiceId::from_u128(2)).is_err(), "it rests");
    /// assert_eq!(ports.on_deadline(now + Duration::from_secs(600)), [port], "its time is over");
    /// ports.end_rest(port);
    /// assert_eq!(ports.lease(ServiceId::from_u128(2))?, port);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&mut self, port: Port, until: Instant) -> bool {
        let leased = matches!(self.used.get(&port), Some(PortUse::Leased(_)));
        if leased {
            self.restore_rest(port, until);
        }
        leased
    }

    /// Lets a port rest, whatever it was used for before, also outside the ranges (a rest that is on record).
    pub fn restore_rest(&mut self, port: Port, until: Instant) {
        self.enter(port, PortUse::Resting { until });
        self.sweep();
    }

    /// Ends a rest at once: the port is free. Returns whether it rested.
    pub fn end_rest(&mut self, port: Port) -> bool {
        self.leave_if(port, |what| matches!(what, PortUse::Resting { .. }))
    }

    /// Takes back a lease that was never promised to anybody: the port is free at once. Returns whether it was leased.
    pub fn unlease(&mut self, port: Port) -> bool {
        self.leave_if(port, |what| matches!(what, PortUse::Leased(_)))
    }

    /// Sets a free or leased port aside until then, because another process holds it; no effect on one that rests.
    pub fn set_aside(&mut self, port: Port, until: Instant) {
        if !matches!(self.used.get(&port), Some(PortUse::Resting { .. })) {
            self.enter(port, PortUse::SetAside { until });
            self.sweep();
        }
    }

    /// Frees the ports that were set aside until now or earlier, and returns those whose rest is over, each once. They go
    /// on resting until [`end_rest`](Self::end_rest): the record of the rest has to go first.
    pub fn on_deadline(&mut self, now: Instant) -> Vec<Port> {
        let mut rested = Vec::new();
        while let Some((at, port)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.remove(&(at, port));
            match self.used.get(&port) {
                Some(PortUse::SetAside { .. }) => _ = self.leave_if(port, |_| true),
                Some(PortUse::Resting { .. }) => rested.push(port),
                Some(PortUse::Leased(_)) | None => {}
            }
        }
        self.sweep();
        rested
    }

    /// When [`on_deadline`](Self::on_deadline) has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The ranges.
    #[must_use]
    pub fn ranges(&self) -> &PortRanges {
        &self.ranges
    }

    /// Counts over the ranges.
    #[must_use]
    pub fn counts(&self) -> PortCounts {
        self.inside
    }

    /// Counts of restored ports outside the ranges; never any free.
    #[must_use]
    pub fn counts_outside(&self) -> PortCounts {
        self.outside
    }

    /// What a port is used for; `None` when it is free or none of ours.
    #[must_use]
    pub fn state_of(&self, port: Port) -> Option<PortUse> {
        self.used.get(&port).copied()
    }

    /// Every port that is not free, lowest first.
    pub fn used(&self) -> impl Iterator<Item = (Port, PortUse)> {
        self.used.iter().map(|(port, what)| (*port, *what))
    }

    /// Every leased port, lowest first.
    pub fn leased(&self) -> impl Iterator<Item = Port> {
        self.used().filter(|(_, what)| matches!(what, PortUse::Leased(_))).map(|(port, _)| port)
    }

    /// Checks that every port of the ranges is either free or used, no other is free, and the counts agree. O(n log n).
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.free.check()?;
        let (mut inside, mut outside) = (PortCounts::default(), PortCounts::default());
        for (port, what) in self.used() {
            if self.free.contains(port) {
                return Err(format!("port {port} is free and used ({what:?})"));
            }
            let counts = if self.ranges.contains(port) { &mut inside } else { &mut outside };
            *counts.of(what) += 1;
        }
        inside.free = self.free.len();
        if let Some(port) = self.ranges.iter().find(|port| !self.free.contains(*port) && !self.used.contains_key(port))
        {
            return Err(format!("port {port} of the ranges is neither free nor used"));
        }
        if inside.total() != self.ranges.iter().count() {
            return Err("a port outside the ranges is free".into());
        }
        if (inside, outside) != (self.inside, self.outside) {
            return Err(format!("counts {:?}, {:?} should be {inside:?}, {outside:?}", self.inside, self.outside));
        }
        let dated = |(at, port): &(Instant, Port)| match self.used.get(port) {
            Some(PortUse::Resting { until } | PortUse::SetAside { until }) => until == at,
            Some(PortUse::Leased(_)) | None => false,
        };
        if let Some((_, port)) = self.deadlines.iter().find(|entry| !dated(entry)) {
            return Err(format!("port {port} has a deadline without a reason"));
        }
        let timed = self.used().find(|(port, what)| match what {
            PortUse::SetAside { until } => !self.deadlines.contains(&(*until, *port)),
            PortUse::Resting { .. } | PortUse::Leased(_) => false,
        });
        timed.map_or(Ok(()), |(port, _)| Err(format!("port {port} is set aside for ever")))
    }

    fn enter(&mut self, port: Port, what: PortUse) {
        let counts = if self.ranges.contains(port) { &mut self.inside } else { &mut self.outside };
        *counts.of(what) += 1;
        match self.used.insert(port, what) {
            Some(before) => {
                *counts.of(before) -= 1;
                self.forget_deadline(port, before);
            }
            None if self.free.remove(port) => self.inside.free -= 1,
            None => {}
        }
        if let PortUse::Resting { until } | PortUse::SetAside { until } = what {
            self.deadlines.insert((until, port));
        }
    }

    fn leave_if(&mut self, port: Port, matching: impl FnOnce(&PortUse) -> bool) -> bool {
        let Some(what) = self.used.get(&port).copied().filter(matching) else { return false };
        self.used.remove(&port);
        self.forget_deadline(port, what);
        if self.ranges.contains(port) {
            *self.inside.of(what) -= 1;
            self.inside.free += 1;
            self.free.insert(port);
        } else {
            *self.outside.of(what) -= 1;
        }
        self.sweep();
        true
    }

    fn forget_deadline(&mut self, port: Port, what: PortUse) {
        if let PortUse::Resting { until } | PortUse::SetAside { until } = what {
            self.deadlines.remove(&(until, port));
        }
    }

    /// The full check costs a pass over the ranges, so large ones are left to the tests.
    fn sweep(&self) {
        debug_assert!(
            self.ranges.iter().nth(64).is_some() || self.check_invariants().is_ok(),
            "{:?}",
            self.check_invariants()
        );
    }
}
