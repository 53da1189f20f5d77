//! Services at run time: whether their sockets are held, what follows from each folded write, and how a service ends.
//!
//! Ports are settled here: what the allocator says of a port follows from committed state, reservations and closing
//! sockets, and from nothing else.

use std::net::SocketAddr;

use harbor_alloc::PortUse;
use harbor_types::wire::EventKind;
use harbor_types::{
    BackendSnapshot, Claim, Conflict, Expectation, Generation, Now, Port, QuarantineRecord, Record, RecordKey,
    ServiceId, ServiceRecord, UniqueKey, Write,
};

use crate::calls::{Op, Stage, Task};
use crate::commits::{Owner, Resolution};
use crate::pool::Pool;
use crate::rests::rest_ends;
use crate::state::Delta;
use crate::timers::{Timer, back_off};
use crate::{Answer, BindFailure, BindOrder, CallId, DeleteMode, Effect, Refusal, Registry};

/// Whether a service's sockets are held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Hold {
    /// Sockets with this id have to close first, or an order with this id is on its way.
    Waiting,
    /// Being bound for the first time.
    Binding,
    /// Held.
    Bound(Vec<SocketAddr>),
    /// Somebody else has the port. Tried again with growing waits, never moved.
    Conflicted {
        reason: String,
        /// An attempt is on its way.
        trying: bool,
    },
}

/// What is known of a committed service beyond its records.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) hold: Hold,
    pub(crate) pool: Pool,
    /// Latest snapshot that was handed out, and the latest that every relay thread has confirmed.
    pub(crate) published: BackendSnapshot,
    pub(crate) confirmed: Generation,
    bind_attempts: u32,
    pub(crate) leave_attempts: u32,
    /// A leave waits in the lane.
    pub(crate) leave_queued: bool,
}

impl Runtime {
    fn new(hold: Hold, pool: Pool) -> Self {
        Self {
            hold,
            pool,
            published: BackendSnapshot::empty(Generation(0)),
            confirmed: Generation(0),
            bind_attempts: 0,
            leave_attempts: 0,
            leave_queued: false,
        }
    }

    pub(crate) fn is_bound(&self) -> bool {
        matches!(self.hold, Hold::Bound(_))
    }
}

/// What has to come before the sockets of a service that is gone are closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Closing {
    port: Port,
    awaits: Awaits,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Awaits {
    Retired,
    /// A bind was on its way; what it brings is let go.
    Bound,
}

/// A conflict in words.
pub(crate) fn describe(conflict: &Conflict) -> String {
    match conflict {
        Conflict::Taken(UniqueKey::Port(port)) => format!("port {port} is taken"),
        Conflict::Taken(UniqueKey::Name(org, space, name)) => format!("the name {name} is taken in {org}/{space}"),
        Conflict::Taken(UniqueKey::IntPort(org, space, port)) => {
            format!("container port {port} is taken in {org}/{space}")
        }
        Conflict::Changed(RecordKey::Service(id)) => format!("service {id} was changed by somebody else"),
        Conflict::Changed(RecordKey::Binding(id)) => format!("binding {id} was changed by somebody else"),
        Conflict::Changed(RecordKey::Backend(id, instance)) => {
            format!("instance {instance} of service {id} was changed by somebody else")
        }
        Conflict::Changed(RecordKey::Quarantine(port)) => {
            format!("the rest of port {port} was changed by somebody else")
        }
        _ => "a record was changed by somebody else".into(),
    }
}

impl Registry {
    /// What follows from one folded write.
    pub(crate) fn react(&mut self, now: Now, delta: Delta) {
        match delta {
            Delta::ServicePut { id, before } => self.on_service_put(now, id, before.as_ref()),
            Delta::ServiceGone(record) => self.on_service_gone(now, &record),
            Delta::BindingPut(id) => {
                if let Some(binding) = self.state.bindings.get(&id).map(|binding| binding.committed.record.clone()) {
                    self.tell(now, EventKind::Bound, binding.service, format!("app {}", binding.app));
                }
            }
            Delta::BindingGone(binding) => {
                self.tell(now, EventKind::Unbound, binding.service, format!("app {}", binding.app));
            }
            Delta::BackendPut { service, instance } => self.on_backend_put(now, service, &instance),
            Delta::BackendGone(record) => self.on_backend_gone(now, &record),
            Delta::RestPut(port) => {
                self.rests.due.remove(&port);
                // A rest that was there already starts anew with the record.
                self.ports.end_rest(port);
                self.settle_port(now, port);
            }
            Delta::RestGone(port) => {
                self.rests.due.remove(&port);
                self.settle_port(now, port);
            }
        }
    }

