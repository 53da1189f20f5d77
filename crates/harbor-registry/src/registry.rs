//! The registry itself: what it is made of, and the entrances through which the driver feeds it.
//!
//! Driven by one task that owns it; the other rooms hold what happens behind each entrance.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use harbor_alloc::PortAllocator;
use harbor_types::{Loaded, Now, Port, Revision, ServiceId};

use crate::calls::{Lane, Reservations};
use crate::commits::Commits;
use crate::events::Events;
use crate::rests::Rests;
use crate::services::{Closing, Runtime};
use crate::state::State;
use crate::timers::{Timer, Timers};
use crate::{CallId, Command, Config, Effect, Outcome};

/// Services, leases and backends of a node. Takes commands and outcomes, gives effects; the clocks are arguments.
///
/// Call [`load`](Self::load) once, before anything else. After every call that takes `&mut self`: drain
/// [`next_effect`](Self::next_effect) and carry the effects out in order, then re-arm
/// [`next_deadline`](Self::next_deadline), and call [`on_deadline`](Self::on_deadline) when it has come. Every effect but
/// `Release`, `Dismiss` and `Reply` is answered by one outcome, in any order.
#[derive(Debug)]
pub struct Registry {
    pub(crate) config: Config,
    /// What the store has committed. Changed by folding only.
    pub(crate) state: State,
    /// Follows from state, reservations and closing sockets; see `settle_port`.
    pub(crate) ports: PortAllocator,
    /// One for every committed service.
    pub(crate) runtimes: BTreeMap<ServiceId, Runtime>,
    /// Sockets of services that are gone.
    pub(crate) closing: BTreeMap<ServiceId, Closing>,
    pub(crate) closing_ports: BTreeMap<Port, ServiceId>,
    pub(crate) lanes: BTreeMap<ServiceId, Lane>,
    /// Lanes to look at before the current call ends.
    pub(crate) stirred: BTreeSet<ServiceId>,
    pub(crate) reserved: Reservations,
    pub(crate) calls: BTreeSet<CallId>,
    pub(crate) commits: Commits,
    pub(crate) rests: Rests,
    pub(crate) timers: Timers,
    pub(crate) events: Events,
    pub(crate) effects: VecDeque<Effect>,
    /// Services whose snapshot may have changed in the current call.
    pub(crate) changed_pools: BTreeSet<ServiceId>,
    /// Services of the load that are neither bound nor conflicted yet.
    pub(crate) restoring: BTreeSet<ServiceId>,
    pub(crate) loaded: bool,
    pub(crate) draining: bool,
}

impl Registry {
    /// An empty registry. `seed` decides which ports are drawn and which tokens mark commits: a node takes another one at
    /// each start, a test the same one to replay.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let ports = PortAllocator::new(config.ranges.clone(), seed);
        let state = State::new(config.first_int_port);
        Self {
            config,
            state,
            ports,
            runtimes: BTreeMap::new(),
            closing: BTreeMap::new(),
            closing_ports: BTreeMap::new(),
            lanes: BTreeMap::new(),
            stirred: BTreeSet::new(),
            reserved: Reservations::default(),
            calls: BTreeSet::new(),
            commits: Commits::new(seed),
            rests: Rests::default(),
            timers: Timers::default(),
            events: Events::default(),
            effects: VecDeque::new(),
            changed_pools: BTreeSet::new(),
            restoring: BTreeSet::new(),
            loaded: false,
            draining: false,
        }
    }

    /// Takes over what the store holds, once and first: a bind for every service, one full time to live for every backend,
    /// what is left of every rest.
    pub fn load(&mut self, now: Now, loaded: Loaded) {
        debug_assert!(!self.loaded, "load comes once and first");
        self.commits.salt(loaded.revision);
        for delta in self.state.replace(&loaded) {
            self.react(now, delta);
        }
        self.restoring = self.runtimes.keys().copied().collect();
        self.loaded = true;
        self.settle(now);
    }

    /// Takes in a call. Its answer comes as [`Effect::Reply`], exactly once, maybe at once.
    pub fn command(&mut self, now: Now, call: CallId, command: Command) {
        self.admit(now, call, command);
        self.settle(now);
    }

    /// Takes in how an effect went, or what a relay saw. Outcomes that answer nothing are ignored.
    pub fn outcome(&mut self, now: Now, outcome: Outcome) {
        match outcome {
            Outcome::Bound { service, port, result } => self.on_bound(now, service, port, result),
            Outcome::Committed { token, outcome } => self.on_committed(now, token, outcome),
            Outcome::Changes { result } => self.on_changes(now, result),
            Outcome::Published { service, generation } => self.on_published(service, generation),
            Outcome::Retired { service } => self.on_retired(now, service),
            Outcome::Observed(seen) => self.on_observed(now, &seen),
        }
        self.settle(now);
    }

    /// Does what is due: expiries, returns, retries, ends of rests.
    pub fn on_deadline(&mut self, now: Now) {
        for port in self.ports.on_deadline(now.mono) {
            self.rests.due.insert(port);
        }
        self.end_rests();
        while let Some(timer) = self.timers.due(now.mono) {
            match timer {
                Timer::Expiry(service, instance) => self.on_expiry(now, service, &instance),
                Timer::Return(service, instance) => self.on_return(now, service, &instance),
                Timer::Rebind(service) => self.on_rebind(service),
                Timer::Leave(service) => self.on_leave_retry(service),
                Timer::Read => self.on_read_retry(),
                Timer::Rests => self.on_rests_retry(),
            }
        }
        self.settle(now);
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called; it may come to nothing then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.timers.next(), self.ports.next_deadline()].into_iter().flatten().min()
    }

    /// The next thing to do, in order; `None` once there is nothing left.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// From now on every new call but heartbeats and deregistrations is refused; what is in flight finishes.
    pub fn begin_drain(&mut self, now: Now) {
        self.draining = true;
        self.settle(now);
    }

    /// Whether [`begin_drain`](Self::begin_drain) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether every call has been answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether every service of the load is bound or conflicted. Never goes back.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.loaded && self.restoring.is_empty()
    }

    /// What it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Revision of the latest change that is folded.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// The end of every entrance: lanes run until nothing more can start, changed pools are published.
    fn settle(&mut self, now: Now) {
        self.run_lanes(now);
        self.publish_changed(now);
        debug_assert_eq!(self.check_invariants(), Ok(()));
    }
}
