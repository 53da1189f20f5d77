//! Ten thousand services, in a real file, after a regular end and after a crash: all of them come back. Prints the time.

use std::time::{Duration, Instant};

use harbor_store::{RedbStore, Store};
use harbor_types::{Commit, CommitOutcome};

use crate::script::creation;

#[expect(clippy::disallowed_methods, reason = "the test reports how long the machine takes; nothing depends on it")]
fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = act();
    (result, start.elapsed())
}

#[test]
fn ten_thousand_services_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbor.redb");
    let mut store = RedbStore::open(&path).unwrap();
    let commits: Vec<Commit> = (1..=10_000).map(|n| creation(u128::from(n), n, 10_000 + n)).collect();
    for group in commits.chunks(500) {
        assert!(store.commit_all(group).iter().all(|outcome| matches!(outcome, CommitOutcome::Committed(_))));
    }
    let (outcome, single) = timed(|| store.commit(&creation(0, 10_001, 30_000)));
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
    // The file as a killed process leaves it: copied while it is open.
    let crashed = folder.path().join("crashed.redb");
    std::fs::copy(&path, &crashed).unwrap();
    let state = store.load().unwrap();
    store.close().unwrap();
    for (what, path) in [("closed", &path), ("crashed", &crashed)] {
        let (store, open) = timed(|| RedbStore::open_existing(path));
        let mut store = store.unwrap();
        let (loaded, load) = timed(|| store.load());
        assert_eq!(loaded.unwrap(), state);
        let (census, verify) = timed(|| store.verify());
        assert_eq!(census.unwrap().services, 10_001);
        let size = std::fs::metadata(path).unwrap().len();
        println!("{what}: {size} bytes, open {open:?}, load {load:?}, verify {verify:?}; one commit {single:?}");
    }
}
