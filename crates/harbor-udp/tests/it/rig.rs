//! A served listener with everything a test asks about it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use harbor_testkit::udp::udp_snapshot;
use harbor_testkit::wait::bounded;
use harbor_types::{BackendSnapshot, Claim, Generation, Observed, ServiceId};
use harbor_udp::{Budget, Limits, Observer, ServeError, ServeReport, SessionRecord, UdpListener, UdpService, serve};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Loopback, any port.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Notes what it is told.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) observed: Mutex<Vec<Observed>>,
    pub(crate) opened: Mutex<Vec<SocketAddr>>,
    pub(crate) closed: Mutex<Vec<SessionRecord>>,
}

impl Observer for Notes {
    fn observed(&self, observed: Observed) {
        self.observed.lock().unwrap().push(observed);
    }
    fn opened(&self, _service: ServiceId, client: SocketAddr) {
        self.opened.lock().unwrap().push(client);
    }
    fn closed(&self, record: &SessionRecord) {
        self.closed.lock().unwrap().push(record.clone());
    }
}

pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    pub(crate) service: Arc<UdpService>,
    pub(crate) node: Arc<Budget>,
    pub(crate) notes: Arc<Notes>,
    pub(crate) snapshots: watch::Sender<BackendSnapshot>,
    applied: watch::Receiver<Generation>,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<ServeReport, ServeError>>,
}

impl Relay {
    /// Serves `addr` with these backends, `(joined, address)` in arrival order.
    pub(crate) async fn start(addr: SocketAddr, limits: Limits, backends: &[(u64, SocketAddr)]) -> Self {
        let listener = UdpListener::bind(addr, Claim::Fresh).unwrap();
        let addr = listener.local_addr();
        let (node, notes) = (Arc::new(Budget::new(5_000)), Arc::new(Notes::default()));
        let observer: Arc<dyn Observer> = Arc::clone(&notes) as Arc<dyn Observer>;
        let service = Arc::new(UdpService::new(ServiceId::from_u128(1), limits, Arc::clone(&node), observer));
        let (snapshots, updates) = watch::channel(udp_snapshot(1, backends));
        let (apply, applied) = watch::channel(Generation(0));
        let (shutdown, stopped) = oneshot::channel();
        let relay = serve(listener, Arc::clone(&service), updates, apply, async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(relay);
        let mut relay = Self { addr, service, node, notes, snapshots, applied, shutdown, task };
        relay.applies(1).await;
        relay
    }

    /// Publishes these backends and waits until they are in force.
    pub(crate) async fn publish(&mut self, generation: u64, backends: &[(u64, SocketAddr)]) {
        self.snapshots.send_replace(udp_snapshot(generation, backends));
        self.applies(generation).await;
    }

    async fn applies(&mut self, generation: u64) {
        let applied = self.applied.wait_for(|applied| *applied == Generation(generation));
        bounded("a snapshot in force", applied).await.unwrap();
    }

    pub(crate) async fn stop(self) -> (ServeReport, Arc<Notes>) {
        drop(self.shutdown);
        (bounded("the relay to stop", self.task).await.unwrap().unwrap(), self.notes)
    }
}
