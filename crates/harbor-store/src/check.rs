//! What must hold of any state, whichever store it came from. Pure; run by the stores after each load, by
//! `harbor-node check`, and by tests.

use std::collections::BTreeSet;

use harbor_types::{Loaded, Record, RecordKey, Revision, UniqueKey};

/// What is wrong with a state.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Inconsistency {
    /// Two live records have one key.
    #[error("two records have the key {0:?}")]
    Twice(RecordKey),
    /// Two live records own one unique key.
    #[error("{0:?} is owned by two records")]
    Shared(UniqueKey),
    /// A record is of a change that does not exist.
    #[error("{key:?} is of revision {revision}, and the state of revision {latest}")]
    Future {
        /// The record.
        key: RecordKey,
        /// Its revision.
        revision: Revision,
        /// The state's.
        latest: Revision,
    },
    /// Records are not in the order of their revisions.
    #[error("{0:?} is out of order")]
    Order(RecordKey),
}

/// How much a state holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Census {
    /// Revision of the latest change.
    pub revision: Revision,
    /// Services.
    pub services: usize,
    /// Bindings.
    pub bindings: usize,
    /// Backends.
    pub backends: usize,
    /// Released ports that rest.
    pub resting: usize,
}

impl Census {
    /// Counts a state's records.
    #[must_use]
    pub fn of(state: &Loaded) -> Self {
        let mut census = Self { revision: state.revision, ..Self::default() };
        for stored in &state.records {
            match stored.record {
                Record::Service(_) => census.services += 1,
                Record::Binding(_) => census.bindings += 1,
                Record::Backend(_) => census.backends += 1,
                Record::Quarantine(_) => census.resting += 1,
                _ => {}
            }
        }
        census
    }
}

/// Checks that keys and unique keys have one holder each, and that revisions rise and end at the state's. O(n log n).
///
/// # Errors
/// The first [`Inconsistency`].
pub fn check_invariants(state: &Loaded) -> Result<(), Inconsistency> {
    let mut keys = BTreeSet::new();
    let mut owned = BTreeSet::new();
    let mut before = Revision(1);
    for stored in &state.records {
        let key = stored.record.key();
        if stored.revision > state.revision {
            return Err(Inconsistency::Future { key, revision: stored.revision, latest: state.revision });
        }
        if stored.revision < before {
            return Err(Inconsistency::Order(key));
        }
        before = stored.revision;
        for unique in stored.record.unique_keys() {
            if !owned.insert(unique.clone()) {
                return Err(Inconsistency::Shared(unique));
            }
        }
        if !keys.insert(key.clone()) {
            return Err(Inconsistency::Twice(key));
        }
    }
    Ok(())
}
