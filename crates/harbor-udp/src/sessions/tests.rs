//! Rules of the session table, one by one. `Rig` plays the shell: it notes what was asked and opens no socket.

use std::collections::BTreeMap;
use std::time::Duration;

use harbor_types::{Generation, Revision};

use super::*;
use crate::Budget;

/// Some instant to count from.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
pub(super) fn epoch() -> Instant {
    Instant::now()
}

/// The `n`th backend, in its `joined`th registration.
pub(super) fn backend(n: u8, joined: u64) -> Backend {
    Backend {
        instance: format!("app-{n}").parse().unwrap(),
        addr: SocketAddr::from(([10, 0, 0, n], 4100)),
        joined: Revision(joined),
        on_trial: false,
    }
}

pub(super) fn snapshot(generation: u64, udp: &[Backend]) -> BackendSnapshot {
    BackendSnapshot { udp: udp.into(), ..BackendSnapshot::empty(Generation(generation)) }
}

fn client(n: u16) -> ClientAddr {
    ClientAddr { addr: SocketAddr::from(([192, 0, 2, 1], 1000 + n)), local: None }
}

fn from(source: u8) -> ClientAddr {
    ClientAddr { addr: SocketAddr::from(([192, 0, 2, source], 1000)), local: None }
}

struct Rig {
    now: Instant,
    table: SessionTable,
    node: Arc<Budget>,
    ids: BTreeMap<SocketAddr, SessionId>,
}

/// What a test compares: outputs without ids and records.
#[derive(Debug, Eq, PartialEq)]
enum Did {
    Opened(u16),
    Connected(u16, u8, Payload),
    Sent(u16),
    Answered(u16),
    Disconnected(u16),
    Closed(u16, CloseReason),
    Failed(String, Failure),
    Succeeded(String),
    Dropped(Refusal),
}
use Did::*;

impl Rig {
    fn new(limits: Limits, backends: &[Backend]) -> Self {
        let node = Arc::new(Budget::new(1000));
        let budget = Arc::new(ServiceBudget::new(&limits, Arc::clone(&node)));
        let table = SessionTable::new(ServiceId::from_u128(1), limits, budget, snapshot(1, backends));
        Self { now: epoch(), table, node, ids: BTreeMap::new() }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn did(&mut self) -> Vec<Did> {
        let port = |rig: &Self, id: SessionId| {
            rig.ids.iter().find(|(_, known)| **known == id).map(|(addr, _)| addr.port() - 1000).unwrap()
        };
        let mut did = Vec::new();
        while let Some(output) = self.table.next_output() {
            did.push(match output {
                Output::Opened { session, client } => {
                    self.ids.insert(client, session);
                    Opened(client.port() - 1000)
                }
                Output::ToBackend { session, connect: Some(SocketAddr::V4(backend)), payload } => {
                    Connected(port(self, session), backend.ip().octets()[3], payload)
                }
                Output::ToBackend { session, .. } => Sent(port(self, session)),
                Output::ToClient { client } => Answered(client.addr.port() - 1000),
                Output::Disconnect { session } => Disconnected(port(self, session)),
                Output::Close { session, record } => {
                    assert_eq!(self.ids.get(&record.client), Some(&session));
                    Closed(record.client.port() - 1000, record.reason)
                }
                Output::Observed(observed) => {
                    assert_eq!(observed.generation, self.table.generation());
                    match observed.verdict {
                        Verdict::Failed(failure) => Failed(observed.instance.to_string(), failure),
                        Verdict::Succeeded => Succeeded(observed.instance.to_string()),
                    }
                }
                Output::Drop(refusal) => Dropped(refusal),
            });
        }
        self.table.check_invariants().unwrap();
        assert_eq!(self.node.live(), self.table.live());
        did
    }

    fn send(&mut self, n: u16) -> Vec<Did> {
        self.send_from(client(n), b"hello")
    }

    fn send_from(&mut self, client: ClientAddr, payload: &[u8]) -> Vec<Did> {
        self.table.on_client_datagram(self.now, client, payload);
        self.did()
    }

    fn id(&self, n: u16) -> SessionId {
        self.ids[&client(n).addr]
    }

    fn answer(&mut self, n: u16) -> Vec<Did> {
        self.table.on_backend_datagram(self.now, self.id(n), 4);
        self.did()
    }

    fn refuse(&mut self, n: u16) -> Vec<Did> {
        self.table.on_backend_error(self.now, self.id(n), Failure::Refused);
        self.did()
    }

    fn publish(&mut self, generation: u64, backends: &[Backend]) -> Vec<Did> {
        self.table.on_snapshot(&snapshot(generation, backends));
        self.did()
    }

    fn deadline(&mut self) -> Vec<Did> {
        self.table.on_deadline(self.now);
        self.did()
    }
}

fn two() -> [Backend; 2] {
    [backend(1, 1), backend(2, 2)]
}

#[test]
fn a_client_keeps_its_session_and_the_first_backend_gets_all() {
    let mut rig = Rig::new(Limits::default(), &two());
    assert_eq!(rig.send(1), [Opened(1), Connected(1, 1, Payload::InHand)]);
    assert_eq!(rig.send(2), [Opened(2), Connected(2, 1, Payload::InHand)]);
    assert_eq!(rig.send(1), [Sent(1)]);
    assert_eq!(rig.answer(2), [Answered(2)]);
    assert_eq!(rig.send_from(client(2), b""), [Sent(2)], "an empty datagram is one too");
}

#[test]
fn a_session_stays_when_its_backend_is_no_longer_first() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    assert_eq!(rig.publish(2, &[backend(2, 2), backend(1, 1)]), []);
    assert_eq!(rig.send(1), [Sent(1)]);
    assert_eq!(rig.send(2), [Opened(2), Connected(2, 2, Payload::InHand)]);
}

