//! Session table: which backend a client's datagrams go to, and when that ends.
//! Driven by the shell in `serve`; opens no socket, reads no clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use harbor_types::{Backend, BackendSnapshot, Failure, Generation, Observed, Protocol, ServiceId, Verdict};

use crate::holds::Holds;
use crate::session::Session;
use crate::{ClientAddr, CloseReason, Limits, Refusal, ServiceBudget, SessionId, SessionRecord, Tally};

mod check;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// Which bytes to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Payload {
    /// The datagram that the call was about.
    InHand,
    /// The one that [`SessionTable::held`] gives for the session.
    Held,
}

/// What the shell must do. In this order; a failure is reported back at once, before the next output is taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// A session began.
    Opened {
        /// The session.
        session: SessionId,
        /// Its client.
        client: SocketAddr,
    },
    /// Send a datagram on the session's socket. Failures: [`SessionTable::on_connect_failed`],
    /// [`SessionTable::on_no_socket`], [`SessionTable::on_backend_error`].
    ToBackend {
        /// The session.
        session: SessionId,
        /// Open a socket connected to this address first; the session has none.
        connect: Option<SocketAddr>,
        /// What to send.
        payload: Payload,
    },
    /// Send the datagram in hand to a client, from the address it used.
    ToClient {
        /// The client.
        client: ClientAddr,
    },
    /// Close the session's socket; the session stays. An error pending on that socket is reported with
    /// [`SessionTable::on_late_refusal`].
    Disconnect {
        /// The session.
        session: SessionId,
    },
    /// The session ended: close its socket if it has one, and hand on the record.
    Close {
        /// The session.
        session: SessionId,
        /// What it leaves behind.
        record: Box<SessionRecord>,
    },
    /// Something was learnt about a backend.
    Observed(Observed),
    /// A datagram was dropped.
    Drop(Refusal),
}

/// An output that waits to be taken.
#[derive(Debug)]
enum Queued {
    /// Settled.
    Output(Output),
    /// To the backend that the session has, or that is primary, *when it is taken*: an output taken before it may report
    /// a failure that rules a backend out.
    Send(SessionId, Payload),
}

/// The sessions of one listener.
///
/// After any `on_*` and `begin_drain`: take [`next_output`](Self::next_output) until it is empty, then look at
/// [`next_deadline`](Self::next_deadline) again.
///
/// * A new session, and one whose backend is gone, belongs to the *primary*: the first backend of the snapshot that is
///   not masked. A session stays with its backend while that is in the snapshot and not masked.
/// * A backend that leaves the snapshot loses its sessions' sockets at once; each connects to the primary with its
///   client's next datagram.
/// * A backend that refuses is masked until a newer snapshot, unless it is the last one unmasked; its sessions leave it
///   in the same way, and the refused datagram is resent to the new primary if it is still [held](Self::held).
/// * The client's latest datagram is held while nothing came back since, for a second at most and within a fixed room
///   for the whole table. The kernel reports a refusal on a *later* call than the refused send, so what is resent is the
///   latest datagram; earlier ones in flight are lost.
///
/// ```
/// # use std::{net::SocketAddr, sync::Arc, time::Instant};
/// # use harbor_types::*;
/// # use harbor_udp::*;
/// let (limits, node) = (Limits::default(), Arc::new(Budget::new(1_000)));
/// let budget = Arc::new(ServiceBudget::new(&limits, node));
/// let nobody = BackendSnapshot::empty(Generation(1));
/// let mut table = SessionTable::new(ServiceId::from_u128(1), limits, budget, nobody);
/// let client = ClientAddr { addr: SocketAddr::from(([192, 0, 2, 1], 5353)), local: None };
/// table.on_client_datagram(Instant::now(), client, b"anybody?");
/// assert_eq!(table.next_output(), Some(Output::Drop(Refusal::NoBackend)));
/// assert_eq!(table.next_output(), None);
/// ```
#[derive(Debug)]
pub struct SessionTable {
    service: ServiceId,
    limits: Limits,
    budget: Arc<ServiceBudget>,
    snapshot: BackendSnapshot,
    /// Refused under this snapshot. Never all of its backends.
    masked: Vec<Backend>,
    /// Reported under this snapshot.
    reported: Vec<(Backend, Verdict)>,
    by_client: HashMap<ClientAddr, SessionId>,
    sessions: Vec<Option<Session>>,
    /// Places in `sessions` that are empty.
    free: Vec<u32>,
    /// Sessions that ever began.
    opened: u64,
    /// Sessions that ended.
    closed: u64,
    /// Oldest first.
    unanswered: BTreeSet<SessionId>,
    /// One entry a session.
    deadlines: BTreeSet<(Instant, SessionId)>,
    holds: Holds,
    outputs: VecDeque<Queued>,
    draining: bool,
}

