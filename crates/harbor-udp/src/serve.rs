//! The loop that owns one listener's sockets: it reads, asks [`SessionTable`], and does what it says. No policy here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harbor_types::{BackendSnapshot, Generation};
use quinn_udp::{BATCH_SIZE, RecvMeta};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::buffers;
use crate::fault::{self, Fault};
use crate::upstreams::{Upstreams, watched};
use crate::{Output, Payload, Refusal, SessionId, SessionTable, Tally, UdpListener, UdpService};

/// Datagrams read from sessions' sockets per look, shared by the sockets that are ready: each gets its turn, and a lone
/// busy one is read in bulk.
const READS: usize = 32;

/// Receive errors in a row after which the relay rests.
const ERRORS: u32 = 16;

/// How long it rests: an error that stays must not become a busy loop.
const REST: Duration = Duration::from_millis(50);

/// What one listener did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ServeReport {
    /// Sessions that began, and ended.
    pub sessions: u64,
    /// Datagrams sent to backends, with their payload bytes.
    pub up: Tally,
    /// Datagrams sent to clients, with their payload bytes.
    pub down: Tally,
    /// Datagrams dropped, for any reason.
    pub dropped: u64,
    /// Failures to receive that were no datagram's fault; none of them stopped it.
    pub receive_errors: u64,
}

/// A listener that could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The socket could not be watched: out of descriptors or memory.
    #[error("watch the udp socket on {addr}")]
    Watch {
        /// The listener's address.
        addr: SocketAddr,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}

