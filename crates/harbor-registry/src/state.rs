//! Committed state: what results from folding changes in revision order. Nothing else ever changes it.
//!
//! Fed by the commits room with every committed change, whoever wrote it; tells what each write did as [`Delta`]s. Knows
//! no reservation, no socket, no clock.

use std::collections::{BTreeMap, BTreeSet};

use harbor_types::{
    AppName, BackendRecord, BindingId, BindingRecord, Change, InstanceId, Loaded, OrgName, Port, QuarantineRecord,
    Record, RecordKey, Revision, ServiceId, ServiceName, ServiceRecord, SpaceName, Write,
};

/// An organisation's space.
pub(crate) type Place = (OrgName, SpaceName);

/// The place of a service.
pub(crate) fn place_of(record: &ServiceRecord) -> Place {
    (record.org.clone(), record.space.clone())
}

/// A live record and where in the history its latest put stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Committed<T> {
    pub(crate) record: T,
    pub(crate) revision: Revision,
    /// Place among the writes of its change.
    pub(crate) index: u32,
}

/// What one write did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Delta {
    ServicePut { id: ServiceId, before: Option<ServiceRecord> },
    ServiceGone(ServiceRecord),
    BindingPut(BindingId),
    BindingGone(BindingRecord),
    BackendPut { service: ServiceId, instance: InstanceId },
    BackendGone(BackendRecord),
    RestPut(Port),
    RestGone(Port),
}

/// Container ports of one space.
#[derive(Clone, Debug, Default)]
pub(crate) struct IntPorts {
    used: BTreeMap<Port, ServiceId>,
    /// No number from the first one to below this is free.
    full_below: u16,
}

impl IntPorts {
    pub(crate) fn contains(&self, port: Port) -> bool {
        self.used.contains_key(&port)
    }

    /// The lowest number from `first` that is neither used nor skipped.
    pub(crate) fn lowest_free(&self, first: Port, skip: impl Fn(Port) -> bool) -> Option<Port> {
        let from = first.get().max(self.full_below);
        (from..=u16::MAX).filter_map(|number| Port::new(number).ok()).find(|port| !self.contains(*port) && !skip(*port))
    }

    fn insert(&mut self, first: Port, port: Port, holder: ServiceId) {
        self.used.insert(port, holder);
        let mut next = first.get().max(self.full_below);
        while next < u16::MAX && Port::new(next).is_ok_and(|port| self.contains(port)) {
            next += 1;
        }
        self.full_below = next;
    }

    fn remove(&mut self, port: Port, holder: ServiceId) {
        if self.used.get(&port) == Some(&holder) {
            self.used.remove(&port);
            self.full_below = self.full_below.min(port.get());
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) committed: Committed<BindingRecord>,
    /// The service's, at the time of the put; `None`: there was no such service.
    place: Option<Place>,
}

/// The committed state.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) services: BTreeMap<ServiceId, Committed<ServiceRecord>>,
    pub(crate) names: BTreeMap<(OrgName, SpaceName, ServiceName), ServiceId>,
    pub(crate) int_ports: BTreeMap<Place, IntPorts>,
    pub(crate) ports: BTreeMap<Port, ServiceId>,
    pub(crate) bindings: BTreeMap<BindingId, Binding>,
    pub(crate) bindings_of: BTreeMap<ServiceId, BTreeSet<(AppName, BindingId)>>,
    pub(crate) bound_to: BTreeMap<(OrgName, SpaceName, AppName), BTreeSet<(ServiceId, BindingId)>>,
    pub(crate) backends: BTreeMap<ServiceId, BTreeMap<InstanceId, Committed<BackendRecord>>>,
    pub(crate) rests: BTreeMap<Port, Committed<QuarantineRecord>>,
    first_int_port: Port,
}

impl State {
    pub(crate) fn new(first_int_port: Port) -> Self {
        Self {
            revision: Revision(0),
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            int_ports: BTreeMap::new(),
            ports: BTreeMap::new(),
            bindings: BTreeMap::new(),
            bindings_of: BTreeMap::new(),
            bound_to: BTreeMap::new(),
            backends: BTreeMap::new(),
            rests: BTreeMap::new(),
            first_int_port,
        }
    }