#[test]
fn sessions_of_a_backend_that_left_close_at_once_and_connect_with_the_next_datagram() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    rig.send(2);
    assert_eq!(rig.publish(2, &[backend(2, 2)]), [Disconnected(1), Disconnected(2)]);
    assert_eq!(rig.send(2), [Connected(2, 2, Payload::InHand)]);
    assert_eq!(rig.publish(3, &[backend(2, 2), backend(1, 3)]), [], "one that returns queues last");
    assert_eq!(rig.send(1), [Connected(1, 2, Payload::InHand)]);
}

#[test]
fn the_same_instance_registered_anew_is_another_backend() {
    let mut rig = Rig::new(Limits::default(), &[backend(1, 1)]);
    rig.send(1);
    assert_eq!(rig.publish(2, &[backend(1, 5)]), [Disconnected(1)]);
    assert_eq!(rig.send(1), [Connected(1, 1, Payload::InHand)]);
}

#[test]
fn a_snapshot_that_is_not_newer_has_no_effect() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    assert_eq!(rig.publish(1, &[]), []);
    assert_eq!(rig.publish(0, &[backend(2, 2)]), []);
    assert_eq!(rig.send(1), [Sent(1)]);
}

#[test]
fn a_refusal_moves_all_sessions_and_resends_the_datagram_in_hand() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    rig.send(2);
    assert_eq!(
        rig.refuse(1),
        [Failed("app-1".into(), Failure::Refused), Disconnected(1), Disconnected(2), Connected(1, 2, Payload::Held)]
    );
    assert_eq!(rig.table.held(rig.now, rig.id(1)), Some(&b"hello"[..]));
    assert_eq!(rig.send(2), [Connected(2, 2, Payload::InHand)]);
    assert_eq!(rig.send(3), [Opened(3), Connected(3, 2, Payload::InHand)], "masked: new ones avoid it too");
    rig.publish(2, &two());
    assert_eq!(rig.send(4), [Opened(4), Connected(4, 1, Payload::InHand)], "a newer snapshot lifts the mask");
    assert_eq!(rig.send(2), [Sent(2)], "and moves nobody");
}

#[test]
fn a_sibling_whose_datagram_was_refused_too_is_resent_when_its_socket_closes() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    rig.send(2);
    rig.refuse(1);
    rig.table.on_late_refusal(rig.now, rig.id(2));
    assert_eq!(rig.did(), [Connected(2, 2, Payload::Held)]);
    rig.table.on_late_refusal(rig.now, rig.id(2));
    assert_eq!(rig.did(), [], "it has moved on");
}

