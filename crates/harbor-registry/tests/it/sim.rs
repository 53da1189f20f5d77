//! The simulator's node: fake sockets that other processes compete for, a store whose answers come late, wrong or never,
//! and relays; everything the registry orders is checked against what is really so before it is carried out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harbor_registry::{
    Answer, BindFailure, BindOrder, CallId, Command, Config, DeleteMode, Effect, Outcome, PublicAddress, Refusal,
    Registry,
};
use harbor_types::wire::PortState;
use harbor_types::{
    BackendSnapshot, Claim, Commit, CommitOutcome, Failure, InstanceId, Now, Observed, Port, Protocol, Record,
    RecordKey, ServiceId, Span, Verdict, Write,
};

use crate::store::FakeStore;
use crate::world::start;

pub(crate) const RANGE: &str = "20000-20005";
const QUARANTINE: Span = Span::secs(20);

/// How the store treats the next thing it is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mood {
    Well,
    NotCommitted,
    UnknownAndCommitted,
    UnknownAndNot,
    /// Unknown, and decided only when somebody reads the changes.
    UnknownUntilRead {
        commits: bool,
    },
}

#[derive(Clone, Debug)]
struct Asked {
    command: Command,
}

pub(crate) struct Sim {
    pub(crate) registry: Registry,
    pub(crate) store: FakeStore,
    pub(crate) now: Now,
    config: Config,
    seed: u64,
    /// What the store's thread has not begun.
    queue: VecDeque<Effect>,
    /// Commits whose answer got lost and that are not decided.
    limbo: Vec<(Commit, bool)>,
    /// Outcomes on their way.
    outcomes: Vec<Outcome>,
    pub(crate) foreign: BTreeSet<u16>,
    held: BTreeMap<ServiceId, BindOrder>,
    snapshots: BTreeMap<ServiceId, BackendSnapshot>,
    /// Sockets that are being retired.
    closing: BTreeMap<ServiceId, Port>,
    /// What every relay thread has at least.
    confirmed: BTreeMap<ServiceId, BackendSnapshot>,
    /// What relay threads are being told.
    published: Vec<(ServiceId, BackendSnapshot)>,
    calls: u64,
    open: BTreeMap<CallId, Asked>,
    /// Services that were promised, and that nobody has asked to delete since.
    promised: BTreeMap<ServiceId, Port>,
    /// When a port's rest began, as the order to the store was given, and the jumps of the clock until then.
    rest_began: BTreeMap<Port, (Instant, Duration)>,
    /// Sum of all jumps forward, also while the process was down.
    jumped: Duration,
    /// Whether another node writes too. Its ports are unknown here until the changes are read.
    pub(crate) others: bool,
    pub(crate) answers: BTreeMap<&'static str, usize>,
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Sim {
    pub(crate) fn new(seed: u64, others: bool) -> Self {
        let mut config = Config::new("node_1".parse().unwrap(), "10.1.0.1".parse().unwrap(), RANGE.parse().unwrap());
        config.public = Some(PublicAddress { ext_host: "192.0.2.7".parse().unwrap(), ext_hostname: None });
        (config.quarantine, config.set_aside, config.ttl, config.max_waiting) =
            (if seed.is_multiple_of(4) { Span::ZERO } else { QUARANTINE }, Span::secs(5), Span::secs(6), 4);
        let mut sim = Self {
            registry: Registry::new(config.clone(), seed),
            store: FakeStore::default(),
            now: start(),
            config,
            seed,
            queue: VecDeque::new(),
            limbo: Vec::new(),
            outcomes: Vec::new(),
            foreign: BTreeSet::new(),
            held: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            closing: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            published: Vec::new(),
            calls: 0,
            open: BTreeMap::new(),
            promised: BTreeMap::new(),
            rest_began: BTreeMap::new(),
            jumped: Duration::ZERO,
            others,
            answers: BTreeMap::new(),
        };
        sim.registry.load(sim.now, sim.store.load());
        sim
    }

    pub(crate) fn command(&mut self, command: Command) -> Checked {
        self.calls += 1;
        let call = CallId(self.calls);
        if let Command::Deprovision { service, .. } = &command {
            self.promised.remove(service);
        }
        self.open.insert(call, Asked { command: command.clone() });
        self.registry.command(self.now, call, command);
        self.drain()
    }

    /// Lets the `pick`th outcome on its way arrive.
    pub(crate) fn arrive(&mut self, pick: usize) -> Checked {
        if self.outcomes.is_empty() {
            return Ok(());
        }
        let outcome = self.outcomes.remove(pick % self.outcomes.len());
        if let Outcome::Published { service, generation } = &outcome
            && let Some(at) = self.published.iter().position(|(of, it)| of == service && it.generation == *generation)
        {
            let (service, snapshot) = self.published.swap_remove(at);
            let newer = self.confirmed.get(&service).is_none_or(|known| known.generation < snapshot.generation);
            if newer {
                self.confirmed.insert(service, snapshot);
            }
        }
        if let Outcome::Retired { service } = &outcome {
            self.closing.remove(service);
        }
        self.registry.outcome(self.now, outcome);
        self.drain()
    }

    /// Lets the store do the next thing it was asked.
    pub(crate) fn store_step(&mut self, mood: Mood) -> Checked {
        let outcome = match self.queue.pop_front() {
            Some(Effect::Commit(commit)) => {
                let token = commit.token;
                let lost = || CommitOutcome::Unknown("lost".into());
                let outcome = match mood {
                    Mood::Well => self.apply(&commit)?,
                    Mood::NotCommitted => CommitOutcome::NotCommitted("disk full".into()),
                    Mood::UnknownAndNot => lost(),
                    Mood::UnknownAndCommitted => {
                        self.apply(&commit)?;
                        lost()
                    }
                    Mood::UnknownUntilRead { commits } => {
                        self.limbo.push((commit, commits));
                        lost()
                    }
                };
                Outcome::Committed { token, outcome }
            }
            Some(Effect::ReadChanges { since }) => {
                if mood != Mood::Well {
                    self.outcomes.push(Outcome::Changes { result: Err("no store".into()) });
                    return Ok(());
                }
                // From here on none of them can still become durable.
                for (commit, commits) in std::mem::take(&mut self.limbo) {
                    if commits {
                        self.apply(&commit)?;
                    }
                }
                Outcome::Changes { result: Ok(self.store.changes_since(since)) }
            }
            _ => return Ok(()),
        };
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Commits to the durable state, and checks that a service never changes its port.
    fn apply(&mut self, commit: &Commit) -> Result<CommitOutcome, String> {
        let before = self.store.clone();
        let outcome = self.store.commit(commit);
        if matches!(outcome, CommitOutcome::Committed(_)) {
            for service in before.services() {
                let moved = self.store.service(service.id).is_some_and(|after| after.port != service.port);
                ensure(!moved, || format!("{} moved away from port {}", service.id, service.port))?;
            }
        }
        Ok(outcome)
    }

    /// Lets time pass; the deadlines on the way are kept late rather than early.
    pub(crate) fn pass(&mut self, millis: u64) -> Checked {
        self.now =
            Now { mono: self.now.mono + Duration::from_millis(millis), wall: self.now.wall.plus(Span::millis(millis)) };
        if self.registry.next_deadline().is_some_and(|at| at <= self.now.mono) {
            self.registry.on_deadline(self.now);
        }
        self.drain()
    }

    pub(crate) fn jump(&mut self, millis: i64) {
        let wall = self.now.wall.as_millis().saturating_add_signed(millis);
        self.now.wall = harbor_types::WallTime::from_millis(wall);
        self.jumped += Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    }

    /// The process dies: sockets close, calls are never answered, what the store has not begun never happens; what is
    /// undecided is decided.
    pub(crate) fn crash(&mut self) -> Checked {
        for (commit, commits) in std::mem::take(&mut self.limbo) {
            if commits {
                self.apply(&commit)?;
            }
        }
        self.queue.clear();
        self.outcomes.clear();
        self.held.clear();
        self.snapshots.clear();
        self.closing.clear();
        self.confirmed.clear();
        self.published.clear();
        self.open.clear();
        self.seed = self.seed.wrapping_add(1);
        self.registry = Registry::new(self.config.clone(), self.seed);
        self.registry.load(self.now, self.store.load());
        let loaded: BTreeSet<_> = self.registry.services(self.now).iter().map(|view| (view.id, view.port)).collect();
        let stored: BTreeSet<_> = self.store.services().map(|service| (service.id, service.port)).collect();
        ensure(loaded == stored, || format!("{stored:?} came back as {loaded:?}"))?;
        self.drain()
    }

    pub(crate) fn observe(
        &mut self,
        service: usize,
        backend: usize,
        protocol: Protocol,
        age: u64,
        good: bool,
    ) -> Checked {
        let Some((service, snapshot)) = self.snapshots.iter().nth(service % self.snapshots.len().max(1)) else {
            return Ok(());
        };
        let backends = snapshot.backends(protocol);
        let Some(backend) = backends.get(backend % backends.len().max(1)) else { return Ok(()) };
        let verdict = if good { Verdict::Succeeded } else { Verdict::Failed(Failure::TimedOut) };
        let generation = harbor_types::Generation(snapshot.generation.0.saturating_sub(age));
        let (service, instance, joined) = (*service, backend.instance.clone(), backend.joined);
        let seen = Observed { service, instance, joined, protocol, generation, verdict };
        self.registry.outcome(self.now, Outcome::Observed(seen));
        self.drain()
    }

    /// Another node commits.
    pub(crate) fn other_commits(&mut self, commit: &Commit) -> Checked {
        let before = self.store.clone();
        self.note_rests(commit);
        if matches!(self.apply(commit)?, CommitOutcome::Committed(_)) {
            for gone in before.services().filter(|service| self.store.service(service.id).is_none()) {
                self.promised.remove(&gone.id);
            }
        }
        Ok(())
    }

    fn note_rests(&mut self, commit: &Commit) {
        for write in &commit.writes {
            if let Write::Delete(RecordKey::Service(id)) = write
                && let Some(service) = self.store.service(*id)
            {
                self.rest_began.insert(service.port, (self.now.mono, self.jumped));
            }
        }
    }

    fn drain(&mut self) -> Checked {
        self.registry.check_invariants()?;
        while let Some(effect) = self.registry.next_effect() {
            match effect {
                Effect::Reply { call, answer } => self.check_answer(call, answer)?,
                Effect::Bind(order) => self.bind(order)?,
                Effect::Release { service } => {
                    ensure(self.held.remove(&service).is_some(), || format!("nothing is held for {service}"))?;
                    ensure(!self.snapshots.contains_key(&service), || format!("{service} was published"))?;
                }
                Effect::Retire { service } => {
                    let order = self.held.remove(&service).ok_or_else(|| format!("nothing is held for {service}"))?;
                    self.closing.insert(service, order.port);
                    ensure(self.snapshots.remove(&service).is_some(), || format!("{service} never served"))?;
                    self.confirmed.remove(&service);
                    self.published.retain(|(of, _)| *of != service);
                    self.outcomes
                        .retain(|outcome| !matches!(outcome, Outcome::Published { service: of, .. } if *of == service));
                    self.outcomes.push(Outcome::Retired { service });
                }
                Effect::Dismiss { service, .. } => {
                    ensure(self.snapshots.contains_key(&service), || format!("{service} never served"))?;
                }
                Effect::Publish { service, snapshot } => self.publish(service, snapshot)?,
                Effect::Commit(commit) => {
                    self.note_rests(&commit);
                    self.queue.push_back(Effect::Commit(commit));
                }
                Effect::ReadChanges { .. } => self.queue.push_back(effect),
            }
        }
        for (id, port) in &self.promised {
            let stored = self.store.service(*id).map(|service| service.port);
            ensure(stored == Some(*port), || format!("{id} was promised port {port} and has {stored:?}"))?;
        }
        Ok(())
    }

    /// Who could come back with this port after a crash, or has it now.
    fn other_owners(&self, port: Port, service: ServiceId) -> Vec<String> {
        let mut owners = Vec::new();
        let durable = self.store.owner_of_port(port).filter(|owner| *owner != RecordKey::Service(service));
        owners.extend(durable.map(|owner| format!("{owner:?} in the store")));
        let queued = self.queue.iter().filter_map(|effect| match effect {
            Effect::Commit(commit) => Some(commit),
            _ => None,
        });
        for commit in queued.chain(self.limbo.iter().map(|(commit, _)| commit)) {
            let puts = commit.writes.iter().filter_map(|write| match write {
                Write::Put(Record::Service(record)) => Some(record),
                _ => None,
            });
            let other = puts.filter(|record| record.port == port && record.id != service);
            owners.extend(other.map(|record| format!("{} on its way to the store", record.id)));
        }
        let held = self.held.iter().filter(|(id, order)| order.port == port && **id != service);
        owners.extend(held.map(|(id, _)| format!("the sockets of {id}")));
        let closing = self.closing.iter().filter(|(_, closing)| **closing == port);
        owners.extend(closing.map(|(id, _)| format!("the closing sockets of {id}")));
        owners
    }

    fn bind(&mut self, order: BindOrder) -> Checked {
        let (service, port) = (order.service, order.port);
        let about = self.held.contains_key(&service) || self.closing.contains_key(&service);
        ensure(!about, || format!("{service} has sockets already"))?;
        if order.claim == Claim::Fresh && !self.others {
            let owners = self.other_owners(port, service);
            ensure(owners.is_empty(), || format!("port {port} is leased to {service}, but it is of {owners:?}"))?;
        }
        // Another node may have ended a rest by its own clock.
        if let Some((began, jumped)) =
            self.rest_began.get(&port).filter(|_| order.claim == Claim::Fresh && !self.others)
        {
            let rested = self.now.mono - *began + (self.jumped - *jumped);
            ensure(rested >= self.config.quarantine.as_duration(), || format!("port {port} rested for {rested:?}"))?;
        }
        // What another node did since is folded next.
        if order.claim == Claim::Restore && !self.others {
            let stored = self.store.service(service).map(|record| record.port);
            // Its deletion is durable, and the answer is on its way.
            let listed = self.registry.service(self.now, service).is_some();
            let deleted = stored.is_none() && listed;
            ensure(stored == Some(port) || deleted, || format!("{service} is restored on {port}, not {stored:?}"))?;
        }
        let ours = self.held.values().map(|held| &held.port).chain(self.closing.values()).any(|held| *held == port);
        let result = if ours || self.foreign.contains(&port.get()) {
            let protocol = order.protocols.iter().next().unwrap();
            Err(BindFailure::InUse { protocol, addr: SocketAddr::new("0.0.0.0".parse().unwrap(), port.get()) })
        } else if self.now.wall.as_millis() % 17 == 3 {
            Err(BindFailure::Other { reason: "out of descriptors".into() })
        } else {
            self.held.insert(service, order);
            Ok(vec![SocketAddr::new("0.0.0.0".parse().unwrap(), port.get())])
        };
        self.outcomes.push(Outcome::Bound { service, port, result });
        Ok(())
    }

    fn publish(&mut self, service: ServiceId, snapshot: BackendSnapshot) -> Checked {
        ensure(self.held.contains_key(&service), || format!("{service} is published and not held"))?;
        if let Some(before) = self.snapshots.get(&service) {
            ensure(snapshot.generation > before.generation, || format!("{service} is published backwards"))?;
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                check_order(before, &snapshot, protocol)?;
            }
        }
        self.outcomes.push(Outcome::Published { service, generation: snapshot.generation });
        self.published.push((service, snapshot.clone()));
        self.snapshots.insert(service, snapshot);
        Ok(())
    }

    fn check_answer(&mut self, call: CallId, answer: Result<Answer, Refusal>) -> Checked {
        let asked = self.open.remove(&call).ok_or_else(|| format!("{call:?} is answered twice"))?;
        let word = match &answer {
            Ok(Answer::Created(_)) => "created",
            Ok(Answer::Deleted) => "deleted",
            Ok(Answer::Registered { joined: true, .. }) => "joined",
            Ok(Answer::Deregistered) => "left",
            Ok(Answer::Bound { .. }) => "bound",
            Ok(_) => "other",
            Err(Refusal::Exhausted { .. }) => "exhausted",
            Err(Refusal::StoreFailed { .. }) => "store failed",
            Err(Refusal::Conflict { .. } | Refusal::PortTaken { .. }) => "conflict",
            Err(_) => "refused",
        };
        *self.answers.entry(word).or_default() += 1;
        // Another node may have undone it before the answer was given.
        if self.others {
            return Ok(());
        }
        match (&asked.command, &answer) {
            (Command::Provision(order), Ok(Answer::Created(id) | Answer::Existing(id))) => {
                ensure(*id == order.id, || format!("{id} for {}", order.id))?;
                let record = self.store.service(*id).ok_or_else(|| format!("{id} is promised and not durable"))?;
                ensure(record.name == order.name, || format!("{id} is promised as {}", order.name))?;
                let created = matches!(answer, Ok(Answer::Created(_)));
                let held = self.held.get(id).is_some_and(|held| held.port == record.port);
                ensure(!created || held, || format!("{id} is promised and not held"))?;
                let known = self.confirmed.contains_key(id);
                ensure(!created || known, || format!("{id} is promised and no relay thread has it"))?;
                let port = record.port;
                self.promise(*id, port);
            }
            (Command::Provision(order), Err(Refusal::StoreFailed { .. } | Refusal::Exhausted { .. })) => {
                let left = self.store.service(order.id).is_some() || self.held.contains_key(&order.id);
                ensure(!left, || format!("{} failed and is there", order.id))?;
            }
            (Command::Deprovision { service, .. }, Ok(_)) => {
                let sockets = self.held.contains_key(service) || self.closing.contains_key(service);
                let left = self.store.service(*service).is_some() || sockets;
                ensure(!left, || format!("{service} is deleted and there"))?;
            }
            (Command::Deprovision { service, .. }, Err(refusal)) => {
                // A refused deletion leaves the promise as it was.
                let there = self.store.service(*service).map(|record| record.port);
                let unknown = matches!(refusal, Refusal::UnknownService { .. });
                if let Some(port) = there.filter(|_| !unknown) {
                    self.promise(*service, port);
                }
            }
            (Command::Register { service, instance, addr, .. }, Ok(_)) => {
                let key = RecordKey::Backend(*service, instance.clone());
                let stored = matches!(self.store.record(&key), Some(Record::Backend(record)) if record.addr == *addr);
                ensure(stored, || format!("{instance} is registered and not durable"))?;
            }
            (Command::Deregister { service, instance }, Ok(_)) => self.check_left(*service, instance)?,
            (Command::Bind { service, app, .. }, Ok(Answer::Bound { id, .. })) => {
                let stored = matches!(self.store.record(&RecordKey::Binding(*id)),
                    Some(Record::Binding(record)) if record.service == *service && record.app == *app);
                ensure(stored, || format!("{app} is bound and not durable"))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts on the service from now on, unless somebody is about to delete it.
    fn promise(&mut self, id: ServiceId, port: Port) {
        let deletes = |asked: &Asked| matches!(asked.command, Command::Deprovision { service, .. } if service == id);
        if !self.open.values().any(deletes) {
            self.promised.insert(id, port);
        }
    }

    fn check_left(&self, service: ServiceId, instance: &InstanceId) -> Checked {
        let stored = self.store.record(&RecordKey::Backend(service, instance.clone())).is_some();
        ensure(!stored, || format!("{instance} has left and is on record"))?;
        if !self.snapshots.contains_key(&service) {
            return Ok(());
        }
        let Some(known) = self.confirmed.get(&service) else { return Err(format!("no relay thread has {service}")) };
        let serves = known.tcp.iter().chain(known.udp.iter()).any(|backend| backend.instance == *instance);
        ensure(!serves, || format!("{instance} has left and gets traffic"))
    }

    /// Everything calms down: the store is well, what is on its way arrives, time passes. Then memory, store and sockets
    /// must say the same.
    pub(crate) fn calm(&mut self) -> Checked {
        self.foreign.clear();
        self.settle(200)?;
        ensure(self.registry.is_idle() && self.open.is_empty(), || format!("{:?} wait for ever", self.open))?;
        ensure(self.registry.is_ready(), || "it never becomes ready".into())?;
        self.catch_up()?;
        let views = self.registry.services(self.now);
        let listed: BTreeSet<_> = views.iter().map(|view| (view.id, view.port)).collect();
        let stored: BTreeSet<_> = self.store.services().map(|service| (service.id, service.port)).collect();
        let held: BTreeSet<_> = self.held.iter().map(|(id, order)| (*id, order.port)).collect();
        ensure(listed == stored && stored == held, || format!("listed {listed:?}, stored {stored:?}, held {held:?}"))?;
        let ports = self.registry.ports(self.now);
        let leased = ports.ports.iter().filter(|port| port.state == PortState::Leased).map(|port| port.port);
        let owned: BTreeSet<_> = stored.iter().map(|(_, port)| *port).collect();
        ensure(leased.collect::<BTreeSet<_>>() == owned, || format!("{:?} is leased for {owned:?}", ports.ports))?;
        // 200 seconds are more than every rest.
        ensure(self.store.rests().next().is_none() && ports.quarantined == 0, || "a rest never ends".into())?;
        for view in &views {
            let pool: BTreeSet<_> = view.backends.iter().map(|backend| backend.instance.clone()).collect();
            let recorded = self.store.instances(view.id);
            ensure(pool == recorded, || format!("{pool:?} are in the pool and {recorded:?} on record"))?;
            let snapshot = &self.snapshots[&view.id];
            ensure(snapshot.generation == view.generation, || format!("{} is unpublished", view.id))?;
        }
        Ok(())
    }

    /// With another node writing, the latest of its changes are read when something of our own is committed.
    fn catch_up(&mut self) -> Checked {
        let service = ServiceId::from_u128(999);
        // The fake sockets may refuse a few times, for want of descriptors.
        for _ in 0..9 {
            if self.registry.revision() == self.store.revision() {
                return Ok(());
            }
            ensure(self.others, || "a change of our own is not folded".into())?;
            // A full range leaves joins to commit, an empty node leaves an order.
            for id in self.registry.services(self.now).into_iter().map(|view| view.id) {
                let (instance, addr) = ("catch-up".parse().unwrap(), crate::world::addr(77));
                self.command(Command::Register { service: id, instance, addr, lifetime: None })?;
            }
            self.command(Command::Provision(crate::world::order(999, "catch-up")))?;
            self.settle(3)?;
            self.command(Command::Deprovision { service, mode: DeleteMode::Forced })?;
            self.settle(60)?;
        }
        Err("the changes of others are never read".into())
    }

    /// The store does all it is asked, everything arrives, and about so many seconds pass.
    fn settle(&mut self, seconds: usize) -> Checked {
        for _ in 0..seconds {
            while !(self.queue.is_empty() && self.outcomes.is_empty()) {
                self.store_step(Mood::Well)?;
                self.arrive(0)?;
            }
            self.pass(1_009)?;
        }
        Ok(())
    }
}

/// Whoever stays keeps its place; for UDP, whoever comes or returns queues last.
fn check_order(before: &BackendSnapshot, after: &BackendSnapshot, protocol: Protocol) -> Checked {
    let (before, after) = (before.backends(protocol), after.backends(protocol));
    let stayed = |backend: &&harbor_types::Backend| before.iter().any(|it| it.same_registration(backend));
    let kept: Vec<_> = after.iter().filter(stayed).map(|backend| &backend.instance).collect();
    let remained = before.iter().filter(|it| after.iter().any(|backend| backend.same_registration(it)));
    let was: Vec<_> = remained.map(|backend| &backend.instance).collect();
    ensure(kept == was, || format!("{was:?} are reordered to {kept:?} ({protocol})"))?;
    let mut tail = after.iter().skip_while(|backend| stayed(backend));
    let jumped = protocol == Protocol::Udp && tail.any(|backend| stayed(&backend));
    ensure(!jumped, || format!("somebody jumped the queue: {after:?}"))
}