impl SessionTable {
    /// An empty table for `service` that starts with `snapshot` and takes its sessions from `budget`.
    #[must_use]
    pub fn new(service: ServiceId, limits: Limits, budget: Arc<ServiceBudget>, snapshot: BackendSnapshot) -> Self {
        Self {
            service,
            limits,
            budget,
            snapshot,
            masked: Vec::new(),
            reported: Vec::new(),
            by_client: HashMap::new(),
            sessions: Vec::new(),
            free: Vec::new(),
            opened: 0,
            closed: 0,
            unanswered: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            holds: Holds::default(),
            outputs: VecDeque::new(),
            draining: false,
        }
    }

    /// A client sent a datagram.
    pub fn on_client_datagram(&mut self, now: Instant, client: ClientAddr, payload: &[u8]) {
        if let Err(refusal) = self.relay_up(now, client, payload) {
            self.push(Output::Drop(refusal));
        }
        self.sweep();
    }

    /// The backend of `session` sent a datagram of `len` bytes.
    pub fn on_backend_datagram(&mut self, now: Instant, session: SessionId, len: usize) {
        let Some(found) = session_mut(&mut self.sessions, session) else { return };
        found.active = now;
        found.down.add(len);
        if !found.answered {
            found.answered = true;
            self.unanswered.remove(&session);
        }
        if let Some(hold) = found.hold.take() {
            self.holds.release(now, hold);
        }
        self.outputs.push_back(Queued::Output(Output::ToClient { client: found.client }));
        let backend = &found.backend;
        // What counts is the trial in the newest snapshot, not the one the session connected under.
        if self.snapshot.udp.iter().any(|entry| entry.on_trial && entry.same_registration(backend)) {
            let backend = backend.clone();
            self.report(&backend, Verdict::Succeeded);
        }
        self.sweep();
    }

    /// The socket of `session` reported that its backend failed, on a send or a receive.
    pub fn on_backend_error(&mut self, now: Instant, session: SessionId, failure: Failure) {
        if let Some(found) = self.session(session).filter(|found| found.connected) {
            let backend = found.backend.clone();
            self.report(&backend, Verdict::Failed(failure));
            self.mask(&backend);
            self.resend(now, session);
        }
        self.sweep();
    }

    /// The socket of `session` could not be connected because of the backend's address or the way to it.
    pub fn on_connect_failed(&mut self, now: Instant, session: SessionId, failure: Failure) {
        if let Some(found) = session_mut(&mut self.sessions, session) {
            found.connected = false;
            let backend = found.backend.clone();
            self.report(&backend, Verdict::Failed(failure));
            if self.mask(&backend) {
                self.resend(now, session);
            } else {
                self.push(Output::Drop(Refusal::BackendRefused));
            }
        }
        self.sweep();
    }

    /// A socket closed by [`Output::Disconnect`] had a refusal pending: the session's latest datagram was refused too.
    pub fn on_late_refusal(&mut self, now: Instant, session: SessionId) {
        if self.session(session).is_some_and(|found| !found.connected) {
            self.resend(now, session);
        }
        self.sweep();
    }

    /// No socket could be had for `session`, for want of descriptors, ports or memory: it ends.
    pub fn on_no_socket(&mut self, now: Instant, session: SessionId) {
        if self.session(session).is_some() {
            self.push(Output::Drop(Refusal::NoSocket));
            self.close(now, session, CloseReason::NoSocket);
        }
        self.sweep();
    }

    /// A snapshot was published. One that is not newer than the last has no effect.
    pub fn on_snapshot(&mut self, snapshot: &BackendSnapshot) {
        if snapshot.generation > self.snapshot.generation {
            self.snapshot = snapshot.clone();
            self.masked.clear();
            self.reported.clear();
            let stays = |backend: &Backend| snapshot.udp.iter().any(|entry| entry.same_registration(backend));
            for session in self.sessions.iter_mut().flatten().filter(|session| session.connected) {
                if !stays(&session.backend) {
                    session.connected = false;
                    self.outputs.push_back(Queued::Output(Output::Disconnect { session: session.id }));
                }
            }
        }
        self.sweep();
    }