    fn on_service_put(&mut self, now: Now, id: ServiceId, before: Option<&ServiceRecord>) {
        let Some(record) = self.state.service(id).cloned() else { return };
        let listens_alike = |before: &ServiceRecord| {
            (before.port, before.kind.protocols, before.access) == (record.port, record.kind.protocols, record.access)
        };
        if let Some(before) = before {
            if listens_alike(before) {
                return;
            }
            self.let_go(before);
            self.settle_port(now, before.port);
        } else {
            self.tell(now, EventKind::ServiceCreated, id, format!("port {}", record.port));
        }
        let held = self.provisioning(id).filter(|order| order.record == record).and_then(|order| order.held.take());
        let hold = held.map_or(Hold::Waiting, Hold::Bound);
        let fresh = matches!(hold, Hold::Bound(_));
        self.runtimes.insert(id, Runtime::new(hold, Pool::new(record.kind.protocols)));
        let members = self.state.backends.get(&id).map(|pool| pool.keys().cloned().collect::<Vec<_>>());
        for instance in members.unwrap_or_default() {
            self.on_backend_put(now, id, &instance);
        }
        self.settle_port(now, record.port);
        if fresh {
            self.publish(id, true);
        } else {
            self.ensure_bound(id);
        }
    }

    fn on_service_gone(&mut self, now: Now, record: &ServiceRecord) {
        let id = record.id;
        self.let_go(record);
        self.restoring.remove(&id);
        self.settle_port(now, record.port);
        self.events.push(
            now.wall,
            EventKind::ServiceDeleted,
            Some((id, &record.name)),
            format!("port {}", record.port),
        );
        self.refuse_waiting(id);
        // Only another node's delete comes while one of ours waits for its snapshot.
        if let Some(Op { stage: Stage::Publishing(_), task, .. }) = self.active(id) {
            let left = matches!(task, Task::Deregister);
            let gone = Err(Refusal::UnknownService { service: id });
            self.complete(id, if left { Ok(Answer::Deregistered) } else { gone });
        }
    }

    /// Ends the run time of a service, and orders its sockets closed.
    fn let_go(&mut self, record: &ServiceRecord) {
        let id = record.id;
        let Some(runtime) = self.runtimes.remove(&id) else { return };
        let awaits = match runtime.hold {
            Hold::Bound(_) => {
                self.effects.push_back(Effect::Retire { service: id });
                Awaits::Retired
            }
            Hold::Binding | Hold::Conflicted { trying: true, .. } => Awaits::Bound,
            Hold::Waiting | Hold::Conflicted { trying: false, .. } => return,
        };
        self.closing.insert(id, Closing { port: record.port, awaits });
        self.closing_ports.insert(record.port, id);
    }

    /// Binds a service that is committed and not held, unless sockets with its id are still about.
    pub(crate) fn ensure_bound(&mut self, id: ServiceId) {
        if self.closing.contains_key(&id) || self.provisioning(id).is_some() {
            return;
        }
        let Some(runtime) = self.runtimes.get_mut(&id).filter(|runtime| runtime.hold == Hold::Waiting) else { return };
        runtime.hold = Hold::Binding;
        self.order_restore(id);
    }

    fn order_restore(&mut self, id: ServiceId) {
        let Some(record) = self.state.service(id) else { return };
        let order = bind_order(record, Claim::Restore);
        self.effects.push_back(Effect::Bind(order));
    }

