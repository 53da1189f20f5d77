//! Writes and syncs fail, at every point of a commit and of the recovery after it: the outcome says no more than is
//! known, the barrier tells the truth, and the truth survives the next power cut.

use std::collections::BTreeSet;

use harbor_store::{RETENTION, RedbStore, Store, StoreError};
use harbor_types::{Changes, CommitOutcome, Revision, Write};

use crate::disk_model::{Failure, ModelDisk};
use crate::model::Model;
use crate::script::{Dice, binding, commit, creation, history, rest};

/// Operations of one commit, and a few more.
const POINTS: u64 = 26;

fn open(disk: &ModelDisk) -> RedbStore {
    RedbStore::open_on(Box::new(disk.clone()), RETENTION).unwrap()
}

/// What is there when the power is cut now.
fn after_power_cut(disk: &ModelDisk) -> harbor_types::Loaded {
    open(&ModelDisk::holding(disk.durable())).load().unwrap()
}

#[derive(Debug, Default)]
struct Tally {
    committed: u32,
    not_committed: u32,
    unknown_committed: u32,
    unknown_lost: u32,
    failed_barriers: u32,
    /// At which operation of a commit a fault made its outcome unknown, and at which it proved that nothing happened.
    unknown_at: BTreeSet<u64>,
    not_committed_at: BTreeSet<u64>,
}

/// Answers the changes since `revision`, however often the disk fails meanwhile; each failure leaves a disk that holds
/// either what was acknowledged or what is in doubt.
fn barrier(store: &mut RedbStore, disk: &ModelDisk, known: &Model, tally: &mut Tally) -> Changes {
    let acknowledged = known.state.revision;
    for _ in 0..10 {
        match store.changes_since(acknowledged) {
            Ok(changes) => return changes,
            Err(error) => {
                assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
                tally.failed_barriers += 1;
                let refused = store.commit(&commit(0, Vec::new()));
                assert!(matches!(refused, CommitOutcome::NotCommitted(_)), "still in doubt: {refused:?}");
                assert!(after_power_cut(disk).revision >= acknowledged);
            }
        }
    }
    panic!("the disk works again, and the barrier fails");
}

#[test]
fn outcomes_and_barriers_tell_the_truth_wherever_the_disk_fails() {
    let disk = ModelDisk::default();
    let mut store = RedbStore::create_on(Box::new(disk.clone()), RETENTION).unwrap();
    let mut model = Model::default();
    let mut tally = Tally::default();
    let mut dice = Dice(5);
    for (round, commit) in (0_u64..).zip(history(23, 520)) {
        let point = round % POINTS;
        // One failure, or several, so that the recovery meets some as well.
        let count = if round % 3 == 0 { 1 + dice.roll() % 3 } else { 1 };
        disk.fail(Some(Failure { after: point, count, seed: dice.roll() }));
        let before = model.clone();
        let outcome = store.commit(&commit);
        match outcome {
            CommitOutcome::Unknown(_) => {
                tally.unknown_at.insert(point);
                let refused = store.commit(&commit);
                assert!(matches!(refused, CommitOutcome::NotCommitted(_)), "round {round}: {refused:?}");
                match barrier(&mut store, &disk, &before, &mut tally) {
                    Changes::Since(changes) if changes.is_empty() => tally.unknown_lost += 1,
                    Changes::Since(changes) => {
                        model.commit(&commit);
                        assert_eq!(changes.as_slice(), &model.changes[before.changes.len()..], "round {round}");
                        tally.unknown_committed += 1;
                    }
                    Changes::Whole(..) => panic!("all changes are kept"),
                }
                // What the barrier told is on the disk, and stays.
                assert_eq!(after_power_cut(&disk), model.state, "round {round}, after the barrier");
            }
            CommitOutcome::NotCommitted(_) => {
                tally.not_committed += 1;
                tally.not_committed_at.insert(point);
                disk.fail(None);
                assert_eq!(store.load().unwrap(), model.state, "round {round}, not committed");
                assert_eq!(after_power_cut(&disk), model.state, "round {round}, not committed");
            }
            outcome => {
                tally.committed += u32::from(matches!(outcome, CommitOutcome::Committed(_)));
                assert_eq!(outcome, model.commit(&commit), "round {round}");
                assert_eq!(after_power_cut(&disk).revision, model.state.revision, "round {round}, acknowledged");
            }
        }
        disk.fail(None);
        assert_eq!(store.load().unwrap(), model.state, "round {round}");
    }
    println!("{tally:?}, {} operations failed", disk.failed());
    store.verify().unwrap();
    drop(store);
    assert_eq!(open(&disk).load().unwrap(), model.state);
    for (what, count) in [
        ("committed", tally.committed),
        ("not committed", tally.not_committed),
        ("unknown and committed", tally.unknown_committed),
        ("barriers that failed", tally.failed_barriers),
    ] {
        assert!(count > 10, "{what}: {count}");
    }
    // Only where the write of the header itself failed; everything before that is known not to have happened.
    assert!(tally.unknown_lost > 0);
    assert!(tally.unknown_at.len() > 5, "{:?}", tally.unknown_at);
    assert!(tally.not_committed_at.len() > 5, "{:?}", tally.not_committed_at);
}

