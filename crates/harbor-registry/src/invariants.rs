//! What must hold after every call. Checked in debug builds: all of it while there is little, the counts always.

use harbor_alloc::PortUse;
use harbor_types::Port;

use crate::Registry;
use crate::calls::{Stage, Task};
use crate::commits::Owner;
use crate::services::Hold;

/// Services and ports up to which everything is looked at after each call; beyond, the sums.
const SMALL: usize = 64;

impl Registry {
    /// Checks the registry against itself: every port that is leased has one holder, every service its run time, every
    /// reservation a call in flight, every commit an owner that waits for it.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_sums()?;
        if self.state.services.len() + self.lanes.len() + self.reserved.ports.len() > SMALL {
            return Ok(());
        }
        self.check_ports()?;
        self.check_lanes()?;
        self.check_pools()
    }

    fn check_sums(&self) -> Result<(), String> {
        let services = self.state.services.len();
        for (what, count) in
            [("run times", self.runtimes.len()), ("names", self.state.names.len()), ("ports", self.state.ports.len())]
        {
            if count != services {
                return Err(format!("{services} services have {count} {what}"));
            }
        }
        let leased = self.ports.counts().leased + self.ports.counts_outside().leased;
        let held = services + self.reserved.ports.len() + self.closing_ports.len();
        if leased > held {
            return Err(format!("{leased} ports are leased to {held} holders"));
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), String> {
        for (id, service) in &self.state.services {
            let used = self.ports.state_of(service.record.port);
            if used != Some(PortUse::Leased(*id)) {
                return Err(format!("port {} of service {id} is {used:?}", service.record.port));
            }
        }
        // An order in flight may hold a port that another node has released meanwhile; its commit will fail.
        let claimed = |port: &&Port| self.state.ports.contains_key(port) || self.reserved.ports.contains_key(port);
        for port in self.state.rests.keys().filter(|port| !claimed(port)) {
            let used = self.ports.state_of(*port);
            if !matches!(used, Some(PortUse::Resting { .. })) {
                return Err(format!("port {port} rests on record and is {used:?}"));
            }
        }
        for (port, used) in self.ports.used() {
            let held = |holder| {
                self.state.ports.get(&port) == Some(holder)
                    || self.reserved.ports.get(&port) == Some(holder)
                    || self.closing_ports.get(&port) == Some(holder)
            };
            match used {
                PortUse::Leased(holder) if !held(&holder) => {
                    return Err(format!("port {port} is leased to {holder}, which has no claim to it"));
                }
                PortUse::Resting { .. } if !self.state.rests.contains_key(&port) => {
                    return Err(format!("port {port} rests without a record"));
                }
                PortUse::Leased(_) | PortUse::Resting { .. } | PortUse::SetAside { .. } => {}
            }
        }
        Ok(())
    }

    fn check_lanes(&self) -> Result<(), String> {
        let mut calls = 0;
        for (service, lane) in &self.lanes {
            let waiting = lane.waiting.iter().filter(|waiting| matches!(waiting, crate::calls::Waiting::Call(..)));
            calls += waiting.count();
            let Some(op) = &lane.active else {
                if lane.waiting.is_empty() || !self.closing.contains_key(service) {
                    return Err(format!("the lane of {service} stands still"));
                }
                continue;
            };
            calls += usize::from(op.call.is_some());
            let committing = self.commits.owners().filter(|owner| *owner == Owner::Lane(*service)).count();
            if committing != usize::from(op.stage == Stage::Committing) {
                return Err(format!("{service} is at {:?} with {committing} commits on their way", op.stage));
            }
            if let Task::Provision(order) = &op.task
                && !matches!(op.stage, Stage::Publishing(_))
                && self.reserved.ports.get(&order.record.port) != Some(service)
            {
                return Err(format!("the order for {service} does not hold port {}", order.record.port));
            }
        }
        let reserved = self.reserved.ports.values().chain(self.reserved.names.values());
        for service in reserved {
            if !matches!(self.active(*service).map(|op| &op.task), Some(Task::Provision(_))) {
                return Err(format!("{service} has reservations and no order"));
            }
        }
        if calls != self.calls.len() {
            return Err(format!("{} calls are open and {calls} are in flight", self.calls.len()));
        }
        Ok(())
    }

    fn check_pools(&self) -> Result<(), String> {
        for (service, runtime) in &self.runtimes {
            let Some(record) = self.state.service(*service) else {
                return Err(format!("{service} has a run time and no record"));
            };
            let recorded = self.state.backends.get(service);
            let live = runtime.pool.live();
            for (instance, member) in &live {
                let joined = recorded.and_then(|pool| pool.get(*instance)).map(|backend| backend.revision);
                if joined != Some(member.joined) {
                    return Err(format!("instance {instance} of {service} joined at {joined:?}"));
                }
            }
            if recorded.map_or(0, |pool| pool.len()) != live.len() + runtime.pool.expired().count() {
                return Err(format!("the pool of {service} is not what is recorded"));
            }
            for protocol in record.kind.protocols.iter() {
                let eligible = runtime.pool.eligible(protocol);
                if eligible.is_empty() && !live.is_empty() {
                    return Err(format!("{service} has live backends and no eligible one ({protocol})"));
                }
                if runtime.is_bound() && runtime.published.backends(protocol) != &eligible {
                    return Err(format!("{service} has an unpublished pool ({protocol})"));
                }
            }
            if runtime.hold == Hold::Waiting && !self.closing.contains_key(service) && !self.lanes.contains_key(service)
            {
                return Err(format!("{service} waits to be bound for nothing"));
            }
        }
        Ok(())
    }
}
