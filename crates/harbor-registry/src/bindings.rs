//! Services bound to apps. An app can not be bound to two services whose environment variable would be the same.
//!
//! Started by the lane of the service; the variable is reserved until the commit's outcome, since another service's lane
//! may be about to take it.

use harbor_types::{
    AppName, BindingId, BindingRecord, Expectation, Now, Record, RecordKey, ServiceId, Write, env_suffix,
};

use crate::calls::{Stage, Task};
use crate::commits::Owner;
use crate::state::place_of;
use crate::{Answer, CallId, Refusal, Registry};

impl Registry {
    pub(crate) fn begin_bind(&mut self, now: Now, call: CallId, id: BindingId, service: ServiceId, app: &AppName) {
        let Some(record) = self.state.service(service) else {
            return self.reply(call, Err(Refusal::UnknownService { service }));
        };
        let known = self.state.apps_of(service).find(|(bound, _)| *bound == app).map(|(_, id)| id);
        if let Some(id) = known {
            return self.reply(call, Ok(Answer::Bound { id, new: false }));
        }
        let (place, name, suffix) = (place_of(record), record.name.clone(), env_suffix(record.name.as_str()));
        let bound = self.state.services_of(&place, app).map(|(other, _)| &other.name);
        let alike = bound.filter(|other| env_suffix(other.as_str()) == suffix).min().cloned();
        let variable = (place.0, place.1, app.clone(), suffix.clone());
        if let Some(one) = alike.or_else(|| self.reserved.variables.get(&variable).cloned()) {
            let refusal = Refusal::SameVariable { one, other: name, variable: suffix, app: app.clone() };
            return self.reply(call, Err(refusal));
        }
        let key = RecordKey::Binding(id);
        if self.state.revision_of(&key).is_some() {
            let reason = format!("binding {id} is another service's or another app's");
            return self.reply(call, Err(Refusal::Conflict { reason }));
        }
        self.reserved.variables.insert(variable.clone(), name);
        self.activate(service, Some(call), Task::Bind { id, variable }, Stage::Committing);
        let mut expectations = self.unchanged(service);
        expectations.push(Expectation::Absent(key));
        let record = BindingRecord { id, service, app: app.clone(), created: now.wall };
        self.commit(Owner::Lane(service), expectations, vec![Write::Put(Record::Binding(record))]);
    }

    pub(crate) fn begin_unbind(&mut self, call: CallId, service: ServiceId, app: &AppName) {
        let Some(record) = self.state.service(service) else {
            return self.reply(call, Err(Refusal::UnknownService { service }));
        };
        let bindings = self.state.apps_of(service).filter(|(bound, _)| *bound == app);
        let writes: Vec<_> = bindings.map(|(_, id)| Write::Delete(RecordKey::Binding(id))).collect();
        if writes.is_empty() {
            let refusal = Refusal::UnknownBinding { name: record.name.clone(), app: app.clone() };
            return self.reply(call, Err(refusal));
        }
        self.activate(service, Some(call), Task::Unbind, Stage::Committing);
        self.commit(Owner::Lane(service), Vec::new(), writes);
    }
}
