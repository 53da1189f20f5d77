//! The node's numbers, `harbor_*`, in OpenMetrics text. Relays and the store count into it; levels are set when scraped.
//!
//! Labels have few values, known beforehand: protocols, reasons, states. No service, client or instance is a label.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use harbor_registry::Counts;
use harbor_tcp::{CloseReason, ConnectionRecord};
use harbor_types::{CommitOutcome, ServiceId};
use harbor_udp::{Refusal, Tally, UdpService};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Content type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One word of a fixed set.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Reason {
    reason: Word,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: Word,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Direction {
    direction: Word,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    result: Word,
}

/// Bytes towards the backends.
const UP: Direction = Direction { direction: Word("up") };
/// Bytes towards the clients.
const DOWN: Direction = Direction { direction: Word("down") };

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    services: Gauge,
    conflicted: Gauge,
    bindings: Gauge,
    backends: Gauge,
    eligible: Gauge,
    ports: Family<State, Gauge>,
    calls: Gauge,
    ready: Gauge,
    commits: Family<Outcome, Counter>,
    commit_seconds: Histogram,
    observations_folded: Gauge,
    tcp_opened: Counter,
    tcp_open: Gauge,
    tcp_bytes: Family<Direction, Counter>,
    tcp_closed: HashMap<CloseReason, Counter>,
    udp: Udp,
}

/// Numbers of the UDP relays.
#[derive(Debug, Default)]
struct Udp {
    opened: Counter,
    open: Gauge,
    closed: Family<Reason, Counter>,
    datagrams: Family<Direction, Counter>,
    bytes: Family<Direction, Counter>,
    dropped: Family<Reason, Counter>,
    /// The relays count for each service; the sum over those that live and those that are gone only grows.
    services: Mutex<(HashMap<ServiceId, Arc<UdpService>>, Totals)>,
}

/// Sums over services.
#[derive(Clone, Debug, Default)]
struct Totals {
    up: Tally,
    down: Tally,
    dropped: HashMap<Refusal, u64>,
}

impl Totals {
    fn add(&mut self, service: &UdpService) {
        let traffic = service.traffic();
        for (sum, more) in [(&mut self.up, traffic.up()), (&mut self.down, traffic.down())] {
            sum.datagrams += more.datagrams;
            sum.bytes += more.bytes;
        }
        for refusal in Refusal::ALL {
            *self.dropped.entry(refusal).or_default() += traffic.dropped(refusal);
        }
    }
}

impl Udp {
    fn set_totals(&self) {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let (live, gone) = &*services;
        let mut totals = gone.clone();
        for service in live.values() {
            totals.add(service);
        }
        drop(services);
        for (direction, tally) in [(UP, totals.up), (DOWN, totals.down)] {
            self.datagrams.get_or_create(&direction).inner().store(tally.datagrams, Ordering::Relaxed);
            self.bytes.get_or_create(&direction).inner().store(tally.bytes, Ordering::Relaxed);
        }
        for (refusal, count) in totals.dropped {
            let reason = Reason { reason: Word(refusal.name()) };
            self.dropped.get_or_create(&reason).inner().store(count, Ordering::Relaxed);
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("harbor");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", build);
        let new = Self {
            services: Gauge::default(),
            conflicted: Gauge::default(),
            bindings: Gauge::default(),
            backends: Gauge::default(),
            eligible: Gauge::default(),
            ports: Family::default(),
            calls: Gauge::default(),
            ready: Gauge::default(),
            commits: Family::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
            observations_folded: Gauge::default(),
            tcp_opened: Counter::default(),
            tcp_open: Gauge::default(),
            tcp_bytes: Family::default(),
            tcp_closed: HashMap::new(),
            udp: Udp::default(),
            registry,
        };
        new.registered()
    }

    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register("services", "Services that are provisioned", self.services.clone());
        r.register("services_conflicted", "Services whose port another process holds", self.conflicted.clone());
        r.register("bindings", "Services bound to apps", self.bindings.clone());
        r.register("backends", "Instances that are registered", self.backends.clone());
        r.register("backends_eligible", "Instances that may receive traffic", self.eligible.clone());
        r.register("ports", "Ports of the range, by state", self.ports.clone());
        r.register("calls", "Changing calls that are being carried out", self.calls.clone());
        r.register("ready", "1 when the node is ready, 0 while it starts or drains", self.ready.clone());
        r.register("store_commits", "Changes handed to the store, by result", self.commits.clone());
        r.register("store_commit_seconds", "Time a change waited for the disk", self.commit_seconds.clone());
        r.register(
            "observations_folded",
            "Relay reports that were folded into a later one because the node fell behind",
            self.observations_folded.clone(),
        );
        r.register("tcp_connections", "Client connections accepted", self.tcp_opened.clone());
        r.register("tcp_connections_open", "Client connections that are open", self.tcp_open.clone());
        r.register("tcp_bytes", "Bytes relayed, counted when a connection ends", self.tcp_bytes.clone());
        let closed = Family::<Reason, Counter>::default();
        // Made beforehand, so that a relay thread never takes the family's lock.
        self.tcp_closed = CloseReason::ALL
            .iter()
            .map(|reason| (*reason, closed.get_or_create_owned(&Reason { reason: Word(reason.as_str()) })))
            .collect();
        r.register("tcp_connections_closed", "Client connections that ended, by reason", closed);
        r.register("udp_sessions", "UDP sessions opened", self.udp.opened.clone());
        r.register("udp_sessions_open", "UDP sessions that are open", self.udp.open.clone());
        r.register("udp_sessions_closed", "UDP sessions that ended, by reason", self.udp.closed.clone());
        r.register("udp_datagrams", "Datagrams relayed", self.udp.datagrams.clone());
        r.register("udp_bytes", "Bytes of those datagrams", self.udp.bytes.clone());
        r.register("udp_datagrams_dropped", "Datagrams dropped, by reason", self.udp.dropped.clone());
        self
    }

