//! A store in memory: the reference for what a [`Store`] does, and the one for tests. Keeps nothing past its life.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

use harbor_types::{Change, Changes, Commit, CommitOutcome, Loaded, Record, RecordKey, Revision, Stored, UniqueKey};

use crate::check::check_invariants;
use crate::plan::{View, plan};
use crate::retention::{RETENTION, Retention};
use crate::store::{Store, StoreError};

/// Keeps records in memory. Every commit succeeds or conflicts; nothing is unknown.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    tables: Tables,
    changes: VecDeque<Change>,
    revision: Revision,
    retention: Retention,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    records: BTreeMap<RecordKey, Row>,
    owners: BTreeMap<UniqueKey, RecordKey>,
}

#[derive(Clone, Debug)]
struct Row {
    revision: Revision,
    order: u64,
    record: Record,
}

impl MemoryStore {
    /// An empty store that keeps the latest [`RETENTION`] changes.
    #[must_use]
    pub fn new() -> Self {
        Self::with_retention(RETENTION)
    }

    /// An empty store that keeps the latest changes up to this number.
    #[must_use]
    pub fn with_retention(retention: Retention) -> Self {
        Self { retention, ..Self::default() }
    }

    fn state(&self) -> Loaded {
        let mut rows: Vec<&Row> = self.tables.records.values().collect();
        rows.sort_unstable_by_key(|row| (row.revision, row.order));
        let stored = |row: &Row| Stored { revision: row.revision, record: row.record.clone() };
        Loaded { revision: self.revision, records: rows.into_iter().map(stored).collect() }
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let state = self.state();
        debug_assert_eq!(check_invariants(&state), Ok(()));
        Ok(state)
    }

    fn commit(&mut self, commit: &Commit) -> CommitOutcome {
        let Ok(planned) = plan(&self.tables, commit);
        let plan = match planned {
            Ok(plan) => plan,
            Err(conflict) => return CommitOutcome::Conflict(conflict),
        };
        let revision = self.revision.next();
        for (key, put) in plan.records {
            match put {
                Some((order, record)) => {
                    self.tables.records.insert(key, Row { revision, order, record: record.clone() });
                }
                None => {
                    self.tables.records.remove(&key);
                }
            }
        }
        for (unique, owner) in plan.owners {
            match owner {
                Some(owner) => self.tables.owners.insert(unique, owner),
                None => self.tables.owners.remove(&unique),
            };
        }
        self.changes.push_back(Change { revision, token: commit.token, writes: commit.writes.clone() });
        while self.changes.front().is_some_and(|oldest| self.retention.forgets(oldest.revision, revision)) {
            self.changes.pop_front();
        }
        self.revision = revision;
        CommitOutcome::Committed(revision)
    }

    fn changes_since(&mut self, revision: Revision) -> Result<Changes, StoreError> {
        if revision > self.revision {
            return Err(StoreError::Behind { known: revision, found: self.revision });
        }
        let kept_from = self.changes.front().map_or(self.revision.next(), |oldest| oldest.revision);
        if revision.next() < kept_from {
            return Ok(Changes::Whole(self.state(), self.changes.iter().map(|change| change.token).collect()));
        }
        Ok(Changes::Since(self.changes.iter().filter(|change| change.revision > revision).cloned().collect()))
    }
}

impl View for Tables {
    type Error = Infallible;

    fn revision_of(&self, key: &RecordKey) -> Result<Option<Revision>, Infallible> {
        Ok(self.records.get(key).map(|row| row.revision))
    }

    fn owned_by(&self, key: &RecordKey) -> Result<Vec<UniqueKey>, Infallible> {
        Ok(self.records.get(key).map(|row| row.record.unique_keys()).unwrap_or_default())
    }

    fn owner(&self, key: &UniqueKey) -> Result<Option<RecordKey>, Infallible> {
        Ok(self.owners.get(key).cloned())
    }
}
