//! The session table against a model: random clients, answers, refusals, failed connects, snapshots and time. The model
//! plays the shell, keeps its own idea of sockets, masks and idle times, and compares after every step:
//!
//! * no datagram goes to a second backend while the session's own is eligible, nor to any but the primary otherwise;
//! * created less closed is live, the caps hold, and the budget counts exactly the live sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harbor_types::Span;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::tests::{backend, epoch, snapshot};
use super::*;
use crate::Budget;

const SESSIONS: usize = 6;
const PER_SOURCE: usize = 3;
const NODE: usize = 8;
const IDLE: u64 = 1_000;
const GRACE: u64 = 100;

#[derive(Clone, Debug)]
enum Op {
    /// One of two sources, several ports each, sends so many bytes.
    Client { source: u8, port: u16, len: usize },
    /// The backend of some session answers.
    Answer { session: Index, len: usize },
    /// Some session's socket reports a refusal.
    Refused { session: Index },
    /// These backends are published, in this order; not always with a newer generation.
    Publish { backends: Vec<u8>, anew: bool, newer: bool },
    /// Time passes, and the timer fires if it is due.
    Pass { millis: u64 },
    /// How the next connects go, one after the other; then they work again.
    Connects { faults: Vec<Connect> },
    /// Sockets that the table closes next have a refusal pending.
    Pending { refused: bool },
    /// Another listener of the node takes or gives back a session.
    Elsewhere { takes: bool },
}

#[derive(Clone, Copy, Debug)]
enum Connect {
    Works,
    Unreachable,
    NoSocket,
}

fn op() -> impl Strategy<Value = Op> {
    let connect = prop_oneof![Just(Connect::Works), Just(Connect::Unreachable), Just(Connect::NoSocket)];
    prop_oneof![
        8 => (1..=2_u8, 0..5_u16, 0..40_usize).prop_map(|(source, port, len)| Op::Client { source, port, len }),
        4 => (any::<Index>(), 0..40_usize).prop_map(|(session, len)| Op::Answer { session, len }),
        3 => any::<Index>().prop_map(|session| Op::Refused { session }),
        2 => (subsequence(vec![1, 2, 3_u8], 0..=3).prop_shuffle(), any::<bool>(), prop::bool::weighted(0.9))
            .prop_map(|(backends, anew, newer)| Op::Publish { backends, anew, newer }),
        3 => prop_oneof![0..GRACE * 2, 0..IDLE * 2].prop_map(|millis| Op::Pass { millis }),
        1 => vec(connect, 1..3).prop_map(|faults| Op::Connects { faults }),
        1 => any::<bool>().prop_map(|refused| Op::Pending { refused }),
        1 => any::<bool>().prop_map(|takes| Op::Elsewhere { takes }),
    ]
}

/// What the model knows of one session.
struct Known {
    client: ClientAddr,
    /// Connected to this registration.
    socket: Option<Backend>,
    opened: Instant,
    active: Instant,
    answered: bool,
    /// The client's latest datagram.
    latest: Vec<u8>,
    up: Tally,
    down: Tally,
}

struct World {
    now: Instant,
    table: SessionTable,
    node: Arc<Budget>,
    service: Arc<ServiceBudget>,
    /// Sessions of another listener.
    elsewhere: Vec<crate::Slot>,
    current: BackendSnapshot,
    masked: Vec<Backend>,
    failed: BTreeSet<(String, u64, u64)>,
    known: BTreeMap<SessionId, Known>,
    ended: u64,
    connects: Vec<Connect>,
    pending: bool,
    joined: u64,
}

impl World {
    fn new() -> Self {
        let limits = Limits {
            idle: Span::millis(IDLE),
            sessions: SESSIONS,
            per_source: PER_SOURCE,
            unanswered_grace: Span::millis(GRACE),
        };
        let node = Arc::new(Budget::new(NODE));
        let service = Arc::new(ServiceBudget::new(&limits, Arc::clone(&node)));
        let current = snapshot(1, &[backend(1, 1), backend(2, 2)]);
        let table = SessionTable::new(ServiceId::from_u128(7), limits, Arc::clone(&service), current.clone());
        Self {
            now: epoch(),
            table,
            node,
            service,
            elsewhere: Vec::new(),
            current,
            masked: Vec::new(),
            failed: BTreeSet::new(),
            known: BTreeMap::new(),
            ended: 0,
            connects: Vec::new(),
            pending: false,
            joined: 2,
        }
    }

    fn eligible(&self, backend: &Backend) -> bool {
        listed(&self.current.udp, backend) && !listed(&self.masked, backend)
    }

