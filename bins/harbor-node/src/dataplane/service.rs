//! One service's sockets and what runs on them: held, then relayed, then ended. Spawns on relay threads; decides nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use harbor_registry::BindOrder;
use harbor_tcp::{Listener, Pool};
use harbor_types::{BackendSnapshot, BindError, Generation, InstanceId, Protocol, Revision, ServiceId, ServiceName};
use harbor_udp::{Budget, UdpListener, UdpService};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::threads::RelayThreads;
use super::watcher::ServiceWatcher;
use super::{Confirm, Setup, Watcher};

/// After a cut, how long connections may take to notice it. They notice at once; this only bounds a defect.
const CUT_LIMIT: Duration = Duration::from_secs(2);

/// Sockets that are bound and not yet used.
#[derive(Default)]
pub(super) struct Held {
    tcp: Vec<(SocketAddr, Listener)>,
    udp: Vec<(SocketAddr, UdpListener)>,
}

impl Held {
    /// Binds every address and protocol; the first failure lets go of all.
    pub(super) fn bind(ips: &[IpAddr], order: &BindOrder) -> Result<Self, (SocketAddr, Protocol, BindError)> {
        let mut held = Self::default();
        for ip in ips {
            let addr = SocketAddr::new(*ip, order.port.get());
            for protocol in order.protocols.iter() {
                let failed = |error| (addr, protocol, error);
                match protocol {
                    Protocol::Tcp => held.tcp.push((addr, Listener::bind(addr, order.claim).map_err(failed)?)),
                    Protocol::Udp => held.udp.push((addr, UdpListener::bind(addr, order.claim).map_err(failed)?)),
                }
            }
        }
        Ok(held)
    }

    /// Every address once.
    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        let mut addrs: Vec<_> =
            self.tcp.iter().map(|(addr, _)| *addr).chain(self.udp.iter().map(|(addr, _)| *addr)).collect();
        addrs.sort();
        addrs.dedup();
        addrs
    }
}

/// A service with its sockets.
pub(super) struct Relayed {
    id: ServiceId,
    name: ServiceName,
    /// Until the first snapshot.
    held: Option<Held>,
    pool: Arc<Pool>,
    udp: Arc<UdpService>,
    snapshots: watch::Sender<BackendSnapshot>,
    applied: Vec<watch::Receiver<Generation>>,
    watcher: Arc<Watcher>,
    stop: CancellationToken,
    cut: CancellationToken,
    listeners: TaskTracker,
    connections: TaskTracker,
    /// Waits for the drain limit of backends that left; they end with the service.
    dismissals: JoinSet<()>,
}

impl Relayed {
    pub(super) fn new(order: &BindOrder, held: Held, setup: &Setup, budget: &Arc<Budget>) -> Self {
        let watcher = Arc::new(ServiceWatcher { watcher: Arc::clone(&setup.watcher), name: order.name.clone() });
        let pool = Pool::new(order.service, setup.tcp.clone(), Arc::clone(&watcher) as _);
        let udp = Arc::new(UdpService::new(order.service, setup.udp.clone(), Arc::clone(budget), watcher));
        Self {
            id: order.service,
            name: order.name.clone(),
            held: Some(held),
            pool: Arc::new(pool.within(setup.networks.clone())),
            udp,
            snapshots: watch::Sender::new(BackendSnapshot::empty(Generation::default())),
            applied: Vec::new(),
            watcher: Arc::clone(&setup.watcher),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            listeners: TaskTracker::new(),
            connections: TaskTracker::new(),
            dismissals: JoinSet::new(),
        }
    }

    pub(super) fn is_published(&self) -> bool {
        self.held.is_none()
    }

    /// Replaces the snapshot by a newer one; the first one starts accepting.
    pub(super) fn publish(&mut self, snapshot: BackendSnapshot, threads: &Arc<RelayThreads>) {
        self.pool.publish(snapshot.clone());
        self.snapshots.send_if_modified(|old| {
            let newer = snapshot.generation > old.generation;
            if newer {
                *old = snapshot;
            }
            newer
        });
        if let Some(held) = self.held.take() {
            self.accept(held, threads);
        }
    }

