//! What can be read: services, credentials, bindings, ports, events, counts. Changes nothing.

use harbor_alloc::PortUse;
use harbor_types::wire::{
    BackendHealth, BackendProtocolView, BackendView, BindingView, EventList, PortState, PortView, PortsView,
    ServiceState, ServiceView,
};
use harbor_types::{
    Access, AppName, Credentials, Host, InstanceId, Lifetime, Now, OrgName, Protocol, ServiceId, ServiceKind,
    ServiceName, ServiceRecord, SpaceName, Span,
};

use crate::Registry;
use crate::pool::{Member, Pool};
use crate::services::{Hold, Runtime};

/// How much there is of everything, for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Services.
    pub services: usize,
    /// Services whose port another process has.
    pub conflicted: usize,
    /// Bindings.
    pub bindings: usize,
    /// Backends that are registered and have not run out.
    pub backends: usize,
    /// Backends that get traffic of some protocol.
    pub eligible: usize,
    /// Ports that are free.
    pub ports_free: usize,
    /// Ports that are leased, also outside the ranges.
    pub ports_leased: usize,
    /// Released ports that rest, also outside the ranges.
    pub ports_quarantined: usize,
    /// Ports that other processes held when they were tried.
    pub ports_held_by_others: usize,
    /// Calls that are not answered yet.
    pub calls: usize,
}

impl Registry {
    /// All services, by organisation, space and name. `hints` stay empty: they belong to the answer of a creation.
    #[must_use]
    pub fn services(&self, now: Now) -> Vec<ServiceView> {
        self.state.names.values().filter_map(|id| self.service(now, *id)).collect()
    }

    /// One service.
    #[must_use]
    pub fn service(&self, now: Now, id: ServiceId) -> Option<ServiceView> {
        let (record, runtime) = (self.state.service(id)?, self.runtimes.get(&id)?);
        let (state, conflict) = match &runtime.hold {
            Hold::Waiting | Hold::Binding => (ServiceState::Binding, None),
            Hold::Bound(_) => (ServiceState::Bound, None),
            Hold::Conflicted { reason, .. } => (ServiceState::Conflicted, Some(reason.clone())),
        };
        let listen = if let Hold::Bound(addrs) = &runtime.hold { addrs.clone() } else { Vec::new() };
        Some(ServiceView {
            id,
            name: record.name.clone(),
            org: record.org.clone(),
            space: record.space.clone(),
            protocol: record.kind.protocols,
            https: record.kind.https,
            port: record.port,
            int_port: record.int_port,
            access: record.access,
            state,
            conflict,
            listen,
            generation: runtime.published.generation,
            created: record.created.to_rfc3339(),
            credentials: self.credentials_of(record),
            bindings: self.bindings_of(record),
            backends: backends_of(now, record, runtime),
            hints: Vec::new(),
        })
    }

    /// The service with this name.
    #[must_use]
    pub fn find(&self, org: &OrgName, space: &SpaceName, name: &ServiceName) -> Option<ServiceId> {
        self.state.names.get(&(org.clone(), space.clone(), name.clone())).copied()
    }

    /// What an application bound to the service is told.
    #[must_use]
    pub fn credentials(&self, id: ServiceId) -> Option<Credentials> {
        self.state.service(id).map(|record| self.credentials_of(record))
    }

    /// Name and credentials of every service an app is bound to, by name.
    #[must_use]
    pub fn bindings(&self, org: &OrgName, space: &SpaceName, app: &AppName) -> Vec<(ServiceName, Credentials)> {
        let place = (org.clone(), space.clone());
        let bound = self.state.services_of(&place, app);
        let mut bound: Vec<_> = bound.map(|(record, _)| (record.name.clone(), self.credentials_of(record))).collect();
        bound.sort_by(|(one, _), (other, _)| one.cmp(other));
        bound.dedup_by(|(one, _), (other, _)| one == other);
        bound
    }

    /// Every binding of a space, or of one app in it, by service name and app.
    #[must_use]
    pub fn binding_views(&self, org: &OrgName, space: &SpaceName, app: Option<&AppName>) -> Vec<BindingView> {
        let in_place = |record: &&ServiceRecord| record.org == *org && record.space == *space;
        let services = self.state.names.values().filter_map(|id| self.state.service(*id)).filter(in_place);
        let views = services.flat_map(|record| self.bindings_of(record));
        views.filter(|view| app.is_none_or(|app| view.app == *app)).collect()
    }

