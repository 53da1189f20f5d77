//! A committed store in memory: just what a commit means, written without a look at the real ones.

use std::collections::{BTreeMap, BTreeSet};

use harbor_types::{
    Change, Changes, Commit, CommitOutcome, CommitToken, Conflict, Expectation, InstanceId, Loaded, Port,
    QuarantineRecord, Record, RecordKey, Revision, ServiceId, ServiceRecord, Stored, UniqueKey, Write,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeStore {
    pub(crate) changes: Vec<Change>,
    records: BTreeMap<RecordKey, (Revision, usize, Record)>,
    /// Changes before this one are no longer told one by one.
    pub(crate) compacted: usize,
}

impl FakeStore {
    pub(crate) fn revision(&self) -> Revision {
        Revision(u64::try_from(self.changes.len()).unwrap())
    }

    pub(crate) fn record(&self, key: &RecordKey) -> Option<&Record> {
        self.records.get(key).map(|(_, _, record)| record)
    }

    pub(crate) fn service(&self, id: ServiceId) -> Option<&ServiceRecord> {
        match self.record(&RecordKey::Service(id)) {
            Some(Record::Service(service)) => Some(service),
            _ => None,
        }
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceRecord> {
        self.records.values().filter_map(|(_, _, record)| match record {
            Record::Service(service) => Some(service),
            _ => None,
        })
    }

    pub(crate) fn rests(&self) -> impl Iterator<Item = &QuarantineRecord> {
        self.records.values().filter_map(|(_, _, record)| match record {
            Record::Quarantine(rest) => Some(rest),
            _ => None,
        })
    }

    pub(crate) fn instances(&self, service: ServiceId) -> BTreeSet<InstanceId> {
        let keys = self.records.keys().filter_map(|key| match key {
            RecordKey::Backend(of, instance) if *of == service => Some(instance.clone()),
            _ => None,
        });
        keys.collect()
    }

    pub(crate) fn owner(&self, key: &UniqueKey) -> Option<RecordKey> {
        let owner = self.records.iter().find(|(_, (_, _, record))| record.unique_keys().contains(key));
        owner.map(|(owner, _)| owner.clone())
    }

    pub(crate) fn owner_of_port(&self, port: Port) -> Option<RecordKey> {
        self.owner(&UniqueKey::Port(port))
    }

    pub(crate) fn load(&self) -> Loaded {
        let mut records: Vec<_> = self.records.values().cloned().collect();
        records.sort_by_key(|(revision, index, _)| (*revision, *index));
        let records = records.into_iter().map(|(revision, _, record)| Stored { revision, record }).collect();
        Loaded { revision: self.revision(), records }
    }

    pub(crate) fn commit(&mut self, commit: &Commit) -> CommitOutcome {
        for expectation in &commit.expectations {
            let conflict = match expectation {
                Expectation::Free(key) => self.owner(key).map(|_| Conflict::Taken(key.clone())),
                Expectation::Absent(key) => self.records.get(key).map(|_| Conflict::Changed(key.clone())),
                Expectation::At(key, at) => {
                    let found = self.records.get(key).map(|(revision, _, _)| *revision);
                    (found != Some(*at)).then(|| Conflict::Changed(key.clone()))
                }
            };
            if let Some(conflict) = conflict {
                return CommitOutcome::Conflict(conflict);
            }
        }
        let (before, revision) = (self.records.clone(), self.revision().next());
        for (index, write) in commit.writes.iter().enumerate() {
            match write {
                Write::Delete(key) => _ = self.records.remove(key),
                Write::Put(record) => {
                    self.records.remove(&record.key());
                    if let Some(key) = record.unique_keys().into_iter().find(|key| self.owner(key).is_some()) {
                        self.records = before;
                        return CommitOutcome::Conflict(Conflict::Taken(key));
                    }
                    self.records.insert(record.key(), (revision, index, record.clone()));
                }
            }
        }
        self.changes.push(Change { revision, token: commit.token, writes: commit.writes.clone() });
        CommitOutcome::Committed(revision)
    }

    pub(crate) fn changes_since(&self, revision: Revision) -> Changes {
        let since = usize::try_from(revision.0).unwrap();
        if since < self.compacted {
            let kept = self.changes.iter().skip(self.compacted);
            let tokens: Vec<CommitToken> = kept.map(|change| change.token).collect();
            return Changes::Whole(self.load(), tokens);
        }
        Changes::Since(self.changes[since..].to_vec())
    }
}
