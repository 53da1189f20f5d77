//! An order's way: checked, everything reserved, the port held, the record committed, the promise given.
//!
//! Started by the lane of the service to be; fed by bind outcomes and commit resolutions. Gives back all it reserved when
//! it fails, and never before it is certain that nothing is committed.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use harbor_alloc::LeaseError;
use harbor_types::wire::EventKind;
use harbor_types::{
    Access, Claim, Conflict, Expectation, Now, Port, Record, RecordKey, ServiceId, ServiceKind, ServiceRecord,
    UniqueKey, Write,
};

use crate::calls::{Provisioning, Stage, Task};
use crate::commits::{Owner, Resolution};
use crate::services::{bind_order, describe};
use crate::state::{Place, place_of};
use crate::{Answer, BindFailure, CallId, Effect, Provision, Refusal, Registry};

/// Container ports that one order tries; only other nodes' orders make it more than one.
const INT_PORTS_TRIED: usize = 64;

impl Registry {
    pub(crate) fn begin_provision(&mut self, now: Now, call: CallId, order: Provision) {
        match self.draft(now, &order) {
            Ok(Draft::New(record)) => self.start_order(now, call, order, record),
            Ok(Draft::Exists) => self.reply(call, Ok(Answer::Existing(order.id))),
            Err(refusal) => {
                // The identical orders behind it are refused by the same rules when their turn comes.
                self.reply(call, Err(refusal));
            }
        }
    }

    fn start_order(&mut self, now: Now, call: CallId, order: Provision, record: ServiceRecord) {
        let id = order.id;
        let (tried, skipped) = (BTreeSet::new(), BTreeSet::new());
        let (org, space) = place_of(&record);
        self.reserved.names.insert((org.clone(), space.clone(), record.name.clone()), id);
        self.reserved.int_ports.entry((org, space)).or_default().insert(record.int_port);
        let port = order.port;
        let provisioning = Provisioning { order, record, tried, skipped, held: None };
        self.activate(id, Some(call), Task::Provision(Box::new(provisioning)), Stage::Holding);
        match port {
            // Leased by the draft already.
            Some(port) => self.hold_candidate(id, port),
            None => self.next_candidate(now, id),
        }
    }

    /// The record to be, with its container port chosen, and its external one leased if it was asked for.
    fn draft(&mut self, now: Now, order: &Provision) -> Result<Draft, Refusal> {
        let kind = ServiceKind::decide(&order.name, order.protocol, order.https)?;
        if let Some(record) = self.state.service(order.id) {
            let difference = difference(order, kind, record);
            return match difference {
                None => Ok(Draft::Exists),
                Some(difference) => Err(Refusal::IdTaken { id: order.id, difference }),
            };
        }
        let place = (order.org.clone(), order.space.clone());
        let name = (order.org.clone(), order.space.clone(), order.name.clone());
        if self.state.names.contains_key(&name) || self.reserved.names.contains_key(&name) {
            let (org, space, name) = name;
            return Err(Refusal::NameTaken { org, space, name });
        }
        let access = match order.access {
            Some(Access::Public) if self.config.public.is_none() => return Err(Refusal::PublicNotAllowed),
            Some(access) => access,
            None if self.config.public.is_some() => Access::Public,
            None => Access::Internal,
        };
        let int_port = self.choose_int_port(&place, order.int_port, &BTreeSet::new())?;
        if let Some(port) = order.port {
            self.lease_exactly(now, port, order.id)?;
        }
        // The first candidate replaces the placeholder before anybody sees it.
        let port = order.port.unwrap_or(int_port);
        let (org, space) = place;
        let (home, created) = (self.config.node_id.clone(), now.wall);
        let (id, name) = (order.id, order.name.clone());
        Ok(Draft::New(ServiceRecord { id, org, space, name, kind, port, int_port, access, home, created }))
    }

    fn choose_int_port(&self, place: &Place, asked: Option<Port>, skip: &BTreeSet<Port>) -> Result<Port, Refusal> {
        let (org, space) = place.clone();
        let used = self.state.int_ports.get(place);
        if let Some(int_port) = asked {
            let taken =
                used.is_some_and(|used| used.contains(int_port)) || self.reserved.holds_int_port(place, int_port);
            return if taken { Err(Refusal::IntPortTaken { int_port, org, space }) } else { Ok(int_port) };
        }
        let first = self.config.first_int_port;
        let unavailable = |port| skip.contains(&port) || self.reserved.holds_int_port(place, port);
        let empty = Default::default();
        used.unwrap_or(&empty).lowest_free(first, unavailable).ok_or(Refusal::IntPortsExhausted { org, space })
    }

