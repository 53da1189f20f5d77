//! Reaching some backend of the pool: pick, connect, and on failure the next one, within one deadline.
//!
//! Called by `forward`. Which backend and how long is the business of [`Attempts`]; this opens the sockets and reports
//! what came of it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use harbor_types::{Observed, Protocol, Verdict};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::stream::prepare;
use crate::{Attempt, Attempts, Limits, Pool, connect_failure};

/// Connects to the backend whose turn it is, or to the next that can be reached; `None` when none could.
///
/// # Cancel safety
/// Dropping it closes the socket of the try that runs.
pub(crate) async fn connect(pool: &Pool, attempts: &mut Attempts) -> Option<(TcpStream, Attempt)> {
    loop {
        // No await from here to the connect system call inside `dial`: `forward` promises it.
        let attempt = attempts
            .pick(Instant::now().into_std(), &pool.snapshot(), pool.cursor(), |backend| pool.allows(backend))?;
        let outcome = match timeout(attempt.wait.as_duration(), dial(attempt.backend.addr, pool.limits())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ErrorKind::TimedOut.into()),
        };
        let verdict = match &outcome {
            Ok(_) => attempt.backend.on_trial.then_some(Verdict::Succeeded),
            Err(error) => connect_failure(error).map(Verdict::Failed),
        };
        if let Some(verdict) = verdict {
            pool.observed(Observed {
                service: pool.service(),
                instance: attempt.backend.instance.clone(),
                joined: attempt.backend.joined,
                protocol: Protocol::Tcp,
                generation: attempt.generation,
                verdict,
            });
        }
        match outcome {
            Ok(stream) => return Some((stream, attempt)),
            Err(_) => attempts.on_failed(attempt.backend),
        }
    }
}

/// Opens a connection to `addr`, with the options of a relayed one. The first poll makes the connect system call.
async fn dial(addr: SocketAddr, limits: &Limits) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    prepare(SockRef::from(&socket), limits)?;
    let stream = socket.connect(addr).await?;
    // When nobody listens on a port of this host that the kernel also hands out for outgoing connections, the connect
    // can meet itself; that is no backend.
    if stream.local_addr()? == addr {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}
