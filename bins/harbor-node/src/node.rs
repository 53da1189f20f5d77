//! A node as a whole: every part opened in order, run together, stopped in order. The entry point for embedders.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harbor_registry::{Config as RegistryConfig, PublicAddress, Registry};
use harbor_store::{RedbStore, Store};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api, TokenSlot};
use crate::clock;
use crate::config::NodeConfig;
use crate::dataplane::{DataPlane, Setup, Watcher};
use crate::driver::{Driver, Wiring};
use crate::error::NodeError;
use crate::handle::{Handle, MAX_REQUESTS, Phase, Request, Status};
use crate::metrics::Metrics;
use crate::observations::Observations;
use crate::store_thread::StoreThread;
use crate::system;

/// Share of the file descriptors that UDP sessions may use, in percent.
const SESSION_SHARE: u64 = 70;
/// What a handler may take beyond the drain limit before it is answered 504.
const HANDLER_SLACK: Duration = Duration::from_secs(30);

/// A node whose state is loaded, whose API is bound and whose restored ports were all tried.
pub struct Node {
    driver: Driver,
    listener: TcpListener,
    api_addr: SocketAddr,
    api: Arc<Api>,
    drain: crate::config::Drain,
}

impl Node {
    /// Opens the state, binds the API and takes hold of every service's port again. Serves nobody yet. Call it inside a
    /// tokio runtime with I/O and time; blocks it while the state is loaded.
    ///
    /// A port that somebody else took makes its service conflicted, not the start fail.
    ///
    /// # Errors
    /// [`NodeError`]; its [`exit_code`](NodeError::exit_code) tells programs what kind it is.
    pub async fn bind(config: NodeConfig) -> Result<Self, NodeError> {
        // Whatever can be wrong with the configuration comes before anything is made.
        config.token.load()?;
        let store = RedbStore::open(open_dir(&config)?)?;
        Self::bind_with(config, Box::new(store)).await
    }

    /// The same on another store; `state_dir` is not used.
    ///
    /// # Errors
    /// As [`Node::bind`].
    pub async fn bind_with(config: NodeConfig, mut store: Box<dyn Store>) -> Result<Self, NodeError> {
        let token = config.token.load()?;
        let loaded = store.load()?;
        let failed = |source| NodeError::Api { addr: config.api, source };
        let listener = TcpListener::bind(config.api).await.map_err(failed)?;
        let api_addr = listener.local_addr().map_err(failed)?;
        let seed = clock::random().map_err(|source| NodeError::System { what: "a random seed", source })?;
        let registry = Registry::new(registry_config(&config, api_addr), u64::from_ne_bytes(seed));

        let metrics = Arc::new(Metrics::new());
        let observations = Arc::new(Observations::default());
        let hurry = CancellationToken::new();
        let (requests, waiting) = mpsc::channel(MAX_REQUESTS);
        let (done, outcomes) = mpsc::unbounded_channel();
        let (status_sender, status) = watch::channel(Status::default());
        let watcher = Watcher { metrics: Arc::clone(&metrics), observations: Arc::clone(&observations) };
        let files = system::raise_file_limit();
        let dataplane = DataPlane::start(Setup {
            threads: config.threads,
            host: config.host,
            listen: config.public.as_ref().map(|public| public.listen.clone()).unwrap_or_default(),
            networks: config.backend_networks.clone(),
            tcp: config.tcp.clone(),
            udp: config.udp.clone(),
            sessions: config.udp_sessions.map_or_else(|| session_share(files), NonZeroUsize::get),
            drain: config.drain.limit.as_duration(),
            outcomes: done.clone(),
            watcher: Arc::new(watcher),
            hurry: hurry.clone(),
        })
        .map_err(|source| NodeError::System { what: "the relay threads", source })?;
        let store = StoreThread::start(store, done, Arc::clone(&metrics))
            .map_err(|source| NodeError::System { what: "the store thread", source })?;
        let wiring =
            Wiring { requests: waiting, outcomes, observations: Arc::clone(&observations), status: status_sender };
        let driver = Driver::start(registry, loaded, store, dataplane, wiring);
        let api = Arc::new(Api {
            handle: Handle { requests, status, hurry },
            token: Arc::new(TokenSlot::new(token)),
            metrics,
            observations,
            limit: config.drain.limit.as_duration().saturating_add(HANDLER_SLACK),
        });
        Ok(Self { driver, listener, api_addr, api, drain: config.drain })
    }

