//! A node around a registry, driven by hand: sockets, a store and relays that do at once what they are told, unless a test
//! holds an effect back or scripts another outcome.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harbor_registry::{
    Answer, BindFailure, BindOrder, CallId, Command, Config, DeleteMode, Effect, Outcome, Provision, PublicAddress,
    Refusal, Registry,
};
use harbor_types::wire::{EventKind, ServiceView};
use harbor_types::{
    BackendSnapshot, CommitOutcome, Conflict, Failure, Lifetime, Now, Observed, OrgName, Protocol, ServiceId,
    SpaceName, Verdict, WallTime,
};

use crate::store::FakeStore;

/// What becomes of the next commit.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    NotCommitted,
    UnknownAndCommitted,
    UnknownAndNot,
    Conflict(Conflict),
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Bind,
    Commit,
    Read,
    Publish,
    Retire,
}

pub(crate) type Reply = Result<Answer, Refusal>;

pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) store: FakeStore,
    pub(crate) now: Now,
    pub(crate) replies: BTreeMap<CallId, Reply>,
    /// Ports other processes have.
    pub(crate) foreign: BTreeSet<u16>,
    /// Ports that fail to bind for another reason.
    pub(crate) broken: BTreeSet<u16>,
    pub(crate) held: BTreeMap<ServiceId, BindOrder>,
    pub(crate) tried: Vec<u16>,
    pub(crate) fates: VecDeque<Fate>,
    pub(crate) failing_reads: usize,
    pub(crate) reads: usize,
    pub(crate) snapshots: BTreeMap<ServiceId, BackendSnapshot>,
    pub(crate) publishes: usize,
    pub(crate) retired: usize,
    /// Instances whose connections have to end.
    pub(crate) dismissed: Vec<String>,
    held_back: BTreeSet<Kind>,
    parked: Vec<(Kind, Outcome)>,
    /// Effects held back before they were carried out.
    waiting: Vec<(Kind, Effect)>,
    calls: u64,
    seed: u64,
}

pub(crate) fn config(ranges: &str) -> Config {
    let host = "10.1.0.1".parse().unwrap();
    let mut config = Config::new("node_1".parse().unwrap(), host, ranges.parse().unwrap());
    config.public = Some(PublicAddress { ext_host: "192.0.2.7".parse().unwrap(), ext_hostname: None });
    config.own_addrs = vec!["127.0.0.1:8700".parse().unwrap()];
    config.own_ips = vec!["10.1.0.3".parse().unwrap()];
    config
}

pub(crate) fn id(number: u128) -> ServiceId {
    ServiceId::from_u128(number)
}

pub(crate) fn order(number: u128, name: &str) -> Provision {
    Provision {
        id: id(number),
        org: OrgName::fallback(),
        space: SpaceName::fallback(),
        name: name.parse().unwrap(),
        protocol: None,
        https: None,
        port: None,
        int_port: None,
        access: None,
    }
}

pub(crate) fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 2, 0, number], 4100))
}

pub(crate) fn start() -> Now {
    #[expect(clippy::disallowed_methods, reason = "tests need some moment to count from")]
    let mono = Instant::now();
    Now { mono, wall: WallTime::from_millis(1_700_000_000_000) }
}

impl World {
    pub(crate) fn new(ranges: &str) -> Self {
        Self::with(config(ranges))
    }

    pub(crate) fn with(config: Config) -> Self {
        let mut world = Self {
            registry: Registry::new(config, 1),
            store: FakeStore::default(),
            now: start(),
            replies: BTreeMap::new(),
            foreign: BTreeSet::new(),
            broken: BTreeSet::new(),
            held: BTreeMap::new(),
            tried: Vec::new(),
            fates: VecDeque::new(),
            failing_reads: 0,
            reads: 0,
            snapshots: BTreeMap::new(),
            publishes: 0,
            retired: 0,
            dismissed: Vec::new(),
            held_back: BTreeSet::new(),
            parked: Vec::new(),
            waiting: Vec::new(),
            calls: 0,
            seed: 1,
        };
        world.registry.load(world.now, world.store.load());
        world.run();
        world
    }

    /// The process dies and starts again: sockets close, what was on its way is lost, the store stays.
    pub(crate) fn restart(&mut self) {
        self.restart_with(self.registry.config().clone());
    }