    fn lease_exactly(&mut self, now: Now, port: Port, id: ServiceId) -> Result<(), Refusal> {
        self.ports.lease_exact(port, id).map_err(|error| match error {
            LeaseError::Resting { port, until } => {
                Refusal::PortResting { port, left: until.saturating_duration_since(now.mono).into() }
            }
            LeaseError::Outside(port) => Refusal::PortOutside { port, ranges: self.config.ranges.clone() },
            _ => Refusal::PortTaken { port },
        })?;
        self.reserved.ports.insert(port, id);
        Ok(())
    }

    /// Draws the next port that this order has not tried, or refuses it.
    fn next_candidate(&mut self, now: Now, id: ServiceId) {
        let tried = self.provisioning(id).map(|order| std::mem::take(&mut order.tried)).unwrap_or_default();
        let candidate = self.ports.lease_except(id, &tried);
        if let Some(order) = self.provisioning(id) {
            order.tried = tried;
        }
        match candidate {
            Ok(port) => {
                self.reserved.ports.insert(port, id);
                self.hold_candidate(id, port);
            }
            Err(_) => {
                let counts = self.ports.counts();
                let refusal = Refusal::Exhausted {
                    ranges: self.config.ranges.clone(),
                    leased: counts.leased,
                    quarantined: counts.quarantined,
                    held_by_others: counts.held_by_others,
                };
                self.refuse_order(now, id, &refusal);
            }
        }
    }

    fn hold_candidate(&mut self, id: ServiceId, port: Port) {
        let Some(order) = self.provisioning(id) else { return };
        order.record.port = port;
        order.tried.insert(port);
        let effect = Effect::Bind(bind_order(&order.record, Claim::Fresh));
        self.effects.push_back(effect);
        if let Some(op) = self.active_mut(id) {
            op.stage = Stage::Holding;
        }
    }

    pub(crate) fn on_order_bound(&mut self, now: Now, id: ServiceId, result: Result<Vec<SocketAddr>, BindFailure>) {
        let Some(order) = self.provisioning(id) else { return };
        let (port, explicit) = (order.record.port, order.order.port.is_some());
        match result {
            Ok(addrs) => {
                order.held = Some(addrs);
                self.commit_order(id);
            }
            Err(BindFailure::InUse { protocol, addr }) => {
                self.pass_over(now, id, format!("{addr} ({protocol}) is held by another process"));
                if explicit {
                    self.refuse_order(now, id, &Refusal::PortHeld { port, protocol });
                } else {
                    self.next_candidate(now, id);
                }
            }
            Err(BindFailure::Other { reason }) => {
                self.refuse_order(now, id, &Refusal::BindFailed { port, reason });
            }
        }
    }

    /// Gives up the order's candidate, which somebody else has, and leaves it alone for a while.
    fn pass_over(&mut self, now: Now, id: ServiceId, why: String) {
        let Some(port) = self.provisioning(id).map(|order| order.record.port) else { return };
        self.reserved.ports.remove(&port);
        self.settle_port(now, port);
        if self.ports.state_of(port).is_none() {
            self.ports.set_aside(port, now.mono + self.config.set_aside.as_duration());
        }
        self.events.push(now.wall, EventKind::PortSetAside, None, why);
    }

    fn commit_order(&mut self, id: ServiceId) {
        let Some(record) = self.provisioning(id).map(|order| order.record.clone()) else { return };
        let mut expectations = vec![Expectation::Absent(RecordKey::Service(id))];
        let record = Record::Service(record);
        expectations.extend(record.unique_keys().into_iter().map(Expectation::Free));
        if let Some(op) = self.active_mut(id) {
            op.stage = Stage::Committing;
        }
        self.commit(Owner::Lane(id), expectations, vec![Write::Put(record)]);
    }