    pub(crate) fn service(&self, id: ServiceId) -> Option<&ServiceRecord> {
        self.services.get(&id).map(|service| &service.record)
    }

    pub(crate) fn backend(&self, service: ServiceId, instance: &InstanceId) -> Option<&Committed<BackendRecord>> {
        self.backends.get(&service)?.get(instance)
    }

    pub(crate) fn apps_of(&self, service: ServiceId) -> impl Iterator<Item = (&AppName, BindingId)> {
        self.bindings_of.get(&service).into_iter().flatten().map(|(app, id)| (app, *id))
    }

    pub(crate) fn services_of(
        &self,
        place: &Place,
        app: &AppName,
    ) -> impl Iterator<Item = (&ServiceRecord, BindingId)> {
        let key = (place.0.clone(), place.1.clone(), app.clone());
        let bound = self.bound_to.get(&key).into_iter().flatten();
        bound.filter_map(|(service, binding)| Some((self.service(*service)?, *binding)))
    }

    /// Folds the change after the latest one.
    pub(crate) fn fold(&mut self, change: &Change) -> Vec<Delta> {
        debug_assert_eq!(change.revision, self.revision.next(), "changes are folded in order");
        self.revision = change.revision;
        let mut deltas = Vec::new();
        for (index, write) in (0..).zip(&change.writes) {
            match write {
                Write::Put(record) => deltas.extend(self.put(change.revision, index, record.clone())),
                Write::Delete(key) => deltas.extend(self.delete(key)),
            }
        }
        deltas
    }

    /// Becomes the state of `loaded`, by the differences.
    pub(crate) fn replace(&mut self, loaded: &Loaded) -> Vec<Delta> {
        self.revision = loaded.revision;
        let live: BTreeSet<RecordKey> = loaded.records.iter().map(|stored| stored.record.key()).collect();
        let mut deltas = Vec::new();
        for key in self.keys().into_iter().filter(|key| !live.contains(key)) {
            deltas.extend(self.delete(&key));
        }
        let (mut index, mut revision) = (0, Revision(0));
        for stored in &loaded.records {
            index = if stored.revision == revision { index + 1 } else { 0 };
            revision = stored.revision;
            if self.revision_of(&stored.record.key()) != Some(stored.revision) {
                deltas.extend(self.put(stored.revision, index, stored.record.clone()));
            }
        }
        deltas
    }

    /// Whether the state is as it would be after these writes, if they were committed later than `issued`.
    pub(crate) fn shows(&self, writes: &[Write], issued: Revision) -> bool {
        let last = |key: &RecordKey| {
            writes.iter().rev().find_map(|write| match write {
                Write::Put(record) if record.key() == *key => Some(Some(record)),
                Write::Delete(gone) if gone == key => Some(None),
                Write::Put(_) | Write::Delete(_) => None,
            })
        };
        let key_of = |write: &Write| match write {
            Write::Put(record) => record.key(),
            Write::Delete(key) => key.clone(),
        };
        let later = |key: &RecordKey| self.revision_of(key).is_none_or(|revision| revision > issued);
        writes.iter().map(key_of).all(|key| last(&key).flatten() == self.record(&key).as_ref() && later(&key))
    }

    fn keys(&self) -> Vec<RecordKey> {
        let bindings = self.bindings.keys().map(|id| RecordKey::Binding(*id));
        let backends = self.backends.iter();
        let backends = backends
            .flat_map(|(service, pool)| pool.keys().map(|instance| RecordKey::Backend(*service, instance.clone())));
        let services = self.services.keys().map(|id| RecordKey::Service(*id));
        let rests = self.rests.keys().map(|port| RecordKey::Quarantine(*port));
        bindings.chain(backends).chain(services).chain(rests).collect()
    }

    pub(crate) fn revision_of(&self, key: &RecordKey) -> Option<Revision> {
        match key {
            RecordKey::Service(id) => self.services.get(id).map(|service| service.revision),
            RecordKey::Binding(id) => self.bindings.get(id).map(|binding| binding.committed.revision),
            RecordKey::Backend(service, instance) => self.backend(*service, instance).map(|backend| backend.revision),
            RecordKey::Quarantine(port) => self.rests.get(port).map(|rest| rest.revision),
            _ => None,
        }
    }

