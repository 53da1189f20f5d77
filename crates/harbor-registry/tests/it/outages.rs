//! A store that fails, forgets to answer or answers late.

use std::time::Duration;

use harbor_registry::{Answer, Command, DeleteMode, Refusal};
use harbor_types::Protocol;

use crate::world::{Fate, Kind, World, addr, id, order};

#[test]
fn an_order_that_is_not_committed_leaves_nothing_behind() {
    let mut world = World::new("20000");
    world.fates.push_back(Fate::NotCommitted);
    assert_eq!(world.order(1, "a"), Err(Refusal::StoreFailed { reason: "disk full".into() }));
    assert_eq!((world.held.len(), world.registry.counts().ports_free), (0, 1), "never promised, so no rest");
    assert_eq!(world.create(1, "a"), 20000);
}

#[test]
fn an_unknown_commit_that_happened_is_found_in_the_changes() {
    let mut world = World::new("20000-20009");
    world.fates.push_back(Fate::UnknownAndCommitted);
    assert_eq!(world.order(1, "a"), Ok(Answer::Created(id(1))));
    assert_eq!(world.reads, 1);
}

#[test]
fn an_unknown_commit_holds_everything_until_the_changes_can_be_read() {
    for committed in [true, false] {
        let mut world = World::new("20000");
        world.failing_reads = 3;
        world.fates.push_back(if committed { Fate::UnknownAndCommitted } else { Fate::UnknownAndNot });
        let call = world.begin(Command::Provision(order(1, "a")));
        for (seconds, reads) in [(1, 2), (2, 3)] {
            assert!(matches!(world.order(2, "b"), Err(Refusal::Exhausted { leased: 1, .. })), "it may be committed");
            assert!(matches!(world.order(2, "a"), Err(Refusal::NameTaken { .. })));
            assert_eq!(world.held.len(), 1);
            world.pass(Duration::from_secs(seconds));
            assert_eq!((world.reply(call), world.reads), (None, reads));
        }
        world.pass(Duration::from_secs(4));
        if committed {
            assert_eq!(world.reply(call), Some(&Ok(Answer::Created(id(1)))));
        } else {
            assert_eq!(world.reply(call), Some(&Err(Refusal::StoreFailed { reason: "fsync failed".into() })));
            assert_eq!(world.create(2, "a"), 20000);
        }
    }
}

#[test]
fn after_a_long_outage_the_changes_are_read_within_5_seconds() {
    let mut world = World::new("20000");
    world.failing_reads = usize::MAX;
    world.fates.push_back(Fate::UnknownAndCommitted);
    let call = world.begin(Command::Provision(order(1, "a")));
    for _ in 0..60 {
        world.pass(Duration::from_secs(5));
    }
    assert_eq!(world.reply(call), None);
    world.failing_reads = 0;
    world.pass(Duration::from_secs(5));
    assert_eq!(world.reply(call), Some(&Ok(Answer::Created(id(1)))));
}

#[test]
fn an_unknown_deletion_neither_deletes_nor_keeps_before_it_is_known() {
    for committed in [true, false] {
        let mut world = World::new("20000-20009");
        world.create(1, "a");
        world.failing_reads = 1;
        world.fates.push_back(if committed { Fate::UnknownAndCommitted } else { Fate::UnknownAndNot });
        let call = world.begin(Command::Deprovision { service: id(1), mode: DeleteMode::IfUnbound });
        assert_eq!((world.reply(call), world.held.len()), (None, 1));
        world.pass(Duration::from_secs(1));
        assert_eq!(world.reply(call).unwrap().is_ok(), committed);
        assert_eq!(world.held.len(), usize::from(!committed));
    }
}

#[test]
fn a_read_that_began_before_the_answer_got_lost_proves_nothing() {
    let mut world = World::new("20000-20009");
    world.fates.extend([Fate::UnknownAndNot, Fate::UnknownAndCommitted]);
    world.hold_back(Kind::Commit);
    let first = world.begin(Command::Provision(order(1, "a")));
    let second = world.begin(Command::Provision(order(2, "b")));
    world.let_go(Kind::Commit);
    assert!(matches!(world.reply(first), Some(Err(Refusal::StoreFailed { .. }))));
    assert_eq!(world.reply(second), Some(&Ok(Answer::Created(id(2)))));
    assert!(world.reads >= 2, "the second commit was lost while the first read was on its way");
}

#[test]
fn whole_states_in_place_of_changes_tell_the_same() {
    for committed in [true, false] {
        let mut world = World::new("20000-20009");
        world.create(1, "a");
        world.create(2, "b");
        world.register(1, "i0", addr(1)).unwrap();
        world.fates.push_back(if committed { Fate::UnknownAndCommitted } else { Fate::UnknownAndNot });
        world.hold_back(Kind::Read);
        let call = world.begin(Command::Provision(order(3, "c")));
        let delete = harbor_types::Write::Delete(harbor_types::RecordKey::Service(id(2)));
        let token = harbor_types::CommitToken(7);
        world.store.commit(&harbor_types::Commit { token, expectations: Vec::new(), writes: vec![delete] });
        world.store.compacted = world.store.changes.len();
        world.let_go(Kind::Read);
        let want = if committed {
            Ok(Answer::Created(id(3)))
        } else {
            Err(Refusal::StoreFailed { reason: "fsync failed".into() })
        };
        assert_eq!(world.reply(call), Some(&want));
        assert!(world.registry.service(world.now, id(2)).is_none(), "deleted by the others");
        assert_eq!(world.registry.revision(), world.store.revision());
        assert_eq!(world.serving(1, Protocol::Tcp), ["i0"], "what did not change goes on");
    }
}

#[test]
fn an_unknown_join_is_told_apart_too() {
    let mut world = World::new("20000-20009");
    world.create(1, "a");
    world.fates.push_back(Fate::UnknownAndNot);
    assert!(matches!(world.register(1, "i0", addr(1)), Err(Refusal::StoreFailed { .. })));
    assert!(world.serving(1, Protocol::Tcp).is_empty());
    world.fates.push_back(Fate::UnknownAndCommitted);
    assert!(world.register(1, "i0", addr(1)).is_ok());
    assert_eq!(world.serving(1, Protocol::Tcp), ["i0"]);
    world.fates.push_back(Fate::UnknownAndCommitted);
    assert_eq!(world.deregister(1, "i0"), Ok(Answer::Deregistered));
}

#[test]
fn a_record_that_was_there_before_does_not_vouch_for_the_lost_commit_that_would_put_it_again() {
    // Its registration waits through its own expiry, so it is to leave and join by the very record that is there.
    let permanent = Some(harbor_types::Lifetime::Permanent);
    let mut world = World::new("20000-20009");
    world.create(1, "a");
    world.register(1, "i0", addr(1)).unwrap();
    world.hold_back(Kind::Commit);
    let other = world.begin(World::registration(1, "i1", addr(2), permanent));
    let again = world.begin(World::registration(1, "i0", addr(1), None));
    world.pass(Duration::from_secs(30));
    world.fates.push_back(Fate::UnknownAndCommitted);
    world.fates.push_back(Fate::UnknownAndNot);
    world.store.compacted = usize::MAX;
    world.let_go(Kind::Commit);
    assert!(world.reply(other).unwrap().is_ok());
    assert_eq!(world.reply(again), Some(&Err(Refusal::StoreFailed { reason: "fsync failed".into() })));
}