    pub(crate) fn on_bound(
        &mut self,
        now: Now,
        service: ServiceId,
        port: Port,
        result: Result<Vec<SocketAddr>, BindFailure>,
    ) {
        let ordered = self.active(service).is_some_and(|op| op.stage == Stage::Holding);
        if ordered && self.provisioning(service).is_some_and(|order| order.record.port == port) {
            return self.on_order_bound(now, service, result);
        }
        if self.closing.get(&service) == Some(&Closing { port, awaits: Awaits::Bound }) {
            if result.is_ok() {
                self.effects.push_back(Effect::Release { service });
            }
            return self.on_closed(now, service);
        }
        let Some(runtime) = self.runtimes.get_mut(&service) else { return };
        let told = match &runtime.hold {
            Hold::Binding => None,
            Hold::Conflicted { reason, trying: true } => Some(reason.clone()),
            Hold::Waiting | Hold::Bound(_) | Hold::Conflicted { trying: false, .. } => return,
        };
        self.restoring.remove(&service);
        match result {
            Ok(addrs) => {
                runtime.hold = Hold::Bound(addrs);
                runtime.bind_attempts = 0;
                if told.is_some() {
                    self.tell(now, EventKind::ServiceBound, service, format!("port {port}"));
                }
                self.publish(service, true);
            }
            Err(failure) => {
                let reason = match failure {
                    BindFailure::InUse { protocol, addr } => format!("{addr} ({protocol}) is held by another process"),
                    BindFailure::Other { reason } => reason,
                };
                runtime.hold = Hold::Conflicted { reason: reason.clone(), trying: false };
                self.timers.arm(now.mono + back_off(runtime.bind_attempts), Timer::Rebind(service));
                runtime.bind_attempts = runtime.bind_attempts.saturating_add(1);
                if told.as_ref() != Some(&reason) {
                    self.tell(now, EventKind::ServiceConflicted, service, reason);
                }
            }
        }
    }

    pub(crate) fn on_rebind(&mut self, service: ServiceId) {
        if let Some(Runtime { hold: Hold::Conflicted { trying, .. }, .. }) = self.runtimes.get_mut(&service)
            && !std::mem::replace(trying, true)
        {
            self.order_restore(service);
        }
    }

    pub(crate) fn on_retired(&mut self, now: Now, service: ServiceId) {
        if self.closing.get(&service).is_some_and(|closing| closing.awaits == Awaits::Retired) {
            self.on_closed(now, service);
        }
    }

    fn on_closed(&mut self, now: Now, service: ServiceId) {
        let Some(Closing { port, .. }) = self.closing.remove(&service) else { return };
        if self.closing_ports.get(&port) == Some(&service) {
            self.closing_ports.remove(&port);
        }
        self.settle_port(now, port);
        self.stirred.insert(service);
        self.ensure_bound(service);
        if let Some(Op { task: Task::Deprovision, stage: Stage::Closing, .. }) = self.active(service) {
            self.complete(service, Ok(Answer::Deleted));
        }
    }

    /// Makes the allocator say what is so: a committed service has its port, then a call in flight, then a rest, then
    /// sockets that are not closed yet.
    pub(crate) fn settle_port(&mut self, now: Now, port: Port) {
        let leased = self.state.ports.get(&port).or_else(|| self.reserved.ports.get(&port));
        let holder = match (leased, self.state.rests.get(&port)) {
            (Some(holder), _) => Some(*holder),
            (None, Some(rest)) => {
                if !matches!(self.ports.state_of(port), Some(PortUse::Resting { .. })) {
                    self.ports.restore_rest(port, rest_ends(now, &rest.record));
                }
                return;
            }
            (None, None) => self.closing_ports.get(&port).copied(),
        };
        let used = self.ports.state_of(port);
        let Some(holder) = holder else {
            self.ports.end_rest(port);
            self.ports.unlease(port);
            return;
        };
        if matches!(used, Some(PortUse::Leased(other)) if other != holder) {
            self.ports.unlease(port);
        }
        let restored = self.ports.restore(port, holder);
        debug_assert_eq!(restored, Ok(()), "nobody else has it any more");
    }