#[test]
fn what_was_answered_or_is_old_is_not_resent() {
    for (case, answered) in [("answered", true), ("old", false)] {
        let mut rig = Rig::new(Limits::default(), &two());
        rig.send(1);
        if answered {
            rig.answer(1);
        } else {
            rig.pass(1_001);
        }
        let did = rig.refuse(1);
        assert_eq!(did.last(), Some(&Dropped(Refusal::BackendRefused)), "{case}");
        assert_eq!(rig.send(1), [Connected(1, 2, Payload::InHand)], "{case}");
    }
}

#[test]
fn the_only_backend_is_never_masked_and_is_reported_once_a_generation() {
    let mut rig = Rig::new(Limits::default(), &[backend(1, 1)]);
    rig.send(1);
    assert_eq!(rig.refuse(1), [Failed("app-1".into(), Failure::Refused), Dropped(Refusal::BackendRefused)]);
    assert_eq!(rig.refuse(1), [Dropped(Refusal::BackendRefused)]);
    assert_eq!(rig.send(1), [Sent(1)]);
    rig.publish(2, &[backend(1, 1)]);
    assert_eq!(rig.refuse(1), [Failed("app-1".into(), Failure::Refused), Dropped(Refusal::BackendRefused)]);
}

#[test]
fn when_all_refuse_the_last_one_is_kept() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    rig.refuse(1);
    assert_eq!(rig.refuse(1), [Failed("app-2".into(), Failure::Refused), Dropped(Refusal::BackendRefused)]);
    assert_eq!(rig.send(1), [Sent(1)]);
}

#[test]
fn a_connect_that_fails_goes_on_to_the_next_backend_or_drops() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    rig.table.on_connect_failed(rig.now, rig.id(1), Failure::Unreachable);
    assert_eq!(rig.did(), [Failed("app-1".into(), Failure::Unreachable), Connected(1, 2, Payload::Held)]);
    rig.table.on_connect_failed(rig.now, rig.id(1), Failure::Unreachable);
    assert_eq!(
        rig.did(),
        [Failed("app-2".into(), Failure::Unreachable), Dropped(Refusal::BackendRefused)],
        "the last one: no loop"
    );
    assert_eq!(rig.send(1), [Connected(1, 2, Payload::InHand)]);
}

#[test]
fn a_session_without_a_socket_ends() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    rig.table.on_no_socket(rig.now, rig.id(1));
    assert_eq!(rig.did(), [Dropped(Refusal::NoSocket), Closed(1, CloseReason::NoSocket)]);
    assert_eq!(rig.table.live(), 0);
}

#[test]
fn without_a_backend_nothing_is_allocated() {
    let mut rig = Rig::new(Limits::default(), &[]);
    assert_eq!(rig.send(1), [Dropped(Refusal::NoBackend)]);
    assert_eq!((rig.table.live(), rig.table.next_deadline()), (0, None));
    rig.publish(2, &two());
    rig.send(1);
    assert_eq!(rig.publish(3, &[]), [Disconnected(1)]);
    assert_eq!(rig.send(1), [Dropped(Refusal::NoBackend)]);
    rig.publish(4, &[backend(2, 2)]);
    assert_eq!(rig.send(1), [Connected(1, 2, Payload::InHand)]);
}

#[test]
fn a_full_table_evicts_only_what_is_old_and_unanswered() {
    let limits = Limits { sessions: 2, ..Limits::default() };
    let mut rig = Rig::new(limits, &two());
    rig.send(1);
    rig.answer(1);
    rig.send(2);
    assert_eq!(rig.send(3), [Dropped(Refusal::ServiceFull)], "2 is within its grace");
    rig.pass(200);
    let evicted = [Closed(2, CloseReason::Evicted), Opened(3), Connected(3, 1, Payload::InHand)];
    assert_eq!(rig.send(3), evicted);
    rig.answer(3);
    rig.pass(30_000);
    assert_eq!(rig.send(4), [Dropped(Refusal::ServiceFull)], "answered ones stay");
}

