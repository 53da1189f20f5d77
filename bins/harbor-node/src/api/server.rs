//! Connections of the API: accepted up to a cap, each with time limits, ended in order when the node stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Api, router};

/// Connections at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take to send a request's head; also how long an idle connection is kept.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
/// Largest request head.
const MAX_HEAD: usize = 16 * 1024;
/// How long running requests may take once the node stops.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// The same once nobody wants to wait any more: enough for answers that are being written.
const HURRIED_REQUESTS: Duration = Duration::from_millis(200);
/// Pause after an accept that failed because the machine is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `shutdown`, then finishes those that run.
///
/// # Cancel safety
/// Dropping it closes every connection.
pub(crate) async fn serve(listener: TcpListener, api: Arc<Api>, shutdown: CancellationToken) {
    let hurry = api.handle.hurry.clone();
    let service = TowerToHyperService::new(router(api));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = async {
                // The semaphore is never closed, so there always comes a permit.
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (permit, Ok((stream, _))) => {
                let (service, shutdown) = (service.clone(), shutdown.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, service, shutdown).await {
                        tracing::debug!(%error, "an API connection ended early");
                    }
                    drop(permit);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "an API connection could not be accepted");
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let limit = async {
        let hurried = async {
            hurry.cancelled().await;
            tokio::time::sleep(HURRIED_REQUESTS).await;
        };
        let _ = tokio::time::timeout(LAST_REQUESTS, hurried).await;
    };
    let finished = tokio::select! {
        () = all => true,
        () = limit => false,
    };
    if !finished {
        tracing::warn!("API requests that were still running are cut");
    }
}

async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<axum::Router>,
    shutdown: CancellationToken,
) -> Result<(), hyper::Error> {
    // Answers are small and complete; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