    /// Cuts the connections to a backend that left, those that still run after `limit`.
    pub(super) fn dismiss(&mut self, instance: InstanceId, joined: Revision, limit: Duration) {
        while self.dismissals.try_join_next().is_some() {}
        let (pool, service, name) = (Arc::clone(&self.pool), self.id, self.name.clone());
        self.dismissals.spawn(async move {
            tokio::time::sleep(limit).await;
            let cut = pool.cut(&instance, joined);
            if cut > 0 {
                tracing::info!(%service, %name, %instance, cut, "connections to an instance that left were cut");
            }
        });
    }

    fn accept(&mut self, held: Held, threads: &Arc<RelayThreads>) {
        for (addr, listener) in held.tcp {
            let (pool, cut, threads_too) = (Arc::clone(&self.pool), self.cut.clone(), Arc::clone(threads));
            let connections = self.connections.clone();
            let hand = move |client: std::net::TcpStream, from: SocketAddr| {
                let (pool, cut) = (Arc::clone(&pool), cut.clone());
                connections.spawn_on(
                    async move {
                        match tokio::net::TcpStream::from_std(client) {
                            Ok(client) => {
                                harbor_tcp::forward(client, from, &pool, cut.cancelled()).await;
                            }
                            Err(error) => tracing::warn!(%error, "an accepted connection could not be taken over"),
                        }
                    },
                    threads_too.next(),
                );
            };
            let (stop, service, name) = (self.stop.clone(), self.id, self.name.clone());
            self.listeners.spawn_on(
                async move {
                    if let Err(error) = harbor_tcp::accept(listener, hand, stop.cancelled()).await {
                        tracing::error!(%service, %name, %addr, %error, "a TCP listener is lost; restart the node to have it back");
                    }
                },
                threads.next(),
            );
        }
        for (addr, listener) in held.udp {
            let (applied, receiver) = watch::channel(Generation::default());
            self.applied.push(receiver);
            let (udp, snapshots, stop) = (Arc::clone(&self.udp), self.snapshots.subscribe(), self.stop.clone());
            let (service, name) = (self.id, self.name.clone());
            self.watcher.metrics.udp_served(&self.udp);
            self.listeners.spawn_on(
                async move {
                    if let Err(error) = harbor_udp::serve(listener, udp, snapshots, applied, stop.cancelled()).await {
                        tracing::error!(%service, %name, %addr, %error, "a UDP listener is lost; restart the node to have it back");
                    }
                },
                threads.next(),
            );
        }
    }

    /// How many have to confirm a snapshot: every thread for TCP, every listener for UDP.
    pub(super) fn confirmations(&self, threads: &RelayThreads) -> usize {
        threads.all().len() + self.applied.len()
    }

    /// Has each of them confirm it.
    pub(super) fn confirm(&self, threads: &RelayThreads, generation: Generation, confirm: &Arc<Confirm>) {
        for runtime in threads.all() {
            let confirm = Arc::clone(confirm);
            // A connection's pick and the beginning of its connect are one step of its thread. So once this step of the
            // same thread runs, every later connect uses this snapshot or a newer one.
            runtime.spawn(async move { confirm.one() });
        }
        for applied in &self.applied {
            let (confirm, mut applied) = (Arc::clone(confirm), applied.clone());
            threads.next().spawn(async move {
                // An error means that the listener is gone, and with it everything that could use an older snapshot.
                let _ = applied.wait_for(|seen| *seen >= generation).await;
                confirm.one();
            });
        }
    }

    /// Stops accepting at once. The future closes the sockets, lets connections finish until `limit` (or `hurry`), cuts the
    /// rest and tells how many.
    pub(super) fn end(self, limit: Duration, hurry: CancellationToken) -> impl Future<Output = usize> + Send + 'static {
        self.stop.cancel();
        self.listeners.close();
        async move {
            drop(self.held);
            self.listeners.wait().await;
            self.watcher.metrics.udp_retired(&self.udp);
            self.connections.close();
            let finished = async {
                tokio::select! {
                    () = self.connections.wait() => true,
                    () = hurry.cancelled() => false,
                }
            };
            if tokio::time::timeout(limit, finished).await == Ok(true) {
                return 0;
            }
            let cut = self.connections.len();
            self.cut.cancel();
            if tokio::time::timeout(CUT_LIMIT, self.connections.wait()).await.is_err() {
                tracing::error!(service = %self.id, name = %self.name, "connections did not end when they were cut");
            }
            cut
        }
    }
}