/// Relays between the clients of `listener` and the backends of `snapshots` until `shutdown`.
///
/// Starts with the newest snapshot. Once a snapshot is in force here, its generation is in `applied`: no datagram goes to
/// a backend that it does not list any more, and the sockets to such backends are closed. When the sender of `snapshots`
/// is gone, the last one stays in force. At shutdown the sessions end and the listening socket is closed before this
/// returns. Errors of the sockets are counted and never end it.
///
/// A service with several addresses has one listener and one call for each, all with the same [`UdpService`].
///
/// # Errors
/// [`ServeError::Watch`] before the first datagram is read; the socket is closed then.
///
/// # Cancel safety
/// Not to be resumed: dropping the future closes every socket and gives the sessions back to the budgets, but writes no
/// session records.
pub async fn serve(
    listener: UdpListener,
    service: Arc<UdpService>,
    mut snapshots: watch::Receiver<BackendSnapshot>,
    applied: watch::Sender<Generation>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ServeReport, ServeError> {
    let addr = listener.local_addr();
    let listener = watched(listener).map_err(|source| ServeError::Watch { addr, source })?;
    let first = snapshots.borrow_and_update().clone();
    let budget = Arc::clone(service.budget());
    let table = SessionTable::new(service.id(), service.limits().clone(), budget, first);
    applied.send_replace(table.generation());
    let upstreams = Upstreams::default();
    let mut relay = Relay { listener, service, table, upstreams, report: ServeReport::default(), errors: 0 };

    let mut ready = Vec::new();
    let mut publishing = true;
    let mut shutdown = pin!(shutdown);
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        // Idle sessions only ever move their deadline back, so the timer is set anew when it fired or must fire earlier.
        let deadline = relay.table.next_deadline().map(tokio::time::Instant::from_std);
        if let Some(deadline) = deadline.filter(|deadline| timer.is_elapsed() || *deadline < timer.deadline()) {
            timer.as_mut().reset(deadline);
        }
        ready.clear();
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            changed = snapshots.changed(), if publishing => {
                publishing = changed.is_ok();
                let snapshot = snapshots.borrow_and_update().clone();
                relay.table.on_snapshot(&snapshot);
                relay.carry_out(now(), &[]);
                applied.send_replace(relay.table.generation());
            }
            () = &mut timer, if deadline.is_some() => {
                relay.table.on_deadline(now());
                relay.carry_out(now(), &[]);
            }
            awake = relay.wait(&mut ready) => {
                match awake {
                    Ok(Awake::Listener) => relay.read_listener(now()),
                    Ok(Awake::Sessions) => relay.read_sessions(now(), &ready),
                    Err(_) => relay.receive_failed(),
                }
                if relay.errors >= ERRORS {
                    relay.errors = 0;
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
    relay.table.begin_drain(now());
    relay.carry_out(now(), &[]);
    relay.report.sessions = relay.table.opened();
    Ok(relay.report)
}

/// The monotonic clock, as the runtime tells it: a test may pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What there is to read.
enum Awake {
    Listener,
    Sessions,
}

struct Relay {
    listener: AsyncFd<UdpListener>,
    service: Arc<UdpService>,
    table: SessionTable,
    upstreams: Upstreams,
    report: ServeReport,
    /// Receive errors of the listener in a row.
    errors: u32,
}

impl Relay {
    /// Neither side goes first: a flood of clients must not keep the backends' answers waiting.
    async fn wait(&self, ready: &mut Vec<SessionId>) -> io::Result<Awake> {
        tokio::select! {
            readable = self.listener.readable() => readable.map(|_| Awake::Listener),
            found = self.upstreams.wait(ready) => found.map(|()| Awake::Sessions),
        }
    }

    fn read_sessions(&mut self, now: Instant, ready: &[SessionId]) {
        let turn = (READS / ready.len().max(1)).max(1);
        for session in ready {
            self.read_session(now, *session, turn);
        }
    }

    fn read_listener(&mut self, now: Instant) {
        buffers::with(|buffers| {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let receive = |listener: &UdpListener| listener.receive(buffers, &mut metas);
            let filled = match self.listener.try_io(Interest::READABLE, receive) {
                Ok(filled) => filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.receive_failed(),
            };
            self.errors = 0;
            for (buffer, meta) in buffers.iter().zip(&metas).take(filled) {
                let client = self.listener.get_ref().client(meta);
                let Some(bytes) = buffer.get(..meta.len) else {
                    self.dropped(Refusal::Truncated);
                    continue;
                };
                for datagram in buffers::datagrams(bytes, meta.stride) {
                    self.table.on_client_datagram(now, client, datagram);
                    self.carry_out(now, datagram);
                }
            }
        });
    }

    fn read_session(&mut self, now: Instant, session: SessionId, turn: usize) {
        buffers::with(|[buffer, ..]| {
            for _ in 0..turn {
                match self.upstreams.receive(session, buffer) {
                    Ok(Some(len)) => {
                        let Some(datagram) = buffer.get(..len) else { return self.dropped(Refusal::Truncated) };
                        self.table.on_backend_datagram(now, session, len);
                        self.carry_out(now, datagram);
                    }
                    Ok(None) => self.dropped(Refusal::Stray),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(error) => {
                        self.exchange_failed(now, session, &error);
                        self.carry_out(now, &[]);
                    }
                }
            }
        });
    }

    /// Does what the table says; `hand` is the datagram that the last call was about.
    fn carry_out(&mut self, now: Instant, hand: &[u8]) {
        while let Some(output) = self.table.next_output() {
            match output {
                Output::ToBackend { session, connect, payload } => {
                    self.send_up(now, session, connect, payload, hand);
                }
                Output::ToClient { client } => match self.listener.get_ref().reply(client, hand) {
                    Ok(()) => {
                        self.report.down.add(hand.len());
                        self.service.traffic().add_down(one(hand));
                    }
                    Err(error) => self.dropped(fault::of_reply(&error)),
                },
                Output::Disconnect { session } => {
                    let pending = self.upstreams.close(session);
                    if pending.is_some_and(|error| matches!(fault::of_exchange(&error), Fault::Backend(_))) {
                        self.table.on_late_refusal(now, session);
                    }
                }
                Output::Close { session, record } => {
                    self.upstreams.close(session);
                    self.service.observer().closed(&record);
                }
                Output::Opened { client, .. } => self.service.observer().opened(self.service.id(), client),
                Output::Observed(observed) => self.service.observer().observed(observed),
                Output::Drop(refusal) => self.dropped(refusal),
            }
        }
    }

    fn send_up(
        &mut self,
        now: Instant,
        session: SessionId,
        connect: Option<SocketAddr>,
        payload: Payload,
        hand: &[u8],
    ) {
        if let Some(Err(error)) = connect.map(|backend| self.upstreams.open(session, backend)) {
            return match fault::of_connect(&error) {
                Fault::Backend(failure) => self.table.on_connect_failed(now, session, failure),
                Fault::Local(_) => self.table.on_no_socket(now, session),
            };
        }
        let bytes = match payload {
            Payload::InHand => Some(hand),
            Payload::Held => self.table.held(now, session),
        };
        let Some(bytes) = bytes else {
            debug_assert!(false, "the table resends only what it holds");
            return;
        };
        match self.upstreams.send(session, bytes) {
            Ok(()) => {
                self.report.up.add(bytes.len());
                self.service.traffic().add_up(one(bytes));
            }
            Err(error) => self.exchange_failed(now, session, &error),
        }
    }

    fn exchange_failed(&mut self, now: Instant, session: SessionId, error: &io::Error) {
        match fault::of_exchange(error) {
            Fault::Backend(failure) => self.table.on_backend_error(now, session, failure),
            Fault::Local(refusal) => self.dropped(refusal),
        }
    }

    fn receive_failed(&mut self) {
        self.errors += 1;
        self.report.receive_errors += 1;
    }

    fn dropped(&mut self, refusal: Refusal) {
        self.report.dropped += 1;
        self.service.traffic().add_dropped(refusal);
    }
}

fn one(datagram: &[u8]) -> Tally {
    let mut tally = Tally::default();
    tally.add(datagram.len());
    tally
}
