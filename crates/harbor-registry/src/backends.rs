//! Instances come, stay and go; what the relays are told of it.
//!
//! Joins and leaves are records; heartbeats, expiry and health are soft state. A pool is published whenever what the
//! relays should see has changed, numbered and whole; calls that changed it are answered once every relay thread knows.
//!
//! A changed time to live is soft too, since a put would cost the instance its place: after a restart the recorded one
//! counts again. A change between a leased and a permanent registration is a leave and a join.

use std::net::{IpAddr, SocketAddr};

use harbor_types::wire::EventKind;
use harbor_types::{
    BackendRecord, BackendSnapshot, Expectation, Generation, InstanceId, Lifetime, Now, Observed, Protocol, Record,
    RecordKey, ServiceId, Span, Write,
};

use crate::calls::{Stage, Task, Waiting};
use crate::commits::{Owner, Resolution};
use crate::config::{LONGEST_TTL, SHORTEST_TTL};
use crate::pool::{Member, Reaction};
use crate::services::Hold;
use crate::timers::{Timer, Timers, back_off};
use crate::{Answer, CallId, Effect, Refusal, Registry};

fn ttl_of(lifetime: Lifetime) -> Option<Span> {
    match lifetime {
        Lifetime::Leased(ttl) => Some(ttl),
        Lifetime::Permanent => None,
    }
}

/// One full time to live from now.
fn refresh(timers: &mut Timers, now: Now, service: ServiceId, instance: &InstanceId, member: &mut Member) {
    member.deadline = ttl_of(member.lifetime).map(|ttl| now.mono + ttl.as_duration());
    let Some(deadline) = member.deadline else { return };
    // A timer that comes too early is set anew then; most heartbeats set none.
    if member.armed.is_none_or(|armed| deadline < armed) {
        member.armed = Some(deadline);
        timers.arm(deadline, Timer::Expiry(service, instance.clone()));
    }
}

impl Registry {
    pub(crate) fn begin_register(
        &mut self,
        now: Now,
        call: CallId,
        service: ServiceId,
        instance: InstanceId,
        addr: SocketAddr,
        lifetime: Option<Lifetime>,
    ) {
        let lifetime = lifetime.unwrap_or(Lifetime::Leased(self.config.ttl));
        if let Err(refusal) = self.check_registration(service, addr, lifetime) {
            return self.reply(call, Err(refusal));
        }
        let ttl = ttl_of(lifetime);
        let known = self.state.backend(service, &instance).map(|known| known.record.home.clone());
        let ours = known.as_ref() == Some(&self.config.node_id);
        if let Some(runtime) = self.runtimes.get_mut(&service)
            && let Some(member) = runtime.pool.member_mut(&instance)
            && ours
            && !member.expired
            && member.addr == addr
            && ttl_of(member.lifetime).is_some() == ttl.is_some()
        {
            member.lifetime = lifetime;
            refresh(&mut self.timers, now, service, &instance, member);
            return self.reply(call, Ok(Answer::Registered { joined: false, ttl }));
        }
        let mut writes = Vec::new();
        if known.is_some() {
            writes.push(Write::Delete(RecordKey::Backend(service, instance.clone())));
        }
        let home = self.config.node_id.clone();
        let record = BackendRecord { service, instance: instance.clone(), addr, lifetime, home };
        writes.push(Write::Put(Record::Backend(record)));
        self.activate(service, Some(call), Task::Register { ttl }, Stage::Committing);
        self.commit(Owner::Lane(service), self.unchanged(service), writes);
    }

    fn check_registration(&self, service: ServiceId, addr: SocketAddr, lifetime: Lifetime) -> Result<(), Refusal> {
        if self.state.service(service).is_none() {
            return Err(Refusal::UnknownService { service });
        }
        self.config.networks.check(addr)?;
        if self.is_own_listener(addr) {
            return Err(Refusal::OwnListener { addr });
        }
        match lifetime {
            Lifetime::Leased(ttl) if !(SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) => Err(Refusal::BadTtl { ttl }),
            Lifetime::Leased(_) | Lifetime::Permanent => Ok(()),
        }
    }

    /// Whether a connection to `addr` would come back to this node.
    fn is_own_listener(&self, addr: SocketAddr) -> bool {
        let service = harbor_types::Port::new(addr.port()).ok().and_then(|port| self.state.ports.get(&port));
        let held = match service.and_then(|id| self.runtimes.get(id)).map(|runtime| &runtime.hold) {
            Some(Hold::Bound(addrs)) => addrs.as_slice(),
            Some(Hold::Waiting | Hold::Binding | Hold::Conflicted { .. }) | None => &[],
        };
        let reaches = |listener: &SocketAddr| {
            listener.port() == addr.port()
                && (listener.ip() == addr.ip() || (listener.ip().is_unspecified() && self.is_own_ip(addr.ip())))
        };
        self.config.own_addrs.iter().chain(held).any(reaches)
    }