    /// What the ports are used for.
    #[must_use]
    pub fn ports(&self, now: Now) -> PortsView {
        let left = |until: std::time::Instant| Some(Span::from(until.saturating_duration_since(now.mono)));
        let view = |(port, what)| match what {
            PortUse::Leased(holder) => {
                let service = self.state.service(holder).map(|record| record.name.clone());
                PortView { port, state: PortState::Leased, service, free_in: None }
            }
            PortUse::Resting { until } => {
                PortView { port, state: PortState::Quarantined, service: None, free_in: left(until) }
            }
            PortUse::SetAside { until } => {
                PortView { port, state: PortState::HeldByOthers, service: None, free_in: left(until) }
            }
        };
        let counts = self.counts();
        PortsView {
            range: self.config.ranges.to_string(),
            free: counts.ports_free,
            leased: counts.ports_leased,
            quarantined: counts.ports_quarantined,
            held_by_others: counts.ports_held_by_others,
            ports: self.ports.used().map(view).collect(),
        }
    }

    /// Events after the one numbered `since`, oldest first, at most `limit`.
    #[must_use]
    pub fn events(&self, since: u64, limit: usize) -> EventList {
        self.events.since(since, limit)
    }

    /// How much there is of everything. A pass over the services.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let conflicted = |runtime: &&Runtime| matches!(runtime.hold, Hold::Conflicted { .. });
        let (inside, outside) = (self.ports.counts(), self.ports.counts_outside());
        Counts {
            services: self.state.services.len(),
            conflicted: self.runtimes.values().filter(conflicted).count(),
            bindings: self.state.bindings.len(),
            backends: self.runtimes.values().map(|runtime| runtime.pool.count_live()).sum(),
            eligible: self.runtimes.values().map(|runtime| runtime.pool.count_serving()).sum(),
            ports_free: inside.free,
            ports_leased: inside.leased + outside.leased,
            ports_quarantined: inside.quarantined + outside.quarantined,
            ports_held_by_others: inside.held_by_others + outside.held_by_others,
            calls: self.calls.len(),
        }
    }

    fn credentials_of(&self, record: &ServiceRecord) -> Credentials {
        let host = self.config.host;
        let public = self.config.public.as_ref().filter(|_| record.access == Access::Public);
        let said = ServiceKind::of(&record.name);
        Credentials {
            hostname: self.config.hostname.clone().map_or(Host::Ip(host), Host::Name),
            host,
            port: record.port,
            name: record.id,
            node_id: self.config.node_id.clone(),
            int_port: record.int_port,
            ext_hostname: public
                .map(|public| public.ext_hostname.clone().map_or(Host::Ip(public.ext_host), Host::Name)),
            ext_host: public.map(|public| public.ext_host),
            protocol: (record.kind.protocols != said.protocols).then_some(record.kind.protocols),
            https: (record.kind.https != said.https).then_some(record.kind.https),
        }
    }

    fn bindings_of(&self, record: &ServiceRecord) -> Vec<BindingView> {
        let bound = self.state.apps_of(record.id).filter_map(|(_, id)| self.state.bindings.get(&id));
        let view = |binding: &crate::state::Binding| {
            let it = &binding.committed.record;
            let (app, created) = (it.app.clone(), it.created.to_rfc3339());
            BindingView { id: it.id, service: record.id, service_name: record.name.clone(), app, created }
        };
        bound.map(view).collect()
    }
}

fn backends_of(now: Now, record: &ServiceRecord, runtime: &Runtime) -> Vec<BackendView> {
    let places: Vec<_> =
        record.kind.protocols.iter().map(|protocol| (protocol, runtime.pool.eligible(protocol))).collect();
    let place_of = |instance: &InstanceId, protocol: Protocol| {
        let (_, eligible) = places.iter().find(|(of, _)| *of == protocol)?;
        eligible.iter().position(|backend| backend.instance == *instance)
    };
    let view = |(instance, member): (&InstanceId, &Member)| {
        let protocol_view = |protocol| BackendProtocolView {
            protocol,
            health: if member.eligible(protocol) { BackendHealth::Eligible } else { BackendHealth::Ejected },
            place: place_of(instance, protocol),
            last_failure: member.health(protocol).last_failure,
        };
        let ttl = if let Lifetime::Leased(ttl) = member.lifetime { Some(ttl) } else { None };
        BackendView {
            instance: instance.clone(),
            addr: member.addr,
            ttl,
            expires_in: member.deadline.map(|at| Span::from(at.saturating_duration_since(now.mono))),
            protocols: record.kind.protocols.iter().map(protocol_view).collect(),
        }
    };
    let pool: &Pool = &runtime.pool;
    pool.live().into_iter().map(view).collect()
}