#[test]
fn a_source_has_a_cap_of_its_own_and_evicts_nobody() {
    let mut rig = Rig::new(Limits { per_source: 2, ..Limits::default() }, &two());
    rig.send(1);
    rig.send(2);
    rig.pass(30_000);
    assert_eq!(rig.send(3), [Dropped(Refusal::SourceFull)]);
    assert_eq!(rig.send_from(from(9), b"x").len(), 2);
}

#[test]
fn a_session_lives_until_no_datagram_came_either_way_for_the_idle_limit() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    let first = rig.table.next_deadline().unwrap();
    rig.pass(59_000);
    rig.answer(1);
    rig.pass(1_000);
    assert_eq!(first, rig.now);
    assert_eq!(rig.deadline(), []);
    rig.pass(57_000);
    rig.send(1);
    rig.pass(59_999);
    assert_eq!(rig.deadline(), []);
    rig.pass(1);
    assert_eq!(rig.table.next_deadline(), Some(rig.now));
    assert_eq!(rig.deadline(), [Closed(1, CloseReason::Idle)]);
    assert_eq!(rig.table.next_deadline(), None);
}

#[test]
fn one_client_that_uses_two_of_our_addresses_has_two_sessions() {
    let mut rig = Rig::new(Limits::default(), &two());
    let at = |local: [u8; 4]| ClientAddr { local: Some(local.into()), ..client(1) };
    rig.send_from(at([127, 0, 0, 1]), b"x");
    rig.send_from(at([127, 0, 0, 2]), b"x");
    assert_eq!(rig.table.live(), 2);
    for local in [[255, 255, 255, 255], [224, 0, 0, 1]] {
        assert_eq!(rig.send_from(at(local), b"x"), [Dropped(Refusal::NotUnicast)], "{local:?}");
    }
}

#[test]
fn a_backend_on_trial_that_answers_is_reported_once() {
    let trial = Backend { on_trial: true, ..backend(1, 1) };
    let mut rig = Rig::new(Limits::default(), &[backend(1, 1)]);
    rig.send(1);
    assert_eq!(rig.answer(1), [Answered(1)]);
    rig.publish(2, std::slice::from_ref(&trial));
    assert_eq!(rig.answer(1), [Answered(1), Succeeded("app-1".into())]);
    assert_eq!(rig.answer(1), [Answered(1)]);
    assert_eq!(rig.refuse(1)[0], Failed("app-1".into(), Failure::Refused), "a failure after it is news");
}

#[test]
fn draining_ends_every_session_and_admits_none() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    rig.send(2);
    rig.table.begin_drain(rig.now);
    assert_eq!(rig.did(), [Closed(1, CloseReason::Drained), Closed(2, CloseReason::Drained)]);
    assert_eq!(rig.send(1), [Dropped(Refusal::Draining)]);
}

#[test]
fn the_record_tells_what_went_each_way() {
    let mut rig = Rig::new(Limits::default(), &two());
    rig.send(1);
    rig.send(1);
    rig.answer(1);
    rig.refuse(1);
    rig.send(1);
    rig.pass(60_000);
    rig.table.on_deadline(rig.now);
    let Some(Output::Close { record, .. }) = rig.table.next_output() else { panic!("no record") };
    assert_eq!((record.up, record.down), (Tally { datagrams: 3, bytes: 15 }, Tally { datagrams: 1, bytes: 4 }));
    assert_eq!((record.moves, &record.backend), (1, &backend(2, 2)));
    assert_eq!(record.to_string(), format!("{} 192.0.2.1:1001 10.0.0.2:4100 15 4 1m idle", ServiceId::from_u128(1)));
}

#[test]
fn an_idle_limit_beyond_the_clock_is_never() {
    let idle = harbor_types::Span::from(Duration::MAX);
    let mut rig = Rig::new(Limits { idle, ..Limits::default() }, &two());
    rig.send(1);
    rig.pass(1_000_000_000);
    assert_eq!(rig.deadline(), []);
}