    fn is_own_ip(&self, ip: IpAddr) -> bool {
        let public = self.config.public.as_ref().map(|public| public.ext_host);
        ip.is_loopback()
            || ip == self.config.host
            || Some(ip) == public
            || self.config.own_ips.contains(&ip)
            || self.config.own_addrs.iter().any(|own| own.ip() == ip)
    }

    pub(crate) fn heartbeat(&mut self, now: Now, service: ServiceId, instance: &InstanceId) -> Result<Answer, Refusal> {
        let name = self.state.service(service).map(|record| record.name.clone());
        let (Some(name), Some(runtime)) = (name, self.runtimes.get_mut(&service)) else {
            return Err(Refusal::UnknownService { service });
        };
        match runtime.pool.member_mut(instance).filter(|member| !member.expired) {
            None => Err(Refusal::UnknownInstance { name, instance: instance.clone() }),
            Some(member) => {
                refresh(&mut self.timers, now, service, instance, member);
                Ok(Answer::Refreshed { ttl: ttl_of(member.lifetime) })
            }
        }
    }

    pub(crate) fn begin_deregister(&mut self, call: CallId, service: ServiceId, instance: InstanceId) {
        let Some(record) = self.state.service(service) else {
            return self.reply(call, Err(Refusal::UnknownService { service }));
        };
        if self.state.backend(service, &instance).is_none() {
            let refusal = Refusal::UnknownInstance { name: record.name.clone(), instance };
            return self.reply(call, Err(refusal));
        }
        self.activate(service, Some(call), Task::Deregister, Stage::Committing);
        let writes = vec![Write::Delete(RecordKey::Backend(service, instance))];
        self.commit(Owner::Lane(service), Vec::new(), writes);
    }

    /// An instance that joined here, or was known at the start, lives for one time to live; one that joined at another
    /// node while this one runs has its heartbeats there, and leaves when that node says so.
    pub(crate) fn on_backend_put(&mut self, now: Now, service: ServiceId, instance: &InstanceId) {
        let Some(backend) = self.state.backend(service, instance) else { return };
        let Some(runtime) = self.runtimes.get_mut(&service) else { return };
        runtime.pool.join(now.mono, backend);
        let ours = !self.loaded || backend.record.home == self.config.node_id;
        let detail = format!("instance {instance} at {}", backend.record.addr);
        if let Some(member) = runtime.pool.member_mut(instance).filter(|_| ours) {
            refresh(&mut self.timers, now, service, instance, member);
        }
        self.changed_pools.insert(service);
        self.tell(now, EventKind::BackendJoined, service, detail);
    }

    pub(crate) fn on_backend_gone(&mut self, now: Now, record: &BackendRecord) {
        let Some(runtime) = self.runtimes.get_mut(&record.service) else { return };
        let Some(member) = runtime.pool.leave(&record.instance) else { return };
        let bound = runtime.is_bound();
        self.changed_pools.insert(record.service);
        if !member.expired {
            if bound {
                let (service, instance) = (record.service, record.instance.clone());
                self.effects.push_back(Effect::Dismiss { service, instance, joined: member.joined });
            }
            self.tell(now, EventKind::BackendLeft, record.service, format!("instance {}", record.instance));
        }
    }

    pub(crate) fn on_expiry(&mut self, now: Now, service: ServiceId, instance: &InstanceId) {
        let Some(runtime) = self.runtimes.get_mut(&service) else { return };
        let Some(member) = runtime.pool.member_mut(instance).filter(|member| !member.expired) else { return };
        let Some(deadline) = member.deadline else { return };
        if deadline > now.mono {
            if member.armed.is_none_or(|armed| armed <= now.mono) {
                member.armed = Some(deadline);
                self.timers.arm(deadline, Timer::Expiry(service, instance.clone()));
            }
            return;
        }
        member.expired = true;
        self.changed_pools.insert(service);
        self.tell(now, EventKind::BackendExpired, service, format!("instance {instance}"));
        self.queue_leave(service);
    }

    /// The leave of expired instances takes its turn among the calls, so that no join can get lost behind it.
    fn queue_leave(&mut self, service: ServiceId) {
        let Some(runtime) = self.runtimes.get_mut(&service) else { return };
        if !std::mem::replace(&mut runtime.leave_queued, true) {
            self.lanes.entry(service).or_default().waiting.push_back(Waiting::Leave);
            self.stirred.insert(service);
        }
    }

    pub(crate) fn begin_leave(&mut self, service: ServiceId) {
        let Some(runtime) = self.runtimes.get_mut(&service) else { return };
        runtime.leave_queued = false;
        let gone: Vec<_> = runtime.pool.expired().cloned().collect();
        let (mut expectations, mut writes) = (Vec::new(), Vec::new());
        for instance in gone {
            let key = RecordKey::Backend(service, instance);
            expectations.extend(self.state.revision_of(&key).map(|revision| Expectation::At(key.clone(), revision)));
            writes.push(Write::Delete(key));
        }
        if !writes.is_empty() {
            self.activate(service, None, Task::Leave, Stage::Committing);
            self.commit(Owner::Lane(service), expectations, writes);
        }
    }

