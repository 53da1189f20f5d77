//! The tables of the state file: what is in them, how it is encoded, and that they agree with each other.
//!
//! Called by [`RedbStore`](crate::RedbStore) inside its transactions. Begins and ends none, and opens no file.

use harbor_types::{
    Change, Changes, Commit, CommitToken, Loaded, Record, RecordKey, Revision, Stored, UniqueKey, Write,
};
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};

use crate::check::check_invariants;
use crate::plan::{Plan, View};
use crate::retention::Retention;

/// Numbers by name; kept in this shape by every format, so that each can tell another from a damaged file.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Key → revision of the latest put, index of the write in its change, record.
const RECORDS: TableDefinition<'_, &[u8], (u64, u64, &[u8])> = TableDefinition::new("records");
/// Unique key → key of the record that owns it.
const OWNERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("unique");
/// Revision → token, writes.
const CHANGES: TableDefinition<'_, u64, (u128, &[u8])> = TableDefinition::new("changes");

/// Format of the file: these tables, and records as this version of harbor-types writes them. A new kind of record, or
/// a new field in one, is a new format: an older program must refuse it rather than drop what it does not know.
pub(crate) const FORMAT: u64 = 1;
/// Entry of [`META`]: the format.
pub(crate) const FORMAT_KEY: &str = "format";
/// Entry of [`META`]: the latest revision.
const REVISION_KEY: &str = "revision";
/// Entry of [`META`]: how often the file was opened; written to have something to commit.
const OPENED_KEY: &str = "opened";

