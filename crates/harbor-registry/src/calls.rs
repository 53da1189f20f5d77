//! Calls in flight: one at a time for each service, the others wait in line; and what a call in flight holds for itself
//! until its outcome.
//!
//! Fed by [`Registry::command`](crate::Registry::command) and by the rooms that finish operations. Decides who is next,
//! never what an operation does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use harbor_types::{AppName, Generation, Now, OrgName, Port, ServiceId, ServiceName, ServiceRecord, SpaceName, Span};

use crate::state::Place;
use crate::{Answer, CallId, Command, Effect, Provision, Refusal, Registry};

/// What is done for one service at a time.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Provision(Box<Provisioning>),
    Deprovision,
    Bind {
        id: harbor_types::BindingId,
        variable: Variable,
    },
    Unbind,
    Register {
        ttl: Option<Span>,
    },
    Deregister,
    /// The leave of every instance that has expired; nobody's call.
    Leave,
}

/// An order on its way.
#[derive(Clone, Debug)]
pub(crate) struct Provisioning {
    pub(crate) order: Provision,
    /// The record to be; its port and container port are reserved.
    pub(crate) record: ServiceRecord,
    /// Ports that were tried.
    pub(crate) tried: BTreeSet<Port>,
    /// Container ports that turned out to be taken.
    pub(crate) skipped: BTreeSet<Port>,
    /// Addresses that are held, once they are.
    pub(crate) held: Option<Vec<SocketAddr>>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// The sockets are being opened.
    Holding,
    /// The store decides.
    Committing,
    /// Folded; the relay threads have to confirm this snapshot.
    Publishing(Generation),
    /// Folded; the sockets have to close.
    Closing,
}

/// An operation in flight.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    /// Who asked; `None`: the registry itself.
    pub(crate) call: Option<CallId>,
    pub(crate) task: Task,
    pub(crate) stage: Stage,
}

/// What waits for a service.
#[derive(Clone, Debug)]
pub(crate) enum Waiting {
    Call(CallId, Command),
    Leave,
}

impl Waiting {
    fn is_provision(&self) -> bool {
        matches!(self, Self::Call(_, Command::Provision(_)))
    }
}

/// One service's line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    pub(crate) active: Option<Op>,
    pub(crate) waiting: VecDeque<Waiting>,
}

/// An environment variable of an app that a binding in flight will take: place, app and the variable's end.
pub(crate) type Variable = (OrgName, SpaceName, AppName, String);

/// What calls in flight hold for themselves. The outcome releases it; nothing of it outlives the process.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    pub(crate) ports: BTreeMap<Port, ServiceId>,
    pub(crate) names: BTreeMap<(OrgName, SpaceName, ServiceName), ServiceId>,
    pub(crate) int_ports: BTreeMap<Place, BTreeSet<Port>>,
    pub(crate) variables: BTreeMap<Variable, ServiceName>,
}

impl Reservations {
    pub(crate) fn holds_int_port(&self, place: &Place, port: Port) -> bool {
        self.int_ports.get(place).is_some_and(|ports| ports.contains(&port))
    }

    pub(crate) fn release_int_port(&mut self, place: &Place, port: Port) {
        if let Some(ports) = self.int_ports.get_mut(place) {
            ports.remove(&port);
            if ports.is_empty() {
                self.int_ports.remove(place);
            }
        }
    }
}

impl Command {
    fn service(&self) -> ServiceId {
        match self {
            Self::Provision(order) => order.id,
            Self::Deprovision { service, .. }
            | Self::Bind { service, .. }
            | Self::Unbind { service, .. }
            | Self::Register { service, .. }
            | Self::Heartbeat { service, .. }
            | Self::Deregister { service, .. } => *service,
        }
    }
}

impl Registry {
    /// Takes in a call: answers it, starts it or lets it wait.
    pub(crate) fn admit(&mut self, now: Now, call: CallId, command: Command) {
        let new = self.calls.insert(call);
        debug_assert!(new, "call ids are never reused");
        let service = command.service();
        if let Command::Heartbeat { instance, .. } = &command {
            let answer = self.heartbeat(now, service, instance);
            return self.reply(call, answer);
        }
        if self.draining && !matches!(command, Command::Deregister { .. }) {
            return self.reply(call, Err(Refusal::Draining));
        }
        let max_waiting = self.config.max_waiting;
        let exists = self.state.service(service).is_some();
        let lane = self.lanes.entry(service).or_default();
        let provision = matches!(command, Command::Provision(_));
        let will_exist = exists
            || matches!(lane.active, Some(Op { task: Task::Provision(_), .. }))
            || lane.waiting.iter().any(Waiting::is_provision);
        if !provision && !will_exist && lane.active.is_some() {
            return self.reply(call, Err(Refusal::UnknownService { service }));
        }
        if lane.active.is_some() && lane.waiting.len() >= max_waiting {
            return self.reply(call, Err(Refusal::Busy));
        }
        lane.waiting.push_back(Waiting::Call(call, command));
        self.stirred.insert(service);
    }

