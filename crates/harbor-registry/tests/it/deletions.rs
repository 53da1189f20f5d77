//! Deleting services, and the rest of their ports.

use std::time::Duration;

use harbor_registry::{Answer, Command, DeleteMode, Refusal};
use harbor_types::{Port, RecordKey, Span, WallTime};

use crate::world::{Fate, Kind, World, addr, config, id, order};

#[test]
fn a_deletion_is_answered_once_the_sockets_are_closed() {
    let mut world = World::new("20000-20009");
    let port = world.create(1, "a");
    world.register(1, "i0", addr(1)).unwrap();
    world.hold_back(Kind::Retire);
    let call = world.begin(Command::Deprovision { service: id(1), mode: DeleteMode::IfUnbound });
    assert_eq!(world.reply(call), None);
    assert!(world.registry.service(world.now, id(1)).is_none(), "it is gone for everybody else");
    assert!(matches!(world.register(1, "i1", addr(2)), Err(Refusal::UnknownService { .. })));
    assert!(matches!(world.delete(1), Err(Refusal::UnknownService { .. })));
    let again = world.begin(Command::Provision(order(1, "a")));
    assert_eq!(world.reply(again), None, "the same id waits for the old sockets");
    world.let_go(Kind::Retire);
    assert_eq!(world.reply(call), Some(&Ok(Answer::Deleted)));
    assert_eq!(world.reply(again), Some(&Ok(Answer::Created(id(1)))));
    assert_ne!(world.port(1), port);
    assert!(world.view(1).backends.is_empty(), "a new service, a new pool");
}

#[test]
fn what_waits_for_a_service_that_goes_is_refused_at_once() {
    let mut world = World::new("20000-20009");
    world.create(1, "a");
    world.hold_back(Kind::Commit);
    world.hold_back(Kind::Retire);
    let delete = world.begin(Command::Deprovision { service: id(1), mode: DeleteMode::IfUnbound });
    let join = world.begin(World::registration(1, "i0", addr(1), None));
    let create = world.begin(Command::Provision(order(1, "a")));
    world.let_go(Kind::Commit);
    assert_eq!(world.reply(join), Some(&Err(Refusal::UnknownService { service: id(1) })));
    assert_eq!((world.reply(delete), world.reply(create)), (None, None));
    world.let_go(Kind::Retire);
    assert_eq!(world.reply(create), Some(&Ok(Answer::Created(id(1)))));
}

#[test]
fn a_bound_service_is_deleted_by_force_only_and_its_bindings_go_with_it() {
    let mut world = World::new("20000-20009");
    world.create(1, "a");
    world.bind(1, "web").unwrap();
    world.bind(1, "api").unwrap();
    assert_eq!(world.delete(1).unwrap_err().to_string(), "service a is bound to api, web");
    let forced = Command::Deprovision { service: id(1), mode: DeleteMode::Forced };
    assert_eq!(world.ask(forced), Ok(Answer::Deleted));
    assert_eq!(world.registry.counts().bindings, 0);
    assert_eq!(world.store.load().records.len(), 1, "only the rest of the port is left");
}

#[test]
fn a_released_port_rests_and_is_free_once_its_record_is_gone() {
    let mut world = World::new("20000");
    world.create(1, "a");
    world.delete(1).unwrap();
    assert!(matches!(world.order(2, "b"), Err(Refusal::Exhausted { quarantined: 1, .. })));
    world.pass(Duration::from_secs(599));
    assert!(matches!(world.order(2, "b"), Err(Refusal::Exhausted { quarantined: 1, .. })));
    world.fates.push_back(Fate::NotCommitted);
    world.pass(Duration::from_secs(1));
    assert!(matches!(world.order(2, "b"), Err(Refusal::Exhausted { quarantined: 1, .. })), "the record is still there");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.create(2, "b"), 20000);
}

#[test]
fn without_a_rest_the_port_is_free_as_soon_as_its_sockets_are_closed() {
    let mut config = config("20000");
    config.quarantine = Span::ZERO;
    let mut world = World::with(config);
    world.create(1, "a");
    world.hold_back(Kind::Retire);
    world.begin(Command::Deprovision { service: id(1), mode: DeleteMode::IfUnbound });
    assert!(matches!(world.order(2, "b"), Err(Refusal::Exhausted { leased: 1, .. })), "a closing port is nobody's yet");
    world.let_go(Kind::Retire);
    assert_eq!(world.create(2, "b"), 20000);
}

#[test]
fn a_rest_goes_on_across_a_restart() {
    let mut world = World::new("20000");
    world.create(1, "a");
    world.delete(1).unwrap();
    world.pass(Duration::from_secs(400));
    world.restart();
    world.pass(Duration::from_secs(199));
    assert!(world.order(2, "b").is_err());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.create(2, "b"), 20000);
}

#[test]
fn a_clock_that_went_backwards_means_a_full_rest() {
    let mut world = World::new("20000");
    world.create(1, "a");
    world.delete(1).unwrap();
    world.pass(Duration::from_secs(500));
    world.now.wall = WallTime::from_millis(world.now.wall.as_millis() - 3_600_000);
    world.restart();
    world.pass(Duration::from_secs(599));
    assert!(world.order(2, "b").is_err());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.create(2, "b"), 20000);
}

#[test]
fn a_deletion_that_is_not_committed_changes_nothing() {
    let mut world = World::new("20000-20009");
    world.create(1, "a");
    world.fates.push_back(Fate::NotCommitted);
    assert_eq!(world.delete(1), Err(Refusal::StoreFailed { reason: "disk full".into() }));
    assert_eq!((world.retired, world.held.len()), (0, 1));
    assert_eq!(world.delete(1), Ok(Answer::Deleted));
}

#[test]
fn a_service_that_vanishes_in_the_store_is_retired_and_one_that_appears_is_bound() {
    let mut world = World::new("20000-20009");
    let port = world.create(1, "a");
    let mut other = world.store.service(id(1)).unwrap().clone();
    (other.id, other.name, other.home) = (id(7), "theirs".parse().unwrap(), "node_2".parse().unwrap());
    (other.port, other.int_port) = (Port::new(20100).unwrap(), Port::new(5000).unwrap());
    let writes = vec![
        harbor_types::Write::Delete(RecordKey::Service(id(1))),
        harbor_types::Write::Put(harbor_types::Record::Service(other)),
    ];
    let token = harbor_types::CommitToken(7);
    world.store.commit(&harbor_types::Commit { token, expectations: Vec::new(), writes });
    world.create(2, "b");
    assert_eq!(world.reads, 1, "the gap before our own change is read");
    assert_eq!((world.retired, world.port(7)), (1, 20100));
    assert_eq!(world.held[&id(7)].port.get(), 20100);
    assert!(world.registry.service(world.now, id(1)).is_none());
    assert!(!world.held.values().any(|held| held.port.get() == port));
}