#[test]
fn a_power_cut_after_the_barrier_agrees_with_it() {
    // The sync that would make the new header durable fails, and the cache shows the commit all the same.
    let mut both = BTreeSet::new();
    for seed in 0..40 {
        for point in 8..POINTS {
            let disk = ModelDisk::default();
            let mut store = RedbStore::create_on(Box::new(disk.clone()), RETENTION).unwrap();
            assert_eq!(store.commit(&creation(1, 1, 20_001)), CommitOutcome::Committed(Revision(1)));
            disk.fail(Some(Failure { after: point, count: 1, seed }));
            let outcome = store.commit(&creation(2, 2, 20_002));
            disk.fail(None);
            if !matches!(outcome, CommitOutcome::Unknown(_)) {
                continue;
            }
            let told = store.changes_since(Revision(1)).unwrap();
            let Changes::Since(changes) = told else { panic!("all changes are kept") };
            both.insert(changes.len());
            assert_eq!(after_power_cut(&disk).revision, Revision(1 + u64::try_from(changes.len()).unwrap()));
        }
        if both.len() == 2 && seed > 2 {
            break;
        }
    }
    assert_eq!(both, BTreeSet::from([0, 1]), "an unknown commit is there or lost, and both happened");
}

#[test]
fn a_group_whose_transaction_fails_is_in_doubt_as_a_whole() {
    let disk = ModelDisk::default();
    let mut store = RedbStore::create_on(Box::new(disk.clone()), RETENTION).unwrap();
    assert_eq!(store.commit(&creation(1, 1, 20_001)), CommitOutcome::Committed(Revision(1)));
    let group = [creation(2, 2, 20_002), creation(3, 3, 20_001), commit(4, vec![Write::Put(binding(2))])];
    let mut fates = BTreeSet::new();
    for point in 0..POINTS * 12 {
        let Changes::Since(before) = store.changes_since(Revision(0)).unwrap() else { panic!("all are kept") };
        let latest = Revision(u64::try_from(before.len()).unwrap());
        disk.fail(Some(Failure { after: point % POINTS, count: 1, seed: point }));
        let outcomes = store.commit_all(&group);
        disk.fail(None);
        assert_eq!(outcomes.len(), 3);
        if outcomes.iter().all(|outcome| matches!(outcome, CommitOutcome::Unknown(_))) {
            let Changes::Since(changes) = store.changes_since(latest).unwrap() else { panic!("all are kept") };
            let tokens: Vec<u128> = changes.iter().map(|change| change.token.0).collect();
            assert!(tokens.is_empty() || tokens == [2, 4], "all that did not conflict, or nothing: {tokens:?}");
            fates.insert(tokens);
        } else {
            let all_alike = outcomes.iter().all(|outcome| matches!(outcome, CommitOutcome::NotCommitted(_)));
            assert!(all_alike || matches!(outcomes[1], CommitOutcome::Conflict(_)), "{outcomes:?}");
        }
        let undo = vec![Write::Delete(creation(0, 2, 20_002).writes.iter().map(key).next().unwrap())];
        assert!(matches!(store.commit(&commit(9, undo)), CommitOutcome::Committed(_)));
    }
    assert_eq!(fates.len(), 2, "{fates:?}");
}

