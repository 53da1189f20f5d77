//! The rules of [`Store`], one by one, for each store there is.

use std::num::NonZeroU64;

use harbor_store::{MemoryStore, RedbStore, Retention, Store, StoreError};
use harbor_types::{
    Changes, CommitOutcome, CommitToken, Conflict, Expectation, Loaded, Record, RecordKey, Revision, UniqueKey, Write,
};

use crate::disk_model::ModelDisk;
use crate::script::{
    backend, binding, commit, creation, expecting, instance_id, owns_port, port, rest, service, service_id,
};

const KEPT: Retention = Retention(match NonZeroU64::new(8) {
    Some(kept) => kept,
    None => NonZeroU64::MIN,
});

/// A store that can be closed and opened again; one without a life after closing answers itself.
struct Subject {
    store: Box<dyn Store>,
    reopen: Reopen,
}

type Reopen = Box<dyn Fn(Box<dyn Store>) -> Box<dyn Store>>;

impl Subject {
    fn reopen(self) -> Self {
        Self { store: (self.reopen)(self.store), ..self }
    }
}

fn memory() -> Subject {
    Subject { store: Box::new(MemoryStore::with_retention(KEPT)), reopen: Box::new(|store| store) }
}

fn redb() -> Subject {
    let disk = ModelDisk::default();
    Subject {
        store: Box::new(RedbStore::create_on(Box::new(disk.clone()), KEPT).unwrap()),
        reopen: Box::new(move |store| {
            drop(store);
            Box::new(RedbStore::open_on(Box::new(disk.clone()), KEPT).unwrap())
        }),
    }
}

/// Runs every rule against fresh stores from `make`.
fn conformance(make: impl Fn() -> Subject) {
    revisions_have_no_gaps(make());
    expectations_are_checked_against_the_state_before(make());
    unique_keys_are_guarded_without_expectations(make());
    writes_of_a_commit_are_applied_in_order(make());
    a_conflict_changes_nothing(make());
    a_put_gives_up_the_keys_it_no_longer_has(make());
    records_load_by_revision_then_by_write(make());
    changes_are_told_until_they_are_forgotten(make());
    a_reopened_store_is_the_same(make());
    a_group_has_an_outcome_for_each(make());
}

#[test]
fn memory_store_conforms() {
    conformance(memory);
}

#[test]
fn redb_store_conforms() {
    conformance(redb);
}

fn keys(state: &Loaded) -> Vec<RecordKey> {
    state.records.iter().map(|stored| stored.record.key()).collect()
}

fn service_key(n: u16) -> RecordKey {
    RecordKey::Service(service_id(n))
}

fn committed(revision: u64) -> CommitOutcome {
    CommitOutcome::Committed(Revision(revision))
}

fn revisions_have_no_gaps(mut subject: Subject) {
    assert_eq!(subject.store.load().unwrap(), Loaded::default());
    assert_eq!(subject.store.commit(&creation(1, 1, 20_001)), committed(1));
    assert!(matches!(subject.store.commit(&creation(2, 1, 20_001)), CommitOutcome::Conflict(_)));
    assert_eq!(subject.store.commit(&commit(3, Vec::new())), committed(2), "an empty change is one");
    assert_eq!(subject.store.commit(&commit(4, vec![Write::Delete(service_key(7))])), committed(3), "so is a void one");
    let mut subject = subject.reopen();
    assert_eq!(subject.store.commit(&creation(5, 2, 20_002)), committed(4));
    assert_eq!(subject.store.load().unwrap().revision, Revision(4));
}

fn expectations_are_checked_against_the_state_before(mut subject: Subject) {
    let store = &mut subject.store;
    assert_eq!(store.commit(&creation(1, 1, 20_001)), committed(1));
    let name = service(1, 20_001).unique_keys().remove(1);
    let taken = |key: &UniqueKey| CommitOutcome::Conflict(Conflict::Taken(key.clone()));
    let changed = |key: &RecordKey| CommitOutcome::Conflict(Conflict::Changed(key.clone()));
    for (expectation, want) in [
        (Expectation::Free(owns_port(20_001)), taken(&owns_port(20_001))),
        (Expectation::Free(name.clone()), taken(&name)),
        (Expectation::Absent(service_key(1)), changed(&service_key(1))),
        (Expectation::At(service_key(1), Revision(2)), changed(&service_key(1))),
        (Expectation::At(service_key(2), Revision(1)), changed(&service_key(2))),
        (Expectation::At(service_key(1), Revision(1)), committed(2)),
        (Expectation::Free(owns_port(20_002)), committed(3)),
        (Expectation::Absent(service_key(2)), committed(4)),
    ] {
        assert_eq!(store.commit(&expecting(2, vec![expectation.clone()], Vec::new())), want, "{expectation:?}");
    }
    // The writes would make room, but the expectation comes first.
    let swap = vec![Write::Delete(service_key(1)), Write::Put(rest(20_001))];
    let outcome = store.commit(&expecting(3, vec![Expectation::Free(owns_port(20_001))], swap));
    assert_eq!(outcome, taken(&owns_port(20_001)));
    // The first that does not hold is named.
    let both = vec![Expectation::Absent(service_key(1)), Expectation::Free(owns_port(20_001))];
    assert_eq!(store.commit(&expecting(4, both, Vec::new())), changed(&service_key(1)));
}