/// Why tables cannot be read or written.
#[derive(Debug)]
pub(crate) enum TableFault {
    /// redb, or the disk below it.
    Redb(Box<redb::Error>),
    /// They hold what no store wrote.
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for TableFault {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

fn damaged(what: impl Into<String>) -> TableFault {
    TableFault::Damaged(what.into())
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, TableFault> {
    serde_json::to_vec(value).map_err(|error| damaged(format!("cannot encode: {error}")))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, TableFault> {
    serde_json::from_slice(bytes).map_err(|error| damaged(format!("cannot decode {}: {error}", excerpt(bytes))))
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(80).collect()
}

/// Makes the tables of an empty store.
pub(crate) fn initialise(txn: &WriteTransaction) -> Result<(), TableFault> {
    txn.open_table(RECORDS)?;
    txn.open_table(OWNERS)?;
    txn.open_table(CHANGES)?;
    let mut meta = txn.open_table(META)?;
    meta.insert(FORMAT_KEY, FORMAT)?;
    meta.insert(REVISION_KEY, 0)?;
    meta.insert(OPENED_KEY, 0)?;
    Ok(())
}

/// Counts an opening: the smallest change that rewrites the roots of all trees.
pub(crate) fn mark_opened(txn: &WriteTransaction) -> Result<(), TableFault> {
    let mut meta = txn.open_table(META)?;
    let opened = meta.get(OPENED_KEY)?.map_or(0, |count| count.value());
    meta.insert(OPENED_KEY, opened.wrapping_add(1))?;
    Ok(())
}

/// The format, and the latest revision if the format is ours.
pub(crate) fn format_and_revision(txn: &ReadTransaction) -> Result<(u64, Revision), TableFault> {
    let meta = txn.open_table(META)?;
    let format = meta.get(FORMAT_KEY)?.ok_or_else(|| damaged("no format number"))?.value();
    Ok((format, if format == FORMAT { latest(&meta)? } else { Revision(0) }))
}

fn latest(meta: &impl ReadableTable<&'static str, u64>) -> Result<Revision, TableFault> {
    Ok(Revision(meta.get(REVISION_KEY)?.ok_or_else(|| damaged("no revision"))?.value()))
}

/// The tables within a write transaction.
pub(crate) struct Tables<'txn> {
    records: Table<'txn, &'static [u8], (u64, u64, &'static [u8])>,
    owners: Table<'txn, &'static [u8], &'static [u8]>,
    changes: Table<'txn, u64, (u128, &'static [u8])>,
    meta: Table<'txn, &'static str, u64>,
}

impl<'txn> Tables<'txn> {
    pub(crate) fn open(txn: &'txn WriteTransaction) -> Result<Self, TableFault> {
        Ok(Self {
            records: txn.open_table(RECORDS)?,
            owners: txn.open_table(OWNERS)?,
            changes: txn.open_table(CHANGES)?,
            meta: txn.open_table(META)?,
        })
    }

    pub(crate) fn revision(&self) -> Result<Revision, TableFault> {
        latest(&self.meta)
    }

    /// Writes what was planned, as `revision`, and forgets the changes that are too old by then.
    pub(crate) fn apply(
        &mut self,
        revision: Revision,
        commit: &Commit,
        plan: Plan<'_>,
        retention: Retention,
    ) -> Result<(), TableFault> {
        for (key, put) in plan.records {
            let key = encode(&key)?;
            match put {
                Some((order, record)) => {
                    self.records.insert(key.as_slice(), (revision.0, order, encode(record)?.as_slice()))?;
                }
                None => {
                    self.records.remove(key.as_slice())?;
                }
            }
        }
        for (unique, owner) in plan.owners {
            let unique = encode(&unique)?;
            match owner {
                Some(owner) => self.owners.insert(unique.as_slice(), encode(&owner)?.as_slice())?,
                None => self.owners.remove(unique.as_slice())?,
            };
        }
        self.changes.insert(revision.0, (commit.token.0, encode(&commit.writes)?.as_slice()))?;
        while self.changes.first()?.is_some_and(|(oldest, _)| retention.forgets(Revision(oldest.value()), revision)) {
            self.changes.pop_first()?;
        }
        self.meta.insert(REVISION_KEY, revision.0)?;
        Ok(())
    }
}

impl View for Tables<'_> {
    type Error = TableFault;

    fn revision_of(&self, key: &RecordKey) -> Result<Option<Revision>, TableFault> {
        Ok(self.records.get(encode(key)?.as_slice())?.map(|row| Revision(row.value().0)))
    }

    fn owned_by(&self, key: &RecordKey) -> Result<Vec<UniqueKey>, TableFault> {
        let Some(row) = self.records.get(encode(key)?.as_slice())? else { return Ok(Vec::new()) };
        Ok(decode::<Record>(row.value().2)?.unique_keys())
    }

    fn owner(&self, key: &UniqueKey) -> Result<Option<RecordKey>, TableFault> {
        self.owners.get(encode(key)?.as_slice())?.map(|owner| decode(owner.value())).transpose()
    }
}

/// The tables within a read transaction.
pub(crate) struct Snapshot {
    records: ReadOnlyTable<&'static [u8], (u64, u64, &'static [u8])>,
    owners: ReadOnlyTable<&'static [u8], &'static [u8]>,
    changes: ReadOnlyTable<u64, (u128, &'static [u8])>,
    revision: Revision,
}

impl Snapshot {
    pub(crate) fn open(txn: &ReadTransaction) -> Result<Self, TableFault> {
        Ok(Self {
            records: txn.open_table(RECORDS)?,
            owners: txn.open_table(OWNERS)?,
            changes: txn.open_table(CHANGES)?,
            revision: latest(&txn.open_table(META)?)?,
        })
    }

    pub(crate) const fn revision(&self) -> Revision {
        self.revision
    }

    /// The whole state, with the tables checked against each other.
    pub(crate) fn load(&self) -> Result<Loaded, TableFault> {
        let mut rows = Vec::new();
        for entry in self.records.iter()? {
            let (key, row) = entry?;
            let (revision, order, json) = row.value();
            let record: Record = decode(json)?;
            if encode(&record.key())? != key.value() {
                return Err(damaged(format!("a record stored as {} has another key", excerpt(key.value()))));
            }
            rows.push((order, Stored { revision: Revision(revision), record }));
        }
        rows.sort_unstable_by_key(|(order, stored)| (stored.revision, *order));
        let state = Loaded { revision: self.revision, records: rows.into_iter().map(|(_, stored)| stored).collect() };
        check_invariants(&state).map_err(|error| damaged(error.to_string()))?;
        self.check_owners(&state)?;
        self.kept_from()?;
        Ok(state)
    }

    /// Every change after `revision`, or the whole state.
    pub(crate) fn changes_since(&self, revision: Revision) -> Result<Changes, TableFault> {
        if revision >= self.revision {
            return Ok(Changes::Since(Vec::new()));
        }
        if revision.next() < self.kept_from()? {
            let tokens = self.changes.iter()?.map(|entry| Ok(CommitToken(entry?.1.value().0)));
            return Ok(Changes::Whole(self.load()?, tokens.collect::<Result<_, TableFault>>()?));
        }
        let changes = self.changes.range(revision.next().0..)?.map(|entry| {
            let (revision, row) = entry?;
            let (token, json) = row.value();
            Ok(Change { revision: Revision(revision.value()), token: CommitToken(token), writes: decode(json)? })
        });
        Ok(Changes::Since(changes.collect::<Result<_, TableFault>>()?))
    }

    /// The oldest change kept, or the next one to come if none is; checks that none is missing after it.
    fn kept_from(&self) -> Result<Revision, TableFault> {
        let first = self.changes.first()?.map(|(revision, _)| revision.value());
        let last = self.changes.last()?.map(|(revision, _)| revision.value());
        let (Some(first), Some(last)) = (first, last) else {
            // At least one change is kept, so there is none only before the first.
            return if self.revision == Revision(0) { Ok(Revision(1)) } else { Err(damaged("no changes are kept")) };
        };
        let gapless = last.checked_sub(first).is_some_and(|between| self.changes.len().is_ok_and(|n| n == between + 1));
        if first == 0 || last != self.revision.0 || !gapless {
            return Err(damaged(format!("changes {first} to {last} are not all kept at revision {}", self.revision)));
        }
        Ok(Revision(first))
    }

    /// Each unique key points to the record that owns it, and there are no others.
    fn check_owners(&self, state: &Loaded) -> Result<(), TableFault> {
        let mut count = 0;
        for stored in &state.records {
            let key = encode(&stored.record.key())?;
            for unique in stored.record.unique_keys() {
                let unique_bytes = encode(&unique)?;
                if self.owners.get(unique_bytes.as_slice())?.is_none_or(|owner| owner.value() != key.as_slice()) {
                    return Err(damaged(format!("{unique:?} is not marked as owned by {}", excerpt(&key))));
                }
                count += 1;
            }
        }
        if self.owners.len()? != count {
            return Err(damaged("a unique key is owned by no record"));
        }
        Ok(())
    }

    /// Checks the kept changes against the state: each record put by one of them is the record of that change, and no
    /// record of their time is without one. O(changes kept).
    pub(crate) fn check_changes(&self, state: &Loaded) -> Result<(), TableFault> {
        let from = self.kept_from()?;
        let Changes::Since(changes) = self.changes_since(Revision(from.0.saturating_sub(1)))? else {
            return Err(damaged("the kept changes cannot be listed"));
        };
        let mut latest = std::collections::BTreeMap::new();
        for change in &changes {
            for write in &change.writes {
                match write {
                    Write::Put(record) => latest.insert(record.key(), Some((change.revision, record))),
                    Write::Delete(key) => latest.insert(key.clone(), None),
                };
            }
        }
        for stored in &state.records {
            match latest.remove(&stored.record.key()) {
                Some(Some((revision, record))) if revision == stored.revision && *record == stored.record => {}
                None if stored.revision < from => {}
                _ => return Err(damaged(format!("{:?} is not what the changes made it", stored.record.key()))),
            }
        }
        match latest.into_iter().find(|(_, put)| put.is_some()) {
            Some((key, _)) => Err(damaged(format!("{key:?} was put and is missing"))),
            None => Ok(()),
        }
    }
}
