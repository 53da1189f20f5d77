//! The state file itself: how it comes to be, who may read it, who has it, and what is not one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;

use harbor_store::redb::{Database, TableDefinition, WriteTransaction};
use harbor_store::{RedbStore, Store, StoreError};
use harbor_types::{CommitOutcome, Loaded, Revision};

use crate::script::creation;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_file_and_its_folder_are_private_and_nothing_else_is_left() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("deep/state");
    let path = folder.join("harbor.redb");
    let mut store = RedbStore::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), Loaded::default());
    assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
    assert_eq!(store.commit(&creation(1, 1, 20_001)), CommitOutcome::Committed(Revision(1)));
    store.close().unwrap();
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["harbor.redb"]);
    assert_eq!(RedbStore::open(&path).unwrap().verify().unwrap().services, 1);
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbor.redb");
    let first = RedbStore::open(&path).unwrap();
    for opened in [RedbStore::open(&path), RedbStore::open_existing(&path)] {
        let error = opened.unwrap_err();
        assert!(matches!(&error, StoreError::Locked { path: named } if *named == path), "{error:?}");
        assert!(!error.is_bad_state() && error.to_string().contains("harbor.redb"), "{error}");
    }
    drop(first);
    RedbStore::open(&path).unwrap();
}

#[test]
fn of_many_that_start_at_once_one_gets_the_file() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("harbor.redb");
        let (start, end) = (Barrier::new(6), Barrier::new(6));
        let opened = || {
            start.wait();
            let mut opened = RedbStore::open(&path);
            let outcome = opened.as_mut().map(|store| store.commit(&creation(1, 1, 20_001)));
            let won = match outcome {
                Ok(outcome) => outcome == CommitOutcome::Committed(Revision(1)),
                Err(StoreError::Locked { .. }) => false,
                Err(error) => panic!("{error:?}"),
            };
            end.wait();
            usize::from(won)
        };
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(opened)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(winners, 1);
        assert_eq!(RedbStore::open(&path).unwrap().load().unwrap().revision, Revision(1));
    }
}

#[test]
fn leftovers_of_an_interrupted_first_start_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbor.redb");
    fs::write(folder.path().join("harbor.redb.new"), b"half of something").unwrap();
    fs::write(folder.path().join("harbor.redb.creating"), b"").unwrap();
    assert_eq!(RedbStore::open(&path).unwrap().load().unwrap(), Loaded::default());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_state_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbor.redb");
    for content in [&b""[..], b"x", b"redb", b"port: 30134\nname: my-port\n", &[0; 4096], &[0xFF; 1 << 20]] {
        fs::write(&path, content).unwrap();
        let error = RedbStore::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }) && error.is_bad_state(), "{error:?}");
        let text = error.to_string();
        for part in [path.to_str().unwrap(), "backup copy", "move it away"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(fs::read(&path).unwrap(), content, "it is as it was");
    }
}

#[test]
fn a_foreign_database_is_damaged_and_a_newer_one_is_newer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbor.redb");
    for (format, newer) in [(None, false), (Some(0), false), (Some(2), true), (Some(u64::MAX), true)] {
        let database = Database::create(&path).unwrap();
        let txn = database.begin_write().unwrap();
        match format {
            Some(format) => drop(txn.open_table(META).unwrap().insert("format", format).unwrap()),
            None => drop(txn.open_table(TableDefinition::<u64, u64>::new("songs")).unwrap().insert(1, 2).unwrap()),
        }
        txn.commit().unwrap();
        drop(database);
        let error = RedbStore::open(&path).unwrap_err();
        assert!(error.is_bad_state() && error.to_string().contains("harbor.redb"), "{error}");
        match error {
            StoreError::Newer { found, supported: 1, .. } => assert_eq!((Some(found), true), (format, newer)),
            StoreError::Corrupt { .. } => assert!(!newer, "{format:?}"),
            error => panic!("{error:?}"),
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_missing_file_is_only_made_where_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbor.redb");
    assert!(matches!(RedbStore::open_existing(&path), Err(StoreError::Missing { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let error = RedbStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "a folder: {error:?}");
}

#[test]
fn a_file_cut_to_nothing_is_damaged_not_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harbor.redb");
    let mut store = RedbStore::open(&path).unwrap();
    store.commit(&creation(1, 1, 20_001));
    drop(store);
    fs::File::create(&path).unwrap();
    assert!(matches!(RedbStore::open(&path), Err(StoreError::Corrupt { .. })));
    assert!(matches!(RedbStore::open_existing(&path), Err(StoreError::Corrupt { .. })));
}

#[test]
fn tables_that_disagree_are_damage() {
    const OWNERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("unique");
    const RECORDS: TableDefinition<'_, &[u8], (u64, u64, &[u8])> = TableDefinition::new("records");
    const CHANGES: TableDefinition<'_, u64, (u128, &[u8])> = TableDefinition::new("changes");
    type Tamper = fn(&WriteTransaction);
    // Whether loading sees it as well, or only the full check.
    let tampers: [(&str, bool, Tamper); 6] = [
        ("a unique key is gone", true, |txn| drop(txn.open_table(OWNERS).unwrap().pop_first().unwrap())),
        ("a record is gone", true, |txn| drop(txn.open_table(RECORDS).unwrap().pop_first().unwrap())),
        ("the latest change is gone", true, |txn| drop(txn.open_table(CHANGES).unwrap().pop_last().unwrap())),
        ("a change in the middle is gone", true, |txn| drop(txn.open_table(CHANGES).unwrap().remove(2).unwrap())),
        ("the revision went back", true, |txn| drop(txn.open_table(META).unwrap().insert("revision", 2).unwrap())),
        ("a change says something else", false, |txn| {
            drop(txn.open_table(CHANGES).unwrap().insert(2, (2, &b"[]"[..])).unwrap());
        }),
    ];
    for (what, loading_sees_it, tamper) in tampers {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("harbor.redb");
        let mut store = RedbStore::open(&path).unwrap();
        for n in 1..=3 {
            store.commit(&creation(u128::from(n), n, 20_000 + n));
        }
        store.verify().unwrap();
        store.close().unwrap();
        let database = Database::open(&path).unwrap();
        let txn = database.begin_write().unwrap();
        tamper(&txn);
        txn.commit().unwrap();
        drop(database);
        let mut store = RedbStore::open(&path).unwrap();
        assert!(matches!(store.verify(), Err(StoreError::Corrupt { .. })), "{what}");
        let loaded = store.load();
        assert_eq!(matches!(loaded, Err(StoreError::Corrupt { .. })), loading_sees_it, "{what}: {loaded:?}");
    }
}