fn unique_keys_are_guarded_without_expectations(mut subject: Subject) {
    let store = &mut subject.store;
    assert_eq!(store.commit(&commit(1, vec![Write::Put(service(1, 20_001))])), committed(1));
    let put = |record: Record| commit(2, vec![Write::Put(record)]);
    let taken = |key| CommitOutcome::Conflict(Conflict::Taken(key));
    assert_eq!(store.commit(&put(service(2, 20_001))), taken(owns_port(20_001)), "another service on the port");
    assert_eq!(store.commit(&put(rest(20_001))), taken(owns_port(20_001)), "a quarantine of a leased port");
    let Record::Service(mut namesake) = service(1, 20_003) else { panic!("a service") };
    namesake.id = service_id(3);
    let keys = service(1, 20_003).unique_keys();
    assert_eq!(store.commit(&put(Record::Service(namesake.clone()))), taken(keys[1].clone()), "the same name");
    namesake.name = harbor_types::ServiceName::parse("another").unwrap();
    assert_eq!(store.commit(&put(Record::Service(namesake))), taken(keys[2].clone()), "the same container port");
    assert_eq!(store.commit(&put(rest(20_004))), committed(2));
    assert_eq!(store.commit(&put(service(4, 20_004))), taken(owns_port(20_004)), "a service on a resting port");
    let two = vec![Write::Put(service(5, 20_005)), Write::Put(rest(20_005))];
    assert_eq!(store.commit(&commit(3, two)), taken(owns_port(20_005)), "two claims in one commit");
}

fn writes_of_a_commit_are_applied_in_order(mut subject: Subject) {
    let store = &mut subject.store;
    assert_eq!(store.commit(&creation(1, 1, 20_001)), committed(1));
    let into_quarantine = vec![Write::Delete(service_key(1)), Write::Put(rest(20_001))];
    let wrong_way_round: Vec<Write> = into_quarantine.iter().rev().cloned().collect();
    assert_eq!(
        store.commit(&commit(2, wrong_way_round)),
        CommitOutcome::Conflict(Conflict::Taken(owns_port(20_001))),
        "the port is not free yet"
    );
    assert_eq!(store.commit(&commit(3, into_quarantine)), committed(2));
    assert_eq!(keys(&store.load().unwrap()), [RecordKey::Quarantine(port(20_001))]);
    let out_again = vec![Write::Delete(RecordKey::Quarantine(port(20_001))), Write::Put(service(2, 20_001))];
    assert_eq!(store.commit(&commit(4, out_again)), committed(3));
    let there_and_back = vec![
        Write::Put(binding(1)),
        Write::Put(binding(2)),
        Write::Delete(binding(1).key()),
        Write::Put(backend(2, 1)),
        Write::Put(binding(2)),
    ];
    assert_eq!(store.commit(&commit(5, there_and_back)), committed(4));
    assert_eq!(keys(&store.load().unwrap()), [service_key(2), backend(2, 1).key(), binding(2).key()]);
}

fn a_conflict_changes_nothing(mut subject: Subject) {
    assert_eq!(subject.store.commit(&creation(1, 1, 20_001)), committed(1));
    let before = subject.store.load().unwrap();
    let half = vec![Write::Put(service(2, 20_002)), Write::Delete(service_key(1)), Write::Put(service(3, 20_002))];
    assert!(matches!(subject.store.commit(&commit(2, half)), CommitOutcome::Conflict(_)));
    assert_eq!(subject.store.load().unwrap(), before);
    assert_eq!(subject.store.changes_since(Revision(1)).unwrap(), Changes::Since(Vec::new()));
    let mut subject = subject.reopen();
    assert_eq!(subject.store.load().unwrap(), before);
    assert_eq!(subject.store.commit(&creation(3, 2, 20_002)), committed(2), "what the other one touched is free");
}

fn a_put_gives_up_the_keys_it_no_longer_has(mut subject: Subject) {
    let store = &mut subject.store;
    assert_eq!(store.commit(&creation(1, 1, 20_001)), committed(1));
    assert_eq!(store.commit(&commit(2, vec![Write::Put(service(1, 20_002))])), committed(2), "moves to another port");
    let at = |revision| vec![Expectation::At(service_key(1), Revision(revision))];
    assert!(matches!(store.commit(&expecting(3, at(1), Vec::new())), CommitOutcome::Conflict(_)), "it was put again");
    assert_eq!(
        store.commit(&expecting(4, at(2), vec![Write::Put(rest(20_001))])),
        committed(3),
        "the old port is free"
    );
    assert!(matches!(store.commit(&commit(5, vec![Write::Put(rest(20_002))])), CommitOutcome::Conflict(_)));
    assert_eq!(store.commit(&commit(6, vec![Write::Put(service(1, 20_002))])), committed(4), "and keeps its own");
}