    fn record(&self, key: &RecordKey) -> Option<Record> {
        match key {
            RecordKey::Service(id) => self.services.get(id).map(|it| Record::Service(it.record.clone())),
            RecordKey::Binding(id) => self.bindings.get(id).map(|it| Record::Binding(it.committed.record.clone())),
            RecordKey::Backend(service, instance) => {
                self.backend(*service, instance).map(|it| Record::Backend(it.record.clone()))
            }
            RecordKey::Quarantine(port) => self.rests.get(port).map(|it| Record::Quarantine(it.record)),
            _ => None,
        }
    }

    fn put(&mut self, revision: Revision, index: u32, record: Record) -> Option<Delta> {
        match record {
            Record::Service(record) => {
                let (id, place) = (record.id, place_of(&record));
                let before = self.services.remove(&id).map(|before| before.record);
                if let Some(before) = &before {
                    self.forget_unique_keys(before);
                }
                self.names.insert((place.0.clone(), place.1.clone(), record.name.clone()), id);
                self.ports.insert(record.port, id);
                self.int_ports.entry(place).or_default().insert(self.first_int_port, record.int_port, id);
                self.services.insert(id, Committed { record, revision, index });
                Some(Delta::ServicePut { id, before })
            }
            Record::Binding(record) => {
                let id = record.id;
                self.delete(&RecordKey::Binding(id));
                let place = self.service(record.service).map(place_of);
                self.bindings_of.entry(record.service).or_default().insert((record.app.clone(), id));
                if let Some((org, space)) = place.clone() {
                    let bound = self.bound_to.entry((org, space, record.app.clone())).or_default();
                    bound.insert((record.service, id));
                }
                self.bindings.insert(id, Binding { committed: Committed { record, revision, index }, place });
                Some(Delta::BindingPut(id))
            }
            Record::Backend(record) => {
                let (service, instance) = (record.service, record.instance.clone());
                let pool = self.backends.entry(service).or_default();
                pool.insert(instance.clone(), Committed { record, revision, index });
                Some(Delta::BackendPut { service, instance })
            }
            Record::Quarantine(record) => {
                self.rests.insert(record.port, Committed { record, revision, index });
                Some(Delta::RestPut(record.port))
            }
            // A record of a later kind: the store refuses to open a newer format, so none comes.
            _ => None,
        }
    }

    fn delete(&mut self, key: &RecordKey) -> Option<Delta> {
        match key {
            RecordKey::Service(id) => {
                let record = self.services.remove(id)?.record;
                self.forget_unique_keys(&record);
                Some(Delta::ServiceGone(record))
            }
            RecordKey::Binding(id) => {
                let Binding { committed: Committed { record, .. }, place } = self.bindings.remove(id)?;
                remove_from(&mut self.bindings_of, &record.service, &(record.app.clone(), *id));
                if let Some((org, space)) = place {
                    remove_from(&mut self.bound_to, &(org, space, record.app.clone()), &(record.service, *id));
                }
                Some(Delta::BindingGone(record))
            }
            RecordKey::Backend(service, instance) => {
                let pool = self.backends.get_mut(service)?;
                let gone = pool.remove(instance)?;
                if pool.is_empty() {
                    self.backends.remove(service);
                }
                Some(Delta::BackendGone(gone.record))
            }
            RecordKey::Quarantine(port) => self.rests.remove(port).map(|_| Delta::RestGone(*port)),
            _ => None,
        }
    }

    /// Only what is still its own: another's put may have taken it over in the same step.
    fn forget_unique_keys(&mut self, record: &ServiceRecord) {
        let place = place_of(record);
        let name = (place.0.clone(), place.1.clone(), record.name.clone());
        if self.names.get(&name) == Some(&record.id) {
            self.names.remove(&name);
        }
        if self.ports.get(&record.port) == Some(&record.id) {
            self.ports.remove(&record.port);
        }
        if let Some(space) = self.int_ports.get_mut(&place) {
            space.remove(record.int_port, record.id);
            if space.used.is_empty() {
                self.int_ports.remove(&place);
            }
        }
    }
}

fn remove_from<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