    fn primary(&self) -> Option<Backend> {
        self.current.udp.iter().find(|backend| self.eligible(backend)).cloned()
    }

    fn pick(&self, session: &Index, connected: bool) -> Option<SessionId> {
        let able: Vec<_> =
            self.known.iter().filter(|(_, known)| !connected || known.socket.is_some()).map(|(id, _)| *id).collect();
        (!able.is_empty()).then(|| *session.get(&able))
    }

    /// A refusal by `backend`, as the rules have it: masked, unless it is the last.
    fn refused(&mut self, backend: &Backend) {
        let another = self.current.udp.iter().any(|one| !one.same_registration(backend) && self.eligible(one));
        if another && !listed(&self.masked, backend) {
            self.masked.push(backend.clone());
        }
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Client { source, port, len } => self.client(source, port, len)?,
            Op::Answer { session, len } => {
                if let Some(id) = self.pick(&session, true) {
                    let known = self.known.get_mut(&id).unwrap();
                    known.active = self.now;
                    known.answered = true;
                    known.down.add(len);
                    let client = known.client;
                    self.table.on_backend_datagram(self.now, id, len);
                    prop_assert_eq!(self.table.next_output(), Some(Output::ToClient { client }));
                }
            }
            Op::Refused { session } => {
                if let Some(id) = self.pick(&session, true) {
                    let backend = self.known[&id].socket.clone().unwrap();
                    self.refused(&backend);
                    self.table.on_backend_error(self.now, id, Failure::Refused);
                }
            }
            Op::Publish { backends, anew, newer } => {
                self.joined += u64::from(anew);
                let joined = if anew { self.joined } else { 1 };
                let backends: Vec<_> = backends.into_iter().map(|n| backend(n, joined)).collect();
                let next = snapshot(self.current.generation.0 + u64::from(newer), &backends);
                self.table.on_snapshot(&next);
                if newer {
                    self.current = next;
                    self.masked.clear();
                }
            }
            Op::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                if self.table.next_deadline().is_some_and(|at| at <= self.now) {
                    self.table.on_deadline(self.now);
                }
            }
            Op::Connects { faults } => self.connects = faults,
            Op::Pending { refused } => self.pending = refused,
            Op::Elsewhere { takes } => {
                if takes {
                    self.elsewhere.extend(self.service.admit([198, 51, 100, 1].into()).ok());
                } else {
                    self.elsewhere.pop();
                }
            }
        }
        self.carry_out()?;
        self.compare()
    }

    fn client(&mut self, source: u8, port: u16, len: usize) -> Result<(), TestCaseError> {
        let client = ClientAddr { addr: SocketAddr::from(([192, 0, 2, source], 1000 + port)), local: None };
        let payload = vec![source; len];
        let before: BTreeSet<_> = self.known.keys().copied().collect();
        let from_source = self.known.values().filter(|known| known.client.addr.ip() == client.addr.ip()).count();
        let old = self.known.iter().find(|(_, known)| known.client == client).map(|(id, _)| *id);
        self.table.on_client_datagram(self.now, client, &payload);
        if let Some(id) = old {
            let primary = self.primary();
            let known = self.known.get_mut(&id).unwrap();
            known.active = self.now;
            if known.socket.is_some() || primary.is_some() {
                known.up.add(len);
                known.latest = payload;
                let sent =
                    |queued: &&Queued| matches!(queued, Queued::Send(session, Payload::InHand) if *session == id);
                prop_assert_eq!(self.table.outputs.iter().filter(sent).count(), 1);
            } else {
                prop_assert_eq!(self.table.next_output(), Some(Output::Drop(Refusal::NoBackend)));
                prop_assert_eq!(self.table.next_output(), None);
            }
            return Ok(());
        }
        let opened = self.table.outputs.iter().find_map(|queued| match queued {
            Queued::Output(Output::Opened { session, .. }) => Some(*session),
            _ => None,
        });
        match opened {
            Some(id) => {
                prop_assert!(!before.contains(&id), "an id was used twice");
                prop_assert!(from_source < PER_SOURCE, "the source is over its cap");
                let (now, mut up) = (self.now, Tally::default());
                up.add(len);
                let known = Known {
                    client,
                    socket: None,
                    opened: now,
                    active: now,
                    answered: false,
                    latest: payload,
                    up,
                    down: Tally::default(),
                };
                self.known.insert(id, known);
            }
            None => {
                let Some(Queued::Output(Output::Drop(refusal))) = self.table.outputs.back() else {
                    return Err(TestCaseError::fail("a datagram vanished"));
                };
                let full = self.service.live() >= SESSIONS || self.node.live() >= NODE;
                match *refusal {
                    Refusal::NoBackend => prop_assert!(self.current.udp.is_empty()),
                    Refusal::SourceFull => prop_assert_eq!(from_source, PER_SOURCE),
                    Refusal::ServiceFull | Refusal::NodeFull => {
                        prop_assert!(full, "refused with room to spare");
                        let grace = Duration::from_millis(GRACE);
                        let evictable = self.known.values().any(|one| !one.answered && self.now - one.opened >= grace);
                        prop_assert!(!evictable, "refused although one could give way");
                    }
                    other => prop_assert!(false, "refused for {other}"),
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), TestCaseError> {
        // Each refusal masks a backend or drops the datagram, so the outputs must come to an end.
        for _ in 0..200 {
            let Some(output) = self.table.next_output() else { return Ok(()) };
            match output {
                Output::Opened { session, client } => prop_assert_eq!(self.known[&session].client.addr, client),
                Output::ToBackend { session, connect, payload } => self.send_up(session, connect, payload)?,
                Output::ToClient { .. } => prop_assert!(false, "an answer from nowhere"),
                Output::Disconnect { session } => {
                    let left = self.known.get_mut(&session).unwrap().socket.take();
                    prop_assert!(left.is_some_and(|left| !self.eligible(&left)), "an eligible backend was left");
                    if self.pending {
                        self.table.on_late_refusal(self.now, session);
                    }
                }
                Output::Close { session, record } => {
                    let known = self.known.remove(&session).unwrap();
                    self.ended += 1;
                    prop_assert_eq!((record.up, record.down), (known.up, known.down));
                    let quiet = self.now - known.active;
                    match record.reason {
                        CloseReason::Idle => prop_assert!(quiet >= Duration::from_millis(IDLE)),
                        CloseReason::Evicted => prop_assert!(!known.answered, "an answered session was evicted"),
                        CloseReason::NoSocket => {}
                        CloseReason::Drained => prop_assert!(self.table.draining),
                    }
                }
                Output::Observed(observed) => {
                    let key = (observed.instance.to_string(), observed.joined.0, observed.generation.0);
                    prop_assert!(self.failed.insert(key), "reported twice in one generation");
                }
                Output::Drop(_) => {}
            }
        }
        Err(TestCaseError::fail("the outputs do not end"))
    }

    fn send_up(&mut self, id: SessionId, connect: Option<SocketAddr>, payload: Payload) -> Result<(), TestCaseError> {
        let primary = self.primary();
        let known = self.known.get_mut(&id).unwrap();
        if payload == Payload::Held {
            prop_assert_eq!(self.table.held(self.now, id), Some(&known.latest[..]));
        }
        match connect {
            None => {
                let backend = known.socket.clone();
                prop_assert!(backend.is_some_and(|backend| self.eligible(&backend)), "sent to a backend that is gone");
            }
            Some(addr) => {
                prop_assert!(known.socket.is_none(), "connected twice");
                let Some(primary) = primary else { return Err(TestCaseError::fail("no backend to connect to")) };
                prop_assert_eq!(addr, primary.addr, "connected past the primary");
                let fault = if self.connects.is_empty() { Connect::Works } else { self.connects.remove(0) };
                match fault {
                    Connect::Works => known.socket = Some(primary),
                    Connect::Unreachable => {
                        self.refused(&primary);
                        self.table.on_connect_failed(self.now, id, Failure::Unreachable);
                    }
                    Connect::NoSocket => self.table.on_no_socket(self.now, id),
                }
            }
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.table.check_invariants(), Ok(()));
        prop_assert_eq!(self.table.live(), self.known.len());
        prop_assert_eq!(self.table.opened() - self.ended, u64::try_from(self.known.len()).unwrap());
        prop_assert_eq!(self.service.live(), self.known.len() + self.elsewhere.len());
        prop_assert_eq!(self.node.live(), self.service.live());
        prop_assert!(self.service.live() <= SESSIONS && self.node.live() <= NODE);
        for known in self.known.values() {
            prop_assert!(self.now - known.active < Duration::from_millis(IDLE), "an idle session lives on");
            if let Some(backend) = &known.socket {
                prop_assert!(self.eligible(backend), "a socket is open to a backend that is gone or masked");
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_model(ops in vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.step(op)?;
        }
        world.table.begin_drain(world.now);
        world.carry_out()?;
        world.compare()?;
        prop_assert_eq!(world.table.live(), 0);
        prop_assert_eq!(world.node.live(), world.elsewhere.len());
    }
}