fn records_load_by_revision_then_by_write(mut subject: Subject) {
    let store = &mut subject.store;
    // Instances whose names sort the other way round.
    assert_eq!(store.commit(&creation(1, 9, 20_009)), committed(1));
    assert_eq!(store.commit(&commit(2, vec![Write::Put(backend(9, 5)), Write::Put(backend(9, 3))])), committed(2));
    assert_eq!(store.commit(&commit(3, vec![Write::Put(backend(9, 1))])), committed(3));
    let joined = |n| RecordKey::Backend(service_id(9), instance_id(n));
    assert_eq!(keys(&store.load().unwrap()), [service_key(9), joined(5), joined(3), joined(1)]);
    assert_eq!(store.commit(&commit(4, vec![Write::Put(backend(9, 5))])), committed(4), "who returns queues last");
    let mut subject = subject.reopen();
    let state = subject.store.load().unwrap();
    assert_eq!(keys(&state), [service_key(9), joined(3), joined(1), joined(5)]);
    let revisions: Vec<u64> = state.records.iter().map(|stored| stored.revision.0).collect();
    assert_eq!(revisions, [1, 2, 3, 4]);
}

fn changes_are_told_until_they_are_forgotten(mut subject: Subject) {
    assert_eq!(subject.store.changes_since(Revision(0)).unwrap(), Changes::Since(Vec::new()));
    let commits: Vec<_> = (1..=12).map(|n| creation(u128::from(n), n, 20_000 + n)).collect();
    for commit in &commits {
        subject.store.commit(commit);
    }
    let mut subject = subject.reopen();
    let store = &mut subject.store;
    let state = store.load().unwrap();
    for since in 0..=12_u64 {
        match store.changes_since(Revision(since)).unwrap() {
            Changes::Since(changes) => {
                assert!(since >= 4, "the latest eight are kept, not those after {since}");
                let want = &commits[usize::try_from(since).unwrap()..];
                assert_eq!(changes.len(), want.len());
                for ((change, commit), revision) in changes.iter().zip(want).zip(since + 1..) {
                    assert_eq!((change.revision, change.token), (Revision(revision), commit.token));
                    assert_eq!(change.writes, commit.writes);
                }
            }
            Changes::Whole(whole, tokens) => {
                assert!(since < 4, "the changes after {since} are kept");
                assert_eq!(whole, state);
                assert_eq!(tokens, (5..=12).map(CommitToken).collect::<Vec<_>>());
            }
        }
    }
    let future = store.changes_since(Revision(13));
    assert!(matches!(future, Err(StoreError::Behind { known: Revision(13), found: Revision(12) })), "{future:?}");
    assert!(store.load().is_ok(), "asking too much harms nothing");
}

fn a_reopened_store_is_the_same(mut subject: Subject) {
    for (n, commit) in (1..).zip(crate::script::history(3, 120)) {
        assert_eq!(subject.store.commit(&commit), committed(n));
    }
    let state = subject.store.load().unwrap();
    let changes = subject.store.changes_since(Revision(115)).unwrap();
    for _ in 0..3 {
        subject = subject.reopen();
        assert_eq!(subject.store.load().unwrap(), state);
        assert_eq!(subject.store.changes_since(Revision(115)).unwrap(), changes);
    }
}

fn a_group_has_an_outcome_for_each(mut subject: Subject) {
    let store = &mut subject.store;
    assert_eq!(store.commit_all(&[]), []);
    let group = [
        creation(1, 1, 20_001),
        creation(2, 2, 20_001),
        creation(3, 2, 20_002),
        creation(4, 2, 20_003),
        commit(5, vec![Write::Delete(service_key(1)), Write::Put(rest(20_001))]),
        expecting(6, vec![Expectation::At(service_key(2), Revision(2))], vec![Write::Put(backend(2, 1))]),
    ];
    let taken = |number| CommitOutcome::Conflict(Conflict::Taken(owns_port(number)));
    let same_name = CommitOutcome::Conflict(Conflict::Taken(service(2, 20_003).unique_keys()[1].clone()));
    let want = [committed(1), taken(20_001), committed(2), same_name, committed(3), committed(4)];
    assert_eq!(store.commit_all(&group), want);
    let mut subject = subject.reopen();
    let want = [service_key(2), RecordKey::Quarantine(port(20_001)), backend(2, 1).key()];
    assert_eq!(keys(&subject.store.load().unwrap()), want);
    let Changes::Since(changes) = subject.store.changes_since(Revision(0)).unwrap() else { panic!("all are kept") };
    assert_eq!(changes.iter().map(|change| change.token.0).collect::<Vec<_>>(), [1, 3, 5, 6]);
    let conflicts = [creation(7, 2, 20_002), creation(8, 2, 20_002)];
    assert!(subject.store.commit_all(&conflicts).iter().all(|outcome| matches!(outcome, CommitOutcome::Conflict(_))));
    assert_eq!(subject.store.load().unwrap().revision, Revision(4));
}