    /// The deadline passed.
    pub fn on_deadline(&mut self, now: Instant) {
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            let Some(session) = session_mut(&mut self.sessions, id) else {
                debug_assert!(false, "a deadline without a session");
                self.deadlines.pop_first();
                continue;
            };
            // Datagrams do not move the deadline, they only note the time; it moves here, once per idle limit.
            let due = self.limits.idle_at(session.active);
            if due <= now {
                self.close(now, id, CloseReason::Idle);
            } else {
                self.deadlines.pop_first();
                session.deadline = due;
                self.deadlines.insert((due, id));
            }
        }
        self.sweep();
    }

    /// Ends every session and admits none from now on.
    pub fn begin_drain(&mut self, now: Instant) {
        self.draining = true;
        let live: Vec<_> = self.sessions.iter().flatten().map(|session| session.id).collect();
        for session in live {
            self.close(now, session, CloseReason::Drained);
        }
        self.sweep();
    }

    /// When to call [`on_deadline`](Self::on_deadline); `None` without sessions. The shell arms exactly one timer.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// What to do next.
    pub fn next_output(&mut self) -> Option<Output> {
        Some(match self.outputs.pop_front()? {
            Queued::Output(output) => output,
            Queued::Send(session, payload) => self.address(session, payload),
        })
    }

    /// The session's latest datagram, while it may still be resent.
    #[must_use]
    pub fn held(&self, now: Instant, session: SessionId) -> Option<&[u8]> {
        self.holds.payload(now, self.session(session)?.hold?)
    }

    /// Sessions now.
    #[must_use]
    pub fn live(&self) -> usize {
        self.by_client.len()
    }

    /// Sessions that ever began.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// The newest snapshot seen.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.snapshot.generation
    }

    fn relay_up(&mut self, now: Instant, client: ClientAddr, payload: &[u8]) -> Result<(), Refusal> {
        let id = match self.by_client.get(&client) {
            Some(id) => *id,
            None => self.open(now, client)?,
        };
        let available = !self.snapshot.udp.is_empty();
        let Some(session) = session_mut(&mut self.sessions, id) else {
            debug_assert!(false, "a client without its session");
            return Err(Refusal::NoBackend);
        };
        session.active = now;
        if !available {
            return Err(Refusal::NoBackend);
        }
        session.up.add(payload.len());
        if let Some(hold) = session.hold.take() {
            self.holds.release(now, hold);
        }
        session.hold = self.holds.put(now, payload);
        session.queued = true;
        self.outputs.push_back(Queued::Send(id, Payload::InHand));
        Ok(())
    }

    /// Begins a session; everything that could refuse it is asked before anything is allocated.
    fn open(&mut self, now: Instant, client: ClientAddr) -> Result<SessionId, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        if !client.is_answerable() {
            return Err(Refusal::NotUnicast);
        }
        let backend = self.primary().cloned().ok_or(Refusal::NoBackend)?;
        let slot = match self.budget.admit(client.addr.ip()) {
            Err(full @ (Refusal::ServiceFull | Refusal::NodeFull)) => {
                if !self.evict(now) {
                    return Err(full);
                }
                self.budget.admit(client.addr.ip())?
            }
            admitted => admitted?,
        };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.sessions.len()).map_err(|_| Refusal::ServiceFull)?;
                self.sessions.push(None);
                index
            }
        };
        let id = SessionId { serial: self.opened, index };
        let deadline = self.limits.idle_at(now);
        let session = Session {
            id,
            client,
            backend,
            connected: false,
            queued: false,
            answered: false,
            opened: now,
            active: now,
            deadline,
            hold: None,
            moves: 0,
            up: Tally::default(),
            down: Tally::default(),
            _slot: slot,
        };
        if let Some(place) = place(&mut self.sessions, index) {
            *place = Some(session);
        }
        self.opened += 1;
        self.by_client.insert(client, id);
        self.unanswered.insert(id);
        self.deadlines.insert((deadline, id));
        self.push(Output::Opened { session: id, client: client.addr });
        Ok(id)
    }

    /// Ends the oldest unanswered session if it is old enough to give way.
    fn evict(&mut self, now: Instant) -> bool {
        let oldest = self.unanswered.first().and_then(|id| self.session(*id));
        let grace = self.limits.unanswered_grace.as_duration();
        let Some(oldest) = oldest.filter(|oldest| now.saturating_duration_since(oldest.opened) >= grace) else {
            return false;
        };
        self.close(now, oldest.id, CloseReason::Evicted);
        true
    }

    fn close(&mut self, now: Instant, id: SessionId, reason: CloseReason) {
        if self.session(id).is_none() {
            return;
        }
        let Some(session) = place(&mut self.sessions, id.index).and_then(Option::take) else { return };
        self.by_client.remove(&session.client);
        self.unanswered.remove(&id);
        self.deadlines.remove(&(session.deadline, id));
        self.free.push(id.index);
        self.closed += 1;
        if let Some(hold) = session.hold {
            self.holds.release(now, hold);
        }
        let record = Box::new(session.record(now, self.service, reason));
        self.push(Output::Close { session: id, record });
    }

    /// Takes `backend` out of use until a newer snapshot, unless no other is left. Tells whether it is out of use.
    fn mask(&mut self, backend: &Backend) -> bool {
        if listed(&self.masked, backend) {
            return true;
        }
        let another = |entry: &Backend| !entry.same_registration(backend) && !listed(&self.masked, entry);
        if !self.snapshot.udp.iter().any(another) {
            return false;
        }
        self.masked.push(backend.clone());
        for session in self.sessions.iter_mut().flatten() {
            if session.connected && session.backend.same_registration(backend) {
                session.connected = false;
                self.outputs.push_back(Queued::Output(Output::Disconnect { session: session.id }));
            }
        }
        true
    }

    /// Sends the session's refused datagram to the primary, or drops it: too old, answered, or no other backend.
    fn resend(&mut self, now: Instant, id: SessionId) {
        let held = self.held(now, id).is_some() && !self.snapshot.udp.is_empty();
        let Some(session) = session_mut(&mut self.sessions, id) else { return };
        if held && !session.connected {
            if !session.queued {
                session.queued = true;
                self.outputs.push_back(Queued::Send(id, Payload::Held));
            }
        } else {
            self.push(Output::Drop(Refusal::BackendRefused));
        }
    }

    /// The output that sends the session's datagram to its backend; a session without one gets the primary.
    fn address(&mut self, id: SessionId, payload: Payload) -> Output {
        let primary = self.snapshot.udp.iter().find(|entry| !listed(&self.masked, entry));
        let Some(session) = session_mut(&mut self.sessions, id) else { return Output::Drop(Refusal::NoSocket) };
        session.queued = false;
        if session.connected {
            return Output::ToBackend { session: id, connect: None, payload };
        }
        let Some(primary) = primary else { return Output::Drop(Refusal::NoBackend) };
        if !session.backend.same_registration(primary) {
            session.moves += 1;
            session.backend = primary.clone();
        }
        session.connected = true;
        Output::ToBackend { session: id, connect: Some(primary.addr), payload }
    }

    fn push(&mut self, output: Output) {
        self.outputs.push_back(Queued::Output(output));
    }

    fn report(&mut self, backend: &Backend, verdict: Verdict) {
        let same = |(known, past): &(Backend, Verdict)| {
            known.same_registration(backend)
                && matches!(past, Verdict::Succeeded) == matches!(verdict, Verdict::Succeeded)
        };
        if self.reported.iter().any(same) {
            return;
        }
        self.reported.push((backend.clone(), verdict));
        self.push(Output::Observed(Observed {
            service: self.service,
            instance: backend.instance.clone(),
            joined: backend.joined,
            protocol: Protocol::Udp,
            generation: self.snapshot.generation,
            verdict,
        }));
    }

    fn primary(&self) -> Option<&Backend> {
        self.snapshot.udp.iter().find(|entry| !listed(&self.masked, entry))
    }

    fn session(&self, id: SessionId) -> Option<&Session> {
        let place = self.sessions.get(usize::try_from(id.index).ok()?)?;
        place.as_ref().filter(|session| session.id == id)
    }
}

fn listed(list: &[Backend], backend: &Backend) -> bool {
    list.iter().any(|entry| entry.same_registration(backend))
}

fn place(sessions: &mut [Option<Session>], index: u32) -> Option<&mut Option<Session>> {
    sessions.get_mut(usize::try_from(index).ok()?)
}

fn session_mut(sessions: &mut [Option<Session>], id: SessionId) -> Option<&mut Session> {
    place(sessions, id.index)?.as_mut().filter(|session| session.id == id)
}