    pub(crate) fn begin_deprovision(&mut self, now: Now, call: CallId, service: ServiceId, mode: DeleteMode) {
        let Some(record) = self.state.service(service).cloned() else {
            return self.reply(call, Err(Refusal::UnknownService { service }));
        };
        let apps: Vec<_> = self.state.apps_of(service).map(|(app, id)| (app.to_string(), id)).collect();
        if mode == DeleteMode::IfUnbound && !apps.is_empty() {
            let apps = apps.into_iter().map(|(app, _)| app).collect::<Vec<_>>().join(", ");
            return self.reply(call, Err(Refusal::StillBound { name: record.name, apps }));
        }
        let backends = self.state.backends.get(&service).into_iter().flat_map(|pool| pool.keys().cloned());
        let mut writes: Vec<_> =
            backends.map(|instance| Write::Delete(RecordKey::Backend(service, instance))).collect();
        writes.extend(apps.into_iter().map(|(_, id)| Write::Delete(RecordKey::Binding(id))));
        writes.push(Write::Delete(RecordKey::Service(service)));
        if self.config.quarantine.as_millis() > 0 {
            let (released, until) = (now.wall, now.wall.plus(self.config.quarantine));
            writes.push(Write::Put(Record::Quarantine(QuarantineRecord { port: record.port, released, until })));
        }
        self.activate(service, Some(call), Task::Deprovision, Stage::Committing);
        self.commit(Owner::Lane(service), self.unchanged(service), writes);
    }

    /// Expects the service as it is known here.
    pub(crate) fn unchanged(&self, service: ServiceId) -> Vec<Expectation> {
        let key = RecordKey::Service(service);
        self.state.revision_of(&key).map(|revision| Expectation::At(key, revision)).into_iter().collect()
    }

    /// Hands what became of a commit to the operation that asked for it.
    pub(crate) fn on_resolved(&mut self, now: Now, service: ServiceId, resolution: Resolution) {
        let Some(op) = self.active(service) else { return };
        let task = op.task.clone();
        if let Task::Bind { variable, .. } = &task {
            self.reserved.variables.remove(variable);
        }
        if matches!(task, Task::Provision(_)) {
            return self.on_order_resolved(now, service, resolution);
        }
        if matches!(task, Task::Leave) {
            return self.on_leave_resolved(now, service, &resolution);
        }
        let refusal = match resolution {
            Resolution::Committed => return self.on_task_committed(service, task),
            Resolution::Failed(reason) => Refusal::StoreFailed { reason },
            Resolution::Conflict(conflict) => Refusal::Conflict { reason: describe(&conflict) },
        };
        let gone = self.state.service(service).is_none();
        self.complete(service, Err(if gone { Refusal::UnknownService { service } } else { refusal }));
    }

    fn on_task_committed(&mut self, service: ServiceId, task: Task) {
        match task {
            Task::Deprovision if self.closing.contains_key(&service) => {
                if let Some(op) = self.active_mut(service) {
                    op.stage = Stage::Closing;
                }
            }
            Task::Deprovision => self.complete(service, Ok(Answer::Deleted)),
            Task::Bind { id, .. } => self.complete(service, Ok(Answer::Bound { id, new: true })),
            Task::Unbind => self.complete(service, Ok(Answer::Unbound)),
            Task::Register { .. } | Task::Deregister | Task::Provision(_) | Task::Leave => self.await_publish(service),
        }
    }

    /// Tells of something that happened to a service. What the load brings is no news.
    pub(crate) fn tell(&mut self, now: Now, kind: EventKind, service: ServiceId, detail: String) {
        if self.loaded {
            let named = self.state.service(service).map(|record| (service, &record.name));
            self.events.push(now.wall, kind, named, detail);
        }
    }
}

/// The order to hold a service's port.
pub(crate) fn bind_order(record: &ServiceRecord, claim: Claim) -> BindOrder {
    BindOrder {
        service: record.id,
        name: record.name.clone(),
        port: record.port,
        protocols: record.kind.protocols,
        access: record.access,
        claim,
    }
}
