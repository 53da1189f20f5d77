//! The simplest thing that could be a store, and random commits that every store must answer as it does.

use std::num::NonZeroU64;

use harbor_store::{MemoryStore, RedbStore, Retention, Store};
use harbor_types::{
    Change, Changes, Commit, CommitOutcome, CommitToken, Conflict, Expectation, Loaded, RecordKey, Revision, Stored,
    UniqueKey, Write,
};
use proptest::prelude::*;

use crate::disk_model::ModelDisk;
use crate::script::{backend, binding, commit, instance_id, port, rest, service, service_id};

/// A list of records and a list of changes; every question is a walk along the list.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) state: Loaded,
    pub(crate) changes: Vec<Change>,
}

impl Model {
    pub(crate) fn commit(&mut self, commit: &Commit) -> CommitOutcome {
        match self.conflict_or_next(commit) {
            Err(conflict) => CommitOutcome::Conflict(conflict),
            Ok(next) => {
                self.state = next;
                let revision = self.state.revision;
                self.changes.push(Change { revision, token: commit.token, writes: commit.writes.clone() });
                CommitOutcome::Committed(revision)
            }
        }
    }

    fn conflict_or_next(&self, commit: &Commit) -> Result<Loaded, Conflict> {
        let owned = |unique: &UniqueKey| self.state.records.iter().any(|s| s.record.unique_keys().contains(unique));
        let find = |key: &RecordKey| self.state.records.iter().find(|stored| stored.record.key() == *key);
        for expectation in &commit.expectations {
            match expectation {
                Expectation::Free(unique) if owned(unique) => return Err(Conflict::Taken(unique.clone())),
                Expectation::Absent(key) if find(key).is_some() => return Err(Conflict::Changed(key.clone())),
                Expectation::At(key, at) if find(key).is_none_or(|s| s.revision != *at) => {
                    return Err(Conflict::Changed(key.clone()));
                }
                _ => {}
            }
        }
        let mut next = self.state.clone();
        next.revision = Revision(next.revision.0 + 1);
        for write in &commit.writes {
            let key = match write {
                Write::Put(record) => record.key(),
                Write::Delete(key) => key.clone(),
            };
            next.records.retain(|stored| stored.record.key() != key);
            if let Write::Put(record) = write {
                for unique in record.unique_keys() {
                    if next.records.iter().any(|stored| stored.record.unique_keys().contains(&unique)) {
                        return Err(Conflict::Taken(unique));
                    }
                }
                next.records.push(Stored { revision: next.revision, record: record.clone() });
            }
        }
        Ok(next)
    }

    pub(crate) fn changes_since(&self, revision: Revision, kept: usize) -> Changes {
        let since = |revision| self.changes.iter().filter(move |c| c.revision > revision);
        if since(revision).count() <= kept {
            return Changes::Since(since(revision).cloned().collect());
        }
        let tokens: Vec<CommitToken> = self.changes.iter().map(|c| c.token).collect();
        Changes::Whole(self.state.clone(), tokens[tokens.len() - kept..].to_vec())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Group(Vec<Commit>),
    Reopen,
    ChangesSince(u64),
}

const KEPT: u64 = 6;

fn any_write() -> impl Strategy<Value = Write> {
    // Few numbers, so that keys collide often.
    prop_oneof![
        4 => (0..4u16, 0..4u16).prop_map(|(n, p)| Write::Put(service(n, 20_000 + p))),
        2 => (0..4u16, 0..3u16).prop_map(|(n, i)| Write::Put(backend(n, i))),
        1 => (0..4u16).prop_map(|n| Write::Put(binding(n))),
        2 => (0..4u16).prop_map(|p| Write::Put(rest(20_000 + p))),
        2 => (0..4u16).prop_map(|n| Write::Delete(RecordKey::Service(service_id(n)))),
        1 => (0..4u16, 0..3u16).prop_map(|(n, i)| Write::Delete(RecordKey::Backend(service_id(n), instance_id(i)))),
        2 => (0..4u16).prop_map(|p| Write::Delete(RecordKey::Quarantine(port(20_000 + p)))),
    ]
}

fn any_expectation() -> impl Strategy<Value = Expectation> {
    let any_key = prop_oneof![
        (0..4u16).prop_map(|n| RecordKey::Service(service_id(n))),
        (0..4u16, 0..3u16).prop_map(|(n, i)| RecordKey::Backend(service_id(n), instance_id(i))),
        (0..4u16).prop_map(|p| RecordKey::Quarantine(port(20_000 + p))),
    ];
    prop_oneof![
        (0..4u16).prop_map(|p| Expectation::Free(UniqueKey::Port(port(20_000 + p)))),
        any_key.clone().prop_map(Expectation::Absent),
        (any_key, 1..12u64).prop_map(|(key, at)| Expectation::At(key, Revision(at))),
    ]
}

fn any_commit() -> impl Strategy<Value = Commit> {
    let expectations = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any_expectation(), 1..3)];
    (any::<u128>(), expectations, prop::collection::vec(any_write(), 0..4))
        .prop_map(|(token, expectations, writes)| Commit { expectations, ..commit(token, writes) })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(any_commit(), 1..4).prop_map(Step::Group),
        1 => Just(Step::Reopen),
        2 => (0..30u64).prop_map(Step::ChangesSince),
    ]
}

fn agree(steps: &[Step], mut store: Box<dyn Store>, reopen: impl Fn(Box<dyn Store>) -> Box<dyn Store>) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Group(commits) => {
                let want: Vec<CommitOutcome> = commits.iter().map(|commit| model.commit(commit)).collect();
                assert_eq!(store.commit_all(commits), want, "{commits:?}");
            }
            Step::Reopen => store = reopen(store),
            Step::ChangesSince(back) => {
                let since = Revision(model.state.revision.0.saturating_sub(*back));
                let want = model.changes_since(since, usize::try_from(KEPT).unwrap());
                assert_eq!(store.changes_since(since).unwrap(), want, "since {since}");
            }
        }
        assert_eq!(store.load().unwrap(), model.state, "after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn memory_store_agrees_with_the_model(steps in prop::collection::vec(any_step(), 1..40)) {
        agree(&steps, Box::new(MemoryStore::with_retention(Retention(NonZeroU64::new(KEPT).unwrap()))), |store| store);
    }

    #[test]
    fn redb_store_agrees_with_the_model(steps in prop::collection::vec(any_step(), 1..40)) {
        let retention = Retention(NonZeroU64::new(KEPT).unwrap());
        let disk = ModelDisk::default();
        let store = RedbStore::create_on(Box::new(disk.clone()), retention).unwrap();
        agree(&steps, Box::new(store), |store| {
            drop(store);
            Box::new(RedbStore::open_on(Box::new(disk.clone()), retention).unwrap())
        });
    }
}