    /// Starts what can start in the lanes in which something ended or arrived.
    pub(crate) fn run_lanes(&mut self, now: Now) {
        while let Some(service) = self.stirred.pop_first() {
            self.run_lane(now, service);
        }
    }

    fn run_lane(&mut self, now: Now, service: ServiceId) {
        loop {
            let closing = self.closing.contains_key(&service);
            let Some(lane) = self.lanes.get_mut(&service) else { return };
            if lane.active.is_some() {
                return;
            }
            match lane.waiting.front() {
                None => {
                    self.lanes.remove(&service);
                    return;
                }
                // The sockets of the service before have to be closed first.
                Some(next) if closing && next.is_provision() => return,
                Some(_) => {}
            }
            match lane.waiting.pop_front() {
                Some(Waiting::Leave) => self.begin_leave(service),
                Some(Waiting::Call(call, command)) => self.begin(now, call, command),
                None => {}
            }
        }
    }

    fn begin(&mut self, now: Now, call: CallId, command: Command) {
        match command {
            Command::Provision(order) => self.begin_provision(now, call, order),
            Command::Deprovision { service, mode } => self.begin_deprovision(now, call, service, mode),
            Command::Bind { id, service, app } => self.begin_bind(now, call, id, service, &app),
            Command::Unbind { service, app } => self.begin_unbind(call, service, &app),
            Command::Register { service, instance, addr, lifetime } => {
                self.begin_register(now, call, service, instance, addr, lifetime);
            }
            Command::Deregister { service, instance } => self.begin_deregister(call, service, instance),
            Command::Heartbeat { service, instance } => {
                let answer = self.heartbeat(now, service, &instance);
                self.reply(call, answer);
            }
        }
    }

    /// Makes an operation the active one of its lane.
    pub(crate) fn activate(&mut self, service: ServiceId, call: Option<CallId>, task: Task, stage: Stage) {
        let lane = self.lanes.entry(service).or_default();
        debug_assert!(lane.active.is_none(), "one operation a service");
        lane.active = Some(Op { call, task, stage });
    }

    pub(crate) fn active(&self, service: ServiceId) -> Option<&Op> {
        self.lanes.get(&service)?.active.as_ref()
    }

    pub(crate) fn active_mut(&mut self, service: ServiceId) -> Option<&mut Op> {
        self.lanes.get_mut(&service)?.active.as_mut()
    }

    /// The order that is active for a service.
    pub(crate) fn provisioning(&mut self, service: ServiceId) -> Option<&mut Provisioning> {
        match &mut self.active_mut(service)?.task {
            Task::Provision(provisioning) => Some(provisioning),
            _ => None,
        }
    }

    /// Ends the active operation of a lane with this answer, and stirs the lane.
    pub(crate) fn complete(&mut self, service: ServiceId, answer: Result<Answer, Refusal>) {
        let Some(lane) = self.lanes.get_mut(&service) else { return };
        let op = lane.active.take();
        self.stirred.insert(service);
        if let Some(call) = op.and_then(|op| op.call) {
            self.reply(call, answer);
        }
    }

    /// Ends an order that is refused, and with it the identical ones that wait: they asked for the same thing, and would
    /// only hear the same again.
    pub(crate) fn complete_refused_order(&mut self, order: &Provision, refusal: &Refusal) {
        self.complete(order.id, Err(refusal.clone()));
        let same = |waiting: &Waiting| matches!(waiting, Waiting::Call(_, Command::Provision(it)) if it == order);
        for call in self.take_waiting(order.id, same) {
            self.reply(call, Err(refusal.clone()));
        }
    }

    /// Answers everything that waits for a service that is gone; orders for a new one with its id go on waiting.
    pub(crate) fn refuse_waiting(&mut self, service: ServiceId) {
        for call in self.take_waiting(service, |waiting| !waiting.is_provision()) {
            self.reply(call, Err(Refusal::UnknownService { service }));
        }
        self.stirred.insert(service);
    }

    fn take_waiting(&mut self, service: ServiceId, which: impl Fn(&Waiting) -> bool) -> Vec<CallId> {
        let Some(lane) = self.lanes.get_mut(&service) else { return Vec::new() };
        let (taken, kept) = std::mem::take(&mut lane.waiting).into_iter().partition(which);
        lane.waiting = kept;
        let call = |waiting: Waiting| match waiting {
            Waiting::Call(call, _) => Some(call),
            Waiting::Leave => None,
        };
        VecDeque::into_iter(taken).filter_map(call).collect()
    }

    pub(crate) fn reply(&mut self, call: CallId, answer: Result<Answer, Refusal>) {
        let open = self.calls.remove(&call);
        debug_assert!(open, "every call is answered once");
        self.effects.push_back(Effect::Reply { call, answer });
    }
}