    pub(crate) fn restart_with(&mut self, config: Config) {
        self.seed += 1;
        self.registry = Registry::new(config, self.seed);
        self.held.clear();
        self.snapshots.clear();
        self.parked.clear();
        self.waiting.clear();
        self.registry.load(self.now, self.store.load());
        self.run();
    }

    /// Holds back the outcomes of such effects (commits and reads: they are not even begun) until [`Self::let_go`].
    pub(crate) fn hold_back(&mut self, kind: Kind) {
        self.held_back.insert(kind);
    }

    pub(crate) fn let_go(&mut self, kind: Kind) {
        self.held_back.remove(&kind);
        let (now, later) = std::mem::take(&mut self.waiting).into_iter().partition(|(of, _)| *of == kind);
        self.waiting = later;
        for (_, effect) in Vec::into_iter(now) {
            self.carry_out(effect);
        }
        let (now, later) = std::mem::take(&mut self.parked).into_iter().partition(|(of, _)| *of == kind);
        self.parked = later;
        for (_, outcome) in Vec::into_iter(now) {
            self.registry.outcome(self.now, outcome);
        }
        self.run();
    }

    pub(crate) fn begin(&mut self, command: Command) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.registry.command(self.now, call, command);
        self.run();
        call
    }

    pub(crate) fn reply(&self, call: CallId) -> Option<&Reply> {
        self.replies.get(&call)
    }

    /// The call's answer, which must be there.
    pub(crate) fn ask(&mut self, command: Command) -> Reply {
        let call = self.begin(command);
        self.replies.remove(&call).unwrap_or_else(|| panic!("{call:?} is not answered"))
    }

    pub(crate) fn order(&mut self, number: u128, name: &str) -> Reply {
        self.ask(Command::Provision(order(number, name)))
    }

    pub(crate) fn create(&mut self, number: u128, name: &str) -> u16 {
        assert_eq!(self.order(number, name), Ok(Answer::Created(id(number))), "{name}");
        self.port(number)
    }

    pub(crate) fn delete(&mut self, number: u128) -> Reply {
        self.ask(Command::Deprovision { service: id(number), mode: DeleteMode::IfUnbound })
    }

    pub(crate) fn bind(&mut self, number: u128, app: &str) -> Reply {
        let binding = harbor_types::BindingId::from_u128(u128::from(self.calls) + 1_000);
        self.ask(Command::Bind { id: binding, service: id(number), app: app.parse().unwrap() })
    }

    pub(crate) fn registration(number: u128, instance: &str, addr: SocketAddr, lifetime: Option<Lifetime>) -> Command {
        Command::Register { service: id(number), instance: instance.parse().unwrap(), addr, lifetime }
    }

    pub(crate) fn register(&mut self, number: u128, instance: &str, addr: SocketAddr) -> Reply {
        self.ask(Self::registration(number, instance, addr, None))
    }

    pub(crate) fn deregister(&mut self, number: u128, instance: &str) -> Reply {
        self.ask(Command::Deregister { service: id(number), instance: instance.parse().unwrap() })
    }

    pub(crate) fn heartbeat(&mut self, number: u128, instance: &str) -> Reply {
        self.ask(Command::Heartbeat { service: id(number), instance: instance.parse().unwrap() })
    }

    /// A relay saw this under the latest snapshot.
    pub(crate) fn observe(&mut self, number: u128, instance: &str, protocol: Protocol, verdict: Verdict) {
        let snapshot = &self.snapshots[&id(number)];
        let backend = snapshot.backends(protocol).iter().find(|backend| backend.instance.as_str() == instance);
        let joined = backend.unwrap_or_else(|| panic!("{instance} gets no traffic")).joined;
        let (service, instance, generation) = (id(number), instance.parse().unwrap(), snapshot.generation);
        let seen = Observed { service, instance, joined, protocol, generation, verdict };
        self.registry.outcome(self.now, Outcome::Observed(seen));
        self.run();
    }

    pub(crate) fn fail(&mut self, number: u128, instance: &str, protocol: Protocol) {
        self.observe(number, instance, protocol, Verdict::Failed(Failure::Refused));
    }

    /// Names of the instances that get traffic, in order.
    pub(crate) fn serving(&self, number: u128, protocol: Protocol) -> Vec<&str> {
        let backends = self.snapshots[&id(number)].backends(protocol);
        backends.iter().map(|backend| backend.instance.as_str()).collect()
    }

    pub(crate) fn view(&self, number: u128) -> ServiceView {
        self.registry.service(self.now, id(number)).unwrap_or_else(|| panic!("there is no service {number}"))
    }

    pub(crate) fn port(&self, number: u128) -> u16 {
        self.view(number).port.get()
    }

    pub(crate) fn events(&self, kind: EventKind) -> usize {
        self.registry.events(0, usize::MAX).events.iter().filter(|event| event.kind == kind).count()
    }

    /// Lets time pass, with every deadline on its way kept to the millisecond.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now.mono + span;
        while let Some(at) = self.registry.next_deadline().filter(|at| *at <= end) {
            self.advance(at.max(self.now.mono));
            self.registry.on_deadline(self.now);
            self.run();
        }
        self.advance(end);
    }

    fn advance(&mut self, to: Instant) {
        let step = to - self.now.mono;
        self.now = Now { mono: to, wall: self.now.wall.plus(step.into()) };
    }

    pub(crate) fn run(&mut self) {
        while let Some(effect) = self.registry.next_effect() {
            let kind = match &effect {
                Effect::Commit(_) => Some(Kind::Commit),
                Effect::ReadChanges { .. } => Some(Kind::Read),
                _ => None,
            };
            match kind.filter(|kind| self.held_back.contains(kind)) {
                Some(kind) => self.waiting.push((kind, effect)),
                None => self.carry_out(effect),
            }
        }
        self.registry.check_invariants().unwrap();
    }

    fn carry_out(&mut self, effect: Effect) {
        let (kind, outcome) = match effect {
            Effect::Reply { call, answer } => {
                assert_eq!(self.replies.insert(call, answer), None, "{call:?} is answered twice");
                return;
            }
            Effect::Release { service } => {
                assert!(self.held.remove(&service).is_some(), "nothing is held for {service}");
                return;
            }
            Effect::Dismiss { service, instance, .. } => {
                assert!(self.held.contains_key(&service), "nothing is held for {service}");
                self.dismissed.push(instance.to_string());
                return;
            }
            Effect::Bind(order) => (Kind::Bind, self.hold(order)),
            Effect::Commit(commit) => {
                let outcome = match self.fates.pop_front() {
                    None => self.store.commit(&commit),
                    Some(Fate::NotCommitted) => CommitOutcome::NotCommitted("disk full".into()),
                    Some(Fate::UnknownAndNot) => CommitOutcome::Unknown("fsync failed".into()),
                    Some(Fate::Conflict(conflict)) => CommitOutcome::Conflict(conflict),
                    Some(Fate::UnknownAndCommitted) => {
                        self.store.commit(&commit);
                        CommitOutcome::Unknown("fsync failed".into())
                    }
                };
                (Kind::Commit, Outcome::Committed { token: commit.token, outcome })
            }
            Effect::ReadChanges { since } => {
                self.reads += 1;
                let result = if self.failing_reads > 0 {
                    self.failing_reads -= 1;
                    Err("no store".into())
                } else {
                    Ok(self.store.changes_since(since))
                };
                (Kind::Read, Outcome::Changes { result })
            }
            Effect::Publish { service, snapshot } => {
                assert!(self.held.contains_key(&service), "{service} is published and not held");
                let generation = snapshot.generation;
                self.publishes += 1;
                self.snapshots.insert(service, snapshot);
                (Kind::Publish, Outcome::Published { service, generation })
            }
            Effect::Retire { service } => {
                assert!(self.held.remove(&service).is_some(), "nothing is held for {service}");
                self.snapshots.remove(&service);
                self.retired += 1;
                (Kind::Retire, Outcome::Retired { service })
            }
        };
        if self.held_back.contains(&kind) {
            self.parked.push((kind, outcome));
        } else {
            self.registry.outcome(self.now, outcome);
        }
    }

    fn hold(&mut self, order: BindOrder) -> Outcome {
        let (service, port) = (order.service, order.port);
        let at = SocketAddr::new("0.0.0.0".parse().unwrap(), port.get());
        self.tried.push(port.get());
        let ours = self.held.values().any(|held| held.port == port);
        let result = if ours || self.foreign.contains(&port.get()) {
            let protocol = order.protocols.iter().next().unwrap();
            Err(BindFailure::InUse { protocol, addr: at })
        } else if self.broken.contains(&port.get()) {
            Err(BindFailure::Other { reason: "permission denied".into() })
        } else {
            self.held.insert(service, order);
            Ok(vec![at])
        };
        Outcome::Bound { service, port, result }
    }
}