fn key(write: &Write) -> harbor_types::RecordKey {
    match write {
        Write::Put(record) => record.key(),
        Write::Delete(key) => key.clone(),
    }
}

#[test]
fn a_commit_that_cannot_read_is_not_committed_and_a_later_one_is() {
    let disk = ModelDisk::default();
    let mut store = RedbStore::create_on(Box::new(disk.clone()), RETENTION).unwrap();
    let mut model = Model::default();
    for commit in history(41, 60) {
        assert_eq!(store.commit(&commit), model.commit(&commit));
    }
    // Opened anew, so that it has to read.
    drop(store);
    let mut store = open(&disk);
    disk.set_unreadable(true);
    for _ in 0..2 {
        let outcome = store.commit(&creation(1000, 1000, 30_000));
        assert!(matches!(&outcome, CommitOutcome::NotCommitted(why) if why.contains("injected")), "{outcome:?}");
        assert!(matches!(store.load(), Err(StoreError::Io { .. })));
        assert!(matches!(store.changes_since(Revision(3)), Err(StoreError::Io { .. })));
    }
    disk.set_unreadable(false);
    assert_eq!(store.commit(&creation(1001, 1000, 30_000)), CommitOutcome::Committed(Revision(61)));
    assert_eq!(after_power_cut(&disk).revision, Revision(61));
}

#[test]
fn a_store_that_was_replaced_by_an_older_one_says_so() {
    let disk = ModelDisk::default();
    let mut store = RedbStore::create_on(Box::new(disk.clone()), RETENTION).unwrap();
    store.commit(&creation(1, 1, 20_001));
    let older = disk.cached();
    store.commit(&creation(2, 2, 20_002));
    disk.fail(Some(Failure { after: 11, count: 1, seed: 1 }));
    let outcome = store.commit(&commit(3, vec![Write::Put(rest(20_003))]));
    assert!(matches!(outcome, CommitOutcome::Unknown(_)), "{outcome:?}");
    disk.replace(older);
    let told = store.changes_since(Revision(2));
    assert!(matches!(told, Err(StoreError::Behind { known: Revision(2), found: Revision(1) })), "{told:?}");
    assert!(told.is_err_and(|error| error.is_bad_state()));
    assert!(store.load().is_err(), "and is not used");
}

#[test]
fn a_disk_that_is_full_refuses_commits_and_leaves_no_doubt() {
    let disk = ModelDisk::default();
    let mut store = RedbStore::create_on(Box::new(disk.clone()), RETENTION).unwrap();
    assert_eq!(store.commit(&creation(1, 1, 20_001)), CommitOutcome::Committed(Revision(1)));
    // From the first write on everything fails, also the opening of the file for the next attempt.
    disk.fail(Some(Failure { after: 0, count: u64::MAX, seed: 1 }));
    for _ in 0..5 {
        let outcome = store.commit(&creation(2, 2, 20_002));
        assert!(matches!(&outcome, CommitOutcome::NotCommitted(why) if why.contains("injected")), "{outcome:?}");
    }
    disk.fail(None);
    assert_eq!(store.commit(&creation(3, 3, 20_003)), CommitOutcome::Committed(Revision(2)), "at once");
    assert_eq!(after_power_cut(&disk).revision, Revision(2));
}
