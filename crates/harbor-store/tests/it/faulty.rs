//! The store that fails on purpose fails as told, and otherwise is the store it wraps.

use harbor_store::{Fault, Faults, FaultyStore, MemoryStore, Store, StoreError};
use harbor_types::{Changes, CommitOutcome, Revision};

use crate::script::creation;

#[test]
fn faulty_store_fails_as_scripted() {
    let faults = Faults::default();
    let mut store = FaultyStore::new(MemoryStore::new(), &faults);
    assert_eq!(store.commit(&creation(1, 1, 20_001)), CommitOutcome::Committed(Revision(1)));
    for fault in [Fault::None, Fault::NotCommitted, Fault::UnknownCommitted, Fault::UnknownLost] {
        faults.push(fault);
    }
    assert_eq!(store.commit(&creation(2, 2, 20_002)), CommitOutcome::Committed(Revision(2)));
    assert!(matches!(store.commit(&creation(3, 3, 20_003)), CommitOutcome::NotCommitted(_)));
    assert!(matches!(store.commit(&creation(4, 4, 20_004)), CommitOutcome::Unknown(_)));
    assert!(matches!(store.commit(&creation(5, 5, 20_005)), CommitOutcome::NotCommitted(_)), "in doubt");
    assert_eq!(faults.pending(), 1, "a refused commit takes no fault");
    faults.fail_reads(1);
    assert!(matches!(store.changes_since(Revision(2)), Err(StoreError::Io { .. })));
    assert!(matches!(store.commit(&creation(5, 5, 20_005)), CommitOutcome::NotCommitted(_)), "still in doubt");
    let Changes::Since(changes) = store.changes_since(Revision(2)).unwrap() else { panic!("all are kept") };
    assert_eq!(changes.iter().map(|change| change.token.0).collect::<Vec<_>>(), [4]);
    assert!(matches!(store.commit(&creation(6, 6, 20_006)), CommitOutcome::Unknown(_)));
    assert_eq!(store.changes_since(Revision(3)).unwrap(), Changes::Since(Vec::new()), "that one was lost");
    assert_eq!(store.commit(&creation(7, 7, 20_007)), CommitOutcome::Committed(Revision(4)));
}
