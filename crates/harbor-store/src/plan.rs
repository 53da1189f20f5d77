//! Decides whether a commit may happen and what it does to the tables. Pure: reads a [`View`], changes nothing.
//!
//! Called by every store before it touches its tables, so they cannot differ in what they refuse.

use std::collections::BTreeMap;

use harbor_types::{Commit, Conflict, Expectation, Record, RecordKey, Revision, UniqueKey, Write};

/// The committed state as a store can look it up.
pub(crate) trait View {
    /// Why a look-up fails.
    type Error;
    /// When the record was last put, if it lives.
    fn revision_of(&self, key: &RecordKey) -> Result<Option<Revision>, Self::Error>;
    /// What the record owns; nothing if there is none.
    fn owned_by(&self, key: &RecordKey) -> Result<Vec<UniqueKey>, Self::Error>;
    /// Who owns the key.
    fn owner(&self, key: &UniqueKey) -> Result<Option<RecordKey>, Self::Error>;
}

/// What a commit does: the final value of everything it touches.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    /// Record put, with the index of its write; or removed.
    pub(crate) records: BTreeMap<RecordKey, Option<(u64, &'a Record)>>,
    /// New owner of each key, or nobody.
    pub(crate) owners: BTreeMap<UniqueKey, Option<RecordKey>>,
}

/// Checks the expectations against the state before the commit, then its writes in order. The first obstacle wins.
pub(crate) fn plan<'a, V: View>(view: &V, commit: &'a Commit) -> Result<Result<Plan<'a>, Conflict>, V::Error> {
    for expectation in &commit.expectations {
        if let Some(conflict) = unmet(view, expectation)? {
            return Ok(Err(conflict));
        }
    }
    let mut plan = Plan::default();
    for (order, write) in (0..).zip(&commit.writes) {
        match write {
            Write::Put(record) => {
                if let Some(taken) = plan.put(view, order, record)? {
                    return Ok(Err(Conflict::Taken(taken)));
                }
            }
            Write::Delete(key) => plan.delete(view, key)?,
        }
    }
    Ok(Ok(plan))
}

fn unmet<V: View>(view: &V, expectation: &Expectation) -> Result<Option<Conflict>, V::Error> {
    Ok(match expectation {
        Expectation::Free(key) => view.owner(key)?.map(|_| Conflict::Taken(key.clone())),
        Expectation::Absent(key) => view.revision_of(key)?.map(|_| Conflict::Changed(key.clone())),
        Expectation::At(key, revision) => {
            (view.revision_of(key)? != Some(*revision)).then(|| Conflict::Changed(key.clone()))
        }
    })
}

impl<'a> Plan<'a> {
    /// Plans a put; answers the key that another record owns, if one is in the way.
    fn put<V: View>(&mut self, view: &V, order: u64, record: &'a Record) -> Result<Option<UniqueKey>, V::Error> {
        let key = record.key();
        let wanted = record.unique_keys();
        for unique in &wanted {
            if self.owner(view, unique)?.is_some_and(|owner| owner != key) {
                return Ok(Some(unique.clone()));
            }
        }
        self.release(view, &key)?;
        self.owners.extend(wanted.into_iter().map(|unique| (unique, Some(key.clone()))));
        self.records.insert(key, Some((order, record)));
        Ok(None)
    }

    fn delete<V: View>(&mut self, view: &V, key: &RecordKey) -> Result<(), V::Error> {
        self.release(view, key)?;
        self.records.insert(key.clone(), None);
        Ok(())
    }

    fn release<V: View>(&mut self, view: &V, key: &RecordKey) -> Result<(), V::Error> {
        let owned = match self.records.get(key) {
            Some(Some((_, record))) => record.unique_keys(),
            Some(None) => Vec::new(),
            None => view.owned_by(key)?,
        };
        self.owners.extend(owned.into_iter().map(|unique| (unique, None)));
        Ok(())
    }

    fn owner<V: View>(&self, view: &V, unique: &UniqueKey) -> Result<Option<RecordKey>, V::Error> {
        match self.owners.get(unique) {
            Some(planned) => Ok(planned.clone()),
            None => view.owner(unique),
        }
    }
}
