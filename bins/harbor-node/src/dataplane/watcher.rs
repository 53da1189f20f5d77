//! What the relays see, told on: reports to the driver, numbers to the metrics, one closing record for each connection
//! and session to the log. Called on relay threads; never waits.

use std::net::SocketAddr;
use std::sync::Arc;

use harbor_tcp::ConnectionRecord;
use harbor_types::{Backend, Observed, ServiceId, ServiceName};
use harbor_udp::SessionRecord;

use crate::metrics::Metrics;
use crate::observations::Observations;

/// Target of the closing records.
const CLOSE: &str = "harbor::close";

/// Where everything that the relays see goes.
pub(crate) struct Watcher {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observations: Arc<Observations>,
}

/// Hears from the relays of one service, whose name its records carry beside the id.
pub(super) struct ServiceWatcher {
    pub(super) watcher: Arc<Watcher>,
    pub(super) name: ServiceName,
}

fn backend_text(backend: Option<&Backend>) -> String {
    backend.map_or_else(|| "-".into(), |backend| format!("{}@{}", backend.instance, backend.addr))
}

impl harbor_tcp::Observer for ServiceWatcher {
    fn observed(&self, observed: Observed) {
        self.watcher.observations.push(observed);
    }

    fn opened(&self, _: ServiceId, _: SocketAddr) {
        self.watcher.metrics.tcp_opened();
    }

    fn closed(&self, record: &ConnectionRecord) {
        self.watcher.metrics.tcp_closed(record);
        tracing::info!(
            target: CLOSE,
            protocol = "tcp",
            service = %record.service,
            name = %self.name,
            client = %record.client,
            backend = backend_text(record.backend.as_ref()),
            bytes_up = record.bytes_up,
            bytes_down = record.bytes_down,
            lasted_ms = record.lasted.as_millis(),
            reason = %record.reason,
            side = record.side.map(tracing::field::display),
            tries = record.tries,
            "connection closed"
        );
    }
}

impl harbor_udp::Observer for ServiceWatcher {
    fn observed(&self, observed: Observed) {
        self.watcher.observations.push(observed);
    }

    fn opened(&self, _: ServiceId, _: SocketAddr) {
        self.watcher.metrics.udp_opened();
    }

    fn closed(&self, record: &SessionRecord) {
        self.watcher.metrics.udp_closed(record.reason);
        tracing::info!(
            target: CLOSE,
            protocol = "udp",
            service = %record.service,
            name = %self.name,
            client = %record.client,
            backend = backend_text(Some(&record.backend)),
            bytes_up = record.up.bytes,
            bytes_down = record.down.bytes,
            datagrams_up = record.up.datagrams,
            datagrams_down = record.down.datagrams,
            lasted_ms = record.lasted.as_millis(),
            reason = %record.reason,
            moves = record.moves,
            "session closed"
        );
    }
}