    /// The way to the node while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.api.handle.clone()
    }

    /// Where the API listens, with the port the system chose if 0 was asked for.
    #[must_use]
    pub fn api_addr(&self) -> SocketAddr {
        self.api_addr
    }

    /// The token that opens the API; replaceable while the node runs.
    #[must_use]
    pub fn token(&self) -> Arc<TokenSlot> {
        Arc::clone(&self.api.token)
    }

    /// Runs until `shutdown` resolves, then stops in order: not ready but still accepting for the drain's grace, then no
    /// new connection, then until the running ones have finished or its limit is over. [`Handle::hurry`] ends the waits.
    ///
    /// # Errors
    /// [`NodeError::Lost`] when a part of the node ended by itself.
    ///
    /// # Cancel safety
    /// Dropping it stops nothing in order: connections are reset. What was answered stays durable.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
        let Self { driver, listener, api, drain, .. } = self;
        let (stop_driver, stop_api) = (CancellationToken::new(), CancellationToken::new());
        let handle = api.handle.clone();
        let mut driver = Part::spawn("the driver", driver.run(stop_driver.clone()));
        let mut server = Part::spawn("the API", api::serve(listener, api, stop_api.clone()));
        let asked = async {
            shutdown.await;
            stop_listeners(&handle, drain.grace.as_duration()).await;
        };
        tokio::select! {
            () = asked => {}
            lost = driver.ended() => return Err(lost),
            lost = server.ended() => return Err(lost),
        }
        stop_api.cancel();
        server.finish().await?;
        stop_driver.cancel();
        driver.finish().await
    }
}

/// Everything between the wish to stop and the last connection's end.
async fn stop_listeners(handle: &Handle, grace: Duration) {
    tracing::info!("stopping: not ready from now on, still accepting");
    let mut status = handle.status();
    if handle.requests.send(Request::BeginDrain).await.is_err() {
        return;
    }
    let _ = status.wait_for(|status| status.phase >= Phase::Draining).await;
    let _ = tokio::time::timeout(grace, handle.hurry.cancelled()).await;
    let (done, closed) = oneshot::channel();
    if handle.requests.send(Request::CloseListeners(done)).await.is_err() {
        return;
    }
    tracing::info!("stopping: no new connections, letting the running ones finish");
    if let Ok(cut) = closed.await {
        tracing::info!(cut, "stopped");
    }
}

/// A task that should not end by itself; aborted when dropped.
struct Part {
    what: &'static str,
    task: JoinHandle<()>,
}

impl Part {
    fn spawn(what: &'static str, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { what, task: tokio::spawn(task) }
    }

    async fn ended(&mut self) -> NodeError {
        // Whether it returned or panicked, it should have done neither.
        let _ = (&mut self.task).await;
        NodeError::Lost { what: self.what }
    }

    async fn finish(mut self) -> Result<(), NodeError> {
        (&mut self.task).await.map_err(|_| NodeError::Lost { what: self.what })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// UDP sessions of all services when nothing is set.
fn session_share(files: u64) -> usize {
    usize::try_from(files.saturating_mul(SESSION_SHARE) / 100).unwrap_or(usize::MAX)
}

/// Makes the state directory (0700) if it is missing; the path of the state file in it.
pub(crate) fn open_dir(config: &NodeConfig) -> Result<PathBuf, NodeError> {
    make_dir(&config.state_dir).map_err(|source| NodeError::StateDir { path: config.state_dir.clone(), source })?;
    Ok(config.state_file())
}

/// Makes a directory, and those above it, for the owner alone (0700); one that is there stays as it is.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn registry_config(config: &NodeConfig, api: SocketAddr) -> RegistryConfig {
    RegistryConfig {
        hostname: config.hostname.clone(),
        public: config
            .public
            .as_ref()
            .map(|public| PublicAddress { ext_host: public.ext_host, ext_hostname: public.ext_hostname.clone() }),
        quarantine: config.quarantine,
        ttl: config.ttl,
        networks: config.backend_networks.clone(),
        own_addrs: vec![api],
        own_ips: system::own_ips(),
        ..RegistryConfig::new(config.node_id.clone(), config.host, config.port_range.clone())
    }
}

/// Opens the state without a node, for `check`.
pub(crate) fn open_state(config: &NodeConfig) -> Result<Option<harbor_types::Loaded>, NodeError> {
    let file = config.state_file();
    // A directory that may not be entered, or is none, is not one without a state.
    let unusable = |source| NodeError::StateDir { path: config.state_dir.clone(), source };
    if !file.try_exists().map_err(unusable)? {
        return Ok(None);
    }
    Ok(Some(RedbStore::open_existing(&file)?.load()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_leave_three_files_in_ten_to_everything_else() {
        assert_eq!([0, 1_024, 1_048_576].map(session_share), [0, 716, 734_003]);
        assert_eq!(session_share(u64::MAX), usize::MAX / 100, "a limit without end does not wrap");
    }
}
