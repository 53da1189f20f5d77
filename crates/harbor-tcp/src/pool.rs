//! What the connections of one service share: the newest snapshot, the cursor, the limits, the observer and counts.
//!
//! Published to by whoever knows the backends, read by `forward`; starts nothing and waits for nothing.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use harbor_types::{Backend, BackendNetworks, BackendSnapshot, Generation, InstanceId, Observed, Revision, ServiceId};

use crate::leash::{Leash, Leashes};
use crate::{ConnectionRecord, Cursor, Limits};

/// Hears what a pool's connections do. Called on the relaying threads: must be quick and must not block.
pub trait Observer: Send + Sync {
    /// A connection came and is being taken care of; [`closed`](Self::closed) follows exactly once.
    fn opened(&self, service: ServiceId, client: SocketAddr) {
        let _ = (service, client);
    }

    /// A connect to a backend failed, or succeeded for one that was [on trial](Backend::on_trial).
    fn observed(&self, observed: Observed) {
        let _ = observed;
    }

    /// A connection ended; its sockets are closed.
    fn closed(&self, record: &ConnectionRecord) {
        let _ = record;
    }
}

/// Hears nothing.
impl Observer for () {}

/// One service, as its connections see it. Shared by all threads that relay for it.
pub struct Pool {
    service: ServiceId,
    limits: Limits,
    networks: Option<BackendNetworks>,
    observer: Arc<dyn Observer>,
    snapshot: ArcSwap<BackendSnapshot>,
    cursor: Cursor,
    leashes: Leashes,
    live: AtomicU64,
    held: AtomicU64,
}

impl Pool {
    /// A pool without backends, at generation 0.
    #[must_use]
    pub fn new(service: ServiceId, limits: Limits, observer: Arc<dyn Observer>) -> Self {
        Self {
            service,
            limits,
            networks: None,
            observer,
            snapshot: ArcSwap::from_pointee(BackendSnapshot::empty(Generation::default())),
            cursor: Cursor::default(),
            leashes: Leashes::default(),
            live: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// The same pool, which never dials an address outside `networks`, whatever is published to it.
    #[must_use]
    pub fn within(self, networks: BackendNetworks) -> Self {
        Self { networks: Some(networks), ..self }
    }

    /// Replaces the snapshot, unless the current one has a higher generation; returns the generation then current.
    /// Every pick that starts after this returns, on any thread, sees it or a newer one.
    pub fn publish(&self, snapshot: BackendSnapshot) -> Generation {
        let snapshot = Arc::new(snapshot);
        self.snapshot
            .rcu(|current| Arc::clone(if current.generation > snapshot.generation { current } else { &snapshot }));
        self.snapshot.load().generation
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<BackendSnapshot> {
        self.snapshot.load_full()
    }

    /// Cuts the connections that run to a backend which has left, with [`CloseReason::Drained`](crate::CloseReason::Drained);
    /// how many there were. A connect to it that is still on its way is cut once it is there. Publish a snapshot without
    /// the backend before: this stops no new connection.
    pub fn cut(&self, instance: &InstanceId, joined: Revision) -> usize {
        self.leashes.pull(instance, joined)
    }

    /// Which service this is.
    #[must_use]
    pub const fn service(&self) -> ServiceId {
        self.service
    }

    /// The limits of its connections.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The service's round-robin position.
    #[must_use]
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Connections opened and not yet closed.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Bytes of memory its connections hold now because a peer does not take what the other sent; 0 when all are idle.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn leash(&self, backend: &Backend) -> Leash<'_> {
        self.leashes.hold(backend)
    }

    pub(crate) const fn held(&self) -> &AtomicU64 {
        &self.held
    }

    pub(crate) fn allows(&self, backend: &Backend) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.check(backend.addr).is_ok())
    }

    pub(crate) fn opened(&self, client: SocketAddr) {
        self.live.fetch_add(1, Ordering::Relaxed);
        self.observer.opened(self.service, client);
    }

    pub(crate) fn observed(&self, observed: Observed) {
        self.observer.observed(observed);
    }

    pub(crate) fn closed(&self, record: &ConnectionRecord) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.observer.closed(record);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("service", &self.service)
            .field("limits", &self.limits)
            .field("generation", &self.snapshot.load().generation)
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}
