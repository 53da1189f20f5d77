//! (under construction: signatures first)
#![allow(unused_variables, missing_docs)]
use std::time::Instant;

use harbor_types::wire::{BindingView, EventList, PortsView, ServiceView};
use harbor_types::{AppName, Credentials, Loaded, Now, OrgName, Revision, ServiceId, ServiceName, SpaceName};

use crate::{CallId, Command, Config, Effect, Outcome};

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub services: usize,
    pub conflicted: usize,
    pub bindings: usize,
    pub backends: usize,
    pub eligible: usize,
    pub ports_free: usize,
    pub ports_leased: usize,
    pub ports_quarantined: usize,
    pub ports_held_by_others: usize,
    pub calls: usize,
}

#[derive(Debug)]
pub struct Registry {
    config: Config,
}

impl Registry {
    pub fn new(config: Config, seed: u64) -> Self {
        Self { config }
    }
    pub fn load(&mut self, now: Now, loaded: Loaded) {}
    pub fn command(&mut self, now: Now, call: CallId, command: Command) {}
    pub fn outcome(&mut self, now: Now, outcome: Outcome) {}
    pub fn on_deadline(&mut self, now: Now) {}
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }
    pub fn next_effect(&mut self) -> Option<Effect> {
        None
    }
    pub fn begin_drain(&mut self, now: Now) {}
    pub fn is_draining(&self) -> bool {
        false
    }
    pub fn is_idle(&self) -> bool {
        true
    }
    pub fn is_ready(&self) -> bool {
        false
    }
    pub fn config(&self) -> &Config {
        &self.config
    }
    pub fn revision(&self) -> Revision {
        Revision(0)
    }
    pub fn services(&self, now: Now) -> Vec<ServiceView> {
        Vec::new()
    }
    pub fn service(&self, now: Now, id: ServiceId) -> Option<ServiceView> {
        None
    }
    pub fn find(&self, org: &OrgName, space: &SpaceName, name: &ServiceName) -> Option<ServiceId> {
        None
    }
    pub fn credentials(&self, id: ServiceId) -> Option<Credentials> {
        None
    }
    pub fn bindings(&self, org: &OrgName, space: &SpaceName, app: &AppName) -> Vec<(ServiceName, Credentials)> {
        Vec::new()
    }
    pub fn binding_views(&self, org: &OrgName, space: &SpaceName, app: Option<&AppName>) -> Vec<BindingView> {
        Vec::new()
    }
    pub fn ports(&self, now: Now) -> PortsView {
        PortsView { range: String::new(), free: 0, leased: 0, quarantined: 0, held_by_others: 0, ports: Vec::new() }
    }
    pub fn events(&self, since: u64, limit: usize) -> EventList {
        EventList { events: Vec::new(), latest: 0, missed: false }
    }
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
    pub fn check_invariants(&self) -> Result<(), String> {
        Ok(())
    }
}