    pub(crate) fn on_order_resolved(&mut self, now: Now, id: ServiceId, resolution: Resolution) {
        let Some(order) = self.provisioning(id) else { return };
        let record = order.record.clone();
        match resolution {
            Resolution::Committed if self.state.service(id) == Some(&record) => {
                self.release_reservations(now, id);
                self.await_publish(id);
            }
            Resolution::Committed => {
                // Another node has deleted it before its outcome arrived here.
                self.release_sockets(id);
                self.release_reservations(now, id);
                self.complete(id, Err(Refusal::UnknownService { service: id }));
                self.ensure_bound(id);
            }
            Resolution::Failed(reason) => self.refuse_order(now, id, &Refusal::StoreFailed { reason }),
            Resolution::Conflict(Conflict::Taken(UniqueKey::Port(port))) if port == record.port => {
                self.release_sockets(id);
                self.pass_over(now, id, format!("port {port} belongs to a service of another node"));
                if self.provisioning(id).is_some_and(|order| order.order.port.is_some()) {
                    self.refuse_order(now, id, &Refusal::PortTaken { port });
                } else {
                    self.next_candidate(now, id);
                }
            }
            Resolution::Conflict(Conflict::Taken(UniqueKey::IntPort(..))) => self.next_int_port(now, id, &record),
            Resolution::Conflict(Conflict::Taken(UniqueKey::Name(org, space, name))) => {
                self.refuse_order(now, id, &Refusal::NameTaken { org, space, name });
            }
            Resolution::Conflict(conflict) => {
                self.refuse_order(now, id, &Refusal::Conflict { reason: describe(&conflict) });
            }
        }
    }

    /// The container port is taken by an order of another node: the next one, with the same sockets.
    fn next_int_port(&mut self, now: Now, id: ServiceId, record: &ServiceRecord) {
        let place = place_of(record);
        let Some(order) = self.provisioning(id) else { return };
        order.skipped.insert(record.int_port);
        let (asked, skipped) = (order.order.int_port, order.skipped.clone());
        let (org, space) = place.clone();
        if asked.is_some() || skipped.len() >= INT_PORTS_TRIED {
            return self.refuse_order(now, id, &Refusal::IntPortTaken { int_port: record.int_port, org, space });
        }
        match self.choose_int_port(&place, None, &skipped) {
            Ok(int_port) => {
                self.reserved.release_int_port(&place, record.int_port);
                self.reserved.int_ports.entry(place).or_default().insert(int_port);
                if let Some(order) = self.provisioning(id) {
                    order.record.int_port = int_port;
                }
                self.commit_order(id);
            }
            Err(refusal) => self.refuse_order(now, id, &refusal),
        }
    }

    /// Ends an order of which it is certain that nothing is committed.
    fn refuse_order(&mut self, now: Now, id: ServiceId, refusal: &Refusal) {
        self.release_sockets(id);
        self.release_reservations(now, id);
        if let Some(order) = self.provisioning(id).map(|order| order.order.clone()) {
            self.complete_refused_order(&order, refusal);
        }
        self.ensure_bound(id);
    }

    fn release_sockets(&mut self, id: ServiceId) {
        if self.provisioning(id).is_some_and(|order| order.held.take().is_some()) {
            self.effects.push_back(Effect::Release { service: id });
        }
    }

    fn release_reservations(&mut self, now: Now, id: ServiceId) {
        let Some(record) = self.provisioning(id).map(|order| order.record.clone()) else { return };
        let place = place_of(&record);
        self.reserved.release_int_port(&place, record.int_port);
        self.reserved.names.remove(&(place.0, place.1, record.name));
        if self.reserved.ports.get(&record.port) == Some(&id) {
            self.reserved.ports.remove(&record.port);
            self.settle_port(now, record.port);
        }
    }
}

enum Draft {
    New(ServiceRecord),
    Exists,
}

/// What an order with the id of a service asks for that the service is not; `None`: it is the same order. An option that
/// was not given matches whatever was decided for it, except where the name decides.
fn difference(order: &Provision, kind: ServiceKind, record: &ServiceRecord) -> Option<String> {
    let mut differs = Vec::new();
    let mut compare = |what: &str, is: String, asked: Option<String>| {
        if let Some(asked) = asked.filter(|asked| *asked != is) {
            differs.push(format!("{what} is {is}, not {asked}"));
        }
    };
    compare("organisation", record.org.to_string(), Some(order.org.to_string()));
    compare("space", record.space.to_string(), Some(order.space.to_string()));
    compare("name", record.name.to_string(), Some(order.name.to_string()));
    compare("kind", record.kind.to_string(), Some(kind.to_string()));
    compare("port", record.port.to_string(), order.port.map(|port| port.to_string()));
    compare("int_port", record.int_port.to_string(), order.int_port.map(|port| port.to_string()));
    let word = |access: Access| match access {
        Access::Internal => "internal".to_owned(),
        Access::Public => "public".to_owned(),
    };
    compare("access", word(record.access), order.access.map(word));
    (!differs.is_empty()).then(|| differs.join(", "))
}
