//! One client connection from its accept to its closing record: pick, connect, relay, close.
//!
//! Called by `serve`, and by nodes that run connections on threads of their own. Accepts nothing; which backend, how
//! long and how bytes move is decided in `pick`, `lifecycle` and `relay`.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;

use harbor_types::{Backend, Span};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::connect::connect;
use crate::stream::{TcpHandle, close_cleanly, prepare, reset_of};
use crate::{Attempts, CloseReason, ConnectionRecord, Ending, Meter, Pool, Side, Way, relay};

/// Relays `client`, whose address is `peer`, to a backend of `pool` until one of them, a limit or `cut` ends it.
/// Returns the record of it, the one that the pool's observer was told.
///
/// What the client sees at the end: an end of stream when both directions finished; also at once when there is no
/// backend to try. A reset in every other case: when a side reset, when no backend could be reached (a clean end would
/// look like an empty answer), when a limit was over, when `cut` resolved and when its backend was [cut](Pool::cut). The
/// backend likewise.
///
/// Each try to connect picks from the pool's newest snapshot, and its connect system call follows without an await in
/// between. So on a current-thread runtime, once a task that was spawned after [`Pool::publish`] has run, no connect
/// uses an older snapshot; those begun before go on.
///
/// # Cancel safety
/// Dropping it resets both sides and records the end with [`CloseReason::Cancelled`].
pub async fn forward(
    client: TcpStream,
    peer: SocketAddr,
    pool: &Pool,
    cut: impl Future<Output = ()> + Send,
) -> ConnectionRecord {
    let mut course = Course::open(pool, &client, peer);
    let ending = run(client, pool, &mut course, cut).await;
    course.close(ending)
}

/// Returns when both sockets are closed.
async fn run(client: TcpStream, pool: &Pool, course: &mut Course<'_>, cut: impl Future<Output = ()> + Send) -> Ending {
    let mut cut = pin!(cut);
    let broken = async |stream: &TcpStream, side| Ending::of_error(side, &reset_of(stream).await);
    if let Err(error) = prepare(SockRef::from(&client), pool.limits()) {
        return Ending::of_error(Side::Downstream, &error);
    }
    let connected = tokio::select! {
        biased;
        () = &mut cut => return Ending::of(CloseReason::Drained),
        ending = broken(&client, Side::Downstream) => return ending,
        connected = connect(pool, &mut course.attempts) => connected,
    };
    let Some((backend, attempt)) = connected else {
        if course.attempts.begun() > 0 {
            return Ending::by(Side::Upstream, CloseReason::ConnectFailed);
        }
        close_cleanly(&client);
        return Ending::of(CloseReason::NoBackend);
    };
    let mut leash = pool.leash(&attempt.backend);
    course.backend = Some(attempt.backend);
    let stop = pin!(async {
        tokio::select! {
            biased;
            () = cut => Ending::of(CloseReason::Drained),
            () = leash.pulled() => Ending::of(CloseReason::Drained),
            ending = broken(&client, Side::Downstream) => ending,
            ending = broken(&backend, Side::Upstream) => ending,
        }
    });
    let ending = relay(TcpHandle(&client), TcpHandle(&backend), stop, pool.limits(), &course.meter).await;
    if ending.reason == CloseReason::Finished {
        close_cleanly(&client);
        close_cleanly(&backend);
    }
    ending
}

/// What is known of a connection while it runs; becomes its record when it is closed or dropped, whichever is first.
struct Course<'p> {
    pool: &'p Pool,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    since: Instant,
    attempts: Attempts,
    backend: Option<Backend>,
    meter: Meter<'p>,
    recorded: bool,
}

impl<'p> Course<'p> {
    fn open(pool: &'p Pool, client: &TcpStream, peer: SocketAddr) -> Self {
        pool.opened(peer);
        let since = Instant::now();
        Self {
            pool,
            peer,
            local: client.local_addr().ok(),
            since,
            attempts: Attempts::new(since.into_std(), pool.limits()),
            backend: None,
            meter: Meter::new(pool.held()),
            recorded: false,
        }
    }

    fn close(mut self, ending: Ending) -> ConnectionRecord {
        self.record(ending)
    }

    fn record(&mut self, ending: Ending) -> ConnectionRecord {
        let record = ConnectionRecord {
            service: self.pool.service(),
            client: self.peer,
            local: self.local,
            backend: self.backend.take(),
            bytes_up: self.meter.bytes(Way::Up),
            bytes_down: self.meter.bytes(Way::Down),
            lasted: Span::from(self.since.elapsed()),
            reason: ending.reason,
            side: ending.side,
            tries: self.attempts.begun(),
        };
        // Before the observer is called: a panic of its own must not record the connection twice.
        self.recorded = true;
        self.pool.closed(&record);
        record
    }
}

impl Drop for Course<'_> {
    fn drop(&mut self) {
        if !self.recorded {
            let _ = self.record(Ending::of(CloseReason::Cancelled));
        }
    }
}