    pub(crate) fn on_leave_resolved(&mut self, now: Now, service: ServiceId, resolution: &Resolution) {
        // Nobody called, so nobody hears this.
        self.complete(service, Ok(Answer::Deregistered));
        let Some(runtime) = self.runtimes.get_mut(&service) else { return };
        match resolution {
            Resolution::Committed => runtime.leave_attempts = 0,
            Resolution::Conflict(_) | Resolution::Failed(_) => {
                self.timers.arm(now.mono + back_off(runtime.leave_attempts), Timer::Leave(service));
                runtime.leave_attempts = runtime.leave_attempts.saturating_add(1);
            }
        }
    }

    pub(crate) fn on_leave_retry(&mut self, service: ServiceId) {
        if self.runtimes.get(&service).is_some_and(|runtime| runtime.pool.expired().next().is_some()) {
            self.queue_leave(service);
        }
    }

    pub(crate) fn on_observed(&mut self, now: Now, seen: &Observed) {
        let Some(runtime) = self.runtimes.get_mut(&seen.service) else { return };
        let latest = runtime.published.generation;
        match runtime.pool.observe(now.mono, latest, seen) {
            Reaction::None => {}
            Reaction::Trial => _ = self.changed_pools.insert(seen.service),
            Reaction::Ejected(until) => {
                self.timers.arm(until, Timer::Return(seen.service, seen.instance.clone()));
                self.changed_pools.insert(seen.service);
                let left = Span::from(until.saturating_duration_since(now.mono));
                let detail = format!("instance {} ({}) for {left}", seen.instance, seen.protocol);
                self.tell(now, EventKind::BackendEjected, seen.service, detail);
            }
        }
    }

    pub(crate) fn on_return(&mut self, now: Now, service: ServiceId, instance: &InstanceId) {
        let Some(runtime) = self.runtimes.get_mut(&service) else { return };
        for protocol in runtime.pool.readmit_due(now.mono, instance) {
            self.changed_pools.insert(service);
            self.tell(now, EventKind::BackendReturned, service, format!("instance {instance} ({protocol})"));
        }
    }

    /// Publishes what has changed since the last time.
    pub(crate) fn publish_changed(&mut self, now: Now) {
        while let Some(service) = self.changed_pools.pop_first() {
            let Some(runtime) = self.runtimes.get_mut(&service) else { continue };
            for (instance, protocol) in runtime.pool.readmit_if_none_is_left(now.mono) {
                self.tell(now, EventKind::BackendReturned, service, format!("instance {instance} ({protocol})"));
            }
            self.publish(service, false);
        }
    }

    /// Hands the pool to the relay threads, if there are listeners, and if it differs from what they have or is their first.
    pub(crate) fn publish(&mut self, service: ServiceId, first: bool) {
        let Some(runtime) = self.runtimes.get_mut(&service).filter(|runtime| runtime.is_bound()) else { return };
        let (tcp, udp) = (runtime.pool.eligible(Protocol::Tcp), runtime.pool.eligible(Protocol::Udp));
        if first || runtime.published.tcp != tcp || runtime.published.udp != udp {
            let generation = runtime.published.generation.next();
            runtime.published = BackendSnapshot { generation, tcp, udp };
            let snapshot = runtime.published.clone();
            self.effects.push_back(Effect::Publish { service, snapshot });
        }
    }

    /// The active operation is committed and folded: it is answered once every relay thread has the latest snapshot.
    pub(crate) fn await_publish(&mut self, service: ServiceId) {
        let Some(runtime) = self.runtimes.get(&service) else {
            return self.complete(service, Err(Refusal::UnknownService { service }));
        };
        let generation = runtime.published.generation;
        let pending = runtime.is_bound() && runtime.confirmed < generation;
        if let Some(op) = self.active_mut(service) {
            op.stage = Stage::Publishing(generation);
        }
        if !pending {
            self.complete_published(service);
        }
    }

    pub(crate) fn on_published(&mut self, service: ServiceId, generation: Generation) {
        let Some(runtime) = self.runtimes.get_mut(&service) else { return };
        runtime.confirmed = runtime.confirmed.max(generation);
        let confirmed = runtime.confirmed;
        let waits = self.active(service).map(|op| op.stage);
        if matches!(waits, Some(Stage::Publishing(generation)) if generation <= confirmed) {
            self.complete_published(service);
        }
    }

    fn complete_published(&mut self, service: ServiceId) {
        let answer = match self.active(service).map(|op| &op.task) {
            Some(Task::Provision(_)) => Answer::Created(service),
            Some(Task::Register { ttl }) => Answer::Registered { joined: true, ttl: *ttl },
            _ => Answer::Deregistered,
        };
        self.complete(service, Ok(answer));
    }
}