    /// Counts a commit and the time it waited.
    pub(crate) fn committed(&self, outcome: &CommitOutcome, lasted: Duration) {
        let result = Word(match outcome {
            CommitOutcome::Committed(_) => "committed",
            CommitOutcome::Conflict(_) => "conflict",
            CommitOutcome::NotCommitted(_) => "not_committed",
            CommitOutcome::Unknown(_) => "unknown",
        });
        self.commits.get_or_create(&Outcome { result }).inc();
        self.commit_seconds.observe(lasted.as_secs_f64());
    }

    /// Counts a connection that was taken over.
    pub(crate) fn tcp_opened(&self) {
        self.tcp_opened.inc();
        self.tcp_open.inc();
    }

    /// Counts a connection that ended.
    pub(crate) fn tcp_closed(&self, record: &ConnectionRecord) {
        self.tcp_open.dec();
        self.tcp_bytes.get_or_create(&UP).inc_by(record.bytes_up);
        self.tcp_bytes.get_or_create(&DOWN).inc_by(record.bytes_down);
        if let Some(counter) = self.tcp_closed.get(&record.reason) {
            counter.inc();
        }
    }

    /// Counts a session that was opened.
    pub(crate) fn udp_opened(&self) {
        self.udp.opened.inc();
        self.udp.open.inc();
    }

    /// Counts a session that ended.
    pub(crate) fn udp_closed(&self, reason: harbor_udp::CloseReason) {
        self.udp.open.dec();
        self.udp.closed.get_or_create(&Reason { reason: Word(reason.name()) }).inc();
    }

    /// From now on the service's traffic counts.
    pub(crate) fn udp_served(&self, service: &Arc<UdpService>) {
        let mut services = self.udp.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.0.insert(service.id(), Arc::clone(service));
    }

    /// The service's traffic is complete.
    pub(crate) fn udp_retired(&self, service: &UdpService) {
        let mut services = self.udp.services.lock().unwrap_or_else(PoisonError::into_inner);
        if services.0.remove(&service.id()).is_some() {
            services.1.add(service);
        }
    }

    /// Everything as OpenMetrics text, with the levels of this moment.
    pub(crate) fn render(&self, counts: &Counts, ready: bool, folded: u64) -> String {
        for (gauge, value) in [
            (&self.services, counts.services),
            (&self.conflicted, counts.conflicted),
            (&self.bindings, counts.bindings),
            (&self.backends, counts.backends),
            (&self.eligible, counts.eligible),
            (&self.calls, counts.calls),
        ] {
            gauge.set(level(value));
        }
        for (state, value) in [
            ("free", counts.ports_free),
            ("leased", counts.ports_leased),
            ("quarantined", counts.ports_quarantined),
            ("held_by_others", counts.ports_held_by_others),
        ] {
            self.ports.get_or_create(&State { state: Word(state) }).set(level(value));
        }
        self.ready.set(ready.into());
        self.observations_folded.set(i64::try_from(folded).unwrap_or(i64::MAX));
        self.udp.set_totals();
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing into a String fails never; an encoder's own error is worth a line, not a failed scrape.
            let _ = writeln!(text, "# the metrics could not be encoded completely");
        }
        text
    }
}

fn level(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
