//! Accept and forward on one runtime, for programs that embed the relay as it is.
//!
//! A node with threads of its own uses `accept` and `forward` instead. Decides only when to stop waiting.

use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::Arc;

use harbor_types::Span;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::accept::Acceptor;
use crate::{AcceptError, AcceptReport, CloseReason, ConnectionRecord, Listener, Pool, forward};

/// What [`serve`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ServeReport {
    /// What its accept loop did.
    pub accept: AcceptReport,
    /// Connections that ended for a reason of their own.
    pub ended: u64,
    /// Connections that were cut at the drain limit.
    pub cut: u64,
    /// Connections that were accepted and could not be relayed: the runtime would not take their socket, or the
    /// observer panicked.
    pub lost: u64,
}

/// Relays what comes to `listener` to the backends of `pool`, on the current runtime, until `shutdown` resolves. Then
/// accepting stops (see [`accept`](crate::accept)), and the connections that run have `drain` to end before they are
/// cut. Returns when the last has ended.
///
/// # Errors
/// [`AcceptError`] when the socket turns out to be no listener; the connections that run are drained first.
///
/// # Cancel safety
/// Dropping it closes the listening socket and resets every connection; each still leaves its record.
pub async fn serve(
    listener: Listener,
    pool: Arc<Pool>,
    drain: Span,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ServeReport, AcceptError> {
    let mut shutdown = pin!(shutdown);
    let mut acceptor = Acceptor::new(listener)?;
    let mut children = Children::new(pool);
    let stopped = loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            Some(end) = children.running.join_next() => children.add(end),
            accepted = acceptor.next() => match accepted {
                Ok((stream, peer)) => children.start(stream, peer),
                Err(error) => break Err(error),
            }
        }
    };
    let accepted = match stopped {
        Ok(()) => acceptor.finish(|stream, peer| children.start(stream, peer)).await,
        Err(error) => {
            drop(acceptor);
            Err(error)
        }
    };
    // Whether in time or not is in the report.
    let _ = timeout(drain.as_duration(), children.join()).await;
    children.cut.send_replace(true);
    children.join().await;
    Ok(ServeReport { accept: accepted?, ..children.report })
}

/// The connections that run.
struct Children {
    pool: Arc<Pool>,
    running: JoinSet<ConnectionRecord>,
    cut: watch::Sender<bool>,
    report: ServeReport,
}

impl Children {
    fn new(pool: Arc<Pool>) -> Self {
        Self { pool, running: JoinSet::new(), cut: watch::Sender::new(false), report: ServeReport::default() }
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr) {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
            self.report.lost += 1;
            return;
        };
        let (pool, mut cut) = (Arc::clone(&self.pool), self.cut.subscribe());
        self.running.spawn(async move {
            let cut = async move {
                // An error means that the sender is gone, and with it whoever waits for this connection.
                let _ = cut.wait_for(|cut| *cut).await;
            };
            forward(stream, peer, &pool, cut).await
        });
    }

    fn add(&mut self, end: Result<ConnectionRecord, JoinError>) {
        match end {
            Ok(record) if record.reason == CloseReason::Drained => self.report.cut += 1,
            Ok(_) => self.report.ended += 1,
            Err(_) => self.report.lost += 1,
        }
    }

    async fn join(&mut self) {
        while let Some(end) = self.running.join_next().await {
            self.add(end);
        }
    }
}
