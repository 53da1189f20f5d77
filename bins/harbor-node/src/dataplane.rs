//! The data plane as the driver sees it: sockets held, snapshots handed to every relay thread, services retired.
//!
//! A port is bound on every address and protocol or on none. Held sockets accept nobody until the first snapshot.
//! Decides nothing about services; each order is answered by exactly one outcome.

mod service;
mod threads;
mod watcher;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harbor_registry::{BindFailure, BindOrder, Outcome};
use harbor_types::{
    Access, BackendNetworks, BackendSnapshot, BindError, Generation, InstanceId, Protocol, Revision, ServiceId,
};
use harbor_udp::Budget;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use service::{Held, Relayed};
use threads::RelayThreads;
pub(crate) use watcher::Watcher;

/// How the data plane is set up.
pub(crate) struct Setup {
    /// Relay threads.
    pub(crate) threads: NonZeroUsize,
    /// Address of internal services.
    pub(crate) host: IpAddr,
    /// Addresses of public services; empty without public access.
    pub(crate) listen: Vec<IpAddr>,
    /// Networks that are dialled, and no others.
    pub(crate) networks: BackendNetworks,
    /// Limits of TCP connections.
    pub(crate) tcp: harbor_tcp::Limits,
    /// Limits of UDP sessions.
    pub(crate) udp: harbor_udp::Limits,
    /// UDP sessions of the whole node.
    pub(crate) sessions: usize,
    /// How long connections may go on when their service ends.
    pub(crate) drain: Duration,
    /// Where outcomes go.
    pub(crate) outcomes: UnboundedSender<Outcome>,
    /// Who is told what the relays see.
    pub(crate) watcher: Arc<Watcher>,
    /// Ends every wait at once.
    pub(crate) hurry: CancellationToken,
}

/// All listeners and relay threads.
pub(crate) struct DataPlane {
    setup: Setup,
    threads: Arc<RelayThreads>,
    budget: Arc<Budget>,
    services: HashMap<ServiceId, Relayed>,
    /// Tasks of the control side that wait for services to end.
    retiring: TaskTracker,
    closed: bool,
}

impl DataPlane {
    /// Starts the relay threads.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be had.
    pub(crate) fn start(setup: Setup) -> io::Result<Self> {
        let threads = Arc::new(RelayThreads::start(setup.threads)?);
        let budget = Arc::new(Budget::new(setup.sessions));
        Ok(Self { setup, threads, budget, services: HashMap::new(), retiring: TaskTracker::new(), closed: false })
    }

    /// Holds a port on all its addresses and protocols, or on none.
    pub(crate) fn bind(&mut self, order: BindOrder) -> Result<Vec<SocketAddr>, BindFailure> {
        let other = |reason: &str| BindFailure::Other { reason: reason.into() };
        if self.closed {
            return Err(other("the node is shutting down"));
        }
        if self.services.contains_key(&order.service) {
            debug_assert!(false, "service {} is bound twice", order.service);
            return Err(other("the service holds its port already"));
        }
        let ips = match order.access {
            Access::Internal => std::slice::from_ref(&self.setup.host),
            Access::Public if self.setup.listen.is_empty() => {
                return Err(other("the service is public, and this node has no [public] block any more"));
            }
            Access::Public => self.setup.listen.as_slice(),
        };
        let held = Held::bind(ips, &order).map_err(failure)?;
        let addrs = held.addrs();
        let relayed = Relayed::new(&order, held, &self.setup, &self.budget);
        self.services.insert(order.service, relayed);
        Ok(addrs)
    }

    /// Lets go of sockets that were never published.
    pub(crate) fn release(&mut self, service: ServiceId) {
        if let Some(relayed) = self.services.remove(&service) {
            debug_assert!(!relayed.is_published(), "a published service is retired, not released");
        }
    }

    /// Hands a snapshot to every relay thread; the first one starts accepting. The outcome follows once all confirmed.
    pub(crate) fn publish(&mut self, service: ServiceId, snapshot: BackendSnapshot) {
        let generation = snapshot.generation;
        let Some(relayed) = self.services.get_mut(&service) else {
            // Nobody relays it (its port is not held): there is nobody to tell.
            let _ = self.setup.outcomes.send(Outcome::Published { service, generation });
            return;
        };
        relayed.publish(snapshot, &self.threads);
        let confirm = Arc::new(Confirm {
            missing: AtomicUsize::new(relayed.confirmations(&self.threads)),
            outcomes: self.setup.outcomes.clone(),
            service,
            generation,
        });
        relayed.confirm(&self.threads, generation, &confirm);
    }

    /// A backend has left: connections to it may finish until the drain limit.
    pub(crate) fn dismiss(&mut self, service: ServiceId, instance: InstanceId, joined: Revision) {
        if let Some(relayed) = self.services.get_mut(&service) {
            relayed.dismiss(instance, joined, self.setup.drain);
        }
    }

    /// Stops a service: no new connection, sockets closed, running connections finished or cut. The outcome follows.
    pub(crate) fn retire(&mut self, service: ServiceId) {
        let outcomes = self.setup.outcomes.clone();
        let ended = self.services.remove(&service).map(|relayed| self.end(relayed));
        self.retiring.spawn(async move {
            if let Some(ended) = ended {
                ended.await;
            }
            let _ = outcomes.send(Outcome::Retired { service });
        });
    }

    /// Stops every service and takes no more; `done` hears how many connections had to be cut.
    pub(crate) fn close_all(&mut self, done: oneshot::Sender<usize>) {
        self.closed = true;
        let services: Vec<Relayed> = self.services.drain().map(|(_, relayed)| relayed).collect();
        let ends: Vec<_> = services.into_iter().map(|relayed| self.end(relayed)).collect();
        let retiring = self.retiring.clone();
        retiring.close();
        tokio::spawn(async move {
            let mut cut = 0;
            // Each was told to stop already; awaiting them one after the other waits for the slowest only.
            for end in ends {
                cut += end.await;
            }
            retiring.wait().await;
            let _ = done.send(cut);
        });
    }

    /// Ends the relay threads. Blocks.
    pub(crate) fn finish(self) {
        drop(self.services);
        self.threads.finish();
    }

    fn end(&self, relayed: Relayed) -> impl Future<Output = usize> + Send + 'static {
        relayed.end(self.setup.drain, self.setup.hurry.clone())
    }
}

/// Sends [`Outcome::Published`] once every relay thread has confirmed.
struct Confirm {
    missing: AtomicUsize,
    outcomes: UnboundedSender<Outcome>,
    service: ServiceId,
    generation: Generation,
}

impl Confirm {
    fn one(&self) {
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.outcomes.send(Outcome::Published { service: self.service, generation: self.generation });
        }
    }
}

fn failure((addr, protocol, error): (SocketAddr, Protocol, BindError)) -> BindFailure {
    match error {
        BindError::InUse { addr, protocol } => BindFailure::InUse { protocol, addr },
        BindError::Socket { source, .. } => {
            BindFailure::Other { reason: format!("bind {addr} ({protocol}): {source}") }
        }
        other => BindFailure::Other { reason: format!("bind {addr} ({protocol}): {other}") },
    }
}
